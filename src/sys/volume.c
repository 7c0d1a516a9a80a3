/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/volume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/err.h"
#include "sys/fd.h"

enum { ATTACH_TRIES = 16 };

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
    auto_close int control = open(VOLUME_CONTROL, O_RDWR | O_CLOEXEC);

    if (control < 0)
        return err_set(err, ERR_NOT_SUPPORTED, VOLUME_CONTROL ": %s%s", strerror(errno),
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
