/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The database is copied first, then what it needs of blobs/ is held by hard links: so the garbage
 * collector of a running control takes nothing away meanwhile.
 */
#include "store/backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/json.h"
#include "store/backup_inside.h"
#include "store/tar.h"
#include "sys/fd.h"

enum { TRIES = 3 };

static int hold_blob(struct job *job, const char *digest, struct err *err)
{
    enum digest_kind kind;
    if (!digest || digest_check_any(slice_of(digest), &kind, err) < 0)
        return ERR_INTERNAL;
    const char *from = blob_path(job, job->home, digest);
    const char *to = blob_path(job, job->aside, digest);
    if (link(from, to) < 0 && errno != EEXIST)
        return errno == ENOENT
                   ? err_set(err, ERR_NOT_FOUND, "blob %s is missing in '%s'", digest, job->home)
                   : system_error("holding", from, err);
    return 0;
}

static void name_sealed(struct job *job, struct slice purpose)
{
    char *which = job->result.which;
    size_t used = strlen(which), room = sizeof job->result.which;
    const char *comma = used ? ", " : "", *more = " and others";
    if (strstr(which, more))
        return;
    if (used + strlen(comma) + purpose.size + strlen(more) < room)
        (void)snprintf(which + used, room - used, "%s%.*s", comma, SLICE_FMT(purpose));
    else if (used)
        (void)snprintf(which + used, room - used, "%s", more);
}

/* With the key each is opened, to see that it can be. */
static int count_sealed(struct job *job, const char *text, struct err *err)
{
    struct slice sealed = slice_of(text ? text : ""), purpose = slice_cut(&sealed, '\t'), value;
    struct arena *secret = arena_new_secret();
    (void)err;
    if (!job->key || seal_open(job->key, purpose, sealed, secret, &value, NULL) < 0) {
        job->result.sealed++;
        if (job->with_key)
            name_sealed(job, purpose);
    }
    arena_free(secret);
    return 0;
}

/* One that cannot be read opens nothing: its words are those of what it does not open. */
static void look_for_key(struct job *job)
{
    const char *path = path_of(job, job->home, SEAL_KEY_FILE);
    job->result.sealed = 0;
    job->result.which[0] = '\0';
    job->result.other_key = access(path, F_OK) == 0;
    arena_free(job->key_arena);
    job->key_arena = arena_new_secret();
    job->key = NULL;
    if (job->with_key)
        (void)!seal_key_load(path, false, job->key_arena, &job->key, NULL);
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
    look_for_key(job); /* afterwards: whatever is sealed in the copy, its key was there before */
    if (r == 0)
        r = each_row(to, "SELECT count(*) FROM endpoints", count_endpoints, job, err);
    if (r == 0)
        r = each_row(to, "PRAGMA user_version", read_schema, job, err);
    if (r == 0)
        r = each_row(to,
                     job->result.schema >= SCHEMA_ORIGINS ? REVISION_BLOBS
                                                          : "SELECT digest FROM revision_blobs",
                     hold_blob, job, err);
    if (r == 0 && job->result.schema >= SCHEMA_REGISTRY)
        r = each_row(to, REGISTRY_BLOBS, hold_blob, job, err);
    if (r == 0 && job->result.schema >= SCHEMA_ORIGINS)
        r = each_row(to, SEALED_PASSWORDS, count_sealed, job, err);
    if (r == 0 && job->result.schema >= SCHEMA_SECRETS)
        r = each_row(to, SEALED_SECRETS, count_sealed, job, err);
    return r;
}

static int archive_file(struct job *job, const char *path, const char *name, struct err *err)
{
    struct stat st;
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0)
        return system_error("opening", path, err);
    if (!S_ISREG(st.st_mode))
        return 0;
    return tar_write_file(job->tar_fd, name, fd, (uint64_t)st.st_size, st.st_mtim.tv_sec, err);
}

