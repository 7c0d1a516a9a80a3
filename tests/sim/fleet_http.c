/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network between agents and control: HTTP's client (wrapped) on one side, a codec for
 * control's exchanges on the other. A connection's bytes come in order or not at all: where its
 * link is cut they wait, as TCP does, until it heals or one side gives up. A request that is under
 * way when its client has given up may still come.
 */
#include "http/codec.h"

#include <stdlib.h>
#include <string.h>

#include "control/request.h"
#include "fleet.h"
#include "http/client.h"
#include "io/loop.h"

#define STUCK_NS (30 * ENV_S) /* http/server.h's write_ms */
#define AGAIN_NS (200 * ENV_MS)

bool fleet_reaches(const struct fleet *fleet, unsigned from, unsigned to)
{
    bool power = (from == NODE_CONTROL || fleet->sites[from].power) &&
                 (to == NODE_CONTROL || fleet->sites[to].power);
    return power && !fleet->cut[from][to];
}

int64_t fleet_delay_ns(struct fleet *fleet, unsigned from, unsigned to)
{
    const struct city *control = &cities[2]; /* in Frankfurt */
    const struct city *a = from == NODE_CONTROL ? control : fleet->sites[from].city;
    const struct city *b = to == NODE_CONTROL ? control : fleet->sites[to].city;
    float km = spot_km(spot_at((double)a->latitude, (double)a->longitude),
                       spot_at((double)b->latitude, (double)b->longitude));
    int64_t ns = (int64_t)(rtt_ms(km) / 2 * 1e6F) + fleet_draw(fleet, 0, 5) * ENV_MS;
    return fleet_maybe(fleet, 30) ? ns + fleet_draw(fleet, 1, 3000) * ENV_MS : ns;
}

/* ---- one call -------------------------------------------------------------------------------- */

struct chunk {
    struct list link;
    enum { CHUNK_HEAD, CHUNK_BODY, CHUNK_END, CHUNK_RESET } kind;
    char *bytes;
    size_t size;
    int64_t due_ns;
};

struct written {
    struct list link;
    exchange_written_cb on_written;
    void *data;
};

struct http_call {
    struct list link; /* in fleet->calls, until the world ends */
    struct fleet *fleet;
    struct site *site; /* NULL: an operator's */
    bool client_open, server_open, canceled;
    bool asked; /* the request has come, or never will */
    /* the client's side */
    const struct http_call_events *events;
    answer_cb on_answer;
    void *data;
    struct http_response response;
    struct http_header header;
    struct env_timer silence, timeout;
    int64_t silence_ns;
    char *answer;
    size_t answer_bytes;
    /* what was asked */
    const char *method, *target, *bearer, *last_id;
    struct slice body;
    struct arena *arena;
    /* control's side */
    uint64_t control_life;
    struct exchange *x;
    struct list written;
    struct list chunks;
    struct env_timer pipe;
};

struct sim_exchange {
    struct exchange x;
    struct http_call *call;
    struct address peer;
};

static struct http_call *call_of(const struct exchange *x)
{
    return LIST_OWNER(x, const struct sim_exchange, x)->call;
}

static unsigned node_of(const struct http_call *call)
{
    return call->site ? call->site->index : NODE_CONTROL;
}

static bool joined(const struct http_call *call)
{
    return !call->site || fleet_reaches(call->fleet, node_of(call), NODE_CONTROL);
}

static int64_t delay(const struct http_call *call)
{
    return call->site ? fleet_delay_ns(call->fleet, node_of(call), NODE_CONTROL) : ENV_MS;
}

static void chunks_free(struct http_call *call)
{
    env_timer_stop(call->fleet->env, &call->pipe);
    while (!list_empty(&call->chunks)) {
        struct chunk *chunk = LIST_FIRST(&call->chunks, struct chunk, link);
        list_remove(&chunk->link);
        free(chunk->bytes);
        free(chunk);
    }
}

/* Nobody looks at it any more but what may still be due, which finds that it has ended. */
static void settle(struct http_call *call)
{
    if (call->client_open || call->server_open || !call->asked || !list_empty(&call->chunks))
        return;
    arena_free(take_ptr(call->arena));
    free(take_ptr(call->answer));
}

