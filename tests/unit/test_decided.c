/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent computes of what a gateway kept of a choice is what that choice came to. */
#include "pop/decided.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "contract/table.h"
#include "gateway/decision.h"

enum { POPS = 300 };

/* A fleet at random places, of which an endpoint has some. */
static struct {
    float x[POPS], y[POPS], z[POPS], rtt[POPS];
    uint64_t key[POPS];
    country_number country[POPS];
    uint8_t health[POPS];
    uint32_t placed[POPS];
    float wait[POPS], service[POPS], start[POPS], weight[POPS];
    struct countries process;
    struct route_pops pops;
    struct route_endpoint endpoint;
    struct route_query query;
    const struct table_head *table;
} fleet;

static uint64_t seed;

static double part(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (double)(seed >> 11) / (double)(1ULL << 53);
}

static void table_make(struct arena *arena, size_t count)
{
    struct table_source_pop *pops = ARENA_ARRAY(arena, struct table_source_pop, count);
    struct slice bytes;
    struct err err;
    for (size_t i = 0; i < count; i++)
        pops[i].name = slice_of(arena_format(arena, "pop-%03zu", i));
    struct table_source source = { .number = 1,
                                   .zone = SLICE("perigee.test"),
                                   .pop = pops[0].name,
                                   .pops = pops,
                                   .pop_count = count };
    if (table_build(arena, &source, &bytes, &err) < 0)
        fail_msg("%s", err.message);
    fleet.table = (const struct table_head *)(const void *)bytes.data;
}

static void fleet_make(struct arena *arena, size_t count, size_t placed, uint64_t from)
{
    seed = from * UINT64_C(0x9e3779b97f4a7c15) | 1;
    memset(&fleet.process, 0, sizeof fleet.process);
    for (country_number c = 1; c <= 50; c += 2)
        countries_add(&fleet.process, c);
    for (uint32_t i = 0; i < count; i++) {
        struct spot spot = spot_at(asin(2 * part() - 1) * 180 / M_PI, 360 * part() - 180);
        bool known = part() < 0.9;
        fleet.x[i] = known ? spot.x : 0, fleet.y[i] = known ? spot.y : 0;
        fleet.z[i] = known ? spot.z : 0;
        fleet.rtt[i] = part() < 0.3 ? NAN : (float)(14 + 200 * part());
        fleet.key[i] = (uint64_t)(part() * 1e15);
        fleet.country[i] = (country_number)(1 + 50 * part());
        fleet.health[i] = (uint8_t)(part() < 0.8 ? ROUTE_UP : 1 + 2 * part());
    }
    for (uint32_t i = 0; i < placed; i++) {
        fleet.placed[i] = (uint32_t)(i * count / placed);
        fleet.wait[i] = part() < 0.1 ? INFINITY : part() < 0.5 ? 0 : (float)(30 * part());
        fleet.service[i] = 5;
        fleet.start[i] = part() < 0.8 ? 0 : 900;
        fleet.weight[i] = (float)(100 * part());
    }
    struct spot client = spot_at(asin(2 * part() - 1) * 180 / M_PI, 360 * part() - 180);
    fleet.pops = (struct route_pops){ count,     fleet.x,       fleet.y,     fleet.z,
                                      fleet.key, fleet.country, fleet.health };
    fleet.endpoint = (struct route_endpoint){ placed,        fleet.placed, fleet.wait,
                                              fleet.service, fleet.start,  fleet.weight };
    fleet.query = (struct route_query){ client,
                                        part() < 0.8,
                                        part() < 0.8 ? fleet.rtt : NULL,
                                        part() < 0.5 ? &fleet.process : NULL,
                                        (uint64_t)(part() * 1e15),
                                        part() < 0.3 ? 60 : 0 };
    table_make(arena, count);
}

static bool same(float a, float b)
{
    return (isnan(a) && isnan(b)) || a == b;
}

/* To the bit, `pop` apart. */
static void row_check(const struct route_choice *kept, const struct route_choice *was, bool share)
{
    assert_true(same(kept->rtt_ms, was->rtt_ms) && same(kept->wait_ms, was->wait_ms) &&
                same(kept->felt_ms, was->felt_ms) && same(kept->service_ms, was->service_ms) &&
                same(kept->start_ms, was->start_ms) && same(kept->total_ms, was->total_ms));
    assert_int_equal(kept->exclusion, was->exclusion);
    assert_int_equal(kept->rtt_source, was->rtt_source);
    if (share) {
        assert_true(same(kept->share, was->share));
        assert_int_equal(kept->near, was->near);
    }
}

static uint32_t number_of(const struct decision_record *decision, uint32_t row)
{
    unsigned number = UINT32_MAX;
    assert_int_equal(sscanf(decision->pops[row].name, "pop-%u", &number), 1);
    return number;
}

