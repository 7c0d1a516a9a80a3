/* SPDX-License-Identifier: Apache-2.0 */
#include "dns_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h> /* after the two above, and what the header has */
#include <math.h>
#include <stdio.h>

#include "base/err.h"
#include "dns/choose.h"
#include "geo/where.h"

static uint64_t state = 1;

double dns_world_uniform(double from, double to)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return from + (to - from) * (double)(state >> 11) / (double)(UINT64_C(1) << 53);
}

void dns_world_addresses(struct dns_world *world, uint32_t pop, unsigned kind)
{
    world->addresses[pop][0] = ip_from4((uint8_t[]){ 192, 0, 2, (uint8_t)pop });
    world->addresses[pop][1] = (struct ip){ { 0x20, 1, 0xd, 0xb8, [15] = (uint8_t)pop } };
    world->pops[pop].addresses = &world->addresses[pop][kind == 2];
    world->pops[pop].address_count = kind == 1 ? 2 : 1;
}

struct where_map *dns_world_map(double west)
{
    struct where_block blocks[WORLD_BLOCKS];
    struct where_map *map;
    struct err err;
    for (unsigned i = 0; i < WORLD_BLOCKS; i++)
        blocks[i] =
            (struct where_block){ .block = { ip_from4((uint8_t[]){ 10, (uint8_t)i, 0, 0 }), 112 },
                                  .country = (country_number)(1 + i % 2),
                                  .located = i > 2,
                                  .latitude = 60.0 - i,
                                  .longitude = i * 3.0 - west };
    assert_int_equal(where_map_open(blocks, WORLD_BLOCKS, NULL, NULL, &map, &err), 0);
    return map;
}

float dns_world_wait(const struct dns_world *world)
{
    double wait = world->number < 2 ? 0 : dns_world_uniform(-5, world->number == 2 ? 1 : 40);
    if (dns_world_uniform(0, 1) < 0.05)
        return INFINITY;
    return wait < 0 ? 0 : (float)wait;
}

void dns_world_make(struct dns_world *world, unsigned number)
{
    *world = (struct dns_world){ .number = number };
    for (uint32_t i = 0; i < WORLD_POPS; i++) {
        unsigned city = (unsigned)dns_world_uniform(0, number % 2 ? 10 : WORLD_POPS);
        bool cold = number == 5 ? city != 0 : number > 3 && dns_world_uniform(0, 1) < 0.97;
        (void)snprintf(world->names[i], sizeof world->names[i], "p%u", i);
        world->pops[i] = (struct dns_source_pop){
            .name = slice_of(world->names[i]),
            .country = (country_number)(1 + i % 2),
            .located = i % 17 != 0,
            .latitude = 60.0 - city,
            .longitude = city * 3.0,
            .health = (uint8_t)(dns_world_uniform(0, 1) < 0.9 ? ROUTE_UP
                                : i % 2                       ? ROUTE_DOWN
                                                              : ROUTE_DRAINING),
        };
        dns_world_addresses(world, i, i % 3);
        if (dns_world_uniform(0, 1) < 0.9)
            world->places[world->count++] =
                (struct dns_source_place){ i,
                                           dns_world_wait(world),
                                           (float)dns_world_uniform(0, 3),
                                           cold ? 40 : 0,
                                           (float)dns_world_uniform(0, 2),
                                           i % 5 != 0 };
    }
    world->map = dns_world_map(0);
}

struct dns_view *dns_world_view(const struct dns_world *world)
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
                                 .pop_count = WORLD_POPS,
                                 .endpoints = endpoints,
                                 .endpoint_count = 2,
                                 .map = world->map };
    assert_int_equal(dns_view_build(&source, &view, &err), 0);
    return view;
}

struct dns_client dns_world_client(const struct dns_world *world)
{
    struct dns_client client = {
        .ip = ip_from4((uint8_t[]){ 10, (uint8_t)dns_world_uniform(0, WORLD_BLOCKS),
                                    (uint8_t)dns_world_uniform(0, 256), 1 }),
        .source_bits = 128,
        .seed_bits = 120,
        .seed = (uint64_t)dns_world_uniform(0, 1e15),
    };
    client.where = where_find(world->map, &client.ip);
    return client;
}

/* The names in turns, as all that it has, and as those of a family. */
static const struct dns_entry *entry_of(const struct dns_view *view, unsigned turn)
{
    const struct dns_entry *entry = dns_view_find(view, turn & 1 ? SLICE("all") : SLICE("half"));
    unsigned family = turn / 2 % 3;
    assert_non_null(entry->of_family[DNS_IP4]);
    assert_non_null(entry->of_family[DNS_IP6]);
    return family < DNS_FAMILIES ? entry->of_family[family] : entry;
}

size_t dns_world_check(const struct dns_world *world, const struct dns_view *view, unsigned turn,
                       struct dns_memo *memo)
{
    const struct dns_entry *entry = entry_of(view, turn);
    struct dns_client client = dns_world_client(world);
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
