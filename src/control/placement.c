/* SPDX-License-Identifier: Apache-2.0 */
#include "control/placement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "control/control_own.h"
#include "control/granted.h"
#include "geo/sets.h"
#include "policy/place.h"
#include "policy/regions.h"
#include "store/store.h"

/* ---- what an endpoint takes of its PoPs ------------------------------------------------------ */

static void take(struct hub_endpoint *endpoint, int sign)
{
    if (sign > 0) {
        endpoint->place_cpu_milli = endpoint->snapshot->spec.flavor.cpu_milli;
        endpoint->place_memory_bytes = endpoint->snapshot->spec.flavor.memory_bytes;
    }
    for (size_t i = 0; i < endpoint->place_count; i++) {
        const struct hub_place *place = &endpoint->places[i];
        uint64_t replicas = place->replicas * (uint64_t)(int64_t)sign;
        place->pop->placed.replicas += replicas;
        place->pop->placed.cpu_milli += replicas * endpoint->place_cpu_milli;
        place->pop->placed.memory_bytes += replicas * endpoint->place_memory_bytes;
    }
}

void placement_drop(struct hub_endpoint *endpoint)
{
    take(endpoint, -1);
    placement_forget(endpoint);
    free(take_ptr(endpoint->places));
    endpoint->place_count = 0;
}

/* ---- deciding -------------------------------------------------------------------------------- */

/* Beside what others have taken of its limits; what this endpoint has was given back before. */
static uint32_t room(const struct hub_pop *pop, const struct endpoint_spec *spec)
{
    struct pop_spec left = pop->spec;
    if (left.limits.replicas)
        left.limits.replicas = left.limits.replicas > pop->placed.replicas
                                   ? left.limits.replicas - pop->placed.replicas
                                   : 0;
    bool none = pop->spec.limits.replicas && !left.limits.replicas;
    if (left.limits.cpu_milli) {
        none = none || left.limits.cpu_milli < pop->placed.cpu_milli + spec->flavor.cpu_milli;
        left.limits.cpu_milli -= none ? 0 : pop->placed.cpu_milli;
    }
    if (left.limits.memory_bytes) {
        none =
            none || left.limits.memory_bytes < pop->placed.memory_bytes + spec->flavor.memory_bytes;
        left.limits.memory_bytes -= none ? 0 : pop->placed.memory_bytes;
    }
    return none ? 0 : pop_spec_room(&left, spec->flavor.cpu_milli, spec->flavor.memory_bytes);
}

/* Right after a start PoPs have had no time to come back: they are taken to be where they were, or
 * the first one to come would be given all. */
static enum hub_pop_state state_of(const struct control *control, const struct hub_pop *pop)
{
    enum hub_pop_state state = hub_pop_state_of(pop);
    if (state != HUB_POP_UNREACHABLE || !pop->recalled || !control->hub.calm_ms)
        return state;
    return slice_is(pop->row.wanted, "drained") ? HUB_POP_DRAINING : HUB_POP_READY;
}

/* What the spec says of where it may run; made once for each spec. It was checked when it was
 * taken; sets may be others since, and then nowhere is safe. */
struct placement_where {
    struct arena *arena;
    struct regions regions;
    struct residency residency;
    struct countries process; /* where a replica may ever get a request */
    bool known;
    struct err err;
};

static const struct placement_where *where_of(struct control *control,
                                              struct hub_endpoint *endpoint)
{
    if (endpoint->where)
        return endpoint->where;
    const struct endpoint_spec *spec = &endpoint->snapshot->spec;
    struct arena *arena = arena_new();
    struct placement_where *where = ARENA_NEW(arena, struct placement_where);
    where->arena = arena;
    where->known = residency_compile(arena, spec, geo_sets_lookup, &control->sets,
                                     &where->residency, &where->err) == 0 &&
                   regions_compile(arena, spec, geo_sets_lookup, &control->sets, &where->regions,
                                   &where->err) == 0;
    if (where->known)
        where->process = residency_processable(&where->residency);
    return endpoint->where = where;
}

void placement_forget(struct hub_endpoint *endpoint)
{
    if (endpoint->where)
        arena_free(endpoint->where->arena);
    endpoint->where = NULL;
}

static bool allowed(const struct control *control, const struct placement_where *where,
                    const struct hub_pop *pop)
{
    const struct region_place place = hub_pop_place(control, pop);
    return where->known &&
           regions_allow(&where->regions, &where->residency, &where->process, &place);
}

/* In words, of one that is not allowed. */
static const char *refusal(const struct control *control, struct arena *arena,
                           const struct placement_where *where, const struct hub_pop *pop)
{
    const struct region_place place = hub_pop_place(control, pop);
    if (!where->known)
        return where->err.message;
    return regions_refusal(arena, &where->regions, &where->residency, &place);
}

