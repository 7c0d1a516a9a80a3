/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

#include <assert.h>
#include <pthread.h>
#include <sys/random.h>

#include "base/auto.h"

/*
 * Entries lie densely in the order they came; slots (open addressing, linear) hold their numbers.
 * A removed entry stays as a hole that lookups walk past; holes go when the slots are made anew,
 * which only put does, so that a walk may remove.
 */

static uint64_t process_key[2];
static pthread_once_t process_key_once = PTHREAD_ONCE_INIT;

static void process_key_draw(void)
{
    char *at = (char *)process_key;
    size_t have = 0;

    while (have < sizeof process_key) {
        ssize_t got = getrandom(at + have, sizeof process_key - have, 0);
        assert(got > 0 || have == 0);
        if (got <= 0) {
            /* No generator in this sandbox: addresses are what is left to differ. */
            process_key[0] = (uint64_t)(uintptr_t)&have;
            process_key[1] = (uint64_t)(uintptr_t)&process_key;
            return;
        }
        have += (size_t)got;
    }
}

static inline uint64_t rotate(uint64_t value, unsigned by)
{
    return value << by | value >> (64 - by);
}

struct sip {
    uint64_t v0, v1, v2, v3;
};

static inline void sip_round(struct sip *s)
{
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = rotate(s->v1, 13) ^ s->v0;
    s->v3 = rotate(s->v3, 16) ^ s->v2;
    s->v0 = rotate(s->v0, 32);
    s->v2 += s->v1;
    s->v0 += s->v3;
    s->v1 = rotate(s->v1, 17) ^ s->v2;
    s->v3 = rotate(s->v3, 21) ^ s->v0;
    s->v2 = rotate(s->v2, 32);
}

uint64_t map_hash_keyed(const uint64_t key[static 2], struct slice bytes)
{
    struct sip s = { key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
                     key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573 };
    const char *at = bytes.data;
    size_t left = bytes.size;
    uint64_t word;

    for (; left >= 8; at += 8, left -= 8) {
        memcpy(&word, at, 8);
        s.v3 ^= word;
        sip_round(&s);
        s.v0 ^= word;
    }
    word = (uint64_t)bytes.size << 56;
    for (size_t i = 0; i < left; i++)
        word |= (uint64_t)(unsigned char)at[i] << (8 * i);
    s.v3 ^= word;
    sip_round(&s);
    s.v0 ^= word;
    s.v2 ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

uint64_t map_hash(struct slice bytes)
{
    pthread_once(&process_key_once, process_key_draw);
    return map_hash_keyed(process_key, bytes);
}

/* A number is a slice without bytes whose size is the number. */
static uint64_t hash_u64(uint64_t key)
{
    return map_hash((struct slice){ (const char *)&key, sizeof key });
}

static bool key_equal(struct slice a, struct slice b, bool number)
{
    return number ? a.size == b.size : slice_equal(a, b);
}

static size_t room_of(size_t slot_count)
{
    return slot_count / 4 * 3;
}

void map_deinit(struct map *map)
{
    free(map->entries);
    free(map->slots);
    *map = (struct map){};
}

void map_clear(struct map *map)
{
    map->count = map->used = 0;
    if (map->slots)
        memset(map->slots, 0, map->slot_count * sizeof *map->slots);
}

static void slot_put(struct map *map, uint64_t hash, size_t index)
{
    size_t mask = map->slot_count - 1;
    size_t at = hash & mask;

    while (map->slots[at])
        at = (at + 1) & mask;
    map->slots[at] = (uint32_t)index + 1;
}

static void rebuild(struct map *map)
{
    size_t slot_count = 8;
    while (room_of(slot_count) < map->count + map->count / 2 + 1)
        slot_count *= 2;
    assert(slot_count < UINT32_MAX);

    struct map next = { .slot_count = slot_count };
    next.entries = mem_resize(NULL, room_of(slot_count), sizeof *next.entries);
    next.slots = mem_zalloc(slot_count * sizeof *next.slots);
    for (size_t i = 0; i < map->used; i++) {
        if (!map->entries[i].value)
            continue;
        next.entries[next.used] = map->entries[i];
        slot_put(&next, map->entries[i].hash, next.used++);
    }
    next.count = next.used;
    map_deinit(map);
    *map = next;
}

static struct map_entry *find(const struct map *map, uint64_t hash, struct slice key, bool number)
{
    if (map->count == 0)
        return NULL;
    size_t mask = map->slot_count - 1;
    for (size_t at = hash & mask; map->slots[at]; at = (at + 1) & mask) {
        struct map_entry *entry = &map->entries[map->slots[at] - 1];
        if (entry->hash == hash && entry->value && key_equal(entry->key, key, number))
            return entry;
    }
    return NULL;
}

static void *put(struct map *map, uint64_t hash, struct slice key, bool number, void *value)
{
    assert(value);
    struct map_entry *entry = find(map, hash, key, number);
    if (entry) {
        void *displaced = entry->value;
        entry->key = key;
        entry->value = value;
        return displaced;
    }
    if (map->used == room_of(map->slot_count))
        rebuild(map);
    map->entries[map->used] = (struct map_entry){ hash, key, value };
    slot_put(map, hash, map->used++);
    map->count++;
    return NULL;
}

static void *take(struct map *map, struct map_entry *entry)
{
    if (!entry)
        return NULL;
    void *value = entry->value;
    entry->value = NULL;
    entry->key = (struct slice){};
    map->count--;
    return value;
}

void *map_get(const struct map *map, struct slice key)
{
    struct map_entry *entry = map->count ? find(map, map_hash(key), key, false) : NULL;
    return entry ? entry->value : NULL;
}

void *map_put(struct map *map, struct slice key, void *value)
{
    return put(map, map_hash(key), key, false, value);
}

void *map_remove(struct map *map, struct slice key)
{
    return take(map, map->count ? find(map, map_hash(key), key, false) : NULL);
}

void *map_get_u64(const struct map *map, uint64_t key)
{
    struct slice number = { NULL, key };
    struct map_entry *entry = map->count ? find(map, hash_u64(key), number, true) : NULL;
    return entry ? entry->value : NULL;
}

void *map_put_u64(struct map *map, uint64_t key, void *value)
{
    return put(map, hash_u64(key), (struct slice){ NULL, key }, true, value);
}

void *map_remove_u64(struct map *map, uint64_t key)
{
    struct slice number = { NULL, key };
    return take(map, map->count ? find(map, hash_u64(key), number, true) : NULL);
}

struct map_entry *map_next(const struct map *map, size_t *index)
{
    while (*index < map->used) {
        struct map_entry *entry = &map->entries[(*index)++];
        if (entry->value)
            return entry;
    }
    return NULL;
}
