/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place.h -- which PoPs hold how many replicas of an endpoint. Pure; scratch memory in an arena;
 * any thread.
 *
 * What must be comes first: no more PoPs than there may be replicas, one in each group (of clients
 * that the law sends to some PoPs alone), for which another goes that no group needs, `spread_min`
 * of them. Beyond that a PoP is added where it
 * brings enough of the demand nearer, and given up where it brings too little: greedy facility
 * location (Cornuejols, Fisher, Nemhauser 1977) over predicted round trips and prices, which begins
 * at what there is. To take one up needs more than to keep it, so a small change moves nothing.
 *
 * A PoP that fell silent keeps what it has and counts for nothing: it may serve on where control
 * does not see it. One that drains keeps nothing, once others have what must be.
 *
 * Without demand nothing is known to be better, and what there is stays; once that is settled, what
 * is there beyond what must be is given up: a PoP that came back beside the one that followed it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/rtt.h"

struct arena;

enum { PLACE_POPS_MAX = 1024, PLACE_DEMANDS_MAX = 4096, PLACE_GROUPS_MAX = 64 };

enum place_health { PLACE_UP, PLACE_DRAINING, PLACE_SILENT };

struct place_pop {
    struct spot spot; /* all 0: not known, counts as far from everybody */
    bool allowed;     /* regions, residency and what it can run allow it */
    uint8_t health;   /* enum place_health */
    uint32_t room;    /* replicas of this endpoint that fit, those it has among them */
    uint32_t has;     /* replicas that the placement before gave it; 0: none */
    bool ready;       /* a replica there serves: of two that would do, this one stays */
    float price;      /* of a replica for an hour, in whatever money all share */
};

/* Clients of one place, as seen lately. */
struct place_demand {
    struct spot spot;
    float rate;     /* requests a second */
    uint32_t group; /* which PoPs may serve it: index into groups, or PLACE_ANYWHERE */
};
#define PLACE_ANYWHERE UINT32_MAX

/* PoPs that may serve some clients: bit i is PoP i. A group that no allowed PoP is in asks for
 * nothing: its clients are refused. */
struct place_group {
    uint64_t pops[PLACE_POPS_MAX / 64];
};

struct place_input {
    const struct place_pop *pops;
    size_t pop_count;
    const struct place_demand *demands;
    size_t demand_count;
    const struct place_group *groups;
    size_t group_count;
    uint32_t spread_min;       /* PoPs at least; 0 is 1 */
    uint32_t replicas_min;     /* over the fleet: there is to be room for so many */
    const uint32_t *floors;    /* how many of them there are to be: ascending, the last one is */
    size_t floor_count;        /* replicas_min, the first one usual; none: always all */
    uint32_t replicas_max;     /* likewise; 0: no bound */
    uint32_t pop_min, pop_max; /* of a chosen PoP; pop_max 0: no bound */
    bool settled;              /* nothing has changed, and nobody has asked, for long */
};

enum place_reason {
    PLACE_CHOSEN,
    PLACE_KEPT_SILENT, /* it has not been heard of, and keeps what it has */
    PLACE_LEAVES,      /* drains, until others have taken over */
    PLACE_NOT_ALLOWED,
    PLACE_NOT_UP,
    PLACE_NO_ROOM,
    PLACE_NOT_NEEDED, /* others are near enough, or cheaper */
};

struct place_row {
    uint32_t replicas; /* it is to run; 0: none */
    uint8_t reason;    /* enum place_reason */
    float served;      /* requests a second for which it is the nearest chosen one */
};

struct place_result {
    struct place_row *rows;  /* one for each PoP, in their order; in the arena */
    uint32_t *floors;        /* of each PoP, for each of the input's floors: replicas of it then */
    uint32_t pops, replicas; /* sums, silent ones not counted */
    bool spread_short;       /* fewer PoPs than spread_min can be had */
    bool min_short;          /* fewer replicas than replicas_min find room */
    bool spared;             /* nobody asks, and one could go once all is settled */
    uint64_t groups_without; /* bit i: no PoP of group i could be chosen, or replicas_max forbids
                                it: each that there is serves another group that has no other */
};

/* What a second PoP must save to be taken up, and to be kept: of a client's round trip, weighed by
 * its share of the demand, in milliseconds. */
#define PLACE_TAKE_MS 4.0f
#define PLACE_KEEP_MS 1.5f
/* Demand below it is noise, and moves nothing. */
#define PLACE_RATE_MIN 0.02f
/* And of clients who have a PoP to themselves: chance alone makes the damped rate of one request in
 * 50 s look half as high now and then, a quarter as high not once in years. */
#define PLACE_RATE_KEPT 0.005f

void place_decide(struct arena *arena, const struct place_input *input, struct place_result *ret);
const char *place_reason_text(enum place_reason reason);
