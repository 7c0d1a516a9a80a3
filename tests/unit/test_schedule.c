/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows, and random windows against a walk through every minute that knows nothing of how they are
 * computed: it remembers the latest time that clocks have shown, and fires for each minute beyond.
 */
#include "policy/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/arena.h"
#include "base/civil.h"
#include "base/err.h"
#include "base/tzif.h"
#include "spec/endpoint.h"
#include "zone_text.h"

#define HOUR 3600
#define DAY (24 * HOUR)

static int64_t utc(int year, int month, int day, int hour, int minute)
{
    return civil_days(year, month, day) * DAY + hour * HOUR + minute * 60;
}

static const struct tzif *rule(struct arena *arena, const char *text)
{
    struct tzif *zone = ARENA_NEW(arena, struct tzif);
    struct err err = {};
    assert_int_equal(tzif_parse(arena, zone_text(arena, 0, NULL, 0, text), zone, &err), 0);
    return zone;
}

static struct schedule_window window(const struct tzif *zone, const char *cron, int64_t for_s,
                                     uint32_t min)
{
    struct schedule_window made = { .zone = zone, .for_s = for_s, .min = min };
    struct err err = {};
    assert_int_equal(cron_parse(slice_of(cron), &made.cron, &err), 0);
    return made;
}

#define PARIS "CET-1CEST,M3.5.0,M10.5.0/3"

/* ---- rows ------------------------------------------------------------------------------------ */

static const struct {
    const char *name, *zone, *cron;
    int64_t from, fires; /* UTC */
} rows[] = {
    { "in winter", PARIS, "0 8 * * *", 1764547200 /* 2025-12-01 */, 1764547200 + 7 * HOUR },
    { "in summer", PARIS, "0 8 * * *", 1780272000 /* 2026-06-01 */, 1780272000 + 6 * HOUR },
    /* 29 March 2026: clocks go from 02:00 to 03:00 at 01:00 UTC. */
    { "a time that there is not", PARIS, "30 2 * * *", 1774742400, 1774742400 + HOUR },
    { "and none is made up for later", PARIS, "30 2 * * *", 1774742400 + HOUR + 1,
      1774742400 + DAY + 30 * 60 },
    /* 25 October 2026: from 03:00 to 02:00 at 01:00 UTC. */
    { "a time that comes twice", PARIS, "30 2 * * *", 1792886400, 1792886400 + 30 * 60 },
    { "is the first alone", PARIS, "30 2 * * *", 1792886400 + 30 * 60 + 1,
      1792886400 + DAY + 90 * 60 },
};

static void test_when_it_fires(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct schedule_window made = window(rule(arena, rows[i].zone), rows[i].cron, HOUR, 1);
        print_message("  %s\n", rows[i].name);
        assert_int_equal(schedule_window_next(&made, rows[i].from), rows[i].fires);
        assert_int_equal(schedule_window_before(&made, rows[i].fires), rows[i].fires);
        assert_int_equal(schedule_window_before(&made, rows[i].fires + 1), rows[i].fires);
    }
    arena_free(arena);
}

/* Ten hours are ten hours, also in the night that has one less. */
static void test_for_is_elapsed_time(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct schedule_window night = window(rule(arena, PARIS), "0 22 * * *", 8 * HOUR, 1);
    int64_t begins = utc(2026, 3, 28, 21, 0);
    assert_true(schedule_window_holds(&night, begins));
    assert_false(schedule_window_holds(&night, begins - 1));
    assert_true(schedule_window_holds(&night, begins + 8 * HOUR - 1));
    assert_false(schedule_window_holds(&night, begins + 8 * HOUR)); /* 07:00 there */
    assert_int_equal(schedule_window_change(&night, begins - 1), begins);
    assert_int_equal(schedule_window_change(&night, begins), begins + 8 * HOUR);
    arena_free(arena);
}

static void test_the_largest_counts(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    const struct tzif *zone = rule(arena, "UTC0");
    const struct schedule_window windows[] = {
        window(zone, "0 8 * * 1-5", 10 * HOUR, 2), /* Monday to Friday 08:00 to 18:00 */
        window(zone, "0 12 * * *", 2 * HOUR, 5),   /* noon to 14:00 */
        window(zone, "0 17 * * 5", 4 * HOUR, 1),   /* Friday 17:00 to 21:00 */
    };
    const struct schedule schedule = { windows, 3 };
    int64_t monday = utc(2026, 11, 30, 0, 0), friday = monday + 4 * DAY;
    static const struct {
        int day, hour;
        uint32_t min;
    } told[] = { { 0, 7, 0 },  { 0, 8, 2 },  { 0, 12, 5 }, { 0, 14, 2 }, { 0, 18, 0 },
                 { 4, 17, 2 }, { 4, 18, 1 }, { 4, 21, 0 }, { 5, 12, 5 }, { 5, 17, 0 } };
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        int64_t at = monday + told[i].day * DAY + told[i].hour * HOUR;
        assert_int_equal(schedule_min(&schedule, 0, at), told[i].min);
        uint32_t with = told[i].min > 3 ? told[i].min : 3;
        assert_int_equal(schedule_min(&schedule, 3, at), with);
    }
    assert_int_equal(schedule_change(&schedule, friday + 16 * HOUR), friday + 17 * HOUR);

    struct schedule_next next;
    schedule_look(&schedule, 0, monday, &next);
    assert_true(next.now == 0 && next.min == 2 && next.window == 0);
    assert_true(next.at == monday + 8 * HOUR && next.until == monday + 12 * HOUR);
    /* Friday at 17:00 another window begins, which changes nothing. */
    schedule_look(&schedule, 0, friday + 15 * HOUR, &next);
    assert_true(next.now == 2 && next.min == 1 && next.window == 2);
    assert_true(next.at == friday + 18 * HOUR && next.until == friday + 21 * HOUR);
    schedule_look(&schedule, 0, friday + 20 * HOUR, &next);
    assert_true(next.min == 0 && next.window == 3 && next.at == friday + 21 * HOUR);
    /* All of it is below what there is anyway. */
    schedule_look(&schedule, 5, monday, &next);
    assert_true(next.at == SCHEDULE_NEVER && next.now == 5);
    arena_free(arena);
}

