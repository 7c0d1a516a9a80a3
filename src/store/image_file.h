/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_file.h -- a container image in a file: an OCI layout in a tar (image-layout.md), or what
 * `docker save` and `podman save` write.
 *
 * Comes from outside: names that lead out of it, links that do, more entries than any image has,
 * sizes and digests that do not hold are refused, by name. Layers are not unpacked, and stay where
 * they are: each is a part of the file. Calls block, and read all that has no digest yet. The
 * descriptor stays the caller's; slices lie in the arena. Any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "store/image.h"

enum { IMAGE_FILE_ENTRIES_MAX = 16384, IMAGE_FILE_DEPTH_MAX = 3 }; /* indexes of indexes */

struct image_file_blob {
    struct image_blob blob;
    uint64_t offset; /* in the file */
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

/* The image for `machine` (image_machine()). Several that fit: ERR_BAD_INPUT. */
[[nodiscard]] int image_file_read(struct arena *arena, int fd, struct slice machine,
                                  struct image_file *ret, struct err *err);
