/* SPDX-License-Identifier: Apache-2.0 */
/* The file of a volume, and the file system in it: by the programs of e2fsprogs. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
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

/* Of the thread that asks; what it says goes nowhere, its status says enough. */
static int program_run(const char *name, char *const *arguments, struct err *err)
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
        error = posix_spawn(&pid, program, &actions, NULL, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    if (error)
        return err_set(err, ERR_INTERNAL, "running '%s': %s", program, strerror(error));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return err_set(err, ERR_INTERNAL, "'%s' failed", program);
    return 0;
}

/* No block is left for root alone, and none given back to the disk. Everybody may write to the
 * folder; where an engine finds it empty it may fill it, or give it to a user, as an image says. */
static int format(char *path, struct err *err)
{
    char *const make[] = { "mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard,root_owner=0:0",
                           path,        NULL };
    char *const empty[] = { "debugfs", "-w", "-R", "rmdir lost+found", path, NULL };
    char *const open_up[] = {
        "debugfs", "-w", "-R", "set_inode_field <2> mode 041777", path, NULL
    };
    int r = program_run("mkfs.ext4", make, err);

    if (r == 0)
        r = program_run("debugfs", empty, err);
    return r < 0 ? r : program_run("debugfs", open_up, err);
}

static int set_aside(const char *path, uint64_t bytes, struct err *err)
{
    auto_close int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return err_set(err, errno == ENOSPC ? ERR_OVERLOADED : ERR_INTERNAL, "making '%s': %s",
                       path, strerror(errno));
    if (fallocate(fd, 0, 0, (off_t)bytes) == 0)
        return 0;
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
        return err_set(err, ERR_OVERLOADED, "the disk has no room for it: %s", strerror(errno));
    return err_set(err, ERR_NOT_SUPPORTED, "no room can be set aside on this disk: %s",
                   strerror(errno));
}

/* On the disk before it has its name. */
static int settle(const char *made, const char *path, struct err *err)
{
    auto_close int fd = open(made, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0 || rename(made, path) < 0)
        return err_set(err, ERR_INTERNAL, "making '%s': %s", path, strerror(errno));
    return 0;
}

int volume_make(const char *path, uint64_t bytes, struct err *err)
{
    char made[PATH_BYTES];

    (void)snprintf(made, sizeof made, "%s.new", path);
    int r = set_aside(made, bytes & ~UINT64_C(4095), err);
    if (r == 0)
        r = format(made, err);
    if (r == 0)
        r = settle(made, path, err);
    if (r < 0)
        (void)unlink(made);
    return r;
}

int volume_possible(struct err *err)
{
    auto_close int control = open(VOLUME_CONTROL, O_RDWR | O_CLOEXEC);
    char program[64];

    if (control < 0)
        return err_set(err, ERR_NOT_SUPPORTED, VOLUME_CONTROL ": %s", strerror(errno));
    int r = program_find("mkfs.ext4", program, err);
    return r < 0 ? r : program_find("debugfs", program, err);
}
