/* SPDX-License-Identifier: Apache-2.0 */
/*
 * way.h -- one direction of one connection over a link: when bytes that go in now come out. Pure:
 * no clock, no randomness but what it is given; any thread, one at a time per way.
 *
 *   - A byte takes half the round trip, and up to `jitter` more; never does one overtake another.
 *   - Bytes go in one behind the other at the link's bandwidth.
 *   - The first bytes of the side that opened the connection are held one round trip more: that is
 *     the handshake, which a relay's kernel has answered at once.
 *   - Of each 1460 bytes, with the link's probability, one segment is lost: this and all behind it
 *     wait max(200 ms, RTT) longer, the least retransmission timeout of Linux.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fleet_link;

enum { WAY_SEGMENT_BYTES = 1460 };
#define WAY_STALL_NS_MIN INT64_C(200'000'000)

/* What a link without a bandwidth is taken to have where a queue is bounded by it. */
#define WAY_BANDWIDTH_UNSAID UINT64_C(125'000'000)
#define WAY_QUEUE_BYTES_MIN ((size_t)64 << 10)
#define WAY_QUEUE_BYTES_MAX ((size_t)8 << 20)

struct way {                /* zeroed but for `opening` */
    bool opening;           /* the first bytes pay for the handshake */
    int64_t free_ns;        /* when the link has sent what went in before */
    int64_t last_ns;        /* when the last of it comes out */
    uint32_t segment_bytes; /* of a segment that is not full yet */
    uint64_t stalls;        /* ever */
};

/* When `bytes` that go in at `now_ns` are all out; 0 bytes: the end of the stream. `random` is
 * splitmix64's state. */
int64_t way_pass(struct way *way, const struct fleet_link *link, size_t bytes, int64_t now_ns,
                 uint64_t *random);
/* How much may be under way: bandwidth times round trip, within the bounds above. */
size_t way_queue_bytes(const struct fleet_link *link);
