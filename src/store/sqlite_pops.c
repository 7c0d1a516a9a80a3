/* SPDX-License-Identifier: Apache-2.0 */
/* PoPs, how endpoints are on them, and where those are placed. */
#include <assert.h>

#include "store/sqlite_inside.h"

/* ---- PoPs ----------------------------------------------------------------------------------- */

static int pop_report(struct store *self, const struct store_pop *pop, struct err *err)
{
    struct db *db = db_of(self);
    assert(db->inside);
    int r = db_run(db, Q_POP_REPORT, err, "suuis", pop->name, pop->instance, pop->seq,
                   pop->reported_ns, pop->report);
    if (r >= 0)
        r = db_run(db, Q_POP_PRUNE, err, "u", db->limits.pops_max);
    return r < 0 ? r : 0;
}

static void pop_read(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    *(struct store_pop *)ret = (struct store_pop){
        .name = db_text(arena, row, 0),
        .instance = db_u64(row, 1),
        .seq = db_u64(row, 2),
        .reported_ns = sqlite3_column_int64(row, 3),
        .report = db_text(arena, row, 4),
        .spec = db_text(arena, row, 5),
        .wanted = db_text(arena, row, 6),
        .token = db_text(arena, row, 7),
        .token_until_ns = sqlite3_column_int64(row, 8),
        .secret = db_text(arena, row, 9),
        .created_ns = sqlite3_column_int64(row, 10),
        .tombstone = db_text(arena, row, 11),
        .retired_ns = sqlite3_column_int64(row, 12),
    };
}

static int pop_get(struct store *self, struct slice name, struct arena *arena,
                   struct store_pop *ret, struct err *err)
{
    int r = db_one(db_of(self), Q_POP_GET, arena, pop_read, ret, err, "s", name);
    if (r == 0)
        return err_set(err, ERR_NOT_FOUND, "there is no PoP '%s'", ERR_SLICE(name));
    return r < 0 ? r : 0;
}

static int pop_by_token(struct store *self, struct slice token, struct arena *arena,
                        struct store_pop *ret, struct err *err)
{
    int r = db_one(db_of(self), Q_POP_BY_TOKEN, arena, pop_read, ret, err, "s", token);
    if (r == 0)
        return err_set(err, ERR_NOT_FOUND, "no PoP has this token");
    return r < 0 ? r : 0;
}

static int pop_list(struct store *self, struct arena *arena, struct store_pop **ret,
                    size_t *ret_count, struct err *err)
{
    return db_list(db_of(self), Q_POP_LIST, NULL, arena, pop_read, sizeof **ret, ret, ret_count,
                   err, "");
}

static int pop_add(struct store *self, const struct store_pop *pop, struct err *err)
{
    struct db *db = db_of(self);
    struct arena *arena = arena_new();
    struct store_pop there;
    uint64_t count = 0;
    assert(db->inside);
    int r = db_one(db, Q_POP_GET, arena, pop_read, &there, err, "s", pop->name);
    /* One that reported before anybody made it, or one that was deleted. */
    bool again = r == 1 && (there.spec.size == 0 || slice_is(there.wanted, "retired"));
    if (r == 1 && !again)
        r = err_set(err, ERR_CONFLICT, "PoP '%s' exists already", ERR_SLICE(pop->name));
    arena_free(arena);
    if (r >= 0)
        r = db_count(db, Q_POP_COUNT, &count, err);
    if (r >= 0 && count >= db->limits.pops_max)
        r = err_set(err, ERR_TOO_LARGE, "there are %llu PoPs, as many as may be",
                    (unsigned long long)count);
    if (r >= 0 && again)
        return self->pop_update(self, pop, err);
    if (r >= 0)
        r = db_run(db, Q_POP_ADD, err, "ssssisi", pop->name, pop->spec, pop->wanted, pop->token,
                   pop->token_until_ns, pop->secret, pop->created_ns);
    return r < 0 ? r : 0;
}

static int pop_update(struct store *self, const struct store_pop *pop, struct err *err)
{
    struct db *db = db_of(self);
    assert(db->inside);
    int r =
        db_run(db, Q_POP_UPDATE, err, "ssssisisi", pop->name, pop->spec, pop->wanted, pop->token,
               pop->token_until_ns, pop->secret, pop->created_ns, pop->tombstone, pop->retired_ns);
    if (r >= 0 && slice_is(pop->wanted, "retired"))
        r = db_run(db, Q_POP_PRUNE_RETIRED, err, "u", db->limits.pops_max);
    return r < 0 ? r : 0;
}

