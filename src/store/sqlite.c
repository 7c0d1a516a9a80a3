/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WAL with synchronous=FULL: a commit that returned is on disk, and a process that dies at any
 * instant leaves a file that the next open repairs by itself. The reading connection never waits
 * for the writing one.
 */
#include "store/store.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/auto.h"
#include "store/reserve.h"
#include "store/sqlite_inside.h"

enum {
    BUSY_MS = 5000,
    SPACE_BYTES_MIN = 64 << 10,
    WAL_PAGES = 1000,                 /* between two checkpoints */
    WAL_BYTES_MAX = 16 << 20,         /* what is left of the log after one */
    CHECK_WHOLE_BYTES_MAX = 64 << 20, /* above it indices are not compared at open */
};

static const char *const queries[] = {
#define QUERY_SQL(id, sql) sql,
    QUERIES(QUERY_SQL)
#undef QUERY_SQL
};

struct store_limits store_limits_default(void)
{
    return (struct store_limits){
#define STORE_LIMIT_DEFAULT(name, value, text) .name = (value),
        STORE_LIMITS(STORE_LIMIT_DEFAULT)
#undef STORE_LIMIT_DEFAULT
    };
}

unsigned store_schema(void)
{
    return sqlite_migration_count;
}

const char *store_library(void)
{
    static char text[40];
    (void)snprintf(text, sizeof text, "SQLite %s", sqlite3_libversion());
    return text;
}

/* What errno said of a failed sync is often gone by the time that SQLite can be asked. */
static bool no_space(const char *path)
{
    struct statvfs disk;
    return statvfs(path, &disk) == 0 && disk.f_bavail * disk.f_frsize < SPACE_BYTES_MIN;
}

