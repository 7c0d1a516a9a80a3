/* SPDX-License-Identifier: Apache-2.0 */
/* Calls from spec to wire: look-up, connect, reuse, timeouts, and the single way out, call_over().
 */
#include "http/client.h"

#include <assert.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"
#include "http/client_own.h"
#include "proto/number.h"

/* ---- URLs --------------------------------------------------------------------------------- */

int http_url_parse(struct slice url, struct http_url *ret, struct err *err)
{
    struct http_url parsed = {};
    struct slice rest = url;
    if (slice_starts(url, SLICE("unix:"))) {
        int r = address_parse(url, &parsed.address, err);
        if (r < 0)
            return r;
        parsed.host = parsed.authority = SLICE("localhost");
        *ret = parsed;
        return 0;
    }
    if (url.size < 7 || !slice_equal_nocase((struct slice){ url.data, 7 }, SLICE("http://")))
        return err_set(err, ERR_BAD_INPUT, "'%s' is no URL like http://HOST:PORT or unix:PATH",
                       ERR_SLICE(url));
    rest = (struct slice){ url.data + 7, url.size - 7 };
    const char *slash = rest.size ? memchr(rest.data, '/', rest.size) : NULL;
    parsed.authority = rest;
    if (slash) {
        parsed.authority.size = (size_t)(slash - rest.data);
        parsed.base = (struct slice){ slash, rest.size - parsed.authority.size };
        while (slice_ends(parsed.base, SLICE("/")))
            parsed.base.size--;
    }
    int r = http_authority_parse(parsed.authority, &parsed.host, &parsed.port, err);
    if (r < 0)
        return err_wrap(err, "URL '%s'", ERR_SLICE(url));
    if (!parsed.port)
        parsed.port = 80;
    if (address_parse_ip(parsed.host, &parsed.address))
        parsed.address.port = parsed.port;
    *ret = parsed;
    return 0;
}

/* ---- timeouts ----------------------------------------------------------------------------- */

static void on_timeout(void *data);

static void timer_aim(struct http_call *call)
{
    int64_t deadline = call->deadline_ms;
    if (call->phase_deadline_ms && (!deadline || call->phase_deadline_ms < deadline))
        deadline = call->phase_deadline_ms;
    if (!deadline && !call->timer) /* of many calls: their owner looks after the time */
        return;
    if (!call->timer)
        call->timer = timer_new(call->client->loop, on_timeout, call);
    if (deadline)
        timer_start(call->timer, deadline - loop_now_ms(call->client->loop));
    else
        timer_stop(call->timer);
}

void call_phase_set(struct http_call *call, enum call_phase phase, int64_t ms)
{
    call->phase = phase;
    call->phase_deadline_ms = ms > 0 ? loop_now_ms(call->client->loop) + ms : 0;
    timer_aim(call);
}

/* Not the other side's: it is us who do not read, or who have no socket to connect. */
static bool wait_is_ours(const struct http_call *call)
{
    int64_t now_ms = loop_now_ms(call->client->loop);
    if (call->deadline_ms && now_ms >= call->deadline_ms)
        return false;
    if (call->phase == CALL_BODY)
        return call->paused && call->phase_deadline_ms;
    return call->phase == CALL_CONNECTING && call->dialing && now_ms < call->dialing_until_ms &&
           call->client->config.dialer->waits(call->dialing);
}

static void on_timeout(void *data)
{
    static const char *const what[] = { "no connection", "no answer", "no more of the answer" };
    struct http_call *call = data;
    struct err err;
    if (wait_is_ours(call)) {
        call_phase_set(call, call->phase,
                       call->phase == CALL_BODY ? call->silence_ms
                                                : call->client->config.connect_ms);
        return;
    }
    (void)err_set(&err, ERR_DEADLINE, "%s %s in time", what[call->phase],
                  call->phase == CALL_CONNECTING ? "was made" : "came");
    call_over(call, &err);
}

/* ---- the way out -------------------------------------------------------------------------- */

static void resolve_forget(struct http_call *call);

