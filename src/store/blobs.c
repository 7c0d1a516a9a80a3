/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything goes by descriptors of the two folders, so that a path has one segment that we made
 * ourselves. The hash runs along while bytes are written; going on with an upload reads what is
 * there once.
 */
#include "store/blobs.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "base/err.h"
#include "store/blobs_inside.h"
#include "sys/fd.h"

enum { COPY_BYTES = 256 << 10 };

struct blobs_limits blobs_limits_default(void)
{
    return (struct blobs_limits){
#define BLOBS_LIMIT_DEFAULT(name, value, text) .name = (value),
        BLOBS_LIMITS(BLOBS_LIMIT_DEFAULT)
#undef BLOBS_LIMIT_DEFAULT
    };
}

int blobs_failed(const struct blobs *blobs, const char *doing, const char *name, struct err *err)
{
    int e = errno;
    if (e == ENOSPC || e == EDQUOT || e == EFBIG)
        return err_set(err, ERR_OVERLOADED,
                       "the disk that holds '%s' is full: free some space and go on", blobs->path);
    return err_set(err, ERR_INTERNAL, "%s '%s' in '%s': %s", doing, name, blobs->path, strerror(e));
}

/* Of digests that were checked. */
static const char *hex_of(struct slice digest, char name[static NAME_BYTES])
{
    snprintf(name, NAME_BYTES, "%.*s", (int)digest.size - 7, digest.data + 7);
    return name;
}

static const char *part_of(struct slice digest, char name[static NAME_BYTES])
{
    snprintf(name, NAME_BYTES, "%.*s.part", (int)digest.size - 7, digest.data + 7);
    return name;
}

static int open_folder(const char *path, int *ret_fd, struct err *err)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_set(err, errno == ENOSPC ? ERR_OVERLOADED : ERR_INTERNAL, "making '%s': %s",
                       path, strerror(errno));
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, ERR_INTERNAL, "opening '%s': %s", path, strerror(errno));
    *ret_fd = fd;
    return 0;
}

static int add_bytes(struct slice digest, uint64_t bytes, void *data, struct err *err)
{
    (void)digest;
    (void)err;
    struct blobs *blobs = data;
    atomic_fetch_add(&blobs->total_bytes, bytes);
    return 0;
}

int blobs_open(const char *home, const struct blobs_limits *limits, struct blobs **ret_blobs,
               struct err *err)
{
    char path[4096 + 32];
    int unused = -1, r;
    struct blobs *blobs = mem_zalloc(sizeof *blobs);
    blobs->uploads_fd = -1;
    pthread_mutex_init(&blobs->lock, NULL);
    for (int kind = 0; kind < DIGEST_KINDS; kind++)
        blobs->kind_fds[kind] = -1;
    blobs->limits = limits ? *limits : blobs_limits_default();
    snprintf(path, sizeof path, "%.4095s/blobs", home);
    blobs->path = mem_string(slice_of(path));
    if ((r = open_folder(path, &unused, err)) < 0)
        goto out;
    for (int kind = 0; kind < DIGEST_KINDS; kind++) {
        snprintf(path, sizeof path, "%s/%s", blobs->path, digest_kind_names[kind]);
        if ((r = open_folder(path, &blobs->kind_fds[kind], err)) < 0)
            goto out;
    }
    snprintf(path, sizeof path, "%s/uploads", blobs->path);
    if ((r = open_folder(path, &blobs->uploads_fd, err)) < 0)
        goto out;
    r = blobs_each(blobs, add_bytes, blobs, err);
out:
    fd_close(&unused);
    if (r < 0) {
        blobs_close(blobs);
        return r;
    }
    *ret_blobs = blobs;
    return 0;
}

void blobs_close(struct blobs *blobs)
{
    if (!blobs)
        return;
    for (int kind = 0; kind < DIGEST_KINDS; kind++)
        fd_close(&blobs->kind_fds[kind]);
    fd_close(&blobs->uploads_fd);
    blobs_parked_free(blobs);
    pthread_mutex_destroy(&blobs->lock);
    free(blobs->path);
    free(blobs);
}

uint64_t blobs_total_bytes(const struct blobs *blobs)
{
    return atomic_load(&blobs->total_bytes);
}

