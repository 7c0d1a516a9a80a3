/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "route_fleet.h"

enum { SEEDS = 200 };

/* xorshift64*: repeatable, and nothing of the code under test. */
static uint64_t state_now;
static uint64_t next(void)
{
    state_now ^= state_now >> 12;
    state_now ^= state_now << 25;
    state_now ^= state_now >> 27;
    return state_now * UINT64_C(2685821657736338717);
}
static double part(void)
{
    return (double)(next() >> 11) / (double)(1ULL << 53);
}

/* ---- rows ------------------------------------------------------------------------------------ */

static const struct row rows[] = {
    { "the nearest first, then by distance",
      { { 30, "DE", 'u', 0, 0 }, { 10, "DE", 'u', 0, 0 }, { 20, "DE", 'u', 0, 0 } },
      "",
      false,
      "BCA",
      "aaa" },
    { "west is as near as east",
      { { 30, "DE", 'u', 0, 0 }, { -10, "DE", 'u', 0, 0 } },
      "",
      false,
      "BA",
      "aa" },
    { "over the date line",
      { { 100, "DE", 'u', 0, 0 }, { -95, "DE", 'u', 0, 0 } },
      "",
      false,
      "BA",
      "aa" },
    { "a cold start is worth a detour",
      { { 5, "DE", 'u', 0, 500 }, { 90, "DE", 'u', 0, 0 } },
      "",
      false,
      "BA",
      "aa" },
    { "cold everywhere: the nearest",
      { { 20, "DE", 'u', 0, 500 }, { 5, "DE", 'u', 0, 500 } },
      "",
      false,
      "BA",
      "aa" },
    { "not placed is not chosen",
      { { 1, "DE", 'u', -1, 0 }, { 50, "DE", 'u', 0, 0 } },
      "",
      false,
      "B",
      "pa" },
    { "not permitted is not chosen",
      { { 1, "US", 'u', 0, 0 }, { 50, "DE", 'u', 0, 0 } },
      "DE",
      false,
      "B",
      "ra" },
    { "a PoP whose country is not known is not permitted",
      { { 1, "", 'u', 0, 0 }, { 50, "DE", 'u', 0, 0 } },
      "DE",
      false,
      "B",
      "ra" },
    { "anywhere: a country that is not known will do",
      { { 1, "", 'u', 0, 0 }, { 50, "DE", 'u', 0, 0 } },
      "",
      false,
      "AB",
      "aa" },
    { "none is permitted",
      { { 1, "US", 'u', 0, 0 }, { 50, "US", 'd', 0, 0 } },
      "DE",
      false,
      "",
      "rr" },
    { "residency is said before all else",
      { { 1, "US", 'x', 0, 0 }, { 2, "US", 'u', -1, 0 }, { 3, "US", 'u', INFINITY, 0 } },
      "DE",
      false,
      "",
      "rrr" },
    { "down is not chosen",
      { { 1, "DE", 'x', 0, 0 }, { 50, "DE", 'u', 0, 0 } },
      "",
      false,
      "B",
      "da" },
    { "all are down", { { 1, "DE", 'x', 0, 0 }, { 5, "DE", 'x', 0, 0 } }, "", false, "", "dd" },
    { "draining is not chosen while another can",
      { { 1, "DE", 'd', 0, 0 }, { 90, "DE", 'u', 0, 0 } },
      "",
      false,
      "B",
      "Da" },
    { "draining where there is no other",
      { { 1, "DE", 'd', 0, 0 }, { 9, "DE", 'x', 0, 0 } },
      "",
      false,
      "A",
      "Dd" },
    { "full is not chosen while another can",
      { { 1, "DE", 'u', INFINITY, 0 }, { 90, "DE", 'u', 0, 0 } },
      "",
      false,
      "B",
      "Fa" },
    { "draining rather than full",
      { { 1, "DE", 'u', INFINITY, 0 }, { 90, "DE", 'd', 0, 0 } },
      "",
      false,
      "B",
      "FD" },
    { "full where there is no other, by distance",
      { { 9, "DE", 'u', INFINITY, 0 }, { 1, "DE", 'u', INFINITY, 0 } },
      "",
      false,
      "BA",
      "FF" },
    { "full before draining and full",
      { { 1, "DE", 'd', INFINITY, 0 }, { 9, "DE", 'u', INFINITY, 0 } },
      "",
      false,
      "B",
      "DF" },
    { "a start that never ends is no room",
      { { 1, "DE", 'u', 0, INFINITY }, { 9, "DE", 'u', 0, 0 } },
      "",
      false,
      "B",
      "Fa" },
    { "a wait that is no number is no room",
      { { 1, "DE", 'u', NAN, 0 }, { 9, "DE", 'u', 0, 0 } },
      "",
      false,
      "B",
      "Fa" },
    { "a wait below nothing attracts nobody",
      { { 9, "DE", 'u', -500, 0 }, { 1, "DE", 'u', 0, 0 } },
      "",
      false,
      "BA",
      "aa" },
    { "a client of no known place goes by what else there is",
      { { 1, "DE", 'u', 0, 20 }, { 90, "DE", 'u', 0, 0 } },
      "",
      true,
      "BA",
      "aa" },
    { "a PoP of no known place is far",
      { { UNKNOWN, "DE", 'u', 0, 0 }, { 60, "DE", 'u', 0, 0 } },
      "",
      false,
      "BA",
      "aa" },
    { "but nearer than the other side",
      { { UNKNOWN, "DE", 'u', 0, 0 }, { 170, "DE", 'u', 0, 0 } },
      "",
      false,
      "AB",
      "aa" },
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        row_check(&rows[i]);
}

