/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners and connects accept4() and connect() by themselves, with libuv telling when: so one
 * code serves TCP and unix sockets, and the peer's address comes with accept4() at no cost. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "base/auto.h"
#include "base/log.h"
#include "io/socket.h"
#include "io/timer.h"
#include "sys/fd.h"

/* ---- watch -------------------------------------------------------------------------------- */

struct watch {
    uv_poll_t uv;
    watch_cb on_event;
    void *data;
};

static void on_uv_poll(uv_poll_t *uv, int status, int events)
{
    struct watch *watch = uv->data;
    unsigned seen = 0;
    if (status < 0)
        seen = WATCH_READ | WATCH_HANGUP;
    if (events & UV_READABLE)
        seen |= WATCH_READ;
    if (events & UV_WRITABLE)
        seen |= WATCH_WRITE;
    if (events & UV_DISCONNECT)
        seen |= WATCH_HANGUP;
    watch->on_event(watch, seen, watch->data);
}

struct watch *watch_new(struct loop *loop, int fd, unsigned events, watch_cb on_event, void *data)
{
    struct watch *watch = mem_zalloc(sizeof *watch);
    int r = uv_poll_init(loop_uv(loop), &watch->uv, fd);
    assert(r == 0); /* not pollable, or watched on this loop already */
    (void)r;
    watch->uv.data = watch;
    watch->on_event = on_event;
    watch->data = data;
    watch_set(watch, events);
    return watch;
}

void watch_set(struct watch *watch, unsigned events)
{
    int wanted = (events & WATCH_READ ? UV_READABLE : 0) |
                 (events & WATCH_WRITE ? UV_WRITABLE : 0) |
                 (events & WATCH_HANGUP ? UV_DISCONNECT : 0);
    if (wanted)
        uv_poll_start(&watch->uv, wanted, on_uv_poll);
    else
        uv_poll_stop(&watch->uv);
}

static void on_watch_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void watch_free(struct watch *watch)
{
    if (watch)
        uv_close((uv_handle_t *)&watch->uv, on_watch_closed);
}

/* ---- listener ----------------------------------------------------------------------------- */

enum {
    ACCEPTS_A_PASS = 16,   /* then other events have their turn, and other loops their share */
    ACCEPT_RETRY_MS = 200, /* after running out of descriptors */
};

struct listener {
    struct loop *loop;
    struct watch *watch;
    struct timer *retry;
    int fd;    /* borrowed */
    int spare; /* given up to accept one more, where there is no other: to send it away */
    bool freed, accepting; /* freed by its own callback: the frame below still needs it */
    listener_accepted_cb on_accepted;
    listener_gate_cb gate;
    void *data;
};

static void spare_take(struct listener *listener)
{
    if (listener->gate && listener->spare < 0)
        listener->spare = fcntl(listener->fd, F_DUPFD_CLOEXEC, 0);
}

static void on_retry(void *data)
{
    struct listener *listener = data;
    spare_take(listener);
    watch_set(listener->watch, WATCH_READ);
}

