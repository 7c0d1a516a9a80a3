/* SPDX-License-Identifier: Apache-2.0 */
/* The registry's routes and errors, and its lists. */
#include "control/registry.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/json.h"
#include "control/artifact.h"
#include "control/control_own.h"
#include "spec/endpoint.h"
#include "spec/reference.h"
#include "store/blobs.h"
#include "store/oci.h"
#include "store/store.h"

enum {
    REFERRERS_MAX = 100,            /* a page */
    REFERRERS_BYTES_MAX = 8 << 20,  /* of manifests that are read for a page */
    REFERRERS_ANSWER_MAX = 3 << 20, /* of descriptors written */
};

#define REPOSITORY "/v2/{project}/{repository}"

/* clang-format off */
const struct route registry_routes[] = {
    /* method, path, scope, flags, body, handler, operation; the rest is the specification's */
    { HTTP_GET,    "/v2/", SCOPE_PUBLIC, ROUTE_ROOT, BODY_NONE, registry_ping,
      "registryPing", "", NULL, NULL, 200, "Is this a registry?" },
    { HTTP_GET,    REPOSITORY "/tags/list", SCOPE_READ, ROUTE_ROOT, BODY_NONE, registry_tags,
      "registryTags", "n,last", NULL, NULL, 200, "List tags." },
    { HTTP_GET,    REPOSITORY "/referrers/{digest}", SCOPE_READ, ROUTE_ROOT, BODY_NONE,
      registry_referrers, "registryReferrers", "artifactType,last", NULL, NULL, 200,
      "List manifests whose subject this is." },
    { HTTP_GET,    REPOSITORY "/manifests/{reference}", SCOPE_READ, ROUTE_ROOT, BODY_NONE,
      registry_manifest_get, "registryManifestGet", "", NULL, NULL, 200, "Pull a manifest." },
    { HTTP_PUT,    REPOSITORY "/manifests/{reference}", SCOPE_MANAGE, ROUTE_ROOT, BODY_MANIFEST,
      registry_manifest_put, "registryManifestPut", "tag", NULL, NULL, 201, "Push a manifest." },
    { HTTP_DELETE, REPOSITORY "/manifests/{reference}", SCOPE_MANAGE, ROUTE_ROOT, BODY_NONE,
      registry_manifest_delete, "registryManifestDelete", "", NULL, NULL, 202,
      "Delete a manifest, or a tag." },
    { HTTP_GET,    REPOSITORY "/blobs/{digest}", SCOPE_READ, ROUTE_ROOT, BODY_NONE,
      registry_blob_get, "registryBlobGet", "", NULL, NULL, 200, "Pull a blob." },
    { HTTP_DELETE, REPOSITORY "/blobs/{digest}", SCOPE_MANAGE, ROUTE_ROOT, BODY_NONE,
      registry_blob_delete, "registryBlobDelete", "", NULL, NULL, 202, "Delete a blob." },
    { HTTP_POST,   REPOSITORY "/blobs/uploads/", SCOPE_MANAGE, ROUTE_ROOT, BODY_UPLOAD,
      registry_upload_post, "registryUploadPost", "digest,mount,from", NULL, NULL, 202,
      "Begin an upload; push a small blob at once; or take a blob from another repository." },
    { HTTP_GET,    REPOSITORY "/blobs/uploads/{upload}", SCOPE_MANAGE, ROUTE_ROOT, BODY_NONE,
      registry_upload_get, "registryUploadGet", "", NULL, NULL, 204, "How far an upload is." },
    { HTTP_PATCH,  REPOSITORY "/blobs/uploads/{upload}", SCOPE_MANAGE, ROUTE_ROOT, BODY_UPLOAD,
      registry_upload_patch, "registryUploadPatch", "", NULL, NULL, 202, "Go on with an upload." },
    { HTTP_PUT,    REPOSITORY "/blobs/uploads/{upload}", SCOPE_MANAGE, ROUTE_ROOT, BODY_UPLOAD,
      registry_upload_put, "registryUploadPut", "digest", NULL, NULL, 201, "End an upload." },
    { HTTP_DELETE, REPOSITORY "/blobs/uploads/{upload}", SCOPE_MANAGE, ROUTE_ROOT, BODY_NONE,
      registry_upload_delete, "registryUploadDelete", "", NULL, NULL, 204, "Give an upload up." },
};
/* clang-format on */
const size_t registry_route_count = sizeof registry_routes / sizeof *registry_routes;

bool registry_is(const struct http_request *head)
{
    return head->segment_count > 0 && slice_is(head->segments[0], "v2");
}

