/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry.h -- the OCI registry below /v2/ (distribution-spec 1.1): its routes, and what its files
 * share. Threads as in request.h.
 *
 * A repository is PROJECT/NAME: parts[0] and parts[1] of a call, checked before a handler runs.
 * Blobs and manifests are files by digest (store/blobs.h); what a repository has is rows.
 */
#pragma once

#include "control/request.h"

struct artifact;
struct store_audit;
struct store_manifest;

extern const struct route registry_routes[];
extern const size_t registry_route_count;

/* Is the call for the registry? */
bool registry_is(const struct http_request *head);
/* Of a call whose route was found: is the repository's name one? */
[[nodiscard]] int registry_check_name(struct request *q, struct err *err);
/* {"errors": [{code, message, detail}]}; the code is q's, or the one that fits `err`. q NULL: it
 * was refused before there was a request. */
struct slice registry_errors(struct arena *arena, const struct request *q, const struct err *err);

/* On the loop, which alone knows the client: filled but for the digests. */
struct store_audit registry_audit(struct request *q, const char *action);

/* On a store's thread: the repository of the call. ERR_NOT_FOUND, and its code NAME_UNKNOWN. */
[[nodiscard]] int registry_find(struct request *q, struct store *store, uint64_t *ret_id,
                                struct err *err);
/* A blob, or a manifest by digest or tag, that the call's repository has. ERR_NOT_FOUND. */
[[nodiscard]] int registry_blob_find(struct request *q, struct store *store, struct slice digest,
                                     uint64_t *ret_bytes, struct err *err);
[[nodiscard]] int registry_manifest_find(struct request *q, struct store *store,
                                         struct slice reference, struct store_manifest *ret,
                                         struct err *err);
/* The manifest's bytes. */
[[nodiscard]] int registry_manifest_load(struct request *q, struct arena *arena,
                                         struct slice digest, struct slice *ret, struct err *err);
/* Revisions' models, which are artifacts of the repository of their endpoint's name. */
struct artifact registry_artifact(struct request *q, struct store *store);
/* A blob or a manifest (by digest), or a tag, was deleted: 202, and what nobody has goes. */
void registry_on_deleted(struct job *job, const struct err *err);
/* "/v2/PROJECT/NAME/WHAT/LAST" as a header's value. */
struct slice registry_location(struct request *q, const char *what, struct slice last);

/* registry.c */
void registry_ping(struct request *q);
void registry_tags(struct request *q);
void registry_referrers(struct request *q);
/* registry_manifests.c */
void registry_manifest_get(struct request *q);
void registry_manifest_put(struct request *q);
void registry_manifest_delete(struct request *q);
/* registry_blobs.c */
void registry_blob_get(struct request *q);
void registry_blob_delete(struct request *q);
/* registry_uploads.c */
void registry_upload_post(struct request *q);
void registry_upload_patch(struct request *q);
void registry_upload_put(struct request *q);
void registry_upload_get(struct request *q);
void registry_upload_delete(struct request *q);
