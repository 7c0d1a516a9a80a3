/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Uploads into a repository. One is a file of its own (store/blobs.h: sessions), so that it goes on
 * after control was killed: its name has the id in it, and of which repository it is. A blob gets
 * its name and its rows in one transaction, on the thread that also collects what nobody needs.
 */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/env.h"
#include "control/blob_take.h"
#include "control/control_own.h"
#include "control/registry.h"
#include "proto/range.h"
#include "spec/endpoint.h"
#include "spec/reference.h"
#include "store/blobs.h"
#include "store/store.h"

enum { ID_HEX = 32, REPOSITORY_HEX = 16 };

struct push {
    struct blob_take take; /* first */
    struct slice id;       /* as clients see it */
    char session[ID_HEX + REPOSITORY_HEX + 1];
    struct slice digest; /* what it is to be: of PUT, and of a POST that has it all */
    struct slice from_project, from_name; /* of a mount; empty: any */
    bool begins, ranged, mounted;
    bool hashing; /* what came before is read again, a part at a time */
    struct range range;
    uint64_t have;
    struct store_audit audit; /* of a blob's end */
};

/* ---- what all of them do -------------------------------------------------------------------- */

/* The file's name: nobody goes on with an upload by another repository's path. */
static void name_session(struct request *q, struct push *push)
{
    char digest[DIGEST_TEXT];
    digest_of(slice_of(arena_format(q->arena, "%.*s/%.*s", SLICE_FMT(q->parts[0]),
                                    SLICE_FMT(q->parts[1]))),
              digest);
    snprintf(push->session, sizeof push->session, "%.*s%.*s", (int)ID_HEX, push->id.data,
             (int)REPOSITORY_HEX, digest + 7);
}

static struct push *push_new(struct request *q)
{
    struct push *push = ARENA_NEW(q->arena, struct push);
    q->data = push;
    q->on_closed = blob_take_closed;
    q->code_absent = "BLOB_UPLOAD_UNKNOWN";
    q->code_bad = "BLOB_UPLOAD_INVALID";
    push->audit = registry_audit(q, "push blob");
    push->id = q->parts[2];
    if (!push->id.data) {
        struct env *env = q->control->env;
        push->id = slice_of(arena_format(q->arena, "%016llx%016llx",
                                         (unsigned long long)env_random_u64(env),
                                         (unsigned long long)env_random_u64(env)));
    }
    if (push->id.size != ID_HEX) {
        request_refuse(q, ERR_NOT_FOUND, "'%s' is no upload's id", ERR_SLICE(push->id));
        return NULL;
    }
    name_session(q, push);
    return push;
}

static struct slice upload_location(struct request *q)
{
    const struct push *push = q->data;
    return registry_location(q, "blobs/uploads", push->id);
}

/* Where it is, and how far; an empty one is said to be at "0-0", as there is no way to say none. */
static void reply_upload(struct request *q, int status, uint64_t have, const struct err *err)
{
    const struct push *push = q->data;
    const struct http_header headers[] = {
        { SLICE("Location"), upload_location(q) },
        { SLICE("Range"),
          slice_of(arena_format(q->arena, "0-%llu", (unsigned long long)(have ? have - 1 : 0))) },
        { SLICE("Docker-Upload-UUID"), push->id },
        { SLICE("Perigee-Error"), SLICE("bad_input") },
    };
    request_reply_with(q, status, headers, err ? 4 : 3, err ? "application/json" : NULL,
                       err ? registry_errors(q->arena, q, err) : (struct slice){});
}

static void reply_blob(struct request *q)
{
    const struct push *push = q->data;
    const struct http_header headers[] = {
        { SLICE("Location"), registry_location(q, "blobs", push->digest) },
        { SLICE("Docker-Content-Digest"), push->digest },
    };
    request_reply_with(q, 201, headers, 2, NULL, (struct slice){});
}

static void fail(struct request *q, const struct err *err)
{
    const struct push *push = q->data;
    if (err_http(err) == 416)
        reply_upload(q, 416, push->have, err);
    else
        request_fail(q, err);
}

static int read_digest(struct request *q, struct push *push, struct err *err)
{
    enum digest_kind kind;
    q->code_bad = "DIGEST_INVALID";
    push->digest = request_query(q, "digest");
    int r = push->digest.data ? digest_check_any(push->digest, &kind, err)
                              : err_set(err, ERR_BAD_INPUT, "?digest= says what the blob is to be");
    if (r == 0)
        q->code_bad = "BLOB_UPLOAD_INVALID";
    return r;
}