/* A long one is a folder's name and a file's: a field of ustar has 100 bytes. */
static const char *archive_name(struct job *job, const char *folder, const char *name)
{
    return strlen(name) == DIGEST_HEX_MAX
               ? arena_format(job->arena, "%s/%.*s/%s", folder, DIGEST_HEX, name, name + DIGEST_HEX)
               : path_of(job, folder, name);
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
        const char *file = archive_name(job, name, entry->d_name);
        if (entry->d_name[0] == '.' || strlen(strrchr(file, '/') + 1) > TAR_FILE_MAX)
            continue;
        r = archive_file(job, path_of(job, folder, entry->d_name), file, err);
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

static int archive_key(struct job *job, struct err *err)
{
    const char *path = path_of(job, job->home, SEAL_KEY_FILE);
    if (access(path, F_OK) < 0) /* nothing was ever sealed, or it was lost */
        return 0;
    return archive_file(job, path, SEAL_KEY_FILE, err);
}

static int archive_all(struct job *job, struct err *err)
{
    int r = digest_database(job, err);
    if (r == 0)
        r = tar_write_bytes(job->tar_fd, HEAD_NAME, head_text(job), job->now_ns / 1'000'000'000,
                            err);
    if (r == 0)
        r = archive_file(job, path_of(job, job->aside, STORE_FILE), STORE_FILE, err);
    if (r == 0 && job->with_key)
        r = archive_key(job, err);
    if (r == 0)
        r = archive_folder(job, job->aside, "blobs/sha256", &job->result.blobs, err);
    if (r == 0)
        r = archive_folder(job, job->aside, "blobs/sha512", &job->result.blobs, err);
    return r < 0 ? r : tar_write_end(job->tar_fd, err);
}

/* The name lasts once its folder is on disk. */
static int sync_parent(struct job *job, const char *file, struct err *err)
{
    const char *slash = strrchr(file, '/');
    if (!slash)
        return sync_path(".", err);
    return sync_path(arena_format(job->arena, "%.*s", (int)(slash - file) + 1, file), err);
}

/* Some disks have no hard links (vfat, exFAT), others cannot rename without replacing (NFS). */
static int rename_new(const char *from, const char *to)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (link(from, to) < 0)
        return -1;
    if (unlink(from) == 0)
        return 0;
    int why = errno;
    (void)unlink(to);
    errno = why;
    return -1;
}

/* A file that came meanwhile is not written over. */
static int give_name(struct job *job, const char *part, struct err *err)
{
    if (rename_new(part, job->file) < 0)
        return errno == EEXIST
                   ? err_set(err, ERR_CONFLICT, "'%s' is there already", ERR_TEXT(job->file))
                   : system_error("writing", job->file, err);
    int r = sync_parent(job, job->file, err);
    if (r < 0)
        (void)unlink(job->file); /* a name that may not last is none */
    return r;
}

static int write_archive(struct job *job, struct err *err)
{
    struct stat st = {};
    const char *part = arena_format(job->arena, "%s.part-%d", job->file, (int)getpid());
    auto_close int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return system_error("writing", part, err);
    job->tar_fd = fd;
    int r = archive_all(job, err);
    if (r < 0)
        r = err_wrap(err, "'%s'", ERR_TEXT(job->file));
    if (r == 0 && (fsync(fd) < 0 || fstat(fd, &st) < 0))
        r = system_error("writing", part, err);
    if (r == 0)
        job->result.bytes = (uint64_t)st.st_size;
    r = r < 0 ? r : give_name(job, part, err);
    if (r < 0)
        (void)unlink(part);
    return r;
}

int store_backup(const char *home, const char *file, bool with_key, int64_t now_ns,
                 struct backup_result *ret, struct err *err)
{
    struct job job = { .arena = arena_new(),
                       .home = home,
                       .file = file,
                       .now_ns = now_ns,
                       .with_key = with_key,
                       .aside_fd = -1 };
    int r = ERR_NOT_FOUND;
    if (access(file, F_OK) == 0) {
        r = err_set(err, ERR_CONFLICT, "'%s' is there already", ERR_TEXT(file));
        goto out;
    }
    if (access(path_of(&job, home, STORE_RESTORE_READY), F_OK) == 0) {
        r = err_set(err, ERR_CONFLICT,
                    "a restore into '%s' was cut short: the next `perigee up` ends it",
                    ERR_TEXT(home));
        goto out;
    }
    /* A blob that went between the two steps makes the copy stale: once more. */
    for (int tries = 0; tries < TRIES && r == ERR_NOT_FOUND; tries++) {
        r = job_aside(&job, "backup", err);
        if (r == 0)
            r = copy_database(&job, err);
    }
    if (r == 0)
        r = write_archive(&job, err);
    if (r == 0)
        *ret = job.result;
out:
    arena_free(job.key_arena);
    job_end(&job);
    return r < 0 ? err_wrap(err, "backup") : 0;
}
