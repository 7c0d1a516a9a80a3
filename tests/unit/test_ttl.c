/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/ttl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include "policy/route.h"

static const bool stable[] = { true, false, true };

static const struct {
    const char *name;
    uint32_t pops[3];
    size_t count;
    uint32_t ttl;
} rows[] = {
    { "one that is stable", { 0 }, 1, 20 },   { "two", { 2, 0 }, 2, 20 },
    { "one that is not", { 1 }, 1, 5 },       { "the first is not", { 1, 0 }, 2, 5 },
    { "the last is not", { 0, 2, 1 }, 3, 5 },
};

static void test_one_that_is_not_stable_is_enough(void **)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct route_choice choices[3] = {};
        for (size_t k = 0; k < rows[i].count; k++)
            choices[k].pop = rows[i].pops[k];
        if (ttl_of(choices, rows[i].count, stable) != rows[i].ttl)
            fail_msg("%s", rows[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_one_that_is_not_stable_is_enough) };
    return cmocka_run_group_tests_name("ttl", tests, NULL, NULL);
}
