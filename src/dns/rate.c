/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/rate.h"

#include "base/auto.h"
#include "base/map.h"

enum { SLOTS = 1 << 16, PREFIX_4 = 24, PREFIX_6 = 56 };

#define EACH_NS (INT64_C(1'000'000'000) / DNS_RATE_PER_S)
#define AHEAD_NS (EACH_NS * DNS_RATE_BURST)

struct dns_rate {
    int64_t free_ns[SLOTS]; /* when the bucket is empty again */
};

struct dns_rate *dns_rate_new(void)
{
    return mem_zalloc(sizeof(struct dns_rate));
}

void dns_rate_free(struct dns_rate *rate)
{
    free(rate);
}

bool dns_rate_pass(struct dns_rate *rate, const struct ip *ip, int64_t now_ns)
{
    struct ip prefix = ip_cut(ip, ip_is4(ip) ? IP4_BITS + PREFIX_4 : PREFIX_6);
    uint64_t hash = map_hash((struct slice){ (const char *)prefix.bytes, sizeof prefix.bytes });
    int64_t *free_ns = &rate->free_ns[hash % SLOTS];
    int64_t next = (*free_ns > now_ns ? *free_ns : now_ns) + EACH_NS;
    if (next - now_ns > AHEAD_NS)
        return false; /* what is above the rate does not lengthen it */
    *free_ns = next;
    return true;
}
