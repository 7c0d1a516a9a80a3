/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From try to try at replicas over HTTP: a call to one, its end, and what follows from it.
 *
 * Tried again, at most twice and within the endpoint's retry budget, while all that came of the
 * body is held:
 *   - any request, at another target, where no connection could be made: nothing was sent;
 *   - GET, HEAD, OPTIONS, PUT and DELETE (RFC 9110 9.2.2), over a new connection where a kept one
 *     was closed without a byte of an answer, else at another target where none came.
 * Any other request of which nothing came back may have been acted upon: 502.
 *
 * What fails without an answer, and what is answered 502 to 504, counts against the target
 * (policy/outlier.h). The place is given back when the call has ended, not when its client has
 * gone.
 */
#include "base/arena.h"
#include "gateway/proxy_own.h"
#include "gateway/request.h"
#include "gateway/target.h"
#include "http/client.h"
#include "io/loop.h"
#include "policy/retry.h"
#include "proto/end_to_end.h"

enum { PROXY_TRIES_MAX = 3 };

enum proxy_result {
    RESULT_ANSWERED,
    RESULT_UPGRADED,
    RESULT_UNREACHED,
    RESULT_LOST,
    RESULT_SLOW,
    RESULT_WRONG,
    RESULT_BROKEN,
    RESULT_CANCELED
};

/* ---- counting ------------------------------------------------------------------------------- */

static const struct table_endpoint *row_of(const struct proxy *proxy)
{
    for (uint32_t i = 0; i < proxy->table->head->endpoints.count; i++)
        if (proxy->table->endpoints[i] == proxy->endpoint)
            return table_endpoint(proxy->table->head, i);
    return NULL;
}

static void labels_of(const struct proxy *proxy, struct slice labels[static 2])
{
    const struct table_endpoint *row = row_of(proxy);

    labels[0] = table_text(proxy->table->head, row->project);
    labels[1] = table_text(proxy->table->head, row->name);
}

/* Once a try. Nearly all are answered: that series is kept. */
static void counted(struct proxy *proxy, enum proxy_result result)
{
    static const struct slice results[] = { SLICE("answered"),  SLICE("upgraded"),
                                            SLICE("unreached"), SLICE("lost"),
                                            SLICE("slow"),      SLICE("wrong"),
                                            SLICE("broken"),    SLICE("canceled") };
    struct metric_series **kept = &proxy->endpoint->sides[proxy->gl->index].proxied_answered;
    struct slice labels[3] = { {}, {}, results[result] };

    if (proxy->counted && result != RESULT_BROKEN) /* which an answered one may yet be */
        return;
    proxy->counted = true;
    if (result == RESULT_ANSWERED && *kept) {
        metric_add(*kept, 1);
        return;
    }
    labels_of(proxy, labels);
    struct metric_series *series = metrics_series(&proxy->gl->metrics, GATEWAY_PROXIED, labels);
    metric_add(series, 1);
    if (result == RESULT_ANSWERED)
        *kept = series;
}

static void retried(struct proxy *proxy, const char *how)
{
    struct slice labels[3];

    labels_of(proxy, labels);
    labels[2] = slice_of(how);
    metric_add(metrics_series(&proxy->gl->metrics, GATEWAY_PROXY_RETRIES, labels), 1);
}

static struct outlier *outlier_of(const struct proxy *proxy)
{
    return &proxy->target->sides[proxy->gl->index].outlier;
}

/* ---- how long ------------------------------------------------------------------------------- */

static int64_t timeout_ns(const struct request *request)
{
    return (int64_t)request->row->timeout_us * 1000;
}

static bool idempotent(const struct request *request)
{
    return proxy_idempotent(exchange_request(request->x));
}

static bool may_try_again(const struct proxy *proxy)
{
    return proxy->relay.kept && proxy->tries < PROXY_TRIES_MAX && !proxy->answering;
}

/* A try that another may follow has half of the time; the last has all of what is left. */
static int64_t due_ns(const struct proxy *proxy)
{
    const struct request *request = proxy->request;
    int64_t due = request->submitted_ns + timeout_ns(request);
    bool another = proxy->side->lane_count > 1 && idempotent(request) && may_try_again(proxy);

    if (another && !proxy->again && !proxy->patient)
        due = request->submitted_ns + timeout_ns(request) / 2 * (proxy->tries > 1 ? 2 : 1);
    return request->deadline_ns && request->deadline_ns < due ? request->deadline_ns : due;
}

/* A tunnel may last; it is its silence that is bounded. */
static int64_t tunnel_due_ns(const struct proxy *proxy)
{
    return relay_moved_ns(&proxy->relay) + timeout_ns(proxy->request);
}

static void on_due(struct env_timer *timer, void *data);

void proxy_due_arm(struct proxy *proxy)
{
    struct request *request = proxy->request;
    int64_t due = proxy->relay.tunnel ? tunnel_due_ns(proxy) : due_ns(proxy);

    shard_deadline(request->gl, &request->timer, due, on_due, request);
}