int registry_check_name(struct request *q, struct err *err)
{
    if (!q->parts[0].data) /* the ping names none */
        return 0;
    q->code_bad = "NAME_INVALID";
    int r = spec_check_project_name(q->parts[0], err);
    if (r == 0)
        r = reference_check_name(q->parts[1], err);
    if (r == 0)
        q->code_bad = NULL;
    return r;
}

/* ---- errors --------------------------------------------------------------------------------- */

/* Of the codes that the specification lists; what it has none for is named as others do. */
static const char *code_of(const struct request *q, const struct err *err)
{
    switch (err->code) {
    case ERR_BAD_INPUT:
        return q && q->code_bad ? q->code_bad : "UNSUPPORTED";
    case ERR_NOT_FOUND:
        return q && q->code_absent ? q->code_absent : "NAME_INVALID";
    case ERR_CONFLICT:
        return "BLOB_UPLOAD_INVALID";
    case ERR_TOO_LARGE:
        return "SIZE_INVALID";
    case ERR_UNAUTHENTICATED:
        return "UNAUTHORIZED";
    case ERR_FORBIDDEN:
    case ERR_MISDIRECTED:
        return "DENIED";
    case ERR_OVERLOADED:
    case ERR_RATE_LIMITED:
        return "TOOMANYREQUESTS";
    case ERR_BAD_METHOD:
    case ERR_NOT_SUPPORTED:
        return "UNSUPPORTED";
    default:
        return "UNKNOWN";
    }
}

struct slice registry_errors(struct arena *arena, const struct request *q, const struct err *err)
{
    struct json_writer w;
    json_begin(&w, arena, JSON_NEWLINE);
    json_object_begin(&w);
    json_key(&w, "errors");
    json_array_begin(&w);
    json_object_begin(&w);
    json_member_text(&w, "code", code_of(q, err));
    json_member_text(&w, "message", err->message);
    json_key(&w, "detail");
    json_object_begin(&w);
    json_member_text(&w, "error", err_info(err->code)->name);
    json_object_end(&w);
    json_object_end(&w);
    json_array_end(&w);
    json_object_end(&w);
    return json_end(&w);
}

/* ---- what handlers share -------------------------------------------------------------------- */

struct store_audit registry_audit(struct request *q, const char *action)
{
    struct store_audit audit = request_audit(q, action);
    audit.project = q->parts[0];
    audit.endpoint = q->parts[1];
    return audit;
}

int registry_find(struct request *q, struct store *store, uint64_t *ret_id, struct err *err)
{
    int r = store->repository_find(store, q->parts[0], q->parts[1], ret_id, err);
    if (r != ERR_NOT_FOUND)
        return r;
    q->code_absent = "NAME_UNKNOWN";
    return err_set(err, ERR_NOT_FOUND, "no repository '%s/%s'", ERR_SLICE(q->parts[0]),
                   ERR_SLICE(q->parts[1]));
}

int registry_blob_find(struct request *q, struct store *store, struct slice digest,
                       uint64_t *ret_bytes, struct err *err)
{
    uint64_t id;
    int r = store->repository_find(store, q->parts[0], q->parts[1], &id, err);
    if (r == 0)
        r = store->repository_blob_find(store, id, digest, ret_bytes, err);
    if (r != ERR_NOT_FOUND)
        return r;
    q->code_absent = "BLOB_UNKNOWN";
    return err_set(err, ERR_NOT_FOUND, "no blob '%s' in '%s/%s'", ERR_SLICE(digest),
                   ERR_SLICE(q->parts[0]), ERR_SLICE(q->parts[1]));
}

int registry_manifest_find(struct request *q, struct store *store, struct slice reference,
                           struct store_manifest *ret, struct err *err)
{
    uint64_t id;
    bool digest = reference.size && memchr(reference.data, ':', reference.size);
    int r = store->repository_find(store, q->parts[0], q->parts[1], &id, err);
    if (r == 0)
        r = digest ? store->manifest_find(store, id, reference, q->arena, ret, err)
                   : store->manifest_tagged(store, id, reference, q->arena, ret, err);
    if (r != ERR_NOT_FOUND)
        return r;
    q->code_absent = "MANIFEST_UNKNOWN";
    return err_set(err, ERR_NOT_FOUND, "no manifest '%s' in '%s/%s'", ERR_SLICE(reference),
                   ERR_SLICE(q->parts[0]), ERR_SLICE(q->parts[1]));
}

int registry_manifest_load(struct request *q, struct arena *arena, struct slice digest,
                           struct slice *ret, struct err *err)
{
    char *data;
    size_t bytes;
    int r = blobs_load(q->control->blobs, digest, OCI_MANIFEST_BYTES_MAX, &data, &bytes, err);
    if (r == ERR_NOT_FOUND) /* a row says that it is there */
        return err_set(err, ERR_INTERNAL, "the file of manifest %.*s is gone", SLICE_FMT(digest));
    if (r < 0)
        return r;
    *ret = arena_copy(arena, (struct slice){ data, bytes });
    free(data);
    return 0;
}

