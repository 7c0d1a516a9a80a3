/* SPDX-License-Identifier: Apache-2.0 */
/*
 * granted.h -- what a PoP may say. A PoP that has joined is somebody else's machine: of what it
 * reports only that counts which belongs to what control has given it, now or lately.
 *
 * Who comes by the socket in the home may do all, and is not asked. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct control;
struct hub_endpoint;
struct hub_place;
struct hub_pop;
struct report;
struct report_endpoint;

enum {
    GRANTED_LATELY_MS = 900'000, /* what runs out after it was taken away; while the PoP is heard */
    GRANTED_REPLICAS_MAX = 1024, /* shown of one endpoint at one PoP */
    GRANTED_EVENTS_MAX = 5000,   /* and deaths, of one PoP at once; then so many a second: */
    GRANTED_EVENTS_A_SECOND = 50,
    GRANTED_REPORTS_MAX = 100, /* of one PoP at once; then so many a second */
    GRANTED_REPORTS_A_SECOND = 20,
    GRANTED_READY_MS = 10'000,   /* between two events of one PoP that one revision is ready, */
    GRANTED_READY_AT_ONCE = 5,   /* of which so many may come together */
    GRANTED_REFUSAL_MS = 10'000, /* between two events of requests refused, of one kind */
    GRANTED_REFUSAL_OLD_MS = 3'600'000, /* they are not older; what says so is taken to be so old */
    GRANTED_REFUSAL_BYTES = 64,
};

/* What it said of the endpoint in its last report; NULL: nothing. */
const struct report_endpoint *granted_said(const struct hub_endpoint *endpoint,
                                           const struct hub_pop *pop);
/* What it may have there at most: its part of scale.max. */
uint64_t granted_room(const struct hub_endpoint *endpoint, const struct hub_place *place);
/* How many it wants there now, as it says, within that; as placed, before it has said so. */
uint64_t granted_wanted(const struct hub_endpoint *endpoint, const struct hub_place *place);
/* How many of those that are ready there count. */
uint64_t granted_most(const struct hub_endpoint *endpoint, const struct hub_pop *pop);
/* Replicas that the PoP is placed with; 0: none. */
uint32_t granted_replicas(const struct hub_endpoint *endpoint, const struct hub_pop *pop);
/* It is placed there no more: for a while there is something to say of it all the same. */
void granted_leave(struct control *control, struct hub_pop *pop, uint64_t uid);
/* Now and then: forgets what is no longer lately. */
void granted_tick(struct control *control, struct hub_pop *pop);

/* One more thing of its that becomes an event. Those are kept of all PoPs together: one that tells
 * without end would drive out the others'. False: it has told its share. */
bool granted_share(struct control *control, struct hub_pop *pop);

/* One more report. False: it reports too often. */
bool granted_report(struct control *control, struct hub_pop *pop);
/* It says of a revision that it is ready, which was not. False: that is no event any more, as it
 * was ready and not ready in turn too often. */
bool granted_ready(struct control *control, struct hub_pop *pop, uint64_t uid, uint64_t revision);

/* Takes out of the report what its PoP may not say: endpoints and replicas that were not given to
 * it, revisions that there are not, models of either; says the same twice. Items are marked as
 * refused, since they are to be acknowledged. Returns how many things were left out, without what
 * is of endpoints that there are no more: it was on its way when they were deleted. */
uint64_t granted_trim(struct control *control, struct hub_pop *pop, struct report *report);
