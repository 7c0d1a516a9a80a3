/* SPDX-License-Identifier: Apache-2.0 */
/*
 * town.h -- `perigee up --fleet` between its flags and its box: the trees of a fleet, where they
 * listen and are reached, and what control is told of its PoPs. All of it lies in the command's
 * arena.
 *
 * Control is reached at 127.0.0.1 and PoP number i at 127.0.1.i (the first one at 127.0.0.1 as
 * well), where the relay stands; they listen at 127.0.2.254 and 127.0.2.i. DNS, a tree of its own
 * that joins like a PoP, dials from 127.0.0.1: it stands where the first PoP and control do, and
 * does not die with either.
 */
#pragma once

#include "fleet/box.h"
#include "sys/listen.h"

struct cli;
struct err;

/* A listener's ports, the same for every PoP. */
struct ports {
    const char *flag, *environment, *usual;
    uint16_t numbers[LISTEN_ADDRESSES_MAX];
    size_t count;
};

struct town {
    struct cli *cli;
    struct fleet fleet;
    struct ports gateway, control, admin;
    struct box_port *ports; /* gateway's, of each port first 127.0.0.1's; then control's */
    size_t port_count;
    const char *dns;        /* where it listens, or NULL: there is none */
    struct box_tree *trees; /* control's, then the PoPs', then DNS's where there is one */
};

#define TOWN_DNS_NAME "box-dns" /* at control */

/* Which faces there are; ports of 0 are known once the box has bound them. */
void town_lay_out(struct town *town);
/* The admin port has no relay: what looks after a PoP stands beside it. Where none is said a free
 * one is taken, the same for all. */
[[nodiscard]] int town_choose_admin(struct town *town, struct err *err);

/* The flag, else the environment, else what is usual. */
const char *town_listen_text(const struct cli *cli, const char *flag, const char *environment,
                             const char *usual);

/* The tree of DNS, where there is one (town_dns.c). --listen-dns is read once the fleet was: no PoP
 * may have its name. */
[[nodiscard]] int town_read_dns(struct town *town, struct err *err);
struct box_tree town_dns_tree(const struct town *town);
/* Where it does, once it does: "127.0.0.1:5300", or "none". */
const char *town_dns_text(const struct town *town);
/* Its ports that were 0 are those from now on, should it start again. */
void town_dns_keep(struct town *town);

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
const char *town_dns_home(const struct town *town);

/* For struct box_config; `data` is the town. The round of control ends with its PoPs made there:
 * each has a token to join with, unless it joined in an earlier life of the home. */
size_t town_trees(const struct box_tree **ret, void *data);
int town_round(unsigned round, void *data, struct err *err);
/* Rows of a flag and its value, and those of `up`'s own flags that are passed on. */
const char *const *town_arguments(const struct town *town, const char *command,
                                  const char *const said[][2], const char *const *passed);
const char *town_join_url(const struct town *town);
/* "NAME=VALUE" rows with one place left; who joins dials control and its peers from `place`. */
const char **town_environment(const struct town *town, struct ip place);
