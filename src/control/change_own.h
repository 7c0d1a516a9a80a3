/* SPDX-License-Identifier: Apache-2.0 */
/*
 * change_own.h -- what the files of a change share: change.c decides and writes, change_model.c
 * sees to what runs, change_check.c to what an endpoint may not be beside others. All on a store's
 * thread, in the change's transaction.
 */
#pragma once

#include "control/change.h"
#include "spec/endpoint.h"

/* ---- change_model.c ---- */
struct change_model {
    uint64_t bytes;
    struct slice *blobs;
    size_t blob_count;
    struct slice image; /* pinned.h: what PoPs must know; empty: it is a model */
};
/* A tag is looked up once: the spec keeps what it named then, and how it was written. */
[[nodiscard]] int change_model_resolve(struct change *change, struct store *store,
                                       struct endpoint_spec *spec, struct err *err);
/* All that the model needs is here, or known to come from another registry: in the transaction that
 * makes it needed, so that the garbage collector (of the same thread) cannot come between. */
[[nodiscard]] int change_model_check(struct change *change, struct store *store,
                                     const struct endpoint_spec *spec, struct change_model *ret,
                                     struct err *err);
/* A runtime is an executable perigee-worker-NAME beside ours (include/perigee/worker.h). */
[[nodiscard]] int change_runtime_check(struct change *change, struct slice runtime,
                                       struct err *err);

/* ---- change_check.c ---- */
/* Domains and aliases that only one may have. */
[[nodiscard]] int change_check_unique(struct change *change, struct store *store,
                                      const struct endpoint_spec *spec, struct err *err);
/* The names in regions and residency are known, and where both are told some PoP is in both. */
[[nodiscard]] int change_check_places(struct change *change, const struct endpoint_spec *spec,
                                      struct err *err);
/* Two projects do not trust each other: where a wall between them is missing there is one. */
[[nodiscard]] int change_check_walls(struct change *change, struct store *store, struct err *err);

/* ---- change.c ---- */
[[nodiscard]] int change_parse(struct arena *arena, struct slice text, unsigned flags,
                               struct endpoint_spec *ret, struct err *err);