struct artifact registry_artifact(struct request *q, struct store *store)
{
    return (struct artifact){ .store = store, .blobs = q->control->blobs, .arena = q->arena };
}

struct slice registry_location(struct request *q, const char *what, struct slice last)
{
    return slice_of(arena_format(q->arena, "/v2/%.*s/%.*s/%s/%.*s", SLICE_FMT(q->parts[0]),
                                 SLICE_FMT(q->parts[1]), what, SLICE_FMT(last)));
}

void registry_on_deleted(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    if (err) {
        request_fail(q, err);
        return;
    }
    if (memchr(q->parts[2].data, ':', q->parts[2].size)) /* a tag lets go of nothing */
        control_collect(q->control, q->parts[2]);
    request_reply_with(q, 202, NULL, 0, NULL, (struct slice){});
}

/* Keys, once there are some: here /v2/ without one answers 401 with Basic (any user, the key as the
 * password), and each route's scope is asked for its project. */
void registry_ping(struct request *q)
{
    const struct http_header headers[] = {
        { SLICE("Docker-Distribution-Api-Version"), SLICE("registry/2.0") },
    };
    request_reply_with(q, 200, headers, 1, "application/json", SLICE("{}"));
}

/* ---- tags ----------------------------------------------------------------------------------- */

struct tags {
    uint64_t limit;
    struct slice last;
    struct slice *items;
    size_t count;
};

/* Both are in order; no tag is in both. */
static void merge_tags(struct request *q, struct tags *tags, const struct slice *revisions,
                       size_t revision_count)
{
    struct slice *all = ARENA_ARRAY(q->arena, struct slice, tags->count + revision_count + 1);
    size_t count = 0, i = 0, k = 0;
    while (k < revision_count && slice_order(revisions[k], tags->last) <= 0)
        k++; /* those were told */
    while (i < tags->count || k < revision_count)
        if (k == revision_count ||
            (i < tags->count && slice_order(tags->items[i], revisions[k]) < 0))
            all[count++] = tags->items[i++];
        else
            all[count++] = revisions[k++];
    tags->items = all;
    tags->count = count;
}

static int on_tags_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct tags *tags = q->data;
    struct slice *revisions = NULL;
    size_t revision_count = 0;
    uint64_t id;
    const struct artifact artifact = registry_artifact(q, store);
    int r = artifact_tags(&artifact, q->parts[0], q->parts[1], &revisions, &revision_count, err);
    bool endpoint = r == 0;
    if (r == 0 || r == ERR_NOT_FOUND)
        r = registry_find(q, store, &id, err);
    if (r == 0)
        r = store->tag_list(store, id, tags->last, (uint32_t)tags->limit + 1, q->arena,
                            &tags->items, &tags->count, err);
    if (r < 0 && !(r == ERR_NOT_FOUND && endpoint))
        return r;
    merge_tags(q, tags, revisions, revision_count);
    return 0;
}

static void on_tags_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    const struct tags *tags = q->data;
    struct json_writer w;
    struct http_header link[1];
    if (err) {
        request_fail(q, err);
        return;
    }
    bool more = tags->count > tags->limit && tags->limit;
    size_t count = tags->count < tags->limit ? tags->count : (size_t)tags->limit;
    json_begin(&w, q->arena, JSON_NEWLINE);
    json_object_begin(&w);
    json_member_text(
        &w, "name",
        arena_format(q->arena, "%.*s/%.*s", SLICE_FMT(q->parts[0]), SLICE_FMT(q->parts[1])));
    json_key(&w, "tags");
    json_array_begin(&w);
    for (size_t i = 0; i < count; i++)
        json_string(&w, tags->items[i]);
    json_array_end(&w);
    json_object_end(&w);
    if (more)
        link[0] = (struct http_header){
            SLICE("Link"),
            slice_of(arena_format(q->arena, "<%.*s?n=%llu&last=%.*s>; rel=\"next\"",
                                  SLICE_FMT(registry_location(q, "tags", SLICE("list"))),
                                  (unsigned long long)tags->limit,
                                  SLICE_FMT(tags->items[count - 1]))),
        };
    request_reply_with(q, 200, link, more, "application/json", json_end(&w));
}

void registry_tags(struct request *q)
{
    struct tags *tags = ARENA_NEW(q->arena, struct tags);
    struct err err;
    tags->limit = STORE_PAGE_MAX;
    tags->last = request_query(q, "last");
    q->code_bad = "UNSUPPORTED";
    if (request_number(q, "n", UINT32_MAX, &tags->limit, &err) < 0) {
        request_fail(q, &err);
        return;
    }
    if (tags->limit > STORE_PAGE_MAX)
        tags->limit = STORE_PAGE_MAX;
    q->data = tags;
    request_read(q, on_tags_run, on_tags_done);
}

