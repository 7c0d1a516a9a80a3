/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include <math.h>
#include <string.h>

#include "policy/health.h"

#define SECOND INT64_C(1'000'000'000)

static struct load after(const struct load_report *report, int seconds)
{
    struct load load = {};
    for (int i = 1; i <= seconds; i++)
        assert_true(load_learn(&load, report, i * SECOND));
    return load;
}

static const struct {
    const char *name;
    struct load_report report;
    int seconds;
    float wait_least, wait_most, weight_least, weight_most;
} rows[] = {
    { "idle", { 0, 100, 16, 0 }, 5, 0, 0, 77, 78 },
    { "half full", { 50, 100, 16, 0 }, 5, 0, 0, 27, 28 },
    { "as full as it should be", { 77, 100, 16, 0 }, 60, 0, 0, 5, 5 },
    { "hardly more than that", { 78, 100, 16, 0 }, 1, 0.1F, 0.2F, 5, 5 },
    { "more than that", { 100, 100, 16, 0 }, 2, 6, 8, 5, 5 },
    { "twice as much", { 155, 100, 16, 0 }, 1, 20, 20, 5, 5 },
    { "much more", { 400, 100, 16, 0 }, 3, 80, 400, 5, 5 },
    { "more, for long: never above a minute", { 400, 100, 16, 0 }, 500, 60'000, 60'000, 5, 5 },
    { "as many wait as by chance", { 50, 100, 16, 4 }, 10, 0, 0, 27, 28 },
    { "ten more wait", { 50, 100, 16, 14 }, 10, 99, 100, 27, 28 },
    { "a queue of a second", { 50, 100, 16, 104 }, 10, 990, 60'000, 5, 60 },
    { "no replica is ready", { 50, 100, 0, 0 }, 1, INFINITY, INFINITY, 0, 0 },
    { "no capacity", { 50, 0, 4, 0 }, 1, INFINITY, INFINITY, 0, 0 },
    { "a capacity that is no number", { 50, NAN, 4, 0 }, 1, INFINITY, INFINITY, 0, 0 },
    { "arrivals that are no number", { NAN, 100, 16, 0 }, 5, 0, 0, 77, 78 },
    { "arrivals below nothing", { -1e30f, 100, 16, 0 }, 5, 0, 0, 77, 78 },
    { "arrivals without end", { INFINITY, 100, 16, 0 }, 500, 60'000, 60'000, 5, 5 },
    { "a queue without end", { 50, 0.001f, 16, UINT32_MAX }, 500, 60'000, 60'000, 0, 1 },
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_message("  %s\n", rows[i].name);
        struct load load = after(&rows[i].report, rows[i].seconds);
        assert_true(load.wait_ms >= rows[i].wait_least && load.wait_ms <= rows[i].wait_most);
        assert_true(load.weight >= rows[i].weight_least && load.weight <= rows[i].weight_most);
    }
}

static void test_reports_out_of_order_are_ignored(void **state)
{
    struct load_report calm = { 10, 100, 16, 0 }, wild = { 1000, 100, 16, 1000 };
    struct load load = {};

    (void)state;
    assert_true(load_learn(&load, &calm, 5 * SECOND));
    assert_false(load_learn(&load, &wild, 5 * SECOND));
    assert_false(load_learn(&load, &wild, 4 * SECOND));
    assert_float_equal(load.wait_ms, 0, 0);
    assert_true(load_learn(&load, &wild, 6 * SECOND));
    assert_true(load.wait_ms > 0);
}

/* Clients who have another PoP 1, 2 ... 40 ms further, as route.h's draws split them. */
static float asked_for(float wait, float rate)
{
    float sum = 0;
    for (int further = 1; further <= 40; further++)
        sum += wait > 0 ? 1 - expf(-sqrtf(2 * (float)further / wait)) : 1;
    return rate * sum / 40;
}

/* Two PoPs' worth of requests meet one, whose reports are a second and more old. */
static void test_the_balance_is_found_and_kept(void **state)
{
    static const float rates[] = { 90, 120, 200, 400, 1000 };

    (void)state;
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        struct load load = {};
        float known[3] = {}, least = INFINITY, most = 0, queue = 0;
        for (int second = 1; second <= 90; second++) {
            float arrivals = asked_for(known[2], rates[i]);
            queue = fmaxf(0, fminf(queue + arrivals - 100, 500)); /* the rest is passed on */
            struct load_report report = { arrivals, 100, 16, (uint32_t)queue };
            assert_true(load_learn(&load, &report, second * SECOND));
            known[2] = known[1]; /* a second old when it is used, two at the most */
            known[1] = load.wait_ms;
            if (second > 60) {
                least = fminf(least, arrivals);
                most = fmaxf(most, arrivals);
            }
        }
        print_message("  %.0f/s for 100/s: %.1f to %.1f\n", (double)rates[i], (double)least,
                      (double)most);
        assert_true(most < 100); /* it can answer them all */
        assert_true(least > 55); /* and is not left alone */
        assert_float_equal(queue, 0, 0);
    }
}

static void test_a_larger_pop_may_be_fuller(void **state)
{
    (void)state;
    for (uint32_t places = 0; places < 1000; places++) {
        assert_true(load_target(places) <= load_target(places + 1));
        assert_true(load_target(places) >= 0.4f && load_target(places) < 1);
    }
    assert_float_equal(load_target(16), 0.775, 0.001);
    assert_true(load_target(UINT32_MAX) <= 1);
}

