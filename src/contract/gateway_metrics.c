/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The region is as large as all rows could want; memfd pages cost when they are touched.
 */
#include "contract/gateway_metrics.h"

#include <assert.h>
#include <string.h>

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

size_t gateway_region_bytes(void)
{
    return (stats_offset() + GATEWAY_STATS_ROWS * sizeof(struct gateway_stats) + PAGE - 1) &
           ~(size_t)(PAGE - 1);
}

static struct gateway_region layout(void)
{
    return (struct gateway_region){ GATEWAY_REGION_MAGIC, GATEWAY_REGION_VERSION, slice_bytes(),
                                    stats_offset(), gateway_region_bytes() };
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

struct gateway_stats *gateway_stats_get(void *region, uint64_t revision)
{
    uint64_t hash = (revision * UINT64_C(0x9e3779b97f4a7c15)) >> 20;
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

void gateway_stats_keep(void *region, bool (*keep)(uint64_t revision, void *data), void *data)
{
    for (uint64_t i = 0; i < GATEWAY_STATS_ROWS; i++) {
        struct gateway_stats *row = stats_row(region, i);
        uint64_t revision = atomic_load(&row->revision);
        if (revision != 0 && revision != REVISION_GONE && !keep(revision, data))
            atomic_store(&row->revision, REVISION_GONE);
    }
}

struct slice gateway_metrics_print(struct arena *arena, const void *region, size_t bytes)
{
    const struct gateway_region *head = region;
    struct metrics_view views[GATEWAY_SLICES];

    if (bytes < gateway_region_bytes() || head->magic != GATEWAY_REGION_MAGIC ||
        head->version != GATEWAY_REGION_VERSION || head->slice_bytes != slice_bytes())
        return (struct slice){};
    for (unsigned i = 0; i < GATEWAY_SLICES; i++)
        views[i] = (struct metrics_view){ (const char *)region + HEAD_BYTES + i * slice_bytes(),
                                          slice_bytes() };
    return metrics_print(arena, &gateway_metrics, views, GATEWAY_SLICES);
}
