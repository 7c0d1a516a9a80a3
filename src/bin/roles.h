/* SPDX-License-Identifier: Apache-2.0 */
/*
 * roles.h -- what the program is besides the command line: `up`, the parent of all, which
 * `control`, `pop` and `dns` are parts of, `upgrade`, and the roles that these start as `perigee
 * role NAME`. Wiring only.
 */
#pragma once

#include <stddef.h>

struct cli;
struct cli_command;
struct err;

struct message_start;

extern const struct cli_command up_command, control_command, pop_command, upgrade_command,
    simulate_command, dns_command;

enum {
    PART_CONTROL = 1,
    PART_AGENT = 2, /* and its admin port */
    PART_DNS = 4,
    PART_GATEWAY = 8, /* and templates */
    PART_POP = PART_AGENT | PART_GATEWAY,
};

/* Flags and environment of the parts, then the supervisor until all has ended. `joined`: of a PoP
 * whose control is elsewhere, what that told it (control, pop, zone, city, country); else NULL. */
int parts_run(struct cli *cli, unsigned parts, const struct message_start *joined, struct err *err);
/* Would they run: what can be found wrong with flags, environment and machine, before a token is
 * used up for it. */
[[nodiscard]] int parts_check(struct cli *cli, unsigned parts, struct err *err);

#define CONTROL_SOCKET "run/control.sock" /* in the home */

/* up_flags.c: what the parts are told, but for where they listen and how replicas are walled; some
 * of it is left in the environment for those that need it. */
[[nodiscard]] int up_start_read(struct cli *cli, unsigned parts, const struct message_start *joined,
                                struct message_start *start, struct err *err);
/* --log-level, for this process and those to come. */
int up_log_level(const struct cli *cli, struct err *err);
/* --addresses and --geo; --sets: opened, and left in the environment for those that need them. */
int up_geo(const struct cli *cli, struct err *err);
int up_sets(struct cli *cli, struct err *err);
/* --https-record, likewise. */
int up_https(const struct cli *cli, struct err *err);

/* `up --fleet`: a network in a box, each PoP a tree of its own. */
/* In the environment of its trees. */
#define FLEET_ENVIRONMENT "PERIGEE_FLEET"
int fleet_up(struct cli *cli, struct err *err);

/* `up` in the place of another program, whose state is in the descriptor that `text` names. */
int up_resume(const char *text);

/* Who enters containers' networks. */
int netns_main(int channel_fd, int lifeline_fd);

/* argv[1] is "role", argv[2] its name. Returns the exit status. */
int role_main(int argc, char **argv);