/* ---- health ---------------------------------------------------------------------------------- */

/* A letter for each half second: b(eat), . (nothing), F (a beat, and five requests that fail, one
 * each 75 ms), f (the same in one moment), s (a beat, and five that do not fail), r (no beat, and
 * four that fail, each 75 ms), p (a beat, and a probe that succeeds), q (no beat, and a probe that
 * fails), n (no beat, and one that is told no). What is expected at its end: U(p) or -. */
static const struct {
    const char *name, *does, *expected;
} days[] = {
    { "never heard of", "....", "----" },
    { "up with the first beat", "b.b.", "UUUU" },
    { "one beat lost is nothing", "b.b...b.", "UUUUUUUU" },
    { "silent for over two seconds", "b.b.....", "UUUUUUU-" },
    { "what failed before the first beat is forgotten", "rs.s.", "-UUUU" },
    { "what fails since is not", "rsF", "-U-" },
    { "back after two good seconds", "b.....b.b.b.b.", "UUUUU-----UUUU" },
    { "down when requests fail for a while", "b.F.", "UU--" },
    { "not by those of one moment", "b.f.b.b.", "UUUUUUUU" },
    { "nor by those that succeed after it", "b.fs", "UUUU" },
    { "nor by those of another one, where some succeed between", "b.fsbf.b.", "UUUUUUUUU" },
    { "nor by those of another one much later", "b.f.b.b.b.f.", "UUUUUUUUUUUU" },
    { "nor where a probe failed before", "b.qp.f.b.", "UUUUUUUUU" },
    { "but by those a second later, as who saw them kept away", "b.f.f.", "UUUU--" },
    { "or after longer, while probes succeed", "b.pfp.f.", "UUUUUU--" },
    { "or within one", "b.ff", "UUU-" },
    { "and by as many that fail as do not", "b.sF", "UUU-" },
    { "requests that succeed change nothing", "b.s.s.", "UUUUUU" },
    { "down when probes are told no for a while", "b.nn", "UUU-" },
    { "not by one", "b.nqb.", "UUUUUU" },
    { "nor by one before and one after a beat", "b.nbn", "UUUUU" },
    { "who is down does not fall again", "b.nnnb.b.b.b.", "UUU------UUUU" },
    { "the second fall takes twice as long", "b.F.b.b.b.F.b.b.b.b.b.b.",
      "UU------UU----------UUUU" },
};

static void test_days(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof days / sizeof *days; i++) {
        struct health health = {};
        char seen[64] = "";
        print_message("  %s\n", days[i].name);
        for (size_t k = 0; days[i].does[k]; k++) {
            int64_t now = SECOND + (int64_t)k * SECOND / 2;
            char does = days[i].does[k];
            if (does == 'p' || does == 'q')
                health_probed(&health, does == 'q', now);
            if (does == 'n')
                health_refused(&health, now);
            if (!strchr(".rqn", does))
                health_beat(&health, now);
            int requests = does == 'F' || does == 'f' || does == 's' ? 5 : does == 'r' ? 4 : 0;
            for (int n = 0; n < requests; n++) {
                health_seen(&health, does != 's', now);
                if (n + 1 < requests && (does == 'F' || does == 'r'))
                    now += HEALTH_FAILING_NS / 4;
            }
            seen[k] = health_up(&health, now) ? 'U' : '-';
        }
        assert_string_equal(seen, days[i].expected);
    }
}

static void test_one_that_flaps_stays_out(void **state)
{
    struct health health = {};
    int64_t up_ns = 0;

    (void)state;
    /* Three seconds of beats, three of silence, for ten minutes. */
    for (int64_t tenth = 1; tenth < 6000; tenth++) {
        int64_t now = tenth * SECOND / 10;
        if (tenth % 10 == 0 && tenth / 30 % 2 == 0)
            health_beat(&health, now);
        up_ns += health_up(&health, now) ? SECOND / 10 : 0;
    }
    assert_true(up_ns < 10 * SECOND);
    assert_false(health_calm(&health, 600 * SECOND));
}

static void test_due_is_when_it_changes(void **state)
{
    struct health health = {};

    (void)state;
    assert_true(health_due_ns(&health) == INT64_MAX);
    health_beat(&health, SECOND);
    assert_true(health_up(&health, SECOND));
    assert_true(health_due_ns(&health) == SECOND + HEALTH_SILENT_NS);
    assert_true(health_up(&health, SECOND + HEALTH_SILENT_NS - 1));
    assert_false(health_up(&health, health_due_ns(&health)));
    health_beat(&health, 10 * SECOND);
    health_beat(&health, 11 * SECOND);
    assert_true(health_due_ns(&health) == 12 * SECOND);
    assert_true(health_up(&health, 12 * SECOND));
    for (int64_t second = 13; second < 140; second++)
        health_beat(&health, second * SECOND);
    assert_true(health_calm(&health, 139 * SECOND));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_reports_out_of_order_are_ignored),
        cmocka_unit_test(test_the_balance_is_found_and_kept),
        cmocka_unit_test(test_a_larger_pop_may_be_fuller),
        cmocka_unit_test(test_days),
        cmocka_unit_test(test_one_that_flaps_stays_out),
        cmocka_unit_test(test_due_is_when_it_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
