/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What RFC 7871 promises resolvers, in worlds by chance: whoever is in the prefix of a scope gets
 * that answer, whatever type is asked for. And no more of a client is asked than decides.
 */
#include "dns/resolve.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "dns/memo.h"
#include "dns/view.h"
#include "geo/where.h"
#include "policy/residency.h"

enum { WORLDS = 200, POPS = 6, BLOCKS = 16, COUNTRIES = 3, RULES = 2, CLIENTS = 60, MATES = 8 };

static uint64_t state = 1;

static unsigned below(unsigned end)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)((state >> 33) % end);
}

/* Few PoPs, of which some have one family alone or no address, some are down and some draining;
 * clients in blocks of 10.0/12 side by side, of three countries; rules that may ask for these. */
struct world {
    char names[POPS][8];
    struct ip addresses[POPS][2];
    struct dns_source_pop pops[POPS];
    struct dns_source_place places[POPS];
    size_t count;
    struct residency_rule rules[RULES];
    struct residency residency;
    struct where_map *map;
    struct dns_view *view;
    bool tls; /* something else ends it */
};

static void countries_draw(struct countries *countries)
{
    for (unsigned country = 1; country <= COUNTRIES; country++)
        if (below(2))
            countries_add(countries, (country_number)country);
}

static void pop_make(struct world *world, uint32_t i)
{
    static const uint8_t healths[] = { ROUTE_UP, ROUTE_UP, ROUTE_UP, ROUTE_DRAINING, ROUTE_DOWN };
    static const struct {
        uint8_t first, count; /* of its addresses: IPv4, IPv6 */
    } kinds[] = { { 0, 1 }, { 0, 1 }, { 1, 1 }, { 1, 1 }, { 0, 2 }, { 0, 0 } };
    unsigned kind = below(sizeof kinds / sizeof *kinds);
    (void)snprintf(world->names[i], sizeof world->names[i], "p%u", i);
    world->addresses[i][0] = ip_from4((uint8_t[]){ 192, 0, 2, (uint8_t)(i + 1) });
    world->addresses[i][1] = (struct ip){ { 0x20, 1, 0xd, 0xb8, [15] = (uint8_t)(i + 1) } };
    world->pops[i] = (struct dns_source_pop){
        .name = slice_of(world->names[i]),
        .country = (country_number)(1 + below(COUNTRIES)),
        .located = below(5) > 0,
        .latitude = below(4) * 20.0,
        .longitude = below(4) * 20.0,
        .health = healths[below(5)],
        .stable = below(2),
        .addresses = &world->addresses[i][kinds[kind].first],
        .address_count = kinds[kind].count,
    };
    if (below(4))
        world->places[world->count++] = (struct dns_source_place){ .pop = i, .weight = 1 };
}

static void map_make(struct world *world)
{
    struct where_block blocks[BLOCKS];
    struct err err;
    for (unsigned i = 0; i < BLOCKS; i++)
        blocks[i] =
            (struct where_block){ .block = { ip_from4((uint8_t[]){ 10, (uint8_t)i, 0, 0 }), 112 },
                                  .country = (country_number)below(COUNTRIES + 1),
                                  .located = below(5) > 0,
                                  .latitude = below(4) * 20.0,
                                  .longitude = below(4) * 20.0 };
    assert_int_equal(where_map_open(blocks, BLOCKS, NULL, NULL, &world->map, &err), 0);
}

static void world_make(struct world *world)
{
    *world = (struct world){ .tls = below(2) };
    for (uint32_t i = 0; i < POPS; i++)
        pop_make(world, i);
    for (size_t i = 0; i < RULES; i++) {
        world->rules[i].clients.scope = below(2) ? RESIDENCY_ANY : RESIDENCY_COUNTRIES;
        world->rules[i].process.scope = below(4) ? RESIDENCY_COUNTRIES : RESIDENCY_ANY;
        countries_draw(&world->rules[i].clients.countries);
        countries_draw(&world->rules[i].process.countries);
    }
    world->residency =
        (struct residency){ world->rules, 1 + below(RULES), (country_number)below(COUNTRIES + 1) };
    map_make(world);
    const struct dns_source_endpoint endpoints[] = {
        { SLICE("free"), SLICE("default"), world->places, world->count, NULL },
        { SLICE("law"), SLICE("default"), world->places, world->count, &world->residency },
    };
    struct dns_https_told told;
    struct err err;
    assert_int_equal(dns_https_parse(SLICE("alpn=h2"), &told, &err), 0);
    struct dns_source source = { .zone = SLICE("perigee.test"),
                                 .pops = world->pops,
                                 .pop_count = POPS,
                                 .endpoints = endpoints,
                                 .endpoint_count = 2,
                                 .map = world->map,
                                 .https = world->tls ? &told : NULL };
    assert_int_equal(dns_view_build(&source, &world->view, &err), 0);
}

