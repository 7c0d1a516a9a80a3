/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rules.h -- residency rules as plain data: what a spec compiles to, the table carries and
 * policy/residency.h decides by, which says what they mean. No pointers, so that they lie in shared
 * memory as they are.
 */
#pragma once

#include <assert.h>
#include <stdint.h>

#include "base/countries.h"

enum { RESIDENCY_RULES_MAX = 64 };

enum residency_scope { RESIDENCY_COUNTRIES, RESIDENCY_ANY, RESIDENCY_SAME_COUNTRY };

struct residency_list {
    uint32_t scope; /* enum residency_scope */
    uint32_t reserved;
    struct countries countries; /* RESIDENCY_COUNTRIES alone; never COUNTRY_UNKNOWN */
};

struct residency_rule {
    struct residency_list clients; /* never RESIDENCY_SAME_COUNTRY */
    struct residency_list process, transit, logs, cache;
};

static_assert(sizeof(struct residency_list) == 96 && sizeof(struct residency_rule) == 480,
              "the layout is that of the table");
