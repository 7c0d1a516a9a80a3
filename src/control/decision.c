/* SPDX-License-Identifier: Apache-2.0 */
#include "control/decision.h"

#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "control/control_own.h"
#include "control/placement.h"
#include "geo/sets.h"
#include "policy/schedule.h"

/* ---- PoPs ------------------------------------------------------------------------------------ */

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

/* Right after a start, or when no PoP was heard for a while, PoPs have had no time to come back:
 * they are taken to be where they were, or the first one to come would be given all. */
enum hub_pop_state decision_state(const struct control *control, const struct hub_pop *pop)
{
    enum hub_pop_state state = hub_pop_state_of(pop);
    if (state != HUB_POP_UNREACHABLE || (!pop->recalled && !pop->unheard) || !control->hub.calm_ms)
        return state;
    return slice_is(pop->row.wanted, "drained") ? HUB_POP_DRAINING : HUB_POP_READY;
}

/* ---- where it may be ------------------------------------------------------------------------- */

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

static bool allowed(const struct placement_where *where, const struct region_place *place)
{
    return where->known &&
           regions_allow(&where->regions, &where->residency, &where->process, place);
}

/* What `perigee up` runs itself says of no accelerator, and is tried. */
static bool stands(const struct control *control, const struct endpoint_spec *spec,
                   const struct hub_pop *pop)
{
    bool own = slice_is(pop->spec.name, control->start.pop) && !pop->spec.flavors.count;
    return own || spec_accelerator_stands(spec, &pop->spec.flavors);
}

/* In words, of one that is not allowed. */
static const char *refusal(struct arena *arena, const struct placement_where *where,
                           const struct region_place *place)
{
    if (!where->known)
        return where->err.message;
    if (allowed(where, place))
        return "no such accelerator stands there (flavor.accelerator; pops create --flavor)";
    return regions_refusal(arena, &where->regions, &where->residency, place);
}

static struct place_pop place_pop(const struct control *control, const struct endpoint_spec *spec,
                                  const struct hub_pop *pop)
{
    enum hub_pop_state state = decision_state(control, pop);
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
    return !control->hub.calm_ms &&
           (endpoint->demand_moved || (endpoint->place_spared && settled(control, endpoint)));
}

/* ---- who asks -------------------------------------------------------------------------------- */

/* PoPs that may serve clients of a country; false: none, they are refused. */
static bool group_of(const struct decision *decision, country_number country,
                     struct place_group *ret)
{
    struct residency_verdict verdict = residency_decide(&decision->where->residency, country, NULL);
    bool any = false;
    *ret = (struct place_group){};
    for (size_t i = 0; i < decision->count; i++) {
        if (!decision->rows[i].allowed ||
            !countries_has(&verdict.process, decision->places[i].country))
            continue;
        ret->pops[i / 64] |= UINT64_C(1) << i % 64;
        any = true;
    }
    return any;
}

#define GROUP_UNASKED (UINT32_MAX - 1)
#define GROUP_BEYOND (UINT32_MAX - 2)

/* Which PoPs the law leaves the clients of a country: row of `groups`, PLACE_ANYWHERE where it
 * leaves none of them, GROUP_BEYOND where there are too many groups. */
static uint32_t group_find(struct decision *decision, country_number country)
{
    struct place_group group;
    if (!group_of(decision, country, &group))
        return PLACE_ANYWHERE;
    for (uint32_t i = 0; i < decision->group_count; i++)
        if (memcmp(&decision->groups[i], &group, sizeof group) == 0)
            return i;
    if (decision->group_count == PLACE_GROUPS_MAX)
        return GROUP_BEYOND;
    decision->groups[decision->group_count] = group;
    return (uint32_t)decision->group_count++;
}

/* Does one of its PoPs run the endpoint? */
static bool has_pop(const struct decision *decision, const struct place_group *group)
{
    for (size_t i = 0; i < decision->count; i++)
        if (decision->rows[i].has && (group->pops[i / 64] >> i % 64 & 1))
            return true;
    return false;
}

/* A group asks for a PoP of its own, which a single request is not worth; what it has it keeps for
 * less, so that it does not come and go. */
static void groups_thin(struct decision *decision, const float rates[static PLACE_GROUPS_MAX])
{
    uint32_t now[PLACE_GROUPS_MAX];
    size_t groups = 0, demands = 0;
    for (size_t g = 0; g < decision->group_count; g++) {
        bool kept = rates[g] >= PLACE_RATE_KEPT && has_pop(decision, &decision->groups[g]);
        now[g] = rates[g] >= PLACE_RATE_MIN || kept ? (uint32_t)groups : PLACE_ANYWHERE;
        if (now[g] != PLACE_ANYWHERE)
            decision->groups[groups++] = decision->groups[g];
    }
    for (size_t d = 0; d < decision->demand_count; d++) {
        struct place_demand demand = decision->demands[d];
        demand.group = now[demand.group];
        if (demand.group == PLACE_ANYWHERE)
            continue;
        decision->cell_of[demands] = decision->cell_of[d];
        decision->demands[demands++] = demand;
    }
    decision->group_count = groups;
    decision->demand_count = demands;
}

