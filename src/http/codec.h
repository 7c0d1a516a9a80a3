/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.h -- what stands behind an exchange: a vtable, one for each version of HTTP.
 *
 * For http/ alone. A codec makes the exchange in its arena, fills the first part, calls on_head,
 * and from then on keeps the promises of exchange.h. Loop thread only.
 */
#pragma once

#include "http/exchange.h"

struct exchange_codec {
    const char *name;
    void (*body_start)(struct exchange *x);
    void (*body_resume)(struct exchange *x);
    void (*inform)(struct exchange *x, int status, const struct http_header *headers, size_t count);
    void (*respond)(struct exchange *x, const struct http_header *headers, size_t count);
    void (*write)(struct exchange *x, const struct iovec *iovecs, size_t count, size_t bytes,
                  exchange_written_cb on_written, void *data);
    bool (*put)(struct exchange *x, struct slice bytes, exchange_written_cb on_written, void *data);
    void (*upgrade)(struct exchange *x, const struct http_header *headers, size_t count);
    void (*end)(struct exchange *x, const struct http_header *trailers, size_t count);
    void (*abort)(struct exchange *x);
    void (*close_after)(struct exchange *x);
    size_t (*write_bytes)(const struct exchange *x);
    uint64_t (*taken_bytes)(const struct exchange *x);
    uint32_t (*rtt_us)(struct exchange *x);
};

enum exchange_body { BODY_UNSTARTED, BODY_READING, BODY_DONE, BODY_FAILED };

struct exchange {
    /* the codec's to fill */
    const struct exchange_codec *codec;
    struct arena *arena;
    struct loop *loop;
    const struct address *peer;
    const struct address *client;
    bool trusted;  /* the peer's word on who is behind it is taken */
    bool rtt_told; /* rtt_us() is its word */
    struct http_request request;
    struct http_headers trailers;
    int64_t started_ns;
    /* the handler's wishes */
    const struct exchange_handler *handler;
    void *data;
    /* body in */
    enum exchange_body body;
    bool body_paused; /* on_body_space had no space */
    uint64_t body_bytes_max, body_bytes, body_copied_bytes;
    /* answer out */
    int status;
    uint64_t content_length, answer_bytes;
    bool responded, ended, bodyless; /* bodyless: HEAD, 204, 304 */
    bool aborted;
};

/* For codecs: hand on what came. */
/* Copies as much as the handler has space for; less than size: it has paused. */
size_t exchange_body_deliver(struct exchange *x, const char *data, size_t size);
void exchange_body_finish(struct exchange *x, const struct err *err);
void exchange_close(struct exchange *x, const struct err *err); /* on_closed; frees the arena */
