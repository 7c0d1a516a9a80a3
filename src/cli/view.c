/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for an endpoint, and printing one.
 */
#include <inttypes.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/view.h"
#include "policy/traffic.h"
#include "spec/units.h"

struct slice view_text(yyjson_val *object, const char *key)
{
    yyjson_val *value = json_member(object, key);
    return yyjson_is_str(value) ? json_slice(value) : (struct slice){};
}

uint64_t view_number(yyjson_val *object, const char *key)
{
    yyjson_val *value = json_member(object, key);
    return yyjson_is_uint(value) ? yyjson_get_uint(value) : 0;
}

static const char *state_color(const struct cli *cli, struct slice state)
{
    if (slice_is(state, "active") || slice_is(state, "ready"))
        return cli_color(cli, CLI_GREEN);
    if (slice_is(state, "failed") || slice_is(state, "backoff"))
        return cli_color(cli, CLI_RED);
    return cli_color(cli, CLI_YELLOW);
}

enum { OBSERVED_MS = 10'000, READY_MS = 600'000 };

/* ---- waiting -------------------------------------------------------------------------------- */

struct waiting {
    struct cli *cli;
    bool (*settled)(yyjson_val *view);
    struct cli_progress progress;
    yyjson_val *view;             /* the settled one, in the command's arena */
    char state[32], message[256]; /* the last ones, for when the time runs out */
    bool deleted;
};

static void keep(char *to, size_t room, struct slice text)
{
    size_t size = text.size < room ? text.size : room - 1;
    if (size)
        memcpy(to, text.data, size);
    to[size] = '\0';
}

/* All that can be: it is on fewer PoPs than it wants, and there are no more that may run it. */
static bool lacks_pops(yyjson_val *view)
{
    return slice_is(view_text(view, "state"), "partial") &&
           slice_is(view_text(view, "reason"), "spread");
}

static bool serves_target(yyjson_val *view)
{
    struct slice state = view_text(view, "state");
    return (slice_is(state, "active") || slice_is(state, "idle") || lacks_pops(view)) &&
           !slice_is(view_text(view, "reason"), "pop_silent") &&
           (view_number(view, "serving") == view_number(view, "target") ||
            yyjson_is_obj(json_member(view, "traffic"))); /* active: all of it are ready */
}

/* Requests meet the endpoint as it is governed now, wherever a PoP is heard. An older control does
 * not say. */
static bool observed(yyjson_val *view)
{
    return !json_member(view, "observed_generation") ||
           view_number(view, "observed_generation") >= view_number(view, "generation");
}

/* Settled: the target has the traffic, or it will not have it. */
static bool settled(yyjson_val *view)
{
    struct slice state = view_text(view, "state");
    return observed(view) &&
           (serves_target(view) || slice_is(state, "failed") || slice_is(state, "stopped") ||
            slice_is(view_text(view, "reason"), "target_failed"));
}

static bool on_view(struct slice kind, struct slice id, yyjson_val *json, void *data)
{
    struct waiting *waiting = data;
    struct err ignored;
    (void)id;
    waiting->deleted = slice_is(kind, "deleted");
    if (!slice_is(kind, "endpoint"))
        return !waiting->deleted;
    keep(waiting->state, sizeof waiting->state, view_text(json, "state"));
    keep(waiting->message, sizeof waiting->message, view_text(json, "message"));
    cli_progress_text(&waiting->progress, slice_of(waiting->message));
    if (!waiting->settled(json))
        return true;
    /* `json` ends with this call. */
    struct arena *arena = waiting->cli->arena;
    return json_parse(arena, json_print(arena, json, 0), NULL, &waiting->view, &ignored) < 0;
}

static int waiting_failed(const struct waiting *waiting, const char *name, struct err *err)
{
    int r = err_wrap(err, "waiting for endpoint '%s'", ERR_TEXT(name));
    if (r != ERR_DEADLINE || !waiting->state[0])
        return r;
    struct err late = *err;
    return err_set(err, ERR_DEADLINE, "%s; it is %s: %s", late.message, waiting->state,
                   waiting->message);
}

int control_wait_timeout(struct cli *cli, int64_t *ret_ms, struct err *err)
{
    const char *text = cli_option_value(cli, "--timeout");
    uint64_t ns = 0;
    if (text && units_parse_time(slice_of(text), &ns, err) < 0)
        return cli_usage(cli, err_wrap(err, "--timeout"));
    if (text && ns < 1'000'000) /* control_watch takes 0 for no end */
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT, "--timeout must be 1ms or more"));
    *ret_ms = text ? (int64_t)(ns / 1'000'000) : READY_MS;
    return 0;
}

