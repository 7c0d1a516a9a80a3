/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the model says of itself. Initializers that a caller may override are optional inputs, but
 * where there are so many that they can only be all of its weights, as some exporters list them.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "base/slice.h"
#include "runtime/onnx/onnx.h"
#include "runtime/runtime.h"

#define PROPERTY_BYTES_MAX 32768 /* names of 1,000 classes and more */

static const struct {
    ONNXTensorElementDataType element;
    uint32_t datatype;
} datatypes[] = {
    { ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, PERIGEE_FP32 },
    { ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, PERIGEE_UINT8 },
    { ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, PERIGEE_INT8 },
    { ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16, PERIGEE_UINT16 },
    { ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16, PERIGEE_INT16 },
    { ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, PERIGEE_INT32 },
    { ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, PERIGEE_INT64 },
    { ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING, PERIGEE_BYTES },
    { ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, PERIGEE_BOOL },
    { ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, PERIGEE_FP16 },
    { ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE, PERIGEE_FP64 },
    { ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32, PERIGEE_UINT32 },
    { ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64, PERIGEE_UINT64 },
    { ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16, PERIGEE_BF16 },
};

uint32_t onnx_datatype(ONNXTensorElementDataType element)
{
    for (size_t i = 0; i < sizeof datatypes / sizeof *datatypes; i++) {
        if (datatypes[i].element == element)
            return datatypes[i].datatype;
    }
    return 0;
}

static const char *kind_name(enum ONNXType type)
{
    switch (type) {
    case ONNX_TYPE_SEQUENCE:
        return "a sequence";
    case ONNX_TYPE_MAP:
        return "a map";
    case ONNX_TYPE_SPARSETENSOR:
        return "a sparse tensor";
    case ONNX_TYPE_OPTIONAL:
        return "an optional value";
    case ONNX_TYPE_TENSOR:
        return "a tensor";
    default:
        return "of an unknown kind";
    }
}

static const char *element_name(ONNXTensorElementDataType element)
{
    switch (element) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_COMPLEX64:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_COMPLEX128:
        return "complex numbers";
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT4:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT4:
        return "4-bit integers";
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E4M3FN:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E4M3FNUZ:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E5M2:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E5M2FNUZ:
        return "8-bit floats";
    default:
        return "a type the Open Inference Protocol has no name for";
    }
}

static int read_shape(struct runtime_model *model, const OrtTensorTypeAndShapeInfo *info,
                      struct onnx_io *io, const char *what, struct err *err)
{
    const OrtApi *api = model->api;
    size_t rank = 0;

    if (onnx_check(model, api->GetTensorElementType(info, &io->element), "", err) < 0 ||
        onnx_check(model, api->GetDimensionsCount(info, &rank), "", err) < 0)
        return ERR_INTERNAL;
    io->datatype = onnx_datatype(io->element);
    if (io->datatype == 0)
        return err_set(err, ERR_NOT_SUPPORTED, "%s '%s' holds %s, which Perigee does not serve",
                       what, ERR_TEXT(io->name), element_name(io->element));
    if (rank > PERIGEE_RANK_MAX)
        return err_set(err, ERR_NOT_SUPPORTED, "%s '%s' has %zu dimensions; at most %u are served",
                       what, ERR_TEXT(io->name), rank, PERIGEE_RANK_MAX);
    io->rank = (uint32_t)rank;
    if (onnx_check(model, api->GetDimensions(info, io->dims, rank), "", err) < 0 ||
        onnx_check(model, api->GetSymbolicDimensions(info, io->symbols, rank), "", err) < 0)
        return ERR_INTERNAL;
    for (size_t i = 0; i < rank; i++) {
        if (io->dims[i] < 0)
            io->dims[i] = -1;
        if (io->dims[i] >= 0 || (io->symbols[i] && !utf8_valid(slice_of(io->symbols[i]))))
            io->symbols[i] = NULL;
    }
    return 0;
}

typedef OrtStatus *(ORT_API_CALL *name_getter)(const OrtSession *session, size_t index,
                                               OrtAllocator *allocator, char **name);
typedef OrtStatus *(ORT_API_CALL *type_getter)(const OrtSession *session, size_t index,
                                               OrtTypeInfo **info);

