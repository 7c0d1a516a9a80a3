/* SPDX-License-Identifier: Apache-2.0 */
/* The plain stream: libuv's tcp and pipe handles over descriptors we made ourselves (libuv 1.44 has
 * no reuseport, and listeners are inherited). A write is tried at once; when the kernel took all of
 * it, on_written comes from a deferred task, which keeps it out of the caller's frame. */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/sockios.h> /* after sys/ioctl.h */
#include <uv.h>

#include "base/auto.h"
#include "io/socket.h"

struct socket {
    struct stream stream;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    uv_shutdown_t shutdown;
    bool shutdown_asked;
    struct list done;      /* of struct stream_write: ended, not yet reported */
    struct loop_task task; /* reports them */
};

static_assert(sizeof(uv_write_t) <= sizeof(((struct stream_write *)NULL)->more));
/* So that iovecs are passed as they are. */
static_assert(sizeof(uv_buf_t) == sizeof(struct iovec));
static_assert(offsetof(uv_buf_t, base) == offsetof(struct iovec, iov_base));
static_assert(offsetof(uv_buf_t, len) == offsetof(struct iovec, iov_len));

static void err_of_uv(struct err *err, int status, const char *what)
{
    bool gone = status == UV_ECANCELED || status == UV_ECONNRESET || status == UV_EPIPE ||
                status == UV_ENOTCONN;
    (void)err_set(err, gone ? ERR_CANCELED : ERR_INTERNAL, "%s: %s", what, uv_strerror(status));
}

/* ---- reading ------------------------------------------------------------------------------ */

static void on_uv_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct socket *socket = handle->data;
    struct iovec space = {};
    (void)suggested;
    socket->stream.reader->on_space(socket->stream.reader_data, &space);
    *buffer = uv_buf_init(space.iov_base, 0);
    buffer->len = space.iov_len;
}

static void on_uv_read(uv_stream_t *uv, ssize_t bytes, const uv_buf_t *buffer)
{
    struct socket *socket = uv->data;
    struct stream *stream = &socket->stream;
    (void)buffer;
    if (bytes > 0) {
        stream->reader->on_read(stream->reader_data, (size_t)bytes);
        return;
    }
    if (bytes == 0)
        return;
    stream_read_stop(stream);
    if (bytes == UV_ENOBUFS) /* on_space had none: what reading again is for */
        return;
    stream->read_ended = true;
    struct err err;
    err_of_uv(&err, (int)bytes, "reading");
    stream->reader->on_read_end(stream->reader_data, bytes == UV_EOF ? NULL : &err);
}

static void socket_read_start(struct stream *self)
{
    struct socket *socket = (struct socket *)self;
    int r = uv_read_start(&socket->uv.stream, on_uv_alloc, on_uv_read);
    assert(r == 0);
    (void)r;
}

static void socket_read_stop(struct stream *self)
{
    uv_read_stop(&((struct socket *)self)->uv.stream);
}

/* ---- writing ------------------------------------------------------------------------------ */

static void write_report(struct stream_write *write)
{
    struct err err;
    if (write->status == 0) {
        write->on_written(write, NULL, write->data);
        return;
    }
    err_of_uv(&err, write->status, "writing");
    write->on_written(write, &err, write->data);
}

static void done_report(void *data)
{
    struct socket *socket = data;
    struct list now;
    if (list_empty(&socket->done))
        return;
    /* Its own list: a callback may write again, or close the stream (which frees it later). */
    list_init(&now);
    list_insert_after(socket->done.previous, &now);
    list_remove(&socket->done);
    while (!list_empty(&now)) {
        struct stream_write *write = LIST_OWNER(now.next, struct stream_write, link);
        list_remove(&write->link);
        write_report(write);
    }
}

static void done_add(struct socket *socket, struct stream_write *write, int status)
{
    write->status = status;
    list_append(&socket->done, &write->link);
    loop_defer(socket->stream.loop, &socket->task);
}

static void on_uv_written(uv_write_t *request, int status)
{
    struct stream_write *write = request->data;
    write->status = status;
    write_report(write);
}

