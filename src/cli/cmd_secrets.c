/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secrets: values for the environment of containers: set, list, delete.
 *
 * A value comes from a file, from standard input or from a terminal that does not show it, never
 * from an argument, and lies in a secret arena from there to the call. None is ever shown.
 */
#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/view.h"
#include "spec/endpoint.h"
#include "store/seal.h"

static const char *secret_path(struct cli *cli)
{
    return control_project_path(
        cli, arena_format(cli->arena, "/secrets/%s", control_escape(cli, cli->arguments[1])));
}

/* "shop, bot"; "" where there is none. */
static const char *used_by(struct cli *cli, yyjson_val *secret)
{
    const char *text = "";
    size_t index, count;
    yyjson_val *name;
    yyjson_arr_foreach(json_member(secret, "used_by"), index, count, name) text =
        arena_format(cli->arena, "%s%s%s", text, index ? ", " : "", ERR_SLICE(json_slice(name)));
    return text;
}

static void print_set(struct cli *cli, yyjson_val *secret)
{
    const char *users = used_by(cli, secret);
    printf("%s is kept, sealed\n", cli->arguments[1]);
    if (*users)
        printf("replicas of %s that start from now on have it; `perigee stop` and `perigee start` "
               "replace those that run\n",
               users);
}

static int secrets_set(struct cli *cli, struct err *err)
{
    const char *path = cli_option_value(cli, "--file"), *what = path ? "--file" : "the value";
    const struct cli_secret ask = { path ? path : "-", "Value: ", what, SEAL_TEXT_MAX };
    struct arena *secret = arena_new_secret();
    struct slice value;
    struct json_writer w;
    int r = cli_read_secret(cli, &ask, secret, &value, err);
    if (r == 0 && !utf8_valid(value)) /* engines are told in JSON */
        r = err_set(err, ERR_BAD_INPUT,
                    "%s: it is no UTF-8 text; encode it (base64), and let the "
                    "container decode it",
                    what);
    if (r == 0) {
        json_begin(&w, secret, 0);
        json_object_begin(&w);
        json_member_string(&w, "value", value);
        json_object_end(&w);
        r = control_show(
            cli, &CONTROL_REQUEST(.method = "PUT", .path = secret_path(cli), .body = json_end(&w)),
            print_set, err);
    }
    arena_free(secret);
    return r;
}

static void print_list(struct cli *cli, yyjson_val *list)
{
    static const char *const titles[] = { "SECRET", "USED BY", "UPDATED" };
    size_t index, count;
    yyjson_val *item;
    struct cli_table *table = cli_table_new(cli, titles, 3);
    yyjson_arr_foreach(json_member(list, "items"), index, count, item)
    {
        const char *users = used_by(cli, item);
        cli_table_row(table, (struct slice[]){
                                 view_text(item, "name"),
                                 *users ? slice_of(users) : SLICE("-"),
                                 slice_of(cli_ago(cli, view_text(item, "updated_at"))),
                             });
    }
    cli_table_print(table, stdout);
}

static int secrets_list(struct cli *cli, struct err *err)
{
    const char *path = control_project_path(cli, "/secrets");
    return control_show(cli, &CONTROL_REQUEST(.method = "GET", .path = path), print_list, err);
}

static int secrets_delete(struct cli *cli, struct err *err)
{
    struct control_answer answer;
    const char *question = arena_format(cli->arena, "Forget the secret %s?", cli->arguments[1]);
    int r = control_delete(cli, question, secret_path(cli), &answer, err);
    if (r == 0 && !cli->json)
        printf("%s is forgotten\n", cli->arguments[1]);
    return r;
}

static int name_check(struct slice name, struct err *err)
{
    return spec_check_name(name, "secret name", err);
}

int cmd_secrets(struct cli *cli, struct err *err)
{
    static const struct cli_action actions[] = {
        { "list", false, secrets_list },
        { "set", true, secrets_set },
        { "delete", true, secrets_delete },
    };
    if (cli->argument_count > 2) /* it is not said again */
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT,
                                      "secrets %s takes NAME alone; a value as an argument is seen "
                                      "by everybody on this machine: give --file FILE, or standard "
                                      "input",
                                      ERR_TEXT(cli->arguments[0])));
    return cli_act(cli, actions, sizeof actions / sizeof *actions, "NAME", name_check, err);
}
