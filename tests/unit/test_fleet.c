/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/fleet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "geo/cities.h"
#include "geo/where.h"

static const char cities_text[] = "São Paulo\tSao Paulo\tBR\t-23.5475\t-46.63611\t10021295\n"
                                  "Tokyo\t\tJP\t35.6895\t139.69171\t8336599\n"
                                  "Paris\t\tFR\t48.85341\t2.3488\t2138551\n"
                                  "Paris\t\tUS\t33.66094\t-95.55551\t24839\n";

#define POPS                                                                                       \
    "pops:\n"                                                                                      \
    "  - {name: paris, city: Paris, region: eu-west}\n"                                            \
    "  - {name: tokyo, city: Tokyo}\n"
#define CLIENTS                                                                                    \
    "clients:\n"                                                                                   \
    "  - {addresses: [127.66.0.0/16, 203.0.113.0/24], city: Tokyo}\n"                              \
    "  - {addresses: ['2001:db8::/32'], name: lab, coordinates: [-10, 20.5], country: AO}\n"

static struct arena *arena;
static struct cities *cities;

static int setup(void **state)
{
    (void)state;
    arena = arena_new();
    return cities_parse(slice_of(cities_text), "cities", &cities, NULL);
}

static int teardown(void **state)
{
    (void)state;
    arena_free(arena);
    cities_free(cities);
    return 0;
}

static const struct fleet *fleet_of(const char *text)
{
    struct fleet *fleet = ARENA_NEW(arena, struct fleet);
    struct err err = {};
    if (fleet_parse(arena, slice_of(text), cities, fleet, &err) < 0)
        fail_msg("%s", err.message);
    return fleet;
}

/* ---- what is wrong -------------------------------------------------------------------------- */

static const struct {
    const char *text, *error;
} wrong[] = {
    { "", "one document" },
    { "[]", "a fleet file is a mapping" },
    { "pops: []", "1 to 64 PoPs" },
    { "version: 2\n" POPS, "version 2 of the form" },
    { "kind: endpoint\n" POPS, "of kind 'endpoint'" },
    { "clients: []", "'pops' is missing" },
    { POPS "client: []\n", "did you mean 'clients'" },
    { "pops:\n  - {name: paris, city: Paris}\n  - {name: paris, city: Tokyo}",
      "line 3: PoP number 2: the PoP 'paris' is there twice" },
    { "pops:\n  - {name: paris, city: Pariss}", "Pariss" },
    { "pops:\n  - {name: paris, city: 'Tokyo,FR'}", "line 2: PoP number 1: " },
    { "pops:\n  - {name: paris}", "either 'city', or 'coordinates'" },
    { "pops:\n  - {name: paris, city: Paris, coordinates: [1, 2]}", "either 'city'" },
    { "pops:\n  - {name: paris, city: Paris, country: FR}", "'country' stands beside" },
    { "pops:\n  - {name: paris, coordinates: [1, 2]}", "'country' is missing" },
    { "pops:\n  - {name: paris, coordinates: [1, 2], country: UK}", "GB" },
    { "pops:\n  - {name: paris, coordinates: [91, 2], country: FR}", "out of range" },
    { "pops:\n  - {name: paris, coordinates: [1, -180.5], country: FR}", "out of range" },
    { "pops:\n  - {name: paris, coordinates: [1], country: FR}", "two numbers" },
    { "pops:\n  - {name: paris, coordinates: [a, b], country: FR}", "two numbers" },
    { "pops:\n  - {name: PARIS, city: Paris}", "PoP name" },
    { "pops:\n  - {city: Paris}", "'name' is missing" },
    { "pops:\n  - {name: paris, city: Paris, regoin: x}", "region" },
    { "pops:\n  - {name: paris, city: Paris, region: EU}", "region label" },
    { "pops:\n  - {name: paris, city: Paris, limits: {cpu: x}}", "cpu" },
    { "pops:\n  - {name: paris, city: Paris, limits: {memory: 4}}", "memory" },
    { "pops:\n  - {name: paris, city: Paris, limits: {memory: 4GG}}", "4GG" },
    { "pops:\n  - {name: paris, city: Paris, prices: {cpu_hour: 4}}", "cpu_hour" },
    { "pops:\n  - {name: paris, city: Paris, price: 4 EUR}", "'prices'" },
    { "pops:\n  - {name: paris, city: Paris, flavors: [Small]}", "flavor name" },
    { "pops:\n  - paris", "a PoP is a mapping" },
    { POPS "clients:\n  - {addresses: [127.66.0.0/16], city: Tokyo}\n"
           "  - {addresses: [127.66.1.0/24], city: Paris}\n",
      "line 6: clients, number 2: '127.66.1.0/24' overlaps 127.66.0.0/16" },
    { POPS "clients:\n  - {addresses: [127.66.1.0/24, 127.66.1.0/24], city: Tokyo}\n", "overlaps" },
    { POPS "clients:\n  - {addresses: [127.66.1.0/24, 127.0.0.0/8], city: Tokyo}\n",
      "which the fleet itself has" },
    { POPS "clients:\n  - {addresses: [127.0.1.7], city: Tokyo}\n", "which the fleet itself has" },
    { POPS "clients:\n  - {addresses: [127.66.1.1/24], city: Tokyo}\n", "127.66.1.0/24 is meant" },
    { POPS "clients:\n  - {addresses: [7], city: Tokyo}\n", "a string" },
    { POPS "clients:\n  - {city: Tokyo}\n", "'addresses' is missing" },
    { POPS "clients:\n  - {addresses: [], coordinates: [1, 2], country: FR}\n", "'name'" },
    { POPS "clients:\n  - {addresses: [], city: Tokyo}\n  - {addresses: [], city: tokyo}\n",
      "'tokyo' is there already" },
    { POPS "clients:\n  - {addresses: [], city: Tokyo, name: any}\n", "cannot be a name" },
    { "default_place: nowhere\n" POPS, "line 1: default_place: the fleet has no place 'nowhere'" },
    { "default_place: pariss\n" POPS, "'paris' is one" },
    { POPS "links:\n  - {between: [paris, osaka]}\n", "no place 'osaka'" },
    { POPS "links:\n  - {between: [paris]}\n", "two places, or any" },
    { POPS "links:\n  - {rtt: 5ms}\n", "two places, or any" },
    { POPS CLIENTS "links:\n  - {between: [lab, Tokyo]}\n", "one of the two must be a PoP" },
    { POPS "links:\n  - {between: any, rtt: 5}\n", "rtt" },
    { POPS "links:\n  - {between: any, rtt: 2h}\n", "more than an hour" },
    { POPS "links:\n  - {between: any, rtt: -5ms}\n", "rtt" },
    { POPS "links:\n  - {between: any, loss: 101%}\n", "100%" },
    { POPS "links:\n  - {between: any, loss: 0.1}\n", "loss" },
    { POPS "links:\n  - {between: any, bandwidth: 10MB}\n", "10MB/s" },
    { POPS "links:\n  - {between: any, bandwidth: 10B/s}\n", "1KB/s to 125GB/s" },
    { POPS "links:\n  - {between: any, outage: 1}\n", "outage" },
    { POPS "links:\n  - {between: any, delay: 1ms}\n", "delay" },
};

