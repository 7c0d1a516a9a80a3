/* SPDX-License-Identifier: Apache-2.0 */
/* What of the memo a new view keeps, and that it changes no answer. */
#include "dns/follow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <math.h>
#include <stdlib.h>

#include "dns/choose.h"
#include "dns/memo.h"
#include "dns/server.h"
#include "dns_world.h"
#include "geo/where.h"

enum { CLIENTS = 200 }; /* of each view */

enum change {
    WAITS, /* and weights: in each of these steps */
    RUNS,  /* what a run takes, a little, here and there */
    RUNS_ALL,
    COLDER,   /* what starts take */
    SPOKEN,   /* a gateway does of the endpoint, or does not: its start may be hidden */
    RUNS_FAR, /* of the warm ones, so that others hide starts */
    STARTS,   /* somewhere one is warm, or cold */
    FULL,     /* or has room */
    HEALTH,
    PLACES,  /* one is there no more */
    ANOTHER, /* PoP has what one had */
    LAW,
    MOVED, /* one stands elsewhere */
    COUNTRY,
    MAP,    /* of clients */
    FAMILY, /* one has addresses of another */
    CHANGES,
};

/* What is asked of each pair of views. */
enum { ALL, HALF, ALL4, ALL6, NAMES };

static uint64_t id_of(const struct dns_view *view, int name)
{
    const struct dns_entry *entry =
        dns_view_find(view, name == HALF ? SLICE("half") : SLICE("all"));
    return name == ALL4   ? entry->of_family[DNS_IP4]->memo_id
           : name == ALL6 ? entry->of_family[DNS_IP6]->memo_id
                          : entry->memo_id;
}

static uint32_t unplaced(const struct dns_world *world)
{
    bool placed[WORLD_POPS + 1] = {};
    uint32_t pop = 0;
    for (size_t i = 0; i < world->count; i++)
        placed[world->places[i].pop] = true;
    while (placed[pop])
        pop++;
    assert_true(pop < WORLD_POPS);
    return pop;
}

static void world_change(struct dns_world *world, enum change change)
{
    struct dns_source_place *one =
        &world->places[(size_t)dns_world_uniform(0, (double)world->count)];
    for (size_t i = 0; i < world->count; i++) {
        struct dns_source_place *place = &world->places[i];
        if (place->wait_ms < INFINITY && world->number >= 2)
            place->wait_ms = fminf(1e6F, fabsf(dns_world_wait(world)));
        place->weight = (float)dns_world_uniform(0, 2);
        if (change == COLDER && place->start_ms > 0)
            place->start_ms = (float)dns_world_uniform(1, 60);
        if (change == RUNS_FAR && !(place->start_ms > 0))
            place->service_ms = (float)dns_world_uniform(0, 8);
        if (change == RUNS_ALL || (change == RUNS && dns_world_uniform(0, 1) < 0.1))
            place->service_ms = fmaxf(0, place->service_ms + (float)dns_world_uniform(-1, 1));
    }
    one->hides ^= change == SPOKEN;
    if (change == STARTS)
        one->start_ms = one->start_ms > 0 ? 0 : 40;
    if (change == FULL)
        one->wait_ms = one->wait_ms < INFINITY ? INFINITY : 0;
    if (change == HEALTH)
        world->pops[one->pop].health =
            world->pops[one->pop].health == ROUTE_UP ? ROUTE_DOWN : ROUTE_UP;
    struct dns_source_pop *pop = &world->pops[one->pop];
    if (change == MOVED) {
        pop->located = true;
        pop->longitude = 10; /* of some it is none on Earth */
        pop->latitude = pop->latitude > 0 ? pop->latitude - 47 : pop->latitude + 53;
    }
    if (change == COUNTRY)
        pop->country = pop->country == 1 ? 2 : 1;
    if (change == FAMILY)
        dns_world_addresses(world, one->pop,
                            pop->address_count == 2 || ip_is4(pop->addresses) ? 2 : 0);
    world->law ^= change == LAW;
    if (change == ANOTHER)
        one->pop = unplaced(world);
    if (change == PLACES && world->count > WORLD_POPS / 2)
        *one = world->places[--world->count];
}

static int by_pop(const void *a, const void *b)
{
    const struct dns_source_place *x = a, *y = b;
    return (x->pop > y->pop) - (x->pop < y->pop);
}

/* Whatever a view has of the one before: each answer is that of a choice among all PoPs. Where
 * waits, weights, runs and how long starts take alone have changed, nothing is forgotten. */
