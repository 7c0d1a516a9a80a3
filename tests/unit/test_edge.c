/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated world of `perigee simulate`, small. */
#include "sim/edge_all.h"

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

#include "base/arena.h"
#include "base/err.h"
#include "geo/cities.h"
#include "policy/residency.h"
#include "sim/draw.h"
#include "sim/edge_picture.h"
#include "sim/sites.h"

/* ---- sites ----------------------------------------------------------------------------------- */

static const char towns[] = "Paris\t\tFR\t48.85341\t2.3488\t2138551\n"
                            "Frankfurt am Main\t\tDE\t50.11552\t8.68417\t650000\n";

static const struct {
    const char *name, *text, *said; /* NULL: it is taken */
    size_t count;
} lists[] = {
    { "names in any order", "lon,lat,country,name\n2,48,FR,paris\n8,50,DE,frankfurt\n", NULL, 2 },
    { "as others write them", "iata,city,country,region,lat,lon\nCDG,Paris,FR,Europe,49,2.5\n",
      NULL, 1 },
    { "the city is looked up", "name,city,country\nx,Paris,FR\n", NULL, 1 },
    { "also by its beginning", "city,country\nFrankfurt,DE\n", NULL, 1 },
    { "quotes", "name,country,lat,lon\n\"a \"\"b\"\", c\",FR,1,2\n", NULL, 1 },
    { "a line break in quotes", "name,country,lat,lon\n\"a\nb\",FR,1,2\nc,FR,1,2\n", NULL, 2 },
    { "carriage returns, blank lines", "name,country,lat,lon\r\na,FR,1,2\r\n\r\n\n", NULL, 1 },
    { "no line break at the end", "name,country,lat,lon\na,FR,1,2", NULL, 1 },
    { "nothing", "", "names no column 'name'", 0 },
    { "names alone", "name,country\n", "names no site", 0 },
    { "no column for countries", "name,lat,lon\na,1,2\n", "no column 'country'", 0 },
    { "no name", "name,country,lat,lon\n,FR,1,2\n", "line 2: it has neither", 0 },
    { "no country", "name,country,lat,lon\na,France,1,2\n", "line 2: country is two", 0 },
    { "beyond the pole", "name,country,lat,lon\na,FR,91,2\n", "line 2: lat is between", 0 },
    { "half a place", "name,country,lat,lon\na,FR,1,\n", "line 2: lat is between", 0 },
    { "not a number", "name,country,lat,lon\na,FR,nan,1\n", "line 2: lat is between", 0 },
    { "a city nobody knows", "city,country\nAtlantis,FR\n", "no such city", 0 },
    { "of another country", "city,country\nParis,DE\n", "no such city", 0 },
    { "a name twice", "name,country,lat,lon\na,FR,1,2\nb,FR,1,2\nA,FR,1,2\n",
      "line 4: a site of that name", 0 },
    { "a price below nothing", "name,country,lat,lon,price\na,FR,1,2,-1\n", "line 2: price", 0 },
    { "a quote that stays open", "name,country,lat,lon\n\"a,FR,1,2\n", "line 2: a quote", 0 },
    { "text behind a quote", "name,country,lat,lon\n\"a\"b,FR,1,2\n", "line 2: text stands", 0 },
    { "no UTF-8", "name,country,lat,lon\n\xff,FR,1,2\n", "line 2: it is no UTF-8", 0 },
};

static void test_sites(void **state)
{
    struct cities *cities;
    struct err err = {};

    (void)state;
    assert_int_equal(cities_parse(slice_of(towns), "towns", &cities, &err), 0);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        struct arena *arena = arena_new();
        struct sites sites = {};
        print_message("  %s\n", lists[i].name);
        int r = sites_parse(arena, slice_of(lists[i].text), cities, &sites, &err);
        if (lists[i].said) {
            assert_int_equal(r, ERR_BAD_INPUT);
            assert_non_null(strstr(err.message, lists[i].said));
        } else {
            assert_int_equal(r, 0);
            assert_int_equal(sites.count, lists[i].count);
        }
        arena_free(arena);
    }
    cities_free(cities);
}

