/* SPDX-License-Identifier: Apache-2.0 */
/* perigee up --fleet FILE: a relay's face for each PoP (127.0.1.i, and 127.0.0.1 for the first),
 * and a `perigee up` behind it (127.0.2.i), each with its home in HOME/pops. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "bin/roles.h"
#include "cli/cli.h"
#include "fleet/box.h"
#include "geo/cities.h"
#include "geo/where_file.h"
#include "http/trust.h"
#include "sys/env_linux.h"
#include "sys/fd.h"
#include "sys/home.h"
#include "sys/listen.h"

enum { ARGUMENTS_MAX = 48 };

/* A listener's ports, the same for every PoP. */
struct ports {
    const char *flag, *usual;
    uint16_t numbers[LISTEN_ADDRESSES_MAX];
    size_t count;
};

struct town {
    struct cli *cli;
    struct fleet fleet;
    struct ports gateway, control, admin;
    struct box_port *ports; /* gateway's, then control's; of each port first 127.0.0.1's */
    size_t port_count;
    struct box_tree *trees;
};

/* Of `up`'s flags those that each PoP gets as they are. */
static const char *const passed[] = { "--loops",   "--spin-us",   "--limits", "--zone",
                                      "--sandbox", "--log-level", "--geo",    "--sets" };
static const char *const refused[] = {
    "--pop",      "--addresses", "--country",    "--city",
    "--api-host", "--open",      "--listen-tls", "--listen-dns"
};

/* ---- what was said -------------------------------------------------------------------------- */

static int read_ports(const struct cli *cli, struct ports *ports, struct err *err)
{
    struct listen_address addresses[LISTEN_ADDRESSES_MAX];
    const char *given = cli_option_value(cli, ports->flag);
    int r = listen_parse(ports->flag, given ? given : ports->usual, addresses, &ports->count, err);
    for (size_t i = 0; i < ports->count && r == 0; i++) {
        struct address address;
        address_from(&addresses[i].storage, addresses[i].size, &address);
        if (address.kind != ADDRESS_IP4 || memcmp(address.ip, "\x7f\0\0\1", 4) != 0)
            r = err_set(err, ERR_BAD_INPUT,
                        "%s: with --fleet only ports are chosen, as in 127.0.0.1:8000; PoP number "
                        "i is at 127.0.1.i",
                        ports->flag);
        ports->numbers[i] = address.port;
    }
    return r;
}

static int check_flags(const struct cli *cli, struct err *err)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (cli_option_value(cli, refused[i]))
            return err_set(err, ERR_BAD_INPUT, "%s is not for a fleet: its file says such things",
                           refused[i]);
    if (cli_option_value(cli, "--trusted-proxies"))
        return err_set(err, ERR_BAD_INPUT,
                       "--trusted-proxies is not for a fleet: the relay alone "
                       "is trusted");
    return 0;
}

static int read_fleet(struct town *town, struct err *err)
{
    char libdir[HOME_PATH_BYTES];
    struct cities *cities = NULL;
    struct err none = {};
    struct cli *cli = town->cli;
    int r = home_libdir(libdir, err);
    if (r < 0)
        return r;
    /* Without cities a file that gives coordinates will do. */
    if (cities_open(arena_format(cli->arena, "%s/" CITIES_FILE, libdir), &cities, &none) < 0 &&
        none.code != ERR_NOT_FOUND) {
        *err = none;
        return none.code;
    }
    r = fleet_read(cli->arena, cli_option_value(cli, "--fleet"), cities, &town->fleet, err);
    cities_free(cities);
    return r;
}

/* ---- addresses ------------------------------------------------------------------------------ */

static struct address at(struct ip ip, uint16_t port)
{
    struct address address;
    address_from_ip(&ip, port, &address);
    return address;
}

