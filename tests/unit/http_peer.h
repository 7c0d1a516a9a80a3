/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_peer.h -- for tests: a server on a loop with a handler for each kind of answer, and a raw
 * client beside it in the same thread, so that whatever a test sees is in a fixed order.
 */
#pragma once

#include "base/arena.h"
#include "base/auto.h"
#include "http/server.h"
#include "io/socket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

/* Requests, and answers without their date. */
#define R(line) line "\r\nHost: a\r\n\r\n"
#define OK(size) "HTTP/1.1 200 OK\r\nContent-Length: " size "\r\n"
#define HELLO OK("5") "\r\nhello"
#define BYE OK("5") "Connection: close\r\n\r\nhello"
#define POST(path, more) "POST " path " HTTP/1.1\r\nHost: a\r\n" more
#define CHUNKED "Transfer-Encoding: chunked\r\n\r\n"

enum { PEER_BODY_MAX = 1 << 20 };

struct peer_stats {
    unsigned heads, ends, closed_well, closed_badly, written, written_badly;
    int last_end_http; /* status of the last failed body */
    uint64_t copied_bytes, body_bytes;
};

struct peer {
    struct loop *loop;
    struct http_server *server;
    struct peer_stats stats;
    struct exchange *held; /* of /hold and /pause: answered by the test */
    uint64_t body_max;
    size_t space_max; /* at most so much space at once; 0: all */
    char body[PEER_BODY_MAX];
    size_t body_bytes;
    const void *first_space; /* what on_body_space gave first */
    bool no_space;
};

/* For a test of a timeout: time itself is what passes, and the loop does not run in it. */
static inline void peer_time_passes(int64_t ms)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec at = { .it_value = { ms / 1000, ms % 1000 * 1'000'000 } };
    struct pollfd poll_fd = { fd, POLLIN, 0 };
    assert_int_equal(timerfd_settime(fd, 0, &at, NULL), 0);
    assert_int_equal(poll(&poll_fd, 1, 5000), 1);
    close(fd);
}

static inline void peer_space(struct exchange *x, struct iovec *ret_space, void *data)
{
    struct peer *peer = data;
    (void)x;
    if (peer->no_space)
        return;
    *ret_space = (struct iovec){ peer->body + peer->body_bytes, PEER_BODY_MAX - peer->body_bytes };
    if (peer->space_max && ret_space->iov_len > peer->space_max)
        ret_space->iov_len = peer->space_max;
}

static inline void peer_written(struct exchange *x, const struct err *err, void *data)
{
    struct peer *peer = data;
    (void)x;
    if (err)
        peer->stats.written_badly++;
    else
        peer->stats.written++;
}

static inline void peer_body(struct exchange *x, size_t bytes, void *data)
{
    struct peer *peer = data;
    struct iovec part = { peer->body + peer->body_bytes, bytes };
    peer->body_bytes += bytes;
    if (slice_is(exchange_request(x)->path, "/stream")) {
        if (!exchange_responded(x))
            exchange_respond(x, 200, NULL, 0, HTTP_LENGTH_UNKNOWN);
        exchange_write(x, &part, 1, peer_written, peer);
    }
}

static inline void peer_body_end(struct exchange *x, const struct err *err, void *data)
{
    struct peer *peer = data;
    struct slice path = exchange_request(x)->path;
    peer->stats.ends++;
    peer->stats.copied_bytes += exchange_body_copied_bytes(x);
    peer->stats.body_bytes += exchange_body_bytes(x);
    if (err) {
        peer->stats.last_end_http = err_http(err);
        if (!exchange_responded(x))
            exchange_reply(x, err_http(err), NULL, 0, SLICE("bad body"));
        else
            exchange_abort(x);
    } else if (slice_is(path, "/stream")) {
        struct http_header trailer = HTTP_HEADER("X-End", SLICE("yes"));
        if (!exchange_responded(x))
            exchange_respond(x, 200, NULL, 0, HTTP_LENGTH_UNKNOWN);
        exchange_end(x, &trailer, 1);
    } else if (slice_is(path, "/trailers")) {
        exchange_reply(x, 200, NULL, 0, http_header_get(exchange_trailers(x), "x-t"));
    } else if (!slice_is(path, "/hold")) {
        exchange_reply(
            x, 200, NULL, 0,
            arena_copy(exchange_arena(x), (struct slice){ peer->body, peer->body_bytes }));
    }
}

static inline void peer_closed(struct exchange *x, const struct err *err, void *data)
{
    struct peer *peer = data;
    if (err)
        peer->stats.closed_badly++;
    else
        peer->stats.closed_well++;
    if (peer->held == x)
        peer->held = NULL;
}

static const struct exchange_handler peer_handler = {
    .on_body_space = peer_space,
    .on_body = peer_body,
    .on_body_end = peer_body_end,
    .on_closed = peer_closed,
};

