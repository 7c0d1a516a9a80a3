/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scale_run.h -- a trace served by replicas whose number somebody decides, in simulated time. Pure.
 *
 * One queue in order of arrival before all replicas, as the gateway's; the least loaded ready one
 * takes the next. A replica takes `start_ns` until it is ready and costs from the command to start
 * it until it is gone: one that is told to end while it starts is gone at once, one that has
 * requests ends them first. The run ends when nothing is left of requests and replicas, or, where
 * some are kept, an hour after the last arrival.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/scale_trace.h"

enum { SCALE_RUN_REPLICAS_MAX = 1024, SCALE_SERIES_MAX = 4096 };

/* What a decision sees; sums are since the beginning. */
struct scale_sight {
    int64_t now_ns;
    uint32_t waiting, running, ready, starting;
    int64_t oldest_ns;      /* how long the first of the queue has waited; 0: there is none */
    uint64_t arrivals;      /* requests that came */
    uint64_t done, busy_ns; /* requests that are done, and how long they ran */
    double concurrency_s;   /* time times requests that wait or run */
};

struct scale_way {
    int64_t tick_ns; /* how often it decides; once more when the first request waits */
    uint32_t (*decide)(const struct scale_sight *sight, void *data);
    void *data;
};

struct scale_world {
    uint32_t concurrency;
    int64_t start_ns;
};

struct scale_result {
    double replica_s;
    uint64_t starts, cold; /* replicas started; requests that came when none was ready */
    uint32_t most;
    double wait_p50_ms, wait_p99_ms, wait_max_ms, wait_mean_ms;
    struct { /* each second: for plots */
        float replicas, ready, concurrency, arrivals;
    } series[SCALE_SERIES_MAX];
    size_t series_count;
};

void scale_run(const struct scale_trace *trace, const struct scale_world *world,
               const struct scale_way *way, struct scale_result *ret);