void fleet_calls_free(struct fleet *fleet)
{
    while (!list_empty(&fleet->calls)) {
        struct http_call *call = LIST_FIRST(&fleet->calls, struct http_call, link);
        chunks_free(call);
        env_timer_stop(fleet->env, &call->silence);
        env_timer_stop(fleet->env, &call->timeout);
        list_remove(&call->link);
        arena_free(call->arena);
        free(call->answer);
        free(call);
    }
}

/* ---- control's side: a codec ----------------------------------------------------------------- */

static void written_all(struct http_call *call, const struct err *err)
{
    while (!list_empty(&call->written)) {
        struct written *one = LIST_FIRST(&call->written, struct written, link);
        struct written copy = *one;
        list_remove(&one->link);
        free(one);
        copy.on_written(call->x, err, copy.data);
    }
}

static void server_close(struct http_call *call, bool whole)
{
    struct err err = {};
    if (!call->server_open)
        return;
    if (!whole)
        (void)!err_set(&err, ERR_CANCELED, "the client has gone");
    written_all(call, whole ? NULL : &err);
    call->server_open = false;
    exchange_close(take_ptr(call->x), whole ? NULL : &err);
    settle(call);
}

static void on_pipe(struct env_timer *timer, void *data);

static void chunk_put(struct http_call *call, int kind, const struct iovec *iovecs, size_t count)
{
    struct chunk *chunk = mem_zalloc(sizeof *chunk);
    int64_t now_ns = env_now_ns(call->fleet->env);
    bool first = list_empty(&call->chunks);
    for (size_t i = 0; i < count; i++)
        chunk->size += iovecs[i].iov_len;
    chunk->kind = kind;
    chunk->bytes = mem_alloc(chunk->size + 1);
    chunk->due_ns = now_ns + delay(call);
    for (size_t i = 0, at = 0; i < count; at += iovecs[i++].iov_len)
        if (iovecs[i].iov_len)
            memcpy(chunk->bytes + at, iovecs[i].iov_base, iovecs[i].iov_len);
    list_append(&call->chunks, &chunk->link);
    if (first)
        env_timer_start(call->fleet->env, &call->pipe, chunk->due_ns - now_ns, on_pipe, call);
}

static void on_body_comes(struct fleet *fleet, void *data, uint64_t)
{
    struct http_call *call = data;
    (void)fleet;
    if (!call->server_open || call->x->body != BODY_READING)
        return;
    assert_int_equal(exchange_body_deliver(call->x, call->body.data, call->body.size),
                     call->body.size);
    exchange_body_finish(call->x, NULL);
}

static void body_start(struct exchange *x)
{
    fleet_after(call_of(x)->fleet, 0, &call_of(x)->fleet->control_life, on_body_comes, call_of(x),
                0);
}

static void body_resume(struct exchange *)
{
}

static void inform(struct exchange *, int, const struct http_header *, size_t)
{
}

static void respond(struct exchange *x, const struct http_header *headers, size_t count)
{
    struct http_call *call = call_of(x);
    call->response = (struct http_response){ .status = x->status, .version = HTTP_1_1 };
    for (size_t i = 0; i < count; i++)
        if (slice_is(headers[i].name, "Perigee-Error")) {
            call->header = (struct http_header){ SLICE("Perigee-Error"),
                                                 arena_copy(call->arena, headers[i].value) };
            call->response.headers = (struct http_headers){ &call->header, 1 };
        }
    chunk_put(call, CHUNK_HEAD, NULL, 0);
}

static void on_taken(struct fleet *, void *data, uint64_t)
{
    struct http_call *call = data;
    if (call->server_open)
        written_all(call, NULL);
}

