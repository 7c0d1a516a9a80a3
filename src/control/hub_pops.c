/* SPDX-License-Identifier: Apache-2.0 */
/* PoPs, as they were told and as they report; and whose views change with it. */
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "control/control_own.h"
#include "control/hub_own.h"
#include "control/report.h"
#include "io/loop.h"

static void sort_in(struct hub *hub, struct hub_pop *pop)
{
    size_t at = hub->sorted_count++;
    hub->sorted = mem_resize((void *)hub->sorted, hub->sorted_count, sizeof(struct hub_pop *));
    for (; at > 0 && slice_order(hub->sorted[at - 1]->name, pop->name) > 0; at--) {
        hub->sorted[at] = hub->sorted[at - 1];
        hub->sorted[at]->index = at;
    }
    hub->sorted[at] = pop;
    pop->index = at;
}

struct hub_pop *hub_pop(struct control *control, struct slice name)
{
    struct hub_pop *pop = map_get(&control->hub.pops, name);
    if (!pop) {
        pop = mem_zalloc(sizeof *pop);
        pop->name = hub_copy(name);
        (void)map_put(&control->hub.pops, pop->name, pop);
        sort_in(&control->hub, pop);
    }
    return pop;
}

/* Endpoints that either of the two lists names. */
static void refresh_touched(struct control *control, const struct hub_replica *replicas,
                            size_t count, struct map *done)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t uid = replicas[i].endpoint_uid;
        struct hub_endpoint *endpoint = map_get_u64(&control->hub.by_uid, uid);
        if (endpoint && !map_get_u64(done, uid)) {
            (void)map_put_u64(done, uid, endpoint);
            hub_refresh(control, endpoint);
        }
    }
}

/* Endpoints of which the PoP wants another number now, or for another reason, or keeps more lines
 * to itself, or that it governs otherwise. */
static void refresh_scaled(struct control *control, const struct hub_pop *pop,
                           const struct report_endpoint *old, size_t old_count, struct map *done)
{
    struct map before = {};
    for (size_t i = 0; i < old_count; i++)
        (void)map_put_u64(&before, old[i].uid, (void *)&old[i]);
    for (size_t i = 0; i < pop->endpoint_count; i++) {
        const struct report_endpoint *said = &pop->endpoints[i];
        const struct report_endpoint *was = map_get_u64(&before, said->uid);
        struct hub_endpoint *endpoint = map_get_u64(&control->hub.by_uid, said->uid);
        if (!endpoint || map_get_u64(done, said->uid) ||
            (was && was->generation == said->generation && was->scaled == said->scaled &&
             was->desired == said->desired && was->lines_kept == said->lines_kept &&
             slice_equal(was->scale_text, said->scale_text)))
            continue;
        (void)map_put_u64(done, said->uid, endpoint);
        hub_refresh(control, endpoint);
    }
    map_deinit(&before);
}

/* Those that have another number of bytes by the second list. */
static void refresh_volumes(struct control *control, const struct hub_volumes *volumes,
                            size_t count, const struct hub_volumes *other, size_t other_count,
                            struct map *done)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t uid = volumes[i].endpoint_uid;
        struct hub_endpoint *endpoint = map_get_u64(&control->hub.by_uid, uid);
        if (!endpoint || map_get_u64(done, uid) ||
            report_volumes_of(other, other_count, uid) == volumes[i].bytes)
            continue;
        (void)map_put_u64(done, uid, endpoint);
        hub_refresh(control, endpoint);
    }
}

void hub_pop_state(struct control *control, struct hub_pop *pop, struct arena *arena,
                   const struct report *report)
{
    struct hub_replica *replicas = report->replicas;
    size_t count = report->replica_count;
    struct map done = {};
    struct arena *old_arena = pop->arena;
    struct hub_replica *old = pop->replicas;
    size_t old_count = pop->replica_count, said_count = pop->endpoint_count;
    const struct report_endpoint *said = pop->endpoints;
    const struct hub_volumes *volumes = pop->volumes;
    size_t volumes_count = pop->volumes_count;
    bool all = pop->silent || pop->reported_ms == 0; /* PoPs heard of are in every state */
    bool moved = pop->gateway_port != report->gateway_port;

    pop->arena = arena;
    pop->replicas = replicas;
    pop->replica_count = count;
    pop->endpoints = report->endpoints;
    pop->endpoint_count = report->endpoint_count;
    pop->loads = report->loads;
    pop->load_count = report->load_count;
    pop->loads_told = report->loads_told;
    pop->clients = report->clients;
    pop->client_count = report->client_count;
    pop->activity = report->activity;
    pop->activity_count = report->activity_count;
    pop->volumes = report->volumes;
    pop->volumes_count = report->volumes_count;
    pop->gateway_port = report->gateway_port;
    pop->peers = report->peers;
    pop->peer_list = report->peer_list;
    pop->peer_count = report->peer_count;
    snprintf(pop->sets, sizeof pop->sets, "%.*s", SLICE_FMT(report->sets));
    pop->reported_ms = loop_now_ms(control->loop);
    pop->reported_ns = control_wall_ns(control);
    pop->silent = pop->recalled = pop->unheard = false;
    if (pop->reported_ms == 0)
        pop->reported_ms = 1;
    if (all) {
        hub_refresh_all(control);
    } else {
        if (moved)
            hub_peers_later(control);
        refresh_touched(control, old, old_count, &done);
        refresh_touched(control, replicas, count, &done);
        refresh_scaled(control, pop, said, said_count, &done);
        refresh_volumes(control, volumes, volumes_count, pop->volumes, pop->volumes_count, &done);
        refresh_volumes(control, pop->volumes, pop->volumes_count, volumes, volumes_count, &done);
    }
    map_deinit(&done);
    arena_free(old_arena);
}