/* ---- the end of a blob ---------------------------------------------------------------------- */

static int on_link_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct push *push = q->data;
    uint64_t id, bytes = blob_upload_offset(push->take.upload);
    int r = store->repository_ensure(store, q->parts[0], q->parts[1], q->now_ns, &id, err);
    if (r == 0)
        r = store->repository_blob_put(store, id, push->digest, bytes, q->now_ns, err);
    push->audit.after = push->digest;
    if (r == 0)
        r = store->audit_add(store, &push->audit, err);
    return r < 0 ? r : blob_upload_name(push->take.upload, err);
}

static void on_link_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct push *push = q->data;
    blob_take_end(&push->take);
    metric_set(control_count(q->control, CONTROL_BLOB_BYTES, NULL),
               (int64_t)blobs_total_bytes(q->control->blobs));
    if (err)
        request_fail(q, err);
    else
        reply_blob(q);
}

static int on_seal_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct push *push = q->data;
    (void)store;
    q->code_bad = "DIGEST_INVALID";
    return blob_upload_seal(push->take.upload, err);
}

static void on_seal_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct push *push = q->data;
    if (err) {
        blob_take_end(&push->take);
        request_fail(q, err);
        return;
    }
    request_write(q, on_link_run, on_link_done); /* also when the client has gone */
}

/* ---- a body --------------------------------------------------------------------------------- */

static void on_end(struct request *q, const struct err *err)
{
    struct push *push = q->data;
    if (err) {
        blob_take_end(&push->take); /* what came stays: it can be gone on with */
        request_fail(q, err);
        return;
    }
    if (push->digest.data) {
        request_disk(q, on_seal_run, on_seal_done);
        return;
    }
    uint64_t have = blob_upload_offset(push->take.upload);
    blob_take_end(&push->take);
    reply_upload(q, 202, have, NULL);
}

static int on_open_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct push *push = q->data;
    struct blobs *blobs = q->control->blobs;
    struct slice session = slice_of(push->session);
    uint64_t length = q->body_bytes_max == HTTP_LENGTH_UNKNOWN ? 0 : q->body_bytes_max;
    (void)store;
    int r = push->begins ? blob_session_begin(blobs, session, err) : 0;
    if (r == 0)
        r = blob_session_open(blobs, session, length, &push->take.upload, err);
    if (r < 0)
        return r;
    push->have = blob_upload_offset(push->take.upload);
    if (push->ranged && push->range.first != push->have)
        return err_set_http(err, 416, "the chunk begins at byte %llu, but %llu are here",
                            (unsigned long long)push->range.first, (unsigned long long)push->have);
    if (!push->digest.data)
        return 0;
    push->hashing = true;
    return blob_session_expect(push->take.upload, push->digest, err);
}

/* Others' jobs come between: there may be a lot to read. */
static int on_hash_run(struct job *job, struct store *store, struct err *err)
{
    struct push *push = request_of_job(job)->data;
    (void)store;
    int r = blob_session_hash(push->take.upload, err);
    push->hashing = r > 0;
    return r;
}

static void on_open_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct push *push = q->data;
    if (!q->x) {
        blob_take_closed(q);
        return;
    }
    if (err) {
        blob_take_end(&push->take);
        fail(q, err);
        return;
    }
    if (push->hashing) {
        request_disk(q, on_hash_run, on_open_done);
        return;
    }
    push->take.on_end = on_end;
    blob_take_start(q,
                    q->body_bytes_max == HTTP_LENGTH_UNKNOWN ? UINT64_MAX - 1 : q->body_bytes_max);
}

/* Takes the call's body into the session. */
static void take_body(struct request *q, struct push *push)
{
    uint64_t length = exchange_request(q->x)->content_length;
    struct slice range = request_header(q, "Content-Range");
    struct err err;
    push->ranged = range.data != NULL;
    int r = push->ranged ? range_of_chunk(range, &push->range, &err) : 0;
    if (r == 0 && push->ranged && length != HTTP_LENGTH_UNKNOWN &&
        length != push->range.last - push->range.first + 1) {
        q->code_bad = "SIZE_INVALID";
        r = err_set(&err, ERR_BAD_INPUT, "Content-Range says %llu bytes, Content-Length %llu",
                    (unsigned long long)(push->range.last - push->range.first + 1),
                    (unsigned long long)length);
    }
    if (r < 0) {
        request_fail(q, &err);
        return;
    }
    if (push->ranged && length == HTTP_LENGTH_UNKNOWN)
        length = push->range.last - push->range.first + 1;
    q->body_bytes_max = length;
    request_disk(q, on_open_run, on_open_done);
}

