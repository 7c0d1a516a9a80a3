/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything is made and checked in a folder of its own; one rename of it is the moment from which
 * the restore has happened. What follows is moved file by file, and gone on with after a kill.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/json.h"
#include "store/backup_inside.h"
#include "store/seal.h"
#include "store/tar.h"
#include "sys/fd.h"

enum {
    HEAD_BYTES_MAX = 4096,
    UID_GAP = 1'000'000, /* numbers given since the backup was made */
};

/* ---- out of the archive ---------------------------------------------------------------------- */

/* The digest that an entry's name says: blobs/sha256/HEX, blobs/sha512/HEX/HEX. */
static bool blob_name(const char *name, char ret_digest[static DIGEST_TEXT_MAX],
                      enum digest_kind *ret_kind)
{
    struct slice rest = slice_of(name);
    if (!slice_is(slice_cut(&rest, '/'), "blobs"))
        return false;
    struct slice algorithm = slice_cut(&rest, '/'), hex = slice_cut(&rest, '/');
    int n = snprintf(ret_digest, DIGEST_TEXT_MAX, "%.*s:%.*s%.*s", SLICE_FMT(algorithm),
                     SLICE_FMT(hex), SLICE_FMT(rest));
    return n < DIGEST_TEXT_MAX && digest_check_any(slice_of(ret_digest), ret_kind, NULL) == 0 &&
           hex.size == DIGEST_HEX && (*ret_kind == DIGEST_SHA512) == (rest.data != NULL);
}

static int unpack_file(struct job *job, struct tar_reader *reader, const struct tar_entry *entry,
                       struct err *err)
{
    char text[DIGEST_TEXT_MAX], wanted[DIGEST_TEXT_MAX];
    enum digest_kind kind = DIGEST_SHA256;
    bool blob = blob_name(entry->name, wanted, &kind);
    const char *path =
        blob ? blob_path(job, job->aside, wanted) : path_of(job, job->aside, entry->name);
    auto_free char *buffer = mem_alloc(COPY_BYTES);
    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, blob ? 0444 : 0600);
    if (fd < 0)
        return system_error("writing", path, err);
    struct digest *digest = digest_new_of(kind);
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
    digest_end_of(digest, text);
    digest_free(digest);
    if (n < 0)
        return (int)n;
    bool database = strcmp(entry->name, STORE_FILE) == 0;
    if ((blob && strcmp(text, wanted) != 0) || (database && strcmp(text, job->database) != 0))
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
    if (strcmp(name, STORE_FILE) == 0 || strcmp(name, SEAL_KEY_FILE) == 0)
        return true;
    char digest[DIGEST_TEXT_MAX];
    enum digest_kind kind;
    return blob_name(name, digest, &kind);
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
    enum digest_kind kind;
    if (!digest || digest_check_any(slice_of(digest), &kind, err) < 0)
        return ERR_BAD_INPUT;
    if (access(blob_path(job, job->aside, digest), F_OK) < 0)
        return err_set(err, ERR_BAD_INPUT, "the archive is not whole: blob %s is missing", digest);
    return 0;
}

/* The key that there will be is the archive's, or else the one that the home has. */
static int count_unopened(struct job *job, const char *text, struct err *err)
{
    bool brings = access(path_of(job, job->aside, SEAL_KEY_FILE), F_OK) == 0;
    const char *key = path_of(job, brings ? job->aside : job->home, SEAL_KEY_FILE);
    struct slice sealed = slice_of(text ? text : "");
    (void)slice_cut(&sealed, '\t');
    (void)err;
    if (seal_has_key(key, sealed))
        return 0;
    job->result.sealed++;
    job->result.other_key = access(key, F_OK) == 0;
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
    r = each_row(path, REVISION_BLOBS " UNION " REGISTRY_BLOBS, check_blob, job, err);
    if (r == 0)
        r = each_row(path, SEALED_PASSWORDS " UNION ALL " SEALED_SECRETS, count_unopened, job, err);
    const char *wal = arena_format(job->arena, "%s-wal", path);
    if (r == 0 && access(wal, F_OK) == 0) /* it would stay behind, and what is in it */
        r = err_set(err, ERR_INTERNAL, "'%s' could not be written to its database", wal);
    return r;
}

