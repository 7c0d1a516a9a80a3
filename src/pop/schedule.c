/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much of an endpoint there is here at least at this time of the day. Control has said how much
 * of each minimum over the fleet is this PoP's; which minimum holds is asked here, so that it goes
 * on without control.
 *
 * An answer comes with the times between which it holds. One look soon after another costs nothing
 * therefore, and a clock that is set shows by a time outside: one timer for all endpoints, due at
 * the first end of such a time, and often enough for clocks that are set.
 */
#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/log.h"
#include "pop/state.h"
#include "sys/zones.h"

enum {
    LOOK_AGAIN_S = 5,  /* at most until a clock that was set is noticed */
    ZONES_OLD_S = 3600 /* tzdata may be newer since */
};

/* ---- zones ----------------------------------------------------------------------------------- */

struct zone {
    struct tzif read;
    bool there;
};

static const struct tzif *zone_find(struct slice name, void *data)
{
    struct pop *pop = data;
    struct zone *zone = map_get(&pop->zones, name);
    struct err err = {};
    if (!zone) {
        zone = ARENA_NEW(pop->zones_arena, struct zone);
        zone->there = zones_read(pop->env, pop->zones_arena, name, &zone->read, &err) == 0;
        if (!zone->there)
            log_warn("pop", "a time zone is not known here", LOG_S("error", err.message));
        (void)map_put(&pop->zones, arena_copy(pop->zones_arena, name), zone);
    }
    return zone->there ? &zone->read : NULL;
}

static void zones_renew(struct pop *pop, int64_t now_s)
{
    struct pop_endpoint *endpoint;
    map_deinit(&pop->zones);
    arena_free(pop->zones_arena);
    pop->zones = (struct map){};
    pop->zones_arena = arena_new();
    pop->zones_read_s = now_s;
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link)
        endpoint->schedule_read = false;
}

static void schedule_read(struct pop_endpoint *endpoint)
{
    struct pop *pop = endpoint->pop;
    bool missing = false;
    endpoint->schedule = schedule_of(pop->zones_arena, &endpoint->spec, zone_find, pop);
    endpoint->schedule_read = true;
    endpoint->floor_until_s = INT64_MIN;
    for (size_t i = 0; i < endpoint->schedule.count; i++)
        missing |= !endpoint->schedule.windows[i].zone;
    if (missing && !endpoint->zone_missing)
        pop->effects->event(pop, "schedule_zone_unknown", endpoint, NULL,
                            "a time zone of scale.schedule is not known at this PoP: its minimum "
                            "holds at all times; is tzdata installed?",
                            pop->data);
    endpoint->zone_missing = missing;
}

/* ---- floors ---------------------------------------------------------------------------------- */

static uint32_t share_of(const struct pop_endpoint *endpoint, uint32_t min)
{
    uint32_t replicas = 0;
    if (min <= endpoint->spec.scale.min)
        return 0;
    if (!endpoint->placed)
        return min;
    for (size_t i = 0; i < endpoint->floor_count && endpoint->floors[i].min <= min; i++)
        replicas = endpoint->floors[i].replicas;
    return replicas;
}

static void floor_set(struct pop_endpoint *endpoint, uint32_t min, uint32_t floor)
{
    struct pop *pop = endpoint->pop;
    char message[128];
    if (floor == endpoint->floor)
        return;
    endpoint->floor = floor;
    snprintf(message, sizeof message, "scale.schedule: at least %u over the fleet, %u here", min,
             floor);
    pop->effects->event(pop, "schedule_changed", endpoint, NULL, message, pop->data);
}

static void floor_look(struct pop_endpoint *endpoint, int64_t now_s)
{
    uint32_t scale_min = (uint32_t)endpoint->spec.scale.min;
    uint32_t min = schedule_min(&endpoint->schedule, scale_min, now_s);
    endpoint->floor_from_s = now_s;
    endpoint->floor_until_s = schedule_change(&endpoint->schedule, now_s);
    floor_set(endpoint, min, share_of(endpoint, min));
}

void pop_schedule_changed(struct pop_endpoint *endpoint)
{
    endpoint->schedule_read = false;
}

int64_t pop_schedule_look(struct pop *pop, int64_t now_ns)
{
    int64_t wall_ns = env_wall_ns(pop->env), now_s = wall_ns / ENV_S, next_s = INT64_MAX;
    struct pop_endpoint *endpoint;
    if (!pop->zones_arena || now_s < pop->zones_read_s || now_s >= pop->zones_read_s + ZONES_OLD_S)
        zones_renew(pop, now_s);
    bool any = false;
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link) {
        if (!endpoint->schedule_read)
            schedule_read(endpoint);
        if (now_s < endpoint->floor_from_s || now_s >= endpoint->floor_until_s)
            floor_look(endpoint, now_s);
        any |= endpoint->schedule.count > 0;
        if (endpoint->floor_until_s < next_s)
            next_s = endpoint->floor_until_s;
    }
    if (!any)
        return INT64_MAX;
    int64_t wait_ns = LOOK_AGAIN_S * ENV_S;
    if (next_s < now_s + LOOK_AGAIN_S)
        wait_ns = next_s * ENV_S - wall_ns;
    return now_ns + wait_ns;
}

void pop_schedule_deinit(struct pop *pop)
{
    map_deinit(&pop->zones);
    arena_free(pop->zones_arena);
    pop->zones_arena = NULL;
}
