/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/way.h"

#include "fleet/fleet.h"

#define NS_PER_US INT64_C(1'000)
#define NS_PER_S UINT64_C(1'000'000'000)

static uint64_t draw(uint64_t *random)
{
    uint64_t z = *random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Uniform from 0 to `below` - 1; far finer than anybody sees that it is not quite. */
static uint64_t draw_below(uint64_t *random, uint64_t below)
{
    return below ? (uint64_t)((unsigned __int128)draw(random) * below >> 64) : 0;
}

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* How long the link takes to send them. */
static int64_t sending_ns(const struct fleet_link *link, size_t bytes)
{
    if (!link->bandwidth)
        return 0;
    return (int64_t)((unsigned __int128)bytes * NS_PER_S / link->bandwidth);
}

static int64_t stalls_ns(struct way *way, const struct fleet_link *link, size_t bytes,
                         uint64_t *random)
{
    int64_t stall = later(WAY_STALL_NS_MIN, (int64_t)link->rtt_us * NS_PER_US), all = 0;
    size_t segments = (way->segment_bytes + bytes) / WAY_SEGMENT_BYTES;
    way->segment_bytes = (uint32_t)((way->segment_bytes + bytes) % WAY_SEGMENT_BYTES);
    for (size_t i = 0; link->loss_ppm && i < segments; i++)
        if (draw_below(random, 1'000'000) < link->loss_ppm) {
            all += stall;
            way->stalls++;
        }
    return all;
}

int64_t way_pass(struct way *way, const struct fleet_link *link, size_t bytes, int64_t now_ns,
                 uint64_t *random)
{
    int64_t rtt = (int64_t)link->rtt_us * NS_PER_US;
    int64_t begin = later(now_ns, way->free_ns);
    if (way->opening) {
        begin = later(now_ns + rtt, way->free_ns);
        way->opening = false;
    }
    way->free_ns = begin + sending_ns(link, bytes);
    int64_t out = way->free_ns + rtt / 2 +
                  (int64_t)draw_below(random, (uint64_t)link->jitter_us * NS_PER_US + 1);
    /* What was lost holds up what is behind it, by the order. */
    way->last_ns = later(out, way->last_ns) + stalls_ns(way, link, bytes, random);
    return way->last_ns;
}

size_t way_queue_bytes(const struct fleet_link *link)
{
    uint64_t bandwidth = link->bandwidth ? link->bandwidth : WAY_BANDWIDTH_UNSAID;
    unsigned __int128 bytes = (unsigned __int128)bandwidth * link->rtt_us / 1'000'000;
    if (bytes < WAY_QUEUE_BYTES_MIN)
        return WAY_QUEUE_BYTES_MIN;
    return bytes > WAY_QUEUE_BYTES_MAX ? WAY_QUEUE_BYTES_MAX : (size_t)bytes;
}
