/* SPDX-License-Identifier: Apache-2.0 */
/*
 * town.h -- `perigee up --fleet` between its flags and its box: the trees of a fleet, where they
 * listen and are reached, and what control is told of its PoPs. All of it lies in the command's
 * arena.
 *
 * Control is reached at 127.0.0.1 and PoP number i at 127.0.1.i (the first one at 127.0.0.1 as
 * well), where the relay stands; they listen at 127.0.2.254 and 127.0.2.i.
 */
#pragma once

#include "fleet/box.h"
#include "sys/listen.h"

struct cli;
struct err;

/* A listener's ports, the same for every PoP. */
struct ports {
    const char *flag, *usual;
    uint16_t numbers[LISTEN_ADDRESSES_MAX];
    size_t count;
};

struct town {
    struct cli *cli;
    struct fleet fleet;
    struct ports gateway, control, admin;
    struct box_port *ports; /* gateway's, of each port first 127.0.0.1's; then control's */
    size_t port_count;
    struct box_tree *trees; /* control's, then the PoPs' */
    const char **tokens;    /* "PERIGEE_JOIN_TOKEN=...", or NULL: it has joined */
};

/* Which faces there are; ports of 0 are known once the box has bound them. */
void town_lay_out(struct town *town);
/* The admin port has no relay: what looks after a PoP stands beside it. Where none is said a free
 * one is taken, the same for all. */
[[nodiscard]] int town_choose_admin(struct town *town, struct err *err);

/* Where control's port is 0: the one where PoPs of this home found it before, had they joined. */
void town_recall_control(struct town *town);

/* "127.0.2.1:8000,127.0.2.1:8001", or its faces; "none". */
const char *town_gateway_text(const struct town *town, size_t pop, bool inside);
const char *town_control_text(const struct town *town, bool inside);
/* `own`: the first PoP's at 127.0.0.1 as well. */
const char *town_admin_text(const struct town *town, size_t pop, bool own);
const char *town_list_add(struct arena *arena, const char *all, const struct address *address);

const char *town_home(const struct town *town, size_t pop);
const char *town_control_home(const struct town *town);

/* For struct box_config; `data` is the town. The round of control ends with its PoPs made there:
 * each has a token to join with, unless it joined in an earlier life of the home. */
size_t town_trees(const struct box_tree **ret, void *data);
int town_round(unsigned round, void *data, struct err *err);
/* "NAME=VALUE" rows with one place left; a PoP dials control and its peers from its own place. */
const char **town_environment(const struct town *town, size_t pop);
