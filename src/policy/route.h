/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route.h -- which PoP answers: the score that DNS, gateway, explain and simulate share. Pure, no
 * allocation, any thread.
 *
 * The score is the predicted time to the first byte: round trip + queue wait + service time +
 * (cold) start, over the PoPs that residency, health and capacity allow. PoPs whose score is near
 * the best one's share by weight: which of them a client gets is drawn by its seed (weighted
 * rendezvous hashing), so that one client stays where it is while nothing changes, and many spread.
 * A PoP's part falls to nothing at the edge of what is near, so that a little load moves little.
 *
 * A wait is weighed differently by each client: times a draw of its own with mean 1, small for
 * most and large for a few (half the square of an exponential one). So a wait of 10 ms does not
 * turn away all of a city's clients that have another PoP 9 ms further, and none where it is 11
 * ms: of the first 74 % stay, of the second 77 %. Whoever sets waits (load.h) can therefore find,
 * from reports that are late, the wait that keeps a PoP as full as it should be; with one wait for
 * all, clients leave and come back as a herd. (`perigee simulate` measured it: docs/simulate.md.)
 *
 * A cold PoP whose start another can hide is worth what it will be. Who is sent there is passed on
 * by its gateway to a warm one while a replica starts, which by that alone does: an endpoint at
 * zero starts where it is asked for, and nowhere else. So its start costs as much as a PoP must be
 * nearer to be worth a replica at all (ROUTE_HIDDEN_MS, place.h), and the run of who answers.
 * Counted whole, a PoP far away that somebody woke first would keep all clients for as long as they
 * ask.
 *
 * Arrays lie one figure beside the other (not one struct a PoP), so that a choice among hundreds is
 * a few vector instructions a PoP.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/countries.h"
#include "policy/place.h"
#include "policy/rtt.h"

enum { ROUTE_POPS_MAX = 1024, ROUTE_CHOICES_MAX = 8 };

enum route_health {
    ROUTE_UP,
    ROUTE_DRAINING, /* finishes what it has; nothing new while another can */
    ROUTE_DOWN,
};

/* All PoPs of a fleet; `count` of each. */
struct route_pops {
    size_t count;
    const float *x, *y, *z; /* struct spot, taken apart; all 0: place not known */
    const uint64_t *key; /* a number of its own that stays when others come and go, as a hash of its
                          * name, so that others' clients stay; NULL: its index */
    const country_number *country;
    const uint8_t *health; /* enum route_health */
};

/* What one endpoint has at the PoPs where it is placed; `count` of each, by rising `pop`. */
struct route_endpoint {
    size_t count;
    const uint32_t *pop;  /* index into struct route_pops */
    const float *wait_ms; /* expected wait of one more request, damped; INFINITY: no room */
    const float *service_ms;
    const float *start_ms; /* until it can serve: 0 where a replica is ready; INFINITY: never */
    const float *weight;   /* share among near-equals: room left, in requests a second or so */
    /* Its gateway has the endpoint, and may pass on who comes while a replica starts: a start is
     * hidden by any PoP that is up, permitted, ready and has room. NULL: nowhere, as it is for a
     * gateway that passes on (one hop). */
    const bool *hides;
};
#define ROUTE_HIDDEN_MS PLACE_TAKE_MS

/* How long a start is thought to take where nobody has said: as long as the endpoint's last one
 * here, or the longest of the last ones elsewhere, whichever is more (0: none was seen);
 * ROUTE_START_MS without either. DNS, gateways and explain all think so. */
#define ROUTE_START_MS 3000.0f
float route_start_ms(float here_ms, float elsewhere_ms);

struct route_query {
    struct spot client;
    bool client_known;               /* else distance does not count, but what was measured */
    const float *rtt_ms;             /* measured, for each PoP of route_pops, NAN: not; or NULL */
    const struct countries *process; /* where it may be processed; NULL: anywhere */
    uint64_t seed;                   /* of the client: its prefix, or its connection */
    /* What the one who asks has in hand, as the total of waiting where it is: all below it count
     * as near, so that several full PoPs do not pass what they cannot serve to one and the same.
     * 0: no. */
    float enough_ms;
};

/* Of several, the one that an operator should hear: residency before all else. */
enum route_exclusion {
    ROUTE_ALLOWED,
    ROUTE_NOT_PLACED,
    ROUTE_NOT_PERMITTED, /* residency */
    ROUTE_IS_DOWN,
    ROUTE_IS_DRAINING,
    ROUTE_NO_ROOM,
};

/* NONE: its place or the client's is not known; counted as ROUTE_RTT_FAR_MS, which is as far as two
 * places are as a mean (a quarter of the way round), or as 0 where distance does not count. */
enum route_rtt_source { ROUTE_RTT_MEASURED, ROUTE_RTT_MODEL, ROUTE_RTT_NONE };
#define ROUTE_RTT_FAR_MS 171.5f

struct route_choice {
    uint32_t pop;
    float rtt_ms, wait_ms, service_ms, start_ms; /* of ROUTE_NOT_PLACED the round trip alone */
    float felt_ms;                               /* the wait as this client weighs it */
    float start_felt_ms; /* all of the start, or less where another PoP hides it */
    float total_ms; /* round trip, felt wait, service, felt start; INFINITY: it cannot say when */
    float share;    /* of clients with these totals, 0 to 1, as far as it is near */
    uint8_t exclusion;  /* enum route_exclusion */
    uint8_t rtt_source; /* enum route_rtt_source */
    bool near;          /* as good as the best: may be answered beside it */
};

/* Those that the client should try: of the near-equal ones the drawn one, then all others, the
 * best first, at most `max` (and ROUTE_CHOICES_MAX). 0: none is allowed (route_explain() says why).
 * Draining PoPs come only where there is no other, full ones where there is no draining one either;
 * `exclusion` says so. */
size_t route_choose(const struct route_pops *pops, const struct route_endpoint *endpoint,
                    const struct route_query *query, struct route_choice *ret_choices, size_t max);

/* One row for each PoP of `pops`, in their order, each with what it would take or why not. The
 * figures are those of route_choose(), to the bit. */
void route_explain(const struct route_pops *pops, const struct route_endpoint *endpoint,
                   const struct route_query *query, struct route_choice *ret_rows);
/* Index of the place by whose run hidden starts are counted, whatever others wait for; the count of
 * places: no start is hidden. Of places that leave it out the choice may be another. */
size_t route_hider(const struct route_pops *pops, const struct route_endpoint *endpoint,
                   const struct route_query *query);
/* For qsort() of such rows: what is allowed first, then by total, then as PoPs stand. */
int route_compare(const void *a, const void *b);
const char *route_exclusion_text(enum route_exclusion exclusion);
const char *route_rtt_source_text(enum route_rtt_source source);

/* A total below this is near `best_ms`: within 1 ms or 1 %, whichever is more. */
float route_near_ms(float best_ms);
