/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several requests as one run: rows are gathered into memory of the batch, and what comes out is
 * dealt out to their slots. A run that fails says nothing of which request it was: then each runs
 * alone. So it is where there is no memory for it.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "contract/ring.h"
#include "runtime/answer.h"
#include "runtime/onnx/onnx.h"
#include "runtime/onnx/values.h"
#include "runtime/runtime.h"
#include "sys/clock.h"

#define KEPT_BYTES_MAX (UINT64_C(64) << 20) /* of the batches' memory, between them */

struct gathered {
    struct runtime_model *model;
    struct runtime_job *const *jobs;
    size_t count;
    uint64_t rows;
    struct perigee_tensor inputs[PERIGEE_TENSORS_MAX]; /* of all; offsets in the batch's memory */
    uint32_t input_count;
    uint64_t bytes; /* of the batch's memory */
};

static bool add_bytes(struct gathered *all, uint64_t bytes, uint64_t *ret_offset)
{
    uint64_t begin = all->bytes;

    *ret_offset = begin;
    return !__builtin_add_overflow(begin, bytes, &all->bytes) &&
           !__builtin_add_overflow(all->bytes, (uint64_t)PERIGEE_TENSOR_ALIGN - 1, &all->bytes) &&
           (all->bytes &= ~(uint64_t)(PERIGEE_TENSOR_ALIGN - 1), true);
}

/* ---- in -------------------------------------------------------------------------------------- */

static bool plan_inputs(struct gathered *all)
{
    const struct runtime_job *first = all->jobs[0];

    all->input_count = first->input_count;
    for (uint32_t i = 0; i < all->input_count; i++) {
        struct perigee_tensor *tensor = &all->inputs[i];
        *tensor = first->inputs[i];
        tensor->dims[0] = (int64_t)all->rows;
        tensor->bytes = 0;
        for (size_t j = 0; j < all->count; j++)
            tensor->bytes += all->jobs[j]->inputs[i].bytes; /* of the arena: no overflow */
        if (tensor->datatype == PERIGEE_BYTES)
            continue;
        if (!add_bytes(all, tensor->bytes, &tensor->offset))
            return false;
    }
    return true;
}

static int gather_strings(const struct gathered *all, uint32_t i, struct values *values,
                          struct err *err)
{
    uint64_t first = 0, elements = 0;
    int r = values_input_strings(values, &all->inputs[i], err);

    for (size_t j = 0; r == 0 && j < all->count; j++) {
        const struct runtime_job *job = all->jobs[j];
        const struct perigee_tensor *tensor = &job->inputs[i];
        r = values_fill(values, first, tensor, job->block + tensor->offset, err);
        if (r == 0 && dims_elements(tensor->dims, tensor->rank, &elements))
            first += elements;
    }
    return r;
}