int sqlite_error(sqlite3 *handle, const char *path, const char *doing, struct err *err)
{
    int code = sqlite3_extended_errcode(handle);
    int system = sqlite3_system_errno(handle);
    switch (code & 0xff) {
    case SQLITE_FULL:
        return err_set(err, ERR_OVERLOADED,
                       "the disk that holds '%s' is full: nothing was changed; "
                       "free some space and try again",
                       path);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return err_set(err, ERR_OVERLOADED, "the state in '%s' is busy: try again", path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return err_set(err, ERR_INTERNAL,
                       "the state in '%s' is damaged, or its disk cannot be read (%s; the kernel's "
                       "log knows): move it away, then bring back a backup with `perigee restore "
                       "FILE`",
                       path, sqlite3_errmsg(handle));
    case SQLITE_CONSTRAINT:
        return err_set(err, ERR_CONFLICT, "%s: %s", doing, sqlite3_errmsg(handle));
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        return err_set(err, ERR_INTERNAL, "%s: '%s' cannot be %s: %s", doing, path,
                       (code & 0xff) == SQLITE_READONLY ? "written" : "opened",
                       system ? strerror(system) : sqlite3_errmsg(handle));
    case SQLITE_IOERR:
        if (system == ENOSPC || system == EDQUOT || no_space(path))
            return err_set(err, ERR_OVERLOADED,
                           "the disk that holds '%s' is full: nothing was changed; "
                           "free some space and try again",
                           path);
        return err_set(err, ERR_INTERNAL, "%s: '%s': %s", doing, path, sqlite3_errmsg(handle));
    default:
        return err_set(err, ERR_INTERNAL, "%s: '%s': %s", doing, path, sqlite3_errmsg(handle));
    }
}

int db_error(struct db *db, const char *doing, struct err *err)
{
    return sqlite_error(db->handle, db->path, doing, err);
}

static int bind_one(sqlite3_stmt *statement, int index, char type, va_list *arguments)
{
    if (type == 'i')
        return sqlite3_bind_int64(statement, index, va_arg(*arguments, int64_t));
    if (type == 'u')
        return sqlite3_bind_int64(statement, index, (int64_t)va_arg(*arguments, uint64_t));
    assert(type == 's');
    struct slice text = va_arg(*arguments, struct slice);
    return sqlite3_bind_text64(statement, index, text.data ? text.data : "", text.size,
                               SQLITE_TRANSIENT, SQLITE_UTF8);
}

static int begin(struct db *db, enum query query, sqlite3_stmt **ret, struct err *err,
                 const char *types, va_list *arguments)
{
    if (!db->statements[query] &&
        sqlite3_prepare_v3(db->handle, queries[query], -1, SQLITE_PREPARE_PERSISTENT,
                           &db->statements[query], NULL) != SQLITE_OK)
        return db_error(db, "preparing a statement", err);
    sqlite3_stmt *statement = db->statements[query];
    assert(!sqlite3_stmt_busy(statement)); /* one that began was not ended */
    for (int i = 0; types[i]; i++)
        if (bind_one(statement, i + 1, types[i], arguments) != SQLITE_OK)
            return db_error(db, "binding a value", err);
    *ret = statement;
    return 0;
}

int db_begin(struct db *db, enum query query, sqlite3_stmt **ret, struct err *err,
             const char *types, ...)
{
    va_list arguments;
    va_start(arguments, types);
    int r = begin(db, query, ret, err, types, &arguments);
    va_end(arguments);
    return r;
}

void db_end(sqlite3_stmt *statement)
{
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
}

int db_step(struct db *db, sqlite3_stmt *statement, struct err *err)
{
    int r = sqlite3_step(statement);
    if (r == SQLITE_ROW)
        return 1;
    if (r != SQLITE_DONE)
        r = db_error(db, db->writing ? "writing the state" : "reading the state", err);
    else
        r = 0;
    db_end(statement);
    return r;
}

int db_run(struct db *db, enum query query, struct err *err, const char *types, ...)
{
    sqlite3_stmt *statement;
    va_list arguments;
    va_start(arguments, types);
    int r = begin(db, query, &statement, err, types, &arguments);
    va_end(arguments);
    if (r < 0)
        return r;
    while ((r = db_step(db, statement, err)) > 0)
        ;
    return r < 0 ? r : sqlite3_changes(db->handle);
}

int db_count(struct db *db, enum query query, uint64_t *ret, struct err *err)
{
    sqlite3_stmt *statement;
    int r = db_begin(db, query, &statement, err, "");
    if (r < 0 || (r = db_step(db, statement, err)) < 0)
        return r;
    *ret = db_u64(statement, 0);
    db_end(statement);
    return 0;
}

struct slice db_text(struct arena *arena, sqlite3_stmt *statement, int column)
{
    const char *text = (const char *)sqlite3_column_text(statement, column);
    return arena_copy(
        arena, (struct slice){ text ? text : "", (size_t)sqlite3_column_bytes(statement, column) });
}

struct rows { /* an array that grows in an arena */
    void *items;
    size_t count, room;
};

static void *rows_add(struct rows *rows, struct arena *arena, size_t bytes)
{
    if (rows->count == rows->room) {
        size_t room = rows->room ? rows->room * 2 : 8;
        void *items = arena_calloc(arena, room, bytes);
        if (rows->count)
            memcpy(items, rows->items, rows->count * bytes);
        rows->items = items;
        rows->room = room;
    }
    return (char *)rows->items + rows->count++ * bytes;
}

static void rows_reverse(struct rows *rows, struct arena *arena, size_t bytes)
{
    char *swap = arena_alloc(arena, bytes);
    char *items = rows->items;
    for (size_t i = 0; i + 1 < rows->count - i; i++) {
        char *a = items + i * bytes, *b = items + (rows->count - 1 - i) * bytes;
        memcpy(swap, a, bytes);
        memcpy(a, b, bytes);
        memcpy(b, swap, bytes);
    }
}

void db_read_u64(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    (void)arena;
    *(uint64_t *)ret = db_u64(row, 0);
}

void db_read_text(sqlite3_stmt *row, struct arena *arena, void *ret)
{
    *(struct slice *)ret = db_text(arena, row, 0);
}

int db_one(struct db *db, enum query query, struct arena *arena, db_read_cb read, void *ret,
           struct err *err, const char *types, ...)
{
    sqlite3_stmt *statement;
    va_list arguments;
    va_start(arguments, types);
    int r = begin(db, query, &statement, err, types, &arguments);
    va_end(arguments);
    if (r < 0 || (r = db_step(db, statement, err)) <= 0)
        return r;
    read(statement, arena, ret);
    db_end(statement);
    return 1;
}

int db_list(struct db *db, enum query query, const struct store_page *page, struct arena *arena,
            db_read_cb read, size_t bytes, void *ret_items, size_t *ret_count, struct err *err,
            const char *types, ...)
{
    struct rows rows = {};
    sqlite3_stmt *statement;
    va_list arguments;
    va_start(arguments, types);
    int r = begin(db, query, &statement, err, types, &arguments);
    va_end(arguments);
    if (r < 0)
        return r;
    while ((r = db_step(db, statement, err)) > 0)
        read(statement, arena, rows_add(&rows, arena, bytes));
    if (r < 0)
        return r;
    if (page && page->from_end)
        rows_reverse(&rows, arena, bytes);
    *(void **)ret_items = rows.items;
    *ret_count = rows.count;
    return 0;
}

uint32_t page_limit(const struct store_page *page)
{
    return page->limit && page->limit < STORE_PAGE_MAX ? page->limit : STORE_PAGE_MAX;
}

/* ---- transactions --------------------------------------------------------------------------- */

static int sqlite_transact(struct store *self, store_transaction_cb fn, void *data, struct err *err)
{
    struct db *db = db_of(self);
    assert(!db->inside);
    int r = db_run(db, db->writing ? Q_BEGIN_WRITE : Q_BEGIN_READ, err, "");
    if (r < 0)
        return r;
    db->inside = true;
    r = fn(self, data, err);
    if (r >= 0) {
        r = db_run(db, Q_COMMIT, err, "");
        if (r < 0 && (sqlite3_errcode(db->handle) & 0xff) == SQLITE_IOERR)
            self->in_doubt = true;
    }
    /* SQLite may have rolled back by itself (a full disk). */
    if (r < 0 && !sqlite3_get_autocommit(db->handle))
        (void)db_run(db, Q_ROLLBACK, NULL, "");
    assert(sqlite3_get_autocommit(db->handle));
    db->inside = false;
    return r < 0 ? r : 0;
}

static void sqlite_close(struct store *self)
{
    struct db *db = db_of(self);
    for (int i = 0; i < QUERY_COUNT; i++)
        sqlite3_finalize(db->statements[i]);
    sqlite3_close(db->handle);
    if (db->writing)
        reserve_keep(db->path); /* the log is gone: there is room where there was none */
    free(db->path);
    free(db);
}

/* ---- opening -------------------------------------------------------------------------------- */

static int number_of(sqlite3 *handle, const char *sql, int64_t *ret)
{
    sqlite3_stmt *statement = NULL;
    int r = sqlite3_prepare_v2(handle, sql, -1, &statement, NULL);
    if (r == SQLITE_OK && (r = sqlite3_step(statement)) == SQLITE_ROW)
        *ret = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return r == SQLITE_ROW ? 0 : -1;
}

static int check_whole(struct db *db, struct err *err)
{
    int64_t pages = 0, page_bytes = 0;
    if (number_of(db->handle, "PRAGMA page_count", &pages) < 0 ||
        number_of(db->handle, "PRAGMA page_size", &page_bytes) < 0)
        return db_error(db, "checking the state", err);
    bool whole = pages * page_bytes <= CHECK_WHOLE_BYTES_MAX;
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(db->handle,
                           whole ? "PRAGMA integrity_check(1)" : "PRAGMA quick_check(1)", -1,
                           &statement, NULL) != SQLITE_OK)
        return db_error(db, "checking the state", err);
    int r = 0;
    if (sqlite3_step(statement) != SQLITE_ROW)
        r = db_error(db, "checking the state", err);
    else if (!slice_is(slice_of((const char *)sqlite3_column_text(statement, 0)), "ok"))
        r = err_set(err, ERR_INTERNAL,
                    "the state in '%s' is damaged (%s): move it away, then bring back a backup "
                    "with `perigee restore FILE`",
                    db->path, ERR_TEXT((const char *)sqlite3_column_text(statement, 0)));
    sqlite3_finalize(statement);
    return r;
}

