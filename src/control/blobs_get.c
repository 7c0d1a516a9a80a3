/* SPDX-License-Identifier: Apache-2.0 */
/* GET and HEAD of a blob. */
#include "base/arena.h"
#include "control/blob_send.h"
#include "control/control_own.h"
#include "control/routes.h"
#include "store/blobs.h"

struct reading {
    struct blob_send send; /* first */
    uint64_t have;         /* of an upload that is not whole */
};

static void closed(struct request *q)
{
    struct reading *reading = q->data;
    blob_send_closed(q, &reading->send);
}

static int on_open_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct reading *reading = q->data;
    (void)store;
    int r =
        blobs_read(q->control->blobs, q->parts[0], &reading->send.fd, &reading->send.bytes, err);
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
        { SLICE("Cache-Control"), SLICE("private, immutable") },
    };
    blob_send_start(q, &reading->send, headers, 3);
}

void blob_get(struct request *q)
{
    struct reading *reading = ARENA_NEW(q->arena, struct reading);
    reading->send.fd = -1;
    q->data = reading;
    q->on_closed = closed;
    request_disk(q, on_open_run, on_open_done);
}
