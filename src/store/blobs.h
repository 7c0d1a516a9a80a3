/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blobs.h -- files named by their content: HOME/blobs/sha256/HEX, read-only; HOME/blobs/uploads/
 * holds what is not whole yet. A registry's may be named by SHA-512 (blobs/sha512/HEX).
 *
 * A blob appears by rename, after its bytes were hashed and are on disk: who sees the name may
 * believe the content. All calls block: call them on a pool's thread. struct blobs may be used by
 * several threads; an upload by one at a time. Control writes; an agent on the same home reads.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "store/digest.h"

struct blob_upload;
struct blobs;
struct err;

/* X(name, default, what it bounds) */
#define BLOBS_LIMITS(X)                                                                            \
    X(blob_bytes_max, UINT64_C(1) << 37, "Bytes of one blob.")                                     \
    X(total_bytes_max, UINT64_C(1) << 39, "Bytes of all blobs together.")                          \
    X(uploads_max, 256, "Uploads kept that are not whole yet.")                                    \
    X(repository_uploads_max, 64, "Of them into one repository.")

enum { BLOB_IDLE_S = 300 }; /* what nobody goes on with for so long gives way to others */

struct blobs_limits {
#define BLOBS_LIMIT(name, value, text) uint64_t name;
    BLOBS_LIMITS(BLOBS_LIMIT)
#undef BLOBS_LIMIT
};
struct blobs_limits blobs_limits_default(void);

/* Makes the folders. `limits` NULL: the default ones. */
[[nodiscard]] int blobs_open(const char *home, const struct blobs_limits *limits,
                             struct blobs **ret_blobs, struct err *err);
void blobs_close(struct blobs *blobs); /* NULL is allowed; uploads are freed before */

/* ERR_NOT_FOUND names the digest. A digest of wrong form is ERR_BAD_INPUT. */
[[nodiscard]] int blobs_find(struct blobs *blobs, struct slice digest, uint64_t *ret_bytes,
                             struct err *err);
[[nodiscard]] int blobs_read(struct blobs *blobs, struct slice digest, int *ret_fd,
                             uint64_t *ret_bytes, struct err *err);
/* All of a small one, in memory from malloc. ERR_TOO_LARGE above bytes_max. */
[[nodiscard]] int blobs_load(struct blobs *blobs, struct slice digest, size_t bytes_max,
                             char **ret_data, size_t *ret_bytes, struct err *err);
uint64_t blobs_total_bytes(const struct blobs *blobs);
/* May there be a blob of that size at all? ERR_TOO_LARGE says what it has and what it may. */
[[nodiscard]] int blobs_check_one(const struct blobs *blobs, uint64_t bytes, struct err *err);

/* Goes on where an earlier upload of this digest stopped. `offset` is what the sender begins at: at
 * most what is there already (more: ERR_BAD_INPUT with http 416, and *ret_offset says what is),
 * what stands behind it is dropped. `total` is the whole size. ERR_CONFLICT: somebody else is
 * uploading this one right now. Where there are as many uploads as there may be, the one that was
 * left the longest gives way, after BLOB_IDLE_S; ERR_OVERLOADED where there is none. */
[[nodiscard]] int blob_upload_begin(struct blobs *blobs, struct slice digest, uint64_t offset,
                                    uint64_t total, uint64_t *ret_offset,
                                    struct blob_upload **ret_upload, struct err *err);
[[nodiscard]] int blob_upload_write(struct blob_upload *upload, const void *data, size_t bytes,
                                    struct err *err);
uint64_t blob_upload_offset(const struct blob_upload *upload);
/* All bytes are there: they are made durable, compared with the digest, and get their name. A
 * difference is ERR_BAD_INPUT, and what was uploaded is gone. Frees nothing. */
[[nodiscard]] int blob_upload_finish(struct blob_upload *upload, struct err *err);
/* The two halves of it: the bytes are compared and durable; they have their name. The second takes
 * no longer than a rename, so that it may be one unit with a row that needs the blob. */
[[nodiscard]] int blob_upload_seal(struct blob_upload *upload, struct err *err);
[[nodiscard]] int blob_upload_name(struct blob_upload *upload, struct err *err);
/* What is not whole stays, to be gone on with, unless the disk was full. NULL is allowed. */
void blob_upload_free(struct blob_upload *upload);
/* How much of this one is there (0: nothing), for HEAD and for clients that go on. */
uint64_t blob_upload_have(struct blobs *blobs, struct slice digest);

/* ---- sessions: an upload that has an id, as its digest is told at the end (OCI) -------------- */

enum {
    BLOB_SESSION_ID_MAX = 64,   /* small letters and digits */
    BLOB_SESSION_OWNER = 16,    /* so many at the end of a longer one say into which repository */
    BLOB_HASH_BYTES = 32 << 20, /* that one call reads again at most */
};

[[nodiscard]] int blob_session_begin(struct blobs *blobs, struct slice id, struct err *err);
/* ERR_NOT_FOUND: there is none of this id, in all of these. */
[[nodiscard]] int blob_session_have(struct blobs *blobs, struct slice id, uint64_t *ret_bytes,
                                    struct err *err);
/* Goes on behind what is there. `more`: so many bytes will come, where that is known, else 0. Ended
 * with seal and name above, once its digest has been told. ERR_CONFLICT as there. */
[[nodiscard]] int blob_session_open(struct blobs *blobs, struct slice id, uint64_t more,
                                    struct blob_upload **ret_upload, struct err *err);
/* What it is to be. What is written is hashed as it comes, by SHA-256 until something else is
 * expected, and the next opening goes on with that. */
[[nodiscard]] int blob_session_expect(struct blob_upload *upload, struct slice digest,
                                      struct err *err);
/* Hashes what came before and was not: with another process, or by the other kind. At most
 * BLOB_HASH_BYTES; 1: there is more, call it again, before anything is written. */
[[nodiscard]] int blob_session_hash(struct blob_upload *upload, struct err *err);
[[nodiscard]] int blob_session_delete(struct blobs *blobs, struct slice id, struct err *err);

/* A small one at once. */
[[nodiscard]] int blobs_put(struct blobs *blobs, struct slice bytes,
                            char ret_digest[static DIGEST_TEXT], struct err *err);
[[nodiscard]] int blobs_put_of(struct blobs *blobs, enum digest_kind kind, struct slice bytes,
                               char ret_digest[static DIGEST_TEXT_MAX], struct err *err);

/* Gone is gone: the caller knows that nobody needs it. Not there is no error. */
[[nodiscard]] int blobs_delete(struct blobs *blobs, struct slice digest, struct err *err);
/* Removes uploads that nobody has touched since. Returns how many. */
unsigned blobs_sweep_uploads(struct blobs *blobs, int64_t before_ns);

/* Likewise whole ones, where each is needed for a while only: not with a store that names them. */
unsigned blobs_sweep(struct blobs *blobs, int64_t before_ns);

/* Every blob there is; stops when fn is negative and returns that. */
[[nodiscard]] int blobs_each(struct blobs *blobs,
                             int (*fn)(struct slice digest, uint64_t bytes, void *data,
                                       struct err *err),
                             void *data, struct err *err);
