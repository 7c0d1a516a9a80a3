/* SPDX-License-Identifier: Apache-2.0 */
#include "store/reserve.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/auto.h"
#include "sys/fd.h"

enum {
    RESERVE_BYTES = 256 << 10, /* SQLite's index (32 KiB), a few pages of log, addresses.json */
    SPARE_TIMES = 4,           /* so much must be free, or those who need it now go first */
};

static char *path_of(const char *path)
{
    char *reserve;
    if (asprintf(&reserve, "%s.reserve", path) < 0)
        mem_abort(0);
    return reserve;
}

void reserve_keep(const char *path)
{
    struct statvfs disk;
    struct stat st;
    auto_free char *reserve = path_of(path);
    if (stat(reserve, &st) == 0 && st.st_size == RESERVE_BYTES)
        return;
    if (statvfs(path, &disk) < 0 || disk.f_bavail * disk.f_frsize < SPARE_TIMES * RESERVE_BYTES)
        return;
    auto_close int fd = open(reserve, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0 && posix_fallocate(fd, 0, RESERVE_BYTES) != 0)
        (void)unlink(reserve);
}

bool reserve_give(const char *path)
{
    auto_free char *reserve = path_of(path);
    return unlink(reserve) == 0;
}
