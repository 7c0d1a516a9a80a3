/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faults.h -- a disk that fails when it is told to, for tests that link faults.c: it stands before
 * the C library's calls, for SQLite as well. Of mmap it has SQLite's alone: faults_maps.h has the
 * tables, regions and arenas that processes share.
 *
 *     for (long n = 1, more = 1; more; n += FAULT_STEP) {   the n-th call of a kind fails
 *         faults_arm(FAULT_SYNC, n, FAULT_ONCE, EIO);
 *         ... what is to be tried ...
 *         more = faults_end();                              ... until none does
 *     }
 *
 * One thread.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* X(kind, calls) */
#define FAULT_KINDS(X)                                                                             \
    X(FAULT_WRITE, "write, pwrite")                                                                \
    X(FAULT_SYNC, "fsync, fdatasync")                                                              \
    X(FAULT_TRUNCATE, "ftruncate")                                                                 \
    X(FAULT_OPEN, "open, openat")                                                                  \
    X(FAULT_RENAME, "rename, renameat, renameat2, link")                                           \
    X(FAULT_MAKE, "mkdir")                                                                         \
    X(FAULT_REMOVE, "unlink, unlinkat")                                                            \
    X(FAULT_READ, "read, pread")                                                                   \
    X(FAULT_LIST, "readdir")                                                                       \
    X(FAULT_MMAP, "mmap, mremap, of SQLite")                                                       \
    X(FAULT_ANY, "whatever changes the disk")

enum fault_kind {
#define FAULT_KIND(kind, calls) kind,
    FAULT_KINDS(FAULT_KIND)
#undef FAULT_KIND
        FAULT_COUNT
};

/* n goes up by so much: by one, but with a sanitizer, which looks at memory on the way and makes a
 * fork slow, not every call is tried once more. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FAULT_STEP 4
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define FAULT_STEP 4
#endif
#ifndef FAULT_STEP
#define FAULT_STEP 1
#endif

enum fault_mode {
    FAULT_ONCE,  /* that call fails */
    FAULT_STAYS, /* and all later ones */
    FAULT_SHORT, /* a write writes, a read reads, half of it: no fault, but often taken for one */
    FAULT_KILLS, /* the process ends there, with FAULT_KILLED; half of a write is written */
};

#define FAULT_KILLED 99

struct fault {
    enum fault_kind kind;
    enum fault_mode mode;
    int error;
};

/* What whatever writes files and reads them must stand. */
/* clang-format off */
#define FAULTS_OF_FILES                                                                            \
    { FAULT_WRITE, FAULT_ONCE, EIO }, { FAULT_WRITE, FAULT_STAYS, ENOSPC },                        \
    { FAULT_WRITE, FAULT_SHORT, 0 }, { FAULT_SYNC, FAULT_ONCE, EIO },                              \
    { FAULT_OPEN, FAULT_ONCE, EMFILE }, { FAULT_RENAME, FAULT_ONCE, EIO },                         \
    { FAULT_REMOVE, FAULT_ONCE, EIO }, { FAULT_READ, FAULT_ONCE, EIO },                            \
    { FAULT_READ, FAULT_SHORT, 0 }
/* clang-format on */

void faults_arm(enum fault_kind kind, long nth, enum fault_mode mode, int error);
void faults_arm_one(const struct fault *fault, long nth);
bool faults_end(void); /* disarms; whether the n-th call came */
const char *fault_calls(enum fault_kind kind);
void faults_in_sqlite(void); /* FAULT_MMAP works from here on */

/* Forks: the child runs `act` and is killed at its n-th call that changes the disk. False when it
 * came to its end; a child that ends in another way fails the test. */
bool faults_kill_at(long nth, void (*act)(void *data), void *data);

/* A folder for a test's files, in memory where there is such a disk: what a process left there is
 * seen by the next as on any other. `ret` has FAULT_FOLDER_BYTES. */
enum { FAULT_FOLDER_BYTES = 64 };
void folder_make(char *ret);
void folder_remove(const char *folder);
void folder_copy(const char *from, const char *to); /* `to` is made */
/* All that is in it, to compare: names, sizes and bytes. */
unsigned long long folder_digest(const char *folder);
