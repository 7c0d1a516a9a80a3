/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upgrade.h -- the way to another program: who asks for it (`perigee upgrade` over HOME/run/
 * upgrade.sock, or a signal), and whether that program is fit. It is opened once and run twice by
 * its descriptor: first as a child that must read our state and say so, then, once nothing waits to
 * be sent, in this process's place. What does not fit changes nothing. One thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct env_linux;
struct err;
struct message_upgrade_state;
struct upgrade;

#define UPGRADE_SOCKET "run/upgrade.sock" /* in the home; SOCK_SEQPACKET, contract/messages.h */

struct upgrade_host {                /* the supervisor; `data` is upgrade_new()'s */
    const char *(*busy)(void *data); /* why none can begin now; NULL: it can */
    int (*snapshot)(int *ret_fd, void *data, struct err *err); /* the state, as it would be left */
    bool (*calm)(void *data);                                  /* nothing waits to be sent */
    int (*become)(int binary_fd, void *data, struct err *err); /* returns only when it cannot */
    void (*failed)(const char *why, void *data);               /* before anything was changed */
};

/* `lifeline_fd` is borrowed; `socket_fd` and `client_fd` are those that the program before had, or
 * -1. */
[[nodiscard]] int upgrade_new(struct env_linux *world, const char *home, int lifeline_fd,
                              int socket_fd, int client_fd, const struct upgrade_host *host,
                              void *data, struct upgrade **ret, struct err *err);
void upgrade_free(struct upgrade *upgrade, const char *home); /* removes the socket's file */

void upgrade_begin(struct upgrade *upgrade); /* to what stands at the running program's path */
/* To who asked; the last word (DONE or FAILED) ends the talk. */
void upgrade_tell(struct upgrade *upgrade, const struct message_upgrade_state *state);

int upgrade_socket_fd(const struct upgrade *upgrade); /* borrowed */
int upgrade_client_fd(const struct upgrade *upgrade); /* borrowed; -1: nobody */

/* The other side of the first run, in the child: `perigee role successor`. An exit status. */
int upgrade_successor_main(int channel_fd, int lifeline_fd);
