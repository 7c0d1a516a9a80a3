/* SPDX-License-Identifier: Apache-2.0 */
/* edge_run.h -- the state of one run. Inside sim/; one thread. */
#pragma once

#include "policy/route.h"
#include "sim/draw.h"
#include "sim/edge.h"
#include "sim/edge_kept.h"

struct load;
struct health;

struct edge_request {
    double at, service_s; /* seconds */
    double lost_ms;       /* with PoPs that were dead */
    uint32_t city;
    country_number country_row;
    const struct countries *process;
    uint64_t seed;
};

/* Those whose answer held dead PoPs alone: a heap, the next to be sent first. */
struct edge_again {
    struct edge_request *list;
    size_t count, room;
};

/* Arrays have a figure for each site. */
struct edge_state {
    const struct edge_world *world;
    struct arena *arena; /* borrowed */
    struct edge_result *result;
    struct chance chance;
    uint64_t tick;
    /* as it is */
    double **places;   /* heaps of the moments at which places are free: the least first */
    double *dead_at;   /* INFINITY: not */
    double *warm_at;   /* a replica is ready; INFINITY: none is being started */
    uint32_t *arrived; /* since the last report */
    struct edge_again again;
    struct edge_kept *kept; /* city by city, of each resolver; NULL: there is none */
    /* as it is told */
    struct load *load;
    struct health *heard;
    uint64_t *fell; /* the last tick at which it was up */
    float *start_told;
    /* as those who choose know it */
    uint8_t *health;
    bool *stable;
    float *wait_ms, *start_ms, *weight;
    bool *hides;
    struct route_pops pops;
    struct route_endpoint endpoint;
    /* of the scenario */
    const float *closed; /* country by country */
    double died_at;      /* INFINITY: none dies */
    const struct edge_draw *spike_draw;
    double spike_rate;
};

void edge_scenario_begin(struct arena *arena, struct edge_state *state,
                         enum edge_scenario scenario);
/* When PoPs die where some do. */
double edge_dies_at(const struct edge_world *world);
/* The next one, in `state`'s course of chance; false: the time is over. */
bool edge_request_next(struct edge_state *state, struct edge_request *request);
