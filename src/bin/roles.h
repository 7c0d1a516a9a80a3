/* SPDX-License-Identifier: Apache-2.0 */
/*
 * roles.h -- what the program is besides the command line: `up`, the parent of all, `upgrade`, and
 * the roles that `up` starts as `perigee role NAME`. Wiring only.
 */
#pragma once

#include <stddef.h>

struct cli;
struct cli_command;
struct err;

extern const struct cli_command up_command, upgrade_command, simulate_command;

/* --log-level, for this process and those to come. */
int up_log_level(const struct cli *cli, struct err *err);

/* `up --fleet`: a network in a box, each PoP a tree of its own. */
/* In the environment of its trees. */
#define FLEET_ENVIRONMENT "PERIGEE_FLEET"
int fleet_up(struct cli *cli, struct err *err);

/* `up` in the place of another program, whose state is in the descriptor that `text` names. */
int up_resume(const char *text);

/* argv[1] is "role", argv[2] its name. Returns the exit status. */
int role_main(int argc, char **argv);
