/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pops: create, list, show, drain, delete points of presence; a new token to join with.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/view.h"
#include "spec/pop.h"
#include "sys/fd.h"

enum { NS_A_SECOND = 1'000'000'000 };

static const char *pop_path(struct cli *cli, const char *rest)
{
    return arena_format(cli->arena, "/api/v1/pops/%s%s", control_escape(cli, cli->arguments[1]),
                        rest);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

/* Never over a file that is there: it may be another's. */
static int token_write(const char *path, struct slice token, struct err *err)
{
    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(err, errno == EEXIST ? ERR_CONFLICT : ERR_INTERNAL, "--token-file '%s': %s",
                       ERR_TEXT(path), strerror(errno));
    if (write(fd, token.data, token.size) != (ssize_t)token.size || write(fd, "\n", 1) != 1)
        return err_set(err, ERR_INTERNAL, "writing '%s': %s", ERR_TEXT(path), strerror(errno));
    return 0;
}

static bool is_dns(yyjson_val *pop)
{
    return slice_is(view_text(json_member(pop, "spec"), "kind"), pop_kind_word(POP_KIND_DNS));
}

static int token_show(struct cli *cli, const struct control_answer *answer, struct err *err)
{
    const char *file = cli_option_value(cli, "--token-file");
    struct slice token = view_text(answer->json, "token");
    if (file) {
        int r = token_write(file, token, err);
        if (r < 0)
            return r;
    }
    if (cli->json) {
        cli_print_json(cli, answer->json);
        return 0;
    }
    yyjson_val *pop = json_member(answer->json, "pop");
    const char *command = is_dns(pop) ? "dns" : "pop";
    printf("%s '%s' waits for it to join, until ", is_dns(pop) ? "DNS server" : "PoP",
           cli->arguments[1]);
    cli_print_text(stdout, view_text(answer->json, "token_expires_at"));
    if (file) {
        printf(". Its token is in %s:\n\n  perigee %s --join URL --token-file %s\n", file, command,
               file);
        return 0;
    }
    printf(". Its token, shown this once:\n\n  ");
    cli_print_text(stdout, token);
    printf("\n\nOn the machine that is to be it, where URL is this control's:\n\n"
           "  perigee %s --join URL --token-file -     and the token on standard input\n",
           command);
    return 0;
}

static int ttl_query(struct cli *cli, const char **ret, struct err *err)
{
    const char *text = cli_option_value(cli, "--ttl");
    uint64_t ns;
    *ret = "";
    if (!text)
        return 0;
    if (units_parse_time(slice_of(text), &ns, err) < 0)
        return cli_usage(cli, err_wrap(err, "--ttl"));
    *ret = arena_format(cli->arena, "?ttl=%" PRIu64, ns / NS_A_SECOND);
    return 0;
}

/* ---- create ---------------------------------------------------------------------------------- */

static int write_at(struct cli *cli, struct json_writer *w, struct err *err)
{
    const char *text = cli_option_value(cli, "--at");
    char *end;
    if (!text)
        return 0;
    errno = 0;
    double latitude = strtod(text, &end), longitude = 0;
    bool good = end != text && *end == ',';
    if (good) {
        const char *second = end + 1;
        longitude = strtod(second, &end);
        good = end != second && *end == '\0';
    }
    if (!good)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT,
                                      "--at wants LATITUDE,LONGITUDE in degrees, such as "
                                      "50.11,8.68, not '%s'",
                                      ERR_TEXT(text)));
    json_member_double(w, "latitude", latitude);
    json_member_double(w, "longitude", longitude);
    return 0;
}

static void write_option(struct cli *cli, struct json_writer *w, const char *option,
                         const char *key)
{
    const char *text = cli_option_value(cli, option);
    if (text)
        json_member_text(w, key, text);
}

static void write_many(struct cli *cli, struct json_writer *w, const char *option, const char *key)
{
    if (!cli_option_value(cli, option))
        return;
    json_key(w, key);
    json_array_begin(w);
    for (size_t i = 0; cli_option_nth(cli, option, i); i++)
        json_text(w, cli_option_nth(cli, option, i));
    json_array_end(w);
}

static int write_port(struct cli *cli, struct json_writer *w, struct err *err)
{
    uint64_t port;
    if (!cli_option_value(cli, "--port"))
        return 0;
    if (!cli_option_u64(cli, "--port", &port, err))
        return cli_usage(cli, ERR_BAD_INPUT);
    json_member_u64(w, "port", port);
    return 0;
}

