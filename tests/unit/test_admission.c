/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/admission.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#define MS INT64_C(1'000'000)

static void learn(struct admission *admission, unsigned count, int64_t gap_ms, int64_t run_ms)
{
    for (unsigned i = 0; i < count; i++)
        admission_learn(admission, (uint64_t)(gap_ms * MS), (uint64_t)(run_ms * MS));
}

/* 10 ms a run, one at a time, unless `gap_ms` says that batches do better. */
static const struct {
    const char *name;
    unsigned samples;
    struct admission_load load;
    int64_t gap_ms, left_ms;
    bool late;
} rows[] = {
    { "nothing is known: nobody is refused", 0, { 100, 4, 1 }, 10, 1, false },
    { "three runs are not enough to know", 3, { 100, 4, 1 }, 10, 1, false },
    { "no ready replica: nothing is known", 9, { 100, 0, 0 }, 10, 1, false },
    { "idle, and there is time", 9, { 0, 0, 1 }, 10, 11, false },
    { "idle, exactly the shortest run", 9, { 0, 0, 1 }, 10, 10, false },
    { "idle, and less than the shortest run", 9, { 0, 0, 1 }, 10, 9, true },
    { "a deadline that has passed", 9, { 0, 0, 1 }, 10, 0, true },
    { "a deadline that has passed, and nothing known", 0, { 0, 0, 1 }, 10, -5, true },
    { "one runs, half done: 5 and 10", 9, { 0, 1, 1 }, 10, 15, false },
    { "one runs, and less than that", 9, { 0, 1, 1 }, 10, 14, true },
    { "one runs, another replica idles", 9, { 0, 1, 2 }, 10, 10, false },
    { "four in the replica, one after the other", 9, { 0, 4, 1 }, 10, 44, true },
    { "four in the replica, and time for all", 9, { 0, 4, 1 }, 10, 45, false },
    { "four in the replica, that batches them: 3 and 10", 9, { 0, 4, 1 }, 2, 13, false },
    { "four in the replica, that batches them, less", 9, { 0, 4, 1 }, 2, 12, true },
    { "ten ahead: 105 and 10", 9, { 10, 1, 1 }, 10, 114, true },
    { "ten ahead, and time", 9, { 10, 1, 1 }, 10, 115, false },
    { "ten ahead over two replicas: 55 and 10", 9, { 10, 2, 2 }, 10, 65, false },
    { "ten ahead over two replicas, less", 9, { 10, 2, 2 }, 10, 64, true },
    { "the deepest queue there may be", 9, { 65536, 1024, 1 }, 10, 600'000, true },
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct admission admission = {};
        print_message("  %s\n", rows[i].name);
        learn(&admission, rows[i].samples, rows[i].gap_ms, 10);
        assert_int_equal(admission_ask(&admission, &rows[i].load, rows[i].left_ms * MS, 1),
                         rows[i].late ? ADMISSION_LATE : ADMISSION_IN_TIME);
    }
}

static const struct {
    const char *name;
    unsigned samples;
    struct admission_load load;
    uint32_t seconds;
} retries[] = {
    { "nothing is known", 0, { 5000, 4, 1 }, 1 },
    { "no ready replica", 9, { 5000, 4, 0 }, 1 },
    { "soon", 9, { 1, 1, 1 }, 1 },
    { "256 of 10 ms", 9, { 255, 1, 1 }, 3 },
    { "256 of 10 ms over four replicas", 9, { 252, 4, 4 }, 1 },
    { "exactly two seconds", 9, { 196, 4, 1 }, 2 },
    { "never above the maximum", 9, { 65536, 4, 1 }, 30 },
};

static void test_when_to_ask_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof retries / sizeof *retries; i++) {
        struct admission admission = {};
        print_message("  %s\n", retries[i].name);
        learn(&admission, retries[i].samples, 10, 10);
        assert_int_equal(admission_retry_s(&admission, &retries[i].load, 1, 30),
                         retries[i].seconds);
    }
}

static void test_one_outlier_does_not_close_the_door(void **state)
{
    struct admission admission = {};
    const struct admission_load ten = { 10, 1, 1 };
    (void)state;

    learn(&admission, 100, 10, 10);
    learn(&admission, 1, 60'000, 60'000); /* the machine slept */
    assert_true(admission_finish_ns(&admission, &ten) < UINT64_C(360'000'000));
    learn(&admission, 20, 10, 10);
    assert_true(admission_finish_ns(&admission, &ten) < UINT64_C(150'000'000));
    assert_int_equal(admission_least_ns(&admission), 10 * MS);
}

static void test_it_follows_a_model_that_became_slower(void **state)
{
    struct admission admission = {};
    const struct admission_load ten = { 10, 1, 1 };
    (void)state;

    learn(&admission, 100, 1, 1);
    learn(&admission, 40, 100, 100);
    assert_in_range(admission_finish_ns(&admission, &ten), 1'000 * MS, 1'155 * MS);
    assert_int_equal(admission_least_ns(&admission), 1 * MS); /* it was seen of late */
    learn(&admission, 512, 100, 100);
    assert_int_equal(admission_least_ns(&admission), 100 * MS);
}

/* The shortest run of the last 256, and of those before them. */
static void test_the_shortest_run_is_of_late(void **state)
{
    struct admission admission = {};
    (void)state;

    learn(&admission, 100, 100, 100);
    learn(&admission, 1, 100, 5);
    learn(&admission, 155 + 256, 100, 100);
    assert_int_equal(admission_least_ns(&admission), 5 * MS);
    learn(&admission, 1, 100, 100);
    assert_int_equal(admission_least_ns(&admission), 100 * MS);
}

static void test_a_quicker_kind_of_request_is_found(void **state)
{
    struct admission admission = {};
    const struct admission_load idle = { 0, 0, 1 };
    unsigned refused = 0;
    int64_t now = 1;
    (void)state;

    learn(&admission, 100, 100, 100);
    for (; refused < 1000 && admission_ask(&admission, &idle, 50 * MS, now) == ADMISSION_LATE;
         now += 10 * MS)
        refused++;
    assert_in_range(refused, 16, 101);                  /* one second, as it comes every 10 ms */
    for (unsigned i = 0; i < 16; i++, now += 1000 * MS) /* not soon again */
        assert_int_equal(admission_ask(&admission, &idle, 50 * MS, now), ADMISSION_LATE);
    learn(&admission, 1, 5, 5);
    assert_int_equal(admission_ask(&admission, &idle, 50 * MS, now), ADMISSION_IN_TIME);
}

static void test_no_sample_is_too_large(void **state)
{
    struct admission admission = {};
    const struct admission_load most = { UINT32_MAX, 1024, 1 };
    (void)state;

    for (unsigned i = 0; i < 600; i++)
        admission_learn(&admission, UINT64_MAX, UINT64_MAX);
    assert_true(admission_finish_ns(&admission, &most) > 0);
    assert_int_equal(admission_retry_s(&admission, &(struct admission_load){ 9, 1, 1 }, 1, 30), 30);
    admission.samples = UINT32_MAX;
    learn(&admission, 3, 1, 1);
    assert_true(admission_least_ns(&admission) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_when_to_ask_again),
        cmocka_unit_test(test_one_outlier_does_not_close_the_door),
        cmocka_unit_test(test_it_follows_a_model_that_became_slower),
        cmocka_unit_test(test_the_shortest_run_is_of_late),
        cmocka_unit_test(test_a_quicker_kind_of_request_is_found),
        cmocka_unit_test(test_no_sample_is_too_large),
    };
    return cmocka_run_group_tests_name("admission", tests, NULL, NULL);
}
