/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request's life at a replica over HTTP: admitted, given a target, its body read as the target
 * takes it, and its end. What happens to it there: proxy_try.c.
 */
#include "gateway/proxy.h"

#include <assert.h>
#include <stdlib.h>

#include "base/auto.h"
#include "gateway/admit.h"
#include "gateway/forward.h"
#include "gateway/proxy_own.h"
#include "gateway/request.h"
#include "gateway/target.h"
#include "http/client.h"
#include "io/loop.h"
#include "replica/entrance.h"

enum {
    PROXY_CONNECT_MS = 2000,
    PROXY_ENTER_MS = 30'000,       /* who enters networks, or who tells it what there is, is away */
    PROXY_IDLE_MS = 4000,          /* of a kept connection: most servers wait 5 s and longer */
    PROXY_KEPT_CONNECTIONS = 1024, /* of one loop */
    PROXY_READ_BYTES = 69632,      /* 64 KiB and a head */
};

/* ---- its life ------------------------------------------------------------------------------- */

static bool memory_take(size_t bytes, void *data)
{
    return memory_budget_take(&((struct proxy *)data)->endpoint->memory, bytes);
}

static void memory_give(size_t bytes, void *data)
{
    memory_budget_give(&((struct proxy *)data)->endpoint->memory, bytes);
}

static bool memory_spare(size_t bytes, void *data)
{
    return memory_budget_spare(&((struct proxy *)data)->endpoint->memory, bytes);
}

static const struct relay_memory memory = { .take = memory_take,
                                            .spare = memory_spare,
                                            .give = memory_give };

void proxy_place_have(struct proxy *proxy, struct target *target)
{
    proxy->target = target_ref(target);
    proxy->taken_ns = loop_now_ns();
}

void proxy_place_give(struct proxy *proxy)
{
    struct target *target = take_ptr(proxy->target);

    if (!target)
        return;
    admit_ran(proxy->side, loop_now_ns() - proxy->taken_ns);
    target_give(target, proxy->side);
    target_unref(target);
}

static struct proxy *proxy_new(struct request *request, struct target *target)
{
    struct proxy *proxy = mem_zalloc(sizeof *proxy);

    proxy->request = request;
    proxy->gl = request->gl;
    proxy->table = table_ref(request->table);
    proxy->endpoint = request->endpoint;
    proxy->side = request->side;
    proxy_place_have(proxy, target);
    relay_init(&proxy->relay, request->x, request->gl->loop, &memory, proxy);
    list_append(&request->gl->proxies->under_way, &proxy->link);
    request->proxy = proxy;
    return proxy;
}

void proxy_free(struct proxy *proxy)
{
    if (proxy->request || proxy->relay.call)
        return;
    proxy_place_give(proxy);
    relay_deinit(&proxy->relay);
    list_remove(&proxy->link);
    table_unref(proxy->table);
    free(proxy);
}

void proxy_cancel(struct request *request)
{
    struct proxy *proxy = request->proxy;

    if (!proxy || !proxy->relay.call || proxy->canceled)
        return;
    proxy->canceled = true;
    http_call_cancel(proxy->relay.call);
}

void proxy_closed(struct request *request)
{
    struct proxy *proxy = request->proxy;

    if (!proxy)
        return;
    proxy_cancel(request);
    request->proxy = NULL;
    proxy->request = NULL;
    relay_left(&proxy->relay);
    proxy_free(proxy);
}

void proxy_start(struct request *request, struct target *target)
{
    struct proxy *proxy = proxy_new(request, target);
    struct err err;
    int r = 0;

    request_state_move(&request->state, REQUEST_RUNNING);
    request->submitted_ns = loop_now_ns();
    request->queue_ns = (uint64_t)(request->submitted_ns - request->queued_ns);
    retry_request(&proxy->endpoint->sides[proxy->gl->index].retries, request->submitted_ns);
    bool begun = request->forward; /* another PoP had it: what came of its body is held */
    if (begun)
        forward_give(request, &proxy->relay);
    else if (proxy->relay.body)
        r = exchange_body_start(request->x, request->row->body_bytes_max, &err);
    if (r == 0)
        r = proxy_ask(proxy, false, &err);
    if (r == 0 && begun && proxy->relay.body && !proxy->relay.ended)
        exchange_body_resume(request->x);
    if (r < 0) {
        proxy_place_give(proxy);
        answer_error(request, &err);
        return;
    }
    proxy_due_arm(proxy);
}

