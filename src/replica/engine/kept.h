/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kept.h -- the containers that run, as an agent notes them for the next one: with them it knows
 * which there are before the engine has said a word. A process is known by its number and the time
 * it began, in one life of the machine. What is read is checked as if it were from outside. Any
 * thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "replica/engine/engine.h"

struct arena;
struct err;

struct engine_kept {
    struct slice id; /* the engine's */
    uint64_t replica, revision;
    int64_t pid;
    uint64_t started;     /* proc_started() */
    struct slice address; /* in the network that it has; empty: none */
    bool by_address;      /* it is reached there: its network could not be entered */
    struct slice gpus;    /* engine_container.gpu_ids */
};
struct engine_kept_list {
    struct slice boot;             /* proc_boot() */
    struct slice engine;           /* where it is: "unix:PATH" */
    struct engine_version version; /* name, version, api, podman */
    struct engine_info info;       /* cgroup_driver, rootless */
    struct engine_kept *items;
    size_t count;
};
enum { ENGINE_KEPT_MAX = 4096, ENGINE_KEPT_BYTES_MAX = 4 << 20 };

struct slice engine_kept_json(struct arena *arena, const struct engine_kept_list *list);
/* ERR_BAD_INPUT also of a file that an older version wrote, which names none. */
[[nodiscard]] int engine_kept_parse(struct arena *arena, struct slice text,
                                    struct engine_kept_list *ret, struct err *err);
/* A pidfd of its process, the caller's; -1: it has ended, or another has its number. */
int engine_kept_open(const struct engine_kept *item);
