/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decision.h -- the last requests of each gateway loop, for `perigee explain REQUEST_ID`: where one
 * went and by which figures. A ring for each loop of each lane set, in the gateway's region beside
 * its counters: the loop writes, the agent reads. Nothing of a payload and no address is kept, and
 * nothing of a request whose residency does not let it be logged here.
 *
 * The reader takes nothing on trust: rows are copied, then checked.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <perigee/worker.h>

#include "base/slice.h"

enum {
    DECISION_POPS_MAX = 16, /* the best ones */
    DECISION_RING = 256,    /* requests of a loop */
    DECISION_RINGS = 2 * PERIGEE_LOOPS_MAX,
    DECISION_NAME_BYTES = 64,
    DECISION_ID_BYTES = 72,
};

struct decision_pop { /* as struct route_choice has it */
    char name[DECISION_NAME_BYTES];
    float rtt_ms, wait_ms, felt_ms, service_ms, start_ms, total_ms, share;
    uint8_t exclusion, rtt_source, near, reserved;
};

struct decision_record {
    char id[DECISION_ID_BYTES];
    uint64_t endpoint;                /* uid */
    int64_t at_s;                     /* since 1970: its answer's end */
    char country[8];                  /* of the client; empty: not known */
    char why[16];                     /* "here", or what made it look further: "cold", "away" */
    char chosen[DECISION_NAME_BYTES]; /* who answered it */
    uint16_t status;
    uint8_t hop; /* another PoP had passed it on */
    uint8_t pop_count;
    uint32_t reserved;
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
static_assert(sizeof(struct decision_record) == 1720, "part of the region's layout");

/* The ring's one writer. What lies behind pop_count is not copied. */
void decision_write(struct decision_ring *ring, const struct decision_record *decision);
/* Of all rings the newest one of that id; any thread, any process. False: it is not kept. */
bool decision_find(const struct decision_ring *rings, size_t count, struct slice id,
                   struct decision_record *ret);
