/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads that have an id: blobs/uploads/ID.session. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "base/err.h"
#include "store/blobs_inside.h"
#include "sys/fd.h"

static int session_name(struct slice id, char name[static NAME_BYTES], struct err *err)
{
    bool good = id.size > 0 && id.size <= BLOB_SESSION_ID_MAX;
    for (size_t i = 0; i < id.size && good; i++)
        good = (id.data[i] >= '0' && id.data[i] <= '9') || (id.data[i] >= 'a' && id.data[i] <= 'z');
    if (!good)
        return err_set(err, ERR_NOT_FOUND, "'%s' is no upload's id", ERR_SLICE(id));
    snprintf(name, NAME_BYTES, "%.*s.session", SLICE_FMT(id));
    return 0;
}

int blob_session_begin(struct blobs *blobs, struct slice id, struct err *err)
{
    char name[NAME_BYTES];
    int r = session_name(id, name, err);
    if (r < 0 || (r = blobs_check_count(blobs, err)) < 0)
        return r;
    auto_close int fd =
        openat(blobs->uploads_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? blobs_failed(blobs, "making", name, err) : 0;
}

int blob_session_have(struct blobs *blobs, struct slice id, uint64_t *ret_bytes, struct err *err)
{
    char name[NAME_BYTES];
    struct stat st;
    int r = session_name(id, name, err);
    if (r < 0)
        return r;
    if (fstatat(blobs->uploads_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT
                   ? err_set(err, ERR_NOT_FOUND, "there is no such upload, or no more: begin anew")
                   : blobs_failed(blobs, "looking at", name, err);
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

int blob_session_open(struct blobs *blobs, struct slice id, uint64_t more,
                      struct blob_upload **ret_upload, struct err *err)
{
    char name[NAME_BYTES];
    struct stat st;
    uint64_t total;
    auto_close int fd = -1;
    int r = session_name(id, name, err);
    if (r < 0 || (r = blobs_open_part(blobs, name, 0, &fd, err)) < 0)
        return r;
    if (fstat(fd, &st) < 0)
        return blobs_failed(blobs, "looking at", name, err);
    if (__builtin_add_overflow((uint64_t)st.st_size, more, &total))
        total = UINT64_MAX;
    if ((r = blobs_check_bytes(blobs, total, err)) < 0)
        return r;
    struct blob_upload *upload = mem_zalloc(sizeof *upload);
    upload->blobs = blobs;
    upload->session = true;
    upload->offset = (uint64_t)st.st_size;
    upload->total = blobs->limits.blob_bytes_max;
    upload->fd = take_fd(fd);
    snprintf(upload->part, sizeof upload->part, "%s", name);
    *ret_upload = upload;
    return 0;
}

int blob_session_expect(struct blob_upload *upload, struct slice digest, struct err *err)
{
    enum digest_kind kind;
    int r = digest_check_any(digest, &kind, err);
    if (r < 0)
        return r;
    assert(upload->session && !upload->digest);
    upload->digest = digest_new_of(kind);
    snprintf(upload->text, sizeof upload->text, "%.*s", SLICE_FMT(digest));
    return blobs_hash_existing(upload, err);
}

int blob_session_delete(struct blobs *blobs, struct slice id, struct err *err)
{
    char name[NAME_BYTES];
    auto_close int fd = -1;
    int r = session_name(id, name, err);
    if (r < 0 || (r = blobs_open_part(blobs, name, 0, &fd, err)) < 0)
        return r;
    return unlinkat(blobs->uploads_fd, name, 0) < 0 ? blobs_failed(blobs, "removing", name, err)
                                                    : 0;
}
