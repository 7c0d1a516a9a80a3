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
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/map.h"
#include "sys/channel.h"
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

int netns_sockets(int pidfd, size_t count, int *ret_fds, struct err *err)
{
    auto_close int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    size_t made = 0;
    int error = 0;

    if (home < 0)
        return err_set(err, ERR_INTERNAL, "/proc/self/ns/net: %s", strerror(errno));
    if (setns(pidfd, CLONE_NEWNET) < 0)
        return refused(err);
    for (; made < count && made < NETNS_SOCKETS_MAX; made++) {
        ret_fds[made] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        error = errno;
        if (ret_fds[made] < 0)
            break;
    }
    leave(home);
    if (made == 0)
        return err_set(err, ERR_INTERNAL, "no socket: %s", strerror(error));
    return (int)made;
}

int netns_possible(struct err *err)
{
    auto_close int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    int fd = -1;

    if (self < 0)
        return err_set(err, ERR_NOT_SUPPORTED, "pidfd_open: %s", strerror(errno));
    int r = netns_sockets(self, 1, &fd, err);
    fd_close(&fd);
    return r < 0 ? r : 0;
}

/* ---- the helper ------------------------------------------------------------------------------ */

int netns_message_check(const void *data, size_t size, size_t fd_count, struct err *err)
{
    const struct netns_message *message = data;

    if (size != sizeof *message || message->magic != NETNS_MAGIC || message->type < NETNS_SHOW ||
        message->type > NETNS_SOCKETS || message->text[sizeof message->text - 1] != '\0')
        return err_set(err, ERR_BAD_INPUT, "no message of a helper for namespaces");
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

struct helper {
    struct channel *channels[NETNS_CHANNELS_MAX];
    size_t channel_count;
    struct map replicas; /* id -> its pidfd + 1 */
};

static void forget(struct helper *helper, uint64_t replica)
{
    int fd = (int)(intptr_t)map_remove_u64(&helper->replicas, replica) - 1;
    fd_close(&fd);
}

static void show(struct helper *helper, uint64_t replica, int *fd)
{
    forget(helper, replica);
    if (helper->replicas.count < NETNS_REPLICAS_MAX)
        map_put_u64(&helper->replicas, replica, (void *)(intptr_t)(take_fd(*fd) + 1));
}

static int answer(struct helper *helper, struct channel *to, const struct netns_message *want)
{
    struct netns_message message = { NETNS_MAGIC, NETNS_SOCKETS, want->replica, want->request };
    int fds[NETNS_SOCKETS_MAX], count = 0;
    struct err err;
    intptr_t known = (intptr_t)map_get_u64(&helper->replicas, want->replica);

    if (known == 0)
        message.code = err_set(&err, ERR_NOT_FOUND, "there is no such replica");
    else
        count = netns_sockets((int)known - 1, want->count, fds, &err);
    if (count < 0)
        message.code = count;
    if (message.code < 0)
        (void)snprintf(message.text, sizeof message.text, "%.199s", err.message);
    message.count = count > 0 ? (uint32_t)count : 0;
    int r = channel_send(to, &message, sizeof message, fds, message.count, &err);
    for (int i = 0; i < count; i++)
        fd_close(&fds[i]);
    return r;
}

/* One that says what it may not, or does not read, is cut off. */
static int receive(struct helper *helper, size_t from)
{
    struct netns_message message;
    int fds[CHANNEL_FDS_MAX];
    size_t size, fd_count = 0;
    struct err err;
    int r = channel_receive(helper->channels[from], &message, sizeof message, &size, fds, &fd_count,
                            &err);
    if (r <= 0)
        return r;
    r = netns_message_check(&message, size, fd_count, &err);
    if (r == 0 && message.type == NETNS_WANT)
        r = answer(helper, helper->channels[from], &message);
    else if (r == 0 && from == 0 && message.type == NETNS_SHOW)
        show(helper, message.replica, &fds[0]);
    else if (r == 0 && from == 0 && message.type == NETNS_FORGET)
        forget(helper, message.replica);
    else if (r == 0)
        r = err_set(&err, ERR_FORBIDDEN, "it may not say that");
    for (size_t i = 0; i < fd_count; i++)
        fd_close(&fds[i]);
    return r < 0 ? r : 1;
}

static void cut(struct helper *helper, size_t index)
{
    channel_free(helper->channels[index]);
    helper->channels[index] = NULL;
}

static void turn(struct helper *helper, struct pollfd *polls)
{
    struct err err;
    for (size_t i = 0; i < helper->channel_count; i++) {
        if (!helper->channels[i] || !polls[i].revents)
            continue;
        int r = channel_flush(helper->channels[i], &err);
        while (r >= 0 && (r = receive(helper, i)) > 0)
            ;
        if (r < 0)
            cut(helper, i);
    }
}

void netns_serve(const int *channel_fds, size_t count, int lifeline_fd)
{
    struct helper helper = { .channel_count = count };
    struct pollfd polls[NETNS_CHANNELS_MAX + 1];

    for (size_t i = 0; i < count; i++)
        helper.channels[i] = channel_new(channel_fds[i]);
    while (helper.channels[0]) {
        for (size_t i = 0; i < count; i++) {
            struct channel *channel = helper.channels[i];
            short out = channel && channel_wants_write(channel) ? POLLOUT : 0;
            polls[i] = (struct pollfd){ channel ? channel_fd(channel) : -1, POLLIN | out, 0 };
        }
        polls[count] = (struct pollfd){ lifeline_fd, POLLIN, 0 };
        if (poll(polls, count + 1, -1) < 0 && errno != EINTR)
            break;
        if (polls[count].revents)
            break;
        turn(&helper, polls);
    }
    for (size_t i = 0; i < count; i++)
        channel_free(helper.channels[i]);
    MAP_EACH (entry, &helper.replicas) {
        int fd = (int)(intptr_t)entry->value - 1;
        fd_close(&fd);
    }
    map_deinit(&helper.replicas);
}
