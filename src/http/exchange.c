/* SPDX-License-Identifier: Apache-2.0 */
/* What is the same for every version: who may call what when, counts, HEAD. The rest is the
 * codec's. */
#include "http/exchange.h"

#include <assert.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "http/codec.h"

static_assert(BODY_UNSTARTED == 0);

void exchange_set_handler(struct exchange *x, const struct exchange_handler *handler, void *data)
{
    x->handler = handler;
    x->data = data;
}

const struct http_request *exchange_request(const struct exchange *x)
{
    return &x->request;
}

struct arena *exchange_arena(struct exchange *x)
{
    return x->arena;
}

struct loop *exchange_loop(struct exchange *x)
{
    return x->loop;
}

const struct address *exchange_peer(const struct exchange *x)
{
    return x->peer;
}

const struct address *exchange_client(const struct exchange *x)
{
    return x->client;
}

bool exchange_trusted(const struct exchange *x)
{
    return x->trusted;
}

uint32_t exchange_rtt_us(struct exchange *x)
{
    return x->codec->rtt_us(x);
}

bool exchange_rtt_told(const struct exchange *x)
{
    return x->rtt_told;
}

void *exchange_data(const struct exchange *x)
{
    return x->data;
}

int64_t exchange_started_ns(const struct exchange *x)
{
    return x->started_ns;
}

/* ---- the body ----------------------------------------------------------------------------- */

int exchange_body_start(struct exchange *x, uint64_t bytes_max, struct err *err)
{
    assert(x->body == BODY_UNSTARTED);
    assert(x->handler && x->handler->on_body_space && x->handler->on_body &&
           x->handler->on_body_end);
    if (x->request.content_length != HTTP_LENGTH_UNKNOWN && x->request.content_length > bytes_max)
        return err_set(err, ERR_TOO_LARGE, "the body has %llu bytes, the limit is %llu",
                       (unsigned long long)x->request.content_length,
                       (unsigned long long)bytes_max);
    x->body_bytes_max = bytes_max;
    x->body = BODY_READING;
    x->codec->body_start(x);
    return 0;
}

void exchange_body_resume(struct exchange *x)
{
    if (x->body != BODY_READING || !x->body_paused)
        return;
    x->body_paused = false;
    x->codec->body_resume(x);
}

uint64_t exchange_body_bytes(const struct exchange *x)
{
    return x->body_bytes;
}

uint64_t exchange_body_copied_bytes(const struct exchange *x)
{
    return x->body_copied_bytes;
}

const struct http_headers *exchange_trailers(const struct exchange *x)
{
    return &x->trailers;
}

size_t exchange_body_deliver(struct exchange *x, const char *data, size_t size)
{
    size_t done = 0;
    while (done < size && !x->aborted && x->body == BODY_READING) {
        struct iovec space = {};
        x->handler->on_body_space(x, &space, x->data);
        if (!space.iov_len) {
            x->body_paused = true;
            break;
        }
        size_t part = size - done < space.iov_len ? size - done : space.iov_len;
        memcpy(space.iov_base, data + done, part);
        x->body_bytes += part;
        x->body_copied_bytes += part;
        done += part;
        x->handler->on_body(x, part, x->data);
    }
    return done;
}

void exchange_body_finish(struct exchange *x, const struct err *err)
{
    assert(x->body == BODY_READING);
    x->body = err ? BODY_FAILED : BODY_DONE;
    x->handler->on_body_end(x, err, x->data);
}

void exchange_close(struct exchange *x, const struct err *err)
{
    struct arena *arena = x->arena;
    if (x->handler && x->handler->on_closed)
        x->handler->on_closed(x, err, x->data);
    arena_free(arena);
}

/* ---- the answer --------------------------------------------------------------------------- */

void exchange_respond(struct exchange *x, int status, const struct http_header *headers,
                      size_t count, uint64_t content_length)
{
    assert(!x->responded && status >= 200 && status <= 999);
    x->responded = true;
    x->status = status;
    x->content_length = content_length;
    x->bodyless = x->request.method == HTTP_HEAD || status == 204 || status == 304;
    x->codec->respond(x, headers, count);
}

