/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client_own.h -- the inside of the client: calls, and wires (connections) they run on. For http/
 * alone. A wire has one call, or is idle and kept; a call has at most one wire. Loop thread only.
 */
#pragma once

#include "base/arena.h"
#include "base/list.h"
#include "http/client.h"
#include "io/socket.h"
#include "io/timer.h"
#include "io/work.h"
#include "proto/http1.h"

enum { CLIENT_READ_BYTES = 16384, CALL_ADDRESSES_MAX = 8, CLIENT_BUCKETS = 64 };

struct http_client {
    struct loop *loop;
    struct http_client_config config;
    struct list calls, wires;             /* wires: all */
    struct list kept;                     /* of struct wire: idle, in no order of their ends */
    struct list by_place[CLIENT_BUCKETS]; /* the same by where they lead, newest first */
    unsigned kept_count;
    struct http_client_stats stats;
    struct timer *kept_timer;
    struct arena *memory; /* of scratch: a secret one, as what is answered may be secret */
    char *scratch;
};

struct wire {
    struct http_client *client; /* NULL once closed */
    struct stream *stream;
    struct list link, kept_link, place_link;
    uint64_t scope;
    struct address address; /* that was dialed */
    int64_t kept_until_ms;
    struct http_call *call; /* NULL: idle, or closed */
    char *stash;            /* read while its call was paused */
    size_t stash_at, stash_bytes, stash_room;
    unsigned writes_open;
    bool closed, used; /* used: an answer came over it before */
};

struct call_write {
    struct stream_write write;
    struct list link;       /* of call->writes, then of call->sent */
    struct wire *wire;      /* once given to a stream */
    struct http_call *call; /* NULL: the call is over, nobody wants to know */
    http_call_written_cb on_written;
    void *data;
    char prefix[HTTP1_CHUNK_PREFIX_BYTES];
    size_t count;
    struct iovec iovecs[];
};

struct call_resolve; /* outlives a call that is canceled meanwhile */

enum call_phase { CALL_CONNECTING, CALL_HEAD, CALL_BODY, CALL_OVER };

struct http_call {
    struct http_client *client;
    struct list link;
    struct arena *arena;
    struct http_call_events events;
    void *data;
    enum call_phase phase;

    const char *method;
    struct slice host, head_out, body_out;
    uint16_t port;
    struct address addresses[CALL_ADDRESSES_MAX];
    unsigned address_count, address_at;
    uint64_t scope;
    void *dialing; /* by the client's dialer */
    int64_t dialing_until_ms;
    struct call_resolve *resolve;
    struct stream_connect *connect;
    struct wire *wire;
    bool retried, fresh, reused, once, last, informed, upgrade, tunnel;
    int64_t sent_ns;      /* 0: its head has not gone out yet */
    uint64_t given_bytes; /* to the stream, but for a head that the kernel took at once */

    struct list writes; /* of struct call_write: not yet sent */
    struct list sent;   /* with the stream */
    bool streamed, chunked, ended;

    struct http1_parser *parser;
    struct http1_head head;
    struct http1_chunks chunks;
    struct http_response response;
    uint64_t body_left;
    unsigned inform_count; /* answers of 1xx */
    bool paused, bytes_seen, answered;

    struct timer *timer;
    int64_t deadline_ms, phase_deadline_ms; /* 0: none */
    int64_t silence_ms;
    struct loop_task task; /* cancels and resumes from outside of a callback */
    bool canceled;
};

/* client.c */
void call_start(struct http_call *call);
void call_over(struct http_call *call, const struct err *err);
void call_phase_set(struct http_call *call, enum call_phase phase, int64_t ms);
void wire_close(struct wire *wire);
void wire_keep(struct wire *wire, int64_t ms); /* for so long */
/* client_wire.c */
struct wire *wire_new(struct http_client *client, struct stream *stream);
void call_send(struct http_call *call); /* over its wire, from the beginning */
void call_writes_cancel(struct http_call *call);
void wire_feed_stash(struct wire *wire);
void wire_release(struct wire *wire);
