/* SPDX-License-Identifier: Apache-2.0 */
/* What `up` and its parts are told by flags and environment, but for where they listen. */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/ip.h"
#include "base/log.h"
#include "bin/roles.h"
#include "cli/cli.h"
#include "dns/https.h"
#include "gateway/gateway.h"
#include "geo/country.h"
#include "geo/sets.h"
#include "geo/where.h"
#include "geo/where_file.h"
#include "http/server.h"
#include "http/trust.h"
#include "pop/pop.h"
#include "replica/engine/engine.h"
#include "spec/endpoint.h"
#include "spec/names.h"
#include "spec/units.h"
#include "supervisor/supervisor.h"
#include "sys/home.h"

/* Options of every command that say nothing to this one. */
static const char *const no_use[] = { "--json", "--control", "--project", NULL };

static const char *const not_yet[] = {
    "--config",
    NULL,
};

static int copy(char *to, size_t room, const char *text, struct err *err)
{
    size_t size = strlen(text);
    if (size >= room)
        return err_set(err, ERR_BAD_INPUT, "'%s' has %zu bytes; at most %zu", ERR_TEXT(text), size,
                       room - 1);
    memcpy(to, text, size + 1);
    return 0;
}

/* A quarter of the cores: replicas need them. */
static uint32_t loops_default(void)
{
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof cores, &cores) < 0)
        return 1;
    int loops = CPU_COUNT(&cores) / 4;
    return loops < 1 ? 1 : loops > (int)PERIGEE_LOOPS_MAX ? PERIGEE_LOOPS_MAX : (uint32_t)loops;
}

static int read_loops(const struct cli *cli, uint32_t *ret_loops, struct err *err)
{
    const char *text = cli_option_value(cli, "--loops");
    uint64_t loops = loops_default();
    if (text && (!slice_u64(slice_of(text), &loops) || loops < 1 || loops > PERIGEE_LOOPS_MAX))
        return err_set(err, ERR_BAD_INPUT, "--loops takes a number from 1 to %u, not '%s'",
                       PERIGEE_LOOPS_MAX, ERR_TEXT(text));
    *ret_loops = (uint32_t)loops;
    return 0;
}

static int read_spin(const struct cli *cli, uint32_t *ret_us, struct err *err)
{
    const char *text = cli_option_value(cli, "--spin-us");
    uint64_t us = 0;
    if (text && (!slice_u64(slice_of(text), &us) || us > MESSAGE_SPIN_US_MAX))
        return err_set(err, ERR_BAD_INPUT,
                       "--spin-us takes a number of microseconds from 0 to %u, not '%s'",
                       MESSAGE_SPIN_US_MAX, ERR_TEXT(text));
    *ret_us = (uint32_t)us;
    return 0;
}

static int read_country(const struct cli *cli, struct message_start *start, struct err *err)
{
    const char *country = cli_option_value(cli, "--country");
    if (!country)
        return 0;
    if (country_check(slice_of(country), err) < 0)
        return err_wrap(err, "--country");
    return copy(start->country, sizeof start->country, country, err);
}

static int read_host(const struct cli *cli, const char *flag, char *host, size_t room,
                     struct err *err)
{
    const char *text = cli_option_value(cli, flag);
    if (!text)
        return 0;
    if (spec_check_host(slice_of(text), err) < 0)
        return err_wrap(err, "%s", flag);
    return copy(host, room, text, err);
}

static int read_why(const struct cli *cli, struct message_start *start, struct err *err)
{
    enum { BLOCKS_MAX = 16 };
    const char *text = cli_option_value(cli, "--why-from");
    struct slice rest = slice_of(text ? text : "127.0.0.0/8,::1");
    unsigned count = 0;
    int r = copy(start->why_from, sizeof start->why_from, rest.data, err);
    do {
        struct ip_block block;
        if (r == 0)
            r = ip_block_parse(slice_trim(slice_cut(&rest, ',')), &block, err);
        if (r == 0 && ++count > BLOCKS_MAX)
            r = err_set(err, ERR_BAD_INPUT, "more than %d blocks", BLOCKS_MAX);
    } while (r == 0 && rest.data);
    return r < 0 ? err_wrap(err, "--why-from") : 0;
}

