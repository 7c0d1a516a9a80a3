/* SPDX-License-Identifier: Apache-2.0 */
#include "control/blob_send.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "proto/range.h"
#include "sys/fd.h"

enum { PIECE_BYTES = 256 << 10, HEADERS_MAX = 12 };

/* Found again by the exchange's callbacks: the handler's data begin with it. */
static struct blob_send *send_of(struct request *q)
{
    return q->data;
}

void blob_send_closed(struct request *q, struct blob_send *send)
{
    if (q->running)
        return; /* the job's end comes here once more */
    fd_close(&send->fd);
    free(take_ptr(send->piece));
}

static void send_next(struct request *q);

static int on_read_run(struct job *job, struct store *store, struct err *err)
{
    struct blob_send *send = send_of(request_of_job(job));
    uint64_t left = send->end - send->offset;
    size_t want = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
    (void)store;
    ssize_t n = pread(send->fd, send->piece, want, (off_t)send->offset);
    if (n != (ssize_t)want)
        return err_set(err, ERR_INTERNAL, "reading a blob: %s", n < 0 ? strerror(errno) : "cut");
    send->piece_bytes = want;
    return 0;
}

static void on_piece_written(struct exchange *x, const struct err *err, void *data)
{
    (void)x;
    if (!err)
        send_next(data);
}

static void on_read_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct blob_send *send = send_of(q);
    if (!q->x) {
        blob_send_closed(q, send);
        return;
    }
    if (err) { /* the head has gone: the client sees that it is cut */
        exchange_abort(q->x);
        return;
    }
    send->offset += send->piece_bytes;
    exchange_write(q->x, &(struct iovec){ send->piece, send->piece_bytes }, 1, on_piece_written, q);
}

static void send_next(struct request *q)
{
    struct blob_send *send = send_of(q);
    if (!q->x)
        return;
    if (send->offset == send->end)
        exchange_end(q->x, NULL, 0);
    else
        request_disk(q, on_read_run, on_read_done);
}

static void refuse_range(struct request *q, uint64_t bytes)
{
    struct err err;
    (void)!err_set_http(&err, 416, "the range is outside of the blob, which has %llu bytes",
                        (unsigned long long)bytes);
    request_fail(q, &err);
}

void blob_send_start(struct request *q, struct blob_send *send, const struct http_header *headers,
                     size_t count)
{
    struct http_header all[HEADERS_MAX];
    struct range range = { 0, send->bytes ? send->bytes - 1 : 0 };
    bool head = exchange_request(q->x)->method == HTTP_HEAD;
    enum range_answer answer =
        head ? RANGE_WHOLE : range_of(request_header(q, "Range"), send->bytes, &range);
    assert(send == send_of(q) && count + 3 <= HEADERS_MAX);
    if (answer == RANGE_OUTSIDE) {
        refuse_range(q, send->bytes);
        return;
    }
    memcpy(all, headers, count * sizeof *headers);
    all[count++] = (struct http_header){ SLICE("X-Request-Id"), slice_of(q->id) };
    all[count++] = (struct http_header){ SLICE("Accept-Ranges"), SLICE("bytes") };
    if (answer == RANGE_PART)
        all[count++] = (struct http_header){
            SLICE("Content-Range"),
            slice_of(arena_format(q->arena, "bytes %llu-%llu/%llu", (unsigned long long)range.first,
                                  (unsigned long long)range.last, (unsigned long long)send->bytes)),
        };
    send->offset = range.first;
    send->end = send->bytes ? range.last + 1 : 0;
    exchange_respond(q->x, answer == RANGE_PART ? 206 : 200, all, count, send->end - send->offset);
    if (head || send->offset == send->end) {
        exchange_end(q->x, NULL, 0);
        return;
    }
    send->piece = mem_alloc(PIECE_BYTES);
    send_next(q);
}
