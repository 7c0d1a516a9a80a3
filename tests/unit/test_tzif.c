/* SPDX-License-Identifier: Apache-2.0 */
/* All zones of tzdata are compared with Python's in tests/zones. */
#include "base/tzif.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/civil.h"
#include "base/err.h"
#include "zone_text.h"

#define HOUR 3600

/* ---- days ------------------------------------------------------------------------------------ */

static void test_days_go_there_and_back(void **state)
{
    (void)state;
    int64_t day = civil_days(-801, 1, 1);
    for (int64_t year = -801; year < 2801; year++)
        for (int month = 1; month <= 12; month++)
            for (int i = 1; i <= civil_month_days(year, month); i++, day++) {
                struct civil civil = civil_of(day);
                assert_int_equal(civil_days(year, month, i), day);
                assert_true(civil.year == year && civil.month == month && civil.day == i);
            }
    assert_int_equal(civil_days(1970, 1, 1), 0);
    assert_int_equal(civil_weekday(0), 4);
    assert_int_equal(civil_weekday(-5), 6);
    assert_int_equal(civil_day_of(-1), -1);
    assert_int_equal(civil_day_of(-CIVIL_DAY_S), -1);
}

/* ---- rules ----------------------------------------------------------------------------------- */

static int64_t utc(int year, int month, int day, int hour, int minute)
{
    return civil_days(year, month, day) * CIVIL_DAY_S + hour * HOUR + minute * 60;
}

static const struct {
    const char *rule;
    int year, month, day, hour, minute; /* UTC */
    int32_t offset_s;                   /* from then on */
    int32_t before_s;                   /* a second earlier */
} rows[] = {
    { "CET-1CEST,M3.5.0,M10.5.0/3", 2026, 3, 29, 1, 0, 2 * HOUR, HOUR },
    { "CET-1CEST,M3.5.0,M10.5.0/3", 2026, 10, 25, 1, 0, HOUR, 2 * HOUR },
    { "EST5EDT,M3.2.0,M11.1.0", 2026, 3, 8, 7, 0, -4 * HOUR, -5 * HOUR },
    { "EST5EDT,M3.2.0,M11.1.0", 2026, 11, 1, 6, 0, -5 * HOUR, -4 * HOUR },
    /* Half an hour. */
    { "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", 2026, 10, 3, 15, 30, 11 * HOUR, 10 * HOUR + 1800 },
    { "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0", 2026, 4, 4, 15, 0, 10 * HOUR + 1800, 11 * HOUR },
    /* Standard time in summer, daylight "saving" below it in winter. */
    { "IST-1GMT0,M10.5.0,M3.5.0/1", 2026, 10, 25, 1, 0, 0, HOUR },
    { "IST-1GMT0,M10.5.0,M3.5.0/1", 2026, 3, 29, 1, 0, HOUR, 0 },
    /* Hours beyond a day, and before it. */
    { "<-02>2<-01>,M3.5.0/-1,M10.5.0/0", 2026, 3, 29, 1, 0, -HOUR, -2 * HOUR },
    { "IST-2IDT,M3.4.4/26,M10.5.0", 2026, 3, 27, 0, 0, 3 * HOUR, 2 * HOUR },
    /* Days of the year, with and without the leap day. */
    { "AAA0BBB,J60/0,J300/0", 2024, 3, 1, 0, 0, HOUR, 0 },
    { "AAA0BBB,59/0,300/0", 2024, 2, 29, 0, 0, HOUR, 0 },
    { "AAA0BBB,59/0,300/0", 2023, 3, 1, 0, 0, HOUR, 0 },
    { "<+00>0<+02>-2,M3.5.0/1,M10.5.0/3", 2026, 3, 29, 1, 0, 2 * HOUR, 0 },
};

static void test_rules(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct tzif zone = {};
        struct tzif_period period;
        struct err err = {};
        print_message("  %s in %d-%02d\n", rows[i].rule, rows[i].year, rows[i].month);
        assert_int_equal(tzif_rule_parse(arena, slice_of(rows[i].rule), &zone.rule, &err), 0);
        int64_t at = utc(rows[i].year, rows[i].month, rows[i].day, rows[i].hour, rows[i].minute);
        tzif_at(&zone, at, &period);
        assert_int_equal(period.type.offset_s, rows[i].offset_s);
        assert_int_equal(period.since, at);
        tzif_at(&zone, at - 1, &period);
        assert_int_equal(period.type.offset_s, rows[i].before_s);
        assert_int_equal(period.until, at);
    }
    arena_free(arena);
}

