/* SPDX-License-Identifier: Apache-2.0 */
/* Knative's autoscaler, re-made: its decisions against cases worked by hand from its documentation;
 * and ours against it over traces made from seeds. */
#include "sim/scale_kpa.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include <math.h>

#include "sim/scale_ours.h"

#define SECOND INT64_C(1'000'000'000)
#define MINUTE (60 * SECOND)

struct part { /* so many seconds with so many requests at a time */
    int seconds;
    double mean;
};

static const struct {
    const char *name;
    struct part parts[3];
    uint32_t ready, desired;
    double up_rate;
} rows[] = {
    { "10 at a time / 2.8 = 3.6, up: 4", { { 60, 10 } }, 4, 4, 0 },
    { "2.7 / 2.8: one is enough", { { 60, 2.7 } }, 1, 1, 0 },
    { "2.9 / 2.8 = 1.04: two; 2 / 1 ready is the threshold: panic, also two",
      { { 60, 2.9 } },
      1,
      2,
      0 },
    { "the stable window is the last 60 s", { { 30, 100 }, { 60, 5 } }, 2, 2, 0 },
    { "half 10, half 2: the mean of 6 needs 3; the last 6 s need 1",
      { { 30, 10 }, { 30, 2 } },
      3,
      3,
      0 },
    { "a burst: (54 x 0 + 6 x 12) / 60 = 1.2 needs 1, 12 needs 5, 5 / 1 ready: panic",
      { { 54, 0 }, { 6, 12 } },
      1,
      5,
      0 },
    { "the same with 3 ready: 5 / 3 is no panic, stable needs 1, down to no less than 3 / 2",
      { { 54, 0 }, { 6, 12 } },
      3,
      1,
      0 },
    { "down by half at most: 8 ready, 1 needed", { { 60, 1 } }, 8, 4, 0 },
    { "down by half at most, rounded down: 5 ready", { { 60, 1 } }, 5, 2, 0 },
    { "up by the rate at most: 2 ready, rate 2, 36 needed", { { 60, 100 } }, 2, 4, 2 },
    { "up by 1,000 times", { { 60, 2800 } }, 1, 1000, 0 },
    { "a window that is not full: 3 s of 5.5", { { 3, 5.5 } }, 2, 2, 0 },
    { "a whole window without a request: none", { { 60, 0 } }, 1, 0, 0 },
    { "almost", { { 1, 0.1 }, { 59, 0 } }, 1, 1, 0 },
    { "but for the second before the window", { { 1, 50 }, { 60, 0 } }, 1, 0, 0 },
    { "none from 4 ready goes by halves", { { 60, 0 } }, 4, 2, 0 },
};

static void seconds(struct kpa *kpa, const struct part *part)
{
    for (int i = 0; i < part->seconds; i++)
        kpa_second(kpa, part->mean);
}

static void test_decisions_worked_by_hand(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct kpa_rules rules = kpa_rules_usual();
        struct kpa kpa;
        print_message("  %s\n", rows[i].name);
        if (rows[i].up_rate > 0)
            rules.up_rate = rows[i].up_rate;
        kpa_init(&kpa, &rules);
        for (size_t k = 0; k < 3; k++)
            seconds(&kpa, &rows[i].parts[k]);
        assert_int_equal(kpa_decide(&kpa, 100 * SECOND, rows[i].ready), rows[i].desired);
    }
}

static void test_panic_never_goes_down_and_ends_after_60_s(void **state)
{
    struct kpa_rules rules = kpa_rules_usual();
    struct kpa kpa;
    int64_t now = 100 * SECOND;
    (void)state;

    kpa_init(&kpa, &rules);
    seconds(&kpa, &(struct part){ 54, 0 });
    seconds(&kpa, &(struct part){ 6, 28 });
    assert_int_equal(kpa_decide(&kpa, now, 1), 10); /* 28 / 2.8 */
    for (int i = 0; i < 29; i++) {
        seconds(&kpa, &(struct part){ 2, 1 });
        assert_int_equal(kpa_decide(&kpa, now += 2 * SECOND, 10), 10);
    }
    seconds(&kpa, &(struct part){ 2, 1 });
    /* 60 s without a reason: the last 60 s had 1 at a time, and by half is what is allowed. */
    assert_int_equal(kpa_decide(&kpa, now += 2 * SECOND, 10), 5);
}

static void test_a_reason_in_panic_begins_the_60_s_anew(void **state)
{
    struct kpa_rules rules = kpa_rules_usual();
    struct kpa kpa;
    (void)state;

    kpa_init(&kpa, &rules);
    seconds(&kpa, &(struct part){ 6, 28 });
    assert_int_equal(kpa_decide(&kpa, 100 * SECOND, 1), 10);
    seconds(&kpa, &(struct part){ 6, 83 });
    assert_int_equal(kpa_decide(&kpa, 106 * SECOND, 10), 30); /* 30 / 10 ready: 83 / 2.8 = 29.6 */
    seconds(&kpa, &(struct part){ 58, 1 });
    assert_int_equal(kpa_decide(&kpa, 164 * SECOND, 30), 30);
    seconds(&kpa, &(struct part){ 2, 1 });
    assert_int_equal(kpa_decide(&kpa, 166 * SECOND, 30), 15);
}

