/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decision.h -- where an endpoint is to be placed: policy/place.h asked with what the hub knows of
 * PoPs, of the spec and of who asks. Changes nothing. What is in it lies in the arena, or is
 * borrowed from the hub. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control/demand.h"
#include "control/hub.h"
#include "policy/place.h"
#include "policy/regions.h"

struct arena;
struct control;
struct placement_where;

struct decision {
    const struct placement_where *where;
    struct hub_pop *const *pops; /* by name, so that the same fleet always gives the same */
    size_t count;
    uint32_t *row_of; /* by hub_pop.index: its row, plus one; 0: it runs nothing */
    struct place_pop *rows;
    struct region_place *places;     /* where they stand */
    int64_t *since_ns;               /* of each PoP that has it */
    const struct demand_cell *cells; /* who asks */
    size_t cell_count;
    uint32_t *cell_of;            /* of each demand */
    struct place_demand *demands; /* without those who are refused wherever replicas are */
    size_t demand_count;
    struct place_group *groups;
    size_t group_count;
    float refused; /* requests a second of these */
    float beyond;  /* and of those of more groups than are looked at: those with the least */
    uint32_t floors[SPEC_WINDOWS_MAX + 1]; /* scale.min, and what its schedule raises it to */
    size_t floor_count;
    struct place_input input;
    struct place_result result;
};

/* What the endpoint has taken of its PoPs was given back before. `final`: it is placed by this. */
void decision_make(struct control *control, struct arena *arena, struct hub_endpoint *endpoint,
                   bool final, struct decision *ret);
/* Why it is not at that PoP, or whatever else its row says. */
const char *decision_why(struct arena *arena, const struct decision *decision, size_t row);
/* The state that placement goes by: right after a start PoPs are taken to be where they were. */
enum hub_pop_state decision_state(const struct control *control, const struct hub_pop *pop);
