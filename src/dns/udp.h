/* SPDX-License-Identifier: Apache-2.0 */
/*
 * udp.h -- questions by datagram: as many as there are with one call (recvmmsg), the answers with
 * another. Loop thread only.
 *
 * On a socket that is bound to all addresses the answer leaves from the one that was asked.
 */
#pragma once

struct dns_server;
struct dns_udp;
struct loop;

/* Server and descriptor are borrowed. */
struct dns_udp *dns_udp_new(struct loop *loop, struct dns_server *server, int fd);
void dns_udp_free(struct dns_udp *udp); /* NULL is allowed */