static int read_place(const struct cli *cli, struct message_start *start, struct err *err)
{
    const char *pop = cli_option_value(cli, "--pop");
    const char *city = cli_option_value(cli, "--city");
    if (pop && spec_check_name(slice_of(pop), "PoP", err) < 0)
        return err_wrap(err, "--pop");
    int r = copy(start->pop, sizeof start->pop, pop ? pop : "local", err);
    if (r == 0 && city)
        r = utf8_valid(slice_of(city))
                ? copy(start->city, sizeof start->city, city, err)
                : err_set(err, ERR_BAD_INPUT, "--city: '%s' is no UTF-8", ERR_TEXT(city));
    if (r == 0)
        r = read_country(cli, start, err);
    if (r == 0)
        r = copy(start->zone, sizeof start->zone, "perigee.test", err);
    if (r == 0)
        r = read_host(cli, "--zone", start->zone, sizeof start->zone, err);
    if (r == 0)
        r = read_host(cli, "--api-host", start->api_host, sizeof start->api_host, err);
    return r;
}

int up_log_level(const struct cli *cli, struct err *err)
{
    const char *text = cli_option_value(cli, "--log-level");
    enum log_level level;
    if (!text)
        return 0;
    if (log_level_parse(slice_of(text), &level) < 0)
        return err_set(err, ERR_BAD_INPUT, "--log-level takes debug, info, warn or error, not '%s'",
                       ERR_TEXT(text));
    log_level_set(level);
    (void)setenv("PERIGEE_LOG", text, 1); /* for the processes to come */
    return 0;
}

/* Checked here, where somebody sees it; the gateway reads it from its environment. */
static int read_limits(const struct cli *cli, struct err *err)
{
    const char *given = cli_option_value(cli, "--limits");
    const char *text = given ? given : getenv(GATEWAY_LIMITS_ENVIRONMENT);
    struct http_server_limits limits = http_server_limits_default();
    if (!text)
        return 0;
    if (http_server_limits_parse(slice_of(text), &limits, err) < 0)
        return err_wrap(err, "%s", given ? "--limits" : "$" GATEWAY_LIMITS_ENVIRONMENT);
    (void)setenv(GATEWAY_LIMITS_ENVIRONMENT, text, 1);
    return 0;
}

/* As the limits: a PoP's agent reads it, in bytes. */
static int read_model_cache(const struct cli *cli, struct err *err)
{
    const char *given = cli_option_value(cli, "--model-cache");
    const char *text = given ? given : getenv(MODELS_ENVIRONMENT);
    char bytes_text[32];
    uint64_t bytes;
    if (!text || !*text)
        return 0;
    if (units_parse_bytes(slice_of(text), &bytes, err) < 0)
        return err_wrap(err, "%s", given ? "--model-cache" : "$" MODELS_ENVIRONMENT);
    snprintf(bytes_text, sizeof bytes_text, "%lluB", (unsigned long long)bytes);
    (void)setenv(MODELS_ENVIRONMENT, bytes_text, 1);
    return 0;
}

/* Likewise. It may be started later: that there is none yet is the agent's to say. */
static int read_engine(const struct cli *cli, struct err *err)
{
    const char *given = cli_option_value(cli, "--engine");
    struct address address;
    if (!given)
        return 0;
    int r = engine_find(slice_of(given), &address, err);
    if (r < 0 && r != ERR_NOT_FOUND)
        return r;
    (void)setenv(ENGINE_ENVIRONMENT, given, 1);
    return 0;
}

/* As the limits: the gateway and control read it from their environment. */
static int read_trust(const struct cli *cli, struct err *err)
{
    const char *given = cli_option_value(cli, "--trusted-proxies");
    const char *text = given ? given : getenv(TRUST_ENVIRONMENT);
    struct trust *trust;
    if (!text || !*text)
        return 0;
    if (trust_parse(slice_of(text), &trust, err) < 0)
        return err_wrap(err, "%s", given ? "--trusted-proxies" : "$" TRUST_ENVIRONMENT);
    trust_free(trust);
    (void)setenv(TRUST_ENVIRONMENT, text, 1);
    return 0;
}

int up_https(const struct cli *cli, struct err *err)
{
    const char *given = cli_option_value(cli, "--https-record");
    const char *text = given ? given : getenv(DNS_HTTPS_ENVIRONMENT);
    struct dns_https_told told;
    if (!text || (!given && !*text))
        return 0;
    if (dns_https_parse(slice_of(text), &told, err) < 0)
        return err_wrap(err, "%s", given ? "--https-record" : "$" DNS_HTTPS_ENVIRONMENT);
    (void)setenv(DNS_HTTPS_ENVIRONMENT, text, 1);
    return 0;
}