int control_wait_ready(struct cli *cli, const char *name, int64_t timeout_ms,
                       struct control_answer *ret_view, struct err *err)
{
    struct waiting waiting = { .cli = cli, .settled = settled };
    cli_progress_begin(&waiting.progress, name);
    int r = control_watch(cli, control_endpoint_path(cli, name, "?watch=1"), timeout_ms, on_view,
                          &waiting, err);
    cli_progress_end(&waiting.progress);
    if (r < 0)
        return waiting_failed(&waiting, name, err);
    if (waiting.deleted || !waiting.view)
        return err_set(err, ERR_NOT_FOUND, "endpoint '%s' was deleted meanwhile", ERR_TEXT(name));
    ret_view->json = waiting.view;
    struct slice message = view_text(waiting.view, "message");
    if (lacks_pops(waiting.view))
        fprintf(stderr, "perigee: endpoint '%s': %.*s\n", ERR_TEXT(name), SLICE_FMT(message));
    if (serves_target(waiting.view))
        return 0;
    return err_set(err,
                   slice_is(slice_of(waiting.state), "stopped") ? ERR_STOPPED : ERR_PRECONDITION,
                   "endpoint '%s' is %s: %.*s", ERR_TEXT(name), waiting.state,
                   (int)(message.size < 400 ? message.size : 400), message.data);
}

int control_wait_observed(struct cli *cli, const char *name, struct control_answer *ret_view,
                          struct err *err)
{
    struct waiting waiting = { .cli = cli, .settled = observed };
    cli_progress_begin(&waiting.progress, name);
    int r = control_watch(cli, control_endpoint_path(cli, name, "?watch=1"), OBSERVED_MS, on_view,
                          &waiting, err);
    cli_progress_end(&waiting.progress);
    if (r == ERR_DEADLINE) {
        fprintf(stderr,
                "perigee: it is done, but not every PoP has said within %d s that its "
                "requests go by it\n",
                OBSERVED_MS / 1000);
        return 0;
    }
    if (r < 0)
        return waiting_failed(&waiting, name, err);
    if (waiting.view)
        ret_view->json = waiting.view;
    return 0;
}

/* ---- printing -------------------------------------------------------------------------------- */

enum { KEY_COLUMNS = 10, LOG_INDENT = 4 };

static void line(struct cli *cli, const char *key, struct slice value)
{
    if (value.size == 0)
        return;
    printf("%s%-*s%s ", cli_color(cli, CLI_DIM), (int)KEY_COLUMNS, key, cli_color(cli, CLI_PLAIN));
    cli_print_wrapped(cli, stdout, value, KEY_COLUMNS + 1, KEY_COLUMNS + 1);
}

static struct slice strings_joined(struct cli *cli, yyjson_val *list)
{
    struct slice all = {};
    size_t index, count;
    yyjson_val *item;
    yyjson_arr_foreach(list, index, count, item) all =
        slice_of(arena_format(cli->arena, "%.*s%s%.*s", SLICE_FMT(all), all.size ? ", " : "",
                              SLICE_FMT(json_slice(item))));
    return all;
}

static void tensors_print(struct cli *cli, const char *key, yyjson_val *list)
{
    size_t index, count;
    yyjson_val *item;
    yyjson_arr_foreach(list, index, count, item)
    {
        struct slice shape = json_print(cli->arena, json_member(item, "shape"), 0);
        line(cli, index == 0 ? key : "",
             slice_of(arena_format(cli->arena, "%.*s %.*s %.*s", SLICE_FMT(view_text(item, "name")),
                                   SLICE_FMT(view_text(item, "datatype")), SLICE_FMT(shape))));
    }
}

/* Why there are so many, at each PoP. */
static void scale_print(struct cli *cli, yyjson_val *list)
{
    size_t index, count;
    yyjson_val *item;
    bool several = yyjson_arr_size(list) > 1;
    yyjson_arr_foreach(list, index, count, item) line(
        cli, index == 0 ? "scale" : "",
        slice_of(several ? arena_format(cli->arena, "%.*s: %.*s", SLICE_FMT(view_text(item, "pop")),
                                        SLICE_FMT(view_text(item, "text")))
                         : arena_format(cli->arena, "%.*s", SLICE_FMT(view_text(item, "text")))));
}

/* Where some are kept, also where it does not run any more. */
static void volumes_print(struct cli *cli, yyjson_val *list)
{
    size_t index, count;
    yyjson_val *item;
    yyjson_arr_foreach(list, index, count, item)
    {
        char bytes[UNITS_BYTES];
        line(cli, index == 0 ? "volumes" : "",
             slice_of(arena_format(cli->arena, "%.*s: %s", SLICE_FMT(view_text(item, "pop")),
                                   units_print_bytes(bytes, view_number(item, "bytes")))));
    }
}

