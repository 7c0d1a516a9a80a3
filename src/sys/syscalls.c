/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list comes from real runs: all operator cases of ONNX, on glibc 2.36 and 2.41
 * (tools/record-syscalls records one and compares; as root). Arguments are
 * checked where a call is wider than what is needed of it. Where an ENOSYS makes glibc take an
 * older way that the list has, that is the answer (clone3, statx). rseq is let through: its first
 * thread has it already, and glibc ends a process whose other threads are then refused it.
 */
#include "sys/syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "sys/calls.h"
#include "sys/fd.h"

/* Stands for the replica's own process id until it is known. No process id is so high (2^22). */
#define PLACEHOLDER_PID 0x7e91ce01u

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Nothing of these depends on an argument: memory of its own, what is open already, time, threads.
 */
static const int calls_allowed[] = {
    CALLS_OF_EACH,
    SCMP_SYS(pread64),
    SCMP_SYS(readv),
    SCMP_SYS(lseek),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(getcwd),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(fadvise64),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(getcpu),
    SCMP_SYS(clock_getres),
    SCMP_SYS(time),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(getrusage),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(sysinfo),
    SCMP_SYS(uname),
    SCMP_SYS(rseq),
};

/* glibc then falls back to what the list has. */
static const int calls_unknown[] = {
    SCMP_SYS(clone3),
    SCMP_SYS(statx),
    SCMP_SYS(faccessat2),
};

/* A row: the call, and what its argument must be. Several rows of one call are alternatives. */
static const struct {
    int call;
    struct scmp_arg_cmp argument, second;
} calls_checked[] = {
    /* No shared memory, and no stack of its own making: RLIMIT_DATA counts neither. */
    { SCMP_SYS(mmap),
      { 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0 },
      { 3, SCMP_CMP_MASKED_EQ, MAP_SHARED | MAP_GROWSDOWN, 0 } },
    { SCMP_SYS(mprotect), { 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0 }, {} },
    { SCMP_SYS(open),
      { 1, SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | O_TMPFILE, 0 },
      {} },
    { SCMP_SYS(openat),
      { 2, SCMP_CMP_MASKED_EQ,
        O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY), 0 },
      {} },
    { SCMP_SYS(fcntl), { 1, SCMP_CMP_EQ, F_GETFD, 0 }, {} },
    { SCMP_SYS(fcntl), { 1, SCMP_CMP_EQ, F_GETFL, 0 }, {} },
    /* A thread, never a process. */
    { SCMP_SYS(clone),
      { 0, SCMP_CMP_MASKED_EQ, CLONE_THREAD | CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID,
        CLONE_THREAD },
      {} },
    /* abort() signals itself. */
    { SCMP_SYS(tgkill), { 0, SCMP_CMP_EQ, PLACEHOLDER_PID, 0 }, {} },
    /* Threads take a name. */
    { SCMP_SYS(prctl), { 0, SCMP_CMP_EQ, PR_SET_NAME, 0 }, {} },
    /* Reading its own limits: who, and no new one. */
    { SCMP_SYS(prlimit64), { 0, SCMP_CMP_EQ, 0, 0 }, { 2, SCMP_CMP_EQ, 0, 0 } },
};

static int add_rules(scmp_filter_ctx context)
{
    int r = 0;

    for (size_t i = 0; r >= 0 && i < COUNT(calls_allowed); i++) {
        /* Some do not exist on each machine; libseccomp gives those a negative number. */
        if (calls_allowed[i] >= 0)
            r = seccomp_rule_add(context, SCMP_ACT_ALLOW, calls_allowed[i], 0);
    }
    for (size_t i = 0; r >= 0 && i < COUNT(calls_unknown); i++)
        r = seccomp_rule_add(context, SCMP_ACT_ERRNO(ENOSYS), calls_unknown[i], 0);
    if (r >= 0) /* ONNX Runtime clears O_NONBLOCK of the model it has opened; it goes on without */
        r = seccomp_rule_add(context, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(fcntl), 1,
                             SCMP_A1(SCMP_CMP_EQ, F_SETFL));
    for (size_t i = 0; r >= 0 && i < COUNT(calls_checked); i++) {
        struct scmp_arg_cmp both[] = { calls_checked[i].argument, calls_checked[i].second };
        /* SCMP_CMP_EQ is no zero, so an absent second one can be told. */
        unsigned count = both[1].op == 0 ? 1 : 2;
        if (calls_checked[i].call >= 0)
            r = seccomp_rule_add_array(context, SCMP_ACT_ALLOW, calls_checked[i].call, count, both);
    }
    return r;
}

/* libseccomp's look-up allocates, which a signal handler may not: it is done beforehand. */
#define SYSCALLS_MAX 512
static char names[SYSCALLS_MAX][28];

static void learn_names(void)
{
    for (int i = 0; i < SYSCALLS_MAX; i++) {
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, i);
        if (name)
            (void)snprintf(names[i], sizeof names[i], "%s", name);
        free(name);
    }
}

const char *syscall_name(int number)
{
    bool known = number >= 0 && number < SYSCALLS_MAX && names[number][0];

    return known ? names[number] : "unknown";
}

int syscalls_build(struct syscalls_program *ret_program, struct err *err)
{
    scmp_filter_ctx context = seccomp_init(SCMP_ACT_TRAP);
    auto_close int fd = memfd_create("seccomp", MFD_CLOEXEC);
    struct stat st;

    if (!context || fd < 0) {
        if (context)
            seccomp_release(context);
        return err_set(err, ERR_INTERNAL, "preparing the filter of system calls: %s",
                       strerror(errno));
    }
    int r = add_rules(context);
    if (r >= 0)
        r = seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree */
    if (r >= 0)
        r = seccomp_export_bpf(context, fd);
    seccomp_release(context);
    if (r < 0)
        return err_set(err, ERR_INTERNAL, "building the filter of system calls: %s", strerror(-r));

    if (fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size % (off_t)sizeof(struct sock_filter))
        return err_set(err, ERR_INTERNAL, "the filter of system calls has an odd size");
    auto_free struct sock_filter *instructions = mem_alloc((size_t)st.st_size);
    if (pread(fd, instructions, (size_t)st.st_size, 0) != st.st_size)
        return err_set(err, ERR_INTERNAL, "reading the filter of system calls: %s",
                       strerror(errno));
    learn_names();
    ret_program->count = (size_t)st.st_size / sizeof *instructions;
    ret_program->instructions = take_ptr(instructions);
    return 0;
}

void syscalls_program_deinit(struct syscalls_program *program)
{
    free(program->instructions);
    *program = (struct syscalls_program){};
}

int syscalls_enter(const struct syscalls_program *program, struct err *err)
{
    struct sock_filter own[BPF_MAXINSNS];
    struct sock_fprog loaded = { (unsigned short)program->count, own };
    unsigned places = 0;

    if (program->count == 0 || program->count > BPF_MAXINSNS)
        return err_set(err, ERR_INTERNAL, "the filter of system calls has %zu instructions",
                       program->count);
    memcpy(own, program->instructions, program->count * sizeof *own);
    for (size_t i = 0; i < program->count; i++) {
        if (BPF_CLASS(own[i].code) == BPF_JMP && own[i].k == PLACEHOLDER_PID) {
            own[i].k = (uint32_t)getpid();
            places++;
        }
    }
    if (places != 1)
        return err_set(err, ERR_INTERNAL, "the filter of system calls has %u places for a process",
                       places);
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &loaded) != 0)
        return err_set(err, ERR_INTERNAL, "the filter of system calls was refused: %s",
                       strerror(errno));
    return 0;
}
