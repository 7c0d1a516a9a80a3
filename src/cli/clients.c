/* SPDX-License-Identifier: Apache-2.0 */
/* How far an endpoint's clients are, below what `show` says of it. */
#include <stdio.h>

#include "base/arena.h"
#include "cli/cli.h"
#include "cli/view.h"

enum { COUNTRIES_SHOWN = 10 };

static struct slice mean_text(struct cli *cli, yyjson_val *row)
{
    return slice_of(
        arena_format(cli->arena, "%.1f ms", yyjson_get_num(json_member(row, "rtt_mean_ms"))));
}

static struct slice near_text(struct cli *cli, yyjson_val *row)
{
    return slice_of(
        arena_format(cli->arena, "%.1f %%", yyjson_get_num(json_member(row, "under_50ms")) * 100));
}

static void table_print(struct cli *cli, const char *title, const char *key, yyjson_val *rows)
{
    const char *const titles[] = { title, "REQUESTS", "UNDER 50 ms", "MEAN" };
    struct cli_table *table = cli_table_new(cli, titles, 4);
    size_t index, count;
    yyjson_val *row;
    yyjson_arr_foreach(rows, index, count, row)
    {
        if (index < COUNTRIES_SHOWN)
            cli_table_row(table,
                          (struct slice[]){
                              view_text(row, key),
                              slice_of(arena_format(cli->arena, "%ju",
                                                    (uintmax_t)view_number(row, "requests"))),
                              near_text(cli, row),
                              mean_text(cli, row),
                          });
    }
    putchar('\n');
    cli_table_print(table, stdout);
    if (count > COUNTRIES_SHOWN)
        printf("and %zu more (--json)\n", count - COUNTRIES_SHOWN);
}

void view_clients_print(struct cli *cli, yyjson_val *clients)
{
    uint64_t requests = view_number(clients, "requests");
    if (!requests)
        return;
    printf("\nclients  %ju requests, %.*s of them from under 50 ms, mean %.*s\n",
           (uintmax_t)requests, SLICE_FMT(near_text(cli, clients)),
           SLICE_FMT(mean_text(cli, clients)));
    table_print(cli, "COUNTRY", "country", json_member(clients, "countries"));
    table_print(cli, "POP", "pop", json_member(clients, "pops"));
}