/* The type information is kept: the symbols' names are its. */
static int read_io(struct runtime_model *model, size_t index, name_getter get_name,
                   type_getter get_type, struct onnx_io *io, const char *what, struct err *err)
{
    const OrtApi *api = model->api;
    const OrtTensorTypeAndShapeInfo *info = NULL;
    enum ONNXType type = ONNX_TYPE_UNKNOWN;
    OrtTypeInfo *type_info = NULL;

    if (onnx_check(model, get_name(model->session, index, model->allocator, &io->name), "", err) <
            0 ||
        onnx_check(model, get_type(model->session, index, &type_info), "", err) < 0 ||
        onnx_check(model, api->GetOnnxTypeFromTypeInfo(type_info, &type), "", err) < 0)
        return ERR_INTERNAL;
    if (type != ONNX_TYPE_TENSOR)
        return err_set(err, ERR_NOT_SUPPORTED, "%s '%s' is %s; Perigee serves tensors only", what,
                       ERR_TEXT(io->name), kind_name(type));
    if (onnx_check(model, api->CastTypeInfoToTensorInfo(type_info, &info), "", err) < 0)
        return ERR_INTERNAL;
    return read_shape(model, info, io, what, err);
}

static int write_io(const struct onnx_io *io, struct model_writer *writer,
                    int (*write)(struct model_writer *, const struct model_io *, struct err *),
                    struct err *err)
{
    struct model_io row = { .name = io->name,
                            .datatype = io->datatype,
                            .rank = io->rank,
                            .flags = io->optional ? PERIGEE_IO_OPTIONAL : 0 };

    memcpy(row.dims, io->dims, sizeof row.dims);
    memcpy(row.symbols, io->symbols, sizeof row.symbols);
    return write(writer, &row, err);
}

/* ---- shapes of outputs, said before a run ---------------------------------------------------- */

static bool same_name(const char *a, const char *b)
{
    return a && b && a[0] && strcmp(a, b) == 0;
}

/* Whether another dimension of an input than its first has this name; an optional one's first is
 * another, for it has no row for each. */
static bool names_inner(const struct runtime_model *model, const char *symbol)
{
    for (uint32_t i = 0; i < model->input_count; i++) {
        for (uint32_t d = !model->inputs[i].optional; d < model->inputs[i].rank; d++) {
            if (same_name(model->inputs[i].symbols[d], symbol))
                return true;
        }
    }
    return false;
}

/* Rows of several requests may be one batch: the first dimension of everything is open, inputs that
 * name it agree, and it is no other dimension as well. Optional inputs do not count: a request that
 * has one runs alone (batch_rows()). Outputs may name it differently, as converted models do:
 * whether they have a row for each is seen when a batch ran. */
static int check_batch(const struct runtime_model *model, struct err *err)
{
    const char *name = NULL;

    if (model->input_count == 0 || model->inputs[0].optional || model->output_count == 0)
        return err_set(err, ERR_NOT_SUPPORTED, "it has no inputs or no outputs");
    /* the optional ones are the last */
    for (uint32_t i = 0; i < model->input_count && !model->inputs[i].optional; i++) {
        const struct onnx_io *io = &model->inputs[i];
        if (io->rank == 0 || io->dims[0] != -1)
            return err_set(err, ERR_NOT_SUPPORTED, "the first dimension of input '%s' is not open",
                           ERR_TEXT(io->name));
        if (!io->symbols[0] || !io->symbols[0][0])
            continue;
        if ((name && !same_name(name, io->symbols[0])) || names_inner(model, io->symbols[0]))
            return err_set(err, ERR_NOT_SUPPORTED,
                           "the first dimension of input '%s' is '%s', which is not (or not only) "
                           "the first of the others",
                           ERR_TEXT(io->name), ERR_TEXT(io->symbols[0]));
        name = io->symbols[0];
    }
    for (uint32_t i = 0; i < model->output_count; i++) {
        const struct onnx_io *io = &model->outputs[i];
        if (io->rank == 0 || io->dims[0] != -1 || names_inner(model, io->symbols[0]))
            return err_set(err, ERR_NOT_SUPPORTED,
                           "the first dimension of output '%s' is not that of the inputs",
                           ERR_TEXT(io->name));
    }
    return 0;
}

static bool find_symbol(const struct runtime_model *model, const char *symbol, struct onnx_dim *ret)
{
    if (!symbol || !symbol[0])
        return false;
    for (uint32_t i = 0; i < model->input_count; i++) {
        for (uint32_t d = 0; d < model->inputs[i].rank; d++) {
            const char *other = model->inputs[i].symbols[d];
            if (other && strcmp(other, symbol) == 0) {
                *ret = (struct onnx_dim){ -1, i, d };
                return true;
            }
        }
    }
    return false;
}