static void test_what_a_site_is(void **state)
{
    struct arena *arena = arena_new();
    struct sites sites;
    struct err err = {};
    const char *text = "price,name,city,country,lat,lon,region\n1.5,\"a \"\"b\"\"\",Paris,FR,49,"
                       "-2.5,Europe\n";

    (void)state;
    assert_int_equal(sites_parse(arena, slice_of(text), NULL, &sites, &err), 0);
    const struct site *site = &sites.list[0];
    assert_true(slice_is(site->name, "a \"b\"") && slice_is(site->city, "Paris"));
    assert_true(slice_is(site->region, "Europe"));
    assert_float_equal(site->latitude, 49, 0);
    assert_float_equal(site->longitude, -2.5, 0);
    assert_float_equal(site->price, 1.5, 0);
    assert_int_equal(site->country, country_number_of(SLICE("FR")));
    arena_free(arena);
}

/* ---- drawing --------------------------------------------------------------------------------- */

static void test_draws_are_as_the_weights(void **state)
{
    static const uint32_t weights[] = { 5, 0, 1, 3, 0, 1 };
    enum { DRAWS = 100'000 };
    struct arena *arena = arena_new();
    const struct edge_draw *draw = draw_new(arena, weights, 6);
    struct chance chance = { 1 };
    unsigned drawn[6] = {};

    (void)state;
    for (int i = 0; i < DRAWS; i++)
        drawn[draw_one(draw, &chance)]++;
    for (size_t i = 0; i < 6; i++) {
        assert_float_equal(drawn[i] / (double)DRAWS, weights[i] / 10.0, 0.01);
        assert_true(weights[i] > 0 || drawn[i] == 0);
    }
    arena_free(arena);
}

/* ---- the world ------------------------------------------------------------------------------- */

enum { SIDE = 6, CITIES = 400 };

struct small {
    struct arena *arena;
    struct cities *cities;
    struct sites sites;
    struct residency_rule rules[2];
    struct residency residency;
    struct edge_options options;
};

/* 36 PoPs in a square of 50 degrees, half of them in DE and half in US, and cities among them. DE's
 * clients are processed in DE. */
static void small_init(struct small *small, uint64_t seed)
{
    struct chance chance = { seed };
    char *text, *csv;
    size_t size;
    struct err err = {};

    *small = (struct small){ .arena = arena_new(), .options = EDGE_OPTIONS_DEFAULT };
    FILE *file = open_memstream(&text, &size);
    for (int i = 0; i < CITIES; i++) {
        double east = 50 * chance_part(&chance);
        fprintf(file, "c%d\t\t%s\t%.5f\t%.5f\t%d\n", i, east < 25 ? "DE" : "US",
                50 * chance_part(&chance), east, 1'000'000 - i * 2000);
    }
    (void)fclose(file);
    assert_int_equal(cities_parse((struct slice){ text, size }, "small", &small->cities, &err), 0);
    free(text);
    file = open_memstream(&csv, &size);
    fputs("name,country,lat,lon,price\n", file);
    for (int i = 0; i < SIDE * SIDE; i++)
        fprintf(file, "p%d,%s,%d,%d,%d\n", i, i % SIDE < SIDE / 2 ? "DE" : "US", 4 + i / SIDE * 8,
                4 + i % SIDE * 8, 1 + i % 2);
    (void)fclose(file);
    assert_int_equal(
        sites_parse(small->arena, (struct slice){ csv, size }, NULL, &small->sites, &err), 0);
    free(csv);
    struct residency_list any = { .scope = RESIDENCY_ANY };
    struct residency_list de = {};
    countries_add(&de.countries, country_number_of(SLICE("DE")));
    small->rules[0] = (struct residency_rule){ de, de, de, de, de };
    small->rules[1] = (struct residency_rule){ any, any, any, any, any };
    small->residency = (struct residency){ .rules = small->rules, .count = 2 };
    small->options.seed = seed;
    small->options.rate_per_s = 2000;
    small->options.duration_s = 40;
    small->options.failures = 4;
    small->options.spike_times = 5;
}

static void small_deinit(struct small *small)
{
    cities_free(small->cities);
    arena_free(small->arena);
}

static struct edge_all *small_run(struct small *small)
{
    struct edge_all *all = ARENA_NEW(small->arena, struct edge_all);

    *all = (struct edge_all){ .world = edge_world_new(small->arena, &small->sites, small->cities,
                                                      &small->residency, &small->options) };
    for (size_t i = 0; i < EDGE_SCENARIOS; i++)
        all->scenario[i] = true;
    edge_all_run(small->arena, all, NULL, NULL);
    return all;
}

static double total(const struct edge_result *result)
{
    return result->total_ms / (double)(result->requests - result->refused);
}

static void test_close_to_the_oracle_and_never_where_it_may_not_be(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct small small;
        small_init(&small, seed);
        const struct edge_all *all = small_run(&small);
        for (size_t i = 0; i < EDGE_SCENARIOS; i++) {
            const struct edge_result *ways = all->result[i];
            print_message("  seed %d, %s: %.2f, oracle %.2f, nearest %.2f\n", (int)seed,
                          edge_scenario_text(i), total(&ways[EDGE_OURS]), total(&ways[EDGE_ORACLE]),
                          total(&ways[EDGE_NEAREST]));
            assert_int_equal(ways[EDGE_OURS].outside, 0);
            assert_int_equal(ways[EDGE_ORACLE].outside, 0);
            assert_true(ways[EDGE_ORACLE].lost_ms == 0);
            assert_int_equal(ways[EDGE_OURS].lost_ms > 0, i == EDGE_FAILURE);
            assert_int_equal(ways[EDGE_GEOGRAPHY].outside, 0);
            assert_true(ways[EDGE_NEAREST].outside > 0);
            assert_true(total(&ways[EDGE_ORACLE]) <= total(&ways[EDGE_OURS]));
            /* Of 36 PoPs that one in nine dies costs: their clients are told so after 2.4 s. */
            double over = i == EDGE_FAILURE ? 1.1 : 1.05;
            assert_true(total(&ways[EDGE_OURS]) < total(&ways[EDGE_ORACLE]) * over);
            for (size_t way = 1; way < EDGE_WAYS; way++) /* the same requests for all */
                assert_int_equal(ways[way].requests, ways[0].requests);
        }
        assert_true(total(&all->result[EDGE_SPIKE][EDGE_NEAREST]) >
                    total(&all->result[EDGE_SPIKE][EDGE_OURS]) * 1.2);
        small_deinit(&small);
    }
}