static void test_grace_keeps_the_last_one(void **state)
{
    struct kpa_rules rules = kpa_rules_usual();
    struct kpa kpa;
    (void)state;

    rules.grace_ns = 30 * SECOND;
    kpa_init(&kpa, &rules);
    seconds(&kpa, &(struct part){ 60, 0 });
    assert_int_equal(kpa_decide(&kpa, 100 * SECOND, 1), 1);
    assert_int_equal(kpa_decide(&kpa, 128 * SECOND, 1), 1);
    assert_int_equal(kpa_decide(&kpa, 130 * SECOND, 1), 0);
}

static void test_the_activator_starts_one_at_once(void **state)
{
    struct kpa_rules rules = kpa_rules_usual();
    struct scale_sight sight = { .now_ns = 1234 };
    struct kpa kpa;
    (void)state;

    kpa_init(&kpa, &rules);
    assert_int_equal(kpa_way(&sight, &kpa), 0);
    sight.waiting = 1000;
    assert_int_equal(kpa_way(&sight, &kpa), 1);
    /* Nothing was seen for a second yet: that one stays. */
    sight.starting = 1;
    sight.now_ns = SECOND / 2;
    assert_int_equal(kpa_way(&sight, &kpa), 1);
}

/* ---- ours beside it -------------------------------------------------------------------------- */

static const struct scale_world world = { 4, SECOND / 2 };

struct both {
    double ratio, kpa_p99_ms, ours_p99_ms;
};

static struct both compare(enum scale_trace_kind kind, uint64_t seed)
{
    static struct scale_result kpa, ours;
    struct kpa_rules rules = kpa_rules_usual();
    struct scale_trace trace;
    struct scale_ours way;
    struct kpa other;

    scale_trace_make(&trace, kind, seed);
    kpa_init(&other, &rules);
    scale_run(&trace, &world, &(struct scale_way){ SECOND, kpa_way, &other }, &kpa);
    scale_ours_init(&way, 4, 10 * SECOND);
    scale_run(&trace, &world, &(struct scale_way){ SCALE_OURS_TICK_NS, scale_ours_way, &way },
              &ours);
    scale_trace_free(&trace);
    return (struct both){ ours.replica_s / kpa.replica_s, kpa.wait_p99_ms, ours.wait_p99_ms };
}

/* The six traces that are made; the bars of all eight are bench/scale's. */
static void test_ours_costs_less_and_waits_no_longer(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        double logs = 0;
        unsigned worse = 0;
        for (int kind = 0; kind < SCALE_TRACES; kind++) {
            struct both both = compare((enum scale_trace_kind)kind, seed);
            logs += log(both.ratio);
            worse += both.ours_p99_ms > both.kpa_p99_ms + 0.001;
            assert_true(both.ours_p99_ms <= 1.5 * both.kpa_p99_ms + 0.001);
            assert_true(both.ratio <= 1.1);
        }
        print_message("  seed %u: %.3f, %u worse\n", (unsigned)seed, exp(logs / SCALE_TRACES),
                      worse);
        assert_true(exp(logs / SCALE_TRACES) <= 0.65);
        assert_true(worse <= 2);
    }
}

static void test_a_run_counts_from_the_command_to_gone(void **state)
{
    struct scale_request requests[] = { { 0, SECOND }, { SECOND, SECOND } };
    struct scale_trace trace = { .name = "two", .requests = requests, .count = 2 };
    static struct scale_result result;
    struct scale_ours way;
    (void)state;

    scale_ours_init(&way, 4, 10 * SECOND);
    scale_run(&trace, &world, &(struct scale_way){ SCALE_OURS_TICK_NS, scale_ours_way, &way },
              &result);
    assert_int_equal(result.starts, 1);
    assert_int_equal(result.cold, 1);
    assert_true(fabs(result.wait_max_ms - 500) < 0.01);
    /* 0 to 2 s something runs, and 10 s more, to the next look. */
    assert_true(result.replica_s >= 11.99 && result.replica_s <= 12.26);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decisions_worked_by_hand),
        cmocka_unit_test(test_panic_never_goes_down_and_ends_after_60_s),
        cmocka_unit_test(test_a_reason_in_panic_begins_the_60_s_anew),
        cmocka_unit_test(test_grace_keeps_the_last_one),
        cmocka_unit_test(test_the_activator_starts_one_at_once),
        cmocka_unit_test(test_ours_costs_less_and_waits_no_longer),
        cmocka_unit_test(test_a_run_counts_from_the_command_to_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
