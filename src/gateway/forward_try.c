/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From try to try: a call to one PoP, its end, and what follows from it.
 */
#include <assert.h>

#include "base/arena.h"
#include "gateway/forward_own.h"
#include "gateway/request.h"
#include "io/loop.h"
#include "proto/end_to_end.h"
#include "proto/hop.h"

enum forward_result {
    RESULT_ANSWERED,
    RESULT_UPGRADED,
    RESULT_REFUSED,
    RESULT_LOST,
    RESULT_BROKEN,
    RESULT_CANCELED
};

static void counted(struct forward *forward, enum forward_result result)
{
    static const struct slice results[] = {
        SLICE("answered"), SLICE("upgraded"), SLICE("refused"),
        SLICE("lost"),     SLICE("broken"),   SLICE("canceled")
    };
    struct slice labels[] = { slice_of(forward->peer->name), results[result] };

    metric_add(metrics_series(&forward->gl->metrics, GATEWAY_FORWARDED, labels), 1);
}

/* ---- the end of a try ----------------------------------------------------------------------- */

static void lost(struct forward *forward, const struct err *err)
{
    struct request *request = forward->request;

    if (forward->peer && !forward->relay.kept)
        ANSWER_ERROR(request, ERR_OVERLOADED, "PoP '%s' was lost within the request; send it again",
                     forward->peer->name);
    else
        answer_error(request, err);
}

bool forward_unsafe(const struct forward *forward, const struct http_call *call)
{
    return forward->once && http_call_sent_ns(call) != 0;
}

static void ask(struct forward *forward, struct forward_peer *peer, bool fresh);

static void retried(struct forward *forward, const char *result)
{
    struct slice label = slice_of(result);

    metric_add(metrics_series(&forward->gl->metrics, GATEWAY_FORWARD_RETRIES, &label), 1);
}

/* One more try is paid for, now or before. */
static bool paid(struct forward *forward)
{
    bool before = forward->paid;

    forward->paid = false;
    if (before || retry_take(&forward->gl->forwards->budget, loop_now_ns()))
        return true;
    if (!forward->unpaid) /* forwards_review() asks each second */
        retried(forward, "no_budget");
    forward->unpaid = true;
    return false;
}

/* It was under way, and it is a newer law that lets nobody answer it. */
static void ended(struct request *request, const struct err *why)
{
    residency_ends(request, why);
    answer_error(request, why);
}

/* Is there another one that may have it? Then that try is paid for, and the call's end is followed
 * by it. False also where residency does not let it be processed any more: that is answered. */
static bool another(struct forward *forward)
{
    struct forward_peer *peer;
    struct err err;

    if (!forward->relay.kept)
        return false;
    enum forward_where where = forward_next(forward, &peer, &err);
    if (where == FORWARD_DENIED)
        ended(forward->request, &err);
    if (where == FORWARD_DENIED || where == FORWARD_NOWHERE || !paid(forward))
        return false;
    forward->paid = forward->again = true;
    return true;
}

/* Elsewhere, or here; `why` is answered where neither can be. */
static void try_again(struct forward *forward, const struct err *why)
{
    struct forward_peer *peer;
    struct err err;

    if (!forward->relay.kept) {
        retried(forward, "too_large");
        lost(forward, why);
        return;
    }
    enum forward_where where = forward_next(forward, &peer, &err);
    if (where == FORWARD_DENIED) {
        ended(forward->request, &err);
    } else if (where == FORWARD_NOWHERE || !paid(forward)) {
        lost(forward, why);
    } else if (where == FORWARD_HERE) {
        retried(forward, "here");
        forward_here(forward);
    } else {
        retried(forward, "elsewhere");
        ask(forward, peer, false);
    }
}

/* ---- the call's callbacks ------------------------------------------------------------------- */

static void answer_begin(struct forward *forward, const struct http_response *response)
{
    struct request *request = forward->request;
    struct http_headers headers =
        forward_answer_headers(request->arena, request, response->status, &response->headers);
    struct slice error = http_header_get(&response->headers, "Perigee-Error");

    forward->answering = true;
    forward->relay.answer_ns = loop_now_ns();
    if (response->status == 101) {
        relay_tunnel(&forward->relay);
        counted(forward, RESULT_UPGRADED);
        answer_relay(request, 101, &headers, 0, (struct slice){});
        forward_tunnel_arm(forward);
        return;
    }
    relay_let_go(&forward->relay);
    relay_answer_begin(&forward->relay, response->content_length);
    counted(forward, RESULT_ANSWERED);
    answer_relay(request, response->status, &headers, response->content_length, error);
}

