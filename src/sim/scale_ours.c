/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/scale_ours.h"

void scale_ours_init(struct scale_ours *ours, uint32_t concurrency, int64_t idle_ns)
{
    *ours = (struct scale_ours){
        .rules = { .max = SCALE_RUN_REPLICAS_MAX, .places = concurrency, .idle_ns = idle_ns }
    };
}

uint32_t scale_ours_way(const struct scale_sight *sight, void *data)
{
    struct scale_ours *ours = data;
    const struct scale_sight *before = &ours->before;
    struct scale_seen seen = {
        .now_ns = sight->now_ns,
        .waiting = sight->waiting,
        .running = sight->running,
        .ready = sight->ready,
        .starting = sight->starting,
        .arrivals = sight->arrivals - before->arrivals,
        .done = sight->done - before->done,
        .busy_ns = sight->busy_ns - before->busy_ns,
    };

    ours->before = *sight;
    scale_decide(&ours->scale, &ours->rules, &seen, &ours->verdict);
    return ours->verdict.desired;
}
