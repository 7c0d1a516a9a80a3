/* SPDX-License-Identifier: Apache-2.0 */
/*
 * box.h -- a network in a box: process trees, one for each PoP, with a relay before each and a desk
 * for `perigee fleet`. The parent of all of them; no threads.
 *
 * A tree is a program that is started, is ready once it has written `ready_file`, ends on SIGTERM,
 * and takes its children with it whatever way it ends. One that ends by itself is started again
 * after a second. Killed: SIGKILL, and down until it is healed. Should the box itself be killed,
 * all trees are.
 */
#pragma once

#include <stddef.h>

#include "fleet/relay.h"

struct err;

/* What is reached at `face` listens at `inside`. */
struct box_port {
    const char *flag;            /* that moves it: for messages */
    struct address face, inside; /* its port 0: that of `face`; both as bound, once they are */
    size_t pop;
    bool control;                /* no PoP's own: not closed when that is killed */
    const struct box_port *like; /* an earlier row, whose port as bound `face` takes; or NULL */
};

#define BOX_NO_POP SIZE_MAX /* control's, say */

struct box_tree {
    const char *name;
    size_t pop; /* or BOX_NO_POP */
    unsigned round;
    const char *const *arguments;   /* after the program's name; ends in NULL */
    const char *const *environment; /* "NAME=VALUE" beside the box's own; ends in NULL; or NULL */
    const char *ready_file;         /* removed before each start */
};

struct box_config {
    const struct fleet *fleet;
    const char *home;   /* is there, and ours */
    const char *record; /* struct relay_config; so is this: */
    uint64_t record_bytes_max;
    struct box_port *ports;
    size_t port_count;
    /* The trees, once the faces are bound; all of it lives as long as the box. */
    size_t (*trees)(const struct box_tree **ret, void *data);
    /* All trees of that round are ready, for the first time; those of the next start when this has
     * returned. It may still change their rows. */
    int (*on_round)(unsigned round, void *data, struct err *err);
    /* All are ready, for the first time. */
    int (*on_ready)(void *data, struct err *err);
    void *data;
};

#define BOX_SOCKET "run/fleet.sock"
#define BOX_RELAY_ADDRESS "127.0.2.253" /* of the relays towards PoPs */

/* Returns when all trees have ended: after SIGTERM, SIGINT or SIGHUP (a second one ends at once),
 * or when one ends before all were ready. */
[[nodiscard]] int box_run(const struct box_config *config, struct err *err);
