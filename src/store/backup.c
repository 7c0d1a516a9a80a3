/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The database is copied first, then what it needs of blobs/ is held by hard links: so the garbage
 * collector of a running control takes nothing away meanwhile.
 */
#include "store/backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "store/digest.h"
#include "store/store.h"
#include "store/tar.h"
#include "sys/fd.h"

#define HEAD_NAME "perigee-backup.json"
enum {
    FORMAT = 1,
    HEAD_BYTES_MAX = 4096,
    COPY_BYTES = 256 << 10,
    TRIES = 3,
    UID_GAP = 1'000'000, /* numbers given since the backup was made */
};

struct job {
    struct arena *arena;
    const char *home, *file, *aside; /* a folder of ours in the home */
    int64_t now_ns;
    int tar_fd;
    char database[DIGEST_TEXT]; /* of the database in the archive */
    struct backup_result result;
};

static int system_error(const char *doing, const char *path, struct err *err)
{
    int e = errno;
    return err_set(err, e == ENOSPC || e == EDQUOT ? ERR_OVERLOADED : ERR_INTERNAL, "%s '%s': %s",
                   doing, ERR_TEXT(path), strerror(e));
}

static const char *path_of(struct job *job, const char *folder, const char *name)
{
    return arena_format(job->arena, "%s/%s", folder, name);
}

static int make_folder(const char *path, struct err *err)
{
    return mkdir(path, 0700) < 0 && errno != EEXIST ? system_error("making", path, err) : 0;
}

static int sync_path(const char *path, struct err *err)
{
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? system_error("writing", path, err) : 0;
}

/* The folder has one level of folders below it, as we made them. */
static void remove_tree(struct job *job, const char *path, int depth)
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

static int make_aside(struct job *job, const char *what, struct err *err)
{
    static const char *const folders[] = { "control", "keys", "blobs", "blobs/sha256" };
    job->aside = arena_format(job->arena, "%s/%s-%d", job->home, what, (int)getpid());
    remove_tree(job, job->aside, 3); /* of a process of that number that died */
    int r = make_folder(job->aside, err);
    for (size_t i = 0; i < sizeof folders / sizeof *folders && r == 0; i++)
        r = make_folder(path_of(job, job->aside, folders[i]), err);
    return r;
}

static int database_error(sqlite3 *db, const char *path, struct err *err)
{
    return err_set(err, sqlite3_errcode(db) == SQLITE_FULL ? ERR_OVERLOADED : ERR_INTERNAL,
                   "'%s': %s", ERR_TEXT(path), sqlite3_errmsg(db));
}

/* Runs fn for the text of each row's first column. */
static int each_row(const char *path, const char *sql,
                    int (*fn)(struct job *job, const char *text, struct err *err), struct job *job,
                    struct err *err)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    int r = 0, step = SQLITE_DONE;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK ||
        sqlite3_busy_timeout(db, 5000) != SQLITE_OK ||
        sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
        r = database_error(db, path, err);
    while (r == 0 && (step = sqlite3_step(statement)) == SQLITE_ROW)
        r = fn(job, (const char *)sqlite3_column_text(statement, 0), err);
    if (r == 0 && step != SQLITE_DONE)
        r = database_error(db, path, err);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return r;
}

static int ignore_row(struct job *job, const char *text, struct err *err)
{
    (void)job;
    (void)text;
    (void)err;
    return 0;
}

static int count_endpoints(struct job *job, const char *text, struct err *err)
{
    (void)err;
    job->result.endpoints = strtoull(text ? text : "0", NULL, 10);
    return 0;
}

static int read_schema(struct job *job, const char *text, struct err *err)
{
    (void)err;
    job->result.schema = (unsigned)strtoul(text ? text : "0", NULL, 10);
    return 0;
}

/* ---- backup --------------------------------------------------------------------------------- */

