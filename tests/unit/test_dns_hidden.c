/* SPDX-License-Identifier: Apache-2.0 */
/* What of the memo a new view keeps where starts are hidden, and by whom they are. */
#include "dns/follow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include "base/err.h"
#include "dns/choose.h"
#include "dns/memo.h"
#include "dns_world.h"
#include "geo/where.h"

static struct dns_view *followed(const struct dns_world *world, struct dns_view *before)
{
    struct dns_view *view = dns_world_view(world);
    dns_view_follow(view, before);
    dns_view_free(before);
    return view;
}

/* Runs that move a little leave rows good for what they are asked. */
static void test_rows_serve_on(void **)
{
    static struct dns_world world;
    enum { SOME = 500 };
    unsigned rows = 0, renewed = 0;
    dns_world_make(&world, 4);
    for (size_t i = 0; i < world.count; i++) {
        world.places[i].wait_ms = 0; /* a draw would have the scope of each */
        if (i % 20 > 0)
            continue;
        world.places[i].start_ms = 0;
        world.pops[world.places[i].pop].health = ROUTE_UP;
    }
    struct dns_view *view = dns_world_view(&world);
    struct dns_memo *memo = dns_memo_new();
    for (unsigned i = 0; i < SOME; i++)
        (void)dns_world_check(&world, view, 5, memo); /* all, of any family */
    for (size_t i = 0; i < world.count; i++)
        world.places[i].service_ms += 0.01F;
    view = followed(&world, view);
    const struct dns_entry *entry = dns_view_find(view, SLICE("all"));
    assert_true(entry->drift > 0 && entry->route.hides && entry->warm.count > 0);
    for (unsigned i = 0; i < SOME; i++) {
        struct dns_client client = dns_world_client(&world);
        struct ip_block block = { ip_cut(&client.ip, client.where.bits), client.where.bits };
        struct dns_memo_row *row = dns_memo_get(memo, entry->memo_id, &block);
        struct dns_choice choice;
        if (!row || row->drift == entry->drift)
            continue;
        dns_choose(view, entry, &client, 4, memo, &choice);
        rows++;
        renewed += row->drift == entry->drift;
    }
    print_message("  %u of %u rows found anew\n", renewed, rows);
    assert_true(rows > SOME / 2 && renewed < rows / 4);
    dns_memo_free(memo);
    dns_view_free(view);
    where_map_free(world.map);
}

/* Nine cold PoPs whose starts may be hidden, of which the row has the nearest; one whose start may
 * not; and two warm ones further away, of which the row has that which hides the starts. */
enum { COLD = 9, ALONE = COLD, WARM, OTHER, HIDERS };

static void hiders_make(struct dns_source_pop pops[static HIDERS],
                        struct dns_source_place places[static HIDERS])
{
    static const char *const names[HIDERS] = { "a", "b", "c", "d", "e", "f",
                                               "g", "h", "i", "k", "l", "m" };
    for (uint32_t i = 0; i < HIDERS; i++) {
        pops[i] = (struct dns_source_pop){ .name = slice_of(names[i]), .located = true };
        pops[i].latitude = i < 4 ? 0 : 11.8; /* 14.4 and 35 ms */
        places[i] = (struct dns_source_place){ i, 0, 0, 900, 1, true };
    }
    pops[ALONE].latitude = 0;
    places[ALONE].service_ms = 20; /* 39 ms in all */
    places[ALONE].start_ms = 5;
    places[ALONE].hides = false;
    pops[WARM].latitude = 20.4; /* 50 ms, and 60 in all; so that the nearest have 28 */
    places[WARM].service_ms = 10;
    pops[OTHER].latitude = 3.2; /* 20 ms, and 63 in all */
    places[OTHER].service_ms = 43;
    places[WARM].start_ms = places[OTHER].start_ms = 0;
}

static struct dns_view *hiders_view(const struct dns_source_pop *pops,
                                    const struct dns_source_place *places,
                                    const struct where_map *map)
{
    const struct dns_source_endpoint all = { SLICE("all"), SLICE("default"), places, HIDERS, NULL };
    const struct dns_source source = { .zone = SLICE("perigee.test"),
                                       .pops = pops,
                                       .pop_count = HIDERS,
                                       .endpoints = &all,
                                       .endpoint_count = 1,
                                       .map = map };
    struct dns_view *view;
    struct err err;
    assert_int_equal(dns_view_build(&source, &view, &err), 0);
    return view;
}

