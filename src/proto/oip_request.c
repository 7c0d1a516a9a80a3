/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/oip.h"

#include <inttypes.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "proto/json_scan.h"
#include "proto/oip_data.h"

#define OIP_TENSORS_MAX 64 /* of a request; as in the worker contract */
#define OIP_ID_BYTES_MAX 1024

struct reader {
    struct json_scan scan;
    struct arena *arena;
    const struct oip_model *model;
    struct oip_request *request;
    const struct oip_limits *limits;
    bool binary_all;      /* binary_data_output */
    uint64_t inputs_seen; /* bits */
    uint64_t outputs_seen;
    bool *wanted_said; /* per wanted output: binary_data was given */
    struct err *err;
};

/* --- parameters ----------------------------------------------------------------------------- */

/* A parameter that is known and not acted upon is refused, unless it says "no" or "none". */
static int parameter_refused(struct reader *reader, struct slice key)
{
    const char *at;
    char first;
    int r;

    first = json_scan_peek(&reader->scan);
    at = reader->scan.at;
    r = json_scan_skip(&reader->scan, reader->err);
    if (r < 0)
        return r;
    struct slice value = { at, (size_t)(reader->scan.at - at) };
    if (first == 'f' || slice_is(value, "0") || slice_is(value, "\"\""))
        return 0;
    return err_set(reader->err, ERR_NOT_SUPPORTED, "parameter '%s' is not supported",
                   ERR_SLICE(key));
}

/* Free-form by the protocol: a string, a number or a truth value. */
static int parameter_ignored(struct reader *reader, struct slice key)
{
    char first = json_scan_peek(&reader->scan);

    if (slice_starts(key, SLICE("triton_")) || slice_starts(key, SLICE("shared_memory_")))
        return err_set(reader->err, ERR_NOT_SUPPORTED, "parameter '%s' is not supported",
                       ERR_SLICE(key));
    if (first == '{' || first == '[' || first == 'n')
        return json_scan_fail(&reader->scan, reader->scan.at,
                              "a parameter is a string, a number, true or false", reader->err);
    return json_scan_skip(&reader->scan, reader->err);
}

static int request_parameters(struct reader *reader)
{
    struct oip_request *request = reader->request;
    struct json_keys keys;
    struct slice key;
    int r = json_scan_object(&reader->scan, &keys, reader->err);

    while (r >= 0 && (r = json_scan_key(&reader->scan, &keys, &key, reader->err)) > 0) {
        if (slice_is(key, "binary_data_output")) {
            r = json_scan_bool(&reader->scan, &reader->binary_all, reader->err);
        } else if (slice_is(key, "priority")) {
            r = json_scan_u64(&reader->scan, &request->priority, reader->err);
            request->has_priority = request->priority != 0; /* 0: as if not said */
        } else if (slice_is(key, "timeout")) {
            r = json_scan_u64(&reader->scan, &request->timeout_us, reader->err);
            request->has_timeout = request->timeout_us != 0;
        } else if (slice_is(key, "sequence_id") || slice_is(key, "sequence_start") ||
                   slice_is(key, "sequence_end")) {
            r = parameter_refused(reader, key);
        } else {
            r = parameter_ignored(reader, key);
        }
        if (r < 0)
            return err_wrap(reader->err, "parameters");
    }
    return r;
}

struct tensor_parameters {
    bool has_binary, binary, has_size;
    uint64_t size;
    uint64_t classes;
};

static int tensor_parameters(struct reader *reader, struct tensor_parameters *ret)
{
    struct json_keys keys;
    struct slice key;
    int r = json_scan_object(&reader->scan, &keys, reader->err);

    while (r >= 0 && (r = json_scan_key(&reader->scan, &keys, &key, reader->err)) > 0) {
        if (slice_is(key, "binary_data")) {
            ret->has_binary = true;
            r = json_scan_bool(&reader->scan, &ret->binary, reader->err);
        } else if (slice_is(key, "binary_data_size")) {
            ret->has_size = true;
            r = json_scan_u64(&reader->scan, &ret->size, reader->err);
        } else if (slice_is(key, "classification")) {
            r = json_scan_u64(&reader->scan, &ret->classes, reader->err);
        } else {
            r = parameter_ignored(reader, key);
        }
    }
    return r;
}

/* --- inputs --------------------------------------------------------------------------------- */