/* All faces of one port, whose number is the same for all. */
static void add_faces(struct town *town, uint16_t number)
{
    struct box_port *first = &town->ports[town->port_count];
    struct ip own = fleet_control_face();
    town->ports[town->port_count++] = (struct box_port){
        .face = at(own, number),
        .inside = at(fleet_inside(0), number),
    };
    for (size_t i = 0; i < town->fleet.pop_count; i++)
        town->ports[town->port_count++] = (struct box_port){
            .face = at(fleet_face(i), number),
            .inside = at(fleet_inside(i), number),
            .pop = i,
            .like = first,
        };
}

static void lay_out(struct town *town)
{
    size_t each = town->fleet.pop_count + 1;
    town->ports = ARENA_ARRAY(town->cli->arena, struct box_port,
                              each * (town->gateway.count + town->control.count) + 1);
    for (size_t i = 0; i < town->gateway.count; i++)
        add_faces(town, town->gateway.numbers[i]);
    for (size_t i = 0; i < town->control.count; i++)
        add_faces(town, town->control.numbers[i]);
}

/* The admin port has no relay: what looks after a PoP stands beside it. A free one is taken where
 * none is said, the same for all. */
static int choose_admin(struct town *town, struct err *err)
{
    for (size_t i = 0; i < town->admin.count; i++) {
        struct address address = at(fleet_control_face(), 0);
        struct sockaddr_storage sockaddr;
        socklen_t size = address_to(&address, &sockaddr);
        if (town->admin.numbers[i])
            continue;
        auto_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *)&sockaddr, size) < 0 ||
            getsockname(fd, (struct sockaddr *)&sockaddr, &size) < 0)
            return err_set(err, ERR_INTERNAL, "finding a free port: %s", strerror(errno));
        address_from(&sockaddr, size, &address);
        town->admin.numbers[i] = address.port;
    }
    return 0;
}

/* "127.0.2.1:8000,127.0.2.1:8001"; `face` and for the first PoP as well 127.0.0.1. */
static const char *addresses_text(const struct town *town, const struct ports *ports, size_t first,
                                  size_t pop, bool inside)
{
    struct arena *arena = town->cli->arena;
    const char *all = "none";
    char text[ADDRESS_TEXT_BYTES];
    for (size_t i = 0; i < ports->count; i++) {
        const struct box_port *row =
            &town->ports[first + i * (town->fleet.pop_count + 1) + 1 + pop];
        const char *one = address_text(inside ? &row->inside : &row->face, text);
        all = i ? arena_format(arena, "%s,%s", all, one) : arena_string(arena, slice_of(one));
    }
    return all;
}

static const char *admin_text(const struct town *town, size_t pop, bool own)
{
    struct arena *arena = town->cli->arena;
    const char *all = NULL;
    char text[ADDRESS_TEXT_BYTES];
    for (size_t i = 0; i < town->admin.count; i++)
        for (int first = own && pop == 0; first >= 0; first--) {
            struct address address =
                at(first ? fleet_control_face() : fleet_face(pop), town->admin.numbers[i]);
            const char *one = address_text(&address, text);
            all = all ? arena_format(arena, "%s,%s", all, one) : arena_string(arena, slice_of(one));
        }
    return all ? all : "none";
}

/* ---- trees ---------------------------------------------------------------------------------- */

static const char *home_of(const struct town *town, size_t pop)
{
    return arena_format(town->cli->arena, "%s/pops/%.*s", town->cli->home,
                        SLICE_FMT(town->fleet.pops[pop].name));
}

/* Where addresses are, for each PoP's gateway. */
static const char *addresses_file(const struct town *town)
{
    return arena_format(town->cli->arena, "%s/run/places", town->cli->home);
}

static int write_places(const struct town *town, struct err *err)
{
    struct arena *arena = town->cli->arena;
    struct where_file file = {};
    file.count = fleet_where(&town->fleet, arena, &file.blocks);
    file.has_fallback = fleet_where_default(&town->fleet, &file.fallback);
    return disk_replace(addresses_file(town), where_file_print(arena, &file), err);
}

