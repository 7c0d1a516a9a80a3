/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local times are asked in two ways alone (base/tzif.h): the first instant at which clocks show a
 * time or a later one, and the latest time that they have shown. With both, a firing is never
 * missed, never comes twice, and their order is that of their local times, whatever clocks do.
 */
#include "policy/schedule.h"

#include "base/arena.h"
#include "base/tzif.h"
#include "spec/endpoint.h"

enum {
    FIRINGS_MAX = 512,  /* looked at for the end of windows that run into each other */
    CHANGES_MAX = 1024, /* for the next other minimum */
    LOOK_AHEAD_S = 366 * 24 * 3600,
};

struct schedule schedule_of(struct arena *arena, const struct endpoint_spec *spec,
                            schedule_zone_cb find, void *data)
{
    const struct spec_windows *told = &spec->scale.schedule;
    struct schedule_window *windows = ARENA_ARRAY(arena, struct schedule_window, told->count + 1);
    for (size_t i = 0; i < told->count; i++)
        windows[i] = (struct schedule_window){
            .cron = told->items[i].cron,
            .zone = find(told->items[i].zone, data),
            .for_s = (int64_t)(told->items[i].for_ns / 1'000'000'000),
            .min = (uint32_t)told->items[i].min,
        };
    return (struct schedule){ windows, told->count };
}

int64_t schedule_window_next(const struct schedule_window *window, int64_t at)
{
    int64_t shown = tzif_latest(window->zone, at - 1);
    return tzif_instant(window->zone, cron_next(&window->cron, shown + 1));
}

int64_t schedule_window_before(const struct schedule_window *window, int64_t at)
{
    int64_t shown = tzif_latest(window->zone, at);
    return tzif_instant(window->zone, cron_before(&window->cron, shown));
}

bool schedule_window_holds(const struct schedule_window *window, int64_t at)
{
    return !window->zone || schedule_window_before(window, at) > at - window->for_s;
}

int64_t schedule_window_change(const struct schedule_window *window, int64_t at)
{
    if (!window->zone)
        return SCHEDULE_NEVER;
    int64_t fired = schedule_window_before(window, at);
    int64_t end = fired + window->for_s;
    if (end <= at)
        return schedule_window_next(window, at + 1);
    for (unsigned i = 0; i < FIRINGS_MAX; i++) {
        fired = schedule_window_next(window, fired + 1);
        if (fired > end)
            return end;
        end = fired + window->for_s;
    }
    return end;
}

/* Which window's minimum counts; schedule->count: none's. */
static size_t holding(const struct schedule *schedule, uint32_t scale_min, int64_t at)
{
    size_t found = schedule->count;
    uint32_t most = scale_min;
    for (size_t i = 0; i < schedule->count; i++)
        if (schedule->windows[i].min > most && schedule_window_holds(&schedule->windows[i], at)) {
            most = schedule->windows[i].min;
            found = i;
        }
    return found;
}

static uint32_t min_of(const struct schedule *schedule, uint32_t scale_min, size_t window)
{
    return window < schedule->count ? schedule->windows[window].min : scale_min;
}

uint32_t schedule_min(const struct schedule *schedule, uint32_t scale_min, int64_t at)
{
    return min_of(schedule, scale_min, holding(schedule, scale_min, at));
}

int64_t schedule_change(const struct schedule *schedule, int64_t at)
{
    int64_t first = SCHEDULE_NEVER;
    for (size_t i = 0; i < schedule->count; i++) {
        int64_t change = schedule_window_change(&schedule->windows[i], at);
        if (change < first)
            first = change;
    }
    return first;
}

/* When the minimum is next another one. */
static int64_t other_after(const struct schedule *schedule, uint32_t scale_min, int64_t at)
{
    uint32_t now = schedule_min(schedule, scale_min, at);
    int64_t horizon = at + LOOK_AHEAD_S;
    for (unsigned i = 0; i < CHANGES_MAX && at < horizon; i++) {
        at = schedule_change(schedule, at);
        if (at == SCHEDULE_NEVER || schedule_min(schedule, scale_min, at) != now)
            return at;
    }
    return SCHEDULE_NEVER;
}

void schedule_look(const struct schedule *schedule, uint32_t scale_min, int64_t at,
                   struct schedule_next *ret)
{
    struct schedule_next next = {
        .at = other_after(schedule, scale_min, at),
        .until = SCHEDULE_NEVER,
        .now = schedule_min(schedule, scale_min, at),
        .window = schedule->count,
    };
    next.min = next.now;
    if (next.at != SCHEDULE_NEVER) {
        next.window = holding(schedule, scale_min, next.at);
        next.min = min_of(schedule, scale_min, next.window);
        next.until = other_after(schedule, scale_min, next.at);
    }
    *ret = next;
}

size_t schedule_levels(const struct endpoint_spec *spec, uint32_t *ret, size_t room)
{
    const struct spec_windows *told = &spec->scale.schedule;
    uint64_t last = spec->scale.min;
    size_t count = 0;
    while (count < room) {
        uint64_t least = UINT64_MAX;
        for (size_t i = 0; i < told->count; i++)
            if (told->items[i].min > last && told->items[i].min < least)
                least = told->items[i].min;
        if (least == UINT64_MAX)
            break;
        ret[count++] = (uint32_t)least;
        last = least;
    }
    return count;
}
