/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/memo.h"

#include "base/auto.h"
#include "base/map.h"

enum { SLOTS = 1 << 18 };

struct slot {
    uint64_t tag; /* 0: free */
    struct dns_memo_row row;
};

struct dns_memo {
    uint64_t view; /* counted: a part of what is hashed */
    struct slot slots[SLOTS];
};

struct dns_memo *dns_memo_new(void)
{
    return mem_zalloc(sizeof(struct dns_memo));
}

void dns_memo_free(struct dns_memo *memo)
{
    free(memo);
}

void dns_memo_clear(struct dns_memo *memo)
{
    memo->view++;
}

static uint64_t tag_of(const struct dns_memo *memo, const struct dns_entry *entry,
                       const struct ip_block *block)
{
    struct {
        uint64_t view;
        const struct dns_entry *entry;
        struct ip ip;
        uint64_t bits;
    } key = { memo->view, entry, block->ip, block->bits };
    uint64_t hash = map_hash((struct slice){ (const char *)&key, sizeof key });
    return hash ? hash : 1;
}

bool dns_memo_get(const struct dns_memo *memo, const struct dns_entry *entry,
                  const struct ip_block *block, struct dns_memo_row *ret)
{
    if (!memo)
        return false;
    uint64_t tag = tag_of(memo, entry, block);
    const struct slot *slot = &memo->slots[tag % SLOTS];
    if (slot->tag != tag)
        return false;
    *ret = slot->row;
    return true;
}

void dns_memo_put(struct dns_memo *memo, const struct dns_entry *entry,
                  const struct ip_block *block, struct dns_memo_row row)
{
    if (!memo)
        return;
    uint64_t tag = tag_of(memo, entry, block);
    memo->slots[tag % SLOTS] = (struct slot){ tag, row };
}
