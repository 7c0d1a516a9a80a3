/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/traffic.h"

#include <math.h>
#include <string.h>

#include "base/map.h"

/* A bijection that mixes every bit into every other (Steele, Lea, Flood: SplitMix64, 2014). */
static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* In (0, 1). */
static double draw(uint64_t point, uint32_t revision)
{
    uint64_t bits = mix(mix(point) ^ mix(revision * UINT64_C(0x9e3779b97f4a7c15)));
    return ((double)(bits >> 11) + 0.5) * 0x1p-53;
}

int traffic_choose(const struct traffic_share *shares, size_t count, uint64_t point)
{
    int best = TRAFFIC_NONE;
    double most = 0;

    for (size_t i = 0; i < count; i++) {
        if (!shares[i].ready || shares[i].weight == 0)
            continue;
        double score = shares[i].weight / -log(draw(point, shares[i].revision));
        if (best == TRAFFIC_NONE || score > most) {
            best = (int)i;
            most = score;
        }
    }
    return best;
}

uint64_t traffic_point(uint64_t endpoint_uid, const struct ip *client)
{
    static const uint64_t key[2] = { UINT64_C(0x5065726967656553), UINT64_C(0x7469636b79207631) };
    char bytes[sizeof endpoint_uid + sizeof client->bytes];
    size_t size = ip_is4(client) ? sizeof client->bytes : sizeof client->bytes / 2;

    memcpy(bytes, &endpoint_uid, sizeof endpoint_uid);
    memcpy(bytes + sizeof endpoint_uid, client->bytes, size);
    return map_hash_keyed(key, (struct slice){ bytes, sizeof endpoint_uid + size });
}

static uint64_t sum(const struct traffic_share *shares, size_t count)
{
    uint64_t all = 0;

    for (size_t i = 0; i < count; i++)
        all += shares[i].weight;
    return all;
}

uint32_t traffic_ppm(const struct traffic_share *shares, size_t count, size_t at)
{
    uint64_t all = sum(shares, count);

    return all ? (uint32_t)((shares[at].weight * UINT64_C(1'000'000) + all / 2) / all) : 0;
}

uint32_t traffic_replicas(const struct traffic_share *shares, size_t count, size_t at, uint32_t set)
{
    uint64_t all = sum(shares, count);

    if (all == 0 || shares[at].weight == 0 || set == 0)
        return 0;
    return (uint32_t)((shares[at].weight * (uint64_t)set + all - 1) / all);
}
