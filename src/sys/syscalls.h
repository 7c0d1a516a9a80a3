/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syscalls.h -- the system calls a replica may make, as a filter compiled once in its template.
 *
 * A call off the list raises SIGSYS (RET_TRAP), so that the replica's handler can name it. Built by
 * syscalls_build() with libseccomp; loaded in each replica by syscalls_enter(), which needs neither
 * memory nor libseccomp. The owner of struct syscalls_program frees it. One thread.
 */
#pragma once

#include <stddef.h>

struct err;
struct sock_filter;

struct syscalls_program {
    struct sock_filter *instructions; /* heap; owned */
    size_t count;
};

[[nodiscard]] int syscalls_build(struct syscalls_program *ret_program, struct err *err);
void syscalls_program_deinit(struct syscalls_program *program);

/* For this thread and all it makes. no_new_privs must be set. tgkill is let through for this
 * process alone: its id is written into a copy of the program. */
[[nodiscard]] int syscalls_enter(const struct syscalls_program *program, struct err *err);

/* "socket"; "unknown" for a number that has no name, and before syscalls_build(). Safe in a signal
 * handler. */
const char *syscall_name(int number);
