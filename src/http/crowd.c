/* SPDX-License-Identifier: Apache-2.0 */
#include "http/crowd.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#include "base/auto.h"
#include "base/map.h"
#include "io/address.h"

struct crowd {
    pthread_mutex_t lock;
    struct map counts; /* key_of() -> the count, as a pointer; one that left has no entry */
    uint64_t connections_max;
    bool loopback;
};

struct crowd *crowd_new(uint64_t connections_max, bool loopback)
{
    struct crowd *crowd = mem_zalloc(sizeof *crowd);
    pthread_mutex_init(&crowd->lock, NULL);
    crowd->connections_max = connections_max;
    crowd->loopback = loopback;
    return crowd;
}

void crowd_free(struct crowd *crowd)
{
    if (!crowd)
        return;
    map_deinit(&crowd->counts);
    pthread_mutex_destroy(&crowd->lock);
    free(crowd);
}

static bool counted(const struct crowd *crowd, const struct address *peer)
{
    if (!crowd->connections_max || (peer->kind != ADDRESS_IP4 && peer->kind != ADDRESS_IP6))
        return false;
    return crowd->loopback || !address_loopback(peer);
}

/* IPv4 where IPv6 has prefixes that nobody can have (0:1::/32). */
static uint64_t key_of(const struct address *peer)
{
    uint64_t key = 0;
    size_t size = peer->kind == ADDRESS_IP4 ? 4 : 8;
    for (size_t i = 0; i < size; i++)
        key = key << 8 | peer->ip[i];
    return peer->kind == ADDRESS_IP4 ? key | UINT64_C(1) << 32 : key;
}

static uint64_t count_get(const struct crowd *crowd, uint64_t key)
{
    return (uint64_t)(uintptr_t)map_get_u64(&crowd->counts, key);
}

static void count_set(struct crowd *crowd, uint64_t key, uint64_t count)
{
    if (count)
        (void)map_put_u64(&crowd->counts, key, (void *)(uintptr_t)count);
    else
        (void)map_remove_u64(&crowd->counts, key);
}

bool crowd_full(struct crowd *crowd, const struct address *peer)
{
    if (!counted(crowd, peer))
        return false;
    pthread_mutex_lock(&crowd->lock);
    bool full = count_get(crowd, key_of(peer)) >= crowd->connections_max;
    pthread_mutex_unlock(&crowd->lock);
    return full;
}

bool crowd_enter(struct crowd *crowd, const struct address *peer)
{
    uint64_t key = key_of(peer);
    if (!counted(crowd, peer))
        return false;
    pthread_mutex_lock(&crowd->lock);
    count_set(crowd, key, count_get(crowd, key) + 1);
    pthread_mutex_unlock(&crowd->lock);
    return true;
}

void crowd_leave(struct crowd *crowd, const struct address *peer)
{
    uint64_t key = key_of(peer);
    pthread_mutex_lock(&crowd->lock);
    assert(count_get(crowd, key) > 0);
    count_set(crowd, key, count_get(crowd, key) - 1);
    pthread_mutex_unlock(&crowd->lock);
}