/* A refusal is not passed back while another PoP may be asked, or this one; that of a hop, which is
 * not about the client's request, never. */
static bool refusal_is_not_the_end(struct forward *forward, const struct http_response *response)
{
    bool hop = http_header_find(&response->headers, HOP_HEADER);

    if (hop)
        forward_peer_avoid(forward->peer);
    if (!another(forward) && hop && !forward->canceled)
        forward->again = true; /* and try_again() finds nobody */
    return forward->again;
}

static void on_head(struct http_call *call, const struct http_response *response, void *data)
{
    struct forward *forward = data;
    (void)call;

    if (!forward->request || forward->canceled)
        return;
    if (http_informs(response)) {
        struct http_headers headers = forward_inform_headers(forward->request, &response->headers);
        relay_inform(&forward->relay, response->status, &headers);
        return;
    }
    if (forward_refused(response) && refusal_is_not_the_end(forward, response))
        counted(forward, RESULT_REFUSED); /* on_done() goes on, once the few words are read */
    else if (!forward->canceled)
        answer_begin(forward, response);
}

static void on_body(struct http_call *call, struct slice bytes, void *data)
{
    struct forward *forward = data;
    (void)call;

    if (forward->request && !forward->canceled && forward->answering)
        relay_answer(&forward->relay, bytes);
}

/* It went over a connection that the other gateway has closed, as one does that is replaced: the
 * same once more, if it may still be processed there. */
static bool renew(struct forward *forward)
{
    if (forward->renewed || forward->once || !forward->relay.kept ||
        !forward_permitted(forward, forward->peer) || !paid(forward))
        return false;
    retried(forward, "renewed");
    ask(forward, forward->peer, true);
    return true;
}

/* What its end says of the PoP. An answer that breaks off says nothing: the other gateway gives up
 * one that is taken slowly, and that is our client's doing. */
static enum forward_seen seen(const struct forward *forward, const struct err *err, bool stale)
{
    if (!err)
        return FORWARD_SEEN_GOOD;
    return stale || forward->canceled || forward->again || forward->answering ? FORWARD_SEEN_NOTHING
                                                                              : FORWARD_SEEN_FAILED;
}

/* No byte of an answer came. */
static void failed(struct forward *forward, const struct err *err, bool unsafe)
{
    const char *pop = forward->peer->name;
    struct err why;

    if (!unsafe) {
        (void)err_set(&why, ERR_OVERLOADED, "PoP '%s' did not answer: %s", pop, err->message);
        try_again(forward, &why);
        return;
    }
    retried(forward, "unsafe");
    ANSWER_ERROR(forward->request, ERR_REPLICA_DIED,
                 "PoP '%s' did not answer, and may have acted upon the request: %s", pop,
                 err->message);
}

static void on_done(struct http_call *call, const struct err *err, void *data)
{
    struct forward *forward = data;
    struct forward_peer *peer = forward->peer;
    struct err why;
    bool stale = err && !forward->canceled && !forward->again && !forward->answering &&
                 err->code == ERR_OVERLOADED && http_call_reused(call); /* it was closed */

    relay_over(&forward->relay);
    peer->tunnels -= forward->upgrade;
    forward_peer_done(forward->gl->forwards, peer, seen(forward, err, stale));
    if (stale && forward->request && renew(forward))
        return;
    if (!forward->request || forward->canceled) {
        if (!forward->answering)
            counted(forward, RESULT_CANCELED);
        forward_free(forward);
        return;
    }
    if (forward->again) {
        (void)err_set(&why, ERR_OVERLOADED, "PoP '%s' is down, or refused it", peer->name);
        forward->again = false;
        try_again(forward, &why);
    } else if (!err) {
        struct http_headers trailers =
            http_trailers_right(forward->request->arena, http_call_trailers(call));
        exchange_end(forward->request->x, trailers.items, trailers.count);
    } else if (forward->answering) { /* never made whole */
        counted(forward, RESULT_BROKEN);
        exchange_abort(forward->request->x);
    } else {
        counted(forward, RESULT_LOST);
        failed(forward, err, forward_unsafe(forward, call));
    }
}

static const struct http_call_events events = { on_head, on_body, on_done };

