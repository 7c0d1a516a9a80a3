/* SPDX-License-Identifier: Apache-2.0 */
/*
 * channel.h -- messages with descriptors between our own processes: one SOCK_SEQPACKET pair.
 *
 * A send never blocks. A peer that does not read is cut off by its owner, so sends that must not be
 * lost wait in a bounded queue (struct channel) that is flushed when the socket is writable.
 * One thread at a time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct err;

#define CHANNEL_BYTES_MAX (64u * 1024u)
#define CHANNEL_FDS_MAX 32u

struct channel;

int channel_pair(int ret_fds[static 2], struct err *err); /* O_CLOEXEC, O_NONBLOCK both */

struct channel *channel_new(int fd); /* takes the descriptor */
/* The other side cannot send from here on; what it has sent can be received. */
void channel_hear_no_more(struct channel *channel);
void channel_free(struct channel *channel);    /* closes it; queued messages are dropped */
int channel_fd(const struct channel *channel); /* borrowed; for poll */

/* Queues when the socket is full. `fds` are duplicated by the kernel; the caller keeps its own (in
 * the queue they are dup'ed). ERR_OVERLOADED when the queue's bound (4 MiB, 4096 messages) is
 * reached, ERR_CANCELED when the peer is gone: cut the peer off. */
[[nodiscard]] int channel_send(struct channel *channel, const void *data, size_t size,
                               const int *fds, size_t fd_count, struct err *err);
bool channel_wants_write(const struct channel *channel);
[[nodiscard]] int channel_flush(struct channel *channel, struct err *err);

/* One message. Returns 1 with its size and descriptors (now the caller's), 0 when there is none
 * now, ERR_CANCELED at end of file, ERR_BAD_INPUT when it was cut (larger than the buffer);
 * ERR_OVERLOADED: its size and bytes are there, and none of its descriptors, for which there was no
 * room. */
[[nodiscard]] int channel_receive(struct channel *channel, void *buffer, size_t room,
                                  size_t *ret_size, int ret_fds[static CHANNEL_FDS_MAX],
                                  size_t *ret_fd_count, struct err *err);