static bool paid(struct proxy *proxy)
{
    struct retry_budget *budget = &proxy->endpoint->sides[proxy->gl->index].retries;

    if (retry_take(budget, loop_now_ns()))
        return true;
    retried(proxy, "no_budget");
    return false;
}

/* Another target's place in place of this one's. */
static bool elsewhere(struct proxy *proxy)
{
    struct target *other = target_take_other(proxy->side, proxy->target);

    if (!other)
        return false;
    if (!paid(proxy)) {
        target_give(other, proxy->side);
        return false;
    }
    proxy_place_give(proxy);
    proxy_place_have(proxy, other);
    retried(proxy, "elsewhere");
    return true;
}

static void given_up(struct proxy *proxy, struct outlier *outlier, int64_t now)
{
    counted(proxy, RESULT_SLOW);
    outlier_bad(outlier, now);
}

static void slow(struct proxy *proxy)
{
    struct request *request = proxy->request;
    int64_t now = loop_now_ns();
    bool own = request->deadline_ns && now >= request->deadline_ns;
    struct outlier *outlier = outlier_of(proxy); /* of this try's target */

    if (!own && now < request->submitted_ns + timeout_ns(request)) {
        proxy->again = elsewhere(proxy);
        proxy->patient = !proxy->again;
        if (proxy->again) { /* on_done() goes on */
            given_up(proxy, outlier, now);
            http_call_cancel(proxy->relay.call);
        }
        proxy_due_arm(proxy);
    } else if (own) {
        ANSWER_ERROR(request, ERR_DEADLINE, "the request's deadline passed while it ran");
    } else {
        given_up(proxy, outlier, now);
        ANSWER_ERROR(request, ERR_DEADLINE, "it was not answered within timeout (%llu ms)",
                     (unsigned long long)request->row->timeout_us / 1000);
    }
}

static void on_due(struct env_timer *timer, void *data)
{
    struct request *request = data;
    struct proxy *proxy = request->proxy;
    (void)timer;

    if (proxy->relay.tunnel && tunnel_due_ns(proxy) > loop_now_ns())
        proxy_due_arm(proxy);
    else if (proxy->answering) /* not whole within its time: cut */
        exchange_abort(request->x);
    else
        slow(proxy);
}

/* ---- the answer ----------------------------------------------------------------------------- */

static void answer_begin(struct proxy *proxy, const struct http_response *response)
{
    struct request *request = proxy->request;

    proxy->answering = true;
    relay_let_go(&proxy->relay);
    request->infer_ns = (uint64_t)(loop_now_ns() - request->submitted_ns);
    if (response->status == 101) {
        counted(proxy, RESULT_UPGRADED);
        relay_tunnel(&proxy->relay);
        answer_proxied(request, 101, &response->headers, 0);
    } else {
        counted(proxy, RESULT_ANSWERED);
        relay_answer_begin(&proxy->relay, response->content_length);
        answer_proxied(request, response->status, &response->headers, response->content_length);
    }
    proxy_due_arm(proxy);
}

static void on_head(struct http_call *call, const struct http_response *response, void *data)
{
    struct proxy *proxy = data;
    (void)call;

    if (!proxy->request || proxy->canceled || proxy->again)
        return;
    if (http_informs(response)) {
        struct http_headers headers = proxy_answer_headers(proxy->request, &response->headers, 0);
        relay_inform(&proxy->relay, response->status, &headers);
        return;
    }
    if (response->status >= 502 && response->status <= 504)
        outlier_bad(outlier_of(proxy), loop_now_ns());
    else
        outlier_good(outlier_of(proxy));
    answer_begin(proxy, response);
}

static void on_body(struct http_call *call, struct slice bytes, void *data)
{
    struct proxy *proxy = data;
    (void)call;

    if (proxy->request && !proxy->canceled && proxy->answering)
        relay_answer(&proxy->relay, bytes);
}

/* ---- the end of a try ----------------------------------------------------------------------- */

static void ask(struct proxy *proxy, bool fresh);

static void lost(struct proxy *proxy, const struct err *err, bool sent)
{
    struct request *request = proxy->request;
    const char *who = proxy->target->kind == TABLE_TARGET_SOCKET ? "replica" : "upstream";

    proxy_place_give(proxy);
    if (!sent)
        ANSWER_ERROR(request, ERR_OVERLOADED, "the %s cannot be reached: %s", who, err->message);
    else if (err->code == ERR_INTERNAL)
        ANSWER_ERROR(request, ERR_REPLICA_DIED, "the %s does not speak HTTP: %s", who,
                     err->message);
    else
        ANSWER_ERROR(request, ERR_REPLICA_DIED, "the %s did not answer: %s", who, err->message);
}

void proxy_refuse(struct proxy *proxy, const struct err *err)
{
    struct http_call *call = proxy->relay.call;

    if (call && http_call_sent_ns(call) && proxy_once(exchange_request(proxy->request->x)))
        ANSWER_ERROR(proxy->request, ERR_REPLICA_DIED,
                     "%s, and the replica may have acted upon the request", err->message);
    else
        answer_error(proxy->request, err);
}

