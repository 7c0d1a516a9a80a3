/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memo.h -- what was chosen before for a block of the address map, in one view: the one PoP that is
 * best from there, and over which prefix. Where a client's draw has a part in it nothing is kept.
 * One thread.
 *
 * Of fixed size, 4 MiB as far as it is used; a new row takes the place of whichever has its slot.
 * What stands there is known by 64 bits of a hash that nobody outside can aim at.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/ip.h"

struct dns_entry;
struct dns_memo;

struct dns_memo_row {
    uint32_t pop;
    uint32_t scope_bits; /* of 128 */
};

struct dns_memo *dns_memo_new(void);
void dns_memo_free(struct dns_memo *memo);  /* NULL is allowed */
void dns_memo_clear(struct dns_memo *memo); /* there is another view */

/* `memo` NULL: nothing is kept. */
bool dns_memo_get(const struct dns_memo *memo, const struct dns_entry *entry,
                  const struct ip_block *block, struct dns_memo_row *ret);
void dns_memo_put(struct dns_memo *memo, const struct dns_entry *entry,
                  const struct ip_block *block, struct dns_memo_row row);
