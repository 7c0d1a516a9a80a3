/* SPDX-License-Identifier: Apache-2.0 */
/* GET and HEAD of a blob: read on the disk's threads, a piece at a time, as fast as the client
 * takes it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "control/control_own.h"
#include "control/routes.h"
#include "store/blobs.h"
#include "sys/fd.h"

enum { PIECE_BYTES = 256 << 10 };

struct reading {
    int fd;
    uint64_t bytes, offset, have; /* have: of an upload that is not whole */
    char *piece;
    size_t piece_bytes;
};

static void closed(struct request *q)
{
    struct reading *reading = q->data;
    if (q->running)
        return; /* the job's end comes here once more */
    fd_close(&reading->fd);
    free(reading->piece);
    reading->piece = NULL;
}

static void send_next(struct request *q);

static int on_read_run(struct job *job, struct store *store, struct err *err)
{
    struct reading *reading = request_of_job(job)->data;
    uint64_t left = reading->bytes - reading->offset;
    size_t want = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
    (void)store;
    ssize_t n = pread(reading->fd, reading->piece, want, (off_t)reading->offset);
    if (n != (ssize_t)want)
        return err_set(err, ERR_INTERNAL, "reading a blob: %s", n < 0 ? strerror(errno) : "cut");
    reading->piece_bytes = want;
    return 0;
}

static void on_piece_written(struct exchange *x, const struct err *err, void *data)
{
    struct request *q = data;
    (void)x;
    if (!err)
        send_next(q);
}

static void on_read_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct reading *reading = q->data;
    if (!q->x) {
        closed(q);
        return;
    }
    if (err) { /* the head has gone: the client sees that it is cut */
        exchange_abort(q->x);
        return;
    }
    reading->offset += reading->piece_bytes;
    exchange_write(q->x, &(struct iovec){ reading->piece, reading->piece_bytes }, 1,
                   on_piece_written, q);
}

static void send_next(struct request *q)
{
    struct reading *reading = q->data;
    if (!q->x)
        return;
    if (reading->offset == reading->bytes)
        exchange_end(q->x, NULL, 0);
    else
        request_disk(q, on_read_run, on_read_done);
}

/* "bytes=N-", to go on with what was cut; other ranges get the whole (RFC 9110 14.2). */
static bool range_begin(struct request *q, uint64_t *ret)
{
    struct slice value = request_header(q, "Range");
    if (!slice_starts(value, SLICE("bytes=")) || !slice_ends(value, SLICE("-")) || value.size < 8)
        return false;
    return slice_u64((struct slice){ value.data + 6, value.size - 7 }, ret);
}

static int on_open_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct reading *reading = q->data;
    (void)store;
    int r = blobs_read(q->control->blobs, q->parts[0], &reading->fd, &reading->bytes, err);
    if (r == ERR_NOT_FOUND)
        reading->have = blob_upload_have(q->control->blobs, q->parts[0]);
    return r;
}

static void on_open_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct reading *reading = q->data;
    if (!q->x) {
        closed(q);
        return;
    }
    if (err && reading->have) { /* not whole: an upload can go on there */
        const struct http_header range[] = {
            { SLICE("Range"), slice_of(arena_format(q->arena, "bytes=0-%llu",
                                                    (unsigned long long)reading->have - 1)) },
            { SLICE("Perigee-Error"), SLICE("not_found") },
        };
        request_reply_with(
            q, 404, range, 2, "application/json",
            slice_of(arena_format(q->arena, "{\"size\":%llu}", (unsigned long long)reading->have)));
        return;
    }
    if (err) {
        request_fail(q, err);
        return;
    }
    const struct http_header headers[] = {
        { SLICE("Content-Type"), SLICE("application/octet-stream") },
        { SLICE("ETag"), slice_of(arena_format(q->arena, "\"%.*s\"", SLICE_FMT(q->parts[0]))) },
        { SLICE("X-Request-Id"), slice_of(q->id) },
        { SLICE("Cache-Control"), SLICE("private, immutable") },
    };
    bool head = exchange_request(q->x)->method == HTTP_HEAD;
    uint64_t from = 0, bytes = reading->bytes;
    struct http_header all[5];
    memcpy(all, headers, sizeof headers);
    if (range_begin(q, &from) && from >= bytes) {
        request_refuse(q, ERR_BAD_INPUT, "the range begins at byte %llu, but the blob has %llu",
                       (unsigned long long)from, (unsigned long long)bytes);
        return;
    }
    reading->offset = from;
    all[4] = (struct http_header){
        SLICE("Content-Range"),
        slice_of(arena_format(q->arena, "bytes %llu-%llu/%llu", (unsigned long long)from,
                              (unsigned long long)bytes - 1, (unsigned long long)bytes)),
    };
    exchange_respond(q->x, from ? 206 : 200, all, from ? 5 : 4, bytes - from);
    if (head || bytes == 0) {
        exchange_end(q->x, NULL, 0);
        return;
    }
    reading->piece = mem_alloc(PIECE_BYTES);
    send_next(q);
}

void blob_get(struct request *q)
{
    struct reading *reading = ARENA_NEW(q->arena, struct reading);
    reading->fd = -1;
    q->data = reading;
    q->on_closed = closed;
    request_disk(q, on_open_run, on_open_done);
}
