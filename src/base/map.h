/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.h -- hash map from bytes, or from a u64, to a pointer.
 *
 * Ownership: the map owns its table, neither keys nor values; a slice key must live as long as its
 * entry (it usually is a field of the value). Walks go in the order of insertion, so that a
 * simulation repeats itself whatever the seed; entries may be removed, not added, during one.
 * Hashing is SipHash-1-3 under a key drawn once per process: names from outside cannot flood it.
 * One map has one kind of keys. No lock.
 *
 *     struct map map = {};                       (zeroed is an empty map)
 *     map_put(&map, endpoint->name, endpoint);
 *     MAP_EACH (entry, &map) { struct endpoint *endpoint = entry->value; ... }
 *     map_deinit(&map);
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct map_entry {
    uint64_t hash;
    struct slice key; /* a u64 key: data NULL, size the number */
    void *value;      /* NULL: removed */
};

struct map {
    struct map_entry *entries; /* in order of insertion, with holes */
    uint32_t *slots;           /* index into entries + 1, 0 when free */
    size_t count;              /* live entries */
    size_t used;               /* entries and holes */
    size_t slot_count;         /* a power of two, or 0 */
};

void map_deinit(struct map *map); /* it is empty again, and may be used */
void map_clear(struct map *map);

/* Values are never NULL. put returns the value displaced (whose key is given up as well), get and
 * remove the value found, or NULL. */
void *map_get(const struct map *map, struct slice key);
void *map_put(struct map *map, struct slice key, void *value);
void *map_remove(struct map *map, struct slice key);

void *map_get_u64(const struct map *map, uint64_t key);
void *map_put_u64(struct map *map, uint64_t key, void *value);
void *map_remove_u64(struct map *map, uint64_t key);

/* The next live entry at or behind *index, or NULL; moves *index behind it. */
struct map_entry *map_next(const struct map *map, size_t *index);
#define MAP_EACH(entry, map)                                                                       \
    for (size_t entry##_at_ = 0, entry##_on_ = 1; entry##_on_; entry##_on_ = 0)                    \
        for (struct map_entry * entry; (entry = map_next((map), &entry##_at_)) != NULL;)

/* SipHash-1-3 under the key of this process; or under a given one, for what must repeat. */
uint64_t map_hash(struct slice bytes);
uint64_t map_hash_keyed(const uint64_t key[static 2], struct slice bytes);
