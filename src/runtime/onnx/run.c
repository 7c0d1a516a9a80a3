/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request, one run: its inputs where they lie in the arena, its outputs where they go in its
 * slot. A model whose declared shapes are wrong is found out once and then no longer bound.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "contract/ring.h"
#include "runtime/onnx/onnx.h"
#include "runtime/onnx/values.h"
#include "runtime/runtime.h"
#include "sys/clock.h"

#define ZEROS_BYTES_MAX (UINT64_C(256) << 20)

static void fail(struct runtime_job *job, const struct err *err)
{
    enum perigee_completion_status status = err->code == ERR_BAD_INPUT   ? PERIGEE_BAD_INPUT
                                            : err->code == ERR_TOO_LARGE ? PERIGEE_TOO_LARGE
                                                                         : PERIGEE_FAULT;
    /* Out of memory is no fault of the answer's size. */
    job_fail(job, status == PERIGEE_TOO_LARGE ? PERIGEE_FAULT : status, "%s", err->message);
}

static int make_inputs(struct values *values, const struct perigee_tensor *inputs, uint32_t count,
                       const char *block, struct err *err)
{
    for (uint32_t i = 0; i < count; i++) {
        const char *memory = block + inputs[i].offset;
        int r;
        if (inputs[i].datatype != PERIGEE_BYTES) {
            r = values_input(values, &inputs[i], memory, err);
        } else {
            r = values_input_strings(values, &inputs[i], err);
            if (r == 0)
                r = values_fill(values, 0, &inputs[i], memory, err);
        }
        if (r < 0)
            return r;
    }
    return 0;
}

