/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/simulate_failing.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "sim/edge.h"
#include "sim/sites.h"

enum { COLUMNS = 78 };

static bool find(const struct sites *sites, const char *name, uint32_t *ret)
{
    for (uint32_t i = 0; i < sites->count; i++)
        if (slice_equal_nocase(sites->list[i].name, slice_of(name))) {
            *ret = i;
            return true;
        }
    return false;
}

static bool has(const struct edge_options *options, uint32_t site)
{
    for (uint32_t i = 0; i < options->failures; i++)
        if (options->named[i] == site)
            return true;
    return false;
}

static int names_take(struct cli *cli, const struct sites *sites, struct edge_options *options,
                      struct err *err)
{
    uint32_t *named = ARENA_ARRAY(cli->arena, uint32_t, sites->count), site;
    const char *name;

    options->failing = EDGE_NAMED;
    options->named = named;
    options->failures = 0;
    for (size_t i = 0; (name = cli_option_nth(cli, "--failing", i)); i++) {
        if (!find(sites, name, &site))
            return err_set(
                err, ERR_BAD_INPUT,
                "--failing is chance, largest, or the name of a site: there is no '%s'%s",
                ERR_TEXT(name),
                cli_option_value(cli, "--spec") ? " that the spec's regions hold" : "");
        if (has(options, site))
            return err_set(err, ERR_BAD_INPUT, "--failing names '%s' twice", ERR_TEXT(name));
        if (options->failures + 1 == sites->count)
            return err_set(err, ERR_BAD_INPUT, "--failing names all %zu sites: one has to be left",
                           sites->count);
        named[options->failures++] = site;
    }
    return 0;
}

int simulate_failing(struct cli *cli, const struct sites *sites, uint32_t failures,
                     struct edge_options *options, struct err *err)
{
    const char *first = cli_option_nth(cli, "--failing", 0);
    bool largest = false, chance = !first;

    options->failures = failures;
    for (size_t i = 0; (first = cli_option_nth(cli, "--failing", i)); i++) {
        largest = largest || strcmp(first, "largest") == 0;
        chance = chance || strcmp(first, "chance") == 0;
    }
    if ((largest || chance) && cli_option_nth(cli, "--failing", 1))
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT,
                                      "--failing is chance, or largest, or names of sites: one of "
                                      "the three"));
    if (largest || chance) {
        options->failing = largest ? EDGE_LARGEST : EDGE_BY_CHANCE;
        return 0;
    }
    if (cli_option_value(cli, "--failures"))
        return cli_usage(cli, err_set(err, ERR_BAD_INPUT,
                                      "--failing names the sites, and so says how many: leave "
                                      "--failures out"));
    return cli_usage(cli, names_take(cli, sites, options, err));
}

/* ---- what failed ----------------------------------------------------------------------------- */

void simulate_failed_print(struct cli *cli, const struct edge_world *world)
{
    static const char *const how[] = { "by chance", "the largest", "by name" };
    const uint32_t *sites = edge_failing(cli->arena, world);
    int column = printf("failed (%s):", how[world->options.failing]);

    for (uint32_t i = 0; i < world->options.failures; i++) {
        struct slice name = world->sites->list[sites[i]].name;
        const char *end = i + 1 < world->options.failures ? "," : "";
        int wide = (int)name.size + 2; /* bytes: no fewer than columns */
        if (column + wide > COLUMNS)
            column = printf("\n ") - 1;
        fputc(' ', stdout);
        cli_print_text(stdout, name);
        fputs(end, stdout);
        column += wide;
    }
    fputs(world->options.failures > 0 ? "\n" : " none\n", stdout);
}

void simulate_failed_json(struct cli *cli, const struct edge_world *world, struct json_writer *w)
{
    const uint32_t *sites = edge_failing(cli->arena, world);

    json_array_begin(w);
    for (uint32_t i = 0; i < world->options.failures; i++)
        json_string(w, world->sites->list[sites[i]].name);
    json_array_end(w);
}
