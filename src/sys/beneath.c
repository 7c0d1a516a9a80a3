/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel holds it while it walks, so that no link can be put in between. */
#include "sys/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TRIES_MAX = 64 }; /* EAGAIN: something was renamed while a ".." was walked */

int beneath_open(int folder, const char *path, int flags)
{
    const struct open_how how = {
        .flags = (unsigned)(flags | O_CLOEXEC),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    long fd;

    for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
        fd = syscall(SYS_openat2, folder, path, &how, sizeof how);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
    }
    return (int)fd;
}