static void test_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct fleet fleet;
        struct err err = {};
        int r = fleet_parse(arena, slice_of(wrong[i].text), cities, &fleet, &err);
        print_message("  %s\n", r < 0 ? err.message : wrong[i].text);
        assert_int_equal(r, ERR_BAD_INPUT);
        assert_int_equal(err.code, ERR_BAD_INPUT);
        assert_non_null(strstr(err.message, wrong[i].error));
    }
}

static void test_without_cities(void **state)
{
    struct fleet fleet;
    struct err err = {};
    (void)state;
    assert_int_equal(fleet_parse(arena, SLICE(POPS), NULL, &fleet, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "'coordinates' and 'country'"));
}

/* ---- what is right -------------------------------------------------------------------------- */

static void test_pops(void **state)
{
    const struct fleet *fleet = fleet_of(
        "pops:\n"
        "  - {name: paris, city: 'Paris,US', flavors: [small, big], prices: {cpu_hour: 0.04 EUR},\n"
        "     limits: {cpu: 1.5, memory: 8GiB, replicas: 9}}\n"
        "  - {name: here, coordinates: [48, 2], country: FR, limits: {cpu: 500m}}\n");
    (void)state;
    assert_int_equal(fleet->pop_count, 2);
    assert_int_equal(fleet->place_count, 2);
    assert_int_equal(fleet->places[0].country, country_number_of(SLICE("US")));
    assert_true(fleet->places[0].longitude < -95);
    assert_true(slice_is(fleet->pops[0].city, "Paris,US"));
    assert_int_equal(fleet->pops[0].flavor_count, 2);
    assert_true(slice_is(fleet->pops[0].flavors[1], "big"));
    assert_int_equal(fleet->pops[0].cpu_milli, 1500);
    assert_int_equal(fleet->pops[0].memory_bytes, UINT64_C(8) << 30);
    assert_int_equal(fleet->pops[0].replicas, 9);
    assert_int_equal(fleet->pops[0].cpu_hour.micro, 40'000);
    assert_string_equal(fleet->pops[0].cpu_hour.currency, "EUR");
    assert_int_equal(fleet->pops[1].cpu_milli, 500);
    assert_int_equal(fleet->pops[1].city.size, 0);
    assert_int_equal(fleet->default_place, FLEET_PLACE_NONE);
}

static const struct {
    const char *address, *place; /* NULL: none */
} addresses[] = {
    { "127.0.0.1", "paris" },     { "127.0.2.254", "paris" },
    { "127.0.1.1", "paris" },     { "127.0.1.2", "tokyo" },
    { "127.0.2.2", "tokyo" },     { "127.0.1.3", NULL },
    { "127.66.9.9", "Tokyo" },    { "203.0.113.9", "Tokyo" },
    { "203.0.114.9", NULL },      { "2001:db8::9", "lab" },
    { "2001:db9::9", NULL },      { "::ffff:127.66.0.1", "Tokyo" },
    { "::ffff:7f00:1", "paris" }, { "::1", NULL },
};

static void test_addresses(void **state)
{
    (void)state;
    for (int with_default = 0; with_default < 2; with_default++) {
        const struct fleet *fleet =
            fleet_of(with_default ? "default_place: LAB\n" POPS CLIENTS : POPS CLIENTS);
        for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
            struct ip ip;
            const char *wanted = addresses[i].place;
            assert_true(ip_parse(slice_of(addresses[i].address), &ip));
            uint16_t place = fleet_place_of(fleet, &ip);
            print_message("  %s\n", addresses[i].address);
            if (!wanted && !with_default)
                assert_int_equal(place, FLEET_PLACE_NONE);
            else
                assert_true(slice_is(fleet->places[place].name, wanted ? wanted : "lab"));
        }
    }
}

