/* SPDX-License-Identifier: Apache-2.0 */
/*
 * watch_inside.h -- what the files of watches share: one watcher, and what is said to it. watch.c
 * has those of clients, watch_pop.c those of agents. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/slice.h"
#include "control/select.h"
#include "http/exchange.h"
#include "store/store.h"

struct arena;
struct hub_pop;
struct request;

enum watch_kind { WATCH_ENDPOINTS, WATCH_ENDPOINT, WATCH_EVENTS, WATCH_LOGS, WATCH_POP };

struct watcher { /* in its request's arena */
    struct list link;
    struct request *q;
    enum watch_kind kind;
    struct selector labels;
    struct store_filter filter;
    struct hub_pop *pop; /* of WATCH_POP */
    size_t first_bytes;  /* of the state at its beginning: do not count against the bound */
    uint64_t last_id;
    bool reading, again, from_end; /* rows: watch.c */
    bool ended;
    /* Of a read. */
    struct arena *arena;
    struct slice text;
    uint64_t read_last;
    size_t read_count;
};

/* The answer begins. NULL: it was refused. */
struct watcher *watcher_open(struct request *q, enum watch_kind kind);
void watcher_end(struct watcher *watcher);
/* `first`: of the state at its beginning. */
void watcher_say_event(struct watcher *watcher, const char *event, uint64_t id, struct slice data,
                       bool first);
/* False: it is not taken, and `on_written` is not called. */
bool watcher_say_piece(struct watcher *watcher, struct slice text, bool first,
                       exchange_written_cb on_written, void *data);
struct slice watcher_event_text(struct arena *arena, const char *event, uint64_t id,
                                struct slice data);
