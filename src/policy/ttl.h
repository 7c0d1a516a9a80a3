/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ttl.h -- for how long resolvers may keep an answer: DNS and `simulate` go by it. Pure.
 *
 * Who holds an answer comes to its PoPs until that is over, also when they are dead: those without
 * a second address are elsewhere only then.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct route_choice;

enum {
    TTL_STABLE_S = 20,
    TTL_UNSTABLE_S = 5, /* a PoP of the answer is not known to stay */
};

/* Of an answer that names the PoPs of these choices; `stable` has each PoP: up for long. By what
 * is measured two minutes (health.h, health_calm); a minute of a DNS server's own PoP where nobody
 * measures it. */
uint32_t ttl_of(const struct route_choice *choices, size_t count, const bool *stable);
