/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/scale_compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "sim/scale_kpa.h"
#include "sim/scale_ours.h"

enum { CONCURRENCY = 4, IDLE_S = 10, GRACE_S = 30 };

static const struct scale_world world = { CONCURRENCY, SCALE_SECOND_NS / 2 };

/* Both are in whole microseconds: what differs by less is the same wait. */
#define SAME_MS 0.001

static void kpa_run(const struct scale_trace *trace, int64_t grace_ns, struct scale_result *ret)
{
    struct kpa_rules rules = kpa_rules_usual();
    struct kpa kpa;

    rules.grace_ns = grace_ns;
    kpa_init(&kpa, &rules);
    scale_run(trace, &world, &(struct scale_way){ SCALE_SECOND_NS, kpa_way, &kpa }, ret);
}

void scale_compare(const struct scale_trace *trace, struct scale_row *ret,
                   struct scale_both *ret_both)
{
    struct scale_result *kpa = &ret_both->kpa, *ours = &ret_both->ours;
    auto_free struct scale_result *grace = mem_alloc(sizeof *grace);
    struct scale_ours way;

    kpa_run(trace, 0, kpa);
    kpa_run(trace, GRACE_S * SCALE_SECOND_NS, grace);
    scale_ours_init(&way, CONCURRENCY, IDLE_S * SCALE_SECOND_NS);
    scale_run(trace, &world, &(struct scale_way){ SCALE_OURS_TICK_NS, scale_ours_way, &way }, ours);
    *ret = (struct scale_row){ .requests = trace->count,
                               .kpa_s = kpa->replica_s,
                               .kpa_grace_s = grace->replica_s,
                               .ours_s = ours->replica_s };
    memcpy(ret->name, trace->name, sizeof ret->name);
    if (grace->replica_s < kpa->replica_s)
        *kpa = *grace;
    ret->ratio = ours->replica_s / kpa->replica_s;
    ret->kpa_p99_ms = kpa->wait_p99_ms;
    ret->ours_p99_ms = ours->wait_p99_ms;
    ret->kpa_starts = kpa->starts;
    ret->ours_starts = ours->starts;
}

struct scale_sum scale_judge(const struct scale_row *rows, size_t count)
{
    struct scale_sum sum = {};
    double logs = 0, kpa_s = 0, ours_s = 0;

    for (size_t i = 0; i < count; i++) {
        logs += log(rows[i].ratio);
        kpa_s += fmin(rows[i].kpa_s, rows[i].kpa_grace_s);
        ours_s += rows[i].ours_s;
        sum.worse += rows[i].ours_p99_ms > rows[i].kpa_p99_ms + SAME_MS;
        sum.too_bad += rows[i].ours_p99_ms > SCALE_BAR_WAIT * rows[i].kpa_p99_ms + SAME_MS;
    }
    sum.mean = exp(logs / (double)count);
    sum.sums = ours_s / kpa_s;
    sum.met = sum.mean <= SCALE_BAR_MEAN && sum.sums <= SCALE_BAR_SUM &&
              sum.worse <= SCALE_WORSE_MAX && sum.too_bad == 0;
    return sum;
}
