/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy test: a table of cases held against a spec, by the code that decides in the gateway.
 * policy sets: the sets of countries that it goes by, who says so, and since when. Neither needs a
 * running Perigee.
 */
#include <libgen.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/policy_cases.h"
#include "geo/sets.h"
#include "spec/endpoint.h"

enum { FILE_BYTES_MAX = 1 << 20 };

struct policy_test {
    struct policy_cases cases;
    struct geo_sets sets;
    struct where_map *where;
    struct residency residency;
    struct regions regions;
};

struct result {
    enum policy_outcome got;
    country_number client;
    struct residency_verdict verdict;
    bool in_regions;
};

/* ---- reading -------------------------------------------------------------------------------- */

static int spec_path(struct cli *cli, const struct policy_cases *cases, const char **ret,
                     struct err *err)
{
    const char *file = cli->arguments[1], *given = cli_option_value(cli, "--spec");
    if (!given && cases->spec.size == 0)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT,
                                      "which spec? Give --spec FILE, or 'spec' in '%s'",
                                      ERR_TEXT(file)));
    *ret = given ? given : arena_string(cli->arena, cases->spec);
    if (!given && **ret != '/' && strcmp(file, "-") != 0)
        *ret = arena_format(cli->arena, "%s/%s", dirname(arena_string(cli->arena, slice_of(file))),
                            *ret);
    return 0;
}

static int spec_read(struct cli *cli, const struct policy_cases *cases, struct endpoint_spec *ret,
                     struct err *err)
{
    struct endpoint_specs specs;
    struct slice text = {};
    const char *path = "";
    int r = spec_path(cli, cases, &path, err);
    if (r == 0)
        r = cli_read(cli, path, FILE_BYTES_MAX, &text, err);
    if (r != 0)
        return r;
    enum spec_form form = slice_ends(slice_of(path), SLICE(".json")) ? SPEC_JSON : SPEC_YAML;
    if (endpoint_spec_parse_text(cli->arena, text, form, 0, &specs, err) < 0)
        return err_wrap(err, "%s", ERR_TEXT(path));
    const char *given = cli_option_value(cli, "--endpoint");
    struct slice name = given ? slice_of(given) : cases->endpoint;
    for (size_t i = 0; i < specs.count; i++)
        if (slice_equal(specs.items[i].name, name) || (specs.count == 1 && name.size == 0)) {
            *ret = specs.items[i];
            return 0;
        }
    if (name.size == 0)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT,
                                      "'%s' holds %zu endpoints: say which by --endpoint NAME",
                                      ERR_TEXT(path), specs.count));
    return err_set(err, ERR_NOT_FOUND, "there is no endpoint '%s' in '%s'", ERR_SLICE(name),
                   ERR_TEXT(path));
}

static int sets_read(struct cli *cli, struct geo_sets *ret, struct err *err)
{
    const char *path = cli_option_value(cli, "--sets");
    struct slice text = {};
    int r = path ? cli_read(cli, path, FILE_BYTES_MAX, &text, err) : 0;
    if (r < 0)
        return r;
    r = geo_sets_parse(cli->arena, text, ret, err);
    return r < 0 && path ? err_wrap(err, "%s", ERR_TEXT(path)) : r;
}

static int test_read(struct cli *cli, struct policy_test *test, struct err *err)
{
    const char *path = cli->arguments[1], *geo = cli_option_value(cli, "--geo");
    struct endpoint_spec spec;
    struct slice text;
    int r = cli_read(cli, path, FILE_BYTES_MAX, &text, err);
    if (r < 0)
        return r;
    if (policy_cases_parse(cli->arena, text, &test->cases, err) < 0)
        return err_wrap(err, "%s", ERR_TEXT(path));
    r = spec_read(cli, &test->cases, &spec, err);
    if (r == 0)
        r = sets_read(cli, &test->sets, err);
    if (r == 0)
        r = residency_compile(cli->arena, &spec, geo_sets_lookup, &test->sets, &test->residency,
                              err);
    if (r == 0)
        r = regions_compile(cli->arena, &spec, geo_sets_lookup, &test->sets, &test->regions, err);
    if (r == 0)
        r = where_map_open(test->cases.addresses, test->cases.address_count, NULL, geo,
                           &test->where, err);
    if (r == 0 && geo)
        cli_warn_mmdb(geo, where_map_mmdb(test->where));
    return r;
}

/* ---- deciding ------------------------------------------------------------------------------- */

