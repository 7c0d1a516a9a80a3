/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dispatch.h -- requests in replicas: submitted, completed, timed out, lost. Internal; loop thread.
 *
 * A flight is one ticket with what must stay while a replica may work on it: the block with the
 * inputs and the answer slot. It outlives its request when the client goes or the time is up.
 */
#pragma once

#include "base/env.h"
#include "replica/process/lane.h"

struct block;
struct gateway_loop;
struct request;
struct revision_side;
struct table;

struct flight {
    struct lane_ticket ticket;
    struct lane *lane;
    struct revision_side *side; /* whose place and arena */
    struct gateway_loop *gl;
    struct table *table; /* a reference: keeps side alive */
    struct block *block;
    struct request *request; /* NULL: nobody waits for the answer */
    struct env_timer kill;
    struct list link; /* in lane->flights; in gl->flights when free */
    uint32_t slot;
    uint32_t turns;   /* runs of other lanes that may come before its own, and that one */
    int64_t first_ns; /* since when nothing is before it in its lane; 0: something is */
    int64_t submitted_ns, timeout_ns;
    uint64_t beside;   /* what the replica had completed of the other lane set, */
    int64_t beside_ns; /* when more of it was last seen; 0: not yet */
};

/* The request has a place and slot on `lane`: out it goes. */
void dispatch_start(struct request *request, struct lane *lane, uint32_t slot);
/* Wakes the replicas that were given something since. Called before the loop polls, and sooner for
 * what has waited DISPATCH_WAKE_NS: one wake-up serves all that a pass of the loop submits. */
void dispatch_wake(struct gateway_loop *gl);
void dispatch_wake_due(struct gateway_loop *gl, int64_t now_ns);
/* Takes every completion that is there. */
void dispatch_completions(struct gateway_loop *gl, struct lane *lane);
/* The replica was reaped: tickets come back, requests are tried again. */
void dispatch_abandon(struct gateway_loop *gl, struct lane *lane);
/* The client does not wait any more. */
void dispatch_forget(struct request *request);
void dispatch_free(struct gateway_loop *gl); /* what is kept for reuse */
