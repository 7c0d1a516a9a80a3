/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/scale.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SECOND SCALE_SECOND_NS
#define TICK (SECOND / 4)

static const struct scale_rules usual = { .max = 100, .places = 4, .idle_ns = 120 * SECOND };

struct day { /* a load that is served at once, by as many replicas as were decided */
    struct scale scale;
    struct scale_rules rules;
    struct scale_verdict verdict;
    int64_t now_ns;
    double come;
};

static struct day day_new(const struct scale_rules *rules)
{
    return (struct day){ .rules = *rules, .now_ns = 1000 * SECOND };
}

/* So many requests a second, of so many seconds each, for so long. */
static void day_go(struct day *day, double rate, double run_s, double seconds)
{
    for (int i = 0; i < (int)(seconds * 4); i++) {
        day->now_ns += TICK;
        day->come += rate / 4;
        uint64_t arrivals = (uint64_t)day->come;
        day->come -= (double)arrivals;
        struct scale_seen seen = { .now_ns = day->now_ns,
                                   .running = (uint32_t)lround(rate * run_s),
                                   .ready = day->verdict.desired,
                                   .arrivals = arrivals,
                                   .done = arrivals,
                                   .busy_ns = (uint64_t)((double)arrivals * run_s * 1e9),
                                   .cores = (float)(rate * run_s) };
        scale_decide(&day->scale, &day->rules, &seen, &day->verdict);
    }
}

static const struct {
    const char *name;
    double rate, run_s;
    struct scale_rules rules;
    uint32_t desired;
    uint8_t reason;
} rows[] = {
    { "1 at a time and its root: 2 of 4 places",
      10,
      0.1,
      { .max = 100, .places = 4 },
      1,
      SCALE_STEADY },
    { "4 and 2: 6 places", 40, 0.1, { .max = 100, .places = 4 }, 2, SCALE_STEADY },
    { "8.5 and 2.9: 12 places", 85, 0.1, { .max = 100, .places = 4 }, 3, SCALE_STEADY },
    { "100 and 10: 110 places, no 143", 1000, 0.1, { .max = 100, .places = 4 }, 28, SCALE_STEADY },
    { "one place each", 38, 0.1, { .max = 100, .places = 1 }, 6, SCALE_STEADY },
    { "runs longer than the window: what runs counts",
      0.5,
      60,
      { .max = 100, .places = 4 },
      9,
      SCALE_STEADY },
    { "no more than the most", 1000, 0.1, { .max = 8, .places = 4 }, 8, SCALE_AT_MAX },
    { "no fewer than the least", 10, 0.1, { .min = 3, .max = 8, .places = 4 }, 3, SCALE_AT_MIN },
    { "nor than a schedule says",
      10,
      0.1,
      { .min = 2, .floor = 5, .max = 8, .places = 4 },
      5,
      SCALE_AT_FLOOR },
    { "which the most bounds", 10, 0.1, { .floor = 50, .max = 8, .places = 4 }, 8, SCALE_AT_MAX },
    { "a least that is enough is no reason",
      85,
      0.1,
      { .min = 3, .max = 8, .places = 4 },
      3,
      SCALE_STEADY },
    { "by rate: 100/s of 30/s each",
      100,
      0.1,
      { .max = 100, .places = 4, .signal = SCALE_RPS, .target = 30 },
      4,
      SCALE_STEADY },
    { "by cores: 10 in use of 0.7 each",
      100,
      0.1,
      { .max = 100, .places = 4, .signal = SCALE_CPU, .target = 0.7f },
      15,
      SCALE_STEADY },
    { "no room here", 100, 0.1, { .places = 4 }, 0, SCALE_AT_MAX },
};

static void test_a_steady_load(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct day day = day_new(&rows[i].rules);
        print_message("  %s\n", rows[i].name);
        day.rules.idle_ns = 120 * SECOND;
        day_go(&day, rows[i].rate, rows[i].run_s, 300);
        assert_int_equal(day.verdict.desired, rows[i].desired);
        assert_int_equal(day.verdict.reason, rows[i].reason);
    }
}