static int accept_one(struct listener *listener, struct address *ret_peer)
{
    struct sockaddr_storage sockaddr = {};
    socklen_t size = sizeof sockaddr;
    int fd =
        accept4(listener->fd, (struct sockaddr *)&sockaddr, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        address_from(&sockaddr, size, ret_peer);
    return fd;
}

/* What has come is read, or the kernel would answer with a reset that overtakes the words. */
static void send_away(int fd, struct slice words)
{
    char came[4096];
    for (int i = 0; i < 4 && recv(fd, came, sizeof came, MSG_DONTWAIT) == (ssize_t)sizeof came; i++)
        ;
    if (words.size)
        (void)!send(fd, words.data, words.size, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)shutdown(fd, SHUT_WR);
    close(fd);
}

static bool gate_open(struct listener *listener, int fd, const struct address *peer, bool full)
{
    struct slice words = {};
    if ((!listener->gate || listener->gate(peer, full, &words, listener->data)) && !full)
        return true;
    send_away(fd, words);
    return false;
}

/* No descriptor is left: the spare one is, for as long as it takes to say so. Gives what accept
 * failed with then, or 0. */
static int accept_full(struct listener *listener)
{
    struct address peer;
    if (listener->spare < 0)
        return EMFILE;
    fd_close(&listener->spare);
    int fd = accept_one(listener, &peer), error = fd < 0 ? errno : 0;
    if (fd >= 0)
        (void)gate_open(listener, fd, &peer, true);
    spare_take(listener);
    return error;
}

/* True: there may be more to accept. */
static bool accept_failed(struct listener *listener, int error)
{
    if (error == EMFILE || error == ENFILE) /* also when nobody is there to accept */
        error = accept_full(listener);
    if (error == 0 || error == EAGAIN || error == ECONNABORTED || error == EINTR)
        return error != EAGAIN;
    /* Out of memory, or of all descriptors: the backlog would wake us again and again. */
    log_warn("io", "accept failed, waiting", LOG_S("error", strerror(error)));
    watch_set(listener->watch, 0);
    timer_start(listener->retry, ACCEPT_RETRY_MS);
    return false;
}

static void on_listening(struct watch *watch, unsigned events, void *data)
{
    struct listener *listener = data;
    (void)watch;
    (void)events;
    listener->accepting = true;
    for (int i = 0; i < ACCEPTS_A_PASS && !listener->freed; i++) {
        struct address peer;
        int fd = accept_one(listener, &peer);
        if (fd < 0 && !accept_failed(listener, errno))
            break;
        if (fd < 0 || !gate_open(listener, fd, &peer, false))
            continue;
        listener->on_accepted(stream_open(listener->loop, fd, &peer), listener->data);
    }
    listener->accepting = false;
    if (listener->freed)
        free(listener);
}

struct listener *listener_new(struct loop *loop, int fd, listener_accepted_cb on_accepted,
                              void *data)
{
    struct listener *listener = mem_zalloc(sizeof *listener);
    *listener = (struct listener){
        .loop = loop,
        .fd = fd,
        .spare = -1,
        .on_accepted = on_accepted,
        .data = data,
    };
    listener->retry = timer_new(loop, on_retry, listener);
    listener->watch = watch_new(loop, fd, WATCH_READ, on_listening, listener);
    return listener;
}

void listener_set_gate(struct listener *listener, listener_gate_cb gate)
{
    listener->gate = gate;
    spare_take(listener);
}

void listener_free(struct listener *listener)
{
    if (!listener)
        return;
    timer_free(listener->retry);
    watch_free(listener->watch);
    fd_close(&listener->spare);
    listener->freed = true;
    if (!listener->accepting)
        free(listener);
}

/* ---- connect ------------------------------------------------------------------------------ */

struct stream_connect {
    struct loop *loop;
    struct watch *watch;
    struct loop_task task;
    struct address address;
    int fd, error;
    stream_connected_cb on_connected;
    void *data;
};

static void connect_done(void *data)
{
    struct stream_connect *connect = data;
    stream_connected_cb on_connected = connect->on_connected;
    void *owner = connect->data;
    char text[ADDRESS_TEXT_BYTES];
    struct stream *stream = NULL;
    struct err err;

    watch_free(connect->watch);
    if (connect->error) {
        if (connect->fd >= 0)
            close(connect->fd);
        (void)err_set(&err, connect->error == ECANCELED ? ERR_CANCELED : ERR_OVERLOADED,
                      "connecting to %s: %s", address_text(&connect->address, text),
                      strerror(connect->error));
        err.system = connect->error;
    } else {
        stream = stream_open(connect->loop, connect->fd, &connect->address);
    }
    loop_task_cancel(&connect->task);
    free(connect);
    on_connected(stream, stream ? NULL : &err, owner);
}

static void on_writable(struct watch *watch, unsigned events, void *data)
{
    struct stream_connect *connect = data;
    socklen_t size = sizeof connect->error;
    (void)watch;
    (void)events;
    getsockopt(connect->fd, SOL_SOCKET, SO_ERROR, &connect->error, &size);
    connect_done(connect);
}

static int begin(int fd, const struct sockaddr_storage *to, socklen_t size,
                 const struct stream_connect_options *options)
{
    struct sockaddr_storage from;
    int one = 1, bytes = options->buffer_bytes;
    if (fd < 0)
        return errno;
    if (bytes && (setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) < 0 ||
                  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) < 0))
        return errno;
    if (options->source) {
        socklen_t from_size = address_to(options->source, &from);
        /* The port is found when the peer is known: one address has 28,000 for each of them. */
        (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(fd, (struct sockaddr *)&from, from_size) < 0)
            return errno;
    }
    return connect(fd, (const struct sockaddr *)to, size) < 0 ? errno : 0;
}

/* Over `fd`, or -1: over a new socket. */
static struct stream_connect *connect_new(struct loop *loop, int fd, const struct address *address,
                                          const struct stream_connect_options *options,
                                          stream_connected_cb on_connected, void *data)
{
    struct stream_connect *connection = mem_zalloc(sizeof *connection);
    struct sockaddr_storage sockaddr;
    socklen_t size = address_to(address, &sockaddr);
    *connection = (struct stream_connect){
        .loop = loop,
        .address = *address,
        .fd = fd,
        .on_connected = on_connected,
        .data = data,
    };
    loop_task_init(&connection->task, connect_done, connection);
    if (fd < 0)
        connection->fd = socket(sockaddr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    connection->error = begin(connection->fd, &sockaddr, size, options);
    if (connection->error == EINPROGRESS) {
        connection->error = 0;
        connection->watch = watch_new(loop, connection->fd, WATCH_WRITE, on_writable, connection);
    } else {
        loop_defer(loop, &connection->task);
    }
    return connection;
}

static const struct stream_connect_options usual;

struct stream_connect *stream_connect_with(struct loop *loop, const struct address *address,
                                           const struct stream_connect_options *options,
                                           stream_connected_cb on_connected, void *data)
{
    return connect_new(loop, -1, address, options, on_connected, data);
}

struct stream_connect *stream_connect(struct loop *loop, const struct address *address,
                                      stream_connected_cb on_connected, void *data)
{
    return connect_new(loop, -1, address, &usual, on_connected, data);
}

struct stream_connect *stream_connect_over(struct loop *loop, int fd, const struct address *address,
                                           stream_connected_cb on_connected, void *data)
{
    return connect_new(loop, fd, address, &usual, on_connected, data);
}

void stream_connect_cancel(struct stream_connect *connect)
{
    connect->error = ECANCELED;
    if (connect->watch)
        watch_set(connect->watch, 0);
    loop_defer(connect->loop, &connect->task);
}