static void test_names(void **state)
{
    const struct fleet *fleet = fleet_of(POPS CLIENTS);
    uint16_t place;
    (void)state;
    assert_int_equal(fleet_place_find(fleet, SLICE("tokyo"), &place, NULL), 0);
    assert_int_equal(place, 1); /* the PoP */
    assert_int_equal(fleet_place_find(fleet, SLICE("Tokyo"), &place, NULL), 0);
    assert_int_equal(place, 2); /* clients */
    assert_int_equal(fleet_place_find(fleet, SLICE("TOKYO"), &place, NULL), 0);
    assert_int_equal(place, 1);
    assert_int_equal(fleet_place_find(fleet, SLICE("LAB"), &place, NULL), 0);
    assert_int_equal(place, 3);
    assert_int_equal(fleet_place_find(fleet, SLICE("Osaka"), &place, NULL), ERR_NOT_FOUND);
}

static void test_links(void **state)
{
    const struct fleet *fleet =
        fleet_of(POPS CLIENTS "links:\n"
                              "  - {between: [paris, Tokyo], rtt: 240ms, loss: 0.1%}\n"
                              "  - {between: any, jitter: 2ms, bandwidth: 10MB/s, loss: 1%}\n"
                              "  - {between: [tokyo, paris], outage: true}\n");
    (void)state;
    struct fleet_link link = fleet_link(fleet, 2, 0); /* Tokyo's clients to PoP paris */
    assert_int_equal(link.rtt_us, 240'000);
    assert_int_equal(link.jitter_us, 2000);
    assert_int_equal(link.bandwidth, 10'000'000);
    assert_int_equal(link.loss_ppm, 1000); /* the row for it goes over the one for any */
    assert_false(link.outage);
    for (int way = 0; way < 2; way++) {
        link = fleet_link(fleet, way ? 1 : 0, way ? 0 : 1);
        assert_true(link.outage);
        /* 9,712 km or so: 14.4 ms + 0.0157 ms/km */
        assert_true(fabs(link.rtt_us / 1000.0 - (14.4 + 0.0157 * 9712)) < 1);
    }
    link = fleet_link(fleet, 1, 1);
    assert_int_equal(link.rtt_us + link.jitter_us + link.loss_ppm, 0);
    /* clients in the PoP's own city are a round trip of the city away */
    assert_int_equal(fleet_link(fleet, 2, 1).rtt_us, 14'400);
}

/* What geo/where.h makes of it says the same. */
static void test_where(void **state)
{
    const struct fleet *fleet = fleet_of("default_place: lab\n" POPS CLIENTS);
    struct where_block *blocks, fallback;
    struct where_map *map;
    struct err err = {};
    (void)state;
    size_t count = fleet_where(fleet, arena, &blocks);
    assert_true(fleet_where_default(fleet, &fallback));
    assert_int_equal(where_map_open(blocks, count, &fallback, NULL, &map, &err), 0);
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        struct ip ip;
        assert_true(ip_parse(slice_of(addresses[i].address), &ip));
        struct where where = where_find(map, &ip);
        assert_int_equal(where.country, fleet->places[fleet_place_of(fleet, &ip)].country);
        assert_int_equal(where.source, addresses[i].place ? WHERE_MAP : WHERE_DEFAULT);
    }
    where_map_free(map);
    assert_false(fleet_where_default(fleet_of(POPS), &fallback));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong), cmocka_unit_test(test_without_cities),
        cmocka_unit_test(test_pops),  cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_names), cmocka_unit_test(test_links),
        cmocka_unit_test(test_where),
    };
    return cmocka_run_group_tests_name("fleet", tests, setup, teardown);
}
