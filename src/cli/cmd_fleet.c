/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fleet: the network in a box of this home (`perigee up --fleet`): how it is, and its faults.
 */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "http/fetch.h"
#include "spec/units.h"

#define FLEET_PATH "/api/v1/fleet"

/* ---- asking --------------------------------------------------------------------------------- */

static int problem(struct cli *cli, const struct fetch_answer *answer, struct err *err)
{
    yyjson_val *root;
    struct slice detail;
    if (json_parse(cli->arena, answer->body, NULL, &root, NULL) == 0 &&
        json_get_string(root, "detail", JSON_REQUIRED, &detail, NULL) == 1)
        return err_set_http(err, answer->status, "%.*s", SLICE_FMT(detail));
    return err_set(err, ERR_INTERNAL, "the fleet answered %d", answer->status);
}

static int ask(struct cli *cli, const char *method, const char *order, struct slice body,
               yyjson_val **ret, struct err *err)
{
    struct fetch_answer answer;
    struct fetch_request request = {
        .method = method,
        .url = arena_format(cli->arena, "http://localhost" FLEET_PATH "%s%s", *order ? "/" : "",
                            order),
        .unix_path = arena_format(cli->arena, "%s/run/fleet.sock", cli->home),
        .body = body,
        .body_fd = -1,
        .timeout_ms = 30'000,
    };
    int r = fetch(cli->arena, &request, &answer, err);
    if (r < 0)
        return err_wrap(err,
                        "no fleet runs with the home %s; start one with: perigee up --fleet "
                        "FILE",
                        cli->home);
    if (answer.status >= 400)
        return problem(cli, &answer, err);
    return json_parse(cli->arena, answer.body, NULL, ret, err);
}

/* ---- how it is ------------------------------------------------------------------------------ */

static struct slice text_of(yyjson_val *row, const char *key)
{
    return json_slice(json_member(row, key));
}

static uint64_t number_of(yyjson_val *row, const char *key)
{
    return yyjson_get_uint(json_member(row, key));
}

static struct slice time_text(struct cli *cli, uint64_t us)
{
    return slice_of(arena_format(cli->arena, "%.1f ms", (double)us / 1000));
}

static void print_pops(struct cli *cli, yyjson_val *places)
{
    static const char *const titles[] = { "POP", "COUNTRY", "STATE", "GATEWAY" };
    struct cli_table *table = cli_table_new(cli, titles, 4);
    yyjson_val *row;
    size_t index, count;
    yyjson_arr_foreach(places, index, count, row)
    {
        if (yyjson_is_true(json_member(row, "pop")))
            cli_table_row(table,
                          (struct slice[]){ text_of(row, "name"), text_of(row, "country"),
                                            text_of(row, "state"), text_of(row, "address") });
    }
    cli_table_print(table, stdout);
}

static const char *fault_of(struct cli *cli, yyjson_val *row)
{
    uint64_t slowed = number_of(row, "slowed_us");
    if (yyjson_is_true(json_member(row, "cut")))
        return "cut";
    if (slowed)
        return arena_format(cli->arena, "slowed by %.*s", SLICE_FMT(time_text(cli, slowed)));
    return "";
}

/* Each link has two rows, one for each end that may be a PoP; only those with something to say. */
static void print_links(struct cli *cli, yyjson_val *links)
{
    static const char *const titles[] = { "FROM", "TO", "RTT", "CONNECTIONS", "BYTES", "FAULT" };
    struct cli_table *table = cli_table_new(cli, titles, 6);
    yyjson_val *row;
    size_t index, count, shown = 0;
    yyjson_arr_foreach(links, index, count, row)
    {
        const char *fault = fault_of(cli, row);
        char bytes[UNITS_BYTES];
        if (!*fault && number_of(row, "bytes") == 0 && number_of(row, "connections") == 0)
            continue;
        shown++;
        cli_table_row(
            table,
            (struct slice[]){
                text_of(row, "from"), text_of(row, "to"), time_text(cli, number_of(row, "rtt_us")),
                slice_of(arena_format(cli->arena, "%ju", (uintmax_t)number_of(row, "connections"))),
                slice_of(arena_string(cli->arena,
                                      slice_of(units_print_bytes(bytes, number_of(row, "bytes"))))),
                slice_of(fault) });
    }
    printf("\n");
    if (shown)
        cli_table_print(table, stdout);
    else
        printf("No link has been used, and none is cut or slowed.\n");
}

static int fleet_status(struct cli *cli, struct err *err)
{
    yyjson_val *root;
    int r = ask(cli, "GET", "", (struct slice){}, &root, err);
    if (r < 0)
        return r;
    if (cli->json) {
        cli_print_json(cli, root);
        return 0;
    }
    print_pops(cli, json_member(root, "places"));
    print_links(cli, json_member(root, "links"));
    return 0;
}

/* ---- faults --------------------------------------------------------------------------------- */

static const struct order {
    const char *name, *arguments;
    size_t places_min, places_max;
    bool time; /* behind the places */
    const char *done;
} orders[] = {
    { "cut", "PLACE [PLACE]", 1, 2, false, "is cut" },
    { "heal", "[PLACE [PLACE]]", 0, 2, false, "is healed" },
    { "slow", "PLACE [PLACE] TIME", 1, 2, true, "is slowed" },
    { "kill", "POP", 1, 1, false, "is killed, until it is healed" },
};

static int order_run(struct cli *cli, const struct order *order, struct err *err)
{
    size_t places = cli->argument_count - 1;
    struct json_writer w;
    yyjson_val *root;
    if (order->time && places > 0)
        places--;
    if (places < order->places_min || places > order->places_max)
        return cli_usage(
            cli, err_set(err, ERR_BAD_INPUT, "perigee fleet %s %s", order->name, order->arguments));
    json_begin(&w, cli->arena, 0);
    json_object_begin(&w);
    if (places > 0)
        json_member_text(&w, "place", cli->arguments[1]);
    if (places > 1)
        json_member_text(&w, "other", cli->arguments[2]);
    if (order->time)
        json_member_text(&w, "rtt", cli->arguments[places + 1]);
    json_object_end(&w);
    int r = ask(cli, "POST", order->name, json_end(&w), &root, err);
    if (r < 0)
        return r;
    if (cli->json) {
        cli_print_json(cli, root);
        return 0;
    }
    cli_print_text(stdout, slice_of(places ? cli->arguments[1] : "everything"));
    if (places > 1) {
        printf(" to ");
        cli_print_text(stdout, slice_of(cli->arguments[2]));
    }
    printf(" %s\n", order->done);
    return 0;
}

int cmd_fleet(struct cli *cli, struct err *err)
{
    const char *what = cli->argument_count ? cli->arguments[0] : "status";
    if (strcmp(what, "status") == 0 && cli->argument_count <= 1)
        return fleet_status(cli, err);
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++)
        if (strcmp(what, orders[i].name) == 0)
            return order_run(cli, &orders[i], err);
    return cli_usage(cli, err_set(err, ERR_BAD_INPUT,
                                  "perigee fleet status, cut, heal, slow or kill, not '%s'",
                                  ERR_TEXT(what)));
}