enum { HAS_NAME = 1, HAS_SHAPE = 2, HAS_TYPE = 4, HAS_DATA = 8 };

struct input_text {
    struct slice name, type, data;
    struct tensor_shape shape;
    struct tensor_parameters parameters;
    unsigned has;
};

static int find(const struct tensor_meta *metas, uint32_t count, struct slice name)
{
    for (uint32_t i = 0; i < count; i++)
        if (slice_equal(metas[i].name, name))
            return (int)i;
    return -1;
}

/* "'a', 'b', ..." for messages that say what there is. */
static const char *names_of(struct arena *arena, const struct tensor_meta *metas, uint32_t count)
{
    const char *text = "none";

    for (uint32_t i = 0; i < count && i < 4; i++)
        text = arena_format(arena, "%s%s'%s'%s", i ? text : "", i ? ", " : "",
                            ERR_SLICE(metas[i].name), i == 3 && count > 4 ? " ..." : "");
    return text;
}

static int shape_read(struct reader *reader, struct tensor_shape *ret)
{
    bool first = true;
    int r = json_scan_array(&reader->scan, &first, reader->err);

    ret->rank = 0;
    while (r >= 0 && (r = json_scan_element(&reader->scan, &first, reader->err)) > 0) {
        int64_t size = 0;
        const char *at = reader->scan.at;

        if (ret->rank == TENSOR_RANK_MAX)
            return json_scan_fail(&reader->scan, at, "a shape may have 16 dimensions", reader->err);
        r = json_scan_i64(&reader->scan, &size, reader->err);
        if (r == 0 && size < 0)
            return json_scan_fail(&reader->scan, at, "a dimension cannot be negative", reader->err);
        ret->dims[ret->rank++] = size;
    }
    return r;
}

static int input_read(struct reader *reader, struct input_text *ret)
{
    struct json_scan *scan = &reader->scan;
    struct json_keys keys;
    struct slice key;
    int r = json_scan_object(scan, &keys, reader->err);

    *ret = (struct input_text){};
    while (r >= 0 && (r = json_scan_key(scan, &keys, &key, reader->err)) > 0) {
        if (slice_is(key, "name")) {
            ret->has |= HAS_NAME;
            r = json_scan_string(scan, &ret->name, reader->err);
        } else if (slice_is(key, "shape")) {
            ret->has |= HAS_SHAPE;
            r = shape_read(reader, &ret->shape);
        } else if (slice_is(key, "datatype")) {
            ret->has |= HAS_TYPE;
            r = json_scan_string(scan, &ret->type, reader->err);
        } else if (slice_is(key, "data")) {
            ret->has |= HAS_DATA;
            r = json_scan_extent(scan, &ret->data, reader->err);
        } else if (slice_is(key, "parameters")) {
            r = tensor_parameters(reader, &ret->parameters);
        } else {
            r = json_scan_skip(scan, reader->err);
        }
        if (r < 0)
            return ret->has & HAS_NAME ? err_wrap(reader->err, "input '%s'", ERR_SLICE(ret->name))
                                       : r;
    }
    return r;
}

/* The model's description against what the client says of an input. */
static int input_compare(struct reader *reader, const struct input_text *text,
                         struct oip_input *ret)
{
    const struct oip_model *model = reader->model;
    const struct tensor_meta *meta;
    int index;

