/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"

static const struct metric_buckets sizes = { 2, { 10, 100 } };

#define TEST_METRICS(X)                                                                            \
    X(REQUESTS, "perigee_requests_total", METRIC_COUNTER, METRIC_ONE, "endpoint,code", NULL,       \
      "Requests answered.")                                                                        \
    X(QUEUED, "perigee_queued", METRIC_GAUGE, METRIC_ONE, "", NULL, "Requests that wait.")         \
    X(TOOK, "perigee_took_seconds", METRIC_HISTOGRAM, METRIC_SECONDS, "endpoint",                  \
      &metric_buckets_latency, "From the first byte to the last.")                                 \
    X(BODY, "perigee_body_bytes", METRIC_HISTOGRAM, METRIC_BYTES, "", &sizes, "Size of bodies.")
METRICS_DECLARE(test_metrics, TEST_METRICS)
METRICS_DEFINE(test_metrics, TEST_METRICS)

enum { SERIES = 8 };
static _Alignas(64) char memory[2][64 + SERIES * 512];

static void assert_has(struct slice text, const char *line)
{
    assert_true(text.data != NULL);
    if (!text.data || !strstr(text.data, line))
        fail_msg("no '%s' in\n%s", line, text.data ? text.data : "");
}

static struct slice print(struct arena *arena)
{
    struct metrics_view views[] = { { memory[0], sizeof memory[0] },
                                    { memory[1], sizeof memory[1] } };
    return metrics_print(arena, &test_metrics, views, 2);
}

static void attach(struct metrics loops[2])
{
    assert_int_equal(metrics_bytes(SERIES), sizeof memory[0]);
    for (int i = 0; i < 2; i++)
        metrics_attach(&loops[i], &test_metrics, memory[i], sizeof memory[i]);
}

