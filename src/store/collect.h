/* SPDX-License-Identifier: Apache-2.0 */
/*
 * collect.h -- blobs' files and their rows, put in order: a file without a row gets one, and what
 * nobody has any more goes, rows first. A file is removed once the commit that let go of it is on
 * disk, so that no row ever promises what is not there; one that a kill left is found by the next
 * store_blobs_index().
 *
 * Block; on the thread that writes the store, which changes nothing of it meanwhile, and outside a
 * transaction: both have their own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct blobs;
struct err;
struct store;

/* What was uploaded right before a crash has no row: it gets one, and with it its grace anew. */
[[nodiscard]] int store_blobs_index(struct store *store, struct blobs *blobs, int64_t now_ns,
                                    struct err *err);

/* Of these alone, which were just let go of, the ones that only repositories had. *ret_count is set
 * always: how many went. A file that cannot be removed keeps no other, and is an error. */
[[nodiscard]] int store_blobs_collect(struct store *store, struct blobs *blobs,
                                      const struct slice *digests, size_t count, size_t *ret_count,
                                      struct err *err);
/* All that is older than `before_ns` (of those that only repositories had: whatever its age), at
 * most STORE_PAGE_MAX; what a repository has and no manifest of it names goes before. */
[[nodiscard]] int store_blobs_sweep(struct store *store, struct blobs *blobs, int64_t before_ns,
                                    int64_t loose_before_ns, size_t *ret_count, struct err *err);
