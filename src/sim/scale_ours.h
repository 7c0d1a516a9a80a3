/* SPDX-License-Identifier: Apache-2.0 */
/* scale_ours.h -- policy/scale.h as a way for scale_run(). Pure. */
#pragma once

#include "policy/scale.h"
#include "sim/scale_run.h"

#define SCALE_OURS_TICK_NS (SCALE_SECOND_NS / 4)

struct scale_ours {
    struct scale scale;
    struct scale_rules rules;
    struct scale_sight before;
    struct scale_verdict verdict; /* the last one */
};

void scale_ours_init(struct scale_ours *ours, uint32_t concurrency, int64_t idle_ns);
uint32_t scale_ours_way(const struct scale_sight *sight, void *ours);
