/* SPDX-License-Identifier: Apache-2.0 */
/* DNS of a fleet: a tree of its own, which has no relay before it, since who asks is known by his
 * own address. */
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "bin/town.h"
#include "cli/cli.h"
#include "sys/env_linux.h"

enum { ADDRESSES_BYTES_MAX = 64 << 10 };

int town_read_dns(struct town *town, struct err *err)
{
    struct listen_address addresses[LISTEN_ADDRESSES_MAX];
    size_t count = 0;
    const char *text =
        town_listen_text(town->cli, "--listen-dns", "PERIGEE_LISTEN_DNS", "127.0.0.1:5300");
    int r = listen_parse("--listen-dns", text, addresses, &count, err);
    town->dns = count ? text : NULL;
    for (size_t i = 0; town->dns && i < town->fleet.pop_count && r == 0; i++)
        if (slice_is(town->fleet.pops[i].name, TOWN_DNS_NAME))
            r = err_set(err, ERR_BAD_INPUT,
                        "--fleet: the PoP '" TOWN_DNS_NAME
                        "' has the name of the box's DNS server; name it otherwise, or have no "
                        "DNS: --listen-dns none");
    return r;
}

const char *town_dns_home(const struct town *town)
{
    return arena_format(town->cli->arena, "%s/fleet-dns", town->cli->home);
}

static const char *addresses_file(const struct town *town)
{
    return arena_format(town->cli->arena, "%s/run/addresses.json", town_dns_home(town));
}

/* Its own address: the PoPs' have the same ports. */
static const char *admin_text(const struct town *town)
{
    struct ip ip = fleet_dns_admin();
    const char *all = NULL;
    for (size_t i = 0; i < town->admin.count; i++) {
        struct address address;
        address_from_ip(&ip, town->admin.numbers[i], &address);
        all = town_list_add(town->cli->arena, all, &address);
    }
    return all ? all : "none";
}

static const char *const *arguments(const struct town *town)
{
    static const char *const passed[] = { "--why-from", "--log-level", NULL };
    return town_arguments(
        town, "dns",
        (const char *const[][2]){
            { "--home", town_dns_home(town) },
            { "--join", town_join_url(town) },
            { "--listen-dns", town->dns },
            { "--listen-admin", admin_text(town) },
            { "--beside", arena_string(town->cli->arena, town->fleet.pops[0].name) },
            {},
        },
        passed);
}

/* It dials as who stands at 127.0.0.1, not as the first PoP: with that its connections would go. */
struct box_tree town_dns_tree(const struct town *town)
{
    return (struct box_tree){
        .name = TOWN_DNS_NAME,
        .pop = BOX_NO_POP,
        .round = 1,
        .arguments = arguments(town),
        .environment = town_environment(town, fleet_control_face()),
        .ready_file = addresses_file(town),
    };
}

const char *town_dns_text(const struct town *town)
{
    struct arena *arena = town->cli->arena;
    const char *all = NULL;
    struct slice text;
    yyjson_val *root, *item;
    size_t index, count;
    if (!town->dns ||
        disk_read(addresses_file(town), ADDRESSES_BYTES_MAX, arena, &text, NULL) < 0 ||
        json_parse(arena, text, NULL, &root, NULL) < 0)
        return "none";
    yyjson_arr_foreach(json_member(root, "dns"), index, count, item)
    {
        struct address address;
        if (address_parse(json_slice(item), &address, NULL) == 0)
            all = town_list_add(arena, all, &address);
    }
    return all ? all : "none";
}

void town_dns_keep(struct town *town)
{
    const char *text = town_dns_text(town);
    if (!town->dns || strcmp(text, "none") == 0)
        return;
    town->dns = text;
    town->trees[1 + town->fleet.pop_count].arguments = arguments(town);
}