static void test_what_is_kept_changes_no_answer(void **)
{
    static struct dns_world world;
    enum { STEPS = 60 };
    unsigned kept[CHANGES][NAMES] = {}, all[CHANGES] = {};
    for (unsigned number = 0; number < WORLDS; number++) {
        dns_world_make(&world, number);
        struct dns_view *view = dns_world_view(&world);
        struct dns_memo *memo = dns_memo_new();
        for (unsigned step = 0; step < STEPS; step++) {
            for (unsigned i = 0; i < CLIENTS; i++)
                (void)dns_world_check(&world, view, i, memo);
            enum change change = (enum change)dns_world_uniform(0, CHANGES);
            struct where_map *map = world.map;
            world_change(&world, change);
            if (change == MAP)
                world.map = dns_world_map(step);
            qsort(world.places, world.count, sizeof *world.places, by_pop);
            struct dns_view *next = dns_world_view(&world);
            dns_view_follow(next, view);
            assert_ptr_equal(next->follows, view);
            all[change]++;
            for (int k = 0; k < NAMES; k++)
                kept[change][k] += id_of(next, k) == id_of(view, k);
            dns_view_free(view);
            if (map != world.map)
                where_map_free(map);
            view = next;
        }
        dns_memo_free(memo);
        dns_view_free(view);
        where_map_free(world.map);
    }
    for (unsigned i = 0; i < CHANGES; i++) {
        print_message("  change %u: %u, %u, %u and %u of %u kept\n", i, kept[i][ALL], kept[i][HALF],
                      kept[i][ALL4], kept[i][ALL6], all[i]);
        assert_true(all[i] > 0);
    }
    static const enum change none[] = { HEALTH, MOVED, COUNTRY, MAP };
    static const enum change whole[] = { WAITS, RUNS, RUNS_ALL, COLDER, RUNS_FAR };
    for (int k = 0; k < NAMES; k++) {
        for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
            assert_int_equal(kept[whole[i]][k], all[whole[i]]);
        assert_true(kept[SPOKEN][k] > 0 && kept[STARTS][k] < all[STARTS]);
        for (size_t i = 0; i < sizeof none / sizeof *none; i++)
            assert_int_equal(kept[none[i]][k], 0);
        assert_int_equal(kept[LAW][k], k == HALF ? 0 : all[LAW]);
        assert_true(k >= ALL4 ||
                    (kept[FULL][k] == 0 && kept[PLACES][k] == 0 && kept[ANOTHER][k] == 0));
    }
    assert_int_equal(kept[FAMILY][ALL], all[FAMILY]);
    assert_int_equal(kept[FAMILY][ALL4], 0);
    assert_in_range(kept[FAMILY][ALL6], 1, all[FAMILY] - 1); /* who had both has that one still */
}

/* A view that follows another one than was served before has nothing of it. */
static void test_only_who_follows_is_kept(void **)
{
    static struct dns_world world;
    dns_world_make(&world, 0);
    struct dns_view *one = dns_world_view(&world), *two = dns_world_view(&world), *three;
    struct dns_server server = { .memo = dns_memo_new() };
    struct dns_client client = dns_world_client(&world);
    struct dns_choice choice;
    struct ip_block block = { ip_cut(&client.ip, client.where.bits), client.where.bits };
    dns_server_set_view(&server, one);
    const struct dns_entry *entry = dns_view_find(one, SLICE("all"));
    dns_choose(one, entry, &client, 4, server.memo, &choice);
    assert_non_null(dns_memo_get(server.memo, entry->memo_id, &block));
    dns_view_follow(two, one);
    dns_server_set_view(&server, two);
    entry = dns_view_find(two, SLICE("all"));
    assert_non_null(dns_memo_get(server.memo, entry->memo_id, &block));
    three = dns_world_view(&world);
    dns_server_set_view(&server, three); /* it follows none */
    entry = dns_view_find(three, SLICE("all"));
    assert_null(dns_memo_get(server.memo, entry->memo_id, &block));
    dns_memo_free(server.memo);
    dns_view_free(one);
    dns_view_free(two);
    dns_view_free(three);
    where_map_free(world.map);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_what_is_kept_changes_no_answer),
                                        cmocka_unit_test(test_only_who_follows_is_kept) };
    return cmocka_run_group_tests_name("dns_follow", tests, NULL, NULL);
}
