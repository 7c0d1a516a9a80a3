/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All atomics are sequentially consistent: "publish, then look for a place" here against "give
 * back, then look for a head" there is the pattern that needs it.
 */
#include "gateway/queue.h"

#include <assert.h>

void queue_init(struct queue *queue, unsigned loops)
{
    assert(loops > 0 && loops <= PERIGEE_LOOPS_MAX);
    queue->loops = loops;
    for (unsigned i = 0; i < PERIGEE_LOOPS_MAX; i++) {
        atomic_init(&queue->heads[i].since_ns, INT64_MAX);
        atomic_init(&queue->heads[i].woken, false);
    }
}

void queue_side_init(struct queue_side *side, struct queue *queue, unsigned loop,
                     const struct queue_events *events, void *data)
{
    *side = (struct queue_side){ .queue = queue, .events = events, .data = data, .loop = loop };
    list_init(&side->waiters);
}

static void publish(struct queue_side *side)
{
    const struct waiter *first = LIST_FIRST(&side->waiters, struct waiter, link);

    atomic_store(&side->queue->heads[side->loop].since_ns, first ? first->since_ns : INT64_MAX);
}

/* The loop whose first has waited longest; `loops` when nobody waits. */
static unsigned oldest(const struct queue *queue)
{
    unsigned found = queue->loops;
    int64_t since = INT64_MAX;

    for (unsigned i = 0; i < queue->loops; i++) {
        int64_t head = atomic_load(&queue->heads[i].since_ns);
        if (head < since) {
            since = head;
            found = i;
        }
    }
    return found;
}

static void wake(struct queue_side *side, unsigned loop)
{
    if (!atomic_exchange(&side->queue->heads[loop].woken, true))
        side->events->wake(loop, side->data);
}

void queue_serve(struct queue_side *side)
{
    if (side->serving) /* start() may give a place back at once; the walk below goes on */
        return;
    side->serving = true;
    for (;;) {
        unsigned loop = oldest(side->queue);
        if (loop == side->queue->loops)
            break;
        if (loop != side->loop) {
            if (side->events->room(side->data))
                wake(side, loop);
            break; /* it goes on from there */
        }
        struct queue_grant grant;
        if (!side->events->take(side->data, &grant))
            break; /* who gives one back reads the heads */
        struct waiter *waiter = LIST_FIRST(&side->waiters, struct waiter, link);
        assert(waiter); /* our own head says so, and nobody else writes it */
        list_remove(&waiter->link);
        side->count--;
        publish(side);
        side->events->start(waiter, &grant, side->data);
    }
    side->serving = false;
}

void queue_enter(struct queue_side *side, struct waiter *waiter, int64_t since_ns)
{
    struct list *place = &side->waiters;

    /* A request that is tried again is older than the last: nearly always the first step ends this.
     */
    while (place->previous != &side->waiters &&
           LIST_OWNER(place->previous, struct waiter, link)->since_ns > since_ns)
        place = place->previous;
    waiter->since_ns = since_ns;
    list_insert_after(place->previous, &waiter->link);
    side->count++;
    publish(side);
    queue_serve(side);
}

void queue_leave(struct queue_side *side, struct waiter *waiter)
{
    assert(!list_empty(&waiter->link) && side->count > 0);
    list_remove(&waiter->link);
    side->count--;
    publish(side);
    queue_serve(side); /* it may have been the oldest of all, and another's turn was left to it */
}

void queue_woken(struct queue_side *side)
{
    atomic_store(&side->queue->heads[side->loop].woken, false);
    queue_serve(side);
}

/* Nobody that has published is passed; who publishes from now on tries once more, and fails at
 * worst because of the place taken here, whose release reads the heads. */
bool queue_try(struct queue_side *side, struct waiter *waiter)
{
    struct queue_grant grant;

    if (oldest(side->queue) != side->queue->loops || !side->events->take(side->data, &grant))
        return false;
    side->events->start(waiter, &grant, side->data);
    return true;
}
