/* SPDX-License-Identifier: Apache-2.0 */
/* What was used, how far PoPs' ledgers were counted, and prices. */
#include <assert.h>

#include "store/sqlite_inside.h"

enum { MINUTE_S = 60, HOUR_S = 3600, DAY_S = 86'400 };

/* ---- ledgers -------------------------------------------------------------------------------- */

static void ledger_read(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    *(struct store_ledger *)ret = (struct store_ledger){
        .ledger = db_text(arena, row, 0),
        .pop = db_text(arena, row, 1),
        .counted = db_u64(row, 2),
        .digest = db_text(arena, row, 3),
        .seen_ns = sqlite3_column_int64(row, 4),
    };
}

static int ledger_get(struct store *self, struct slice ledger, struct arena *arena,
                      struct store_ledger *ret, struct err *err)
{
    return db_found(db_one(db_of(self), Q_LEDGER_GET, arena, ledger_read, ret, err, "s", ledger));
}

static int ledger_put(struct store *self, const struct store_ledger *row, struct err *err)
{
    struct db *db = db_of(self);
    assert(db->inside);
    int r = db_run(db, Q_LEDGER_PUT, err, "ssusi", row->ledger, row->pop, row->counted, row->digest,
                   row->seen_ns);
    if (r >= 0)
        r = db_run(db, Q_LEDGER_PRUNE, err, "su", row->pop, db->limits.usage_ledgers_max);
    return r < 0 ? r : 0;
}

/* ---- usage ---------------------------------------------------------------------------------- */

static int usage_placed(struct store *self, uint64_t uid, uint64_t revision, struct slice pop,
                        struct err *err)
{
    struct db *db = db_of(self);
    uint64_t count;
    int r =
        pop.size
            ? db_one(db, Q_USAGE_PLACED, NULL, db_read_u64, &count, err, "uus", uid, revision, pop)
            : db_one(db, Q_USAGE_KNOWN, NULL, db_read_u64, &count, err, "uu", uid, revision);
    return r <= 0 ? r : count > 0;
}

/* Before these nothing of so short a time is kept. */
static int64_t hours_from(const struct db *db, int64_t now_s)
{
    int64_t from = now_s - (int64_t)db->limits.usage_minutes_h * HOUR_S;
    return from - from % HOUR_S;
}

static int64_t days_from(const struct db *db, int64_t now_s)
{
    int64_t from = now_s - (int64_t)db->limits.usage_hours_d * DAY_S;
    return from - from % DAY_S;
}

static int usage_add(struct store *self, const struct store_usage *row, int64_t now_s,
                     struct err *err)
{
    struct db *db = db_of(self);
    const struct figures *f = &row->figures;
    int64_t period = (int64_t)row->period_s;
    assert(db->inside);
    if (row->start_s < hours_from(db, now_s) && period < HOUR_S)
        period = HOUR_S;
    if (row->start_s < days_from(db, now_s))
        period = DAY_S;
    int r = db_run(db, Q_USAGE_ADD, err, "iiuusuuuuuuuuuuuuu", row->start_s / period * period,
                   period, row->endpoint_uid, row->revision, row->pop, f->requests, f->failures,
                   f->bytes_in, f->bytes_out, f->cpu_us, f->busy_us, f->start_us, f->memory_kibs,
                   f->reserved_kibs, f->life_ms, f->idle_ms, f->starts, f->cold_starts);
    return r < 0 ? r : 0;
}

static int roll(struct db *db, int64_t from_s, int64_t to_s, int64_t before_s, struct err *err)
{
    int r = db_run(db, Q_USAGE_ROLL, err, "iii", from_s, to_s, before_s);
    if (r >= 0)
        r = db_run(db, Q_USAGE_ROLLED, err, "ii", from_s, before_s);
    return r;
}

static int usage_roll(struct store *self, int64_t now_s, struct err *err)
{
    struct db *db = db_of(self);
    int64_t oldest_s = now_s - (int64_t)db->limits.usage_days_d * DAY_S;
    assert(db->inside);
    int r = roll(db, MINUTE_S, HOUR_S, hours_from(db, now_s), err);
    if (r >= 0)
        r = roll(db, HOUR_S, DAY_S, days_from(db, now_s), err);
    if (r >= 0)
        r = db_run(db, Q_USAGE_ROLLED, err, "ii", (int64_t)DAY_S, oldest_s);
    if (r >= 0)
        r = db_run(db, Q_USAGE_FORGET, err, "i", oldest_s);
    if (r >= 0)
        r = db_run(db, Q_USAGE_FORGET_PLACES, err, "");
    return r < 0 ? r : 0;
}

static void figures_read(sqlite3_stmt *row, int column, struct figures *ret)
{
#define FIGURE_READ(name, text) ret->name = db_u64(row, column++);
    FIGURES(FIGURE_READ)
#undef FIGURE_READ
}

static void sum_read(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    struct store_usage_sum *sum = ret;
    *sum = (struct store_usage_sum){
        .endpoint_uid = db_u64(row, 0),
        .revision = db_u64(row, 1),
        .project = db_text(arena, row, 2),
        .endpoint = db_text(arena, row, 3),
        .pop = db_text(arena, row, 4),
        .start_s = sqlite3_column_int64(row, 5),
        .period_s = db_u64(row, 6),
    };
    figures_read(row, 7, &sum->figures);
}

static int usage_sum(struct store *self, const struct store_usage_query *query, struct arena *arena,
                     struct store_usage_sum **ret, size_t *ret_count, struct err *err)
{
    int r = db_list(db_of(self), Q_USAGE_SUM, NULL, arena, sum_read, sizeof **ret, ret, ret_count,
                    err, "iissuuuuusu", query->from_s, query->to_s, query->project, query->endpoint,
                    (uint64_t)query->by_project, (uint64_t)query->by_endpoint,
                    (uint64_t)query->by_revision, (uint64_t)query->by_pop, query->by_s, query->pop,
                    (uint64_t)query->limit + 1);
    if (r == 0 && *ret_count > query->limit)
        return err_set(err, ERR_TOO_LARGE,
                       "more than %u rows of usage: ask for a shorter time, or "
                       "by less",
                       query->limit);
    return r;
}

/* ---- prices --------------------------------------------------------------------------------- */

static int prices_get(struct store *self, struct arena *arena, struct slice *ret_list,
                      struct err *err)
{
    struct slice list = {};
    int r = db_one(db_of(self), Q_PRICES_GET, arena, db_read_text, &list, err, "");
    if (r < 0)
        return r;
    *ret_list = list;
    return 0;
}

static int prices_put(struct store *self, struct slice list, int64_t now_ns, struct err *err)
{
    assert(db_of(self)->inside);
    int r = db_run(db_of(self), Q_PRICES_PUT, err, "si", list, now_ns);
    return r < 0 ? r : 0;
}

void sqlite_usage_fill(struct store *store)
{
    store->ledger_get = ledger_get;
    store->ledger_put = ledger_put;
    store->usage_placed = usage_placed;
    store->usage_add = usage_add;
    store->usage_roll = usage_roll;
    store->usage_sum = usage_sum;
    store->prices_get = prices_get;
    store->prices_put = prices_put;
}
