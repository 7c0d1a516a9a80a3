/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The region is as large as all rows could want; memfd pages cost when they are touched.
 */
#include "contract/gateway_metrics.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

METRICS_DEFINE(gateway_metrics, GATEWAY_METRICS)

#define PAGE 4096u
#define HEAD_BYTES PAGE
#define REVISION_GONE UINT64_MAX       /* keeps the chain of probes whole */
#define REVISION_MADE (UINT64_MAX - 1) /* being made, by this gateway or the one beside it */

static size_t slice_bytes(void)
{
    return (metrics_bytes(GATEWAY_SERIES_MAX) + PAGE - 1) & ~(size_t)(PAGE - 1);
}

static size_t stats_offset(void)
{
    return HEAD_BYTES + GATEWAY_SLICES * slice_bytes();
}

static size_t decisions_offset(void)
{
    return (stats_offset() + GATEWAY_STATS_ROWS * sizeof(struct gateway_stats) + PAGE - 1) &
           ~(size_t)(PAGE - 1);
}

size_t gateway_region_bytes(void)
{
    return (decisions_offset() + DECISION_RINGS * sizeof(struct decision_ring) + PAGE - 1) &
           ~(size_t)(PAGE - 1);
}

static struct gateway_region layout(void)
{
    return (struct gateway_region){ GATEWAY_REGION_MAGIC, GATEWAY_REGION_VERSION,
                                    slice_bytes(),        stats_offset(),
                                    decisions_offset(),   gateway_region_bytes() };
}

bool gateway_region_fits(const struct gateway_region *head)
{
    struct gateway_region wanted = layout();

    return memcmp(head, &wanted, sizeof wanted) == 0;
}

bool gateway_region_attach(void *memory, size_t bytes)
{
    struct gateway_region *region = memory;
    struct gateway_region wanted = layout();

    if (bytes < wanted.bytes)
        return false;
    if (!gateway_region_fits(region)) {
        if (region->magic != 0) /* a new memfd is zeros, and stays sparse */
            memset(memory, 0, bytes);
        *region = wanted;
    }
    return true;
}

void gateway_metrics_attach(struct metrics *metrics, void *region, unsigned set, unsigned index)
{
    assert(set < 2 && index < GATEWAY_SET_SLICES);
    size_t slice = set * GATEWAY_SET_SLICES + index;
    metrics_attach(metrics, &gateway_metrics, (char *)region + HEAD_BYTES + slice * slice_bytes(),
                   slice_bytes());
    /* What an instance that is gone had open, running, queued, is not so any more. */
    MAP_EACH (entry, &metrics->index) {
        struct metric_series *series = entry->value;
        if (gateway_metrics.rows[series->row].type == METRIC_GAUGE)
            metric_set(series, 0);
    }
}

void gateway_metrics_ended(void *region, unsigned set)
{
    for (unsigned i = 0; i < GATEWAY_SET_SLICES; i++) {
        struct metrics metrics;
        gateway_metrics_attach(&metrics, region, set, i);
        metrics_deinit(&metrics);
    }
}

static struct gateway_stats *stats_row(void *region, uint64_t index)
{
    return (struct gateway_stats *)(void *)((char *)region + stats_offset()) +
           index % GATEWAY_STATS_ROWS;
}

static uint64_t stats_hash(uint64_t revision)
{
    return (revision * UINT64_C(0x9e3779b97f4a7c15)) >> 20;
}

struct gateway_stats *gateway_stats_get(void *region, uint64_t revision)
{
    uint64_t hash = stats_hash(revision);
    struct gateway_stats *room = NULL;
    uint64_t before = 0;

    for (uint64_t i = 0; i < GATEWAY_STATS_ROWS; i++) {
        struct gateway_stats *row = stats_row(region, hash + i);
        uint64_t found = atomic_load(&row->revision);
        if (found == revision)
            return row;
        if (!room && (found == 0 || found == REVISION_GONE)) {
            room = row;
            before = found;
        }
        if (found == 0)
            break;
    }
    /* The other gateway may take the same place just now: then what we would count is lost. */
    if (!room || !atomic_compare_exchange_strong(&room->revision, &before, REVISION_MADE))
        return NULL;
    memset((char *)room + sizeof room->revision, 0, sizeof *room - sizeof room->revision);
    atomic_store(&room->revision, revision);
    return room;
}