/* ---- a call -------------------------------------------------------------------------------- */

static int call_begin(struct forward *forward, struct forward_peer *peer, bool fresh,
                      struct err *err)
{
    struct request *request = forward->request;
    const struct http_request *http = exchange_request(request->x);
    struct http_headers headers;
    int r = forward_request_headers(request->arena, request, peer, &headers, err);

    if (r < 0)
        return r;
    struct http_request_spec spec = {
        .address = &peer->address,
        .authority = http->authority,
        .method = arena_string(request->arena, http->method_text),
        .target = http->target,
        .headers = headers.items,
        .header_count = headers.count,
        .streamed = forward->relay.body,
        .content_length = http->content_length,
        .silence_ms = FORWARD_SILENCE_MS,
        .fresh = fresh || forward->upgrade, /* a close that crosses it would be its end */
        .informed = true,
        .upgrade = forward->upgrade,
    };
    if (!fresh) {
        assert(forward->tries < FORWARD_TRIES_MAX);
        forward->tried[forward->tries++] = peer;
        peer->held++;
    }
    forward->peer = peer;
    forward->renewed = fresh;
    peer->calls++;
    peer->tunnels += forward->upgrade;
    relay_begin(&forward->relay,
                http_client_call(forward->gl->forwards->client, &spec, &events, forward));
    return 0;
}

static void ask(struct forward *forward, struct forward_peer *peer, bool fresh)
{
    struct err err;

    if (call_begin(forward, peer, fresh, &err) < 0)
        answer_error(forward->request, &err);
    else if (forward->relay.body && !forward->relay.ended)
        exchange_body_resume(forward->request->x); /* not read since it was to go on */
}

int forward_try(struct forward *forward, struct forward_peer *peer, struct err *err)
{
    return call_begin(forward, peer, false, err);
}

/* ---- one that may not stay ------------------------------------------------------------------ */

/* Its call has neither ended nor is to be given up. */
static bool goes_on(const struct forward *forward)
{
    return forward->request && forward->relay.call && !forward->canceled && !forward->again;
}

static void cut(struct forward *forward)
{
    counted(forward, RESULT_BROKEN);
    forward_cancel(forward->request);
    exchange_abort(forward->request->x);
}

void forward_look_delivered(struct forward *forward)
{
    const struct relay *relay = &forward->relay;

    if (!goes_on(forward) || !forward->answering || !(relay->tunnel || relay->body) ||
        relay->ended_told)
        return;
    uint64_t delivered = http_call_delivered(relay->call);
    if (delivered == forward->delivered)
        return;
    forward->delivered = delivered;
    forward->delivered_ns = loop_now_ns();
}

/* Neither direction has moved for long, and it is not for our client that one stands still. */
static bool still(const struct forward *forward)
{
    int64_t answer_ns = forward->relay.answer_ns, delivered_ns = forward->delivered_ns;
    int64_t moved_ns = answer_ns > delivered_ns ? answer_ns : delivered_ns;

    return !forward->relay.paused && loop_now_ns() - moved_ns >= FORWARD_MUTE_NS;
}

void forward_peer_lost(struct forward *forward)
{
    if (!goes_on(forward))
        return;
    if (forward->answering) {
        if (still(forward))
            cut(forward);
        return;
    }
    if (forward_unsafe(forward, forward->relay.call) || !another(forward))
        return;
    counted(forward, RESULT_LOST); /* on_done() goes on */
    http_call_cancel(forward->relay.call);
}

void forward_uphold(struct forward *forward)
{
    struct request *request = forward->request;
    struct err why;

    if (!goes_on(forward) ||
        residency_under_way(request, forward->gl->table, forward->peer->name, &why) == 0)
        return;
    bool once = forward_unsafe(forward, forward->relay.call);
    if (!forward->answering && !once && another(forward)) {
        counted(forward, RESULT_CANCELED); /* on_done() goes on */
        http_call_cancel(forward->relay.call);
        return;
    }
    if (!forward->answering && request->state == REQUEST_ANSWERED)
        return; /* it may be processed nowhere, and was told so */
    residency_ends(request, &why);
    if (forward->answering)
        cut(forward);
    else if (once)
        ANSWER_ERROR(request, ERR_REPLICA_DIED, "%s, and PoP '%s' may have acted upon the request",
                     why.message, forward->peer->name);
    else
        answer_error(request, &why);
}
