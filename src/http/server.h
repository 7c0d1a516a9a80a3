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

struct crowd;
struct http_server;
struct stream;
struct trust;

/* Every limit is a row: name (its unit is its end), default, least, most, what it bounds. Most can
 * be "no limit": that is their 0. docs/limits.md is made from these. */
/* X(name, value, min, max, text) */
#define HTTP_SERVER_LIMITS(X)                                                                      \
    X(target_bytes_max, 8192, 64, 1048576, "Longest request target; above it 414.")                \
    X(head_bytes_max, 32768, 256, 1048576, "All header lines of a request; above it 431.")         \
    X(headers_max, 128, 8, 10000, "Header lines of a request; above it 431.")                      \
    X(read_bytes, 16384, 1024, 1048576,                                                            \
      "One read where no place is known yet (heads, what came with them).")                        \
    X(connections_max, 16384, 1, 1000000,                                                          \
      "Open connections. At it the one that is idle longest makes room for a new one; when none "  \
      "is idle, the new one is answered 503 and closed.")                                          \
    X(address_connections_max, 1024, 0, 1000000,                                                   \
      "Open connections of one address (IPv6: of one /64); above it 429, and closed. 0: no "       \
      "limit.")                                                                                    \
    X(address_loopback, 0, 0, 1,                                                                   \
      "1: this machine's own addresses are counted so as well, though a proxy may stand there.")   \
    X(requests_max, 0, 0, 1000000000, "Requests of one connection; 0: no limit.")                  \
    X(idle_ms, 75000, 1, 86400000, "Between two requests; then the connection is closed.")         \
    X(head_ms, 15000, 1, 86400000, "From a head's first byte to its last; then 408.")              \
    X(body_ms, 30000, 1, 86400000,                                                                 \
      "A body that is being read brings so many ms of body_rate_min in each such span, or is "     \
      "whole; else 408.")                                                                          \
    X(body_rate_min, 512, 0, 1073741824, "Bytes a second of a body; 0: any byte will do.")         \
    X(write_ms, 30000, 1, 86400000,                                                                \
      "A client takes so many ms of write_rate_min of its answer in each such span; else it is "   \
      "cut, after two spans at the latest.")                                                       \
    X(write_rate_min, 512, 0, 1073741824, "Bytes a second of an answer; 0: any byte will do.")     \
    X(gone_ms, 500, 1, 86400000,                                                                   \
      "After the client ended its side, for an answer not begun; then it is gone.")                \
    X(linger_ms, 2000, 1, 86400000, "Waiting for a client to stop sending what is not wanted.")    \
    X(linger_bytes_max, 1048576, 0, 1073741824, "Read and dropped while waiting for that.")        \
    X(drop_bytes_max, 65536, 0, 1073741824,                                                        \
      "An unread body up to this is dropped to keep the connection.")

struct http_server_limits {
#define HTTP_SERVER_LIMIT(name, value, min, max, text) uint64_t name;
    HTTP_SERVER_LIMITS(HTTP_SERVER_LIMIT)
#undef HTTP_SERVER_LIMIT
};
struct http_server_limits http_server_limits_default(void);
/* Changes those that "NAME=NUMBER,NAME=NUMBER" names; on failure some may have been. */
[[nodiscard]] int http_server_limits_parse(struct slice text, struct http_server_limits *limits,
                                           struct err *err);
/* Rows of a page of the documentation: | name | default | what it bounds |. */
struct slice http_server_limits_docs(struct arena *arena);

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

/* What a client was too slow at. */
#define HTTP_SERVER_TIMEOUTS(X) X(idle) X(head) X(body) X(answer) X(linger) X(gone)

struct http_server_stats {
    uint64_t accepted, open, requests, refused; /* refused: by HTTP itself */
    uint64_t full, crowded;       /* connections sent away: above connections_max, of one address */
    uint64_t evicted;             /* idle ones closed for a new one */
    uint64_t bytes_in, bytes_out; /* of the wire */
    uint64_t body_bytes, body_copied_bytes;
    struct http_server_timeouts {
#define HTTP_SERVER_TIMEOUT(name) uint64_t name;
        HTTP_SERVER_TIMEOUTS(HTTP_SERVER_TIMEOUT)
#undef HTTP_SERVER_TIMEOUT
    } timeouts;
};

struct http_server *http_server_new(struct loop *loop, const struct http_server_limits *limits,
                                    const struct http_server_events *events, void *data);
/* Connections of an address are counted over all servers that share a crowd; NULL: not at all. It
 * is the caller's, and outlives the server. Before http_server_listen(). */
void http_server_set_crowd(struct http_server *server, struct crowd *crowd);
/* Whose word is taken on who is behind them; NULL: nobody's. As with the crowd. Their connections
 * count as those of whom they name. */
void http_server_set_trust(struct http_server *server, const struct trust *trust);
/* Connections are cut, exchanges get on_closed(ERR_CANCELED) before it returns. NULL is allowed.
 * Not from inside a handler's callback. */
void http_server_free(struct http_server *server);

/* The descriptor listens already, and stays the caller's; as many as wanted. */
void http_server_listen(struct http_server *server, int fd);
/* Whoever can connect there is trusted: a Unix socket in the home. */
void http_server_listen_trusted(struct http_server *server, int fd);
void http_server_serve(struct http_server *server, struct stream *stream); /* takes it over */

/* No more accepting; every answer is its connection's last (Connection: close). Idle connections
 * are closed at once, or with `idle_ms` after so long without a request: a client that asks without
 * pause then never meets a closed connection. on_drained comes once none is left; never from inside
 * the call. */
void http_server_drain(struct http_server *server, uint32_t idle_ms, void (*on_drained)(void *data),
                       void *data);

const struct http_server_stats *http_server_stats(const struct http_server *server);
