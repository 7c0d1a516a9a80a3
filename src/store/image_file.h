/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_file.h -- a container image in a file: an OCI layout (image-spec 1.1) in a tar, or what
 * `docker save` and `podman save` write; or an OCI layout that is a folder.
 *
 * Comes from outside: names that lead out of it, links that do, more entries than any image has,
 * sizes and digests that do not hold are refused, by name. Layers are not unpacked, and stay where
 * they are: each is a part of the file, or a file of the folder. Calls block, and read all that has
 * no digest yet. The descriptor stays the caller's; slices lie in the arena. Any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "store/image.h"

enum { IMAGE_FILE_ENTRIES_MAX = 16384, IMAGE_FILE_DEPTH_MAX = 3 }; /* indexes of indexes */

struct image_file_blob {
    struct image_blob blob;
    uint64_t offset;  /* in the file */
    const char *name; /* of a file of its own, in the folder; NULL: it is a part of the file */
};

struct image_file {
    struct image_config config;
    struct image_file_blob config_blob;
    struct image_file_blob *layers; /* the lowest first; one that is there twice stands twice */
    size_t layer_count;
    struct slice manifest; /* an OCI image manifest of them: as it stands in the file, or made */
    struct slice digest;   /* of it: what the image is called by */
    uint64_t bytes;        /* of configuration and layers */
};

/* `fd`: of the file, or the folder. The image for `machine` (image_machine()). Several that fit:
 * ERR_BAD_INPUT. */
[[nodiscard]] int image_file_read(struct arena *arena, int fd, struct slice machine,
                                  struct image_file *ret, struct err *err);
/* A descriptor, the caller's, in which the blob lies at its offset. A folder is looked in anew:
 * what lies there now is of that digest once somebody has seen it. `fd`: as above. */
[[nodiscard]] int image_file_open(int fd, const struct image_file_blob *blob, struct err *err);
