/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_inside.h -- what the forms of an image's file (image_file.h) share among themselves: its
 * pieces, and what is made of them. Errors go to reading->err.
 */
#pragma once

#include "store/image_file.h"
#include "store/image_tar.h"

struct image_reading {
    struct arena *arena;
    int fd;
    struct slice machine;
    struct image_tar tar;
    struct image_file *file; /* that is made */
    struct err *err;
};

/* image_file.c */
[[nodiscard]] int image_read_part(const struct image_reading *reading, uint64_t offset, void *data,
                                  size_t bytes);
[[nodiscard]] int image_find(const struct image_reading *reading, struct slice name,
                             struct image_tar_entry *ret);
/* All of a small one. */
[[nodiscard]] int image_load(const struct image_reading *reading, struct slice name,
                             struct image_tar_entry *ret_entry, struct slice *ret);
/* The image's configuration, once its layers are known. */
[[nodiscard]] int image_take_config(const struct image_reading *reading, struct slice text);

/* image_layout.c: what an index.json, or an index or manifest that it names, says. */
[[nodiscard]] int image_layout_read(const struct image_reading *reading, struct slice index);
/* image_saved.c: what a manifest.json of `docker save` says. */
[[nodiscard]] int image_saved_read(const struct image_reading *reading, struct slice manifest);