/* ---- shares ---------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    float totals[3], weights[3]; /* by starts at one place */
    float shares[3];
} shared[] = {
    { "equal ones share equally", { 0, 0, 0 }, { 1, 1, 1 }, { .333f, .333f, .333f } },
    { "by weight", { 0, 0, 0 }, { 1, 2, 5 }, { .125f, .25f, .625f } },
    { "half way to the edge counts half", { 0, 0.5f, 10 }, { 1, 1, 1 }, { .667f, .333f, 0 } },
    { "at the edge nothing", { 0, 1, 10 }, { 1, 1, 1 }, { 1, 0, 0 } },
    { "weight cannot buy what is not near", { 0, 3, 10 }, { 1, 1e9f, 1 }, { 1, 0, 0 } },
    { "without a weight none but the best", { 0, 0.3f, 0.6f }, { 0, 0, 0 }, { 1, 0, 0 } },
    { "a weight that is no number is none", { 0, 0, 0 }, { NAN, -1, 1 }, { 0, 0, 1 } },
};

static void test_shares(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++) {
        struct fleet fleet;
        struct route_choice rows_of[3], choice;
        unsigned drawn[3] = {}, draws = 30'000;

        print_message("  %s\n", shared[i].name);
        fleet_init(&fleet, 3);
        fleet.endpoint.count = 3;
        for (uint32_t k = 0; k < 3; k++) {
            stand(&fleet, k, 0, 0);
            fleet.pop[k] = k;
            fleet.start[k] = shared[i].totals[k];
            fleet.service[k] = 1;
            fleet.weight[k] = shared[i].weights[k];
        }
        route_explain(&fleet.pops, &fleet.endpoint, &fleet.query, rows_of);
        for (unsigned draw = 0; draw < draws; draw++) {
            fleet.query.seed = draw;
            assert_int_equal(route_choose(&fleet.pops, &fleet.endpoint, &fleet.query, &choice, 1),
                             1);
            drawn[choice.pop]++;
        }
        for (uint32_t k = 0; k < 3; k++) {
            assert_float_equal(rows_of[k].share, shared[i].shares[k], 0.001);
            assert_float_equal((float)drawn[k] / (float)draws, shared[i].shares[k], 0.01);
        }
    }
}

/* ---- properties over seeds ------------------------------------------------------------------- */

