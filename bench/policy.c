/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy.c -- what one choice of a PoP takes: route_choose() among 300 PoPs for one client after
 * the other, at random places.
 *
 *     bench_policy [PASSES]       ninja -C build bench/bench_policy && build/bench/bench_policy
 *
 * Medians of PASSES (51) passes over 1,000 clients, in microseconds a choice.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy/route.h"
#include "samples.h"
#include "tool.h"

enum { POPS = 300, CLIENTS = 1000 };

static float x[POPS], y[POPS], z[POPS], rtt[POPS];
static float waits[POPS], service[POPS], start[POPS], weight[POPS];
static country_number country[POPS];
static uint8_t health[POPS];
static uint32_t placed[POPS];
static struct spot clients[CLIENTS];

static struct spot anywhere(void)
{
    return spot_at(asin(2 * tool_part() - 1) * 180 / M_PI, 360 * tool_part() - 180);
}

static void fleet_make(void)
{
    for (uint32_t i = 0; i < POPS; i++) {
        struct spot spot = anywhere();
        x[i] = spot.x, y[i] = spot.y, z[i] = spot.z;
        rtt[i] = tool_part() < 0.5 ? NAN : (float)(14 + 200 * tool_part());
        country[i] = (country_number)(1 + 50 * tool_part());
        health[i] = tool_part() < 0.95 ? ROUTE_UP : ROUTE_DOWN;
        placed[i] = i;
        waits[i] = tool_part() < 0.7 ? 0 : (float)(30 * tool_part());
        service[i] = 5;
        weight[i] = (float)(100 * tool_part());
    }
    for (size_t i = 0; i < CLIENTS; i++)
        clients[i] = anywhere();
}

int main(int argc, char **argv)
{
    const struct route_pops pops = {
        .count = POPS, .x = x, .y = y, .z = z, .country = country, .health = health
    };
    const struct route_endpoint endpoint = { POPS, placed, waits, service, start, weight };
    struct countries some = {};
    struct route_choice choices[ROUTE_CHOICES_MAX];
    unsigned passes = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 51;
    const struct {
        const char *name;
        const struct countries *process;
        const float *rtt_ms;
        size_t max;
    } cases[] = {
        { "anywhere, one answer", NULL, NULL, 1 },
        { "25 of 50 countries, one answer", &some, NULL, 1 },
        { "25 of 50 countries, four answers", &some, NULL, 4 },
        { "the same, half of the round trips measured", &some, rtt, 4 },
    };

    fleet_make();
    for (country_number c = 1; c <= 50; c += 2)
        countries_add(&some, c);
    printf("  a choice among %d PoPs\n", POPS);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct samples samples = {};
        for (unsigned pass = 0; pass < passes; pass++) {
            int64_t began = tool_now_ns();
            for (size_t client = 0; client < CLIENTS; client++) {
                struct route_query query = { .client = clients[client],
                                             .client_known = true,
                                             .rtt_ms = cases[i].rtt_ms,
                                             .process = cases[i].process,
                                             .seed = client };
                if (route_choose(&pops, &endpoint, &query, choices, cases[i].max) == 0)
                    tool_fail("no PoP is allowed");
            }
            samples_add(&samples, (tool_now_ns() - began) / CLIENTS);
        }
        samples_sort(&samples);
        printf("  %-52s%8.2f us\n", cases[i].name, samples_us(&samples, 0.5));
    }
}