static int settle(struct db *db)
{
    char sql[512];
    snprintf(sql, sizeof sql,
             "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
             "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;"
             "PRAGMA wal_autocheckpoint = %d; PRAGMA journal_size_limit = %d;%s",
             WAL_PAGES, WAL_BYTES_MAX, db->writing ? "" : "PRAGMA query_only = ON;");
    return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : -1;
}

/* A schema of this program's, or an empty file; ERR_PRECONDITION: that of another. */
static int check_schema(struct db *db, struct err *err)
{
    int64_t version = 0, application = 0, tables = 0;
    if (number_of(db->handle, "PRAGMA user_version", &version) < 0 ||
        number_of(db->handle, "PRAGMA application_id", &application) < 0 ||
        number_of(db->handle, "SELECT count(*) FROM sqlite_schema", &tables) < 0)
        return db_error(db, "opening the state", err);
    if (application != SQLITE_APPLICATION_ID && (tables > 0 || version > 0))
        return err_set(err, ERR_PRECONDITION,
                       "'%s' is a database, but none of Perigee's: move it away", db->path);
    if (version > (int64_t)sqlite_migration_count)
        return err_set(err, ERR_PRECONDITION,
                       "the state in '%s' has schema version %lld, this Perigee knows up to %u: "
                       "it was written by a newer one; run that, or restore an older backup",
                       db->path, (long long)version, sqlite_migration_count);
    if (!db->writing && version < (int64_t)sqlite_migration_count)
        return err_set(err, ERR_INTERNAL, "the state in '%s' is at schema version %lld, not %u",
                       db->path, (long long)version, sqlite_migration_count);
    return 0;
}

