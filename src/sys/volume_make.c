/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of a volume, and the file system in it: by the programs of e2fsprogs. A file has no name
 * until it is whole, and the programs are given the file itself. So one that lives on when its
 * agent was killed writes beside nobody, and its file goes with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "sys/fd.h"
#include "sys/volume.h"

enum { PATH_BYTES = 4200 };

static int program_find(const char *name, char ret[static 64], struct err *err)
{
    static const char *const folders[] = { "/usr/sbin", "/sbin", "/usr/bin", "/bin" };

    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        (void)snprintf(ret, 64, "%s/%s", folders[i], name);
        if (access(ret, X_OK) == 0)
            return 0;
    }
    return err_set(err, ERR_NOT_SUPPORTED, "'%s' is not installed: the package e2fsprogs has it",
                   name);
}

/* Of the thread that asks; what it says goes nowhere, its status says enough. It has `file` as its
 * descriptor 3. Its exit status, or negative. */
static int program_run(const char *name, char *const *arguments, int file, struct err *err)
{
    static char *const environment[] = { NULL };
    posix_spawn_file_actions_t actions;
    char program[64];
    int status = 0;
    pid_t pid;

    int r = program_find(name, program, err);
    if (r < 0)
        return r;
    int error = posix_spawn_file_actions_init(&actions);
    for (int fd = 0; fd < 3 && !error; fd++)
        error = posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&actions, file, 3);
    if (!error)
        error = posix_spawn(&pid, program, &actions, NULL, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    if (error)
        return err_set(err, ERR_INTERNAL, "running '%s': %s", program, strerror(error));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(status))
        return err_set(err, ERR_INTERNAL, "'%s' was killed", program);
    return WEXITSTATUS(status);
}

/* ---- making ---------------------------------------------------------------------------------- */

static int program_done(const char *name, char *const *arguments, int file, struct err *err)
{
    int status = program_run(name, arguments, file, err);

    return status <= 0 ? status : err_set(err, ERR_INTERNAL, "'%s' failed (%d)", name, status);
}

/* No block is left for root alone, and none given back to the disk. Everybody may write to the
 * folder; where an engine finds it empty it may fill it, or give it to a user, as an image says. */
static int format(int file, struct err *err)
{
    static char path[] = "/proc/self/fd/3";
    char *const make[] = { "mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard,root_owner=0:0",
                           path,        NULL };
    char *const empty[] = { "debugfs", "-w", "-R", "rmdir lost+found", path, NULL };
    char *const open_up[] = {
        "debugfs", "-w", "-R", "set_inode_field <2> mode 041777", path, NULL
    };
    int r = program_done("mkfs.ext4", make, file, err);

    if (r == 0)
        r = program_done("debugfs", empty, file, err);
    return r < 0 ? r : program_done("debugfs", open_up, file, err);
}

static int set_aside(int file, uint64_t bytes, struct err *err)
{
    if (fallocate(file, 0, 0, (off_t)bytes) == 0)
        return 0;
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
        return err_set(err, ERR_OVERLOADED, "the disk has no room for it: %s", strerror(errno));
    return err_set(err, ERR_NOT_SUPPORTED, "no room can be set aside on this disk: %s",
                   strerror(errno));
}

/* On the disk before it has its name. Where an agent before this one, or its heir, made one
 * meanwhile, that one is it. */
static int settle(int file, const char *path, struct err *err)
{
    char unnamed[32];

    (void)snprintf(unnamed, sizeof unnamed, "/proc/self/fd/%d", file);
    if (fsync(file) == 0 &&
        (linkat(AT_FDCWD, unnamed, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0 || errno == EEXIST))
        return 0;
    return err_set(err, ERR_INTERNAL, "making '%s': %s", path, strerror(errno));
}

int volume_make(const char *path, uint64_t bytes, struct err *err)
{
    char folder[PATH_BYTES];
    const char *name = strrchr(path, '/');

    (void)snprintf(folder, sizeof folder, "%.*s", (int)(name ? name - path : 0), path);
    auto_close int file = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file < 0)
        return err_set(err,
                       errno == ENOSPC || errno == EDQUOT       ? ERR_OVERLOADED
                       : errno == EOPNOTSUPP || errno == EISDIR ? ERR_NOT_SUPPORTED
                                                                : ERR_INTERNAL,
                       "making '%s': %s", path, strerror(errno));
    int r = set_aside(file, bytes & ~UINT64_C(4095), err);
    if (r == 0)
        r = format(file, err);
    return r < 0 ? r : settle(file, path, err);
}

/* ---- mending --------------------------------------------------------------------------------- */

/* By a mount, wherever that is: who has it for himself keeps all others from that. */
static bool in_use(const char *device)
{
    auto_close int fd = open(device, O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK);

    return fd < 0 && errno == EBUSY;
}

/* e2fsck takes it for itself as a mount does, so that neither comes between the other. */
int volume_mend(const char *path, const struct volume_device *device, bool *ret_mended,
                struct err *err)
{
    enum { MENDED = 1, MENDED_OTHERWISE = 2 /* bits of its status; others: it was not */ };
    char shown[32];
    char *const mend[] = { "e2fsck", "-p", shown, NULL };

    *ret_mended = false;
    (void)snprintf(shown, sizeof shown, "/dev/loop%u", device->number);
    if (in_use(shown))
        return 0;
    int status = program_run("e2fsck", mend, device->fd, err);
    if (status < 0)
        return status;
    *ret_mended = status & (MENDED | MENDED_OTHERWISE);
    if ((status & ~(MENDED | MENDED_OTHERWISE)) == 0 || in_use(shown))
        return 0;
    return err_set(err, ERR_PRECONDITION,
                   "its file system is damaged, and `e2fsck -p` does not mend it (status %d): stop "
                   "Perigee, then mend '%s' by hand, or remove it, and it begins empty",
                   status, path);
}

int volume_possible(struct err *err)
{
    static const char *const programs[] = { "mkfs.ext4", "debugfs", "e2fsck" };
    auto_close int control = open(VOLUME_CONTROL, O_RDWR | O_CLOEXEC);
    char program[64];
    int r = 0;

    if (control < 0)
        return err_set(err, ERR_NOT_SUPPORTED, VOLUME_CONTROL ": %s", strerror(errno));
    for (size_t i = 0; i < sizeof programs / sizeof *programs && r == 0; i++)
        r = program_find(programs[i], program, err);
    return r;
}
