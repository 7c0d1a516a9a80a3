/* SPDX-License-Identifier: Apache-2.0 */
/*
 * h1.h -- one HTTP/1.1 connection of a server. For http/ alone.
 *
 *   IDLE -> (PREFACE -> IDLE)                   first of all, what a proxy says of its client
 *   IDLE -> HEAD -> EXCHANGE -> IDLE ...           keep-alive
 *                      |  `---> DROP -> IDLE       a short body nobody wanted
 *     any of them -> LINGER -> CUT                 the last answer is out, the client still sends
 *     any of them -> CUT                           stream closed; freed once its writes have
 * reported
 *
 * The server owns connections. One exchange at a time: what is pipelined behind it waits in the
 * stash, and above one read in the kernel. All callbacks run inside a "frame" (h1_enter, h1_leave),
 * and what they ask for is settled when the outermost frame ends, so that no handler's call calls
 * back into the handler. Loop thread only.
 */
#pragma once

#include "base/sm.h"
#include "http/codec.h"
#include "io/socket.h"
#include "proto/http1.h"

struct http_server;

#define H1_STATES(X)                                                                               \
    X(H1_IDLE, SM_TO(H1_PREFACE) | SM_TO(H1_HEAD) | SM_TO(H1_CUT))                                 \
    X(H1_PREFACE, SM_TO(H1_IDLE) | SM_TO(H1_LINGER) | SM_TO(H1_CUT))                               \
    X(H1_HEAD, SM_TO(H1_EXCHANGE) | SM_TO(H1_LINGER) | SM_TO(H1_CUT))                              \
    X(H1_EXCHANGE, SM_TO(H1_IDLE) | SM_TO(H1_DROP) | SM_TO(H1_LINGER) | SM_TO(H1_CUT))             \
    X(H1_DROP, SM_TO(H1_IDLE) | SM_TO(H1_LINGER) | SM_TO(H1_CUT))                                  \
    X(H1_LINGER, SM_TO(H1_CUT))                                                                    \
    X(H1_CUT, 0)
SM_DECLARE(h1_state, H1_STATES)

/* What a connection waits for, each with a timeout of its own (http_server_limits). */
enum h1_wait { WAIT_IDLE, WAIT_HEAD, WAIT_BODY, WAIT_WRITE, WAIT_LINGER, WAIT_GONE, WAIT_NONE };

struct h1_write {
    struct stream_write write;
    struct h1 *h1;
    struct list link; /* of h1->writes, until it has reported */
    exchange_written_cb on_written;
    void *data;
    bool reported;
    char prefix[HTTP1_CHUNK_PREFIX_BYTES];
};

/* The exchange, and the way back. */
struct h1_exchange {
    struct exchange x;
    struct h1 *h1;
};

struct h1 {
    struct http_server *server; /* NULL once the server is gone */
    struct stream *stream;
    struct list link; /* of the server's connections */
    enum h1_state state;

    /* timeouts */
    struct list wait_link;
    enum h1_wait wait;
    int64_t wait_deadline_ms;
    uint64_t wait_bytes; /* in_bytes, or taken by the peer, when the wait began; or unknown */

    /* in */
    struct arena *arena; /* of the request; the exchange's once there is one */
    struct http1_parser *parser;
    struct http1_head head;
    struct http1_chunks chunks;
    uint64_t body_left; /* HTTP1_BODY_LENGTH */
    bool chunks_ended;
    bool direct; /* the read under way goes to the handler's space */
    bool read_ended;
    char *stash;
    size_t stash_at, stash_bytes;
    uint64_t in_bytes; /* read from the stream, ever */
    uint64_t linger_bytes, request_count;
    int64_t started_ns;

    /* out */
    struct exchange *x;
    struct slice head_out; /* not yet written */
    struct list writes;    /* of struct h1_write: under way */
    struct h1_write first; /* most answers need but one */
    uint64_t out_bytes;    /* given to the stream, ever */
    unsigned writes_open;  /* not yet given back by the stream; what a CUT one waits for */
    bool first_used, chunked_out, last_answer;
    bool tunnel; /* another protocol's bytes go both ways */

    /* who is behind it */
    bool fresh;    /* nothing has come yet */
    bool trusted;  /* the peer's word on it is taken */
    bool counted;  /* in the server's crowd, as the client that is known */
    bool rtt_told; /* by a trusted peer */
    uint32_t rtt_us;
    int64_t rtt_asked_ms;       /* 0: never */
    struct address *client;     /* as a PROXY header said; NULL: the peer itself */
    struct h1_preface *preface; /* H1_PREFACE alone */

    unsigned frames;
    bool poked;
    struct loop_task settle;
};

struct h1 *h1_new(struct http_server *server, struct stream *stream, bool trusted);
void h1_drain(struct h1 *h1);  /* idle: cut now, or soon; else after its answer */
void h1_expire(struct h1 *h1); /* its wait is over */
/* Bytes of answers that the client's kernel has: ours may hold megabytes of a client that reads
 * slowly, and say for minutes that it takes no more. */
uint64_t h1_taken(const struct h1 *h1);
/* Ends it now, with ERR_CANCELED for its exchange. Not from inside a handler. */
void h1_cut(struct h1 *h1, const struct err *err);

/* h1_client.c: who is behind it */
bool h1_preface_absent(const char *data, size_t size);
/* As a feed of H1_PREFACE. *ret_back: bytes taken earlier that are a request's after all. */
size_t h1_preface_feed(struct h1 *h1, const char *data, size_t size, struct slice *ret_back);
/* ADDRESS_NONE: the peer does not tell. It lives in the request's arena, or as the connection. */
[[nodiscard]] int h1_client_find(struct h1 *h1, const struct http_request *request,
                                 const struct address **ret, struct err *err);
bool h1_forwards(const struct h1 *h1); /* forwarding headers are believed */
uint32_t h1_rtt_us(struct h1 *h1);     /* 0: not known */
void h1_client_left(struct h1 *h1);
void h1_client_free(struct h1 *h1);

/* between h1.c and h1_answer.c */
struct arena *h1_arena(struct h1 *h1); /* of the request to come; made where there is none */
void h1_enter(struct h1 *h1);
void h1_leave(struct h1 *h1);
void h1_poke(struct h1 *h1); /* settle when the frames are left, or in this pass of the loop */
void h1_head_flush(struct h1 *h1);
void h1_refuse(struct h1 *h1, const struct http_request *request, const struct err *err);
void h1_writes_cancel(struct h1 *h1, const struct err *err);
bool h1_body_ended(const struct h1 *h1); /* nothing of the request's body is still to come */
extern const struct exchange_codec h1_codec;