/* ---- reading -------------------------------------------------------------------------------- */

int blobs_read(struct blobs *blobs, struct slice digest, int *ret_fd, uint64_t *ret_bytes,
               struct err *err)
{
    char name[NAME_BYTES];
    struct stat st;
    enum digest_kind kind;
    int r = digest_check_any(digest, &kind, err);
    if (r < 0)
        return r;
    auto_close int fd =
        openat(blobs->kind_fds[kind], hex_of(digest, name), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return err_set(err, ERR_NOT_FOUND, "no blob %.*s", SLICE_FMT(digest));
    if (fd < 0 || fstat(fd, &st) < 0)
        return blobs_failed(blobs, "opening", name, err);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INTERNAL, "'%s/%s/%s' is no plain file", blobs->path,
                       digest_kind_names[kind], name);
    *ret_bytes = (uint64_t)st.st_size;
    *ret_fd = take_fd(fd);
    return 0;
}

int blobs_find(struct blobs *blobs, struct slice digest, uint64_t *ret_bytes, struct err *err)
{
    int fd;
    int r = blobs_read(blobs, digest, &fd, ret_bytes, err);
    if (r == 0)
        close(fd);
    return r;
}

static ssize_t read_all(int fd, void *data, size_t bytes, uint64_t offset)
{
    size_t done = 0;
    while (done < bytes) {
        ssize_t n = pread(fd, (char *)data + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -1 : (ssize_t)done;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int blobs_load(struct blobs *blobs, struct slice digest, size_t bytes_max, char **ret_data,
               size_t *ret_bytes, struct err *err)
{
    auto_close int fd = -1;
    uint64_t bytes;
    int r = blobs_read(blobs, digest, &fd, &bytes, err);
    if (r < 0)
        return r;
    if (bytes > bytes_max)
        return err_set(err, ERR_TOO_LARGE, "blob %.*s has more than %zu bytes", SLICE_FMT(digest),
                       bytes_max);
    auto_free char *data = mem_alloc(bytes + 1);
    if (read_all(fd, data, bytes, 0) != (ssize_t)bytes)
        return blobs_failed(blobs, "reading", "a blob", err);
    data[bytes] = '\0';
    *ret_data = take_ptr(data);
    *ret_bytes = bytes;
    return 0;
}

typedef int (*each_cb)(struct slice digest, uint64_t bytes, void *data, struct err *err);

static int each_of(struct blobs *blobs, enum digest_kind kind, each_cb fn, void *data,
                   struct err *err)
{
    int fd = openat(blobs->kind_fds[kind], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        int r = blobs_failed(blobs, "opening", digest_kind_names[kind], err);
        fd_close(&fd);
        return r;
    }
    int r = 0;
    for (struct dirent *entry; r >= 0 && (entry = readdir(dir)) != NULL;) {
        char text[DIGEST_TEXT_MAX + 256];
        enum digest_kind found;
        struct stat st;
        snprintf(text, sizeof text, "%s:%s", digest_kind_names[kind], entry->d_name);
        if (digest_check_any(slice_of(text), &found, NULL) < 0 ||
            fstatat(blobs->kind_fds[kind], entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            !S_ISREG(st.st_mode))
            continue; /* not ours */
        r = fn(slice_of(text), (uint64_t)st.st_size, data, err);
    }
    closedir(dir);
    return r < 0 ? r : 0;
}

int blobs_each(struct blobs *blobs, each_cb fn, void *data, struct err *err)
{
    int r = 0;
    for (enum digest_kind kind = 0; kind < DIGEST_KINDS && r == 0; kind++)
        r = each_of(blobs, kind, fn, data, err);
    return r;
}

/* ---- writing -------------------------------------------------------------------------------- */

uint64_t blob_upload_have(struct blobs *blobs, struct slice digest)
{
    char name[NAME_BYTES];
    struct stat st;
    enum digest_kind kind;
    if (digest_check_any(digest, &kind, NULL) < 0 ||
        fstatat(blobs->uploads_fd, part_of(digest, name), &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    return (uint64_t)st.st_size;
}

int blobs_check_one(const struct blobs *blobs, uint64_t bytes, struct err *err)
{
    return bytes <= blobs->limits.blob_bytes_max
               ? 0
               : err_set(err, ERR_TOO_LARGE,
                         "it has %llu bytes, and a blob at most %llu (blob_bytes_max)",
                         (unsigned long long)bytes,
                         (unsigned long long)blobs->limits.blob_bytes_max);
}

int blobs_check_bytes(struct blobs *blobs, uint64_t total, struct err *err)
{
    int r = blobs_check_one(blobs, total, err);
    if (r < 0)
        return r;
    uint64_t all = blobs_total_bytes(blobs);
    if (all > blobs->limits.total_bytes_max || total > blobs->limits.total_bytes_max - all)
        return err_set(err, ERR_TOO_LARGE,
                       "all blobs together have at most %llu bytes (total_bytes_max): delete "
                       "endpoints that are not needed",
                       (unsigned long long)blobs->limits.total_bytes_max);
    return 0;
}

/* The file, locked: two senders of one digest must not write into each other's. */
int blobs_open_part(struct blobs *blobs, const char *name, int flags, int *ret_fd, struct err *err)
{
    for (int tries = 0; tries < 8; tries++) {
        struct stat here, there;
        auto_close int fd =
            openat(blobs->uploads_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
        if (fd < 0 && errno == ENOENT)
            return err_set(err, ERR_NOT_FOUND, "there is no such upload, or no more: begin anew");
        /* It was sealed, and who sealed it was killed, or called off, before it had its name. */
        if (fd < 0 && errno == EACCES && fchmodat(blobs->uploads_fd, name, 0600, 0) == 0)
            continue;
        if (fd < 0)
            return blobs_failed(blobs, "opening", name, err);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
            return errno == EWOULDBLOCK ? err_set(err, ERR_CONFLICT,
                                                  "another client is uploading this blob: wait "
                                                  "for it, or try again")
                                        : blobs_failed(blobs, "locking", name, err);
        /* Between open and lock the other one may have finished or removed it. */
        if (fstat(fd, &here) == 0 &&
            fstatat(blobs->uploads_fd, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
            here.st_ino == there.st_ino) {
            *ret_fd = take_fd(fd);
            return 0;
        }
    }
    return err_set(err, ERR_CONFLICT, "another client is uploading this blob: try again");
}

int blobs_hash_existing(struct blob_upload *upload, uint64_t most, struct err *err)
{
    auto_free char *buffer = mem_alloc(COPY_BYTES);
    while (upload->hashed < upload->offset && most > 0) {
        uint64_t left = upload->offset - upload->hashed;
        left = left < most ? left : most;
        size_t want = left < COPY_BYTES ? (size_t)left : COPY_BYTES;
        if (read_all(upload->fd, buffer, want, upload->hashed) != (ssize_t)want)
            return blobs_failed(upload->blobs, "reading", "an upload", err);
        digest_add(upload->digest, buffer, want);
        upload->hashed += want;
        most -= want;
    }
    return 0;
}

int blob_upload_begin(struct blobs *blobs, struct slice digest, uint64_t offset, uint64_t total,
                      uint64_t *ret_offset, struct blob_upload **ret_upload, struct err *err)
{
    char name[NAME_BYTES];
    struct stat st;
    enum digest_kind kind;
    int r = digest_check_any(digest, &kind, err);
    if (r < 0 || (r = blobs_check_bytes(blobs, total, err)) < 0)
        return r;
    if (offset > total)
        return err_set(err, ERR_BAD_INPUT, "the range begins behind the blob's end");
    auto_close int fd = -1;
    bool begun = fstatat(blobs->uploads_fd, part_of(digest, name), &st, AT_SYMLINK_NOFOLLOW) == 0;
    r = blobs_open_part(blobs, name, O_CREAT, &fd, err);
    if (r == 0 && !begun)
        r = blobs_make_room(blobs, name, fd, err);
    if (r < 0)
        return r;
    if (fstat(fd, &st) < 0)
        return blobs_failed(blobs, "looking at", name, err);
    if (offset > (uint64_t)st.st_size) {
        *ret_offset = (uint64_t)st.st_size;
        if (st.st_size == 0)
            (void)unlinkat(blobs->uploads_fd, name, 0);
        return err_set_http(err, 416, "the range begins at byte %llu, but only %llu are here",
                            (unsigned long long)offset, (unsigned long long)st.st_size);
    }
    if (ftruncate(fd, (off_t)offset) < 0)
        return blobs_failed(blobs, "cutting", name, err);
    struct blob_upload *upload = mem_zalloc(sizeof *upload);
    upload->blobs = blobs;
    upload->offset = offset;
    upload->total = total;
    upload->digest = digest_new_of(kind);
    upload->fd = take_fd(fd);
    snprintf(upload->text, sizeof upload->text, "%.*s", SLICE_FMT(digest));
    snprintf(upload->part, sizeof upload->part, "%s", name);
    r = blobs_hash_existing(upload, UINT64_MAX, err);
    if (r < 0) {
        blob_upload_free(upload);
        return r;
    }
    *ret_offset = offset;
    *ret_upload = upload;
    return 0;
}

uint64_t blob_upload_offset(const struct blob_upload *upload)
{
    return upload->offset;
}

/* What came is kept to be resumed, but not on a full disk: there it would hold the very space that
 * the database waits for. */
static int write_failed(struct blob_upload *upload, struct err *err)
{
    int r = blobs_failed(upload->blobs, "writing", "an upload", err);
    if (r == ERR_OVERLOADED)
        (void)unlinkat(upload->blobs->uploads_fd, upload->part, 0);
    return r;
}

int blob_upload_write(struct blob_upload *upload, const void *data, size_t bytes, struct err *err)
{
    if (bytes > upload->total - upload->offset)
        return err_set(err, ERR_TOO_LARGE,
                       upload->session ? "the blob is above its limit (blob_bytes_max)"
                                       : "more bytes came than the blob has");
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pwrite(upload->fd, (const char *)data + done, bytes - done,
                           (off_t)(upload->offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return write_failed(upload, err);
        done += (size_t)n;
    }
    if (upload->hashed == upload->offset) {
        digest_add(upload->digest, data, bytes);
        upload->hashed += bytes;
    }
    upload->offset += bytes;
    return 0;
}

int blob_upload_seal(struct blob_upload *upload, struct err *err)
{
    struct blobs *blobs = upload->blobs;
    char text[DIGEST_TEXT_MAX];
    assert(!upload->done && upload->hashed == upload->offset);
    assert(upload->session ? upload->text[0] : upload->offset == upload->total);
    if (strcmp(digest_end_of(upload->digest, text), upload->text) != 0) {
        (void)unlinkat(blobs->uploads_fd, upload->part, 0);
        upload->done = true;
        return err_set(err, ERR_BAD_INPUT, "the bytes that came are %s, not %s: upload it anew",
                       text, upload->text);
    }
    /* A replica may have a user of its own; the home around it is closed to all others. */
    if (fchmod(upload->fd, 0444) < 0 || fsync(upload->fd) < 0) {
        int r = blobs_failed(blobs, "writing", upload->part, err);
        /* After a failed fsync nobody knows what is on disk, and reading it back would not tell. */
        (void)unlinkat(blobs->uploads_fd, upload->part, 0);
        upload->done = true;
        return r;
    }
    upload->sealed = true;
    return 0;
}

int blob_upload_name(struct blob_upload *upload, struct err *err)
{
    struct blobs *blobs = upload->blobs;
    enum digest_kind kind;
    char name[NAME_BYTES];
    struct stat st;
    assert(upload->sealed && !upload->done);
    int r = digest_check_any(slice_of(upload->text), &kind, err);
    assert(r == 0);
    hex_of(slice_of(upload->text), name);
    bool there = fstatat(blobs->kind_fds[kind], name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (renameat(blobs->uploads_fd, upload->part, blobs->kind_fds[kind], name) < 0) {
        r = blobs_failed(blobs, "renaming", upload->part, err);
        (void)fchmod(upload->fd, 0600); /* to be gone on with */
        return r;
    }
    upload->done = true;
    if (fsync(blobs->kind_fds[kind]) < 0) { /* a name that may not last is none */
        r = blobs_failed(blobs, "writing", "the folder", err);
        (void)unlinkat(blobs->kind_fds[kind], name, 0);
        return r;
    }
    if (!there)
        atomic_fetch_add(&blobs->total_bytes, upload->offset);
    return 0;
}

int blob_upload_finish(struct blob_upload *upload, struct err *err)
{
    int r = blob_upload_seal(upload, err);
    return r < 0 ? r : blob_upload_name(upload, err);
}

void blob_upload_free(struct blob_upload *upload)
{
    if (!upload)
        return;
    if (!upload->done && upload->offset == 0 && !upload->session) /* nothing to go on with */
        (void)unlinkat(upload->blobs->uploads_fd, upload->part, 0);
    blobs_park(upload); /* before anybody else can open it */
    fd_close(&upload->fd);
    free(upload);
}

int blobs_put_of(struct blobs *blobs, enum digest_kind kind, struct slice bytes,
                 char ret_digest[static DIGEST_TEXT_MAX], struct err *err)
{
    struct blob_upload *upload;
    uint64_t offset;
    struct digest *digest = digest_new_of(kind);
    digest_add(digest, bytes.data, bytes.size);
    digest_end_of(digest, ret_digest);
    digest_free(digest);
    if (blobs_find(blobs, slice_of(ret_digest), &offset, NULL) == 0)
        return 0;
    int r = blob_upload_begin(blobs, slice_of(ret_digest), 0, bytes.size, &offset, &upload, err);
    if (r < 0)
        return r;
    r = blob_upload_write(upload, bytes.data, bytes.size, err);
    if (r == 0)
        r = blob_upload_finish(upload, err);
    blob_upload_free(upload);
    return r;
}

int blobs_put(struct blobs *blobs, struct slice bytes, char ret_digest[static DIGEST_TEXT],
              struct err *err)
{
    char text[DIGEST_TEXT_MAX];
    int r = blobs_put_of(blobs, DIGEST_SHA256, bytes, text, err);
    memcpy(ret_digest, text, DIGEST_TEXT);
    return r;
}

/* ---- removing ------------------------------------------------------------------------------- */

int blobs_delete(struct blobs *blobs, struct slice digest, struct err *err)
{
    char name[NAME_BYTES];
    struct stat st;
    enum digest_kind kind;
    int r = digest_check_any(digest, &kind, err);
    if (r < 0)
        return r;
    hex_of(digest, name);
    if (fstatat(blobs->kind_fds[kind], name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : blobs_failed(blobs, "looking at", name, err);
    if (unlinkat(blobs->kind_fds[kind], name, 0) < 0)
        return errno == ENOENT ? 0 : blobs_failed(blobs, "removing", name, err);
    atomic_fetch_sub(&blobs->total_bytes, (uint64_t)st.st_size);
    return 0;
}

/* Of a folder, what has not been touched since, nor is being written. */
static unsigned sweep(int folder_fd, int64_t before_ns, uint64_t *ret_bytes)
{
    unsigned removed = 0;
    *ret_bytes = 0;
    int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        fd_close(&fd);
        return 0;
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        auto_close int part =
            openat(folder_fd, entry->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        struct stat st;
        if (part < 0 || fstat(part, &st) < 0 || !S_ISREG(st.st_mode) ||
            st.st_mtim.tv_sec * INT64_C(1'000'000'000) + st.st_mtim.tv_nsec >= before_ns ||
            flock(part, LOCK_EX | LOCK_NB) < 0 || unlinkat(folder_fd, entry->d_name, 0) < 0)
            continue;
        removed++;
        *ret_bytes += (uint64_t)st.st_size;
    }
    closedir(dir);
    return removed;
}

unsigned blobs_sweep_uploads(struct blobs *blobs, int64_t before_ns)
{
    uint64_t bytes;
    return sweep(blobs->uploads_fd, before_ns, &bytes);
}

unsigned blobs_sweep(struct blobs *blobs, int64_t before_ns)
{
    unsigned removed = 0;
    for (int kind = 0; kind < DIGEST_KINDS; kind++) {
        uint64_t bytes;
        removed += sweep(blobs->kind_fds[kind], before_ns, &bytes);
        atomic_fetch_sub(&blobs->total_bytes, bytes);
    }
    return removed;
}
