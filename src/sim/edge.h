/* SPDX-License-Identifier: Apache-2.0 */
/*
 * edge.h -- the world of `perigee simulate`: PoPs, cities whose people send requests, and four ways
 * to choose the PoP of each, seen over simulated time. Ours is the code that DNS and gateway run:
 * policy/route.h over policy/load.h and policy/health.h, with residency by policy/residency.h.
 *
 * A PoP is a number of places that serve first come, first served; its reports reach those who
 * choose a second or so late, so that herds would form. Everything comes of the seed: two runs of
 * one world, scenario and way are equal to the bit. A world is immutable once made; runs may be on
 * several threads.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/countries.h"
#include "policy/rtt.h"

struct arena;
struct cities;
struct residency;
struct sites;

enum edge_way {
    EDGE_NEAREST,   /* the nearest PoP that is up: what anycast would do. No residency, no load */
    EDGE_GEOGRAPHY, /* the nearest that is up and permitted. No load */
    EDGE_OURS,
    EDGE_ORACLE, /* the permitted one with the least total, all as it truly is at that moment */
    EDGE_WAYS,
};

enum edge_scenario {
    EDGE_HEALTHY,
    EDGE_SPIKE,   /* around one large PoP five times as much, in the middle third */
    EDGE_FAILURE, /* some PoPs die at a quarter of the time, and stay dead */
    EDGE_COLD,    /* three of ten PoPs have no replica that is ready, at first */
    EDGE_SCENARIOS,
};

enum edge_failing {
    EDGE_BY_CHANCE,
    EDGE_LARGEST, /* those with most places, which is most clients near them */
    EDGE_NAMED,
};

struct edge_options {
    uint64_t seed;
    double duration_s, rate_per_s; /* of simulated time; of all cities together */
    double service_ms;             /* mean; exponential */
    double start_ms;               /* of a cold replica */
    uint32_t population_min;       /* smaller cities send nothing */
    uint32_t failures;             /* PoPs that die: fewer than there are */
    enum edge_failing failing;     /* which ones */
    const uint32_t *named;         /* EDGE_NAMED: those, each once; borrowed */
    bool silent;                   /* whoever tries a dead one hears nothing; else it is refused */
    double spike_times;
    uint32_t resolvers; /* of each city, which keep answers for their TTL; 0: all ask each time */
    uint32_t up_s;      /* PoPs have been up for so long before it begins */
};

enum { EDGE_RESOLVERS_MAX = 64 };

#define EDGE_OPTIONS_DEFAULT                                                                       \
    ((struct edge_options){ .seed = 1,                                                             \
                            .duration_s = 60,                                                      \
                            .rate_per_s = 12'000,                                                  \
                            .service_ms = 80,                                                      \
                            .start_ms = 2000,                                                      \
                            .population_min = 15'000,                                              \
                            .failures = 30,                                                        \
                            .spike_times = 5,                                                      \
                            .up_s = 600 })

/* A city, or a PoP. */
struct edge_point {
    struct spot spot;
    country_number country;
};

struct edge_world {
    struct edge_options options;
    const struct sites *sites; /* borrowed */
    size_t site_count, city_count;
    const struct edge_point *site, *city;
    const uint32_t *population; /* of each city */
    double people;              /* of all */
    const float *rtt;           /* city by city, to each site: ms */
    const float *site_rtt;      /* site by site */
    const uint32_t *nearest;    /* of each city, any */
    const uint32_t *permitted;  /* of each city, the nearest that may process; UINT32_MAX: none */
    const struct countries *process; /* by country number of the client */
    const uint32_t *places;          /* of each site: requests at the same time */
    const struct edge_draw *draw;    /* cities by people */
};

/* `residency` may be NULL: all may be processed everywhere. */
const struct edge_world *edge_world_new(struct arena *arena, const struct sites *sites,
                                        const struct cities *cities,
                                        const struct residency *residency,
                                        const struct edge_options *options);

/* Network latency in steps of 0.1 ms. */
enum { EDGE_BUCKETS = 6000, EDGE_BUCKETS_PER_MS = 10 };

struct edge_result {
    uint64_t requests, refused; /* refused: no PoP may process them */
    uint64_t forwarded, retried;
    uint64_t asked;          /* answers that DNS gave: all requests, unless resolvers keep them */
    double dead_for_s;       /* from the deaths to the last try at a dead PoP */
    uint64_t outside;        /* processed where it may not be */
    uint64_t could_50;       /* a permitted living PoP was within 50 ms */
    uint64_t did_50;         /* of those, this one served within 50 ms */
    uint64_t could_50_known; /* the same two, but for edge_known_s() after PoPs died */
    uint64_t did_50_known;
    double network_ms;                  /* sums: round trips, with what went astray */
    double lost_ms;                     /* of them, with PoPs that were dead */
    double wait_ms, cold_ms;            /* for a place; for a replica to start */
    double total_ms;                    /* of all that, and the service */
    double cost;                        /* price times seconds of service */
    uint64_t network[EDGE_BUCKETS + 1]; /* the last: all above */
    uint64_t delay[EDGE_BUCKETS + 1];   /* network, wait and start: all but the service */
    uint64_t *served;                   /* by site; in the arena */
};

/* The PoPs that die where some do, `options.failures` of them; in the arena. */
const uint32_t *edge_failing(struct arena *arena, const struct edge_world *world);

/* In so many seconds all leave the dead: what health.h has to keep to, and the longest TTL that an
 * answer with one of them has. */
double edge_known_s(const struct edge_world *world);

/* Of runs on several threads. `on` may be called by all of them at once, now and then. */
struct edge_progress {
    _Atomic uint64_t done;
    uint64_t total; /* requests, about */
    void (*on)(double part, void *data);
    void *data;
};

/* `progress` may be NULL. */
void edge_run(struct arena *arena, const struct edge_world *world, enum edge_scenario scenario,
              enum edge_way way, struct edge_progress *progress, struct edge_result *ret);
/* How many requests a run has, about. */
uint64_t edge_requests(const struct edge_world *world, enum edge_scenario scenario);

/* Of `network` or `delay`: the 0 to 1 quantile, and the part below so many milliseconds. */
double edge_quantile(const uint64_t buckets[static EDGE_BUCKETS + 1], double part);
double edge_below(const uint64_t buckets[static EDGE_BUCKETS + 1], double ms);

/* The best 1 or 3 sites for all cities, as a cloud of so many regions with room without end. */
struct edge_cloud {
    uint32_t count, site[3];
    double mean_ms, p50_ms, p95_ms, p99_ms, below_50, in_jurisdiction, price;
};
void edge_cloud(struct arena *arena, const struct edge_world *world, uint32_t count,
                struct edge_cloud *ret);

const char *edge_way_text(enum edge_way way);
const char *edge_scenario_text(enum edge_scenario scenario);
