/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "sys/fd.h"

/* ---- entering -------------------------------------------------------------------------------- */

static int refused(struct err *err)
{
    if (errno == ESRCH)
        return err_set(err, ERR_NOT_FOUND, "its process is gone");
    return err_set(err, errno == EPERM ? ERR_FORBIDDEN : ERR_INTERNAL,
                   "its network namespace cannot be entered: %s", strerror(errno));
}

/* Not to come back would put all that follows into a tenant's namespace. */
static void leave(int home)
{
    if (setns(home, CLONE_NEWNET) == 0)
        return;
    log_error("netns", "cannot leave a namespace", LOG_S("why", strerror(errno)));
    abort();
}

int netns_home(int *ret_fd, struct err *err)
{
    *ret_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    return *ret_fd >= 0 ? 0 : err_set(err, ERR_INTERNAL, "/proc/self/ns/net: %s", strerror(errno));
}

int netns_sockets(int home_fd, int pidfd, size_t count, int *ret_fds, struct err *err)
{
    size_t made = 0;
    int error = 0;

    if (setns(pidfd, CLONE_NEWNET) < 0)
        return refused(err);
    for (; made < count && made < NETNS_SOCKETS_MAX; made++) {
        ret_fds[made] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        error = errno;
        if (ret_fds[made] < 0)
            break;
    }
    leave(home_fd);
    if (made == 0)
        return err_set(err, ERR_INTERNAL, "no socket: %s", strerror(error));
    return (int)made;
}

int netns_possible(struct err *err)
{
    auto_close int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    auto_close int home = -1;
    int fd = -1;

    if (self < 0)
        return err_set(err, ERR_NOT_SUPPORTED, "pidfd_open: %s", strerror(errno));
    int r = netns_home(&home, err);
    if (r == 0)
        r = netns_sockets(home, self, 1, &fd, err);
    fd_close(&fd);
    return r < 0 ? r : 0;
}

/* ---- what is said --------------------------------------------------------------------------- */

int netns_message_check(const void *data, size_t size, size_t fd_count, struct err *err)
{
    const struct netns_message *message = data;

    if (size != sizeof *message || message->magic != NETNS_MAGIC || message->type < NETNS_SHOW ||
        message->type > NETNS_SHOWN || message->text[sizeof message->text - 1] != '\0')
        return err_set(err, ERR_BAD_INPUT, "no message of a helper for namespaces");
    if (message->code > 0 || message->code < -(int)ERR_COUNT)
        return err_set(err, ERR_BAD_INPUT, "no error is %d", (int)message->code);
    bool want = message->type == NETNS_WANT;
    if (want && (message->count < 1 || message->count > NETNS_SOCKETS_MAX))
        return err_set(err, ERR_BAD_INPUT, "%u sockets are asked for", (unsigned)message->count);
    size_t most = message->type == NETNS_SHOW      ? 1
                  : message->type == NETNS_SOCKETS ? NETNS_SOCKETS_MAX
                                                   : 0;
    if (fd_count > most || (message->type == NETNS_SHOW && fd_count == 0))
        return err_set(err, ERR_BAD_INPUT, "%zu descriptors come with it", fd_count);
    return 0;
}
