/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/volume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "sys/fd.h"

#define CONTROL "/dev/loop-control"

enum { PATH_BYTES = 4200, ATTACH_TRIES = 16 };

/* ---- making ---------------------------------------------------------------------------------- */

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

/* ---- attaching ------------------------------------------------------------------------------- */

static int device_open(unsigned number, int flags)
{
    char path[32];

    (void)snprintf(path, sizeof path, "/dev/loop%u", number);
    return open(path, flags | O_CLOEXEC | O_NONBLOCK);
}

static int device_tell(unsigned number, struct volume_device *ret, struct err *err)
{
    struct stat st;
    int fd = device_open(number, O_RDONLY);

    if (fd < 0 || fstat(fd, &st) < 0) {
        fd_close(&fd);
        return err_set(err, ERR_INTERNAL, "/dev/loop%u: %s", number, strerror(errno));
    }
    ret->fd = fd;
    ret->number = number;
    (void)snprintf(ret->id, sizeof ret->id, "%u:%u", major(st.st_rdev), minor(st.st_rdev));
    return 0;
}

/* Those that have no file say ENXIO. */
static bool shows(unsigned number, const struct stat *file)
{
    auto_close int fd = device_open(number, O_RDONLY);
    struct loop_info64 info;

    return fd >= 0 && ioctl(fd, LOOP_GET_STATUS64, &info) == 0 && info.lo_inode == file->st_ino &&
           info.lo_device == file->st_dev;
}

/* -1: none shows it. */
static int device_find(const struct stat *file)
{
    DIR *dir = opendir("/sys/block");
    unsigned number;
    int found = -1;

    for (const struct dirent *entry; found < 0 && dir && (entry = readdir(dir));)
        if (sscanf(entry->d_name, "loop%u", &number) == 1 && shows(number, file))
            found = (int)number;
    if (dir)
        closedir(dir);
    return found;
}

static int configure(int device_fd, int file_fd, const char *path)
{
    struct loop_config config = { .fd = (unsigned)file_fd,
                                  .info = { .lo_flags = LO_FLAGS_AUTOCLEAR } };

    (void)snprintf((char *)config.info.lo_file_name, LO_NAME_SIZE, "%s", path);
    return ioctl(device_fd, LOOP_CONFIGURE, &config);
}

/* A free one may be somebody else's a moment later. The one that configures it may write, and is
 * closed: who may write to a device can keep others from mounting it. */
static int device_new(const char *path, int file_fd, struct volume_device *ret, struct err *err)
{
    auto_close int control = open(CONTROL, O_RDWR | O_CLOEXEC);

    if (control < 0)
        return err_set(err, ERR_NOT_SUPPORTED, CONTROL ": %s%s", strerror(errno),
                       errno == EACCES ? "; it takes root" : "");
    for (int tries = 0; tries < ATTACH_TRIES; tries++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        auto_close int fd = number < 0 ? -1 : device_open((unsigned)number, O_RDWR);
        if (fd < 0)
            return err_set(err, ERR_NOT_SUPPORTED, "no loop device: %s", strerror(errno));
        if (configure(fd, file_fd, path) == 0)
            return device_tell((unsigned)number, ret, err);
        if (errno != EBUSY)
            return err_set(err, ERR_NOT_SUPPORTED, "/dev/loop%d: %s", number, strerror(errno));
    }
    return err_set(err, ERR_INTERNAL, "others take each free loop device");
}

int volume_attach(const char *path, struct volume_device *ret, struct err *err)
{
    auto_close int file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;

    if (file < 0 || fstat(file, &st) < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_INTERNAL, "'%s': %s", path,
                       strerror(errno));
    int number = device_find(&st);
    if (number < 0)
        return device_new(path, file, ret, err);
    struct volume_device device;
    int r = device_tell((unsigned)number, &device, err);
    if (r < 0)
        return r;
    if (shows(device.number, &st)) { /* it did not go meanwhile */
        *ret = device;
        return 0;
    }
    fd_close(&device.fd);
    return device_new(path, file, ret, err);
}

int volume_possible(struct err *err)
{
    auto_close int control = open(CONTROL, O_RDWR | O_CLOEXEC);
    char program[64];

    if (control < 0)
        return err_set(err, ERR_NOT_SUPPORTED, CONTROL ": %s", strerror(errno));
    int r = program_find("mkfs.ext4", program, err);
    return r < 0 ? r : program_find("debugfs", program, err);
}
