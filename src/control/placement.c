/* SPDX-License-Identifier: Apache-2.0 */
#include "control/placement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "control/control_own.h"
#include "control/decision.h"
#include "control/granted.h"
#include "control/schedule.h"
#include "store/store.h"

/* ---- what an endpoint takes of its PoPs ------------------------------------------------------ */

static void take(struct hub_endpoint *endpoint, int sign)
{
    if (sign > 0) {
        const struct endpoint_spec *spec = &endpoint->snapshot->spec;
        endpoint->place_cpu_milli = spec->upstream.size ? 0 : spec->flavor.cpu_milli;
        endpoint->place_memory_bytes = spec->upstream.size ? 0 : spec->flavor.memory_bytes;
    }
    for (size_t i = 0; i < endpoint->place_count; i++) {
        const struct hub_place *place = &endpoint->places[i];
        uint64_t replicas = place->most * (uint64_t)(int64_t)sign;
        place->pop->placed.replicas += replicas;
        place->pop->placed.cpu_milli += replicas * endpoint->place_cpu_milli;
        place->pop->placed.memory_bytes += replicas * endpoint->place_memory_bytes;
    }
}

void placement_drop(struct hub_endpoint *endpoint)
{
    take(endpoint, -1);
    placement_forget(endpoint);
    schedule_forget(endpoint);
    free(take_ptr(endpoint->places));
    endpoint->place_count = 0;
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
        enum hub_pop_state state = decision_state(control, decision->pops[i]);
        if (rows[i].replicas == 0 && rows[i].reason != PLACE_NOT_ALLOWED && pop->has &&
            pop->ready && (state == HUB_POP_READY || state == HUB_POP_DRAINING))
            rows[i].replicas = pop->has;
    }
}

/* Of a fleet the first few; what is wrong is mostly the same for all. */
static void say_nowhere(struct arena *arena, struct hub_endpoint *endpoint,
                        const struct decision *decision)
{
    size_t used = 0, room = sizeof endpoint->nowhere;
    for (size_t i = 0; i < decision->count && used < room; i++) {
        const char *why = decision_why(arena, decision, i);
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
                endpoint->places[i].replicas == places[i].replicas &&
                memcmp(endpoint->places[i].floors, places[i].floors, sizeof places[i].floors) == 0;
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

static struct hub_place place_of(const struct decision *decision, size_t row, int64_t now_ns)
{
    const struct place_row *decided = &decision->result.rows[row];
    struct hub_place place = {
        .pop = decision->pops[row],
        .replicas = decided->replicas,
        .most = decided->replicas,
        .since_ns = decision->rows[row].has ? decision->since_ns[row] : now_ns,
    };
    /* What is to go, or has not been heard of, keeps what it has. */
    for (size_t f = 1; f < decision->floor_count && decided->reason == PLACE_CHOSEN; f++) {
        uint32_t floor = decision->result.floors[row * decision->floor_count + f];
        place.floors[f - 1] = floor;
        place.most = floor > place.most ? floor : place.most;
    }
    return place;
}

static void take_over(struct control *control, struct arena *arena, struct hub_endpoint *endpoint,
                      const struct decision *decision)
{
    struct hub_place *places = ARENA_ARRAY(arena, struct hub_place, decision->count + 1);
    int64_t now_ns = control_wall_ns(control);
    size_t kept = 0;
    for (size_t i = 0; i < decision->count; i++)
        if (decision->result.rows[i].replicas)
            places[kept++] = place_of(decision, i, now_ns);
    endpoint->floor_count = decision->floor_count - 1;
    memcpy(endpoint->floors, decision->floors + 1, sizeof endpoint->floors);
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

void placement_look(struct control *control, struct arena *arena, struct hub_endpoint *endpoint,
                    struct decision *ret)
{
    take(endpoint, -1);
    decision_make(control, arena, endpoint, false, ret);
    keep_leaving(control, endpoint, ret);
    take(endpoint, 1);
}

void placement_update(struct control *control, struct hub_endpoint *endpoint)
{
    struct arena *arena = arena_new();
    struct decision decision;
    take(endpoint, -1);
    decision_make(control, arena, endpoint, true, &decision);
    keep_leaving(control, endpoint, &decision);
    take_over(control, arena, endpoint, &decision);
    endpoint->forbidden = endpoint->place_count == 0 && decision.count > 0;
    for (size_t i = 0; i < decision.count && endpoint->forbidden; i++)
        endpoint->forbidden = !decision.rows[i].allowed;
    endpoint->nowhere[0] = '\0';
    if (endpoint->place_count == 0)
        say_nowhere(arena, endpoint, &decision);
    endpoint->spread_short = decision.result.spread_short;
    endpoint->min_short = decision.result.min_short;
    endpoint->place_spared = decision.result.spared;
    endpoint->demand_moved = false;
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
                (struct hub_place){ .pop = pop,
                                    .replicas = (uint32_t)rows[i].replicas,
                                    .most = (uint32_t)rows[i].replicas,
                                    .since_ns = rows[i].since_ns };
    }
    take(endpoint, 1);
}
