/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifests of a repository: by digest or tag. One is taken when all that it names is there, and is
 * given back byte for byte.
 */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "control/artifact.h"
#include "control/control_own.h"
#include "control/registry.h"
#include "spec/reference.h"
#include "store/blobs.h"
#include "store/manifest.h"
#include "store/oci.h"
#include "store/store.h"

enum { TAGS_MAX = 10 }; /* given to one push by ?tag= */

/* What its layers wait after it is gone, as another push may be counting on them. */
#define LAYERS_NS (INT64_C(3600) * 1'000'000'000)

struct manifest_call {
    struct slice reference, text;
    bool by_digest;
    enum digest_kind kind;
    struct store_manifest manifest;
    char digest[DIGEST_TEXT_MAX];
    struct slice tags[TAGS_MAX];
    size_t tag_count;
    struct store_audit audit; /* of what changes something */
};

/* Reads the path's reference: a digest has a colon, a tag never. False: it was refused. */
static bool reference_good(struct request *q, struct manifest_call *call)
{
    struct err err;
    call->reference = q->parts[2];
    call->by_digest = memchr(call->reference.data, ':', call->reference.size);
    q->code_bad = call->by_digest ? "DIGEST_INVALID" : "MANIFEST_INVALID";
    int r = call->by_digest ? digest_check_any(call->reference, &call->kind, &err)
                            : reference_check_tag(call->reference, &err);
    if (r < 0)
        request_fail(q, &err);
    return r == 0;
}

static struct manifest_call *call_new(struct request *q)
{
    struct manifest_call *call = ARENA_NEW(q->arena, struct manifest_call);
    q->data = call;
    return reference_good(q, call) ? call : NULL;
}

/* ---- pulling -------------------------------------------------------------------------------- */

static int on_get_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct manifest_call *call = q->data;
    const struct artifact artifact = registry_artifact(q, store);
    struct err unused;
    int r = registry_manifest_find(q, store, call->reference, &call->manifest, err);
    if (r == ERR_NOT_FOUND && artifact_find(&artifact, q->parts[0], q->parts[1], call->reference,
                                            &call->manifest, &call->text, &unused) == 0)
        return 0;
    return r < 0 ? r : registry_manifest_load(q, q->arena, call->manifest.digest, &call->text, err);
}

static void on_get_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    const struct manifest_call *call = q->data;
    if (err) {
        request_fail(q, err);
        return;
    }
    const struct http_header headers[] = {
        { SLICE("Docker-Content-Digest"), call->manifest.digest },
        { SLICE("ETag"),
          slice_of(arena_format(q->arena, "\"%.*s\"", SLICE_FMT(call->manifest.digest))) },
    };
    request_reply_with(q, 200, headers, 2, arena_string(q->arena, call->manifest.media_type),
                       call->text);
}

void registry_manifest_get(struct request *q)
{
    if (call_new(q))
        request_read(q, on_get_run, on_get_done);
}

/* ---- pushing -------------------------------------------------------------------------------- */

/* What a revision of the endpoint of this name has is here (HEAD says so): the repository has it
 * from now on. ERR_NOT_FOUND. */
static int adopt_blob(struct request *q, struct store *store, uint64_t id, struct slice digest,
                      uint64_t *ret_bytes, struct err *err)
{
    const struct artifact artifact = registry_artifact(q, store);
    char unused[DIGEST_TEXT];
    int r = artifact_blob(&artifact, q->parts[0], q->parts[1], digest, err);
    if (r == 0 && slice_is(digest, MANIFEST_EMPTY_DIGEST)) /* it had no file */
        r = blobs_put(q->control->blobs, SLICE("{}"), unused, err);
    if (r == 0)
        r = blobs_find(q->control->blobs, digest, ret_bytes, err);
    return r < 0 ? r : store->repository_blob_put(store, id, digest, *ret_bytes, q->now_ns, err);
}

static int check_parts(struct request *q, struct store *store, uint64_t id,
                       const struct oci_manifest *manifest, struct slice **ret_digests,
                       struct err *err);

