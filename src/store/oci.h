/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci.h -- image manifests and indexes as a registry takes them (OCI image-spec 1.1: manifest,
 * image index, descriptor; Docker's manifest v2 schema 2 and its list).
 *
 * Comes from outside: one of the two and never both, what it names by well-formed digests, bounded
 * in number; what is beyond that may stand in it, and stays as it was pushed. Pure; slices lie in
 * the arena.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct arena;
struct err;

enum {
    OCI_MANIFEST_BYTES_MAX = 4 << 20,
    OCI_PARTS_MAX = 4096, /* layers of an image, manifests of an index */
    OCI_TYPE_MAX = 255,   /* bytes of a media type (RFC 6838 4.2) */
};

struct oci_part {
    struct slice media_type, digest;
    struct slice title;           /* org.opencontainers.image.title; empty: none */
    struct slice system, machine; /* of an index's: "linux", "amd64"; empty: not said */
    uint64_t bytes;
    bool manifest;  /* of an index: another manifest */
    bool unpack;    /* a folder that oras packed into one layer */
    bool elsewhere; /* is not distributed: need not be in the registry */
};

struct oci_manifest {
    bool index;
    struct slice media_type;
    struct slice artifact_type; /* as referrers say it: of an image without, its config's type */
    struct slice subject;       /* a digest; empty: none */
    struct oci_part *parts;     /* config first, then layers; or an index's manifests */
    size_t count;
    struct slice annotations; /* a JSON object; empty: none */
};

/* `type` is what the sender says that it is (Content-Type), perhaps with parameters; empty: as the
 * document says. ERR_BAD_INPUT says where; 415 for a type that is no manifest's. */
[[nodiscard]] int oci_manifest_parse(struct arena *arena, struct slice text, struct slice type,
                                     struct oci_manifest *ret, struct err *err);