static void felt_take(struct fleet *fleet)
{
    struct route_choice explained[POPS];

    route_explain(&fleet->pops, &fleet->endpoint, &fleet->query, explained);
    for (size_t i = 0; i < fleet->pops.count; i++)
        fleet->felt[i] = explained[i].felt_ms;
}

static void random_fleet(struct fleet *fleet, uint64_t seed)
{
    state_now = seed * 0x9e3779b97f4a7c15u + 1;
    next();
    fleet_init(fleet, 1 + next() % POPS);
    for (uint32_t i = 0; i < fleet->pops.count; i++) {
        if (part() < 0.97)
            stand(fleet, i, asin(2 * part() - 1) * 180 / M_PI, 360 * part() - 180);
        fleet->country[i] = (country_number)(next() % 8 + 1);
        fleet->health[i] = (uint8_t)(part() < 0.8 ? ROUTE_UP : next() % 3);
        fleet->rtt[i] = part() < 0.3 ? (float)(200 * part()) : NAN;
        fleet->key[i] = next();
        if (part() < 0.2)
            continue;
        size_t at = fleet->endpoint.count++;
        fleet->pop[at] = i;
        fleet->wait[at] = part() < 0.1 ? INFINITY : (float)(part() < 0.5 ? 0 : 80 * part());
        fleet->service[at] = (float)(50 * part());
        fleet->start[at] = (float)(part() < 0.8 ? 0 : 1000 * part());
        fleet->hides[at] = part() < 0.5;
        fleet->weight[at] = (float)(100 * part());
    }
    fleet->pops.key = part() < 0.5 ? fleet->key : NULL;
    fleet->query = (struct route_query){
        .client = spot_at(asin(2 * part() - 1) * 180 / M_PI, 360 * part() - 180),
        .client_known = part() < 0.9,
        .rtt_ms = part() < 0.5 ? fleet->rtt : NULL,
        .process = part() < 0.5 ? &fleet->process : NULL,
        .seed = next(),
    };
    for (country_number c = 1; c <= 8; c++)
        if (part() < 0.3)
            countries_add(&fleet->process, c);
    felt_take(fleet);
}

/* The same in the plainest words: nothing of route.c's passes. */
static double plain_rtt(const struct fleet *fleet, size_t at)
{
    uint32_t pop = fleet->pop[at];
    double rtt = fleet->query.client_known || fleet->query.rtt_ms ? ROUTE_RTT_FAR_MS : 0;
    struct spot spot = { fleet->x[pop], fleet->y[pop], fleet->z[pop] };

    if (fleet->query.client_known && (spot.x != 0 || spot.y != 0 || spot.z != 0))
        rtt = rtt_ms(spot_km(spot, fleet->query.client));
    if (fleet->query.rtt_ms && !isnan(fleet->query.rtt_ms[pop]))
        rtt = fleet->query.rtt_ms[pop];
    return rtt;
}

static int plain_tier(const struct fleet *fleet, size_t at)
{
    uint32_t pop = fleet->pop[at];
    if (fleet->health[pop] == ROUTE_DOWN ||
        (fleet->query.process && !countries_has(fleet->query.process, fleet->country[pop])))
        return 9;
    return (fleet->health[pop] == ROUTE_DRAINING) + 2 * (fleet->wait[at] == INFINITY);
}

/* Who hides the starts of others: the best of those that are warm, whatever waits there. */
static size_t plain_hider(const struct fleet *fleet)
{
    size_t hider = fleet->endpoint.count;
    double least = INFINITY;
    for (size_t i = 0; i < fleet->endpoint.count; i++)
        if (plain_tier(fleet, i) == 0 && fleet->start[i] == 0 &&
            plain_rtt(fleet, i) + fleet->service[i] < least) {
            least = plain_rtt(fleet, i) + fleet->service[i];
            hider = i;
        }
    return hider;
}