static int hold_blob(struct job *job, const char *digest, struct err *err)
{
    if (!digest || digest_check(slice_of(digest), err) < 0)
        return ERR_INTERNAL;
    const char *from = arena_format(job->arena, "%s/blobs/sha256/%s", job->home, digest + 7);
    const char *to = arena_format(job->arena, "%s/blobs/sha256/%s", job->aside, digest + 7);
    if (link(from, to) < 0 && errno != EEXIST)
        return errno == ENOENT
                   ? err_set(err, ERR_NOT_FOUND, "blob %s is missing in '%s'", digest, job->home)
                   : system_error("holding", from, err);
    return 0;
}

static int copy_database(struct job *job, struct err *err)
{
    const char *from = path_of(job, job->home, STORE_FILE);
    const char *to = path_of(job, job->aside, STORE_FILE);
    if (access(from, F_OK) < 0)
        return err_set(err, ERR_NOT_FOUND, "'%s' holds no state to back up", job->home);
    char *sql = sqlite3_mprintf("VACUUM INTO %Q", to);
    int r = each_row(from, sql, ignore_row, job, err);
    sqlite3_free(sql);
    if (r == 0)
        r = each_row(to, "SELECT count(*) FROM endpoints", count_endpoints, job, err);
    if (r == 0)
        r = each_row(to, "PRAGMA user_version", read_schema, job, err);
    if (r == 0)
        r = each_row(to, "SELECT DISTINCT digest FROM revision_blobs", hold_blob, job, err);
    return r;
}

static int archive_file(struct job *job, const char *path, const char *name, struct err *err)
{
    struct stat st;
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0)
        return system_error("opening", path, err);
    if (!S_ISREG(st.st_mode) || strlen(name) >= TAR_NAME_MAX)
        return 0;
    return tar_write_file(job->tar_fd, name, fd, (uint64_t)st.st_size, st.st_mtim.tv_sec, err);
}

