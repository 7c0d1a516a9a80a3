/* SPDX-License-Identifier: Apache-2.0 */
/* A blob of another registry, on a thread: gone on with where it was cut, until it is whole. */
#include "base/arena.h"
#include "base/auto.h"
#include "control/control_own.h"
#include "control/copies_own.h"
#include "http/fetch.h"
#include "store/blobs.h"

enum {
    ATTEMPTS = 5, /* in a row, as long as each brings something */
    IDLE_MS = 30'000,
};

static bool on_body(struct slice bytes, void *data)
{
    struct copy *copy = data;
    int r = blob_upload_write(copy->upload, bytes.data, bytes.size, &copy->body_err);
    if (r < 0)
        return false;
    atomic_store(&copy->done, blob_upload_offset(copy->upload));
    atomic_fetch_add(&copy->brought, bytes.size);
    return true;
}

/* From `offset` on. 1: the registry knows no ranges. */
static int copy_rest(struct copy *copy, struct elsewhere *elsewhere, uint64_t offset,
                     struct err *err)
{
    struct blobs *blobs = copy->ask.blobs;
    struct fetch_answer answer;
    int r =
        blob_upload_begin(blobs, copy->digest, offset, copy->bytes, &offset, &copy->upload, err);
    if (r < 0) {
        copy->trouble.lasting = r == ERR_TOO_LARGE;
        return r;
    }
    atomic_store(&copy->done, offset);
    const struct elsewhere_call call = {
        .path = arena_format(copy->run_arena, "blobs/%.*s", SLICE_FMT(copy->digest)),
        .from = offset,
        .idle_ms = IDLE_MS,
        .on_body = on_body,
        .data = copy,
    };
    copy->body_err = (struct err){};
    if (offset < copy->bytes) {
        atomic_store(&copy->receiving, true);
        r = elsewhere_call(elsewhere, &call, copy->run_arena, &answer, &copy->trouble, err);
        atomic_store(&copy->receiving, false);
        if (copy->body_err.code) {
            *err = copy->body_err;
            r = err->code;
            copy->trouble.lasting = r == ERR_TOO_LARGE;
        }
        if (r == 0 && offset && answer.status == 200)
            return 1;
    }
    if (r == 0 && blob_upload_offset(copy->upload) < copy->bytes)
        r = err_set(err, ERR_INTERNAL, "%s sent %llu of %llu bytes", copy->ask.registry.host,
                    (unsigned long long)blob_upload_offset(copy->upload),
                    (unsigned long long)copy->bytes);
    return r;
}

static int copy_some(struct copy *copy, struct elsewhere *elsewhere, struct err *err)
{
    uint64_t have = blob_upload_have(copy->ask.blobs, copy->digest);
    int r = copy_rest(copy, elsewhere, have < copy->bytes ? have : 0, err);
    if (r == 1) {
        blob_upload_free(take_ptr(copy->upload));
        r = copy_rest(copy, elsewhere, 0, err);
    }
    if (r == 0) {
        r = blob_upload_seal(copy->upload, err);
        if (r == ERR_BAD_INPUT) {
            copy->trouble.lasting = true;
            r = err_set(err, ERR_BAD_INPUT, "%s sent other bytes than %.*s names",
                        copy->ask.registry.host, SLICE_FMT(copy->digest));
        }
    }
    if (r < 0)
        blob_upload_free(take_ptr(copy->upload));
    return r;
}

static int copy_all(struct copy *copy, struct elsewhere *elsewhere, struct err *err)
{
    int r = 0;
    for (int i = 0; i < ATTEMPTS; i++) {
        uint64_t before = atomic_load(&copy->brought);
        copy->trouble = (struct elsewhere_trouble){};
        r = copy_some(copy, elsewhere, err);
        if (r == 0 || r == ERR_CANCELED || copy->trouble.lasting || copy->trouble.retry_ms ||
            copy->body_err.code /* our own disk's */ || atomic_load(&copy->brought) == before ||
            atomic_load(copy->ask.stop))
            break;
    }
    return r;
}

int copy_run(struct job *job, struct store *store, struct err *err)
{
    struct copy *copy = job->data;
    uint64_t bytes;
    (void)store;
    if (blobs_find(copy->ask.blobs, copy->digest, &bytes, err) == 0)
        return 0; /* it came by another way */
    struct arena *secret = arena_new_secret();
    struct elsewhere elsewhere;
    int r = abroad_unseal(&copy->ask, secret, err);
    if (r < 0) {
        copy->trouble.lasting = true;
    } else {
        elsewhere_open(&elsewhere, &copy->ask.registry,
                       arena_string(copy->run_arena, copy->repository), copy->ask.stop);
        r = copy_all(copy, &elsewhere, err);
        elsewhere_close(&elsewhere);
    }
    arena_free(secret);
    return r;
}
