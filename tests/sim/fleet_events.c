/* SPDX-License-Identifier: Apache-2.0 */
/* Chance, and things to come. */
#include "fleet.h"

#include <stdlib.h>

int64_t fleet_draw(struct fleet *fleet, int64_t low, int64_t high)
{
    uint64_t value = env_random_u64(fleet->env);
    return low + (int64_t)(value % (uint64_t)(high - low + 1));
}

bool fleet_maybe(struct fleet *fleet, unsigned permille)
{
    return fleet->chaos && fleet_draw(fleet, 1, 1000) <= permille;
}

struct event {
    struct list link;
    struct env_timer timer;
    struct fleet *fleet;
    const uint64_t *life; /* NULL: always */
    uint64_t was;
    event_cb run;
    void *data;
    uint64_t number;
};

static void on_event(struct env_timer *, void *data)
{
    struct event *event = data;
    list_remove(&event->link);
    if (!event->life || *event->life == event->was)
        event->run(event->fleet, event->data, event->number);
    free(event);
}

void fleet_after(struct fleet *fleet, int64_t delay_ns, const uint64_t *life, event_cb run,
                 void *data, uint64_t number)
{
    struct event *event = mem_zalloc(sizeof *event);
    *event = (struct event){ .fleet = fleet,
                             .life = life,
                             .was = life ? *life : 0,
                             .run = run,
                             .data = data,
                             .number = number };
    list_append(&fleet->events, &event->link);
    env_timer_start(fleet->env, &event->timer, delay_ns, on_event, event);
}

void fleet_events_free(struct fleet *fleet)
{
    while (!list_empty(&fleet->events)) {
        struct event *event = LIST_FIRST(&fleet->events, struct event, link);
        env_timer_stop(fleet->env, &event->timer);
        list_remove(&event->link);
        free(event);
    }
}
