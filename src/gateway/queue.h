/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue.h -- requests of one revision that wait for a place, on each loop its own list.
 *
 * No lock. Each loop publishes how long its first of each class has waited. A
 * waiter publishes, then tries once more; who gives a place back gives it first, then reads the
 * heads. So no place stays free beside a waiter. A place goes to the oldest head of the highest
 * class that waits on any loop: to one's own list, or its loop is woken. Priority is strict: a
 * lower class waits for as long as a higher one does.
 *
 * struct queue is shared by the loops; struct queue_side is one loop's, on its thread only.
 */
#pragma once

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <perigee/worker.h>

#include "base/list.h"

enum queue_class { QUEUE_INTERACTIVE, QUEUE_BATCH, QUEUE_CLASSES }; /* highest first */

struct queue_head {
    alignas(64) _Atomic int64_t since_ns[QUEUE_CLASSES]; /* of the first; INT64_MAX: none */
    _Atomic bool woken;                                  /* a wake-up is on its way */
};

struct queue {
    struct queue_head *heads; /* borrowed; one a loop */
    unsigned loops;
};

struct waiter {
    struct list link;
    int64_t since_ns;
    enum queue_class class; /* the embedder sets it before the waiter comes here */
};

struct queue_grant { /* a place and a slot; what `lane` is, is the embedder's business */
    void *lane;
    uint32_t slot;
};

struct queue_events {
    /* Takes a place for a request of this loop; false: there is none now. */
    bool (*take)(void *data, struct queue_grant *ret);
    bool (*room)(void *data); /* a take would do, just now */
    /* It left the list, and has the place. May come from inside queue_enter(). */
    void (*start)(struct waiter *waiter, const struct queue_grant *grant, void *data);
    void (*wake)(unsigned loop, void *data); /* queue_woken() shall be called on that loop */
};

struct queue_side {
    struct queue *queue; /* borrowed */
    const struct queue_events *events;
    void *data;
    struct list waiters[QUEUE_CLASSES]; /* each by since_ns */
    unsigned loop;
    uint32_t count;
    bool serving;
};

void queue_init(struct queue *queue, struct queue_head *heads, unsigned loops);
void queue_side_init(struct queue_side *side, struct queue *queue, unsigned loop,
                     const struct queue_events *events, void *data);

/* Behind those of its class that came before (since_ns decides), and started at once when there is
 * a place and it is its turn. */
void queue_enter(struct queue_side *side, struct waiter *waiter, int64_t since_ns);
void queue_leave(struct queue_side *side, struct waiter *waiter); /* it waits, and gives up */
/* Started at once, if nobody of its class or a higher one waits. */
bool queue_try(struct queue_side *side, struct waiter *waiter);
void queue_serve(
    struct queue_side *side); /* a place may have become free: gave one back, new replica */
void queue_woken(struct queue_side *side);
