/* SPDX-License-Identifier: Apache-2.0 */
/* What is kept by bounds: events, logs, deaths, audit; and PoPs. */
#include <assert.h>

#include "store/sqlite_inside.h"

enum { LOG_PRUNE_ROWS_MAX = 64 };

static uint64_t last_id(struct db *db)
{
    return (uint64_t)sqlite3_last_insert_rowid(db->handle);
}

/* Ids grow by one: what is too old is known without counting. */
static int prune_below(struct db *db, enum query query, uint64_t id, uint64_t rows_max,
                       struct err *err)
{
    return id > rows_max ? db_run(db, query, err, "u", id - rows_max) : 0;
}

/* ---- events --------------------------------------------------------------------------------- */

static int event_add(struct store *self, struct store_event *row, struct err *err)
{
    struct db *db = db_of(self);
    assert(db->inside);
    int r = db_run(db, Q_EVENT_ADD, err, "uissssss", row->endpoint_uid, row->at_ns, row->kind,
                   row->project, row->endpoint, row->pop, row->replica, row->message);
    if (r < 0)
        return r;
    row->id = last_id(db);
    r = prune_below(db, Q_EVENT_PRUNE, row->id, db->limits.events_rows_max, err);
    return r < 0 ? r : 0;
}

static void event_read(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    *(struct store_event *)ret = (struct store_event){
        .id = db_u64(row, 0),
        .endpoint_uid = db_u64(row, 1),
        .at_ns = sqlite3_column_int64(row, 2),
        .kind = db_text(arena, row, 3),
        .project = db_text(arena, row, 4),
        .endpoint = db_text(arena, row, 5),
        .pop = db_text(arena, row, 6),
        .replica = db_text(arena, row, 7),
        .message = db_text(arena, row, 8),
    };
}

static int event_list(struct store *self, const struct store_filter *filter,
                      const struct store_page *page, struct arena *arena, struct store_event **ret,
                      size_t *ret_count, struct err *err)
{
    return db_list(db_of(self), page->from_end ? Q_EVENT_END : Q_EVENT_LIST, page, arena,
                   event_read, sizeof **ret, ret, ret_count, err, "uuuss", page->after,
                   filter->endpoint_uid, (uint64_t)page_limit(page), filter->project,
                   filter->endpoint);
}

/* ---- logs ----------------------------------------------------------------------------------- */

static int log_sum(struct db *db, uint64_t endpoint_uid, int64_t lines, int64_t bytes,
                   uint64_t *ret_lines, uint64_t *ret_bytes, struct err *err)
{
    sqlite3_stmt *statement;
    int r = db_begin(db, Q_LOG_SUM, &statement, err, "uii", endpoint_uid, lines, bytes);
    if (r < 0 || (r = db_step(db, statement, err)) < 0)
        return r;
    assert(r == 1);
    *ret_lines = db_u64(statement, 0);
    *ret_bytes = db_u64(statement, 1);
    while ((r = db_step(db, statement, err)) > 0)
        ;
    return r;
}

struct log_pop {
    struct slice pop;
    uint64_t lines, bytes;
    bool placed;
};

static void log_pop_read(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    *(struct log_pop *)ret = (struct log_pop){ db_text(arena, row, 0), db_u64(row, 1),
                                               db_u64(row, 2), db_u64(row, 3) != 0 };
}

static uint64_t much(const struct log_pop *row, bool by_lines)
{
    return by_lines ? row->lines : row->bytes;
}

/* Each PoP that has the endpoint has a share, those that had it have one together: who has told the
 * most of it gives way, so that none drives out what another told. */
static int log_most(struct db *db, uint64_t endpoint_uid, bool by_lines, struct arena *arena,
                    const struct log_pop **ret, struct err *err)
{
    const struct log_pop *most = NULL, *most_left = NULL;
    struct log_pop *pops;
    size_t count = 0;
    uint64_t left = 0;
    int r = db_list(db, Q_LOG_POPS, NULL, arena, log_pop_read, sizeof *pops, &pops, &count, err,
                    "u", endpoint_uid);
    if (r < 0)
        return r;
    for (size_t i = 0; i < count; i++) {
        const struct log_pop **place = pops[i].placed ? &most : &most_left;
        left += pops[i].placed ? 0 : much(&pops[i], by_lines);
        if (!*place || much(&pops[i], by_lines) > much(*place, by_lines))
            *place = &pops[i];
    }
    *ret = most_left && (!most || left >= much(most, by_lines)) ? most_left : most;
    return 0;
}

/* Some at once, so that not every line pays for one; not all that it has. */
static int log_prune(struct db *db, uint64_t endpoint_uid, const struct log_pop *most,
                     uint64_t *lines, uint64_t *bytes, struct err *err)
{
    sqlite3_stmt *statement;
    uint64_t rows = most->lines / 4 + 1;
    int64_t gone_lines = 0, gone_bytes = 0;
    int r = db_begin(db, Q_LOG_PRUNE, &statement, err, "usu", endpoint_uid, most->pop,
                     rows < LOG_PRUNE_ROWS_MAX ? rows : (uint64_t)LOG_PRUNE_ROWS_MAX);
    if (r < 0)
        return r;
    while ((r = db_step(db, statement, err)) > 0) {
        gone_lines++;
        gone_bytes += sqlite3_column_int64(statement, 0);
    }
    if (r >= 0)
        r = db_run(db, Q_LOG_POP, err, "usii", endpoint_uid, most->pop, -gone_lines, -gone_bytes);
    if (r >= 0)
        r = db_run(db, Q_LOG_POP_PRUNE, err, "us", endpoint_uid, most->pop);
    if (r >= 0)
        r = log_sum(db, endpoint_uid, -gone_lines, -gone_bytes, lines, bytes, err);
    return r < 0 ? r : (int)gone_lines;
}

