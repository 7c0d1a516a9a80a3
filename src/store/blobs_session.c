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

/* ---- digests on the way ---------------------------------------------------------------------- */

/* A session is opened for each part of it: its digest waits here for the next one. What is not here
 * any more, as after a start, is made from the file. */
struct parked {
    char part[NAME_BYTES];
    struct digest *digest; /* NULL: free */
    uint64_t hashed, number;
};

/* Its own, a free one, or the one that came first: sessions that ended elsewhere leave theirs. */
static struct parked *place_of(struct blobs *blobs, const char *part)
{
    struct parked *best = &blobs->parked[0];
    for (uint64_t i = 0; i < blobs->limits.uploads_max; i++) {
        struct parked *at = &blobs->parked[i];
        if (at->digest && strcmp(at->part, part) == 0)
            return at;
        if (best->digest && (!at->digest || at->number < best->number))
            best = at;
    }
    return best;
}

void blobs_park(struct blob_upload *upload)
{
    struct blobs *blobs = upload->blobs;
    struct digest *old = take_ptr(upload->digest);
    if (upload->session && !upload->done && !upload->sealed && blobs->limits.uploads_max) {
        pthread_mutex_lock(&blobs->lock);
        if (!blobs->parked)
            blobs->parked = mem_zalloc(blobs->limits.uploads_max * sizeof *blobs->parked);
        struct parked *place = place_of(blobs, upload->part), was = *place;
        *place =
            (struct parked){ .digest = old, .hashed = upload->hashed, .number = ++blobs->parkings };
        snprintf(place->part, sizeof place->part, "%s", upload->part);
        old = was.digest;
        pthread_mutex_unlock(&blobs->lock);
    }
    digest_free(old);
}

static void unpark(struct blob_upload *upload)
{
    struct blobs *blobs = upload->blobs;
    pthread_mutex_lock(&blobs->lock);
    struct parked *place = blobs->parked ? place_of(blobs, upload->part) : NULL;
    if (place && place->digest && strcmp(place->part, upload->part) == 0) {
        upload->digest = take_ptr(place->digest);
        upload->hashed = place->hashed;
    }
    pthread_mutex_unlock(&blobs->lock);
    if (upload->digest && upload->hashed > upload->offset) { /* not the file that it was */
        digest_free(take_ptr(upload->digest));
        upload->hashed = 0;
    }
    if (!upload->digest)
        upload->digest = digest_new();
}

void blobs_parked_free(struct blobs *blobs)
{
    for (uint64_t i = 0; blobs->parked && i < blobs->limits.uploads_max; i++)
        digest_free(blobs->parked[i].digest);
    free(blobs->parked);
}

/* ---- sessions ------------------------------------------------------------------------------- */

int blob_session_begin(struct blobs *blobs, struct slice id, struct err *err)
{
    char name[NAME_BYTES];
    int r = session_name(id, name, err);
    if (r < 0)
        return r;
    auto_close int fd =
        openat(blobs->uploads_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd < 0 ? blobs_failed(blobs, "making", name, err)
                  : blobs_make_room(blobs, name, fd, err);
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
    unpark(upload);
    *ret_upload = upload;
    return 0;
}

int blob_session_expect(struct blob_upload *upload, struct slice digest, struct err *err)
{
    enum digest_kind kind;
    int r = digest_check_any(digest, &kind, err);
    if (r < 0)
        return r;
    assert(upload->session);
    snprintf(upload->text, sizeof upload->text, "%.*s", SLICE_FMT(digest));
    if (digest_kind_of(upload->digest) == kind)
        return 0;
    digest_free(upload->digest);
    upload->digest = digest_new_of(kind);
    upload->hashed = 0;
    return 0;
}

int blob_session_hash(struct blob_upload *upload, struct err *err)
{
    int r = blobs_hash_existing(upload, BLOB_HASH_BYTES, err);
    return r < 0 ? r : upload->hashed < upload->offset;
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