static struct place_pop place_pop(const struct control *control, const struct endpoint_spec *spec,
                                  const struct hub_pop *pop)
{
    enum hub_pop_state state = state_of(control, pop);
    return (struct place_pop){
        .spot = pop->spot,
        .health = state == HUB_POP_READY      ? PLACE_UP
                  : state == HUB_POP_DRAINING ? PLACE_DRAINING
                                              : PLACE_SILENT,
        .room = room(pop, spec),
        .price =
            (float)pop_spec_price(&pop->spec, spec->flavor.cpu_milli, spec->flavor.memory_bytes),
    };
}

/* ---- a decision ------------------------------------------------------------------------------ */

struct decision {
    const struct placement_where *where;
    struct hub_pop *const *pops; /* by name, so that the same fleet always gives the same */
    size_t count;
    uint32_t *row_of; /* by hub_pop.index: its row, plus one; 0: it runs nothing */
    struct place_pop *rows;
    int64_t *since_ns; /* of each PoP that has it */
    struct place_result result;
};

static bool serves(const struct hub_endpoint *endpoint, const struct hub_pop *pop)
{
    const struct store_endpoint *row = &endpoint->snapshot->row;
    for (size_t i = 0; i < pop->replica_count; i++)
        if (pop->replicas[i].endpoint_uid == row->uid &&
            slice_is(pop->replicas[i].state, "ready") &&
            pop->replicas[i].revision == (row->serving ? row->serving : row->target))
            return true;
    return false;
}

/* Has all that it is placed on stood for long? */
static bool settled(struct control *control, const struct hub_endpoint *endpoint)
{
    int64_t before_ns = control_wall_ns(control) - PLACEMENT_SETTLED_NS;
    bool all = !control->hub.calm_ms;
    for (size_t i = 0; i < endpoint->place_count && all; i++)
        all = endpoint->places[i].since_ns <= before_ns &&
              endpoint->places[i].pop->state_ns <= before_ns;
    return all;
}

bool placement_due(struct control *control, const struct hub_endpoint *endpoint)
{
    return endpoint->place_spared && settled(control, endpoint);
}

/* Those that could run something at all, by name. */
static void pops_of(const struct control *control, struct arena *arena, struct decision *ret)
{
    const struct hub *hub = &control->hub;
    struct hub_pop **pops = ARENA_ARRAY(arena, struct hub_pop *, hub->sorted_count + 1);
    ret->row_of = ARENA_ARRAY(arena, uint32_t, hub->sorted_count + 1);
    for (size_t i = 0; i < hub->sorted_count && ret->count < PLACE_POPS_MAX; i++) {
        if (!hub_pop_runs(hub->sorted[i]) || hub_pop_state_of(hub->sorted[i]) == HUB_POP_RETIRED)
            continue;
        pops[ret->count++] = hub->sorted[i];
        ret->row_of[i] = (uint32_t)ret->count;
    }
    ret->pops = pops;
}

/* What it has of its PoPs was given back before. */
static void decide(struct control *control, struct arena *arena, struct hub_endpoint *endpoint,
                   struct decision *ret)
{
    const struct endpoint_spec *spec = &endpoint->snapshot->spec;
    *ret = (struct decision){ .where = where_of(control, endpoint) };
    pops_of(control, arena, ret);
    ret->rows = ARENA_ARRAY(arena, struct place_pop, ret->count + 1);
    ret->since_ns = ARENA_ARRAY(arena, int64_t, ret->count + 1);
    for (size_t i = 0; i < ret->count; i++) {
        ret->rows[i] = place_pop(control, spec, ret->pops[i]);
        ret->rows[i].allowed = allowed(control, ret->where, ret->pops[i]);
    }
    for (size_t i = 0; i < endpoint->place_count; i++) {
        const struct hub_place *place = &endpoint->places[i];
        uint32_t row = ret->row_of[place->pop->index];
        if (row == 0)
            continue;
        ret->rows[row - 1].has = place->replicas;
        ret->rows[row - 1].ready = serves(endpoint, place->pop);
        ret->since_ns[row - 1] = place->since_ns;
    }
    const struct place_input input = {
        .pops = ret->rows,
        .pop_count = ret->count,
        .spread_min = (uint32_t)spec->spread.pops,
        .replicas_min = (uint32_t)spec->scale.min,
        .replicas_max = (uint32_t)spec->scale.max,
        .pop_min = (uint32_t)spec->scale.per_pop.min,
        .pop_max = (uint32_t)spec->scale.per_pop.max,
        .settled = settled(control, endpoint),
    };
    place_decide(arena, &input, &ret->result);
}

