/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admit.h -- who waits for what, for how long, and where it goes when the world changes. Internal.
 * Loop thread only; on one request's behalf, but for the reviews.
 */
#pragma once

#include <stdbool.h>

#include "gateway/queue.h"

struct flight;
struct gateway_loop;
struct request;
struct revision;
struct revision_side;
struct err;

extern const struct queue_events admit_queue_events; /* data: struct revision_side */

/* Is there any use in reading this body? ERR_OVERLOADED when the queue is full already, or late,
 * ERR_STOPPED, or why the revision does not serve. */
[[nodiscard]] int admit_check(struct request *request, struct err *err);
/* ERR_OVERLOADED: its deadline cannot be met; ERR_DEADLINE: it has passed. */
[[nodiscard]] int admit_deadline(struct request *request, struct err *err);
/* What the replica took for each of `count` requests that it completed by now, of which `first` was
 * given to it first: those of a batch come together, and each has its part. */
uint64_t admit_gap_ns(const struct flight *first, size_t count, int64_t now_ns);
/* Whole seconds until it is worth asking again. */
uint32_t admit_retry_after_s(const struct request *request);
/* What a request that came now would meet here, without a word of it counted. */
struct admit_prospect {
    bool ready;      /* a replica is */
    bool full, late; /* the queue is, also while it starts; its deadline cannot be met */
    float wait_ms,
        finish_ms; /* until a replica has it, and until the answer; 0: not known, or none */
};
void admit_prospect(const struct request *request, struct admit_prospect *ret);
/* It came for a replica that is not ready, and another PoP hides that: the agent hears of it. */
void admit_demand(struct request *request);

/* For how long a replica was asked for and none was ready; 0: none is asked for, or one is. */
float admit_cold_ms(const struct revision *revision);
/* A request has held a place for so long, and gives it back: what scaling goes by. */
void admit_ran(struct revision_side *side, int64_t ns);
/* Waits for the model's description or the arena: body_continue() comes. */
void admit_hold(struct request *request);
/* A start here is thought to be worth waiting for: it waits, unread, and at that time another PoP
 * is looked at (forward_look()). */
[[nodiscard]] int admit_park(struct request *request, int64_t look_ns, struct err *err);
void admit_unpark(struct request *request); /* unread and uncounted, as it came */
void admit_parked(struct request *request); /* what it waits for may be there */
/* It waits no more (answered, closed, or going on). */
void admit_leave(struct request *request);
/* Its replica died before it answered: again, or not. */
void admit_again(struct request *request);

/* The table, or what replicas there are, has changed: every request that waits is looked at. */
void admit_review(struct gateway_loop *gl);
/* A replica became ready, or a model or an arena came, for this revision. */
void admit_continue(struct revision_side *side);
/* Arms the timer that ends the wait. */
void admit_arm(struct request *request);
