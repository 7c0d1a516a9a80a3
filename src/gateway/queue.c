/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All atomics are sequentially consistent: "publish, then look for a place" here against "give
 * back, then look for a head" there is the pattern that needs it.
 */
#include "gateway/queue.h"

#include <assert.h>

void queue_init(struct queue *queue, struct queue_head *heads, unsigned loops)
{
    assert(loops > 0 && loops <= PERIGEE_LOOPS_MAX);
    queue->heads = heads;
    queue->loops = loops;
    for (unsigned i = 0; i < loops; i++) {
        for (unsigned c = 0; c < QUEUE_CLASSES; c++)
            atomic_init(&queue->heads[i].since_ns[c], INT64_MAX);
        atomic_init(&queue->heads[i].woken, false);
    }
}

void queue_side_init(struct queue_side *side, struct queue *queue, unsigned loop,
                     const struct queue_events *events, void *data)
{
    *side = (struct queue_side){ .queue = queue, .events = events, .data = data, .loop = loop };
    for (unsigned c = 0; c < QUEUE_CLASSES; c++)
        list_init(&side->waiters[c]);
}

static void publish(struct queue_side *side, enum queue_class class)
{
    const struct waiter *first = LIST_FIRST(&side->waiters[class], struct waiter, link);

    atomic_store(&side->queue->heads[side->loop].since_ns[class],
                 first ? first->since_ns : INT64_MAX);
}

/* Whose turn it is among the classes down to `lowest`: the loop whose first of the highest class
 * has waited longest; `loops` when nobody waits. */
static unsigned oldest(const struct queue *queue, enum queue_class lowest,
                       enum queue_class *ret_class)
{
    for (unsigned c = 0; c <= (unsigned)lowest; c++) {
        unsigned found = queue->loops;
        int64_t since = INT64_MAX;
        for (unsigned i = 0; i < queue->loops; i++) {
            int64_t head = atomic_load(&queue->heads[i].since_ns[c]);
            if (head < since) {
                since = head;
                found = i;
            }
        }
        if (found < queue->loops) {
            *ret_class = (enum queue_class)c;
            return found;
        }
    }
    return queue->loops;
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
        enum queue_class class = QUEUE_INTERACTIVE;
        unsigned loop = oldest(side->queue, QUEUE_CLASSES - 1, &class);
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
        struct waiter *waiter = LIST_FIRST(&side->waiters[class], struct waiter, link);
        assert(waiter); /* our own head says so, and nobody else writes it */
        list_remove(&waiter->link);
        side->count--;
        publish(side, class);
        side->events->start(waiter, &grant, side->data);
    }
    side->serving = false;
}

void queue_enter(struct queue_side *side, struct waiter *waiter, int64_t since_ns)
{
    struct list *waiters = &side->waiters[waiter->class], *place = waiters;

    /* A request that is tried again is older than the last: nearly always the first step ends this.
     */
    while (place->previous != waiters &&
           LIST_OWNER(place->previous, struct waiter, link)->since_ns > since_ns)
        place = place->previous;
    waiter->since_ns = since_ns;
    list_insert_after(place->previous, &waiter->link);
    side->count++;
    publish(side, waiter->class);
    queue_serve(side);
}

void queue_leave(struct queue_side *side, struct waiter *waiter)
{
    assert(!list_empty(&waiter->link) && side->count > 0);
    list_remove(&waiter->link);
    side->count--;
    publish(side, waiter->class);
    queue_serve(side); /* it may have been the oldest of all, and another's turn was left to it */
}

void queue_woken(struct queue_side *side)
{
    atomic_store(&side->queue->heads[side->loop].woken, false);
    queue_serve(side);
}

/* Nobody of its class or above that has published is passed; who publishes from now on tries once
 * more, and fails at worst because of the place taken here, whose release reads the heads. */
bool queue_try(struct queue_side *side, struct waiter *waiter)
{
    struct queue_grant grant;
    enum queue_class class = QUEUE_INTERACTIVE;

    if (oldest(side->queue, waiter->class, &class) != side->queue->loops ||
        !side->events->take(side->data, &grant))
        return false;
    side->events->start(waiter, &grant, side->data);
    return true;
}
