/* SPDX-License-Identifier: Apache-2.0 */
/* Once a second: a loop's counters become metrics, and memory that nobody uses is given back. */
#include <stddef.h>
#include <string.h>

#include "base/log.h"
#include "gateway/core.h"
#include "gateway/forward.h"
#include "gateway/request.h"
#include "gateway/shard_own.h"
#include "gateway/target.h"
#include "http/server.h"
#include "io/loop.h"
#include "io/timer.h"

static const struct {
    unsigned row;
    size_t offset; /* of the server's counter */
    const char *label;
} server_counters[] = {
#define COUNTER(row, name, label)                                                                  \
    {                                                                                              \
        row, offsetof(struct http_server_stats, name), label                                       \
    }
    COUNTER(GATEWAY_ACCEPTED, accepted, ""),
    COUNTER(GATEWAY_REFUSED, refused, ""),
    COUNTER(GATEWAY_WIRE_IN, bytes_in, ""),
    COUNTER(GATEWAY_WIRE_OUT, bytes_out, ""),
    COUNTER(GATEWAY_AWAY, full, "full"),
    COUNTER(GATEWAY_AWAY, crowded, "address"),
    COUNTER(GATEWAY_EVICTED, evicted, ""),
#define TIMEOUT(name) COUNTER(GATEWAY_TIMEOUTS, timeouts.name, #name),
    HTTP_SERVER_TIMEOUTS(TIMEOUT)
#undef TIMEOUT
#undef COUNTER
};

static uint64_t server_count(const struct http_server_stats *stats, size_t index)
{
    uint64_t count;
    memcpy(&count, (const char *)stats + server_counters[index].offset, sizeof count);
    return count;
}

static void server_metrics(struct gateway_loop *gl)
{
    const struct http_server_stats *stats = http_server_stats(gl->server);
    struct metrics *metrics = &gl->metrics;

    metric_set(metrics_series(metrics, GATEWAY_CONNECTIONS, NULL), (int64_t)stats->open);
    for (size_t i = 0; i < sizeof server_counters / sizeof *server_counters; i++) {
        uint64_t more = server_count(stats, i) - server_count(&gl->seen, i);
        struct slice label = slice_of(server_counters[i].label);
        metric_add(metrics_series(metrics, server_counters[i].row, &label), more);
    }
    uint64_t away = stats->full + stats->crowded - gl->seen.full - gl->seen.crowded;
    if (away)
        log_warn("gateway", "connections were sent away", LOG_U("count", away),
                 LOG_U("full", stats->full - gl->seen.full),
                 LOG_U("one_address", stats->crowded - gl->seen.crowded));
    metric_add(metrics_series(metrics, GATEWAY_DROPPED, NULL), gl->dropped);
    gl->dropped = 0;
    gl->seen = *stats;
}

static void queued_metrics(struct gateway_loop *gl, const struct table_endpoint *row,
                           struct endpoint *endpoint)
{
    static const struct slice classes[QUEUE_CLASSES] = { SLICE("interactive"), SLICE("batch") };
    const struct table_head *table = gl->table->head;

    for (unsigned i = 0; i < QUEUE_CLASSES; i++) {
        struct slice labels[] = { table_text(table, row->project), table_text(table, row->name),
                                  classes[i] };
        metric_set(metrics_series(&gl->metrics, GATEWAY_QUEUED, labels),
                   atomic_load(&endpoint->waiting[i].count));
    }
}

/* Queue and running are sums over loops: loop 0 writes them for all. */
static void endpoint_metrics(struct gateway_loop *gl)
{
    struct table *table = gl->table;

    for (uint32_t i = 0; table && i < table->head->endpoints.count; i++) {
        const struct table_endpoint *row = table_endpoint(table->head, i);
        uint32_t running = 0;
        for (uint32_t k = 0; k < row->revision_count; k++) {
            struct revision_side *side =
                &table->revisions[row->revision_first + k]->sides[gl->index];
            struct lane *lane;
            LIST_EACH (lane, &side->lanes, struct lane, link)
                running += place_running(&lane->replica->place);
            running += targets_running(side);
        }
        struct endpoint *endpoint = table->endpoints[i];
        queued_metrics(gl, row, endpoint);
        metric_set(shard_series(gl, table->head, row, endpoint, GATEWAY_RUNNING), running);
    }
    metric_set(metrics_series(&gl->metrics, GATEWAY_MEMORY, NULL),
               (int64_t)atomic_load(&gl->gateway->memory.used));
    metric_set(metrics_series(&gl->metrics, GATEWAY_KEPT, NULL),
               (int64_t)atomic_load(&gl->gateway->memory.kept));
}

static void memory_trim(struct gateway_loop *gl)
{
    int64_t now = loop_now_ms(gl->loop);

    MAP_EACH (entry, &gl->touched) {
        struct revision_side *side = entry->value;
        if (now - side->used_ms < gateway_trim_idle_ms || blocks_used_bytes(side->blocks) > 0)
            continue;
        blocks_trim(side->blocks);
        map_remove_u64(&gl->touched, side->revision->uid);
        revision_unref(side->revision);
    }
}

void shard_tick(void *data)
{
    struct gateway_loop *gl = data;

    server_metrics(gl);
    if (gl->index == 0)
        endpoint_metrics(gl);
    memory_trim(gl);
    answer_shed(gl);
    forwards_review(gl);
    timer_start(gl->tick, 1000);
}
