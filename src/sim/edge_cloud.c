/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is made of a run's counts, and the best one and three sites for all cities: a p-median
 * problem, by greedy choice and exchange (Teitz and Bart 1968), weighed by people.
 */
#include <math.h>
#include <stdlib.h>

#include "base/arena.h"
#include "sim/edge.h"
#include "sim/sites.h"

static double sum_of(const uint64_t *buckets, size_t count)
{
    double sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += (double)buckets[i];
    return sum;
}

double edge_quantile(const uint64_t buckets[static EDGE_BUCKETS + 1], double part)
{
    double until = part * sum_of(buckets, EDGE_BUCKETS + 1), sum = 0;

    for (size_t i = 0; i <= EDGE_BUCKETS; i++) {
        double in = (double)buckets[i];
        if (in > 0 && sum + in >= until)
            return ((double)i + (until - sum) / in) / EDGE_BUCKETS_PER_MS;
        sum += in;
    }
    return 0;
}

double edge_below(const uint64_t buckets[static EDGE_BUCKETS + 1], double ms)
{
    double all = sum_of(buckets, EDGE_BUCKETS + 1), below = ms * EDGE_BUCKETS_PER_MS;

    if (all == 0 || below <= 0)
        return 0;
    return sum_of(buckets, below < EDGE_BUCKETS ? (size_t)below : EDGE_BUCKETS) / all;
}

/* Of all people, the round trip to the nearest of `kept` (so far, by city) and `site`. */
static double mean_with(const struct edge_world *world, const float *kept, uint32_t site)
{
    double sum = 0;

    for (size_t i = 0; i < world->city_count; i++) {
        float rtt = world->rtt[i * world->site_count + site];
        sum += (double)world->population[i] * (double)(rtt < kept[i] ? rtt : kept[i]);
    }
    return world->people > 0 ? sum / world->people : 0;
}

static void keep(const struct edge_world *world, const struct edge_cloud *cloud, uint32_t without,
                 float *ret_kept)
{
    for (size_t i = 0; i < world->city_count; i++) {
        ret_kept[i] = INFINITY;
        for (uint32_t k = 0; k < cloud->count; k++)
            if (k != without)
                ret_kept[i] =
                    fminf(ret_kept[i], world->rtt[i * world->site_count + cloud->site[k]]);
    }
}

/* The best site for place `at`, the others staying. Did it change? */
static bool better(const struct edge_world *world, struct edge_cloud *cloud, uint32_t at,
                   float *kept)
{
    uint32_t before = cloud->site[at];

    keep(world, cloud, at, kept);
    for (uint32_t site = 0; site < world->site_count; site++) {
        double mean = mean_with(world, kept, site);
        if (mean < cloud->mean_ms) {
            cloud->mean_ms = mean;
            cloud->site[at] = site;
        }
    }
    return cloud->site[at] != before;
}

struct weighed {
    float rtt;
    uint32_t people;
};

static int compare(const void *a, const void *b)
{
    float x = ((const struct weighed *)a)->rtt, y = ((const struct weighed *)b)->rtt;
    return x < y ? -1 : x > y;
}

static void measure(struct arena *arena, const struct edge_world *world, struct edge_cloud *cloud)
{
    struct weighed *rows = ARENA_ARRAY(arena, struct weighed, world->city_count + 1);
    double sum = 0, inside = 0, below = 0;

    for (size_t i = 0; i < world->city_count; i++) {
        uint32_t best = cloud->site[0];
        const float *rtt = world->rtt + i * world->site_count;
        for (uint32_t k = 1; k < cloud->count; k++)
            if (rtt[cloud->site[k]] < rtt[best])
                best = cloud->site[k];
        rows[i] = (struct weighed){ rtt[best], world->population[i] };
        below += rtt[best] < 50 ? world->population[i] : 0;
        inside += countries_has(&world->process[world->city[i].country], world->site[best].country)
                      ? world->population[i]
                      : 0;
        cloud->price += world->sites->list[best].price * world->population[i] / world->people;
    }
    qsort(rows, world->city_count, sizeof *rows, compare);
    for (size_t i = 0; i < world->city_count; i++) {
        sum += rows[i].people;
        double *at = sum <= 0.5 * world->people    ? &cloud->p50_ms
                     : sum <= 0.95 * world->people ? &cloud->p95_ms
                                                   : &cloud->p99_ms;
        if (sum <= 0.99 * world->people)
            *at = (double)rows[i].rtt;
    }
    cloud->below_50 = below / world->people;
    cloud->in_jurisdiction = inside / world->people;
}

void edge_cloud(struct arena *arena, const struct edge_world *world, uint32_t count,
                struct edge_cloud *ret)
{
    float *kept = ARENA_ARRAY(arena, float, world->city_count + 1);
    bool changed = true;

    *ret = (struct edge_cloud){ .mean_ms = INFINITY };
    if (world->city_count == 0)
        return;
    for (; ret->count < count && ret->count < world->site_count; ret->count++) {
        keep(world, ret, UINT32_MAX, kept);
        ret->mean_ms = INFINITY;
        for (uint32_t site = 0; site < world->site_count; site++) {
            double mean = mean_with(world, kept, site);
            if (mean < ret->mean_ms) {
                ret->mean_ms = mean;
                ret->site[ret->count] = site;
            }
        }
    }
    for (int round = 0; changed && round < 8; round++) {
        changed = false;
        for (uint32_t at = 0; ret->count > 1 && at < ret->count; at++)
            changed |= better(world, ret, at, kept);
    }
    measure(arena, world, ret);
}