    if (!(text->has & HAS_NAME))
        return err_set(reader->err, ERR_BAD_INPUT, "an input has no 'name'");
    index = find(model->inputs, model->input_count, text->name);
    if (index < 0)
        return err_set(reader->err, ERR_BAD_INPUT, "model '%s' has no input '%s'; it has %s",
                       ERR_SLICE(model->name), ERR_SLICE(text->name),
                       names_of(reader->arena, model->inputs, model->input_count));
    if (reader->inputs_seen >> index & 1)
        return err_set(reader->err, ERR_BAD_INPUT, "input '%s' stands here twice",
                       ERR_SLICE(text->name));
    reader->inputs_seen |= UINT64_C(1) << index;
    if (!(text->has & HAS_SHAPE) || !(text->has & HAS_TYPE))
        return err_set(reader->err, ERR_BAD_INPUT, "input '%s' has no '%s'", ERR_SLICE(text->name),
                       text->has & HAS_SHAPE ? "datatype" : "shape");
    meta = &model->inputs[index];
    *ret = (struct oip_input){ .index = (uint32_t)index,
                               .type = tensor_type_of(text->type),
                               .shape = text->shape };
    if (ret->type != meta->type)
        return err_set(reader->err, ERR_BAD_INPUT,
                       "input '%s' has datatype '%s'; model '%s' expects %s", ERR_SLICE(meta->name),
                       ERR_SLICE(text->type), ERR_SLICE(model->name), tensor_type_name(meta->type));
    if (!tensor_fits(meta, &ret->shape))
        return err_set(reader->err, ERR_BAD_INPUT, "input '%s' has shape %s; model '%s' expects %s",
                       ERR_SLICE(meta->name), TENSOR_SHAPE(&ret->shape), ERR_SLICE(model->name),
                       TENSOR_META(meta));
    if (!tensor_elements(&ret->shape, &ret->elements) ||
        (ret->type != TENSOR_BYTES && !tensor_bytes(ret->type, &ret->shape, &ret->bytes)))
        return err_set(reader->err, ERR_TOO_LARGE, "input '%s': a tensor of shape %s is too large",
                       ERR_SLICE(meta->name), TENSOR_SHAPE(&ret->shape));
    return 0;
}

/* Where the bytes come from, and how many they are. */
static int input_source(struct reader *reader, const struct input_text *text,
                        struct oip_input *input)
{
    const struct tensor_parameters *given = &text->parameters;
    struct slice name = text->name;

    if (given->has_size && text->has & HAS_DATA)
        return err_set(reader->err, ERR_BAD_INPUT,
                       "input '%s' has both 'data' and binary_data_size; it may have one",
                       ERR_SLICE(name));
    if (!given->has_size && !(text->has & HAS_DATA))
        return err_set(reader->err, ERR_BAD_INPUT,
                       "input '%s' has neither 'data' nor the parameter binary_data_size",
                       ERR_SLICE(name));
    if (given->has_size) {
        if (input->type != TENSOR_BYTES && given->size != input->bytes)
            return err_set(reader->err, ERR_BAD_INPUT,
                           "input '%s': binary_data_size is %" PRIu64 "; shape %s of %s takes "
                           "%" PRIu64 " bytes",
                           ERR_SLICE(name), given->size, TENSOR_SHAPE(&input->shape),
                           tensor_type_name(input->type), input->bytes);
        if (input->type == TENSOR_BYTES && given->size / 4 < input->elements)
            return err_set(reader->err, ERR_BAD_INPUT,
                           "input '%s': %" PRIu64 " elements need at least %" PRIu64
                           " bytes for their lengths; binary_data_size is %" PRIu64,
                           ERR_SLICE(name), input->elements, input->elements * 4, given->size);
        input->binary = true;
        input->bytes = given->size;
        return 0;
    }
    input->data = text->data;
    /* Each element but the last takes two characters: nothing is allocated for a shape that the
     * text cannot fill. */
    if (input->elements > text->data.size / 2)
        return err_set(reader->err, ERR_BAD_INPUT,
                       "input '%s': data has fewer than the %" PRIu64 " elements that its shape %s "
                       "wants",
                       ERR_SLICE(name), input->elements, TENSOR_SHAPE(&input->shape));
    if (input->type == TENSOR_BYTES)
        return oip_data_read(input, name, NULL, &input->bytes, reader->err);
    return 0;
}

/* Lays an input behind the others in the request's block. */
static int input_place(struct reader *reader, struct oip_input *input)
{
    struct oip_request *request = reader->request;
    uint64_t limit =
        reader->limits->block_bytes_max ? reader->limits->block_bytes_max : TENSOR_BYTES_MAX;
    uint64_t taken;

    if (__builtin_add_overflow(input->bytes, TENSOR_ALIGN - 1, &taken) ||
        (taken &= ~(uint64_t)(TENSOR_ALIGN - 1)) > limit - request->block_bytes)
        return err_set(reader->err, ERR_TOO_LARGE,
                       "the inputs take more than %" PRIu64 " bytes together", limit);
    input->offset = request->block_bytes;
    request->block_bytes += taken;
    request->binary_bytes += input->binary ? input->bytes : 0;
    return 0;
}

