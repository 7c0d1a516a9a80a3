/* SPDX-License-Identifier: Apache-2.0 */
/*
 * price.h -- use and prices to cost, in whole numbers: a sum of costs is exact, and rounded once,
 * when it is shown, to a millionth of the currency, half of one away from zero. A sum that a
 * 128-bit number does not hold stays at the largest.
 *
 * Pure; any thread.
 */
#pragma once

#include <stdint.h>

#include "base/figures.h"
#include "spec/price_list.h"

__extension__ typedef __int128 price_exact; /* 10^-18 / 2^20 / 3600 of the currency */

struct cost {
    price_exact busy, idle, memory, requests; /* idle: with what starts used */
};

/* What holds at that time and PoP: the newest price of its own that has begun by then, else the
 * newest for all; NULL: none. */
const struct price_row *price_find(const struct price_list *list, struct slice pop, int64_t at_s);
/* When the price next changes anywhere after that; INT64_MAX: never. */
int64_t price_next(const struct price_list *list, int64_t after_s);

void cost_add(struct cost *cost, const struct price *price, const struct figures *figures);
void cost_sum(struct cost *sum, const struct cost *more);
price_exact cost_total(const struct cost *cost);
int64_t price_micro(price_exact exact); /* rounded */

/* What an endpoint would have cost, had `replicas` of it been there for so long: requests as they
 * were, and each replica the CPU time of a warm idle one and the memory that one had here, at what
 * that cost here. So it is of what was measured, and 0 where nothing was. Starts are saved. */
price_exact price_always_on(const struct cost *cost, const struct figures *figures,
                            uint64_t replicas, uint64_t seconds);
