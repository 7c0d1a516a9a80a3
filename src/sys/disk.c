/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "sys/env_linux.h"
#include "sys/fd.h"

enum { PATH_BYTES = 4096 };

static enum err_code code_of(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return ERR_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return ERR_FORBIDDEN;
    case ENOSPC:
    case EDQUOT:
        return ERR_OVERLOADED;
    default:
        return ERR_INTERNAL;
    }
}

int disk_read(const char *path, size_t bytes_max, struct arena *arena, struct slice *ret_bytes,
              struct err *err)
{
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(err, code_of(errno), "reading '%s': %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_BAD_INPUT, "'%s' is no plain file", path);
    if ((uint64_t)st.st_size > bytes_max)
        return err_set(err, ERR_TOO_LARGE, "'%s' has %jd bytes; at most %zu are read", path,
                       (intmax_t)st.st_size, bytes_max);
    size_t size = (size_t)st.st_size, done = 0;
    char *data = arena_alloc(arena, size + 1);
    while (done < size) {
        ssize_t n = read(fd, data + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, code_of(errno), "reading '%s': %s", path, strerror(errno));
        if (n == 0)
            break;
        done += (size_t)n;
    }
    *ret_bytes = (struct slice){ data, done };
    return 0;
}

/* The folder a path is in, opened; for fsync. */
static int open_folder(const char *path)
{
    char folder[PATH_BYTES];
    (void)snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (!slash)
        return open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    slash[slash == folder ? 1 : 0] = '\0';
    return open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int write_all(int fd, struct slice bytes)
{
    for (size_t done = 0; done < bytes.size;) {
        ssize_t n = write(fd, bytes.data + done, bytes.size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        done += (size_t)n;
    }
    return fsync(fd);
}

int disk_replace(const char *path, struct slice bytes, struct err *err)
{
    char temporary[PATH_BYTES];
    int length = snprintf(temporary, sizeof temporary, "%s.new", path);
    if (length < 0 || length >= (int)sizeof temporary)
        return err_set(err, ERR_BAD_INPUT, "a path of %zu bytes is too long", strlen(path));
    /* Left by a process that was killed while writing: of no use to anybody. */
    (void)unlink(temporary);
    auto_close int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_set(err, code_of(errno), "writing '%s': %s", path, strerror(errno));
    auto_close int folder = open_folder(path);
    if (write_all(fd, bytes) < 0 || folder < 0 || rename(temporary, path) < 0 ||
        fsync(folder) < 0) {
        int error = errno;
        (void)unlink(temporary);
        return err_set(err, code_of(error), "writing '%s': %s", path, strerror(error));
    }
    return 0;
}

int disk_append(const char *path, uint64_t offset, struct slice bytes, struct err *err)
{
    auto_close int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(err, code_of(errno), "writing '%s': %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < offset)
        return err_set(err, ERR_BAD_INPUT, "'%s' is no file of %ju bytes", path, (uintmax_t)offset);
    if (((uint64_t)st.st_size > offset && ftruncate(fd, (off_t)offset) < 0) ||
        lseek(fd, (off_t)offset, SEEK_SET) < 0 || write_all(fd, bytes) < 0)
        return err_set(err, code_of(errno), "writing '%s': %s", path, strerror(errno));
    return 0;
}

int disk_save(const char *path, int64_t offset, struct slice bytes, struct err *err)
{
    return offset < 0 ? disk_replace(path, bytes, err)
                      : disk_append(path, (uint64_t)offset, bytes, err);
}

/* A folder that is new lasts once its parent is on disk. */
int disk_folder(const char *folder, struct err *err)
{
    if (mkdir(folder, 0700) < 0)
        return errno == EEXIST
                   ? 0
                   : err_set(err, code_of(errno), "making '%s': %s", folder, strerror(errno));
    auto_close int parent = open_folder(folder);
    if (parent >= 0 && fsync(parent) == 0)
        return 0;
    int error = errno;
    (void)rmdir(folder);
    return err_set(err, code_of(error), "making '%s': %s", folder, strerror(error));
}

int disk_remove(const char *path, struct err *err)
{
    if (unlink(path) < 0)
        return err_set(err, code_of(errno), "removing '%s': %s", path, strerror(errno));
    auto_close int folder = open_folder(path);
    if (folder < 0 || fsync(folder) < 0)
        return err_set(err, code_of(errno), "removing '%s': %s", path, strerror(errno));
    return 0;
}

static int name_order(const void *a, const void *b)
{
    return strcmp(((const struct slice *)a)->data, ((const struct slice *)b)->data);
}

static bool plain_file(DIR *dir, const struct dirent *entry)
{
    struct stat st;
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_REG;
    return fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

/* NULL with errno 0: that was the last one. */
static struct dirent *entry_next(DIR *dir)
{
    errno = 0;
    return readdir(dir);
}

int disk_list(const char *folder, struct arena *arena, struct slice **ret_names, size_t *ret_count,
              struct err *err)
{
    DIR *dir = opendir(folder);
    if (!dir)
        return err_set(err, code_of(errno), "listing '%s': %s", folder, strerror(errno));
    auto_free struct slice *names = NULL;
    size_t count = 0, room = 0;
    struct dirent *entry;
    while ((entry = entry_next(dir))) {
        if (!plain_file(dir, entry))
            continue;
        if (count == room) {
            room = room ? room * 2 : 16;
            names = mem_resize(names, room, sizeof *names);
        }
        names[count++] = arena_copy(arena, slice_of(entry->d_name));
    }
    int error = errno; /* a list that is not whole is none */
    (void)closedir(dir);
    if (error)
        return err_set(err, code_of(error), "listing '%s': %s", folder, strerror(error));
    if (count)
        qsort(names, count, sizeof *names, name_order);
    *ret_names = ARENA_ARRAY(arena, struct slice, count ? count : 1);
    if (count)
        memcpy(*ret_names, names, count * sizeof *names);
    *ret_count = count;
    return 0;
}
