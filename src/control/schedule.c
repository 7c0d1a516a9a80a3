/* SPDX-License-Identifier: Apache-2.0 */
/* GET /endpoints/NAME/schedule, and the zones that it needs. */
#include "control/schedule.h"

#include "base/arena.h"
#include "base/civil.h"
#include "base/env.h"
#include "base/err.h"
#include "base/json.h"
#include "control/control_own.h"
#include "control/request.h"
#include "control/routes.h"
#include "policy/schedule.h"
#include "spec/units.h"
#include "sys/zones.h"

enum { ZONES_OLD_S = 3600, WEEKDAY_S = 6 * CIVIL_DAY_S };

struct schedule_held {
    struct arena *arena;
    struct schedule schedule;
    struct tzif zones[SPEC_WINDOWS_MAX];
    struct err errors[SPEC_WINDOWS_MAX]; /* of zones that are not known; code 0: it is */
    size_t count;
    int64_t read_s;
};

int schedule_check(struct arena *arena, const struct endpoint_spec *spec, struct err *err)
{
    struct tzif zone;
    for (size_t i = 0; i < spec->scale.schedule.count; i++)
        if (zones_read(NULL, arena, spec->scale.schedule.items[i].zone, &zone, err) < 0)
            return err_wrap(err, "scale.schedule[%zu].tz", i);
    return 0;
}

void schedule_forget(struct hub_endpoint *endpoint)
{
    if (endpoint->schedule)
        arena_free(endpoint->schedule->arena);
    endpoint->schedule = NULL;
}

/* Called for each window, in their order. */
static const struct tzif *zone_find(struct slice name, void *data)
{
    struct schedule_held *held = data;
    size_t at = held->count++;
    held->errors[at] = (struct err){};
    int r = zones_read(NULL, held->arena, name, &held->zones[at], &held->errors[at]);
    return r < 0 ? NULL : &held->zones[at];
}

static struct schedule_held *held_of(struct hub_endpoint *endpoint, int64_t now_s)
{
    struct schedule_held *held = endpoint->schedule;
    if (held && now_s >= held->read_s && now_s < held->read_s + ZONES_OLD_S)
        return held;
    schedule_forget(endpoint);
    struct arena *arena = arena_new();
    held = ARENA_NEW(arena, struct schedule_held);
    held->arena = arena;
    held->read_s = now_s;
    held->schedule = schedule_of(arena, &endpoint->snapshot->spec, zone_find, held);
    return endpoint->schedule = held;
}

/* ---- in words -------------------------------------------------------------------------------- */

/* "18:00", "Mon 08:00" or "Mon 30 Nov 2026 08:00": as much as tells it from what is near `from`. */
static const char *local_words(struct arena *arena, const struct tzif *zone, int64_t at,
                               int64_t from)
{
    static const char days[][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
    static const char months[][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    struct tzif_period period;
    tzif_at(zone, at, &period);
    int64_t local = at + period.type.offset_s, day = civil_day_of(local);
    int minute = (int)(local - day * CIVIL_DAY_S) / 60;
    struct civil civil = civil_of(day);
    char *time = arena_format(arena, "%02d:%02d", minute / 60, minute % 60);
    if (day == civil_day_of(from + period.type.offset_s))
        return time;
    const char *weekday = days[civil_weekday(day)];
    if (at - from < WEEKDAY_S)
        return arena_format(arena, "%s %s", weekday, time);
    return arena_format(arena, "%s %d %s %lld %s", weekday, civil.day, months[civil.month - 1],
                        (long long)civil.year, time);
}

/* The window whose zone times are told in: that whose minimum begins, or the one that ends. */
static size_t window_of(const struct schedule *schedule, const struct schedule_next *next,
                        int64_t now_s)
{
    if (next->window < schedule->count)
        return next->window;
    for (size_t i = 0; i < schedule->count; i++)
        if (schedule->windows[i].min == next->now &&
            schedule_window_holds(&schedule->windows[i], now_s))
            return i;
    return 0;
}

/* "Mon 08:00 Europe/Paris: at least 2 until 18:00"; NULL: nothing will change. */
static const char *next_words(struct arena *arena, const struct schedule *schedule,
                              const struct schedule_next *next, struct slice zone_name,
                              const struct tzif *zone, int64_t now_s)
{
    if (next->at == SCHEDULE_NEVER || !zone)
        return NULL;
    const char *until = next->window < schedule->count && next->until != SCHEDULE_NEVER
                            ? local_words(arena, zone, next->until, next->at)
                            : NULL;
    return arena_format(arena, "%s %.*s: at least %u%s%s",
                        local_words(arena, zone, next->at, now_s), SLICE_FMT(zone_name), next->min,
                        until ? " until " : "", until ? until : "");
}

/* ---- the answer ------------------------------------------------------------------------------ */

static void member_seconds(struct json_writer *w, const char *key, int64_t at_s)
{
    view_member_time(w, key, at_s == SCHEDULE_NEVER ? 0 : at_s * ENV_S);
}

static void write_window(struct json_writer *w, const struct spec_window *told,
                         const struct schedule_held *held, size_t i, int64_t now_s)
{
    const struct schedule_window *window = &held->schedule.windows[i];
    char buffer[UNITS_BYTES];
    json_object_begin(w);
    json_member_string(w, "cron", told->text);
    json_member_string(w, "tz", told->zone);
    json_member_text(w, "for", units_print_time(buffer, told->for_ns));
    json_member_u64(w, "min", told->min);
    json_member_bool(w, "holds", schedule_window_holds(window, now_s));
    member_seconds(w, "fires_at",
                   window->zone ? schedule_window_next(window, now_s) : SCHEDULE_NEVER);
    json_member_text(w, "error", held->errors[i].code ? held->errors[i].message : NULL);
    json_object_end(w);
}

void endpoint_schedule(struct request *q)
{
    struct hub_endpoint *endpoint = request_endpoint(q);
    struct schedule_next next;
    struct json_writer w;
    if (!endpoint)
        return;
    int64_t now_s = control_wall_ns(q->control) / ENV_S;
    const struct endpoint_spec *spec = &endpoint->snapshot->spec;
    const struct spec_windows *told = &spec->scale.schedule;
    const struct schedule_held *held = held_of(endpoint, now_s);
    const struct schedule *schedule = &held->schedule;
    schedule_look(schedule, (uint32_t)spec->scale.min, now_s, &next);
    size_t window = window_of(schedule, &next, now_s);
    struct slice zone = told->count ? told->items[window].zone : (struct slice){};
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "endpoint", endpoint->snapshot->row.name);
    json_member_string(&w, "project", endpoint->snapshot->row.project);
    json_member_u64(&w, "min", next.now);
    json_member_text(&w, "text",
                     told->count ? next_words(q->arena, schedule, &next, zone,
                                              schedule->windows[window].zone, now_s)
                                 : NULL);
    json_key(&w, "next");
    if (next.at == SCHEDULE_NEVER) {
        json_null(&w);
    } else {
        json_object_begin(&w);
        member_seconds(&w, "at", next.at);
        json_member_u64(&w, "min", next.min);
        member_seconds(&w, "until", next.until);
        json_member_string(&w, "tz", zone);
        json_object_end(&w);
    }
    json_key(&w, "windows");
    json_array_begin(&w);
    for (size_t i = 0; i < told->count; i++)
        write_window(&w, &told->items[i], held, i, now_s);
    json_array_end(&w);
    json_object_end(&w);
    request_reply(q, 200, json_end(&w));
}
