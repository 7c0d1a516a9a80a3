/* SPDX-License-Identifier: Apache-2.0 */
#include "base/env.h"

#include <assert.h>

#include "base/auto.h"

/* A binary heap in which each timer knows its place, so that stopping needs no search. */

static bool before(const struct env_timer *a, const struct env_timer *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void place(struct env_timers *timers, struct env_timer *timer, uint32_t at)
{
    timers->heap[at - 1] = timer;
    timer->place = at;
}

static void sift(struct env_timers *timers, struct env_timer *timer, uint32_t at)
{
    for (; at > 1 && before(timer, timers->heap[at / 2 - 1]); at /= 2)
        place(timers, timers->heap[at / 2 - 1], at);
    for (uint32_t child; (child = at * 2) <= timers->count; at = child) {
        if (child < timers->count && before(timers->heap[child], timers->heap[child - 1]))
            child++;
        if (!before(timers->heap[child - 1], timer))
            break;
        place(timers, timers->heap[child - 1], at);
    }
    place(timers, timer, at);
}

void env_timers_deinit(struct env_timers *timers)
{
    for (uint32_t i = 0; i < timers->count; i++)
        timers->heap[i]->place = 0;
    free(timers->heap);
    *timers = (struct env_timers){};
}

void env_timers_stop(struct env_timers *timers, struct env_timer *timer)
{
    uint32_t at = timer->place;
    if (at == 0)
        return;
    assert(at <= timers->count && timers->heap[at - 1] == timer);
    struct env_timer *last = timers->heap[--timers->count];
    timer->place = 0;
    if (last != timer)
        sift(timers, last, at);
}

void env_timers_start(struct env_timers *timers, struct env_timer *timer, int64_t due_ns,
                      env_timer_cb on_due, void *data)
{
    env_timers_stop(timers, timer);
    if (timers->count == timers->room) {
        timers->room = timers->room ? timers->room * 2 : 16;
        timers->heap = mem_resize(timers->heap, timers->room, sizeof(struct env_timer *));
    }
    *timer = (struct env_timer){ due_ns, ++timers->order, on_due, data, 0 };
    sift(timers, timer, ++timers->count);
}

int64_t env_timers_next_ns(const struct env_timers *timers)
{
    return timers->count ? timers->heap[0]->due_ns : INT64_MAX;
}

unsigned env_timers_run(struct env_timers *timers, int64_t now_ns)
{
    uint64_t order_last = timers->order;
    unsigned ran = 0;

    while (timers->count) {
        struct env_timer *timer = timers->heap[0];
        /* One armed meanwhile is due later, or now with a higher number: behind all the others. */
        if (timer->due_ns > now_ns || timer->order > order_last)
            break;
        env_timers_stop(timers, timer);
        timer->on_due(timer, timer->data);
        ran++;
    }
    return ran;
}
