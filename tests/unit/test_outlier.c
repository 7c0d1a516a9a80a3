/* SPDX-License-Identifier: Apache-2.0 */
/* Outcomes in their order, and whether it is left alone then. */
#include "policy/outlier.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h> /* after the four above */

#define S INT64_C(1'000'000'000)

static const struct {
    const char *name, *outcomes; /* f: failed, g: good; a digit: so many seconds pass */
    bool ejected;
    int64_t for_s; /* from then */
} rows[] = {
    { "nothing is known", "", false, 0 },
    { "four failures", "ffff", false, 0 },
    { "five in a row", "fffff", true, 1 },
    { "four, a good one, four", "ffffgffff", false, 0 },
    { "what was under way counts no more", "fffffffffff", true, 1 },
    { "it comes back", "fffff1", false, 0 },
    { "and fails at once: twice as long", "fffff1f", true, 2 },
    { "and again: four times", "fffff1f2f", true, 4 },
    { "no longer than half a minute", "fffff1f2f4f8f99f999f9999f", true, 30 },
    { "it comes back and is well", "fffff1gffff", false, 0 },
    { "a minute later it begins anew", "fffff1g999999999fffff", true, 1 },
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct outlier outlier = {};
        int64_t now = S;
        print_message("  %s\n", rows[i].name);
        for (const char *c = rows[i].outcomes; *c; c++) {
            if (*c == 'f')
                outlier_bad(&outlier, now);
            else if (*c == 'g')
                outlier_good(&outlier);
            else
                now += (*c - '0') * S;
        }
        assert_int_equal(outlier_ejected(&outlier, now), rows[i].ejected);
        if (rows[i].ejected)
            assert_int_equal(outlier.until_ns - now, rows[i].for_s * S);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_rows) };
    return cmocka_run_group_tests_name("outlier", tests, NULL, NULL);
}
