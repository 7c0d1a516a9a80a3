/* SPDX-License-Identifier: Apache-2.0 */
/* perigee up: flags and environment to what the supervisor is to do (interfaces.md 1 and 8). */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/ip.h"
#include "base/log.h"
#include "bin/roles.h"
#include "cli/cli.h"
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
#include "store/backup.h"
#include "store/store.h"
#include "supervisor/supervisor.h"
#include "sys/fd.h"
#include "sys/home.h"
#include "sys/sandbox.h"

#define CONTROL_SOCKET "run/control.sock"

enum { FLAGS_LISTEN = 5 };

static int up_run(struct cli *cli, struct err *err);
static int control_run(struct cli *cli, struct err *err);

/* clang-format off */
static const struct {
    uint32_t kind;
    unsigned part;
    const char *flag, *environment, *value;
    bool built;
} listeners[FLAGS_LISTEN] = {
    { LISTENER_GATEWAY, PART_GATEWAY, "--listen-gateway", "PERIGEE_LISTEN_GATEWAY", "127.0.0.1:8000,127.0.0.1:8001", true },
    { LISTENER_TLS, PART_GATEWAY, "--listen-tls", "PERIGEE_LISTEN_TLS", "none", false },
    { LISTENER_CONTROL, PART_CONTROL, "--listen-control", "PERIGEE_LISTEN_CONTROL", "127.0.0.1:8080", true },
    { LISTENER_ADMIN, PART_AGENT, "--listen-admin", "PERIGEE_LISTEN_ADMIN", "127.0.0.1:8002", true },
    { LISTENER_DNS, PART_DNS, "--listen-dns", "PERIGEE_LISTEN_DNS", "127.0.0.1:5300", true },
};

/* Options of every command that say nothing to this one. */
static const char *const no_use[] = { "--json", "--control", "--project", NULL };

static const char *const not_yet[] = {
    "--config", NULL,
};

static const struct cli_option options[] = {
    { "--listen-gateway", "ADDRESS", "Endpoints; 127.0.0.1:8000,127.0.0.1:8001 unless told. ADDR:PORT, [::1]:PORT, unix:PATH or none, several by comma; port 0 takes a free one.", false },
    { "--listen-control", "ADDRESS", "The API; 127.0.0.1:8080 unless told.", false },
    { "--listen-admin", "ADDRESS", "/metrics, /healthz, /readyz; 127.0.0.1:8002 unless told.", false },
    { "--listen-tls", "ADDRESS", "Endpoints over TLS (not yet).", false },
    { "--listen-dns", "ADDRESS", "DNS for the zone, UDP and TCP; 127.0.0.1:5300 unless told.", false },
    { "--open", NULL, "Listen beyond this machine without keys: whoever reaches it may do all.", false },
    { "--loops", "N", "The gateway's event loops, 1 to 8; a quarter of the cores unless told.", false },
    { "--spin-us", "N", "How long replicas and the gateway's loops may look for work before they sleep, where a core is free and it pays: 0 to 10000 microseconds; 0 unless told.", false },
    { "--limits", "NAME=N,..", "The gateway's limits of HTTP, else $PERIGEE_LIMITS; docs/limits.md has the names.", false },
    { "--pop", "NAME", "This place's name; local unless told.", false },
    { "--country", "CC", "Where it stands, two capitals (ISO 3166-1).", false },
    { "--city", "CITY", "The city it stands in.", false },
    { "--zone", "DOMAIN", "Endpoints are hosts below it; perigee.test unless told.", false },
    { "--why-from", "CIDR,..", "Who may ask DNS why: _why.NAME below the zone, as TXT. This machine unless told.", false },
    { "--api-host", "HOST", "A further host of the control API.", false },
    { "--sandbox", "MODE", "best: replicas get the walls that stand here; require: no start without all. best unless told, require when others than this machine reach it.", false },
    { "--log-level", "LEVEL", "debug, info, warn or error; info unless told.", false },
    { "--fleet", "FILE", "A network in a box: several places on this machine, with the distances between them; docs/fleet.md.", false },
    { "--record", "DIR", "With --fleet: keep what goes over links between places in files of this folder.", false },
    { "--record-max", "SIZE", "Bytes of all recordings; 1GiB unless told.", false },
    { "--engine", "unix:PATH", "The container engine that runs images, Docker or Podman; else $DOCKER_HOST, else the usual sockets of both.", false },
    { "--geo", "FILE", "Which country an address is in, for residency: an MMDB, MaxMind's form or ip-location-db's. A newer one is renamed over it, and read at the next start.", false },
    { "--addresses", "FILE", "The same, and before it, by lines of a block of addresses, a country, and perhaps latitude and longitude (docs/residency.md).", false },
    { "--sets", "FILE", "Sets of countries beside EU and EEA, for residency (docs/residency.md).", false },
    { "--trusted-proxies", "CIDR,..", "Peers that may say who is behind them, else $PERIGEE_TRUSTED_PROXIES: a PROXY header, Forwarded and X-Forwarded-For are believed from them alone.", false },
    { "--config", "FILE", "Flags from a file (not yet).", false },
    {},
};

