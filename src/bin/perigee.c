/* SPDX-License-Identifier: Apache-2.0 */
/* One program: the commands, `up` and its parts, and the processes that they start. */
#include <stdlib.h>
#include <string.h>

#include "bin/roles.h"
#include "cli/cli.h"
#include "supervisor/handover.h"

int main(int argc, char **argv)
{
    const char *state = getenv(HANDOVER_ENVIRONMENT);
    if (state)
        return up_resume(state);
    if (argc >= 2 && strcmp(argv[1], "role") == 0)
        return role_main(argc, argv);
    const struct cli_command commands[] = { up_command,  control_command, pop_command,
                                            dns_command, upgrade_command, simulate_command };
    return cli_main(argc, argv, commands, sizeof commands / sizeof *commands);
}
