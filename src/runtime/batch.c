/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/batch.h"

#include <string.h>

#include "base/list.h"
#include "runtime/runtime.h"
#include "runtime/task.h"

uint64_t batch_rows(const struct perigee_model *model, const struct runtime_job *job)
{
    if (model->batch_rows_max == PERIGEE_BATCH_NONE || job->input_count == 0)
        return 0;
    for (uint32_t i = 0; i < job->input_count; i++) {
        const struct perigee_tensor *input = &job->inputs[i];
        if (input->rank == 0 || input->dims[0] != job->inputs[0].dims[0] ||
            (model->inputs[input->index].flags & PERIGEE_IO_OPTIONAL))
            return 0;
    }
    return (uint64_t)job->inputs[0].dims[0];
}

static bool same_signature(const struct runtime_job *a, const struct runtime_job *b)
{
    if (a->outputs_wanted != b->outputs_wanted || a->input_count != b->input_count)
        return false;
    for (uint32_t i = 0; i < a->input_count; i++) {
        const struct perigee_tensor *x = &a->inputs[i], *y = &b->inputs[i];
        if (x->index != y->index || x->datatype != y->datatype || x->rank != y->rank ||
            memcmp(x->dims + 1, y->dims + 1, (x->rank - 1) * sizeof *x->dims) != 0)
            return false;
    }
    return true;
}

static void add(struct batch *batch, struct task *task)
{
    int64_t due = task->submission.deadline_ns;

    batch->tasks[batch->count] = task;
    batch->jobs[batch->count++] = &task->job;
    batch->rows += task->job.rows > 0 ? task->job.rows : 1;
    if (due > 0 && (uint64_t)due < batch->due_ns_min)
        batch->due_ns_min = (uint64_t)due;
}

static bool may_join(const struct runtime_job *job)
{
    return job->status == PERIGEE_DONE && job->rows > 0;
}

void batch_form(const struct list *waiting, uint64_t rows_max, struct batch *ret)
{
    const struct runtime_job *first = NULL;
    struct task *task;

    ret->count = 0;
    ret->rows = 0;
    ret->full = ret->others = false;
    ret->due_ns_min = UINT64_MAX;
    LIST_EACH (task, waiting, struct task, link) {
        if (!first) {
            first = &task->job;
            add(ret, task);
            ret->full = !may_join(first) || ret->rows >= rows_max;
        } else if (!may_join(&task->job) || !same_signature(first, &task->job)) {
            ret->others = true;
        } else if (ret->count == PERIGEE_SLOTS_MAX || task->job.rows > rows_max - ret->rows) {
            ret->full = true; /* a smaller one behind it may not pass it */
        } else {
            add(ret, task);
            ret->full = ret->rows == rows_max;
        }
        if (ret->full)
            return;
    }
}
