/* SPDX-License-Identifier: Apache-2.0 */
/* In worlds made from a seed: what the memo spares changes no answer. */
#include "dns/choose.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <math.h>
#include <stdio.h>

#include "base/err.h"
#include "dns/client.h"
#include "dns/memo.h"
#include "dns/view.h"

enum { POPS = 120, CLIENTS = 4000, WORLDS = 8, BLOCKS = 40 };

static uint64_t state = 1;

static double uniform(double from, double to)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return from + (to - from) * (double)(state >> 11) / (double)(UINT64_C(1) << 53);
}

/* Crowded: many PoPs in few cities; waits from none at all to many; some down, draining or full; in
 * the last worlds few are warm, which hide the starts of most others. */
static struct dns_view *make_world(unsigned world)
{
    static char names[POPS][16];
    struct dns_source_pop pops[POPS];
    struct dns_source_place places[POPS];
    struct residency_rule rule = { .clients = { .scope = RESIDENCY_ANY },
                                   .process = { .scope = RESIDENCY_COUNTRIES } };
    struct residency half = { &rule, 1, COUNTRY_UNKNOWN };
    struct dns_view *view;
    struct err err;
    size_t count = 0;
    countries_add(&rule.process.countries, 1);
    for (uint32_t i = 0; i < POPS; i++) {
        unsigned city = (unsigned)uniform(0, world % 2 ? 10 : POPS);
        (void)snprintf(names[i], sizeof names[i], "p%u", i);
        pops[i] = (struct dns_source_pop){ .name = slice_of(names[i]),
                                           .country = (country_number)(1 + i % 2),
                                           .located = i % 17 != 0,
                                           .latitude = 60.0 - city,
                                           .longitude = city * 3.0,
                                           .health = (uint8_t)(uniform(0, 1) < 0.9 ? ROUTE_UP
                                                               : i % 2             ? ROUTE_DOWN
                                                                       : ROUTE_DRAINING) };
        double wait = world < 2 ? 0 : uniform(-5, world == 2 ? 1 : 40);
        if (uniform(0, 1) < 0.9)
            places[count++] =
                (struct dns_source_place){ i,
                                           (float)(uniform(0, 1) < 0.05 ? (double)INFINITY
                                                   : wait < 0           ? 0
                                                                        : wait),
                                           (float)uniform(0, 3),
                                           world > 3 && uniform(0, 1) < 0.97 ? 40 : 0,
                                           (float)uniform(0, 2),
                                           i % 5 != 0 };
    }
    const struct dns_source_endpoint endpoints[] = {
        { SLICE("all"), SLICE("default"), places, count, NULL },
        { SLICE("half"), SLICE("default"), places, count, &half },
    };
    struct dns_source source = { .zone = SLICE("perigee.test"),
                                 .pops = pops,
                                 .pop_count = POPS,
                                 .endpoints = endpoints,
                                 .endpoint_count = 2 };
    assert_int_equal(dns_view_build(&source, &view, &err), 0);
    return view;
}

static struct dns_client make_client(void)
{
    unsigned block = (unsigned)uniform(0, BLOCKS);
    return (struct dns_client){
        .ip = ip_from4((uint8_t[]){ 10, (uint8_t)block, (uint8_t)uniform(0, 256), 1 }),
        .source_bits = 128,
        .seed_bits = 120,
        .where = { .located = block > 2,
                   .latitude = 60.0 - block,
                   .longitude = block * 3.0,
                   .bits = 112 },
        .seed = (uint64_t)uniform(0, 1e15),
    };
}

static void test_the_memo_changes_no_answer(void **)
{
    unsigned several = 0;
    for (unsigned world = 0; world < WORLDS; world++) {
        struct dns_view *view = make_world(world);
        struct dns_memo *memo = dns_memo_new();
        for (unsigned i = 0; i < CLIENTS; i++) {
            const struct dns_entry *entry =
                dns_view_find(view, i & 1 ? SLICE("all") : SLICE("half"));
            struct dns_client client = make_client();
            struct dns_choice with, without;
            dns_choose(view, entry, &client, 4, memo, &with);
            dns_choose(view, entry, &client, 4, NULL, &without);
            assert_int_equal(with.count, without.count);
            several += with.count > 1;
            for (size_t k = 0; k < with.count; k++)
                assert_int_equal(with.choices[k].pop, without.choices[k].pop);
        }
        dns_memo_free(memo);
        dns_view_free(view);
    }
    print_message("  %u of %u had several\n", several, WORLDS * CLIENTS);
    assert_true(several > CLIENTS / 10 && several < WORLDS * CLIENTS);
}

/* A row is of one view, one name and one block. */
static void test_what_a_row_is_of(void **)
{
    struct dns_memo *memo = dns_memo_new();
    const struct dns_entry *one = (const void *)1, *two = (const void *)2;
    struct ip_block block = { ip_from4((uint8_t[]){ 10, 0, 0, 0 }), 104 }, other = block;
    const struct dns_memo_row row = { .count = 3 };
    dns_memo_put(memo, one, &block, &row);
    assert_int_equal(dns_memo_get(memo, one, &block)->count, 3);
    assert_null(dns_memo_get(memo, two, &block));
    other.bits++;
    assert_null(dns_memo_get(memo, one, &other));
    dns_memo_clear(memo);
    assert_null(dns_memo_get(memo, one, &block));
    dns_memo_free(memo);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_the_memo_changes_no_answer),
                                        cmocka_unit_test(test_what_a_row_is_of) };
    return cmocka_run_group_tests_name("dns_choose", tests, NULL, NULL);
}
