/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pinned.h -- an image as a revision keeps it: `image: PROJECT/NAME:TAG` is looked up once, and
 * becomes the digest of a manifest for this machine's kind, which is looked at as whole: all it
 * names is here or to come from another registry, an engine can load it, something runs in it, and
 * it listens somewhere.
 *
 * On a store's thread, inside its transaction: what is found is held before the collector comes.
 * Text lies in the arena.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct arena;
struct artifact;
struct endpoint_spec;
struct err;
struct store_revision;

struct pinned {
    struct slice digest; /* of the manifest */
    uint16_t port;
    uint64_t bytes;      /* of configuration and layers */
    struct slice text;   /* what PoPs must know: JSON, see docs/api.md */
    struct slice *blobs; /* the revision needs them: manifest, configuration, layers */
    size_t blob_count;
};

/* spec->image is a name or a digest. Errors say what to do. */
[[nodiscard]] int pinned_find(const struct artifact *artifact, const struct endpoint_spec *spec,
                              struct pinned *ret, struct err *err);

/* A manifest whose type nobody has told; and of an index the one for this machine, NULL: none. */
struct oci_manifest;
struct oci_part;
[[nodiscard]] int pinned_parse(struct arena *arena, struct slice text, struct oci_manifest *ret,
                               struct err *err);
const struct oci_part *pinned_part(const struct oci_manifest *index);

/* Of what was kept: the manifest's digest, and what a pull says that its text is. */
struct slice pinned_digest(const struct store_revision *revision);
struct slice pinned_media_type(struct arena *arena, struct slice text);