static int pop_delete(struct store *self, struct slice name, struct err *err)
{
    struct db *db = db_of(self);
    assert(db->inside);
    int r = db_run(db, Q_POP_FORGET, err, "s", name);
    if (r >= 0)
        r = db_run(db, Q_POP_DELETE, err, "s", name);
    return r < 0 ? r : 0;
}

/* ---- endpoints on them ---------------------------------------------------------------------- */

static int pop_endpoint_put(struct store *self, const struct store_pop_endpoint *row,
                            struct err *err)
{
    assert(db_of(self)->inside);
    int r = db_run(db_of(self), Q_POP_ENDPOINT_PUT, err, "usuuss", row->endpoint_uid, row->pop,
                   row->serving, row->target, row->state, row->message);
    return r < 0 ? r : 0;
}

static int pop_endpoint_delete(struct store *self, uint64_t endpoint_uid, struct slice pop,
                               struct err *err)
{
    assert(db_of(self)->inside);
    int r = db_run(db_of(self), Q_POP_ENDPOINT_DELETE, err, "us", endpoint_uid, pop);
    return r < 0 ? r : 0;
}

static void pop_endpoint_read(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    *(struct store_pop_endpoint *)ret = (struct store_pop_endpoint){
        .endpoint_uid = db_u64(row, 0),
        .pop = db_text(arena, row, 1),
        .serving = db_u64(row, 2),
        .target = db_u64(row, 3),
        .state = db_text(arena, row, 4),
        .message = db_text(arena, row, 5),
    };
}

static int pop_endpoint_list(struct store *self, uint64_t endpoint_uid, struct arena *arena,
                             struct store_pop_endpoint **ret, size_t *ret_count, struct err *err)
{
    return db_list(db_of(self), Q_POP_ENDPOINT_LIST, NULL, arena, pop_endpoint_read, sizeof **ret,
                   ret, ret_count, err, "u", endpoint_uid);
}

static int pop_endpoint_of(struct store *self, struct slice pop, struct arena *arena,
                           struct store_pop_endpoint **ret, size_t *ret_count, struct err *err)
{
    return db_list(db_of(self), Q_POP_ENDPOINT_OF, NULL, arena, pop_endpoint_read, sizeof **ret,
                   ret, ret_count, err, "s", pop);
}

/* ---- placements ----------------------------------------------------------------------------- */

static int placement_set(struct store *self, uint64_t endpoint_uid,
                         const struct store_placement *rows, size_t count, struct err *err)
{
    struct db *db = db_of(self);
    assert(db->inside);
    int r = db_run(db, Q_PLACEMENT_CLEAR, err, "u", endpoint_uid);
    for (size_t i = 0; i < count && r >= 0; i++)
        r = db_run(db, Q_PLACEMENT_ADD, err, "usui", endpoint_uid, rows[i].pop, rows[i].replicas,
                   rows[i].since_ns);
    return r < 0 ? r : 0;
}

static void placement_read(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    *(struct store_placement *)ret = (struct store_placement){
        .endpoint_uid = db_u64(row, 0),
        .pop = db_text(arena, row, 1),
        .replicas = db_u64(row, 2),
        .since_ns = sqlite3_column_int64(row, 3),
    };
}

static int placement_list(struct store *self, struct arena *arena, struct store_placement **ret,
                          size_t *ret_count, struct err *err)
{
    return db_list(db_of(self), Q_PLACEMENT_LIST, NULL, arena, placement_read, sizeof **ret, ret,
                   ret_count, err, "");
}

void sqlite_pops_fill(struct store *store)
{
    store->pop_report = pop_report;
    store->pop_add = pop_add;
    store->pop_update = pop_update;
    store->pop_delete = pop_delete;
    store->pop_get = pop_get;
    store->pop_by_token = pop_by_token;
    store->pop_list = pop_list;
    store->pop_endpoint_put = pop_endpoint_put;
    store->pop_endpoint_delete = pop_endpoint_delete;
    store->pop_endpoint_list = pop_endpoint_list;
    store->pop_endpoint_of = pop_endpoint_of;
    store->placement_set = placement_set;
    store->placement_list = placement_list;
}