/* How long the connection is worth keeping: a second less than the server says it will. */
static int64_t keep_ms(const struct http_call *call)
{
    int64_t ms = call->client->config.idle_ms;
    struct slice rest = http_header_get(&call->response.headers, "Keep-Alive");
    uint64_t seconds;
    while (rest.size) {
        struct slice part = slice_trim(slice_cut(&rest, ','));
        struct slice name = slice_trim(slice_cut(&part, '='));
        if (slice_equal_nocase(name, SLICE("timeout")) && slice_u64(slice_trim(part), &seconds) &&
            seconds < (uint64_t)ms / 1000 + 1)
            ms = seconds > 1 ? (int64_t)(seconds - 1) * 1000 : 0;
    }
    return ms;
}

void call_over(struct http_call *call, const struct err *err)
{
    struct err kept;
    if (call->phase == CALL_OVER)
        return;
    call->phase = CALL_OVER;
    if (err)
        kept = *err; /* it may live in what is freed now */
    loop_task_cancel(&call->task);
    list_remove(&call->link);
    timer_free(call->timer);
    resolve_forget(call);
    if (call->connect)
        stream_connect_cancel(call->connect); /* on_connected looks at the code first */
    if (call->dialing)
        call->client->config.dialer->cancel(call->dialing); /* likewise */
    if (call->wire) {
        struct wire *wire = call->wire;
        bool keep = !err && call->head.keep_alive && !call->last && call->ended &&
                    list_empty(&call->writes) && list_empty(&call->sent) && !wire->stash_bytes;
        call->wire = NULL;
        wire->call = NULL;
        int64_t ms = keep ? keep_ms(call) : 0;
        if (ms > 0)
            wire_keep(wire, ms);
        else
            wire_close(wire);
    }
    call_writes_cancel(call);
    call->events.on_done(call, err ? &kept : NULL, call->data);
    arena_free(call->arena);
}

static void on_task(void *data)
{
    struct http_call *call = data;
    struct err err;
    if (call->canceled) {
        (void)err_set(&err, ERR_CANCELED, "the call was taken back");
        call_over(call, &err);
    } else if (call->wire && !call->paused) {
        wire_feed_stash(call->wire);
    }
}

const struct http_client_stats *http_client_stats(const struct http_client *client)
{
    return &client->stats;
}

const struct http_headers *http_call_trailers(const struct http_call *call)
{
    return &call->chunks.trailers;
}

bool http_call_answered(const struct http_call *call)
{
    return call->answered;
}

bool http_call_reused(const struct http_call *call)
{
    return call->reused;
}

void http_call_cancel(struct http_call *call)
{
    call->canceled = true;
    loop_defer(call->client->loop, &call->task);
}

int64_t http_call_sent_ns(const struct http_call *call)
{
    return call->sent_ns;
}

void http_call_pause(struct http_call *call)
{
    call->paused = true;
}

void http_call_resume(struct http_call *call)
{
    call->paused = false;
    loop_defer(call->client->loop, &call->task);
}

/* ---- connecting --------------------------------------------------------------------------- */

static void connect_next(struct http_call *call);

static void on_connected(struct stream *stream, const struct err *err, void *data)
{
    struct http_call *call = data;
    if (err && err->code == ERR_CANCELED) /* by call_over(): there is no call any more */
        return;
    call->connect = NULL;
    call->dialing = NULL;
    if (stream) {
        call->wire = wire_new(call->client, stream);
        call->wire->scope = call->scope;
        call->wire->address = call->addresses[call->address_at];
        call->wire->call = call;
        call_send(call);
    } else if (++call->address_at < call->address_count) {
        connect_next(call);
    } else {
        call_over(call, err);
    }
}

static void connect_next(struct http_call *call)
{
    const struct address *address = &call->addresses[call->address_at];
    const struct address *source = &call->client->config.source;
    struct stream_connect_options options = { source->kind == address->kind ? source : NULL, 0 };
    if (address->kind == ADDRESS_UNIX)
        options.source = NULL;
    call_phase_set(call, CALL_CONNECTING, call->client->config.connect_ms);
    call->client->stats.connects++;
    if (call->scope) {
        const struct http_dialer *dialer = call->client->config.dialer;
        call->dialing_until_ms = loop_now_ms(call->client->loop) + call->client->config.dialer_ms;
        call->dialing =
            dialer->dial(dialer, call->client->loop, call->scope, address, on_connected, call);
        return;
    }
    call->connect = stream_connect_with(call->client->loop, address, &options, on_connected, call);
}

