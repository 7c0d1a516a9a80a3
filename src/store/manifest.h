/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.h -- a folder as a model: an OCI image manifest that lists its files.
 *
 * schemaVersion 2, artifactType application/vnd.perigee.model.v1, the empty config, a layer a file
 * with its path as org.opencontainers.image.title. Comes from outside: paths that are not plainly
 * below the folder are refused, here, once. Pure; slices lie in the arena.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct arena;
struct err;

#define MANIFEST_MEDIA_TYPE "application/vnd.oci.image.manifest.v1+json"
#define MANIFEST_ARTIFACT_TYPE "application/vnd.perigee.model.v1"
#define MANIFEST_EMPTY_DIGEST                                                                      \
    "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" /* of "{}" */

enum { MANIFEST_BYTES_MAX = 1 << 20, MANIFEST_FILES_MAX = 4096, MANIFEST_PATH_MAX = 512 };

struct manifest_file {
    struct slice path; /* relative, '/' between segments; terminated */
    struct slice digest;
    uint64_t bytes;
};

struct manifest {
    struct manifest_file *files; /* sorted by path, bytewise */
    size_t count;
    uint64_t bytes; /* of all */
};

/* Looks like one: a small JSON object of our artifactType. A model file is none. */
bool manifest_is(struct slice blob);
[[nodiscard]] int manifest_parse(struct arena *arena, struct slice text, struct manifest *ret,
                                 struct err *err);
/* The form that gives equal folders equal digests. `files` are sorted in place. ERR_BAD_INPUT for
 * what manifest_parse() would refuse. */
[[nodiscard]] int manifest_print(struct arena *arena, struct manifest *manifest, struct slice *ret,
                                 struct err *err);
/* Segments that are neither empty, "." nor "..", no control characters, valid UTF-8. */
[[nodiscard]] int manifest_check_path(struct slice path, struct err *err);