static int write_limits(struct cli *cli, struct json_writer *w, struct err *err)
{
    uint64_t replicas = 0;
    bool many = cli_option_value(cli, "--replicas") != NULL;
    if (many && !cli_option_u64(cli, "--replicas", &replicas, err))
        return cli_usage(cli, ERR_BAD_INPUT);
    json_key(w, "limits");
    json_object_begin(w);
    write_option(cli, w, "--cpu", "cpu");
    write_option(cli, w, "--memory", "memory");
    if (many)
        json_member_u64(w, "replicas", replicas);
    json_object_end(w);
    json_key(w, "prices");
    json_object_begin(w);
    write_option(cli, w, "--price-cpu", "cpu_hour");
    write_option(cli, w, "--price-memory", "gib_hour");
    json_object_end(w);
    return 0;
}

static int pops_create(struct cli *cli, struct err *err)
{
    struct control_answer answer = {};
    struct json_writer w;
    const char *query;
    int r = ttl_query(cli, &query, err);
    json_begin(&w, cli->arena, 0);
    json_object_begin(&w);
    json_member_text(&w, "name", cli->arguments[1]);
    if (cli_option_value(cli, "--dns"))
        json_member_text(&w, "kind", pop_kind_word(POP_KIND_DNS));
    write_option(cli, &w, "--country", "country");
    write_option(cli, &w, "--city", "city");
    write_option(cli, &w, "--region", "region");
    write_many(cli, &w, "--address", "addresses");
    if (r == 0)
        r = write_port(cli, &w, err);
    write_many(cli, &w, "--flavor", "flavors");
    if (r == 0)
        r = write_at(cli, &w, err);
    if (r == 0)
        r = write_limits(cli, &w, err);
    if (r < 0)
        return r;
    json_object_end(&w);
    r = control_call(cli,
                     &CONTROL_REQUEST(.method = "POST",
                                      .path = arena_format(cli->arena, "/api/v1/pops%s", query),
                                      .body = json_end(&w)),
                     &answer, err);
    return r < 0 ? r : token_show(cli, &answer, err);
}

static int pops_token(struct cli *cli, struct err *err)
{
    struct control_answer answer = {};
    const char *query;
    int r = ttl_query(cli, &query, err);
    if (r == 0)
        r = control_call(
            cli,
            &CONTROL_REQUEST(.method = "POST",
                             .path = pop_path(cli, arena_format(cli->arena, "/token%s", query)),
                             .body = SLICE("{}")),
            &answer, err);
    return r < 0 ? r : token_show(cli, &answer, err);
}

/* ---- list, show ------------------------------------------------------------------------------ */

static struct slice spec_text(yyjson_val *pop, const char *key)
{
    return view_text(json_member(pop, "spec"), key);
}

static struct slice number_text(struct cli *cli, yyjson_val *object, const char *key)
{
    return slice_of(
        arena_format(cli->arena, "%" PRIu64, yyjson_get_uint(json_member(object, key))));
}

static struct slice ready_text(struct cli *cli, yyjson_val *pop)
{
    if (is_dns(pop))
        return SLICE("(dns)");
    return slice_of(arena_format(cli->arena, "%.*s/%.*s",
                                 SLICE_FMT(number_text(cli, pop, "replicas_ready")),
                                 SLICE_FMT(number_text(cli, pop, "replicas_placed"))));
}

static void print_list(struct cli *cli, yyjson_val *list)
{
    static const char *const titles[] = { "POP",    "STATE", "COUNTRY", "CITY",
                                          "REGION", "READY", "REPORTED" };
    size_t index, count;
    yyjson_val *item;
    struct cli_table *table = cli_table_new(cli, titles, 7);
    yyjson_arr_foreach(json_member(list, "items"), index, count, item)
    {
        struct slice at = view_text(item, "reported_at");
        cli_table_row(table, (struct slice[]){
                                 view_text(item, "name"),
                                 view_text(item, "state"),
                                 spec_text(item, "country"),
                                 spec_text(item, "city"),
                                 spec_text(item, "region"),
                                 ready_text(cli, item),
                                 at.size ? slice_of(cli_ago(cli, at)) : SLICE("never"),
                             });
    }
    cli_table_print(table, stdout);
}

static int pops_list(struct cli *cli, struct err *err)
{
    return control_show(cli, &CONTROL_REQUEST(.method = "GET", .path = "/api/v1/pops"), print_list,
                        err);
}

static void print_line(const char *title, struct slice text)
{
    if (text.size == 0)
        return;
    printf("%-10s ", title);
    cli_print_text(stdout, text);
    printf("\n");
}

