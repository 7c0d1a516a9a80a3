/* SPDX-License-Identifier: Apache-2.0 */
/* Endpoints, their revisions and history, the index of blobs. */
#include <assert.h>

#include "store/sqlite_inside.h"

static int project_ensure(struct store *self, struct slice name, int64_t now_ns, struct err *err)
{
    int r = db_run(db_of(self), Q_PROJECT_ENSURE, err, "si", name, now_ns);
    return r < 0 ? r : 0;
}

static void endpoint_read(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    *(struct store_endpoint *)ret = (struct store_endpoint){
        .uid = db_u64(row, 0),
        .project = db_text(arena, row, 1),
        .name = db_text(arena, row, 2),
        .spec = db_text(arena, row, 3),
        .stopped = db_u64(row, 4) != 0,
        .target = db_u64(row, 5),
        .latest = db_u64(row, 6),
        .generation = db_u64(row, 7),
        .serving = db_u64(row, 8),
        .target_state = db_text(arena, row, 9),
        .target_message = db_text(arena, row, 10),
        .created_ns = sqlite3_column_int64(row, 11),
        .updated_ns = sqlite3_column_int64(row, 12),
        .stable = db_u64(row, 13),
    };
}

static int endpoint_there(int r, struct err *err)
{
    if (r == 0)
        return err_set(err, ERR_NOT_FOUND, "no such endpoint");
    return r < 0 ? r : 0;
}

static int endpoint_get(struct store *self, uint64_t uid, struct arena *arena,
                        struct store_endpoint *ret, struct err *err)
{
    int r = db_one(db_of(self), Q_ENDPOINT_GET, arena, endpoint_read, ret, err, "u", uid);
    return endpoint_there(r, err);
}

static int endpoint_find(struct store *self, struct slice project, struct slice name,
                         struct arena *arena, struct store_endpoint *ret, struct err *err)
{
    int r =
        db_one(db_of(self), Q_ENDPOINT_FIND, arena, endpoint_read, ret, err, "ss", project, name);
    return endpoint_there(r, err);
}

static int endpoint_list(struct store *self, const struct store_page *page, struct arena *arena,
                         struct store_endpoint **ret, size_t *ret_count, struct err *err)
{
    return db_list(db_of(self), Q_ENDPOINT_LIST, NULL, arena, endpoint_read, sizeof **ret, ret,
                   ret_count, err, "uu", page->after, (uint64_t)page_limit(page));
}

static int endpoint_add(struct store *self, struct store_endpoint *endpoint, struct err *err)
{
    struct db *db = db_of(self);
    uint64_t count;
    assert(db->inside);
    int r = db_count(db, Q_ENDPOINT_COUNT, &count, err);
    if (r < 0)
        return r;
    if (count >= db->limits.endpoints_max)
        return err_set(err, ERR_TOO_LARGE, "there are %llu endpoints already (endpoints_max)",
                       (unsigned long long)count);
    r = db_run(db, Q_ENDPOINT_ADD, err, "sssuuuuii", endpoint->project, endpoint->name,
               endpoint->spec, (uint64_t)endpoint->stopped, endpoint->target, endpoint->latest,
               endpoint->generation, endpoint->created_ns, endpoint->updated_ns);
    if (r == ERR_CONFLICT)
        return err_set(err, ERR_CONFLICT, "endpoint '%s' exists already",
                       ERR_SLICE(endpoint->name));
    if (r < 0)
        return r;
    endpoint->uid = (uint64_t)sqlite3_last_insert_rowid(db->handle);
    return 0;
}

static int endpoint_update(struct store *self, const struct store_endpoint *endpoint,
                           uint64_t before, struct err *err)
{
    assert(db_of(self)->inside);
    int r = db_run(db_of(self), Q_ENDPOINT_UPDATE, err, "uusuuuuussiu", endpoint->uid, before,
                   endpoint->spec, (uint64_t)endpoint->stopped, endpoint->target, endpoint->latest,
                   endpoint->generation, endpoint->serving, endpoint->target_state,
                   endpoint->target_message, endpoint->updated_ns, endpoint->stable);
    if (r == 0)
        return err_set(err, ERR_PRECONDITION, "the endpoint was changed meanwhile");
    return r < 0 ? r : 0;
}