static void fleet_check(size_t count, size_t placed)
{
    auto_free struct decision_record *decision = mem_zalloc(sizeof *decision);
    auto_free struct route_choice *was = mem_zalloc(POPS * sizeof *was);
    struct route_choice rows[DECISION_POPS_MAX], chosen;
    bool whole = count <= DECISION_POPS_MAX, first = true;
    decision_keep(decision, fleet.table, &fleet.pops, &fleet.endpoint, &fleet.query);
    size_t kept = decided_rows(decision, rows);
    assert_int_equal(kept, whole ? count : DECISION_POPS_MAX);
    route_explain(&fleet.pops, &fleet.endpoint, &fleet.query, was);
    bool any = route_choose(&fleet.pops, &fleet.endpoint, &fleet.query, &chosen, 1) > 0;
    bool there = false;
    for (size_t i = 0; i < kept; i++) {
        uint32_t number = number_of(decision, rows[i].pop);
        row_check(&rows[i], &was[number], placed <= DECISION_POPS_MAX);
        there = there || number == chosen.pop;
        /* The best first. */
        bool allowed = rows[i].exclusion == ROUTE_ALLOWED;
        assert_true(first || !allowed);
        first = first && allowed;
        if (i > 0 && allowed)
            assert_true(rows[i - 1].total_ms <= rows[i].total_ms);
    }
    if (any && placed <= DECISION_POPS_MAX)
        assert_true(there);
}

static void test_as_it_was(void **state)
{
    static const struct {
        size_t count, placed;
    } sizes[] = { { 1, 1 },  { 2, 1 },   { 3, 3 },    { 16, 16 },  { 16, 5 },   { 17, 17 },
                  { 40, 3 }, { 300, 1 }, { 300, 16 }, { 300, 17 }, { 300, 300 } };
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (uint64_t from = 1; from <= 200; from++) {
            struct arena *arena = arena_new();
            fleet_make(arena, sizes[i].count, sizes[i].placed, from);
            fleet_check(sizes[i].count, sizes[i].placed);
            arena_free(arena);
        }
}

/* The client's own way to the PoP: in totals, in no order. */
static void test_the_way_to_the_client(void **state)
{
    static const struct {
        float ms;
        unsigned source;
        float more;
    } ways[] = { { 6, DECISION_RTT_TRUSTED, 6 },    { 6, DECISION_RTT_TCP, 6 },
                 { 6, DECISION_RTT_UNKNOWN, 0 },    { 6, DECISION_RTT_END, 0 },
                 { -1, DECISION_RTT_TCP, 0 },       { NAN, DECISION_RTT_TCP, 0 },
                 { INFINITY, DECISION_RTT_TCP, 0 }, { 0, DECISION_RTT_TCP, 0 } };
    auto_free struct decision_record *decision = mem_zalloc(sizeof *decision);
    struct route_choice plain[DECISION_POPS_MAX], rows[DECISION_POPS_MAX];
    struct arena *arena = arena_new();
    (void)state;
    fleet_make(arena, 16, 5, 3);
    decision_keep(decision, fleet.table, &fleet.pops, &fleet.endpoint, &fleet.query);
    size_t count = decided_rows(decision, plain);
    for (size_t k = 0; k < sizeof ways / sizeof *ways; k++) {
        decision->client_rtt_ms = ways[k].ms;
        decision->client_rtt_source = (uint8_t)ways[k].source;
        assert_int_equal(decided_rows(decision, rows), count);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(rows[i].pop, plain[i].pop);
            assert_true(rows[i].total_ms == plain[i].total_ms + ways[k].more);
            assert_true(same(rows[i].rtt_ms, plain[i].rtt_ms));
        }
    }
    arena_free(arena);
}

/* Of more than are kept, those that matter: what is allowed and quick before what is not. */
static void test_of_many_the_best_are_kept(void **state)
{
    auto_free struct decision_record *decision = mem_zalloc(sizeof *decision);
    struct route_choice rows[DECISION_POPS_MAX];
    struct arena *arena = arena_new();
    (void)state;
    fleet_make(arena, POPS, POPS, 7);
    fleet.query = (struct route_query){ .rtt_ms = fleet.rtt, .process = &fleet.process };
    for (uint32_t i = 0; i < POPS; i++) {
        fleet.rtt[i] = (float)(300 - (int)i);
        fleet.wait[i] = fleet.start[i] = 0;
        fleet.country[i] = i % 2 ? 1 : 2; /* odd ones may */
        fleet.health[i] = i > 280 ? ROUTE_DOWN : ROUTE_UP;
    }
    decision_keep(decision, fleet.table, &fleet.pops, &fleet.endpoint, &fleet.query);
    assert_int_equal(decided_rows(decision, rows), DECISION_POPS_MAX);
    for (uint32_t i = 0; i < DECISION_POPS_MAX; i++)
        assert_int_equal(number_of(decision, rows[i].pop), 279 - 2 * i);
    arena_free(arena);
}

/* As a gateway that has gone wrong may leave it: rows, whatever they say. */
static void test_nonsense(void **state)
{
    auto_free struct decision_record *decision = mem_zalloc(sizeof *decision);
    struct route_choice rows[DECISION_POPS_MAX];
    (void)state;
    for (int fill = 0; fill < 256; fill += 5) {
        memset(decision, fill, sizeof *decision);
        assert_true(decided_rows(decision, rows) <= DECISION_POPS_MAX);
        seed = (uint64_t)fill + 1;
        for (size_t i = 0; i < sizeof *decision; i++)
            ((unsigned char *)decision)[i] = (unsigned char)(256 * part());
        size_t count = decided_rows(decision, rows);
        for (size_t i = 0; i < count; i++)
            assert_true(rows[i].pop < count && rows[i].exclusion <= ROUTE_NO_ROOM &&
                        rows[i].rtt_source <= ROUTE_RTT_NONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_it_was),
        cmocka_unit_test(test_the_way_to_the_client),
        cmocka_unit_test(test_of_many_the_best_are_kept),
        cmocka_unit_test(test_nonsense),
    };
    return cmocka_run_group_tests_name("decided", tests, NULL, NULL);
}
