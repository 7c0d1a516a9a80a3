/* SPDX-License-Identifier: Apache-2.0 */
/*
 * roles.h -- what the program is besides the command line: `up`, the parent of all, and the roles
 * that it starts as `perigee role NAME`. Wiring only.
 */
#pragma once

#include <stddef.h>

struct cli_command;

extern const struct cli_command up_command;

/* argv[1] is "role", argv[2] its name. Returns the exit status. */
int role_main(int argc, char **argv);