static int gather_inputs(const struct gathered *all, struct values *values, struct err *err)
{
    for (uint32_t i = 0; i < all->input_count; i++) {
        const struct perigee_tensor *tensor = &all->inputs[i];
        if (tensor->datatype == PERIGEE_BYTES) {
            int r = gather_strings(all, i, values, err);
            if (r < 0)
                return r;
            continue;
        }
        char *memory = all->model->batch_memory + tensor->offset, *to = memory;
        for (size_t j = 0; j < all->count; j++) {
            const struct runtime_job *job = all->jobs[j];
            memcpy(to, job->block + job->inputs[i].offset, job->inputs[i].bytes);
            to += job->inputs[i].bytes;
        }
        int r = values_input(values, tensor, memory, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- out ------------------------------------------------------------------------------------- */

struct bound { /* an output whose shape is said beforehand */
    bool is;
    int64_t dims[PERIGEE_RANK_MAX];
    uint64_t bytes, offset;
};

static bool plan_outputs(struct gathered *all, struct values *values, struct bound *bounds)
{
    for (uint32_t i = 0; i < all->model->output_count; i++)
        bounds[i].is = false;
    for (uint32_t i = 0; i < all->model->output_count; i++) {
        if (!(all->jobs[0]->outputs_wanted & UINT64_C(1) << i))
            continue;
        struct bound *bound = &bounds[values_output(values, i)];
        bound->is = output_shape(&all->model->outputs[i], all->inputs, all->input_count,
                                 bound->dims, &bound->bytes);
        if (bound->is && !add_bytes(all, bound->bytes, &bound->offset))
            return false;
    }
    return true;
}

static int bind_outputs(const struct gathered *all, struct values *values,
                        const struct bound *bounds, struct err *err)
{
    for (uint32_t at = 0; at < values->output_count; at++) {
        const struct bound *bound = &bounds[at];
        int r = bound->is ? values_bind(values, at, all->model->batch_memory + bound->offset,
                                        bound->dims, bound->bytes, err)
                          : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

static void deal_one(const struct gathered *all, const struct output *output,
                     struct runtime_job *job, uint64_t first_row)
{
    const char *name = all->model->outputs[output->index].name;
    int64_t dims[PERIGEE_RANK_MAX];
    struct err err = {};

    memcpy(dims, output->dims, output->rank * sizeof *dims);
    dims[0] = (int64_t)job->rows;
    if (output->datatype == PERIGEE_BYTES) {
        uint64_t each = output->elements / all->rows;
        if (output_add_strings(all->model, output, each * first_row, each * job->rows, dims, job,
                               &err) < 0 &&
            job->status == PERIGEE_DONE)
            job_fail(job, PERIGEE_FAULT, "%s", err.message);
        return;
    }
    uint64_t each = output->bytes / all->rows, bytes = each * job->rows;
    void *place = answer_place(job->answer, bytes);
    if (!place) {
        answer_too_large(job->answer, job, name, bytes);
        return;
    }
    if (bytes > 0)
        memcpy(place, (const char *)output->data + each * first_row, bytes);
    answer_add(job->answer, output->index, output->datatype, dims, output->rank, place, bytes);
}

/* False: an output has not a row for each row that went in, and nothing was dealt out of it. */
static bool deal_out(struct gathered *all, const struct values *values, struct err *err)
{
    for (uint32_t at = 0; at < values->output_count; at++) {
        struct output output;
        uint64_t row = 0;
        if (values_look(values, at, &output, err) < 0)
            return false;
        if (output.rank == 0 || output.dims[0] != (int64_t)all->rows) {
            all->model->never_together = true;
            log_warn("worker",
                     "an output has not one row for each row that went in: requests run "
                     "alone from now on",
                     LOG_S("output", all->model->outputs[output.index].name));
            return false;
        }
        for (size_t j = 0; j < all->count; j++) {
            if (all->jobs[j]->status == PERIGEE_DONE)
                deal_one(all, &output, all->jobs[j], row);
            row += all->jobs[j]->rows;
        }
    }
    return true;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static bool take_memory(struct runtime_model *model, uint64_t bytes)
{
    bytes += PERIGEE_TENSOR_ALIGN; /* never none */
    if (bytes <= model->batch_bytes)
        return true;
    free(model->batch_memory);
    model->batch_bytes = 0;
    model->batch_memory = aligned_alloc(PERIGEE_TENSOR_ALIGN, bytes);
    if (!model->batch_memory)
        return false;
    model->batch_bytes = bytes;
    return true;
}

static void give_memory(struct runtime_model *model)
{
    if (model->batch_bytes <= KEPT_BYTES_MAX)
        return;
    free(model->batch_memory);
    model->batch_memory = NULL;
    model->batch_bytes = 0;
}

static bool run(struct gathered *all, struct values *values)
{
    struct bound bounds[PERIGEE_TENSORS_MAX];
    struct err err = {};

    if (!plan_inputs(all) || !plan_outputs(all, values, bounds) ||
        !take_memory(all->model, all->bytes) || gather_inputs(all, values, &err) < 0 ||
        bind_outputs(all, values, bounds, &err) < 0)
        return false;
    uint64_t ready = clock_monotonic_ns();
    if (values_run(values, &err) < 0)
        return false;
    uint64_t ran = clock_monotonic_ns();
    if (!deal_out(all, values, &err))
        return false;
    for (size_t j = 0; j < all->count; j++) {
        all->jobs[j]->ready_ns = ready;
        all->jobs[j]->ran_ns = ran;
        all->jobs[j]->batch_rows = j == 0 ? all->rows : 0;
    }
    return true;
}

bool onnx_run_together(struct runtime_model *model, struct runtime_job *const *jobs, size_t count)
{
    struct gathered all = { .model = model, .jobs = jobs, .count = count };
    struct values values;

    if (model->never_together)
        return false;
    values_init(&values, model);
    for (size_t j = 0; j < count; j++)
        all.rows += jobs[j]->rows;
    onnx_log_quiet = true; /* what it has to say it says again of the one that runs alone */
    bool ran = run(&all, &values);
    onnx_log_quiet = false;
    values_deinit(&values);
    give_memory(model);
    for (size_t j = 0; !ran && j < count; j++) {
        jobs[j]->status = PERIGEE_DONE;
        answer_again(jobs[j]->answer);
    }
    return ran;
}