static int open_and_check(struct db *db, struct err *err)
{
    int flags = db->writing ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READWRITE;
    if (sqlite3_open_v2(db->path, &db->handle, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                        NULL) != SQLITE_OK)
        return db_error(db, "opening the state", err);
    sqlite3_busy_timeout(db->handle, BUSY_MS);
    /* First, so that a file of somebody else's, or a newer one, is not touched. */
    int r = check_schema(db, err);
    if (r < 0)
        return r;
    if (settle(db) < 0)
        return db_error(db, "opening the state", err);
    if (!db->writing)
        return 0;
    r = check_whole(db, err);
    if (r < 0)
        return r;
    return sqlite_migrate(db->handle, db->path, sqlite_migrations, sqlite_migration_count, err);
}

int store_sqlite_open(const char *path, enum store_mode mode, const struct store_limits *limits,
                      struct store **ret_store, struct err *err)
{
    struct db *db = mem_zalloc(sizeof *db);
    db->path = mem_string(slice_of(path));
    db->limits = limits ? *limits : store_limits_default();
    db->writing = mode == STORE_WRITE;
    db->store = (struct store){
        .name = "sqlite",
        .close = sqlite_close,
        .transact = sqlite_transact,
    };
    sqlite_elsewhere_fill(&db->store);
    sqlite_endpoints_fill(&db->store);
    sqlite_pops_fill(&db->store);
    sqlite_registry_fill(&db->store);
    sqlite_rows_fill(&db->store);
    sqlite_secrets_fill(&db->store);
    sqlite_usage_fill(&db->store);
    mode_t mask = umask(0077); /* SQLite makes its files by the mask */
    int r = open_and_check(db, err);
    if (r == ERR_OVERLOADED && db->writing && reserve_give(path)) { /* the disk is full */
        sqlite3_close(take_ptr(db->handle));
        r = open_and_check(db, err);
    }
    umask(mask);
    if (r < 0) {
        sqlite_close(&db->store);
        return r;
    }
    if (db->writing)
        reserve_keep(path);
    *ret_store = &db->store;
    return 0;
}

int store_path(const char *home, struct arena *arena, const char **ret_path, struct err *err)
{
    const char *folder = arena_format(arena, "%s/control", home);
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return err_set(err, errno == ENOSPC ? ERR_OVERLOADED : ERR_INTERNAL, "making '%s': %s",
                       folder, strerror(errno));
    *ret_path = arena_format(arena, "%s/" STORE_FILE, home);
    return 0;
}
