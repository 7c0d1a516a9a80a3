/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who deletes an endpoint is answered once no gateway serves it any more: a PoP tells of it until
 * its gateway has a table without it (pop/served.c). One that is not heard, or says nothing new, is
 * waited for no longer than LATE_MS.
 */
#include "base/arena.h"
#include "base/list.h"
#include "control/control_own.h"
#include "control/report.h"
#include "control/request.h"
#include "io/timer.h"

enum { LATE_MS = 3'000 };

struct going {
    struct list link; /* of control->goings */
    struct request *q;
    uint64_t uid;
    int status;
    struct timer *timer;
    bool replied;
};

static bool served_somewhere(const struct control *control, uint64_t uid)
{
    MAP_EACH (entry, &control->hub.pops) {
        const struct hub_pop *pop = entry->value;
        enum hub_pop_state state = hub_pop_state_of(pop);
        if (state != HUB_POP_READY && state != HUB_POP_DRAINING)
            continue;
        for (size_t i = 0; i < pop->endpoint_count; i++)
            if (pop->endpoints[i].uid == uid)
                return true;
    }
    return false;
}

static void reply(struct request *q, int status)
{
    request_reply_with(q, status, NULL, 0, NULL, (struct slice){});
}

static void going_reply(struct going *going)
{
    going->replied = true;
    timer_stop(going->timer);
    reply(going->q, going->status);
}

static void on_late(void *data)
{
    going_reply(data);
}

static void closed(struct request *q)
{
    struct going *going = q->data;
    timer_free(going->timer);
    list_remove(&going->link);
}

void control_going(struct request *q, uint64_t uid, int status)
{
    struct control *control = q->control;
    if (!q->x || !served_somewhere(control, uid)) {
        reply(q, status);
        return;
    }
    struct going *going = ARENA_NEW(q->arena, struct going);
    going->q = q;
    going->uid = uid;
    going->status = status;
    going->timer = timer_new(control->loop, on_late, going);
    timer_start(going->timer, LATE_MS);
    list_append(&control->goings, &going->link);
    q->data = going;
    q->on_closed = closed;
}

void control_going_look(struct control *control)
{
    struct going *going;
    LIST_EACH (going, &control->goings, struct going, link)
        if (!going->replied && !served_somewhere(control, going->uid))
            going_reply(going);
}
