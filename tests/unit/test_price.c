/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/price.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"

#define DAY 86'400
#define US UINT64_C(1'000'000)
#define GIB (UINT64_C(1) << 20)

static int parse(struct arena *arena, const char *json, struct price_list *ret, struct err *err)
{
    yyjson_val *root;
    int r = json_parse(arena, slice_of(json), NULL, &root, err);
    return r < 0 ? r : price_list_parse(arena, root, ret, err);
}

static const char list_json[] =
    "{\"version\":1,\"kind\":\"prices\",\"prices\":["
    "{\"from\":\"1970-01-11T00:00:00Z\",\"cpu_second\":\"0.00002 EUR\"},"
    "{\"from\":\"1970-01-02T00:00:00Z\",\"pop\":\"paris\",\"cpu_second\":\"0.00003 EUR\","
    "\"gib_second\":\"0.000001 EUR\",\"request\":\"0.0000002 EUR\"},"
    "{\"from\":\"1970-01-01T00:00:00Z\",\"cpu_second\":\"0.00001 EUR\"}]}";

static void test_which_price_holds(void **state)
{
    struct arena *arena = arena_new();
    struct price_list list;
    struct err err = {};
    (void)state;
    static const struct {
        const char *pop;
        int64_t at_s;
        int64_t pico; /* of a CPU-second */
    } rows[] = {
        { "paris", 0, 10'000'000 },
        { "paris", DAY - 1, 10'000'000 },
        { "paris", DAY, 30'000'000 },
        { "tokyo", DAY, 10'000'000 },
        { "paris", 10 * DAY, 30'000'000 },
        { "tokyo", 10 * DAY, 20'000'000 },
        { "tokyo", 10 * DAY - 1, 10'000'000 },
        { "paris", INT64_MAX, 30'000'000 },
    };
    assert_int_equal(parse(arena, list_json, &list, &err), 0);
    assert_string_equal(list.currency, "EUR");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct price_row *row = price_find(&list, slice_of(rows[i].pop), rows[i].at_s);
        assert_non_null(row);
        assert_int_equal(row->price.cpu_hour, 3600 * rows[i].pico);
    }
    assert_null(price_find(&list, SLICE("paris"), -1));
    assert_int_equal(price_next(&list, 0), DAY);
    assert_int_equal(price_next(&list, DAY), 10 * DAY);
    assert_true(price_next(&list, 10 * DAY) == INT64_MAX);
    arena_free(arena);
}