/* One that is given up goes on until those that follow it serve; not where it may not be. */
static void keep_leaving(const struct control *control, const struct hub_endpoint *endpoint,
                         const struct decision *decision)
{
    struct place_row *rows = decision->result.rows;
    size_t chosen = 0, serving = 0;
    for (size_t i = 0; i < decision->count; i++)
        if (rows[i].reason == PLACE_CHOSEN) {
            chosen++;
            serving += decision->rows[i].ready;
        }
    bool followed = chosen > 0 && serving == chosen; /* nobody follows where nothing was chosen */
    for (size_t i = 0; i < decision->count && !followed && !endpoint->snapshot->row.stopped; i++) {
        const struct place_pop *pop = &decision->rows[i];
        enum hub_pop_state state = state_of(control, decision->pops[i]);
        if (rows[i].replicas == 0 && rows[i].reason != PLACE_NOT_ALLOWED && pop->has &&
            pop->ready && (state == HUB_POP_READY || state == HUB_POP_DRAINING))
            rows[i].replicas = pop->has;
    }
}

static const char *why_not(const struct control *control, struct arena *arena,
                           const struct decision *decision, size_t i)
{
    if (!decision->rows[i].allowed)
        return refusal(control, arena, decision->where, decision->pops[i]);
    return place_reason_text(decision->result.rows[i].reason);
}

/* Of a fleet the first few; what is wrong is mostly the same for all. */
static void say_nowhere(const struct control *control, struct arena *arena,
                        struct hub_endpoint *endpoint, const struct decision *decision)
{
    size_t used = 0, room = sizeof endpoint->nowhere;
    endpoint->nowhere[0] = '\0';
    for (size_t i = 0; i < decision->count && used < room; i++) {
        const char *why = why_not(control, arena, decision, i);
        if (decision->count == 1)
            used += (size_t)snprintf(endpoint->nowhere + used, room - used, "%s", why);
        else
            used += (size_t)snprintf(endpoint->nowhere + used, room - used, "%s%.*s: %s",
                                     used ? "; " : "", SLICE_FMT(decision->pops[i]->name), why);
    }
}

static bool same(const struct hub_endpoint *endpoint, const struct hub_place *places, size_t count)
{
    bool equal = endpoint->place_count == count;
    for (size_t i = 0; i < count && equal; i++)
        equal = endpoint->places[i].pop == places[i].pop &&
                endpoint->places[i].replicas == places[i].replicas;
    return equal;
}

/* What it still runs there runs out, and is told of. */
static void leave(struct control *control, const struct hub_endpoint *endpoint,
                  const struct decision *decision)
{
    for (size_t i = 0; i < endpoint->place_count; i++) {
        struct hub_pop *pop = endpoint->places[i].pop;
        uint32_t row = decision->row_of[pop->index];
        if (row == 0 || decision->result.rows[row - 1].replicas == 0)
            granted_leave(control, pop, endpoint->snapshot->row.uid);
    }
}

static void take_over(struct control *control, struct arena *arena, struct hub_endpoint *endpoint,
                      const struct decision *decision)
{
    struct hub_place *places = ARENA_ARRAY(arena, struct hub_place, decision->count + 1);
    int64_t now_ns = control_wall_ns(control);
    size_t kept = 0;
    for (size_t i = 0; i < decision->count; i++) {
        uint32_t replicas = decision->result.rows[i].replicas;
        int64_t since_ns = decision->rows[i].has ? decision->since_ns[i] : now_ns;
        if (replicas)
            places[kept++] = (struct hub_place){ decision->pops[i], replicas, since_ns };
    }
    if (same(endpoint, places, kept))
        return;
    leave(control, endpoint, decision);
    free(endpoint->places);
    endpoint->places = mem_alloc((kept + 1) * sizeof *places);
    memcpy(endpoint->places, places, kept * sizeof *places);
    endpoint->place_count = kept;
    endpoint->places_unsaved = true;
    placement_save_soon(control);
}

void placement_update(struct control *control, struct hub_endpoint *endpoint)
{
    struct arena *arena = arena_new();
    struct decision decision;
    take(endpoint, -1);
    decide(control, arena, endpoint, &decision);
    keep_leaving(control, endpoint, &decision);
    take_over(control, arena, endpoint, &decision);
    endpoint->forbidden = endpoint->place_count == 0 && decision.count > 0;
    for (size_t i = 0; i < decision.count && endpoint->forbidden; i++)
        endpoint->forbidden = !decision.rows[i].allowed;
    if (endpoint->place_count == 0)
        say_nowhere(control, arena, endpoint, &decision);
    endpoint->spread_short = decision.result.spread_short;
    endpoint->min_short = decision.result.min_short;
    endpoint->place_spared = decision.result.spared;
    take(endpoint, 1);
    arena_free(arena);
}

void placement_recall(struct control *control, struct hub_endpoint *endpoint,
                      const struct store_placement *rows, unsigned long count)
{
    placement_drop(endpoint);
    endpoint->places = mem_alloc((count + 1) * sizeof *endpoint->places);
    for (unsigned long i = 0; i < count; i++) {
        struct hub_pop *pop = map_get(&control->hub.pops, rows[i].pop);
        if (pop && rows[i].replicas <= UINT32_MAX)
            endpoint->places[endpoint->place_count++] =
                (struct hub_place){ pop, (uint32_t)rows[i].replicas, rows[i].since_ns };
    }
    take(endpoint, 1);
}
