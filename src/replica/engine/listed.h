/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listed.h -- the containers of ours that an engine has, found by their labels: after a crash of
 * whoever made them, or of the engine. Loop thread only.
 */
#pragma once

#include <stdint.h>

#include "base/slice.h"
#include "replica/engine/engine.h"

struct arena;

struct engine_listed {
    struct slice id, state;
    struct slice network; /* the first that it has; empty: none is said */
    struct slice gpus;    /* engine_container.gpu_ids */
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
