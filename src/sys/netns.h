/* SPDX-License-Identifier: Apache-2.0 */
/*
 * netns.h -- sockets that belong to another network namespace: how a container without a network is
 * reached. A socket stays in the namespace it was made in, whoever has it, so that connecting it to
 * 127.0.0.1 reaches what listens inside; and nothing leads from inside to anywhere.
 *
 * setns(), socket(), setns() back: 20 to 40 us. It needs CAP_SYS_ADMIN over that namespace, and a
 * process with one thread, so that nothing else runs in the wrong place meanwhile: a helper that
 * does only this (netns_serve), for others that may not. An ordinary user has that over containers
 * of a user namespace of its own (a rootless engine's), once it is in there, and does not come
 * back: a child of the helper goes, for each question, which takes a millisecond.
 */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#ifndef SO_NETNS_COOKIE /* of Linux 5.14; older headers lack it */
#define SO_NETNS_COOKIE 71
#endif

struct err;
struct netns_helper;

/* The namespace that this process is in, as a descriptor: its way back. */
[[nodiscard]] int netns_home(int *ret_fd, struct err *err);

/* A socket in the network namespace of a process, by its pidfd: TCP over IPv4, not connected,
 * O_NONBLOCK and O_CLOEXEC. ERR_NOT_FOUND: the process is gone; ERR_FORBIDDEN: it may not be
 * entered. The caller has one thread. */
[[nodiscard]] int netns_socket(int home_fd, int pidfd, int *ret_fd, struct err *err);

/* Can this process do it at all? Tries it on itself. */
[[nodiscard]] int netns_possible(struct err *err);

/* ---- the helper ------------------------------------------------------------------------------ */

/* Over a SOCK_SEQPACKET channel (sys/channel.h). Who may say which replicas there are sends SHOW,
 * with its pidfd, and FORGET, and TOLD once it has shown all that were there when it came; who may
 * connect to them asks for a socket by the replica's id, and so can reach no other namespace.
 *
 * Each SHOW is answered with a SHOWN: can it be entered (ERR_FORBIDDEN: not by us), and is it
 * another network than ours (else ERR_PRECONDITION)? Each WANT with a SOCKET, in any order; as
 * many may be under way as the channel takes. A replica whose process has ended is ERR_NOT_FOUND,
 * and is forgotten. */
#define NETNS_MAGIC 0x6e676550u /* "Pegn" */
enum netns_type {
    NETNS_SHOW = 1,
    NETNS_FORGET,
    NETNS_WANT,
    NETNS_SOCKET,
    NETNS_TOLD,
    NETNS_SHOWN,
};

struct netns_message {
    uint32_t magic;
    uint32_t type;    /* enum netns_type */
    uint64_t replica; /* its id */
    uint64_t request; /* of WANT, said again in SOCKET */
    int32_t code;     /* of SOCKET: 0 with its descriptor; of SHOWN: 0; or enum err_code */
    uint32_t count;   /* of WANT: 1; of SOCKET: how many descriptors */
    char text[200];   /* of SOCKET and SHOWN: why not */
};
/* Size, type, count, end of the text; descriptors: one with SHOW, none else but in an answer. */
[[nodiscard]] int netns_message_check(const void *message, size_t size, size_t fd_count,
                                      struct err *err);

enum { NETNS_CHANNELS_MAX = 64, NETNS_REPLICAS_MAX = 1024 };

/* One thread. With `waits` who asks for a replica that is not known is answered once it is shown,
 * or forgotten, or at the first TOLD; of one that was shown in vain, has ended, or was forgotten,
 * at once. */
[[nodiscard]] int netns_helper_new(bool waits, struct netns_helper **ret_helper, struct err *err);
void netns_helper_free(struct netns_helper *helper); /* and its channels */
/* Takes the channel. One that shows replaces the one before; what that showed stays, until it is
 * shown anew, forgotten, or has ended. ERR_OVERLOADED: too many. */
[[nodiscard]] int netns_helper_add(struct netns_helper *helper, int fd, bool shows,
                                   struct err *err);
bool netns_helper_shown_to(const struct netns_helper *helper); /* the one that shows is there */
/* What to poll for, and what came of it. */
size_t netns_helper_polls(struct netns_helper *helper,
                          struct pollfd ret_polls[static NETNS_CHANNELS_MAX]);
void netns_helper_turn(struct netns_helper *helper, const struct pollfd *polls, size_t count);

/* For a process that is nothing else than a helper, which is there already: no capability but those
 * that entering takes, no other user's ptrace, no file, and no system call that it does not need.
 * For good. */
[[nodiscard]] int netns_confine(struct err *err);

/* All of it: serves until the first channel, which may show as well as want, or the lifeline (-1:
 * none) ends. Others want alone. All are taken. Blocks. */
void netns_serve(const int *channel_fds, size_t count, int lifeline_fd);
