/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other PoPs, as one loop knows them: of the table where they are, of the mesh how they are, of
 * its own requests who failed a moment ago.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "contract/mesh.h"
#include "gateway/forward_own.h"
#include "gateway/mesh.h"
#include "gateway/request.h"
#include "io/loop.h"
#include "policy/seed.h"

#define TELL_NS INT64_C(100'000'000) /* between two messages to the agent */

/* ---- peers ---------------------------------------------------------------------------------- */

static struct forward_peer *peer_get(struct forwards *forwards, struct slice name)
{
    struct forward_peer *peer = map_get(&forwards->peers, name);

    if (peer || name.size >= sizeof peer->name)
        return peer;
    peer = mem_zalloc(sizeof *peer);
    memcpy(peer->name, name.data, name.size);
    map_put(&forwards->peers, slice_of(peer->name), peer);
    return peer;
}

/* Those that the table does not have any more, and no request was with. */
static void peers_sweep(struct forwards *forwards)
{
    MAP_EACH (entry, &forwards->peers) {
        struct forward_peer *peer = entry->value;
        if (peer->listed || peer->held > 0)
            continue;
        map_remove(&forwards->peers, entry->key);
        free(peer);
    }
}

/* May it be tried? */
static bool peer_open(struct forwards *forwards, struct forward_peer *peer, bool tunnel,
                      int64_t now_ns)
{
    unsigned loops = forwards->gl->gateway->loops;
    unsigned char key[HOP_KEY_BYTES];

    if (!peer->keyed || now_ns >= peer->key_asked_ns + FORWARD_KEY_NS) {
        peer->key_asked_ns = now_ns;
        peer->keyed = peer_keys_find(forwards->gl->gateway->keys, slice_of(peer->name), key);
        explicit_bzero(key, sizeof key);
    }
    return peer->keyed && now_ns >= peer->avoid_until_ns &&
           peer->calls < FORWARD_PEER_CALLS_MAX / loops &&
           (!tunnel || peer->tunnels < FORWARD_PEER_TUNNELS_MAX / loops);
}

/* ---- telling the agent ---------------------------------------------------------------------- */

struct seen {
    struct gateway *gateway;
    union message message;
};

/* Main thread. What the agent does not take now is lost: its own probes see the same. */
static void on_seen(void *data)
{
    struct seen *seen = data;

    (void)gateway_send_agent(seen->gateway, &seen->message);
    free(seen);
}

static void peer_tell(struct forwards *forwards, struct forward_peer *peer)
{
    struct seen *seen = mem_zalloc(sizeof *seen);
    struct message_peer_seen *told = &seen->message.as_MESSAGE_PEER_SEEN;

    seen->gateway = forwards->gl->gateway;
    *told = (struct message_peer_seen)MESSAGE_INIT(MESSAGE_PEER_SEEN);
    memcpy(told->pop, peer->name, sizeof told->pop);
    told->seen = peer->seen < MESSAGE_SEEN_MAX ? peer->seen : MESSAGE_SEEN_MAX;
    told->failed = peer->failed < told->seen ? peer->failed : told->seen;
    peer->seen = peer->failed = 0;
    loop_post(forwards->gl->gateway->main, on_seen, seen);
}

void forward_peer_avoid(struct forward_peer *peer)
{
    peer->avoid_until_ns = loop_now_ns() + FORWARD_AVOID_NS;
}

void forward_peer_done(struct forwards *forwards, struct forward_peer *peer, enum forward_seen seen)
{
    int64_t now = loop_now_ns();

    peer->calls--;
    if (seen != FORWARD_SEEN_NOTHING)
        peer->seen++;
    if (seen != FORWARD_SEEN_FAILED)
        return;
    peer->failed++;
    forward_peer_avoid(peer);
    if (forwards->told_ns && now - forwards->told_ns < TELL_NS)
        return; /* forward_peers_tell() will */
    forwards->told_ns = now;
    peer_tell(forwards, peer);
}

void forward_peers_tell(struct forwards *forwards)
{
    MAP_EACH (entry, &forwards->peers) {
        struct forward_peer *peer = entry->value;
        if (peer->seen > 0)
            peer_tell(forwards, peer);
    }
}

/* ---- the table's PoPs ----------------------------------------------------------------------- */

struct columns { /* of struct route_pops, while they are filled in */
    float *x, *y, *z;
    uint64_t *key;
    country_number *country;
};

/* Its first one of the kind that this PoP dials from, else its first. */
static struct address address_of(const struct forwards *forwards, const struct table_head *table,
                                 uint32_t row)
{
    const struct table_pop *pop = table_pop(table, row);
    enum address_kind wanted = forwards->source.kind;
    struct address found = {};

    for (uint32_t i = 0; i < pop->address_count; i++) {
        struct address address;
        address_from_ip(&table_addresses(table, pop)[i], table_pop_port(table, row), &address);
        if (i == 0 || (address.kind == wanted && found.kind != wanted))
            found = address;
    }
    return found;
}

static void pop_set(struct forwards *forwards, const struct table_head *table, uint32_t row,
                    struct columns *columns)
{
    struct forward_pops *pops = &forwards->pops;
    const struct table_pop *pop = table_pop(table, row);
    struct slice name = table_text(table, pop->name);

