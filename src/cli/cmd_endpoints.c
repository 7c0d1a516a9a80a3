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

enum { LIST_LIMIT = 500, LIST_BYTES_MAX = 256 << 20 };

/* One page of the list. */
static int list_get(struct cli *cli, const char *cursor, struct control_answer *ret,
                    struct err *err)
{
    const char *labels = cli_option_value(cli, "--labels");
    char *query = arena_format(cli->arena, "/endpoints?limit=%d%s%s%s%s", LIST_LIMIT,
                               labels ? "&labels=" : "", labels ? control_escape(cli, labels) : "",
                               cursor ? "&cursor=" : "", cursor ? control_escape(cli, cursor) : "");
    return control_call(
        cli, &CONTROL_REQUEST(.method = "GET", .path = control_project_path(cli, query)), ret, err);
}

int cmd_endpoints(struct cli *cli, struct err *err)
{
    struct control_answer answer;
    struct json_writer w;
    const char *cursor = NULL;
    json_begin(&w, cli->arena, 0);
    json_object_begin(&w);
    json_key(&w, "items");
    json_array_begin(&w);
    do {
        int r = list_get(cli, cursor, &answer, err);
        if (r < 0)
            return r;
        size_t index, count;
        yyjson_val *item;
        yyjson_arr_foreach(json_member(answer.json, "items"), index, count, item)
            json_value(&w, item);
        struct slice next = view_text(answer.json, "next");
        cursor = next.size ? arena_string(cli->arena, next) : NULL;
    } while (cursor);
    json_array_end(&w);
    json_key(&w, "next");
    json_null(&w);
    json_object_end(&w);
    yyjson_val *all;
    const struct json_limits limits = { .bytes_max = LIST_BYTES_MAX };
    int r = json_parse(cli->arena, json_end(&w), &limits, &all, err);
    if (r < 0)
        return r;
    yyjson_val *items = json_member(all, "items");
    if (cli->json)
        cli_print_json(cli, all);
    else if (yyjson_arr_size(items) == 0)
        printf("No endpoints%s.\n", cli_option_value(cli, "--labels")
                                        ? " with these labels"
                                        : " yet. Make one: perigee deploy NAME --model FILE");
    else
        view_list_print(cli, items);
    return 0;
}

static int get(struct cli *cli, struct control_answer *answer, struct err *err)
{
    return control_call(cli,
                        &CONTROL_REQUEST(.method = "GET",
                                         .path = control_endpoint_path(cli, cli->arguments[0], "")),
                        answer, err);
}

/* Of a control from before it knew: nothing. */
static struct control_answer get_more(struct cli *cli, const char *more)
{
    struct control_answer answer = {};
    struct err ignored;
    const char *path = control_endpoint_path(cli, cli->arguments[0], more);
    int r = control_call(cli, &CONTROL_REQUEST(.method = "GET", .path = path), &answer, &ignored);
    return r == 0 && answer.json ? answer : (struct control_answer){};
}

/* One object: what control says of it, what its schedule does next, and its clients. */
static int show_json(struct cli *cli, yyjson_val *view, struct slice schedule, struct slice clients)
{
    struct json_writer w;
    size_t index, count;
    yyjson_val *key, *value;
    json_begin(&w, cli->arena, 0);
    json_object_begin(&w);
    yyjson_obj_foreach(view, index, count, key, value)
    {
        json_key_slice(&w, json_slice(key));
        json_value(&w, value);
    }
    json_member_raw_or_null(&w, "schedule", schedule);
    json_member_raw_or_null(&w, "clients", clients);
    json_object_end(&w);
    return cli_print_written(cli, &w);
}

int cmd_show(struct cli *cli, struct err *err)
{
    struct control_answer answer, schedule = {};
    if (cli->argument_count == 0)
        return cmd_endpoints(cli, err);
    int r = get(cli, &answer, err);
    if (r < 0)
        return r;
    struct control_answer clients = get_more(cli, "/clients");
    yyjson_val *scale = json_member(json_member(answer.json, "spec"), "scale");
    if (json_member(scale, "schedule"))
        schedule = get_more(cli, "/schedule");
    if (cli->json)
        return show_json(cli, answer.json, schedule.body, clients.body);
    r = view_print(cli, answer.json);
    if (r == 0 && schedule.json)
        view_schedule_print(cli, schedule.json);
    if (r == 0 && clients.json)
        view_clients_print(cli, clients.json);
    return r;
}

int cmd_wait(struct cli *cli, struct err *err)
{
    struct control_answer answer;
    int64_t timeout_ms = 0;
    int r = control_wait_timeout(cli, &timeout_ms, err);
    if (r < 0)
        return r;
    r = control_wait_ready(cli, cli->arguments[0], timeout_ms, &answer, err);
    return r < 0 ? r : view_print(cli, answer.json);
}