static void find_sources(struct runtime_model *model, struct onnx_io *output, bool batch)
{
    output->bound = output->datatype != PERIGEE_BYTES;
    for (uint32_t d = 0; d < output->rank; d++) {
        if (output->dims[d] >= 0)
            output->sources[d].value = output->dims[d];
        else if (find_symbol(model, output->symbols[d], &output->sources[d]))
            continue;
        else if (d == 0 && batch)
            output->sources[d] = (struct onnx_dim){ -1, 0, 0 };
        else
            output->bound = false;
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void write_properties(struct runtime_model *model, struct model_writer *writer)
{
    const OrtApi *api = model->api;
    OrtModelMetadata *metadata = NULL;
    char **keys = NULL;
    int64_t count = 0;
    struct err err = {};

    if (onnx_check(model, api->SessionGetModelMetadata(model->session, &metadata), "", &err) < 0 ||
        onnx_check(
            model,
            api->ModelMetadataGetCustomMetadataMapKeys(metadata, model->allocator, &keys, &count),
            "", &err) < 0)
        return;
    for (int64_t i = 0; i < count; i++) {
        char *value = NULL;
        int r = onnx_check(
            model,
            api->ModelMetadataLookupCustomMetadataMap(metadata, model->allocator, keys[i], &value),
            "", &err);
        if (r == 0 && value && strlen(value) > PROPERTY_BYTES_MAX)
            r = err_set(&err, ERR_TOO_LARGE, "longer than %d bytes", PROPERTY_BYTES_MAX);
        if (r == 0)
            r = model_property(writer, keys[i], value ? value : "", &err);
        if (r < 0)
            log_warn("worker", "a property of the model cannot be kept, ignoring",
                     LOG_S("key", keys[i]), LOG_S("reason", err.message));
        if (value)
            (void)onnx_check(model, api->AllocatorFree(model->allocator, value), "", NULL);
        (void)onnx_check(model, api->AllocatorFree(model->allocator, keys[i]), "", NULL);
    }
    if (keys)
        (void)onnx_check(model, api->AllocatorFree(model->allocator, keys), "", NULL);
    api->ReleaseModelMetadata(metadata);
}

static int read_inputs(struct runtime_model *model, size_t count, bool optional, name_getter name,
                       type_getter type, struct model_writer *writer, struct err *err)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < count; i++) {
        struct onnx_io *io = &model->inputs[model->input_count];
        io->optional = optional;
        r = read_io(model, i, name, type, io, "input", err);
        if (r == 0)
            r = write_io(io, writer, model_input, err);
        model->input_count += r == 0;
    }
    return r;
}

static int read_optional(struct runtime_model *model, struct model_writer *writer, struct err *err)
{
    const OrtApi *api = model->api;
    size_t count = 0;

    if (onnx_check(model, api->SessionGetOverridableInitializerCount(model->session, &count), "",
                   err) < 0)
        return ERR_INTERNAL;
    if (count > PERIGEE_TENSORS_MAX - model->input_count) {
        log_warn("worker",
                 "initializers that could be overridden are too many for inputs, ignoring",
                 LOG_U("count", count));
        return 0;
    }
    return read_inputs(model, count, true, api->SessionGetOverridableInitializerName,
                       api->SessionGetOverridableInitializerTypeInfo, writer, err);
}

int onnx_describe(struct runtime_model *model, const struct runtime_load *load,
                  struct model_writer *writer, struct err *err)
{
    const OrtApi *api = model->api;
    size_t inputs = 0, outputs = 0;
    struct err why;

    if (onnx_check(model, api->SessionGetInputCount(model->session, &inputs), "", err) < 0 ||
        onnx_check(model, api->SessionGetOutputCount(model->session, &outputs), "", err) < 0)
        return ERR_INTERNAL;
    if (inputs > PERIGEE_TENSORS_MAX || outputs > PERIGEE_TENSORS_MAX)
        return err_set(err, ERR_NOT_SUPPORTED,
                       "the model has %zu inputs and %zu outputs; at most %u of each are served",
                       inputs, outputs, PERIGEE_TENSORS_MAX);
    int r = model_platform(writer, "onnxruntime_onnx", err);
    if (r == 0)
        r = read_inputs(model, inputs, false, api->SessionGetInputName,
                        api->SessionGetInputTypeInfo, writer, err);
    if (r == 0)
        r = read_optional(model, writer, err);
    for (size_t i = 0; r == 0 && i < outputs; i++) {
        r = read_io(model, i, api->SessionGetOutputName, api->SessionGetOutputTypeInfo,
                    &model->outputs[i], "output", err);
        if (r == 0)
            r = write_io(&model->outputs[i], writer, model_output, err);
    }
    if (r < 0)
        return r;
    model->output_count = (uint32_t)outputs;
    bool batch = check_batch(model, &why) == 0;
    for (uint32_t i = 0; i < model->output_count; i++)
        find_sources(model, &model->outputs[i], batch);
    model_batch(writer, batch ? load->batch_max : PERIGEE_BATCH_NONE);
    if (!batch && load->batch_max > 1)
        log_warn("worker", "batch is set and has no effect: this model's requests run alone",
                 LOG_S("because", why.message));
    write_properties(model, writer);
    return 0;
}
