/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a run finds: who lives where, what is near, what is permitted, and how much each PoP holds.
 *
 * A PoP is as large as its permitted neighbourhood asks for: at 60 % and with the margin that its
 * size needs (square-root staffing), at least four places.
 */
#include <assert.h>
#include <math.h>

#include "base/arena.h"
#include "geo/cities.h"
#include "policy/residency.h"
#include "sim/draw.h"
#include "sim/edge.h"
#include "sim/sites.h"

#define PLACES_MIN 4
#define FILL 0.6
#define MARGIN 2.0 /* standard deviations */

static struct edge_point point_of(double latitude, double longitude, country_number country)
{
    return (struct edge_point){ spot_at(latitude, longitude), country };
}

static float between(const struct edge_point *a, const struct edge_point *b)
{
    float x = a->spot.x - b->spot.x, y = a->spot.y - b->spot.y, z = a->spot.z - b->spot.z;
    return RTT_BASE_MS + RTT_MS_PER_KM * spot_chord_km(x * x + y * y + z * z);
}

static const float *distances(struct arena *arena, const struct edge_point *from, size_t count,
                              const struct edge_point *to, size_t to_count)
{
    float *rtt = ARENA_ARRAY(arena, float, count *to_count);

    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < to_count; k++)
            rtt[i * to_count + k] = between(&from[i], &to[k]);
    return rtt;
}

static void cities_take(struct arena *arena, struct edge_world *world, const struct cities *cities)
{
    size_t count = 0;

    while (count < cities_count(cities) &&
           cities_at(cities, count)->population >= world->options.population_min)
        count++;
    struct edge_point *points = ARENA_ARRAY(arena, struct edge_point, count + 1);
    uint32_t *population = ARENA_ARRAY(arena, uint32_t, count + 1);
    for (size_t i = 0; i < count; i++) {
        const struct city *city = cities_at(cities, i);
        points[i] = point_of(city->latitude, city->longitude, city->country);
        population[i] = city->population;
        world->people += city->population;
    }
    world->city_count = count;
    world->city = points;
    world->population = population;
    world->draw = draw_new(arena, population, count);
}

static void sites_take(struct arena *arena, struct edge_world *world, const struct sites *sites)
{
    struct edge_point *points = ARENA_ARRAY(arena, struct edge_point, sites->count);

    for (size_t i = 0; i < sites->count; i++)
        points[i] =
            point_of(sites->list[i].latitude, sites->list[i].longitude, sites->list[i].country);
    world->sites = sites;
    world->site_count = sites->count;
    world->site = points;
}

static void permitted_take(struct arena *arena, struct edge_world *world,
                           const struct residency *residency)
{
    struct countries *process = ARENA_ARRAY(arena, struct countries, COUNTRY_NUMBER_MAX + 1);

    for (uint32_t i = 0; i <= COUNTRY_NUMBER_MAX; i++)
        process[i] = residency ? residency_decide(residency, (country_number)i, NULL).process
                               : countries_any();
    world->process = process;
}

static void nearest_take(struct arena *arena, struct edge_world *world)
{
    uint32_t *nearest = ARENA_ARRAY(arena, uint32_t, world->city_count + 1);
    uint32_t *permitted = ARENA_ARRAY(arena, uint32_t, world->city_count + 1);

    for (size_t i = 0; i < world->city_count; i++) {
        const float *rtt = world->rtt + i * world->site_count;
        const struct countries *process = &world->process[world->city[i].country];
        float least = INFINITY, least_permitted = INFINITY;
        permitted[i] = UINT32_MAX;
        for (uint32_t k = 0; k < world->site_count; k++) {
            if (rtt[k] < least) {
                least = rtt[k];
                nearest[i] = k;
            }
            if (rtt[k] < least_permitted && countries_has(process, world->site[k].country)) {
                least_permitted = rtt[k];
                permitted[i] = k;
            }
        }
    }
    world->nearest = nearest;
    world->permitted = permitted;
}

static void places_take(struct arena *arena, struct edge_world *world)
{
    double *busy = ARENA_ARRAY(arena, double, world->site_count);
    uint32_t *places = ARENA_ARRAY(arena, uint32_t, world->site_count);
    double each = world->people > 0
                      ? world->options.rate_per_s * world->options.service_ms / 1000 / world->people
                      : 0;

    for (size_t i = 0; i < world->city_count; i++)
        if (world->permitted[i] != UINT32_MAX)
            busy[world->permitted[i]] += each * world->population[i];
    for (size_t i = 0; i < world->site_count; i++) {
        double wanted = ceil(busy[i] / FILL + MARGIN * sqrt(busy[i]));
        places[i] = wanted > PLACES_MIN ? (uint32_t)fmin(wanted, 1e6) : PLACES_MIN;
    }
    world->places = places;
}

const struct edge_world *edge_world_new(struct arena *arena, const struct sites *sites,
                                        const struct cities *cities,
                                        const struct residency *residency,
                                        const struct edge_options *options)
{
    struct edge_world *world = ARENA_NEW(arena, struct edge_world);

    *world = (struct edge_world){ .options = *options };
    sites_take(arena, world, sites);
    cities_take(arena, world, cities);
    world->rtt = distances(arena, world->city, world->city_count, world->site, world->site_count);
    world->site_rtt =
        distances(arena, world->site, world->site_count, world->site, world->site_count);
    permitted_take(arena, world, residency);
    nearest_take(arena, world);
    places_take(arena, world);
    return world;
}

const char *edge_way_text(enum edge_way way)
{
    static const char *const texts[] = { "nearest only", "geography", "perigee", "oracle" };
    assert(way < EDGE_WAYS);
    return texts[way];
}

const char *edge_scenario_text(enum edge_scenario scenario)
{
    static const char *const texts[] = { "healthy", "spike", "failures", "cold" };
    assert(scenario < EDGE_SCENARIOS);
    return texts[scenario];
}