/* What a client loses with a dead PoP is a round trip where it is refused, and what it waits for
 * where nothing comes; all are served in the end. */
static void test_clients_of_the_dead_try_on(void **state)
{
    struct small refused, silent;

    (void)state;
    small_init(&refused, 4);
    small_init(&silent, 4);
    silent.options.silent = true;
    const struct edge_result *near = &small_run(&refused)->result[EDGE_FAILURE][EDGE_OURS];
    const struct edge_result *far = &small_run(&silent)->result[EDGE_FAILURE][EDGE_OURS];
    assert_true(near->retried > 500 && far->retried > 500);
    assert_true(near->dead_for_s < 0.5 * far->dead_for_s); /* they hear of it sooner */
    assert_true(near->network_ms < far->network_ms);
    assert_true(0 < near->lost_ms && near->lost_ms < far->lost_ms);
    assert_float_equal(far->network_ms - near->network_ms, far->lost_ms - near->lost_ms,
                       0.02 * near->network_ms); /* the ways are as long */
    assert_true(near->refused == 0 && far->refused == 0);
    assert_int_equal(near->requests, far->requests);
    uint64_t served[2] = {};
    for (int i = 0; i < SIDE * SIDE; i++) {
        served[0] += near->served[i];
        served[1] += far->served[i];
    }
    assert_true(served[0] == near->requests && served[1] == far->requests);
    /* Before PoPs die, and once that is known, none is tried. */
    assert_true((double)near->did_50_known > 0.998 * (double)near->could_50_known);
    small_deinit(&refused);
    small_deinit(&silent);
}

static struct edge_result ours_of(struct small *small, enum edge_scenario scenario)
{
    struct edge_result result;

    edge_run(small->arena,
             edge_world_new(small->arena, &small->sites, small->cities, &small->residency,
                            &small->options),
             scenario, EDGE_OURS, NULL, &result);
    return result;
}

/* Who has a kept answer asks nobody until it is over, and comes to the dead until then: 20 s at
 * most, 5 where PoPs are young; all are served in the end, and elsewhere within 3 s more. */