static int case_decide(struct policy_test *test, const struct policy_case *item, struct result *ret,
                       struct err *err)
{
    struct countries narrow;
    bool narrows = item->process_in.data != NULL;
    if (narrows &&
        residency_narrow_parse(item->process_in, geo_sets_lookup, &test->sets, &narrow, err) < 0)
        return err_wrap(err, "line %u: process_in", item->line);
    ret->client = item->client;
    if (item->by_address)
        ret->client = where_find(test->where, &item->address).country;
    ret->verdict = residency_decide(&test->residency, ret->client, narrows ? &narrow : NULL);
    ret->in_regions = regions_hold(&test->regions, &item->pop);
    if (countries_has(&ret->verdict.process, item->pop.country) && ret->in_regions)
        ret->got = POLICY_PROCESS;
    else if (countries_has(&ret->verdict.transit, item->pop.country))
        ret->got = POLICY_PASS;
    else
        ret->got = POLICY_REFUSE;
    return 0;
}

static const char *reason_text(struct cli *cli, const struct policy_test *test,
                               const struct result *result)
{
    const struct residency_verdict *verdict = &result->verdict;
    if (verdict->reason != RESIDENCY_ALLOWED)
        return residency_reason_text(verdict->reason);
    const char *rule = test->residency.count == 0
                           ? "no rules"
                           : arena_format(cli->arena, "rules[%u]", verdict->rule);
    return result->in_regions ? rule
                              : arena_format(cli->arena, "%s; the PoP is not in regions", rule);
}

/* ---- printing ------------------------------------------------------------------------------- */

static const char *country_text(struct cli *cli, country_number country)
{
    char code[3];
    country_code_of(country, code);
    return country == COUNTRY_UNKNOWN ? "unknown" : arena_string(cli->arena, slice_of(code));
}

static const char *client_text(struct cli *cli, const struct policy_case *item,
                               const struct result *result)
{
    if (!item->by_address)
        return arena_string(cli->arena, item->client_text);
    return arena_format(cli->arena, "%.*s (%s)", SLICE_FMT(item->client_text),
                        country_text(cli, result->client));
}

static void wrong_print(struct cli *cli, const struct policy_test *test, size_t index,
                        const struct result *result)
{
    const struct policy_case *item = &test->cases.items[index];
    const char *text =
        arena_format(cli->arena, "line %u%s%.*s%s: %s was expected, it is %s: %s", item->line,
                     item->name.size ? " (" : "", SLICE_FMT(item->name), item->name.size ? ")" : "",
                     policy_outcome_text(item->expected), policy_outcome_text(result->got),
                     reason_text(cli, test, result));
    cli_print_wrapped(cli, stdout, slice_of(text), 0, 2);
}

static void table_print(struct cli *cli, const struct policy_test *test,
                        const struct result *results)
{
    static const char *const titles[] = { "LINE", "CLIENT", "PROCESS-IN", "POP", "IS", "" };
    struct cli_table *table = cli_table_new(cli, titles, sizeof titles / sizeof *titles);
    for (size_t i = 0; i < test->cases.count; i++) {
        const struct policy_case *item = &test->cases.items[i];
        const struct result *result = &results[i];
        cli_table_row(table, (struct slice[]){
                                 slice_of(arena_format(cli->arena, "%u", item->line)),
                                 slice_of(client_text(cli, item, result)),
                                 item->process_in,
                                 item->pop_text,
                                 slice_of(policy_outcome_text(result->got)),
                                 result->got == item->expected ? SLICE("ok") : SLICE("WRONG"),
                             });
    }
    cli_table_print(table, stdout);
    for (size_t i = 0; i < test->cases.count; i++)
        if (results[i].got != test->cases.items[i].expected)
            wrong_print(cli, test, i, &results[i]);
}

