/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netns.h -- sockets that belong to another network namespace: how a container without a network is
 * reached. A socket stays in the namespace it was made in, whoever has it, so that connecting it to
 * 127.0.0.1 reaches what listens inside; and nothing leads from inside to anywhere.
 *
 * setns(), socket(), setns() back: 20 to 40 us. It needs CAP_SYS_ADMIN over that namespace, and a
 * process with one thread, so that nothing else runs in the wrong place meanwhile: a helper that
 * does only this (netns_serve), for others that may not.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/* Sockets in the network namespace of a process, by its pidfd: TCP over IPv4, not connected,
 * O_NONBLOCK and O_CLOEXEC. Returns how many were made, at least 1; ERR_NOT_FOUND: the process is
 * gone; ERR_FORBIDDEN: it may not be entered. The caller has one thread. */
enum { NETNS_SOCKETS_MAX = 16 };
[[nodiscard]] int netns_sockets(int pidfd, size_t count, int *ret_fds, struct err *err);

/* Can this process do it at all? Tries it on itself. */
[[nodiscard]] int netns_possible(struct err *err);

/* ---- the helper ------------------------------------------------------------------------------ */

/* Over a SOCK_SEQPACKET channel (sys/channel.h). Who may say which replicas there are sends SHOW,
 * with its pidfd, and FORGET; who may connect to them asks for sockets by the replica's id, and so
 * can reach no other namespace. */
#define NETNS_MAGIC 0x6e676550u /* "Pegn" */
enum netns_type { NETNS_SHOW = 1, NETNS_FORGET, NETNS_WANT, NETNS_SOCKETS };

struct netns_message {
    uint32_t magic;
    uint32_t type;    /* enum netns_type */
    uint64_t replica; /* its id */
    uint64_t request; /* of WANT, said again in SOCKETS */
    int32_t code;     /* of SOCKETS: 0 with as many descriptors, or enum err_code */
    uint32_t count;   /* of WANT: how many, 1 to NETNS_SOCKETS_MAX */
    char text[200];   /* of SOCKETS: why there is none */
};
/* Size, type, count, end of the text; descriptors: one with SHOW, none else but in an answer. */
[[nodiscard]] int netns_message_check(const void *message, size_t size, size_t fd_count,
                                      struct err *err);

/* Serves until the first channel or the lifeline (-1: none) ends. channels[0] may show and forget
 * as well as want; others want alone. All are taken. One thread; blocks. */
enum { NETNS_CHANNELS_MAX = 4, NETNS_REPLICAS_MAX = 1024 };
void netns_serve(const int *channel_fds, size_t count, int lifeline_fd);
