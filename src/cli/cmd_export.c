/* SPDX-License-Identifier: Apache-2.0 */
/* export: an endpoint as the file that apply takes. */
#include <stdio.h>

#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "spec/endpoint.h"

int cmd_export(struct cli *cli, struct err *err)
{
    struct control_answer answer;
    struct endpoint_spec spec;
    int r =
        control_call(cli,
                     &CONTROL_REQUEST(.method = "GET",
                                      .path = control_endpoint_path(cli, cli->arguments[0], "")),
                     &answer, err);
    if (r < 0)
        return r;
    yyjson_val *tree = json_member(answer.json, "spec");
    if (cli->json) {
        cli_print_json(cli, tree);
        return 0;
    }
    r = endpoint_spec_parse(cli->arena, tree, SPEC_NAME_OPTIONAL, &spec, err);
    if (r < 0)
        return r;
    struct slice yaml = endpoint_spec_yaml(cli->arena, &spec, 0);
    fwrite(yaml.data, 1, yaml.size, stdout);
    return 0;
}
