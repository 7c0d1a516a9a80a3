/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/cron.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include "base/civil.h"
#include "base/err.h"

static int64_t local(int year, int month, int day, int hour, int minute)
{
    return civil_days(year, month, day) * CIVIL_DAY_S + hour * 3600 + minute * 60;
}

struct when {
    int year, month, day, hour, minute;
};

static int64_t of(struct when when)
{
    return local(when.year, when.month, when.day, when.hour, when.minute);
}

static const struct {
    const char *text;
    struct when from, next, before; /* before: the last at or before `from` */
} rows[] = {
    { "* * * * *", { 2026, 1, 1, 0, 0 }, { 2026, 1, 1, 0, 0 }, { 2026, 1, 1, 0, 0 } },
    { "0 8 * * 1-5", { 2026, 11, 27, 8, 1 }, { 2026, 11, 30, 8, 0 }, { 2026, 11, 27, 8, 0 } },
    { "0 8 * * MON-fri", { 2026, 11, 27, 8, 0 }, { 2026, 11, 27, 8, 0 }, { 2026, 11, 27, 8, 0 } },
    { "*/15 9-17/4 * * *", { 2026, 5, 5, 9, 46 }, { 2026, 5, 5, 13, 0 }, { 2026, 5, 5, 9, 45 } },
    { "5,10,15-17 0 1 jan *", { 2026, 1, 1, 0, 11 }, { 2026, 1, 1, 0, 15 }, { 2026, 1, 1, 0, 10 } },
    { "0 0 29 2 *", { 2096, 3, 1, 0, 0 }, { 2104, 2, 29, 0, 0 }, { 2096, 2, 29, 0, 0 } },
    { "0 0 31 * *", { 2026, 4, 1, 0, 0 }, { 2026, 5, 31, 0, 0 }, { 2026, 3, 31, 0, 0 } },
    /* Both days told: either. */
    { "0 0 13 * 5", { 2026, 11, 14, 0, 0 }, { 2026, 11, 20, 0, 0 }, { 2026, 11, 13, 0, 0 } },
    { "0 0 1 * */2", { 2026, 11, 30, 0, 0 }, { 2026, 12, 1, 0, 0 }, { 2026, 11, 29, 0, 0 } },
    /* 30 February or a Monday in it comes. */
    { "0 0 30 2 1", { 2026, 2, 1, 0, 0 }, { 2026, 2, 2, 0, 0 }, { 2025, 2, 24, 0, 0 } },
    { "0 0 * * 7", { 2026, 11, 28, 0, 0 }, { 2026, 11, 29, 0, 0 }, { 2026, 11, 22, 0, 0 } },
    { "0 0 * * fri-sun", { 2026, 11, 29, 0, 1 }, { 2026, 12, 4, 0, 0 }, { 2026, 11, 29, 0, 0 } },
    { "59 23 31 12 *", { 2026, 1, 1, 0, 0 }, { 2026, 12, 31, 23, 59 }, { 2025, 12, 31, 23, 59 } },
    { " 0\t0  1 1 * ", { 1969, 6, 1, 0, 0 }, { 1970, 1, 1, 0, 0 }, { 1969, 1, 1, 0, 0 } },
};

static void test_when(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct cron cron;
        struct err err = {};
        print_message("  %s\n", rows[i].text);
        assert_int_equal(cron_parse(slice_of(rows[i].text), &cron, &err), 0);
        int64_t from = of(rows[i].from);
        assert_int_equal(cron_next(&cron, from), of(rows[i].next));
        assert_int_equal(cron_next(&cron, of(rows[i].next) - 59), of(rows[i].next));
        assert_int_equal(cron_before(&cron, from), of(rows[i].before));
        assert_int_equal(cron_before(&cron, from + 59), of(rows[i].before));
    }
}

static const struct {
    const char *text, *says;
} bad[] = {
    { "", "fewer fields; it needs five" },
    { "0 8 * *", "fewer fields" },
    { "0 0 8 * * 1", "more fields" },
    { "@daily", "words are not known" },
    { "60 * * * *", "minute: 60 is not within 0 to 59" },
    { "* 24 * * *", "hour: 24 is not within 0 to 23" },
    { "* * 0 * *", "day of the month: 0 is not within 1 to 31" },
    { "* * 32 * *", "day of the month: 32" },
    { "* * * 13 *", "month: 13" },
    { "* * * * 8", "day of the week: 8" },
    { "* * * * mo", "names have three letters" },
    { "jan * * * *", "minute: 'jan' is no number" },
    { "* * * mon *", "month: 'mon' is no number or name" },
    { "-1 * * * *", "minute: '' is no number" },
    { "1- * * * *", "minute: '' is no number" },
    { "1-2-3 * * * *", "minute: '2-3' is no number" },
    { "5-1 * * * *", "'5-1' ends before it begins" },
    { "*/0 * * * *", "'0' is no step of 1 to 59" },
    { "*/60 * * * *", "'60' is no step" },
    { "*/ * * * *", "'' is no step" },
    { "5/5 * * * *", "a step of one value; say */5 or a range" },
    { ", * * * *", "something is missing beside a comma" },
    { "1, * * * *", "something is missing beside a comma" },
    { "** * * * *", "'**' is no number" },
    { "1.5 * * * *", "'1.5' is no number" },
    { "007 * * * *", "'007' is no number" },
    { "0 0 30 2 *", "it never comes: no month in it has a day 30" },
    { "0 0 31 2,4,6,9,11 *", "it never comes: no month in it has a day 31" },
};

static void test_texts_that_are_none(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct cron cron;
        struct err err = {};
        print_message("  '%s'\n", bad[i].text);
        assert_int_equal(cron_parse(slice_of(bad[i].text), &cron, &err), ERR_BAD_INPUT);
        if (!strstr(err.message, bad[i].says))
            fail_msg("%s", err.message);
    }
    static char text[CRON_TEXT_MAX + 2];
    struct cron cron;
    struct err err;
    memset(text, ' ', CRON_TEXT_MAX + 1);
    assert_int_equal(cron_parse(slice_of(text), &cron, &err), ERR_BAD_INPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_when),
        cmocka_unit_test(test_texts_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
