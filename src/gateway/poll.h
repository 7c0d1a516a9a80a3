/* SPDX-License-Identifier: Apache-2.0 */
/*
 * poll.h -- what a loop does before it polls: it wakes the replicas that were given something,
 * takes the answers that are there, and either looks again soon (spin.h) or arms the rings, so that
 * replicas wake it. Internal; loop thread.
 */
#pragma once

struct gateway_loop;

void poll_init(struct gateway_loop *gl); /* its loop and gateway are there; frees: sleeper_free() */
