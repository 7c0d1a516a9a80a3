/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scale_kpa.h -- Knative's Pod Autoscaler as its documentation describes it, for comparison: what
 * `perigee` is measured against (bench/scale). Pure.
 *
 * Each second the mean number of requests in that second is kept; every 2 s it decides:
 *
 *   stable   replicas = mean of the stable window (60 s) / target, rounded up
 *   panic    replicas = mean of the panic window (6 s) / target, rounded up, at least twice what
 *            is ready: never down until 60 s have passed without a reason
 *   bounds   at most `up_rate` times and at least 1/`down_rate` of what is ready, in one step
 *   zero     once no request was there for the whole stable window, and `grace` more
 *
 * A window that is not full yet is the mean of what there is of it; it begins anew when the last
 * replica is gone. At zero the activator starts one replica as soon as a request comes.
 *
 * Source: knative.dev/docs/serving/autoscaling (kpa-specific, concurrency, scale-bounds,
 * scale-to-zero), and SYSTEM in docs/scaling of knative/serving.
 */
#pragma once

#include "sim/scale_run.h"

enum { KPA_SECONDS = 60 };

struct kpa_rules {
    double target; /* requests a replica: 70 % of its concurrency */
    int64_t stable_ns, panic_ns, tick_ns, grace_ns;
    double panic_threshold; /* times what is ready */
    double up_rate, down_rate;
};

/* What the issue asks for; `grace_ns` 0. */
struct kpa_rules kpa_rules_usual(void);

struct kpa {
    struct kpa_rules rules;
    double seconds[KPA_SECONDS]; /* ring */
    uint64_t second;             /* that is being filled */
    uint64_t first;              /* the first that counts */
    double told_s;               /* concurrency_s at the second's begin, */
    int64_t told_ns;             /* and when that was */
    int64_t panic_ns;            /* last reason to; 0: no panic */
    uint32_t panic_most;
    int64_t zero_since_ns; /* nothing wanted since; 0: something is */
    uint32_t desired;
};

void kpa_init(struct kpa *kpa, const struct kpa_rules *rules);
/* One full second had this mean. */
void kpa_second(struct kpa *kpa, double mean);
/* At a tick. */
uint32_t kpa_decide(struct kpa *kpa, int64_t now_ns, uint32_t ready);

/* For scale_run(); `tick_ns` of the way is a second. */
uint32_t kpa_way(const struct scale_sight *sight, void *kpa);