static uint32_t chosen(const struct dns_view *view, struct dns_memo *memo)
{
    const struct dns_entry *entry = dns_view_find(view, SLICE("all"));
    const struct dns_client client = { .where = { .located = true } };
    struct dns_choice choice;
    dns_choose(view, entry, &client, 4, memo, &choice);
    assert_true(choice.count > 0);
    return choice.choices[0].pop;
}

/* Once the runs of the other warm PoP are shorter, it is that one which hides the starts: they cost
 * its run, which is longer, and the PoP whose own start is short is better than they are. */
static void test_another_hides(void **)
{
    struct dns_source_pop pops[HIDERS];
    struct dns_source_place places[HIDERS];
    struct dns_memo *memo = dns_memo_new();
    hiders_make(pops, places);
    struct dns_view *view = hiders_view(pops, places, NULL), *next;
    assert_in_range(chosen(view, memo), 0, 3);
    for (int step = 0; step < 6; step++) { /* 63, 62 ... 58 ms */
        const struct dns_entry *before = dns_view_find(view, SLICE("all"));
        next = hiders_view(pops, places, NULL);
        dns_view_follow(next, view);
        assert_int_equal(dns_view_find(next, SLICE("all"))->memo_id, before->memo_id);
        dns_view_free(view);
        view = next;
        assert_int_equal(chosen(view, memo) == ALONE, chosen(view, NULL) == ALONE);
        places[OTHER].service_ms--;
    }
    assert_int_equal(chosen(view, memo), ALONE);
    dns_memo_free(memo);
    dns_view_free(view);
}

/* The scope of one client's answer, which has to be that of the first PoP. */
static uint8_t scope_now(const struct dns_view *view, struct dns_memo *memo)
{
    const struct dns_entry *entry = dns_view_find(view, SLICE("all"));
    struct dns_client client = { .ip = ip_from4((uint8_t[]){ 10, 0, 0, 1 }), .source_bits = 128 };
    struct dns_choice choice;
    client.where = where_find(view->map, &client.ip);
    dns_choose(view, entry, &client, 4, memo, &choice);
    assert_true(choice.count == 1 && choice.choices[0].pop == 0);
    assert_int_equal(dns_scope(view, entry, &client, &choice, NULL),
                     dns_scope(view, entry, &client, &choice, memo));
    return dns_scope(view, entry, &client, &choice, memo);
}

/* A start that takes longer may cost no more than it could at the least, and all the same send away
 * clients who had the same answer: that all of a scope have it is asked anew. */
static void test_a_scope_is_not_kept(void **)
{
    const struct where_block blocks[] = {
        { .block = { ip_from4((uint8_t[]){ 10, 0, 0, 0 }), 112 }, .located = true },
        { .block = { ip_from4((uint8_t[]){ 10, 1, 0, 0 }), 112 }, .located = true, .latitude = 9 },
    };
    struct dns_source_pop pops[HIDERS];
    struct dns_source_place places[HIDERS];
    struct dns_memo *memo = dns_memo_new();
    struct where_map *map;
    struct err err;
    assert_int_equal(where_map_open(blocks, 2, NULL, NULL, &map, &err), 0);
    hiders_make(pops, places);
    for (uint32_t i = 1; i < WARM; i++) { /* never the best */
        pops[i].latitude = 60;
        places[i].hides = false;
    }
    places[0].start_ms = 10; /* 24 ms from the first block, 40 from the other */
    pops[WARM].latitude = 4.5;
    places[WARM].service_ms = 30; /* 52 ms from both, and so what hides the start would cost 34 */
    pops[OTHER].latitude = 80;    /* it could cost 4, if this was the best of the warm ones */
    places[OTHER].service_ms = 0;
    struct dns_view *view = hiders_view(pops, places, map);
    assert_int_equal(scope_now(view, memo), 15);
    places[0].start_ms = 25; /* 39 and 55 ms */
    struct dns_view *next = hiders_view(pops, places, map);
    dns_view_follow(next, view);
    assert_int_equal(dns_view_find(next, SLICE("all"))->memo_id,
                     dns_view_find(view, SLICE("all"))->memo_id);
    assert_int_equal(scope_now(next, memo), 16);
    dns_view_free(view);
    dns_view_free(next);
    where_map_free(map);
    dns_memo_free(memo);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_rows_serve_on),
                                        cmocka_unit_test(test_another_hides),
                                        cmocka_unit_test(test_a_scope_is_not_kept) };
    return cmocka_run_group_tests_name("dns_hidden", tests, NULL, NULL);
}
