/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.h -- HTTP requests to others from a loop: agent to control, gateway to upstreams and to
 * other PoPs, tools, tests.
 *
 * Ownership: the caller owns the client, the client its connections. A call is the client's, valid
 * until on_done has returned. Loop thread only.
 *
 * Connections are kept for reuse, by where they lead. The one that was used last is taken first;
 * before it is, the kernel is asked whether it was closed, or has bytes that nobody asked for
 * (either way it is not used). It is kept for `idle_ms`, and for a second less than the server's
 * `Keep-Alive: timeout` says.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/slice.h"
#include "io/address.h"
#include "proto/http.h"

struct http_call;
struct http_client;
struct loop;
struct stream;
struct work_pool;

struct http_client_config {
    /* 0: 5000, 60000, 4000. head: request out to head in; below 0: the call's timeout alone. */
    int64_t connect_ms, head_ms, idle_ms;
    uint32_t kept_max;       /* idle connections; 0: 8 */
    uint64_t head_bytes_max; /* of an answer; 0: 65536 */
    uint32_t read_bytes;     /* of one read; 0: 16384 */
    struct work_pool *pool;  /* for names that must be looked up; NULL: addresses only */
    /* Where it dials from, port 0: peers of the same kind alone. ADDRESS_NONE: as the kernel finds.
     */
    struct address source;
    const struct http_dialer *dialer; /* for calls with a `scope`; NULL: there are none */
    /* So long, beyond connect_ms, a call may wait for a dialer that has no socket yet; 0: not. */
    int64_t dialer_ms;
    /* An idle connection to there was ended, or broken, by the other side; may make calls. NULL:
     * nobody wants to know. */
    void (*on_left)(const struct address *address, void *data);
    void *data;
};

/* Makes a connection where connect() alone does not reach: inside another network namespace. As
 * stream_connect(): on_connected comes once, not from inside, with ERR_CANCELED after cancel(). */
struct http_dialer {
    void *(*dial)(const struct http_dialer *self, struct loop *loop, uint64_t scope,
                  const struct address *address,
                  void (*on_connected)(struct stream *stream, const struct err *err, void *data),
                  void *data);
    void (*cancel)(void *dialing);
    bool (*waits)(void *dialing); /* there is no socket yet: nobody is slow to accept */
    /* So many ended, or were taken back, before there was a socket to connect: that says nothing of
     * who listens there. Not counted: there is nobody any more. */
    unsigned missed;
};

struct http_call_events {
    /* The answer's head; of 1xx only the 101 that was asked for, unless `informed`. May be NULL.
     * Lives until on_done. */
    void (*on_head)(struct http_call *call, const struct http_response *response, void *data);
    void (*on_body)(struct http_call *call, struct slice bytes, void *data); /* now or never */
    /* Exactly once, the last; err NULL when the answer came whole (whatever its status). */
    void (*on_done)(struct http_call *call, const struct err *err, void *data);
};

struct http_request_spec {
    const struct address *address; /* or NULL, and */
    struct slice host;             /* a name or address, */
    uint16_t port;                 /* and port */
    struct slice authority;        /* the Host line; empty: made from the above */
    const char *method;
    struct slice target;               /* "/path?query", escaped */
    const struct http_header *headers; /* copied */
    size_t header_count;
    struct slice body; /* borrowed until on_done */
    /* Or written piece by piece: with http_call_write() and http_call_end(). */
    bool streamed;
    uint64_t content_length; /* of a streamed body; HTTP_LENGTH_UNKNOWN: chunked */
    int64_t timeout_ms;      /* for all of it; 0: none */
    int64_t silence_ms;      /* without a byte of the answer's body; 0: none. For watches. */
    bool fresh;              /* over a new connection, whatever is kept */
    bool once;               /* not sent again by itself over a new connection */
    bool last;               /* the connection ends with it, and the server is told so */
    bool informed;           /* on_head comes for each 1xx as well: http_informs() */
    /* `headers` ask for another protocol. Answered 101, the connection is the call's: what is
     * written goes out as it is, what comes is on_body's, http_call_end() ends our side alone, and
     * on_done comes when the other one has ended. Any other answer is as usual. */
    bool upgrade;
    uint64_t scope; /* which dialer's address it is; 0: this machine's */
};

/* Is it one of those that come before an answer? */
static inline bool http_informs(const struct http_response *response)
{
    return response->status < 200 && response->status != 101;
}

/* "http://host[:port]/base" or "unix:PATH" into spec's address or host, port, authority; returns
 * the path in *ret_base ("" or "/x" without a slash at the end). The slices point into url. */
struct http_url {
    struct address address; /* kind ADDRESS_NONE: look host up */
    struct slice host, authority, base;
    uint16_t port;
};
[[nodiscard]] int http_url_parse(struct slice url, struct http_url *ret, struct err *err);

/* Where a process dials from, when the environment says so: a place of a network in a box stands
 * where its address does. Else, and where it is no address, ADDRESS_NONE. */
#define HTTP_SOURCE_ENVIRONMENT "PERIGEE_SOURCE"
struct address http_source_of_environment(void);

struct http_client *http_client_new(struct loop *loop, const struct http_client_config *config);
/* Calls under way end with ERR_CANCELED before it returns. NULL is allowed. */
void http_client_free(struct http_client *client);

struct http_client_stats {
    uint64_t calls, connects, reused;
    uint64_t stale; /* kept connections that were found closed, or with bytes nobody asked for */
};
const struct http_client_stats *http_client_stats(const struct http_client *client);

struct http_call *http_client_call(struct http_client *client, const struct http_request_spec *spec,
                                   const struct http_call_events *events, void *data);
/* Did it go over a connection that was kept? Its end without a byte of an answer then says only
 * that the other side has given that connection up. */
bool http_call_reused(const struct http_call *call);
/* When its head was given to the kernel (loop_now_ns()); 0: it was not. */
int64_t http_call_sent_ns(const struct http_call *call);
void http_call_cancel(struct http_call *call); /* on_done(ERR_CANCELED) follows, not from inside */

/* Streamed bodies. Bytes stay until on_written (may be NULL: until on_done). May begin at once. */
typedef void (*http_call_written_cb)(struct http_call *call, const struct err *err, void *data);
void http_call_write(struct http_call *call, const struct iovec *iovecs, size_t count,
                     http_call_written_cb on_written, void *data);
/* How much of what was written the other end's kernel has acknowledged; grows. Asks the kernel: not
 * for the hot path. */
uint64_t http_call_delivered(const struct http_call *call);
void http_call_end(struct http_call *call);
/* The same, with trailers, where the body is chunked. Copied. */
void http_call_end_with(struct http_call *call, const struct http_header *trailers, size_t count);
/* Of the answer, from its end: inside on_done, where err is NULL. */
const struct http_headers *http_call_trailers(const struct http_call *call);
/* Did a byte of an answer come, be it of a 1xx? */
bool http_call_answered(const struct http_call *call);

/* Back-pressure on the answer's body. */
void http_call_pause(struct http_call *call);
void http_call_resume(struct http_call *call);
