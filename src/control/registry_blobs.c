/* SPDX-License-Identifier: Apache-2.0 */
/* Blobs of a repository: HEAD, GET, DELETE. */
#include "base/arena.h"
#include "control/artifact.h"
#include "control/blob_send.h"
#include "control/control_own.h"
#include "control/registry.h"
#include "store/blobs.h"
#include "store/manifest.h"
#include "store/store.h"

static bool digest_good(struct request *q)
{
    enum digest_kind kind;
    struct err err;
    q->code_bad = "DIGEST_INVALID";
    if (digest_check_any(q->parts[2], &kind, &err) == 0)
        return true;
    request_fail(q, &err);
    return false;
}

struct getting {
    struct blob_send send; /* first */
    bool empty;            /* the empty config, which has no file */
};

static void closed(struct request *q)
{
    blob_send_closed(q, q->data);
}

static int on_get_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct getting *getting = q->data;
    struct blob_send *send = &getting->send;
    const struct artifact artifact = registry_artifact(q, store);
    uint64_t bytes;
    struct err unused;
    int r = registry_blob_find(q, store, q->parts[2], &bytes, err);
    if (r == ERR_NOT_FOUND &&
        artifact_blob(&artifact, q->parts[0], q->parts[1], q->parts[2], &unused) == 0) {
        getting->empty = slice_is(q->parts[2], MANIFEST_EMPTY_DIGEST);
        r = 0;
    }
    if (r < 0 || getting->empty)
        return r;
    r = blobs_read(q->control->blobs, q->parts[2], &send->fd, &send->bytes, err);
    return r == ERR_NOT_FOUND
               ? err_set(err, ERR_INTERNAL, "the file of blob '%s' is gone", ERR_SLICE(q->parts[2]))
               : r;
}

static void on_get_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    if (!q->x) {
        closed(q);
        return;
    }
    if (err) {
        request_fail(q, err);
        return;
    }
    const struct http_header headers[] = {
        { SLICE("Content-Type"), SLICE("application/octet-stream") },
        { SLICE("Docker-Content-Digest"), q->parts[2] },
        { SLICE("ETag"), slice_of(arena_format(q->arena, "\"%.*s\"", SLICE_FMT(q->parts[2]))) },
        { SLICE("Cache-Control"), SLICE("private, immutable") },
    };
    const struct getting *getting = q->data;
    if (getting->empty)
        request_reply_with(q, 200, headers + 1, 2, "application/octet-stream", SLICE("{}"));
    else
        blob_send_start(q, q->data, headers, 4);
}

void registry_blob_get(struct request *q)
{
    struct getting *getting = ARENA_NEW(q->arena, struct getting);
    if (!digest_good(q))
        return;
    getting->send.fd = -1;
    q->data = getting;
    q->on_closed = closed;
    request_read(q, on_get_run, on_get_done);
}

static int on_delete_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct store_audit *audit = q->data;
    uint64_t id, bytes;
    int r = registry_find(q, store, &id, err);
    if (r == 0)
        r = registry_blob_find(q, store, q->parts[2], &bytes, err);
    if (r == 0)
        r = store->repository_blob_delete(store, id, q->parts[2], err);
    audit->before = q->parts[2];
    return r < 0 ? r : store->audit_add(store, audit, err);
}

void registry_blob_delete(struct request *q)
{
    struct store_audit *audit = ARENA_NEW(q->arena, struct store_audit);
    *audit = registry_audit(q, "delete blob");
    q->data = audit;
    if (digest_good(q))
        request_write(q, on_delete_run, registry_on_deleted);
}
