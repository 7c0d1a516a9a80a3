/* SPDX-License-Identifier: Apache-2.0 */
/*
 * task.h -- one request inside the worker, from the ring to its completion. Serving thread only.
 */
#pragma once

#include <stdint.h>

#include <perigee/worker.h>

#include "base/list.h"
#include "runtime/answer.h"
#include "runtime/runtime.h"

struct err;

struct task {
    struct list link; /* of those that wait, or of those that are free */
    uint32_t lane;
    struct perigee_submission submission; /* a private copy */
    uint64_t taken_ns, start_ns;          /* from the ring; up to run */
    struct runtime_job job;
    struct answer answer;
    struct perigee_tensor inputs[PERIGEE_TENSORS_MAX]; /* in the model's order */
};

/* Copies the request's description once, checks all of it against the arena and the model, and
 * leaves it in `inputs` and `job`. ERR_BAD_INPUT: it lies, or it is not what the model takes. */
[[nodiscard]] int task_read(struct task *task, const char *arena, uint64_t arena_bytes,
                            const struct perigee_model *model, struct err *err);