/* ---- referrers ------------------------------------------------------------------------------ */

struct referrers {
    struct slice digest, artifact_type, last;
    struct json_writer w;
    struct slice next; /* the last one written, where there are more */
};

/* In `arena` is the manifest, and all that reading it makes: many times its bytes. */
static int write_referrer(struct request *q, struct arena *arena, const struct store_manifest *row,
                          struct err *err)
{
    struct referrers *referrers = q->data;
    struct json_writer *w = &referrers->w;
    struct oci_manifest manifest;
    struct slice text;
    int r = registry_manifest_load(q, arena, row->digest, &text, err);
    if (r == 0)
        r = oci_manifest_parse(arena, text, row->media_type, &manifest, err);
    if (r < 0)
        return r;
    json_object_begin(w);
    json_member_string(w, "mediaType", row->media_type);
    json_member_string(w, "digest", row->digest);
    json_member_u64(w, "size", row->bytes);
    if (row->artifact_type.size)
        json_member_string(w, "artifactType", row->artifact_type);
    if (manifest.annotations.size) {
        json_key(w, "annotations");
        json_raw(w, manifest.annotations);
    }
    json_object_end(w);
    return 0;
}

static int write_referrers(struct request *q, struct store *store, struct err *err)
{
    struct referrers *referrers = q->data;
    struct store_manifest *rows;
    size_t count = 0;
    uint64_t id, bytes = 0;
    int r = store->repository_find(store, q->parts[0], q->parts[1], &id, err);
    if (r == 0)
        r = store->referrer_list(store, id, referrers->digest, referrers->artifact_type,
                                 referrers->last, REFERRERS_MAX + 1, q->arena, &rows, &count, err);
    if (r < 0) /* of what is not there nobody says anything */
        return r == ERR_NOT_FOUND ? 0 : r;
    for (size_t i = 0; i < count && r == 0; i++) {
        bytes += rows[i].bytes;
        if (i > 0 && (i == REFERRERS_MAX || bytes > REFERRERS_BYTES_MAX ||
                      referrers->w.size > REFERRERS_ANSWER_MAX)) {
            referrers->next = rows[i - 1].digest;
            break;
        }
        struct arena *arena = arena_new();
        r = write_referrer(q, arena, &rows[i], err);
        arena_free(arena);
    }
    return r;
}

static int on_referrers_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct referrers *referrers = q->data;
    struct json_writer *w = &referrers->w;
    json_begin(w, q->arena, JSON_NEWLINE);
    json_object_begin(w);
    json_member_u64(w, "schemaVersion", 2);
    json_member_text(w, "mediaType", "application/vnd.oci.image.index.v1+json");
    json_key(w, "manifests");
    json_array_begin(w);
    int r = write_referrers(q, store, err);
    if (r < 0)
        return r;
    json_array_end(w);
    json_object_end(w);
    return 0;
}

static void on_referrers_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct referrers *referrers = q->data;
    struct http_header headers[2];
    size_t n = 0;
    if (err) {
        request_fail(q, err);
        return;
    }
    if (referrers->artifact_type.size)
        headers[n++] = (struct http_header){ SLICE("OCI-Filters-Applied"), SLICE("artifactType") };
    if (referrers->next.size)
        headers[n++] = (struct http_header){
            SLICE("Link"),
            slice_of(arena_format(
                q->arena, "<%.*s?last=%.*s%s%.*s>; rel=\"next\"",
                SLICE_FMT(registry_location(q, "referrers", referrers->digest)),
                SLICE_FMT(referrers->next), referrers->artifact_type.size ? "&artifactType=" : "",
                SLICE_FMT(http_percent_encode(q->arena, referrers->artifact_type)))),
        };
    request_reply_with(q, 200, headers, n, "application/vnd.oci.image.index.v1+json",
                       json_end(&referrers->w));
}

void registry_referrers(struct request *q)
{
    struct referrers *referrers = ARENA_NEW(q->arena, struct referrers);
    enum digest_kind kind;
    struct err err;
    q->code_bad = "DIGEST_INVALID";
    if (digest_check_any(q->parts[2], &kind, &err) < 0) {
        request_fail(q, &err);
        return;
    }
    referrers->digest = q->parts[2];
    referrers->artifact_type = request_query(q, "artifactType");
    referrers->last = request_query(q, "last");
    q->data = referrers;
    request_read(q, on_referrers_run, on_referrers_done);
}