/* Likewise a revision itself, which an index names. */
static int adopt_manifest(struct request *q, struct store *store, uint64_t id, struct slice digest,
                          struct store_manifest *ret, struct err *err)
{
    const struct artifact artifact = registry_artifact(q, store);
    char unused[DIGEST_TEXT_MAX];
    struct oci_manifest image;
    struct slice text, *parts = NULL;
    int r = artifact_find(&artifact, q->parts[0], q->parts[1], digest, ret, &text, err);
    if (r == 0)
        r = oci_manifest_parse(q->arena, text, ret->media_type, &image, err);
    if (r == 0)
        r = check_parts(q, store, id, &image, &parts, err);
    if (r == 0)
        r = blobs_put_of(q->control->blobs, DIGEST_SHA256, text, unused, err);
    return r ? r : store->manifest_put(store, id, ret, parts, image.count, err);
}

static int check_part(struct request *q, struct store *store, uint64_t id,
                      const struct oci_part *part, struct err *err)
{
    struct store_manifest manifest;
    uint64_t bytes = part->bytes;
    int r = ERR_NOT_FOUND;
    if (part->manifest) {
        r = store->manifest_find(store, id, part->digest, q->arena, &manifest, err);
        if (r == ERR_NOT_FOUND)
            r = adopt_manifest(q, store, id, part->digest, &manifest, err);
        if (r == 0)
            bytes = manifest.bytes;
    }
    if (r == ERR_NOT_FOUND)
        r = store->repository_blob_find(store, id, part->digest, &bytes, err);
    if (r == ERR_NOT_FOUND)
        r = adopt_blob(q, store, id, part->digest, &bytes, err);
    if (r == ERR_NOT_FOUND && part->elsewhere)
        return 0;
    if (r == ERR_NOT_FOUND) {
        q->code_bad = "MANIFEST_BLOB_UNKNOWN";
        return err_set(err, ERR_BAD_INPUT,
                       "the manifest names %s %.*s, which '%s/%s' does not have",
                       part->manifest ? "manifest" : "blob", SLICE_FMT(part->digest),
                       ERR_SLICE(q->parts[0]), ERR_SLICE(q->parts[1]));
    }
    if (r == 0 && bytes != part->bytes)
        return err_set(
            err, ERR_BAD_INPUT, "the manifest says that %.*s has %llu bytes; it has %llu",
            SLICE_FMT(part->digest), (unsigned long long)part->bytes, (unsigned long long)bytes);
    return r;
}

static int check_parts(struct request *q, struct store *store, uint64_t id,
                       const struct oci_manifest *manifest, struct slice **ret_digests,
                       struct err *err)
{
    int r = 0;
    *ret_digests = ARENA_ARRAY(q->arena, struct slice, manifest->count + 1);
    for (size_t i = 0; i < manifest->count && r == 0; i++) {
        (*ret_digests)[i] = manifest->parts[i].digest;
        r = check_part(q, store, id, &manifest->parts[i], err);
    }
    return r;
}

/* Gives a tag, and says what it named before: a row of the audit log for each. */
static int put_tag(struct request *q, struct store *store, uint64_t id, struct slice tag,
                   struct err *err)
{
    struct manifest_call *call = q->data;
    struct store_manifest before = {};
    int r = store->manifest_tagged(store, id, tag, q->arena, &before, err);
    if (r < 0 && r != ERR_NOT_FOUND)
        return r;
    r = store->tag_put(store, id, tag, call->manifest.digest, q->now_ns, err);
    call->audit.before = before.digest;
    return r < 0 ? r : store->audit_add(store, &call->audit, err);
}

static int put_rows(struct request *q, struct store *store, uint64_t id,
                    const struct oci_manifest *manifest, const struct slice *parts, struct err *err)
{
    struct manifest_call *call = q->data;
    call->manifest = (struct store_manifest){
        .digest = slice_of(call->digest),
        .media_type = manifest->media_type,
        .artifact_type = manifest->artifact_type,
        .subject = manifest->subject,
        .bytes = call->text.size,
        .created_ns = q->now_ns,
    };
    int r = store->manifest_put(store, id, &call->manifest, parts, manifest->count, err);
    call->audit.after = call->manifest.digest;
    for (size_t i = 0; i < call->tag_count && r == 0; i++)
        r = put_tag(q, store, id, call->tags[i], err);
    return r < 0 || call->tag_count ? r : store->audit_add(store, &call->audit, err);
}

static int on_put_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct manifest_call *call = q->data;
    struct oci_manifest manifest;
    struct slice *parts = NULL;
    uint64_t id;
    q->code_bad = "MANIFEST_INVALID";
    int r = oci_manifest_parse(q->arena, call->text,
                               arena_copy(q->arena, call->manifest.media_type), &manifest, err);
    if (r == 0)
        r = store->repository_ensure(store, q->parts[0], q->parts[1], q->now_ns, &id, err);
    if (r == 0)
        r = check_parts(q, store, id, &manifest, &parts, err);
    if (r == 0) /* the collector is of this thread: it finds file and rows, or neither */
        r = blobs_put_of(q->control->blobs, call->kind, call->text, call->digest, err);
    return r ? r : put_rows(q, store, id, &manifest, parts, err);
}