void registry_upload_patch(struct request *q)
{
    struct push *push = push_new(q);
    if (push)
        take_body(q, push);
}

void registry_upload_put(struct request *q)
{
    struct push *push = push_new(q);
    struct err err;
    if (!push)
        return;
    if (read_digest(q, push, &err) < 0)
        request_fail(q, &err);
    else
        take_body(q, push);
}

/* ---- the beginning -------------------------------------------------------------------------- */

static int on_begin_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    const struct push *push = q->data;
    (void)store;
    return blob_session_begin(q->control->blobs, slice_of(push->session), err);
}

static void on_begin_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    if (err)
        request_fail(q, err);
    else
        reply_upload(q, 202, 0, NULL);
}

/* What another repository has is here already: it is had by this one too. */
static int on_mount_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct push *push = q->data;
    uint64_t from, id, bytes;
    int r = push->from_name.data
                ? store->repository_find(store, push->from_project, push->from_name, &from, err)
                : 0;
    if (r == 0)
        r = push->from_name.data
                ? store->repository_blob_find(store, from, push->digest, &bytes, err)
                : store->repository_blob_any(store, push->digest, &bytes, err);
    if (r == ERR_NOT_FOUND)
        return 0; /* then it is to be uploaded */
    if (r == 0)
        r = store->repository_ensure(store, q->parts[0], q->parts[1], q->now_ns, &id, err);
    if (r == 0)
        r = store->repository_blob_put(store, id, push->digest, bytes, q->now_ns, err);
    struct store_audit audit = push->audit;
    audit.action = SLICE("mount blob");
    audit.after = push->digest;
    if (r == 0)
        r = store->audit_add(store, &audit, err);
    push->mounted = r == 0;
    return r;
}

static void on_mount_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    const struct push *push = q->data;
    if (err)
        request_fail(q, err);
    else if (push->mounted)
        reply_blob(q);
    else
        request_disk(q, on_begin_run, on_begin_done);
}

static void mount(struct request *q, struct push *push)
{
    enum digest_kind kind;
    struct err err;
    push->digest = request_query(q, "mount");
    push->from_name = request_query(q, "from");
    push->from_project = slice_cut(&push->from_name, '/');
    if (push->from_project.size && !push->from_name.data)
        push->from_name = SLICE("/"); /* no repository has that name */
    q->code_bad = "DIGEST_INVALID";
    if (digest_check_any(push->digest, &kind, &err) < 0)
        request_fail(q, &err);
    else
        request_write(q, on_mount_run, on_mount_done);
}

void registry_upload_post(struct request *q)
{
    struct push *push = push_new(q);
    struct err err;
    if (!push)
        return;
    if (request_query(q, "mount").data) {
        mount(q, push);
        return;
    }
    if (!request_query(q, "digest").data) {
        request_disk(q, on_begin_run, on_begin_done);
        return;
    }
    push->begins = true;
    if (read_digest(q, push, &err) < 0)
        request_fail(q, &err);
    else
        take_body(q, push);
}

/* ---- looking at it, giving it up ------------------------------------------------------------ */

static int on_have_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct push *push = q->data;
    (void)store;
    return blob_session_have(q->control->blobs, slice_of(push->session), &push->have, err);
}

static void on_have_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    const struct push *push = q->data;
    if (err)
        request_fail(q, err);
    else
        reply_upload(q, 204, push->have, NULL);
}

void registry_upload_get(struct request *q)
{
    if (push_new(q))
        request_disk(q, on_have_run, on_have_done);
}

static int on_delete_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    const struct push *push = q->data;
    (void)store;
    return blob_session_delete(q->control->blobs, slice_of(push->session), err);
}

static void on_delete_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    if (err)
        request_fail(q, err);
    else
        request_reply_with(q, 204, NULL, 0, NULL, (struct slice){});
}

void registry_upload_delete(struct request *q)
{
    if (push_new(q))
        request_disk(q, on_delete_run, on_delete_done);
}
