/* SPDX-License-Identifier: Apache-2.0 */
#include "store/collect.h"

#include "base/arena.h"
#include "base/err.h"
#include "store/blobs.h"
#include "store/store.h"

struct indexing {
    struct store *store;
    struct blobs *blobs;
    int64_t now_ns;
};

static int index_blob(struct slice digest, uint64_t bytes, void *data, struct err *err)
{
    struct indexing *indexing = data;
    struct store_blob blob = { .digest = digest, .bytes = bytes, .created_ns = indexing->now_ns };
    return indexing->store->blob_index(indexing->store, &blob, err);
}

static int index_all(struct store *store, void *data, struct err *err)
{
    struct indexing *indexing = data;
    (void)store;
    return blobs_each(indexing->blobs, index_blob, indexing, err);
}

int store_blobs_index(struct store *store, struct blobs *blobs, int64_t now_ns, struct err *err)
{
    struct indexing indexing = { store, blobs, now_ns };
    return store->transact(store, index_all, &indexing, err);
}

/* ---- what goes ------------------------------------------------------------------------------ */

struct collecting {
    struct arena *arena;
    const struct slice *asked; /* of these alone; NULL: of all */
    size_t asked_count;
    int64_t before_ns, loose_before_ns;
    struct slice *digests; /* that go */
    size_t count;
};

static int find_asked(struct store *store, struct collecting *collecting, struct err *err)
{
    int r = 0;
    collecting->digests = ARENA_ARRAY(collecting->arena, struct slice, collecting->asked_count + 1);
    for (size_t i = 0; i < collecting->asked_count && r >= 0; i++) {
        /* Those that only a registry held are of no age: they go with the last repository. */
        r = store->blob_loose(store, collecting->asked[i], 1, err);
        if (r == 0)
            collecting->digests[collecting->count++] = collecting->asked[i];
        else if (r == ERR_NOT_FOUND)
            r = 0;
    }
    return r;
}

static int find_all(struct store *store, struct collecting *collecting, struct err *err)
{
    int r = store->repository_prune(store, collecting->loose_before_ns, err);
    return r < 0 ? r
                 : store->blob_garbage(store, collecting->before_ns, collecting->arena,
                                       &collecting->digests, &collecting->count, err);
}

static int rows_go(struct store *store, void *data, struct err *err)
{
    struct collecting *collecting = data;
    int r =
        collecting->asked ? find_asked(store, collecting, err) : find_all(store, collecting, err);
    for (size_t i = 0; i < collecting->count && r == 0; i++)
        r = store->blob_delete(store, collecting->digests[i], err);
    return r;
}

static int collect(struct store *store, struct blobs *blobs, struct collecting *collecting,
                   size_t *ret_count, struct err *err)
{
    collecting->arena = arena_new();
    *ret_count = 0;
    int r = store->transact(store, rows_go, collecting, err);
    size_t count = r < 0 ? 0 : collecting->count;
    for (size_t i = 0; i < count; i++) {
        int gone = blobs_delete(blobs, collecting->digests[i], err);
        *ret_count += gone == 0;
        r = r < 0 ? r : gone; /* one that stays keeps no other */
    }
    arena_free(collecting->arena);
    return r;
}

int store_blobs_collect(struct store *store, struct blobs *blobs, const struct slice *digests,
                        size_t count, size_t *ret_count, struct err *err)
{
    struct collecting collecting = { .asked = digests, .asked_count = count };
    return collect(store, blobs, &collecting, ret_count, err);
}

int store_blobs_sweep(struct store *store, struct blobs *blobs, int64_t before_ns,
                      int64_t loose_before_ns, size_t *ret_count, struct err *err)
{
    struct collecting collecting = { .before_ns = before_ns, .loose_before_ns = loose_before_ns };
    return collect(store, blobs, &collecting, ret_count, err);
}
