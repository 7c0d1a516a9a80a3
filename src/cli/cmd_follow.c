/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logs and events: what was, and with --follow what comes.
 */
#include <inttypes.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/view.h"

struct follow {
    struct cli *cli;
    void (*print)(struct cli *cli, yyjson_val *item);
};

enum { KIND_COLUMNS = 19 };

static void dim(const struct cli *cli, struct slice text)
{
    fputs(cli_color(cli, CLI_DIM), stdout);
    cli_print_text(stdout, text);
    printf("%s ", cli_color(cli, CLI_PLAIN));
}

static void log_print(struct cli *cli, yyjson_val *item)
{
    if (cli->json) {
        cli_print_json(cli, item);
        return;
    }
    dim(cli, view_text(item, "at"));
    dim(cli, view_text(item, "replica"));
    cli_print_text(stdout, view_text(item, "line"));
    putchar('\n');
}

static void event_print(struct cli *cli, yyjson_val *item)
{
    if (cli->json) {
        cli_print_json(cli, item);
        return;
    }
    struct slice endpoint = view_text(item, "endpoint"), replica = view_text(item, "replica");
    struct slice kind = view_text(item, "kind");
    dim(cli, view_text(item, "at"));
    cli_print_text(stdout, kind);
    printf("%*s", kind.size < KIND_COLUMNS ? (int)(KIND_COLUMNS - kind.size) : 1, "");
    cli_print_text(stdout, replica.size ? replica : endpoint.size ? endpoint : SLICE("-"));
    if (view_text(item, "message").size)
        putchar(' ');
    cli_print_text(stdout, view_text(item, "message"));
    putchar('\n');
}

static bool on_item(struct slice kind, struct slice id, yyjson_val *json, void *data)
{
    struct follow *follow = data;
    (void)kind;
    (void)id;
    follow->print(follow->cli, json);
    return fflush(stdout) == 0; /* nobody reads any more */
}

static int list(struct cli *cli, const char *path, const char *more, struct follow *follow,
                struct err *err)
{
    struct control_answer answer;
    size_t index, count;
    yyjson_val *item;
    if (cli_option_value(cli, "--follow") && cli_option_value(cli, "--limit"))
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT, "--limit does not go with --follow yet"));
    if (cli_option_value(cli, "--follow"))
        return control_watch(cli, arena_format(cli->arena, "%s%swatch=1", path, more), 0, on_item,
                             follow, err);
    uint64_t limit = 200;
    if (!cli_option_u64(cli, "--limit", &limit, err))
        return cli_usage(cli, ERR_BAD_INPUT);
    if (limit == 0)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT, "--limit must be 1 or more"));
    int r = control_call(
        cli,
        &CONTROL_REQUEST(.method = "GET",
                         .path = arena_format(cli->arena, "%s%slimit=%" PRIu64, path, more, limit)),
        &answer, err);
    if (r < 0)
        return r;
    yyjson_arr_foreach(json_member(answer.json, "items"), index, count, item)
        follow->print(cli, item);
    return 0;
}

int cmd_logs(struct cli *cli, struct err *err)
{
    struct follow follow = { cli, log_print };
    const char *replica = cli_option_value(cli, "--replica");
    const char *path = control_endpoint_path(cli, cli->arguments[0], "/logs");
    if (replica)
        path = arena_format(cli->arena, "%s?replica=%s", path, control_escape(cli, replica));
    return list(cli, path, replica ? "&" : "?", &follow, err);
}

/* All projects' events, unless an endpoint or a project is named. */
int cmd_events(struct cli *cli, struct err *err)
{
    struct follow follow = { cli, event_print };
    const char *name = cli->argument_count ? cli->arguments[0] : NULL;
    const char *path = "/api/v1/events";
    if (name)
        path = arena_format(cli->arena, "%s?project=%s&endpoint=%s", path, cli->project,
                            control_escape(cli, name));
    else if (cli->project_given)
        path = arena_format(cli->arena, "%s?project=%s", path, cli->project);
    return list(cli, path, name || cli->project_given ? "&" : "?", &follow, err);
}