static inline void peer_take_body(struct peer *peer, struct exchange *x)
{
    struct err err;
    peer->body_bytes = 0;
    if (exchange_body_start(x, peer->body_max, &err) < 0)
        exchange_reply(x, err_http(&err), NULL, 0, SLICE("large"));
}

static inline void peer_head(struct exchange *x, void *data)
{
    struct peer *peer = data;
    const struct http_request *request = exchange_request(x);
    struct slice path = request->path;
    peer->stats.heads++;
    exchange_set_handler(x, &peer_handler, peer);
    if (slice_is(path, "/hello"))
        exchange_reply(x, 200, NULL, 0, SLICE("hello"));
    else if (slice_is(path, "/empty"))
        exchange_reply(x, 204, NULL, 0, SLICE(""));
    else if (slice_is(path, "/get-only"))
        exchange_reply_method(x, "GET", NULL, 0, SLICE("no"));
    else if (slice_is(path, "/deny"))
        exchange_reply(x, 451, NULL, 0, SLICE("denied"));
    else if (slice_is(path, "/hold") && request->method != HTTP_POST)
        peer->held = x;
    else if (slice_is(path, "/wait"))
        peer->held = x; /* takes its body when the test says so */
    else if (slice_is(path, "/short")) {
        exchange_respond(x, 200, NULL, 0, 10);
        exchange_write(x, &(struct iovec){ (void *)"short", 5 }, 1, peer_written, peer);
        exchange_end(x, NULL, 0);
    } else if (slice_is(path, "/hint")) {
        exchange_inform(x, 103, &HTTP_HEADER("Link", SLICE("<a>")), 1);
        exchange_reply(x, 200, NULL, 0, SLICE("a"));
    } else {
        if (slice_is(path, "/hold"))
            peer->held = x;
        peer_take_body(peer, x);
    }
}

static inline struct peer *peer_new(const struct http_server_limits *limits)
{
    struct peer *peer = mem_zalloc(sizeof *peer);
    struct http_server_limits usual = http_server_limits_default();
    peer->loop = loop_new();
    peer->body_max = PEER_BODY_MAX;
    peer->server = http_server_new(peer->loop, limits ? limits : &usual,
                                   &(struct http_server_events){ .on_head = peer_head }, peer);
    return peer;
}

static inline void peer_free(struct peer *peer)
{
    http_server_free(peer->server);
    loop_free(peer->loop);
    assert_int_equal(peer->stats.heads, peer->stats.closed_well + peer->stats.closed_badly);
    free(peer);
}

/* A connection to it; the end returned is ours, non-blocking. */
static inline int peer_connect(struct peer *peer)
{
    int fds[2];
    assert_int_equal(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds));
    http_server_serve(peer->server, stream_open(peer->loop, fds[1], NULL));
    return fds[0];
}

struct peer_answer {
    char *bytes;
    size_t size, room;
    bool closed;
};

/* It, a connection to it, and what came there. */
static inline void peer_done(struct peer *peer, int fd, struct peer_answer *answer)
{
    free(answer->bytes);
    close(fd);
    peer_free(peer);
}

static inline bool peer_read(int fd, struct peer_answer *answer)
{
    if (answer->room - answer->size < 65536) {
        answer->room = answer->room * 2 + 131072;
        answer->bytes = mem_resize(answer->bytes, answer->room, 1);
    }
    ssize_t n = answer->closed
                    ? -1
                    : read(fd, answer->bytes + answer->size, answer->room - answer->size - 1);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        answer->closed = true;
    if (n > 0)
        answer->size += (size_t)n;
    answer->bytes[answer->size] = 0;
    return n > 0;
}

/* Until nothing moves any more. */
static inline void peer_run(struct peer *peer, int fd, struct peer_answer *answer)
{
    for (int quiet = 0; quiet < 6; quiet++) {
        loop_run_once(peer->loop, false);
        if (fd >= 0 && peer_read(fd, answer))
            quiet = 0;
    }
}

/* Waiting as well, until `done` or the connection's end: for timeouts. */
static inline void peer_run_until_closed(struct peer *peer, int fd, struct peer_answer *answer)
{
    while (!answer->closed) {
        loop_run_once(peer->loop, true);
        while (peer_read(fd, answer))
            ;
    }
}

static inline void peer_send(struct peer *peer, int fd, struct slice bytes, size_t step,
                             struct peer_answer *answer)
{
    for (size_t at = 0; at < bytes.size;) {
        size_t size = bytes.size - at < step ? bytes.size - at : step;
        ssize_t n = send(fd, bytes.data + at, size, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            break; /* closed on us */
        at += n > 0 ? (size_t)n : 0;
        loop_run_once(peer->loop, false);
        peer_read(fd, answer);
    }
    peer_run(peer, fd, answer);
}

/* Dates out, so that answers can be compared. */
static inline void peer_undate(struct peer_answer *answer)
{
    char *date, *end;
    while ((date = strstr(answer->bytes, "Date: ")) && (end = strstr(date, "\r\n")))
        memmove(date, end + 2, strlen(end + 2) + 1);
    answer->size = strlen(answer->bytes);
}
