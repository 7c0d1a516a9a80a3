/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/memo.h"

#include "base/auto.h"
#include "base/map.h"

enum { SETS = 1 << 16, WAYS = 2 };

struct set {             /* the newer first */
    uint64_t tags[WAYS]; /* 0: free */
    struct dns_memo_row rows[WAYS];
};

struct dns_memo {
    uint64_t view; /* counted: a part of what is hashed */
    struct set sets[SETS];
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

static uint64_t tag_of(const struct dns_memo *memo, uint64_t entry, const struct ip_block *block)
{
    struct {
        uint64_t view, entry;
        struct ip ip;
        uint64_t bits;
    } key = { memo->view, entry, block->ip, block->bits };
    uint64_t hash = map_hash((struct slice){ (const char *)&key, sizeof key });
    return hash ? hash : 1;
}

struct dns_memo_row *dns_memo_get(struct dns_memo *memo, uint64_t entry,
                                  const struct ip_block *block)
{
    uint64_t tag = tag_of(memo, entry, block);
    struct set *set = &memo->sets[tag % SETS];
    return set->tags[0] == tag ? &set->rows[0] : set->tags[1] == tag ? &set->rows[1] : NULL;
}

/* The older of its set goes. */
void dns_memo_put(struct dns_memo *memo, uint64_t entry, const struct ip_block *block,
                  const struct dns_memo_row *row)
{
    uint64_t tag = tag_of(memo, entry, block);
    struct set *set = &memo->sets[tag % SETS];
    set->tags[1] = set->tags[0];
    set->rows[1] = set->rows[0];
    set->tags[0] = tag;
    set->rows[0] = *row;
}
