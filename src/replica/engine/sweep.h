/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sweep.h -- containers of ours that nobody knows any more, found by their labels and removed:
 * after a crash of whoever made them, or of the engine. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "replica/engine/engine.h"

struct arena;

struct engine_listed {
    struct slice id, state;
    uint64_t revision, replica;
};
struct engine_list {
    struct engine_listed *items;
    size_t count;
};
enum { ENGINE_LIST_MAX = 4096 };

/* The answer of GET /containers/json: those with our labels and that home alone. Pure. */
[[nodiscard]] int engine_list_parse(struct arena *arena, struct slice text, struct slice home,
                                    struct engine_list *ret, struct err *err);

/* Asks for what engine_list_parse() reads. */
struct engine_call *engine_list(struct engine *engine, int64_t timeout_ms, engine_cb on_done,
                                void *data);

struct engine_swept {
    unsigned removed, left; /* left: the engine could not */
};
typedef void (*engine_swept_cb)(const struct engine_swept *swept, const struct err *err,
                                void *data);

/* Removes all of that home but those that `keeps` says yes to (NULL: none is kept). on_swept is
 * called once, unless the engine is freed first. */
void engine_sweep(struct engine *engine, struct slice home,
                  bool (*keeps)(uint64_t replica, void *data), engine_swept_cb on_swept,
                  void *data);
