/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sse.h -- server-sent events out of a stream of bytes (WHATWG HTML, 9.2).
 *
 * Bytes come in pieces of any size; each whole event is handed over once, and nothing of it is left
 * in the buffer afterwards, which is in pages that no core file has: there are secrets among what
 * control tells agents. An event above the bound ends it. The owner frees the buffer with
 * sse_deinit(). One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

struct arena;

#define SSE_EVENT_BYTES_MAX (16u << 20)
#define SSE_ID_BYTES 64
#define SSE_KIND_BYTES 64

/* `kind` is "message" unless told; `id` the last one given. All are borrowed. false ends it. */
typedef bool (*sse_event_cb)(struct slice kind, struct slice id, struct slice text, void *data);

struct sse { /* zeroed, but for the callback */
    sse_event_cb on_event;
    void *data;
    size_t event_bytes_max; /* 0: SSE_EVENT_BYTES_MAX */
    struct arena *memory;   /* of the buffer: a secret one */
    char *buffer;           /* what has come of the present event */
    size_t used, room, scanned;
    char last_id[SSE_ID_BYTES]; /* for Last-Event-ID; "" none */
    bool ended;                 /* by the callback */
    bool too_large;
};

bool sse_feed(struct sse *sse, struct slice bytes); /* false: no more is wanted */
void sse_again(struct sse *sse);                    /* a new connection: drops half an event */
void sse_deinit(struct sse *sse);
