/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What our autoscaler must reach beside Knative's, over all eight traces: six made from a seed, and
 * the two recorded ones, which are the arguments (.csv.gz). All in simulated time.
 *
 * PERIGEE_SCALE_SEEDS says for how many seeds; each must give the same as the first, within 5 %.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include <math.h>
#include <zlib.h>

#include "base/auto.h"
#include "base/err.h"
#include "sim/scale_compare.h"

#define SAME 0.05 /* of the first seed's, at most */
enum { SEEDS = 8, RECORDED = 2, TRACES = SCALE_TRACES + RECORDED, TEXT_MAX = 8 << 20 };

static char **files;

static void recorded(struct scale_trace *trace, const char *path)
{
    auto_free char *text = mem_alloc(TEXT_MAX);
    struct err err = {};
    gzFile file = gzopen(path, "rbe");

    assert_non_null(file);
    int size = gzread(file, text, TEXT_MAX);
    assert_true(size > 0 && size < TEXT_MAX);
    assert_int_equal(gzclose(file), Z_OK);
    if (scale_trace_parse(trace, (struct slice){ text, (size_t)size }, &err) < 0)
        fail_msg("%s: %s", path, err.message);
    snprintf(trace->name, sizeof trace->name, "%s", strrchr(path, '/') + 1);
}

/* Those that are recorded are the same for every seed. */
static void compare_all(uint64_t seed, const struct scale_row *before, struct scale_row *ret)
{
    static struct scale_both both;
    struct scale_trace trace;

    for (int i = 0; i < TRACES; i++) {
        if (i >= SCALE_TRACES && before) {
            ret[i] = before[i];
            continue;
        }
        if (i < SCALE_TRACES)
            scale_trace_make(&trace, (enum scale_trace_kind)i, seed);
        else
            recorded(&trace, files[i - SCALE_TRACES]);
        scale_compare(&trace, &ret[i], &both);
        scale_trace_free(&trace);
    }
}

static void show(uint64_t seed, const struct scale_row *rows, const struct scale_sum *sum)
{
    print_message("  seed %u: geometric mean %.3f, of the sums %.3f, p99 worse on %u\n",
                  (unsigned)seed, sum->mean, sum->sums, sum->worse);
    for (size_t i = 0; i < TRACES && !sum->met; i++)
        print_message("    %s: ratio %.3f, p99 %.1f and %.1f ms\n", rows[i].name, rows[i].ratio,
                      rows[i].kpa_p99_ms, rows[i].ours_p99_ms);
}

static void test_the_bars_over_eight_traces(void **state)
{
    const char *told = getenv("PERIGEE_SCALE_SEEDS");
    uint64_t seeds = told ? strtoull(told, NULL, 10) : SEEDS;
    struct scale_row first[TRACES], rows[TRACES];
    struct scale_sum before = {};
    (void)state;

    assert_true(seeds > 0);
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        compare_all(seed, seed == 1 ? NULL : first, rows);
        struct scale_sum sum = scale_judge(rows, TRACES);
        show(seed, rows, &sum);
        assert_true(sum.met);
        if (seed == 1) {
            memcpy(first, rows, sizeof first);
            before = sum;
        }
        assert_true(fabs(sum.mean / before.mean - 1) <= SAME);
        assert_true(fabs(sum.sums / before.sums - 1) <= SAME);
    }
}

/* Each bar alone is enough to miss. */
static void test_each_bar_is_judged(void **state)
{
    struct scale_row good[TRACES];
    (void)state;

    for (size_t i = 0; i < TRACES; i++)
        good[i] = (struct scale_row){ .kpa_s = 100,
                                      .kpa_grace_s = 110,
                                      .ours_s = 64,
                                      .ratio = 0.64,
                                      .kpa_p99_ms = 100,
                                      .ours_p99_ms = i < SCALE_WORSE_MAX ? 150 : 100 };
    assert_true(scale_judge(good, TRACES).met);

    struct scale_row rows[TRACES];
    memcpy(rows, good, sizeof rows);
    for (size_t i = 0; i < TRACES; i++)
        rows[i].ratio = 0.66; /* the mean of the ratios */
    assert_false(scale_judge(rows, TRACES).met);
    memcpy(rows, good, sizeof rows);
    rows[0].ours_s += (86 - 64) * TRACES; /* the sums, of which the cheaper Knative's counts */
    assert_false(scale_judge(rows, TRACES).met);
    memcpy(rows, good, sizeof rows);
    rows[SCALE_WORSE_MAX].ours_p99_ms = 100.01; /* a third wait that is worse */
    assert_false(scale_judge(rows, TRACES).met);
    memcpy(rows, good, sizeof rows);
    rows[0].ours_p99_ms = 150.01; /* one that is far worse */
    assert_false(scale_judge(rows, TRACES).met);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_bar_is_judged),
        cmocka_unit_test(test_the_bars_over_eight_traces),
    };

    files = argv + 1;
    if (argc != 1 + RECORDED) {
        fprintf(stderr, "usage: test_sim_scale TRACE.csv.gz TRACE.csv.gz\n");
        return 2;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
