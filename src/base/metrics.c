/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metrics.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/json.h"

/*
 * A slice: its head, then series of equal size. The writer alone changes it. `version` of a series
 * works as a sequence lock for who it is (row, labels); its words are read as they come, each
 * whole.
 */
struct metrics_slice {
    char magic[8];
    uint64_t table; /* hash of the rows: another build's rows are not adopted */
    uint64_t series_max;
    _Atomic uint64_t series_used; /* slots ever used */
    _Atomic uint64_t dropped;     /* series that found no room */
    uint64_t spare[3];
};
static_assert(sizeof(struct metrics_slice) == 64, "part of the region's layout");

static const char magic[8] = "PGmetr1";

enum { WORD_VALUE = 0 };

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)
#define S UINT64_C(1000000000)

const struct metric_buckets metric_buckets_latency = {
    20,
    { 50 * US,  100 * US, 250 * US, 500 * US, 1 * MS, 2500 * US, 5 * MS, 10 * MS, 25 * MS, 50 * MS,
      100 * MS, 250 * MS, 500 * MS, 1 * S,    2 * S,  5 * S,     10 * S, 20 * S,  30 * S,  60 * S },
};

const struct metric_buckets metric_buckets_bytes = {
    12,
    { 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20,
      256 << 20, 1 << 30 },
};

/* --- rows ------------------------------------------------------------------------------------ */

static size_t label_count(const struct metric_row *row)
{
    struct slice rest = slice_of(row->labels);
    size_t count = 0;

    for (; rest.size; count++)
        slice_cut(&rest, ',');
    assert(count <= METRIC_LABELS_MAX);
    return count;
}

static size_t word_count(const struct metric_row *row)
{
    return row->type == METRIC_HISTOGRAM ? row->buckets->count + 2 : 1;
}

static uint64_t table_hash(const struct metric_table *table)
{
    static const uint64_t key[2] = { 0x5065726967656521, 0x6d65747269637331 };
    uint64_t hash = table->count;

    for (size_t i = 0; i < table->count; i++) {
        const struct metric_row *row = &table->rows[i];
        hash = hash * 31 + map_hash_keyed(key, slice_of(row->name));
        hash = hash * 31 + map_hash_keyed(key, slice_of(row->labels));
        hash = hash * 31 + row->type * 8 + row->unit;
        for (size_t j = 0; row->buckets && j < row->buckets->count; j++)
            hash = hash * 31 + row->buckets->upper[j];
    }
    return hash;
}

/* --- the writer ------------------------------------------------------------------------------ */

size_t metrics_bytes(size_t series_max)
{
    return sizeof(struct metrics_slice) + series_max * sizeof(struct metric_series);
}

static struct metric_series *series_of(const struct metrics_slice *slice)
{
    return (struct metric_series *)(uintptr_t)(slice + 1);
}

/* Row and labels lie side by side in a series: its name in the index. */
static struct slice series_key(const struct metric_series *series)
{
    static_assert(offsetof(struct metric_series, labels) == offsetof(struct metric_series, row) + 4,
                  "row, length and labels are one key");
    return (struct slice){ (const char *)&series->row, 4u + series->label_bytes };
}

void metrics_attach(struct metrics *metrics, const struct metric_table *table, void *memory,
                    size_t bytes)
{
    struct metrics_slice *slice = memory;

    assert(bytes >= metrics_bytes(1) && (uintptr_t)memory % 8 == 0);
    assert(table->count < METRIC_ROW_FREE);
    size_t series_max = (bytes - sizeof *slice) / sizeof(struct metric_series);
    *metrics = (struct metrics){ .table = table, .slice = slice };
    metrics->spill = mem_zalloc(sizeof *metrics->spill);
    if (memcmp(slice->magic, magic, sizeof magic) != 0 || slice->table != table_hash(table) ||
        slice->series_max != series_max || slice->series_used > series_max) {
        if (slice->magic[0]) /* new memory is zeros, and stays untouched */
            memset(memory, 0, metrics_bytes(series_max));
        slice->table = table_hash(table);
        slice->series_max = series_max;
        memcpy(slice->magic, magic, sizeof magic);
    }
    for (size_t i = 0; i < slice->series_used; i++) {
        struct metric_series *series = &series_of(slice)[i];
        uint32_t version = series->version;
        /* Its writer died in the middle: nobody knows whose it was. */
        if (version % 2 || series->label_bytes > METRIC_LABEL_BYTES ||
            series->row >= table->count) {
            series->row = METRIC_ROW_FREE;
            atomic_store(&series->version, version + version % 2);
        } else {
            map_put(&metrics->index, series_key(series), series);
        }
    }
}

