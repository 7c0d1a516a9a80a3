/* SPDX-License-Identifier: Apache-2.0 */
/* perigee up --fleet FILE: control, then a PoP for each row and DNS, each a process tree with a
 * home of its own; behind a relay, but for DNS (bin/town.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "bin/roles.h"
#include "bin/town.h"
#include "cli/cli.h"
#include "geo/cities.h"
#include "geo/where_file.h"
#include "http/trust.h"
#include "spec/units.h"
#include "sys/env_linux.h"
#include "sys/fd.h"
#include "sys/home.h"

/* Of `up`'s flags those that say nothing to a fleet. */
static const char *const refused[] = { "--pop",       "--country", "--city",
                                       "--addresses", "--open",    "--listen-tls" };

/* ---- what was said -------------------------------------------------------------------------- */

static int read_ports(const struct cli *cli, struct ports *ports, struct err *err)
{
    struct listen_address addresses[LISTEN_ADDRESSES_MAX];
    int r = listen_parse(ports->flag,
                         town_listen_text(cli, ports->flag, ports->environment, ports->usual),
                         addresses, &ports->count, err);
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

static int read_record(struct cli *cli, uint64_t *ret_bytes, struct err *err)
{
    const char *most = cli_option_value(cli, "--record-max");
    if (!most)
        return 0;
    if (!cli_option_value(cli, "--record"))
        return err_set(err, ERR_BAD_INPUT, "--record-max stands beside --record");
    int r = units_parse_bytes(slice_of(most), ret_bytes, err);
    if (r == 0 && *ret_bytes == 0)
        r = err_set(err, ERR_BAD_INPUT, "it must be 1 byte or more");
    return r < 0 ? err_wrap(err, "--record-max") : 0;
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

static const char *faces_text(const struct town *town, const struct ports *ports)
{
    struct arena *arena = town->cli->arena;
    const char *all = NULL;
    size_t each = town->fleet.pop_count + 1;
    for (size_t i = 0; i < ports->count; i++) {
        struct ip own = fleet_control_face();
        struct address admin;
        address_from_ip(&own, ports->numbers[i], &admin);
        all =
            town_list_add(arena, all, ports == &town->admin ? &admin : &town->ports[i * each].face);
    }
    return all ? all : "none";
}

/* The same keys as of one PoP: those of the first at 127.0.0.1. Then each by its name. */
static int write_addresses(const struct town *town, struct err *err)
{
    struct arena *arena = town->cli->arena;
    struct json_writer w;
    json_begin(&w, arena, JSON_NEWLINE);
    json_object_begin(&w);
    write_list(&w, "gateway", arena, faces_text(town, &town->gateway));
    write_list(&w, "tls", arena, "none");
    write_list(&w, "control", arena, town_control_text(town, false));
    write_list(&w, "admin", arena, faces_text(town, &town->admin));
    write_list(&w, "dns", arena, town_dns_text(town));
    json_key(&w, "pops");
    json_object_begin(&w);
    for (size_t i = 0; i < town->fleet.pop_count; i++) {
        json_key_slice(&w, town->fleet.pops[i].name);
        json_object_begin(&w);
        write_list(&w, "gateway", arena, town_gateway_text(town, i, false));
        write_list(&w, "admin", arena, town_admin_text(town, i, false));
        json_object_end(&w);
    }
    json_object_end(&w);
    json_object_end(&w);
    return disk_replace(arena_format(arena, "%s/run/addresses.json", town->cli->home), json_end(&w),
                        err);
}

static int on_ready(void *data, struct err *err)
{
    static const char *const titles[] = { "POP", "CITY", "GATEWAY" };
    struct town *town = data;
    struct cli *cli = town->cli;
    town_dns_keep(town);
    int r = write_addresses(town, err);
    if (r < 0)
        return r;
    printf("A fleet of %zu is up. Its home is ", town->fleet.pop_count);
    cli_print_text(stdout, slice_of(cli->home));
    printf("\nControl is at %s.\nDNS is at %s.\n\n", town_control_text(town, false),
           town_dns_text(town));
    struct cli_table *table = cli_table_new(cli, titles, 3);
    for (size_t i = 0; i < town->fleet.pop_count; i++)
        cli_table_row(table, (struct slice[]){
                                 town->fleet.pops[i].name,
                                 town->fleet.pops[i].city,
                                 slice_of(town_gateway_text(town, i, false)),
                             });
    cli_table_print(table, stdout);
    printf(
        "\n`curl --interface ADDRESS` is a client where the file says; `perigee fleet` shows and "
        "breaks links; Ctrl-C ends all.\n");
    (void)fflush(stdout);
    return 0;
}

/* Where addresses are, for each PoP's gateway. */
static const char *places_file(const struct town *town)
{
    return arena_format(town->cli->arena, "%s/run/places", town->cli->home);
}

static int write_places(const struct town *town, struct err *err)
{
    struct arena *arena = town->cli->arena;
    struct where_file file = {};
    file.count = fleet_where(&town->fleet, arena, &file.blocks);
    file.has_fallback = fleet_where_default(&town->fleet, &file.fallback);
    return disk_replace(places_file(town), where_file_print(arena, &file), err);
}

/* ---- all ------------------------------------------------------------------------------------ */

static int make_homes(const struct town *town, struct err *err)
{
    const char *record = cli_option_value(town->cli, "--record");
    int r = disk_folder(arena_format(town->cli->arena, "%s/pops", town->cli->home), err);
    if (r == 0 && record)
        r = disk_folder(record, err);
    if (r == 0)
        r = home_make(town_control_home(town), err);
    if (r == 0 && town->dns)
        r = home_make(town_dns_home(town), err);
    for (size_t i = 0; i < town->fleet.pop_count && r == 0; i++)
        r = home_make(town_home(town, i), err);
    return r;
}

int fleet_up(struct cli *cli, struct err *err)
{
    struct town *town = ARENA_NEW(cli->arena, struct town);
    auto_close int lock = -1;
    town->cli = cli;
    town->gateway = (struct ports){ .flag = "--listen-gateway",
                                    .environment = "PERIGEE_LISTEN_GATEWAY",
                                    .usual = "127.0.0.1:8000,127.0.0.1:8001" };
    town->control = (struct ports){ .flag = "--listen-control",
                                    .environment = "PERIGEE_LISTEN_CONTROL",
                                    .usual = "127.0.0.1:8080" };
    town->admin = (struct ports){ .flag = "--listen-admin",
                                  .environment = "PERIGEE_LISTEN_ADMIN",
                                  .usual = "127.0.0.1:8002" };
    uint64_t record_bytes_max = 0;
    int r = check_flags(cli, err);
    if (r == 0)
        r = read_record(cli, &record_bytes_max, err);
    if (r == 0)
        r = up_log_level(cli, err);
    if (r == 0)
        r = read_ports(cli, &town->gateway, err);
    if (r == 0)
        r = read_ports(cli, &town->control, err);
    if (r == 0)
        r = read_ports(cli, &town->admin, err);
    if (r == 0 && !town->control.count)
        r = err_set(err, ERR_BAD_INPUT, "--listen-control: a fleet needs its control");
    if (r == 0)
        r = read_fleet(town, err);
    if (r == 0)
        r = town_read_dns(town, err);
    if (r == 0)
        r = up_https(cli, err);
    if (r == 0)
        r = up_geo(cli, err);
    if (r == 0)
        r = up_sets(cli, err);
    if (r < 0)
        return cli_usage(cli, r);
    if ((r = home_make(cli->home, err)) < 0 || (r = home_lock(cli->home, &lock, err)) < 0 ||
        (r = make_homes(town, err)) < 0 || (r = write_places(town, err)) < 0 ||
        (r = town_choose_admin(town, err)) < 0)
        return r;
    town_recall_control(town);
    town_lay_out(town);
    (void)setenv(WHERE_FILE_ENVIRONMENT, places_file(town), 1);
    (void)setenv(FLEET_ENVIRONMENT, "1", 1); /* its trees say nothing of themselves */
    (void)setenv(TRUST_ENVIRONMENT, BOX_RELAY_ADDRESS, 1);
    struct box_config config = {
        .fleet = &town->fleet,
        .home = cli->home,
        .record = cli_option_value(cli, "--record"),
        .record_bytes_max = record_bytes_max,
        .ports = town->ports,
        .port_count = town->port_count,
        .trees = town_trees,
        .on_round = town_round,
        .on_ready = on_ready,
        .data = town,
    };
    r = box_run(&config, err);
    (void)unlink(places_file(town));
    (void)unlink(arena_format(cli->arena, "%s/run/addresses.json", cli->home));
    return r;
}
