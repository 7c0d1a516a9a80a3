/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.h -- which of the waiting requests run together. Pure; serving thread only.
 *
 * The oldest always runs, so that none starves. With it run those behind it that have its
 * signature (inputs, datatypes, all dimensions but the first, outputs wanted), in their order, as
 * many as have room, counted in rows. A request with more rows than there may be runs alone.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <perigee/worker.h>

struct list;
struct runtime_job;
struct task;

struct batch {
    struct task *tasks[PERIGEE_SLOTS_MAX]; /* in order; still in the list */
    struct runtime_job *jobs[PERIGEE_SLOTS_MAX];
    size_t count;
    uint64_t rows;       /* of all, at least 1 */
    bool full;           /* no further one may come in */
    bool others;         /* requests wait that are not of it */
    uint64_t due_ns_min; /* the first of their deadlines; UINT64_MAX: none */
};

/* Rows of a checked request: the first dimension of all its inputs; 0: it has no rows of its own
 * (they differ, or are none, or one is optional), and always runs alone. */
uint64_t batch_rows(const struct perigee_model *model, const struct runtime_job *job);
/* Looks at `waiting` (struct task by link; not empty). A request whose status is not DONE is a
 * batch alone. */
void batch_form(const struct list *waiting, uint64_t rows_max, struct batch *ret);
