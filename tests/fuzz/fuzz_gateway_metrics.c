/* SPDX-License-Identifier: Apache-2.0 */
/* The region of counters as a gateway that has gone wrong may leave it: the agent prints it. Some
 * series are counted as they should be; then the input flips bits of them, so many bytes apart as
 * its first two say. */
#include "contract/gateway_metrics.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#include "base/arena.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FLIPPED_BYTES = 8192 }; /* behind the magic and the hash of the rows */

static void count(void *region)
{
    struct slice labels[] = { SLICE("default"), SLICE("digits"), SLICE("200") };
    struct metrics metrics;
    gateway_metrics_attach(&metrics, region, 0, 0);
    metric_add(metrics_series(&metrics, GATEWAY_REQUESTS, labels), 3);
    metric_set(metrics_series(&metrics, GATEWAY_CONNECTIONS, NULL), 7);
    metric_observe(&metrics, metrics_series(&metrics, GATEWAY_TOTAL, labels), 1'000'000);
    metric_observe(&metrics, metrics_series(&metrics, GATEWAY_RTT_COUNTRY, labels), 1'000'000);
    metrics_deinit(&metrics);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char *region;
    size_t bytes = gateway_region_bytes();
    if (size < 2 || size > 4096)
        return 0;
    if (!region)
        region = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED)
        return 0;
    (void)madvise(region, bytes, MADV_DONTNEED);
    (void)gateway_region_attach(region, bytes);
    count(region);
    size_t at = 0, distance = (size_t)(data[0] | data[1] << 8) + 1;
    for (size_t i = 2; i < size; i++, at += distance)
        region[4096 + 16 + at % FLIPPED_BYTES] ^= (char)data[i];
    struct arena *arena = arena_new();
    struct slice text = gateway_metrics_print(arena, region, bytes);
    assert(text.size > 0 && text.data[text.size - 1] == '\n');
    struct gateway_clients *clients;
    size_t rows = gateway_metrics_clients(arena, region, bytes, 3, &clients);
    for (size_t i = 0; i < rows; i++)
        assert(rows <= 3 && clients[i].country.size <= METRIC_LABEL_BYTES);
    struct decision_record decision;
    if (gateway_decision_find(region, bytes, SLICE("a"), &decision))
        assert(decision.pop_count <= DECISION_POPS_MAX);
    arena_free(arena);
    return 0;
}
