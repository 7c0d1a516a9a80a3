/* SPDX-License-Identifier: Apache-2.0 */
/*
 * explain: why a client is sent where it is. Control has the figures; here they become a table.
 */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/view.h"

/* ---- the table ------------------------------------------------------------------------------- */

static struct slice figure(struct cli *cli, yyjson_val *row, const char *key)
{
    yyjson_val *value = json_member(row, key);
    if (!yyjson_is_num(value))
        return SLICE("-");
    double ms = yyjson_get_num(value);
    return slice_of(arena_format(cli->arena, ms < 1000 ? "%.1f" : "%.0f", ms));
}

/* In few letters: eight columns stand on eighty. */
static struct slice short_of(struct slice text)
{
    static const struct {
        const char *text, *word;
    } words[] = {
        { "residency does not permit it", "residency" },
        { "no replica is placed there", "not placed" },
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (slice_is(text, words[i].text))
            return slice_of(words[i].word);
    return text;
}

static struct slice outcome(struct cli *cli, yyjson_val *row)
{
    struct slice excluded = view_text(row, "excluded");
    double share = yyjson_get_num(json_member(row, "share")) * 100;
    if (excluded.size)
        return short_of(excluded);
    if (yyjson_is_true(json_member(row, "chosen")))
        return slice_of(share > 99.5 ? "chosen"
                                     : arena_format(cli->arena, "chosen, %.0f %%", share));
    if (yyjson_is_true(json_member(row, "near")))
        return slice_of(arena_format(cli->arena, "near, %.0f %%", share));
    return SLICE("");
}

/* What the figures are, and where they are from. */
static void print_legend(struct cli *cli, yyjson_val *past)
{
    yyjson_val *ms = json_member(past, "client_rtt_ms");
    const char *client =
        yyjson_is_num(ms)
            ? arena_format(cli->arena, " TOTAL has its client's way there as well: %.1f (%.*s).",
                           yyjson_get_num(ms), SLICE_FMT(view_text(past, "client_rtt_source")))
            : "";
    const char *text =
        arena_format(cli->arena, "Milliseconds; RTT %s 14.4 + 0.0157 for each km.%s",
                     past ? "is from that PoP, by coordinates" : "by coordinates is", client);
    cli_print_wrapped(cli, stdout, slice_of(text), 0, 0);
}

/* "lyon: not reached by paris, tokyo": of one that some of the PoPs that ask it do not reach. */
static void print_missed(struct cli *cli, yyjson_val *row)
{
    yyjson_val *list = json_member(row, "missed"), *name;
    uint64_t missed = yyjson_get_uint(json_member(row, "missed_by"));
    uint64_t reached = yyjson_get_uint(json_member(row, "reached_by"));
    size_t index, count, named = yyjson_arr_size(list);
    const char *text =
        arena_format(cli->arena, "%.*s: not reached by", SLICE_FMT(view_text(row, "pop")));
    if (!missed)
        return;
    yyjson_arr_foreach(list, index, count, name)
    {
        text = arena_format(cli->arena, "%s%s %.*s", text, index ? "," : "",
                            SLICE_FMT(json_slice(name)));
    }
    if (missed > named)
        text = arena_format(cli->arena, "%s and %ju more", text, (uintmax_t)(missed - named));
    if (reached)
        text = arena_format(cli->arena, "%s, but by %ju other%s", text, (uintmax_t)reached,
                            reached > 1 ? "s" : "");
    else if (!yyjson_is_true(json_member(row, "down")))
        text = arena_format(cli->arena, "%s; they seem to be cut off themselves", text);
    cli_print_wrapped(cli, stdout, slice_of(text), 0, 2);
}

/* `past`: the decision that they are of, as a gateway saw it, from where it is; else NULL. */
static void print_pops(struct cli *cli, yyjson_val *pops, yyjson_val *past)
{
    static const char *const titles[] = { "POP",     "RTT",  "FROM",  "QUEUE",
                                          "SERVICE", "COLD", "TOTAL", "ANSWER" };
    struct cli_table *table = cli_table_new(cli, titles, 8);
    cli_table_wrap(table);
    size_t index, count;
    yyjson_val *row;
    bool unnamed = false, silent = false;
    yyjson_arr_foreach(pops, index, count, row)
    {
        bool in_dns = past || yyjson_is_true(json_member(row, "in_dns"));
        bool placed = yyjson_is_num(json_member(row, "queue_ms"));
        struct slice name = view_text(row, "pop");
        unnamed = unnamed || (placed && !in_dns);
        silent = silent || (!past && placed && !yyjson_is_true(json_member(row, "load_reported")));
        cli_table_row(table, (struct slice[]){
                                 placed && !in_dns
                                     ? slice_of(arena_format(cli->arena, "%.*s*", SLICE_FMT(name)))
                                     : name,
                                 figure(cli, row, "rtt_ms"),
                                 view_text(row, "rtt_source"),
                                 figure(cli, row, "queue_felt_ms"),
                                 figure(cli, row, "service_ms"),
                                 figure(cli, row, "cold_felt_ms"),
                                 figure(cli, row, "total_ms"),
                                 outcome(cli, row),
                             });
    }
    cli_table_print(table, stdout);
    printf("\n");
    print_legend(cli, past);
    if (silent)
        printf("Where no load was reported yet, a PoP counts as idle.\n");
    if (unnamed)
        printf("* DNS does not name it: it has no address.\n");
    yyjson_arr_foreach(pops, index, count, row)
    {
        print_missed(cli, row);
    }
}

static void print_client(yyjson_val *client)
{
    yyjson_val *north = json_member(client, "latitude");
    struct slice city = view_text(client, "city"), country = view_text(client, "country");
    printf("client     ");
    cli_print_text(stdout, view_text(client, "asked"));
    if (city.size && !slice_equal(city, view_text(client, "asked"))) {
        printf(": ");
        cli_print_text(stdout, city);
    }
    printf(", ");
    cli_print_text(stdout, country.size ? country : SLICE("country not known"));
    if (yyjson_is_num(north))
        printf(", at %.2f %.2f", yyjson_get_num(north),
               yyjson_get_num(json_member(client, "longitude")));
    printf(" (");
    cli_print_text(stdout, view_text(client, "source"));
    printf(")\n");
    if (slice_is(view_text(client, "place"), "country"))
        printf("           the midst of its country, not its own place; people there are\n"
               "           %.0f km away from it on average (GeoNames)\n",
               yyjson_get_num(json_member(json_member(client, "midst"), "people_away_km")));
}

static void print_residency(yyjson_val *residency)
{
    struct slice refused = view_text(residency, "refused");
    yyjson_val *rule = json_member(residency, "rule");
    printf("residency  ");
    if (refused.size) {
        printf("refuses: ");
        cli_print_text(stdout, refused);
        printf("\n");
    } else if (yyjson_is_uint(rule)) {
        printf("rule %ju holds\n", (uintmax_t)yyjson_get_uint(rule));
    } else {
        printf("none: anywhere\n");
    }
}

/* ---- a client -------------------------------------------------------------------------------- */

static void print_choice(struct cli *cli, yyjson_val *choice)
{
    print_client(json_member(choice, "client"));
    print_residency(json_member(choice, "residency"));
    printf("\n");
    print_pops(cli, json_member(choice, "pops"), NULL);
}

static int explain_client(struct cli *cli, const char *client, struct err *err)
{
    const char *rest = arena_format(cli->arena, "/explain?client=%s", control_escape(cli, client));
    const char *path = control_endpoint_path(cli, cli->arguments[0], rest);
    return control_show(cli, &CONTROL_REQUEST(.method = "GET", .path = path), print_choice, err);
}

/* ---- a request ------------------------------------------------------------------------------- */

/* "why" as a gateway says it, on the left. */
static const char *why_words(struct slice why)
{
    static const struct {
        const char *why, *words;
    } rows[] = {
        { "here", "served where it came to, nobody else was looked at" },
        { "away", "the endpoint is not placed where it came to" },
        { "place", "it may not be processed where it came to" },
        { "cold", "no replica was ready where it came to" },
        { "overloaded", "it would have waited where it came to" },
        { "draining", "the PoP that it came to drains" },
        { "again", "the PoP before did not answer it" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (slice_is(why, rows[i].why))
            return rows[i].words;
    return "";
}

/* What became of it, as its status says. */
static const char *end_words(unsigned status)
{
    if (status == 0)
        return "sent to"; /* no word of its end yet */
    if (status < 400)
        return "answered by";
    if (status == 499)
        return "given up by its client while at";
    return status < 500 || status == 503 ? "refused by" : "failed at";
}

static void print_decision(struct cli *cli, yyjson_val *decision)
{
    struct slice country = view_text(decision, "country"), pop = view_text(decision, "pop");
    struct slice chosen = view_text(decision, "chosen"), endpoint = view_text(decision, "endpoint");
    bool hop = yyjson_is_true(json_member(decision, "hop"));
    unsigned status = (unsigned)yyjson_get_num(json_member(decision, "status"));
    const char *head =
        arena_format(cli->arena, "%.*s, %s%s ago, client in %.*s",
                     SLICE_FMT(endpoint.size ? endpoint : SLICE("(deleted since)")),
                     status ? arena_format(cli->arena, "status %u, ", status) : "",
                     cli_ago(cli, view_text(decision, "at")),
                     SLICE_FMT(country.size ? country : SLICE("an unknown country")));
    printf("\n%s", cli_color(cli, CLI_BOLD));
    cli_print_text(stdout, pop);
    printf("%s  ", cli_color(cli, CLI_PLAIN));
    cli_print_wrapped(cli, stdout, slice_of(head), pop.size + 2, 2);
    const char *end =
        arena_format(cli->arena, "%s%s %.*s%s%s%s", hop ? "passed on to here, " : "",
                     end_words(status), SLICE_FMT(chosen.size ? chosen : SLICE("nobody")),
                     status >= 400 ? arena_format(cli->arena, " with status %u", status) : "",
                     hop ? "" : ": ", hop ? "" : why_words(view_text(decision, "why")));
    cli_print_wrapped(cli, stdout, slice_of(end), 0, 2);
    if (yyjson_arr_size(json_member(decision, "pops"))) {
        printf("\n");
        print_pops(cli, json_member(decision, "pops"), decision);
    }
}

static void print_request(struct cli *cli, yyjson_val *request)
{
    size_t index, count;
    yyjson_val *decision;
    printf("request    ");
    cli_print_text(stdout, slice_of(cli->arguments[0]));
    printf("\n");
    yyjson_arr_foreach(json_member(request, "decisions"), index, count, decision)
        print_decision(cli, decision);
}

static int explain_request(struct cli *cli, struct err *err)
{
    const char *path =
        arena_format(cli->arena, "/api/v1/requests/%s", control_escape(cli, cli->arguments[0]));
    int r = control_show(cli, &CONTROL_REQUEST(.method = "GET", .path = path), print_request, err);
    if (r == ERR_NOT_FOUND)
        return err_wrap(err,
                        "--client says who asks for an endpoint; without it a request is meant");
    return r;
}

int cmd_explain(struct cli *cli, struct err *err)
{
    const char *client = cli_option_value(cli, "--client");
    if (cli->argument_count == 2 && strcmp(cli->arguments[0], "placement") == 0 && !client)
        return explain_placement(cli, cli->arguments[1], err);
    if (cli->argument_count != 1)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT,
                                      "perigee explain NAME --client CITY (or ADDRESS), perigee "
                                      "explain placement NAME, or perigee explain REQUEST_ID"));
    return client ? explain_client(cli, client, err) : explain_request(cli, err);
}
