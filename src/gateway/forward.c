/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request that is passed on: its beginning, its time, its end.
 */
#include "gateway/forward.h"

#include <assert.h>
#include <stdlib.h>

#include "base/auto.h"
#include "gateway/forward_own.h"
#include "gateway/proxy.h"
#include "gateway/request.h"
#include "io/loop.h"

/* ---- its life ------------------------------------------------------------------------------- */

static struct forward *forward_new(struct request *request, enum forward_reason reason)
{
    struct forward *forward = mem_zalloc(sizeof *forward);

    forward->request = request;
    forward->gl = request->gl;
    forward->table = table_ref(request->table);
    forward->endpoint = request->endpoint;
    forward->reason = reason;
    forward->upgrade = forward_upgrades(request);
    forward->once = request->http && proxy_once(exchange_request(request->x));
    forward_relay_init(forward);
    list_append(&request->gl->forwards->under_way, &forward->link);
    request->forward = forward;
    return forward;
}

void forward_free(struct forward *forward)
{
    if (forward->request || forward->relay.call)
        return;
    for (unsigned i = 0; i < forward->tries; i++)
        forward->tried[i]->held--;
    relay_deinit(&forward->relay);
    list_remove(&forward->link);
    table_unref(forward->table);
    free(forward);
}

/* Its request has nothing to do with it any more. */
static void forward_leave(struct forward *forward)
{
    forward->request->forward = NULL;
    forward->request = NULL;
    relay_left(&forward->relay);
    forward_free(forward);
}

void forward_give(struct request *request, struct relay *to)
{
    relay_move(&request->forward->relay, to);
    forward_leave(request->forward);
}

const char *forward_pop(const struct request *request)
{
    return request->forward->peer ? request->forward->peer->name : "";
}

void forward_cancel(struct request *request)
{
    struct forward *forward = request->forward;

    if (!forward || !forward->relay.call || forward->canceled)
        return;
    forward->canceled = true;
    http_call_cancel(forward->relay.call);
}

void forward_closed(struct request *request)
{
    struct forward *forward = request->forward;

    if (!forward)
        return;
    forward_cancel(request);
    forward_leave(forward);
}

/* ---- the beginning -------------------------------------------------------------------------- */

/* The other gateway ends it by the endpoint's own limits; this is for when it does not. A client
 * that sends slowly has the server's limits; a PoP that takes no more of its body these. */
static int64_t due_ns(const struct forward *forward, int64_t now_ns)
{
    const struct table_endpoint *row = forward->request->row;
    int64_t from = forward->relay.body && !forward->relay.ended && forward->relay.writes == 0
                       ? now_ns
                       : forward->relay.taken_ns;

    return from + (int64_t)(row->queue_cold_us + row->timeout_us + row->queue_timeout_us) * 1000 +
           FORWARD_SLACK_MS * ENV_MS;
}

static void due_arm(struct forward *forward);

static void on_due(struct env_timer *timer, void *data)
{
    struct request *request = data;
    int64_t now = loop_now_ns();
    bool deadline = request->deadline_ns && now >= request->deadline_ns;
    (void)timer;

    if (!deadline && due_ns(request->forward, now) > now) /* more of its body was taken */
        due_arm(request->forward);
    else if (deadline)
        ANSWER_ERROR(request, ERR_DEADLINE, "the request's deadline passed at PoP '%s'",
                     request->forward->peer->name);
    else
        ANSWER_ERROR(request, ERR_DEADLINE, "PoP '%s' did not answer in time",
                     request->forward->peer->name);
}

static void due_arm(struct forward *forward)
{
    struct request *request = forward->request;
    int64_t due = due_ns(forward, loop_now_ns());

    if (request->deadline_ns && request->deadline_ns < due)
        due = request->deadline_ns;
    shard_deadline(request->gl, &request->timer, due, on_due, request);
}

/* A tunnel may last. The other gateway bounds its silence; this is for when it does not. */
static int64_t tunnel_due_ns(const struct forward *forward)
{
    return relay_moved_ns(&forward->relay) + (int64_t)forward->request->row->timeout_us * 1000 +
           FORWARD_SLACK_MS * ENV_MS;
}

static void on_tunnel_due(struct env_timer *timer, void *data)
{
    struct request *request = data;
    (void)timer;

    if (tunnel_due_ns(request->forward) > loop_now_ns())
        forward_tunnel_arm(request->forward);
    else
        exchange_abort(request->x);
}

void forward_tunnel_arm(struct forward *forward)
{
    struct request *request = forward->request;

    shard_deadline(request->gl, &request->timer, tunnel_due_ns(forward), on_tunnel_due, request);
}

void forward_body_ended(struct request *request, const struct err *err)
{
    struct forward *forward = request->forward;

    if (err) {
        if (request->state != REQUEST_ANSWERED)
            answer_error(request, err); /* and the call is taken back: half a body is no request */
        return;
    }
    relay_ended(&forward->relay);
    if (!forward->relay.call || forward->canceled) /* or the end is forward_replayed()'s to tell */
        return;
    if (!forward->answering)
        due_arm(forward);
}

int forward_start(struct request *request, struct forward_peer *peer, enum forward_reason reason,
                  struct err *err)
{
    static const struct slice reasons[] = {
#define REASON(name) SLICE(#name),
        FORWARD_REASONS(REASON)
#undef REASON
    };
    const struct table_head *table = request->table->head;
    struct slice labels[] = { table_text(table, request->row->project),
                              table_text(table, request->row->name), reasons[reason] };
    struct forward *forward = forward_new(request, reason);
    int r = 0;

    retry_request(&request->gl->forwards->budget, loop_now_ns());
    if (forward->relay.body)
        r = exchange_body_start(request->x, request->row->body_bytes_max, err);
    if (r == 0)
        r = forward_try(forward, peer, err);
    if (r < 0)
        return r;
    metric_add(metrics_series(&request->gl->metrics, GATEWAY_FORWARD_REASONS, labels), 1);
    due_arm(forward);
    return 0;
}

/* ---- here after all ------------------------------------------------------------------------- */

void forward_here(struct forward *forward)
{
    struct request *request = forward->request;

    shard_deadline_stop(request->gl, &request->timer);
    if (!forward->relay.body) { /* nothing came of it, and its end is still to be told */
        forward_leave(forward);
        request_serve(request);
        return;
    }
    request_serve(request); /* body.c may have had all of it, and `forward` be gone */
    if (request->http)      /* proxy_start() takes what is held, by forward_give() */
        return;
    if (request->forward && request->state != REQUEST_ANSWERED)
        forward_replay(request);
}

void forward_replayed(struct request *request)
{
    struct forward *forward = request->forward;
    bool ended = forward->relay.ended;

    forward_leave(forward);
    if (ended)
        body_ended(request->x, NULL, request);
    else
        exchange_body_resume(request->x);
}
