/* SPDX-License-Identifier: Apache-2.0 */
/*
 * demand.h -- from where endpoints are asked for, as PoPs report it: a damped rate for each
 * endpoint, PoP and coarse place of clients (contract/asked.h). Not kept: a control that starts
 * anew learns it again. Loop thread only.
 *
 * A PoP that joined is somebody else's machine. It can draw replicas towards places by inventing
 * clients; never to where an endpoint may not be, never more than DEMAND_POP_RATE_MAX of them,
 * never into more than DEMAND_ROWS_MAX places, and not faster than time passes. Of an endpoint it
 * counts for no more than all others together and DEMAND_FLOOR_RATE, so that one alone outweighs
 * nobody. What is told of an endpoint that is not placed there counts as well: a gateway passes
 * such requests on, and where they came from is why the endpoint may have to come there.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "contract/asked.h"
#include "policy/rtt.h"

struct arena;
struct control;
struct hub_endpoint;
struct hub_pop;
struct report;

enum {
    DEMAND_ROWS_MAX = 4096, /* of one PoP; those with the least are forgotten first */
    DEMAND_CELLS_MAX = 128, /* of one endpoint, that placement looks at; those with the most, and */
                            /* the most of each country that none of them is in */
    DEMAND_DAMPED_S = 300,  /* a change has e parts of its effect by then */
    DEMAND_STALE_MS = 20'000,
};
#define DEMAND_POP_RATE_MAX 50'000.0f /* requests a second that a PoP is believed to get */
#define DEMAND_FLOOR_RATE 100.0f      /* and of one endpoint, where nobody else is asked for it */
#define DEMAND_RATE_MIN 0.0005f       /* what is below is forgotten */

struct demand_row {
    uint64_t uid;
    asked_cell cell;
    float rate;    /* requests a second */
    float decided; /* the same when the endpoint was last placed */
};

struct demand {              /* of one PoP; zeroed is empty */
    struct demand_row *rows; /* by uid and cell; from malloc */
    size_t count;
    int64_t at_ms;   /* of the last report; the loop's clock. 0: there was none */
    int64_t upto_ms; /* until when its windows have counted */
};

/* What a report said; endpoints that are asked for otherwise than when they were placed are
 * marked. */
void demand_take(struct control *control, struct hub_pop *pop, const struct report *report);
/* Now and then: what it said fades where it says nothing any more. */
void demand_tick(struct control *control, struct demand *demand);
/* Also what an agent said that is not its PoP's any more. */
void demand_free(struct demand *demand);

struct demand_cell {
    country_number country; /* COUNTRY_UNKNOWN: not known */
    bool located;           /* else: near the PoP that they came to */
    double latitude, longitude;
    struct spot spot;
    float rate;
};

/* Of all PoPs, those with the most first; in the arena. The sum of each country is right, also
 * where not all of its places are among them. `decide`: it is placed by this now. */
const struct demand_cell *demand_of(struct control *control, struct arena *arena,
                                    const struct hub_endpoint *endpoint, bool decide,
                                    size_t *ret_count);
