/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All PoPs, this one among them, as control tells them. Where this one stands is control's word:
 * regions name labels that only an operator gives.
 */
#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "policy/rtt.h"
#include "pop/state_inside.h"
#include "spec/endpoint.h"
#include "spec/pop.h"

static int addresses_read(struct arena *arena, yyjson_val *item, struct table_source_pop *ret,
                          struct err *err)
{
    yyjson_val *list, *text;
    size_t index, count;
    int r = json_get_array(item, "addresses", JSON_OPTIONAL, &list, err);
    if (r <= 0)
        return r;
    if (yyjson_arr_size(list) > POP_ADDRESSES_MAX)
        return err_set(err, ERR_BAD_INPUT, "PoP '%s' has more than %d addresses",
                       ERR_SLICE(ret->name), (int)POP_ADDRESSES_MAX);
    struct ip *addresses = ARENA_ARRAY(arena, struct ip, yyjson_arr_size(list) + 1);
    yyjson_arr_foreach(list, index, count, text)
    {
        if (!ip_parse(json_slice(text), &addresses[index]))
            return err_set(err, ERR_BAD_INPUT, "PoP '%s': '%s' is no address", ERR_SLICE(ret->name),
                           ERR_SLICE(json_slice(text)));
    }
    ret->addresses = addresses;
    ret->address_count = yyjson_arr_size(list);
    return 0;
}

static int peer_read(struct arena *arena, yyjson_val *item, struct table_source_pop *ret,
                     struct err *err)
{
    struct slice country = {}, state = {};
    double latitude = 0, longitude = 0;
    *ret = (struct table_source_pop){};
    if (json_get_string(item, "name", JSON_REQUIRED, &ret->name, err) < 0 ||
        json_get_string(item, "region", JSON_OPTIONAL, &ret->region, err) < 0 ||
        json_get_string(item, "state", JSON_OPTIONAL, &state, err) < 0 ||
        json_get_string(item, "country", JSON_OPTIONAL, &country, err) < 0)
        return ERR_BAD_INPUT;
    int located = json_get_double(item, "latitude", JSON_OPTIONAL, &latitude, err);
    if (located < 0 || json_get_double(item, "longitude", JSON_OPTIONAL, &longitude, err) < 0)
        return ERR_BAD_INPUT;
    if (!spot_valid(latitude, longitude))
        return err_set(err, ERR_BAD_INPUT, "PoP '%s' stands nowhere on Earth",
                       ERR_SLICE(ret->name));
    ret->country = country_number_of(country);
    ret->latitude = (float)latitude;
    ret->longitude = (float)longitude;
    ret->flags = (located ? TABLE_POP_LOCATED : 0) |
                 (slice_is(state, "ready") || slice_is(state, "draining") ? TABLE_POP_UP : 0) |
                 (slice_is(state, "draining") || yyjson_is_true(json_member(item, "draining"))
                      ? TABLE_POP_DRAINING /* whether or not control hears it now */
                      : 0);
    uint64_t port = 0;
    if (json_get_u64(item, "port", JSON_OPTIONAL, &port, err) < 0)
        return ERR_BAD_INPUT;
    if (port > UINT16_MAX)
        return err_set(err, ERR_BAD_INPUT, "PoP '%s' has port %llu", ERR_SLICE(ret->name),
                       (unsigned long long)port);
    ret->port = (uint16_t)port;
    int r = addresses_read(arena, item, ret, err);
    return r < 0 ? r : spec_check_name(ret->name, "PoP", err);
}

static void stand(struct pop *pop, const struct table_source_pop *own)
{
    struct pop_endpoint *endpoint;
    if (slice_equal(pop->place.region, own->region) && pop->place.country == own->country)
        return;
    pop->place.region = arena_copy(pop->place_arena, own->region);
    pop->place.country = own->country;
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link) {
        bool unread = map_get_u64(&pop->unread, endpoint->uid) != NULL; /* it, or a newer one */
        struct err err = {};
        if (!endpoint->wanted)
            continue;
        if (pop_endpoint_apply(pop, endpoint->json, &err) < 0)
            log_error("pop", "an endpoint cannot be read anew", LOG_S("endpoint", endpoint->name),
                      LOG_S("error", err.message));
        if (unread)
            pop_unread_set(pop, endpoint->uid, true);
    }
}

/* Of this PoP. Without: a control from before they were told, or no bounds. */
static int limits_read(yyjson_val *item, struct pop_room *ret, struct err *err)
{
    yyjson_val *limits = json_member(item, "limits");
    *ret = (struct pop_room){};
    if (!limits)
        return 0;
    if (json_get_u64(limits, "replicas", JSON_OPTIONAL, &ret->replicas, err) < 0 ||
        json_get_u64(limits, "cpu_milli", JSON_OPTIONAL, &ret->cpu_milli, err) < 0 ||
        json_get_u64(limits, "memory_bytes", JSON_OPTIONAL, &ret->memory_bytes, err) < 0)
        return ERR_BAD_INPUT;
    return 0;
}

static void limits_take(struct pop *pop, const struct pop_room *limits)
{
    bool moved = memcmp(&pop->limits, limits, sizeof *limits) != 0;
    pop->limits = *limits;
    if (moved)
        pop_reconcile_soon(pop);
}

int pop_peers_apply(struct pop *pop, struct slice json, struct err *err)
{
    struct arena *arena = arena_new();
    struct slice copy = arena_copy(arena, json);
    yyjson_val *root, *item;
    size_t index, count;
    struct pop_room own = {};
    int r = json_parse(arena, copy, NULL, &root, err);
    if (r == 0 && (!yyjson_is_arr(root) || yyjson_arr_size(root) > POP_PEERS_MAX))
        r = err_set(err, ERR_BAD_INPUT, "PoPs must be a list of at most %d", (int)POP_PEERS_MAX);
    if (r < 0) {
        arena_free(arena);
        return r;
    }
    struct table_source_pop *peers =
        ARENA_ARRAY(arena, struct table_source_pop, yyjson_arr_size(root) + 1);
    yyjson_arr_foreach(root, index, count, item)
    {
        r = peer_read(arena, item, &peers[index], err);
        if (r == 0 && pop->name && slice_is(peers[index].name, pop->name))
            r = limits_read(item, &own, err);
        if (r < 0) {
            arena_free(arena);
            return r;
        }
    }
    limits_take(pop, &own);
    arena_free(pop->peers_arena);
    pop->peers_arena = arena;
    pop->peers_json = copy;
    pop->peers = peers;
    pop->peer_count = yyjson_arr_size(root);
    for (size_t i = 0; i < pop->peer_count; i++)
        if (pop->name && slice_is(peers[i].name, pop->name))
            stand(pop, &peers[i]);
    pop->effects->save(pop, pop->data);
    pop->effects->publish(pop, pop->data);
    return 0;
}