void proxy_begin(struct request *request)
{
    const struct http_request *http = exchange_request(request->x);
    struct err err;
    int r = 0;

    request->infer = true;
    if (http->content_length != HTTP_LENGTH_UNKNOWN &&
        http->content_length > request->row->body_bytes_max)
        r = err_set(&err, ERR_TOO_LARGE, "the body has %llu bytes, the limit is %llu (limits.body)",
                    (unsigned long long)http->content_length,
                    (unsigned long long)request->row->body_bytes_max);
    if (r == 0)
        r = admit_check(request, &err);
    if (r < 0)
        answer_error(request, &err);
    else
        admit_request(request);
}

/* ---- the exchange's callbacks --------------------------------------------------------------- */

void proxy_space(struct request *request, struct iovec *ret_space)
{
    struct relay *relay = &request->proxy->relay;
    struct err err;

    if (request->proxy->canceled || request->proxy->again)
        return;
    relay_space(relay, ret_space);
    if (!relay->short_of_memory)
        return;
    relay->short_of_memory = false;
    request->shed = SHED_memory;
    if (request->proxy->answering) {
        exchange_abort(request->x); /* nobody would go on reading */
        return;
    }
    (void)err_set(&err, ERR_OVERLOADED, "the memory for requests is in use");
    proxy_refuse(request->proxy, &err);
}

void proxy_filled(struct request *request, size_t bytes)
{
    relay_filled(&request->proxy->relay, bytes);
}

void proxy_body_ended(struct request *request, const struct err *err)
{
    if (!err)
        relay_ended(&request->proxy->relay);
    else if (!request->proxy->answering)
        answer_error(request, err); /* and the call is taken back: half a body is no request */
    else
        exchange_abort(request->x);
}

/* ---- all of a loop's ------------------------------------------------------------------------ */

void proxies_table(struct gateway_loop *gl)
{
    struct proxy *proxy;

    if (gl->proxies) /* else the loop has ended, and is told the rest */
        LIST_EACH (proxy, &gl->proxies->under_way, struct proxy, link)
            proxy_uphold(proxy);
    for (uint32_t i = 0; i < gl->table->head->revisions.count; i++)
        if (table_reach_http(gl->table->head, i))
            admit_continue(&gl->table->revisions[i]->sides[gl->index]);
}

static void on_inside_lost(void *data)
{
    shard_inside_lost(data);
}

struct proxies *proxies_new(struct gateway_loop *gl)
{
    static const struct entrance_events inside = { .on_lost = on_inside_lost };
    struct proxies *proxies = mem_zalloc(sizeof *proxies);
    struct http_client_config config = {
        .connect_ms = PROXY_CONNECT_MS,
        .head_ms = -1, /* each request has a timer of its own */
        .idle_ms = PROXY_IDLE_MS,
        .kept_max = PROXY_KEPT_CONNECTIONS,
        .read_bytes = PROXY_READ_BYTES,
        .source = http_source_of_environment(),
        .dialer_ms = PROXY_ENTER_MS,
    };

    proxies->gl = gl;
    proxies->entrance = entrance_new(gl->loop, &inside, gl);
    config.dialer = entrance_dialer(proxies->entrance);
    proxies->client = http_client_new(gl->loop, &config);
    list_init(&proxies->under_way);
    return proxies;
}

void proxies_free(struct proxies *proxies)
{
    if (!proxies)
        return;
    http_client_free(proxies->client);
    entrance_free(proxies->entrance);
    assert(list_empty(&proxies->under_way));
    free(proxies);
}

void proxies_inside(struct gateway_loop *gl, int fd)
{
    entrance_open(gl->proxies->entrance, fd);
}
