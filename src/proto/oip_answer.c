/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the replica wrote may change while it is read here. So numbers are copied to private memory
 * before they are looked at, lengths of strings are read once, and nothing read twice is trusted.
 */
#include "proto/oip.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "proto/number.h"
#include "proto/oip_classes.h"

#define CHUNK_ELEMENTS 1024

struct writer {
    struct text text;
    const struct oip_request *request;
    struct oip_answer *answer;
    struct arena *arena;
    uint64_t text_bytes_max;
    struct slice name; /* of the output being written */
    struct err *err;
};

static int check_size(struct writer *writer, size_t more)
{
    if (writer->text.size + more <= writer->text_bytes_max)
        return 0;
    return err_set(writer->err, ERR_TOO_LARGE,
                   "output '%s': the answer is above %" PRIu64 " bytes of JSON (answer_bytes_max); "
                   "ask for it with the parameter binary_data: true",
                   ERR_SLICE(writer->name), writer->text_bytes_max);
}

/* --- numbers -------------------------------------------------------------------------------- */

#define LOAD(type, raw)                                                                            \
    ({                                                                                             \
        type value_;                                                                               \
        memcpy(&value_, (raw), sizeof value_);                                                     \
        value_;                                                                                    \
    })

static inline size_t write_bool(char *out, bool value)
{
    memcpy(out, value ? "true" : "false", 5);
    return value ? 4 : 5;
}

static inline size_t write_element(char *out, enum tensor_type type, const char *raw)
{
    switch (type) {
    case TENSOR_BOOL:
        return write_bool(out, *raw != 0);
    case TENSOR_UINT8:
        return number_write_u64(out, LOAD(uint8_t, raw));
    case TENSOR_UINT16:
        return number_write_u64(out, LOAD(uint16_t, raw));
    case TENSOR_UINT32:
        return number_write_u64(out, LOAD(uint32_t, raw));
    case TENSOR_UINT64:
        return number_write_u64(out, LOAD(uint64_t, raw));
    case TENSOR_INT8:
        return number_write_i64(out, LOAD(int8_t, raw));
    case TENSOR_INT16:
        return number_write_i64(out, LOAD(int16_t, raw));
    case TENSOR_INT32:
        return number_write_i64(out, LOAD(int32_t, raw));
    case TENSOR_INT64:
        return number_write_i64(out, LOAD(int64_t, raw));
    case TENSOR_FP16:
        return number_write_fp16(out, LOAD(uint16_t, raw));
    case TENSOR_FP32:
        return number_write_fp32(out, LOAD(float, raw));
    case TENSOR_FP64:
        return number_write_fp64(out, LOAD(double, raw));
    case TENSOR_BF16:
        return number_write_bf16(out, LOAD(uint16_t, raw));
    case TENSOR_NONE:
    case TENSOR_BYTES:
        break;
    }
    assert(!"a type of fixed size");
    return 0;
}

/* "0," or "0.0,". */
static uint64_t least_bytes(enum tensor_type type)
{
    bool fraction =
        type == TENSOR_FP16 || type == TENSOR_BF16 || type == TENSOR_FP32 || type == TENSOR_FP64;
    return fraction ? 4 : 2;
}

static int write_numbers(struct writer *writer, const struct oip_output *output, uint64_t elements)
{
    size_t size = tensor_type_bytes(output->type);
    char copy[CHUNK_ELEMENTS * 8];
    const char *from = output->data;

    if (check_size(writer, elements * least_bytes(output->type)) < 0) /* before any of it */
        return ERR_TOO_LARGE;
    for (uint64_t left = elements; left > 0;) {
        size_t count = left < CHUNK_ELEMENTS ? (size_t)left : CHUNK_ELEMENTS;
        char *out = text_room(&writer->text, count * (NUMBER_OUT_MAX + 1)), *at = out;

        memcpy(copy, from, count * size);
        __asm__ volatile("" ::: "memory"); /* the copy is what is read below */
        for (size_t i = 0; i < count; i++) {
            at += write_element(at, output->type, copy + i * size);
            *at++ = ',';
        }
        writer->text.size += (size_t)(at - out);
        from += count * size;
        left -= count;
        if (check_size(writer, 0) < 0)
            return ERR_TOO_LARGE;
    }
    if (elements > 0)
        writer->text.size--; /* the last comma */
    return 0;
}

