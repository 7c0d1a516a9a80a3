/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PUT of a blob. Without Content-Range the body is the whole blob; with "bytes A-B/TOTAL" it is a
 * part that goes on with what came before: 202 and Range tell how far it is.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "control/blob_take.h"
#include "control/control_own.h"
#include "control/routes.h"
#include "store/blobs.h"
#include "store/store.h"

struct uploading {
    struct blob_take take;        /* first */
    uint64_t first, bytes, total; /* of this body; total of the blob */
    bool ranged, there;           /* there: the blob is here already */
    uint64_t have;                /* what is here, for 416 and 202 */
    bool answered;
    struct store_audit audit;
    struct err err;
};

/* ---- its end -------------------------------------------------------------------------------- */

static void fail(struct request *q, const struct err *err)
{
    struct uploading *u = q->data;
    if (u->answered || !q->x)
        return;
    u->answered = true;
    if (err_http(err) == 416 && u->have) {
        struct http_header headers[] = {
            { SLICE("Range"),
              slice_of(arena_format(q->arena, "bytes=0-%llu", (unsigned long long)u->have - 1)) },
            { SLICE("Perigee-Error"), SLICE("bad_input") },
        };
        request_reply_with(
            q, 416, headers, 2, "application/json",
            slice_of(arena_format(q->arena, "{\"size\":%llu}", (unsigned long long)u->have)));
        return;
    }
    request_fail(q, err);
}

static void reply_blob(struct request *q, int status)
{
    struct uploading *u = q->data;
    struct http_header headers[1] = {
        { SLICE("Location"),
          slice_of(arena_format(q->arena, "/api/v1/blobs/%.*s", SLICE_FMT(q->parts[0]))) }
    };
    u->answered = true;
    request_reply_with(
        q, status, headers, 1, "application/json",
        slice_of(arena_format(q->arena, "{\"digest\":\"%.*s\",\"size\":%llu}",
                              SLICE_FMT(q->parts[0]), (unsigned long long)u->total)));
}

/* ---- the end of the blob -------------------------------------------------------------------- */

/* On the store's thread: it is in the index, young again, before anybody hears of it. */
static int on_record_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct uploading *u = q->data;
    struct store_blob blob = { .digest = q->parts[0], .bytes = u->total, .created_ns = q->now_ns };
    /* The collector is of this thread: what is here now stays while it is young. */
    int r = blobs_find(q->control->blobs, q->parts[0], &blob.bytes, err);
    if (r == 0)
        r = store->blob_put(store, &blob, err);
    return r < 0 || u->there ? r : store->audit_add(store, &u->audit, err);
}

static void on_record_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct uploading *u = q->data;
    metric_set(control_count(q->control, CONTROL_BLOB_BYTES, NULL),
               (int64_t)blobs_total_bytes(q->control->blobs));
    if (!q->x)
        blob_take_closed(q);
    else if (err)
        fail(q, err);
    else
        reply_blob(q, u->there ? 200 : 201);
}

static int on_finish_run(struct job *job, struct store *store, struct err *err)
{
    struct uploading *u = request_of_job(job)->data;
    (void)store;
    return blob_upload_finish(u->take.upload, err);
}

static void on_finish_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct uploading *u = q->data;
    blob_upload_free(take_ptr(u->take.upload));
    if (!q->x && err)
        blob_take_closed(q);
    else if (err)
        fail(q, err);
    else
        request_write(q, on_record_run, on_record_done); /* also when the client has gone */
}

static void on_end(struct request *q, const struct err *err)
{
    struct uploading *u = q->data;
    if (err) {
        fail(q, err);
        return;
    }
    uint64_t offset = blob_upload_offset(u->take.upload);
    if (offset == u->total) {
        request_disk(q, on_finish_run, on_finish_done);
        return;
    }
    if (!u->ranged) {
        struct err cut;
        (void)!err_set(&cut, ERR_BAD_INPUT, "the body ended after %llu of %llu bytes",
                       (unsigned long long)offset, (unsigned long long)u->total);
        fail(q, &cut);
        return;
    }
    struct http_header headers[] = {
        { SLICE("Range"),
          slice_of(arena_format(q->arena, "bytes=0-%llu", (unsigned long long)offset - 1)) }
    };
    u->answered = true;
    blob_upload_free(take_ptr(u->take.upload));
    request_reply_with(q, 202, headers, offset ? 1 : 0, NULL, (struct slice){});
}

/* ---- the beginning -------------------------------------------------------------------------- */

/* "bytes 0-99/200" */
static int read_range(struct request *q, struct uploading *u, struct err *err)
{
    struct slice rest = request_header(q, "Content-Range");
    uint64_t length = exchange_request(q->x)->content_length, last;
    u->ranged = rest.data != NULL;
    if (!u->ranged) {
        if (length == HTTP_LENGTH_UNKNOWN)
            return err_set_http(err, 411, "a blob wants a Content-Length (or a Content-Range)");
        u->bytes = u->total = length;
        return 0;
    }
    if (slice_starts(rest, SLICE("bytes "))) {
        rest = (struct slice){ rest.data + 6, rest.size - 6 };
        struct slice first = slice_cut(&rest, '-'), end = slice_cut(&rest, '/');
        if (slice_u64(first, &u->first) && slice_u64(end, &last) && slice_u64(rest, &u->total) &&
            u->first <= last && last < u->total) {
            u->bytes = last - u->first + 1;
            if (length != HTTP_LENGTH_UNKNOWN && length != u->bytes)
                return err_set(err, ERR_BAD_INPUT,
                               "Content-Range says %llu bytes, Content-Length %llu",
                               (unsigned long long)u->bytes, (unsigned long long)length);
            return 0;
        }
    }
    return err_set(err, ERR_BAD_INPUT, "Content-Range must be 'bytes FIRST-LAST/TOTAL', not '%s'",
                   ERR_SLICE(request_header(q, "Content-Range")));
}

static int on_begin_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct uploading *u = q->data;
    uint64_t bytes;
    (void)store;
    int r = blobs_find(q->control->blobs, q->parts[0], &bytes, err);
    if (r == 0) {
        u->there = true;
        u->total = bytes;
        return 0;
    }
    if (r != ERR_NOT_FOUND)
        return r;
    return blob_upload_begin(q->control->blobs, q->parts[0], u->first, u->total, &u->have,
                             &u->take.upload, err);
}

static void on_begin_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct uploading *u = q->data;
    if (!q->x) {
        blob_take_closed(q);
        return;
    }
    if (err) {
        fail(q, err);
        return;
    }
    if (u->there) { /* the body is not wanted */
        request_write(q, on_record_run, on_record_done);
        return;
    }
    blob_take_start(q, u->bytes);
}

void blob_put(struct request *q)
{
    struct uploading *u = ARENA_NEW(q->arena, struct uploading);
    u->take.on_end = on_end;
    u->audit = request_audit(q, "upload");
    u->audit.endpoint = (struct slice){};
    u->audit.after = q->parts[0];
    int r = digest_check(q->parts[0], &u->err);
    if (r == 0)
        r = read_range(q, u, &u->err);
    if (r < 0) {
        request_fail(q, &u->err);
        return;
    }
    q->data = u;
    q->on_closed = blob_take_closed;
    request_disk(q, on_begin_run, on_begin_done);
}