const struct gateway_stats *gateway_stats_find(const void *region, size_t bytes, uint64_t revision)
{
    const struct gateway_region *head = region;
    uint64_t hash = stats_hash(revision);

    if (bytes < gateway_region_bytes() || !gateway_region_fits(head))
        return NULL;
    for (uint64_t i = 0; i < GATEWAY_STATS_ROWS; i++) {
        const struct gateway_stats *row = stats_row((void *)(uintptr_t)region, hash + i);
        uint64_t found = atomic_load(&row->revision);
        if (found == revision || found == 0)
            return found ? row : NULL;
    }
    return NULL;
}

void gateway_stats_keep(void *region, bool (*keep)(uint64_t revision, void *data), void *data)
{
    for (uint64_t i = 0; i < GATEWAY_STATS_ROWS; i++) {
        struct gateway_stats *row = stats_row(region, i);
        uint64_t revision = atomic_load(&row->revision);
        if (revision != 0 && revision != REVISION_GONE && !keep(revision, data))
            atomic_store(&row->revision, REVISION_GONE);
    }
}

/* False: it is of no known layout. */
static bool views_of(const void *region, size_t bytes,
                     struct metrics_view ret_views[static GATEWAY_SLICES])
{
    const struct gateway_region *head = region;

    if (bytes < gateway_region_bytes() || head->magic != GATEWAY_REGION_MAGIC ||
        head->version != GATEWAY_REGION_VERSION || head->slice_bytes != slice_bytes())
        return false;
    for (unsigned i = 0; i < GATEWAY_SLICES; i++)
        ret_views[i] = (struct metrics_view){ (const char *)region + HEAD_BYTES + i * slice_bytes(),
                                              slice_bytes() };
    return true;
}

/* ---- decisions ------------------------------------------------------------------------------- */

struct decision_ring *gateway_decisions(void *region, unsigned set, unsigned index)
{
    assert(set < 2 && index < PERIGEE_LOOPS_MAX);
    return (struct decision_ring *)(void *)((char *)region + decisions_offset()) +
           set * PERIGEE_LOOPS_MAX + index;
}

bool gateway_decision_find(const void *region, size_t bytes, struct slice id,
                           struct decision_record *ret)
{
    struct metrics_view views[GATEWAY_SLICES];

    return views_of(region, bytes, views) &&
           decision_find((const void *)((const char *)region + decisions_offset()), DECISION_RINGS,
                         id, ret);
}

/* ---- clients --------------------------------------------------------------------------------- */

struct slice gateway_metrics_country(const struct metrics *metrics, struct slice project,
                                     struct slice endpoint, struct slice country)
{
    const struct slice labels[] = { project, endpoint, country };

    if (metrics->index.count < GATEWAY_SERIES_MAX / 2 ||
        metrics_holds(metrics, GATEWAY_RTT_COUNTRY, labels))
        return country;
    return SLICE("other");
}

struct clients {
    struct arena *arena;
    struct gateway_clients *rows;
    size_t count;
};

static void clients_add(const struct slice *labels, const uint64_t *words, void *data)
{
    struct clients *clients = data;
    const struct metric_buckets *buckets = gateway_metrics.rows[GATEWAY_RTT_COUNTRY].buckets;

    if (clients->count == GATEWAY_SERIES_MAX)
        return;
    struct gateway_clients *row = &clients->rows[clients->count++];
    *row = (struct gateway_clients){ .project = arena_copy(clients->arena, labels[0]),
                                     .endpoint = arena_copy(clients->arena, labels[1]),
                                     .country = arena_copy(clients->arena, labels[2]),
                                     .rtt_ns = words[buckets->count + 1] };
    for (size_t i = 0; i <= buckets->count; i++) {
        row->requests += words[i];
        if (i < buckets->count && buckets->upper[i] <= GATEWAY_NEAR_NS)
            row->near += words[i];
    }
}

