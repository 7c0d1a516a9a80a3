/* SPDX-License-Identifier: Apache-2.0 */
/* The writing side of a connection: head, body and chunk framing go out in one vectored write. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "http/h1.h"
#include "http/server_own.h"
#include "proto/number.h"

static struct h1 *h1_of(const struct exchange *x)
{
    return ((const struct h1_exchange *)x)->h1;
}

/* ---- writes ------------------------------------------------------------------------------- */

static void write_give_back(struct h1 *h1, struct h1_write *write)
{
    if (write == &h1->first)
        h1->first_used = false;
    else
        free(write);
}

static void write_report(struct h1 *h1, struct h1_write *write, const struct err *err)
{
    list_remove(&write->link);
    write->reported = true;
    if (write->on_written)
        write->on_written(h1->x, err, write->data);
}

static void on_stream_written(struct stream_write *stream_write, const struct err *err, void *data)
{
    struct h1_write *write = data;
    struct h1 *h1 = write->h1;
    (void)stream_write;
    h1_enter(h1);
    h1->writes_open--;
    if (!write->reported)
        write_report(h1, write, err);
    write_give_back(h1, write);
    if (err)
        h1_cut(h1, err);
    h1_leave(h1);
}

void h1_writes_cancel(struct h1 *h1, const struct err *err)
{
    while (!list_empty(&h1->writes))
        write_report(h1, LIST_FIRST(&h1->writes, struct h1_write, link), err);
}

static void write_init(struct h1 *h1, struct h1_write *write, exchange_written_cb on_written,
                       void *data)
{
    write->h1 = h1;
    write->write.on_written = on_stream_written;
    write->write.data = write;
    write->on_written = on_written;
    write->data = data;
    write->reported = false;
    list_init(&write->link);
}

static struct h1_write *write_new(struct h1 *h1, exchange_written_cb on_written, void *data)
{
    struct h1_write *write = h1->first_used ? mem_alloc(sizeof *write) : &h1->first;
    if (write == &h1->first)
        h1->first_used = true;
    write_init(h1, write, on_written, data);
    return write;
}

static void write_send(struct h1 *h1, struct h1_write *write, const struct iovec *iovecs,
                       size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += iovecs[i].iov_len;
    h1->out_bytes += bytes;
    h1->server->stats.bytes_out += bytes;
    list_append(&h1->writes, &write->link);
    h1->writes_open++;
    stream_write(h1->stream, &write->write, iovecs, count);
}

static void write_text(struct h1 *h1, struct slice text)
{
    struct iovec iovec = { (void *)(uintptr_t)text.data, text.size };
    write_send(h1, write_new(h1, NULL, NULL), &iovec, 1);
}

/* `body` (may be empty) behind the head that waits, as a chunk where the answer is chunked. */
static void write_body(struct h1 *h1, const struct iovec *body, size_t count, size_t bytes,
                       exchange_written_cb on_written, void *data)
{
    struct iovec few[16], *all = few;
    auto_free struct iovec *many = NULL;
    struct h1_write *write = write_new(h1, on_written, data);
    bool chunk = h1->chunked_out && bytes;
    size_t n = 0;

    if (count + 3 > sizeof few / sizeof *few)
        all = many = mem_resize(NULL, count + 3, sizeof *many);
    if (h1->head_out.size)
        all[n++] = (struct iovec){ (void *)(uintptr_t)h1->head_out.data, h1->head_out.size };
    h1->head_out = (struct slice){};
    if (chunk)
        all[n++] = (struct iovec){ write->prefix, http1_chunk_prefix(write->prefix, bytes) };
    for (size_t i = 0; i < count; i++)
        if (body[i].iov_len)
            all[n++] = body[i];
    if (chunk)
        all[n++] = (struct iovec){ (void *)(uintptr_t) "\r\n", 2 };
    write_send(h1, write, all, n);
}

void h1_head_flush(struct h1 *h1)
{
    write_body(h1, NULL, 0, 0, NULL, NULL);
}

/* ---- the codec ---------------------------------------------------------------------------- */

static void codec_body_start(struct exchange *x)
{
    struct h1 *h1 = h1_of(x);
    /* A body that is on its way already needs no invitation. */
    if (x->request.expect_continue && !x->responded && !h1->stash_bytes)
        write_text(h1, SLICE("HTTP/1.1 100 Continue\r\n\r\n"));
    h1_poke(h1);
}

