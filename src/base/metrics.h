/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.h -- counters, gauges and histograms as rows of a table, in memory that the caller gives.
 *
 * A row says name, type, labels, unit and meaning; the exposition (Prometheus text 0.0.4) and
 * docs/metrics.md come from it. Values are u64 words in a *slice* of memory: one per writing
 * thread, so that nobody waits, and in a shared-memory region where they are to survive a restart
 * of the writer. Readers (any thread, any process, also read-only maps) sum equal series over the
 * slices. Times are kept in nanoseconds and shown in seconds.
 *
 *     #define GATEWAY_METRICS(X)                                                                 \
 *         X(REQUESTS, "perigee_requests_total", METRIC_COUNTER, METRIC_ONE, "endpoint,code", NULL,
 * \ "Requests answered.") METRICS_DECLARE(gateway_metrics, GATEWAY_METRICS)     header: enum
 * gateway_metrics_row METRICS_DEFINE(gateway_metrics, GATEWAY_METRICS)      one .c:
 * gateway_metrics, the table
 *
 *     struct metrics metrics = {};
 *     metrics_attach(&metrics, &gateway_metrics, memory, bytes);        the writer, once
 *     struct metric_series *series = metrics_series(&metrics, REQUESTS, labels);
 *     metric_add(series, 1);                        cheap; keep `series` where the labels are known
 *
 * Ownership: `struct metrics` is the writer's private index; metrics_deinit() leaves the memory.
 */
#pragma once

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/map.h"
#include "base/slice.h"

struct arena;

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };
enum metric_unit { METRIC_ONE, METRIC_SECONDS /* kept in ns */, METRIC_BYTES };

#define METRIC_LABELS_MAX 6
#define METRIC_BUCKETS_MAX 30
#define METRIC_LABEL_BYTES 240
#define METRIC_ROW_FREE 0xffff

struct metric_buckets {
    uint32_t count;
    uint64_t upper[METRIC_BUCKETS_MAX]; /* inclusive, rising, in the unit kept */
};

extern const struct metric_buckets metric_buckets_latency; /* 50 us to 60 s */
extern const struct metric_buckets metric_buckets_bytes;   /* 256 B to 1 GiB */

struct metric_row {
    const char *name;
    enum metric_type type;
    enum metric_unit unit;
    const char *labels;                   /* "endpoint,code"; "" for none */
    const struct metric_buckets *buckets; /* histograms */
    const char *help;
};

struct metric_table {
    const char *name;
    const struct metric_row *rows;
    size_t count;
};

#define METRIC_ENUM_ROW(id, name, type, unit, labels, buckets, help) id,
#define METRIC_TABLE_ROW(id, name, type, unit, labels, buckets, help)                              \
    { name, type, unit, labels, buckets, help },
#define METRICS_DECLARE(table, ROWS)                                                               \
    enum table##_row{ ROWS(METRIC_ENUM_ROW) table##_count };                                       \
    extern const struct metric_table table;
#define METRICS_DEFINE(table, ROWS)                                                                \
    static const struct metric_row table##_rows[] = { ROWS(METRIC_TABLE_ROW) };                    \
    const struct metric_table table = { #table, table##_rows, table##_count };

/* One series in a slice. Counter and gauge: words[0] (a gauge is signed). Histogram: buckets,
 * then above the last, then the sum. */
struct metric_series {
    _Atomic uint32_t version; /* 0: never used; odd: being made or given up */
    uint16_t row;             /* METRIC_ROW_FREE: given up */
    uint16_t label_bytes;
    char labels[METRIC_LABEL_BYTES]; /* values, each ended by NUL */
    _Atomic uint64_t words[METRIC_BUCKETS_MAX + 2];
    uint64_t spare;
};
static_assert(sizeof(struct metric_series) == 512, "part of the region's layout");

size_t metrics_bytes(size_t series_max); /* of a slice for so many series */

struct metrics {
    const struct metric_table *table; /* borrowed */
    struct metrics_slice *slice;      /* borrowed: the caller's memory */
    struct map index;                 /* row and labels to series */
    struct metric_series *spill;      /* where series go that found no room */
};

/* Adopts what the memory holds when it was made for the same table, else begins anew. New memory is
 * zeros. */
void metrics_attach(struct metrics *metrics, const struct metric_table *table, void *memory,
                    size_t bytes);
void metrics_deinit(struct metrics *metrics);

/* Finds or makes the series; `labels` are as many values as the row names. Never NULL: without
 * room, what is counted there is lost, and perigee_<table>_series_dropped_total says so. Values are
 * cut to fit. The pointer holds until metrics_forget() of that series. */
struct metric_series *metrics_series(struct metrics *metrics, unsigned row,
                                     const struct slice *labels);
/* Is there such a series? */
bool metrics_holds(const struct metrics *metrics, unsigned row, const struct slice *labels);
/* Frees every series whose label number `label` of `row` is `value` (an endpoint was deleted). */
void metrics_forget(struct metrics *metrics, unsigned row, unsigned label, struct slice value);

static inline void metric_add(struct metric_series *series, uint64_t count)
{
    /* One writer: a plain add that readers see whole. */
    uint64_t now = atomic_load_explicit(&series->words[0], memory_order_relaxed);
    atomic_store_explicit(&series->words[0], now + count, memory_order_relaxed);
}

static inline void metric_set(struct metric_series *series, int64_t value)
{
    atomic_store_explicit(&series->words[0], (uint64_t)value, memory_order_relaxed);
}

void metric_observe(struct metrics *metrics, struct metric_series *series, uint64_t value);

/* Text exposition of one table: equal series of all slices summed. A slice that is not of this
 * table is left out. Appends to nothing: returns text in the arena. */
struct metrics_view {
    const void *memory;
    size_t bytes;
};
struct slice metrics_print(struct arena *arena, const struct metric_table *table,
                           const struct metrics_view *slices, size_t slice_count);

/* One row's series, each summed over the slices; labels and words live as long as the call.
 * `words`: of a histogram its buckets, then above the last, then the sum. */
void metrics_sum(const struct metric_table *table, const struct metrics_view *slices,
                 size_t slice_count, unsigned row,
                 void (*each)(const struct slice *labels, const uint64_t *words, void *data),
                 void *data);

/* Rows of docs/metrics.md: "| name | type | unit | labels | meaning |". */
struct slice metrics_docs(struct arena *arena, const struct metric_table *table);