static void test_daylight_saving_all_year(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct tzif zone = {};
    struct tzif_period period;
    struct err err;
    assert_int_equal(tzif_rule_parse(arena, SLICE("EST5EDT,0/0,J365/25"), &zone.rule, &err), 0);
    for (int64_t at = utc(2023, 1, 1, 0, 0); at < utc(2025, 2, 1, 0, 0); at += 1800) {
        tzif_at(&zone, at, &period);
        assert_int_equal(period.type.offset_s, -4 * HOUR);
    }
    arena_free(arena);
}

static void test_texts_that_are_no_rule(void **state)
{
    static const char *const texts[] = {
        "",
        "AB1",
        "ABC",
        "ABC25",
        "ABC-25",
        "ABC1:60",
        "<AB>1",
        "<ABC1",
        "ABC1DEF",
        "ABC1DEF,",
        "ABC1DEF,M3.5.0",
        "ABC1DEF,M0.5.0,M10.5.0",
        "ABC1DEF,M13.5.0,M10.5.0",
        "ABC1DEF,M3.6.0,M10.5.0",
        "ABC1DEF,M3.0.0,M10.5.0",
        "ABC1DEF,M3.5.7,M10.5.0",
        "ABC1DEF,J0,J1",
        "ABC1DEF,J366,J1",
        "ABC1DEF,366,1",
        "ABC1DEF,1/168,2",
        "ABC1DEF,1/-168,2",
        "ABC1DEF,1,2,",
        "ABC1DEF,1,2 ",
        "A1C1",
        "ABC1DEF1:,1,2",
        "ABC1:DEF,1,2",
    };
    (void)state;
    struct arena *arena = arena_new();
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct tzif_rule rule;
        struct err err = {};
        print_message("  '%s'\n", texts[i]);
        assert_int_equal(tzif_rule_parse(arena, slice_of(texts[i]), &rule, &err), ERR_BAD_INPUT);
        assert_non_null(strstr(err.message, "is no rule of a time zone"));
    }
    arena_free(arena);
}

/* ---- files ----------------------------------------------------------------------------------- */

static const struct zone_change changes[] = { { 1000, HOUR }, { 2000, -HOUR }, { 9000, 0 } };

static struct slice file(struct arena *arena)
{
    return zone_text(arena, 1800, changes, 3, "CET-1CEST,M3.5.0,M10.5.0/3");
}

static void test_a_file_is_read(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct tzif zone;
    struct tzif_period period;
    struct err err = {};
    assert_int_equal(tzif_parse(arena, file(arena), &zone, &err), 0);
    static const struct {
        int64_t at, since, until;
        int32_t offset_s;
    } told[] = {
        { -5, -TZIF_TIME_MAX, 1000, 1800 }, { 999, -TZIF_TIME_MAX, 1000, 1800 },
        { 1000, 1000, 2000, HOUR },         { 1999, 1000, 2000, HOUR },
        { 2000, 2000, 9000, -HOUR },        { 9000, 9000, 7520400, HOUR }, /* the rule's */
    };
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        tzif_at(&zone, told[i].at, &period);
        assert_int_equal(period.since, told[i].since);
        assert_int_equal(period.until, told[i].until);
        assert_int_equal(period.type.offset_s, told[i].offset_s);
    }
    tzif_at(&zone, -TZIF_TIME_MAX, &period);
    tzif_at(&zone, TZIF_TIME_MAX - 1, &period);
    arena_free(arena);
}

static void test_a_file_cut_anywhere_is_refused(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct slice whole = file(arena);
    for (size_t size = 0; size < whole.size; size++) {
        struct tzif zone;
        struct err err = {};
        assert_int_equal(tzif_parse(arena, (struct slice){ whole.data, size }, &zone, &err),
                         ERR_BAD_INPUT);
        assert_true(err.message[0]);
    }
    arena_free(arena);
}