static void test_windows_that_run_into_each_other(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    const struct tzif *zone = rule(arena, "UTC0");
    struct schedule_window always = window(zone, "* * * * *", 60, 1);
    int64_t at = utc(2026, 1, 1, 0, 0);
    assert_true(schedule_window_holds(&always, at + 59));
    int64_t change = schedule_window_change(&always, at);
    assert_true(change > at + 500 * 60);
    assert_true(schedule_window_holds(&always, change));
    struct schedule_window half = window(zone, "0-29 * * * *", 60, 1);
    assert_int_equal(schedule_window_change(&half, at), at + 1800);
    assert_int_equal(schedule_window_change(&half, at + 1800), at + HOUR);
    /* A year of it: its last firing is long ago. */
    struct schedule_window year = window(zone, "0 0 1 1 *", 366 * (int64_t)DAY, 1);
    assert_true(schedule_window_holds(&year, at - 1));
    arena_free(arena);
}

static void test_a_zone_that_is_not_known_holds_always(void **state)
{
    (void)state;
    const struct schedule_window lost = window(NULL, "0 8 * * *", HOUR, 4);
    const struct schedule schedule = { &lost, 1 };
    assert_int_equal(schedule_min(&schedule, 1, 0), 4);
    assert_int_equal(schedule_change(&schedule, 0), SCHEDULE_NEVER);
}

static void test_levels(void **state)
{
    static const struct spec_window windows[] = {
        { .min = 5 }, { .min = 2 }, { .min = 5 }, { .min = 1 }, { .min = 3 }
    };
    struct endpoint_spec spec = { .scale = { .min = 1, .schedule = { windows, 5 } } };
    uint32_t levels[SPEC_WINDOWS_MAX];
    (void)state;
    assert_int_equal(schedule_levels(&spec, levels, SPEC_WINDOWS_MAX), 3);
    assert_true(levels[0] == 2 && levels[1] == 3 && levels[2] == 5);
    assert_int_equal(schedule_levels(&spec, levels, 1), 1);
}

/* ---- against every minute -------------------------------------------------------------------- */

enum { MINUTES = 24 * 60 * 9, ROUNDS = 40, LOOKS = 400 };

static uint64_t seed;
static unsigned draw(unsigned below)
{
    seed = seed * 6364136223846793005ul + 1442695040888963407ul;
    return (unsigned)(seed >> 33) % below;
}

/* Zones in which clocks do what few do, from some days before it on. */
static const struct world {
    const char *name;
    int64_t from;
    int32_t first_s;
    struct zone_change changes[2];
    size_t count;
    const char *rule;
} worlds[] = {
    { "Paris, forward", 1774310400, 0, {}, 0, PARIS },
    { "Paris, back", 1792540800, 0, {}, 0, PARIS },
    { "Lord Howe, half an hour forward",
      1790640000,
      0,
      {},
      0,
      "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0" },
    { "Lord Howe, half an hour back",
      1774915200,
      0,
      {},
      0,
      "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0" },
    { "Troll, two hours", 1774310400, 0, {}, 0, "<+00>0<+02>-2,M3.5.0/1,M10.5.0/3" },
    { "Casablanca, back for Ramadan",
      1770854400,
      3600,
      { { 1771120800, 0 }, { 1774144800, 3600 } },
      2,
      "<+01>-1" },
    { "Dublin, below standard time", 1792540800, 0, {}, 0, "IST-1GMT0,M10.5.0,M3.5.0/1" },
    { "Apia, without 30 December 2011", 1324944000, -36000, { { 1325239200, 50400 } }, 1, "" },
    { "Kiritimati, without 31 December 1994", 788572800, -36000, { { 788868000, 50400 } }, 1, "" },
    { "forward and back within an hour",
      1000000020,
      0,
      { { 1000200000, 7200 }, { 1000202400, -1800 } },
      2,
      "" },
};

struct minutes {
    bool fires[MINUTES], holds[MINUTES];
};