/* Gives libuv what the kernel did not take: `skip` bytes have gone. */
static void write_queue(struct socket *socket, struct stream_write *write,
                        const struct iovec *iovecs, size_t count, size_t skip)
{
    struct iovec few[16], *rest = few;
    auto_free struct iovec *many = NULL;
    while (count && iovecs->iov_len <= skip) {
        skip -= iovecs->iov_len;
        iovecs++;
        count--;
    }
    assert(count > 0);
    if (count > sizeof few / sizeof *few)
        rest = many = mem_resize(NULL, count, sizeof *many);
    memcpy(rest, iovecs, count * sizeof *rest);
    rest->iov_base = (char *)rest->iov_base + skip;
    rest->iov_len -= skip;

    uv_write_t *request = (void *)write->more;
    request->data = write;
    int r = uv_write(request, &socket->uv.stream, (const uv_buf_t *)rest, (unsigned)count,
                     on_uv_written);
    if (r < 0)
        done_add(socket, write, r);
}

static void socket_write(struct stream *self, struct stream_write *write,
                         const struct iovec *iovecs, size_t count)
{
    struct socket *socket = (struct socket *)self;
    size_t all = 0, gone = 0;
    for (size_t i = 0; i < count; i++)
        all += iovecs[i].iov_len;
    if (all && stream_write_bytes(self) == 0) {
        int r = uv_try_write(&socket->uv.stream, (const uv_buf_t *)iovecs, (unsigned)count);
        if (r < 0 && r != UV_EAGAIN) {
            done_add(socket, write, r);
            return;
        }
        gone = r < 0 ? 0 : (size_t)r;
    }
    if (gone == all) /* nothing is queued before it either, or it is empty */
        done_add(socket, write, 0);
    else
        write_queue(socket, write, iovecs, count, gone);
}

static size_t socket_try_write(struct stream *self, const struct iovec *iovecs, size_t count)
{
    struct socket *socket = (struct socket *)self;
    if (stream_write_bytes(self) > 0)
        return 0;
    int r = uv_try_write(&socket->uv.stream, (const uv_buf_t *)iovecs, (unsigned)count);
    return r < 0 ? 0 : (size_t)r;
}

static void on_uv_shutdown(uv_shutdown_t *request, int status)
{
    (void)request;
    (void)status; /* a peer that is gone needs no telling */
}

static size_t socket_write_bytes(const struct stream *self)
{
    return uv_stream_get_write_queue_size(&((const struct socket *)self)->uv.stream);
}