static int json_out(struct cli *cli, const struct policy_test *test, const struct result *results,
                    size_t wrong)
{
    struct json_writer w;
    json_begin(&w, cli->arena, 0);
    json_object_begin(&w);
    json_member_u64(&w, "right", test->cases.count - wrong);
    json_member_u64(&w, "wrong", wrong);
    json_key(&w, "cases");
    json_array_begin(&w);
    for (size_t i = 0; i < test->cases.count; i++) {
        const struct policy_case *item = &test->cases.items[i];
        const struct result *result = &results[i];
        json_object_begin(&w);
        json_member_u64(&w, "line", item->line);
        if (item->name.data)
            json_member_string(&w, "name", item->name);
        json_member_string(&w, "client", item->client_text);
        json_member_text(&w, "client_country", country_text(cli, result->client));
        if (item->process_in.data)
            json_member_string(&w, "process_in", item->process_in);
        json_member_string(&w, "pop", item->pop_text);
        json_member_text(&w, "pop_country", country_text(cli, item->pop.country));
        json_member_text(&w, "expected", policy_outcome_text(item->expected));
        json_member_text(&w, "got", policy_outcome_text(result->got));
        json_member_text(&w, "by", reason_text(cli, test, result));
        json_member_bool(&w, "ok", result->got == item->expected);
        json_object_end(&w);
    }
    json_array_end(&w);
    json_object_end(&w);
    return cli_print_written(cli, &w);
}

static int test_run(struct cli *cli, struct policy_test *test, struct err *err)
{
    struct result *results = ARENA_ARRAY(cli->arena, struct result, test->cases.count);
    size_t wrong = 0;
    for (size_t i = 0; i < test->cases.count; i++) {
        int r = case_decide(test, &test->cases.items[i], &results[i], err);
        if (r < 0)
            return err_wrap(err, "%s", ERR_TEXT(cli->arguments[1]));
        wrong += results[i].got != test->cases.items[i].expected;
    }
    cli->exit_code = wrong > 0;
    if (cli->json)
        return json_out(cli, test, results, wrong);
    table_print(cli, test, results);
    printf("%zu of %zu as expected\n", test->cases.count - wrong, test->cases.count);
    return 0;
}

/* ---- sets ------------------------------------------------------------------------------------ */

static void set_json(struct json_writer *w, const struct geo_set *set)
{
    json_object_begin(w);
    json_member_string(w, "name", set->name);
    json_member_string(w, "source", set->source);
    json_member_string(w, "date", set->date);
    json_key(w, "countries");
    json_array_begin(w);
    for (unsigned i = 1; i <= COUNTRY_NUMBER_MAX; i++) {
        char code[3];
        country_code_of((country_number)i, code);
        if (countries_has(&set->countries, (country_number)i))
            json_text(w, code);
    }
    json_array_end(w);
    json_object_end(w);
}

static void set_print(struct cli *cli, const struct geo_set *set)
{
    enum { INDENT = 4 };
    const char *codes = "";
    unsigned count = 0;
    for (unsigned i = 1; i <= COUNTRY_NUMBER_MAX; i++) {
        char code[3];
        country_code_of((country_number)i, code);
        if (countries_has(&set->countries, (country_number)i))
            codes = arena_format(cli->arena, "%s%s%s", codes, count++ ? " " : "", code);
    }
    printf("%s%.*s%s  %u countries, since %.*s\n%*s", cli_color(cli, CLI_BOLD),
           SLICE_FMT(set->name), cli_color(cli, CLI_PLAIN), count, SLICE_FMT(set->date), INDENT,
           "");
    cli_print_wrapped(cli, stdout, set->source, INDENT, INDENT);
    printf("%*s", INDENT, "");
    cli_print_wrapped(cli, stdout, slice_of(codes), INDENT, INDENT);
}

static int policy_sets(struct cli *cli, struct err *err)
{
    struct geo_sets sets;
    struct json_writer w;
    if (cli->argument_count > 1)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT, "policy sets takes no file but --sets"));
    int r = sets_read(cli, &sets, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < sets.count && !cli->json; i++)
        set_print(cli, &sets.items[i]);
    if (!cli->json)
        return 0;
    json_begin(&w, cli->arena, 0);
    json_object_begin(&w);
    json_key(&w, "sets");
    json_array_begin(&w);
    for (size_t i = 0; i < sets.count; i++)
        set_json(&w, &sets.items[i]);
    json_array_end(&w);
    json_object_end(&w);
    return cli_print_written(cli, &w);
}

int cmd_policy(struct cli *cli, struct err *err)
{
    struct policy_test test = {};
    if (strcmp(cli->arguments[0], "sets") == 0)
        return policy_sets(cli, err);
    if (strcmp(cli->arguments[0], "test") != 0)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT, "policy takes test or sets, not '%s'",
                                      ERR_TEXT(cli->arguments[0])));
    if (cli->argument_count < 2)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT, "policy test wants FILE"));
    int r = test_read(cli, &test, err);
    if (r == 0)
        r = test_run(cli, &test, err);
    where_map_free(test.where);
    return r;
}
