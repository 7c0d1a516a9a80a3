/* SPDX-License-Identifier: Apache-2.0 */
/* What a scenario does to a world, and the requests that come in it. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/arena.h"
#include "sim/draw.h"
#include "sim/edge.h"
#include "sim/edge_run.h"

#define SPIKE_MS 25.0f /* round trip to the PoP around which the spike is: 675 km */
#define SPIKE_AMONG 20 /* of so many largest PoPs */
#define COLD_PART 0.3

static uint32_t site_drawn(const struct edge_world *world, struct chance *chance, size_t among)
{
    return (uint32_t)(chance_part(chance) *
                      (double)(among < world->site_count ? among : world->site_count));
}

static int compare(const void *a, const void *b, void *data)
{
    const struct edge_world *world = data;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    if (world->places[x] != world->places[y])
        return world->places[x] > world->places[y] ? -1 : 1;
    return (x > y) - (x < y);
}

/* The sites by places, the largest first. */
static const uint32_t *by_size(struct arena *arena, const struct edge_world *world)
{
    uint32_t *sites = ARENA_ARRAY(arena, uint32_t, world->site_count);

    for (uint32_t i = 0; i < world->site_count; i++)
        sites[i] = i;
    qsort_r(sites, world->site_count, sizeof *sites, compare, (void *)(uintptr_t)world);
    return sites;
}

static void spike_begin(struct arena *arena, struct edge_state *state, struct chance *chance)
{
    const struct edge_world *world = state->world;
    uint32_t *weights = ARENA_ARRAY(arena, uint32_t, world->city_count + 1);
    uint32_t centre = by_size(arena, world)[site_drawn(world, chance, SPIKE_AMONG)];
    double people = 0;

    for (size_t i = 0; i < world->city_count; i++) {
        if (world->rtt[i * world->site_count + centre] >= SPIKE_MS)
            continue;
        weights[i] = world->population[i];
        people += weights[i];
    }
    state->spike_draw = draw_new(arena, weights, world->city_count);
    state->spike_rate = world->options.rate_per_s * (world->options.spike_times - 1) *
                        (world->people > 0 ? people / world->people : 0);
}

static struct chance chance_of(const struct edge_world *world, enum edge_scenario scenario)
{
    return (struct chance){ world->options.seed * 4 + scenario };
}

static const uint32_t *failing_drawn(struct arena *arena, const struct edge_world *world)
{
    uint32_t *sites = ARENA_ARRAY(arena, uint32_t, world->options.failures + 1);
    bool *taken = ARENA_ARRAY(arena, bool, world->site_count);
    struct chance chance = chance_of(world, EDGE_FAILURE);

    for (uint32_t done = 0; done < world->options.failures;) {
        uint32_t site = site_drawn(world, &chance, world->site_count);
        if (taken[site])
            continue;
        taken[site] = true;
        sites[done++] = site;
    }
    return sites;
}

const uint32_t *edge_failing(struct arena *arena, const struct edge_world *world)
{
    assert(world->options.failures < world->site_count);
    switch (world->options.failing) {
    case EDGE_LARGEST:
        return by_size(arena, world);
    case EDGE_NAMED:
        return world->options.named;
    case EDGE_BY_CHANCE:
        break;
    }
    return failing_drawn(arena, world);
}

double edge_dies_at(const struct edge_world *world)
{
    return world->options.duration_s / 4;
}

static void failure_begin(struct arena *arena, struct edge_state *state)
{
    const struct edge_world *world = state->world;
    const uint32_t *sites = edge_failing(arena, world);

    state->died_at = edge_dies_at(world);
    for (uint32_t i = 0; i < world->options.failures; i++)
        state->dead_at[sites[i]] = state->died_at;
}

void edge_scenario_begin(struct arena *arena, struct edge_state *state, enum edge_scenario scenario)
{
    const struct edge_world *world = state->world;
    struct chance chance = chance_of(world, scenario);

    switch (scenario) {
    case EDGE_SPIKE:
        spike_begin(arena, state, &chance);
        break;
    case EDGE_FAILURE:
        failure_begin(arena, state);
        break;
    case EDGE_COLD:
        for (size_t i = 0; i < world->site_count; i++)
            if (chance_part(&chance) < COLD_PART)
                state->warm_at[i] = INFINITY;
        break;
    case EDGE_HEALTHY:
    case EDGE_SCENARIOS:
        break;
    }
}

bool edge_request_next(struct edge_state *state, struct edge_request *request)
{
    const struct edge_options *options = &state->world->options;
    double extra =
        request->at >= options->duration_s / 3 && request->at < options->duration_s * 2 / 3
            ? state->spike_rate
            : 0;
    double rate = options->rate_per_s + extra;
    struct chance *chance = &state->chance;

    request->at += chance_exponential(chance, 1 / rate);
    request->lost_ms = 0;
    const struct edge_draw *draw =
        chance_part(chance) * rate < extra ? state->spike_draw : state->world->draw;
    request->city = draw_one(draw, chance);
    request->service_s = chance_exponential(chance, options->service_ms / 1000);
    request->seed = (uint64_t)request->city * EDGE_PREFIXES + chance_bits(chance) % EDGE_PREFIXES;
    request->country_row = state->world->city[request->city].country;
    request->process = &state->world->process[request->country_row];
    return request->at < options->duration_s;
}

uint64_t edge_requests(const struct edge_world *world, enum edge_scenario scenario)
{
    struct arena *arena = arena_new();
    struct edge_state state = { .world = world };
    double count = world->options.rate_per_s * world->options.duration_s;

    if (scenario == EDGE_SPIKE) {
        struct chance chance = chance_of(world, EDGE_SPIKE);
        spike_begin(arena, &state, &chance);
        count += state.spike_rate * world->options.duration_s / 3;
    }
    arena_free(arena);
    return (uint64_t)count;
}
