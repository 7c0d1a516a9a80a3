/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage: what was used and what it cost, as control has counted it; admin prices: what it costs.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/yaml.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/view.h"
#include "spec/units.h"

enum { BAR_COLUMNS = 10, FILE_BYTES_MAX = 1 << 20 };
#define NS_S INT64_C(1'000'000'000)

/* ---- what is asked --------------------------------------------------------------------------- */

/* A time, a day, or so long ago. */
static int time_text(struct cli *cli, const char *option, const char *text, const char **ret,
                     struct err *err)
{
    int64_t at_ns;
    uint64_t ago_ns;
    struct tm utc;
    char buffer[40];
    if (!units_parse_instant(slice_of(text), &at_ns)) {
        if (units_parse_time(slice_of(text), &ago_ns, err) < 0 || ago_ns > INT64_MAX / 2)
            return cli_usage(cli, err_set(err, ERR_BAD_INPUT,
                                          "%s: '%s' is no time: 24h (ago), 2026-11-29, or "
                                          "2026-11-29T08:00:00Z",
                                          option, ERR_TEXT(text)));
        at_ns = (int64_t)time(NULL) * NS_S - (int64_t)ago_ns;
    }
    time_t seconds = (time_t)(at_ns < 0 ? 0 : at_ns / NS_S);
    gmtime_r(&seconds, &utc);
    strftime(buffer, sizeof buffer, "%Y-%m-%dT%H:%M:%SZ", &utc);
    *ret = arena_string(cli->arena, slice_of(buffer));
    return 0;
}

static int path_of(struct cli *cli, const char **ret, struct err *err)
{
    const char *path = arena_format(cli->arena, "/api/v1/usage?format=%s",
                                    cli_option_value(cli, "--csv") ? "csv" : "json");
    static const struct {
        const char *option, *parameter;
    } times[] = { { "--since", "from" }, { "--until", "to" } };
    for (size_t i = 0; i < 2; i++) {
        const char *given = cli_option_value(cli, times[i].option), *text = "";
        if (!given)
            continue;
        int r = time_text(cli, times[i].option, given, &text, err);
        if (r < 0)
            return r;
        path = arena_format(cli->arena, "%s&%s=%s", path, times[i].parameter,
                            control_escape(cli, text));
    }
    const char *by = cli_option_value(cli, "--by"), *pop = cli_option_value(cli, "--pop");
    if (by)
        path = arena_format(cli->arena, "%s&by=%s", path, control_escape(cli, by));
    if (pop)
        path = arena_format(cli->arena, "%s&pop=%s", path, control_escape(cli, pop));
    if (cli->argument_count)
        path = arena_format(cli->arena, "%s&endpoint=%s", path,
                            control_escape(cli, cli->arguments[0]));
    if (cli->project_given || cli->argument_count)
        path = arena_format(cli->arena, "%s&project=%s", path, control_escape(cli, cli->project));
    *ret = path;
    return 0;
}

/* ---- the table ------------------------------------------------------------------------------- */