static double plain_total(const struct fleet *fleet, size_t at)
{
    size_t hider = fleet->hider;
    double start = fleet->start[at];
    if (hider < fleet->endpoint.count && fleet->hides[at] && plain_tier(fleet, at) == 0)
        start = fmin(start, ROUTE_HIDDEN_MS + fmax(0, (double)fleet->service[hider] -
                                                          (double)fleet->service[at]));
    return plain_rtt(fleet, at) + fleet->felt[fleet->pop[at]] + fleet->service[at] + start;
}

static void test_the_best_is_chosen_and_never_an_excluded_one(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS * 5; seed++) {
        struct fleet fleet;
        struct route_choice choices[ROUTE_CHOICES_MAX];
        int tier = 9;
        double best = INFINITY;
        size_t open = 0;

        random_fleet(&fleet, seed);
        fleet.hider = plain_hider(&fleet);
        assert_int_equal(route_hider(&fleet.pops, &fleet.endpoint, &fleet.query), fleet.hider);
        for (size_t i = 0; i < fleet.endpoint.count; i++)
            tier = plain_tier(&fleet, i) < tier ? plain_tier(&fleet, i) : tier;
        for (size_t i = 0; i < fleet.endpoint.count; i++)
            if (tier < 9 && plain_tier(&fleet, i) == tier) {
                open++;
                best = fmin(best, plain_total(&fleet, i));
            }
        size_t max = 1 + seed % ROUTE_CHOICES_MAX;
        size_t count = route_choose(&fleet.pops, &fleet.endpoint, &fleet.query, choices, max);
        assert_int_equal(count, open < max ? open : max);
        for (size_t k = 0; k < count; k++) {
            size_t at = 0;
            while (fleet.pop[at] != choices[k].pop)
                at++;
            assert_int_equal(plain_tier(&fleet, at), tier);
            if (k == 0 && best < INFINITY)
                assert_true(plain_total(&fleet, at) < route_near_ms((float)best) + 0.01);
            if (k == 1 && best < INFINITY && count > 1) /* the best is among the first two */
                assert_true(fmin(choices[0].total_ms, choices[1].total_ms) < best + 0.01);
            if (k > 1)
                assert_true(choices[k].total_ms >= choices[k - 1].total_ms);
            for (size_t before = 0; before < k; before++)
                assert_int_not_equal(choices[before].pop, choices[k].pop);
        }
    }
}

static void test_explain_and_choose_agree(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct fleet fleet;
        struct route_choice choices[ROUTE_CHOICES_MAX], explained[POPS];
        double shares = 0;

        random_fleet(&fleet, seed);
        size_t count =
            route_choose(&fleet.pops, &fleet.endpoint, &fleet.query, choices, ROUTE_CHOICES_MAX);
        route_explain(&fleet.pops, &fleet.endpoint, &fleet.query, explained);
        for (size_t k = 0; k < count; k++) {
            const struct route_choice *row = &explained[choices[k].pop];
            assert_int_equal(row->pop, choices[k].pop);
            assert_true(row->total_ms == choices[k].total_ms);
            assert_true(row->rtt_ms == choices[k].rtt_ms);
            assert_true(row->felt_ms == choices[k].felt_ms);
            assert_true(row->start_felt_ms == choices[k].start_felt_ms);
            assert_true(row->share == choices[k].share);
            assert_int_equal(row->exclusion, choices[k].exclusion);
            assert_int_equal(row->rtt_source, choices[k].rtt_source);
            assert_int_equal(row->near, choices[k].near);
        }
        if (count > 0) { /* one answer takes a shorter way to the same */
            uint32_t pop = choices[0].pop;
            assert_int_equal(route_choose(&fleet.pops, &fleet.endpoint, &fleet.query, choices, 1),
                             1);
            assert_int_equal(choices[0].pop, pop);
            assert_true(choices[0].total_ms == explained[pop].total_ms);
        }
        for (size_t i = 0; i < fleet.pops.count; i++) {
            shares += explained[i].share;
            assert_true(explained[i].share == 0 || explained[i].near);
            if (count == 0)
                assert_int_not_equal(explained[i].exclusion, ROUTE_ALLOWED);
            if (count > 0 && choices[0].exclusion != ROUTE_ALLOWED)
                assert_int_not_equal(explained[i].exclusion, ROUTE_ALLOWED);
        }
        assert_float_equal(shares, count > 0, 0.001);
    }
}

