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
#include <stdlib.h>

#include "base/err.h"
#include "dns/client.h"
#include "dns/follow.h"
#include "dns/memo.h"
#include "dns/server.h"
#include "dns/view.h"
#include "geo/where.h"

enum { POPS = 120, CLIENTS = 4000, WORLDS = 8, BLOCKS = 40 };

static uint64_t state = 1;

static double uniform(double from, double to)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return from + (to - from) * (double)(state >> 11) / (double)(UINT64_C(1) << 53);
}

struct world {
    unsigned number;
    char names[POPS][16];
    struct dns_source_pop pops[POPS];
    struct dns_source_place places[POPS];
    struct ip addresses[POPS][2];
    size_t count;
    bool law; /* the other one */
    struct where_map *map;
};

/* All IPv4, both, and IPv6 alone. */
static void addresses_set(struct world *world, uint32_t i, unsigned kind)
{
    world->addresses[i][0] = ip_from4((uint8_t[]){ 192, 0, 2, (uint8_t)i });
    world->addresses[i][1] = (struct ip){ { 0x20, 1, 0xd, 0xb8, [15] = (uint8_t)i } };
    world->pops[i].addresses = &world->addresses[i][kind == 2];
    world->pops[i].address_count = kind == 1 ? 2 : 1;
}

static struct where_map *map_make(double west)
{
    struct where_block blocks[BLOCKS];
    struct where_map *map;
    struct err err;
    for (unsigned i = 0; i < BLOCKS; i++)
        blocks[i] =
            (struct where_block){ .block = { ip_from4((uint8_t[]){ 10, (uint8_t)i, 0, 0 }), 112 },
                                  .country = (country_number)(1 + i % 2),
                                  .located = i > 2,
                                  .latitude = 60.0 - i,
                                  .longitude = i * 3.0 - west };
    assert_int_equal(where_map_open(blocks, BLOCKS, NULL, NULL, &map, &err), 0);
    return map;
}

static float wait_of(const struct world *world)
{
    double wait = world->number < 2 ? 0 : uniform(-5, world->number == 2 ? 1 : 40);
    if (uniform(0, 1) < 0.05)
        return INFINITY;
    return wait < 0 ? 0 : (float)wait;
}

/* Crowded: many PoPs in few cities; waits from none at all to many; some down, draining or full; in
 * the last worlds few are warm, in one all of one city, which hide the starts of most others. */
static void world_make(struct world *world, unsigned number)
{
    *world = (struct world){ .number = number };
    for (uint32_t i = 0; i < POPS; i++) {
        unsigned city = (unsigned)uniform(0, number % 2 ? 10 : POPS);
        bool cold = number == 5 ? city != 0 : number > 3 && uniform(0, 1) < 0.97;
        (void)snprintf(world->names[i], sizeof world->names[i], "p%u", i);
        world->pops[i] = (struct dns_source_pop){
            .name = slice_of(world->names[i]),
            .country = (country_number)(1 + i % 2),
            .located = i % 17 != 0,
            .latitude = 60.0 - city,
            .longitude = city * 3.0,
            .health = (uint8_t)(uniform(0, 1) < 0.9 ? ROUTE_UP
                                : i % 2             ? ROUTE_DOWN
                                                    : ROUTE_DRAINING),
        };
        addresses_set(world, i, i % 3);
        if (uniform(0, 1) < 0.9)
            world->places[world->count++] = (struct dns_source_place){ i,
                                                                       wait_of(world),
                                                                       (float)uniform(0, 3),
                                                                       cold ? 40 : 0,
                                                                       (float)uniform(0, 2),
                                                                       i % 5 != 0 };
    }
    world->map = map_make(0);
}

static struct dns_view *world_view(const struct world *world)
{
    struct residency_rule rules[] = { { .clients = { .scope = RESIDENCY_COUNTRIES },
                                        .process = { .scope = RESIDENCY_COUNTRIES } },
                                      { .clients = { .scope = RESIDENCY_ANY },
                                        .process = { .scope = RESIDENCY_COUNTRIES } } };
    struct residency half = { rules, 2, 1 };
    struct dns_view *view;
    struct err err;
    country_number one = world->law ? 2 : 1, other = world->law ? 1 : 2;
    countries_add(&rules[0].clients.countries, one);
    countries_add(&rules[0].process.countries, one);
    countries_add(&rules[1].process.countries, other);
    const struct dns_source_endpoint endpoints[] = {
        { SLICE("all"), SLICE("default"), world->places, world->count, NULL },
        { SLICE("half"), SLICE("default"), world->places, world->count, &half },
    };
    struct dns_source source = { .zone = SLICE("perigee.test"),
                                 .pops = world->pops,
                                 .pop_count = POPS,
                                 .endpoints = endpoints,
                                 .endpoint_count = 2,
                                 .map = world->map };
    assert_int_equal(dns_view_build(&source, &view, &err), 0);
    return view;
}

static struct dns_client make_client(const struct world *world)
{
    struct dns_client client = {
        .ip = ip_from4((uint8_t[]){ 10, (uint8_t)uniform(0, BLOCKS), (uint8_t)uniform(0, 256), 1 }),
        .source_bits = 128,
        .seed_bits = 120,
        .seed = (uint64_t)uniform(0, 1e15),
    };
    client.where = where_find(world->map, &client.ip);
    return client;
}

/* With and without it: the same PoPs in the same order, and the same scope. Returns how many. The
 * names in turns, as all that it has, and as those of a family. */
