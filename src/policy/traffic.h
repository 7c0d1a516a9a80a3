/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traffic.h -- which revision serves a request, by the endpoint's shares.
 *
 * One weighted draw for all: each revision draws a number from the request's point and its own
 * name, and the highest, weighed, wins (weighted rendezvous hashing; Schindelhauer and Schomaker,
 * "Weighted distributed hash tables", 2005). A random point gives each its share; the point of an
 * address gives the same revision again, and when a weight changes, or a revision goes or comes
 * back, only those requests move that have to. The same in every process. Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/ip.h"

enum { TRAFFIC_SHARES_MAX = 4, TRAFFIC_NONE = -1 };

struct traffic_share {
    uint32_t revision; /* number */
    uint32_t weight;   /* 0: nothing, whatever the others have */
    bool ready;        /* it has a replica that can take one; else its share is the others' */
};

/* Index of the one that serves; TRAFFIC_NONE: none of them is ready and has a weight. */
int traffic_choose(const struct traffic_share *shares, size_t count, uint64_t point);

/* The point of a client of an endpoint. An IPv6 address counts by its first 64 bits, within which
 * one machine changes its own. */
uint64_t traffic_point(uint64_t endpoint_uid, const struct ip *client);

/* What the share is of all, in ppm, were all ready. */
uint32_t traffic_ppm(const struct traffic_share *shares, size_t count, size_t at);

/* Replicas that a share needs of `set`, which carries all the load: rounded up, one at least. */
uint32_t traffic_replicas(const struct traffic_share *shares, size_t count, size_t at,
                          uint32_t set);
