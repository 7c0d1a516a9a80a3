/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/poll.h"

#include <assert.h>
#include <sched.h>

#include "gateway/core.h"
#include "gateway/dispatch.h"
#include "io/loop.h"
#include "io/sleeper.h"
#include "replica/process/lane.h"

#define ROUNDS_MAX 16

/* Answers that come meanwhile are found below, without a sleep and a wake-up. */
static void yield_to_replicas(struct gateway_loop *gl)
{
    dispatch_wake(gl);
    if (!gl->woken_short)
        return;
    gl->woken_short = false;
    int64_t began = loop_now_ns();
    if (!yield_due(&gl->yield, began))
        return;
    (void)sched_yield();
    yield_done(&gl->yield, began, loop_now_ns());
}

/* True: the next poll does not sleep. The core is offered to others before each look in vain. */
static bool spin(struct gateway_loop *gl)
{
    if (gl->spin.ns_max == 0)
        return false;
    uint64_t now = (uint64_t)loop_now_ns();
    if (gl->worked) {
        spin_end(&gl->spin, now, gl->spinning);
        gl->spinning = spin_begin(&gl->spin, now);
    } else if (gl->spinning) {
        gl->spin.looked_ns = now; /* what sockets took since, nobody took from us */
        (void)sched_yield();
        gl->spinning = spin_goes_on(&gl->spin, (uint64_t)loop_now_ns());
    }
    gl->worked = false;
    return gl->spinning;
}

static void disarm_all(struct gateway_loop *gl)
{
    struct lane *lane;

    LIST_EACH (lane, &gl->active, struct lane, link_active)
        lane_disarm(lane);
}

/* Takes the answers that are there. False: none; with `arm`, replicas wake this loop from here on.
 */
static bool take_answers(struct gateway_loop *gl, bool arm)
{
    struct lane *lane;
    bool found = false;

    dispatch_wake(gl); /* a slot that an answer gave back was filled behind the last */
    LIST_EACH (lane, &gl->active, struct lane, link_active)
        found |= arm ? lane_arm(lane) : lane_answered(lane);
    if (!found)
        return false;
    struct list todo;
    list_take_all(&todo, &gl->active);
    while (!list_empty(&todo)) {
        lane = LIST_OWNER(todo.next, struct lane, link_active);
        list_remove(&lane->link_active);
        list_append(&gl->active, &lane->link_active);
        lane_disarm(lane);
        dispatch_completions(gl, lane);
    }
    return true;
}

/* Look, arm, look again, and only then poll. What was found may have filled other lanes' rings or
 * sent new requests: round again until nothing is there. */
static void on_sleep(void *data)
{
    struct gateway_loop *gl = data;
    unsigned rounds = 0;

    if (gl->poll_again) { /* asked again, since what was deferred has run */
        dispatch_wake(gl);
        loop_defer(gl->loop, &gl->again);
        return;
    }
    yield_to_replicas(gl);
    while (rounds < ROUNDS_MAX && take_answers(gl, false))
        rounds++;
    if (rounds < ROUNDS_MAX && !spin(gl)) {
        while (rounds < ROUNDS_MAX && take_answers(gl, true))
            rounds++;
        if (rounds < ROUNDS_MAX) {
            assert(list_empty(&gl->to_wake)); /* none sleeps over what it was given */
            return;
        }
    }
    gl->poll_again = true;
    loop_defer(gl->loop, &gl->again); /* sockets have their turn, and the poll does not sleep */
}

static void on_again(void *data)
{
    (void)data; /* that it was deferred is all it does */
}

static void on_awake(void *data)
{
    struct gateway_loop *gl = data;

    gl->poll_again = false;
    dispatch_wake(gl);
    disarm_all(gl);
}

void poll_init(struct gateway_loop *gl)
{
    gl->spin.ns_max = (uint64_t)gl->gateway->start.spin_us * 1000;
    loop_task_init(&gl->again, on_again, gl);
    gl->sleeper = sleeper_new(gl->loop, on_sleep, on_awake, gl);
}
