/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Over all countries, with rules by chance: what the law denies is chosen by nobody. Not where a
 * replica goes, not by the score, not by DNS, whichever PoPs are up, full or draining. law.h says
 * what the law is, by another way than the code that is tried.
 */
#include "law.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <math.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "dns/choose.h"
#include "dns/client.h"
#include "dns/memo.h"
#include "dns/view.h"
#include "policy/place.h"
#include "policy/regions.h"
#include "policy/route.h"
#include "spec/endpoint.h"

enum { SEEDS = 60, POPS = LAW_COUNTRIES };

struct world {
    struct arena *arena;
    struct geo_sets sets;
    country_number countries[LAW_COUNTRIES]; /* of PoP i, and of client i */
    struct law law;
    struct law_list regions; /* .text empty: everywhere */
    struct endpoint_spec spec;
    struct residency residency;
    char names[POPS][8];
    struct spot spots[POPS];
    uint8_t health[POPS];
    float wait_ms[POPS];
};

static void world_make(struct world *world, uint64_t seed)
{
    struct endpoint_specs specs;
    struct err err;
    *world = (struct world){ .arena = arena_new() };
    law_seed(seed);
    law_countries(world->countries);
    assert_int_equal(geo_sets_parse(world->arena, (struct slice){}, &world->sets, &err), 0);
    law_make(world->arena, &world->sets, &world->law);
    do
        world->regions = law_list(&world->sets, true);
    while (world->regions.any);
    if (law_below(2))
        world->regions.text[0] = '\0';
    const char *text =
        arena_format(world->arena, "name: digits\nmodel: m\n%s\n%s%s\n", world->law.text,
                     world->regions.text[0] ? "regions: " : "", world->regions.text);
    if (endpoint_spec_parse_text(world->arena, slice_of(text), SPEC_YAML, 0, &specs, &err) < 0)
        fail_msg("%s: %s", text, err.message);
    world->spec = specs.items[0];
    assert_int_equal(residency_compile(world->arena, &world->spec, geo_sets_lookup, &world->sets,
                                       &world->residency, &err),
                     0);
    for (size_t i = 0; i < POPS; i++) {
        snprintf(world->names[i], sizeof world->names[i], "p%03zu", i);
        if (law_below(10))
            world->spots[i] = spot_at((double)law_below(140) - 70, (double)law_below(360) - 180);
        world->health[i] = (uint8_t)(law_below(4) ? ROUTE_UP : law_below(3));
        world->wait_ms[i] = law_below(8) == 0   ? INFINITY
                            : law_below(2) == 0 ? 0
                                                : (float)law_below(60);
    }
}

/* ---- the score, and DNS ---------------------------------------------------------------------- */

static void route_try(const struct world *world)
{
    float x[POPS], y[POPS], z[POPS], flat[POPS], none[POPS] = {}, weight[POPS];
    uint32_t pop[POPS];
    struct route_choice choices[ROUTE_CHOICES_MAX];
    for (uint32_t i = 0; i < POPS; i++) {
        x[i] = world->spots[i].x;
        y[i] = world->spots[i].y;
        z[i] = world->spots[i].z;
        flat[i] = 80;
        weight[i] = 1;
        pop[i] = i;
    }
    const struct route_pops pops = {
        .count = POPS, .x = x, .y = y, .z = z, .country = world->countries, .health = world->health
    };
    const struct route_endpoint endpoint = { POPS, pop, world->wait_ms, flat, none, weight };
    for (size_t c = 0; c < LAW_COUNTRIES; c++) {
        struct residency_verdict verdict =
            residency_decide(&world->residency, world->countries[c], NULL);
        const struct route_query query = { .client = world->spots[c],
                                           .client_known = c % 3 != 0,
                                           .process = &verdict.process,
                                           .seed = c,
                                           .enough_ms = c % 5 ? 0 : 400 };
        size_t count = route_choose(&pops, &endpoint, &query, choices, 1 + c % ROUTE_CHOICES_MAX);
        bool any = false;
        for (size_t i = 0; i < POPS; i++)
            any = any || (world->health[i] != ROUTE_DOWN &&
                          law_process(&world->law, world->countries[c], world->countries[i]));
        assert_int_equal(count > 0, any);
        for (size_t i = 0; i < count; i++)
            assert_true(
                law_process(&world->law, world->countries[c], world->countries[choices[i].pop]));
    }
}

