/* SPDX-License-Identifier: Apache-2.0 */
/*
 * family.h -- the supervisor's children as they are: spawned, listened to, reaped. What core.h has
 * done by others is done here, and nothing is decided. One thread.
 */
#pragma once

#include <stdint.h>

#include "supervisor/core.h"

struct env_linux;
struct family;
struct supervisor;

extern const struct core_ops family_ops; /* their data is the family */

struct family *family_new(struct env_linux *world, struct supervisor *supervisor,
                          const char *libdir, int lifeline_fd); /* all borrowed */
void family_free(struct family *family);

/* supervisor.c's ends of on_ready, on_ended and on_upgrade. */
void supervisor_on_ready(struct supervisor *self);
void supervisor_on_ended(struct supervisor *self);
void supervisor_on_upgrade(struct supervisor *self, uint32_t state, const char *text);
