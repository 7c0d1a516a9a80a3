/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forward.h -- a request passed on to the gateway of another PoP, and its answer passed back.
 * Internal; loop thread only.
 *
 * Decided from the head alone, before the body is read: where this PoP may or can not serve it
 * well, the best permitted one does (policy/route.h). Body and answer are streamed, each held back
 * by whoever takes it slowly. A PoP that fails before the first byte of its answer is replaced by
 * the next one, or by this one, while all that came of the body is still held. One hop alone: what
 * came by one is served here, or refused.
 *
 *   forward_choose.c   where to
 *   forward_peers.c    what this loop knows of the others
 *   forward_head.c     which headers go along
 *   forward_stream.c   the bytes
 *   forward.c          one request's beginning, its time, and its end
 *   forward_try.c      its way from try to try
 *   forwards.c         what a loop has for all of them
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/slice.h"

struct arena;
struct err;
struct forward;
struct forwards;
struct gateway_loop;
struct relay;
struct request;

/* X(name): why a request is passed on; the metric's label. */
#define FORWARD_REASONS(X) X(away) X(place) X(cold) X(overloaded) X(draining)
enum forward_reason {
#define FORWARD_REASON(name) FORWARD_##name,
    FORWARD_REASONS(FORWARD_REASON)
#undef FORWARD_REASON
};

/* What a loop has for it: connections, peers, the retry budget. */
struct forwards *forwards_new(struct gateway_loop *gl);
/* NULL is allowed. The loop's server is gone by then, and with it every request. */
void forwards_free(struct forwards *forwards);
void forwards_forget(struct forwards *forwards); /* the loop's table, as it has another one */
/* It has another one: what may not be where it is by that goes elsewhere, or is ended. */
void forwards_table(struct gateway_loop *gl);
/* Once a second, and when the mesh has changed: those whose PoP is down go elsewhere. */
void forwards_review(struct gateway_loop *gl);

/* Its revision is known, nothing of its body was read. 1: it is passed on; 0: it is to be served
 * here. */
[[nodiscard]] int forward_begin(struct request *request, struct err *err);
/* Of one that is parked: it goes to another PoP that is better by now, or waits on. */
void forward_look(struct request *request);
bool forward_placed(const struct request *request); /* at another PoP, as the table has it */
/* Of one that must not wait here, whatever comes: not placed, or not permitted. 1, or negative. */
[[nodiscard]] int forward_away(struct request *request, enum forward_reason reason,
                               struct err *err);

/* What a hop's MAC says it is about: "project/name", or empty. */
struct slice forward_subject(struct arena *arena, const struct request *request);
/* Did another PoP pass it on? Its Perigee-Hop is read, and request->hop set. ERR_BAD_INPUT: not
 * signed by one, or for another PoP; the connection ends with the answer. */
[[nodiscard]] int forward_hop_read(struct request *request, struct slice header, struct err *err);

/* Of a request with `forward`: the exchange's callbacks, and its end. */
void forward_space(struct request *request, struct iovec *ret_space);
void forward_filled(struct request *request, size_t bytes);
void forward_body_ended(struct request *request, const struct err *err);
void forward_replay(
    struct request *request); /* of one that is served here after all: body.c has room */
/* What is held of its body goes to another relay of the same exchange; and it is with no other PoP
 * any more. */
void forward_give(struct request *request, struct relay *to);
const char *forward_pop(const struct request *request); /* who has it, or had it last */
void forward_cancel(struct request *request);           /* it was answered otherwise */
void forward_closed(struct request *request);           /* the exchange has ended */