static int endpoint_delete(struct store *self, uint64_t uid, struct err *err)
{
    assert(db_of(self)->inside);
    int r = db_run(db_of(self), Q_ENDPOINT_DELETE, err, "u", uid);
    return r < 0 ? r : 0;
}

/* ---- revisions ------------------------------------------------------------------------------ */

static int revision_add(struct store *self, const struct store_revision *revision,
                        const struct slice *blobs, size_t blob_count, struct err *err)
{
    struct db *db = db_of(self);
    assert(db->inside && revision->number > 0);
    assert(revision->number < UINT64_C(1) << STORE_REVISION_BITS);
    int r =
        db_run(db, Q_REVISION_ADD, err, "uussssussissss", revision->endpoint_uid, revision->number,
               revision->spec, revision->digest, revision->runtime, revision->model,
               revision->model_bytes, revision->source, revision->created_by, revision->created_ns,
               revision->state, revision->message, revision->metadata, revision->image);
    for (size_t i = 0; i < blob_count && r >= 0; i++)
        r = db_run(db, Q_REVISION_BLOB, err, "uus", revision->endpoint_uid, revision->number,
                   blobs[i]);
    return r < 0 ? r : 0;
}

static int revision_needs(struct store *self, uint64_t endpoint_uid, struct slice digest,
                          struct err *err)
{
    uint64_t number;
    return db_found(db_one(db_of(self), Q_REVISION_NEEDS, NULL, db_read_u64, &number, err, "us",
                           endpoint_uid, digest));
}

static void revision_read(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    *(struct store_revision *)ret = (struct store_revision){
        .endpoint_uid = db_u64(row, 0),
        .number = db_u64(row, 1),
        .spec = db_text(arena, row, 2),
        .digest = db_text(arena, row, 3),
        .runtime = db_text(arena, row, 4),
        .model = db_text(arena, row, 5),
        .model_bytes = db_u64(row, 6),
        .source = db_text(arena, row, 7),
        .created_by = db_text(arena, row, 8),
        .created_ns = sqlite3_column_int64(row, 9),
        .state = db_text(arena, row, 10),
        .message = db_text(arena, row, 11),
        .metadata = db_text(arena, row, 12),
        .image = db_text(arena, row, 13),
    };
}

static int revision_get(struct store *self, uint64_t endpoint_uid, uint64_t number,
                        struct arena *arena, struct store_revision *ret, struct err *err)
{
    int r = db_one(db_of(self), Q_REVISION_GET, arena, revision_read, ret, err, "uu", endpoint_uid,
                   number);
    if (r == 0)
        return err_set(err, ERR_NOT_FOUND, "no revision %llu is kept", (unsigned long long)number);
    return r < 0 ? r : 0;
}

static int revision_list(struct store *self, uint64_t endpoint_uid, struct arena *arena,
                         struct store_revision **ret, size_t *ret_count, struct err *err)
{
    return db_list(db_of(self), Q_REVISION_LIST, NULL, arena, revision_read, sizeof **ret, ret,
                   ret_count, err, "u", endpoint_uid);
}

static int revision_report(struct store *self, uint64_t endpoint_uid, uint64_t number,
                           struct slice state, struct slice message, struct slice metadata,
                           struct err *err)
{
    assert(db_of(self)->inside);
    int r = db_run(db_of(self), Q_REVISION_REPORT, err, "uusss", endpoint_uid, number, state,
                   message, metadata);
    return r < 0 ? r : 0;
}

static int revision_prune(struct store *self, uint64_t endpoint_uid, const struct store_keep *keep,
                          struct err *err)
{
    assert(db_of(self)->inside);
    const uint64_t *n = keep->numbers;
    static_assert(sizeof keep->numbers / sizeof *n == 8, "as many as the query has");
    int r = db_run(db_of(self), Q_REVISION_PRUNE, err, "uuuuuuuuuu", endpoint_uid, n[0], n[1], n[2],
                   n[3], n[4], n[5], n[6], n[7], db_of(self)->limits.revisions_kept);
    return r < 0 ? r : 0;
}

