/* SPDX-License-Identifier: Apache-2.0 */
/* The region of counters: who may write and read it, and what is in a full one. */
#include "contract/gateway_metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/err.h"
#include "contract/messages.h"

static void *region;

static int setup(void **state)
{
    (void)state;
    region = mmap(NULL, gateway_region_bytes(), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return region == MAP_FAILED;
}

static int teardown(void **state)
{
    (void)state;
    return munmap(region, gateway_region_bytes());
}

static void test_attach(void **state)
{
    char *bytes = region;
    (void)state;
    assert_false(gateway_region_attach(region, gateway_region_bytes() - 1));
    assert_false(gateway_region_fits(region));
    assert_true(gateway_region_attach(region, gateway_region_bytes()));
    assert_true(gateway_region_fits(region));
    bytes[5000] = 7;
    assert_true(gateway_region_attach(region, gateway_region_bytes()));
    assert_int_equal(bytes[5000], 7); /* of this layout: goes on */
    ((struct gateway_region *)region)->version++;
    assert_true(gateway_region_attach(region, gateway_region_bytes()));
    assert_int_equal(bytes[5000], 0); /* of another: anew */
}

/* A reader prints nothing of a layout it does not know. */
static void test_print(void **state)
{
    struct arena *arena = arena_new();
    struct gateway_region *head = region, good;
    struct metrics metrics;
    (void)state;
    assert_int_equal(gateway_metrics_print(arena, region, gateway_region_bytes()).size, 0);
    assert_true(gateway_region_attach(region, gateway_region_bytes()));
    gateway_metrics_attach(&metrics, region, 0, 0);
    metric_add(metrics_series(&metrics, GATEWAY_ACCEPTED, NULL), 42);
    struct slice text = gateway_metrics_print(arena, region, gateway_region_bytes());
    assert_non_null(memmem(text.data, text.size, "perigee_connections_total 42", 28));
    good = *head;
    assert_int_equal(gateway_metrics_print(arena, region, gateway_region_bytes() - 1).size, 0);
    head->version++;
    assert_int_equal(gateway_metrics_print(arena, region, gateway_region_bytes()).size, 0);
    *head = good;
    head->slice_bytes += 8;
    assert_int_equal(gateway_metrics_print(arena, region, gateway_region_bytes()).size, 0);
    *head = good;
    head->magic++;
    assert_int_equal(gateway_metrics_print(arena, region, gateway_region_bytes()).size, 0);
    metrics_deinit(&metrics);
    arena_free(arena);
}

/* ---- does it fit ---------------------------------------------------------------------------- */

/* How many values each label has of one endpoint, and of one PoP. A new label wants a row. */
static const struct {
    const char *label;
    unsigned values;
    bool of_endpoint, of_pop;
} label_rows[] = {
    { "project", 1, true, false },
    { "endpoint", 1, true, false },
    { "pop", 1, false, true },
    { "code", ERR_COUNT + 2, false, false },
    { "error", ERR_COUNT, false, false },
    { "class", 2, false, false },
    { "reason", 6, false, false },
    { "result", 6, false, false },
    { "waited_for", 8, false, false },
    { "country", 1, false, false }, /* "other": the rest comes while half of all rows are free */
};

struct series {
    unsigned endpoint, pop, else_;
};

static void series_add(const struct metric_row *row, struct series *series)
{
    struct slice rest = slice_of(row->labels);
    bool of_endpoint = false, of_pop = false;
    unsigned count = 1;
    while (rest.size) {
        struct slice label = slice_cut(&rest, ',');
        size_t i = 0;
        while (i < sizeof label_rows / sizeof *label_rows && !slice_is(label, label_rows[i].label))
            i++;
        if (i == sizeof label_rows / sizeof *label_rows)
            fail_msg("%s: how many values has its label '%.*s'?", row->name, SLICE_FMT(label));
        count *= label_rows[i].values;
        of_endpoint = of_endpoint || label_rows[i].of_endpoint;
        of_pop = of_pop || label_rows[i].of_pop;
    }
    *(of_endpoint ? &series->endpoint : of_pop ? &series->pop : &series->else_) += count;
}

/* The region is made by the supervisor in one size; and of the rows of a loop countries may take
 * half. What is left is for endpoints and PoPs. A metric too many fails here. */
static void test_there_is_room_for_every_metric(void **state)
{
    enum { POPS = 64, ENDPOINTS = 16 };
    struct series series = {};
    (void)state;
    for (size_t i = 0; i < gateway_metrics.count; i++)
        series_add(&gateway_metrics.rows[i], &series);
    unsigned most = ENDPOINTS * series.endpoint + POPS * series.pop + series.else_;
    print_message("  %u series of an endpoint, %u of a PoP, %u else: %d and %d are %u of %u; the "
                  "region takes %zu of %llu bytes\n",
                  series.endpoint, series.pop, series.else_, (int)ENDPOINTS, (int)POPS, most,
                  GATEWAY_SERIES_MAX / 2, gateway_region_bytes(),
                  (unsigned long long)METRICS_REGION_BYTES);
    if (gateway_region_bytes() > METRICS_REGION_BYTES)
        fail_msg("the region of metrics wants %zu bytes, METRICS_REGION_BYTES is %llu",
                 gateway_region_bytes(), (unsigned long long)METRICS_REGION_BYTES);
    if (most > GATEWAY_SERIES_MAX / 2)
        fail_msg("%d endpoints and %d PoPs may have %u series, for which there is room are %u",
                 (int)ENDPOINTS, (int)POPS, most, GATEWAY_SERIES_MAX / 2);
}

static bool printed(const char *line)
{
    struct arena *arena = arena_new();
    struct slice text = gateway_metrics_print(arena, region, gateway_region_bytes());
    bool found = memmem(text.data, text.size, line, strlen(line)) != NULL;
    arena_free(arena);
    return found;
}

/* Of a gateway that is gone counters go on, and what it had open is not open any more. */
static void test_the_next_instance(void **state)
{
    struct metrics metrics;
    (void)state;
    assert_true(gateway_region_attach(region, gateway_region_bytes()));
    gateway_metrics_attach(&metrics, region, 0, 0);
    metric_add(metrics_series(&metrics, GATEWAY_ACCEPTED, NULL), 42);
    metric_set(metrics_series(&metrics, GATEWAY_CONNECTIONS, NULL), 7);
    assert_true(printed("perigee_connections_total 42\n"));
    assert_true(printed("perigee_connections 7\n"));
    metrics_deinit(&metrics);
    gateway_metrics_attach(&metrics, region, 0, 0);
    assert_true(printed("perigee_connections_total 42\n"));
    assert_true(printed("perigee_connections 0\n"));
    metrics_deinit(&metrics);
}

static bool keep_odd(uint64_t revision, void *data)
{
    (void)data;
    return revision % 2;
}

static void test_rows_of_revisions(void **state)
{
    size_t bytes = gateway_region_bytes();
    (void)state;
    assert_null(gateway_stats_find(region, bytes, 1)); /* it has no layout yet */
    assert_true(gateway_region_attach(region, bytes));
    assert_null(gateway_stats_find(region, bytes, 1));
    const struct gateway_stats *first = gateway_stats_get(region, 1);
    assert_ptr_equal(gateway_stats_find(region, bytes, 1), first);
    assert_null(gateway_stats_find(region, bytes - 1, 1));
    for (uint64_t revision = 1; revision <= GATEWAY_STATS_ROWS; revision++) {
        struct gateway_stats *row = gateway_stats_get(region, revision);
        assert_non_null(row);
        atomic_store(&row->success, revision);
    }
    assert_null(gateway_stats_get(region, GATEWAY_STATS_ROWS + 1)); /* full */
    assert_null(gateway_stats_find(region, bytes, GATEWAY_STATS_ROWS + 1));
    assert_int_equal(atomic_load(&gateway_stats_find(region, bytes, 77)->success), 77);
    for (uint64_t revision = 1; revision <= GATEWAY_STATS_ROWS; revision++)
        assert_int_equal(atomic_load(&gateway_stats_get(region, revision)->success), revision);
    gateway_stats_keep(region, keep_odd, NULL);
    gateway_stats_keep(region, keep_odd, NULL);
    struct gateway_stats *row = gateway_stats_get(region, GATEWAY_STATS_ROWS + 2);
    assert_non_null(row);
    assert_int_equal(atomic_load(&row->success), 0);
    assert_int_equal(atomic_load(&gateway_stats_get(region, 77)->success), 77);
}

static void client(struct metrics *metrics, const char *endpoint, const char *country,
                   uint64_t rtt_ms)
{
    struct slice labels[] = { SLICE("default"), slice_of(endpoint), slice_of(country) };
    labels[2] = gateway_metrics_country(metrics, labels[0], labels[1], labels[2]);
    metric_observe(metrics, metrics_series(metrics, GATEWAY_RTT_COUNTRY, labels),
                   rtt_ms * 1'000'000);
}

/* Of all loops, both lane sets; a country that comes when half of all rows are taken is another. */
static void test_clients(void **state)
{
    struct arena *arena = arena_new();
    struct gateway_clients *rows;
    struct metrics metrics[2];
    (void)state;
    assert_true(gateway_region_attach(region, gateway_region_bytes()));
    gateway_metrics_attach(&metrics[0], region, 0, 1);
    gateway_metrics_attach(&metrics[1], region, 1, 0);
    client(&metrics[0], "digits", "JP", 12);
    client(&metrics[1], "digits", "JP", 50);
    client(&metrics[1], "digits", "JP", 51);
    client(&metrics[1], "digits", "FR", 3);
    client(&metrics[0], "other", "FR", 70'000);
    assert_int_equal(gateway_metrics_clients(arena, region, gateway_region_bytes(), 9, &rows), 3);
    assert_true(slice_is(rows[0].endpoint, "digits") && slice_is(rows[0].country, "JP"));
    assert_int_equal(rows[0].requests, 3);
    assert_int_equal(rows[0].near, 2);
    assert_int_equal(rows[0].rtt_ns, 113'000'000);
    assert_int_equal(gateway_metrics_clients(arena, region, gateway_region_bytes(), 1, &rows), 1);
    assert_int_equal(gateway_metrics_clients(arena, region, 100, 9, &rows), 0);
    for (unsigned i = 0; metrics[0].index.count < GATEWAY_SERIES_MAX / 2; i++)
        client(&metrics[0], arena_format(arena, "e%u", i), "DE", 1);
    client(&metrics[0], "digits", "BR", 1);
    client(&metrics[0], "digits", "CL", 1);
    client(&metrics[0], "digits", "JP", 1);
    size_t count = gateway_metrics_clients(arena, region, gateway_region_bytes(), SIZE_MAX, &rows),
           others = 0;
    for (size_t i = 0; i < count; i++) {
        if (!slice_is(rows[i].country, "other"))
            continue;
        others++;
        assert_int_equal(rows[i].requests, 2);
        assert_true(slice_is(rows[i].endpoint, "digits"));
    }
    assert_int_equal(others, 1);
    metrics_deinit(&metrics[0]);
    metrics_deinit(&metrics[1]);
    arena_free(arena);
}

/* Of all loops and both lane sets; what is not of an endpoint is left out. */
static void test_activity(void **state)
{
    const struct slice answers[] = { SLICE("default"), SLICE("digits"), SLICE("200") };
    const struct slice failures[] = { SLICE("default"), SLICE("digits"), SLICE("503") };
    const struct slice waiting[] = { SLICE("default"), SLICE("digits"), SLICE("batch") };
    const struct slice nobody[] = { SLICE(""), SLICE(""), SLICE("404") };
    struct arena *arena = arena_new();
    struct metrics metrics[2] = {};
    struct gateway_activity *rows;
    (void)state;
    assert_true(gateway_region_attach(region, gateway_region_bytes()));
    gateway_metrics_attach(&metrics[0], region, 0, 0);
    gateway_metrics_attach(&metrics[1], region, 1, 1);
    for (unsigned i = 0; i < 2; i++) {
        metric_add(metrics_series(&metrics[i], GATEWAY_REQUESTS, answers), 5);
        metric_add(metrics_series(&metrics[i], GATEWAY_REQUESTS, failures), 1);
        metric_add(metrics_series(&metrics[i], GATEWAY_REQUESTS, nobody), 9);
        metric_set(metrics_series(&metrics[i], GATEWAY_QUEUED, waiting), 2);
        metric_set(metrics_series(&metrics[i], GATEWAY_RUNNING, answers), 3);
        struct metric_series *took = metrics_series(&metrics[i], GATEWAY_TOTAL, answers);
        metric_observe(&metrics[i], took, 40'000);
        metric_observe(&metrics[i], took, UINT64_C(90'000'000'000));
        metric_observe(&metrics[i], metrics_series(&metrics[i], GATEWAY_TOTAL, nobody), 1);
        metric_set(metrics_series(&metrics[i], GATEWAY_QUEUED, nobody), 1);
        metric_set(metrics_series(&metrics[i], GATEWAY_RUNNING, nobody), 1);
    }
    assert_int_equal(gateway_metrics_activity(arena, region, gateway_region_bytes(), &rows), 1);
    assert_true(slice_is(rows[0].project, "default") && slice_is(rows[0].endpoint, "digits"));
    assert_int_equal(rows[0].requests, 12);
    assert_int_equal(rows[0].errors, 2);
    assert_true(rows[0].queued == 4 && rows[0].running == 6);
    assert_int_equal(rows[0].took[0], 2);
    assert_int_equal(rows[0].took[metric_buckets_latency.count], 2);
    assert_int_equal(gateway_metrics_activity(arena, region, 100, &rows), 0);
    metrics_deinit(&metrics[0]);
    metrics_deinit(&metrics[1]);
    arena_free(arena);
}

/* The newest of an id, whichever loop had it; what a gateway gone wrong left there is none. */
static void test_decisions(void **state)
{
    size_t bytes = gateway_region_bytes();
    struct decision_record row = { .id = "a", .chosen = "tokyo", .at_s = 7, .pop_count = 2 }, found;
    (void)state;
    assert_true(gateway_region_attach(region, bytes));
    snprintf(row.pops[1].name, sizeof row.pops[1].name, "paris");
    decision_write(gateway_decisions(region, 0, 0), &row);
    snprintf(row.id, sizeof row.id, "b");
    decision_write(gateway_decisions(region, 1, PERIGEE_LOOPS_MAX - 1), &row);
    assert_true(gateway_decision_find(region, bytes, SLICE("a"), &found));
    assert_int_equal(found.pop_count, 2);
    assert_string_equal(found.pops[1].name, "paris");
    assert_string_equal(found.chosen, "tokyo");
    assert_true(gateway_decision_find(region, bytes, SLICE("b"), &found));
    static const char *const others[] = {
        "",
        "c",
        "ab",
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(gateway_decision_find(region, bytes, slice_of(others[i]), &found));
    assert_false(gateway_decision_find(region, bytes - 1, SLICE("a"), &found));
    row.at_s = 9; /* the same id again, at another loop */
    row.pop_count = 0;
    decision_write(gateway_decisions(region, 0, 1), &row);
    assert_true(gateway_decision_find(region, bytes, SLICE("b"), &found));
    assert_int_equal(found.at_s, 9);

    struct decision_ring *ring = gateway_decisions(region, 0, 0);
    atomic_store(&ring->rows[0].version, 1); /* half written */
    assert_false(gateway_decision_find(region, bytes, SLICE("a"), &found));
    atomic_store(&ring->rows[0].version, 2);
    ring->rows[0].decision.pop_count = DECISION_POPS_MAX + 1;
    assert_false(gateway_decision_find(region, bytes, SLICE("a"), &found));
    ring->rows[0].decision.pop_count = 2;
    memset(ring->rows[0].decision.pops[1].name, 'x', DECISION_NAME_BYTES);
    assert_false(gateway_decision_find(region, bytes, SLICE("a"), &found));
    ring->rows[0].decision.pops[1].name[3] = '\0';
    assert_true(gateway_decision_find(region, bytes, SLICE("a"), &found));
    for (unsigned i = 0; i < DECISION_RING; i++) /* it goes on */
        decision_write(ring, &row);
    assert_false(gateway_decision_find(region, bytes, SLICE("a"), &found));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_clients, setup, teardown),
        cmocka_unit_test_setup_teardown(test_activity, setup, teardown),
        cmocka_unit_test_setup_teardown(test_decisions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_attach, setup, teardown),
        cmocka_unit_test(test_there_is_room_for_every_metric),
        cmocka_unit_test_setup_teardown(test_print, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_next_instance, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rows_of_revisions, setup, teardown),
    };
    return cmocka_run_group_tests_name("gateway_metrics", tests, NULL, NULL);
}