static void test_a_herd_at_zero_starts_one_until_a_run_is_known(void **state)
{
    struct scale scale = {};
    struct scale_verdict verdict;
    struct scale_seen seen = { .now_ns = SECOND, .waiting = 1000, .arrivals = 1000 };
    (void)state;

    scale_decide(&scale, &usual, &seen, &verdict);
    assert_int_equal(verdict.desired, 1);
    assert_int_equal(verdict.reason, SCALE_FIRST);
    /* Runs of 10 ms: 10 s of work, to be gone in 0.4 s, are 25 places. */
    seen = (struct scale_seen){ .now_ns = SECOND + TICK,
                                .waiting = 980,
                                .running = 4,
                                .ready = 1,
                                .done = 16,
                                .busy_ns = 160'000'000 };
    scale_decide(&scale, &usual, &seen, &verdict);
    assert_int_equal(verdict.desired, 8); /* (980 x 0.01 / 0.4 + 4) / 4 */
    /* The same known beforehand: as many at once. */
    seen = (struct scale_seen){ .now_ns = 500 * SECOND };
    scale_decide(&scale, &usual, &seen, &verdict);
    assert_int_equal(verdict.desired, 0);
    seen = (struct scale_seen){ .now_ns = 501 * SECOND, .waiting = 1000, .arrivals = 1000 };
    scale_decide(&scale, &usual, &seen, &verdict);
    assert_in_range(verdict.desired, 5, 8);
}

static void test_runs_that_never_end_yet_count_as_long_as_they_run(void **state)
{
    struct scale scale = {};
    struct scale_verdict verdict;
    struct scale_seen seen = { .now_ns = SECOND, .waiting = 40, .arrivals = 40 };
    (void)state;

    scale_decide(&scale, &usual, &seen, &verdict);
    assert_int_equal(verdict.desired, 1);
    for (int i = 0; i < 12; i++) {
        seen = (struct scale_seen){
            .now_ns = seen.now_ns + TICK, .waiting = 36, .running = 4, .ready = 1
        };
        scale_decide(&scale, &usual, &seen, &verdict);
    }
    assert_in_range(verdict.desired, 10, 70);
}

static void test_more_comes_at_once_and_fewer_after_a_while(void **state)
{
    struct day day = day_new(&usual);
    (void)state;

    day_go(&day, 10, 0.1, 60);
    assert_int_equal(day.verdict.desired, 1);
    day_go(&day, 400, 0.1, 3);
    assert_true(day.verdict.desired >= 9);
    day_go(&day, 400, 0.1, 30);
    assert_int_equal(day.verdict.desired, 12); /* 40 and 6.3 */
    day_go(&day, 10, 0.1, 4);
    assert_int_equal(day.verdict.desired, 12);
    assert_int_equal(day.verdict.reason, SCALE_CALMING);
    day_go(&day, 10, 0.1, 30);
    assert_int_equal(day.verdict.desired, 1);
}

static void test_a_delay_is_waited_for(void **state)
{
    struct scale_rules rules = usual;
    struct day day;
    (void)state;

    rules.down_delay_ns = 300 * SECOND;
    day = day_new(&rules);
    day_go(&day, 400, 0.1, 60);
    day_go(&day, 10, 0.1, 295);
    assert_int_equal(day.verdict.desired, 12);
    day_go(&day, 10, 0.1, 330); /* what was needed within the delay stays as long again */
    assert_int_equal(day.verdict.desired, 1);
}

static void test_idle_goes_to_zero_and_asks_no_timer(void **state)
{
    struct day day = day_new(&usual);
    (void)state;

    day_go(&day, 10, 0.1, 60);
    day_go(&day, 0, 0.1, 119);
    assert_int_equal(day.verdict.desired, 1);
    assert_int_equal(day.verdict.reason, SCALE_WARM);
    assert_true(day.verdict.next_ns - day.now_ns <= SECOND + TICK);
    assert_true(day.verdict.next_ns > day.now_ns);
    day_go(&day, 0, 0.1, 1.5);
    assert_int_equal(day.verdict.desired, 0);
    assert_int_equal(day.verdict.reason, SCALE_ASLEEP);
    assert_true(day.verdict.next_ns == INT64_MAX);
}

static void test_idle_of_nothing_is_at_once(void **state)
{
    struct scale_rules rules = usual;
    struct day day;
    (void)state;

    rules.idle_ns = 0;
    day = day_new(&rules);
    day_go(&day, 10, 0.1, 10);
    day_go(&day, 0, 0.1, 0.5);
    assert_int_equal(day.verdict.desired, 0);
}

static void test_what_is_there_when_it_begins_stays_until_idle(void **state)
{
    struct scale scale = {};
    struct scale_verdict verdict;
    struct scale_seen seen = { .now_ns = 7 * SECOND, .ready = 1 };
    (void)state;

    scale_decide(&scale, &usual, &seen, &verdict);
    assert_int_equal(verdict.desired, 1);
    assert_int_equal(verdict.reason, SCALE_WARM);
    seen.now_ns += 120 * SECOND;
    scale_decide(&scale, &usual, &seen, &verdict);
    assert_int_equal(verdict.desired, 0);
}

