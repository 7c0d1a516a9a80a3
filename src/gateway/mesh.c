/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/mesh.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/map.h"
#include "sys/shm.h"

struct mesh_view {
    _Atomic uint32_t refs;
    const struct mesh_head *head;
    size_t bytes;
};

int mesh_view_open(int fd, struct mesh_view **ret, struct err *err)
{
    struct slice bytes;
    int r = shm_map_checked(fd, MESH_BYTES_MAX, mesh_check, &bytes, err);

    if (r < 0)
        return r;
    struct mesh_view *view = mem_zalloc(sizeof *view);
    atomic_init(&view->refs, 1);
    view->head = (const void *)bytes.data;
    view->bytes = bytes.size;
    *ret = view;
    return 0;
}

struct mesh_view *mesh_view_ref(struct mesh_view *view)
{
    atomic_fetch_add_explicit(&view->refs, 1, memory_order_relaxed);
    return view;
}

void mesh_view_unref(struct mesh_view *view)
{
    if (!view || atomic_fetch_sub_explicit(&view->refs, 1, memory_order_acq_rel) > 1)
        return;
    shm_unmap((void *)(uintptr_t)view->head, view->bytes);
    free(view);
}

const struct mesh_head *mesh_view_head(const struct mesh_view *view, int64_t now_ns)
{
    return view && mesh_fresh(view->head, now_ns) ? view->head : NULL;
}

/* ---- keys ----------------------------------------------------------------------------------- */

struct peer_key {
    unsigned char bytes[HOP_KEY_BYTES];
    _Atomic unsigned known;     /* parameters of a hop */
    char name[MESH_NAME_BYTES]; /* the map's key points here */
};

struct key_set {
    struct map keys;      /* name -> struct peer_key */
    struct arena *memory; /* of these; a secret one; NULL: none came */
};

struct peer_keys {
    pthread_rwlock_t lock; /* of `here`: asked some thousand times a second, changed once a day */
    struct key_set here, next; /* next: of the row under way */
    bool came;                 /* a whole row, be it empty */
};
static_assert((int)HOP_KEY_BYTES == (int)MESSAGE_KEY_BYTES);

static void clear(struct key_set *set)
{
    map_deinit(&set->keys);
    arena_free(take_ptr(set->memory));
}

struct peer_keys *peer_keys_new(void)
{
    struct peer_keys *keys = mem_zalloc(sizeof *keys);

    if (pthread_rwlock_init(&keys->lock, NULL) != 0)
        mem_abort(sizeof *keys);
    return keys;
}

void peer_keys_free(struct peer_keys *keys)
{
    if (!keys)
        return;
    clear(&keys->here);
    clear(&keys->next);
    (void)pthread_rwlock_destroy(&keys->lock);
    free(keys);
}

static void put(struct key_set *set, struct slice name, const uint8_t *bytes)
{
    struct peer_key *key = map_get(&set->keys, name);

    if (!set->memory)
        set->memory = arena_new_secret();
    if (!key) {
        key = ARENA_NEW(set->memory, struct peer_key);
        snprintf(key->name, sizeof key->name, "%.*s", SLICE_FMT(name));
        (void)map_put(&set->keys, slice_of(key->name), key);
    }
    memcpy(key->bytes, bytes, sizeof key->bytes);
}

/* What PoPs have said of themselves outlives a change of keys. */
static void known_keep(struct key_set *set, struct key_set *before)
{
    MAP_EACH (entry, &set->keys) {
        struct peer_key *key = entry->value;
        const struct peer_key *old = map_get(&before->keys, slice_of(key->name));
        atomic_store(&key->known, old ? atomic_load(&old->known) : 0);
    }
}

void peer_keys_take(struct peer_keys *keys, struct message_peer_key *message)
{
    if (message->flags & MESSAGE_KEYS_FIRST)
        clear(&keys->next);
    if (message->pop[0] != '\0' && keys->next.keys.count < MESH_POPS_MAX)
        put(&keys->next, slice_of(message->pop), message->key);
    if (message->pop[0] == '\0') {
        struct key_set before = keys->here;
        known_keep(&keys->next, &before);
        (void)pthread_rwlock_wrlock(&keys->lock);
        keys->here = keys->next;
        (void)pthread_rwlock_unlock(&keys->lock);
        keys->next = (struct key_set){};
        keys->came = true;
        clear(&before);
    }
    explicit_bzero(message->key, sizeof message->key);
}

bool peer_keys_came(const struct peer_keys *keys)
{
    return keys->came;
}

bool peer_keys_find(struct peer_keys *keys, struct slice pop,
                    unsigned char ret_key[static HOP_KEY_BYTES])
{
    (void)pthread_rwlock_rdlock(&keys->lock);
    const struct peer_key *key = map_get(&keys->here.keys, pop);
    if (key)
        memcpy(ret_key, key->bytes, HOP_KEY_BYTES);
    (void)pthread_rwlock_unlock(&keys->lock);
    return key != NULL;
}

unsigned peer_keys_known(struct peer_keys *keys, struct slice pop)
{
    (void)pthread_rwlock_rdlock(&keys->lock);
    const struct peer_key *key = map_get(&keys->here.keys, pop);
    unsigned known = key ? atomic_load(&key->known) : 0;
    (void)pthread_rwlock_unlock(&keys->lock);
    return known;
}

void peer_keys_know(struct peer_keys *keys, struct slice pop, unsigned known)
{
    (void)pthread_rwlock_rdlock(&keys->lock);
    struct peer_key *key = map_get(&keys->here.keys, pop);
    if (key)
        atomic_store(&key->known, known);
    (void)pthread_rwlock_unlock(&keys->lock);
}
