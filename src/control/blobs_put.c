/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PUT of a blob. Two buffers: one is filled from the socket while the other is hashed and written
 * by a thread; when both are full the socket waits. Without Content-Range the body is the whole
 * blob; with "bytes A-B/TOTAL" it is a part that goes on with what came before: 202 and Range tell
 * how far it is.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "control/control_own.h"
#include "control/routes.h"
#include "store/blobs.h"
#include "store/store.h"

enum { BUFFER_BYTES = 512 << 10 };

struct uploading {
    struct request *q;
    uint64_t first, bytes, total; /* of this body; total of the blob */
    bool ranged, there;           /* there: the blob is here already */
    struct blob_upload *upload;
    uint64_t have;           /* what is here, for 416 and 202 */
    char *filling, *writing; /* buffers; writing: of the job */
    size_t filled, to_write;
    bool body_ended, finishing, recorded, answered;
    struct store_audit audit;
    struct err err;
};

static const struct exchange_handler upload_handler;

/* ---- its end -------------------------------------------------------------------------------- */

static void closed(struct request *q)
{
    struct uploading *u = q->data;
    if (q->running)
        return;
    blob_upload_free(take_ptr(u->upload));
    free(take_ptr(u->filling));
    free(take_ptr(u->writing));
}

static void fail(struct uploading *u, const struct err *err)
{
    struct request *q = u->q;
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

static void reply_blob(struct uploading *u, int status)
{
    struct request *q = u->q;
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
        closed(q);
    else if (err)
        fail(u, err);
    else
        reply_blob(u, u->there ? 200 : 201);
}

static int on_finish_run(struct job *job, struct store *store, struct err *err)
{
    struct uploading *u = request_of_job(job)->data;
    (void)store;
    return blob_upload_finish(u->upload, err);
}

static void on_finish_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct uploading *u = q->data;
    blob_upload_free(take_ptr(u->upload));
    if (!q->x && err)
        closed(q);
    else if (err)
        fail(u, err);
    else
        request_write(q, on_record_run, on_record_done); /* also when the client has gone */
}

static void body_done(struct uploading *u)
{
    struct request *q = u->q;
    uint64_t offset = blob_upload_offset(u->upload);
    if (u->finishing)
        return;
    u->finishing = true;
    if (offset == u->total) {
        request_disk(q, on_finish_run, on_finish_done);
        return;
    }
    if (!u->ranged) {
        struct err err;
        (void)!err_set(&err, ERR_BAD_INPUT, "the body ended after %llu of %llu bytes",
                       (unsigned long long)offset, (unsigned long long)u->total);
        fail(u, &err);
        return;
    }
    struct http_header headers[] = {
        { SLICE("Range"),
          slice_of(arena_format(q->arena, "bytes=0-%llu", (unsigned long long)offset - 1)) }
    };
    u->answered = true;
    blob_upload_free(take_ptr(u->upload));
    request_reply_with(q, 202, headers, offset ? 1 : 0, NULL, (struct slice){});
}

/* ---- writing -------------------------------------------------------------------------------- */

static int on_write_run(struct job *job, struct store *store, struct err *err)
{
    struct uploading *u = request_of_job(job)->data;
    (void)store;
    return blob_upload_write(u->upload, u->writing, u->to_write, err);
}

static void write_next(struct uploading *u);

static void on_write_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct uploading *u = q->data;
    if (!q->x) {
        closed(q);
        return;
    }
    if (err) {
        fail(u, err);
        return;
    }
    metric_add(control_count(q->control, CONTROL_UPLOADED_BYTES, NULL), u->to_write);
    write_next(u);
}

/* Hands a full buffer (at the end: any) to the thread, when it has none. */
static void write_next(struct uploading *u)
{
    if (u->q->running || u->answered)
        return;
    bool full = u->filled == BUFFER_BYTES;
    if (u->filled && (full || u->body_ended)) {
        char *buffer = u->writing;
        u->writing = u->filling;
        u->filling = buffer;
        u->to_write = u->filled;
        u->filled = 0;
        request_disk(u->q, on_write_run, on_write_done);
        if (full && !u->body_ended)
            exchange_body_resume(u->q->x);
    } else if (u->body_ended) {
        body_done(u);
    }
}

static void on_body_space(struct exchange *x, struct iovec *ret_space, void *data)
{
    struct uploading *u = ((struct request *)data)->data;
    (void)x;
    *ret_space = (struct iovec){ u->filling + u->filled, BUFFER_BYTES - u->filled };
}

static void on_body(struct exchange *x, size_t bytes, void *data)
{
    struct uploading *u = ((struct request *)data)->data;
    (void)x;
    u->filled += bytes;
    if (u->filled == BUFFER_BYTES)
        write_next(u);
}

static void on_body_end(struct exchange *x, const struct err *err, void *data)
{
    struct uploading *u = ((struct request *)data)->data;
    (void)x;
    if (err) {
        fail(u, err);
        return;
    }
    u->body_ended = true;
    write_next(u);
}

static void on_closed(struct exchange *x, const struct err *err, void *data)
{
    (void)x;
    (void)err;
    request_closed(data);
}

static const struct exchange_handler upload_handler = { on_body_space, on_body, on_body_end,
                                                        on_closed };

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
                             &u->upload, err);
}

static void on_begin_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct uploading *u = q->data;
    struct err failed;
    if (!q->x) {
        closed(q);
        return;
    }
    if (err) {
        fail(u, err);
        return;
    }
    if (u->there) { /* the body is not wanted */
        request_write(q, on_record_run, on_record_done);
        return;
    }
    u->filling = mem_alloc(BUFFER_BYTES);
    u->writing = mem_alloc(BUFFER_BYTES);
    if (exchange_body_start(q->x, u->bytes, &failed) < 0)
        fail(u, &failed);
}

void blob_put(struct request *q)
{
    struct uploading *u = ARENA_NEW(q->arena, struct uploading);
    u->q = q;
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
    q->on_closed = closed;
    exchange_set_handler(q->x, &upload_handler, q);
    request_disk(q, on_begin_run, on_begin_done);
}
