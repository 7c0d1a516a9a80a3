/* SPDX-License-Identifier: Apache-2.0 */
/* What came by when, and what is said of it then. */
#include "policy/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h> /* after the four above */

enum { LOOKS_MAX = 4, KIB = 1024 };

static const struct {
    const char *name;
    struct {
        int64_t s;
        uint64_t bytes; /* of all so far */
        enum pace_is is;
    } looks[LOOKS_MAX];
    size_t count;
} rows[] = {
    { "nothing within a span is no word yet", { { 29, 0, PACE_WELL } }, 1 },
    { "nothing over a span", { { 30, 0, PACE_STALLED } }, 1 },
    { "a byte less than it must", { { 30, 30 * 512 - 1, PACE_STALLED } }, 1 },
    { "what it must", { { 30, 30 * 512, PACE_SLOW } }, 1 },
    { "a byte less than what keeps its place", { { 30, 30 * 64 * KIB - 1, PACE_SLOW } }, 1 },
    { "what keeps its place", { { 30, 30 * 64 * KIB, PACE_WELL } }, 1 },
    { "a look that comes late asks for as much more",
      { { 60, 30 * 512, PACE_STALLED }, { 90, 60 * 512, PACE_SLOW } },
      2 },
    { "what came in a span before does not count",
      { { 30, 1 << 30, PACE_WELL }, { 45, 1 << 30, PACE_WELL }, { 60, 1 << 30, PACE_STALLED } },
      3 },
    { "it is said once a span",
      { { 30, 30 * 512, PACE_SLOW }, { 31, 30 * 512, PACE_WELL }, { 60, 60 * 512, PACE_SLOW } },
      3 },
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct pace pace;
        print_message("  %s\n", rows[i].name);
        pace_begin(&pace, 1000, 7); /* what was there before */
        for (size_t k = 0; k < rows[i].count; k++)
            assert_int_equal(
                pace_look(&pace, 1000 + rows[i].looks[k].s * 1000, 7 + rows[i].looks[k].bytes),
                rows[i].looks[k].is);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_rows) };
    return cmocka_run_group_tests_name("pace", tests, NULL, NULL);
}
