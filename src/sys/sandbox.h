/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.h -- the walls around a replica, put up by itself before it reads a byte of its model.
 *
 * The template prepares once (probes Landlock, compiles the filter); each replica then calls the
 * steps in the order they stand here. A mandatory wall that cannot be put up is an error: the
 * replica must not go on. A best-effort one is named in `walls_off`. Single-threaded processes
 * only.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "sys/syscalls.h"

struct err;

struct sandbox {
    struct syscalls_program seccomp;
    int landlock_abi; /* 0: the kernel has none, or it is off */
    int landlock_errno;
};

[[nodiscard]] int sandbox_prepare(struct sandbox *ret_sandbox, struct err *err);
void sandbox_deinit(struct sandbox *sandbox);

/* 1. Closes all descriptors but `keep` (any order; -1 is skipped) and 0, 1, 2. */
[[nodiscard]] int sandbox_close_others(const int *keep, size_t count, struct err *err);

/* 2. The model's folder becomes the current one and, where the process may do that (as root), the
 * only one: an empty root in which /model is `folder_fd`. Returns 1 then, else 0 with the reason.
 */
[[nodiscard]] int sandbox_root(int folder_fd, char *reason, size_t room, struct err *err);

/* 3. With `uid` takes that user and group, with 0 the identity stays. Either way every capability
 * is dropped. Not dumpable, and dies with its parent. */
[[nodiscard]] int sandbox_identity(uint32_t uid, struct err *err);

/* Resource limits. */
struct sandbox_limits {
    uint64_t memory_bytes_max;
    uint64_t mapped_bytes; /* what is mapped already: it comes on top */
    uint64_t data_bytes;   /* of it, private and writable */
    uint32_t threads_max;  /* beside the first: their stacks come on top */
    uint32_t own_uid;      /* no other process has this uid: threads can be counted */
    uint32_t descriptors_max;
};
[[nodiscard]] int sandbox_limit(const struct sandbox_limits *limits, struct err *err);

/* 4. No new privileges; files: only what is below `folder_fd`, only to read. Returns Landlock's ABI
 * in force, 0 when there is none (then `reason` says why). */
[[nodiscard]] int sandbox_files(const struct sandbox *sandbox, int folder_fd, char *reason,
                                size_t room, struct err *err);

/* 5. System calls. The last step. */
[[nodiscard]] int sandbox_syscalls(const struct sandbox *sandbox, struct err *err);
