/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.h -- HTTP connections of one loop: from listeners' descriptors to exchanges.
 *
 * Ownership: the caller owns the server; the server owns connections and exchanges. Descriptors
 * stay the caller's. Loop thread only; N loops have N servers. What to answer is the embedder's:
 * on_head.
 */
#pragma once

#include <stdint.h>

#include "http/exchange.h"

struct http_server;
struct stream;

/* Every limit is a row: name, default, what it bounds. 0 is "no limit" where that is said. */
/* X(name, default, text) */
#define HTTP_SERVER_LIMITS(X)                                                                      \
    X(target_bytes_max, 8192, "Longest request target; above it 414.")                             \
    X(head_bytes_max, 32768, "All header lines of a request; above it 431.")                       \
    X(headers_max, 128, "Header lines of a request; above it 431.")                                \
    X(read_bytes, 16384, "One read where no place is known yet (heads, what came with them).")     \
    X(connections_max, 16384, "Open connections; above it the backlog keeps what comes.")          \
    X(requests_max, 0, "Requests of one connection; 0: no limit.")                                 \
    X(idle_ms, 75000, "Between two requests; then the connection is closed.")                      \
    X(head_ms, 15000, "From a head's first byte to its last; then 408.")                           \
    X(body_ms, 30000, "Without a byte of a body that is being read; then 408.")                    \
    X(write_ms, 60000, "Without the client taking a byte of its answer; then it is cut.")          \
    X(gone_ms, 500, "After the client ended its side, for an answer not begun; then it is gone.")  \
    X(linger_ms, 2000, "Waiting for a client to stop sending what is not wanted.")                 \
    X(linger_bytes_max, 1048576, "Read and dropped while waiting for that.")                       \
    X(drop_bytes_max, 65536, "An unread body up to this is dropped to keep the connection.")

struct http_server_limits {
#define HTTP_SERVER_LIMIT(name, value, text) uint64_t name;
    HTTP_SERVER_LIMITS(HTTP_SERVER_LIMIT)
#undef HTTP_SERVER_LIMIT
};
struct http_server_limits http_server_limits_default(void);

/* What an answer of HTTP itself (400, 408, 414, 431, 501, 505 ...) looks like. All in the arena. */
struct http_refusal {
    struct http_header *headers;
    size_t count;
    struct slice body;
};

struct http_server_events {
    /* A head is whole. See exchange.h. */
    void (*on_head)(struct exchange *x, void *data);
    /* A head is not HTTP, or above a limit. `request` has what was known (often nothing but zeros).
     * NULL: plain text. */
    void (*on_refusal)(struct arena *arena, const struct http_request *request,
                       const struct err *err, struct http_refusal *ret, void *data);
};

struct http_server_stats {
    uint64_t accepted, open, requests, refused; /* refused: by HTTP itself */
    uint64_t bytes_in, bytes_out;               /* of the wire */
    uint64_t body_bytes, body_copied_bytes;
    uint64_t timeouts;
};

struct http_server *http_server_new(struct loop *loop, const struct http_server_limits *limits,
                                    const struct http_server_events *events, void *data);
/* Connections are cut, exchanges get on_closed(ERR_CANCELED) before it returns. NULL is allowed.
 * Not from inside a handler's callback. */
void http_server_free(struct http_server *server);

/* The descriptor listens already, and stays the caller's; as many as wanted. */
void http_server_listen(struct http_server *server, int fd);
void http_server_serve(struct http_server *server, struct stream *stream); /* takes it over */

/* No more accepting; every answer is its connection's last (Connection: close). Idle connections
 * are closed at once, or with `idle_ms` after so long without a request: a client that asks without
 * pause then never meets a closed connection. on_drained comes once none is left; never from inside
 * the call. */
void http_server_drain(struct http_server *server, uint32_t idle_ms, void (*on_drained)(void *data),
                       void *data);

const struct http_server_stats *http_server_stats(const struct http_server *server);