/* ---- into its place: once STORE_RESTORE_READY is there it is always ended -------------------- */

/* Again is harmless: what has moved is not there any more. */
static int move_folder(struct job *job, const char *name, struct err *err)
{
    const char *from = path_of(job, job->aside, name), *to = path_of(job, job->home, name);
    int r = make_folder(to, err);
    DIR *dir = r < 0 ? NULL : opendir(from);
    if (r == 0 && !dir && errno != ENOENT)
        return system_error("opening", from, err);
    for (struct dirent *entry; r == 0 && dir && (entry = readdir(dir)) != NULL;)
        if (entry->d_name[0] != '.' &&
            rename(path_of(job, from, entry->d_name), path_of(job, to, entry->d_name)) < 0)
            r = system_error("moving", entry->d_name, err);
    if (dir)
        closedir(dir);
    return r < 0 ? r : sync_path(to, err);
}

/* A second name for the old database: the one that it has already, when this is gone on with, or
 * one that is free. */
static const char *kept_name(struct job *job, const char *path)
{
    struct stat old = {}, there;
    const char *control = path_of(job, job->home, "control"), *name = NULL;
    if (stat(path, &old) < 0)
        old.st_ino = 0;
    DIR *dir = opendir(control);
    for (struct dirent *entry; !name && dir && (entry = readdir(dir)) != NULL;)
        if (strncmp(entry->d_name, "store.db.replaced-", 18) == 0 &&
            fstatat(dirfd(dir), entry->d_name, &there, 0) == 0 && there.st_dev == old.st_dev &&
            there.st_ino == old.st_ino)
            name = path_of(job, control, entry->d_name);
    if (dir)
        closedir(dir);
    for (long long s = job->now_ns / 1'000'000'000; !name; s++) {
        const char *next = arena_format(job->arena, "%s.replaced-%lld", path, s);
        if (stat(next, &there) < 0)
            name = next;
    }
    return name;
}

/* The old database is kept with the log that belongs to it; the log's own name goes before the new
 * database comes, which would take it for its own. */
static int set_aside_old(struct job *job, const char *path, struct err *err)
{
    const char *kept = kept_name(job, path);
    const char *wal = arena_format(job->arena, "%s-wal", path);
    const char *shm = arena_format(job->arena, "%s-shm", path);
    if ((link(path, kept) < 0 && errno != ENOENT && errno != EEXIST) ||
        (link(wal, arena_format(job->arena, "%s-wal", kept)) < 0 && errno != ENOENT &&
         errno != EEXIST))
        return system_error("keeping", path, err);
    if ((unlink(wal) < 0 && errno != ENOENT) || (unlink(shm) < 0 && errno != ENOENT))
        return system_error("removing the log of", path, err);
    return sync_path(path_of(job, job->home, "control"), err);
}

/* What the PoP remembers is of the state that was replaced: gateway and agent would serve it until
 * control comes up. The agent makes all of it anew, the key with the first table. */
static int forget_pop(struct job *job, struct err *err)
{
    static const char *const names[] = { "table", "table.key", "desired.json", "secrets" };
    const char *folder = path_of(job, job->home, "pop");
    if (access(folder, F_OK) < 0 && errno == ENOENT)
        return 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *path = path_of(job, folder, names[i]);
        if (unlink(path) < 0 && errno != ENOENT)
            return system_error("removing", path, err);
    }
    return sync_path(folder, err);
}

