/* SPDX-License-Identifier: Apache-2.0 */
/*
 * no_new_privs stands before Landlock: without it an ordinary user may not restrict itself. The
 * kernel headers of Debian 12 know Landlock's ABI 2 only, so the later rights are spelled out here.
 */
#include "sys/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/prctl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "sys/fd.h"

#define STACK_BYTES (UINT64_C(8) << 20)  /* glibc's, for a thread */
#define SLACK_BYTES (UINT64_C(16) << 20) /* loading code of libraries that are mapped already */
#define CAPABILITY_LAST 63

/* ---- descriptors and identity ---------------------------------------------------------------- */

int sandbox_close_others(const int *keep, size_t count, struct err *err)
{
    unsigned from = 3;

    for (;;) {
        int next = -1; /* the lowest kept one that is not below `from` */
        for (size_t i = 0; i < count; i++) {
            if (keep[i] >= (int)from && (next < 0 || keep[i] < next))
                next = keep[i];
        }
        if (next < 0)
            break;
        if ((unsigned)next > from && syscall(SYS_close_range, from, next - 1, 0) != 0)
            return err_set(err, ERR_INTERNAL, "closing descriptors: %s", strerror(errno));
        from = (unsigned)next + 1;
    }
    if (syscall(SYS_close_range, from, ~0u, 0) != 0)
        return err_set(err, ERR_INTERNAL, "closing descriptors: %s", strerror(errno));
    return 0;
}

static int drop_capabilities(struct err *err)
{
    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct none[2] = {};

    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capset, &head, none) != 0)
        return err_set(err, ERR_INTERNAL, "dropping capabilities: %s", strerror(errno));
    return 0;
}

int sandbox_identity(uint32_t uid, struct err *err)
{
    /* First, as it wants one; an ordinary user may not, and has none. */
    for (int i = 0; i <= CAPABILITY_LAST; i++)
        (void)prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
    if (uid != 0 &&
        (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0))
        return err_set(err, ERR_INTERNAL, "taking uid %" PRIu32 ": %s", uid, strerror(errno));
    if (drop_capabilities(err) < 0)
        return ERR_INTERNAL;
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return err_set(err, ERR_INTERNAL, "prctl: %s", strerror(errno));
    return 0;
}

/* ---- limits ---------------------------------------------------------------------------------- */

static int limit(int resource, uint64_t value, const char *name, struct err *err)
{
    struct rlimit now, wanted = { value, value };

    /* A limit that is lower already stays. */
    if (getrlimit((__rlimit_resource_t)resource, &now) == 0 && now.rlim_max < value)
        wanted.rlim_cur = wanted.rlim_max = now.rlim_max;
    if (setrlimit((__rlimit_resource_t)resource, &wanted) != 0)
        return err_set(err, ERR_INTERNAL, "limiting %s: %s", name, strerror(errno));
    return 0;
}

int sandbox_limit(const struct sandbox_limits *limits, struct err *err)
{
    uint64_t more = limits->memory_bytes_max + SLACK_BYTES +
                    (uint64_t)limits->threads_max * (STACK_BYTES + 4096);
    int r = 0;

    /* Who unmaps the regions has their size left of the first, but not of the second, which counts
     * what is private and writable; seccomp lets nothing else be mapped. */
    r = r < 0 ? r : limit(RLIMIT_AS, limits->mapped_bytes + more, "memory", err);
    r = r < 0 ? r : limit(RLIMIT_DATA, limits->data_bytes + more, "private memory", err);
    r = r < 0 ? r : limit(RLIMIT_NOFILE, limits->descriptors_max, "descriptors", err);
    r = r < 0 ? r : limit(RLIMIT_CORE, 0, "core files", err);
    r = r < 0 ? r : limit(RLIMIT_FSIZE, 0, "files written", err);
    r = r < 0 ? r : limit(RLIMIT_MEMLOCK, 0, "locked memory", err);
    r = r < 0 ? r : limit(RLIMIT_MSGQUEUE, 0, "message queues", err);
    if (limits->own_uid && r == 0)
        r = limit(RLIMIT_NPROC, limits->threads_max + 16, "threads", err);
    return r;
}

/* ---- files: Landlock ------------------------------------------------------------------------- */

/* As the kernel has it at ABI 6; an older kernel is given the size it knows. */
struct ruleset {
    uint64_t fs, net, scoped;
};

static const struct {
    int abi;
    size_t bytes;
    uint64_t fs, net, scoped; /* of all up to this ABI */
} landlock_abis[] = {
    { 1, 8, (UINT64_C(1) << 13) - 1, 0, 0 },  { 2, 8, (UINT64_C(1) << 14) - 1, 0, 0 }, /* refer */
    { 3, 8, (UINT64_C(1) << 15) - 1, 0, 0 },  /* truncate */
    { 4, 16, (UINT64_C(1) << 15) - 1, 3, 0 }, /* bind and connect of TCP */
    { 5, 16, (UINT64_C(1) << 16) - 1, 3, 0 }, /* ioctl of devices */
    { 6, 24, (UINT64_C(1) << 16) - 1, 3, 3 }, /* abstract sockets, signals to others */
};
#define LANDLOCK_ABIS (sizeof landlock_abis / sizeof *landlock_abis)

int sandbox_prepare(struct sandbox *ret_sandbox, struct err *err)
{
    *ret_sandbox = (struct sandbox){};
    int r = syscalls_build(&ret_sandbox->seccomp, err);
    if (r < 0)
        return r;
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    ret_sandbox->landlock_abi = abi > 0 ? (int)abi : 0;
    ret_sandbox->landlock_errno = abi > 0 ? 0 : errno;
    return 0;
}

void sandbox_deinit(struct sandbox *sandbox)
{
    syscalls_program_deinit(&sandbox->seccomp);
}

static int restrict_files(int abi, int folder_fd)
{
    size_t row = (size_t)abi <= LANDLOCK_ABIS ? (size_t)abi - 1 : LANDLOCK_ABIS - 1;
    struct ruleset rules = { landlock_abis[row].fs, landlock_abis[row].net,
                             landlock_abis[row].scoped };
    struct landlock_path_beneath_attr folder = {
        .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
        .parent_fd = folder_fd,
    };
    auto_close int fd =
        (int)syscall(SYS_landlock_create_ruleset, &rules, landlock_abis[row].bytes, 0);

    if (fd < 0 || syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &folder, 0) != 0 ||
        syscall(SYS_landlock_restrict_self, fd, 0) != 0)
        return -errno;
    return 0;
}

int sandbox_files(const struct sandbox *sandbox, int folder_fd, char *reason, size_t room,
                  struct err *err)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return err_set(err, ERR_INTERNAL, "no_new_privs: %s", strerror(errno));

    int r = sandbox->landlock_abi > 0 ? restrict_files(sandbox->landlock_abi, folder_fd)
                                      : -sandbox->landlock_errno;
    if (r == 0)
        return sandbox->landlock_abi;
    (void)snprintf(reason, room, "landlock: %s",
                   r == -ENOSYS       ? "not in this kernel"
                   : r == -EOPNOTSUPP ? "off in this kernel"
                                      : strerror(-r));
    return 0;
}

int sandbox_syscalls(const struct sandbox *sandbox, struct err *err)
{
    return syscalls_enter(&sandbox->seccomp, err);
}
