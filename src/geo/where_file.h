/* SPDX-License-Identifier: Apache-2.0 */
/*
 * where_file.h -- an address map as a file: a line for each block of addresses, with its country
 * and perhaps where it is (degrees, north and east positive).
 *
 *     # ours
 *     203.0.113.0/24 FR 48.9 2.3
 *     10.0.0.0/8     DE
 *     default        DE 52.5 13.4     (of addresses that neither this nor the MMDB knows)
 *
 * Pure but for where_file_open(); any thread.
 */
#pragma once

#include "base/slice.h"
#include "geo/where.h"

struct arena;

enum { WHERE_FILE_BYTES_MAX = 64 << 20 };

struct where_file {
    struct where_block *blocks;
    size_t count;
    bool has_fallback;
    struct where_block fallback;
};

/* Path of such a file, for the processes of a PoP. */
#define WHERE_FILE_ENVIRONMENT "PERIGEE_ADDRESSES"

/* ERR_BAD_INPUT says the line. All of it lies in the arena. */
[[nodiscard]] int where_file_parse(struct arena *arena, struct slice text, struct where_file *ret,
                                   struct err *err);
/* As where_file_parse() takes it. */
struct slice where_file_print(struct arena *arena, const struct where_file *file);

/* The map of a file and an MMDB; either may be NULL. */
[[nodiscard]] int where_file_open(const char *path, const char *mmdb_path, struct where_map **ret,
                                  struct err *err);