static int inputs_read(struct reader *reader)
{
    struct oip_request *request = reader->request;
    bool first = true;
    int r = json_scan_array(&reader->scan, &first, reader->err);

    while (r >= 0 && (r = json_scan_element(&reader->scan, &first, reader->err)) > 0) {
        struct oip_input *input = &request->inputs[request->input_count];
        struct input_text text;

        /* One more than the model has would be unknown or a second one: input_compare() says. */
        r = input_read(reader, &text);
        if (r < 0 || (r = input_compare(reader, &text, input)) < 0 ||
            (r = input_source(reader, &text, input)) < 0 || (r = input_place(reader, input)) < 0)
            return r;
        request->input_count++;
    }
    return r;
}

/* --- outputs -------------------------------------------------------------------------------- */

static int output_add(struct reader *reader, struct slice name,
                      const struct tensor_parameters *parameters)
{
    const struct oip_model *model = reader->model;
    int index = find(model->outputs, model->output_count, name);

    if (index < 0)
        return err_set(reader->err, ERR_BAD_INPUT, "model '%s' has no output '%s'; it has %s",
                       ERR_SLICE(model->name), ERR_SLICE(name),
                       names_of(reader->arena, model->outputs, model->output_count));
    if (reader->outputs_seen >> index & 1)
        return err_set(reader->err, ERR_BAD_INPUT, "output '%s' stands here twice",
                       ERR_SLICE(name));
    reader->outputs_seen |= UINT64_C(1) << index;
    if (parameters->classes > 0 &&
        (model->outputs[index].type == TENSOR_BOOL || model->outputs[index].type == TENSOR_BYTES))
        return err_set(reader->err, ERR_BAD_INPUT,
                       "output '%s' is %s; classification needs numbers", ERR_SLICE(name),
                       tensor_type_name(model->outputs[index].type));
    reader->wanted_said[reader->request->wanted_count] = parameters->has_binary;
    reader->request->wanted[reader->request->wanted_count++] = (struct oip_wanted){
        .index = (uint32_t)index,
        .classes = parameters->classes > UINT32_MAX ? UINT32_MAX : (uint32_t)parameters->classes,
        .binary = parameters->binary,
    };
    return 0;
}

static int output_read(struct reader *reader)
{
    struct tensor_parameters parameters = {};
    struct slice name = {};
    struct json_keys keys;
    struct slice key;
    int r = json_scan_object(&reader->scan, &keys, reader->err);

    while (r >= 0 && (r = json_scan_key(&reader->scan, &keys, &key, reader->err)) > 0) {
        if (slice_is(key, "name"))
            r = json_scan_string(&reader->scan, &name, reader->err);
        else if (slice_is(key, "parameters"))
            r = tensor_parameters(reader, &parameters);
        else
            r = json_scan_skip(&reader->scan, reader->err);
    }
    if (r < 0)
        return r;
    if (!name.data)
        return err_set(reader->err, ERR_BAD_INPUT, "a requested output has no 'name'");
    return output_add(reader, name, &parameters);
}

static int outputs_read(struct reader *reader)
{
    bool first = true;
    int r = json_scan_array(&reader->scan, &first, reader->err);

    while (r >= 0 && (r = json_scan_element(&reader->scan, &first, reader->err)) > 0)
        r = output_read(reader);
    return r;
}

static void outputs_default(struct reader *reader)
{
    struct oip_request *request = reader->request;

    if (request->wanted_count == 0)
        for (uint32_t i = 0; i < reader->model->output_count; i++)
            request->wanted[request->wanted_count++].index = i;
    for (uint32_t i = 0; i < request->wanted_count; i++)
        if (!reader->wanted_said[i])
            request->wanted[i].binary = reader->binary_all;
}

/* --- the whole ------------------------------------------------------------------------------ */

/* As when there is none. */
static bool all_optional(const struct oip_model *model)
{
    bool all = true;

    for (uint32_t i = 0; i < model->input_count; i++)
        all &= model->inputs[i].optional;
    return all;
}

static int top_read(struct reader *reader)
{
    struct oip_request *request = reader->request;
    struct json_scan *scan = &reader->scan;
    struct json_keys keys;
    bool has_inputs = false;
    struct slice key;
    int r = json_scan_object(scan, &keys, reader->err);

    while (r >= 0 && (r = json_scan_key(scan, &keys, &key, reader->err)) > 0) {
        if (slice_is(key, "inputs")) {
            has_inputs = true;
            r = inputs_read(reader);
        } else if (slice_is(key, "outputs")) {
            r = outputs_read(reader);
        } else if (slice_is(key, "parameters")) {
            r = request_parameters(reader);
        } else if (slice_is(key, "id")) {
            request->has_id = true;
            r = json_scan_string(scan, &request->id, reader->err);
        } else {
            r = json_scan_skip(scan, reader->err);
        }
    }
    if (r < 0)
        return r;
    r = json_scan_finish(scan, reader->err);
    if (r == 0 && !has_inputs && !all_optional(reader->model))
        return err_set(reader->err, ERR_BAD_INPUT, "the request has no 'inputs'");
    return r;
}

