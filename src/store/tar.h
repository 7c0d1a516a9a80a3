/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tar.h -- ustar archives of plain files, for backups: any tar reads them.
 *
 * Sizes above 8 GiB are written the way GNU tar does. The reader takes plain files alone and checks
 * sums and names; it comes from outside, so everything in it is bounded. Calls block.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct err;

enum { TAR_BLOCK = 512, TAR_NAME_MAX = 260, TAR_FILE_MAX = 99 };

struct tar_entry {
    char name[TAR_NAME_MAX]; /* relative, plainly below the archive's folder */
    uint64_t bytes;
};

/* ---- writing: the descriptor stays the caller's. Of a name of 100 bytes or more what stands
 * behind the last '/' has fewer (TAR_FILE_MAX), what stands before it at most 155. ---- */
[[nodiscard]] int tar_write_file(int fd, const char *name, int source_fd, uint64_t bytes,
                                 int64_t modified_s, struct err *err);
[[nodiscard]] int tar_write_bytes(int fd, const char *name, struct slice bytes, int64_t modified_s,
                                  struct err *err);
[[nodiscard]] int tar_write_end(int fd, struct err *err);
/* Its head alone, for who writes the rest: the bytes, then zeros up to a whole block. Pure. */
void tar_head(unsigned char head[static TAR_BLOCK], const char *name, uint64_t bytes,
              int64_t modified_s);

/* ---- reading ---- */
struct tar_reader {
    int fd; /* borrowed */
    uint64_t left, padding;
};

/* 1: the next file's name and size; what was not read of the last one is skipped. 0: the end. */
[[nodiscard]] int tar_read_next(struct tar_reader *reader, struct tar_entry *ret_entry,
                                struct err *err);
/* Of the present file; less than `bytes` only at its end. Returns how many. */
[[nodiscard]] int64_t tar_read(struct tar_reader *reader, void *data, size_t bytes,
                               struct err *err);

/* Of a head of any type, whose sum is right: how many bytes it tells. 1: a head; 0: zeros. Pure. */
enum { TAR_TYPE_AT = 156 };
[[nodiscard]] int tar_head_bytes(const unsigned char head[static TAR_BLOCK], uint64_t *ret,
                                 struct err *err);
/* A head as it stands in an archive. 1: a file; 0: zeros (the end); else ERR_BAD_INPUT. Pure. */
[[nodiscard]] int tar_head_parse(const unsigned char head[static TAR_BLOCK],
                                 struct tar_entry *ret_entry, struct err *err);