static struct list *place_of(struct http_client *client, const struct address *address,
                             uint64_t scope)
{
    uint32_t hash = 2166136261u; /* FNV-1a: who chooses addresses here is trusted */
    for (size_t i = 0; i < sizeof address->ip; i++)
        hash = (hash ^ address->ip[i]) * 16777619u;
    for (const char *c = address->path; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 16777619u;
    hash = (hash ^ address->port ^ (uint32_t)scope) * 16777619u;
    return &client->by_place[(hash ^ hash >> 16) % CLIENT_BUCKETS];
}

static void wire_unkeep(struct wire *wire)
{
    if (list_empty(&wire->kept_link))
        return;
    list_remove(&wire->kept_link);
    list_remove(&wire->place_link);
    wire->client->kept_count--;
}

/* The latest used one: the least likely to be about to be closed by the peer. */
static struct wire *wire_find(struct http_call *call)
{
    struct http_client *client = call->client;
    struct list *place = place_of(client, &call->addresses[0], call->scope);
    struct wire *wire;
    LIST_EACH (wire, place, struct wire, place_link) {
        if (wire->scope != call->scope || !address_equal(&wire->address, &call->addresses[0]))
            continue;
        if (wire->kept_until_ms < loop_now_ms(client->loop) || !stream_quiet(wire->stream)) {
            client->stats.stale++;
            wire_close(wire);
            continue;
        }
        wire_unkeep(wire);
        client->stats.reused++;
        return wire;
    }
    return NULL;
}

void call_start(struct http_call *call)
{
    struct wire *wire = call->retried || call->fresh ? NULL : wire_find(call);
    call->reused = wire != NULL;
    if (wire) {
        wire->call = call;
        call->wire = wire;
        call_send(call);
        return;
    }
    call->address_at = 0;
    connect_next(call);
}

/* ---- names -------------------------------------------------------------------------------- */

struct call_resolve {
    struct work work;
    struct work_pool *pool;
    struct http_call *call; /* NULL: over */
    char *host;
    uint16_t port;
    int failure; /* of getaddrinfo */
    struct address addresses[CALL_ADDRESSES_MAX];
    unsigned count;
};

static void resolve_run(struct work *work)
{
    struct call_resolve *resolve = (struct call_resolve *)work;
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG }, *all = NULL;
    resolve->failure = getaddrinfo(resolve->host, NULL, &hints, &all);
    for (struct addrinfo *at = all; at && resolve->count < CALL_ADDRESSES_MAX; at = at->ai_next) {
        struct sockaddr_storage sockaddr = {};
        memcpy(&sockaddr, at->ai_addr, at->ai_addrlen);
        struct address *address = &resolve->addresses[resolve->count++];
        address_from(&sockaddr, at->ai_addrlen, address);
        address->port = resolve->port;
    }
    if (all)
        freeaddrinfo(all);
}

static void on_resolved(struct work *work, bool canceled)
{
    struct call_resolve *resolve = (struct call_resolve *)work;
    struct http_call *call = resolve->call;
    struct err err;
    if (call) {
        call->resolve = NULL;
        call->address_count = resolve->count;
        memcpy(call->addresses, resolve->addresses, sizeof call->addresses);
        if (resolve->count && !canceled) {
            call_start(call);
        } else {
            (void)err_set(&err, ERR_OVERLOADED, "looking up '%s': %s", ERR_TEXT(resolve->host),
                          canceled ? "canceled" : gai_strerror(resolve->failure));
            call_over(call, &err);
        }
    }
    free(resolve->host);
    free(resolve);
}

static void resolve_forget(struct http_call *call)
{
    struct call_resolve *resolve = call->resolve;
    call->resolve = NULL;
    if (!resolve)
        return;
    resolve->call = NULL;
    work_cancel(resolve->pool, &resolve->work);
}

static void resolve_start(struct http_call *call)
{
    struct call_resolve *resolve = mem_zalloc(sizeof *resolve);
    resolve->work.run = resolve_run;
    resolve->work.on_done = on_resolved;
    resolve->pool = call->client->config.pool;
    resolve->call = call;
    resolve->host = mem_string(call->host);
    resolve->port = call->port;
    call->resolve = resolve;
    call_phase_set(call, CALL_CONNECTING, call->client->config.connect_ms);
    work_submit(resolve->pool, call->client->loop, &resolve->work);
}

/* ---- calls -------------------------------------------------------------------------------- */

