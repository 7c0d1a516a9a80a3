/* SPDX-License-Identifier: Apache-2.0 */
/* A cold PoP whose start another hides is chosen as if it were warm, or nearly. */
#include "policy/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include <math.h>

#include "route_fleet.h"

static const struct row rows[] = {
    { "one that another hides is not: who is near wakes it",
      { { 5, "DE", 'u', 0, 500, true }, { 90, "DE", 'u', 0, 0 } },
      "",
      false,
      "AB",
      "aa" },
    { "however long it takes",
      { { 5, "DE", 'u', 0, 500'000, true }, { 90, "DE", 'u', 9, 0 } },
      "",
      false,
      "AB",
      "aa" },
    { "but a replica is not worth two milliseconds",
      { { 5, "DE", 'u', 0, 500, true }, { 6, "DE", 'u', 0, 0 } },
      "",
      false,
      "BA",
      "aa" },
    { "a shorter one costs what it takes",
      { { 5, "DE", 'u', 0, 0.5f, true }, { 6, "DE", 'u', 0, 0 } },
      "",
      false,
      "AB",
      "aa" },
    { "the nearest of those that are hidden",
      { { 9, "DE", 'u', 0, 500, true }, { 5, "DE", 'u', 0, 900, true }, { 90, "DE", 'u', 0, 0 } },
      "",
      false,
      "BAC",
      "aaa" },
    { "none is warm: nobody hides it",
      { { 5, "DE", 'u', 0, 500, true }, { 60, "DE", 'u', 0, 100, true } },
      "",
      false,
      "BA",
      "aa" },
    { "nor who is down",
      { { 5, "DE", 'u', 0, 500, true }, { 60, "DE", 'u', 0, 100, true }, { 9, "DE", 'x', 0, 0 } },
      "",
      false,
      "BA",
      "aad" },
    { "nor who is to be emptied",
      { { 5, "DE", 'u', 0, 500, true }, { 60, "DE", 'u', 0, 100, true }, { 9, "DE", 'd', 0, 0 } },
      "",
      false,
      "BA",
      "aaD" },
    { "nor who is full",
      { { 5, "DE", 'u', 0, 500, true },
        { 60, "DE", 'u', 0, 100, true },
        { 9, "DE", 'u', INFINITY, 0 } },
      "",
      false,
      "BA",
      "aaF" },
    { "nor who may not have it",
      { { 5, "DE", 'u', 0, 500, true }, { 60, "DE", 'u', 0, 100, true }, { 9, "US", 'u', 0, 0 } },
      "DE",
      false,
      "BA",
      "aar" },
    { "what may not be processed there is not hidden there",
      { { 5, "US", 'u', 0, 500, true }, { 60, "DE", 'u', 0, 0 } },
      "DE",
      false,
      "B",
      "ra" },
    { "nor what does not start",
      { { 5, "DE", 'u', 0, INFINITY, true }, { 60, "DE", 'u', 0, 0 } },
      "",
      false,
      "B",
      "Fa" },
    { "nor where nobody has heard of it",
      { { 5, "DE", 'u', 0, 500, false }, { 60, "DE", 'u', 0, 0 } },
      "",
      false,
      "BA",
      "aa" },
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        row_check(&rows[i]);
}

/* Who answers while a start is hidden runs it: one of whose runs nothing is known is no better. */
static void test_a_hidden_start_costs_the_run_of_who_answers(void **state)
{
    static const struct {
        const char *name;
        float service, start, total; /* of the cold one, at the client; a warm one is 10 ms away */
    } rows_of[] = {
        { "its runs are not known", 0, 900, RTT_BASE_MS + ROUTE_HIDDEN_MS + 80 },
        { "they are longer", 100, 900, RTT_BASE_MS + ROUTE_HIDDEN_MS + 100 },
        { "they are none", -5, 900, RTT_BASE_MS + ROUTE_HIDDEN_MS + 80 },
        { "the start is shorter", 0, 50, RTT_BASE_MS + 50 }, /* than that run */
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows_of / sizeof *rows_of; i++) {
        struct fleet fleet;
        struct route_choice explained[3];

        print_message("  %s\n", rows_of[i].name);
        fleet_init(&fleet, 3);
        fleet.endpoint.count = 3;
        for (uint32_t k = 0; k < 3; k++) { /* of two that are warm the better one hides */
            stand(&fleet, k, 0, k ? 5.7 : 0);
            fleet.pop[k] = k;
            fleet.service[k] = k == 2 ? 300 : 80;
            fleet.weight[k] = 1;
        }
        fleet.service[0] = rows_of[i].service;
        fleet.start[0] = rows_of[i].start;
        fleet.hides[0] = true;
        route_explain(&fleet.pops, &fleet.endpoint, &fleet.query, explained);
        assert_float_equal(explained[0].total_ms, rows_of[i].total, 0.01);
        assert_float_equal(explained[0].start_ms, rows_of[i].start, 0);
        assert_int_equal(route_hider(&fleet.pops, &fleet.endpoint, &fleet.query), 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_a_hidden_start_costs_the_run_of_who_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