void hub_pop_row(struct control *control, const struct store_pop *row)
{
    struct hub_pop *pop = hub_pop(control, row->name);
    struct arena *arena = arena_new();
    yyjson_val *tree;
    struct err err = {};
    struct pop_spec spec = {};
    struct slice text = arena_copy(arena, row->spec);
    if (text.size && (json_parse(arena, text, NULL, &tree, &err) < 0 ||
                      pop_spec_parse(arena, tree, &spec, &err) < 0))
        log_error("control", "what was said of a PoP cannot be read", LOG_SLICE("pop", row->name),
                  LOG_S("error", err.message));
    if (pop->row_arena && !slice_equal(pop->row.secret, row->secret)) { /* another agent may come */
        pop->instance = pop->sequence = pop->heard_instance = pop->heard_sequence = 0;
        pop->sets[0] = '\0';
        free(take_ptr(pop->kept));
        demand_free(&pop->demand);
    }
    if (slice_is(row->wanted, "retired")) { /* nobody will say that they ended */
        pop->endpoint_count = pop->replica_count = pop->load_count = pop->client_count = 0;
        pop->volumes_count = 0;
        demand_free(&pop->demand);
        secrets_told_deinit(&pop->secrets);
    }
    arena_free(pop->row_arena);
    pop->row_arena = arena;
    pop->spec = spec;
    pop->spot = spec.located ? spot_at(spec.latitude, spec.longitude) : (struct spot){};
    pop->row = (struct store_pop){
        .name = pop->name,
        .spec = text,
        .wanted = arena_copy(arena, row->wanted),
        .token = arena_copy(arena, row->token),
        .token_until_ns = row->token_until_ns,
        .secret = arena_copy(arena, row->secret),
        .created_ns = row->created_ns,
        .tombstone = arena_copy(arena, row->tombstone),
        .retired_ns = row->retired_ns,
    };
    hub_refresh_all(control);
}

void hub_pop_watched(struct control *control, struct hub_pop *pop, bool there)
{
    enum hub_pop_state before = hub_pop_state_of(pop);
    pop->watches += there ? 1 : -1U;
    if (there && before != hub_pop_state_of(pop))
        hub_refresh_all(control); /* it can be given something */
}

enum hub_pop_state hub_pop_state_of(const struct hub_pop *pop)
{
    if (slice_is(pop->row.wanted, "retired"))
        return HUB_POP_RETIRED;
    if (pop->row.spec.size && !pop->row.secret.size)
        return HUB_POP_JOINING; /* it has not, or not yet with its new token */
    if (pop->silent && !pop->watches)
        return HUB_POP_UNREACHABLE;
    if (pop->reported_ms == 0 && !pop->watches)
        return HUB_POP_JOINING;
    return slice_is(pop->row.wanted, "drained") ? HUB_POP_DRAINING : HUB_POP_READY;
}

bool hub_pop_runs(const struct hub_pop *pop)
{
    return pop->spec.kind != POP_KIND_DNS;
}

bool hub_pop_sets_differ(const struct control *control, struct slice said)
{
    return said.size && !slice_is(said, control->sets_digest);
}

const char *hub_pop_state_word(enum hub_pop_state state)
{
    static const char *const words[] = {
#define HUB_POP_STATE(id, word, text) word,
        HUB_POP_STATES(HUB_POP_STATE)
#undef HUB_POP_STATE
    };
    return words[state];
}

struct region_place hub_pop_place(const struct control *control, const struct hub_pop *pop)
{
    if (pop->row.spec.size == 0 && slice_equal(pop->name, control->place.name))
        return control->place;
    return (struct region_place){ pop->name, pop->spec.region, pop->spec.country };
}

struct report_sum hub_sum(struct control *control, const struct store_endpoint *row,
                          struct slice pop, const struct report_endpoint *said)
{
    struct arena *arena = arena_new();
    struct report_endpoint *rows =
        ARENA_ARRAY(arena, struct report_endpoint, control->hub.pops.count + 1);
    size_t count = 0;
    rows[count++] = *said;
    MAP_EACH (entry, &control->hub.pops) {
        const struct hub_pop *other = entry->value;
        if (slice_equal(other->name, pop))
            continue;
        for (size_t i = 0; i < other->endpoint_count; i++)
            if (other->endpoints[i].uid == row->uid)
                rows[count++] = other->endpoints[i];
    }
    struct report_sum sum = report_sum(rows, count, row->target);
    arena_free(arena);
    return sum;
}

uint64_t hub_observed(struct control *control, const struct store_endpoint *row)
{
    uint64_t least = row->generation;
    MAP_EACH (entry, &control->hub.pops) {
        const struct hub_pop *pop = entry->value;
        enum hub_pop_state state = hub_pop_state_of(pop);
        if (state != HUB_POP_READY && state != HUB_POP_DRAINING)
            continue;
        for (size_t i = 0; i < pop->endpoint_count; i++) {
            const struct report_endpoint *said = &pop->endpoints[i];
            if (said->uid == row->uid && said->governed && said->generation < least)
                least = said->generation;
        }
    }
    return least;
}

bool hub_has_replicas(struct control *control, uint64_t uid)
{
    MAP_EACH (entry, &control->hub.pops) {
        const struct hub_pop *pop = entry->value;
        for (size_t i = 0; i < pop->replica_count; i++)
            if (pop->replicas[i].endpoint_uid == uid)
                return true;
    }
    return false;
}