static const struct {
    const char *name, *says;
    size_t at; /* byte that is another */
    char value;
} broken[] = {
    { "another file", "no TZif file", 0, 'X' },
    { "version 1", "version 1", 4, 0 },
    { "a second part that is none", "no TZif file", 44 + 7, 'X' },
    { "counts above what is there", "ends inside its second part", 44 + 7 + 33, 1 },
    { "leap seconds", "counts leap seconds", 44 + 7 + 31, 1 },
    { "no kind of local time", "names no kind", 44 + 7 + 39, 0 },
    { "times that do not ascend", "do not ascend", 44 + 7 + 44 + 8 + 6, 0 },
    { "a kind that is not there", "kind that is not there", 44 + 7 + 44 + 24, 4 },
    { "an offset of years", "a day or more", 44 + 7 + 44 + 27, 1 },
    { "a name outside", "not well-formed", 44 + 7 + 44 + 27 + 5, 4 },
    { "daylight that is neither", "not well-formed", 44 + 7 + 44 + 27 + 4, 2 },
    { "a name without end", "not well-formed", 44 + 7 + 44 + 27 + 24 + 3, 'D' },
    { "no footer", "footer is missing", 44 + 7 + 44 + 27 + 24 + 4, 'x' },
    { "a footer of nonsense", "no rule", 44 + 7 + 44 + 27 + 24 + 5, '1' },
};

static void test_broken_files(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        struct slice text = file(arena);
        struct tzif zone;
        struct err err = {};
        print_message("  %s\n", broken[i].name);
        ((char *)(uintptr_t)text.data)[broken[i].at] = broken[i].value;
        assert_int_equal(tzif_parse(arena, text, &zone, &err), ERR_BAD_INPUT);
        assert_non_null(strstr(err.message, broken[i].says));
    }
    struct tzif zone;
    struct err err;
    assert_int_equal(tzif_parse(arena, (struct slice){ "", TZIF_BYTES_MAX + 1 }, &zone, &err),
                     ERR_TOO_LARGE);
    arena_free(arena);
}

/* ---- local times ----------------------------------------------------------------------------- */

/* Both against a walk through every second. */
static void test_local_times(void **state)
{
    (void)state;
    /* Forward, back, back again before it is made up for, forward over more than was lost. */
    static const struct zone_change shifts[] = {
        { 10'000, 3600 }, { 20'000, 0 }, { 21'000, -1800 }, { 22'000, 0 }, { 22'500, 5000 },
    };
    struct arena *arena = arena_new();
    struct tzif zone;
    struct err err = {};
    assert_int_equal(tzif_parse(arena, zone_text(arena, 0, shifts, 5, ""), &zone, &err), 0);
    int64_t latest = INT64_MIN;
    for (int64_t at = 0; at < 40'000; at++) {
        struct tzif_period period;
        tzif_at(&zone, at, &period);
        int64_t shown = at + period.type.offset_s;
        int64_t first = latest == INT64_MIN ? shown : latest + 1;
        for (int64_t local = first; local <= shown; local++)
            assert_int_equal(tzif_instant(&zone, local), at);
        if (shown > latest)
            latest = shown;
        assert_int_equal(tzif_latest(&zone, at), latest);
    }
    arena_free(arena);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void test_names(void **state)
{
    static const char *const good[] = { "UTC",       "Europe/Paris",
                                        "Etc/GMT+1", "Etc/GMT-14",
                                        "GMT0",      "America/Argentina/Buenos_Aires",
                                        "W-SU",      "America/Port-au-Prince" };
    static const char *const bad[] = {
        "",
        "/",
        "/UTC",
        "Europe/",
        "Europe//Paris",
        "../etc/passwd",
        "Europe/../UTC",
        "a..b",
        "Europe/Paris ",
        "Europe/Paris\n",
        "Europe\\Paris",
        ".",
        "Europe/.",
        "1Europe",
        "Europe/1",
        "-x",
        "_x",
        "a/_b",
        "Z\xc3\xbcrich",
        "%n",
        "Aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    };
    struct err err;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(tzif_check_name(slice_of(good[i]), &err), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        print_message("  '%s'\n", bad[i]);
        assert_int_equal(tzif_check_name(slice_of(bad[i]), &err), ERR_BAD_INPUT);
    }
    assert_int_equal(tzif_check_name((struct slice){ "UT\0C", 4 }, &err), ERR_BAD_INPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_days_go_there_and_back),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_daylight_saving_all_year),
        cmocka_unit_test(test_texts_that_are_no_rule),
        cmocka_unit_test(test_a_file_is_read),
        cmocka_unit_test(test_a_file_cut_anywhere_is_refused),
        cmocka_unit_test(test_broken_files),
        cmocka_unit_test(test_local_times),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
