/* SPDX-License-Identifier: Apache-2.0 */
/* One program: the commands, `up`, and the processes that `up` starts. */
#include <string.h>

#include "bin/roles.h"
#include "cli/cli.h"

int main(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "role") == 0)
        return role_main(argc, argv);
    return cli_main(argc, argv, &up_command, 1);
}