static uint32_t first(const struct fleet *fleet)
{
    struct route_choice choice;
    return route_choose(&fleet->pops, &fleet->endpoint, &fleet->query, &choice, 1) ? choice.pop
                                                                                   : UINT32_MAX;
}

/* Three PoPs of one city, each with its third of 4,000 clients. */
static void one_city(struct fleet *fleet)
{
    fleet_init(fleet, 4);
    fleet->pops.key = fleet->key;
    fleet->endpoint.count = 4;
    for (uint32_t i = 0; i < 4; i++) {
        stand(fleet, i, 0, i == 3 ? 40 : 0);
        fleet->pop[i] = i;
        fleet->key[i] = 100 + i;
        fleet->weight[i] = 10;
        fleet->service[i] = 5;
    }
}

static void test_a_small_change_moves_few(void **state)
{
    enum { CLIENTS = 4000 };
    static const struct {
        const char *name;
        float wait, weight;
        bool down;
        double moved_max; /* of all clients */
    } changes[] = {
        { "nothing changes", 0, 10, false, 0 },
        { "a wait of 0.1 ms", 0.1f, 10, false, 0.06 },
        { "a wait of 1 ms", 1, 10, false, 0.25 },
        { "a twentieth less weight", 0, 9.5f, false, 0.02 },
        { "down: its own clients and no others", 0, 10, true, 0.36 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct fleet before, after;
        unsigned moved = 0, moved_to_it = 0, moved_among_others = 0;

        print_message("  %s\n", changes[i].name);
        one_city(&before);
        one_city(&after);
        after.wait[1] = changes[i].wait;
        after.weight[1] = changes[i].weight;
        after.health[1] = changes[i].down ? ROUTE_DOWN : ROUTE_UP;
        for (uint64_t client = 0; client < CLIENTS; client++) {
            before.query.seed = after.query.seed = client;
            uint32_t was = first(&before), is = first(&after);
            moved += was != is;
            moved_to_it += was != is && is == 1;
            moved_among_others += was != is && was != 1;
        }
        assert_true(moved <= changes[i].moved_max * CLIENTS);
        assert_int_equal(moved_to_it, 0);
        assert_int_equal(moved_among_others, 0);
    }
}

/* A near PoP with a wait, and another some way further without: how many stay. */
static double staying(float wait, float further)
{
    enum { CLIENTS = 20'000 };
    struct fleet fleet;
    unsigned stay = 0;

    one_city(&fleet);
    fleet.endpoint.count = 2;
    fleet.wait[0] = wait;
    fleet.start[1] = further;
    for (fleet.query.seed = 0; fleet.query.seed < CLIENTS; fleet.query.seed++)
        stay += first(&fleet) == 0;
    return stay / (double)CLIENTS;
}

static void test_a_wait_turns_away_a_part_that_grows_with_it(void **state)
{
    double before = 1;

    (void)state;
    assert_float_equal(staying(0, 10), 1, 0);
    /* Half the square of an exponential draw is below r with 1 - exp(-sqrt(2 r)). */
    assert_float_equal(staying(10, 9), 1 - exp(-sqrt(1.8)), 0.03);
    assert_float_equal(staying(10, 11), 1 - exp(-sqrt(2.2)), 0.03);
    assert_float_equal(staying(1000, 10), 1 - exp(-sqrt(0.02)), 0.03);
    for (float wait = 1; wait < 5000; wait *= 1.5f) {
        double stay = staying(wait, 10);
        assert_true(stay <= before);
        assert_true(before - stay < 0.15); /* no edge over which all fall */
        before = stay;
    }
}

static void test_a_start_of_which_nobody_has_spoken(void **state)
{
    (void)state;
    assert_true(route_start_ms(0, 0) == ROUTE_START_MS);
    assert_true(route_start_ms(20, 0) == 20 && route_start_ms(0, 20) == 20);
    assert_true(route_start_ms(20, 9000) == 9000 && route_start_ms(9000, 20) == 9000);
}

static void test_what_is_better_than_to_stay_is_shared(void **state)
{
    struct fleet fleet;
    unsigned drawn[4] = {};

    (void)state;
    one_city(&fleet);
    for (uint32_t i = 0; i < 3; i++)
        fleet.start[i] = (float)i * 10;
    for (fleet.query.seed = 0; fleet.query.seed < 3000; fleet.query.seed++)
        drawn[first(&fleet)]++;
    assert_int_equal(drawn[0], 3000);
    fleet.query.enough_ms = 14.4f + 5 + 40; /* 40 ms above the best: weights 1, 3/4, 1/2 */
    memset(drawn, 0, sizeof drawn);
    for (fleet.query.seed = 0; fleet.query.seed < 9000; fleet.query.seed++)
        drawn[first(&fleet)]++;
    assert_in_range(drawn[0], 3750, 4250);
    assert_in_range(drawn[1], 2750, 3250);
    assert_in_range(drawn[2], 1800, 2200);
    assert_int_equal(drawn[3], 0);
}

static void test_a_pop_that_joins_takes_its_part_and_moves_no_other_client(void **state)
{
    (void)state;
    struct fleet before, after;
    unsigned moved = 0;

    one_city(&before);
    one_city(&after);
    before.endpoint.count = before.pops.count = 2;
    /* It comes first in the order, and the others keep their keys. */
    after.key[0] = 102, after.key[1] = 100, after.key[2] = 101;
    after.endpoint.count = after.pops.count = 3;
    for (uint64_t client = 0; client < 3000; client++) {
        before.query.seed = after.query.seed = client;
        uint64_t was = before.key[first(&before)], is = after.key[first(&after)];
        if (was != is) {
            assert_int_equal(is, 102);
            moved++;
        }
    }
    assert_in_range(moved, 900, 1100);
}

static void test_distances(void **state)
{
    static const struct {
        double latitude, longitude, latitude2, longitude2, km;
    } pairs[] = {
        { 0, 0, 0, 0, 0 },
        { 52.52, 13.405, 52.52, 13.405, 0 },
        { 52.52, 13.405, 52.53, 13.405, 1.112 },
        { 48.8566, 2.3522, 51.5074, -0.1278, 343.6 },      /* Paris, London */
        { 35.6762, 139.6503, 34.0522, -118.2437, 8819.4 }, /* Tokyo, Los Angeles */
        { 0, 0, 0, 180, 20015.1 },
        { 90, 0, -90, 77, 20015.1 },
        { 0, 179.5, 0, -179.5, 111.2 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        struct spot a = spot_at(pairs[i].latitude, pairs[i].longitude);
        struct spot b = spot_at(pairs[i].latitude2, pairs[i].longitude2);
        assert_float_equal(spot_km(a, b), pairs[i].km, 0.02 + pairs[i].km * 1e-4);
    }
    /* asin's series, against libm's. */
    for (double half = 0; half <= 1; half += 1e-5)
        assert_float_equal(spot_chord_km((float)(4 * half * half)),
                           2 * EARTH_RADIUS_KM * asin(half), half > 0.999 ? 12 : 0.02);
    assert_false(spot_valid(90.1, 0));
    assert_false(spot_valid(0, -180.1));
    assert_false(spot_valid(NAN, 0));
    assert_true(spot_valid(-90, 180));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_the_best_is_chosen_and_never_an_excluded_one),
        cmocka_unit_test(test_explain_and_choose_agree),
        cmocka_unit_test(test_a_small_change_moves_few),
        cmocka_unit_test(test_a_wait_turns_away_a_part_that_grows_with_it),
        cmocka_unit_test(test_a_start_of_which_nobody_has_spoken),
        cmocka_unit_test(test_what_is_better_than_to_stay_is_shared),
        cmocka_unit_test(test_a_pop_that_joins_takes_its_part_and_moves_no_other_client),
        cmocka_unit_test(test_distances),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
