/* SPDX-License-Identifier: Apache-2.0 */
/* explain placement: which PoPs have an endpoint, who asks for it, and what is short. */
#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/view.h"

enum { CLIENTS_MAX = 10 };

static struct slice number(struct cli *cli, yyjson_val *row, const char *key, int decimals,
                           const char *unit)
{
    yyjson_val *value = json_member(row, key);
    return yyjson_is_num(value)
               ? slice_of(arena_format(cli->arena, "%.*f%s", decimals, yyjson_get_num(value), unit))
               : SLICE("-");
}

static void print_pops(struct cli *cli, yyjson_val *pops)
{
    static const char *const titles[] = { "POP", "STATE", "REPLICAS", "READY", "SERVES", "WHY" };
    struct cli_table *table = cli_table_new(cli, titles, 6);
    cli_table_wrap(table);
    size_t index, count;
    yyjson_val *row;
    yyjson_arr_foreach(pops, index, count, row)
    {
        bool chosen = yyjson_is_true(json_member(row, "chosen"));
        cli_table_row(table, (struct slice[]){
                                 view_text(row, "pop"),
                                 view_text(row, "state"),
                                 number(cli, row, "replicas", 0, ""),
                                 number(cli, row, "ready", 0, ""),
                                 chosen ? number(cli, row, "served_rate", 2, "/s") : SLICE("-"),
                                 view_text(row, "reason"),
                             });
    }
    cli_table_print(table, stdout);
}

static struct slice place_of(struct cli *cli, yyjson_val *row)
{
    yyjson_val *north = json_member(row, "latitude"), *east = json_member(row, "longitude");
    if (!yyjson_is_num(north) || !yyjson_is_num(east))
        return SLICE("near the PoP");
    return slice_of(
        arena_format(cli->arena, "%.0f %.0f", yyjson_get_num(north), yyjson_get_num(east)));
}

static void print_clients(struct cli *cli, yyjson_val *demand)
{
    static const char *const titles[] = { "FROM", "AT", "RATE", "SERVED AT", "RTT" };
    struct cli_table *table = cli_table_new(cli, titles, 5);
    size_t index, count;
    yyjson_val *row, *clients = json_member(demand, "clients");
    yyjson_arr_foreach(clients, index, count, row)
    {
        struct slice country = view_text(row, "country"), pop = view_text(row, "pop");
        if (index < CLIENTS_MAX)
            cli_table_row(table, (struct slice[]){
                                     country.size ? country : SLICE("not known"),
                                     place_of(cli, row),
                                     number(cli, row, "rate", 2, "/s"),
                                     pop.size ? pop : SLICE("nowhere"),
                                     number(cli, row, "rtt_ms", 1, " ms"),
                                 });
    }
    printf("\n");
    if (yyjson_arr_size(clients) == 0)
        printf("Nobody has asked lately.\n");
    else
        cli_table_print(table, stdout);
}

static void print_placement(struct cli *cli, yyjson_val *placement)
{
    size_t index, count;
    yyjson_val *row;
    print_pops(cli, json_member(placement, "pops"));
    print_clients(cli, json_member(placement, "demand"));
    yyjson_arr_foreach(json_member(placement, "short"), index, count, row)
    {
        printf("%sshort: ", index ? "" : "\n");
        cli_print_wrapped(cli, stdout, json_slice(row), sizeof "short: " - 1, 2);
    }
}

int explain_placement(struct cli *cli, const char *name, struct err *err)
{
    const char *path = control_endpoint_path(cli, name, "/placement");
    return control_show(cli, &CONTROL_REQUEST(.method = "GET", .path = path), print_placement, err);
}
