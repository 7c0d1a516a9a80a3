/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What setns() by a pidfd asks of the kernel: CAP_SYS_ADMIN over both namespaces, and the right to
 * look at the process (ptrace's, for reading), which of another user's is CAP_SYS_PTRACE. What that
 * could do besides no system call is left for. A call off the list answers EPERM, as most of those
 * that libraries try by the way are well served with (a time zone's file, a clock).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "sys/calls.h"
#include "sys/netns.h"

#define CAPABILITY_LAST 63
#define CAPABILITIES (1u << CAP_SYS_ADMIN | 1u << CAP_SYS_PTRACE)
#define COUNT(array) (sizeof(array) / sizeof *(array))

static const int calls[] = {
    CALLS_OF_EACH, SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg),
};

static const struct {
    int call;
    struct scmp_arg_cmp argument, second;
} calls_checked[] = {
    { SCMP_SYS(setns), { 1, SCMP_CMP_EQ, CLONE_NEWNET, 0 }, {} },
    { SCMP_SYS(socket),
      { 0, SCMP_CMP_EQ, AF_INET, 0 },
      { 1, SCMP_CMP_EQ, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0 } },
    { SCMP_SYS(getsockopt),
      { 1, SCMP_CMP_EQ, SOL_SOCKET, 0 },
      { 2, SCMP_CMP_EQ, SO_NETNS_COOKIE, 0 } },
    { SCMP_SYS(fcntl), { 1, SCMP_CMP_EQ, F_DUPFD_CLOEXEC, 0 }, {} },
    { SCMP_SYS(mmap),
      { 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0 },
      { 3, SCMP_CMP_MASKED_EQ, MAP_SHARED, 0 } },
    { SCMP_SYS(mprotect), { 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0 }, {} },
};

/* What an ordinary user's helper needs beside them: it has no capability, and a child for each
 * question (netns.c). */
static const int calls_child[] = {
    SCMP_SYS(socketpair),      SCMP_SYS(fork), SCMP_SYS(wait4),
    SCMP_SYS(set_robust_list), SCMP_SYS(rseq),
};

static int rules_child(scmp_filter_ctx context)
{
    /* A process, and no namespace of its own. */
    const uint64_t spaces = CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID |
                            CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_VM;
    int r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, spaces, 0));

    if (r >= 0)
        r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(setns), 1,
                             SCMP_A1(SCMP_CMP_EQ, CLONE_NEWUSER | CLONE_NEWNET));
    for (size_t i = 0; r >= 0 && i < COUNT(calls_child); i++)
        if (calls_child[i] >= 0)
            r = seccomp_rule_add(context, SCMP_ACT_ALLOW, calls_child[i], 0);
    return r;
}

static int capabilities(bool *ret_has, struct err *err)
{
    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct sets[2] = {};

    for (int i = 0; i <= CAPABILITY_LAST; i++) /* as root; who has none may not, and needs not */
        (void)prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
    if (syscall(SYS_capget, &head, sets) < 0)
        return err_set(err, ERR_INTERNAL, "capget: %s", strerror(errno));
    sets[0].permitted &= CAPABILITIES;
    sets[0].effective = sets[0].permitted;
    sets[1] = (struct __user_cap_data_struct){};
    sets[0].inheritable = 0;
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
        syscall(SYS_capset, &head, sets) < 0)
        return err_set(err, ERR_INTERNAL, "giving up privileges: %s", strerror(errno));
    *ret_has = sets[0].permitted & 1u << CAP_SYS_ADMIN;
    return 0;
}

static int rules(scmp_filter_ctx context)
{
    int r = 0;

    for (size_t i = 0; r >= 0 && i < COUNT(calls); i++) /* one that is not here is below 0 */
        if (calls[i] >= 0)
            r = seccomp_rule_add(context, SCMP_ACT_ALLOW, calls[i], 0);
    for (size_t i = 0; r >= 0 && i < COUNT(calls_checked); i++) {
        struct scmp_arg_cmp both[] = { calls_checked[i].argument, calls_checked[i].second };
        unsigned count = both[1].op == 0 ? 1 : 2; /* SCMP_CMP_EQ is no zero */
        r = seccomp_rule_add_array(context, SCMP_ACT_ALLOW, calls_checked[i].call, count, both);
    }
    if (r >= 0) /* abort() signals itself, and nobody else */
        r = seccomp_rule_add(context, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                             SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
    return r;
}

int netns_confine(struct err *err)
{
    bool has = false;
    int r = capabilities(&has, err);

    if (r < 0)
        return r;
    scmp_filter_ctx context = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    r = context ? rules(context) : -ENOMEM;
    if (r >= 0 && !has)
        r = rules_child(context);
    if (r >= 0)
        r = seccomp_load(context);
    if (context)
        seccomp_release(context);
    return r < 0 ? err_set(err, ERR_INTERNAL, "the filter of system calls: %s", strerror(-r)) : 0;
}