static void codec_poke(struct exchange *x)
{
    h1_poke(h1_of(x));
}

static void codec_inform(struct exchange *x, int status, const struct http_header *headers,
                         size_t count)
{
    struct slice line = http1_status_line(x->arena, status);
    write_text(h1_of(x), http1_write_head(x->arena, line, (struct slice){}, headers, count));
}

/* Must this answer be the connection's last? */
static bool answer_last(const struct h1 *h1)
{
    const struct exchange *x = h1->x;
    const struct http_server *server = h1->server;
    if (h1->last_answer || server->draining || !h1->head.keep_alive ||
        (h1->read_ended && !h1->stash_bytes) || x->body == BODY_FAILED)
        return true;
    if (server->limits.requests_max && h1->request_count + 1 >= server->limits.requests_max)
        return true;
    if (x->request.version == HTTP_1_0 && x->content_length == HTTP_LENGTH_UNKNOWN && !x->bodyless)
        return true;
    /* A body that nobody took: short ones are dropped, for others it is cheaper to begin anew. */
    return x->body == BODY_UNSTARTED && !h1_body_ended(h1) &&
           (x->request.expect_continue || h1->head.framing == HTTP1_BODY_CHUNKED ||
            h1->body_left > server->limits.drop_bytes_max);
}

enum { FIXED_BYTES = 160 };

static char *put(char *to, struct slice text)
{
    memcpy(to, text.data, text.size);
    return to + text.size;
}

/* The lines that HTTP itself adds: Date, the body's length, what becomes of the connection. */
static struct slice fixed_lines(struct h1 *h1, char buffer[static FIXED_BYTES])
{
    const struct exchange *x = h1->x;
    bool known = x->content_length != HTTP_LENGTH_UNKNOWN;
    char *at = put(buffer, server_date(h1->server));

    if (known && x->status != 204 && !(x->status == 304 && !x->content_length)) {
        at = put(at, SLICE("Content-Length: "));
        at += number_write_u64(at, x->content_length);
        at = put(at, SLICE("\r\n"));
    } else if (h1->chunked_out) {
        at = put(at, SLICE("Transfer-Encoding: chunked\r\n"));
    }
    if (h1->last_answer)
        at = put(at, SLICE("Connection: close\r\n"));
    else if (x->request.version == HTTP_1_0)
        at = put(at, SLICE("Connection: keep-alive\r\n"));
    return (struct slice){ buffer, (size_t)(at - buffer) };
}

static void codec_respond(struct exchange *x, const struct http_header *headers, size_t count)
{
    struct h1 *h1 = h1_of(x);
    char fixed[FIXED_BYTES];

    h1->last_answer = answer_last(h1);
    h1->chunked_out =
        x->content_length == HTTP_LENGTH_UNKNOWN && !x->bodyless && x->request.version != HTTP_1_0;
    h1->head_out = http1_write_head(x->arena, http1_status_line(x->arena, x->status),
                                    fixed_lines(h1, fixed), headers, count);
    h1_poke(h1); /* flushed there if no write takes it along */
}

static void codec_write(struct exchange *x, const struct iovec *iovecs, size_t count, size_t bytes,
                        exchange_written_cb on_written, void *data)
{
    if (x->aborted) /* reported by the cut that is coming */
        write_body(h1_of(x), NULL, 0, 0, on_written, data);
    else
        write_body(h1_of(x), iovecs, count, bytes, on_written, data);
}

/* Behind the head that waits, as a chunk where the answer is chunked; a copy of what the kernel
 * does not take waits. */
