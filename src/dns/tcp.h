/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tcp.h -- questions over TCP (RFC 7766): a length, then a message; several one after the other, on
 * connections that stay open. Loop thread only.
 *
 * Bounded: in all, for each address, and in time: a message must be whole and its answer taken
 * within DNS_TCP_SLOW_MS, whatever dribbles; without one a connection stays DNS_TCP_IDLE_MS. When
 * all are taken, the one that is idle longest makes room; where none is idle, the new one goes.
 */
#pragma once

struct dns_server;
struct dns_tcp;
struct loop;

enum {
    DNS_TCP_CONNECTIONS_MAX = 256,
    DNS_TCP_ADDRESS_MAX = 64, /* of one IPv4 address, or one /64 */
    DNS_TCP_IDLE_MS = 10'000,
    DNS_TCP_SLOW_MS = 4'000,
};

struct dns_tcp *dns_tcp_new(struct loop *loop, struct dns_server *server); /* borrowed */
void dns_tcp_free(struct dns_tcp *tcp); /* closes all; NULL is allowed */
/* The descriptor is borrowed, and listens. */
void dns_tcp_listen(struct dns_tcp *tcp, int fd);
