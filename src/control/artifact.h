/* SPDX-License-Identifier: Apache-2.0 */
/*
 * artifact.h -- models and the registry, both ways: `model: oci://REF` becomes the digest that a
 * revision keeps, and a revision's model is an artifact, pulled as PROJECT/NAME:revision-N; its
 * image likewise (images: pinned.h).
 *
 * On a store's thread, inside its transaction: what is found is held before the collector comes.
 * Text lies in the arena.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct abroad_found;
struct arena;
struct blobs;
struct err;
struct reference;
struct store;
struct store_manifest;

#define ARTIFACT_SCHEME "oci://"

struct artifact {
    struct store *store; /* all borrowed */
    struct blobs *blobs;
    struct arena *arena;
    const struct slice *hosts; /* host:port by which this registry is named */
    size_t host_count;
    int64_t now_ns;
    const struct abroad_found *found; /* of another registry, kept already; NULL: none was asked */
};

/* Is this host this registry? Empty: it is. */
bool artifact_own(const struct slice *hosts, size_t count, struct slice host);

/* What "oci://..." names now: of one file that is a model its digest, else that of a manifest of
 * ours (store/manifest.h) over its files, which is put among the blobs. Files are layers with a
 * title, as `oras push` makes them. What is no model is ERR_BAD_INPUT. */
[[nodiscard]] int artifact_resolve(const struct artifact *artifact, struct slice model,
                                   struct slice *ret_digest, struct err *err);

/* The manifest or index that a name means now. What is not there is ERR_BAD_INPUT, and says what to
 * do. */
[[nodiscard]] int artifact_manifest(const struct artifact *artifact,
                                    const struct reference *reference, struct slice written,
                                    struct store_manifest *ret, struct slice *ret_text,
                                    struct err *err);
/* A blob of at most so many bytes, whole. ERR_NOT_FOUND without a message. */
[[nodiscard]] int artifact_load(const struct artifact *artifact, struct slice digest,
                                size_t bytes_max, struct slice *ret, struct err *err);

/* Is it here, or still to come from another registry? ERR_NOT_FOUND: neither. */
[[nodiscard]] int artifact_has(const struct artifact *artifact, struct slice digest,
                               uint64_t *ret_bytes, struct err *err);

/* "revision-N": nobody pushes such a tag. */
bool artifact_tag(struct slice tag, uint64_t *ret_number);
/* A revision's model, or image, as a manifest: by its tag, or by its digest. ERR_NOT_FOUND without
 * a message: there is no such endpoint, or revision kept. */
[[nodiscard]] int artifact_find(const struct artifact *artifact, struct slice project,
                                struct slice name, struct slice reference,
                                struct store_manifest *ret, struct slice *ret_text,
                                struct err *err);
/* Is it a file of a revision kept? ERR_NOT_FOUND likewise. */
[[nodiscard]] int artifact_blob(const struct artifact *artifact, struct slice project,
                                struct slice name, struct slice digest, struct err *err);
/* Tags of the revisions kept, in order of bytes. */
[[nodiscard]] int artifact_tags(const struct artifact *artifact, struct slice project,
                                struct slice name, struct slice **ret, size_t *ret_count,
                                struct err *err);
