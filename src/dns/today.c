/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/today.h"

#include <string.h>

#include "base/arena.h"
#include "contract/mesh.h"
#include "contract/messages.h"
#include "contract/table.h"
#include "dns/view.h"
#include "dns/young.h"
#include "io/address.h"
#include "policy/believed.h"
#include "policy/route.h"

struct ips {
    struct ip items[DNS_HOST_ADDRESSES_MAX];
    size_t count;
    uint16_t port;   /* of the first */
    bool everywhere; /* it listens on all addresses, whatever these are */
};

static bool is_any(const struct ip *ip)
{
    static const uint8_t none[16] = {};
    return memcmp(ip->bytes + (ip_is4(ip) ? 12 : 0), none, ip_is4(ip) ? 4 : 16) == 0;
}

static bool ip_has(const struct ips *ips, const struct ip *ip)
{
    for (size_t i = 0; i < ips->count; i++)
        if (memcmp(ips->items[i].bytes, ip->bytes, sizeof ip->bytes) == 0)
            return true;
    return false;
}

/* Each address once. */
static struct ips ips_of(const struct dns_node *node, uint32_t kind, size_t max)
{
    struct ips ips = {};
    for (size_t i = 0; i < node->address_count; i++) {
        struct address address;
        struct err *ignored = NULL;
        struct ip ip;
        if (node->addresses[i].kind != kind ||
            address_parse(slice_of(node->addresses[i].text), &address, ignored) < 0 ||
            (address.kind != ADDRESS_IP4 && address.kind != ADDRESS_IP6))
            continue;
        if (address.kind == ADDRESS_IP4)
            ip = ip_from4(address.ip);
        else
            memcpy(ip.bytes, address.ip, sizeof ip.bytes);
        if (ips.port == 0)
            ips.port = address.port;
        ips.everywhere = ips.everywhere || is_any(&ip);
        if (!is_any(&ip) && ips.count < max && !ip_has(&ips, &ip))
            ips.items[ips.count++] = ip;
    }
    return ips;
}

/* The label of a host below the zone, or empty. */
static struct slice label_below(struct slice host, struct slice zone)
{
    if (host.size <= zone.size + 1 || host.data[host.size - zone.size - 1] != '.' ||
        !slice_equal_nocase((struct slice){ host.data + host.size - zone.size, zone.size }, zone))
        return (struct slice){};
    struct slice label = { host.data, host.size - zone.size - 1 };
    return memchr(label.data, '.', label.size) ? (struct slice){} : label;
}

static struct dns_source_host host(struct slice name, const struct ips *ips)
{
    return (struct dns_source_host){ name, ips->items, ips->count, ips->everywhere };
}

/* A PoP that answers and says nothing of it has not heard of it yet, and starts it then: nobody can
 * hide that, since it would not know what it is asked for. Of a young endpoint all are what control
 * says: one PoP is asked sooner than the other, and who was asked first would have everybody. */
static void weigh(const struct dns_node *node, const uint32_t *mesh_rows,
                  const struct table_endpoint *endpoint, struct dns_source_place *places,
                  size_t place_count)
{
    size_t count;
    if (!node->mesh || endpoint->state == TABLE_ENDPOINT_STOPPED)
        return;
    const struct mesh_load *loads = mesh_loads(node->mesh, endpoint->uid, &count);
    float start_ms = route_start_ms((float)endpoint->start_ms, mesh_last_start_ms(loads, count));
    bool young = node->young && dns_young_is(node->young, endpoint->uid, node->now_ns);
    for (size_t i = 0; i < place_count; i++) {
        struct dns_source_place *place = &places[i];
        uint32_t row = mesh_rows[place->pop];
        const struct mesh_load *load = row == TABLE_NONE ? NULL : mesh_load_at(loads, count, row);
        if (row == TABLE_NONE)
            continue;
        if (!load) {
            place->start_ms = young ? 0 : start_ms;
            continue;
        }
        place->wait_ms = load->wait_ms;
        place->service_ms = load->service_ms;
        place->start_ms = load->start_ms;
        place->weight = load->weight;
        place->hides = true;
    }
}

