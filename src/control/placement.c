/* SPDX-License-Identifier: Apache-2.0 */
#include "control/placement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/log.h"
#include "control/control_own.h"
#include "control/granted.h"
#include "control/job.h"
#include "io/loop.h"
#include "io/timer.h"
#include "geo/sets.h"
#include "policy/place.h"
#include "policy/regions.h"
#include "store/store.h"

enum { PLACE_SAVE_MS = 10 };

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
    free(take_ptr(endpoint->places));
    endpoint->place_count = 0;
}

/* ---- deciding -------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return slice_order((*(struct hub_pop *const *)a)->name, (*(struct hub_pop *const *)b)->name);
}

/* In the order of their names, so that the same fleet always gives the same. */
static struct hub_pop **pops_of(struct control *control, struct arena *arena, size_t *ret_count)
{
    struct hub_pop **pops = ARENA_ARRAY(arena, struct hub_pop *, control->hub.pops.count + 1);
    size_t count = 0;
    MAP_EACH (entry, &control->hub.pops) {
        struct hub_pop *pop = entry->value;
        if (hub_pop_runs(pop) && hub_pop_state_of(pop) != HUB_POP_RETIRED)
            pops[count++] = pop;
    }
    qsort((void *)pops, count, sizeof *pops, by_name);
    *ret_count = count < PLACE_POPS_MAX ? count : PLACE_POPS_MAX;
    return pops;
}

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

/* What the spec says of where it may run. It was checked when it was taken; sets may be others
 * since, and then nowhere is safe. */
struct where {
    struct regions regions;
    struct residency residency;
    bool known;
    struct err err;
};

static void where_read(struct control *control, struct arena *arena,
                       const struct endpoint_spec *spec, struct where *ret)
{
    ret->known = residency_compile(arena, spec, geo_sets_lookup, &control->sets, &ret->residency,
                                   &ret->err) == 0 &&
                 regions_compile(arena, spec, geo_sets_lookup, &control->sets, &ret->regions,
                                 &ret->err) == 0;
}

/* NULL: it may. */
static const char *refusal(const struct control *control, struct arena *arena,
                           const struct where *where, const struct hub_pop *pop)
{
    const struct region_place place = hub_pop_place(control, pop);
    if (!where->known)
        return where->err.message;
    return regions_refusal(arena, &where->regions, &where->residency, &place);
}

static struct place_pop place_pop(const struct control *control,
                                  const struct hub_endpoint *endpoint, const struct hub_pop *pop)
{
    const struct endpoint_spec *spec = &endpoint->snapshot->spec;
    enum hub_pop_state state = state_of(control, pop);
    return (struct place_pop){
        .spot =
            pop->spec.located ? spot_at(pop->spec.latitude, pop->spec.longitude) : (struct spot){},
        .health = state == HUB_POP_READY      ? PLACE_UP
                  : state == HUB_POP_DRAINING ? PLACE_DRAINING
                                              : PLACE_SILENT,
        .room = room(pop, spec),
        .has = granted_replicas(endpoint, pop),
        .price =
            (float)pop_spec_price(&pop->spec, spec->flavor.cpu_milli, spec->flavor.memory_bytes),
    };
}

