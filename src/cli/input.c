/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "cli/cli.h"
#include "geo/mmdb.h"
#include "sys/fd.h"

enum { ROOM_FIRST = 64 * 1024 };

static int open_error(const char *path, struct err *err)
{
    int e = errno;
    return err_set(err, e == ENOENT || e == ENOTDIR ? ERR_NOT_FOUND : ERR_FORBIDDEN, "'%s': %s",
                   ERR_TEXT(path), strerror(e));
}

/* Sizes are not asked for: those of pipes and of /proc are not known before the end. */
int cli_read(struct cli *cli, const char *path, uint64_t bytes_max, struct slice *ret,
             struct err *err)
{
    bool standard = strcmp(path, "-") == 0;
    auto_close int fd = standard ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return open_error(standard ? "standard input" : path, err);
    size_t room = ROOM_FIRST, used = 0;
    auto_free char *bytes = mem_alloc(room);
    for (;;) {
        ssize_t got = read(fd, bytes + used, room - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return open_error(path, err);
        if (got == 0)
            break;
        used += (size_t)got;
        if (used > bytes_max)
            return err_set(err, ERR_TOO_LARGE, "'%s' is larger than %llu KiB", ERR_TEXT(path),
                           (unsigned long long)bytes_max / 1024);
        if (used == room) {
            bytes = mem_move_wiped(take_ptr(bytes), used, room * 2);
            room *= 2;
        }
    }
    *ret = arena_copy(cli->arena, (struct slice){ bytes, used });
    explicit_bzero(bytes, used); /* it may be secret */
    return 0;
}

void cli_warn_mmdb(const char *path, const struct mmdb *mmdb)
{
    char warning[160];
    if (mmdb_warning(mmdb, time(NULL), warning, sizeof warning))
        fprintf(stderr, "perigee: %s: %s\n", ERR_TEXT(path), warning);
}
