/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scale_compare.h -- our autoscaler and Knative's over one trace in the same simulated time, and
 * whether what ours must reach is reached over several. Pure.
 *
 * Concurrency 4, 500 ms to start, idle 10 s. Knative's has a grace before zero of 0 and of 30 s;
 * the cheaper of the two counts.
 */
#pragma once

#include <stdbool.h>

#include "sim/scale_run.h"

#define SCALE_BAR_MEAN 0.65 /* of the ratios of replica-seconds, their geometric mean */
#define SCALE_BAR_SUM 0.85  /* the ratio of their sums */
#define SCALE_BAR_WAIT 1.5  /* times Knative's p99 of the wait, at most, on any trace */
enum { SCALE_WORSE_MAX = 2 /* traces with a p99 above Knative's */ };

struct scale_row {
    char name[32];
    size_t requests;
    double kpa_s, kpa_grace_s, ours_s; /* replica-seconds */
    double ratio;
    double kpa_p99_ms, ours_p99_ms;
    uint64_t kpa_starts, ours_starts;
};

struct scale_sum {
    double mean, sums;
    unsigned worse, too_bad; /* waits above Knative's; above SCALE_BAR_WAIT times those */
    bool met;
};

/* How both went through it: Knative's is the cheaper one. */
struct scale_both {
    struct scale_result kpa, ours;
};

void scale_compare(const struct scale_trace *trace, struct scale_row *ret,
                   struct scale_both *ret_both);
struct scale_sum scale_judge(const struct scale_row *rows, size_t count);
