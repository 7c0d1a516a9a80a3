/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inputs are used where they lie, in memory that can only be read; ONNX Runtime does not write to
 * them. An output whose shape can be said beforehand is bound to its place in the slot. ONNX
 * Runtime may still hand back other memory (an input passed through), so the pointer is looked at,
 * not assumed. A model whose declared shapes are wrong is found out once and then no longer bound.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "contract/ring.h"
#include "runtime/onnx/onnx.h"
#include "runtime/runtime.h"
#include "sys/clock.h"

#define ZEROS_BYTES_MAX (UINT64_C(256) << 20)

/* What a run needs, released together. */
struct values {
    const struct runtime_model *model;
    const char *input_names[PERIGEE_TENSORS_MAX], *output_names[PERIGEE_TENSORS_MAX];
    OrtValue *inputs[PERIGEE_TENSORS_MAX], *outputs[PERIGEE_TENSORS_MAX];
    uint32_t indexes[PERIGEE_TENSORS_MAX]; /* of the outputs, in the model */
    void *places[PERIGEE_TENSORS_MAX];     /* where bound outputs are in the slot */
    uint64_t place_bytes[PERIGEE_TENSORS_MAX];
    uint32_t input_count, output_count;
};

static void release_outputs(struct values *values)
{
    for (uint32_t i = 0; i < values->output_count; i++) {
        if (values->outputs[i])
            values->model->api->ReleaseValue(values->outputs[i]);
        values->outputs[i] = NULL;
        values->places[i] = NULL;
    }
}

static void release(struct values *values)
{
    for (uint32_t i = 0; i < values->input_count; i++) {
        if (values->inputs[i])
            values->model->api->ReleaseValue(values->inputs[i]);
    }
    release_outputs(values);
}

static void fail(struct runtime_job *job, const struct err *err)
{
    enum perigee_completion_status status = err->code == ERR_BAD_INPUT   ? PERIGEE_BAD_INPUT
                                            : err->code == ERR_TOO_LARGE ? PERIGEE_TOO_LARGE
                                                                         : PERIGEE_FAULT;
    /* Out of memory is no fault of the answer's size. */
    job_fail(job, status == PERIGEE_TOO_LARGE ? PERIGEE_FAULT : status, "%s", err->message);
}

/* ---- inputs ---------------------------------------------------------------------------------- */

/* Each length is copied once, then checked, then used. */
static int fill_strings(const struct runtime_model *model, OrtValue *value, const char *data,
                        uint64_t bytes, uint64_t elements, struct err *err)
{
    for (uint64_t i = 0; i < elements; i++) {
        uint32_t length;
        char *buffer = NULL;
        if (bytes < sizeof length)
            return err_set(err, ERR_BAD_INPUT, "element %" PRIu64 " of BYTES is cut", i);
        memcpy(&length, data, sizeof length);
        data += sizeof length;
        bytes -= sizeof length;
        if (length > bytes)
            return err_set(err, ERR_BAD_INPUT,
                           "element %" PRIu64 " of BYTES says %" PRIu32 " bytes, and %" PRIu64
                           " are left",
                           i, length, bytes);
        int r = onnx_check(
            model, model->api->GetResizedStringTensorElementBuffer(value, i, length, &buffer), "",
            err);
        if (r < 0)
            return r;
        memcpy(buffer, data, length);
        data += length;
        bytes -= length;
    }
    if (bytes > 0)
        return err_set(err, ERR_BAD_INPUT, "%" PRIu64 " bytes follow the last element of BYTES",
                       bytes);
    return 0;
}

static int make_input(const struct runtime_model *model, const struct perigee_tensor *tensor,
                      const char *block, OrtValue **ret, struct err *err)
{
    const struct onnx_io *io = &model->inputs[tensor->index];
    void *data = (void *)(uintptr_t)(block + tensor->offset);

    if (tensor->datatype != PERIGEE_BYTES)
        return onnx_check(
            model,
            model->api->CreateTensorWithDataAsOrtValue(
                model->memory, data, tensor->bytes, tensor->dims, tensor->rank, io->element, ret),
            "", err);
    uint64_t elements = 0;
    if (!dims_elements(tensor->dims, tensor->rank, &elements))
        return err_set(err, ERR_BAD_INPUT, "input '%s' has too many elements", ERR_TEXT(io->name));
    int r = onnx_check(model,
                       model->api->CreateTensorAsOrtValue(model->allocator, tensor->dims,
                                                          tensor->rank, io->element, ret),
                       "", err);
    if (r < 0)
        return r;
    r = fill_strings(model, *ret, data, tensor->bytes, elements, err);
    return r < 0 ? err_wrap(err, "input '%s'", ERR_TEXT(io->name)) : 0;
}