static bool same(const struct hub_endpoint *endpoint, const struct hub_place *places, size_t count)
{
    bool equal = endpoint->place_count == count;
    for (size_t i = 0; i < count && equal; i++)
        equal = endpoint->places[i].pop == places[i].pop &&
                endpoint->places[i].replicas == places[i].replicas;
    return equal;
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

/* One that is given up goes on until those that follow it serve; not where it may not be. */
static void keep_leaving(const struct control *control, const struct hub_endpoint *endpoint,
                         struct hub_pop *const *pops, size_t count, struct place_result *result)
{
    size_t chosen = 0, serving = 0;
    for (size_t i = 0; i < count; i++)
        if (result->rows[i].reason == PLACE_CHOSEN) {
            chosen++;
            serving += serves(endpoint, pops[i]);
        }
    bool followed = chosen > 0 && serving == chosen; /* nobody follows where nothing was chosen */
    for (size_t i = 0; i < count && !followed && !endpoint->snapshot->row.stopped; i++) {
        enum hub_pop_state state = state_of(control, pops[i]);
        if (result->rows[i].replicas == 0 && result->rows[i].reason != PLACE_NOT_ALLOWED &&
            serves(endpoint, pops[i]) && (state == HUB_POP_READY || state == HUB_POP_DRAINING))
            result->rows[i].replicas = granted_replicas(endpoint, pops[i]);
    }
}

/* Of a fleet the first few; what is wrong is mostly the same for all. */
static void say_nowhere(struct hub_endpoint *endpoint, struct hub_pop *const *pops,
                        const char *const *refusals, const struct place_result *result,
                        size_t count)
{
    size_t used = 0, room = sizeof endpoint->nowhere;
    endpoint->nowhere[0] = '\0';
    for (size_t i = 0; i < count && used < room; i++) {
        const char *why = refusals[i] ? refusals[i] : place_reason_text(result->rows[i].reason);
        if (count == 1)
            used += (size_t)snprintf(endpoint->nowhere + used, room - used, "%s", why);
        else
            used += (size_t)snprintf(endpoint->nowhere + used, room - used, "%s%.*s: %s",
                                     used ? "; " : "", SLICE_FMT(pops[i]->name), why);
    }
}

/* What it still runs there runs out, and is told of. */
static void leave(struct control *control, const struct hub_endpoint *endpoint,
                  const struct hub_place *places, size_t count)
{
    for (size_t i = 0; i < endpoint->place_count; i++) {
        bool stays = false;
        for (size_t k = 0; k < count && !stays; k++)
            stays = places[k].pop == endpoint->places[i].pop;
        if (!stays)
            granted_leave(control, endpoint->places[i].pop, endpoint->snapshot->row.uid);
    }
}

static int64_t since(const struct hub_endpoint *endpoint, const struct hub_pop *pop, int64_t now_ns)
{
    for (size_t i = 0; i < endpoint->place_count; i++)
        if (endpoint->places[i].pop == pop)
            return endpoint->places[i].since_ns;
    return now_ns;
}

void placement_update(struct control *control, struct hub_endpoint *endpoint)
{
    struct arena *arena = arena_new();
    const struct endpoint_spec *spec = &endpoint->snapshot->spec;
    int64_t now_ns = control_wall_ns(control);
    struct place_result result;
    size_t count, kept = 0;
    struct hub_pop **pops = pops_of(control, arena, &count);
    struct place_pop *rows = ARENA_ARRAY(arena, struct place_pop, count + 1);
    take(endpoint, -1);
    struct where where = {};
    const char **refusals = ARENA_ARRAY(arena, const char *, count + 1);
    where_read(control, arena, spec, &where);
    for (size_t i = 0; i < count; i++) {
        rows[i] = place_pop(control, endpoint, pops[i]);
        refusals[i] = refusal(control, arena, &where, pops[i]);
        rows[i].allowed = !refusals[i];
    }
    const struct place_input input = {
        .pops = rows,
        .pop_count = count,
        .spread_min = (uint32_t)spec->spread.pops,
        .replicas_min = (uint32_t)spec->scale.min,
        .replicas_max = (uint32_t)spec->scale.max,
    };
    place_decide(arena, &input, &result);
    keep_leaving(control, endpoint, pops, count, &result);
    struct hub_place *places = ARENA_ARRAY(arena, struct hub_place, count + 1);
    for (size_t i = 0; i < count; i++)
        if (result.rows[i].replicas)
            places[kept++] = (struct hub_place){ pops[i], result.rows[i].replicas,
                                                 since(endpoint, pops[i], now_ns) };
    endpoint->forbidden = kept == 0 && count > 0;
    for (size_t i = 0; i < count; i++)
        endpoint->forbidden = endpoint->forbidden && !rows[i].allowed;
    if (kept == 0)
        say_nowhere(endpoint, pops, refusals, &result, count);
    endpoint->spread_short = result.spread_short;
    endpoint->min_short = result.min_short;
    if (!same(endpoint, places, kept)) {
        leave(control, endpoint, places, kept);
        free(endpoint->places);
        endpoint->places = mem_alloc((kept + 1) * sizeof *places);
        memcpy(endpoint->places, places, kept * sizeof *places);
        endpoint->place_count = kept;
        endpoint->places_unsaved = true;
        placement_save_soon(control);
    }
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

/* ---- keeping --------------------------------------------------------------------------------- */

struct saving {
    struct job job;
    struct arena *arena;
    struct saved {
        uint64_t uid;
        struct store_placement *rows;
        size_t count;
    } * items;
    size_t count;
};

static int on_save_run(struct job *job, struct store *store, struct err *err)
{
    struct saving *saving = job->data;
    int r = 0;
    for (size_t i = 0; i < saving->count && r == 0; i++) {
        struct store_endpoint row;
        r = store->endpoint_get(store, saving->items[i].uid, saving->arena, &row, err);
        if (r == 0)
            r = store->placement_set(store, saving->items[i].uid, saving->items[i].rows,
                                     saving->items[i].count, err);
        else if (r == ERR_NOT_FOUND) /* deleted meanwhile */
            r = 0;
    }
    return r;
}

static void on_save_done(struct job *job, const struct err *err)
{
    struct saving *saving = job->data;
    struct control *control = job->control;
    /* Lost with the disk full: a control that starts then decides from nothing. */
    if (err)
        log_warn("control", "where endpoints are placed is not on disk",
                 LOG_S("error", err->message));
    for (size_t i = 0; i < saving->count && err; i++) {
        struct hub_endpoint *endpoint = hub_get(control, saving->items[i].uid);
        if (endpoint)
            endpoint->places_unsaved = true;
    }
    control->placing = NULL;
    arena_free(saving->arena);
    free(saving);
    if (!err && control->place_again)
        placement_save_soon(control);
}

static void save(struct saving *saving, struct hub_endpoint *endpoint)
{
    struct saved *item = &saving->items[saving->count++];
    item->uid = endpoint->snapshot->row.uid;
    item->count = endpoint->place_count;
    item->rows = ARENA_ARRAY(saving->arena, struct store_placement, item->count + 1);
    for (size_t i = 0; i < item->count; i++)
        item->rows[i] = (struct store_placement){
            .endpoint_uid = item->uid,
            .pop = arena_copy(saving->arena, endpoint->places[i].pop->name),
            .replicas = endpoint->places[i].replicas,
            .since_ns = endpoint->places[i].since_ns,
        };
    endpoint->places_unsaved = false;
}

static void on_save_soon(void *data)
{
    struct control *control = data;
    control->place_again = control->placing != NULL;
    if (control->placing || control->closing)
        return;
    struct saving *saving = mem_zalloc(sizeof *saving);
    saving->arena = arena_new();
    saving->items = ARENA_ARRAY(saving->arena, struct saved, control->hub.by_uid.count + 1);
    MAP_EACH (entry, &control->hub.by_uid) {
        struct hub_endpoint *endpoint = entry->value;
        if (endpoint->places_unsaved)
            save(saving, endpoint);
    }
    control->placing = &saving->job;
    job_start(control, &saving->job, JOB_WRITE, on_save_run, on_save_done, saving);
}

void placement_save_soon(struct control *control)
{
    if (!control->place_timer)
        control->place_timer = timer_new(control->loop, on_save_soon, control);
    if (!timer_running(control->place_timer))
        timer_start(control->place_timer, PLACE_SAVE_MS);
}
