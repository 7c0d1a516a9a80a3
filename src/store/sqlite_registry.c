/* SPDX-License-Identifier: Apache-2.0 */
/* Repositories: which blobs and manifests each has, tags, who refers to what. */
#include <assert.h>

#include "store/sqlite_inside.h"

/* Room for one more of this key; what is there already takes the place that it has. */
static int check_room(struct db *db, enum query there, enum query counted, uint64_t id,
                      struct slice key, uint64_t max, const char *what, struct err *err)
{
    uint64_t count = 0;
    int r = db_found(db_one(db, there, NULL, db_read_u64, &count, err, "us", id, key));
    if (r != ERR_NOT_FOUND)
        return r;
    r = db_found(db_one(db, counted, NULL, db_read_u64, &count, err, "u", id));
    if (r == 0 && count >= max)
        return err_set(err, ERR_TOO_LARGE, "the repository has %llu %s already",
                       (unsigned long long)count, what);
    return r;
}

/* ---- repositories --------------------------------------------------------------------------- */

static int repository_find(struct store *self, struct slice project, struct slice name,
                           uint64_t *ret_id, struct err *err)
{
    return db_found(db_one(db_of(self), Q_REPOSITORY_FIND, NULL, db_read_u64, ret_id, err, "ss",
                           project, name));
}

static int repository_ensure(struct store *self, struct slice project, struct slice name,
                             int64_t now_ns, uint64_t *ret_id, struct err *err)
{
    struct db *db = db_of(self);
    uint64_t count;
    assert(db->inside);
    int r = repository_find(self, project, name, ret_id, err);
    if (r != ERR_NOT_FOUND)
        return r;
    r = db_count(db, Q_REPOSITORY_COUNT, &count, err);
    if (r < 0)
        return r;
    if (count >= db->limits.repositories_max)
        return err_set(err, ERR_TOO_LARGE, "there are %llu repositories already (repositories_max)",
                       (unsigned long long)count);
    if ((r = self->project_ensure(self, project, now_ns, err)) < 0 ||
        (r = db_run(db, Q_REPOSITORY_ADD, err, "ssi", project, name, now_ns)) < 0)
        return r;
    *ret_id = (uint64_t)sqlite3_last_insert_rowid(db->handle);
    return 0;
}

static int repository_prune(struct store *self, int64_t before_ns, struct err *err)
{
    assert(db_of(self)->inside);
    int r = db_run(db_of(self), Q_REPOSITORY_BLOB_PRUNE, err, "i", before_ns);
    if (r >= 0)
        r = db_run(db_of(self), Q_REPOSITORY_PRUNE, err, "");
    return r < 0 ? r : 0;
}

static int repository_blob_find(struct store *self, uint64_t id, struct slice digest,
                                uint64_t *ret_bytes, struct err *err)
{
    return db_found(db_one(db_of(self), Q_REPOSITORY_BLOB_GET, NULL, db_read_u64, ret_bytes, err,
                           "us", id, digest));
}

static int repository_blob_any(struct store *self, struct slice digest, uint64_t *ret_bytes,
                               struct err *err)
{
    return db_found(
        db_one(db_of(self), Q_REPOSITORY_BLOB_ANY, NULL, db_read_u64, ret_bytes, err, "s", digest));
}

static int repository_blob_put(struct store *self, uint64_t id, struct slice digest, uint64_t bytes,
                               int64_t now_ns, struct err *err)
{
    struct db *db = db_of(self);
    assert(db->inside);
    int r = db_run(db, Q_BLOB_HOLD, err, "su", digest, bytes);
    if (r >= 0)
        r = db_run(db, Q_REPOSITORY_BLOB_PUT, err, "usui", id, digest, bytes, now_ns);
    return r < 0 ? r : 0;
}

static int repository_blob_delete(struct store *self, uint64_t id, struct slice digest,
                                  struct err *err)
{
    assert(db_of(self)->inside);
    int r = db_run(db_of(self), Q_REPOSITORY_BLOB_DELETE, err, "us", id, digest);
    return r < 0 ? r : r == 0 ? ERR_NOT_FOUND : 0;
}

/* ---- manifests ------------------------------------------------------------------------------ */

static void manifest_read(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    *(struct store_manifest *)ret = (struct store_manifest){
        .digest = db_text(arena, row, 0),
        .media_type = db_text(arena, row, 1),
        .artifact_type = db_text(arena, row, 2),
        .subject = db_text(arena, row, 3),
        .bytes = db_u64(row, 4),
        .created_ns = sqlite3_column_int64(row, 5),
    };
}

