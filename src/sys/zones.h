/* SPDX-License-Identifier: Apache-2.0 */
/*
 * zones.h -- time zones of this machine: tzdata's files by name. Any thread.
 *
 * They lie in $TZDIR, as for glibc, or in /usr/share/zoneinfo. UTC needs no file.
 */
#pragma once

#include "base/slice.h"
#include "base/tzif.h"

struct arena;
struct env;
struct err;

const char *zones_folder(void); /* for life */
/* The name is checked before it becomes a path. ERR_BAD_INPUT: no name, a file that is no zone, or
 * none of that name, with those that may have been meant. `env` NULL: this machine's disk. */
[[nodiscard]] int zones_read(struct env *env, struct arena *arena, struct slice name,
                             struct tzif *ret, struct err *err);