static int archive_folder(struct job *job, const char *from, const char *name, uint64_t *count,
                          struct err *err)
{
    const char *folder = path_of(job, from, name);
    DIR *dir = opendir(folder);
    if (!dir)
        return errno == ENOENT ? 0 : system_error("opening", folder, err);
    int r = 0;
    for (struct dirent *entry; r == 0 && (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        r = archive_file(job, path_of(job, folder, entry->d_name),
                         path_of(job, name, entry->d_name), err);
        *count += 1;
    }
    closedir(dir);
    return r;
}

static int digest_database(struct job *job, struct err *err)
{
    const char *path = path_of(job, job->aside, STORE_FILE);
    auto_free char *buffer = mem_alloc(COPY_BYTES);
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return system_error("opening", path, err);
    struct digest *digest = digest_new();
    ssize_t n;
    while ((n = read(fd, buffer, COPY_BYTES)) > 0)
        digest_add(digest, buffer, (size_t)n);
    digest_end(digest, job->database);
    digest_free(digest);
    return n < 0 ? system_error("reading", path, err) : 0;
}

static struct slice head_text(struct job *job)
{
    struct json_writer w;
    json_begin(&w, job->arena, JSON_NEWLINE);
    json_object_begin(&w);
    json_member_u64(&w, "format", FORMAT);
    json_member_u64(&w, "schema", job->result.schema);
    json_member_i64(&w, "created_ns", job->now_ns);
    json_member_u64(&w, "endpoints", job->result.endpoints);
    json_member_text(&w, "database", job->database);
    json_object_end(&w);
    return json_end(&w);
}

static int archive_all(struct job *job, struct err *err)
{
    uint64_t keys = 0;
    int r = digest_database(job, err);
    if (r == 0)
        r = tar_write_bytes(job->tar_fd, HEAD_NAME, head_text(job), job->now_ns / 1'000'000'000,
                            err);
    if (r == 0)
        r = archive_file(job, path_of(job, job->aside, STORE_FILE), STORE_FILE, err);
    if (r == 0)
        r = archive_folder(job, job->home, "keys", &keys, err);
    if (r == 0)
        r = archive_folder(job, job->aside, "blobs/sha256", &job->result.blobs, err);
    return r < 0 ? r : tar_write_end(job->tar_fd, err);
}

static int write_archive(struct job *job, struct err *err)
{
    struct stat st;
    const char *part = arena_format(job->arena, "%s.part-%d", job->file, (int)getpid());
    auto_close int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return system_error("writing", part, err);
    job->tar_fd = fd;
    int r = archive_all(job, err);
    if (r == 0 && (fsync(fd) < 0 || fstat(fd, &st) < 0))
        r = system_error("writing", part, err);
    if (r == 0)
        job->result.bytes = (uint64_t)st.st_size;
    /* link() and not rename(): a file that came meanwhile is not written over. */
    if (r == 0 && link(part, job->file) < 0)
        r = errno == EEXIST
                ? err_set(err, ERR_CONFLICT, "'%s' is there already", ERR_TEXT(job->file))
                : system_error("writing", job->file, err);
    (void)unlink(part);
    return r;
}

int store_backup(const char *home, const char *file, int64_t now_ns, struct backup_result *ret,
                 struct err *err)
{
    struct job job = { .arena = arena_new(), .home = home, .file = file, .now_ns = now_ns };
    int r = ERR_NOT_FOUND;
    if (access(file, F_OK) == 0) {
        r = err_set(err, ERR_CONFLICT, "'%s' is there already", ERR_TEXT(file));
        goto out;
    }
    /* A blob that went between the two steps makes the copy stale: once more. */
    for (int tries = 0; tries < TRIES && r == ERR_NOT_FOUND; tries++) {
        r = make_aside(&job, "backup", err);
        if (r == 0)
            r = copy_database(&job, err);
    }
    if (r == 0)
        r = write_archive(&job, err);
    if (job.aside)
        remove_tree(&job, job.aside, 3);
    if (r == 0)
        *ret = job.result;
out:
    arena_free(job.arena);
    return r < 0 ? err_wrap(err, "backup") : 0;
}

/* ---- restore -------------------------------------------------------------------------------- */

static int unpack_file(struct job *job, struct tar_reader *reader, const struct tar_entry *entry,
                       struct err *err)
{
    const char *path = path_of(job, job->aside, entry->name);
    auto_free char *buffer = mem_alloc(COPY_BYTES);
    bool blob = strncmp(entry->name, "blobs/sha256/", 13) == 0;
    char text[DIGEST_TEXT];
    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, blob ? 0444 : 0600);
    if (fd < 0)
        return system_error("writing", path, err);
    struct digest *digest = digest_new();
    int64_t n;
    while ((n = tar_read(reader, buffer, COPY_BYTES, err)) > 0) {
        digest_add(digest, buffer, (size_t)n);
        for (int64_t done = 0; done < n;) {
            ssize_t written = write(fd, buffer + done, (size_t)(n - done));
            if (written < 0 && errno != EINTR) {
                digest_free(digest);
                return system_error("writing", path, err);
            }
            done += written > 0 ? written : 0;
        }
    }
    digest_end(digest, text);
    digest_free(digest);
    if (n < 0)
        return (int)n;
    bool database = strcmp(entry->name, STORE_FILE) == 0;
    if ((blob && strcmp(text + 7, entry->name + 13) != 0) ||
        (database && strcmp(text, job->database) != 0))
        return err_set(err, ERR_BAD_INPUT,
                       "the archive is damaged: '%s' has other bytes than were put in",
                       entry->name);
    job->result.blobs += blob;
    return fsync(fd) < 0 ? system_error("writing", path, err) : 0;
}

