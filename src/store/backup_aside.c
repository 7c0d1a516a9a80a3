/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/auto.h"
#include "store/backup_inside.h"
#include "store/sqlite_inside.h"
#include "sys/env_linux.h"
#include "sys/fd.h"

int system_error(const char *doing, const char *path, struct err *err)
{
    int e = errno;
    return err_set(err, e == ENOSPC || e == EDQUOT ? ERR_OVERLOADED : ERR_INTERNAL, "%s '%s': %s",
                   doing, ERR_TEXT(path), strerror(e));
}

const char *path_of(struct job *job, const char *folder, const char *name)
{
    return arena_format(job->arena, "%s/%s", folder, name);
}

const char *blob_path(struct job *job, const char *home, const char *digest)
{
    return arena_format(job->arena, "%s/blobs/%.6s/%s", home, digest, digest + 7);
}

int make_folder(const char *path, struct err *err)
{
    return disk_folder(path, err);
}

int sync_path(const char *path, struct err *err)
{
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? system_error("writing", path, err) : 0;
}

/* The folder has one level of folders below it, as we made them. */
void remove_tree(struct job *job, const char *path, int depth)
{
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        const char *below = path_of(job, path, entry->d_name);
        if (unlink(below) < 0 && depth > 0)
            remove_tree(job, below, depth - 1);
    }
    if (dir)
        closedir(dir);
    (void)rmdir(path);
}

/* ---- a folder of its own --------------------------------------------------------------------- */

/* Whose owner is gone: nobody holds its lock. */
static void sweep_asides(struct job *job, const char *what)
{
    DIR *dir = opendir(job->home);
    size_t size = strlen(what);
    for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
        const char *digits = entry->d_name + size + 1;
        if (strncmp(entry->d_name, what, size) != 0 || entry->d_name[size] != '-' || !*digits ||
            digits[strspn(digits, "0123456789")])
            continue;
        const char *path = path_of(job, job->home, entry->d_name);
        auto_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
            remove_tree(job, path, 3);
    }
    if (dir)
        closedir(dir);
}

int job_aside(struct job *job, const char *what, struct err *err)
{
    static const char *const folders[] = { "control", "blobs", "blobs/sha256", "blobs/sha512" };
    fd_close(&job->aside_fd); /* of a try before this one */
    sweep_asides(job, what);
    job->aside = arena_format(job->arena, "%s/%s-%d", job->home, what, (int)getpid());
    int r = make_folder(job->aside, err);
    if (r < 0)
        return r;
    job->aside_fd = open(job->aside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (job->aside_fd < 0 || flock(job->aside_fd, LOCK_EX | LOCK_NB) < 0)
        r = system_error("locking", job->aside, err);
    for (size_t i = 0; i < sizeof folders / sizeof *folders && r == 0; i++)
        r = make_folder(path_of(job, job->aside, folders[i]), err);
    return r;
}

void job_end(struct job *job)
{
    if (job->aside)
        remove_tree(job, job->aside, 3);
    fd_close(&job->aside_fd);
    arena_free(job->arena);
}

/* ---- databases ------------------------------------------------------------------------------- */

int each_row(const char *path, const char *sql,
             int (*fn)(struct job *job, const char *text, struct err *err), struct job *job,
             struct err *err)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    int r = 0, step = SQLITE_DONE;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK ||
        sqlite3_busy_timeout(db, 5000) != SQLITE_OK ||
        sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
        r = sqlite_error(db, path, "copying the state", err);
    while (r == 0 && (step = sqlite3_step(statement)) == SQLITE_ROW)
        r = fn(job, (const char *)sqlite3_column_text(statement, 0), err);
    if (r == 0 && step != SQLITE_DONE)
        r = sqlite_error(db, path, "copying the state", err);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return r;
}

int ignore_row(struct job *job, const char *text, struct err *err)
{
    (void)job;
    (void)text;
    (void)err;
    return 0;
}

int count_endpoints(struct job *job, const char *text, struct err *err)
{
    (void)err;
    job->result.endpoints = strtoull(text ? text : "0", NULL, 10);
    return 0;
}

int read_schema(struct job *job, const char *text, struct err *err)
{
    (void)err;
    job->result.schema = (unsigned)strtoul(text ? text : "0", NULL, 10);
    return 0;
}
