/* SPDX-License-Identifier: Apache-2.0 */
/*
 * endpoints, show, wait, scale, stop, start, rollback, delete.
 */
#include <inttypes.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/view.h"
#include "spec/units.h"

enum { WAIT_MS = 600'000, LIST_LIMIT = 500 };

static const char *list_path(struct cli *cli, const char *cursor)
{
    const char *labels = cli_option_value(cli, "--labels");
    const char *project = strcmp(cli->project, "default") == 0
                              ? ""
                              : arena_format(cli->arena, "/projects/%s", cli->project);
    return arena_format(cli->arena, "/api/v1%s/endpoints?limit=%d%s%s%s%s", project, LIST_LIMIT,
                        labels ? "&labels=" : "", labels ? labels : "", cursor ? "&cursor=" : "",
                        cursor ? cursor : "");
}

int cmd_endpoints(struct cli *cli, struct err *err)
{
    struct control_answer answer;
    int r = control_call(cli, &CONTROL_REQUEST(.method = "GET", .path = list_path(cli, NULL)),
                         &answer, err);
    if (r < 0)
        return r;
    yyjson_val *items = json_member(answer.json, "items");
    if (cli->json) {
        cli_print_json(cli, answer.json);
    } else if (yyjson_arr_size(items) == 0) {
        printf("No endpoints yet. Make one: perigee deploy NAME --model FILE\n");
    } else {
        view_list_print(cli, items);
        if (view_text(answer.json, "next").size)
            printf("... and more; narrow it with -l KEY=VALUE\n");
    }
    return 0;
}

static int get(struct cli *cli, struct control_answer *answer, struct err *err)
{
    return control_call(cli,
                        &CONTROL_REQUEST(.method = "GET",
                                         .path = control_endpoint_path(cli, cli->arguments[0], "")),
                        answer, err);
}

int cmd_show(struct cli *cli, struct err *err)
{
    struct control_answer answer;
    if (cli->argument_count == 0)
        return cmd_endpoints(cli, err);
    int r = get(cli, &answer, err);
    return r < 0 ? r : view_print(cli, answer.json);
}

static int wait_and_print(struct cli *cli, struct err *err)
{
    struct control_answer answer;
    uint64_t timeout_ns = 0;
    const char *timeout = cli_option_value(cli, "--timeout");
    if (timeout && units_parse_time(slice_of(timeout), &timeout_ns, err) < 0)
        return err_wrap(err, "--timeout");
    int64_t timeout_ms = timeout ? (int64_t)(timeout_ns / 1'000'000) : WAIT_MS;
    int r = control_wait_ready(cli, cli->arguments[0], timeout_ms, &answer, err);
    return r < 0 ? r : view_print(cli, answer.json);
}

int cmd_wait(struct cli *cli, struct err *err)
{
    return wait_and_print(cli, err);
}

static int post(struct cli *cli, const char *verb, struct slice body, bool wait, struct err *err)
{
    struct control_answer answer;
    const char *path = control_endpoint_path(cli, cli->arguments[0], verb);
    int r = control_call(cli, &CONTROL_REQUEST(.method = "POST", .path = path, .body = body),
                         &answer, err);
    if (r < 0)
        return r;
    if (wait && !cli_option_value(cli, "--no-wait"))
        return wait_and_print(cli, err);
    return view_print(cli, answer.json);
}

int cmd_stop(struct cli *cli, struct err *err)
{
    return post(cli, "/stop", SLICE("{}"), false, err);
}

int cmd_start(struct cli *cli, struct err *err)
{
    return post(cli, "/start", SLICE("{}"), true, err);
}

int cmd_rollback(struct cli *cli, struct err *err)
{
    uint64_t number = 0;
    if (!cli_option_u64(cli, "--revision", &number, err))
        return ERR_BAD_INPUT;
    if (!number) { /* the one before the present target */
        struct control_answer answer;
        int r = get(cli, &answer, err);
        if (r < 0)
            return r;
        uint64_t target = view_number(answer.json, "target");
        if (target < 2)
            return err_set(err, ERR_PRECONDITION, "endpoint '%s' has no earlier revision",
                           ERR_TEXT(cli->arguments[0]));
        number = target - 1;
    }
    char *body = arena_format(cli->arena, "{\"revision\":%" PRIu64 "}", number);
    return post(cli, "/rollback", slice_of(body), true, err);
}

int cmd_scale(struct cli *cli, struct err *err)
{
    uint64_t min = 0, max = 0;
    struct control_answer answer;
    struct json_writer w;
    if (!cli_option_u64(cli, "--min", &min, err) || !cli_option_u64(cli, "--max", &max, err))
        return ERR_BAD_INPUT;
    if (!cli_option_value(cli, "--min") && !cli_option_value(cli, "--max"))
        return err_set(err, ERR_BAD_INPUT, "scale wants --min N, --max N or both");
    json_begin(&w, cli->arena, 0);
    json_object_begin(&w);
    json_key(&w, "scale");
    json_object_begin(&w);
    if (cli_option_value(cli, "--min"))
        json_member_u64(&w, "min", min);
    if (cli_option_value(cli, "--max"))
        json_member_u64(&w, "max", max);
    json_object_end(&w);
    json_object_end(&w);
    int r = control_call(cli,
                         &CONTROL_REQUEST(.method = "PATCH",
                                          .path = control_endpoint_path(cli, cli->arguments[0], ""),
                                          .content_type = "application/merge-patch+json",
                                          .body = json_end(&w)),
                         &answer, err);
    return r < 0 ? r : view_print(cli, answer.json);
}

int cmd_delete(struct cli *cli, struct err *err)
{
    struct control_answer answer;
    const char *name = cli->arguments[0];
    char *question = arena_format(cli->arena, "Delete endpoint '%s' with its revisions and logs?",
                                  ERR_TEXT(name));
    int r = cli_confirm(cli, question, err);
    if (r == 0)
        r = control_call(
            cli, &CONTROL_REQUEST(.method = "DELETE", .path = control_endpoint_path(cli, name, "")),
            &answer, err);
    if (r == 0 && !cli->json)
        printf("%s: deleted\n", name);
    else if (r == 0)
        printf("{\"deleted\":\"%s\"}\n", name);
    return r;
}
