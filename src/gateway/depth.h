/* SPDX-License-Identifier: Apache-2.0 */
/*
 * depth.h -- how many requests of an endpoint may wait, over all loops: the spec's queue.depth, and
 * bytes of inputs. Internal; loop thread, on one request's behalf.
 *
 * All that wait count against a batch request, interactive ones alone against an interactive one:
 * one that makes the queue too long has the newest batch request that waits, on any loop, answered
 * 503. On another loop that comes a moment later, so that at worst as many batch requests as may
 * wait stand beside as many interactive ones.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct err;
struct request;

/* Would depth_enter() refuse it, as far as its class and the number of others go? */
bool depth_full(const struct request *request);
/* Counts it in. ERR_OVERLOADED: there is no room. Others may have been answered when it returns. */
[[nodiscard]] int depth_enter(struct request *request, uint64_t bytes, struct err *err);
void depth_leave(struct request *request); /* it was counted in */
