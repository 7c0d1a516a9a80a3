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
#include <stdint.h>

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

/* What a PoP's agent was told. Zeroed is nothing. It is looked at when there is somebody to tell:
 * what has changed gets its number then, which is above all that were told before. */
struct secrets_told {
    struct map by_key; /* "project/name": struct told of secrets_told.c */
    uint64_t fewer;    /* the number of when there was last something to forget */
    uint64_t looked;   /* how often it was */
};
void secrets_told_deinit(struct secrets_told *told);

struct secrets_item {
    const struct store_secret *row; /* borrowed: until the rows are others */
    uint64_t number;
};
struct secrets_news {
    uint64_t fewer; /* there are some that it is to forget, first; their number. 0: there are not */
    struct secrets_item *items; /* whose value it is to hear then, */
    size_t count;
};
/* What it is to hear behind that number; it counts as told. What is new now comes in the order of
 * its numbers, each its own: an agent that has read so far has all before. `endpoint`: of what that
 * one names alone, and nothing is forgotten unless there were too many then; NULL: of all. */
void secrets_news(struct control *control, struct hub_pop *pop, const struct hub_endpoint *endpoint,
                  uint64_t since, struct arena *arena, struct secrets_news *ret);
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
