/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answer.h -- one answer while it is written into its slot (runtime.h has what a runtime calls).
 *
 * Layout: struct perigee_answer, then tensors on 64-byte boundaries in the order they were placed.
 * The description is kept private and copied at the end: only this process writes the slot, so this
 * is order, not defence.
 */
#pragma once

#include <stdint.h>

#include <perigee/worker.h>

struct runtime_job;

struct answer {
    char *slot;
    uint64_t slot_bytes, used;
    uint32_t output_count;
    struct perigee_tensor outputs[PERIGEE_TENSORS_MAX];
};

void answer_begin(struct answer *answer, char *slot, uint64_t slot_bytes);
/* Writes the head of the slot: outputs when the job is DONE, its message else. */
void answer_finish(struct answer *answer, const struct runtime_job *job);
