/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decision.h -- the last requests of each gateway loop, for `perigee explain REQUEST_ID`: where one
 * went and by which figures. A ring for each loop of each lane set, in the gateway's region beside
 * its counters: the loop writes, the agent reads. Nothing of a payload and no address is kept, and
 * nothing of a request whose residency does not let it be logged here.
 *
 * Kept is what the choice was made of, not what it came to: that is computed when somebody asks, by
 * the same code (pop/decided.h), and a request that is passed on does not wait for it.
 *
 * The reader takes nothing on trust: rows are copied, then checked.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <perigee/worker.h>

#include "base/countries.h"
#include "base/slice.h"

enum {
    DECISION_POPS_MAX = 16, /* of more those that look best; shares are of these alone */
    DECISION_RING = 256,    /* requests of a loop */
    DECISION_RINGS = 2 * PERIGEE_LOOPS_MAX,
    DECISION_NAME_BYTES = 64,
    DECISION_ID_BYTES = 72,
};

/* Who told the round trip to the client. */
enum decision_rtt {
    DECISION_RTT_UNKNOWN,
    DECISION_RTT_TCP,
    DECISION_RTT_TRUSTED,
    DECISION_RTT_END
};

/* One that was looked at, and what was known of it then: policy/route.h's words. */
struct decision_pop {
    char name[DECISION_NAME_BYTES];
    uint64_t key;
    float x, y, z;                               /* its spot */
    float rtt_ms;                                /* measured; NAN: not */
    float wait_ms, service_ms, start_ms, weight; /* where it is placed */
    uint16_t country;
    uint8_t health, placed;
    uint32_t reserved;
};

struct decision_record {
    char id[DECISION_ID_BYTES];
    uint64_t endpoint;                /* uid */
    int64_t at_s;                     /* since 1970: its answer's end */
    char country[4];                  /* of the client; empty: not known */
    float client_rtt_ms;              /* from it to here; 0: not known, or it came from a PoP */
    char why[16];                     /* "here", or what made it look further: "cold", "away" */
    char chosen[DECISION_NAME_BYTES]; /* who answered it */
    uint16_t status;
    uint8_t hop; /* another PoP had passed it on */
    uint8_t pop_count;
    uint8_t client_known, measured, limited; /* by `process`; struct route_query has the rest */
    uint8_t client_rtt_source;               /* enum decision_rtt */
    float x, y, z, enough_ms;                /* of the client */
    uint64_t seed;
    struct countries process;
    struct decision_pop pops[DECISION_POPS_MAX]; /* none: nobody else was looked at */
};

struct decision_row {
    _Atomic uint32_t version; /* odd: being written */
    uint32_t reserved;
    struct decision_record decision;
};

struct decision_ring {
    _Atomic uint64_t next;
    struct decision_row rows[DECISION_RING];
};
static_assert(sizeof(struct decision_record) == 2088, "part of the region's layout");

/* NULL: not known, or no number of ours. */
const char *decision_rtt_text(unsigned source);
float decision_client_ms(const struct decision_record *decision); /* 0: not known */

/* The ring's one writer. What lies behind pop_count is not copied. */
void decision_write(struct decision_ring *ring, const struct decision_record *decision);
/* Of all rings the newest one of that id; any thread, any process. False: it is not kept. */
bool decision_find(const struct decision_ring *rings, size_t count, struct slice id,
                   struct decision_record *ret);
