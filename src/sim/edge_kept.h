/* SPDX-License-Identifier: Apache-2.0 */
/*
 * edge_kept.h -- resolvers between clients and our DNS: each keeps an answer for the TTL that it
 * came with (policy/ttl.h), and gives it to all of its clients, dead PoPs and full ones with it.
 * Inside sim/; one thread.
 *
 * Each city has `options.resolvers` of them, and its clients are divided among them evenly. The
 * draw is that of a resolver: no client subnet is sent. When the first request comes a resolver has
 * had its answer for a while already, so that not all of them ask again at the same moment.
 */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/route.h"

struct edge_request;
struct edge_state;

enum {
    EDGE_ANSWERS_MAX = 4, /* addresses in one answer, as of DNS */
    EDGE_PREFIXES = 256,  /* of each city's clients: seeds of choice */
};

struct edge_kept {
    double until; /* seconds */
    uint16_t sites[EDGE_ANSWERS_MAX];
    uint8_t count; /* 0: it has never asked */
};
static_assert(sizeof(struct edge_kept) == 24);

/* What belongs to a run: on the heap, since it is much. */
void edge_kept_begin(struct edge_state *state);
void edge_kept_end(struct edge_state *state);

/* Whose answer a request goes by; NULL: it has one of its own. */
struct edge_kept *edge_kept_of(const struct edge_state *state, const struct edge_request *request);
/* Of the client's prefix, or of its resolver. */
uint64_t edge_kept_seed(const struct edge_state *state, const struct edge_request *request);
/* The answer that is still good; 0: none. */
size_t edge_kept_get(const struct edge_kept *kept, double at,
                     uint32_t ret[static EDGE_ANSWERS_MAX]);
/* That was asked for by this request, and came at once. */
void edge_kept_put(const struct edge_state *state, const struct edge_request *request,
                   struct edge_kept *kept, const struct route_choice *choices, size_t count);
