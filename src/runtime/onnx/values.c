/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/onnx/values.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "contract/ring.h"
#include "runtime/runtime.h"

void values_release_outputs(struct values *values)
{
    for (uint32_t i = 0; i < values->output_count; i++) {
        if (values->outputs[i])
            values->model->api->ReleaseValue(values->outputs[i]);
    }
    values->output_count = 0;
}

void values_deinit(struct values *values)
{
    for (uint32_t i = 0; i < values->input_count; i++) {
        if (values->inputs[i])
            values->model->api->ReleaseValue(values->inputs[i]);
    }
    values_release_outputs(values);
}

/* ---- inputs ---------------------------------------------------------------------------------- */

static OrtValue **add_input(struct values *values, const struct onnx_io *io)
{
    uint32_t at = values->input_count++;

    values->input_names[at] = io->name;
    values->inputs[at] = NULL;
    return &values->inputs[at];
}

int values_input(struct values *values, const struct perigee_tensor *tensor, const char *memory,
                 struct err *err)
{
    const struct runtime_model *model = values->model;
    const struct onnx_io *io = &model->inputs[tensor->index];
    OrtValue **value = add_input(values, io);

    return onnx_check(model,
                      model->api->CreateTensorWithDataAsOrtValue(
                          model->memory, (void *)(uintptr_t)memory, tensor->bytes, tensor->dims,
                          tensor->rank, io->element, value),
                      "", err);
}

int values_input_strings(struct values *values, const struct perigee_tensor *tensor,
                         struct err *err)
{
    const struct runtime_model *model = values->model;
    const struct onnx_io *io = &model->inputs[tensor->index];
    OrtValue **value = add_input(values, io);

    return onnx_check(model,
                      model->api->CreateTensorAsOrtValue(model->allocator, tensor->dims,
                                                         tensor->rank, io->element, value),
                      "", err);
}

