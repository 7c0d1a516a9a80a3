/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calls.h -- the system calls that each confined process of ours is left: memory of its own, what
 * is open already, time, signals, its end. None depends on an argument, none names what is outside.
 * What a process may besides is in its own list: syscalls.c (replicas), netns_confine.c.
 */
#pragma once

#include <seccomp.h>

#define CALLS_OF_EACH                                                                              \
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(close), SCMP_SYS(fstat),           \
        SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(brk), SCMP_SYS(madvise), SCMP_SYS(futex),     \
        SCMP_SYS(sched_yield), SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday),                    \
        SCMP_SYS(getrandom), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(rt_sigaction),           \
        SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),                   \
        SCMP_SYS(restart_syscall), SCMP_SYS(exit), SCMP_SYS(exit_group)
