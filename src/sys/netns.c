/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "sys/channel.h"
#include "sys/fd.h"

/* ---- entering -------------------------------------------------------------------------------- */

static int refused(struct err *err)
{
    if (errno == ESRCH)
        return err_set(err, ERR_NOT_FOUND, "its process is gone");
    bool forbidden = errno == EPERM || errno == EINVAL; /* the latter: our own user namespace */
    return err_set(err, forbidden ? ERR_FORBIDDEN : ERR_INTERNAL,
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

/* Of the namespace that we are in. -1: none, and errno says why. */
static int make(void)
{
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static int no_socket(int error, struct err *err)
{
    return err_set(err, ERR_INTERNAL, "no socket: %s", strerror(error));
}

/* An ordinary user may not come back from a user namespace: a child goes there in its place. */
[[gnu::noreturn]] static void child(int pidfd, int answer_fd)
{
    struct netns_message message = { NETNS_MAGIC, NETNS_SOCKET };
    struct channel *parent = channel_new(answer_fd);
    struct err err;
    int fd = -1;

    if (setns(pidfd, CLONE_NEWUSER | CLONE_NEWNET) < 0)
        message.code = refused(&err);
    else if ((fd = make()) < 0)
        message.code = no_socket(errno, &err);
    if (message.code < 0)
        (void)snprintf(message.text, sizeof message.text, "%.199s", err.message);
    message.count = fd >= 0;
    (void)!channel_send(parent, &message, sizeof message, &fd, fd >= 0, &err);
    _exit(0);
}

static int child_answer(int fd, int *ret_fd, struct err *err)
{
    struct channel *from = channel_new(fd);
    struct pollfd wait = { fd, POLLIN, 0 };
    struct netns_message message;
    int fds[CHANNEL_FDS_MAX], r;
    size_t size, made = 0;

    while (poll(&wait, 1, -1) < 0 && errno == EINTR)
        ;
    r = channel_receive(from, &message, sizeof message, &size, fds, &made, err);
    channel_free(from);
    if (r == 0)
        r = err_set(err, ERR_INTERNAL, "who enters for us does not answer");
    else if (r > 0)
        r = netns_message_check(&message, size, made, err);
    if (r == 0 && message.code < 0)
        r = err_set(err, (enum err_code)message.code, "%s", message.text);
    else if (r == 0 && made == 0)
        r = err_set(err, ERR_INTERNAL, "who enters for us brings no socket");
    if (r == 0)
        *ret_fd = take_fd(fds[0]);
    for (size_t i = 0; i < made; i++)
        fd_close(&fds[i]);
    return r;
}

static int by_child(int pidfd, int *ret_fd, struct err *err)
{
    int pair[2] = { -1, -1 };
    pid_t pid = channel_pair(pair, err) < 0 ? -1 : fork();
    int error = errno;

    if (pid == 0)
        child(pidfd, pair[1]);
    fd_close(&pair[1]);
    if (pid < 0) { /* EPERM as root, where it would not help either; else it passes */
        fd_close(&pair[0]);
        errno = error;
        return refused(err);
    }
    int r = child_answer(pair[0], ret_fd, err);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return r;
}

int netns_socket(int home_fd, int pidfd, int *ret_fd, struct err *err)
{
    if (setns(pidfd, CLONE_NEWNET) < 0)
        return errno == EPERM ? by_child(pidfd, ret_fd, err) : refused(err);
    int fd = make(), error = errno;
    leave(home_fd);
    if (fd < 0)
        return no_socket(error, err);
    *ret_fd = fd;
    return 0;
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
        r = netns_socket(home, self, &fd, err);
    fd_close(&fd);
    return r;
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
    if (message->type == NETNS_WANT && message->count != 1)
        return err_set(err, ERR_BAD_INPUT, "%u sockets are asked for", (unsigned)message->count);
    size_t most = message->type == NETNS_SHOW || message->type == NETNS_SOCKET;
    if (fd_count > most || (message->type == NETNS_SHOW && fd_count == 0))
        return err_set(err, ERR_BAD_INPUT, "%zu descriptors come with it", fd_count);
    return 0;
}