void metrics_deinit(struct metrics *metrics)
{
    map_deinit(&metrics->index);
    free(metrics->spill);
    *metrics = (struct metrics){};
}

static struct metric_series *slot_find(struct metrics *metrics)
{
    struct metrics_slice *slice = metrics->slice;

    if (slice->series_used < slice->series_max)
        return &series_of(slice)[slice->series_used++];
    for (size_t i = 0; i < slice->series_max; i++)
        if (series_of(slice)[i].row == METRIC_ROW_FREE)
            return &series_of(slice)[i];
    return NULL;
}

static void key_build(struct metric_series *key, const struct metric_row *row, unsigned index,
                      const struct slice *labels)
{
    size_t count = label_count(row), size = 0;

    key->row = (uint16_t)index;
    for (size_t i = 0; i < count; i++) {
        /* Each may have its part of what is left. */
        size_t room = (METRIC_LABEL_BYTES - size) / (count - i) - 1;
        size_t part = labels[i].size < room ? labels[i].size : room;
        for (size_t j = 0; j < part; j++)
            key->labels[size + j] = labels[i].data[j] ? labels[i].data[j] : '?';
        size += part;
        key->labels[size++] = '\0';
    }
    key->label_bytes = (uint16_t)size;
}

struct metric_series *metrics_series(struct metrics *metrics, unsigned row,
                                     const struct slice *labels)
{
    struct metric_series key;

    assert(row < metrics->table->count);
    key_build(&key, &metrics->table->rows[row], row, labels);
    struct metric_series *series = map_get(&metrics->index, series_key(&key));
    if (series)
        return series;
    series = slot_find(metrics);
    if (!series) {
        atomic_fetch_add_explicit(&metrics->slice->dropped, 1, memory_order_relaxed);
        return metrics->spill;
    }
    uint32_t version = series->version;
    atomic_store(&series->version, version + 1);
    atomic_thread_fence(memory_order_release);
    series->row = key.row;
    series->label_bytes = key.label_bytes;
    memcpy(series->labels, key.labels, key.label_bytes);
    for (size_t i = 0; i < METRIC_BUCKETS_MAX + 2; i++)
        atomic_store_explicit(&series->words[i], 0, memory_order_relaxed);
    atomic_store(&series->version, version + 2);
    map_put(&metrics->index, series_key(series), series);
    return series;
}

bool metrics_holds(const struct metrics *metrics, unsigned row, const struct slice *labels)
{
    struct metric_series key;

    key_build(&key, &metrics->table->rows[row], row, labels);
    return map_get(&metrics->index, series_key(&key)) != NULL;
}

static struct slice label_value(const struct metric_series *series, unsigned label)
{
    struct slice rest = { series->labels, series->label_bytes };

    while (label--)
        slice_cut(&rest, '\0');
    return slice_cut(&rest, '\0');
}

void metrics_forget(struct metrics *metrics, unsigned row, unsigned label, struct slice value)
{
    struct metrics_slice *slice = metrics->slice;

    for (size_t i = 0; i < slice->series_used; i++) {
        struct metric_series *series = &series_of(slice)[i];
        if (series->row != row || !slice_equal(label_value(series, label), value))
            continue;
        map_remove(&metrics->index, series_key(series));
        atomic_store(&series->version, series->version + 1);
        atomic_thread_fence(memory_order_release);
        series->row = METRIC_ROW_FREE;
        atomic_store(&series->version, series->version + 1);
    }
}

static void word_add(struct metric_series *series, size_t word, uint64_t count)
{
    uint64_t now = atomic_load_explicit(&series->words[word], memory_order_relaxed);
    atomic_store_explicit(&series->words[word], now + count, memory_order_relaxed);
}

void metric_observe(struct metrics *metrics, struct metric_series *series, uint64_t value)
{
    if (series == metrics->spill)
        return;
    assert(series->row < metrics->table->count);
    const struct metric_buckets *buckets = metrics->table->rows[series->row].buckets;
    assert(buckets);
    size_t at = 0;
    while (at < buckets->count && value > buckets->upper[at])
        at++;
    word_add(series, at, 1);
    word_add(series, buckets->count + 1, value);
}

/* --- reading and printing -------------------------------------------------------------------- */

struct total {
    struct metric_series who; /* a private copy of row and labels */
    uint64_t words[METRIC_BUCKETS_MAX + 2];
};

