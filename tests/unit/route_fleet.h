/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route_fleet.h -- a fleet that a test of policy/route.h can change, and rows: what is given, who
 * is chosen, and why the others are not. Included once a test program, after cmocka.h.
 */
#pragma once

#include <string.h>

#include "policy/route.h"

enum { POPS = 300 };

/* A fleet that a test can change. */
struct fleet {
    float x[POPS], y[POPS], z[POPS], rtt[POPS];
    country_number country[POPS];
    uint8_t health[POPS];
    uint64_t key[POPS];
    uint32_t pop[POPS];
    float wait[POPS], service[POPS], start[POPS], weight[POPS];
    bool hides[POPS];
    size_t hider;     /* by plain_hider() */
    float felt[POPS]; /* by PoP, as route_explain() tells it */
    struct route_pops pops;
    struct route_endpoint endpoint;
    struct route_query query;
    struct countries process;
};

[[maybe_unused]] static void fleet_init(struct fleet *fleet, size_t pops)
{
    *fleet = (struct fleet){};
    fleet->pops = (struct route_pops){ .count = pops,
                                       .x = fleet->x,
                                       .y = fleet->y,
                                       .z = fleet->z,
                                       .country = fleet->country,
                                       .health = fleet->health };
    fleet->endpoint = (struct route_endpoint){
        0, fleet->pop, fleet->wait, fleet->service, fleet->start, fleet->weight, fleet->hides
    };
    fleet->query.client_known = true;
    fleet->query.client = spot_at(0, 0);
}

[[maybe_unused]] static void stand(struct fleet *fleet, size_t pop, double latitude,
                                   double longitude)
{
    struct spot spot = spot_at(latitude, longitude);
    fleet->x[pop] = spot.x;
    fleet->y[pop] = spot.y;
    fleet->z[pop] = spot.z;
}

[[maybe_unused]] static country_number country(const char *code)
{
    return country_number_of((struct slice){ code, 2 });
}

/* PoPs stand on the equator, a degree is 1.746 ms; the client at 0. The letters of `pops`:
 *   place in degrees, country, health (u d x), wait, start, may that be hidden; not placed: wait of
 *   -1 */
struct given {
    double degrees;
    const char *country;
    char health;
    float wait, start;
    bool hides;
};
#define UNKNOWN 999.0
struct row {
    const char *name;
    struct given pops[4];
    const char *process; /* or "" */
    bool client_unknown;
    const char *order; /* of PoPs, by letter: what is chosen, up to four; near ones drawn by 0 */
    const char *
        because; /* each PoP's exclusion: a(llowed) p(laced) r(esidency) d(own) D(raining) F(ull) */
};

[[maybe_unused]] static void given(struct fleet *fleet, const struct given *pops)
{
    size_t count = 0;

    while (count < 4 && pops[count].country)
        count++;
    fleet_init(fleet, count);
    for (size_t i = 0; i < count; i++) {
        if (pops[i].degrees != UNKNOWN)
            stand(fleet, i, 0, pops[i].degrees);
        fleet->country[i] = *pops[i].country ? country(pops[i].country) : COUNTRY_UNKNOWN;
        fleet->health[i] = pops[i].health == 'u'   ? ROUTE_UP
                           : pops[i].health == 'd' ? ROUTE_DRAINING
                                                   : ROUTE_DOWN;
        if (pops[i].wait == -1)
            continue;
        size_t at = fleet->endpoint.count++;
        fleet->pop[at] = (uint32_t)i;
        fleet->wait[at] = pops[i].wait;
        fleet->start[at] = pops[i].start;
        fleet->hides[at] = pops[i].hides;
        fleet->service[at] = 5;
        fleet->weight[at] = 1;
    }
}

[[maybe_unused]] static void row_check(const struct row *row)
{
    struct fleet fleet;
    struct route_choice choices[4], explained[4];
    char order[5] = "", because[5] = "";

    print_message("  %s\n", row->name);
    given(&fleet, row->pops);
    if (*row->process) {
        countries_add(&fleet.process, country(row->process));
        fleet.query.process = &fleet.process;
    }
    fleet.query.client_known = !row->client_unknown;
    size_t count = route_choose(&fleet.pops, &fleet.endpoint, &fleet.query, choices, 4);
    for (size_t k = 0; k < count; k++)
        order[k] = (char)('A' + choices[k].pop);
    assert_string_equal(order, row->order);
    route_explain(&fleet.pops, &fleet.endpoint, &fleet.query, explained);
    for (size_t k = 0; k < fleet.pops.count; k++)
        because[k] = "aprdDF"[explained[k].exclusion];
    assert_string_equal(because, row->because);
}