/* --- strings -------------------------------------------------------------------------------- */

static int nonsense(struct writer *writer, const char *what)
{
    return err_set(writer->err, ERR_INTERNAL, "output '%s': the replica's answer is wrong: %s",
                   ERR_SLICE(writer->name), what);
}

static int write_strings(struct writer *writer, const struct oip_output *output, uint64_t elements)
{
    const char *from = output->data;
    uint64_t left = output->bytes;
    auto_free char *copy = NULL;
    size_t capacity = 0;

    for (uint64_t i = 0; i < elements; i++) {
        uint32_t length;

        if (left < sizeof length)
            return nonsense(writer, "its strings end too early");
        memcpy(&length, from, sizeof length);
        __asm__ volatile("" : "+r"(length));
        left -= sizeof length;
        if (length > left)
            return nonsense(writer, "a string is longer than what is left");
        if (check_size(writer, (size_t)length + 3) < 0)
            return ERR_TOO_LARGE;
        if (length > capacity) {
            free(copy);
            capacity = (size_t)length + 256;
            copy = mem_alloc(capacity);
        }
        if (length > 0)
            memcpy(copy, from + sizeof length, length);
        __asm__ volatile("" ::: "memory");
        struct slice value = { copy, length };
        if (!utf8_valid(value))
            return err_set(writer->err, ERR_BAD_INPUT,
                           "output '%s': element %" PRIu64 " is not UTF-8, so JSON cannot hold it; "
                           "ask for this output with the parameter binary_data: true",
                           ERR_SLICE(writer->name), i);
        if (i > 0)
            text_char(&writer->text, ',');
        text_json_string(&writer->text, value);
        if (check_size(writer, 0) < 0)
            return ERR_TOO_LARGE;
        from += sizeof length + length;
        left -= length;
    }
    return left == 0 ? 0 : nonsense(writer, "bytes are left over behind its strings");
}

/* --- one output ------------------------------------------------------------------------------- */

static void write_head(struct writer *writer, enum tensor_type type,
                       const struct tensor_shape *shape)
{
    struct text *text = &writer->text;

    text_json_comma(text);
    text_char(text, '{');
    text_json_field(text, "name", writer->name);
    text_json_field(text, "datatype", slice_of(tensor_type_name(type)));
    text_json_key(text, "shape");
    text_char(text, '[');
    for (uint32_t i = 0; i < shape->rank; i++) {
        text_json_comma(text);
        text_i64(text, shape->dims[i]);
    }
    text_char(text, ']');
}

static void write_part(struct writer *writer, const void *data, uint64_t bytes)
{
    struct oip_answer *answer = writer->answer;
    struct text *text = &writer->text;

    text_json_key(text, "parameters");
    text_char(text, '{');
    text_json_field_u64(text, "binary_data_size", bytes);
    TEXT_LITERAL(text, "}}");
    answer->binary = true;
    answer->bytes += bytes;
    if (bytes > 0)
        answer->parts[answer->part_count++] = (struct iovec){ (void *)data, (size_t)bytes };
}

static int write_classes(struct writer *writer, const struct oip_wanted *wanted,
                         const struct oip_output *output)
{
    const struct tensor_meta *meta = &writer->request->model->outputs[wanted->index];
    bool batched = oip_model_batched(writer->request->model);
    struct oip_classes classes;
    struct slice data;
    int r;

    r = oip_classes_find(writer->arena, output, meta, batched, wanted->classes,
                         writer->text_bytes_max, &classes, writer->err);
    if (r < 0)
        return err_wrap(writer->err, "output '%s'", ERR_SLICE(writer->name));
    write_head(writer, TENSOR_BYTES, &classes.shape);
    if (wanted->binary) {
        data = oip_classes_bytes(writer->arena, &classes);
        write_part(writer, data.data, data.size);
        return 0;
    }
    text_json_key(&writer->text, "data");
    text_char(&writer->text, '[');
    for (uint64_t i = 0; i < classes.count; i++) {
        text_json_comma(&writer->text);
        text_json_string(&writer->text, classes.strings[i]);
    }
    TEXT_LITERAL(&writer->text, "]}");
    return check_size(writer, 0);
}