static int complete(struct reader *reader, uint64_t following)
{
    const struct oip_model *model = reader->model;
    struct oip_request *request = reader->request;

    for (uint32_t i = 0; i < model->input_count; i++)
        if (!(reader->inputs_seen >> i & 1) && !model->inputs[i].optional)
            return err_set(reader->err, ERR_BAD_INPUT, "input '%s' of model '%s' is missing",
                           ERR_SLICE(model->inputs[i].name), ERR_SLICE(model->name));
    if (following != OIP_BYTES_UNKNOWN && following != request->binary_bytes)
        return err_set(reader->err, ERR_BAD_INPUT,
                       "%" PRIu64 " bytes follow the JSON header, and its inputs' "
                       "binary_data_size say %" PRIu64,
                       following, request->binary_bytes);
    if (request->id.size > OIP_ID_BYTES_MAX)
        return err_set(reader->err, ERR_TOO_LARGE, "the id has more than %d bytes",
                       OIP_ID_BYTES_MAX);
    request->id = arena_copy(reader->arena, request->id);
    return 0;
}

static void request_init(struct arena *arena, const struct oip_model *model,
                         struct oip_request *request)
{
    *request = (struct oip_request){
        .model = model,
        .inputs = ARENA_ARRAY(arena, struct oip_input, model->input_count + 1),
        .wanted = ARENA_ARRAY(arena, struct oip_wanted, model->output_count + 1),
    };
}

int oip_request_parse(struct arena *arena, const struct oip_model *model, struct slice text,
                      uint64_t following, const struct oip_limits *limits, struct oip_request *ret,
                      struct err *err)
{
    uint64_t json_max = limits->json_bytes_max ? limits->json_bytes_max : OIP_JSON_BYTES_MAX;
    struct reader reader = {
        .arena = arena, .model = model, .request = ret, .limits = limits, .err = err
    };
    int r;

    if (model->input_count > OIP_TENSORS_MAX || model->output_count > OIP_TENSORS_MAX)
        return err_set(err, ERR_NOT_SUPPORTED, "model '%s' has more than %d inputs or outputs",
                       ERR_SLICE(model->name), OIP_TENSORS_MAX);
    if (text.size > json_max)
        return err_set(err, ERR_TOO_LARGE,
                       "the JSON has %zu bytes; %" PRIu64 " are allowed (json_bytes_max): send "
                       "large inputs as binary data",
                       text.size, json_max);
    request_init(arena, model, ret);
    reader.wanted_said = ARENA_ARRAY(arena, bool, model->output_count + 1);
    r = json_scan_begin(&reader.scan, arena, text, err);
    if (r < 0 || (r = top_read(&reader)) < 0 || (r = complete(&reader, following)) < 0)
        return r;
    outputs_default(&reader);
    return 0;
}