static void test_resolvers_keep_answers(void **state)
{
    static const struct {
        uint32_t resolvers, up_s;
        double least_s, most_s;
    } rows[] = { { 0, 600, 0.5, 3 }, { 0, 0, 0.5, 3 }, { 2, 600, 15, 23 }, { 2, 0, 4, 8 } };
    struct edge_result results[4];
    struct small small;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        small_init(&small, 4);
        small.options.resolvers = rows[i].resolvers;
        small.options.up_s = rows[i].up_s;
        struct edge_result *result = &results[i];
        *result = ours_of(&small, EDGE_FAILURE);
        print_message("  %u resolvers, up for %u s: %.1f s, %.1f %% asked\n", rows[i].resolvers,
                      rows[i].up_s, result->dead_for_s,
                      100 * (double)result->asked / (double)result->requests);
        assert_true(result->dead_for_s > rows[i].least_s && result->dead_for_s < rows[i].most_s);
        assert_true(rows[i].resolvers || result->dead_for_s < 1.2);
        assert_true(edge_known_s(&(struct edge_world){ .options = small.options }) ==
                    rows[i].most_s);
        assert_int_equal(result->requests, results[0].requests);
        assert_true(result->refused == 0 && result->outside == 0);
        /* But for that time all is as without, or nearly: what is kept too long is passed on. */
        assert_true((double)result->did_50_known > 0.98 * (double)result->could_50_known);
        small_deinit(&small);
    }
    assert_true(results[0].asked >= results[0].requests);
    assert_true(results[0].total_ms == results[1].total_ms); /* that PoPs are young is no matter */
    assert_true(results[2].asked < results[3].asked && results[3].asked < results[0].asked / 2);
}

/* Those that fail are as many as told, each once, and answer nothing from then on; others do. */
static void check_failing(enum edge_failing failing, const uint32_t *named)
{
    struct edge_result well, failed;
    struct small small;
    bool fails[SIDE * SIDE] = {};
    uint32_t smallest = UINT32_MAX;

    small_init(&small, 9);
    small.options.failing = failing;
    small.options.named = named;
    const struct edge_world *world =
        edge_world_new(small.arena, &small.sites, small.cities, &small.residency, &small.options);
    const uint32_t *sites = edge_failing(small.arena, world);
    for (uint32_t i = 0; i < small.options.failures; i++) {
        assert_true(sites[i] < world->site_count && !fails[sites[i]]);
        assert_true(!named || sites[i] == named[i]);
        fails[sites[i]] = true;
        smallest = world->places[sites[i]] < smallest ? world->places[sites[i]] : smallest;
    }
    edge_run(small.arena, world, EDGE_HEALTHY, EDGE_OURS, NULL, &well);
    edge_run(small.arena, world, EDGE_FAILURE, EDGE_OURS, NULL, &failed);
    for (size_t i = 0; i < world->site_count; i++) {
        double left = (double)failed.served[i] / (double)well.served[i];
        assert_true(fails[i] ? left < 0.4 : left > 0.7);
        assert_true(failing != EDGE_LARGEST || fails[i] || world->places[i] <= smallest);
    }
    small_deinit(&small);
}

static void test_which_pops_fail(void **state)
{
    static const uint32_t named[] = { 30, 0, 7, 15 };

    (void)state;
    check_failing(EDGE_BY_CHANCE, NULL);
    check_failing(EDGE_LARGEST, NULL);
    check_failing(EDGE_NAMED, named);
}

static void test_a_seed_is_a_world(void **state)
{
    struct small one, same, other;

    (void)state;
    small_init(&one, 5);
    small_init(&same, 5);
    small_init(&other, 6);
    const struct edge_all *a = small_run(&one), *b = small_run(&same), *c = small_run(&other);
    for (size_t i = 0; i < EDGE_SCENARIOS; i++)
        for (size_t way = 0; way < EDGE_WAYS; way++) {
            const struct edge_result *x = &a->result[i][way], *y = &b->result[i][way];
            assert_true(x->total_ms == y->total_ms && x->cost == y->cost);
            assert_memory_equal(x->network, y->network, sizeof x->network);
            assert_memory_equal(x->served, y->served, a->world->site_count * sizeof *x->served);
            assert_true(x->total_ms != c->result[i][way].total_ms);
        }
    small_deinit(&one);
    small_deinit(&same);
    small_deinit(&other);
}

