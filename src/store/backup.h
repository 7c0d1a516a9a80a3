/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup.h -- all that control must not lose as one tar, and back. Blocking; no running control is
 * needed, and one that runs is not disturbed.
 *
 * In the archive: perigee-backup.json (first: format, schema, time), control/store.db (a consistent
 * copy), keys/..., blobs/sha256/... (all that revisions need and that is here); control/seal.key
 * only where that was asked for: it opens what is sealed in the database (seal.h), each of which is
 * tried then.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct err;

/* In a home: a restore that has happened, and has yet to be ended. */
#define STORE_RESTORE_READY "restore-ready"

struct backup_result {
    unsigned schema;
    uint64_t endpoints, blobs, bytes; /* bytes of the archive */
    uint64_t sealed; /* passwords and secrets that nothing opens: their key is not there */
    bool other_key;  /* but another one is */
    char which[256]; /* of a backup with a key: "secret default/hub-token, registry HOST" and so on,
                      * as far as there is room */
};

/* Writes `file` (0600) beside itself first, then renames: it is whole or not there. An existing one
 * is ERR_CONFLICT. Its disk needs hard links only if it cannot rename without replacing (as NFS).
 * `now_ns` is the wall clock. */
[[nodiscard]] int store_backup(const char *home, const char *file, bool with_key, int64_t now_ns,
                               struct backup_result *ret, struct err *err);

/* Everything is unpacked aside, checked (digests, schema, that no blob is missing), and only then
 * takes its place: all or nothing, whenever it is killed. The caller holds the home's lock. A home
 * that has a state already is ERR_CONFLICT, unless `replace`: its database then stays as
 * store.db.replaced-TIME (and a key that is replaced likewise), and what the PoP kept of it for a
 * cold boot goes. Numbers of endpoints go on with a gap, so that none is given twice. */
[[nodiscard]] int store_restore(const char *home, const char *file, bool replace, int64_t now_ns,
                                struct backup_result *ret, struct err *err);

/* Ends a restore that was killed while it took its place; nothing to do is no error. For who opens
 * a home, with its lock held, before anything else looks at it. */
[[nodiscard]] int store_restore_end(const char *home, struct err *err);
