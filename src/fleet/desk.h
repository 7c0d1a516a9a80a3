/* SPDX-License-Identifier: Apache-2.0 */
/*
 * desk.h -- what `perigee fleet` talks to: HTTP with JSON on HOME/run/fleet.sock, which only who
 * may open the home reaches.
 *
 *   GET  /api/v1/fleet        places, links, connections, as they are now
 *   POST /api/v1/fleet/cut    {"place": "tokyo", "other": "paris"}   other missing: all links
 *   POST /api/v1/fleet/slow   {"place": "tokyo", "rtt": "200ms"}     so much longer
 *   POST /api/v1/fleet/heal   {"place": ...}, or {} for everything
 *   POST /api/v1/fleet/kill   {"place": "tokyo"}                     a PoP
 *
 * Errors are problem+json. Loop thread only; the relay is borrowed.
 */
#pragma once

#include <stddef.h>

#include "fleet/relay.h"

struct arena;
struct desk;

struct desk_pop {
    const char *state; /* "starting", "up", "killed" */
    struct slice address;
};

struct desk_events {
    /* The PoP's processes; the relay is the desk's own to tell. */
    void (*on_kill)(size_t pop, void *data);
    void (*on_revive)(size_t pop, void *data); /* of one that was killed */
    struct desk_pop (*pop)(size_t pop, void *data);
};

/* The descriptor listens, and stays the caller's. */
struct desk *desk_new(struct loop *loop, int fd, struct relay *relay, const struct fleet *fleet,
                      const struct desk_events *events, void *data);
void desk_free(struct desk *desk); /* NULL is allowed */