void exchange_write(struct exchange *x, const struct iovec *iovecs, size_t count,
                    exchange_written_cb on_written, void *data)
{
    size_t bytes = 0;
    assert(x->responded && !x->ended);
    for (size_t i = 0; i < count; i++)
        bytes += iovecs[i].iov_len;
    x->answer_bytes += bytes;
    bool above = x->content_length != HTTP_LENGTH_UNKNOWN && x->answer_bytes > x->content_length;
    if (above && !x->bodyless && !x->aborted) {
        log_error("http", "answer longer than its Content-Length, cutting it",
                  LOG_U("length", x->content_length));
        exchange_abort(x);
    }
    /* What is not sent still gets its on_written. */
    if (x->bodyless || above)
        bytes = count = 0;
    x->codec->write(x, iovecs, count, bytes, on_written, data);
}

bool exchange_put(struct exchange *x, struct slice bytes, exchange_written_cb on_written,
                  void *data)
{
    bool known = x->content_length != HTTP_LENGTH_UNKNOWN;
    assert(x->responded && !x->ended);
    if (x->bodyless || x->aborted || !bytes.size)
        return true;
    if (known && x->answer_bytes + bytes.size > x->content_length) {
        exchange_write(x, &(struct iovec){ (void *)(uintptr_t)bytes.data, bytes.size }, 1, NULL,
                       NULL); /* says so, and cuts it */
        return true;
    }
    x->answer_bytes += bytes.size;
    return x->codec->put(x, bytes, on_written, data);
}

void exchange_upgrade(struct exchange *x, const struct http_header *headers, size_t count)
{
    assert(!x->responded && x->body == BODY_UNSTARTED);
    assert(x->handler && x->handler->on_body_space && x->handler->on_body_end);
    x->responded = true;
    x->status = 101;
    x->content_length = HTTP_LENGTH_UNKNOWN;
    x->body_bytes_max = UINT64_MAX;
    x->body = BODY_READING;
    x->codec->upgrade(x, headers, count);
}

size_t exchange_write_bytes(const struct exchange *x)
{
    return x->codec->write_bytes(x);
}

uint64_t exchange_taken_bytes(const struct exchange *x)
{
    return x->codec->taken_bytes(x);
}

void exchange_end(struct exchange *x, const struct http_header *trailers, size_t count)
{
    assert(x->responded && !x->ended);
    x->ended = true;
    bool below = x->content_length != HTTP_LENGTH_UNKNOWN && x->answer_bytes < x->content_length;
    if (below && !x->bodyless) {
        exchange_abort(x); /* the client sees that it is not whole */
        return;
    }
    x->codec->end(x, trailers, count);
}

void exchange_reply(struct exchange *x, int status, const struct http_header *headers, size_t count,
                    struct slice body)
{
    struct iovec iovec = { (void *)(uintptr_t)body.data, body.size };
    exchange_respond(x, status, headers, count, body.size);
    if (body.size && !x->bodyless)
        exchange_write(x, &iovec, 1, NULL, NULL);
    else
        x->answer_bytes = body.size;
    exchange_end(x, NULL, 0);
}

void exchange_reply_method(struct exchange *x, const char *allow, const struct http_header *headers,
                           size_t count, struct slice body)
{
    struct http_header *all = ARENA_ARRAY(x->arena, struct http_header, count + 1);
    all[0] = HTTP_HEADER("Allow", slice_of(allow));
    if (count)
        memcpy(all + 1, headers, count * sizeof *all);
    exchange_reply(x, 405, all, count + 1, body);
}

void exchange_inform(struct exchange *x, int status, const struct http_header *headers,
                     size_t count)
{
    assert(status > 101 && status < 200);
    if (!x->responded && x->request.version != HTTP_1_0)
        x->codec->inform(x, status, headers, count);
}

void exchange_abort(struct exchange *x)
{
    if (x->aborted)
        return;
    x->aborted = true;
    x->codec->abort(x);
}

bool exchange_responded(const struct exchange *x)
{
    return x->responded;
}

int exchange_status(const struct exchange *x)
{
    return x->status;
}

uint64_t exchange_answer_bytes(const struct exchange *x)
{
    return x->answer_bytes;
}

void exchange_close_after(struct exchange *x)
{
    x->codec->close_after(x);
}