static void take(struct exchange *x, const struct iovec *iovecs, size_t count, size_t bytes,
                 exchange_written_cb on_written, void *data)
{
    struct http_call *call = call_of(x);
    if (bytes)
        chunk_put(call, CHUNK_BODY, iovecs, count);
    if (!on_written)
        return;
    struct written *one = mem_zalloc(sizeof *one);
    one->on_written = on_written;
    one->data = data;
    list_append(&call->written, &one->link);
    fleet_after(call->fleet, 0, &call->fleet->control_life, on_taken, call, 0);
}

static void on_ended(struct fleet *, void *data, uint64_t whole)
{
    server_close(data, whole);
}

static void end(struct exchange *x, const struct http_header *, size_t)
{
    chunk_put(call_of(x), CHUNK_END, NULL, 0);
    fleet_after(call_of(x)->fleet, 0, &call_of(x)->fleet->control_life, on_ended, call_of(x), true);
}

static void abort_it(struct exchange *x)
{
    chunk_put(call_of(x), CHUNK_RESET, NULL, 0);
    fleet_after(call_of(x)->fleet, 0, &call_of(x)->fleet->control_life, on_ended, call_of(x),
                false);
}

static void close_after(struct exchange *)
{
}

static size_t write_bytes(const struct exchange *x)
{
    const struct chunk *chunk;
    const struct list *link = &call_of(x)->chunks;
    size_t bytes = 0;
    while ((link = link->next) != &call_of(x)->chunks) {
        chunk = LIST_OWNER(link, const struct chunk, link);
        bytes += chunk->size;
    }
    return bytes;
}

static uint64_t taken_bytes(const struct exchange *)
{
    return 0;
}

static uint32_t rtt_us(struct exchange *)
{
    return 0;
}

static const struct exchange_codec codec = {
    .name = "simulated",
    .body_start = body_start,
    .body_resume = body_resume,
    .inform = inform,
    .respond = respond,
    .write = take,
    .end = end,
    .abort = abort_it,
    .close_after = close_after,
    .write_bytes = write_bytes,
    .taken_bytes = taken_bytes,
    .rtt_us = rtt_us,
};

static void request_make(struct http_call *call, struct http_request *ret)
{
    struct http_header *headers = ARENA_ARRAY(call->arena, struct http_header, 3);
    struct err err;
    *ret = (struct http_request){ .method = http_method_of(slice_of(call->method)),
                                  .method_text = slice_of(call->method),
                                  .version = HTTP_1_1,
                                  .scheme = SLICE("http"),
                                  .authority = SLICE("127.0.0.1:8080"),
                                  .target = slice_of(call->target),
                                  .content_length = call->body.size,
                                  .framed = true };
    headers[ret->headers.count++] = HTTP_HEADER(
        "Content-Type", strcmp(call->method, "PATCH") == 0 ? SLICE("application/merge-patch+json")
                        : strstr(call->target, "/blobs/")  ? SLICE("application/octet-stream")
                                                           : SLICE("application/json"));
    if (call->bearer)
        headers[ret->headers.count++] = HTTP_HEADER("Authorization", slice_of(call->bearer));
    if (call->last_id)
        headers[ret->headers.count++] = HTTP_HEADER("Last-Event-ID", slice_of(call->last_id));
    ret->headers.items = headers;
    assert_int_equal(http_target_parse(call->arena, ret, &err), 0);
    assert_int_equal(http_authority_parse(ret->authority, &ret->host, &ret->port, &err), 0);
}

static void exchange_make(struct http_call *call)
{
    struct arena *arena = arena_new();
    struct sim_exchange *sim = ARENA_NEW(arena, struct sim_exchange);
    sim->call = call;
    sim->peer = (struct address){ .kind = ADDRESS_UNIX };
    if (call->site)
        sim->peer = (struct address){ .kind = ADDRESS_IP4, .port = 40000, .ip = { 127, 0, 1, 1 } };
    sim->x = (struct exchange){ .codec = &codec,
                                .arena = arena,
                                .peer = &sim->peer,
                                .client = &sim->peer,
                                .started_ns = env_now_ns(call->fleet->env) };
    request_make(call, &sim->x.request);
    call->x = &sim->x;
    call->server_open = true;
    call->control_life = call->fleet->control_life;
    request_on_head(call->x, call->fleet->control);
}

