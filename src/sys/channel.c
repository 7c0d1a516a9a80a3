/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/channel.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/err.h"
#include "sys/fd.h"

enum { QUEUE_BYTES_MAX = 4 * 1024 * 1024, QUEUE_COUNT_MAX = 4096 };

struct queued {
    struct queued *next;
    size_t size, fd_count;
    int fds[CHANNEL_FDS_MAX]; /* our duplicates */
    char data[];
};

struct channel {
    int fd;
    struct queued *first, **last;
    size_t count, bytes;
};

int channel_pair(int ret_fds[static 2], struct err *err)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return err_set(err, ERR_INTERNAL, "making a socket pair: %s", strerror(errno));
    ret_fds[0] = fds[0];
    ret_fds[1] = fds[1];
    return 0;
}

struct channel *channel_new(int fd)
{
    struct channel *channel = mem_zalloc(sizeof *channel);
    channel->fd = fd;
    channel->last = &channel->first;
    return channel;
}

static void drop_first(struct channel *channel)
{
    struct queued *queued = channel->first;
    channel->first = queued->next;
    if (!channel->first)
        channel->last = &channel->first;
    channel->count--;
    channel->bytes -= queued->size;
    for (size_t i = 0; i < queued->fd_count; i++)
        fd_close(&queued->fds[i]);
    explicit_bzero(queued->data, queued->size); /* it may have been a key */
    free(queued);
}

void channel_hear_no_more(struct channel *channel)
{
    (void)shutdown(channel->fd, SHUT_RD);
}

void channel_free(struct channel *channel)
{
    if (!channel)
        return;
    while (channel->first)
        drop_first(channel);
    fd_close(&channel->fd);
    free(channel);
}

int channel_fd(const struct channel *channel)
{
    return channel->fd;
}

bool channel_wants_write(const struct channel *channel)
{
    return channel->first != NULL;
}

/* 1: sent; 0: the socket is full. */
static int send_now(int fd, const void *data, size_t size, const int *fds, size_t fd_count,
                    struct err *err)
{
    alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)] = {};
    struct iovec iov = { (void *)data, size };
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
    if (fd_count) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
    }
    for (;;) {
        if (sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return 1;
        if (errno == EINTR)
            continue;
        /* ETOOMANYREFS: too many descriptors under way; they go when the peer has read some. */
        if (errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS)
            return 0;
        if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN || errno == ECONNREFUSED)
            return err_set(err, ERR_CANCELED, "the other process is gone");
        return err_set(err, ERR_INTERNAL, "sending a message: %s", strerror(errno));
    }
}

static int enqueue(struct channel *channel, const void *data, size_t size, const int *fds,
                   size_t fd_count, struct err *err)
{
    if (channel->count >= QUEUE_COUNT_MAX || channel->bytes + size > QUEUE_BYTES_MAX)
        return err_set(err, ERR_OVERLOADED, "the other process does not read its messages");
    struct queued *queued = mem_zalloc(sizeof *queued + size);
    queued->size = size;
    memcpy(queued->data, data, size);
    for (size_t i = 0; i < fd_count; i++) {
        queued->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
        if (queued->fds[i] < 0) {
            int error = errno;
            while (i-- > 0)
                fd_close(&queued->fds[i]);
            free(queued);
            return err_set(err, ERR_INTERNAL, "duplicating a descriptor: %s", strerror(error));
        }
    }
    queued->fd_count = fd_count;
    *channel->last = queued;
    channel->last = &queued->next;
    channel->count++;
    channel->bytes += size;
    return 0;
}

int channel_send(struct channel *channel, const void *data, size_t size, const int *fds,
                 size_t fd_count, struct err *err)
{
    assert(size > 0 && size <= CHANNEL_BYTES_MAX && fd_count <= CHANNEL_FDS_MAX);
    if (!channel->first) {
        int r = send_now(channel->fd, data, size, fds, fd_count, err);
        if (r != 0)
            return r < 0 ? r : 0;
    }
    return enqueue(channel, data, size, fds, fd_count, err);
}

int channel_flush(struct channel *channel, struct err *err)
{
    while (channel->first) {
        struct queued *queued = channel->first;
        int r =
            send_now(channel->fd, queued->data, queued->size, queued->fds, queued->fd_count, err);
        if (r < 0)
            return r;
        if (r == 0)
            break;
        drop_first(channel);
    }
    return 0;
}

/* Takes all descriptors out of the control data; returns how many, of which `fds` has the first
 * CHANNEL_FDS_MAX (there cannot be more: the buffer has no room for them). */
static size_t collect_fds(struct msghdr *message, int fds[static CHANNEL_FDS_MAX])
{
    size_t count = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t here = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        assert(count + here <= CHANNEL_FDS_MAX);
        memcpy(fds + count, CMSG_DATA(header), here * sizeof(int));
        count += here;
    }
    return count;
}

int channel_receive(struct channel *channel, void *buffer, size_t room, size_t *ret_size,
                    int ret_fds[static CHANNEL_FDS_MAX], size_t *ret_fd_count, struct err *err)
{
    alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)];
    struct iovec iov = { buffer, room };
    struct msghdr message = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof control,
    };
    ssize_t size;
    do
        size = recvmsg(channel->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    if (size < 0 && errno == EAGAIN)
        return 0;
    if (size < 0 && errno != ECONNRESET)
        return err_set(err, ERR_INTERNAL, "receiving a message: %s", strerror(errno));
    if (size <= 0)
        return err_set(err, ERR_CANCELED, "the other process is gone");

    size_t count = collect_fds(&message, ret_fds);
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        for (size_t i = 0; i < count; i++)
            fd_close(&ret_fds[i]);
        if (message.msg_flags & MSG_TRUNC)
            return err_set(err, ERR_BAD_INPUT, "a message was cut: it is longer than any we know");
        *ret_size = (size_t)size;
        return err_set(err, ERR_OVERLOADED, "a message was cut: no room for its descriptors");
    }
    *ret_size = (size_t)size;
    *ret_fd_count = count;
    return 1;
}
