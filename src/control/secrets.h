/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secrets.h -- values for the environment of containers: told once, kept sealed (store/seal.h),
 * given to the agents of PoPs that an endpoint which names them is placed on; never shown.
 *
 *   PUT /secrets/NAME --> sealed, in the store --> rows here, sealed
 *       --secrets_news()--> what an agent has not been told yet --secrets_value_json()--> its watch
 *
 * Loop thread only, unless told.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/map.h"
#include "base/slice.h"

struct arena;
struct control;
struct endpoint_spec;
struct err;
struct hub_endpoint;
struct hub_pop;
struct secrets;
struct snapshot;
struct store;
struct store_secret;

/* Before anything serves, on the store's file that nobody else has yet. */
[[nodiscard]] int secrets_open(struct control *control, struct err *err);
void secrets_close(struct control *control);

/* ---- on a store's thread --------------------------------------------------------------------- */

/* What an endpoint's kept revisions name: sets ->secrets. */
void secrets_named(struct snapshot *snapshot);
/* Of a revision that has, or may have, traffic. */
bool secrets_in_use(const struct snapshot *snapshot, struct slice name);
/* All that the environment names are there; else err says which is not, and the nearest. */
[[nodiscard]] int secrets_check(struct store *store, struct arena *arena, struct slice project,
                                const struct endpoint_spec *spec, struct err *err);

/* ---- telling agents -------------------------------------------------------------------------- */

/* What one agent was told over its watch. Zeroed is nothing. */
struct secrets_told {
    struct map by_key; /* "project/name": struct told of secrets_told.c */
};
void secrets_told_deinit(struct secrets_told *told);

struct secrets_news {
    const struct store_secret **rows; /* whose value it is to hear; until the rows are others */
    size_t count;
    bool fewer; /* there are some that it is to forget */
};
/* What it is to hear now; it counts as told. `endpoint`: of what that one names alone, and nothing
 * is forgotten; NULL: of all. */
void secrets_news(struct control *control, const struct hub_pop *pop, struct secrets_told *told,
                  const struct hub_endpoint *endpoint, struct arena *arena,
                  struct secrets_news *ret);
/* {"project","name","value"}, or in the place of the value "error": why it cannot be opened. The
 * arena is a secret one. */
struct slice secrets_value_json(struct control *control, const struct store_secret *row,
                                struct arena *arena);
/* {"secrets":[{"project","name"}]}: all that it was told and is to keep. */
struct slice secrets_list_json(const struct secrets_told *told, struct arena *arena);

void secrets_put(struct control *control, struct hub_endpoint *endpoint); /* its snapshot is new */
/* Its view for agents is about to be told: they hear before what it names. */
void secrets_moved(struct control *control, const struct hub_endpoint *endpoint);
void secrets_gone(struct control *control, struct hub_endpoint *endpoint); /* it was deleted */