static int add_outputs(struct values *values, struct runtime_job *job, struct err *err)
{
    const struct runtime_model *model = values->model;

    for (uint32_t i = 0; i < model->output_count; i++) {
        int64_t dims[PERIGEE_RANK_MAX];
        uint64_t bytes;
        if (!(job->outputs_wanted & UINT64_C(1) << i))
            continue;
        uint32_t at = values_output(values, i);
        if (!output_shape(&model->outputs[i], job->inputs, job->input_count, dims, &bytes))
            continue;
        void *place = answer_place(job->answer, bytes);
        if (!place) {
            answer_too_large(job->answer, job, model->outputs[i].name, bytes);
            return err_set(err, ERR_TOO_LARGE, "%s", job->message);
        }
        int r = values_bind(values, at, place, dims, bytes, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int answer_output(const struct values *values, uint32_t at, struct runtime_job *job,
                         struct err *err)
{
    const struct runtime_model *model = values->model;
    struct output output;

    int r = values_look(values, at, &output, err);
    if (r < 0)
        return r;
    if (output.datatype == PERIGEE_BYTES)
        return output_add_strings(model, &output, 0, output.elements, output.dims, job, err);
    void *place = values->places[at];
    if (!place || values->place_bytes[at] != output.bytes)
        place = answer_place(job->answer, output.bytes);
    if (!place) {
        answer_too_large(job->answer, job, model->outputs[output.index].name, output.bytes);
        return ERR_TOO_LARGE;
    }
    if (output.data != place && output.bytes > 0)
        memcpy(place, output.data, output.bytes);
    answer_add(job->answer, output.index, output.datatype, output.dims, output.rank, place,
               output.bytes);
    return 0;
}

/* The model's declared shapes may be wrong; ONNX Runtime then refuses the memory bound. */
static bool unbind(struct runtime_model *model, struct values *values, struct runtime_job *job,
                   const struct err *err)
{
    bool any = false;

    if (!strstr(err->message, "computed output shape"))
        return false;
    for (uint32_t i = 0; i < values->output_count; i++) {
        any |= values->places[i] != NULL;
        if (values->places[i])
            model->outputs[values->indexes[i]].bound = false;
    }
    if (!any)
        return false;
    log_warn("worker", "an output's shape is not what the model declares, copying it from now on");
    answer_again(job->answer);
    values_release_outputs(values);
    return true;
}

/* Dimensions of one name that differ are the request's fault. ONNX Runtime does not look at names,
 * and models exist that run all the same: so only a run that failed is explained by them. */
static void blame_dims(const struct runtime_model *model, const struct runtime_job *job,
                       struct err *err)
{
    struct {
        const char *symbol;
        const struct onnx_io *io;
        int64_t size;
    } seen[PERIGEE_TENSORS_MAX];
    size_t count = 0;

    for (uint32_t i = 0; i < job->input_count; i++) {
        const struct onnx_io *io = &model->inputs[job->inputs[i].index];
        for (uint32_t d = 0; d < io->rank; d++) {
            const char *symbol = io->symbols[d];
            size_t at = 0;
            if (!symbol || !*symbol)
                continue;
            while (at < count && strcmp(seen[at].symbol, symbol) != 0)
                at++;
            if (at < count && seen[at].size != job->inputs[i].dims[d]) {
                (void)err_set(err, ERR_BAD_INPUT,
                              "dimension '%s' is %" PRId64 " in input '%s' and %" PRId64
                              " in input '%s'",
                              ERR_TEXT(symbol), seen[at].size, ERR_TEXT(seen[at].io->name),
                              job->inputs[i].dims[d], ERR_TEXT(io->name));
                return;
            }
            if (at == count && count < PERIGEE_TENSORS_MAX) {
                seen[count].symbol = symbol;
                seen[count].io = io;
                seen[count++].size = job->inputs[i].dims[d];
            }
        }
    }
}

static void run_job(struct runtime_model *model, struct runtime_job *job)
{
    struct values values;
    struct err err;

    values_init(&values, model);
    int r = make_inputs(&values, job->inputs, job->input_count, job->block, &err);
    if (r == 0)
        r = add_outputs(&values, job, &err);
    job->ready_ns = job->ran_ns = clock_monotonic_ns();
    if (r == 0) {
        onnx_log_quiet = true; /* it tells of a request's values, which its client alone hears */
        r = values_run(&values, &err);
        if (r < 0 && unbind(model, &values, job, &err)) {
            r = add_outputs(&values, job, &err);
            if (r == 0)
                r = values_run(&values, &err);
        }
        onnx_log_quiet = false;
        if (r < 0)
            blame_dims(model, job, &err);
        job->ran_ns = clock_monotonic_ns();
    }
    for (uint32_t i = 0; r == 0 && i < values.output_count; i++)
        r = answer_output(&values, i, job, &err);
    if (r < 0 && job->status == PERIGEE_DONE)
        fail(job, &err);
    values_deinit(&values);
}

void onnx_run(struct runtime_model *model, struct runtime_job *const *jobs, size_t count)
{
    if (count > 1 && onnx_run_together(model, jobs, count))
        return;
    for (size_t i = 0; i < count; i++)
        run_job(model, jobs[i]);
}

int onnx_warm(struct runtime_model *model, struct err *err)
{
    struct perigee_tensor inputs[PERIGEE_TENSORS_MAX] = {};
    struct values values;
    uint64_t total = 0;
    uint32_t input_count = 0;

    /* Optional inputs come last, and have values of their own. */
    for (uint32_t i = 0; i < model->input_count && !model->inputs[i].optional; i++, input_count++) {
        const struct onnx_io *io = &model->inputs[i];
        uint64_t elements = 0, bytes;
        inputs[i] =
            (struct perigee_tensor){ .index = i, .datatype = io->datatype, .rank = io->rank };
        for (uint32_t d = 0; d < io->rank; d++)
            inputs[i].dims[d] = io->dims[d] < 0 ? 1 : io->dims[d];
        /* A BYTES element of no bytes is a length of 0. */
        uint64_t each = io->datatype == PERIGEE_BYTES ? 4 : datatype_bytes(io->datatype);
        if (!dims_elements(inputs[i].dims, io->rank, &elements) ||
            __builtin_mul_overflow(elements, each, &bytes) || bytes > ZEROS_BYTES_MAX - total)
            return err_set(err, ERR_NOT_SUPPORTED, "its inputs are too large for zeros");
        inputs[i].offset = total;
        inputs[i].bytes = bytes;
        total += (bytes + PERIGEE_TENSOR_ALIGN - 1) & ~(uint64_t)(PERIGEE_TENSOR_ALIGN - 1);
        total = total > ZEROS_BYTES_MAX ? ZEROS_BYTES_MAX : total;
    }
    auto_free char *zeros = aligned_alloc(PERIGEE_TENSOR_ALIGN, total + PERIGEE_TENSOR_ALIGN);
    if (!zeros)
        return err_set(err, ERR_TOO_LARGE, "no memory for zeros");
    memset(zeros, 0, total + PERIGEE_TENSOR_ALIGN);
    values_init(&values, model);
    for (uint32_t i = 0; i < model->output_count; i++)
        (void)values_output(&values, i);
    int r = make_inputs(&values, inputs, input_count, zeros, err);
    onnx_log_quiet =
        true; /* that zeros do not give the shapes declared is nothing to tell anybody */
    if (r == 0)
        r = values_run(&values, err);
    onnx_log_quiet = false;
    values_deinit(&values);
    return r;
}