static struct slice authority_make(struct http_call *call, const struct http_request_spec *spec)
{
    if (spec->authority.size)
        return spec->authority;
    if (!spec->host.size && spec->address && spec->address->kind != ADDRESS_UNIX) {
        char *text = arena_alloc(call->arena, ADDRESS_TEXT_BYTES);
        return slice_of(address_text(spec->address, text));
    }
    if (!spec->host.size)
        return SLICE("localhost");
    bool bare6 = memchr(spec->host.data, ':', spec->host.size) && spec->host.data[0] != '[';
    const char *text = arena_format(call->arena, bare6 ? "[%.*s]:%u" : "%.*s:%u",
                                    SLICE_FMT(spec->host), spec->port);
    return slice_of(text);
}

static char *put(char *to, struct slice text)
{
    if (text.size)
        memcpy(to, text.data, text.size);
    return to + text.size;
}

/* By hand: printf would be a tenth of what a small request costs. */
static void head_make(struct http_call *call, const struct http_request_spec *spec)
{
    struct slice authority = authority_make(call, spec);
    uint64_t length = spec->streamed ? spec->content_length : spec->body.size;
    bool writes = strcmp(spec->method, "POST") == 0 || strcmp(spec->method, "PUT") == 0 ||
                  strcmp(spec->method, "PATCH") == 0;
    struct slice method = slice_of(spec->method);
    size_t room = method.size + spec->target.size + authority.size + 128;
    char *line = arena_alloc(call->arena, room), *at = line;
    at = put(at, method);
    at = put(at, SLICE(" "));
    at = put(at, spec->target);
    at = put(at, SLICE(" HTTP/1.1\r\n"));
    char *fixed = at;
    at = put(at, SLICE("Host: "));
    at = put(at, authority);
    at = put(at, SLICE("\r\n"));
    call->chunked = spec->streamed && length == HTTP_LENGTH_UNKNOWN;
    if (call->chunked) {
        at = put(at, SLICE("Transfer-Encoding: chunked\r\n"));
    } else if (length || writes || spec->streamed) {
        at = put(at, SLICE("Content-Length: "));
        at += number_write_u64(at, length);
        at = put(at, SLICE("\r\n"));
    }
    if (spec->last)
        at = put(at, SLICE("Connection: close\r\n"));
    call->head_out = http1_write_head(call->arena, (struct slice){ line, (size_t)(fixed - line) },
                                      (struct slice){ fixed, (size_t)(at - fixed) }, spec->headers,
                                      spec->header_count);
}

/* Fills addresses where that needs no look-up. */
static void address_take(struct http_call *call, const struct http_request_spec *spec)
{
    call->port = spec->port;
    if (spec->address && spec->address->kind != ADDRESS_NONE) {
        call->addresses[0] = *spec->address;
    } else {
        bool local =
            !call->client->config.pool && slice_equal_nocase(spec->host, SLICE("localhost"));
        if (!address_parse_ip(local ? SLICE("127.0.0.1") : spec->host, &call->addresses[0])) {
            call->host = arena_copy(call->arena, spec->host);
            return;
        }
        call->addresses[0].port = spec->port;
    }
    call->address_count = 1;
}

static void on_begin(void *data)
{
    struct http_call *call = data;
    struct err err;
    loop_task_init(&call->task, on_task, call);
    if (call->canceled) {
        on_task(call);
    } else if (call->scope && !call->client->config.dialer) {
        (void)err_set(&err, ERR_NOT_SUPPORTED, "nobody here reaches into another network");
        call_over(call, &err);
    } else if (call->address_count) {
        call_start(call);
    } else if (call->client->config.pool) {
        resolve_start(call);
    } else {
        (void)err_set(&err, ERR_BAD_INPUT, "'%s' is no address", ERR_SLICE(call->host));
        call_over(call, &err);
    }
}

enum { CALL_BYTES = 6144 }; /* what a small one takes from head to answer */

