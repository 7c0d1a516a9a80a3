/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/simulate_law.h"

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "geo/sets.h"
#include "policy/regions.h"
#include "policy/residency.h"
#include "sim/sites.h"
#include "spec/endpoint.h"

enum { FILE_BYTES_MAX = 1 << 20 };

/* The EEA's clients in the EEA, all others anywhere. */
static int usual_law(struct arena *arena, const struct geo_sets *sets, struct residency *ret,
                     struct err *err)
{
    struct residency_rule *rules = arena_calloc(arena, 2, sizeof *rules);
    struct residency_list any = { .scope = RESIDENCY_ANY };

    int r = geo_sets_find(sets, SLICE("EEA"), &rules[0].clients.countries, err);
    if (r < 0)
        return r;
    rules[0].process = rules[0].transit = rules[0].logs = rules[0].cache = rules[0].clients;
    rules[1] = (struct residency_rule){ any, any, any, any, any };
    *ret = (struct residency){ .rules = rules, .count = 2 };
    return 0;
}

static int regions_apply(struct cli *cli, const struct endpoint_spec *spec, struct geo_sets *sets,
                         struct sites *sites, struct err *err)
{
    struct site *kept = ARENA_ARRAY(cli->arena, struct site, sites->count);
    struct regions regions;
    size_t count = 0;

    int r = regions_compile(cli->arena, spec, geo_sets_lookup, sets, &regions, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < sites->count; i++) {
        const struct site *site = &sites->list[i];
        struct region_place place = { site->name, site->region, site->country };
        if (regions_hold(&regions, &place))
            kept[count++] = *site;
    }
    if (count == 0)
        return err_set(err, ERR_BAD_INPUT, "its regions hold none of the %zu sites", sites->count);
    *sites = (struct sites){ kept, count };
    return 0;
}

static int spec_law(struct cli *cli, const char *path, struct geo_sets *sets, struct sites *sites,
                    struct residency *ret, struct err *err)
{
    struct endpoint_specs specs;
    struct slice text;

    int r = cli_read(cli, path, FILE_BYTES_MAX, &text, err);
    if (r < 0)
        return r;
    enum spec_form form = slice_ends(slice_of(path), SLICE(".json")) ? SPEC_JSON : SPEC_YAML;
    r = endpoint_spec_parse_text(cli->arena, text, form, 0, &specs, err);
    if (r == 0 && specs.count != 1)
        r = err_set(err, ERR_BAD_INPUT, "it holds %zu endpoints; one is simulated", specs.count);
    if (r == 0)
        r = residency_compile(cli->arena, &specs.items[0], geo_sets_lookup, sets, ret, err);
    if (r == 0)
        r = regions_apply(cli, &specs.items[0], sets, sites, err);
    return r < 0 ? err_wrap(err, "%s", ERR_TEXT(path)) : 0;
}

static int sets_read(struct cli *cli, struct geo_sets *ret, struct err *err)
{
    const char *path = cli_option_value(cli, "--sets");
    struct slice text = {};

    int r = path ? cli_read(cli, path, FILE_BYTES_MAX, &text, err) : 0;
    if (r == 0)
        r = geo_sets_parse(cli->arena, text, ret, err);
    return r < 0 && path ? err_wrap(err, "%s", ERR_TEXT(path)) : r;
}

int simulate_law(struct cli *cli, struct sites *sites, const struct residency **ret,
                 struct err *err)
{
    struct residency *residency = ARENA_NEW(cli->arena, struct residency);
    const char *spec = cli_option_value(cli, "--spec");
    bool anywhere = cli_option_value(cli, "--anywhere") != NULL;
    struct geo_sets sets;

    if (spec && anywhere)
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT,
                                      "--anywhere is no residency, and --spec "
                                      "says one: give one of the two"));
    *ret = NULL;
    *residency = (struct residency){};
    int r = sets_read(cli, &sets, err);
    if (r == 0 && spec)
        r = spec_law(cli, spec, &sets, sites, residency, err);
    else if (r == 0 && !anywhere)
        r = usual_law(cli->arena, &sets, residency, err);
    if (r == 0 && residency->count > 0)
        *ret = residency;
    return r;
}