/* What its replicas wrote and `perigee logs` does not have. */
static void kept_print(struct cli *cli, yyjson_val *list)
{
    size_t index, count;
    yyjson_val *item;
    yyjson_arr_foreach(list, index, count, item)
    {
        uint64_t lines = view_number(item, "lines");
        line(cli, index == 0 ? "logs" : "",
             slice_of(arena_format(cli->arena, "%.*s: %" PRIu64 " line%s kept there by residency",
                                   SLICE_FMT(view_text(item, "pop")), lines,
                                   lines == 1 ? "" : "s")));
    }
}

static bool several_pops(yyjson_val *replicas)
{
    size_t index, count;
    yyjson_val *item;
    struct slice first = view_text(yyjson_arr_get_first(replicas), "pop");
    yyjson_arr_foreach(replicas, index, count, item)
    {
        if (!slice_equal(view_text(item, "pop"), first))
            return true;
    }
    return false;
}

static void replicas_print(struct cli *cli, yyjson_val *replicas)
{
    static const char *const titles[] = { "REPLICA", "REVISION", "STATE", "PID", "SINCE", "POP" };
    size_t index, count;
    yyjson_val *item;
    if (yyjson_arr_size(replicas) == 0)
        return;
    putchar('\n');
    struct cli_table *table = cli_table_new(cli, titles, several_pops(replicas) ? 6 : 5);
    yyjson_arr_foreach(replicas, index, count, item)
    {
        cli_table_row(
            table,
            (struct slice[]){
                view_text(item, "name"),
                slice_of(arena_format(cli->arena, "%" PRIu64, view_number(item, "revision"))),
                view_text(item, "state"),
                view_number(item, "pid")
                    ? slice_of(arena_format(cli->arena, "%" PRIu64, view_number(item, "pid")))
                    : SLICE("-"),
                slice_of(cli_ago(cli, view_text(item, "since"))), view_text(item, "pop") });
    }
    cli_table_print(table, stdout);
    struct slice shown = {};
    yyjson_arr_foreach(replicas, index, count, item)
    {
        struct slice sandbox = view_text(item, "sandbox");
        if (sandbox.size && !slice_equal(sandbox, shown))
            line(cli, "sandbox", sandbox);
        if (sandbox.size)
            shown = sandbox;
    }
}

void view_schedule_print(struct cli *cli, yyjson_val *schedule)
{
    size_t index, count;
    yyjson_val *window;
    struct slice next = view_text(schedule, "text");
    putchar('\n');
    line(cli, "schedule",
         slice_of(arena_format(cli->arena, "at least %" PRIu64 " now%s%.*s",
                               view_number(schedule, "min"), next.size ? "; " : "",
                               SLICE_FMT(next))));
    yyjson_arr_foreach(json_member(schedule, "windows"), index, count, window)
        line(cli, "", view_text(window, "error"));
}

static void deaths_print(struct cli *cli, yyjson_val *deaths)
{
    enum { LINES = 8 };
    size_t index, count, at, lines;
    yyjson_val *item, *text;
    yyjson_arr_foreach(deaths, index, count, item)
    {
        struct slice replica = view_text(item, "replica"), reason = view_text(item, "reason");
        printf("\n%s", cli_color(cli, CLI_RED));
        cli_print_text(stdout, replica);
        printf("%s ", cli_color(cli, CLI_PLAIN));
        char *died = arena_format(cli->arena, "(revision %" PRIu64 ", %s ago): %.*s",
                                  view_number(item, "revision"),
                                  cli_ago(cli, view_text(item, "at")), SLICE_FMT(reason));
        cli_print_wrapped(cli, stdout, slice_of(died), replica.size + 1, LOG_INDENT);
        yyjson_arr_foreach(json_member(item, "log"), at, lines, text)
        {
            if (at + LINES < lines)
                continue;
            printf("%*s", (int)LOG_INDENT, "");
            cli_print_text(stdout, json_slice(text));
            putchar('\n');
        }
    }
}

static const char *revision_state(yyjson_val *view, uint64_t number)
{
    size_t index, count, ready = 0, backoff = 0;
    yyjson_val *replica;
    yyjson_arr_foreach(json_member(view, "replicas"), index, count, replica)
    {
        struct slice state = view_text(replica, "state");
        bool own = view_number(replica, "revision") == number;
        ready += own && slice_is(state, "ready");
        backoff += own && slice_is(state, "backoff");
    }
    return ready ? "ready" : backoff ? "backoff" : "starting";
}

