/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Namespaces and identity. A user namespace is entered as the replica's own user, root or not, with
 * that one user mapped to itself; its capabilities build the rest, and are dropped. Where user
 * namespaces are refused, root makes the others with its own capabilities, before it becomes that
 * user.
 *
 * The root is empty but for /model, and /proc/self/fd because ONNX Runtime asks there which file it
 * has opened before it believes a model's external data. Paths are then short and the same
 * everywhere, and a replica does not stumble over a home that its own uid cannot walk through: the
 * folder is entered first, and the kernel takes the current folder along into the new namespace.
 * The mounts are made detached (open_tree), so that the file system to be left can serve as the
 * place to build the new one: /proc, which every system has.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <perigee/worker.h>

#include "base/err.h"
#include "sys/fd.h"
#include "sys/sandbox.h"

#define CAPABILITY_LAST 63
#define UID_BASE 0x6a000000u

/* <sys/mount.h> and <linux/mount.h> do not go together in Debian 12; these are of the former. */
#define FLAG_REC_PRIVATE (16384ul | (1ul << 18))
#define FLAG_PLAIN (2ul | 4ul | 8ul) /* nosuid, nodev, noexec */
#define FLAG_REMOUNT_READONLY (32ul | 1ul)
#define FLAG_DETACH 2

static long mount_call(const char *source, const char *target, const char *type,
                       unsigned long flags, const char *data)
{
    return syscall(SYS_mount, source, target, type, flags, data);
}

static int attach(int tree, const char *target)
{
    struct mount_attr plain = {
        .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
    };

    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &plain, sizeof plain) != 0 ||
        syscall(SYS_move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) != 0)
        return -errno;
    return 0;
}

/* From the current folder. Returns 0, or minus an errno with the name of what failed. */
static int build_root(const char **ret_step)
{
    *ret_step = "open_tree";
    auto_close int folder =
        (int)syscall(SYS_open_tree, AT_FDCWD, ".", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    auto_close int descriptors =
        (int)syscall(SYS_open_tree, AT_FDCWD, "/proc/self/fd", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (folder < 0 || descriptors < 0)
        return -errno;

    *ret_step = "making mounts private";
    if (mount_call(NULL, "/", NULL, FLAG_REC_PRIVATE, NULL) != 0)
        return -errno;
    *ret_step = "tmpfs";
    if (mount_call("perigee", "/proc", "tmpfs", FLAG_PLAIN, "mode=755,size=64k") != 0)
        return -errno;
    if (chdir("/proc") != 0 || mkdir("model", 0755) != 0 || mkdir("proc", 0755) != 0 ||
        mkdir("proc/self", 0755) != 0 || mkdir("proc/self/fd", 0755) != 0)
        return -errno;
    *ret_step = "move_mount";
    int r = attach(folder, "model");
    if (r == 0)
        r = attach(descriptors, "proc/self/fd");
    if (r < 0)
        return r;
    *ret_step = "pivot_root";
    if (syscall(SYS_pivot_root, ".", ".") != 0 || syscall(SYS_umount2, ".", FLAG_DETACH) != 0 ||
        chdir("/") != 0 ||
        mount_call(NULL, "/", NULL, FLAG_REMOUNT_READONLY | FLAG_PLAIN, NULL) != 0 ||
        chdir("/model") != 0)
        return -errno;
    return 0;
}

static int enter_root(struct err *err)
{
    const char *step = "";
    int r = build_root(&step);

    return r < 0 ? err_set(err, ERR_INTERNAL, "%s: %s", step, strerror(-r)) : 0;
}

/* ---- who it is ------------------------------------------------------------------------------- */

int sandbox_take_user(uint32_t uid, struct err *err)
{
    if (uid != 0 &&
        (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0))
        return err_set(err, ERR_INTERNAL, "taking uid %" PRIu32 ": %s", uid, strerror(errno));
    return 0;
}

static int write_file(const char *path, const char *text)
{
    auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t size = (ssize_t)strlen(text);

    return fd >= 0 && write(fd, text, (size_t)size) == size ? 0 : -1;
}

static int drop_capabilities(struct err *err)
{
    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct none[2] = {};

    /* The bounding set first, as that wants a capability; who has none may not, and needs not. */
    for (int i = 0; i <= CAPABILITY_LAST; i++)
        (void)prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capset, &head, none) != 0)
        return err_set(err, ERR_INTERNAL, "dropping capabilities: %s", strerror(errno));
    return 0;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int space_flags(uint32_t walls)
{
    return (walls & PERIGEE_WALL_USER ? CLONE_NEWUSER : 0) |
           (walls & PERIGEE_WALL_MOUNT ? CLONE_NEWNS : 0) |
           (walls & PERIGEE_WALL_NET ? CLONE_NEWNET : 0) |
           (walls & PERIGEE_WALL_IPC ? CLONE_NEWIPC : 0);
}

static int enter_spaces(uint32_t walls, struct err *err)
{
    char uids[64], gids[64];

    (void)snprintf(uids, sizeof uids, "%u %u 1", geteuid(), geteuid());
    (void)snprintf(gids, sizeof gids, "%u %u 1", getegid(), getegid());
    if (space_flags(walls) && unshare(space_flags(walls)) != 0)
        return err_set(err, ERR_INTERNAL, "%s",
                       errno == EPERM    ? "not permitted here"
                       : errno == ENOSPC ? "none is left (sysctl user.max_*_namespaces)"
                                         : strerror(errno));
    /* /proc/self belongs to who may be dumped; and the one user that an unprivileged process may
     * map is itself. */
    if (walls & PERIGEE_WALL_USER &&
        (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0 || write_file("/proc/self/setgroups", "deny") ||
         write_file("/proc/self/uid_map", uids) || write_file("/proc/self/gid_map", gids)))
        return err_set(err, ERR_INTERNAL, "mapping the user: %s", strerror(errno));
    /* None below it; where /proc/sys cannot be written (a container), seccomp alone says so. */
    if (walls & PERIGEE_WALL_USER)
        (void)write_file("/proc/sys/user/max_user_namespaces", "0");
    return walls & PERIGEE_WALL_MOUNT ? enter_root(err) : 0;
}

int sandbox_enter(uint32_t walls, int folder_fd, uint32_t uid, struct err *err)
{
    bool user = (walls & PERIGEE_WALL_USER) != 0;

    if (fchdir(folder_fd) < 0)
        return err_set(err, ERR_INTERNAL, "entering the model's folder: %s", strerror(errno));
    int r = user ? sandbox_take_user(uid, err) : 0;
    if (r == 0)
        r = enter_spaces(walls, err);
    if (r == 0 && !user)
        r = sandbox_take_user(uid, err);
    if (r == 0)
        r = drop_capabilities(err);
    if (r < 0)
        return r;
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return err_set(err, ERR_INTERNAL, "prctl: %s", strerror(errno));
    return 0;
}

uint32_t sandbox_uid_base(void)
{
    FILE *file = geteuid() == 0 ? fopen("/proc/self/uid_map", "re") : NULL;
    uint32_t inside, outside, count, base = 0;
    if (!file)
        return 0;
    while (!base &&
           fscanf(file, "%" SCNu32 " %" SCNu32 " %" SCNu32, &inside, &outside, &count) == 3) {
        uint64_t end = (uint64_t)inside + count;
        if (inside <= UID_BASE && end >= (uint64_t)UID_BASE + SANDBOX_UIDS)
            base = UID_BASE;
        else if (count >= 2 * SANDBOX_UIDS) /* a container: the end of what it has */
            base = (uint32_t)(end - SANDBOX_UIDS);
    }
    (void)fclose(file);
    return base;
}