/* In three digits and a letter: 999, 1.2k, 35M. */
static struct slice count_text(struct cli *cli, uint64_t count)
{
    static const char letters[] = "kMGTPE";
    double value = (double)count;
    unsigned at = 0;
    if (count < 10'000)
        return slice_of(arena_format(cli->arena, "%" PRIu64, count));
    for (value /= 1000; value >= 999.5 && at < 5; at++)
        value /= 1000;
    return slice_of(
        arena_format(cli->arena, value < 9.95 ? "%.1f%c" : "%.0f%c", value, letters[at]));
}

static struct slice seconds_text(struct cli *cli, double seconds)
{
    if (seconds >= 9999.5)
        return count_text(cli, (uint64_t)(seconds + 0.5));
    return slice_of(arena_format(cli->arena,
                                 seconds < 9.995   ? "%.2f"
                                 : seconds < 99.95 ? "%.1f"
                                                   : "%.0f",
                                 seconds));
}

static struct slice us_text(struct cli *cli, yyjson_val *row, const char *key)
{
    return seconds_text(cli, (double)view_number(row, key) / 1e6);
}

static struct slice name_text(struct cli *cli, yyjson_val *row)
{
    struct slice at = view_text(row, "at"), project = view_text(row, "project");
    struct slice endpoint = view_text(row, "endpoint"), pop = view_text(row, "pop");
    const char *text = "";
    if (at.size > 16) /* 2026-11-29T08:00 */
        text = arena_format(cli->arena, "%.10s %.5s", at.data, at.data + 11);
    if (project.size && (!endpoint.size || !slice_is(project, "default")))
        text = arena_format(cli->arena, "%s%s%.*s%s", text, *text ? " " : "", SLICE_FMT(project),
                            endpoint.size ? "/" : "");
    if (endpoint.size)
        text = arena_format(cli->arena, "%s%s%.*s", text,
                            *text && text[strlen(text) - 1] != '/' ? " " : "", SLICE_FMT(endpoint));
    if (view_number(row, "revision"))
        text = arena_format(cli->arena, "%s:%" PRIu64, text, view_number(row, "revision"));
    if (pop.size)
        text = arena_format(cli->arena, "%s%s%.*s", text, *text ? " @" : "@", SLICE_FMT(pop));
    return *text ? slice_of(text) : SLICE("all");
}

/* What the bar is of: the cost, or the CPU time where there are no prices. */
static double weight_of(yyjson_val *row)
{
    struct slice cost = view_text(json_member(row, "cost"), "total");
    double value = 0;
    if (cost.size && sscanf(cost.data, "%lf", &value) == 1)
        return value;
    return (double)view_number(row, "cpu_us");
}

static struct slice bar_text(struct cli *cli, yyjson_val *row, double most)
{
    int columns = most > 0 ? (int)(weight_of(row) / most * BAR_COLUMNS + 0.5) : 0;
    return slice_of(arena_format(cli->arena, "%.*s", columns, "##########"));
}

static void print_table(struct cli *cli, yyjson_val *root)
{
    static const char *const titles[] = { "WHAT",  "REQUESTS", "BUSY", "IDLE",
                                          "GIB-S", "COLD",     "COST", "" };
    yyjson_val *items = json_member(root, "items"), *row;
    struct cli_table *table = cli_table_new(cli, titles, 8);
    size_t index, count;
    double most = 0;
    yyjson_arr_foreach(items, index, count, row) most =
        weight_of(row) > most ? weight_of(row) : most;
    for (index = 0; index <= yyjson_arr_size(items); index++) {
        bool total = index == yyjson_arr_size(items);
        row = total ? json_member(root, "total") : yyjson_arr_get(items, index);
        struct slice cost = view_text(json_member(row, "cost"), "total");
        double idle_s = (double)(view_number(row, "idle_us") + view_number(row, "start_us")) / 1e6;
        if (total && index == 1)
            break; /* it is the same again */
        cli_table_row(table,
                      (struct slice[]){
                          total ? SLICE("total") : name_text(cli, row),
                          count_text(cli, view_number(row, "requests")),
                          us_text(cli, row, "busy_us"),
                          seconds_text(cli, idle_s),
                          seconds_text(cli, (double)view_number(row, "memory_kibs") / 1048576),
                          count_text(cli, view_number(row, "cold_starts")),
                          cost.size ? cost : SLICE("-"),
                          total ? SLICE("") : bar_text(cli, row, most),
                      });
    }
    cli_table_print(table, stdout);
}

static void print_saved(struct cli *cli, yyjson_val *root)
{
    yyjson_val *row;
    size_t index, count;
    struct slice currency = view_text(root, "currency");
    yyjson_arr_foreach(json_member(root, "items"), index, count, row)
    {
        yyjson_val *always = json_member(row, "always_on");
        if (!yyjson_is_obj(always))
            continue;
        uint64_t replicas = view_number(always, "replicas");
        struct slice saved = view_text(always, "saved");
        bool lost = slice_starts(saved, SLICE("-"));
        saved = (struct slice){ saved.data + lost, saved.size - lost };
        const char *line = arena_format(
            cli->arena, "%.*s: with %" PRIu64 " replica%s all the time %.*s %.*s; %.*s %s.",
            SLICE_FMT(view_text(row, "endpoint")), replicas, replicas == 1 ? "" : "s",
            SLICE_FMT(view_text(always, "cost")), SLICE_FMT(currency), SLICE_FMT(saved),
            lost ? "more was spent" : "saved");
        cli_print_wrapped(cli, stdout, slice_of(line), 0, 2);
    }
}

static bool on_csv(struct slice bytes, void *data)
{
    (void)data;
    return fwrite(bytes.data, 1, bytes.size, stdout) == bytes.size;
}

static void print_usage(struct cli *cli, yyjson_val *usage)
{
    struct slice from = view_text(usage, "from"), to = view_text(usage, "to");
    struct slice currency = view_text(usage, "currency");
    printf("From %.16s to %.16s UTC. CPU in seconds%s%.*s.\n\n", from.size > 16 ? from.data : "",
           to.size > 16 ? to.data : "", currency.size ? ", cost in " : "; no prices are set",
           SLICE_FMT(currency));
    if (yyjson_arr_size(json_member(usage, "items")) == 0) {
        printf("Nothing was used.\n");
        return;
    }
    print_table(cli, usage);
    print_saved(cli, usage);
}

int cmd_usage(struct cli *cli, struct err *err)
{
    struct control_answer answer;
    const char *path;
    bool csv = cli_option_value(cli, "--csv");
    if (csv && cli->json)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT, "--csv or --json, not both"));
    int r = path_of(cli, &path, err);
    if (r < 0)
        return r;
    if (csv)
        return control_call(cli, &CONTROL_REQUEST(.method = "GET", .path = path, .on_body = on_csv),
                            &answer, err);
    return control_show(cli, &CONTROL_REQUEST(.method = "GET", .path = path), print_usage, err);
}

