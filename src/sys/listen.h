/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen.h -- listening sockets: what a --listen flag takes, and sets of sockets for it.
 *
 * A TCP address gets as many sockets as it has loops (SO_REUSEPORT), so that each accepts on its
 * own; the first is bound without that option, so that another Perigee's sockets, or anybody's, are
 * an address in use and never shared by accident. Any thread but listen_open() (umask).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct err;

#define LISTEN_TEXT_BYTES 128
#define LISTEN_ADDRESSES_MAX 16
#define LISTEN_SET_MAX 8

struct listen_address {
    struct sockaddr_storage storage;
    socklen_t size;
    char text[LISTEN_TEXT_BYTES]; /* "127.0.0.1:8000", "[::1]:8000", "unix:/path" */
};

struct listen_set {
    char text[LISTEN_TEXT_BYTES]; /* as bound: with the port taken for port 0 */
    int fds[LISTEN_SET_MAX];
    unsigned count;
};

/* "ADDR:PORT", "[::1]:PORT", "unix:PATH", "none"; several by comma. `flag` is for messages. */
[[nodiscard]] int listen_parse(const char *flag, const char *text,
                               struct listen_address ret_addresses[static LISTEN_ADDRESSES_MAX],
                               size_t *ret_count, struct err *err);
bool listen_loopback(const struct listen_address *address); /* Unix sockets count as that */

/* Binds and listens; nonblocking, close-on-exec. A Unix socket is one, 0600, and takes the place of
 * a dead one's file. A taken port: ERR_CONFLICT, which names the flag and, where /proc tells, the
 * process that has it. */
[[nodiscard]] int listen_open(const char *flag, const struct listen_address *address,
                              unsigned sockets, struct listen_set *ret_set, struct err *err);
/* A TCP socket and a UDP socket (fds[0] and [1]) of one address and port. */
[[nodiscard]] int listen_open_dns(const char *flag, const struct listen_address *address,
                                  struct listen_set *ret_set, struct err *err);
void listen_close(struct listen_set *set); /* removes a Unix socket's file as well */

/* " by process 123 (nginx)", or "" when it cannot be known. `udp`: of datagrams' port. */
void listen_owner(const struct listen_address *address, bool udp, char *ret_text, size_t room);