static void test_sums(void **state)
{
    struct arena *arena = arena_new();
    struct metrics loops[2];
    struct slice ok[] = { SLICE("digits"), SLICE("200") };
    struct slice odd[] = { SLICE("a\"b\\c\nd\xff"), SLICE("404") };

    (void)state;
    memset(memory, 0xa5, sizeof memory); /* of nobody: begun anew */
    attach(loops);
    metric_add(metrics_series(&loops[0], REQUESTS, ok), 2);
    metric_add(metrics_series(&loops[1], REQUESTS, ok), 3);
    metric_add(metrics_series(&loops[1], REQUESTS, odd), 1);
    assert_ptr_equal(metrics_series(&loops[0], REQUESTS, ok),
                     metrics_series(&loops[0], REQUESTS, ok));
    metric_set(metrics_series(&loops[0], QUEUED, NULL), 5);
    metric_set(metrics_series(&loops[1], QUEUED, NULL), -7);
    struct metric_series *body = metrics_series(&loops[0], BODY, NULL);
    for (uint64_t value = 9; value <= 11; value++)
        metric_observe(&loops[0], body, value);
    metric_observe(&loops[0], body, 1000);
    metric_observe(&loops[0], metrics_series(&loops[0], TOOK, ok), 50'000);
    metric_observe(&loops[1], metrics_series(&loops[1], TOOK, ok), 1'500'000'000);

    struct slice text = print(arena);
    assert_has(text,
               "# HELP perigee_requests_total Requests answered.\n"
               "# TYPE perigee_requests_total counter\n"
               "perigee_requests_total{endpoint=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\",code=\"404\"} 1\n"
               "perigee_requests_total{endpoint=\"digits\",code=\"200\"} 5\n");
    assert_has(text, "\nperigee_queued -2\n");
    assert_has(text, "perigee_body_bytes_bucket{le=\"10\"} 2\n"
                     "perigee_body_bytes_bucket{le=\"100\"} 3\n"
                     "perigee_body_bytes_bucket{le=\"+Inf\"} 4\n"
                     "perigee_body_bytes_sum 1030\nperigee_body_bytes_count 4\n");
    assert_has(text, "perigee_took_seconds_bucket{endpoint=\"digits\",le=\"0.00005\"} 1\n");
    assert_has(text, "perigee_took_seconds_bucket{endpoint=\"digits\",le=\"1.0\"} 1\n");
    assert_has(text, "perigee_took_seconds_bucket{endpoint=\"digits\",le=\"2.0\"} 2\n");
    assert_has(text, "perigee_took_seconds_sum{endpoint=\"digits\"} 1.50005\n");
    assert_has(text, "perigee_took_seconds_count{endpoint=\"digits\"} 2\n");
    assert_has(text, "perigee_test_metrics_series_dropped_total 0\n");

    /* The writer is restarted: what it counted stands, and it goes on. */
    metrics_deinit(&loops[0]);
    metrics_deinit(&loops[1]);
    attach(loops);
    metric_add(metrics_series(&loops[0], REQUESTS, ok), 1);
    assert_has(print(arena), "perigee_requests_total{endpoint=\"digits\",code=\"200\"} 6\n");

    metrics_forget(&loops[0], REQUESTS, 0, SLICE("digits"));
    metrics_forget(&loops[1], REQUESTS, 0, SLICE("digits"));
    text = print(arena);
    assert_null(strstr(text.data, "endpoint=\"digits\",code"));
    assert_has(text, "perigee_took_seconds_count{endpoint=\"digits\"} 2\n");
    metrics_deinit(&loops[0]);
    metrics_deinit(&loops[1]);
    arena_free(arena);
}

static void test_full(void **state)
{
    struct arena *arena = arena_new();
    struct metrics loops[2];
    char name[400];

    (void)state;
    memset(memory, 0, sizeof memory);
    attach(loops);
    memset(name, 'x', sizeof name);
    for (int i = 0; i < SERIES + 3; i++) {
        name[0] = (char)('a' + i);
        struct slice labels[] = { { name, sizeof name }, SLICE("200") };
        metric_add(metrics_series(&loops[0], REQUESTS, labels), 1);
    }
    struct slice text = print(arena);
    assert_has(text, "x\",code=\"200\"} 1\n");
    assert_has(text, "perigee_test_metrics_series_dropped_total 3\n");
    name[0] = 'a'; /* cut: the rest of a long value is lost, not its neighbour */
    metrics_forget(&loops[0], REQUESTS, 0, (struct slice){ name, METRIC_LABEL_BYTES / 2 - 1 });
    metric_set(metrics_series(&loops[0], QUEUED, NULL), 1); /* in the place given up */
    assert_has(print(arena), "perigee_queued 1\n");

    /* A writer that died in the middle, and a reader that meets nonsense. */
    struct metric_series *series = metrics_series(&loops[0], QUEUED, NULL);
    series->version++;
    assert_null(strstr(print(arena).data, "perigee_queued"));
    metrics_deinit(&loops[0]);
    metrics_attach(&loops[0], &test_metrics, memory[0], sizeof memory[0]);
    metric_set(metrics_series(&loops[0], QUEUED, NULL), 3);
    assert_has(print(arena), "perigee_queued 3\n");
    metrics_series(&loops[0], QUEUED, NULL)->label_bytes = 60'000;
    assert_null(strstr(print(arena).data, "perigee_queued"));
    struct metrics_view short_view = { memory[0], 10 };
    assert_has(metrics_print(arena, &test_metrics, &short_view, 1), "dropped_total 0\n");
    metrics_deinit(&loops[0]);
    metrics_deinit(&loops[1]);
    arena_free(arena);
}

static void test_docs(void **state)
{
    struct arena *arena = arena_new();

    (void)state;
    assert_has(metrics_docs(arena, &test_metrics),
               "| `perigee_took_seconds` | histogram | seconds | endpoint | From the first byte to "
               "the last. |\n");
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_docs),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