static int fill(const struct values *values, uint64_t first, uint64_t elements, const char *data,
                uint64_t bytes, struct err *err)
{
    const struct runtime_model *model = values->model;
    OrtValue *value = values->inputs[values->input_count - 1];

    for (uint64_t i = 0; i < elements; i++) {
        uint32_t length;
        char *buffer = NULL;
        if (bytes < sizeof length)
            return err_set(err, ERR_BAD_INPUT, "element %" PRIu64 " of BYTES is cut", i);
        copy_once(&length, data, sizeof length);
        data += sizeof length;
        bytes -= sizeof length;
        if (length > bytes)
            return err_set(err, ERR_BAD_INPUT,
                           "element %" PRIu64 " of BYTES says %" PRIu32 " bytes, and %" PRIu64
                           " are left",
                           i, length, bytes);
        int r = onnx_check(
            model,
            model->api->GetResizedStringTensorElementBuffer(value, first + i, length, &buffer), "",
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

int values_fill(struct values *values, uint64_t first, const struct perigee_tensor *tensor,
                const char *memory, struct err *err)
{
    const struct onnx_io *io = &values->model->inputs[tensor->index];
    uint64_t elements = 0;

    if (!dims_elements(tensor->dims, tensor->rank, &elements))
        return err_set(err, ERR_BAD_INPUT, "input '%s' has too many elements", ERR_TEXT(io->name));
    int r = fill(values, first, elements, memory, tensor->bytes, err);
    return r < 0 ? err_wrap(err, "input '%s'", ERR_TEXT(io->name)) : 0;
}

/* ---- outputs --------------------------------------------------------------------------------- */

uint32_t values_output(struct values *values, uint32_t index)
{
    uint32_t at = values->output_count++;

    values->indexes[at] = index;
    values->output_names[at] = values->model->outputs[index].name;
    values->outputs[at] = NULL;
    values->places[at] = NULL;
    return at;
}

bool output_shape(const struct onnx_io *output, const struct perigee_tensor *inputs,
                  uint32_t input_count, int64_t dims[static PERIGEE_RANK_MAX], uint64_t *ret_bytes)
{
    uint64_t elements = 0;

    if (!output->bound)
        return false;
    for (uint32_t d = 0; d < output->rank; d++) {
        const struct onnx_dim *source = &output->sources[d];
        const struct perigee_tensor *from = NULL;
        dims[d] = source->value;
        if (source->value >= 0)
            continue;
        for (uint32_t i = 0; i < input_count && !from; i++) {
            if (inputs[i].index == source->input)
                from = &inputs[i];
        }
        if (!from)
            return false;
        dims[d] = from->dims[source->at];
    }
    if (!dims_elements(dims, output->rank, &elements) ||
        __builtin_mul_overflow(elements, (uint64_t)datatype_bytes(output->datatype), ret_bytes))
        *ret_bytes = UINT64_MAX;
    return true;
}

int values_bind(struct values *values, uint32_t at, void *memory, const int64_t *dims,
                uint64_t bytes, struct err *err)
{
    const struct runtime_model *model = values->model;
    const struct onnx_io *output = &model->outputs[values->indexes[at]];

    int r = onnx_check(
        model,
        model->api->CreateTensorWithDataAsOrtValue(model->memory, memory, bytes, dims, output->rank,
                                                   output->element, &values->outputs[at]),
        "", err);
    if (r < 0)
        return r;
    values->places[at] = memory;
    values->place_bytes[at] = bytes;
    memcpy(values->dims[at], dims, output->rank * sizeof *dims);
    return 0;
}

int values_run(struct values *values, struct err *err)
{
    const struct runtime_model *model = values->model;

    return onnx_check(model,
                      model->api->Run(model->session, NULL, values->input_names,
                                      (const OrtValue *const *)values->inputs, values->input_count,
                                      values->output_names, values->output_count, values->outputs),
                      "", err);
}

static int read_shape(const struct runtime_model *model, const OrtValue *value, const char *name,
                      struct output *ret, struct err *err)
{
    const OrtApi *api = model->api;
    ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    OrtTensorTypeAndShapeInfo *info = NULL;
    size_t rank = 0;
    int is_tensor = 0;

    if (!value || onnx_check(model, api->IsTensor(value, &is_tensor), "", err) < 0 || !is_tensor)
        return err_set(err, ERR_INTERNAL, "output '%s' is no tensor", ERR_TEXT(name));
    int r = onnx_check(model, api->GetTensorTypeAndShape(value, &info), "", err);
    if (r < 0)
        return r;
    r = onnx_check(model, api->GetTensorElementType(info, &element), "", err);
    if (r == 0)
        r = onnx_check(model, api->GetDimensionsCount(info, &rank), "", err);
    if (r == 0 && rank > PERIGEE_RANK_MAX)
        r = err_set(err, ERR_INTERNAL, "output '%s' has %zu dimensions", ERR_TEXT(name), rank);
    if (r == 0)
        r = onnx_check(model, api->GetDimensions(info, ret->dims, rank), "", err);
    api->ReleaseTensorTypeAndShapeInfo(info);
    ret->rank = (uint32_t)rank;
    ret->datatype = onnx_datatype(element);
    return r;
}

int values_look(const struct values *values, uint32_t at, struct output *ret, struct err *err)
{
    const struct runtime_model *model = values->model;
    const struct onnx_io *output = &model->outputs[values->indexes[at]];
    OrtValue *value = values->outputs[at];
    void *data = NULL;

    ret->index = values->indexes[at];
    ret->value = value;
    ret->data = NULL;
    ret->bytes = 0;
    if (values->places[at]) {
        /* In our memory it has our shape: ONNX Runtime refuses to write another there. */
        int r = onnx_check(model, model->api->GetTensorMutableData(value, &data), "", err);
        if (r < 0)
            return r;
        if (data == values->places[at]) {
            ret->datatype = output->datatype;
            ret->rank = output->rank;
            memcpy(ret->dims, values->dims[at], output->rank * sizeof *ret->dims);
            ret->data = data;
            ret->bytes = values->place_bytes[at];
            return 0;
        }
    }
    int r = read_shape(model, value, output->name, ret, err);
    if (r < 0)
        return r;
    if (ret->datatype == 0 || !dims_elements(ret->dims, ret->rank, &ret->elements) ||
        __builtin_mul_overflow(ret->elements, (uint64_t)datatype_bytes(ret->datatype), &ret->bytes))
        return err_set(err, ERR_INTERNAL, "output '%s' has an odd type or shape",
                       ERR_TEXT(output->name));
    if (ret->datatype == PERIGEE_BYTES)
        return 0;
    r = onnx_check(model, model->api->GetTensorMutableData(value, &data), "", err);
    ret->data = data;
    return r;
}

/* Each element as its length and its bytes, written from the value to the slot at once. */
int output_add_strings(const struct runtime_model *model, const struct output *output,
                       uint64_t first, uint64_t count, const int64_t *dims, struct runtime_job *job,
                       struct err *err)
{
    const OrtApi *api = model->api;
    uint64_t bytes = 0;
    size_t size = 0;
    int r = 0;

    for (uint64_t i = first; r == 0 && i < first + count; i++) {
        r = onnx_check(model, api->GetStringTensorElementLength(output->value, i, &size), "", err);
        bytes += sizeof(uint32_t) + size;
    }
    if (r < 0)
        return r;
    char *place = answer_place(job->answer, bytes), *to = place;
    if (!place) {
        answer_too_large(job->answer, job, model->outputs[output->index].name, bytes);
        return ERR_TOO_LARGE;
    }
    for (uint64_t i = first; i < first + count; i++) {
        r = onnx_check(model, api->GetStringTensorElementLength(output->value, i, &size), "", err);
        if (r < 0)
            return r;
        uint32_t length = (uint32_t)size;
        memcpy(to, &length, sizeof length);
        to += sizeof length;
        r = size == 0 ? 0
                      : onnx_check(model, api->GetStringTensorElement(output->value, size, i, to),
                                   "", err);
        if (r < 0)
            return r;
        to += size;
    }
    assert(to == place + bytes);
    answer_add(job->answer, output->index, PERIGEE_BYTES, dims, output->rank, place, bytes);
    return 0;
}