/* ---- history -------------------------------------------------------------------------------- */

static int history_add(struct store *self, const struct store_history *row, struct err *err)
{
    struct db *db = db_of(self);
    assert(db->inside);
    int r = db_run(db, Q_HISTORY_ADD, err, "uuuiss", row->endpoint_uid, row->generation,
                   row->revision, row->at_ns, row->who, row->diff);
    if (r >= 0)
        r = db_run(db, Q_HISTORY_PRUNE, err, "uu", row->endpoint_uid, db->limits.history_rows_max);
    return r < 0 ? r : 0;
}

static void history_read(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    *(struct store_history *)ret = (struct store_history){
        .id = db_u64(row, 0),
        .endpoint_uid = db_u64(row, 1),
        .generation = db_u64(row, 2),
        .revision = db_u64(row, 3),
        .at_ns = sqlite3_column_int64(row, 4),
        .who = db_text(arena, row, 5),
        .diff = db_text(arena, row, 6),
    };
}

static int history_list(struct store *self, uint64_t endpoint_uid, const struct store_page *page,
                        struct arena *arena, struct store_history **ret, size_t *ret_count,
                        struct err *err)
{
    return db_list(db_of(self), page->from_end ? Q_HISTORY_END : Q_HISTORY_LIST, page, arena,
                   history_read, sizeof **ret, ret, ret_count, err, "uuu", page->after,
                   endpoint_uid, (uint64_t)page_limit(page));
}

/* ---- blobs ---------------------------------------------------------------------------------- */

static int blob_put(struct store *self, const struct store_blob *blob, struct err *err)
{
    assert(db_of(self)->inside);
    int r =
        db_run(db_of(self), Q_BLOB_PUT, err, "sui", blob->digest, blob->bytes, blob->created_ns);
    return r < 0 ? r : 0;
}

static int blob_delete(struct store *self, struct slice digest, struct err *err)
{
    assert(db_of(self)->inside);
    int r = db_run(db_of(self), Q_BLOB_DELETE, err, "s", digest);
    return r < 0 ? r : 0;
}

static int blob_index(struct store *self, const struct store_blob *blob, struct err *err)
{
    assert(db_of(self)->inside);
    int r =
        db_run(db_of(self), Q_BLOB_INDEX, err, "sui", blob->digest, blob->bytes, blob->created_ns);
    return r < 0 ? r : 0;
}

static int blob_garbage(struct store *self, int64_t before_ns, struct arena *arena,
                        struct slice **ret_digests, size_t *ret_count, struct err *err)
{
    return db_list(db_of(self), Q_BLOB_GARBAGE, NULL, arena, db_read_text, sizeof **ret_digests,
                   ret_digests, ret_count, err, "iu", before_ns, (uint64_t)STORE_PAGE_MAX);
}

static int blob_loose(struct store *self, struct slice digest, int64_t before_ns, struct err *err)
{
    uint64_t bytes;
    return db_found(
        db_one(db_of(self), Q_BLOB_LOOSE, NULL, db_read_u64, &bytes, err, "si", digest, before_ns));
}

void sqlite_endpoints_fill(struct store *store)
{
    store->project_ensure = project_ensure;
    store->endpoint_get = endpoint_get;
    store->endpoint_find = endpoint_find;
    store->endpoint_list = endpoint_list;
    store->endpoint_add = endpoint_add;
    store->endpoint_update = endpoint_update;
    store->endpoint_delete = endpoint_delete;
    store->revision_add = revision_add;
    store->revision_needs = revision_needs;
    store->revision_get = revision_get;
    store->revision_list = revision_list;
    store->revision_report = revision_report;
    store->revision_prune = revision_prune;
    store->history_add = history_add;
    store->history_list = history_list;
    store->blob_put = blob_put;
    store->blob_delete = blob_delete;
    store->blob_index = blob_index;
    store->blob_garbage = blob_garbage;
    store->blob_loose = blob_loose;
}