/* ---- admin prices ---------------------------------------------------------------------------- */

static void print_prices(struct cli *cli, yyjson_val *answer)
{
    static const char *const titles[] = { "FROM", "POP", "CPU-SECOND", "GIB-SECOND", "REQUEST" };
    yyjson_val *prices = json_member(answer, "prices"), *row;
    size_t index, count;
    if (yyjson_arr_size(prices) == 0) {
        printf("No prices are set: what PoPs cost (pops create --price-cpu) counts.\n");
        return;
    }
    struct cli_table *table = cli_table_new(cli, titles, 5);
    yyjson_arr_foreach(prices, index, count, row)
    {
        struct slice pop = view_text(row, "pop"),
                     cells[3] = { view_text(row, "cpu_second"), view_text(row, "gib_second"),
                                  view_text(row, "request") };
        for (int i = 0; i < 3; i++)
            cells[i] = cells[i].size ? cells[i] : SLICE("-");
        cli_table_row(table,
                      (struct slice[]){ view_text(row, "from"), pop.size ? pop : SLICE("any"),
                                        cells[0], cells[1], cells[2] });
    }
    cli_table_print(table, stdout);
}

static int prices_read(struct cli *cli, const char *path, struct slice *ret, struct err *err)
{
    struct slice text;
    struct yaml_documents documents;
    struct json_writer w;
    int r = cli_read(cli, path, FILE_BYTES_MAX, &text, err);
    if (r == 0) /* JSON is YAML */
        r = yaml_parse(cli->arena, text, NULL, &documents, err);
    if (r == 0 && documents.count != 1)
        r = err_set(err, ERR_BAD_INPUT, "one document is wanted, there are %zu", documents.count);
    if (r < 0)
        return err_wrap(err, "%s", ERR_TEXT(path));
    json_begin(&w, cli->arena, 0);
    json_value(&w, documents.items[0].root);
    *ret = json_end(&w);
    return 0;
}

int cmd_admin(struct cli *cli, struct err *err)
{
    const char *file = cli_option_value(cli, "--file");
    bool set = cli->argument_count == 2;
    struct slice body = {};
    int r = 0;
    if (strcmp(cli->arguments[0], "prices") != 0)
        return cli_usage(cli, err_set(err, ERR_NOT_SUPPORTED, "admin %s: not yet; there is prices",
                                      ERR_TEXT(cli->arguments[0])));
    if (set && strcmp(cli->arguments[1], "set") != 0)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT, "prices '%s': there is set, or nothing",
                                      ERR_TEXT(cli->arguments[1])));
    if (set != (file != NULL))
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT, "write admin prices set --file FILE"));
    if (set)
        r = prices_read(cli, file, &body, err);
    if (r == 0)
        r = control_show(
            cli,
            &CONTROL_REQUEST(.method = set ? "PUT" : "GET", .path = "/api/v1/prices", .body = body),
            print_prices, err);
    return r;
}