/* ---- the client's side ----------------------------------------------------------------------- */

static void on_client_gone(struct fleet *fleet, void *data, uint64_t tries)
{
    struct http_call *call = data;
    if (!call->server_open || call->control_life != fleet->control_life)
        return;
    if (joined(call) || tries * AGAIN_NS >= STUCK_NS)
        server_close(call, false);
    else
        fleet_after(fleet, AGAIN_NS, &fleet->control_life, on_client_gone, call, tries + 1);
}

static void client_leave(struct http_call *call)
{
    struct fleet *fleet = call->fleet;
    call->client_open = false;
    env_timer_stop(fleet->env, &call->silence);
    env_timer_stop(fleet->env, &call->timeout);
    if (call->server_open)
        fleet_after(fleet, delay(call), &fleet->control_life, on_client_gone, call, 0);
}

static void client_done(struct http_call *call, const char *why)
{
    struct err err = {};
    if (!call->client_open)
        return;
    if (why)
        (void)!err_set(&err, ERR_OVERLOADED, "%s", why);
    call->fleet->calls_lost += why != NULL;
    client_leave(call);
    if (call->on_answer)
        call->on_answer(call->fleet, why ? 0 : call->response.status,
                        (struct slice){ call->answer, call->answer_bytes }, call->data);
    else
        call->events->on_done(call, why ? &err : NULL, call->data);
    settle(call);
}

static void on_silence(struct env_timer *, void *data)
{
    client_done(data, "nothing comes any more");
}

static void silence_watch(struct http_call *call)
{
    if (call->silence_ns && call->client_open)
        env_timer_start(call->fleet->env, &call->silence, call->silence_ns, on_silence, call);
}

static void chunk_take(struct http_call *call, const struct chunk *chunk)
{
    if (call->canceled || !call->client_open)
        return;
    silence_watch(call);
    struct slice bytes = { chunk->bytes, chunk->size };
    if (chunk->kind == CHUNK_HEAD && call->events && call->events->on_head) {
        call->events->on_head(call, &call->response, call->data);
    } else if (chunk->kind == CHUNK_BODY && call->on_answer) {
        call->answer = mem_resize(call->answer, call->answer_bytes + chunk->size, 1);
        memcpy(call->answer + call->answer_bytes, chunk->bytes, chunk->size);
        call->answer_bytes += chunk->size;
    } else if (chunk->kind == CHUNK_BODY && call->events->on_body) {
        call->events->on_body(call, bytes, call->data);
    } else if (chunk->kind == CHUNK_END) {
        client_done(call, NULL);
    } else if (chunk->kind == CHUNK_RESET) {
        client_done(call, "the connection was reset");
    }
}

static void on_pipe(struct env_timer *, void *data)
{
    struct http_call *call = data;
    int64_t now_ns = env_now_ns(call->fleet->env);
    struct chunk *chunk = LIST_FIRST(&call->chunks, struct chunk, link);
    if (!joined(call)) {
        if (now_ns - chunk->due_ns < STUCK_NS) {
            env_timer_start(call->fleet->env, &call->pipe, AGAIN_NS, on_pipe, call);
            return;
        }
        chunks_free(call);
        if (call->control_life == call->fleet->control_life)
            server_close(call, false);
        settle(call);
        return;
    }
    list_remove(&chunk->link);
    chunk_take(call, chunk);
    free(chunk->bytes);
    free(chunk);
    if (!list_empty(&call->chunks) && !env_timer_armed(&call->pipe)) {
        chunk = LIST_FIRST(&call->chunks, struct chunk, link);
        env_timer_start(call->fleet->env, &call->pipe,
                        chunk->due_ns > now_ns ? chunk->due_ns - now_ns : 0, on_pipe, call);
    }
    settle(call);
}

static void on_refused(struct fleet *, void *data, uint64_t)
{
    client_done(data, "connection refused");
}

