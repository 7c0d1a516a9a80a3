/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An empty root: /model, and /proc/self/fd because ONNX Runtime asks there which file it has opened
 * before it believes a model's external data. Paths are then short and the same everywhere, and a
 * replica does not stumble over a home that its own uid cannot walk through.
 *
 * The mounts are made detached first (open_tree), so that the file system to be left can serve as
 * the place to build the new one: /proc, which every system has.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "sys/fd.h"
#include "sys/sandbox.h"

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

/* Returns 0, or minus an errno with the name of what failed. Until pivot_root nothing is lost that
 * the caller would miss but /proc. */
static int build(int folder_fd, const char **ret_step)
{
    /* Before unshare: the kernel copies only mounts of one's own namespace. */
    *ret_step = "open_tree";
    auto_close int folder = (int)syscall(SYS_open_tree, folder_fd, "",
                                         OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    auto_close int descriptors =
        (int)syscall(SYS_open_tree, AT_FDCWD, "/proc/self/fd", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (folder < 0 || descriptors < 0)
        return -errno;

    *ret_step = "unshare";
    if (unshare(CLONE_NEWNS) != 0 || mount_call(NULL, "/", NULL, FLAG_REC_PRIVATE, NULL) != 0)
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

int sandbox_root(int folder_fd, char *reason, size_t room, struct err *err)
{
    const char *step = "";
    int r = build(folder_fd, &step);

    if (r == 0)
        return 1;
    (void)snprintf(reason, room, "mount: %s: %s", step, strerror(-r));
    if (fchdir(folder_fd) < 0)
        return err_set(err, ERR_INTERNAL, "entering the model's folder: %s", strerror(errno));
    return 0;
}
