/* SPDX-License-Identifier: Apache-2.0 */
#include "base/env.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

static struct env_timers timers;
static int order[64], order_count;

static void note(struct env_timer *timer, void *data)
{
    assert_false(env_timer_armed(timer));
    order[order_count++] = (int)(intptr_t)data;
    if ((intptr_t)data == 99) /* again at once: not in this round */
        env_timers_start(&timers, timer, 50, note, data);
}

static void test_timers(void **state)
{
    struct env_timer a[10] = {}, again = {};

    (void)state;
    assert_true(env_timers_next_ns(&timers) == INT64_MAX);
    for (intptr_t i = 0; i < 10; i++)
        env_timers_start(&timers, &a[i], i % 2 ? 10 : 20, note, (void *)i);
    env_timers_start(&timers, &again, 50, note, (void *)99);
    env_timers_stop(&timers, &a[3]);
    env_timers_stop(&timers, &a[3]);
    env_timers_start(&timers, &a[0], 5, note, (void *)0); /* moved */
    assert_int_equal(env_timers_next_ns(&timers), 5);
    assert_int_equal(env_timers_run(&timers, 4), 0);
    assert_int_equal(env_timers_run(&timers, 19), 5);
    assert_int_equal(env_timers_run(&timers, 50), 5);
    assert_int_equal(order_count, 10);
    static const int wanted[] = { 0, 1, 5, 7, 9, 2, 4, 6, 8, 99 };
    assert_memory_equal(order, wanted, sizeof wanted);
    assert_int_equal(env_timers_run(&timers, 50), 1);
    assert_true(env_timer_armed(&again));
    env_timers_deinit(&timers);
    assert_false(env_timer_armed(&again));
}

/* Against a plain search: many timers, started, moved, stopped. */
static void test_many(void **state)
{
    enum { COUNT = 200 };
    static struct env_timer many[COUNT];
    uint32_t seed = 7;

    (void)state;
    for (int round = 0; round < 5000; round++) {
        seed = seed * 1664525 + 1013904223;
        struct env_timer *timer = &many[(seed >> 8) % COUNT];
        if (seed >> 30 == 0)
            env_timers_stop(&timers, timer);
        else
            env_timers_start(&timers, timer, (int64_t)(seed >> 16 & 0xff), note, NULL);
        int64_t first = INT64_MAX;
        for (int i = 0; i < COUNT; i++)
            if (env_timer_armed(&many[i]) && many[i].due_ns < first)
                first = many[i].due_ns;
        assert_true(env_timers_next_ns(&timers) == first);
    }
    env_timers_deinit(&timers);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_timers),
                                        cmocka_unit_test(test_many) };
    return cmocka_run_group_tests_name("env", tests, NULL, NULL);
}
