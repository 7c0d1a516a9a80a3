/* SPDX-License-Identifier: Apache-2.0 */
/*
 * young.h -- which endpoints have been in this server's tables for so short a time that PoPs may
 * not have been asked since: what they say nothing of is then not known, rather than not there. One
 * thread. Times are the loop's, in ns.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"

struct table_head;

/* An agent hears of it by control's watch, and is asked once a second. */
#define DNS_YOUNG_NS INT64_C(2'000'000'000)

/* All 0: nothing is known yet. */
struct dns_young {
    struct map first; /* of each endpoint of the table: when it was first in one */
    bool begun;       /* what the first table has may be old */
    int64_t until_ns; /* none is young from then on; 0: none was */
};

void dns_young_deinit(struct dns_young *young);
/* `table` is checked, and the newest from here on. */
void dns_young_table(struct dns_young *young, const struct table_head *table, int64_t now_ns);
bool dns_young_is(const struct dns_young *young, uint64_t endpoint, int64_t now_ns);