static struct dns_view *view_make(struct world *world)
{
    struct dns_source_pop pops[POPS];
    struct dns_source_place places[POPS];
    struct dns_view *view;
    struct err err;
    for (uint32_t i = 0; i < POPS; i++) {
        pops[i] = (struct dns_source_pop){ .name = slice_of(world->names[i]),
                                           .country = world->countries[i],
                                           .located = i % 7 != 0,
                                           .latitude = (double)law_below(140) - 70,
                                           .longitude = (double)law_below(360) - 180,
                                           .health = world->health[i] };
        places[i] = (struct dns_source_place){ i, world->wait_ms[i], 80, 0, 1 };
    }
    const struct dns_source_endpoint endpoint = { SLICE("digits"), SLICE("default"), places, POPS,
                                                  &world->residency };
    const struct dns_source source = { .zone = SLICE("perigee.test"),
                                       .pops = pops,
                                       .pop_count = POPS,
                                       .endpoints = &endpoint,
                                       .endpoint_count = 1 };
    assert_int_equal(dns_view_build(&source, &view, &err), 0);
    return view;
}

static void dns_try(struct world *world)
{
    struct dns_view *view = view_make(world);
    struct dns_memo *memo = dns_memo_new();
    const struct dns_entry *entry = dns_view_find(view, SLICE("digits"));
    for (size_t c = 0; c < 2 * LAW_COUNTRIES; c++) {
        size_t from = c % LAW_COUNTRIES;
        struct dns_client client = {
            .ip = ip_from4((uint8_t[]){ 10, (uint8_t)from, 1, 1 }),
            .source_bits = 128,
            .seed_bits = 120,
            .seed = c,
            .where = { .country = world->countries[from],
                       .located = from % 4 != 0,
                       .latitude = (double)(from % 120) - 60,
                       .longitude = (double)from,
                       .bits = 112 },
        };
        struct dns_choice choice;
        dns_choose(view, entry, &client, 1 + c % 4, c % 2 ? memo : NULL, &choice);
        for (size_t i = 0; i < choice.count; i++)
            assert_true(law_process(&world->law, world->countries[from],
                                    world->countries[choice.choices[i].pop]));
    }
    dns_memo_free(memo);
    dns_view_free(view);
}

/* ---- where replicas go ----------------------------------------------------------------------- */

static bool some_client(const struct world *world, country_number pop)
{
    for (size_t c = 0; c < LAW_COUNTRIES; c++)
        if (law_process(&world->law, world->countries[c], pop))
            return true;
    return false;
}

/* By what a rule holds; rules before it may have taken all its clients. */
static bool some_rule(const struct world *world, country_number pop)
{
    const struct law *law = &world->law;
    for (size_t i = 0; i < law->count; i++)
        if (law->process[i].any || (law->process[i].same && pop != COUNTRY_UNKNOWN) ||
            (pop != COUNTRY_UNKNOWN && countries_has(&law->process[i].countries, pop)))
            return true;
    return false;
}

static void place_try(struct world *world)
{
    struct place_pop pops[POPS];
    struct place_demand demands[16];
    struct place_result result;
    struct regions regions;
    struct err err;
    assert_int_equal(
        regions_compile(world->arena, &world->spec, geo_sets_lookup, &world->sets, &regions, &err),
        0);
    for (size_t i = 0; i < POPS; i++) {
        const struct region_place place = { slice_of(world->names[i]), {}, world->countries[i] };
        bool in =
            !world->regions.text[0] || (place.country != COUNTRY_UNKNOWN &&
                                        countries_has(&world->regions.countries, place.country));
        pops[i] = (struct place_pop){
            .spot = world->spots[i],
            .allowed = !regions_refusal(world->arena, &regions, &world->residency, &place),
            .health = (uint8_t)(law_below(6) ? PLACE_UP : law_below(3)),
            .room = law_below(5),
            .has = law_below(5) ? 0 : 1 + law_below(3),
            .ready = law_below(2),
        };
        if (pops[i].allowed)
            assert_true(in && place.country != COUNTRY_UNKNOWN && some_rule(world, place.country));
        else if (in && place.country != COUNTRY_UNKNOWN)
            assert_false(some_client(world, place.country));
    }
    for (size_t i = 0; i < 16; i++)
        demands[i] = (struct place_demand){ world->spots[law_below(POPS)], (float)law_below(20),
                                            PLACE_ANYWHERE };
    const struct place_input input = { .pops = pops,
                                       .pop_count = POPS,
                                       .demands = demands,
                                       .demand_count = 16,
                                       .spread_min = law_below(6),
                                       .replicas_min = law_below(40),
                                       .replicas_max = law_below(2) ? 0 : 40 };
    place_decide(world->arena, &input, &result);
    for (size_t i = 0; i < POPS; i++)
        assert_true(pops[i].allowed || result.rows[i].replicas == 0);
}

static void test_nothing_denied_is_chosen(void **state)
{
    static struct world world;
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        world_make(&world, seed);
        route_try(&world);
        dns_try(&world);
        place_try(&world);
        arena_free(world.arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_nothing_denied_is_chosen) };
    return cmocka_run_group_tests_name("law", tests, NULL, NULL);
}
