/* SPDX-License-Identifier: Apache-2.0 */
/* Other registries, and what is still to come from them. */
#include <assert.h>

#include "store/sqlite_inside.h"

static int none_changed(int changed)
{
    return changed < 0 ? changed : changed == 0 ? ERR_NOT_FOUND : 0;
}

/* ---- registries ------------------------------------------------------------------------------ */

static int registry_put(struct store *self, const struct store_registry *row, struct err *err)
{
    struct db *db = db_of(self);
    uint64_t count = 0;
    assert(db->inside);
    int r = db_run(db, Q_REGISTRY_PUT, err, "sssusii", row->host, row->username, row->sealed,
                   (uint64_t)row->plain, row->ca, row->created_ns, row->updated_ns);
    if (r >= 0)
        r = db_count(db, Q_REGISTRY_COUNT, &count, err);
    if (r >= 0 && count > db->limits.registries_max)
        return err_set(err, ERR_TOO_LARGE, "there are %llu registries, as many as may be",
                       (unsigned long long)count - 1);
    return r < 0 ? r : 0;
}

static int registry_delete(struct store *self, struct slice host, struct err *err)
{
    assert(db_of(self)->inside);
    int r = none_changed(db_run(db_of(self), Q_REGISTRY_DELETE, err, "s", host));
    if (r == ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, "there is no registry '%s'", ERR_SLICE(host));
    return r;
}

static void registry_read(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    *(struct store_registry *)ret = (struct store_registry){
        .host = db_text(arena, row, 0),
        .username = db_text(arena, row, 1),
        .sealed = db_text(arena, row, 2),
        .plain = db_u64(row, 3) != 0,
        .ca = db_text(arena, row, 4),
        .created_ns = sqlite3_column_int64(row, 5),
        .updated_ns = sqlite3_column_int64(row, 6),
    };
}

static int registry_list(struct store *self, struct arena *arena, struct store_registry **ret,
                         size_t *ret_count, struct err *err)
{
    return db_list(db_of(self), Q_REGISTRY_LIST, NULL, arena, registry_read, sizeof **ret, ret,
                   ret_count, err, "");
}

/* ---- origins --------------------------------------------------------------------------------- */

static int origin_put(struct store *self, const struct store_origin *row, struct err *err)
{
    assert(db_of(self)->inside);
    int r = db_run(db_of(self), Q_ORIGIN_PUT, err, "sussi", row->digest, row->bytes, row->host,
                   row->repository, row->created_ns);
    return r < 0 ? r : 0;
}

static void origin_read(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    *(struct store_origin *)ret = (struct store_origin){
        .digest = db_text(arena, row, 0),
        .bytes = db_u64(row, 1),
        .host = db_text(arena, row, 2),
        .repository = db_text(arena, row, 3),
        .created_ns = sqlite3_column_int64(row, 4),
        .number = db_u64(row, 5),
    };
}

static int origin_find(struct store *self, struct slice digest, struct arena *arena,
                       struct store_origin *ret, struct err *err)
{
    return db_found(db_one(db_of(self), Q_ORIGIN_FIND, arena, origin_read, ret, err, "s", digest));
}

static int origin_delete(struct store *self, struct slice digest, struct err *err)
{
    assert(db_of(self)->inside);
    int r = db_run(db_of(self), Q_ORIGIN_DELETE, err, "s", digest);
    return r < 0 ? r : 0;
}

static int origin_prune(struct store *self, struct err *err)
{
    assert(db_of(self)->inside);
    int r = db_run(db_of(self), Q_ORIGIN_PRUNE, err, "");
    return r < 0 ? r : 0;
}

static int origin_list(struct store *self, struct arena *arena, struct store_origin **ret,
                       size_t *ret_count, struct err *err)
{
    return db_list(db_of(self), Q_ORIGIN_LIST, NULL, arena, origin_read, sizeof **ret, ret,
                   ret_count, err, "");
}

static int origin_of(struct store *self, uint64_t endpoint_uid, struct arena *arena,
                     struct store_origin **ret, size_t *ret_count, struct err *err)
{
    return db_list(db_of(self), Q_ORIGIN_OF, NULL, arena, origin_read, sizeof **ret, ret, ret_count,
                   err, "u", endpoint_uid);
}

static int origin_endpoints(struct store *self, struct slice digest, struct arena *arena,
                            uint64_t **ret, size_t *ret_count, struct err *err)
{
    return db_list(db_of(self), Q_ORIGIN_ENDPOINTS, NULL, arena, db_read_u64, sizeof **ret, ret,
                   ret_count, err, "s", digest);
}

void sqlite_elsewhere_fill(struct store *store)
{
    store->registry_put = registry_put;
    store->registry_delete = registry_delete;
    store->registry_list = registry_list;
    store->origin_put = origin_put;
    store->origin_find = origin_find;
    store->origin_delete = origin_delete;
    store->origin_prune = origin_prune;
    store->origin_list = origin_list;
    store->origin_of = origin_of;
    store->origin_endpoints = origin_endpoints;
}
