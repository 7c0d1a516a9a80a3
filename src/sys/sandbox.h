/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.h -- the walls around a replica, put up by itself before it reads a byte of its model.
 *
 * The template prepares once: it compiles the filter of system calls, and tries in a child what
 * this machine lets stand (sandbox_probe). Each replica then calls the steps in the order they
 * stand here. What the probe found is put up or the replica does not go on: a wall never falls
 * silently. Single-threaded processes only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sys/syscalls.h"

struct err;

#define SANDBOX_OFF_BYTES 512

/* Walls are bits, enum perigee_wall of <perigee/worker.h>. */
#define SANDBOX_MANDATORY                                                                          \
    (PERIGEE_WALL_NNP | PERIGEE_WALL_RLIMITS | PERIGEE_WALL_ENV | PERIGEE_WALL_FDS |               \
     PERIGEE_WALL_SECCOMP)
/* What --sandbox require asks for beside them, and what two projects on one machine need; as root
 * PERIGEE_WALL_UID too: see sandbox_required(). */
#define SANDBOX_REQUIRED                                                                           \
    (PERIGEE_WALL_USER | PERIGEE_WALL_MOUNT | PERIGEE_WALL_NET | PERIGEE_WALL_IPC |                \
     PERIGEE_WALL_LANDLOCK)

struct sandbox_probe {
    uint32_t walls;              /* what stands here: the mandatory ones and more */
    int landlock_abi;            /* 0: none */
    bool threads_counted;        /* RLIMIT_NPROC counts the replica's own alone */
    char off[SANDBOX_OFF_BYTES]; /* the others with the reason: "user: not permitted; ..." */
};
/* Does in a child (waited for) what a replica would do. A few ms. */
void sandbox_probe(struct sandbox_probe *ret_probe);

/* SANDBOX_REQUIRED of this user. */
uint32_t sandbox_required(void);

struct sandbox {
    struct syscalls_program seccomp;
    struct sandbox_probe probe;
};
[[nodiscard]] int sandbox_prepare(struct sandbox *ret_sandbox, struct err *err);
void sandbox_deinit(struct sandbox *sandbox);

/* As root, where users begin that are nobody else's: the gateway's, then those of replicas. In a
 * range that /proc/self/uid_map has, with room for SANDBOX_UIDS. 0: not root, or no room. */
#define SANDBOX_UIDS 4096u
uint32_t sandbox_uid_base(void);

/* 1. Closes all descriptors but `keep` (any order; -1 is skipped) and 0, 1, 2. */
[[nodiscard]] int sandbox_close_others(const int *keep, size_t count, struct err *err);

/* 2. The namespaces among `walls`; with `uid` takes that user and group, with 0 the identity stays.
 * With PERIGEE_WALL_MOUNT the root is an empty one in which /model is `folder_fd`; either way that
 * is the current folder. Then no capability is left; not dumpable; dies with its parent. */
[[nodiscard]] int sandbox_enter(uint32_t walls, int folder_fd, uint32_t uid, struct err *err);

/* Part of it, for others than replicas: that user and group, and no other group. 0: nothing. */
[[nodiscard]] int sandbox_take_user(uint32_t uid, struct err *err);

/* 3. Resource limits. */
struct sandbox_limits {
    uint64_t memory_bytes_max;
    uint64_t mapped_bytes; /* what is mapped already: it comes on top */
    uint64_t data_bytes;   /* of it, private and writable */
    uint32_t threads_max;  /* beside the first: their stacks come on top */
    bool threads_counted;  /* nobody else's are counted with them */
    uint32_t descriptors_max;
};
[[nodiscard]] int sandbox_limit(const struct sandbox_limits *limits, struct err *err);

/* 4. No new privileges; and files with Landlock of that ABI (0: without): only what is below
 * `folder_fd`, only to read. */
[[nodiscard]] int sandbox_files(int landlock_abi, int folder_fd, struct err *err);

/* 5. System calls. The last step. */
[[nodiscard]] int sandbox_syscalls(const struct sandbox *sandbox, struct err *err);

/* "user", "landlock" ... of one bit; "?" */
const char *sandbox_wall_name(uint32_t wall);