static bool codec_put(struct exchange *x, struct slice bytes, exchange_written_cb on_written,
                      void *data)
{
    struct h1 *h1 = h1_of(x);
    char prefix[HTTP1_CHUNK_PREFIX_BYTES];
    struct iovec all[4];
    size_t n = 0, size = 0;

    if (h1->head_out.size)
        all[n++] = (struct iovec){ (void *)(uintptr_t)h1->head_out.data, h1->head_out.size };
    h1->head_out = (struct slice){};
    if (h1->chunked_out)
        all[n++] = (struct iovec){ prefix, http1_chunk_prefix(prefix, bytes.size) };
    all[n++] = (struct iovec){ (void *)(uintptr_t)bytes.data, bytes.size };
    if (h1->chunked_out)
        all[n++] = (struct iovec){ (void *)(uintptr_t) "\r\n", 2 };
    for (size_t i = 0; i < n; i++)
        size += all[i].iov_len;
    size_t gone = stream_try_write(h1->stream, all, n);
    h1->out_bytes += gone;
    h1->server->stats.bytes_out += gone;
    if (gone == size) {
        h1_poke(h1); /* a client that was slow is not any more */
        return true;
    }
    struct h1_write *write = mem_alloc(sizeof *write + size - gone);
    char *copy = (char *)(write + 1), *at = copy;
    for (size_t i = 0; i < n; i++) {
        size_t skip = gone < all[i].iov_len ? gone : all[i].iov_len;
        gone -= skip;
        memcpy(at, (char *)all[i].iov_base + skip, all[i].iov_len - skip);
        at += all[i].iov_len - skip;
    }
    write_init(h1, write, on_written, data);
    write_send(h1, write, &(struct iovec){ copy, (size_t)(at - copy) }, 1);
    h1_poke(h1);
    return false;
}

static void codec_upgrade(struct exchange *x, const struct http_header *headers, size_t count)
{
    struct h1 *h1 = h1_of(x);
    h1->tunnel = h1->last_answer = true;
    h1->chunked_out = false;
    h1->head_out = http1_write_head(x->arena, http1_status_line(x->arena, 101), (struct slice){},
                                    headers, count);
    h1_poke(h1);
}

static void codec_end(struct exchange *x, const struct http_header *trailers, size_t count)
{
    struct h1 *h1 = h1_of(x);
    struct slice tail = {};
    if (h1->chunked_out) {
        bool wanted = http_header_has_token(&x->request.headers, "te", "trailers");
        tail = http1_write_head(x->arena, SLICE("0\r\n"), (struct slice){}, trailers,
                                wanted ? count : 0);
        h1->chunked_out = false;
    }
    if (tail.size || h1->head_out.size) {
        struct iovec iovec = { (void *)(uintptr_t)tail.data, tail.size };
        write_body(h1, &iovec, 1, tail.size, NULL, NULL);
    }
    h1_poke(h1);
}

static void codec_close_after(struct exchange *x)
{
    h1_of(x)->last_answer = true;
}

static size_t codec_write_bytes(const struct exchange *x)
{
    return stream_write_bytes(h1_of(x)->stream);
}

static uint64_t codec_taken_bytes(const struct exchange *x)
{
    return h1_taken(h1_of(x));
}

static uint32_t codec_rtt_us(struct exchange *x)
{
    return h1_rtt_us(h1_of(x));
}

const struct exchange_codec h1_codec = {
    .name = "http/1.1",
    .body_start = codec_body_start,
    .body_resume = codec_poke,
    .inform = codec_inform,
    .respond = codec_respond,
    .write = codec_write,
    .put = codec_put,
    .upgrade = codec_upgrade,
    .end = codec_end,
    .abort = codec_poke,
    .close_after = codec_close_after,
    .write_bytes = codec_write_bytes,
    .taken_bytes = codec_taken_bytes,
    .rtt_us = codec_rtt_us,
};

/* ---- refusals by HTTP itself --------------------------------------------------------------- */

void h1_refuse(struct h1 *h1, const struct http_request *request, const struct err *err)
{
    struct http_server *server = h1->server;
    struct http_request none = {};
    struct http_refusal refusal = server_refusal(server, h1->arena, request ? request : &none, err);
    bool head = request && request->method == HTTP_HEAD && request->method_text.size;
    struct slice date = server_date(server);
    char fixed[160];
    int size = snprintf(fixed, sizeof fixed, "%.*sContent-Length: %zu\r\nConnection: close\r\n",
                        SLICE_FMT(date), refusal.body.size);
    assert(size > 0 && (size_t)size < sizeof fixed);

    server->stats.refused++;
    h1->head_out =
        http1_write_head(h1->arena, http1_status_line(h1->arena, err_http(err)),
                         (struct slice){ fixed, (size_t)size }, refusal.headers, refusal.count);
    h1->chunked_out = false;
    struct iovec body = { (void *)(uintptr_t)refusal.body.data, refusal.body.size };
    write_body(h1, &body, head ? 0 : 1, refusal.body.size, NULL, NULL);
    h1_state_move(&h1->state, H1_LINGER);
    stream_shutdown(h1->stream);
}