/* Done, and perhaps to be waited for: wherever requests come in. */
static int done(struct cli *cli, struct control_answer *answer, struct err *err)
{
    int r = cli_option_value(cli, "--no-wait")
                ? 0
                : control_wait_observed(cli, cli->arguments[0], answer, err);
    return r < 0 ? r : view_print(cli, answer->json);
}

static int post(struct cli *cli, const char *verb, struct slice body, struct control_answer *ret,
                struct err *err)
{
    const char *path = control_endpoint_path(cli, cli->arguments[0], verb);
    return control_call(cli, &CONTROL_REQUEST(.method = "POST", .path = path, .body = body), ret,
                        err);
}

/* ... and is waited for until the target is ready. */
static int post_and_wait(struct cli *cli, const char *verb, struct slice body, int64_t timeout_ms,
                         struct err *err)
{
    struct control_answer answer;
    int r = post(cli, verb, body, &answer, err);
    if (r == 0 && !cli_option_value(cli, "--no-wait"))
        r = control_wait_ready(cli, cli->arguments[0], timeout_ms, &answer, err);
    return r < 0 ? r : view_print(cli, answer.json);
}

int cmd_stop(struct cli *cli, struct err *err)
{
    struct control_answer answer;
    int r = post(cli, "/stop", SLICE("{}"), &answer, err);
    return r < 0 ? r : done(cli, &answer, err);
}

int cmd_start(struct cli *cli, struct err *err)
{
    int64_t timeout_ms = 0;
    int r = control_wait_timeout(cli, &timeout_ms, err);
    return r < 0 ? r : post_and_wait(cli, "/start", SLICE("{}"), timeout_ms, err);
}

/* The one that serves while the target does not; else the newest before the target that has not
 * failed. */
static int revision_before(struct cli *cli, uint64_t *ret, struct err *err)
{
    struct control_answer answer;
    const char *name = cli->arguments[0];
    int r = get(cli, &answer, err);
    if (r < 0)
        return r;
    uint64_t target = view_number(answer.json, "target"), best = 0;
    uint64_t serving = view_number(answer.json, "serving");
    const char *path = control_endpoint_path(cli, name, "/revisions");
    if (serving && serving != target) {
        *ret = serving;
        return 0;
    }
    r = control_call(cli, &CONTROL_REQUEST(.method = "GET", .path = path), &answer, err);
    if (r < 0)
        return r;
    size_t index, count;
    yyjson_val *item;
    yyjson_arr_foreach(json_member(answer.json, "items"), index, count, item)
    {
        uint64_t number = view_number(item, "number");
        if (number < target && number > best && !slice_is(view_text(item, "state"), "failed"))
            best = number;
    }
    if (!best)
        return err_set(err, ERR_PRECONDITION, "endpoint '%s' has no earlier revision to go back to",
                       name);
    *ret = best;
    return 0;
}

int cmd_rollback(struct cli *cli, struct err *err)
{
    uint64_t number = 0;
    int64_t timeout_ms = 0;
    if (!cli_option_u64(cli, "--revision", &number, err))
        return cli_usage(cli, ERR_BAD_INPUT);
    int r = control_wait_timeout(cli, &timeout_ms, err);
    if (r == 0 && number == 0)
        r = revision_before(cli, &number, err);
    if (r < 0)
        return r;
    char *body = arena_format(cli->arena, "{\"revision\":%" PRIu64 "}", number);
    return post_and_wait(cli, "/rollback", slice_of(body), timeout_ms, err);
}

int cmd_scale(struct cli *cli, struct err *err)
{
    uint64_t min = 0, max = 0;
    struct control_answer answer;
    struct json_writer w;
    if (!cli_option_u64(cli, "--min", &min, err) || !cli_option_u64(cli, "--max", &max, err))
        return cli_usage(cli, ERR_BAD_INPUT);
    if (!cli_option_value(cli, "--min") && !cli_option_value(cli, "--max"))
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT, "scale wants --min N, --max N or both"));
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
    return r < 0 ? r : done(cli, &answer, err);
}

int cmd_delete(struct cli *cli, struct err *err)
{
    struct control_answer answer;
    const char *name = cli->arguments[0];
    char *question =
        arena_format(cli->arena, "Delete endpoint '%s' with its revisions and logs?", name);
    int r = control_delete(cli, question, control_endpoint_path(cli, name, ""), &answer, err);
    if (r < 0)
        return r;
    if (!cli->json) {
        printf("%s: deleted\n", name);
        return 0;
    }
    struct json_writer w;
    json_begin(&w, cli->arena, 0);
    json_object_begin(&w);
    json_member_text(&w, "deleted", name);
    json_object_end(&w);
    return cli_print_written(cli, &w);
}