/* "90% revision 1 (ready), 10% revision 2 (canary, backoff)"; empty: one has all. */
static struct slice shares_text(struct cli *cli, yyjson_val *view)
{
    yyjson_val *traffic = json_member(view, "traffic"), *share;
    struct traffic_share shares[TRAFFIC_SHARES_MAX];
    uint64_t canary = view_number(traffic, "canary");
    size_t index, count, used = 0;
    const char *text = "";
    yyjson_arr_foreach(json_member(traffic, "shares"), index, count, share)
    {
        if (used < TRAFFIC_SHARES_MAX)
            shares[used++] =
                (struct traffic_share){ .revision = (uint32_t)view_number(share, "revision"),
                                        .weight = (uint32_t)view_number(share, "weight") };
    }
    for (size_t i = 0; i < used; i++) {
        char part[UNITS_BYTES];
        text = arena_format(cli->arena, "%s%s%s revision %" PRIu32 " (%s%s)", text, i ? ", " : "",
                            units_print_share(part, traffic_ppm(shares, used, i)),
                            shares[i].revision, shares[i].revision == canary ? "canary, " : "",
                            revision_state(view, shares[i].revision));
    }
    return slice_of(text);
}

int view_print(struct cli *cli, yyjson_val *view)
{
    if (cli->json) {
        cli_print_json(cli, view);
        return 0;
    }
    struct slice state = view_text(view, "state");
    uint64_t serving = view_number(view, "serving"), target = view_number(view, "target");
    printf("%s", cli_color(cli, CLI_BOLD));
    cli_print_text(stdout, view_text(view, "name"));
    printf("%s  %s", cli_color(cli, CLI_PLAIN), state_color(cli, state));
    cli_print_text(stdout, state);
    printf("%s  revision %" PRIu64, cli_color(cli, CLI_PLAIN), serving ? serving : target);
    yyjson_val *traffic = json_member(view, "traffic");
    if (serving && serving != target && !yyjson_is_obj(traffic))
        printf(" (%" PRIu64 " is to follow)", target);
    putchar('\n');
    line(cli, "message", view_text(view, "message"));
    line(cli, "traffic", shares_text(cli, view));
    line(cli, "url", strings_joined(cli, json_member(view, "urls")));
    line(cli, "hosts", strings_joined(cli, json_member(view, "hosts")));
    yyjson_val *spec = json_member(view, "spec");
    static const char *const what[] = { "model", "image", "upstream" };
    for (size_t i = 0; i < sizeof what / sizeof *what; i++)
        line(cli, what[i], view_text(spec, what[i])); /* one of them is there */
    line(cli, "source", view_text(view, "source"));
    scale_print(cli, json_member(view, "scale"));
    volumes_print(cli, json_member(view, "volumes"));
    kept_print(cli, json_member(view, "lines_kept"));
    tensors_print(cli, "inputs", json_member(json_member(view, "model"), "inputs"));
    tensors_print(cli, "outputs", json_member(json_member(view, "model"), "outputs"));
    replicas_print(cli, json_member(view, "replicas"));
    deaths_print(cli, json_member(view, "deaths"));
    return 0;
}

/* Which serves; with the one that is to follow, as while an update starts or has failed. */
static struct slice revisions_text(struct cli *cli, yyjson_val *view)
{
    uint64_t serving = view_number(view, "serving"), target = view_number(view, "target");
    uint64_t canary = view_number(json_member(view, "traffic"), "canary");
    if (canary)
        return slice_of(arena_format(cli->arena, "%" PRIu64 ", canary %" PRIu64,
                                     serving == canary ? target : serving, canary));
    return slice_of(serving && serving != target
                        ? arena_format(cli->arena, "%" PRIu64 ", next %" PRIu64, serving, target)
                        : arena_format(cli->arena, "%" PRIu64, target));
}

void view_list_print(struct cli *cli, yyjson_val *items)
{
    static const char *const titles[] = { "NAME",     "STATE",   "REVISION",
                                          "REPLICAS", "UPDATED", "MESSAGE" };
    struct cli_table *table = cli_table_new(cli, titles, 6);
    size_t index, count, at, replicas;
    yyjson_val *item, *replica;
    yyjson_arr_foreach(items, index, count, item)
    {
        size_t ready = 0;
        yyjson_arr_foreach(json_member(item, "replicas"), at, replicas, replica) ready +=
            slice_is(view_text(replica, "state"), "ready");
        cli_table_row(
            table, (struct slice[]){
                       view_text(item, "name"), view_text(item, "state"), revisions_text(cli, item),
                       slice_of(arena_format(cli->arena, "%zu/%zu", ready,
                                             yyjson_arr_size(json_member(item, "replicas")))),
                       slice_of(cli_ago(cli, view_text(item, "updated_at"))),
                       view_text(item, "message") });
    }
    cli_table_print(table, stdout);
}
