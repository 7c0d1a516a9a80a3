/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memo.h -- what is known of a block of the address map, in one view or those that follow it
 * (follow.h): the PoPs that can be near the best one for clients from there, whatever others wait
 * for, and the scope of the answer. One thread.
 *
 * Of fixed size, 5 MiB as far as it is used; a new row takes the place of an older one.
 * What stands there is known by 64 bits of a hash that nobody outside can aim at.
 */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/ip.h"

struct dns_memo;

enum { DNS_MEMO_PLACES = 7, DNS_MEMO_NO_SCOPE = 255 };

struct dns_memo_row {
    uint16_t places[DNS_MEMO_PLACES]; /* rows of the entry's places, rising */
    uint8_t count;
    uint8_t scope_bits;   /* of 128, where no draw has a part in it; or DNS_MEMO_NO_SCOPE */
    float bound_ms;       /* no other place has a total below, */
    float warm_bound_ms;  /* and none that could hide starts a total below this, */
    uint16_t drift;       /* when its entry's drift was this; */
    uint16_t scope_drift; /* and when the scope was found, which is good for no other */
};
static_assert(sizeof(struct dns_memo_row) == 28);

struct dns_memo *dns_memo_new(void);
void dns_memo_free(struct dns_memo *memo);  /* NULL is allowed */
void dns_memo_clear(struct dns_memo *memo); /* there is another view, which follows none */

/* By an entry's memo_id. NULL: nothing is known; else until the next dns_memo_put(), and the row
 * may be changed. */
struct dns_memo_row *dns_memo_get(struct dns_memo *memo, uint64_t entry,
                                  const struct ip_block *block);
void dns_memo_put(struct dns_memo *memo, uint64_t entry, const struct ip_block *block,
                  const struct dns_memo_row *row);