static int make_inputs(struct values *values, const struct perigee_tensor *inputs, uint32_t count,
                       const char *block, struct err *err)
{
    for (uint32_t i = 0; i < count; i++) {
        values->input_names[i] = values->model->inputs[inputs[i].index].name;
        values->input_count = i + 1;
        int r = make_input(values->model, &inputs[i], block, &values->inputs[i], err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- outputs --------------------------------------------------------------------------------- */

static bool said_shape(const struct onnx_io *output, const struct runtime_job *job, int64_t *dims)
{
    for (uint32_t d = 0; d < output->rank; d++) {
        const struct onnx_dim *source = &output->sources[d];
        dims[d] = source->value;
        if (source->value >= 0)
            continue;
        const struct perigee_tensor *from = NULL;
        for (uint32_t i = 0; i < job->input_count && !from; i++) {
            if (job->inputs[i].index == source->input)
                from = &job->inputs[i];
        }
        if (!from)
            return false;
        dims[d] = from->dims[source->at];
    }
    return true;
}

/* Places the output in the slot and makes a tensor over it. Returns 0 too when it is not bound. */
static int bind_output(struct values *values, uint32_t at, struct runtime_job *job, struct err *err)
{
    const struct runtime_model *model = values->model;
    const struct onnx_io *output = &model->outputs[values->indexes[at]];
    int64_t dims[PERIGEE_RANK_MAX] = {};
    uint64_t elements = 0, bytes = 0;

    if (!output->bound || !said_shape(output, job, dims))
        return 0;
    if (!dims_elements(dims, output->rank, &elements) ||
        __builtin_mul_overflow(elements, (uint64_t)datatype_bytes(output->datatype), &bytes))
        bytes = UINT64_MAX;
    void *place = answer_place(job->answer, bytes);
    if (!place) {
        answer_too_large(job->answer, job, output->name, bytes);
        return err_set(err, ERR_TOO_LARGE, "%s", job->message);
    }
    int r = onnx_check(model,
                       model->api->CreateTensorWithDataAsOrtValue(model->memory, place, bytes, dims,
                                                                  output->rank, output->element,
                                                                  &values->outputs[at]),
                       "", err);
    if (r < 0)
        return r;
    values->places[at] = place;
    values->place_bytes[at] = bytes;
    return 0;
}

static int bind_outputs(struct values *values, struct runtime_job *job, struct err *err)
{
    values->output_count = 0;
    for (uint32_t i = 0; i < values->model->output_count; i++) {
        if (!(job->outputs_wanted & UINT64_C(1) << i))
            continue;
        uint32_t at = values->output_count++;
        values->indexes[at] = i;
        values->output_names[at] = values->model->outputs[i].name;
        int r = bind_output(values, at, job, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Each element as its length and its bytes. Written from the value to the slot at once. */
static int add_strings(const struct runtime_model *model, const struct onnx_io *output,
                       uint32_t index, const OrtValue *value, const int64_t *dims, uint32_t rank,
                       struct runtime_job *job, struct err *err)
{
    uint64_t elements = 0;
    size_t text = 0;

    if (!dims_elements(dims, rank, &elements))
        return err_set(err, ERR_INTERNAL, "output '%s' has an odd shape", ERR_TEXT(output->name));
    int r = onnx_check(model, model->api->GetStringTensorDataLength(value, &text), "", err);
    if (r < 0)
        return r;
    uint64_t bytes = text + elements * sizeof(uint32_t);
    char *place = answer_place(job->answer, bytes), *to = place;
    if (!place) {
        answer_too_large(job->answer, job, output->name, bytes);
        return ERR_TOO_LARGE;
    }
    for (uint64_t i = 0; i < elements; i++) {
        size_t size = 0;
        r = onnx_check(model, model->api->GetStringTensorElementLength(value, i, &size), "", err);
        if (r < 0)
            return r;
        uint32_t length = (uint32_t)size;
        memcpy(to, &length, sizeof length);
        to += sizeof length;
        r = size == 0 ? 0
                      : onnx_check(model, model->api->GetStringTensorElement(value, size, i, to),
                                   "", err);
        if (r < 0)
            return r;
        to += size;
    }
    assert(to == place + bytes);
    answer_add(job->answer, index, PERIGEE_BYTES, dims, rank, place, bytes);
    return 0;
}

static int add_output(struct values *values, uint32_t at, struct runtime_job *job, struct err *err)
{
    const struct runtime_model *model = values->model;
    const OrtApi *api = model->api;
    const struct onnx_io *output = &model->outputs[values->indexes[at]];
    OrtValue *value = values->outputs[at];
    OrtTensorTypeAndShapeInfo *info = NULL;
    ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    int64_t dims[PERIGEE_RANK_MAX] = {};
    uint64_t elements = 0, bytes = 0;
    size_t rank = 0;
    void *data = NULL;
    int is_tensor = 0;

    if (!value || onnx_check(model, api->IsTensor(value, &is_tensor), "", err) < 0 || !is_tensor)
        return err_set(err, ERR_INTERNAL, "output '%s' is no tensor", ERR_TEXT(output->name));
    int r = onnx_check(model, api->GetTensorTypeAndShape(value, &info), "", err);
    if (r < 0)
        return r;
    r = onnx_check(model, api->GetTensorElementType(info, &element), "", err);
    if (r == 0)
        r = onnx_check(model, api->GetDimensionsCount(info, &rank), "", err);
    if (r == 0 && rank > PERIGEE_RANK_MAX)
        r = err_set(err, ERR_INTERNAL, "output '%s' has %zu dimensions", ERR_TEXT(output->name),
                    rank);
    if (r == 0)
        r = onnx_check(model, api->GetDimensions(info, dims, rank), "", err);
    api->ReleaseTensorTypeAndShapeInfo(info);
    if (r < 0)
        return r;
    uint32_t datatype = onnx_datatype(element);
    if (datatype == PERIGEE_BYTES)
        return add_strings(model, output, values->indexes[at], value, dims, (uint32_t)rank, job,
                           err);
    if (datatype == 0 || !dims_elements(dims, (uint32_t)rank, &elements) ||
        __builtin_mul_overflow(elements, (uint64_t)datatype_bytes(datatype), &bytes))
        return err_set(err, ERR_INTERNAL, "output '%s' has an odd type or shape",
                       ERR_TEXT(output->name));
    r = onnx_check(model, api->GetTensorMutableData(value, &data), "", err);
    if (r < 0)
        return r;
    void *place = values->places[at];
    if (!place || values->place_bytes[at] != bytes)
        place = answer_place(job->answer, bytes);
    if (!place) {
        answer_too_large(job->answer, job, output->name, bytes);
        return ERR_TOO_LARGE;
    }
    if (data != place && bytes > 0)
        memcpy(place, data, bytes);
    answer_add(job->answer, values->indexes[at], datatype, dims, (uint32_t)rank, place, bytes);
    return 0;
}

/* ---- a run ----------------------------------------------------------------------------------- */

static int run_once(struct values *values, struct err *err)
{
    const struct runtime_model *model = values->model;

    return onnx_check(model,
                      model->api->Run(model->session, NULL, values->input_names,
                                      (const OrtValue *const *)values->inputs, values->input_count,
                                      values->output_names, values->output_count, values->outputs),
                      "", err);
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
    log_warn("worker", "an output's shape is not what the model declares, copying it from now on",
             LOG_S("reason", err->message));
    for (uint32_t i = 0; i < values->output_count; i++) {
        if (values->places[i]) { /* the first is where all began */
            answer_unplace(job->answer, values->places[i]);
            break;
        }
    }
    release_outputs(values);
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
    struct values values = { .model = model };
    struct err err = {};

    int r = make_inputs(&values, job->inputs, job->input_count, job->block, &err);
    if (r == 0)
        r = bind_outputs(&values, job, &err);
    job->ready_ns = job->ran_ns = clock_monotonic_ns();
    if (r == 0) {
        r = run_once(&values, &err);
        if (r < 0 && unbind(model, &values, job, &err))
            r = run_once(&values, &err);
        if (r < 0)
            blame_dims(model, job, &err);
        job->ran_ns = clock_monotonic_ns();
    }
    for (uint32_t i = 0; r == 0 && i < values.output_count; i++)
        r = add_output(&values, i, job, &err);
    if (r < 0 && job->status == PERIGEE_DONE)
        fail(job, &err);
    release(&values);
}

void onnx_run(struct runtime_model *model, struct runtime_job *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        run_job(model, &jobs[i]);
}

int onnx_warm(struct runtime_model *model, struct err *err)
{
    struct perigee_tensor inputs[PERIGEE_TENSORS_MAX] = {};
    struct values values = { .model = model };
    uint64_t total = 0;

    for (uint32_t i = 0; i < model->input_count; i++) {
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
    for (uint32_t i = 0; i < model->output_count; i++) {
        values.indexes[i] = i;
        values.output_names[i] = model->outputs[i].name;
    }
    values.output_count = model->output_count;
    int r = make_inputs(&values, inputs, model->input_count, zeros, err);
    onnx_log_quiet =
        true; /* that zeros do not give the shapes declared is nothing to tell anybody */
    if (r == 0)
        r = run_once(&values, err);
    onnx_log_quiet = false;
    release(&values);
    return r;
}