static void on_put_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    const struct manifest_call *call = q->data;
    struct http_header headers[4];
    size_t n = 0;
    if (err) {
        request_fail(q, err);
        return;
    }
    headers[n++] = (struct http_header){ SLICE("Location"),
                                         registry_location(q, "manifests", call->manifest.digest) };
    headers[n++] = (struct http_header){ SLICE("Docker-Content-Digest"), call->manifest.digest };
    if (call->manifest.subject.size)
        headers[n++] = (struct http_header){ SLICE("OCI-Subject"), call->manifest.subject };
    if (call->by_digest && call->tag_count) {
        const char *tags = arena_string(q->arena, call->tags[0]);
        for (size_t i = 1; i < call->tag_count; i++)
            tags = arena_format(q->arena, "%s, %.*s", tags, SLICE_FMT(call->tags[i]));
        headers[n++] = (struct http_header){ SLICE("OCI-Tag"), slice_of(tags) };
    }
    request_reply_with(q, 201, headers, n, NULL, (struct slice){});
}

static int add_tag(struct manifest_call *call, struct slice tag, struct err *err)
{
    uint64_t number;
    if (call->tag_count == TAGS_MAX)
        return err_set(err, ERR_BAD_INPUT, "one push gives at most %d tags", (int)TAGS_MAX);
    if (artifact_tag(tag, &number))
        return err_set(err, ERR_FORBIDDEN,
                       "'%s' is a revision's name, which Perigee gives: take another tag",
                       ERR_SLICE(tag));
    call->tags[call->tag_count++] = tag;
    return reference_check_tag(tag, err);
}

static int read_tags(struct request *q, struct manifest_call *call, struct err *err)
{
    int r = call->by_digest ? 0 : add_tag(call, call->reference, err);
    for (size_t i = 0; i < q->query.count && r == 0; i++)
        if (slice_is(q->query.items[i].name, "tag"))
            r = add_tag(call, q->query.items[i].value, err);
    return r;
}

void registry_manifest_put(struct request *q)
{
    struct manifest_call *call = call_new(q);
    struct err err;
    if (!call)
        return;
    call->audit = registry_audit(q, "push manifest");
    q->code_bad = "MANIFEST_INVALID";
    call->text = (struct slice){ q->body, q->body_bytes };
    call->manifest.media_type = arena_copy(q->arena, request_header(q, "Content-Type"));
    int r = read_tags(q, call, &err);
    if (r == 0) {
        struct digest *digest = digest_new_of(call->kind);
        digest_add(digest, call->text.data ? call->text.data : "", call->text.size);
        digest_end_of(digest, call->digest);
        digest_free(digest);
        q->code_bad = call->by_digest ? "DIGEST_INVALID" : q->code_bad;
        if (call->by_digest && !slice_is(call->reference, call->digest))
            r = err_set(&err, ERR_BAD_INPUT, "the manifest that came is %s, not %.*s", call->digest,
                        SLICE_FMT(call->reference));
    }
    if (r < 0)
        request_fail(q, &err);
    else
        request_write(q, on_put_run, on_put_done);
}

/* ---- deleting ------------------------------------------------------------------------------- */

static int on_delete_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct manifest_call *call = q->data;
    uint64_t id;
    int r = registry_find(q, store, &id, err);
    if (r == 0)
        r = registry_manifest_find(q, store, call->reference, &call->manifest, err);
    if (r == 0 && call->by_digest)
        r = store->manifest_delete(store, id, call->reference,
                                   q->now_ns - CONTROL_LAYERS_KEPT_NS + LAYERS_NS, err);
    else if (r == 0)
        r = store->tag_delete(store, id, call->reference, err);
    call->audit.before = call->manifest.digest;
    return r < 0 ? r : store->audit_add(store, &call->audit, err);
}

void registry_manifest_delete(struct request *q)
{
    struct manifest_call *call = call_new(q);
    if (!call)
        return;
    call->audit = registry_audit(q, call->by_digest ? "delete manifest" : "delete tag");
    request_write(q, on_delete_run, registry_on_deleted);
}