static bool bit(uint64_t bits, int i)
{
    return bits >> i & 1;
}

static bool matches(const struct cron *cron, int64_t local)
{
    time_t at = (time_t)local;
    struct tm tm;
    gmtime_r(&at, &tm);
    bool day = bit(cron->days, tm.tm_mday), weekday = bit(cron->weekdays, tm.tm_wday);
    bool today = cron->any_day ? weekday : cron->any_weekday ? day : day || weekday;
    return today && bit(cron->minutes, tm.tm_min) && bit(cron->hours, tm.tm_hour) &&
           bit(cron->months, tm.tm_mon + 1);
}

static void walk(const struct schedule_window *made, int64_t from, struct minutes *ret)
{
    struct tzif_period period;
    tzif_at(made->zone, from - 60, &period);
    int64_t latest = from - 60 + period.type.offset_s, fired = INT64_MIN / 2;
    for (int i = 0; i < MINUTES; i++) {
        int64_t at = from + i * 60;
        tzif_at(made->zone, at, &period);
        ret->fires[i] = false;
        for (; latest < at + period.type.offset_s; latest += 60)
            ret->fires[i] |= matches(&made->cron, latest + 60);
        if (ret->fires[i])
            fired = at;
        ret->holds[i] = at < fired + made->for_s;
    }
}

/* Of the minutes from 3 days on, so that what fired before is known. */
static void look(const struct schedule_window *made, int64_t from, const struct minutes *minutes)
{
    int i = 3 * 24 * 60 + (int)draw(MINUTES - 3 * 24 * 60), next = i, before = i, flip = i + 1;
    int64_t at = from + i * 60;
    while (next < MINUTES && !minutes->fires[next])
        next++;
    while (before >= 0 && !minutes->fires[before])
        before--;
    unsigned firings = 0;
    while (flip < MINUTES && minutes->holds[flip] == minutes->holds[i])
        firings += minutes->fires[flip++];
    if (next < MINUTES) {
        assert_int_equal(schedule_window_next(made, at), from + next * 60);
        assert_int_equal(schedule_window_next(made, at - 59), from + next * 60);
    }
    if (before >= 0)
        assert_int_equal(schedule_window_before(made, at + 59), from + before * 60);
    assert_true(schedule_window_holds(made, at) == minutes->holds[i]);
    if (flip == MINUTES)
        return;
    int64_t change = schedule_window_change(made, at);
    if (firings < 500)
        assert_int_equal(change, from + flip * 60);
    else
        assert_true(change > at && change <= from + flip * 60);
}

static uint64_t some(int low, int high)
{
    uint64_t bits = 0;
    for (unsigned i = 0, count = 1 + draw(4); i < count; i++)
        bits |= UINT64_C(1) << (low + (int)draw((unsigned)(high - low + 1)));
    return bits;
}

static uint64_t all(int low, int high)
{
    return (UINT64_C(1) << (high + 1)) - (UINT64_C(1) << low);
}

static struct schedule_window drawn(const struct tzif *zone)
{
    struct schedule_window made = { .zone = zone, .min = 1, .for_s = 60 * (1 + draw(72 * 60)) };
    if (draw(2))
        made.for_s = 60 * (1 + draw(100));
    made.cron = (struct cron){
        .minutes = draw(3) ? some(0, 59) : all(0, 59),
        .hours = (uint32_t)(draw(2) ? some(0, 23) : all(0, 23)),
        .days = (uint32_t)all(1, 31),
        .months = (uint32_t)all(1, 12),
        .weekdays = 0x7f,
        .any_day = draw(2),
        .any_weekday = draw(2),
    };
    if (!made.cron.any_day)
        made.cron.days = (uint32_t)some(1, 31) | (uint32_t)(draw(2) ? some(26, 31) : 0);
    if (!made.cron.any_weekday)
        made.cron.weekdays = (uint8_t)some(0, 6);
    return made;
}

static void test_against_every_minute(void **state)
{
    (void)state;
    struct minutes *minutes = calloc(1, sizeof *minutes);
    assert_non_null(minutes);
    for (size_t w = 0; w < sizeof worlds / sizeof *worlds; w++) {
        const struct world *world = &worlds[w];
        struct arena *arena = arena_new();
        struct tzif zone;
        struct err err = {};
        print_message("  %s\n", world->name);
        assert_int_equal(
            tzif_parse(arena,
                       zone_text(arena, world->first_s, world->changes, world->count, world->rule),
                       &zone, &err),
            0);
        for (unsigned round = 0; round < ROUNDS; round++) {
            seed = w * 1000 + round + 1;
            struct schedule_window made = drawn(&zone);
            walk(&made, world->from, minutes);
            for (unsigned i = 0; i < LOOKS; i++)
                look(&made, world->from, minutes);
        }
        arena_free(arena);
    }
    free(minutes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_when_it_fires),
        cmocka_unit_test(test_for_is_elapsed_time),
        cmocka_unit_test(test_the_largest_counts),
        cmocka_unit_test(test_windows_that_run_into_each_other),
        cmocka_unit_test(test_a_zone_that_is_not_known_holds_always),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_against_every_minute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
