/* SPDX-License-Identifier: Apache-2.0 */
/* Usage in the store: what is added is summed, by whatever is asked, and old rows become coarser
 * without changing a sum. */
#include "store/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/err.h"

enum { HOUR = 3600, DAY = 86'400 };
#define NOW (INT64_C(20'000) * DAY + 5 * HOUR + 7)

static char folder[] = "/tmp/perigee-usage-XXXXXX", path[64];
static struct store *store;
static struct arena *arena;
static struct err err;

#define OK(call)                                                                                   \
    do                                                                                             \
        if ((call) < 0)                                                                            \
            fail_msg("%s: %s", #call, err.message);                                                \
    while (0)

static int (*act_now)(void);

static int run(struct store *, void *, struct err *)
{
    return act_now();
}

static void act(int (*what)(void))
{
    act_now = what;
    OK(store->transact(store, run, NULL, &err));
}

static int begin(void)
{
    int r = store->project_ensure(store, SLICE("default"), 1, &err);
    for (int i = 0; i < 2 && r == 0; i++) {
        struct store_endpoint endpoint = { .project = SLICE("default"),
                                           .name = slice_of(i ? "second" : "first"),
                                           .spec = SLICE("{}"),
                                           .created_ns = 5 };
        r = store->endpoint_add(store, &endpoint, &err);
        assert_int_equal(endpoint.uid, 1 + i);
        for (uint64_t number = 1; number <= 3 && r == 0; number++) {
            const struct store_revision revision = { .endpoint_uid = endpoint.uid,
                                                     .number = number,
                                                     .spec = SLICE("{}"),
                                                     .state = SLICE("ready") };
            r = store->revision_add(store, &revision, NULL, 0, &err);
        }
    }
    const struct store_placement place = { 1, SLICE("paris"), 1, 5 };
    return r < 0 ? r : store->placement_set(store, 1, &place, 1, &err);
}

static int set_up(void **)
{
    struct store_limits limits = store_limits_default();
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/store.db", folder);
    limits.usage_ledgers_max = 2;
    OK(store_sqlite_open(path, STORE_WRITE, &limits, &store, &err));
    arena = arena_new();
    act(begin);
    return 0;
}

static int tear_down(void **)
{
    char file[96];
    store->close(store);
    arena_free(arena);
    static const char *const ends[] = { "", "-wal", "-shm", ".reserve" };
    for (size_t i = 0; i < 4; i++) {
        snprintf(file, sizeof file, "%s%s", path, ends[i]);
        unlink(file);
    }
    assert_int_equal(rmdir(folder), 0);
    return 0;
}

static int add(uint64_t uid, uint64_t revision, const char *pop, int64_t start_s, uint64_t requests)
{
    const struct store_usage row = { .endpoint_uid = uid,
                                     .revision = revision,
                                     .pop = slice_of(pop),
                                     .start_s = start_s,
                                     .period_s = 60,
                                     .figures = { .requests = requests, .cpu_us = 10 * requests } };
    return store->usage_add(store, &row, NOW, &err);
}

static struct store_usage_sum *sums(const struct store_usage_query *query, size_t *ret_count)
{
    struct store_usage_sum *rows;
    struct store_usage_query whole = *query;
    whole.to_s = whole.to_s ? whole.to_s : NOW + DAY;
    whole.limit = whole.limit ? whole.limit : 100;
    OK(store->usage_sum(store, &whole, arena, &rows, ret_count, &err));
    return rows;
}

static uint64_t requests_of(const struct store_usage_query *query)
{
    size_t count;
    const struct store_usage_sum *rows = sums(query, &count);
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += rows[i].figures.requests;
        assert_int_equal(rows[i].figures.cpu_us, 10 * rows[i].figures.requests);
    }
    return sum;
}

static int some(void)
{
    int r = add(1, 1, "paris", NOW - 10, 1);
    r = r < 0 ? r : add(1, 1, "paris", NOW - 9, 2); /* the same minute */
    r = r < 0 ? r : add(1, 2, "tokyo", NOW - 2 * HOUR, 4);
    r = r < 0 ? r : add(2, 1, "paris", NOW - 5 * HOUR, 8);  /* by the hour at once */
    r = r < 0 ? r : add(2, 1, "tokyo", NOW - 50 * DAY, 16); /* by the day */
    return r;
}

static void test_views(void **)
{
    size_t count;
    act(some);
    const struct store_usage_query all = {};
    const struct store_usage_sum *rows = sums(&all, &count);
    assert_int_equal(count, 1);
    assert_int_equal(rows[0].figures.requests, 31);
    assert_int_equal(rows[0].period_s, DAY);
    const struct store_usage_query by_endpoint = { .by_endpoint = true };
    rows = sums(&by_endpoint, &count);
    assert_int_equal(count, 2);
    assert_true(slice_is(rows[0].endpoint, "first") && slice_is(rows[0].project, "default"));
    assert_int_equal(rows[0].figures.requests, 7);
    assert_int_equal(rows[1].figures.requests, 24);
    const struct store_usage_query by_much = {
        .by_endpoint = true, .by_revision = true, .by_pop = true, .by_s = HOUR
    };
    rows = sums(&by_much, &count);
    assert_int_equal(count, 4);
    for (size_t i = 1; i < count; i++)
        assert_true(rows[i].start_s >= rows[i - 1].start_s && rows[i].start_s % HOUR == 0);
    static const struct {
        struct store_usage_query query;
        uint64_t requests;
    } cases[] = {
        { { .pop = { "paris", 5 } }, 11 },
        { { .endpoint = { "second", 6 } }, 24 },
        { { .project = { "other", 5 } }, 0 },
        { { .from_s = NOW - 3 * HOUR }, 7 },
        { { .from_s = NOW - 6 * HOUR, .to_s = NOW - 3 * HOUR }, 8 },
        { { .to_s = NOW - 40 * DAY }, 16 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(requests_of(&cases[i].query), cases[i].requests);
    const struct store_usage_query few = { .by_pop = true, .to_s = NOW, .limit = 1 };
    struct store_usage_sum *none;
    assert_int_equal(store->usage_sum(store, &few, arena, &none, &count, &err), ERR_TOO_LARGE);
}

static int64_t roll_at;

static int roll(void)
{
    return store->usage_roll(store, roll_at, &err);
}

static void test_older_is_coarser_and_the_sum_the_same(void **)
{
    const struct store_usage_query all = { .to_s = NOW + 900 * DAY };
    size_t count;
    act(some);
    static const struct {
        int64_t later_s;
        uint64_t requests, period_s; /* of the newest rows */
    } steps[] = {
        { 0, 31, 60 },          { HOUR, 31, 60 },
        { 5 * HOUR, 31, HOUR }, { 5 * HOUR, 31, HOUR },
        { 39 * DAY, 31, HOUR }, { 45 * DAY, 31, DAY },
        { 700 * DAY, 31, DAY }, { 770 * DAY, 31 - 16, DAY },
        { 802 * DAY, 0, 0 },
    };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const struct store_usage_query newest = { .from_s = NOW - NOW % DAY,
                                                  .to_s = NOW + DAY,
                                                  .endpoint = SLICE("first"),
                                                  .pop = SLICE("paris") };
        roll_at = NOW + steps[i].later_s;
        act(roll);
        assert_int_equal(requests_of(&all), steps[i].requests);
        const struct store_usage_sum *rows = sums(&newest, &count);
        assert_int_equal(count ? rows[0].period_s : 0, steps[i].period_s);
    }
}

static int much(void)
{
    int r = 0;
    for (int i = 0; i < 10 && r == 0; i++)
        for (int64_t at = 0; at < 3 * HOUR && r == 0; at += 600)
            r = add(1, 1, "paris", NOW - at, FIGURE_MAX / 10);
    return r;
}

/* Nothing that a PoP may say makes a sum overflow. */
static void test_bounds(void **)
{
    const struct store_usage_query all = {};
    size_t count;
    act(much);
    roll_at = NOW + 50 * DAY;
    act(roll);
    const struct store_usage_sum *rows = sums(&all, &count);
    assert_int_equal(count, 1);
    assert_int_equal(rows[0].figures.requests, FIGURE_MAX);
}

static int ledgers(void)
{
    int r = 0;
    static const char *const ids[] = { "1", "2", "3" };
    for (int i = 0; i < 3 && r == 0; i++) {
        const struct store_ledger row = { slice_of(ids[i]), SLICE("paris"), 7, SLICE("d"), 10 + i };
        r = store->ledger_put(store, &row, &err);
    }
    const struct store_ledger again = { SLICE("3"), SLICE("paris"), 9, SLICE("e"), 20 };
    return r < 0 ? r : store->ledger_put(store, &again, &err);
}

static void test_ledgers_and_who_may(void **)
{
    struct store_ledger row;
    act(ledgers);
    assert_int_equal(store->ledger_get(store, SLICE("1"), arena, &row, &err), ERR_NOT_FOUND);
    OK(store->ledger_get(store, SLICE("3"), arena, &row, &err));
    assert_int_equal(row.counted, 9);
    assert_true(slice_is(row.digest, "e") && slice_is(row.pop, "paris"));
    assert_int_equal(store->usage_placed(store, 1, 1, SLICE("paris"), &err), 1);
    assert_int_equal(store->usage_placed(store, 1, 1, SLICE("tokyo"), &err), 0);
    assert_int_equal(store->usage_placed(store, 2, 1, SLICE("paris"), &err), 0);
    assert_int_equal(store->usage_placed(store, 2, 1, (struct slice){}, &err), 1);
    assert_int_equal(store->usage_placed(store, 3, 1, (struct slice){}, &err), 0);
    assert_int_equal(store->usage_placed(store, 1, 3, SLICE("paris"), &err), 1);
    assert_int_equal(store->usage_placed(store, 1, 4, SLICE("paris"), &err), 0); /* never was */
    assert_int_equal(store->usage_placed(store, 2, 4, (struct slice){}, &err), 0);
}

static int endpoint_goes(void)
{
    return store->endpoint_delete(store, 1, &err);
}

/* What a deleted endpoint used is there as long as any other's. */
static void test_deleted(void **)
{
    const struct store_usage_query first = { .endpoint = SLICE("first") };
    act(some);
    act(endpoint_goes);
    assert_int_equal(requests_of(&first), 7);
    assert_int_equal(store->usage_placed(store, 1, 1, SLICE("paris"), &err), 1);
    assert_int_equal(store->usage_placed(store, 1, 3, SLICE("paris"), &err), 1);
    assert_int_equal(store->usage_placed(store, 1, 4, SLICE("paris"), &err), 0); /* never was */
    assert_int_equal(store->usage_placed(store, 1, 4, (struct slice){}, &err), 0);
    roll_at = INT64_C(100'000) * DAY; /* the deletion's time is the machine's */
    act(roll);
    assert_int_equal(requests_of(&first), 0);
    assert_int_equal(store->usage_placed(store, 1, 1, SLICE("paris"), &err), 0);
}

static int list_set(void)
{
    int r = store->prices_put(store, SLICE("{}"), 1, &err);
    return r < 0 ? r : store->prices_put(store, SLICE("{\"prices\":[]}"), 2, &err);
}

static void test_prices(void **)
{
    struct slice list = SLICE("?");
    OK(store->prices_get(store, arena, &list, &err));
    assert_int_equal(list.size, 0);
    act(list_set);
    OK(store->prices_get(store, arena, &list, &err));
    assert_true(slice_is(list, "{\"prices\":[]}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_views, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_older_is_coarser_and_the_sum_the_same, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_bounds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ledgers_and_who_may, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_deleted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_prices, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("store_usage", tests, NULL, NULL);
}