static int read_path(const struct cli *cli, const char *flag, const char *environment,
                     const char **ret, struct err *err)
{
    const char *given = cli_option_value(cli, flag);
    char path[PATH_MAX];
    if (!given)
        return 0;
    if (!realpath(given, path))
        return err_set(err, ERR_BAD_INPUT, "%s: '%s': %s", flag, ERR_TEXT(given), strerror(errno));
    (void)setenv(environment, path, 1);
    *ret = arena_string(cli->arena, slice_of(path));
    return 0;
}

/* Opened here, where somebody sees what is wrong with them; the gateway finds their paths in its
 * environment. */
int up_geo(const struct cli *cli, struct err *err)
{
    const char *addresses = NULL, *mmdb = NULL;
    struct where_map *map = NULL;
    int r = read_path(cli, "--addresses", WHERE_FILE_ENVIRONMENT, &addresses, err);
    if (r == 0)
        r = read_path(cli, "--geo", WHERE_MMDB_ENVIRONMENT, &mmdb, err);
    if (r < 0 || (!addresses && !mmdb))
        return r;
    if (where_file_open(addresses, mmdb, &map, err) < 0)
        return err_wrap(err, "%s", !mmdb ? "--addresses" : !addresses ? "--geo" : "maps");
    if (mmdb)
        cli_warn_mmdb(mmdb, where_map_mmdb(map));
    where_map_free(map);
    return 0;
}

int up_sets(struct cli *cli, struct err *err)
{
    const char *path = cli_option_value(cli, "--sets");
    struct geo_sets sets;
    struct slice text;
    if (!path)
        return 0;
    int r = cli_read(cli, path, GEO_SETS_BYTES_MAX, &text, err);
    if (r == 0 && memchr(text.data, 0, text.size))
        r = err_set(err, ERR_BAD_INPUT, "it holds a NUL");
    if (r == 0)
        r = geo_sets_parse(cli->arena, text, &sets, err);
    if (r < 0)
        return err_wrap(err, "--sets: '%s'", ERR_TEXT(path));
    (void)setenv(GEO_SETS_ENVIRONMENT, text.data, 1); /* whole: all processes have the same */
    return 0;
}

int up_start_read(struct cli *cli, unsigned parts, const struct message_start *joined,
                  struct message_start *start, struct err *err)
{
    for (size_t i = 0; not_yet[i]; i++)
        if (cli_option_value(cli, not_yet[i]))
            return err_set(err, ERR_NOT_SUPPORTED, "%s: not yet", not_yet[i]);
    for (size_t i = 0; no_use[i]; i++)
        if (cli_option_value(cli, no_use[i]))
            return err_set(err, ERR_BAD_INPUT, "%s is not for perigee %s", no_use[i],
                           cli->command->name);
    if (joined)
        *start = *joined;
    start->flags = (parts & PART_CONTROL ? MESSAGE_HAS_CONTROL : 0) |
                   (cli_option_value(cli, "--open") ? MESSAGE_OPEN : 0) |
                   (parts & PART_GATEWAY ? 0 : MESSAGE_NO_REPLICAS);
    int r = read_loops(cli, &start->loops, err);
    if (r == 0)
        r = read_spin(cli, &start->spin_us, err);
    if (r == 0)
        r = joined ? 0 : read_place(cli, start, err);
    if (r == 0)
        r = read_why(cli, start, err);
    if (r == 0)
        r = up_log_level(cli, err);
    if (r == 0)
        r = read_limits(cli, err);
    if (r == 0)
        r = read_trust(cli, err);
    if (r == 0)
        r = up_https(cli, err);
    if (r == 0)
        r = read_model_cache(cli, err);
    if (r == 0)
        r = read_engine(cli, err);
    if (r == 0)
        r = up_geo(cli, err);
    if (r == 0)
        r = up_sets(cli, err);
    if (r == 0)
        r = copy(start->home, sizeof start->home, cli->home, err);
    if (r == 0 && !joined)
        r = copy(start->control, sizeof start->control,
                 arena_format(cli->arena, "unix:%s/" CONTROL_SOCKET, cli->home), err);
    return r < 0 ? r : home_libdir(start->libdir, err);
}
