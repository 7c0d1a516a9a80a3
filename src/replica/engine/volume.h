/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volume.h -- a volume of an engine: the name under which it mounts a device of ours
 * (sys/volume.h), for as long as a container uses it. What an engine says is from outside: bounded,
 * and read without trust. Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"
#include "replica/engine/engine.h"

struct arena;
struct err;

struct engine_volume_want {
    struct slice name; /* engine_volume_is_name() */
    struct slice home; /* as a container's */
    unsigned number;   /* of /dev/loopN */
};

struct engine_volume_seen {
    struct slice name, home; /* home: of our label; or empty */
    struct slice driver, type, device, options;
};

struct engine_volumes {
    struct engine_volume_seen *items;
    size_t count;
};

enum { ENGINE_VOLUME_NAME_MAX = 120, ENGINE_VOLUMES_MAX = 4096 };

bool engine_volume_is_name(struct slice text); /* fit for a path, and of the form of ours */

/* The body of POST /volumes/create, which answers with the volume, also with one of that name that
 * is there already, whatever it is: */
struct slice engine_volume_json(struct arena *arena, const struct engine_volume_want *want);
[[nodiscard]] int engine_volume_parse(struct arena *arena, struct slice text,
                                      struct engine_volume_seen *ret, struct err *err);
/* Is it what was asked for? An engine makes a plain folder where it knows no such volume. */
bool engine_volume_fits(const struct engine_volume_want *want,
                        const struct engine_volume_seen *seen);

/* Asks for what engine_volumes_parse() reads: those with that home. */
struct engine_call *engine_volumes(struct engine *engine, int64_t timeout_ms, engine_cb on_done,
                                   void *data);
[[nodiscard]] int engine_volumes_parse(struct arena *arena, struct slice text, struct slice home,
                                       struct engine_volumes *ret, struct err *err);
