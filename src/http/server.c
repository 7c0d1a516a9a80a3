/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners, the connections' timeouts, draining. All timeouts of one kind last equally long, so a
 * list for each kind is in order of deadline by itself, and one timer serves all connections. */
#include "http/server.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/auto.h"
#include "http/crowd.h"
#include "http/server_own.h"
#include "http/trust.h"
#include "io/timer.h"

enum { EVICT_LOOKS = 16 };

struct port {
    struct list link; /* of server->listeners */
    struct http_server *server;
    struct listener *listener;
    bool trusted;
};

/* ---- timeouts ----------------------------------------------------------------------------- */

static int64_t wait_ms(const struct http_server *server, enum h1_wait wait)
{
    const struct http_server_limits *limits = &server->limits;
    switch (wait) {
    case WAIT_IDLE:
        return (int64_t)limits->idle_ms;
    case WAIT_HEAD:
        return (int64_t)limits->head_ms;
    case WAIT_BODY:
        return (int64_t)limits->body_ms;
    case WAIT_WRITE:
        return (int64_t)limits->write_ms;
    case WAIT_LINGER:
        return (int64_t)limits->linger_ms;
    case WAIT_GONE:
        return (int64_t)limits->gone_ms;
    case WAIT_NONE:
        break;
    }
    return 0;
}

static void timer_aim(struct http_server *server, int64_t deadline_ms)
{
    if (timer_running(server->timer) && server->timer_ms <= deadline_ms)
        return;
    server->timer_ms = deadline_ms;
    timer_start(server->timer, deadline_ms - loop_now_ms(server->loop));
}

static void wait_begin(struct http_server *server, struct h1 *h1)
{
    h1->wait_deadline_ms = loop_now_ms(server->loop) + wait_ms(server, h1->wait);
    list_append(&server->waits[h1->wait], &h1->wait_link);
    timer_aim(server, h1->wait_deadline_ms);
}

void server_wait(struct http_server *server, struct h1 *h1, enum h1_wait wait)
{
    if (h1->wait == wait)
        return;
    list_remove(&h1->wait_link);
    h1->wait = wait;
    if (wait == WAIT_NONE)
        return;
    h1->wait_bytes = wait == WAIT_BODY ? h1->in_bytes : WAIT_BYTES_UNKNOWN;
    wait_begin(server, h1);
}

void server_wait_on(struct http_server *server, struct h1 *h1, uint64_t bytes)
{
    list_remove(&h1->wait_link);
    h1->wait_bytes = bytes;
    wait_begin(server, h1);
}

static void on_timer(void *data)
{
    struct http_server *server = data;
    int64_t now = loop_now_ms(server->loop);
    for (int wait = 0; wait < WAIT_NONE; wait++) {
        struct h1 *h1;
        while ((h1 = LIST_FIRST(&server->waits[wait], struct h1, wait_link)) &&
               h1->wait_deadline_ms <= now)
            h1_expire(h1);
        if (h1)
            timer_aim(server, h1->wait_deadline_ms);
    }
}

/* ---- connections -------------------------------------------------------------------------- */

/* Room for one more by closing the one that has been idle longest: but for one whose request is on
 * its way, which would be lost. */
static bool evict(struct http_server *server)
{
    unsigned looked = 0;
    struct h1 *h1;
    LIST_EACH (h1, &server->waits[WAIT_IDLE], struct h1, wait_link) {
        if (!stream_readable(h1->stream)) {
            server->stats.evicted++;
            h1_cut(h1, NULL);
            return true;
        }
        if (++looked == EVICT_LOOKS)
            break;
    }
    return false;
}

/* The whole answer of one that is sent away: as HTTP itself refuses, and when to come again. */
static struct slice words(struct http_server *server, const struct err *err)
{
    static const struct http_request none = {};
    char fixed[160];

    arena_free(server->gate_arena);
    struct arena *arena = server->gate_arena = arena_new();
    struct http_refusal refusal = server_refusal(server, arena, &none, err);
    struct slice date = server_date(server);
    int size = snprintf(fixed, sizeof fixed,
                        "%.*sContent-Length: %zu\r\nConnection: close\r\nRetry-After: 1\r\n",
                        SLICE_FMT(date), refusal.body.size);
    assert(size > 0 && (size_t)size < sizeof fixed);
    struct slice head =
        http1_write_head(arena, http1_status_line(arena, err_http(err)),
                         (struct slice){ fixed, (size_t)size }, refusal.headers, refusal.count);
    return slice_of(arena_format(arena, "%.*s%.*s", SLICE_FMT(head), SLICE_FMT(refusal.body)));
}

static bool on_gate(const struct address *peer, bool full, struct slice *ret_words, void *data)
{
    const struct port *port = data;
    struct http_server *server = port->server;
    bool trusted = port->trusted || trust_has_peer(server->trust, peer);
    struct err err;

    bool above = server->stats.open >= server->limits.connections_max;
    if (server->crowd && !trusted && crowd_full(server->crowd, peer)) {
        /* nobody's connection ends for it */
        server->stats.crowded++;
        (void)err_set(&err, ERR_RATE_LIMITED,
                      "this address has as many connections as one may have");
    } else if (((full || above) && !evict(server)) || full) {
        server->stats.full++;
        (void)err_set(&err, ERR_OVERLOADED, "there are as many connections as may be");
    } else {
        return true;
    }
    *ret_words = words(server, &err);
    return false;
}

void http_server_set_crowd(struct http_server *server, struct crowd *crowd)
{
    server->crowd = crowd;
}

void http_server_set_trust(struct http_server *server, const struct trust *trust)
{
    server->trust = trust;
}

