/* SPDX-License-Identifier: Apache-2.0 */
/*
 * no_new_privs stands before Landlock: without it an ordinary user may not restrict itself. The
 * kernel headers of Debian 12 know Landlock's ABI 2 only, so the later rights are spelled out here.
 */
#include "sys/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/prctl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <perigee/worker.h>

#include "base/err.h"
#include "sys/fd.h"

#define STACK_BYTES (UINT64_C(8) << 20)  /* glibc's, for a thread */
#define SLACK_BYTES (UINT64_C(16) << 20) /* loading code of libraries that are mapped already */

/* ---- descriptors ----------------------------------------------------------------------------- */

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
     * what is private and writable but the first thread's stack, which has a limit of its own;
     * seccomp lets nothing else be mapped. */
    r = r < 0 ? r : limit(RLIMIT_AS, limits->mapped_bytes + more, "memory", err);
    r = r < 0 ? r : limit(RLIMIT_DATA, limits->data_bytes + more, "private memory", err);
    r = r < 0 ? r : limit(RLIMIT_STACK, STACK_BYTES, "the stack", err);
    r = r < 0 ? r : limit(RLIMIT_NOFILE, limits->descriptors_max, "descriptors", err);
    r = r < 0 ? r : limit(RLIMIT_CORE, 0, "core files", err);
    r = r < 0 ? r : limit(RLIMIT_FSIZE, 0, "files written", err);
    r = r < 0 ? r : limit(RLIMIT_MEMLOCK, 0, "locked memory", err);
    r = r < 0 ? r : limit(RLIMIT_MSGQUEUE, 0, "message queues", err);
    if (limits->threads_counted && r == 0)
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
    if (r == 0)
        sandbox_probe(&ret_sandbox->probe);
    return r;
}

uint32_t sandbox_required(void)
{
    return SANDBOX_REQUIRED | (geteuid() == 0 ? PERIGEE_WALL_UID : 0);
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

int sandbox_files(int landlock_abi, int folder_fd, struct err *err)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return err_set(err, ERR_INTERNAL, "no_new_privs: %s", strerror(errno));
    int r = landlock_abi > 0 ? restrict_files(landlock_abi, folder_fd) : 0;
    return r < 0 ? err_set(err, ERR_INTERNAL, "landlock: %s", strerror(-r)) : 0;
}

int sandbox_syscalls(const struct sandbox *sandbox, struct err *err)
{
    return syscalls_enter(&sandbox->seccomp, err);
}

const char *sandbox_wall_name(uint32_t wall)
{
    static const struct {
        uint32_t wall;
        const char *name;
    } rows[] = {
        { PERIGEE_WALL_NNP, "nnp" },         { PERIGEE_WALL_RLIMITS, "rlimits" },
        { PERIGEE_WALL_ENV, "env" },         { PERIGEE_WALL_FDS, "fds" },
        { PERIGEE_WALL_SECCOMP, "seccomp" }, { PERIGEE_WALL_LANDLOCK, "landlock" },
        { PERIGEE_WALL_USER, "user" },       { PERIGEE_WALL_MOUNT, "mount" },
        { PERIGEE_WALL_NET, "net" },         { PERIGEE_WALL_IPC, "ipc" },
        { PERIGEE_WALL_UID, "uid" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].wall == wall)
            return rows[i].name;
    return "?";
}