static const char *const *arguments_of(const struct town *town, size_t pop)
{
    const struct cli *cli = town->cli;
    const struct fleet_pop *row = &town->fleet.pops[pop];
    const char **all = ARENA_ARRAY(cli->arena, const char *, ARGUMENTS_MAX);
    size_t count = 0, control = town->gateway.count * (town->fleet.pop_count + 1);
    char *country = arena_alloc(cli->arena, 3);
    country_code_of(town->fleet.places[pop].country, country);
    const char *const said[][2] = {
        { "--home", home_of(town, pop) },
        { "--pop", arena_string(cli->arena, row->name) },
        { "--country", country },
        { "--listen-gateway", addresses_text(town, &town->gateway, 0, pop, true) },
        { "--listen-control", addresses_text(town, &town->control, control, pop, true) },
        { "--listen-admin", admin_text(town, pop, true) },
        { "--listen-dns", "none" },
        { "--trusted-proxies", BOX_RELAY_ADDRESS },
        { "--city", row->city.size ? arena_string(cli->arena, row->city) : NULL },
        { "--addresses", addresses_file(town) },
    };
    all[count++] = "up";
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        if (said[i][1]) {
            all[count++] = said[i][0];
            all[count++] = said[i][1];
        }
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++)
        if (cli_option_value(cli, passed[i])) {
            all[count++] = passed[i];
            all[count++] = cli_option_value(cli, passed[i]);
        }
    return all;
}

static size_t trees(const struct box_tree **ret, void *data)
{
    struct town *town = data;
    struct arena *arena = town->cli->arena;
    town->trees = ARENA_ARRAY(arena, struct box_tree, town->fleet.pop_count);
    for (size_t i = 0; i < town->fleet.pop_count; i++)
        town->trees[i] = (struct box_tree){
            .name = arena_string(arena, town->fleet.pops[i].name),
            .pop = i,
            .arguments = arguments_of(town, i),
            .ready_file = arena_format(arena, "%s/run/addresses.json", home_of(town, i)),
        };
    *ret = town->trees;
    return town->fleet.pop_count;
}

/* ---- ready ---------------------------------------------------------------------------------- */

static void write_list(struct json_writer *w, const char *key, struct arena *arena,
                       const char *text)
{
    struct slice rest = slice_of(arena_string(arena, slice_of(text)));
    json_key(w, key);
    json_array_begin(w);
    while (rest.size && !slice_is(rest, "none"))
        json_string(w, slice_cut(&rest, ','));
    json_array_end(w);
}

/* The same keys as of one PoP: those of the first at 127.0.0.1. Then each by its name. */
static int write_addresses(const struct town *town, struct err *err)
{
    struct arena *arena = town->cli->arena;
    size_t each = town->fleet.pop_count + 1, control = town->gateway.count * each;
    struct json_writer w;
    char text[ADDRESS_TEXT_BYTES];
    json_begin(&w, arena, JSON_NEWLINE);
    json_object_begin(&w);
    for (int list = 0; list < 2; list++) {
        const struct ports *ports = list ? &town->control : &town->gateway;
        json_key(&w, list ? "control" : "gateway");
        json_array_begin(&w);
        for (size_t i = 0; i < ports->count; i++)
            json_text(&w, address_text(&town->ports[(list ? control : 0) + i * each].face, text));
        json_array_end(&w);
    }
    write_list(&w, "tls", arena, "none");
    json_key(&w, "admin");
    json_array_begin(&w);
    for (size_t i = 0; i < town->admin.count; i++) {
        struct address address = at(fleet_control_face(), town->admin.numbers[i]);
        json_text(&w, address_text(&address, text));
    }
    json_array_end(&w);
    write_list(&w, "dns", arena, "none");
    json_key(&w, "pops");
    json_object_begin(&w);
    for (size_t i = 0; i < town->fleet.pop_count; i++) {
        json_key_slice(&w, town->fleet.pops[i].name);
        json_object_begin(&w);
        write_list(&w, "gateway", arena, addresses_text(town, &town->gateway, 0, i, false));
        write_list(&w, "control", arena, addresses_text(town, &town->control, control, i, false));
        write_list(&w, "admin", arena, admin_text(town, i, false));
        json_object_end(&w);
    }
    json_object_end(&w);
    json_object_end(&w);
    return disk_replace(arena_format(arena, "%s/run/addresses.json", town->cli->home), json_end(&w),
                        err);
}

