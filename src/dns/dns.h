/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dns.h -- the process that answers DNS: one loop thread, which also talks to the supervisor.
 * Started by it as `role dns`.
 *
 * It gets its sockets from the supervisor, which keeps them: what comes while it is away waits in
 * the kernel. Each new table becomes a view (today.h), which takes the place of the one before
 * between two callbacks. Before it has a table it answers SERVFAIL.
 */
#pragma once

/* With what the process may before it gives that up: opens the files of
 * --addresses and --geo. */
void dns_prepare(void);
/* The whole life of the process, from START to DRAIN; returns its exit status. `channel_fd` is the
 * SOCK_SEQPACKET socket to the supervisor, `lifeline_fd` ends when the supervisor does (-1: none,
 * in tests). Takes both. */
int dns_main(int channel_fd, int lifeline_fd);