static int write_output(struct writer *writer, const struct oip_wanted *wanted,
                        const struct oip_output *output)
{
    const struct tensor_meta *meta = &writer->request->model->outputs[wanted->index];
    uint64_t elements, bytes;
    struct err inner;
    int r;

    if (output->type != meta->type)
        return nonsense(writer, "another datatype than the model's");
    if (!tensor_elements(&output->shape, &elements))
        return nonsense(writer, "an impossible shape");
    if (output->type != TENSOR_BYTES &&
        (!tensor_bytes(output->type, &output->shape, &bytes) || bytes != output->bytes))
        return nonsense(writer, "its shape and its bytes do not agree");
    if (output->type == TENSOR_BYTES && elements > output->bytes / 4)
        return nonsense(writer, "more strings than its bytes can hold");
    if (wanted->classes > 0)
        return write_classes(writer, wanted, output);

    write_head(writer, output->type, &output->shape);
    if (wanted->binary) {
        if (output->type == TENSOR_BYTES &&
            tensor_strings_check(output->data, output->bytes, elements, &inner) < 0)
            return nonsense(writer, inner.message);
        write_part(writer, output->data, output->bytes);
        return 0;
    }
    text_json_key(&writer->text, "data");
    text_char(&writer->text, '[');
    r = output->type == TENSOR_BYTES ? write_strings(writer, output, elements)
                                     : write_numbers(writer, output, elements);
    TEXT_LITERAL(&writer->text, "]}");
    return r;
}

/* --- the whole ------------------------------------------------------------------------------ */

static int write_outputs(struct writer *writer, const struct oip_output *outputs,
                         uint32_t output_count)
{
    const struct oip_request *request = writer->request;

    for (uint32_t i = 0; i < request->wanted_count; i++) {
        const struct oip_wanted *wanted = &request->wanted[i];
        const struct oip_output *output = NULL;
        int r;

        for (uint32_t j = 0; j < output_count && !output; j++)
            if (outputs[j].index == wanted->index)
                output = &outputs[j];
        writer->name = request->model->outputs[wanted->index].name;
        if (!output)
            return nonsense(writer, "it is missing");
        r = write_output(writer, wanted, output);
        if (r < 0)
            return r;
    }
    return 0;
}

int oip_answer_write(struct arena *arena, const struct oip_request *request, uint64_t version,
                     const struct oip_output *outputs, uint32_t output_count,
                     const struct oip_limits *limits, struct oip_answer *ret, struct err *err)
{
    struct oip_answer answer = { .parts =
                                     ARENA_ARRAY(arena, struct iovec, request->wanted_count + 1) };
    struct writer writer = {
        .request = request,
        .answer = &answer,
        .arena = arena,
        .text_bytes_max =
            limits->answer_bytes_max ? limits->answer_bytes_max : OIP_ANSWER_BYTES_MAX,
        .err = err,
    };
    struct text *text = &writer.text;
    char number[NUMBER_OUT_MAX];
    int r;

    text_char(text, '{');
    if (request->has_id)
        text_json_field(text, "id", request->id);
    text_json_field(text, "model_name", request->model->name);
    text_json_field(text, "model_version",
                    (struct slice){ number, number_write_u64(number, version) });
    text_json_key(text, "outputs");
    text_char(text, '[');
    r = write_outputs(&writer, outputs, output_count);
    if (r < 0) {
        text_deinit(text);
        return r;
    }
    TEXT_LITERAL(text, "]}");
    arena_defer(arena, free, text->data);
    answer.json = text_slice(text);
    answer.bytes += text->size;
    *ret = answer;
    return 0;
}
