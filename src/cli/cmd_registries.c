/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registries: other registries, from which images and models are copied: add, list, test, remove.
 *
 * A password comes from a file or from standard input, never from an argument, and lies in a secret
 * arena from there to the call.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/view.h"
#include "spec/reference.h"

enum { PASSWORD_BYTES_MAX = 8 << 10, CA_BYTES_MAX = 64 << 10 };

static const char *registry_path(struct cli *cli, const char *rest)
{
    return arena_format(cli->arena, "/api/v1/registries/%s%s",
                        control_escape(cli, cli->arguments[1]), rest);
}

/* ---- add ------------------------------------------------------------------------------------- */

static int body_write(struct cli *cli, struct arena *secret, struct slice *ret, struct err *err)
{
    const char *username = cli_option_value(cli, "--username");
    const char *ca = cli_option_value(cli, "--ca-file");
    bool plain = cli_option_value(cli, "--plain-http") != NULL;
    const struct cli_secret ask = { cli_option_value(cli, "--password-file"),
                                    "Password: ", "--password-file", PASSWORD_BYTES_MAX };
    struct slice text;
    struct json_writer w;
    int r;
    json_begin(&w, secret, 0);
    json_object_begin(&w);
    if (username) {
        json_member_text(&w, "username", username);
        if ((r = cli_read_secret(cli, &ask, secret, &text, err)) < 0)
            return r;
        json_member_string(&w, "password", text);
    }
    if (plain)
        json_member_bool(&w, "plain_http", true);
    if (ca) {
        if ((r = cli_read(cli, ca, CA_BYTES_MAX, &text, err)) < 0)
            return err_wrap(err, "--ca-file");
        json_member_string(&w, "ca", text);
    }
    json_object_end(&w);
    *ret = json_end(&w);
    return 0;
}

static void print_added(struct cli *cli, yyjson_val *)
{
    printf("%s is kept%s; `perigee registries test %s` tries it\n", cli->arguments[1],
           cli_option_value(cli, "--username") ? ", its password sealed" : "", cli->arguments[1]);
}

static int registries_add(struct cli *cli, struct err *err)
{
    struct slice body;
    if (!cli_option_value(cli, "--username") != !cli_option_value(cli, "--password-file"))
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT,
                                      "--username and --password-file FILE (or -) come together"));
    struct arena *secret = arena_new_secret();
    int r = body_write(cli, secret, &body, err);
    if (r == 0)
        r = control_show(
            cli, &CONTROL_REQUEST(.method = "PUT", .path = registry_path(cli, ""), .body = body),
            print_added, err);
    arena_free(secret);
    return r;
}

/* ---- list, test, remove ---------------------------------------------------------------------- */

static void print_list(struct cli *cli, yyjson_val *list)
{
    static const char *const titles[] = { "REGISTRY", "USERNAME", "BY", "UPDATED" };
    size_t index, count;
    yyjson_val *item;
    struct cli_table *table = cli_table_new(cli, titles, 4);
    yyjson_arr_foreach(json_member(list, "items"), index, count, item)
    {
        struct slice username = view_text(item, "username");
        cli_table_row(table,
                      (struct slice[]){
                          view_text(item, "host"),
                          username.size ? username : SLICE("-"),
                          yyjson_get_bool(json_member(item, "plain_http")) ? SLICE("http")
                          : yyjson_get_bool(json_member(item, "ca")) ? SLICE("https, its own ca")
                                                                     : SLICE("https"),
                          slice_of(cli_ago(cli, view_text(item, "updated_at"))),
                      });
    }
    cli_table_print(table, stdout);
}

static int registries_list(struct cli *cli, struct err *err)
{
    return control_show(cli, &CONTROL_REQUEST(.method = "GET", .path = "/api/v1/registries"),
                        print_list, err);
}

static void print_test(struct cli *cli, yyjson_val *result)
{
    struct slice asks = view_text(result, "asks");
    printf("%s answers (%" PRIu64 " ms); %s\n", cli->arguments[1], view_number(result, "took_ms"),
           slice_is(asks, "nothing") ? "it asks for no credentials, so that none were tried"
           : slice_is(asks, "basic") ? "it takes the password"
                                     : "it gave a token");
}

static int registries_test(struct cli *cli, struct err *err)
{
    return control_show(cli,
                        &CONTROL_REQUEST(.method = "POST", .path = registry_path(cli, "/test"),
                                         .body = SLICE("{}")),
                        print_test, err);
}

static int registries_remove(struct cli *cli, struct err *err)
{
    struct control_answer answer;
    const char *question =
        arena_format(cli->arena, "Forget the registry %s and its password?", cli->arguments[1]);
    int r = control_delete(cli, question, registry_path(cli, ""), &answer, err);
    if (r == 0 && !cli->json)
        printf("%s is forgotten; what was copied from it stays\n", cli->arguments[1]);
    return r;
}

static int host_check(struct slice host, struct err *err)
{
    return reference_check_host(host, err);
}

int cmd_registries(struct cli *cli, struct err *err)
{
    static const struct cli_action actions[] = {
        { "list", false, registries_list },
        { "add", true, registries_add },
        { "test", true, registries_test },
        { "remove", true, registries_remove },
    };
    return cli_act(cli, actions, sizeof actions / sizeof *actions, "HOST", host_check, err);
}