static int manifest_one(struct db *db, enum query query, uint64_t id, struct slice key,
                        struct arena *arena, struct store_manifest *ret, struct err *err)
{
    return db_found(db_one(db, query, arena, manifest_read, ret, err, "us", id, key));
}

static int manifest_find(struct store *self, uint64_t id, struct slice digest, struct arena *arena,
                         struct store_manifest *ret, struct err *err)
{
    return manifest_one(db_of(self), Q_MANIFEST_GET, id, digest, arena, ret, err);
}

static int manifest_tagged(struct store *self, uint64_t id, struct slice tag, struct arena *arena,
                           struct store_manifest *ret, struct err *err)
{
    return manifest_one(db_of(self), Q_MANIFEST_TAGGED, id, tag, arena, ret, err);
}

static int manifest_put(struct store *self, uint64_t id, const struct store_manifest *manifest,
                        const struct slice *parts, size_t count, struct err *err)
{
    struct db *db = db_of(self);
    assert(db->inside);
    int r = check_room(db, Q_MANIFEST_THERE, Q_MANIFEST_COUNT, id, manifest->digest,
                       db->limits.repository_manifests_max, "manifests (repository_manifests_max)",
                       err);
    if (r == 0)
        r = db_run(db, Q_BLOB_HOLD, err, "su", manifest->digest, manifest->bytes);
    if (r >= 0)
        r = db_run(db, Q_MANIFEST_PUT, err, "ussssui", id, manifest->digest, manifest->media_type,
                   manifest->artifact_type, manifest->subject, manifest->bytes,
                   manifest->created_ns);
    for (size_t i = 0; i < count && r >= 0; i++)
        r = db_run(db, Q_MANIFEST_PART, err, "uss", id, manifest->digest, parts[i]);
    return r < 0 ? r : 0;
}

static int manifest_delete(struct store *self, uint64_t id, struct slice digest, int64_t touched_ns,
                           struct err *err)
{
    assert(db_of(self)->inside);
    int r = db_run(db_of(self), Q_REPOSITORY_BLOB_TOUCH, err, "usi", id, digest, touched_ns);
    if (r >= 0)
        r = db_run(db_of(self), Q_MANIFEST_DELETE, err, "us", id, digest);
    return r < 0 ? r : r == 0 ? ERR_NOT_FOUND : 0;
}

static int referrer_list(struct store *self, uint64_t id, struct slice subject,
                         struct slice artifact_type, struct slice after, uint32_t limit,
                         struct arena *arena, struct store_manifest **ret, size_t *ret_count,
                         struct err *err)
{
    return db_list(db_of(self), Q_REFERRER_LIST, NULL, arena, manifest_read, sizeof **ret, ret,
                   ret_count, err, "usssu", id, subject, artifact_type, after, (uint64_t)limit);
}

/* ---- tags ----------------------------------------------------------------------------------- */

static int tag_put(struct store *self, uint64_t id, struct slice tag, struct slice digest,
                   int64_t now_ns, struct err *err)
{
    struct db *db = db_of(self);
    assert(db->inside);
    int r = check_room(db, Q_TAG_THERE, Q_TAG_COUNT, id, tag, db->limits.repository_tags_max,
                       "tags (repository_tags_max)", err);
    if (r == 0)
        r = db_run(db, Q_TAG_PUT, err, "ussi", id, tag, digest, now_ns);
    return r < 0 ? r : 0;
}

static int tag_delete(struct store *self, uint64_t id, struct slice tag, struct err *err)
{
    assert(db_of(self)->inside);
    int r = db_run(db_of(self), Q_TAG_DELETE, err, "us", id, tag);
    return r < 0 ? r : r == 0 ? ERR_NOT_FOUND : 0;
}

static int tag_list(struct store *self, uint64_t id, struct slice after, uint32_t limit,
                    struct arena *arena, struct slice **ret, size_t *ret_count, struct err *err)
{
    return db_list(db_of(self), Q_TAG_LIST, NULL, arena, db_read_text, sizeof **ret, ret, ret_count,
                   err, "usu", id, after, (uint64_t)limit);
}

void sqlite_registry_fill(struct store *store)
{
    store->repository_find = repository_find;
    store->repository_ensure = repository_ensure;
    store->repository_prune = repository_prune;
    store->repository_blob_find = repository_blob_find;
    store->repository_blob_any = repository_blob_any;
    store->repository_blob_put = repository_blob_put;
    store->repository_blob_delete = repository_blob_delete;
    store->manifest_put = manifest_put;
    store->manifest_find = manifest_find;
    store->manifest_tagged = manifest_tagged;
    store->manifest_delete = manifest_delete;
    store->referrer_list = referrer_list;
    store->tag_put = tag_put;
    store->tag_delete = tag_delete;
    store->tag_list = tag_list;
}
