/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prices.h -- the price list as the store has it, for those who count costs. On a store's thread.
 */
#pragma once

#include "spec/price_list.h"

struct store;

/* The list that was set; without one, what PoPs cost by their own rows (`pops create --price-cpu`):
 * of those in the first one's currency. Without any its currency is empty. In the arena. */
[[nodiscard]] int prices_load(struct store *store, struct arena *arena, struct price_list *ret,
                              struct err *err);