/* The one that is replaced opens the database that is replaced. */
static int move_key(struct job *job, struct err *err)
{
    const char *from = path_of(job, job->aside, SEAL_KEY_FILE);
    const char *to = path_of(job, job->home, SEAL_KEY_FILE);
    const char *kept =
        arena_format(job->arena, "%s.replaced-%lld", to, (long long)(job->now_ns / 1'000'000'000));
    if (access(from, F_OK) < 0)
        return 0;
    if (link(to, kept) < 0 && errno != ENOENT && errno != EEXIST)
        return system_error("keeping", to, err);
    return rename(from, to) < 0 ? system_error("writing", to, err) : 0;
}

static int take_place(struct job *job, struct err *err)
{
    const char *path = path_of(job, job->home, STORE_FILE);
    const char *fresh = path_of(job, job->aside, STORE_FILE);
    int r = make_folder(path_of(job, job->home, "blobs"), err);
    if (r == 0)
        r = move_folder(job, "blobs/sha256", err);
    if (r == 0)
        r = move_folder(job, "blobs/sha512", err);
    if (r == 0)
        r = make_folder(path_of(job, job->home, "control"), err);
    if (r == 0)
        r = move_key(job, err);
    if (r < 0 || access(fresh, F_OK) < 0) /* it has moved already */
        return r;
    r = forget_pop(job, err);
    if (r == 0)
        r = set_aside_old(job, path, err);
    if (r == 0 && rename(fresh, path) < 0)
        r = system_error("writing", path, err);
    return r < 0 ? r : sync_path(path_of(job, job->home, "control"), err);
}

static int end_ready(struct job *job, struct err *err)
{
    int r = take_place(job, err);
    if (r == 0)
        remove_tree(job, job->aside, 3);
    if (r == 0 && access(job->aside, F_OK) == 0)
        r = system_error("removing", job->aside, err);
    return r;
}

int store_restore_end(const char *home, struct err *err)
{
    struct job job = { .arena = arena_new(), .home = home, .aside_fd = -1 };
    struct stat st;
    int r = 0;
    job.aside = path_of(&job, home, STORE_RESTORE_READY);
    if (stat(job.aside, &st) == 0) {
        job.now_ns = st.st_ctim.tv_sec * INT64_C(1'000'000'000); /* when it happened */
        r = end_ready(&job, err);
    }
    arena_free(job.arena);
    return r < 0 ? err_wrap(err, "ending a restore that was cut short") : 0;
}

/* From the rename on the restore counts: whoever opens the home next ends it, should we not. */
static int commit(struct job *job, struct err *err)
{
    static const char *const folders[] = { "control", "blobs/sha256", "blobs/sha512", "blobs", "" };
    const char *ready = path_of(job, job->home, STORE_RESTORE_READY);
    int r = 0;
    for (size_t i = 0; i < sizeof folders / sizeof *folders && r == 0; i++)
        r = sync_path(path_of(job, job->aside, folders[i]), err);
    if (r < 0)
        return r;
    if (rename(job->aside, ready) < 0)
        return system_error("renaming", job->aside, err);
    job->aside = ready;
    r = sync_path(job->home, err);
    if (r == 0)
        r = end_ready(job, err);
    job->aside = NULL; /* what is left of it is not to be thrown away */
    return r < 0 ? err_wrap(err, "it counts from the next `perigee up` on, which ends it") : 0;
}

int store_restore(const char *home, const char *file, bool replace, int64_t now_ns,
                  struct backup_result *ret, struct err *err)
{
    struct job job = {
        .arena = arena_new(), .home = home, .file = file, .now_ns = now_ns, .aside_fd = -1
    };
    int r = make_folder(home, err);
    if (r == 0)
        r = store_restore_end(home, err);
    if (r == 0 && !replace && access(path_of(&job, home, STORE_FILE), F_OK) == 0)
        r = err_set(
            err, ERR_CONFLICT,
            "'%s' holds a state already, which is not to be replaced: restore into an empty "
            "home",
            ERR_TEXT(home));
    if (r == 0)
        r = job_aside(&job, "restore", err);
    if (r == 0)
        r = unpack(&job, err);
    if (r == 0)
        r = check_database(&job, err);
    if (r == 0)
        r = commit(&job, err);
    if (r == 0)
        *ret = job.result;
    job_end(&job);
    return r < 0 ? err_wrap(err, "restore") : 0;
}
