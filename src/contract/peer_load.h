/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_load.h -- what a gateway answers to a PoP that asks how it is: counts and times of each
 * endpoint that runs there, nothing else. Binary, little-endian, a fixed row each. Read from
 * outside, so peer_load_check() looks at all of it; after it figures are in their bounds.
 *
 * Numbered: who says which report it has gets what has changed since (a delta); who is of another
 * life of the gateway, or too far behind, gets all of it. An idle fleet of a thousand endpoints
 * sends heads of 40 bytes, and 8 for each PoP.
 *
 * Behind the rows stands which PoPs it reaches, as their names' hashes: when a link alone is cut,
 * who stands at one end hears by a third that the other end lives. Of one that does not stand there
 * nothing is said: not reached, not known, or not heard of yet.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct err;

/* Where it is asked for, and what for: "?life=LIFE&since=NUMBER&version=V&hop=H" of the report that
 * one has, the newest version that one reads, and which parameters of a hop (proto/hop.h,
 * HOP_KNOWN). Who does not say reads 2; a newer report goes to those alone who say that they read
 * it. */
#define PEER_LOAD_PATH "/.perigee/mesh"

#define PEER_LOAD_MAGIC 0x6c676550u /* "Pegl" */
#define PEER_LOAD_VERSION 3u
/* Those before are read as well, so that PoPs of two versions, and a gateway and an agent in an
 * upgrade, do not take each other for down. 2 says nothing of last starts, and is what who says no
 * version is answered. 1 said who is not reached as well: who is, its reader does not know. */
#define PEER_LOAD_VERSION_BEFORE 2u
#define PEER_LOAD_VERSION_FIRST 1u
enum { PEER_LOAD_ROWS_MAX = 4096, PEER_LOAD_REACHED_MAX = 2048 };
#define PEER_LOAD_RATE_MAX 1e7f /* a second */
#define PEER_LOAD_MS_MAX 600'000.0f

#define PEER_LOAD_WHOLE 1u      /* all there is; else what has changed since `since` */
#define PEER_LOAD_FIRST_SEES 2u /* of the first version alone: it has that list */

struct peer_load_head {
    uint32_t magic;
    uint16_t version, flags;
    uint64_t life;    /* of that gateway: drawn when it starts */
    uint64_t number;  /* of this report: grows */
    uint64_t since;   /* the one that a delta goes upon */
    uint32_t count;   /* of rows, by rising endpoint */
    uint32_t reached; /* of uint64_t behind them, rising: peer_load_name() of who is reached */
};

struct peer_load_row {
    uint64_t endpoint;    /* uid */
    float arrivals_per_s; /* asked for, also what found no room or was passed on */
    float capacity_per_s; /* that the ready replicas can answer */
    float service_ms;     /* mean of a run; 0: none was seen */
    float start_ms;   /* 0: a replica is ready; else until one is; INFINITY: it does not start */
    uint32_t places;  /* requests that run at the same time; 0: no replica is ready */
    uint32_t waiting; /* in its queue */
    float
        last_start_ms; /* that the last one there took; 0: none was seen. Not in versions before */
    uint32_t reserved;
};

/* `bytes` as they came: aligned anyhow. 0 or ERR_BAD_INPUT. */
[[nodiscard]] int peer_load_check(struct slice bytes, struct err *err);
struct peer_load_head peer_load_head(struct slice bytes);               /* of checked ones */
struct peer_load_row peer_load_row(struct slice bytes, uint32_t index); /* likewise */
bool peer_load_reaches(struct slice bytes, uint64_t name); /* likewise: is it in the list */
static inline uint32_t peer_load_reached(const struct peer_load_head *head) /* of whom it says so */
{
    return head->version == PEER_LOAD_VERSION_FIRST ? 0 : head->reached;
}

uint64_t peer_load_name(struct slice name); /* the same in every process */

/* A row of a version before is the beginning of one of now. */
static inline size_t peer_load_row_bytes(unsigned version)
{
    return version < PEER_LOAD_VERSION ? offsetof(struct peer_load_row, last_start_ms)
                                       : sizeof(struct peer_load_row);
}
static inline size_t peer_load_bytes(unsigned version, size_t rows, size_t reached)
{
    return sizeof(struct peer_load_head) + rows * peer_load_row_bytes(version) +
           reached * sizeof(uint64_t);
}
#define PEER_LOAD_BYTES_MAX                                                                        \
    peer_load_bytes(PEER_LOAD_VERSION, PEER_LOAD_ROWS_MAX, PEER_LOAD_REACHED_MAX)
