/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blobs_inside.h -- what blobs.c and blobs_session.c share.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "store/blobs.h"

enum { NAME_BYTES = DIGEST_HEX_MAX + 8 }; /* a file's: hex.part, id.session */

struct blobs {
    int kind_fds[DIGEST_KINDS], uploads_fd;
    struct blobs_limits limits;
    _Atomic uint64_t total_bytes;
    char *path;
    pthread_mutex_t lock;  /* over what follows */
    struct parked *parked; /* digests of sessions that nobody has open; limits.uploads_max */
    uint64_t parkings;
};

struct blob_upload {
    struct blobs *blobs; /* borrowed */
    int fd;              /* locked while it is open */
    uint64_t offset, total;
    struct digest *digest;
    uint64_t hashed;            /* so many bytes from the beginning are in it */
    char text[DIGEST_TEXT_MAX]; /* what it is to be */
    char part[NAME_BYTES];      /* its file's name in uploads/ */
    bool session;               /* named by an id: kept also while it is empty */
    bool sealed, done;
};

/* What errno says, at a file of the store's. */
[[nodiscard]] int blobs_failed(const struct blobs *blobs, const char *doing, const char *name,
                               struct err *err);
/* May a blob of so many bytes be stored? */
[[nodiscard]] int blobs_check_bytes(struct blobs *blobs, uint64_t total, struct err *err);
/* Of an upload that was just made: is there room for it? Else it is removed. */
[[nodiscard]] int blobs_make_room(struct blobs *blobs, const char *name, int fd, struct err *err);
/* An upload's file, locked: two senders must not write into each other's. `flags`: O_CREAT, or
 * ERR_NOT_FOUND where there is none. */
[[nodiscard]] int blobs_open_part(struct blobs *blobs, const char *name, int flags, int *ret_fd,
                                  struct err *err);
/* Gives to the digest what the file has and was not given to it, `most` at the most. */
[[nodiscard]] int blobs_hash_existing(struct blob_upload *upload, uint64_t most, struct err *err);
/* The digest of a session goes to the one who opens it next; or is freed. */
void blobs_park(struct blob_upload *upload);
void blobs_parked_free(struct blobs *blobs);
