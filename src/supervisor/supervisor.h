/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervisor.h -- `perigee up`: the parent of every process. No threads, no policy, no JSON, no
 * TLS.
 *
 * supervisor_run() holds the home, opens all listening sockets and keeps them for life, starts the
 * roles (core.h decides), and returns when everything has ended: after SIGTERM, SIGINT or SIGHUP (a
 * second one ends at once), or when a role cannot start and never will. Should it be killed, all
 * others die with it. SIGUSR2, or `perigee upgrade`, puts another program in its place (upgrade.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "contract/messages.h"
#include "sys/listen.h"

struct err;

struct supervisor_listen {
    uint32_t kind;    /* enum message_listener_kind */
    const char *flag; /* for messages */
    bool internal;    /* not in addresses.json */
    struct listen_address addresses[LISTEN_ADDRESSES_MAX];
    size_t count;
};

struct supervisor_address {
    uint32_t kind;
    bool internal;
    const char *text;
};

struct supervisor_config {
    struct message_start start; /* home, libdir, pop ...; what is the same for all roles */
    const struct supervisor_listen *listens;
    size_t listen_count;
    bool control, agent, gateway, dns; /* what runs here; templates come with the gateway */
    /* Once, when all roles serve. */
    void (*on_ready)(const struct supervisor_address *addresses, size_t count, void *data);
    void *data;
};

[[nodiscard]] int supervisor_run(const struct supervisor_config *config, struct err *err);
/* The same in the place of another program, which left its state (handover.h) in this memfd
 * (taken): its children live on, and those that run its program are replaced. */
[[nodiscard]] int supervisor_resume(int state_fd, struct err *err);