static size_t check_answer(const struct world *world, const struct dns_view *view, unsigned turn,
                           struct dns_memo *memo)
{
    const struct dns_entry *entry = dns_view_find(view, turn & 1 ? SLICE("all") : SLICE("half"));
    unsigned family = turn / 2 % 3;
    assert_non_null(entry->of_family[DNS_IP4]);
    assert_non_null(entry->of_family[DNS_IP6]);
    if (family < DNS_FAMILIES)
        entry = entry->of_family[family];
    struct dns_client client = make_client(world);
    struct dns_choice with, without;
    dns_choose(view, entry, &client, 4, memo, &with);
    dns_choose(view, entry, &client, 4, NULL, &without);
    assert_int_equal(with.count, without.count);
    for (size_t k = 0; k < with.count; k++)
        assert_int_equal(with.choices[k].pop, without.choices[k].pop);
    assert_int_equal(dns_scope(view, entry, &client, &with, memo),
                     dns_scope(view, entry, &client, &without, NULL));
    return with.count;
}

static void test_the_memo_changes_no_answer(void **)
{
    static struct world world;
    unsigned several = 0;
    for (unsigned number = 0; number < WORLDS; number++) {
        world_make(&world, number);
        struct dns_view *view = world_view(&world);
        struct dns_memo *memo = dns_memo_new();
        for (unsigned i = 0; i < CLIENTS; i++)
            several += check_answer(&world, view, i, memo) > 1;
        dns_memo_free(memo);
        dns_view_free(view);
        where_map_free(world.map);
    }
    print_message("  %u of %u had several\n", several, WORLDS * CLIENTS);
    assert_true(several > CLIENTS / 10 && several < WORLDS * CLIENTS);
}

/* ---- views that follow each other ------------------------------------------------------------ */

enum change {
    WAITS, /* and weights: in each of these steps */
    RUNS,  /* what a run takes, a little, here and there */
    RUNS_ALL,
    STARTS, /* somewhere one is warm, or cold */
    FULL,   /* or has room */
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

static uint32_t unplaced(const struct world *world)
{
    bool placed[POPS + 1] = {};
    uint32_t pop = 0;
    for (size_t i = 0; i < world->count; i++)
        placed[world->places[i].pop] = true;
    while (placed[pop])
        pop++;
    assert_true(pop < POPS);
    return pop;
}

static void world_change(struct world *world, enum change change)
{
    struct dns_source_place *one = &world->places[(size_t)uniform(0, (double)world->count)];
    for (size_t i = 0; i < world->count; i++) {
        struct dns_source_place *place = &world->places[i];
        if (place->wait_ms < INFINITY && world->number >= 2)
            place->wait_ms = fminf(1e6F, fabsf(wait_of(world)));
        place->weight = (float)uniform(0, 2);
        if (change == RUNS_ALL || (change == RUNS && uniform(0, 1) < 0.1))
            place->service_ms = fmaxf(0, place->service_ms + (float)uniform(-1, 1));
    }
    if (change == STARTS && world->number > 3) /* in the others runs may move, and rows stay */
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
        addresses_set(world, one->pop, pop->address_count == 2 || ip_is4(pop->addresses) ? 2 : 0);
    world->law ^= change == LAW;
    if (change == ANOTHER)
        one->pop = unplaced(world);
    if (change == PLACES && world->count > POPS / 2)
        *one = world->places[--world->count];
}

static int by_pop(const void *a, const void *b)
{
    const struct dns_source_place *x = a, *y = b;
    return (x->pop > y->pop) - (x->pop < y->pop);
}

/* Whatever a view has of the one before: each answer is that of a choice among all PoPs. Where
 * waits and weights alone have changed, nothing is forgotten. */
static void test_what_is_kept_changes_no_answer(void **)
{
    static struct world world;
    enum { STEPS = 60 };
    unsigned kept[CHANGES][NAMES] = {}, all[CHANGES] = {};
    for (unsigned number = 0; number < WORLDS; number++) {
        world_make(&world, number);
        struct dns_view *view = world_view(&world);
        struct dns_memo *memo = dns_memo_new();
        for (unsigned step = 0; step < STEPS; step++) {
            for (unsigned i = 0; i < CLIENTS / 20; i++)
                (void)check_answer(&world, view, i, memo);
            enum change change = (enum change)uniform(0, CHANGES);
            struct where_map *map = world.map;
            world_change(&world, change);
            if (change == MAP)
                world.map = map_make(step);
            qsort(world.places, world.count, sizeof *world.places, by_pop);
            struct dns_view *next = world_view(&world);
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
    for (int k = 0; k < NAMES; k++) {
        assert_int_equal(kept[WAITS][k], all[WAITS]);
        assert_true(kept[RUNS][k] > 0 && kept[RUNS_ALL][k] > 0); /* where no start is hidden */
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
    static struct world world;
    world_make(&world, 0);
    struct dns_view *one = world_view(&world), *two = world_view(&world), *three;
    struct dns_server server = { .memo = dns_memo_new() };
    struct dns_client client = make_client(&world);
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
    three = world_view(&world);
    dns_server_set_view(&server, three); /* it follows none */
    entry = dns_view_find(three, SLICE("all"));
    assert_null(dns_memo_get(server.memo, entry->memo_id, &block));
    dns_memo_free(server.memo);
    dns_view_free(one);
    dns_view_free(two);
    dns_view_free(three);
    where_map_free(world.map);
}

/* A row is of one view, one name and one block. */
static void test_what_a_row_is_of(void **)
{
    struct dns_memo *memo = dns_memo_new();
    const uint64_t one = 1, two = 2;
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
                                        cmocka_unit_test(test_what_is_kept_changes_no_answer),
                                        cmocka_unit_test(test_only_who_follows_is_kept),
                                        cmocka_unit_test(test_what_a_row_is_of) };
    return cmocka_run_group_tests_name("dns_choose", tests, NULL, NULL);
}