/* Copies row and labels as they stand together; false when there is nothing, or it changed. */
static bool series_copy(const struct metric_series *series, const struct metric_table *table,
                        struct total *total)
{
    uint32_t version = atomic_load(&series->version);

    if (version == 0 || version % 2)
        return false;
    total->who.row = series->row;
    total->who.label_bytes = series->label_bytes;
    memcpy(total->who.labels, series->labels, sizeof series->labels);
    for (size_t i = 0; i < METRIC_BUCKETS_MAX + 2; i++)
        total->words[i] = atomic_load_explicit(&series->words[i], memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load(&series->version) != version || total->who.row >= table->count ||
        total->who.label_bytes > METRIC_LABEL_BYTES)
        return false;
    size_t ends = 0;
    for (size_t i = 0; i < total->who.label_bytes; i++)
        ends += total->who.labels[i] == '\0';
    return ends == label_count(&table->rows[total->who.row]);
}

enum { EVERY_ROW = -1 };

static uint64_t gather(struct arena *arena, const struct metric_table *table,
                       const struct metrics_view *view, int row, struct map *totals)
{
    const struct metrics_slice *slice = view->memory;

    if (view->bytes < sizeof *slice || memcmp(slice->magic, magic, sizeof magic) != 0 ||
        slice->table != table_hash(table))
        return 0;
    size_t room = (view->bytes - sizeof *slice) / sizeof(struct metric_series);
    uint64_t used = atomic_load(&slice->series_used);
    for (size_t i = 0; i < used && i < room; i++) {
        struct total copy, *total;
        /* Looked at first: a copy costs more. */
        if ((row != EVERY_ROW && series_of(slice)[i].row != row) ||
            !series_copy(&series_of(slice)[i], table, &copy) ||
            (row != EVERY_ROW && copy.who.row != row))
            continue;
        total = map_get(totals, series_key(&copy.who));
        if (!total) {
            total = ARENA_NEW(arena, struct total);
            total->who = copy.who;
            map_put(totals, series_key(&total->who), total);
        }
        for (size_t j = 0; j < word_count(&table->rows[copy.who.row]); j++)
            total->words[j] += copy.words[j];
    }
    return atomic_load_explicit(&slice->dropped, memory_order_relaxed);
}

static int total_compare(const void *a, const void *b)
{
    const struct metric_series *left = &(*(const struct total *const *)a)->who;
    const struct metric_series *right = &(*(const struct total *const *)b)->who;
    size_t common = left->label_bytes < right->label_bytes ? left->label_bytes : right->label_bytes;

    if (left->row != right->row)
        return left->row < right->row ? -1 : 1;
    int order = memcmp(left->labels, right->labels, common);
    return order ? order : (int)left->label_bytes - (int)right->label_bytes;
}

static void print_value(FILE *out, enum metric_unit unit, uint64_t value, bool is_signed)
{
    char text[JSON_NUMBER_BYTES];

    if (unit != METRIC_SECONDS && is_signed)
        fprintf(out, "%lld", (long long)value);
    else if (unit != METRIC_SECONDS)
        fprintf(out, "%llu", (unsigned long long)value);
    else {
        json_double_text(text, (is_signed ? (double)(int64_t)value : (double)value) / 1e9);
        fputs(text, out);
    }
}

static void print_label(FILE *out, struct slice value)
{
    for (size_t i = 0; i < value.size;) {
        struct slice rest = { value.data + i, value.size - i };
        size_t length = utf8_length(rest);
        if (length == 0) /* cut in the middle of a character, or never one */
            fputs("\xef\xbf\xbd", out);
        else if (*rest.data == '\\' || *rest.data == '"')
            fprintf(out, "\\%c", *rest.data);
        else if (*rest.data == '\n')
            fputs("\\n", out);
        else
            fwrite(rest.data, 1, length, out);
        i += length ? length : 1;
    }
}

/* {endpoint="digits",le="0.5"}: `le` NULL for none. */
static void print_labels(FILE *out, const struct metric_row *row, const struct total *total,
                         const char *le)
{
    struct slice names = slice_of(row->labels);
    const char *before = "{";

    for (unsigned i = 0; names.size; i++, before = ",") {
        struct slice name = slice_cut(&names, ',');
        fprintf(out, "%s%.*s=\"", before, SLICE_FMT(name));
        print_label(out, label_value(&total->who, i));
        fputc('"', out);
    }
    if (le) {
        fprintf(out, "%sle=\"%s\"", before, le);
        before = ",";
    }
    if (*before == ',')
        fputc('}', out);
}