struct http_call *http_client_call(struct http_client *client, const struct http_request_spec *spec,
                                   const struct http_call_events *events, void *data)
{
    struct arena *arena = arena_new_for(CALL_BYTES);
    struct http_call *call = ARENA_NEW(arena, struct http_call);
    call->client = client;
    call->arena = arena;
    call->events = *events;
    call->data = data;
    call->method = arena_string(arena, slice_of(spec->method));
    call->body_out = spec->body;
    call->streamed = spec->streamed;
    call->ended = !spec->streamed;
    call->silence_ms = spec->silence_ms;
    call->fresh = spec->fresh;
    call->once = spec->once;
    call->last = spec->last;
    call->informed = spec->informed;
    call->upgrade = spec->upgrade;
    call->scope = spec->scope;
    client->stats.calls++;
    call->deadline_ms = spec->timeout_ms ? loop_now_ms(client->loop) + spec->timeout_ms : 0;
    list_init(&call->writes);
    list_init(&call->sent);
    head_make(call, spec);
    address_take(call, spec);
    if (call->deadline_ms)
        timer_aim(call);
    list_append(&client->calls, &call->link);
    /* Begun outside of this frame, so that no failure comes before the call has returned. */
    loop_task_init(&call->task, on_begin, call);
    loop_defer(client->loop, &call->task);
    return call;
}

/* ---- kept wires --------------------------------------------------------------------------- */

void wire_close(struct wire *wire)
{
    if (wire->closed)
        return;
    wire_unkeep(wire);
    list_remove(&wire->link);
    wire->closed = true;
    wire->call = NULL;
    wire->client = NULL;
    stream_close(wire->stream);
    wire_release(wire);
}

static void on_kept_timer(void *data)
{
    struct http_client *client = data;
    struct wire *wire;
    int64_t now = loop_now_ms(client->loop), next = INT64_MAX;
    LIST_EACH (wire, &client->kept, struct wire, kept_link) {
        if (wire->kept_until_ms <= now)
            wire_close(wire);
        else if (wire->kept_until_ms < next)
            next = wire->kept_until_ms;
    }
    if (next != INT64_MAX) /* not each of many by itself */
        timer_start(client->kept_timer, next - now < 100 ? 100 : next - now);
}

void wire_keep(struct wire *wire, int64_t ms)
{
    struct http_client *client = wire->client;
    wire->used = true;
    wire->kept_until_ms = loop_now_ms(client->loop) + ms;
    list_append(&client->kept, &wire->kept_link);
    list_insert_after(place_of(client, &wire->address, wire->scope), &wire->place_link);
    client->kept_count++;
    if (client->kept_count > client->config.kept_max) /* the one that was not used for longest */
        wire_close(LIST_FIRST(&client->kept, struct wire, kept_link));
    /* One with less time may be kept for a while too long, and is looked at before it is used. */
    if (!timer_running(client->kept_timer))
        timer_start(client->kept_timer, ms);
    if (!wire->closed)
        stream_read_start(wire->stream); /* its end is seen while it is idle */
}

/* ---- client ------------------------------------------------------------------------------- */

struct address http_source_of_environment(void)
{
    const char *text = getenv(HTTP_SOURCE_ENVIRONMENT);
    struct address source = {};
    if (text && *text && !address_parse_ip(slice_of(text), &source))
        log_warn("http", "$" HTTP_SOURCE_ENVIRONMENT " is no address, ignoring",
                 LOG_S("text", text));
    return source;
}

struct http_client *http_client_new(struct loop *loop, const struct http_client_config *config)
{
    struct http_client *client = mem_zalloc(sizeof *client);
    client->loop = loop;
    client->config = *config;
    client->config.connect_ms = config->connect_ms ? config->connect_ms : 5000;
    client->config.head_ms = config->head_ms ? config->head_ms : 60000;
    client->config.idle_ms = config->idle_ms ? config->idle_ms : 4000;
    client->config.kept_max = config->kept_max ? config->kept_max : 8;
    client->config.head_bytes_max = config->head_bytes_max ? config->head_bytes_max : 65536;
    list_init(&client->calls);
    list_init(&client->wires);
    list_init(&client->kept);
    for (size_t i = 0; i < CLIENT_BUCKETS; i++)
        list_init(&client->by_place[i]);
    client->kept_timer = timer_new(loop, on_kept_timer, client);
    client->config.read_bytes = config->read_bytes ? config->read_bytes : CLIENT_READ_BYTES;
    client->memory = arena_new_secret();
    client->scratch = arena_alloc(client->memory, client->config.read_bytes);
    return client;
}

void http_client_free(struct http_client *client)
{
    struct http_call *call;
    struct wire *wire;
    if (!client)
        return;
    while ((call = LIST_FIRST(&client->calls, struct http_call, link))) {
        call->canceled = true;
        on_task(call);
    }
    while ((wire = LIST_FIRST(&client->wires, struct wire, link)))
        wire_close(wire);
    timer_free(client->kept_timer);
    arena_free(client->memory);
    free(client);
}
