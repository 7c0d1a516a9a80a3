/* SPDX-License-Identifier: Apache-2.0 */
#include "pop/meter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"

#define UID(endpoint, number) ((uint64_t)(endpoint) << LEDGER_REVISION_BITS | (number))
enum { ERA = 7 };

static struct figures take(struct meter *meter, struct ledger_marks *ret_marks, struct arena *arena)
{
    struct ledger_record window = {};
    struct figures sum = {};
    if (meter_window(meter, arena, &window)) {
        for (uint32_t i = 0; i < window.row_count; i++) {
            assert_true(figures_right(&window.rows[i].figures));
            figures_add(&sum, &window.rows[i].figures);
        }
    }
    if (ret_marks)
        *ret_marks = meter_marks(meter, arena);
    return sum;
}

static void look(struct meter *meter, uint64_t cpu_us, uint64_t memory_kib, bool runs,
                 int64_t now_ms)
{
    const struct meter_use use = { cpu_us, memory_kib, runs };
    meter_look(meter, 1, &use, now_ms);
}

static void counts(struct meter *meter, uint64_t requests)
{
    const struct ledger_counter_mark totals = { UID(1, 1), requests, 0, 10 * requests, requests };
    meter_counts(meter, &totals, false);
}

/* One replica: it starts, idles a second, works one, idles half of one and is killed. */
static void test_parts(void **state)
{
    struct arena *arena = arena_new();
    struct meter meter;
    (void)state;
    meter_init(&meter, ERA);
    meter_replica(&meter, 1, UID(1, 1), 2048, true, 0, 1000);
    look(&meter, 3000, 1024, false, 1500);
    meter_ready(&meter, 1);
    meter_second(&meter);
    look(&meter, 3100, 1024, false, 2500);
    meter_second(&meter);
    counts(&meter, 20);
    look(&meter, 503'100, 3072, false, 3500);
    meter_second(&meter);
    assert_true(meter_ended(&meter, 1, UID(1, 1), 503'140, 4000));
    struct figures f = take(&meter, NULL, arena);
    assert_int_equal(f.cpu_us, 503'140);
    assert_int_equal(f.start_us, 3000);
    assert_int_equal(f.busy_us, 500'000);
    assert_int_equal(figures_idle_us(&f), 140);
    assert_int_equal(f.life_ms, 3000);
    assert_int_equal(f.idle_ms, 1500);
    assert_int_equal(f.requests, 20);
    assert_int_equal(f.bytes_in, 200);
    assert_int_equal(f.memory_kibs, 1024 / 2 + 1024 + 2048 + 3072 / 2);
    assert_int_equal(f.reserved_kibs, 3 * 2048);
    assert_int_equal(f.starts, 1);
    assert_int_equal(f.cold_starts, 1);
    f = take(&meter, NULL, arena);
    assert_true(figures_none(&f));
    assert_false(meter_ended(&meter, 1, UID(1, 1), 503'140, 4100));
    meter_deinit(&meter);
    arena_free(arena);
}

/* A request that lasts longer than a second: the seconds in which it runs are busy. */
static void test_long_runs(void **state)
{
    struct arena *arena = arena_new();
    struct meter meter;
    (void)state;
    meter_init(&meter, ERA);
    meter_replica(&meter, 1, UID(1, 1), 0, true, 0, 0);
    meter_ready(&meter, 1);
    for (int i = 1; i <= 5; i++) {
        if (i == 5)
            counts(&meter, 1);
        look(&meter, 900'000u * (unsigned)i, 0, i < 5, 1000 * i);
        meter_second(&meter);
    }
    struct figures f = take(&meter, NULL, arena);
    assert_int_equal(f.busy_us, 4'500'000);
    assert_int_equal(f.idle_ms, 0);
    meter_deinit(&meter);
    arena_free(arena);
}

static void test_cold_starts(void **state)
{
    struct arena *arena = arena_new();
    struct meter meter;
    (void)state;
    meter_init(&meter, ERA);
    meter_replica(&meter, 1, UID(1, 1), 0, true, 0, 0);
    meter_replica(&meter, 2, UID(1, 2), 0, true, 0, 0); /* the endpoint has one */
    meter_replica(&meter, 3, UID(2, 1), 0, true, 0, 0);
    meter_replica(&meter, 3, UID(2, 1), 0, true, 0, 0); /* told twice */
    struct figures f = take(&meter, NULL, arena);
    assert_int_equal(f.starts, 3);
    assert_int_equal(f.cold_starts, 2);
    meter_ended(&meter, 1, UID(1, 1), 0, 0);
    meter_ended(&meter, 2, UID(1, 2), 0, 0);
    meter_replica(&meter, 4, UID(1, 2), 0, true, 0, 0);
    f = take(&meter, NULL, arena);
    assert_int_equal(f.cold_starts, 1);
    meter_deinit(&meter);
    arena_free(arena);
}

/* The agent dies: what was in a window is counted, the rest comes with the next look or the end. */
static void test_next_agent(void **state)
{
    struct arena *arena = arena_new();
    struct meter meter;
    struct ledger_marks marks;
    (void)state;
    meter_init(&meter, ERA);
    meter_replica(&meter, 1, UID(1, 1), 1024, true, 0, 0);
    meter_ready(&meter, 1);
    counts(&meter, 5);
    look(&meter, 1000, 100, false, 1000);
    struct figures first = take(&meter, &marks, arena);
    counts(&meter, 9);
    look(&meter, 2000, 100, false, 2000); /* in no window: lost, and yet in the next total */
    meter_deinit(&meter);

    meter_init(&meter, ERA);
    meter_restore(&meter, &marks);
    meter_replica(&meter, 1, UID(1, 1), 1024, false, 6000, 6000);
    meter_forget_untold(&meter);
    counts(&meter, 11);
    look(&meter, 7000, 100, false, 6000);
    struct figures second = take(&meter, &marks, arena);
    assert_int_equal(first.cpu_us + second.cpu_us, 7000);
    assert_int_equal(first.requests + second.requests, 11);
    assert_int_equal(first.life_ms + second.life_ms, 6000);
    assert_int_equal(second.starts, 0);
    meter_deinit(&meter);

    /* The next one hears of its end alone; the one after that hears of it again. */
    meter_init(&meter, ERA);
    meter_restore(&meter, &marks);
    assert_true(meter_ended(&meter, 1, UID(1, 1), 7500, 8000));
    second = take(&meter, &marks, arena);
    assert_int_equal(second.cpu_us, 500);
    meter_deinit(&meter);
    meter_init(&meter, ERA);
    meter_restore(&meter, &marks);
    assert_false(meter_ended(&meter, 1, UID(1, 1), 7500, 9000));
    second = take(&meter, NULL, arena);
    assert_true(figures_none(&second));
    meter_forget(&meter, 1);
    assert_int_equal(meter_marks(&meter, arena).replica_count, 0);
    meter_deinit(&meter);
    arena_free(arena);
}

/* An agent that begins hears of requests before it looks at who ran them. */
static void test_requests_that_are_heard_of_before_a_look(void **state)
{
    struct arena *arena = arena_new();
    struct ledger_marks marks;
    struct meter meter;
    (void)state;
    meter_init(&meter, ERA);
    meter_replica(&meter, 1, UID(1, 1), 0, true, 0, 0);
    look(&meter, 1000, 1, false, 1000);
    meter_ready(&meter, 1);
    counts(&meter, 10);
    meter_second(&meter);
    (void)take(&meter, &marks, arena);
    meter_deinit(&meter);
    meter_init(&meter, ERA);
    meter_restore(&meter, &marks);
    counts(&meter, 30);
    meter_second(&meter);
    meter_second(&meter);
    look(&meter, 401'000, 1, false, 5000); /* theirs */
    meter_second(&meter);
    look(&meter, 401'070, 1, false, 6000); /* and this is idle again */
    meter_second(&meter);
    counts(&meter, 31);
    look(&meter, 431'070, 1, false, 7000);
    meter_second(&meter);
    look(&meter, 431'080, 1, false, 8000);
    struct figures f = take(&meter, NULL, arena);
    assert_int_equal(f.requests, 21);
    assert_int_equal(f.cpu_us, 430'080);
    assert_int_equal(f.busy_us, 430'000);
    assert_int_equal(figures_idle_us(&f), 80);
    assert_int_equal(f.idle_ms, 2000);
    meter_deinit(&meter);
    arena_free(arena);
}

/* Its ledger is gone: what was used before is not counted, what comes is. */
static void test_ledger_lost(void **state)
{
    struct arena *arena = arena_new();
    struct meter meter;
    (void)state;
    meter_init(&meter, ERA);
    meter_replica(&meter, 1, UID(1, 1), 1024, false, 60'000, 60'000);
    const struct ledger_counter_mark totals = { UID(1, 1), 100, 0, 0, 0 };
    meter_counts(&meter, &totals, true);
    look(&meter, 5'000'000, 100, false, 60'000);
    struct figures f = take(&meter, NULL, arena);
    assert_true(figures_none(&f));
    counts(&meter, 101);
    look(&meter, 5'000'007, 100, false, 61'000);
    f = take(&meter, NULL, arena);
    assert_int_equal(f.cpu_us, 7);
    assert_int_equal(f.requests, 1);
    assert_int_equal(f.life_ms, 1000);
    meter_deinit(&meter);
    arena_free(arena);
}

/* Another supervisor: marks mean nothing, counters began anew. */
static void test_other_era(void **state)
{
    struct arena *arena = arena_new();
    struct meter meter;
    struct ledger_marks marks;
    (void)state;
    meter_init(&meter, ERA);
    meter_replica(&meter, 1, UID(1, 1), 0, true, 0, 0);
    counts(&meter, 50);
    look(&meter, 1000, 1, false, 1000);
    (void)take(&meter, &marks, arena);
    meter_deinit(&meter);
    meter_init(&meter, ERA + 1);
    meter_restore(&meter, &marks);
    counts(&meter, 60);
    meter_replica(&meter, 2, UID(1, 1), 0, true, 0, 0);
    const struct meter_use use = { 70, 0, false };
    meter_look(&meter, 2, &use, 10);
    struct figures f = take(&meter, NULL, arena);
    assert_int_equal(f.requests, 60);
    assert_int_equal(f.cpu_us, 70);
    meter_deinit(&meter);
    arena_free(arena);
}

static void test_odd_totals(void **state)
{
    struct arena *arena = arena_new();
    struct meter meter;
    (void)state;
    meter_init(&meter, ERA);
    meter_replica(&meter, 1, UID(1, 1), 0, true, 0, 5000);
    look(&meter, 1000, 1, false, 6000);
    look(&meter, 900, 1, false, 5500); /* goes back, in time as well: nothing, and it is said */
    look(&meter, 1100, 1, false, 7000);
    counts(&meter, 10);
    counts(&meter, 3); /* counters began anew */
    struct figures f = take(&meter, NULL, arena);
    assert_int_equal(f.cpu_us, 1100);
    assert_int_equal(f.life_ms, 2000);
    assert_int_equal(f.requests, 13);
    assert_int_equal(meter.odd, 1);
    meter_deinit(&meter);
    arena_free(arena);
}

/* Whenever looks come and windows are taken, the parts are the whole, and the whole is the
 * kernel's. */
static void test_parts_are_the_whole(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 200; seed++) {
        struct arena *arena = arena_new();
        struct meter meter;
        struct figures sum = {};
        uint64_t cpu_us = 0, requests = 0, memory_ms = 0, kib = 0;
        int64_t now_ms = 0;
        srand(seed);
        meter_init(&meter, ERA);
        meter_replica(&meter, 1, UID(1, 1), 3, true, 0, 0);
        for (int i = 0; i < 100; i++) {
            int64_t ms = rand() % 3000;
            now_ms += ms;
            cpu_us += (uint64_t)(rand() % 1000) * (uint64_t)ms;
            requests += rand() % 3 ? 0 : (uint64_t)(rand() % 9);
            kib = 500;
            memory_ms += kib * (uint64_t)ms;
            counts(&meter, requests);
            look(&meter, cpu_us, kib, rand() % 4 == 0, now_ms);
            if (rand() % 3 == 0)
                meter_second(&meter);
            if (i == 10)
                meter_ready(&meter, 1);
            if (rand() % 5 == 0) {
                struct figures f = take(&meter, NULL, arena);
                figures_add(&sum, &f);
            }
        }
        cpu_us += 17;
        meter_ended(&meter, 1, UID(1, 1), cpu_us, now_ms);
        struct figures f = take(&meter, NULL, arena);
        figures_add(&sum, &f);
        assert_int_equal(sum.cpu_us, cpu_us);
        assert_int_equal(sum.busy_us + sum.start_us + figures_idle_us(&sum), cpu_us);
        assert_int_equal(sum.requests, requests);
        assert_int_equal(sum.life_ms, now_ms);
        assert_int_equal(sum.memory_kibs, memory_ms / 1000);
        meter_deinit(&meter);
        arena_free(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_long_runs),
        cmocka_unit_test(test_cold_starts),
        cmocka_unit_test(test_next_agent),
        cmocka_unit_test(test_requests_that_are_heard_of_before_a_look),
        cmocka_unit_test(test_ledger_lost),
        cmocka_unit_test(test_other_era),
        cmocka_unit_test(test_odd_totals),
        cmocka_unit_test(test_parts_are_the_whole),
    };
    return cmocka_run_group_tests_name("meter", tests, NULL, NULL);
}