    if (pop->flags & TABLE_POP_LOCATED) {
        struct spot spot = spot_at(pop->latitude, pop->longitude);
        columns->x[row] = spot.x;
        columns->y[row] = spot.y;
        columns->z[row] = spot.z;
    }
    columns->key[row] = seed_of_pop(name);
    columns->country[row] = (country_number)pop->country;
    if (slice_equal(name, table_text(table, table->pop))) {
        pops->own = row;
        pops->draining = pop->flags & TABLE_POP_DRAINING;
    } else if (pop->address_count > 0) {
        struct forward_peer *peer = peer_get(forwards, name);
        if (!peer)
            return;
        peer->address = address_of(forwards, table, row);
        peer->listed = true;
        pops->peer[row] = peer;
    }
}

static void pops_build(struct forwards *forwards, struct table *table)
{
    struct forward_pops *pops = &forwards->pops;
    const struct table_head *head = table->head;
    size_t count = 0;

    while (count < ROUTE_POPS_MAX && table_pop(head, (uint32_t)count))
        count++;
    forwards_forget(forwards);
    pops->table = table_ref(table);
    pops->arena = arena_new();
    pops->own = TABLE_NONE;
    pops->health = ARENA_ARRAY(pops->arena, uint8_t, count + 1);
    pops->known = ARENA_ARRAY(pops->arena, uint8_t, count + 1);
    pops->rtt_ms = ARENA_ARRAY(pops->arena, float, count + 1);
    pops->mesh_row = ARENA_ARRAY(pops->arena, uint32_t, count + 1);
    pops->peer = ARENA_ARRAY(pops->arena, struct forward_peer *, count + 1);
    struct columns columns = {
        .x = ARENA_ARRAY(pops->arena, float, count + 1),
        .y = ARENA_ARRAY(pops->arena, float, count + 1),
        .z = ARENA_ARRAY(pops->arena, float, count + 1),
        .key = ARENA_ARRAY(pops->arena, uint64_t, count + 1),
        .country = ARENA_ARRAY(pops->arena, country_number, count + 1),
    };
    MAP_EACH (entry, &forwards->peers)
        ((struct forward_peer *)entry->value)->listed = false;
    for (uint32_t i = 0; i < count; i++)
        pop_set(forwards, head, i, &columns);
    peers_sweep(forwards);
    pops->route = (struct route_pops){ count,       columns.x,       columns.y,   columns.z,
                                       columns.key, columns.country, pops->health };
}

void forwards_forget(struct forwards *forwards)
{
    arena_free(forwards->pops.arena);
    table_unref(forwards->pops.table);
    forwards->pops = (struct forward_pops){};
}

void forward_pops_free(struct forwards *forwards)
{
    forwards_forget(forwards);
    MAP_EACH (entry, &forwards->peers)
        free(entry->value);
    map_deinit(&forwards->peers);
}

/* ---- how they are --------------------------------------------------------------------------- */

/* The operator's word, and without a mesh control's. */
static uint8_t health_of(uint32_t flags, const struct mesh_pop *pop)
{
    if (pop ? pop->health == MESH_DOWN : !(flags & TABLE_POP_UP))
        return ROUTE_DOWN;
    if (flags & TABLE_POP_DRAINING || (pop && pop->health == MESH_DRAINING))
        return ROUTE_DRAINING;
    return ROUTE_UP;
}

/* By the mesh, where it is another than the last time. */
static void pops_measure(struct forward_pops *pops, const struct mesh_head *mesh)
{
    const struct table_head *table = pops->table->head;

    for (uint32_t i = 0; i < pops->route.count; i++) {
        const struct table_pop *row = table_pop(table, i);
        const struct mesh_pop *pop =
            mesh ? mesh_find_pop(mesh, table_text(table, row->name)) : NULL;
        pops->mesh_row[i] = pop ? (uint32_t)(pop - mesh_pops(mesh)) : UINT32_MAX;
        pops->rtt_ms[i] = i == pops->own ? 0 : pop ? pop->rtt_ms : NAN;
        if (i == pops->own) /* it is up: it is here that we are */
            pops->known[i] = health_of(row->flags | TABLE_POP_UP, NULL);
        else
            pops->known[i] = health_of(row->flags, pop);
    }
}

const struct forward_pops *forward_pops(struct forwards *forwards, struct table *table, bool tunnel)
{
    struct forward_pops *pops = &forwards->pops;
    int64_t now = loop_now_ns();
    const struct mesh_head *mesh = mesh_view_head(forwards->gl->mesh, now);
    bool other = pops->table != table;

    if (other)
        pops_build(forwards, table);
    if (other || pops->mesh != mesh || (mesh && pops->mesh_number != mesh->number)) {
        pops_measure(pops, mesh);
        pops->mesh = mesh;
        pops->mesh_number = mesh ? mesh->number : 0;
    }
    for (uint32_t i = 0; i < pops->route.count; i++) {
        bool open =
            i == pops->own || (pops->peer[i] && peer_open(forwards, pops->peer[i], tunnel, now));
        pops->health[i] = open ? pops->known[i] : ROUTE_DOWN;
    }
    return pops;
}

bool forward_draining(struct forwards *forwards, struct table *table)
{
    if (forwards->pops.table != table) {
        pops_build(forwards, table);
        pops_measure(&forwards->pops, NULL); /* forward_pops() sees that there is another mesh */
    }
    return forwards->pops.draining;
}

bool forward_peer_down(struct forwards *forwards, const struct forward_peer *peer)
{
    const struct mesh_head *mesh = mesh_view_head(forwards->gl->mesh, loop_now_ns());
    const struct mesh_pop *pop = mesh ? mesh_find_pop(mesh, slice_of(peer->name)) : NULL;

    return pop && pop->health == MESH_DOWN;
}