static int by_requests(const void *a, const void *b)
{
    uint64_t x = ((const struct gateway_clients *)a)->requests;
    uint64_t y = ((const struct gateway_clients *)b)->requests;
    return (x < y) - (x > y);
}

size_t gateway_metrics_clients(struct arena *arena, const void *region, size_t bytes, size_t max,
                               struct gateway_clients **ret)
{
    struct metrics_view views[GATEWAY_SLICES];
    struct clients clients = { .arena = arena };

    if (!views_of(region, bytes, views))
        return 0;
    clients.rows = ARENA_ARRAY(arena, struct gateway_clients, GATEWAY_SERIES_MAX);
    metrics_sum(&gateway_metrics, views, GATEWAY_SLICES, GATEWAY_RTT_COUNTRY, clients_add,
                &clients);
    qsort(clients.rows, clients.count, sizeof *clients.rows, by_requests);
    *ret = clients.rows;
    return clients.count < max ? clients.count : max;
}

/* ---- what it is asked for, and how long it takes --------------------------------------------- */

struct activity {
    struct arena *arena;
    struct gateway_activity *rows;
    size_t count;
    struct map by_key;
};

/* Of the first two labels; NULL: there is no room for more. */
static struct gateway_activity *activity_row(struct activity *activity, const struct slice *labels)
{
    struct slice key = slice_of(
        arena_format(activity->arena, "%.*s/%.*s", SLICE_FMT(labels[0]), SLICE_FMT(labels[1])));
    struct gateway_activity *row = map_get(&activity->by_key, key);
    if (row || labels[1].size == 0 || activity->count == GATEWAY_SERIES_MAX)
        return row;
    row = &activity->rows[activity->count++];
    row->project = arena_copy(activity->arena, labels[0]);
    row->endpoint = arena_copy(activity->arena, labels[1]);
    (void)map_put(&activity->by_key, key, row);
    return row;
}

static void activity_requests(const struct slice *labels, const uint64_t *words, void *data)
{
    struct gateway_activity *row = activity_row(data, labels);
    if (!row)
        return;
    row->requests += words[0];
    if (slice_starts(labels[2], SLICE("5")))
        row->errors += words[0];
}

static void activity_took(const struct slice *labels, const uint64_t *words, void *data)
{
    struct gateway_activity *row = activity_row(data, labels);
    for (size_t i = 0; row && i <= metric_buckets_latency.count; i++)
        row->took[i] += words[i];
}

static void activity_queued(const struct slice *labels, const uint64_t *words, void *data)
{
    struct gateway_activity *row = activity_row(data, labels);
    if (row)
        row->queued += (int64_t)words[0];
}

static void activity_running(const struct slice *labels, const uint64_t *words, void *data)
{
    struct gateway_activity *row = activity_row(data, labels);
    if (row)
        row->running += (int64_t)words[0];
}

size_t gateway_metrics_activity(struct arena *arena, const void *region, size_t bytes,
                                struct gateway_activity **ret)
{
    static const struct {
        enum gateway_metrics_row row;
        void (*each)(const struct slice *labels, const uint64_t *words, void *data);
    } parts[] = { { GATEWAY_REQUESTS, activity_requests },
                  { GATEWAY_TOTAL, activity_took },
                  { GATEWAY_QUEUED, activity_queued },
                  { GATEWAY_RUNNING, activity_running } };
    struct metrics_view views[GATEWAY_SLICES];
    struct activity activity = { .arena = arena };
    if (!views_of(region, bytes, views))
        return 0;
    activity.rows = ARENA_ARRAY(arena, struct gateway_activity, GATEWAY_SERIES_MAX);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        metrics_sum(&gateway_metrics, views, GATEWAY_SLICES, parts[i].row, parts[i].each,
                    &activity);
    map_deinit(&activity.by_key);
    *ret = activity.rows;
    return activity.count;
}

struct slice gateway_metrics_print(struct arena *arena, const void *region, size_t bytes)
{
    struct metrics_view views[GATEWAY_SLICES];

    if (!views_of(region, bytes, views))
        return (struct slice){};
    return metrics_print(arena, &gateway_metrics, views, GATEWAY_SLICES);
}