/* "peers      tokyo  up, 166.9 ms": as it says it reaches them. */
static void print_peers(yyjson_val *pop)
{
    yyjson_val *item, *list = json_member(pop, "peers");
    size_t index, count, width = 0;
    yyjson_arr_foreach(list, index, count, item)
    {
        struct slice name = view_text(item, "pop");
        width = name.size > width ? name.size : width;
    }
    yyjson_arr_foreach(list, index, count, item)
    {
        struct slice name = view_text(item, "pop"), health = view_text(item, "health");
        yyjson_val *rtt = json_member(item, "rtt_ms");
        printf("%-10s ", index ? "" : "peers");
        cli_print_text(stdout, name);
        printf("%*s  ", (int)(width - name.size), "");
        cli_print_text(stdout, health);
        if (yyjson_is_num(rtt))
            printf(", %.1f ms", yyjson_get_num(rtt));
        printf("\n");
    }
}

static void print_pop(struct cli *cli, yyjson_val *pop)
{
    yyjson_val *spec = json_member(pop, "spec"), *limits = json_member(spec, "limits");
    yyjson_val *prices = json_member(spec, "prices"), *north = json_member(spec, "latitude");
    struct slice at = view_text(pop, "reported_at");
    print_line(is_dns(pop) ? "dns" : "pop", view_text(pop, "name"));
    print_line("state", view_text(pop, "state"));
    print_line("country", view_text(spec, "country"));
    print_line("city", view_text(spec, "city"));
    if (north)
        printf("%-10s %.4f, %.4f\n", "at", yyjson_get_num(north),
               yyjson_get_num(json_member(spec, "longitude")));
    print_line("region", view_text(spec, "region"));
    size_t index, count;
    yyjson_val *item;
    yyjson_arr_foreach(json_member(spec, "addresses"), index, count, item)
        print_line(index ? "" : "addresses", json_slice(item));
    yyjson_arr_foreach(json_member(spec, "flavors"), index, count, item)
        print_line(index ? "" : "flavors", json_slice(item));
    print_line("cpu", view_text(limits, "cpu"));
    print_line("memory", view_text(limits, "memory"));
    print_line("cpu/h", view_text(prices, "cpu_hour"));
    print_line("GiB/h", view_text(prices, "gib_hour"));
    if (is_dns(pop))
        printf("%-10s none: it answers DNS", "replicas");
    else
        printf("%-10s %.*s ready, %.*s placed here", "replicas",
               SLICE_FMT(number_text(cli, pop, "replicas_ready")),
               SLICE_FMT(number_text(cli, pop, "replicas_placed")));
    if (json_member(limits, "replicas"))
        printf(", at most %.*s", SLICE_FMT(number_text(cli, limits, "replicas")));
    if (yyjson_is_true(json_member(pop, "sets_differ")))
        printf("\n%-10s not those of control: residency is decided otherwise here (--sets)",
               "sets");
    printf("\n%-10s %s\n", "reported", at.size ? cli_ago(cli, at) : "never");
    print_peers(pop);
}

static int pops_show(struct cli *cli, struct err *err)
{
    return control_show(cli, &CONTROL_REQUEST(.method = "GET", .path = pop_path(cli, "")),
                        print_pop, err);
}

/* ---- drain, delete --------------------------------------------------------------------------- */

static int pops_drain(struct cli *cli, struct err *err)
{
    bool undo = cli_option_value(cli, "--undo") != NULL;
    struct control_answer answer = {};
    int r =
        control_call(cli,
                     undo ? &CONTROL_REQUEST(.method = "DELETE", .path = pop_path(cli, "/drain"))
                          : &CONTROL_REQUEST(.method = "POST", .path = pop_path(cli, "/drain"),
                                             .body = SLICE("{}")),
                     &answer, err);
    if (r < 0)
        return r;
    if (cli->json)
        cli_print_json(cli, json_member(answer.json, "pop"));
    else
        printf(undo ? "PoP '%s' may run replicas again.\n"
                    : "PoP '%s' is drained: other PoPs take over what it runs.\n",
               cli->arguments[1]);
    return 0;
}

static int pops_delete(struct cli *cli, struct err *err)
{
    struct control_answer answer;
    const char *question =
        arena_format(cli->arena, "Retire PoP '%s'? It runs nothing any more.", cli->arguments[1]);
    int r = control_delete(cli, question, pop_path(cli, ""), &answer, err);
    if (r < 0)
        return r;
    if (cli->json)
        cli_print_json(cli, json_member(answer.json, "pop"));
    else
        printf("PoP '%s' is retired.\n", cli->arguments[1]);
    return 0;
}

static int name_check(struct slice name, struct err *err)
{
    return spec_check_name(name, "PoP", err);
}

int cmd_pops(struct cli *cli, struct err *err)
{
    static const struct cli_action actions[] = {
        { "list", false, pops_list },  { "create", true, pops_create },
        { "show", true, pops_show },   { "drain", true, pops_drain },
        { "token", true, pops_token }, { "delete", true, pops_delete },
    };
    return cli_act(cli, actions, sizeof actions / sizeof *actions, "NAME", name_check, err);
}
