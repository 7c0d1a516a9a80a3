/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns_world.h -- PoPs, places, a law and a map of clients by chance, and views of them. For tests
 * of what DNS chooses that link dns_world.c.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/ip.h"
#include "dns/client.h"
#include "dns/view.h"

struct dns_memo;
struct where_map;

enum { WORLD_POPS = 120, WORLDS = 8, WORLD_BLOCKS = 40 };

struct dns_world {
    unsigned number;
    char names[WORLD_POPS][16];
    struct dns_source_pop pops[WORLD_POPS];
    struct dns_source_place places[WORLD_POPS]; /* of both endpoints, "all" and "half" */
    struct ip addresses[WORLD_POPS][2];
    size_t count; /* of places */
    bool law;     /* the other one, of "half" */
    struct where_map *map;
};

/* Of one sequence for the whole program. */
double dns_world_uniform(double from, double to);

/* Crowded: many PoPs in few cities; waits from none at all to many; some down, draining or full; in
 * the last worlds few are warm, in one all of one city, which hide the starts of most others. */
void dns_world_make(struct dns_world *world, unsigned number); /* below WORLDS */
/* All IPv4, both, and IPv6 alone: of one PoP. */
void dns_world_addresses(struct dns_world *world, uint32_t pop, unsigned kind);
float dns_world_wait(const struct dns_world *world);
struct where_map *dns_world_map(double west); /* the caller's, as the world's own is */
struct dns_view *dns_world_view(const struct dns_world *world); /* the caller's */
/* Of 10/8, as the map has it. */
struct dns_client dns_world_client(const struct dns_world *world);
/* Some client's answer with and without the memo: the same PoPs in the same order, and the same
 * scope. Of the two endpoints in turns, as all that it has, and as those of a family. Returns how
 * many. */
size_t dns_world_check(const struct dns_world *world, const struct dns_view *view, unsigned turn,
                       struct dns_memo *memo);