static int check_head(struct job *job, struct tar_reader *reader, const struct tar_entry *entry,
                      struct err *err)
{
    yyjson_val *root;
    uint64_t format = 0, schema = 0;
    struct slice database;
    if (strcmp(entry->name, HEAD_NAME) != 0 || entry->bytes > HEAD_BYTES_MAX)
        return err_set(err, ERR_BAD_INPUT, "it does not begin with " HEAD_NAME);
    char *text = arena_alloc(job->arena, entry->bytes + 1);
    int64_t n = tar_read(reader, text, entry->bytes, err);
    if (n < 0)
        return (int)n;
    int r = json_parse(job->arena, (struct slice){ text, (size_t)n }, NULL, &root, err);
    if (r < 0 || (r = json_get_u64(root, "format", JSON_REQUIRED, &format, err)) < 0 ||
        (r = json_get_u64(root, "schema", JSON_REQUIRED, &schema, err)) < 0 ||
        (r = json_get_string(root, "database", JSON_REQUIRED, &database, err)) < 0)
        return r;
    snprintf(job->database, sizeof job->database, "%.*s", SLICE_FMT(database));
    if (format != FORMAT || schema > store_schema())
        return err_set(err, ERR_BAD_INPUT,
                       "the backup has format %llu and schema version %llu, this Perigee knows up "
                       "to %d and %u: it was written by a newer one",
                       (unsigned long long)format, (unsigned long long)schema, (int)FORMAT,
                       store_schema());
    return 0;
}

