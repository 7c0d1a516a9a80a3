/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blobs_inside.h -- what blobs.c and blobs_session.c share.
 */
#pragma once

#include <stdatomic.h>

#include "store/blobs.h"

enum { NAME_BYTES = DIGEST_HEX_MAX + 8 }; /* a file's: hex.part, id.session */

struct blobs {
    int kind_fds[DIGEST_KINDS], uploads_fd;
    struct blobs_limits limits;
    _Atomic uint64_t total_bytes;
    char *path;
};

struct blob_upload {
    struct blobs *blobs; /* borrowed */
    int fd;              /* locked while it is open */
    uint64_t offset, total;
    struct digest *digest;      /* NULL: not asked for yet */
    char text[DIGEST_TEXT_MAX]; /* what it is to be */
    char part[NAME_BYTES];      /* its file's name in uploads/ */
    bool session;               /* named by an id: kept also while it is empty */
    bool sealed, done;
};

/* What errno says, at a file of the store's. */
[[nodiscard]] int blobs_failed(const struct blobs *blobs, const char *doing, const char *name,
                               struct err *err);
/* May a blob of so many bytes be stored; may one more upload begin? */
[[nodiscard]] int blobs_check_bytes(struct blobs *blobs, uint64_t total, struct err *err);
[[nodiscard]] int blobs_check_count(struct blobs *blobs, struct err *err);
/* An upload's file, locked: two senders must not write into each other's. `flags`: O_CREAT, or
 * ERR_NOT_FOUND where there is none. */
[[nodiscard]] int blobs_open_part(struct blobs *blobs, const char *name, int flags, int *ret_fd,
                                  struct err *err);
/* What an upload's file has is given to its digest. */
[[nodiscard]] int blobs_hash_existing(struct blob_upload *upload, struct err *err);
