/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange.h -- one request and its answer, whatever the version that carries them.
 *
 *   on_head (server) -> exchange_set_handler -> exchange_body_start -> on_body_space, on_body ...
 *                    -> on_body_end -> exchange_respond -> exchange_write ... -> exchange_end
 *                    -> on_closed
 *
 * The answer may begin at any time, before the body's end as well. Ownership: the codec owns the
 * exchange; it is valid from on_head until on_closed has returned, which comes exactly once, also
 * after the client went away. Its arena goes with it. Loop thread only. No callback comes from
 * inside a call made here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/slice.h"
#include "io/address.h"
#include "proto/http.h"

struct arena;
struct exchange;
struct loop;

struct exchange_handler {
    /* Where the body's next bytes go, asked right before they are read: an identity body in clear
     * is read from the socket straight to it. Less than `size` may come. Size 0: not now, until
     * exchange_body_resume(). */
    void (*on_body_space)(struct exchange *x, struct iovec *ret_space, void *data);
    void (*on_body)(struct exchange *x, size_t bytes, void *data); /* they stand there now */
    /* The body is whole (err NULL), or will not be: too large (413), too slow (408), malformed
     * (400). Then the handler answers err, unless it has answered already; the connection ends
     * after. */
    void (*on_body_end)(struct exchange *x, const struct err *err, void *data);
    /* The last call. err NULL: the answer has gone out whole. Else it has not (ERR_CANCELED: the
     * client went away, or the server was closed): whatever works for it is to be stopped. */
    void (*on_closed)(struct exchange *x, const struct err *err, void *data);
};

/* Must be called inside on_head, unless the exchange is answered there by exchange_reply(). A
 * handler that takes no body may leave the three on_body ones NULL. `handler` is static. */
void exchange_set_handler(struct exchange *x, const struct exchange_handler *handler, void *data);

const struct http_request *exchange_request(const struct exchange *x);
struct arena *exchange_arena(struct exchange *x); /* until on_closed */
struct loop *exchange_loop(struct exchange *x);
const struct address *exchange_peer(const struct exchange *x);
/* Who asks: the peer, or whom a trusted peer names (PROXY, Forwarded, X-Forwarded-For: trust.h).
 * ADDRESS_NONE: it says that it does not know, or does not tell. */
const struct address *exchange_client(const struct exchange *x);
/* May this request's own words on who is behind it be passed on (Forwarded, X-Forwarded-*)? */
bool exchange_trusted(const struct exchange *x);
/* Round trip in microseconds: as a trusted peer says, else as the kernel measured it on this
 * connection (behind a proxy that does not say: to the proxy); 0: not known. */
uint32_t exchange_rtt_us(struct exchange *x);
bool exchange_rtt_told(const struct exchange *x);      /* a trusted peer said it */
void *exchange_data(const struct exchange *x);         /* what set_handler was given */
int64_t exchange_started_ns(const struct exchange *x); /* loop_now_ns() at the head's first byte */

/* ---- the body ----------------------------------------------------------------------------- */
/* From here the body is read, and 100 Continue is sent where it is waited for. Nothing of the body
 * is read before. ERR_TOO_LARGE when Content-Length is above the limit: nothing is read, the caller
 * answers. A chunked body that grows above it ends in on_body_end with that error. Also right for a
 * request without a body: on_body_end comes. */
[[nodiscard]] int exchange_body_start(struct exchange *x, uint64_t bytes_max, struct err *err);
void exchange_body_resume(struct exchange *x);          /* there is space again */
uint64_t exchange_body_bytes(const struct exchange *x); /* delivered so far */
/* How many of them were copied from a buffer instead of being read to their place. */
uint64_t exchange_body_copied_bytes(const struct exchange *x);
const struct http_headers *exchange_trailers(const struct exchange *x); /* at on_body_end */

/* ---- the answer --------------------------------------------------------------------------- */
/* The head: kept back until the first write or end, so that both go in one system call; at the
 * latest after this pass of the loop. Headers are copied; Content-Length, Transfer-Encoding,
 * Connection and Date are the codec's. content_length: bytes that will be written, or
 * HTTP_LENGTH_UNKNOWN. With HEAD, 204 and 304 nothing of a body is sent, whatever is written. */
void exchange_respond(struct exchange *x, int status, const struct http_header *headers,
                      size_t count, uint64_t content_length);

typedef void (*exchange_written_cb)(struct exchange *x, const struct err *err, void *data);
/* By reference: the bytes stay as they are until on_written (NULL: not wanted; then they live in
 * the arena or longer), which comes before on_closed, with ERR_CANCELED if they did not go out. */
void exchange_write(struct exchange *x, const struct iovec *iovecs, size_t count,
                    exchange_written_cb on_written, void *data);
/* The same of bytes that stand for this call alone: the kernel is given them at once, and what it
 * does not take is copied. True: it has all of them, and on_written is not called. */
bool exchange_put(struct exchange *x, struct slice bytes, exchange_written_cb on_written,
                  void *data);
size_t exchange_write_bytes(const struct exchange *x); /* waiting: above a bound, hold back */
/* Of the connection's answers, this one's head included: what the client's kernel has. Asks ours:
 * not for the hot path. */
uint64_t exchange_taken_bytes(const struct exchange *x);
/* The answer is whole. Trailers are sent where the version and the client (TE: trailers) take them;
 * they are copied. Written less than content_length: the connection is cut. */
void exchange_end(struct exchange *x, const struct http_header *trailers, size_t count);

/* Head, body and end at once. The body lives in the arena or longer, until on_closed. */
void exchange_reply(struct exchange *x, int status, const struct http_header *headers, size_t count,
                    struct slice body);
/* 405 with Allow: "GET, HEAD, POST"; the body is the caller's. */
void exchange_reply_method(struct exchange *x, const char *allow, const struct http_header *headers,
                           size_t count, struct slice body);
void exchange_inform(struct exchange *x, int status, const struct http_header *headers,
                     size_t count); /* 103 and the like; dropped for HTTP/1.0 */
/* 101, in answer to a request without a body that asks for another protocol (http_request.upgrade);
 * Connection is the caller's to name among the headers. From here bytes go both ways as they are:
 * what the client sends comes as a body without an end of its own (on_body_space, on_body;
 * on_body_end once it sends no more), what is written goes out unframed, and exchange_end() ends
 * the connection once all of that is out. How long it may be quiet is the caller's to bound. */
void exchange_upgrade(struct exchange *x, const struct http_header *headers, size_t count);
/* Cuts the connection (the stream in HTTP/2) without an end: what was sent is not whole. */
void exchange_abort(struct exchange *x);

bool exchange_responded(const struct exchange *x);        /* exchange_respond() was called */
int exchange_status(const struct exchange *x);            /* of the answer; 0 before it */
uint64_t exchange_answer_bytes(const struct exchange *x); /* body bytes given to write so far */
/* This answer is the connection's last. Before exchange_respond(). */
void exchange_close_after(struct exchange *x);
