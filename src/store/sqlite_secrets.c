/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets, sealed, and who names them. */
#include <assert.h>

#include "store/sqlite_inside.h"

static int secret_put(struct store *self, const struct store_secret *row, struct err *err)
{
    struct db *db = db_of(self);
    uint64_t count = 0;
    assert(db->inside);
    int r = db_run(db, Q_SECRET_PUT, err, "sssii", row->project, row->name, row->sealed,
                   row->created_ns, row->updated_ns);
    if (r >= 0)
        r = db_count(db, Q_SECRET_COUNT, &count, err);
    if (r >= 0 && count > db->limits.secrets_max)
        return err_set(err, ERR_TOO_LARGE, "there are %llu secrets, as many as may be",
                       (unsigned long long)count - 1);
    return r < 0 ? r : 0;
}

static int secret_delete(struct store *self, struct slice project, struct slice name,
                         struct err *err)
{
    assert(db_of(self)->inside);
    int changed = db_run(db_of(self), Q_SECRET_DELETE, err, "ss", project, name);
    if (changed == 0)
        return err_set(err, ERR_NOT_FOUND, "there is no secret '%s' in project '%s'",
                       ERR_SLICE(name), ERR_SLICE(project));
    return changed < 0 ? changed : 0;
}

static void secret_read(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    *(struct store_secret *)ret = (struct store_secret){
        .project = db_text(arena, row, 0),
        .name = db_text(arena, row, 1),
        .sealed = db_text(arena, row, 2),
        .created_ns = sqlite3_column_int64(row, 3),
        .updated_ns = sqlite3_column_int64(row, 4),
    };
}

static int secret_list(struct store *self, struct arena *arena, struct store_secret **ret,
                       size_t *ret_count, struct err *err)
{
    return db_list(db_of(self), Q_SECRET_LIST, NULL, arena, secret_read, sizeof **ret, ret,
                   ret_count, err, "");
}

static int secret_sealed(struct store *self, struct slice project, struct slice name,
                         struct arena *arena, struct slice *ret, struct err *err)
{
    *ret = (struct slice){};
    int r =
        db_one(db_of(self), Q_SECRET_SEALED, arena, db_read_text, ret, err, "ss", project, name);
    return r < 0 ? r : 0;
}

static int secret_names(struct store *self, struct slice project, struct arena *arena,
                        struct slice **ret, size_t *ret_count, struct err *err)
{
    return db_list(db_of(self), Q_SECRET_NAMES, NULL, arena, db_read_text, sizeof **ret, ret,
                   ret_count, err, "s", project);
}

/* Within a string of the spec its quotes would be escaped, and names need no escapes: nothing else
 * is written so (spec/variables.c). */
static int secret_endpoints(struct store *self, struct slice project, struct slice name,
                            struct arena *arena, uint64_t **ret, size_t *ret_count, struct err *err)
{
    struct slice text = slice_of(arena_format(arena, "{\"secret\":\"%.*s\"}", SLICE_FMT(name)));
    return db_list(db_of(self), Q_SECRET_ENDPOINTS, NULL, arena, db_read_u64, sizeof **ret, ret,
                   ret_count, err, "ss", project, text);
}

void sqlite_secrets_fill(struct store *store)
{
    store->secret_put = secret_put;
    store->secret_delete = secret_delete;
    store->secret_list = secret_list;
    store->secret_sealed = secret_sealed;
    store->secret_names = secret_names;
    store->secret_endpoints = secret_endpoints;
}
