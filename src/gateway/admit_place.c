/* SPDX-License-Identifier: Apache-2.0 */
/* Which of a revision's replicas a request gets a place at, and what it does with it. */
#include "gateway/admit.h"
#include "gateway/admit_own.h"
#include "gateway/dispatch.h"
#include "gateway/proxy.h"
#include "gateway/request.h"
#include "gateway/target.h"
#include "io/loop.h"

/* Least loaded of two looked at; when both are full, whichever has room. */
static bool take(void *data, struct queue_grant *ret)
{
    struct revision_side *side = data;
    struct lane *first = LIST_FIRST(&side->lanes, struct lane, link);
    struct lane *lane;

    if (side->revision->http)
        return target_take(side, ret);
    if (!first)
        return false;
    if (side->lane_count > 1) {
        struct lane *second = LIST_OWNER(first->link.next, struct lane, link);
        list_remove(&first->link); /* another pair next time */
        list_append(&side->lanes, &first->link);
        if (place_running(&second->replica->place) < place_running(&first->replica->place))
            first = second;
    }
    if (place_take(&first->replica->place, &ret->slot)) {
        ret->lane = first;
        return true;
    }
    LIST_EACH (lane, &side->lanes, struct lane, link)
        if (place_take(&lane->replica->place, &ret->slot)) {
            ret->lane = lane;
            return true;
        }
    return false;
}

bool admit_room(void *data)
{
    struct revision_side *side = data;
    struct lane *lane;

    LIST_EACH (lane, &side->lanes, struct lane, link)
        if (place_free(&lane->replica->place))
            return true;
    return side->revision->http && target_room(side);
}

/* Its turn came too late: no run is as short as what is left. */
static bool too_late(const struct request *request)
{
    return request->state == REQUEST_WAITING && request->deadline_ns && !request->tried &&
           loop_now_ns() + (int64_t)admission_least_ns(&request->revision->admission) >
               request->deadline_ns;
}

static void start(struct waiter *waiter, const struct queue_grant *grant, void *data)
{
    struct request *request = LIST_OWNER(waiter, struct request, waiter);
    struct lane *lane = request->http ? NULL : grant->lane;
    (void)data;

    admit_leave(request);
    if (request->http) {
        proxy_start(request, grant->lane);
        return;
    }
    if (too_late(request)) { /* queue_serve() goes on: the next one has the place */
        place_give(&lane->replica->place);
        place_give_slot(&lane->replica->place, grant->slot);
        ANSWER_ERROR(request, ERR_DEADLINE, "the request waited until its deadline was too near");
        return;
    }
    dispatch_start(request, lane, grant->slot);
}

struct wake {
    struct revision *revision;
    unsigned loop;
};

static void on_wake(void *data)
{
    struct revision_side *side = data;

    queue_woken(&side->queue);
    revision_unref(side->revision);
}

static void wake(unsigned loop, void *data)
{
    struct revision_side *side = data;
    struct revision *revision = revision_ref(side->revision);

    loop_post(revision->gateway->loop[loop].loop, on_wake, &revision->sides[loop]);
}

const struct queue_events admit_queue_events = { take, admit_room, start, wake };