/* Until what is kept of the endpoint is within its bounds. */
static int log_bound(struct db *db, uint64_t endpoint_uid, uint64_t lines, uint64_t bytes,
                     struct err *err)
{
    struct arena *arena = NULL;
    int r = 1;
    while (r > 0 && (lines > db->limits.log_rows_max || bytes > db->limits.log_bytes_max)) {
        const struct log_pop *most;
        arena = arena ? arena : arena_new();
        r = log_most(db, endpoint_uid, lines > db->limits.log_rows_max, arena, &most, err);
        if (r == 0 && most)
            r = log_prune(db, endpoint_uid, most, &lines, &bytes, err);
    }
    arena_free(arena);
    return r < 0 ? r : 0;
}

static int log_add(struct store *self, struct store_log *row, struct err *err)
{
    struct db *db = db_of(self);
    assert(db->inside);
    int r = db_run(db, Q_LOG_ADD, err, "uissss", row->endpoint_uid, row->at_ns, row->pop,
                   row->replica, row->stream, row->line);
    if (r < 0)
        return r;
    row->id = last_id(db);
    uint64_t lines = 0, bytes = 0;
    r = db_run(db, Q_LOG_POP, err, "usii", row->endpoint_uid, row->pop, INT64_C(1),
               (int64_t)row->line.size);
    if (r >= 0)
        r = log_sum(db, row->endpoint_uid, 1, (int64_t)row->line.size, &lines, &bytes, err);
    return r < 0 ? r : log_bound(db, row->endpoint_uid, lines, bytes, err);
}

static void log_read(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    *(struct store_log *)ret = (struct store_log){
        .id = db_u64(row, 0),
        .endpoint_uid = db_u64(row, 1),
        .at_ns = sqlite3_column_int64(row, 2),
        .pop = db_text(arena, row, 3),
        .replica = db_text(arena, row, 4),
        .stream = db_text(arena, row, 5),
        .line = db_text(arena, row, 6),
    };
}

static int log_list(struct store *self, const struct store_filter *filter,
                    const struct store_page *page, struct arena *arena, struct store_log **ret,
                    size_t *ret_count, struct err *err)
{
    return db_list(db_of(self), page->from_end ? Q_LOG_END : Q_LOG_LIST, page, arena, log_read,
                   sizeof **ret, ret, ret_count, err, "uuus", page->after, filter->endpoint_uid,
                   (uint64_t)page_limit(page), filter->replica);
}

/* ---- deaths --------------------------------------------------------------------------------- */

static int death_add(struct store *self, struct store_death *row, struct err *err)
{
    struct db *db = db_of(self);
    assert(db->inside);
    int r = db_run(db, Q_DEATH_ADD, err, "uuisss", row->endpoint_uid, row->revision, row->at_ns,
                   row->replica, row->reason, row->log);
    if (r < 0)
        return r;
    row->id = last_id(db);
    r = db_run(db, Q_DEATH_PRUNE, err, "uu", row->endpoint_uid, db->limits.deaths_max);
    return r < 0 ? r : 0;
}

static void death_read(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    *(struct store_death *)ret = (struct store_death){
        .id = db_u64(row, 0),
        .endpoint_uid = db_u64(row, 1),
        .revision = db_u64(row, 2),
        .at_ns = sqlite3_column_int64(row, 3),
        .replica = db_text(arena, row, 4),
        .reason = db_text(arena, row, 5),
        .log = db_text(arena, row, 6),
    };
}

static int death_list(struct store *self, uint64_t endpoint_uid, struct arena *arena,
                      struct store_death **ret, size_t *ret_count, struct err *err)
{
    return db_list(db_of(self), Q_DEATH_LIST, NULL, arena, death_read, sizeof **ret, ret, ret_count,
                   err, "u", endpoint_uid);
}

/* ---- audit ---------------------------------------------------------------------------------- */

static int audit_add(struct store *self, const struct store_audit *row, struct err *err)
{
    struct db *db = db_of(self);
    assert(db->inside);
    int r = db_run(db, Q_AUDIT_ADD, err, "issssssss", row->at_ns, row->who, row->action, row->from,
                   row->request_id, row->project, row->endpoint, row->before, row->after);
    if (r >= 0)
        r = prune_below(db, Q_AUDIT_PRUNE, last_id(db), db->limits.audit_rows_max, err);
    return r < 0 ? r : 0;
}

static void audit_read(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    *(struct store_audit *)ret = (struct store_audit){
        .id = db_u64(row, 0),
        .at_ns = sqlite3_column_int64(row, 1),
        .who = db_text(arena, row, 2),
        .action = db_text(arena, row, 3),
        .from = db_text(arena, row, 4),
        .request_id = db_text(arena, row, 5),
        .project = db_text(arena, row, 6),
        .endpoint = db_text(arena, row, 7),
        .before = db_text(arena, row, 8),
        .after = db_text(arena, row, 9),
    };
}

static int audit_list(struct store *self, const struct store_page *page, struct arena *arena,
                      struct store_audit **ret, size_t *ret_count, struct err *err)
{
    return db_list(db_of(self), page->from_end ? Q_AUDIT_END : Q_AUDIT_LIST, page, arena,
                   audit_read, sizeof **ret, ret, ret_count, err, "uu", page->after,
                   (uint64_t)page_limit(page));
}

void sqlite_rows_fill(struct store *store)
{
    store->event_add = event_add;
    store->event_list = event_list;
    store->log_add = log_add;
    store->log_list = log_list;
    store->death_add = death_add;
    store->death_list = death_list;
    store->audit_add = audit_add;
    store->audit_list = audit_list;
}