static void print_histogram(FILE *out, const struct metric_row *row, const struct total *total)
{
    char le[JSON_NUMBER_BYTES];
    uint64_t count = 0;

    for (size_t i = 0; i <= row->buckets->count; i++) {
        count += total->words[i];
        if (i == row->buckets->count)
            snprintf(le, sizeof le, "+Inf");
        else if (row->unit == METRIC_SECONDS)
            json_double_text(le, (double)row->buckets->upper[i] / 1e9);
        else
            snprintf(le, sizeof le, "%llu", (unsigned long long)row->buckets->upper[i]);
        fprintf(out, "%s_bucket", row->name);
        print_labels(out, row, total, le);
        fprintf(out, " %llu\n", (unsigned long long)count);
    }
    fprintf(out, "%s_sum", row->name);
    print_labels(out, row, total, NULL);
    fputc(' ', out);
    print_value(out, row->unit, total->words[row->buckets->count + 1], false);
    fprintf(out, "\n%s_count", row->name);
    print_labels(out, row, total, NULL);
    fprintf(out, " %llu\n", (unsigned long long)count);
}

static const char *type_text(enum metric_type type)
{
    return type == METRIC_COUNTER ? "counter" : type == METRIC_GAUGE ? "gauge" : "histogram";
}

static void print_all(FILE *out, const struct metric_table *table, struct total *const *sorted,
                      size_t count)
{
    size_t row_before = SIZE_MAX;

    for (size_t i = 0; i < count; i++) {
        const struct total *total = sorted[i];
        const struct metric_row *row = &table->rows[total->who.row];
        if (total->who.row != row_before)
            fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", row->name, row->help, row->name,
                    type_text(row->type));
        row_before = total->who.row;
        if (row->type == METRIC_HISTOGRAM) {
            print_histogram(out, row, total);
            continue;
        }
        fputs(row->name, out);
        print_labels(out, row, total, NULL);
        fputc(' ', out);
        print_value(out, row->unit, total->words[WORD_VALUE], row->type == METRIC_GAUGE);
        fputc('\n', out);
    }
}

struct slice metrics_print(struct arena *arena, const struct metric_table *table,
                           const struct metrics_view *slices, size_t slice_count)
{
    struct map totals = {};
    uint64_t dropped = 0;
    size_t count = 0, size = 0;
    char *text = NULL;

    for (size_t i = 0; i < slice_count; i++)
        dropped += gather(arena, table, &slices[i], EVERY_ROW, &totals);
    struct total **sorted = ARENA_ARRAY(arena, struct total *, totals.count + 1);
    MAP_EACH (entry, &totals)
        sorted[count++] = entry->value;
    map_deinit(&totals);
    qsort(sorted, count, sizeof *sorted, total_compare);

    FILE *out = open_memstream(&text, &size);
    if (!out)
        mem_abort(0);
    print_all(out, table, sorted, count);
    fprintf(out,
            "# HELP perigee_%s_series_dropped_total Series that found no room in the table.\n"
            "# TYPE perigee_%s_series_dropped_total counter\n"
            "perigee_%s_series_dropped_total %llu\n",
            table->name, table->name, table->name, (unsigned long long)dropped);
    fclose(out);
    struct slice page = arena_copy(arena, (struct slice){ text, size });
    free(text);
    return page;
}

void metrics_sum(const struct metric_table *table, const struct metrics_view *slices,
                 size_t slice_count, unsigned row,
                 void (*each)(const struct slice *labels, const uint64_t *words, void *data),
                 void *data)
{
    struct arena *arena = arena_new();
    struct map totals = {};

    assert(row < table->count);
    for (size_t i = 0; i < slice_count; i++)
        (void)gather(arena, table, &slices[i], (int)row, &totals);
    MAP_EACH (entry, &totals) {
        const struct total *total = entry->value;
        struct slice labels[METRIC_LABELS_MAX];
        for (unsigned i = 0; i < label_count(&table->rows[row]); i++)
            labels[i] = label_value(&total->who, i);
        each(labels, total->words, data);
    }
    map_deinit(&totals);
    arena_free(arena);
}

struct slice metrics_docs(struct arena *arena, const struct metric_table *table)
{
    static const char *const units[] = { "", "seconds", "bytes" };
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        mem_abort(0);
    for (size_t i = 0; i < table->count; i++) {
        const struct metric_row *row = &table->rows[i];
        fprintf(out, "| `%s` | %s | %s | %s | %s |\n", row->name, type_text(row->type),
                units[row->unit], row->labels, row->help);
    }
    fclose(out);
    struct slice rows = arena_copy(arena, (struct slice){ text, size });
    free(text);
    return rows;
}
