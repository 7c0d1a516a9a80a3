/* SPDX-License-Identifier: Apache-2.0 */
/*
 * groups.h -- the control groups that stand above containers', one each: the engine makes them, and
 * leaves them. They are removed once nobody is in them any more, in the background: what watches a
 * container (Podman's conmon) stays in its own for a moment, one that ran a command inside for
 * minutes. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct loop;

/* Podman puts what watches a container beside it: not the tenant's. */
#define ENGINE_GROUP_MONITOR "/conmon"

struct engine_groups;

enum { ENGINE_GROUPS_MAX = 1024 }; /* to be removed: above it the oldest is let be */

struct engine_groups *engine_groups_new(struct loop *loop);
/* What is not removed by then stays. NULL is allowed. */
void engine_groups_free(struct engine_groups *groups);

/* The group of that path ("/perigee-1-7", copied), and what is below it; tried now, and again with
 * back-off. */
void engine_groups_remove(struct engine_groups *groups, const char *path);
bool engine_groups_empty(const struct engine_groups *groups);
/* Called each time that none is left to be removed, from the loop. */
void engine_groups_on_empty(struct engine_groups *groups, void (*on_empty)(void *data), void *data);

/* CPU time of what runs, or ran, in that group, without the monitor's; 0: not known. */
uint64_t engine_group_cpu_us(const char *path);
