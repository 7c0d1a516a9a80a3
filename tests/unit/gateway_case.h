/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway_case.h -- a test's usual beginning and end in a gateway's world: a table, one replica of
 * its first endpoint (id 7), and an agent that has heard of it. Fails the test where it must.
 */
#pragma once

#include "gateway_world.h"

/* An endpoint as it comes: `digits`, two at once, four that wait. */
extern const struct world_endpoint case_digits;
#define CASE_ROW                                                                                   \
    "{\"inputs\":[{\"name\":\"image\",\"shape\":[1,4],\"datatype\":\"FP32\",\"data\":[0,1,7,2]}]}"

/* What START says (flags, spin_us) is in `world`; the rest of it is zero. */
void case_begin(struct world *world, struct fake *fake, const struct world_endpoint *endpoints,
                size_t count, enum fake_mode mode);
void case_end(struct world *world, struct fake *fake); /* one that runs is freed */
void case_closed(struct world *world);                 /* the last of it: the gateway has ended */
/* Fails with the whole answer in the message. */
void case_answer(const struct reply *reply, int status, const char *part);
struct reply world_infer(struct world *world, const char *headers, const char *body);
/* What PEER_HINTS says comes through: 103 without what belongs to one connection, then the 200. */
void case_hinted(struct world *world, const char *target);
/* The keys that this PoP has with those: 32 times the first letter of the other one's name. */
void world_keys(struct world *world, const char *const *pops, size_t count);
