/* SPDX-License-Identifier: Apache-2.0 */
/* What control may be told that serves: rows of what happens, one after the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the above */

#include "base/slice.h"
#include "pop/state.h"

enum { SERVING = 1, STOPPED, STARTED, GOVERNED, PUBLISHED, SERVED };

static void happen(struct pop *pop, struct pop_endpoint *endpoint, int what, uint64_t number)
{
    switch (what) {
    case SERVING:
        endpoint->serving = (uint32_t)number;
        break;
    case STOPPED:
    case STARTED:
        endpoint->running = what == STARTED;
        break;
    case GOVERNED:
        endpoint->generation = number;
        break;
    case PUBLISHED:
        pop_table_shown(pop, number);
        break;
    case SERVED:
        pop_table_served(pop, number);
        break;
    default:
        break;
    }
}

static const struct {
    const char *name;
    struct {
        int what;
        uint64_t number;
    } steps[8];
    uint32_t served;
    bool awaited;
    uint64_t generation; /* served */
} rows[] = {
    { "nothing yet", { { PUBLISHED, 1 }, { SERVED, 1 } }, 0, false },
    { "the first, not published", { { SERVING, 1 } }, 0, false },
    { "the first, published", { { SERVING, 1 }, { PUBLISHED, 1 } }, 0, true },
    { "the first, served", { { SERVING, 1 }, { PUBLISHED, 1 }, { SERVED, 1 } }, 1, false },
    { "an older table is served",
      { { PUBLISHED, 1 }, { SERVING, 1 }, { PUBLISHED, 2 }, { SERVED, 1 } },
      0,
      true },
    { "a later table with the same",
      { { SERVING, 1 }, { PUBLISHED, 1 }, { PUBLISHED, 2 }, { SERVED, 1 } },
      1,
      false },
    { "the second, published",
      { { SERVING, 1 }, { PUBLISHED, 1 }, { SERVED, 1 }, { SERVING, 2 }, { PUBLISHED, 2 } },
      1,
      true },
    { "the second, not published, the first told again",
      { { SERVING, 1 }, { PUBLISHED, 1 }, { SERVED, 1 }, { SERVING, 2 }, { SERVED, 1 } },
      1,
      false },
    { "the second, served",
      { { SERVING, 1 },
        { PUBLISHED, 1 },
        { SERVED, 1 },
        { SERVING, 2 },
        { PUBLISHED, 2 },
        { SERVED, 2 } },
      2,
      false },
    { "stopped, not published",
      { { SERVING, 1 }, { PUBLISHED, 1 }, { SERVED, 1 }, { STOPPED, 0 } },
      1,
      false },
    { "stopped, published",
      { { SERVING, 1 }, { PUBLISHED, 1 }, { SERVED, 1 }, { STOPPED, 0 }, { PUBLISHED, 2 } },
      1,
      true },
    { "stopped, and no loop serves it",
      { { SERVING, 1 },
        { PUBLISHED, 1 },
        { SERVED, 1 },
        { STOPPED, 0 },
        { PUBLISHED, 2 },
        { SERVED, 2 } },
      0,
      false },
    { "started again",
      { { SERVING, 1 },
        { PUBLISHED, 1 },
        { SERVED, 1 },
        { STOPPED, 0 },
        { PUBLISHED, 2 },
        { STARTED, 0 },
        { PUBLISHED, 3 },
        { SERVED, 2 } },
      0,
      true },
    { "governed, not published", { { GOVERNED, 7 } }, 0, false, 0 },
    { "governed, published", { { GOVERNED, 7 }, { PUBLISHED, 1 } }, 0, true, 0 },
    { "governed, served", { { GOVERNED, 7 }, { PUBLISHED, 1 }, { SERVED, 1 } }, 0, false, 7 },
    { "governed anew, the table before served",
      { { GOVERNED, 7 }, { PUBLISHED, 1 }, { GOVERNED, 8 }, { PUBLISHED, 2 }, { SERVED, 1 } },
      0,
      true,
      0 },
    { "a later table, governed likewise",
      { { GOVERNED, 7 }, { PUBLISHED, 1 }, { PUBLISHED, 2 }, { SERVED, 1 } },
      0,
      false,
      7 },
    { "what serves is not held up by how it is governed",
      { { SERVING, 1 }, { PUBLISHED, 1 }, { GOVERNED, 8 }, { PUBLISHED, 2 }, { SERVED, 1 } },
      1,
      true,
      0 },
    { "none serves any more",
      { { SERVING, 1 }, { PUBLISHED, 1 }, { SERVED, 1 }, { SERVING, 0 } },
      1,
      false },
};

static void test_what_serves(void **state)
{
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct pop pop = {};
        struct pop_endpoint endpoint = { .running = true, .wanted = true };
        list_init(&pop.endpoints);
        list_append(&pop.endpoints, &endpoint.link);
        for (size_t k = 0; k < 8 && rows[i].steps[k].what; k++)
            happen(&pop, &endpoint, rows[i].steps[k].what, rows[i].steps[k].number);
        if (pop_endpoint_served(&endpoint) != rows[i].served ||
            pop_table_awaited(&pop) != rows[i].awaited ||
            endpoint.served_generation != rows[i].generation)
            fail_msg("%s: revision %u, awaited: %d, generation %d", rows[i].name,
                     pop_endpoint_served(&endpoint), pop_table_awaited(&pop),
                     (int)endpoint.served_generation);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_what_serves) };
    return cmocka_run_group_tests_name("pop_served", tests, NULL, NULL);
}