const struct cli_command up_command = {
    "up", NULL, "", "Run Perigee on this machine: control, gateway and one place, until Ctrl-C.",
    options,
    "  perigee up\n"
    "  perigee up --home /srv/perigee --listen-gateway 127.0.0.1:9000\n"
    "  perigee up --listen-gateway 0.0.0.0:8000 --open\n"
    "  perigee up --fleet examples/fleet.yaml\n",
    0, 0, up_run,
};

static const struct cli_option control_options[] = {
    { "--listen-control", "ADDRESS", "The API; 127.0.0.1:8080 unless told.", false },
    { "--open", NULL, "Listen beyond this machine without keys: whoever reaches it may do all.", false },
    { "--zone", "DOMAIN", "Endpoints are hosts below it; perigee.test unless told.", false },
    { "--api-host", "HOST", "A further host of the control API.", false },
    { "--addresses", "FILE", "Where clients' addresses are, for `perigee explain` (docs/residency.md).", false },
    { "--geo", "FILE", "An MMDB for addresses that the file does not name.", false },
    { "--sets", "FILE", "Sets of countries beside EU and EEA; the same at every PoP (docs/residency.md).", false },
    { "--log-level", "LEVEL", "debug, info, warn or error; info unless told.", false },
    {},
};

const struct cli_command control_command = {
    "control", NULL, "", "Run control alone; PoPs join it with `perigee pop`.",
    control_options,
    "  perigee control --home /srv/control\n"
    "  perigee pops create paris --country FR --home /srv/control\n",
    0, 0, control_run,
};
/* clang-format on */

/* A wrong flag is the usage's fault, not the machine's. */
static int usage(struct cli *cli, int r)
{
    if (r == ERR_BAD_INPUT || r == ERR_NOT_SUPPORTED)
        cli->exit_code = 2;
    return r;
}

static int copy(char *to, size_t room, const char *text, struct err *err)
{
    size_t size = strlen(text);
    if (size >= room)
        return err_set(err, ERR_BAD_INPUT, "'%s' has %zu bytes; at most %zu", ERR_TEXT(text), size,
                       room - 1);
    memcpy(to, text, size + 1);
    return 0;
}

/* ---- where to listen ------------------------------------------------------------------------- */

static const char *listen_text(const struct cli *cli, unsigned parts, size_t row)
{
    const char *given = cli_option_value(cli, listeners[row].flag);
    const char *environment = getenv(listeners[row].environment);
    if (given)
        return given;
    if (environment && *environment)
        return environment;
    /* Of several PoPs on one machine one may answer DNS, and that is said. */
    bool beside = parts & PART_GATEWAY && !(parts & PART_CONTROL);
    return listeners[row].kind == LISTENER_DNS && beside ? "none" : listeners[row].value;
}

static int check_open(const struct cli *cli, const struct supervisor_listen *listen,
                      struct err *err)
{
    for (size_t i = 0; i < listen->count; i++) {
        if (!listen_loopback(&listen->addresses[i]) && !cli_option_value(cli, "--open"))
            return err_set(err, ERR_BAD_INPUT,
                           "%s %s can be reached from other machines, and there are no keys yet: "
                           "say --open if whoever reaches it may use it, or listen on 127.0.0.1",
                           listen->flag, listen->addresses[i].text);
    }
    return 0;
}