/* Clients whom the law leaves no PoP count for nothing: wherever replicas are, they are refused. */
static void demands_make(struct arena *arena, struct decision *decision)
{
    float rates[PLACE_GROUPS_MAX] = {};
    uint32_t *groups = ARENA_ARRAY(arena, uint32_t, COUNTRY_NUMBER_MAX + 1);
    for (unsigned country = 0; country <= COUNTRY_NUMBER_MAX; country++)
        groups[country] = GROUP_UNASKED;
    for (size_t i = 0; i < decision->cell_count; i++) {
        const struct demand_cell *cell = &decision->cells[i];
        uint32_t *group = &groups[cell->country];
        if (*group == GROUP_UNASKED)
            *group = group_find(decision, cell->country);
        if (*group == PLACE_ANYWHERE || *group == GROUP_BEYOND) {
            *(*group == GROUP_BEYOND ? &decision->beyond : &decision->refused) += cell->rate;
            continue;
        }
        rates[*group] += cell->rate;
        decision->cell_of[decision->demand_count] = (uint32_t)i;
        decision->demands[decision->demand_count++] =
            (struct place_demand){ .spot = cell->spot, .rate = cell->rate, .group = *group };
    }
    groups_thin(decision, rates);
}

static void demand_read(struct control *control, struct arena *arena,
                        const struct hub_endpoint *endpoint, bool final, struct decision *decision)
{
    if (control->hub.calm_ms) /* not all PoPs have said yet from where they are asked */
        return;
    decision->cells = demand_of(control, arena, endpoint, final, &decision->cell_count);
    decision->demands = ARENA_ARRAY(arena, struct place_demand, decision->cell_count + 1);
    decision->cell_of = ARENA_ARRAY(arena, uint32_t, decision->cell_count + 1);
    decision->groups = ARENA_ARRAY(arena, struct place_group, PLACE_GROUPS_MAX);
    demands_make(arena, decision);
}

/* ---- the whole ------------------------------------------------------------------------------- */

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

/* What it has of its PoPs was given back before. `final`: it is placed by this now. */
void decision_make(struct control *control, struct arena *arena, struct hub_endpoint *endpoint,
                   bool final, struct decision *ret)
{
    const struct endpoint_spec *spec = &endpoint->snapshot->spec;
    *ret = (struct decision){ .where = where_of(control, endpoint) };
    pops_of(control, arena, ret);
    ret->rows = ARENA_ARRAY(arena, struct place_pop, ret->count + 1);
    ret->places = ARENA_ARRAY(arena, struct region_place, ret->count + 1);
    ret->since_ns = ARENA_ARRAY(arena, int64_t, ret->count + 1);
    for (size_t i = 0; i < ret->count; i++) {
        ret->rows[i] = place_pop(control, spec, ret->pops[i]);
        ret->places[i] = hub_pop_place(control, ret->pops[i]);
        ret->rows[i].allowed =
            allowed(ret->where, &ret->places[i]) && stands(control, spec, ret->pops[i]);
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
    demand_read(control, arena, endpoint, final, ret);
    ret->floors[0] = (uint32_t)spec->scale.min;
    ret->floor_count = 1 + schedule_levels(spec, ret->floors + 1, SPEC_WINDOWS_MAX);
    ret->input = (struct place_input){
        .pops = ret->rows,
        .pop_count = ret->count,
        .demands = ret->demands,
        .demand_count = ret->demand_count,
        .groups = ret->groups,
        .group_count = ret->group_count,
        .spread_min = (uint32_t)spec->spread.pops,
        .replicas_min = ret->floors[ret->floor_count - 1],
        .floors = ret->floors,
        .floor_count = ret->floor_count,
        .replicas_max = (uint32_t)spec->scale.max,
        .pop_min = (uint32_t)spec->scale.per_pop.min,
        .pop_max = (uint32_t)spec->scale.per_pop.max,
        .settled = settled(control, endpoint),
    };
    place_decide(arena, &ret->input, &ret->result);
}

const char *decision_why(struct arena *arena, const struct decision *decision, size_t row)
{
    if (!decision->rows[row].allowed)
        return refusal(arena, decision->where, &decision->places[row]);
    return place_reason_text(decision->result.rows[row].reason);
}