/* Of each PoP of the table its row of the mesh; found once, not for each endpoint. */
static const uint32_t *mesh_rows_of(struct arena *arena, const struct dns_node *node,
                                    const struct dns_source_pop *pops, size_t count)
{
    uint32_t *rows = ARENA_ARRAY(arena, uint32_t, count + 1);
    for (size_t i = 0; i < count; i++) {
        const struct mesh_pop *pop = node->mesh ? mesh_find_pop(node->mesh, pops[i].name) : NULL;
        rows[i] = pop ? (uint32_t)(pop - mesh_pops(node->mesh)) : TABLE_NONE;
    }
    return rows;
}

/* Where it is placed, of the PoPs that can be named; stopped, too, so that all of them answer the
 * same. Of a table that tells of no placements it is here, or not; with other PoPs, only while it
 * runs. `own` TABLE_NONE: this PoP is not in the table. */
static struct dns_source_place *places_of(struct arena *arena, const struct table_head *table,
                                          const struct table_endpoint *endpoint,
                                          const struct table_residency *residency, uint32_t own,
                                          size_t *ret_count)
{
    size_t room = residency ? residency->placement_count : 0;
    struct dns_source_place *places = ARENA_ARRAY(arena, struct dns_source_place, room + 1);
    *ret_count = 0;
    if (room == 0) {
        *ret_count = own != TABLE_NONE &&
                     (endpoint->state == TABLE_ENDPOINT_RUNNING ||
                      (endpoint->state == TABLE_ENDPOINT_STOPPED && !table_pop(table, 1)));
        places[0] = (struct dns_source_place){ .pop = own, .weight = 1 };
        return places;
    }
    const struct table_placement *rows = table_placements(table, residency);
    for (size_t i = 0; i < room; i++) {
        const struct table_pop *pop = table_pop(table, rows[i].pop);
        if (rows[i].pop >= ROUTE_POPS_MAX)
            continue;
        if (rows[i].pop == own || pop->address_count > 0)
            places[(*ret_count)++] =
                (struct dns_source_place){ .pop = rows[i].pop, .weight = (float)rows[i].replicas };
    }
    return places;
}

static struct dns_source_endpoint endpoint_of(struct arena *arena, const struct dns_node *node,
                                              const uint32_t *mesh_rows,
                                              const struct table_head *table, uint32_t own,
                                              uint32_t row)
{
    const struct table_endpoint *endpoint = table_endpoint(table, row);
    const struct table_residency *rules = table_residency(table, row);
    struct residency *residency = ARENA_NEW(arena, struct residency);
    if (rules && rules->rule_count)
        *residency = (struct residency){ table_rules(table, rules), rules->rule_count,
                                         (country_number)rules->unknown_client };
    size_t place_count;
    struct dns_source_place *places = places_of(arena, table, endpoint, rules, own, &place_count);
    weigh(node, mesh_rows, endpoint, places, place_count);
    return (struct dns_source_endpoint){
        .name = table_text(table, endpoint->name),
        .project = table_text(table, endpoint->project),
        .places = places,
        .place_count = place_count,
        .residency = residency->count ? residency : NULL,
    };
}

/* By the same rule as in control's `explain`. */
static void measured(const struct dns_node *node, bool draining, struct dns_source_pop *pop)
{
    const struct mesh_pop *mesh = node->mesh ? mesh_find_pop(node->mesh, pop->name) : NULL;
    if (!mesh)
        return;
    static_assert((int)MESH_UP == (int)ROUTE_UP && (int)MESH_DRAINING == (int)ROUTE_DRAINING &&
                  (int)MESH_DOWN == (int)ROUTE_DOWN);
    struct believed believed = believed_of(pop->health);
    believed.draining = draining;
    believed_take(&believed, (struct believed_word){ (uint8_t)mesh->health, mesh->elsewhere });
    pop->health = believed_health(&believed);
    pop->stable = mesh->calm;
}