static bool socket_readable(const struct stream *self)
{
    const struct socket *socket = (const struct socket *)self;
    char byte;
    int fd;
    return uv_fileno(&socket->uv.handle, &fd) == 0 &&
           recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static bool socket_ended(const struct stream *self)
{
    const struct socket *socket = (const struct socket *)self;
    struct pollfd poll_fd = { .events = POLLRDHUP };
    return uv_fileno(&socket->uv.handle, &poll_fd.fd) == 0 && poll(&poll_fd, 1, 0) > 0;
}

static bool socket_quiet(const struct stream *self)
{
    const struct socket *socket = (const struct socket *)self;
    char byte;
    int fd;
    return uv_fileno(&socket->uv.handle, &fd) == 0 &&
           recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static size_t socket_kernel_bytes(const struct stream *self)
{
    const struct socket *socket = (const struct socket *)self;
    int fd, bytes = 0;
    if (uv_fileno(&socket->uv.handle, &fd) < 0 || ioctl(fd, SIOCOUTQ, &bytes) < 0 || bytes < 0)
        return 0; /* the kernel cannot say */
    return (size_t)bytes;
}

static uint32_t socket_rtt_us(const struct stream *self)
{
    const struct socket *socket = (const struct socket *)self;
    struct tcp_info info = {};
    socklen_t size = sizeof info;
    int fd;
    if (uv_fileno(&socket->uv.handle, &fd) < 0 ||
        getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
        return 0; /* no TCP, or gone */
    return info.tcpi_rtt;
}

static void socket_shutdown(struct stream *self)
{
    struct socket *socket = (struct socket *)self;
    if (socket->shutdown_asked)
        return;
    socket->shutdown_asked = true;
    (void)uv_shutdown(&socket->shutdown, &socket->uv.stream, on_uv_shutdown);
}

/* ---- life --------------------------------------------------------------------------------- */

static void on_uv_closed(uv_handle_t *handle)
{
    struct socket *socket = handle->data;
    loop_task_cancel(&socket->task);
    done_report(socket);
    free(socket);
}

static void socket_close(struct stream *self)
{
    uv_close(&((struct socket *)self)->uv.handle, on_uv_closed);
}

/* By the option alone: libuv's own refuses after a shutdown. */
static void socket_reset(struct stream *self)
{
    struct socket *socket = (struct socket *)self;
    struct linger linger = { .l_onoff = 1 };
    int fd;
    if (uv_fileno(&socket->uv.handle, &fd) == 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    socket_close(self);
}

static const struct stream_type socket_type = {
    .name = "socket",
    .read_start = socket_read_start,
    .read_stop = socket_read_stop,
    .write = socket_write,
    .try_write = socket_try_write,
    .write_bytes = socket_write_bytes,
    .kernel_bytes = socket_kernel_bytes,
    .readable = socket_readable,
    .ended = socket_ended,
    .quiet = socket_quiet,
    .rtt_us = socket_rtt_us,
    .shutdown = socket_shutdown,
    .close = socket_close,
    .reset = socket_reset,
};

static void peer_ask(int fd, struct address *ret)
{
    struct sockaddr_storage sockaddr = {};
    socklen_t size = sizeof sockaddr;
    if (getpeername(fd, (struct sockaddr *)&sockaddr, &size) < 0)
        *ret = (struct address){};
    else
        address_from(&sockaddr, size, ret);
}

struct stream *stream_open(struct loop *loop, int fd, const struct address *peer)
{
    struct socket *socket = mem_zalloc(sizeof *socket);
    int one = 1, r;
    socket->stream.type = &socket_type;
    socket->stream.loop = loop;
    list_init(&socket->done);
    loop_task_init(&socket->task, done_report, socket);
    if (peer)
        socket->stream.peer = *peer;
    else
        peer_ask(fd, &socket->stream.peer);
    if (socket->stream.peer.kind == ADDRESS_IP4 || socket->stream.peer.kind == ADDRESS_IP6) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        uv_tcp_init(loop_uv(loop), &socket->uv.tcp);
        r = uv_tcp_open(&socket->uv.tcp, fd);
    } else {
        uv_pipe_init(loop_uv(loop), &socket->uv.pipe, 0);
        r = uv_pipe_open(&socket->uv.pipe, fd);
    }
    assert(r == 0); /* only a descriptor that is not a socket, or is on this loop already */
    (void)r;
    socket->uv.handle.data = socket;
    return &socket->stream;
}

/* ---- what every implementation shares ------------------------------------------------------ */

void stream_set_reader(struct stream *stream, const struct stream_reader *reader, void *data)
{
    stream->reader = reader;
    stream->reader_data = data;
}

void stream_read_start(struct stream *stream)
{
    if (stream->reading || stream->closing || stream->read_ended)
        return;
    assert(stream->reader);
    stream->reading = true;
    stream->type->read_start(stream);
}

void stream_read_stop(struct stream *stream)
{
    if (!stream->reading)
        return;
    stream->reading = false;
    if (!stream->closing)
        stream->type->read_stop(stream);
}

void stream_write(struct stream *stream, struct stream_write *write, const struct iovec *iovecs,
                  size_t count)
{
    assert(!stream->closing);
    write->stream = stream;
    list_init(&write->link);
    stream->type->write(stream, write, iovecs, count);
}

size_t stream_try_write(struct stream *stream, const struct iovec *iovecs, size_t count)
{
    assert(!stream->closing);
    return stream->type->try_write(stream, iovecs, count);
}

size_t stream_write_bytes(const struct stream *stream)
{
    return stream->closing ? 0 : stream->type->write_bytes(stream);
}

size_t stream_kernel_bytes(const struct stream *stream)
{
    return stream->closing ? 0 : stream->type->kernel_bytes(stream);
}

bool stream_readable(const struct stream *stream)
{
    return !stream->closing && stream->type->readable(stream);
}

bool stream_ended(const struct stream *stream)
{
    return !stream->closing && stream->type->ended(stream);
}

bool stream_quiet(const struct stream *stream)
{
    return !stream->closing && stream->type->quiet(stream);
}

uint32_t stream_rtt_us(const struct stream *stream)
{
    return stream->closing ? 0 : stream->type->rtt_us(stream);
}

void stream_shutdown(struct stream *stream)
{
    if (!stream->closing)
        stream->type->shutdown(stream);
}

void stream_close(struct stream *stream)
{
    assert(!stream->closing);
    stream->reading = false;
    stream->closing = true;
    stream->type->close(stream);
}

void stream_reset(struct stream *stream)
{
    assert(!stream->closing);
    stream->reading = false;
    stream->closing = true;
    stream->type->reset(stream);
}