static void test_bad_lists(void **state)
{
    static const struct {
        const char *json, *says;
    } rows[] = {
        { "[]", "must be an object" },
        { "{}", "prices" },
        { "{\"prices\":[],\"version\":2}", "version 2" },
        { "{\"prices\":[],\"kind\":\"endpoint\"}", "'endpoint'" },
        { "{\"prices\":[{\"cpu_secon\":\"1 EUR\"}]}", "cpu_second" },
        { "{\"prices\":[{\"cpu_second\":1}]}", "cpu_second" },
        { "{\"prices\":[{\"cpu_second\":\"1\"}]}", "an amount and a currency" },
        { "{\"prices\":[{\"cpu_second\":\"1 eur\"}]}", "an amount and a currency" },
        { "{\"prices\":[{\"cpu_second\":\"0.0000000000001 EUR\"}]}", "12 decimals" },
        { "{\"prices\":[{\"cpu_second\":\"9000000 EUR\"}]}", "too big" },
        { "{\"prices\":[{\"request\":\"1 EUR\"},{\"from\":\"2026-01-01\",\"request\":\"1 USD\"}]}",
          "another currency" },
        { "{\"prices\":[{\"from\":\"tomorrow\"}]}", "no time" },
        { "{\"prices\":[{\"from\":\"2026-13-01\"}]}", "no time" },
        { "{\"prices\":[{\"pop\":\"Paris\"}]}", "PoP" },
        { "{\"prices\":[{},{}]}", "two from the same time" },
        { "{\"prices\":[1]}", "prices[0]" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct price_list list;
        struct err err = {};
        assert_int_equal(parse(arena, rows[i].json, &list, &err), ERR_BAD_INPUT);
        if (!strstr(err.message, rows[i].says))
            fail_msg("%s: %s", rows[i].json, err.message);
        arena_free(arena);
    }
}

static void test_list_comes_back(void **state)
{
    struct arena *arena = arena_new();
    struct price_list list, again;
    struct err err = {};
    (void)state;
    assert_int_equal(parse(arena, list_json, &list, &err), 0);
    struct slice json = price_list_json(arena, &list);
    assert_int_equal(parse(arena, arena_string(arena, json), &again, &err), 0);
    assert_int_equal(again.count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_memory_equal(&again.rows[i].price, &list.rows[i].price, sizeof(struct price));
        assert_int_equal(again.rows[i].from_s, list.rows[i].from_s);
        assert_true(slice_equal(again.rows[i].pop, list.rows[i].pop));
    }
    arena_free(arena);
}

/* Hand-worked: 0.00001 a CPU-second, 0.000002 a GiB-second, 0.0000005 a request. */
static void test_costs(void **state)
{
    static const struct price price = { 3600 * INT64_C(10'000'000), 3600 * INT64_C(2'000'000),
                                        500'000 };
    static const struct {
        struct figures figures;
        int64_t micro;
    } rows[] = {
        { {}, 0 },
        { { .cpu_us = US, .busy_us = US }, 10 },
        { { .cpu_us = US / 20 }, 1 }, /* 0.5 of a millionth: away from zero */
        { { .cpu_us = US / 20 - 1 }, 0 },
        { { .memory_kibs = GIB }, 2 },
        { { .memory_kibs = GIB / 4 }, 1 },
        { { .memory_kibs = GIB / 4 - 1 }, 0 },
        { { .requests = 1 }, 1 },
        { { .requests = 3 }, 2 },
        { { .requests = 1000, .failures = 1000 }, 500 },
        { { .cpu_us = 3600 * US, .memory_kibs = 3600 * GIB, .requests = 7200 },
          36'000 + 7'200 + 3'600 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct cost cost = {};
        cost_add(&cost, &price, &rows[i].figures);
        assert_int_equal(price_micro(cost_total(&cost)), rows[i].micro);
    }
}

/* Exact: in whatever parts it comes, the sum is the same; and it never overflows. */
static void test_sums_of_costs(void **state)
{
    static const struct price price = { INT64_C(7'777'777'777), INT64_C(3'333'333), 123'456'789 };
    struct cost parts = {}, whole = {};
    struct figures all = {};
    (void)state;
    srand(3);
    for (int i = 0; i < 1000; i++) {
        struct figures f = { .requests = (uint64_t)rand() % 99, .memory_kibs = (uint64_t)rand() };
        f.cpu_us = (uint64_t)rand();
        f.busy_us = f.cpu_us / 3;
        cost_add(&parts, &price, &f);
        figures_add(&all, &f);
    }
    cost_add(&whole, &price, &all);
    assert_memory_equal(&parts, &whole, sizeof whole);

    static const struct price dear = { INT64_MAX, INT64_MAX, INT64_MAX };
    const struct figures most = { .requests = FIGURE_MAX,
                                  .cpu_us = FIGURE_MAX,
                                  .busy_us = FIGURE_MAX,
                                  .memory_kibs = FIGURE_MAX };
    struct cost cost = {};
    for (int i = 0; i < 10; i++)
        cost_add(&cost, &dear, &most);
    /* The largest that there is: forty thousand million of the currency. */
    assert_true(cost_total(&cost) == cost.requests && cost.requests == cost.busy);
    assert_true(price_micro(cost_total(&cost)) > INT64_C(40'000'000'000) * 1'000'000);
}

/* There for 100 s of 1,000, of which 40 s idle with 0.4 ms of CPU a second, and 1 GiB. */
static void test_always_on(void **state)
{
    static const struct price price = { 3600 * INT64_C(1'000'000'000'000),
                                        3600 * INT64_C(1'000'000'000), 0 };
    const struct figures f = { .cpu_us = 70'000'000 + 16'000,
                               .busy_us = 50'000'000,
                               .start_us = 20'000'000,
                               .life_ms = 100'000,
                               .idle_ms = 40'000,
                               .memory_kibs = 100 * GIB };
    struct cost cost = {};
    const struct figures never = {};
    (void)state;
    cost_add(&cost, &price, &f);
    /* 50 s busy, 1,000 s of 0.0004 CPU, 1,000 GiB-seconds at a thousandth. */
    assert_int_equal(price_micro(price_always_on(&cost, &f, 1, 1000)),
                     50'000'000 + 400'000 + 1'000'000);
    assert_int_equal(price_micro(price_always_on(&cost, &f, 2, 1000)),
                     50'000'000 + 2 * (400'000 + 1'000'000));
    struct cost none = {};
    assert_int_equal(price_micro(price_always_on(&none, &never, 1, 1000)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which_price_holds), cmocka_unit_test(test_bad_lists),
        cmocka_unit_test(test_list_comes_back),   cmocka_unit_test(test_costs),
        cmocka_unit_test(test_sums_of_costs),     cmocka_unit_test(test_always_on),
    };
    return cmocka_run_group_tests_name("price", tests, NULL, NULL);
}
