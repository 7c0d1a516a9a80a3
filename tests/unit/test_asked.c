/* SPDX-License-Identifier: Apache-2.0 */
/* From where endpoints are asked for: a coarse place, the gateway's counts, the agent's report. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h> /* after the above */

#include "base/arena.h"
#include "base/env.h"
#include "base/err.h"
#include "base/json.h"
#include "contract/messages.h"
#include "gateway/asked.h"
#include "pop/asked.h"

/* ---- a place ------------------------------------------------------------------------------- */

static const struct {
    const char *country;
    bool located;
    double latitude, longitude;
    double middle[2];
} places[] = {
    { "FR", true, 48.86, 2.35, { 49, 3 } },
    { "JP", true, 35.68, 139.69, { 35, 139 } },
    { "", true, 0, 0, { 1, 1 } },
    { "BR", true, -23.5, -46.6, { -23, -47 } },
    { "AQ", true, -90, -180, { -89, -179 } },
    { "NZ", true, 90, 180, { 89, 179 } },
    { "ZZ", true, 89.999, -0.001, { 89, -1 } },
    { "CH", false, 47, 8, {} },
    { "", false, 0, 0, {} },
};

static void test_places(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        country_number country = country_number_of(slice_of(places[i].country));
        asked_cell cell =
            asked_cell_of(country, places[i].located, places[i].latitude, places[i].longitude);
        double latitude, longitude;
        assert_true(cell != 0 && asked_valid(cell));
        assert_int_equal(asked_country(cell), country);
        assert_int_equal(asked_spot(cell, &latitude, &longitude), places[i].located);
        if (places[i].located)
            assert_true(latitude == places[i].middle[0] && longitude == places[i].middle[1]);
    }
    assert_int_equal(asked_cell_of(0, false, 0, 0), ASKED_SOMEWHERE);
    assert_int_equal(asked_cell_of(0, true, 91, 0), ASKED_SOMEWHERE);
    assert_int_equal(asked_cell_of(0, true, 0.0 / 0.0, 0), ASKED_SOMEWHERE);
    for (unsigned bit = 27; bit < 32; bit++)
        assert_false(asked_valid(ASKED_SOMEWHERE | 1u << bit));
    assert_false(asked_valid(0));
    assert_false(asked_valid(ASKED_SOMEWHERE | 90u << 12 | 1u << 11)); /* there is no such field */
}

/* ---- the gateway's counts ------------------------------------------------------------------- */

static asked_cell field(unsigned number)
{
    unsigned north = number / 180, east = number % 180;
    return asked_cell_of(7, true, north * 2.0 - 89, east * 2.0 - 179);
}

static void test_counts(void **state)
{
    struct asked asked = {};
    asked_cell cells[ASKED_CELLS_MAX + 1];
    uint32_t counts[ASKED_CELLS_MAX + 1];
    (void)state;
    assert_int_equal(asked_take(&asked, cells, counts), 0);
    asked_add(&asked, field(3), 2);
    asked_add(&asked, field(3), 1);
    asked_add(&asked, ASKED_SOMEWHERE, 5);
    assert_int_equal(asked_take(&asked, cells, counts), 2);
    assert_int_equal(cells[0], field(3));
    assert_int_equal(counts[0], 3);
    assert_int_equal(cells[1], ASKED_SOMEWHERE);
    assert_int_equal(counts[1], 5);
    assert_int_equal(asked_take(&asked, cells, counts), 0);
    /* From more places than are counted: nobody is lost, and the next time there is room again. */
    for (unsigned round = 0; round < 3; round++) {
        uint64_t sum = 0;
        unsigned taken;
        for (unsigned i = 0; i < 500; i++)
            asked_add(&asked, field(1000 * round + i), 1 + i);
        taken = asked_take(&asked, cells, counts);
        assert_int_equal(taken, ASKED_CELLS_MAX + 1);
        for (unsigned i = 0; i < taken; i++)
            sum += counts[i];
        assert_int_equal(sum, 500 * 501 / 2);
        assert_int_equal(asked_take(&asked, cells, counts), 0); /* and gives all places up */
    }
}

/* ---- the agent's report --------------------------------------------------------------------- */

static const char *written(struct pop_asked *asked, struct arena *arena, int64_t now_ms)
{
    struct json_writer w;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    pop_asked_write(asked, &w, now_ms * ENV_MS);
    json_object_end(&w);
    return json_end(&w).data;
}

static void add(struct pop_asked *asked, uint64_t uid, asked_cell cell, uint32_t requests)
{
    struct message_asked message = { .endpoint = uid, .count = 1 };
    message.cells[0].cell = cell;
    message.cells[0].requests = requests;
    pop_asked_add(asked, &message);
}

static void test_reports(void **state)
{
    struct arena *arena = arena_new();
    struct pop_asked asked = {};
    (void)state;
    assert_string_equal(written(&asked, arena, 1'000'000), "{}"); /* it begins */
    add(&asked, 9, asked_cell_of(country_number_of(SLICE("JP")), true, 35.7, 139.7), 3);
    add(&asked, 9, ASKED_SOMEWHERE, 4);
    add(&asked, 9, 0, 1000); /* no place at all */
    assert_string_equal(written(&asked, arena, 1'000'999), "{}");
    pop_asked_taken(&asked); /* the one that said nothing of it */
    static const char first[] =
        "{\"demand\":{\"window_ms\":5000,\"endpoints\":[{\"uid\":9,\"clients\":["
        "{\"country\":\"\",\"requests\":4},"
        "{\"country\":\"JP\",\"latitude\":35.0,\"longitude\":139.0,\"requests\":3}]}]}}";
    assert_string_equal(written(&asked, arena, 1'005'000), first);
    /* It was lost: told again, with what came since. */
    add(&asked, 9, ASKED_SOMEWHERE, 1);
    assert_string_equal(
        written(&asked, arena, 1'007'000),
        "{\"demand\":{\"window_ms\":7000,\"endpoints\":[{\"uid\":9,\"clients\":["
        "{\"country\":\"\",\"requests\":5},"
        "{\"country\":\"JP\",\"latitude\":35.0,\"longitude\":139.0,\"requests\":3}]}]}}");
    add(&asked, 9, ASKED_SOMEWHERE, 2); /* while it is under way */
    pop_asked_taken(&asked);
    assert_string_equal(written(&asked, arena, 1'012'000),
                        "{\"demand\":{\"window_ms\":5000,\"endpoints\":[{\"uid\":9,\"clients\":["
                        "{\"country\":\"\",\"requests\":2}]}]}}");
    pop_asked_taken(&asked);
    assert_string_equal(written(&asked, arena, 1'013'000),
                        "{\"demand\":{\"window_ms\":1000,\"endpoints\":[]}}");
    assert_int_equal(asked.endpoints.count, 0);
    /* More places than fit. */
    for (unsigned i = 0; i < 3 * ASKED_CELLS_MAX; i++)
        add(&asked, 9, field(i), 1);
    for (unsigned i = 0; i < 2 * POP_ASKED_ENDPOINTS_MAX; i++)
        add(&asked, 10 + i, ASKED_SOMEWHERE, 1);
    assert_int_equal(asked.endpoints.count, POP_ASKED_ENDPOINTS_MAX);
    pop_asked_deinit(&asked);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_reports),
    };
    return cmocka_run_group_tests_name("asked", tests, NULL, NULL);
}