static void world_free(struct world *world)
{
    dns_view_free(world->view);
    where_map_free(world->map);
}

/* ---- questions ---------------------------------------------------------------------------- */

static const uint16_t types[] = { DNS_A, DNS_AAAA, DNS_HTTPS };
static const char *const names[] = { "free.perigee.test", "law.perigee.test", "perigee.test" };

static void ask(const struct world *world, const char *name, uint16_t type, const struct ip *client,
                struct dns_memo *memo, struct dns_reply *reply)
{
    struct dns_question question = { .asked = true, .type = type, .class = 1, .edns = true };
    struct dns_asker asker = { .address = ip_from4((uint8_t[]){ 192, 0, 2, 99 }), .memo = memo };
    struct err err;
    assert_int_equal(dns_name_parse(slice_of(name), &question.name, &err), 0);
    question.subnet = (struct dns_subnet){ true, 1, 32, *client };
    dns_resolve(world->view, &question, &asker, reply);
}

static struct ip client_draw(void)
{
    return ip_from4(
        (uint8_t[]){ 10, (uint8_t)below(BLOCKS + 2), (uint8_t)below(256), (uint8_t)below(256) });
}

/* All but the scope. */
static bool same(const struct dns_reply *a, const struct dns_reply *b)
{
    bool same = a->rcode == b->rcode && a->count == b->count && a->ede == b->ede &&
                a->data_bytes == b->data_bytes && memcmp(a->data, b->data, a->data_bytes) == 0 &&
                (a->ede == DNS_EDE_NONE || strcmp(a->ede_text, b->ede_text) == 0);
    for (size_t i = 0; same && i < a->count; i++)
        same = a->records[i].ttl == b->records[i].ttl && a->records[i].type == b->records[i].type;
    return same;
}

/* Another address that has the first `bits` of it. */
static struct ip mate_draw(const struct ip *ip, unsigned bits)
{
    struct ip mate = ip_cut(ip, IP4_BITS + bits);
    for (unsigned bit = bits; bit < 32; bit++)
        if (below(2))
            mate.bytes[12 + bit / 8] |= (uint8_t)(0x80 >> bit % 8);
    return mate;
}

static struct ip beside(const struct ip *ip, unsigned bits)
{
    struct ip other = ip_cut(ip, IP4_BITS + bits);
    other.bytes[12 + (bits - 1) / 8] ^= (uint8_t)(0x80 >> (bits - 1) % 8);
    return other;
}

/* Nothing waits and nobody is beside another: one place gives one answer, and the half beside, of
 * which the map says as much, would have been taken in if it had that one. */
static void check_shortest(const struct world *world, const char *name, uint16_t type,
                           const struct ip *client, const struct dns_reply *reply)
{
    static struct dns_reply other;
    bool several = reply->count > 1 || type == DNS_HTTPS;
    if (several || reply->scope_bits == 0)
        return;
    struct ip ip = beside(client, reply->scope_bits);
    if (where_find(world->map, &ip).bits > IP4_BITS + reply->scope_bits)
        return;
    ask(world, name, type, &ip, NULL, &other);
    assert_false(same(reply, &other));
}

static bool is_none(const struct dns_reply *reply)
{
    return reply->records[0].section != DNS_ANSWER;
}

static void test_all_of_a_scope_get_the_same(void **)
{
    static struct world world;
    static struct dns_reply reply, other;
    unsigned none[2] = {}, apart = 0;
    for (unsigned i = 0; i < WORLDS; i++) {
        struct dns_memo *memo = dns_memo_new();
        world_make(&world);
        for (unsigned k = 0; k < CLIENTS; k++) {
            const char *name = names[below(3)];
            uint16_t type = types[below(3)];
            struct ip client = client_draw();
            ask(&world, name, type, &client, memo, &reply);
            assert_int_equal(reply.rcode, DNS_NOERROR);
            for (unsigned m = 0; m < MATES; m++) {
                struct ip mate = mate_draw(&client, reply.scope_bits);
                ask(&world, name, type, &mate, m & 1 ? memo : NULL, &other);
                assert_true(same(&reply, &other));
                assert_int_equal(reply.scope_bits, other.scope_bits);
            }
            check_shortest(&world, name, type, &client, &reply);
            bool asks = name == names[1] && residency_asks_client(&world.residency);
            if (is_none(&reply) && !asks)
                assert_int_equal(reply.scope_bits, 0);
            none[asks] += is_none(&reply);
            apart += is_none(&reply) && asks && reply.ede == DNS_EDE_NONE && reply.scope_bits > 0;
        }
        world_free(&world);
        dns_memo_free(memo);
    }
    print_message("  %u and %u without an address, %u of these for want of a family\n", none[0],
                  none[1], apart);
    assert_true(none[0] > 100 && none[1] > 100 && apart > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_all_of_a_scope_get_the_same) };
    return cmocka_run_group_tests_name("dns_scope", tests, NULL, NULL);
}