static void test_a_client_without_a_permitted_pop_is_refused(void **state)
{
    struct small small;

    (void)state;
    small_init(&small, 1);
    for (size_t i = 0; i < small.sites.count; i++) /* none is left in DE */
        ((struct site *)(uintptr_t)small.sites.list)[i].country = country_number_of(SLICE("US"));
    const struct edge_all *all = small_run(&small);
    const struct edge_result *ours = &all->result[EDGE_HEALTHY][EDGE_OURS];
    assert_true(ours->refused > ours->requests / 4 && ours->refused < ours->requests * 3 / 4);
    assert_int_equal(ours->outside, 0);
    small_deinit(&small);
}

static void test_the_best_regions(void **state)
{
    struct small small;
    struct edge_cloud one, three;

    (void)state;
    small_init(&small, 1);
    const struct edge_world *world =
        edge_world_new(small.arena, &small.sites, small.cities, &small.residency, &small.options);
    edge_cloud(small.arena, world, 1, &one);
    edge_cloud(small.arena, world, 3, &three);
    /* Over all sites and over all threes by hand. */
    double best = INFINITY, best_three = INFINITY;
    for (uint32_t a = 0; a < world->site_count; a++)
        for (uint32_t b = a; b < world->site_count; b++)
            for (uint32_t c = b; c < world->site_count; c++) {
                double sum = 0;
                if (b == c && a != b)
                    continue;
                for (size_t i = 0; i < world->city_count; i++) {
                    const float *rtt = world->rtt + i * world->site_count;
                    sum += world->population[i] * (double)fminf(rtt[a], fminf(rtt[b], rtt[c]));
                }
                best_three = fmin(best_three, sum / world->people);
                if (a == c)
                    best = fmin(best, sum / world->people);
            }
    assert_float_equal(one.mean_ms, best, 0.001);
    assert_true(three.mean_ms < best_three * 1.01); /* exchange finds it, or nearly */
    assert_true(three.p50_ms <= three.p95_ms && three.p95_ms <= three.p99_ms);
    small_deinit(&small);
}

static void test_quantiles(void **state)
{
    uint64_t *buckets = calloc(EDGE_BUCKETS + 1, sizeof *buckets);

    (void)state;
    assert_float_equal(edge_quantile(buckets, 0.5), 0, 0);
    assert_float_equal(edge_below(buckets, 50), 0, 0);
    for (size_t i = 100; i < 200; i++) /* evenly between 10 and 20 ms */
        buckets[i] = 10;
    assert_float_equal(edge_quantile(buckets, 0.5), 15, 0.01);
    assert_float_equal(edge_quantile(buckets, 0.99), 19.9, 0.01);
    assert_float_equal(edge_below(buckets, 10), 0, 0);
    assert_float_equal(edge_below(buckets, 12.5), 0.25, 0.001);
    buckets[EDGE_BUCKETS] = 1000; /* above all */
    assert_float_equal(edge_below(buckets, 1e9), 0.5, 0.001);
    free(buckets);
}

static void test_pictures(void **state)
{
    struct small small;
    char *text;
    size_t size;

    (void)state;
    small_init(&small, 1);
    ((struct site *)(uintptr_t)small.sites.list)[0].name = SLICE("<p&q>\x01");
    const struct edge_all *all = small_run(&small);
    FILE *file = open_memstream(&text, &size);
    edge_map_svg(file, all);
    (void)fclose(file);
    assert_non_null(strstr(text, "&#60;p&#38;q&#62;:")); /* escaped, and no control character */
    assert_non_null(strstr(text, CITIES_SOURCE));
    assert_null(strstr(text, "nan"));
    free(text);
    file = open_memstream(&text, &size);
    edge_curves_svg(file, all, EDGE_SPIKE);
    edge_map_text(file, all, 80);
    (void)fclose(file);
    assert_non_null(strstr(text, "oracle"));
    assert_non_null(strchr(strstr(text, "</svg>"), '@'));
    free(text);
    small_deinit(&small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sites),
        cmocka_unit_test(test_what_a_site_is),
        cmocka_unit_test(test_draws_are_as_the_weights),
        cmocka_unit_test(test_close_to_the_oracle_and_never_where_it_may_not_be),
        cmocka_unit_test(test_clients_of_the_dead_try_on),
        cmocka_unit_test(test_resolvers_keep_answers),
        cmocka_unit_test(test_which_pops_fail),
        cmocka_unit_test(test_a_seed_is_a_world),
        cmocka_unit_test(test_a_client_without_a_permitted_pop_is_refused),
        cmocka_unit_test(test_the_best_regions),
        cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_pictures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
