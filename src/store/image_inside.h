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
    bool folder; /* it is one */
    struct slice machine;
    struct image_tar tar;    /* else: what is where in it */
    struct image_file *file; /* that is made */
    struct err *err;
};

/* image_file.c */
/* Of a file, not a folder. */
[[nodiscard]] int image_read_part(const struct image_reading *reading, uint64_t offset, void *data,
                                  size_t bytes);
/* Of a folder's: offset 0. */
[[nodiscard]] int image_find(const struct image_reading *reading, struct slice name,
                             struct image_tar_entry *ret);
/* All of a small one. */
[[nodiscard]] int image_load(const struct image_reading *reading, struct slice name,
                             struct image_tar_entry *ret_entry, struct slice *ret);
/* The image's configuration, once its layers are known. */
[[nodiscard]] int image_take_config(const struct image_reading *reading, struct slice text);

/* image_layout.c */
/* Does a folder's oci-layout say that it is one, of a version that is known? */
[[nodiscard]] int image_layout_check(const struct image_reading *reading);
/* What an index.json, or an index or manifest that it names, says. */
[[nodiscard]] int image_layout_read(const struct image_reading *reading, struct slice index);
/* image_saved.c: what a manifest.json of `docker save` says. */
[[nodiscard]] int image_saved_read(const struct image_reading *reading, struct slice manifest);