static void test_a_lowered_most_holds_at_once(void **state)
{
    struct day day = day_new(&usual);
    (void)state;

    day_go(&day, 400, 0.1, 60);
    day.rules.max = 3;
    day_go(&day, 400, 0.1, 0.25);
    assert_int_equal(day.verdict.desired, 3);
    assert_int_equal(day.verdict.reason, SCALE_AT_MAX);
}

static const struct {
    uint8_t reason;
    const char *text;
} words[] = {
    { SCALE_ASLEEP, "0 replicas: nobody asks (scale.idle 120s); 1 with the first request" },
    { SCALE_STEADY, "3 replicas: 7.9 requests at a time over the last 20 s; 4 from 9.0 on, 2 from "
                    "5.6 down" },
    { SCALE_BURST, "3 replicas: 7.9 requests at a time over the last 3 s; 4 from 9.0 on, 2 from "
                   "5.6 down" },
    { SCALE_QUEUE, "3 replicas: 17 requests wait; fewer once they do not" },
    { SCALE_WARM, "3 replicas: nobody asks; none once that has been so for 120s (scale.idle)" },
    { SCALE_CALMING, "3 replicas: 1 would do; so once that has been so for 5s" },
    { SCALE_AT_FLOOR, "3 replicas: a schedule 0 8 * * 1-5; the load alone would have 1" },
};

static void test_words(void **state)
{
    char text[SCALE_WORDS_BYTES];
    (void)state;

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        struct scale_verdict verdict = { .desired = words[i].reason == SCALE_ASLEEP ? 0 : 3,
                                         .reason = words[i].reason,
                                         .load = 1,
                                         .waiting = 17,
                                         .now = 7.94f,
                                         .above = 9,
                                         .below = 5.628f,
                                         .quiet_ns = 35 * SECOND,
                                         .change_ns = 185 * SECOND };
        (void)scale_words(&verdict, &usual, "0 8 * * 1-5", text);
        assert_string_equal(text, words[i].text);
    }
}

/* Whatever is seen, also what cannot be: bounds hold, and no text is cut. */
static void test_nonsense_stays_within_bounds(void **state)
{
    uint64_t random = 1;
    char text[SCALE_WORDS_BYTES];
    (void)state;

    for (int round = 0; round < 200; round++) {
        struct scale scale = {};
        int64_t now_ns = 1;
        for (int i = 0; i < 200; i++) {
            uint64_t bits = random = random * 6364136223846793005u + 1442695040888963407u;
            struct scale_rules rules = { .min = bits % 5,
                                         .max = bits % 17,
                                         .floor = bits % 7,
                                         .places = (uint32_t)(bits % 9),
                                         .signal = bits % 3,
                                         .target = (float)(bits % 11),
                                         .idle_ns = bits % 3 ? SECOND : 0 };
            struct scale_seen seen = { .now_ns = now_ns += (int64_t)(bits >> (20 + bits % 40)),
                                       .waiting = (uint32_t)(bits >> (32 + bits % 30)),
                                       .running = (uint32_t)(bits >> (33 + bits % 28)),
                                       .arrivals = bits >> (1 + bits % 60),
                                       .done = bits >> (2 + bits % 59),
                                       .busy_ns = bits >> (bits % 61),
                                       .cores = bits % 5 ? (float)(bits % 100) : INFINITY };
            struct scale_verdict verdict;
            scale_decide(&scale, &rules, &seen, &verdict);
            uint32_t least = rules.min > rules.floor ? rules.min : rules.floor;
            assert_true(verdict.desired <= rules.max);
            assert_true(verdict.desired >= (least < rules.max ? least : rules.max));
            assert_true(verdict.next_ns > now_ns || rules.idle_ns == 0);
            assert_true(strlen(scale_words(&verdict, &rules, NULL, text)) < SCALE_WORDS_BYTES - 1);
            if (now_ns > INT64_MAX / 4)
                break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_steady_load),
        cmocka_unit_test(test_a_herd_at_zero_starts_one_until_a_run_is_known),
        cmocka_unit_test(test_runs_that_never_end_yet_count_as_long_as_they_run),
        cmocka_unit_test(test_more_comes_at_once_and_fewer_after_a_while),
        cmocka_unit_test(test_a_delay_is_waited_for),
        cmocka_unit_test(test_idle_goes_to_zero_and_asks_no_timer),
        cmocka_unit_test(test_idle_of_nothing_is_at_once),
        cmocka_unit_test(test_what_is_there_when_it_begins_stays_until_idle),
        cmocka_unit_test(test_a_lowered_most_holds_at_once),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_nonsense_stays_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
