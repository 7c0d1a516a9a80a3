/* SPDX-License-Identifier: Apache-2.0 */
#include "bin/town.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/cli.h"
#include "http/client.h"
#include "sys/fd.h"

enum { ARGUMENTS_MAX = 48 };

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
        .flag = town->gateway.flag,
        .face = at(own, number),
        .inside = at(fleet_inside(0), number),
    };
    for (size_t i = 0; i < town->fleet.pop_count; i++)
        town->ports[town->port_count++] = (struct box_port){
            .flag = town->gateway.flag,
            .face = at(fleet_face(i), number),
            .inside = at(fleet_inside(i), number),
            .pop = i,
            .like = first,
        };
}

void town_lay_out(struct town *town)
{
    size_t each = town->fleet.pop_count + 1;
    town->ports = ARENA_ARRAY(town->cli->arena, struct box_port,
                              each * town->gateway.count + town->control.count + 1);
    for (size_t i = 0; i < town->gateway.count; i++)
        add_faces(town, town->gateway.numbers[i]);
    for (size_t i = 0; i < town->control.count; i++)
        town->ports[town->port_count++] = (struct box_port){
            .flag = town->control.flag,
            .face = at(fleet_control_face(), town->control.numbers[i]),
            .inside = at(fleet_control_inside(), town->control.numbers[i]),
            .control = true,
        };
}

int town_choose_admin(struct town *town, struct err *err)
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

const char *town_listen_text(const struct cli *cli, const char *flag, const char *environment,
                             const char *usual)
{
    const char *given = cli_option_value(cli, flag), *told = getenv(environment);
    if (given)
        return given;
    return told && *told ? told : usual;
}

const char *town_list_add(struct arena *arena, const char *all, const struct address *address)
{
    char text[ADDRESS_TEXT_BYTES];
    const char *one = address_text(address, text);
    return all ? arena_format(arena, "%s,%s", all, one) : arena_string(arena, slice_of(one));
}

const char *town_gateway_text(const struct town *town, size_t pop, bool inside)
{
    const char *all = NULL;
    for (size_t i = 0; i < town->gateway.count; i++) {
        const struct box_port *row = &town->ports[i * (town->fleet.pop_count + 1) + 1 + pop];
        all = town_list_add(town->cli->arena, all, inside ? &row->inside : &row->face);
    }
    return all ? all : "none";
}

const char *town_control_text(const struct town *town, bool inside)
{
    const char *all = NULL;
    for (size_t i = town->port_count - town->control.count; i < town->port_count; i++)
        all = town_list_add(town->cli->arena, all,
                            inside ? &town->ports[i].inside : &town->ports[i].face);
    return all ? all : "none";
}

const char *town_admin_text(const struct town *town, size_t pop, bool own)
{
    const char *all = NULL;
    for (size_t i = 0; i < town->admin.count; i++)
        for (int first = own && pop == 0; first >= 0; first--) {
            struct address address =
                at(first ? fleet_control_face() : fleet_face(pop), town->admin.numbers[i]);
            all = town_list_add(town->cli->arena, all, &address);
        }
    return all ? all : "none";
}

/* ---- trees ---------------------------------------------------------------------------------- */

const char *town_home(const struct town *town, size_t pop)
{
    return arena_format(town->cli->arena, "%s/pops/%.*s", town->cli->home,
                        SLICE_FMT(town->fleet.pops[pop].name));
}

const char *town_control_home(const struct town *town)
{
    return arena_format(town->cli->arena, "%s/fleet-control", town->cli->home);
}

const char *const *town_arguments(const struct town *town, const char *command,
                                  const char *const said[][2], const char *const *passed)
{
    const struct cli *cli = town->cli;
    const char **all = ARENA_ARRAY(cli->arena, const char *, ARGUMENTS_MAX);
    size_t count = 0;
    all[count++] = command;
    for (size_t i = 0; said[i][0]; i++) {
        all[count++] = said[i][0];
        all[count++] = said[i][1];
    }
    for (size_t i = 0; passed[i]; i++)
        if (cli_option_value(cli, passed[i])) {
            all[count++] = passed[i];
            all[count++] = cli_option_value(cli, passed[i]);
        }
    return all;
}

static const char *const *control_arguments(const struct town *town)
{
    static const char *const passed[] = { "--zone", "--api-host", "--log-level", NULL };
    return town_arguments(town, "control",
                          (const char *const[][2]){
                              { "--home", town_control_home(town) },
                              { "--listen-control", town_control_text(town, true) },
                              {},
                          },
                          passed);
}

const char *town_join_url(const struct town *town)
{
    struct slice rest = slice_of(town_control_text(town, false));
    struct slice first = slice_cut(&rest, ',');
    return arena_format(town->cli->arena, "http://%.*s", SLICE_FMT(first));
}

static const char *const *pop_arguments(const struct town *town, size_t pop)
{
    static const char *const passed[] = { "--loops",   "--spin-us",   "--limits",
                                          "--sandbox", "--log-level", NULL };
    return town_arguments(town, "pop",
                          (const char *const[][2]){
                              { "--home", town_home(town, pop) },
                              { "--join", town_join_url(town) },
                              { "--listen-gateway", town_gateway_text(town, pop, true) },
                              { "--listen-admin", town_admin_text(town, pop, true) },
                              { "--listen-dns", "none" },
                              {},
                          },
                          passed);
}

const char **town_environment(const struct town *town, struct ip place)
{
    const char **all = ARENA_ARRAY(town->cli->arena, const char *, 3);
    char text[IP_TEXT_BYTES];
    all[0] = arena_format(town->cli->arena, HTTP_SOURCE_ENVIRONMENT "=%s", ip_text(&place, text));
    return all;
}

size_t town_trees(const struct box_tree **ret, void *data)
{
    struct town *town = data;
    struct arena *arena = town->cli->arena;
    size_t count = town->fleet.pop_count + 1 + (town->dns != NULL);
    town->trees = ARENA_ARRAY(arena, struct box_tree, count);
    town->trees[0] = (struct box_tree){
        .name = "control",
        .pop = BOX_NO_POP,
        .arguments = control_arguments(town),
        .ready_file = arena_format(arena, "%s/run/addresses.json", town_control_home(town)),
    };
    for (size_t i = 0; i < town->fleet.pop_count; i++)
        town->trees[1 + i] = (struct box_tree){
            .name = arena_string(arena, town->fleet.pops[i].name),
            .pop = i,
            .round = 1,
            .arguments = pop_arguments(town, i),
            .environment = town_environment(town, fleet_face(i)),
            .ready_file = arena_format(arena, "%s/run/addresses.json", town_home(town, i)),
        };
    if (town->dns)
        town->trees[count - 1] = town_dns_tree(town);
    *ret = town->trees;
    return count;
}
