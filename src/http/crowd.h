/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crowd.h -- how many connections an address has, over all loops.
 *
 * An IPv6 address stands for its /64: whoever has one has all of them. Asked when a connection
 * comes and when it goes, never for a request, so a lock will do; of addresses that are not counted
 * (Unix sockets; loopback unless told) it is not taken. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct address;
struct crowd;

/* connections_max 0: nothing is counted. */
struct crowd *crowd_new(uint64_t connections_max, bool loopback);
void crowd_free(struct crowd *crowd); /* NULL is allowed */

/* Has it as many as it may have? */
bool crowd_full(struct crowd *crowd, const struct address *peer);
/* False: not counted, and it does not leave. */
bool crowd_enter(struct crowd *crowd, const struct address *peer);
void crowd_leave(struct crowd *crowd, const struct address *peer);
