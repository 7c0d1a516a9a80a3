/* SPDX-License-Identifier: Apache-2.0 */
/* perigee up: flags and environment (up_flags.c) to what the supervisor is to do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "bin/roles.h"
#include "cli/cli.h"
#include "store/backup.h"
#include "store/store.h"
#include "supervisor/supervisor.h"
#include "sys/fd.h"
#include "sys/home.h"
#include "sys/sandbox.h"

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

static const struct cli_option options[] = {
    { "--listen-gateway", "ADDRESS", "Endpoints, else $PERIGEE_LISTEN_GATEWAY, and so for the others; 127.0.0.1:8000,127.0.0.1:8001 unless told. ADDR:PORT, [::1]:PORT, unix:PATH or none, several by comma; port 0 takes a free one.", false },
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
    { "--https-record", "PARAMETERS", "Something else ends TLS before the gateways: DNS says so in HTTPS records (RFC 9460), as 'alpn=h2,http/1.1 port=443', with the addresses of A and AAAA as hints; else $PERIGEE_HTTPS_RECORD. No such records unless told.", false },
    { "--api-host", "HOST", "A further host of the control API.", false },
    { "--sandbox", "MODE", "best: replicas get the walls that stand here; require: no start without all. best unless told, require when others than this machine reach it.", false },
    { "--log-level", "LEVEL", "debug, info, warn or error, else $PERIGEE_LOG; info unless told.", false },
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
    "up", NULL, "", "Run Perigee on this machine: control, gateway, DNS and one place, until Ctrl-C.",
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

/* ---- where to listen ------------------------------------------------------------------------- */

/* ret_said: who said so, for errors. */
static const char *listen_text(const struct cli *cli, unsigned parts, size_t row,
                               const char **ret_said)
{
    const char *given = cli_option_value(cli, listeners[row].flag);
    const char *environment = getenv(listeners[row].environment);
    *ret_said = listeners[row].flag;
    if (given)
        return given;
    if (environment && *environment) {
        *ret_said = arena_format(cli->arena, "$%s", listeners[row].environment);
        return environment;
    }
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
        const char *said, *text = listen_text(cli, parts, i, &said);
        int r = listen_parse(said, text, listen->addresses, &listen->count, err);
        for (size_t a = 0; r == 0 && a < listen->count; a++)
            if (listen->kind == LISTENER_DNS && listen->addresses[a].storage.ss_family == AF_UNIX)
                r = err_set(err, ERR_BAD_INPUT, "%s takes ADDR:PORT, [::1]:PORT or none", said);
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

/* ---- walls ---------------------------------------------------------------------------------- */

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
    int r = up_start_read(cli, parts, joined, &config->start, err);
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
