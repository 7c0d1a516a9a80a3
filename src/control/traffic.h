/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traffic.h -- which revisions of an endpoint share the traffic, from its spec and what is kept of
 * it. PoPs' gateways choose by it (policy/traffic.h). Pure, but for traffic_check(); any thread.
 */
#pragma once

#include "policy/traffic.h"
#include "store/store.h"

struct arena;
struct change;
struct endpoint_spec;
struct err;
struct json_writer;

struct traffic_plan {
    struct traffic_share shares[TRAFFIC_SHARES_MAX]; /* of equal ones the older first */
    size_t count;                                    /* 0: the target has all */
    uint64_t canary;                                 /* the newest among several; 0: none */
};
void traffic_plan(const struct store_endpoint *row, const struct endpoint_spec *spec,
                  struct traffic_plan *ret);
/* The one with the largest share; it is what PoPs say is serving. */
uint64_t traffic_lead(const struct traffic_plan *plan, uint64_t target);

/* A change of the spec is about to move row->target to a new revision (`moves`): which one keeps
 * the rest. */
void traffic_change(struct store_endpoint *row, const struct endpoint_spec *after, bool moves);

/* Each revision that `after` names is kept, and may be given what it gets: the secrets that it
 * names are there. `next`: a number that is about to be, and is looked at elsewhere; 0: none.
 * `row` NULL: the endpoint is about to be. */
[[nodiscard]] int traffic_check(struct arena *arena, struct store *store,
                                const struct store_endpoint *row, uint64_t next,
                                const struct endpoint_spec *after, struct err *err);

/* {"shares": [{"revision", "weight"}], "canary"}, or null. */
void traffic_write(struct json_writer *w, const struct traffic_plan *plan);

/* Revisions that stay whatever their age. */
struct store_keep traffic_keep(const struct store_endpoint *row, const struct endpoint_spec *spec);
