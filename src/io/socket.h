/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket.h -- byte streams over connected sockets, listeners over descriptors that already listen,
 * watches over any descriptor. Loop thread only.
 *
 * A stream is a vtable, so that TLS can stand where TCP stands: what is above sees stream_*()
 * alone. Reading asks its reader where the bytes shall go right before it reads, so that a body is
 * read straight to its place. Writing is by reference: the bytes stay as they are until on_written.
 * Contract of every call with a callback: exactly once, never before the call has returned,
 * ERR_CANCELED after stream_close(), nothing alive after it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "base/err.h"
#include "io/address.h"
#include "io/loop.h"

struct stream;

/* ---- reading ------------------------------------------------------------------------------ */
struct stream_reader {
    /* Where the next bytes go. Size 0: not now, reading stops until stream_read_start(). */
    void (*on_space)(void *data, struct iovec *ret_space);
    void (*on_read)(void *data, size_t bytes); /* that many stand at what on_space gave; > 0 */
    /* The peer sends no more (err NULL), or the connection is broken. Comes once, is the last. */
    void (*on_read_end)(void *data, const struct err *err);
};

/* ---- writing ------------------------------------------------------------------------------ */
/* One write under way; the caller's memory until on_written has been called. */
struct stream_write {
    void (*on_written)(struct stream_write *write, const struct err *err, void *data);
    void *data;
    /* the implementation's own from here */
    struct stream *stream;
    struct list link;
    int status;
    void *more[26]; /* room for the implementation's request */
};

/* ---- what an implementation offers -------------------------------------------------------- */
struct stream_type {
    const char *name;
    void (*read_start)(struct stream *self);
    void (*read_stop)(struct stream *self);
    void (*write)(struct stream *self, struct stream_write *write, const struct iovec *iovecs,
                  size_t count);
    size_t (*try_write)(struct stream *self, const struct iovec *iovecs, size_t count);
    size_t (*write_bytes)(const struct stream *self);
    size_t (*kernel_bytes)(const struct stream *self);
    bool (*readable)(const struct stream *self);
    bool (*ended)(const struct stream *self);
    bool (*quiet)(const struct stream *self);
    uint32_t (*rtt_us)(const struct stream *self);
    void (*shutdown)(struct stream *self);
    void (*close)(struct stream *self);
    void (*reset)(struct stream *self);
};

struct stream {
    const struct stream_type *type;
    struct loop *loop; /* borrowed */
    const struct stream_reader *reader;
    void *reader_data;
    struct address peer;
    bool reading, closing, read_ended;
};

/* Takes the connected descriptor over. `peer` NULL: it is asked for. Sets TCP_NODELAY. */
struct stream *stream_open(struct loop *loop, int fd, const struct address *peer);

/* The reader and its data stay for the stream's life. */
void stream_set_reader(struct stream *stream, const struct stream_reader *reader, void *data);
void stream_read_start(struct stream *stream); /* again is harmless, as is stop */
void stream_read_stop(struct stream *stream);

/* The kernel is tried at once; what it does not take waits. `write` has on_written and data set;
 * the iovec array itself may go when the call returns, the bytes may not. */
void stream_write(struct stream *stream, struct stream_write *write, const struct iovec *iovecs,
                  size_t count);
/* What the kernel takes of them at once, in bytes; 0 also where something waits already, or the
 * connection is broken (which stream_write() tells). */
size_t stream_try_write(struct stream *stream, const struct iovec *iovecs, size_t count);
/* Given to stream_write() and not yet with the kernel. */
size_t stream_write_bytes(const struct stream *stream);
/* With the kernel, and not yet with the peer's. Asks the kernel: not for the hot path. */
size_t stream_kernel_bytes(const struct stream *stream);
/* Bytes have come that no read has taken yet. Asks the kernel as well. */
bool stream_readable(const struct stream *stream);
/* The peer sends no more: behind whatever no read has taken yet. Asks the kernel as well. */
bool stream_ended(const struct stream *stream);
/* Neither: nothing has come, and its end has not either. One call to the kernel. */
bool stream_quiet(const struct stream *stream);
/* The round trip to the peer in microseconds, as the kernel measured it (TCP_INFO, smoothed); 0:
 * not known. Asks the kernel as well. */
