/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_tar.h -- what is where in a tar that holds an image. Heads alone are read. Comes from
 * outside: names and links that lead out of it are refused. Calls block; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct arena;
struct err;

struct image_tar_entry {
    struct slice name; /* without "./" before it */
    struct slice link; /* the name that it stands for; empty: it is a file */
    uint64_t offset, bytes;
};
struct image_tar {
    struct image_tar_entry *entries;
    size_t count;
};

[[nodiscard]] int image_tar_index(struct arena *arena, int fd, struct image_tar *ret,
                                  struct err *err);
/* The file of that name, by its links, too. */
bool image_tar_find(const struct image_tar *tar, struct slice name, struct image_tar_entry *ret);