static int on_round(unsigned round, void *data, struct err *err)
{
    (void)round;
    (void)data;
    (void)err;
    return 0;
}

static int on_ready(void *data, struct err *err)
{
    static const char *const titles[] = { "POP", "CITY", "GATEWAY", "CONTROL" };
    struct town *town = data;
    struct cli *cli = town->cli;
    size_t control = town->gateway.count * (town->fleet.pop_count + 1);
    int r = write_addresses(town, err);
    if (r < 0)
        return r;
    printf("A fleet of %zu is up. Its home is ", town->fleet.pop_count);
    cli_print_text(stdout, slice_of(cli->home));
    printf("\n");
    struct cli_table *table = cli_table_new(cli, titles, 4);
    for (size_t i = 0; i < town->fleet.pop_count; i++)
        cli_table_row(table, (struct slice[]){
                                 town->fleet.pops[i].name,
                                 town->fleet.pops[i].city,
                                 slice_of(addresses_text(town, &town->gateway, 0, i, false)),
                                 slice_of(addresses_text(town, &town->control, control, i, false)),
                             });
    cli_table_print(table, stdout);
    printf("`curl --interface ADDRESS` is a client where the file says; `perigee fleet` shows and "
           "breaks links; Ctrl-C ends all.\n");
    (void)fflush(stdout);
    return 0;
}

/* ---- all ------------------------------------------------------------------------------------ */

static int make_homes(const struct town *town, struct err *err)
{
    const char *record = cli_option_value(town->cli, "--record");
    int r = disk_folder(arena_format(town->cli->arena, "%s/pops", town->cli->home), err);
    if (r == 0 && record)
        r = disk_folder(record, err);
    for (size_t i = 0; i < town->fleet.pop_count && r == 0; i++)
        r = home_make(home_of(town, i), err);
    return r;
}

int fleet_up(struct cli *cli, struct err *err)
{
    struct town *town = ARENA_NEW(cli->arena, struct town);
    auto_close int lock = -1;
    town->cli = cli;
    town->gateway = (struct ports){ "--listen-gateway", "127.0.0.1:8000,127.0.0.1:8001", {}, 0 };
    town->control = (struct ports){ "--listen-control", "127.0.0.1:8080", {}, 0 };
    town->admin = (struct ports){ "--listen-admin", "127.0.0.1:8002", {}, 0 };
    int r = check_flags(cli, err);
    if (r == 0)
        r = up_log_level(cli, err);
    if (r == 0)
        r = read_ports(cli, &town->gateway, err);
    if (r == 0)
        r = read_ports(cli, &town->control, err);
    if (r == 0)
        r = read_ports(cli, &town->admin, err);
    if (r == 0)
        r = read_fleet(town, err);
    if (r < 0)
        return cli_usage(cli, r);
    if ((r = home_make(cli->home, err)) < 0 || (r = home_lock(cli->home, &lock, err)) < 0 ||
        (r = make_homes(town, err)) < 0 || (r = write_places(town, err)) < 0 ||
        (r = choose_admin(town, err)) < 0)
        return r;
    lay_out(town);
    (void)setenv(FLEET_ENVIRONMENT, "1", 1); /* its trees say nothing of themselves */
    struct box_config config = {
        .fleet = &town->fleet,
        .home = cli->home,
        .record = cli_option_value(cli, "--record"),
        .ports = town->ports,
        .port_count = town->port_count,
        .trees = trees,
        .on_round = on_round,
        .on_ready = on_ready,
        .data = town,
    };
    r = box_run(&config, err);
    (void)unlink(arena_format(cli->arena, "%s/run/addresses.json", cli->home));
    (void)unlink(addresses_file(town));
    return r;
}
