/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forward only, all missing steps in one transaction, after a copy of the file: what fails half-way
 * leaves the old file, what turns out wrong later can be gone back on by hand.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "store/sqlite_inside.h"

enum { COPIES_KEPT = 3 };

static int failed(sqlite3 *handle, const char *path, const char *what, struct err *err)
{
    int system = sqlite3_system_errno(handle);
    bool full = sqlite3_errcode(handle) == SQLITE_FULL || system == ENOSPC;
    return err_set(err, full ? ERR_OVERLOADED : ERR_INTERNAL,
                   "bringing the state in '%s' to this version: %s: %s", path, what,
                   full ? "the disk is full" : sqlite3_errmsg(handle));
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names begin with the time: sorted, the first ones are the oldest. */
static void prune_copies(const char *path, struct arena *arena)
{
    const char *slash = strrchr(path, '/');
    const char *folder = slash ? arena_format(arena, "%.*s", (int)(slash - path), path) : ".";
    const char *prefix = arena_format(arena, "%s.before-", slash ? slash + 1 : path);
    DIR *dir = opendir(folder);
    if (!dir)
        return;
    char *names[256];
    size_t count = 0;
    for (struct dirent *entry; count < 256 && (entry = readdir(dir)) != NULL;)
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0)
            names[count++] = arena_string(arena, slice_of(entry->d_name));
    closedir(dir);
    qsort(names, count, sizeof *names, by_name);
    for (size_t i = 0; i + COPIES_KEPT < count; i++)
        (void)unlink(arena_format(arena, "%s/%s", folder, names[i]));
}

static int copy_file(sqlite3 *handle, const char *path, unsigned version, struct err *err)
{
    struct arena *arena = arena_new();
    sqlite3_stmt *statement = NULL;
    int r = 0;
    if (sqlite3_prepare_v2(handle, "SELECT strftime('%Y%m%dT%H%M%f', 'now')", -1, &statement,
                           NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW)
        r = failed(handle, path, "reading the time", err);
    const char *copy = r < 0
                           ? NULL
                           : arena_format(arena, "%s.before-%s-schema-%u", path,
                                          (const char *)sqlite3_column_text(statement, 0), version);
    sqlite3_finalize(statement);
    if (copy) {
        sqlite3_stmt *vacuum = NULL;
        if (sqlite3_prepare_v2(handle, "VACUUM INTO ?1", -1, &vacuum, NULL) != SQLITE_OK ||
            sqlite3_bind_text(vacuum, 1, copy, -1, SQLITE_STATIC) != SQLITE_OK ||
            sqlite3_step(vacuum) != SQLITE_DONE) {
            r = failed(handle, path, "copying it first", err);
            (void)unlink(copy);
        }
        sqlite3_finalize(vacuum);
    }
    if (r == 0) {
        prune_copies(path, arena);
        log_info("store", "state copied before a change of schema", LOG_S("copy", copy));
    }
    arena_free(arena);
    return r;
}

static int apply(sqlite3 *handle, const char *path, const struct migration *migrations,
                 unsigned from, unsigned to, struct err *err)
{
    char pragmas[128];
    snprintf(pragmas, sizeof pragmas, "PRAGMA user_version = %u; PRAGMA application_id = %d", to,
             SQLITE_APPLICATION_ID);
    if (sqlite3_exec(handle, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK)
        return failed(handle, path, "beginning", err);
    int r = 0;
    for (unsigned i = from; i < to && r == 0; i++)
        if (sqlite3_exec(handle, migrations[i].sql, NULL, NULL, NULL) != SQLITE_OK)
            r = failed(handle, path, migrations[i].name, err);
    if (r == 0 && sqlite3_exec(handle, pragmas, NULL, NULL, NULL) != SQLITE_OK)
        r = failed(handle, path, "writing the version", err);
    if (r == 0 && sqlite3_exec(handle, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
        r = failed(handle, path, "ending", err);
    if (r < 0 && !sqlite3_get_autocommit(handle))
        (void)sqlite3_exec(handle, "ROLLBACK", NULL, NULL, NULL);
    return r;
}

int sqlite_migrate(sqlite3 *handle, const char *path, const struct migration *migrations,
                   unsigned count, struct err *err)
{
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(handle, "PRAGMA user_version", -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW) {
        sqlite3_finalize(statement);
        return failed(handle, path, "reading its version", err);
    }
    unsigned version = (unsigned)sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    if (version >= count)
        return 0;
    if (version > 0) {
        int r = copy_file(handle, path, version, err);
        if (r < 0)
            return r;
    }
    return apply(handle, path, migrations, version, count, err);
}