int oip_request_raw(struct arena *arena, const struct oip_model *model, uint64_t body_bytes,
                    const struct oip_limits *limits, struct oip_request *ret, struct err *err)
{
    struct reader reader = {
        .arena = arena,
        .model = model,
        .request = ret,
        .limits = limits,
        .err = err,
        .binary_all = true,
    };
    const struct tensor_meta *meta = model->inputs;
    struct oip_input *input;
    uint64_t fixed = 1;
    int dynamic = -1;

    if (model->input_count != 1 || meta->type == TENSOR_BYTES || meta->rank_any ||
        model->output_count > OIP_TENSORS_MAX)
        return err_set(
            err, ERR_BAD_INPUT,
            "Inference-Header-Content-Length is 0: a body without a header is for models "
            "with one input of numbers, and model '%s' is not one",
            ERR_SLICE(model->name));
    request_init(arena, model, ret);
    reader.wanted_said = ARENA_ARRAY(arena, bool, model->output_count + 1);
    input = &ret->inputs[ret->input_count++];
    *input = (struct oip_input){ .type = meta->type, .shape = meta->shape, .binary = true };
    for (uint32_t i = 0; i < meta->shape.rank; i++) {
        if (meta->shape.dims[i] >= 0)
            continue;
        if (dynamic >= 0)
            return err_set(err, ERR_BAD_INPUT,
                           "Inference-Header-Content-Length is 0, and input '%s' has more than one "
                           "dimension of any size: %s",
                           ERR_SLICE(meta->name), TENSOR_META(meta));
        dynamic = (int)i;
        input->shape.dims[i] = 1;
    }
    if (!tensor_bytes(meta->type, &input->shape, &fixed))
        fixed = 0;
    if (dynamic >= 0 && fixed > 0)
        input->shape.dims[dynamic] = (int64_t)(body_bytes / fixed);
    if (!tensor_bytes(meta->type, &input->shape, &input->bytes) || input->bytes != body_bytes ||
        !tensor_elements(&input->shape, &input->elements))
        return err_set(
            err, ERR_BAD_INPUT, "input '%s': %" PRIu64 " bytes are no whole tensor %s of %s",
            ERR_SLICE(meta->name), body_bytes, TENSOR_META(meta), tensor_type_name(meta->type));
    int r = input_place(&reader, input);
    if (r < 0)
        return r;
    outputs_default(&reader);
    return 0;
}

int oip_request_convert(const struct oip_request *request, void *block, struct err *err)
{
    for (uint32_t i = 0; i < request->input_count; i++) {
        const struct oip_input *input = &request->inputs[i];
        uint64_t bytes;

        if (input->binary)
            continue;
        int r = oip_data_read(input, request->model->inputs[input->index].name,
                              (char *)block + input->offset, &bytes, err);
        if (r < 0)
            return r;
    }
    return 0;
}

int oip_request_check(const struct oip_request *request, const void *block, struct err *err)
{
    for (uint32_t i = 0; i < request->input_count; i++) {
        const struct oip_input *input = &request->inputs[i];

        if (!input->binary || input->type != TENSOR_BYTES)
            continue;
        if (tensor_strings_check((const char *)block + input->offset, input->bytes, input->elements,
                                 err) < 0)
            return err_wrap(err, "input '%s'",
                            ERR_SLICE(request->model->inputs[input->index].name));
    }
    return 0;
}

/* --- the repository's small bodies ------------------------------------------------------------ */

int oip_index_parse(struct arena *arena, struct slice text, bool *ret_ready_only, struct err *err)
{
    struct json_scan scan;
    struct json_keys keys;
    bool ready = false;
    struct slice key;
    int r;

    if (slice_trim(text).size == 0) {
        *ret_ready_only = false;
        return 0;
    }
    r = json_scan_begin(&scan, arena, text, err);
    if (r >= 0)
        r = json_scan_object(&scan, &keys, err);
    while (r >= 0 && (r = json_scan_key(&scan, &keys, &key, err)) > 0)
        r = slice_is(key, "ready") ? json_scan_bool(&scan, &ready, err)
                                   : json_scan_skip(&scan, err);
    if (r < 0 || (r = json_scan_finish(&scan, err)) < 0)
        return r;
    *ret_ready_only = ready;
    return 0;
}

static int load_parameters(struct json_scan *scan, struct err *err)
{
    struct json_keys keys;
    struct slice key;
    int r = json_scan_object(scan, &keys, err);

    while (r >= 0 && (r = json_scan_key(scan, &keys, &key, err)) > 0) {
        if (!slice_is(key, "unload_dependents"))
            return err_set(err, ERR_NOT_SUPPORTED,
                           "parameter '%s': what runs is changed by deploying, not by loading",
                           ERR_SLICE(key));
        r = json_scan_skip(scan, err);
    }
    return r;
}

int oip_load_parse(struct arena *arena, struct slice text, struct err *err)
{
    struct json_scan scan;
    struct json_keys keys;
    struct slice key;
    int r;

    if (slice_trim(text).size == 0)
        return 0;
    r = json_scan_begin(&scan, arena, text, err);
    if (r >= 0)
        r = json_scan_object(&scan, &keys, err);
    while (r >= 0 && (r = json_scan_key(&scan, &keys, &key, err)) > 0)
        r = slice_is(key, "parameters") ? load_parameters(&scan, err) : json_scan_skip(&scan, err);
    return r < 0 ? r : json_scan_finish(&scan, err);
}
