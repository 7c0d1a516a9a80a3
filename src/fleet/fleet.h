/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fleet.h -- the fleet file: a network in a box, its PoPs, the links between places, and where
 * clients stand. Read once, then immutable: any thread. All of it lies in the arena it was read to.
 *
 *     version: 1
 *     kind: fleet
 *     default_place: paris          # of addresses that nothing names; else they have none
 *     pops:                         # 1 to 64; the first one is at 127.0.0.1 as well
 *       - name: paris
 *         city: Paris               # or coordinates: [48.85, 2.35] and country: FR
 *         region: eu-west
 *         flavors: [small]
 *         limits: {cpu: 4, memory: 8GiB, replicas: 16}
 *         prices: {cpu_hour: 0.04 EUR, gib_hour: 0.005 EUR}
 *     clients:
 *       - addresses: [127.66.0.0/16, 203.0.113.0/24]
 *         city: Tokyo               # or coordinates and country; name: lab calls it something else
 *     links:                        # what is not said here follows from the coordinates
 *       - between: [paris, Tokyo]   # or any, for all that no other row names
 *         rtt: 240ms                # else policy/rtt.h; 0 within a PoP
 *         jitter: 2ms               # at most so much more, each way
 *         bandwidth: 10MB/s         # each way; else not bounded
 *         loss: 0.1%                # of segments of 1460 bytes
 *         outage: true              # cut from the start
 *
 * A city's name is the most populous of that name; `Paris,US` says which. A place is named by a
 * PoP's name, or clients' city or name as it stands in the file; capitals matter only where there
 * are both, as PoP `tokyo` and clients of Tokyo.
 *
 * PoP number i, from 1, is reached at 127.0.1.i and listens on 127.0.2.i itself; control is reached
 * at 127.0.0.1, listens on 127.0.2.254, and stands where the first PoP does.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/countries.h"
#include "base/ip.h"
#include "base/slice.h"
#include "policy/rtt.h"
#include "spec/units.h"

struct arena;
struct cities;
struct err;
struct where_block;

enum {
    FLEET_POPS_MAX = 64,
    FLEET_PLACES_MAX = 512, /* PoPs and clients' */
    FLEET_BLOCKS_MAX = 4096,
    FLEET_FLAVORS_MAX = 64,
    FLEET_BYTES_MAX = 1 << 20,
    FLEET_PLACE_NONE = UINT16_MAX,
};

/* An hour for a round trip, and a link of 1 Tbit/s, are more than anybody means. */
#define FLEET_TIME_US_MAX UINT32_C(3'600'000'000)
#define FLEET_BANDWIDTH_MAX UINT64_C(125'000'000'000)

struct fleet_place {
    struct slice name;
    country_number country;
    double latitude, longitude; /* degrees, north and east positive */
    struct spot spot;
};

/* Place number i is PoP number i, both from 0. */
struct fleet_pop {
    struct slice name, region; /* region: empty when none */
    struct slice city;         /* empty when coordinates were given */
    const struct slice *flavors;
    size_t flavor_count;
    uint64_t cpu_milli, memory_bytes, replicas; /* 0: no limit given */
    struct money cpu_hour, gib_hour;            /* no currency: none given */
};

struct fleet_clients {
    struct ip_block block;
    uint16_t place;
};

struct fleet_link {
    uint32_t rtt_us, jitter_us;
    uint64_t bandwidth; /* bytes a second, each way; 0: not bounded */
    uint32_t loss_ppm;
    bool outage;
};

struct fleet {
    struct fleet_place *places; /* the PoPs', then clients' */
    struct fleet_pop *pops;
    struct fleet_clients *clients;
    size_t place_count, pop_count, client_count;
    uint16_t default_place;   /* FLEET_PLACE_NONE: none */
    struct fleet_link *links; /* by place, then PoP */
};

/* `cities` NULL: a file that names one is refused. Errors say "line 7: ...". */
[[nodiscard]] int fleet_parse(struct arena *arena, struct slice text, const struct cities *cities,
                              struct fleet *ret, struct err *err);
[[nodiscard]] int fleet_read(struct arena *arena, const char *path, const struct cities *cities,
                             struct fleet *ret, struct err *err);

/* A copy; `place` and `pop` are indexes. */
struct fleet_link fleet_link(const struct fleet *fleet, size_t place, size_t pop);

/* Where an address stands; FLEET_PLACE_NONE: nothing names it, and there is no default. */
uint16_t fleet_place_of(const struct fleet *fleet, const struct ip *ip);
/* By name; ERR_NOT_FOUND names the nearest one. */
[[nodiscard]] int fleet_place_find(const struct fleet *fleet, struct slice name, uint16_t *ret,
                                   struct err *err);

/* What geo/where.h takes: all addresses that stand somewhere, in the arena; and the default. False:
 * there is none. */
size_t fleet_where(const struct fleet *fleet, struct arena *arena, struct where_block **ret);
bool fleet_where_default(const struct fleet *fleet, struct where_block *ret);

/* The addresses of PoP number `index`, from 0: where others reach it, and where it listens. */
struct ip fleet_face(size_t index);
struct ip fleet_inside(size_t index);
struct ip fleet_control_face(void);
struct ip fleet_control_inside(void);
struct ip fleet_dns_admin(void); /* where the DNS server of a box is looked after */