static void on_request(struct fleet *fleet, void *data, uint64_t tries)
{
    struct http_call *call = data;
    if (!joined(call) && tries * AGAIN_NS < STUCK_NS) {
        fleet_after(fleet, AGAIN_NS, NULL, on_request, call, tries + 1);
        return;
    }
    call->asked = true;
    if (joined(call) && !fleet->control) {
        fleet_after(fleet, delay(call), NULL, on_refused, call, 0);
    } else if (joined(call) && (call->client_open || fleet_draw(fleet, 0, 1))) {
        exchange_make(call);
        if (!call->client_open)
            fleet_after(fleet, delay(call), &fleet->control_life, on_client_gone, call, 0);
    }
    settle(call);
}

static struct http_call *call_new(struct fleet *fleet, struct site *site, const char *method,
                                  struct slice target, const char *bearer, struct slice body)
{
    struct http_call *call = mem_zalloc(sizeof *call);
    call->fleet = fleet;
    call->site = site;
    call->client_open = true;
    call->arena = arena_new();
    call->method = method;
    call->target = arena_string(call->arena, target);
    call->bearer = bearer ? arena_string(call->arena, slice_of(bearer)) : NULL;
    call->body = arena_copy(call->arena, body);
    list_init(&call->chunks);
    list_init(&call->written);
    list_append(&fleet->calls, &call->link);
    /* One in a hundred is held up for long. */
    int64_t more = site && fleet_maybe(fleet, 10) ? fleet_draw(fleet, 1, 20) * ENV_S : 0;
    fleet_after(fleet, delay(call) + more, NULL, on_request, call, 0);
    return call;
}

void operator_ask(struct fleet *fleet, const char *method, const char *target, const char *bearer,
                  struct slice body, answer_cb on_answer, void *data)
{
    struct http_call *call = call_new(fleet, NULL, method, slice_of(target), bearer, body);
    call->on_answer = on_answer;
    call->data = data;
}

struct http_call *__wrap_http_client_call(struct http_client *client,
                                          const struct http_request_spec *spec,
                                          const struct http_call_events *events, void *data);
void __wrap_http_call_cancel(struct http_call *call);

struct http_call *__wrap_http_client_call(struct http_client *client,
                                          const struct http_request_spec *spec,
                                          const struct http_call_events *events, void *data)
{
    struct site *site = (struct site *)(void *)client;
    const char *bearer = NULL;
    for (size_t i = 0; i < spec->header_count; i++)
        if (slice_is(spec->headers[i].name, "Authorization"))
            bearer = spec->headers[i].value.data;
    struct http_call *call =
        call_new(site->fleet, site, spec->method, spec->target, bearer, spec->body);
    call->events = events;
    call->data = data;
    for (size_t i = 0; i < spec->header_count; i++)
        if (slice_is(spec->headers[i].name, "Last-Event-ID"))
            call->last_id = arena_string(call->arena, spec->headers[i].value);
    call->silence_ns = spec->silence_ms * ENV_MS;
    silence_watch(call);
    if (spec->timeout_ms)
        env_timer_start(site->fleet->env, &call->timeout, spec->timeout_ms * ENV_MS, on_silence,
                        call);
    return call;
}

static void on_canceled(struct fleet *, void *data, uint64_t)
{
    client_done(data, "canceled");
}

void __wrap_http_call_cancel(struct http_call *call)
{
    call->canceled = true;
    fleet_after(call->fleet, 0, NULL, on_canceled, call, 0);
}

void site_calls_drop(struct site *site)
{
    struct http_call *call;
    LIST_EACH (call, &site->fleet->calls, struct http_call, link)
        if (call->site == site && call->client_open)
            client_leave(call);
}

static void on_reset(struct fleet *fleet, void *data, uint64_t)
{
    struct http_call *call = data;
    (void)fleet;
    if (joined(call)) /* else it is silent, which its client finds out */
        client_done(call, "the connection was reset");
}

void control_calls_drop(struct fleet *fleet)
{
    struct http_call *call;
    LIST_EACH (call, &fleet->calls, struct http_call, link) {
        if (!call->server_open)
            continue;
        server_close(call, false);
        chunks_free(call);
        fleet_after(fleet, delay(call), NULL, on_reset, call, 0);
    }
}