/* The flags, then the agent's and the CLI's own way to control. */
static int read_listeners(const struct cli *cli, unsigned parts,
                          struct supervisor_listen ret_listens[static FLAGS_LISTEN + 1],
                          struct err *err)
{
    for (size_t i = 0; i < FLAGS_LISTEN; i++) {
        struct supervisor_listen *listen = &ret_listens[i];
        listen->kind = listeners[i].kind;
        listen->flag = listeners[i].flag;
        if (!(listeners[i].part & parts))
            continue;
        int r = listen_parse(listen->flag, listen_text(cli, parts, i), listen->addresses,
                             &listen->count, err);
        for (size_t a = 0; r == 0 && a < listen->count; a++)
            if (listen->kind == LISTENER_DNS && listen->addresses[a].storage.ss_family == AF_UNIX)
                r = err_set(err, ERR_BAD_INPUT, "%s takes ADDR:PORT, [::1]:PORT or none",
                            listen->flag);
        if (r == 0 && listen->count && !listeners[i].built)
            r = err_set(err, ERR_NOT_SUPPORTED, "%s: not yet; only none is taken", listen->flag);
        if (r == 0)
            r = check_open(cli, listen, err);
        if (r < 0)
            return r;
    }
    struct supervisor_listen *own = &ret_listens[FLAGS_LISTEN];
    own->kind = LISTENER_CONTROL;
    own->flag = "--home";
    own->internal = true;
    if (!(parts & PART_CONTROL))
        return 0;
    char *path = arena_format(cli->arena, "unix:%s/" CONTROL_SOCKET, cli->home);
    return listen_parse(own->flag, path, own->addresses, &own->count, err);
}

/* ---- the rest -------------------------------------------------------------------------------- */

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

/* Best on loopback, where who reaches it is on this machine anyway; else the walls are wanted whole
 * unless somebody says otherwise. */
static int read_sandbox(const struct cli *cli, const struct supervisor_listen *listens,
                        struct message_start *start, struct err *err)
{
    const char *mode = cli_option_value(cli, "--sandbox");
    start->sandbox = PERIGEE_SANDBOX_BEST;
    for (size_t i = 0; i < FLAGS_LISTEN; i++)
        for (size_t k = 0; k < listens[i].count; k++)
            if (!listen_loopback(&listens[i].addresses[k]))
                start->sandbox = PERIGEE_SANDBOX_REQUIRE;
    if (!mode)
        return 0;
    start->flags |= MESSAGE_SANDBOX_SAID;
    if (strcmp(mode, "best") == 0)
        start->sandbox = PERIGEE_SANDBOX_BEST;
    else if (strcmp(mode, "require") == 0)
        start->sandbox = PERIGEE_SANDBOX_REQUIRE;
    else
        return err_set(err, ERR_BAD_INPUT, "--sandbox takes best or require, not '%s'",
                       ERR_TEXT(mode));
    return 0;
}