/* What the failure of a try leaves; true: the next one is under way. */
static bool try_again(struct proxy *proxy, const struct err *err, bool sent, bool stale)
{
    bool safe = !sent || idempotent(proxy->request);

    if (!may_try_again(proxy) || err->code == ERR_INTERNAL)
        return false;
    if (!safe) {
        retried(proxy, "unsafe");
        return false;
    }
    if (stale) {
        if (!paid(proxy))
            return false;
        retried(proxy, "renewed");
    } else if (!elsewhere(proxy)) {
        return false;
    }
    ask(proxy, stale);
    return true;
}

static void failed(struct proxy *proxy, struct http_call *call, const struct err *err)
{
    bool sent = http_call_sent_ns(call) != 0;
    bool stale =
        sent && http_call_reused(call) && !http_call_answered(call) && err->code == ERR_OVERLOADED;

    counted(proxy, !sent                       ? RESULT_UNREACHED
                   : err->code == ERR_INTERNAL ? RESULT_WRONG
                                               : RESULT_LOST);
    if (!stale) /* it is no fault of a server to close what is idle */
        outlier_bad(outlier_of(proxy), loop_now_ns());
    if (!try_again(proxy, err, sent, stale))
        lost(proxy, err, sent);
}

static void whole(struct proxy *proxy, struct http_call *call)
{
    struct request *request = proxy->request;
    struct http_headers trailers = http_trailers_right(request->arena, http_call_trailers(call));

    request->infer_ns = (uint64_t)(loop_now_ns() - request->submitted_ns);
    exchange_end(request->x, trailers.items, trailers.count);
}

static void on_done(struct http_call *call, const struct err *err, void *data)
{
    struct proxy *proxy = data;

    relay_over(&proxy->relay);
    if (!proxy->request || proxy->canceled) {
        if (!proxy->answering)
            counted(proxy, RESULT_CANCELED);
        proxy_place_give(proxy);
        proxy_free(proxy);
    } else if (proxy->again) {
        proxy->again = false;
        ask(proxy, false);
    } else if (proxy->answering && err) { /* never made whole */
        counted(proxy, RESULT_BROKEN);
        proxy_place_give(proxy);
        exchange_abort(proxy->request->x);
    } else if (err) {
        failed(proxy, call, err);
    } else {
        proxy_place_give(proxy);
        whole(proxy, call);
    }
}

static const struct http_call_events events = { on_head, on_body, on_done };

/* ---- one that may not stay ------------------------------------------------------------------ */

void proxy_uphold(struct proxy *proxy)
{
    struct request *request = proxy->request;
    struct err why;

    if (!request || !proxy->relay.call || proxy->canceled ||
        residency_under_way(request, proxy->gl->table, NULL, &why) == 0)
        return;
    residency_ends(request, &why);
    if (!proxy->answering) {
        proxy_refuse(proxy, &why);
        return;
    }
    counted(proxy, RESULT_BROKEN);
    proxy_cancel(request);
    exchange_abort(request->x);
}

/* ---- a try ---------------------------------------------------------------------------------- */

static struct slice authority_of(const struct proxy *proxy)
{
    const struct request *request = proxy->request;
    uint32_t row = (uint32_t)(request->revision_row - table_revision(request->table->head, 0));
    struct slice told =
        table_text(request->table->head, table_reach(request->table->head, row)->authority);

    return told.size ? told : exchange_request(request->x)->authority;
}

int proxy_ask(struct proxy *proxy, bool fresh, struct err *err)
{
    struct request *request = proxy->request;
    const struct http_request *http = exchange_request(request->x);
    bool upgrade = proxy_upgrades(http);
    struct http_headers headers;
    int r = proxy_request_headers(request, upgrade, &headers, err);

    if (r < 0)
        return r;
    struct http_request_spec spec = {
        .address = &proxy->target->address,
        .authority = authority_of(proxy),
        .method = arena_string(request->arena, http->method_text),
        .target = proxy_target(request),
        .headers = headers.items,
        .header_count = headers.count,
        .streamed = proxy->relay.body,
        .content_length = http->content_length,
        .fresh = fresh,
        .once = true,
        .informed = true,
        .upgrade = upgrade,
        .scope = proxy->target->kind == TABLE_TARGET_SOCKET ? proxy->target->id : 0,
    };
    proxy->tries++;
    proxy->counted = false;
    relay_begin(&proxy->relay, http_client_call(proxy->gl->proxies->client, &spec, &events, proxy));
    return 0;
}

static void ask(struct proxy *proxy, bool fresh)
{
    struct err err;

    if (proxy_ask(proxy, fresh, &err) < 0) {
        proxy_place_give(proxy);
        answer_error(proxy->request, &err);
    } else if (proxy->relay.body && !proxy->relay.ended) {
        exchange_body_resume(proxy->request->x);
    }
}