/* As the table has them, by their rows; this one with what its node knows better. */
static const struct dns_source_pop *pops_of(struct arena *arena, const struct table_head *table,
                                            const struct dns_node *node,
                                            const struct dns_source_pop *here, size_t *ret_count,
                                            uint32_t *ret_own)
{
    const struct table_pop *row;
    size_t count = 0;
    struct dns_source_pop *pops = ARENA_ARRAY(arena, struct dns_source_pop, ROUTE_POPS_MAX + 1);
    *ret_own = TABLE_NONE;
    for (; count < ROUTE_POPS_MAX && (row = table_pop(table, (uint32_t)count)); count++) {
        bool own = !node->alone && slice_equal(table_text(table, row->name), here->name);
        struct dns_source_pop *pop = &pops[count];
        *pop = own ? *here : (struct dns_source_pop){ .name = table_text(table, row->name) };
        pop->country = (country_number)row->country;
        pop->located = row->flags & TABLE_POP_LOCATED;
        pop->latitude = row->latitude;
        pop->longitude = row->longitude;
        bool draining = row->flags & TABLE_POP_DRAINING;
        pop->health = !(row->flags & TABLE_POP_UP) ? ROUTE_DOWN
                      : draining                   ? ROUTE_DRAINING
                                                   : ROUTE_UP;
        measured(node, draining, pop);
        if (row->address_count) { /* the operator's word */
            pop->addresses = table_addresses(table, row);
            pop->address_count = row->address_count;
            pop->everywhere = false;
        }
        if (own)
            *ret_own = (uint32_t)count;
    }
    if (count == 0 && !node->alone) {
        *ret_own = 0;
        pops[count++] = *here;
    }
    *ret_count = count;
    return pops;
}

int dns_view_today(const struct table_head *table, const struct dns_node *node,
                   struct dns_view **ret, struct err *err)
{
    struct ips gateway = ips_of(node, LISTENER_GATEWAY, DNS_POP_ADDRESSES_MAX);
    struct ips tls = ips_of(node, LISTENER_TLS, DNS_POP_ADDRESSES_MAX);
    struct ips control = ips_of(node, LISTENER_CONTROL, DNS_HOST_ADDRESSES_MAX);
    struct ips server = ips_of(node, LISTENER_DNS, DNS_HOST_ADDRESSES_MAX);
    struct slice zone = table_text(table, table->zone);
    struct dns_source_pop here = {
        .name = table_text(table, table->pop),
        .country = country_number_of(table_text(table, table->country)),
        .health = ROUTE_UP,
        .stable = node->stable,
        .https_port = tls.port,
        .addresses = gateway.items,
        .address_count = gateway.count,
        .everywhere = gateway.everywhere,
    };
    struct dns_source_host hosts[3] = { host(SLICE("ns1"), &server), host(SLICE("api"), &control) };
    size_t host_count = 2;
    struct slice api = label_below(node->api_host, zone);
    if (api.size)
        hosts[host_count++] = host(api, &control);
    struct arena *arena = arena_new();
    size_t count = table->endpoints.count, pop_count;
    uint32_t own;
    const struct dns_source_pop *pops = pops_of(arena, table, node, &here, &pop_count, &own);
    const uint32_t *mesh_rows = mesh_rows_of(arena, node, pops, pop_count);
    struct dns_source_endpoint *endpoints =
        ARENA_ARRAY(arena, struct dns_source_endpoint, count + 1);
    for (uint32_t i = 0; i < count; i++)
        endpoints[i] = endpoint_of(arena, node, mesh_rows, table, own, i);
    struct dns_source source = {
        .zone = zone,
        .number = table->number,
        .pops = pops,
        .pop_count = pop_count,
        .endpoints = endpoints,
        .endpoint_count = count,
        .hosts = hosts,
        .host_count = host_count,
        .map = node->map,
        .https = node->https,
        .observer = node->mesh ? table_text(table, table->pop) : (struct slice){},
    };
    int r = dns_view_build(&source, ret, err);
    arena_free(arena);
    return r;
}
