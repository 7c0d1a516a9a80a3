/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load.h -- from what PoPs report, about once a second and late, to the wait and the weight that
 * route.h takes, so that no herd forms. Pure, no allocation; one thread at a time for each.
 *
 * A wait that is answered as it is reported makes all clients leave a full PoP at once and come
 * back at once. So the wait here is a price that is moved, not set: it is multiplied by more than
 * 1 while more is asked for than the PoP should answer, by less while less is, and stays where
 * both are in balance: dual ascent, as in congestion control (Kelly, Maulloo, Tan 1998; Low,
 * Lapsley 1999). What a PoP should answer is less than what it can, by a margin that its size
 * needs (square-root staffing: Halfin, Whitt 1981). To it comes the time that those who wait
 * already need, damped, but for as many as chance leaves waiting where all is well: about the
 * square root of the places. Reports late or lost change how soon the balance is found, not where
 * it lies.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* One endpoint at one PoP, since the report before. */
struct load_report {
    float arrivals_per_s; /* asked for, also what was refused, passed on, or gave up */
    float capacity_per_s; /* that it can answer with the replicas that are ready */
    uint32_t places;      /* requests that run at the same time there; 0: no replica is ready */
    uint32_t waiting;     /* now, in its queue */
};

/* All 0: nothing was reported. */
struct load {
    int64_t at_ns; /* of the last report */
    float arrivals_per_s, queue_ms, price_ms;
    float wait_ms; /* what route.h takes; INFINITY without capacity */
    float weight;  /* likewise: room left, in requests a second; never nothing where there is any */
};

/* The last report is never believed beyond these, whatever a PoP says. */
#define LOAD_WAIT_MAX_MS 60'000.0f
#define LOAD_RATE_MAX 1e7f

/* A report that is not later than the last one is ignored: false. */
bool load_learn(struct load *load, const struct load_report *report, int64_t now_ns);

/* How much of what it can answer a PoP of so many places should be asked for, 0 to 1. */
float load_target(uint32_t places);
