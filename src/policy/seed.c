/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/seed.h"

#include "base/map.h"

/* Not that of map_hash(), which is another one in each process. */
uint64_t seed_of_pop(struct slice name)
{
    static const uint64_t key[2] = { UINT64_C(0x5065726967656550), UINT64_C(0x6f50206b65792031) };
    return map_hash_keyed(key, name);
}

unsigned seed_bits(const struct ip *ip)
{
    return ip_is4(ip) ? IP4_BITS + SEED_BITS_4 : SEED_BITS_6;
}

uint64_t seed_of_prefix(const struct ip *prefix)
{
    static const uint64_t key[2] = { UINT64_C(0x5065726967656543), UINT64_C(0x6c69656e7473656c) };
    return map_hash_keyed(key, (struct slice){ (const char *)prefix->bytes, sizeof prefix->bytes });
}