/* What stands here, found by trying: for control, and for --sandbox require. */
static int check_walls(struct message_start *start, struct err *err)
{
    struct sandbox_probe probe;
    sandbox_probe(&probe);
    static_assert(sizeof start->walls_off == sizeof probe.off);
    start->walls = probe.walls;
    memcpy(start->walls_off, probe.off, sizeof start->walls_off);
    if (start->sandbox == PERIGEE_SANDBOX_BEST || (sandbox_required() & ~probe.walls) == 0)
        return 0;
    return err_set(err, ERR_PRECONDITION,
                   "%s, and walls around replicas do not stand here: %s; mend that (`perigee "
                   "doctor` says how), or say --sandbox best to run with the walls that stand",
                   start->flags & MESSAGE_SANDBOX_SAID
                       ? "--sandbox require"
                       : "listening beyond this machine wants the sandbox whole",
                   probe.off);
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

static int read_start(struct cli *cli, unsigned parts, const struct message_start *joined,
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

/* ---- all ------------------------------------------------------------------------------------- */

static void print_row(const struct supervisor_address *addresses, size_t count, uint32_t kind,
                      const char *title, const char *what)
{
    const char *before = "";
    for (size_t i = 0; i < count; i++) {
        if (addresses[i].kind != kind || addresses[i].internal)
            continue;
        bool local = strncmp(addresses[i].text, "unix:", 5) == 0;
        if (!*before)
            printf("  %-8s ", title);
        printf("%s%s%s", before, local || kind == LISTENER_DNS ? "" : "http://", addresses[i].text);
        before = "  ";
    }
    if (*before)
        printf("   %s\n", what);
}

static void on_ready(const struct supervisor_address *addresses, size_t count, void *data)
{
    const struct cli *cli = data;
    if (getenv(FLEET_ENVIRONMENT))
        return;
    bool all = strcmp(cli->command->name, "up") == 0;
    printf("Perigee%s%s is up. Its home is ", all ? "" : " ", all ? "" : cli->command->name);
    cli_print_text(stdout, slice_of(cli->home));
    printf("\n");
    print_row(addresses, count, LISTENER_GATEWAY, "gateway", "endpoints");
    print_row(addresses, count, LISTENER_CONTROL, "control", "the API");
    print_row(addresses, count, LISTENER_ADMIN, "admin", "/metrics, /healthz, /readyz");
    print_row(addresses, count, LISTENER_DNS, "dns", "endpoints by name");
    bool joined = strcmp(cli->command->name, "pop") == 0 || strcmp(cli->command->name, "dns") == 0;
    printf("%sCtrl-C ends all.\n",
           joined ? "" : "`perigee deploy NAME --model FILE.onnx` makes an endpoint; ");
    (void)fflush(stdout);
}

/* One that was killed half-way is gone on with, before anybody looks at the home. */
static int end_restore(struct cli *cli, struct err *err)
{
    auto_close int lock = -1;
    if (access(arena_format(cli->arena, "%s/" STORE_RESTORE_READY, cli->home), F_OK) < 0)
        return 0;
    int r = home_lock(cli->home, &lock, err);
    return r < 0 ? r : store_restore_end(cli->home, err);
}

/* A state of another Perigee's is said at once and alone: control would say it among the logs of
 * processes that start and end. Whatever else is wrong with it control finds. */
static int check_state(struct cli *cli, struct err *err)
{
    struct store *store;
    const char *path = arena_format(cli->arena, "%s/%s", cli->home, STORE_FILE);
    if (access(path, F_OK) < 0)
        return 0;
    int r = store_sqlite_open(path, STORE_READ, NULL, &store, err);
    if (r == 0)
        store->close(store);
    return r == ERR_PRECONDITION ? r : 0;
}

/* All that can be found wrong with flags, environment and machine before anything is done. */
static int parts_read(struct cli *cli, unsigned parts, const struct message_start *joined,
                      struct supervisor_listen listens[static FLAGS_LISTEN + 1],
                      struct supervisor_config *config, struct err *err)
{
    int r = read_start(cli, parts, joined, &config->start, err);
    if (!(parts & PART_AGENT))
        config->start.pop[0] = '\0';
    if (r == 0)
        r = read_listeners(cli, parts, listens, err);
    for (size_t i = 0; r == 0 && i < FLAGS_LISTEN; i++)
        config->dns = config->dns || (listens[i].kind == LISTENER_DNS && listens[i].count > 0);
    if (r == 0 && parts == (PART_AGENT | PART_DNS) && !config->dns)
        r = err_set(err, ERR_BAD_INPUT, "--listen-dns none: then there is nothing to run");
    if (r == 0 && parts & PART_GATEWAY)
        r = read_sandbox(cli, listens, &config->start, err);
    return usage(cli, r);
}

int parts_check(struct cli *cli, unsigned parts, struct err *err)
{
    auto_free struct supervisor_listen *listens = mem_zalloc((FLAGS_LISTEN + 1) * sizeof *listens);
    auto_free struct supervisor_config *config = mem_zalloc(sizeof *config);
    auto_free struct message_start *joined = mem_zalloc(sizeof *joined);
    int r = parts_read(cli, parts, joined, listens, config, err);
    if (r == 0 && parts & PART_GATEWAY)
        r = check_walls(&config->start, err);
    return r;
}

int parts_run(struct cli *cli, unsigned parts, const struct message_start *joined, struct err *err)
{
    auto_free struct supervisor_listen *listens = mem_zalloc((FLAGS_LISTEN + 1) * sizeof *listens);
    struct supervisor_config config = {
        .listens = listens,
        .listen_count = FLAGS_LISTEN + 1,
        .control = parts & PART_CONTROL,
        .agent = parts & PART_AGENT,
        .gateway = parts & PART_GATEWAY,
        .on_ready = on_ready,
        .data = cli,
    };
    int r = parts_read(cli, parts, joined, listens, &config, err);
    if (r < 0)
        return r;
    if (parts & PART_CONTROL)
        r = end_restore(cli, err);
    if (r == 0 && parts & PART_CONTROL)
        r = check_state(cli, err);
    if (r == 0 && parts & PART_GATEWAY)
        r = check_walls(&config.start, err);
    if (r < 0)
        return r;
    return supervisor_run(&config, err);
}

static int up_run(struct cli *cli, struct err *err)
{
    if (cli_option_value(cli, "--fleet"))
        return fleet_up(cli, err);
    if (cli_option_value(cli, "--record") || cli_option_value(cli, "--record-max"))
        return usage(cli, err_set(err, ERR_BAD_INPUT, "--record stands beside --fleet"));
    return parts_run(cli, PART_CONTROL | PART_POP | PART_DNS, NULL, err);
}

static int control_run(struct cli *cli, struct err *err)
{
    return parts_run(cli, PART_CONTROL, NULL, err);
}
