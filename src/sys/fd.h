/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fd.h -- descriptors with a visible owner. All are O_CLOEXEC from birth. Any thread.
 */
#pragma once

#include <unistd.h>

static inline void auto_close_run(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

/* auto_close int fd = open(...); is closed when its scope ends; return take_fd(fd) hands it over.
 */
#define auto_close [[gnu::cleanup(auto_close_run)]]

#define take_fd(fd)                                                                                \
    ({                                                                                             \
        int taken_ = (fd);                                                                         \
        (fd) = -1;                                                                                 \
        taken_;                                                                                    \
    })

/* Closes and forgets; -1 is allowed. */
static inline void fd_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}
