/* SPDX-License-Identifier: Apache-2.0 */
/*
 * roles.h -- what the program is besides the command line: `up`, the parent of all, `upgrade`, and
 * the roles that `up` starts as `perigee role NAME`. Wiring only.
 */
#pragma once

#include <stddef.h>

struct cli_command;

extern const struct cli_command up_command, upgrade_command;

/* `up` in the place of another program, whose state is in the descriptor that `text` names. */
int up_resume(const char *text);

/* argv[1] is "role", argv[2] its name. Returns the exit status. */
int role_main(int argc, char **argv);