uint32_t stream_rtt_us(const struct stream *stream);
/* After what is queued has gone, tells the peer that no more comes. */
void stream_shutdown(struct stream *stream);
/* Ends all: queued writes get ERR_CANCELED (soon, not now), the reader hears nothing more. The
 * stream frees itself; the caller forgets it now. */
void stream_close(struct stream *stream);

/* The same, and the peer of a TCP connection is told that it broke (RST), whatever is under way. */
void stream_reset(struct stream *stream);

/* ---- connecting --------------------------------------------------------------------------- */
struct stream_connect;
typedef void (*stream_connected_cb)(struct stream *stream, const struct err *err, void *data);
/* stream is NULL when err is set, whose `system` says why. No timeout of its own: a timer and
 * stream_connect_cancel(). */
struct stream_connect *stream_connect(struct loop *loop, const struct address *address,
                                      stream_connected_cb on_connected, void *data);
/* The same from an address of ours (its port may be 0), and with small buffers in the kernel. */
struct stream_connect_options {
    const struct address *source; /* NULL: the kernel's choice */
    int buffer_bytes;             /* SO_SNDBUF and SO_RCVBUF; 0: as usual */
};
struct stream_connect *stream_connect_with(struct loop *loop, const struct address *address,
                                           const struct stream_connect_options *options,
                                           stream_connected_cb on_connected, void *data);
/* The same over a socket that is there already: taken; non-blocking, not connected, of the family
 * that the address has. */
struct stream_connect *stream_connect_over(struct loop *loop, int fd, const struct address *address,
                                           stream_connected_cb on_connected, void *data);
void stream_connect_cancel(struct stream_connect *connect); /* on_connected with ERR_CANCELED */

/* ---- listening ---------------------------------------------------------------------------- */
struct listener;
typedef void (*listener_accepted_cb)(struct stream *stream, void *data);
/* Asked of each peer before it becomes a stream. False: what the kernel takes at once of *ret_words
 * is sent to it, and it is closed. `full`: there is no descriptor left, so that it goes whatever is
 * said, and what can be closed to make room should be. The words stay until the next call. */
typedef bool (*listener_gate_cb)(const struct address *peer, bool full, struct slice *ret_words,
                                 void *data);
/* The descriptor stays the caller's and listens already; it is made non-blocking. Several loops may
 * have listeners over one descriptor. */
struct listener *listener_new(struct loop *loop, int fd, listener_accepted_cb on_accepted,
                              void *data);
void listener_set_gate(struct listener *listener, listener_gate_cb gate); /* with the same data */
void listener_free(struct listener *listener); /* NULL is allowed; the descriptor stays open */

/* ---- watching: pipes, SEQPACKET channels, pidfds ------------------------------------------- */
struct watch;
enum { WATCH_READ = 1, WATCH_WRITE = 2, WATCH_HANGUP = 4 };
/* `events` says what is so; level-triggered: the callback reads until EAGAIN or is called again.
 * An error on the descriptor comes as WATCH_READ | WATCH_HANGUP. Of a pipe whose other end is
 * closed, WATCH_HANGUP comes once all is read. */
typedef void (*watch_cb)(struct watch *watch, unsigned events, void *data);
/* The descriptor stays the caller's; it is closed after watch_free(). */
struct watch *watch_new(struct loop *loop, int fd, unsigned events, watch_cb on_event, void *data);
void watch_set(struct watch *watch, unsigned events); /* 0: nothing for now */
void watch_free(struct watch *watch);                 /* NULL is allowed */