/* Whatever file was named may be read here: what is wrong with it is said as of no backup. */
static int read_head(struct job *job, struct tar_reader *reader, struct err *err)
{
    struct tar_entry entry;
    struct stat st;
    if (fstat(reader->fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size < TAR_BLOCK)
        return err_set(err, ERR_BAD_INPUT, "its %lld bytes are less than any archive",
                       (long long)st.st_size);
    int r = tar_read_next(reader, &entry, err);
    if (r == 0)
        return err_set(err, ERR_BAD_INPUT, "it is an empty archive");
    return r < 0 ? r : check_head(job, reader, &entry, err);
}

static bool name_known(const char *name)
{
    const char *slash = strrchr(name, '/');
    if (strcmp(name, STORE_FILE) == 0)
        return true;
    if (strncmp(name, "keys/", 5) == 0)
        return slash == name + 4 && slash[1] != '.';
    char text[DIGEST_TEXT + TAR_NAME_MAX];
    snprintf(text, sizeof text, "sha256:%s", slash ? slash + 1 : "");
    return strncmp(name, "blobs/sha256/", 13) == 0 && slash == name + 12 &&
           digest_check(slice_of(text), NULL) == 0;
}

static int unpack(struct job *job, struct err *err)
{
    struct tar_entry entry;
    struct stat st;
    auto_close int fd = open(job->file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, "no file '%s'", ERR_TEXT(job->file))
                               : system_error("opening", job->file, err);
    job->result.bytes = (uint64_t)st.st_size;
    struct tar_reader reader = { .fd = fd };
    int r = read_head(job, &reader, err);
    if (r < 0)
        return err_wrap(err, "'%s' is no backup that can be restored", ERR_TEXT(job->file));
    while ((r = tar_read_next(&reader, &entry, err)) > 0) {
        if (!name_known(entry.name))
            return err_set(err, ERR_BAD_INPUT, "'%s' has no place in a backup",
                           ERR_TEXT(entry.name));
        if ((r = unpack_file(job, &reader, &entry, err)) < 0)
            return r;
    }
    return r;
}

static int check_blob(struct job *job, const char *digest, struct err *err)
{
    if (!digest || digest_check(slice_of(digest), err) < 0)
        return ERR_BAD_INPUT;
    if (access(arena_format(job->arena, "%s/blobs/sha256/%s", job->aside, digest + 7), F_OK) < 0)
        return err_set(err, ERR_BAD_INPUT, "the archive is not whole: blob %s is missing", digest);
    return 0;
}

/* Opens it as control would: that checks it whole, and brings it to this program's schema. */
static int check_database(struct job *job, struct err *err)
{
    const char *path = path_of(job, job->aside, STORE_FILE);
    struct store *store;
    if (access(path, F_OK) < 0)
        return err_set(err, ERR_BAD_INPUT, "the archive is not whole: " STORE_FILE " is missing");
    int r = store_sqlite_open(path, STORE_WRITE, NULL, &store, err);
    if (r < 0)
        return r;
    store->close(store);
    const char *gap = arena_format(job->arena,
                                   "UPDATE sqlite_sequence SET seq = seq + %d"
                                   " WHERE name = 'endpoints'",
                                   (int)UID_GAP);
    if ((r = each_row(path, gap, ignore_row, job, err)) < 0 ||
        (r = each_row(path, "SELECT count(*) FROM endpoints", count_endpoints, job, err)) < 0 ||
        (r = each_row(path, "PRAGMA user_version", read_schema, job, err)) < 0)
        return r;
    return each_row(path, "SELECT DISTINCT digest FROM revision_blobs", check_blob, job, err);
}

static int move_folder(struct job *job, const char *name, struct err *err)
{
    const char *from = path_of(job, job->aside, name), *to = path_of(job, job->home, name);
    int r = make_folder(to, err);
    DIR *dir = r < 0 ? NULL : opendir(from);
    for (struct dirent *entry; r == 0 && dir && (entry = readdir(dir)) != NULL;)
        if (entry->d_name[0] != '.' &&
            rename(path_of(job, from, entry->d_name), path_of(job, to, entry->d_name)) < 0)
            r = system_error("moving", entry->d_name, err);
    if (dir)
        closedir(dir);
    return r < 0 ? r : sync_path(to, err);
}

static int set_aside_old(struct job *job, const char *path, struct err *err)
{
    static const char *const suffixes[] = { "-wal", "-shm", "" };
    for (size_t i = 0; i < 3; i++) {
        const char *old = arena_format(job->arena, "%s%s", path, suffixes[i]);
        const char *kept = arena_format(job->arena, "%s.replaced-%lld%s", path,
                                        (long long)(job->now_ns / 1'000'000'000), suffixes[i]);
        if (rename(old, kept) < 0 && errno != ENOENT)
            return system_error("keeping", old, err);
    }
    return 0;
}

static int take_place(struct job *job, bool replace, struct err *err)
{
    const char *path = path_of(job, job->home, STORE_FILE);
    int r = make_folder(path_of(job, job->home, "blobs"), err);
    if (r == 0)
        r = move_folder(job, "blobs/sha256", err);
    if (r == 0)
        r = move_folder(job, "keys", err);
    if (r == 0)
        r = make_folder(path_of(job, job->home, "control"), err);
    if (r == 0 && replace)
        r = set_aside_old(job, path, err);
    if (r < 0)
        return r;
    if (rename(path_of(job, job->aside, STORE_FILE), path) < 0)
        return system_error("writing", path, err);
    return sync_path(path_of(job, job->home, "control"), err);
}

int store_restore(const char *home, const char *file, bool replace, int64_t now_ns,
                  struct backup_result *ret, struct err *err)
{
    struct job job = { .arena = arena_new(), .home = home, .file = file, .now_ns = now_ns };
    int r = make_folder(home, err);
    if (r == 0 && !replace && access(path_of(&job, home, STORE_FILE), F_OK) == 0)
        r = err_set(err, ERR_CONFLICT,
                    "'%s' holds a state already: restore into an empty home, or say --replace",
                    ERR_TEXT(home));
    if (r == 0)
        r = make_aside(&job, "restore", err);
    if (r == 0)
        r = unpack(&job, err);
    if (r == 0)
        r = check_database(&job, err);
    if (r == 0)
        r = take_place(&job, replace, err);
    if (job.aside)
        remove_tree(&job, job.aside, 3);
    if (r == 0)
        *ret = job.result;
    arena_free(job.arena);
    return r < 0 ? err_wrap(err, "restore") : 0;
}