static void serve(struct http_server *server, struct stream *stream, bool trusted)
{
    struct h1 *h1 = h1_new(server, stream, trusted);
    server->stats.accepted++;
    server->stats.open++;
    if (server->crowd && !trusted) /* a proxy is many; whom it names is counted */
        h1->counted = crowd_enter(server->crowd, &stream->peer);
    list_append(&server->connections, &h1->link);
    server_wait(server, h1, WAIT_IDLE);
}

void http_server_serve(struct http_server *server, struct stream *stream)
{
    serve(server, stream, trust_has_peer(server->trust, &stream->peer));
}

void server_left(struct http_server *server, struct h1 *h1)
{
    server_wait(server, h1, WAIT_NONE);
    list_remove(&h1->link);
    server->stats.open--;
    h1_client_left(h1);
    if (server->draining && server->stats.open == 0)
        loop_defer(server->loop, &server->drained);
}

static void on_accepted(struct stream *stream, void *data)
{
    const struct port *port = data;
    bool trusted = port->trusted || trust_has_peer(port->server->trust, &stream->peer);
    serve(port->server, stream, trusted);
}

static void listen_on(struct http_server *server, int fd, bool trusted)
{
    struct port *port = mem_zalloc(sizeof *port);
    port->server = server;
    port->trusted = trusted;
    port->listener = listener_new(server->loop, fd, on_accepted, port);
    listener_set_gate(port->listener, on_gate);
    list_append(&server->listeners, &port->link);
}

void http_server_listen(struct http_server *server, int fd)
{
    listen_on(server, fd, false);
}

void http_server_listen_trusted(struct http_server *server, int fd)
{
    listen_on(server, fd, true);
}

static void listeners_close(struct http_server *server)
{
    struct port *port;
    while ((port = LIST_FIRST(&server->listeners, struct port, link))) {
        list_remove(&port->link);
        listener_free(port->listener);
        free(port);
    }
}

static void on_drained_task(void *data)
{
    struct http_server *server = data;
    void (*on_drained)(void *data) = server->on_drained;
    server->on_drained = NULL;
    if (on_drained)
        on_drained(server->drained_data);
}

/* All that are idle wait anew, so that their list stays in order. */
static void idle_shorten(struct http_server *server, uint32_t idle_ms)
{
    struct list now;
    struct h1 *h1;
    server->limits.idle_ms = idle_ms;
    list_init(&now);
    list_insert_after(server->waits[WAIT_IDLE].previous, &now);
    list_remove(&server->waits[WAIT_IDLE]);
    while ((h1 = LIST_FIRST(&now, struct h1, wait_link))) {
        server_wait(server, h1, WAIT_NONE);
        server_wait(server, h1, WAIT_IDLE);
    }
}

void http_server_drain(struct http_server *server, uint32_t idle_ms, void (*on_drained)(void *data),
                       void *data)
{
    struct h1 *h1;
    server->on_drained = on_drained;
    server->drained_data = data;
    server->draining = true;
    server->idle_kept = idle_ms > 0 && idle_ms < server->limits.idle_ms;
    if (server->idle_kept)
        idle_shorten(server, idle_ms);
    listeners_close(server);
    LIST_EACH (h1, &server->connections, struct h1, link)
        h1_drain(h1);
    if (server->stats.open == 0)
        loop_defer(server->loop, &server->drained);
}

/* ---- what connections ask for -------------------------------------------------------------- */

struct slice server_date(struct http_server *server)
{
    int64_t now = loop_wall_s();
    if (now != server->date_s) {
        time_t seconds = now;
        struct tm tm;
        server->date_s = now;
        gmtime_r(&seconds, &tm);
        /* The C locale's names: nothing of ours calls setlocale(). */
        strftime(server->date, sizeof server->date, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
    }
    return slice_of(server->date);
}

struct http_refusal server_refusal(struct http_server *server, struct arena *arena,
                                   const struct http_request *request, const struct err *err)
{
    struct http_refusal refusal = {};
    if (server->events.on_refusal) {
        server->events.on_refusal(arena, request, err, &refusal, server->data);
        return refusal;
    }
    refusal.headers = ARENA_NEW(arena, struct http_header);
    refusal.headers[0] = HTTP_HEADER("Content-Type", SLICE("text/plain; charset=utf-8"));
    refusal.count = 1;
    refusal.body = slice_of(arena_format(arena, "%s\n", err->message));
    return refusal;
}

/* ---- life --------------------------------------------------------------------------------- */

struct http_server *http_server_new(struct loop *loop, const struct http_server_limits *limits,
                                    const struct http_server_events *events, void *data)
{
    struct http_server *server = mem_zalloc(sizeof *server);
    server->loop = loop;
    server->limits = *limits;
    server->events = *events;
    server->data = data;
    list_init(&server->connections);
    list_init(&server->listeners);
    for (int wait = 0; wait < WAIT_NONE; wait++)
        list_init(&server->waits[wait]);
    server->timer = timer_new(loop, on_timer, server);
    server->memory = arena_new_secret();
    server->scratch = arena_alloc(server->memory, limits->read_bytes);
    loop_task_init(&server->drained, on_drained_task, server);
    return server;
}

void http_server_free(struct http_server *server)
{
    struct h1 *h1;
    if (!server)
        return;
    listeners_close(server);
    while ((h1 = LIST_FIRST(&server->connections, struct h1, link)))
        h1_cut(h1, NULL);
    loop_task_cancel(&server->drained);
    timer_free(server->timer);
    arena_free(server->gate_arena);
    arena_free(server->memory);
    free(server);
}

const struct http_server_stats *http_server_stats(const struct http_server *server)
{
    return &server->stats;
}
