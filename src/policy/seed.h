/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seed.h -- the numbers that route.h's draws go by: the same in DNS, gateway and explain, and after
 * each start, so that a client stays where it is. Pure, any thread.
 */
#pragma once

#include <stdint.h>

#include "base/ip.h"
#include "base/slice.h"

enum { SEED_BITS_4 = 24, SEED_BITS_6 = 48 }; /* clients of one such prefix are drawn together */

uint64_t seed_of_pop(struct slice name); /* route_pops.key */
/* How many leading bits of an address (of 128) the draw goes by. */
unsigned seed_bits(const struct ip *ip);
uint64_t seed_of_prefix(const struct ip *prefix); /* route_query.seed; cut by the caller */
