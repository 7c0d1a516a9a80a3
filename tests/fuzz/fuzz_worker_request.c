/* SPDX-License-Identifier: Apache-2.0 */
/* Two requests in an arena as they could lie to a worker: what it believes is inside, is what the
 * model takes, and runs together only where it is alike. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "contract/ring.h"
#include "runtime/batch.h"
#include "runtime/task.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct steps {
    struct {
        uint64_t offset, bytes;
    } requests[2];
    uint64_t rows_max;
};

static struct perigee_model model = {
    .input_count = 3,
    .output_count = 2,
    .batch_rows_max = 8,
    .inputs = {
        { .datatype = PERIGEE_FP32, .rank = 2, .dims = { -1, 4 } },
        { .datatype = PERIGEE_INT64, .rank = 2, .dims = { -1, -1 } },
        { .datatype = PERIGEE_BYTES, .rank = 1, .dims = { -1 }, .flags = PERIGEE_IO_OPTIONAL },
    },
};

static void check_believed(const struct task *task, const char *arena, size_t arena_bytes)
{
    const struct runtime_job *job = &task->job;
    uint64_t begin = (uint64_t)(job->block - arena);

    assert(begin % PERIGEE_TENSOR_ALIGN == 0 &&
           begin + task->submission.request_bytes <= arena_bytes);
    assert(job->input_count >= 2 && job->input_count <= 3 && job->outputs_wanted < 4);
    for (uint32_t i = 0; i < job->input_count; i++) {
        const struct perigee_tensor *tensor = &job->inputs[i];
        assert(tensor->index == i && tensor->rank == model.inputs[i].rank);
        assert(tensor->offset + tensor->bytes <= task->submission.request_bytes);
        assert(job->rows == 0 || tensor->dims[0] == (int64_t)job->rows);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct task tasks[2];
    static struct batch batch;
    struct steps steps;
    struct list waiting;
    struct err err = {};

    if (size < sizeof steps)
        return 0;
    memcpy(&steps, data, sizeof steps);
    size -= sizeof steps;
    size_t arena_bytes = size / PERIGEE_TENSOR_ALIGN * PERIGEE_TENSOR_ALIGN;
    if (arena_bytes == 0)
        return 0;
    char *arena = aligned_alloc(PERIGEE_TENSOR_ALIGN, arena_bytes);
    memcpy(arena, data + sizeof steps, arena_bytes);
    list_init(&waiting);
    for (unsigned i = 0; i < 2; i++) {
        struct task *task = &tasks[i];
        task->submission.request_offset = steps.requests[i].offset;
        task->submission.request_bytes = steps.requests[i].bytes;
        task->job.status = PERIGEE_DONE;
        if (task_read(task, arena, arena_bytes, &model, &err) < 0)
            continue;
        task->job.rows = batch_rows(&model, &task->job);
        check_believed(task, arena, arena_bytes);
        list_append(&waiting, &task->link);
    }
    if (!list_empty(&waiting)) {
        batch_form(&waiting, steps.rows_max, &batch);
        assert(batch.count >= 1 && batch.tasks[0] == LIST_FIRST(&waiting, struct task, link));
        assert(batch.count == 1 || batch.rows <= steps.rows_max);
        assert(batch.count == 1 || tasks[0].inputs[1].dims[1] == tasks[1].inputs[1].dims[1]);
    }
    free(arena);
    return 0;
}
