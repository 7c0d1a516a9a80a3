/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/oip_data.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "proto/json_scan.h"
#include "proto/number.h"
#include "proto/oip.h"

struct fill {
    struct json_scan scan;
    const struct oip_input *input;
    struct slice name;
    char *out;                       /* NULL: only look */
    uint64_t bytes;                  /* written, or that would have been */
    uint64_t place[TENSOR_RANK_MAX]; /* where we are; place[0] alone in a flat list */
    uint32_t depth;                  /* how many of these count */
    struct err *err;
};

/* --- errors --------------------------------------------------------------------------------- */

#define PATH_TEXT 160

static const char *path(const struct fill *fill, char buffer[static PATH_TEXT])
{
    size_t size = 4;

    memcpy(buffer, "data", 5);
    for (uint32_t i = 0; i < fill->depth && size < PATH_TEXT - 24; i++)
        size += (size_t)snprintf(buffer + size, PATH_TEXT - size, "[%" PRIu64 "]", fill->place[i]);
    return buffer;
}
#define PATH(fill) path((fill), (char[PATH_TEXT]){})

/* What stands at the scan, up to the next separator. */
static const char *token(const struct fill *fill, char buffer[static ERR_TEXT_BYTES])
{
    const char *at = fill->scan.at;
    size_t size = 0;

    while (at + size < fill->scan.end && size < 40 && !strchr(",] \t\r\n", at[size]))
        size++;
    return err_text(buffer, at, size);
}

static int refuse(struct fill *fill, const char *why)
{
    return err_set(fill->err, ERR_BAD_INPUT, "input '%s': %s: '%s' %s%s", ERR_SLICE(fill->name),
                   PATH(fill), token(fill, (char[ERR_TEXT_BYTES]){}), why,
                   tensor_type_name(fill->input->type));
}

static bool floating(enum tensor_type type)
{
    return type == TENSOR_FP16 || type == TENSOR_FP32 || type == TENSOR_FP64 || type == TENSOR_BF16;
}

static_assert(NUMBER_TEXT_MAX == 1024, "said in a message");

/* It may well be one, but number_scan() takes none so long. */
static bool long_number(const struct fill *fill)
{
    const char *at = fill->scan.at;
    size_t size = 0;

    while (size <= NUMBER_TEXT_MAX && at + size < fill->scan.end && at[size] &&
           strchr("+-.0123456789Ee", at[size]))
        size++;
    return size > NUMBER_TEXT_MAX;
}

/* Why an element that is no number of the type is none. */
static int refuse_element(struct fill *fill)
{
    static const char *const not_numbers[] = { "NaN", "\"NaN", "Inf",    "\"Inf",
                                               "inf", "-Inf",  "\"-Inf", "nan" };
    const char *at = fill->scan.at;
    struct number number;

    if (*at == '[')
        return err_set(fill->err, ERR_BAD_INPUT,
                       "input '%s': %s: a list stands here; data is one flat list, or lists nested "
                       "exactly as the shape %s",
                       ERR_SLICE(fill->name), PATH(fill), TENSOR_SHAPE(&fill->input->shape));
    for (size_t i = 0; i < sizeof not_numbers / sizeof *not_numbers; i++)
        if (floating(fill->input->type) && (size_t)(fill->scan.end - at) > strlen(not_numbers[i]) &&
            memcmp(at, not_numbers[i], strlen(not_numbers[i])) == 0)
            return refuse(fill, "cannot be sent in JSON; send this input as binary data, which "
                                "can hold it, as ");
    if (fill->input->type == TENSOR_BOOL)
        return refuse(fill, "is neither true nor false, as it must be for ");
    if (fill->input->type == TENSOR_BYTES)
        return refuse(fill, "is not a string, as it must be for ");
    if (*at == '"')
        return refuse(fill, "is a string; a number is expected for ");
    if (long_number(fill))
        return refuse(fill, "... is longer than the 1024 characters a number may have, as ");
    if (!number_scan(at, fill->scan.end, &number))
        return refuse(fill, "is not a number of JSON, as it must be for ");
    if (!number.integral && !floating(fill->input->type))
        return refuse(fill, "is not written as an integer, as it must be for ");
    return refuse(fill, "is out of range for ");
}

static int wrong_count(struct fill *fill, uint64_t wanted, bool more)
{
    struct fill at = *fill;

    if (at.depth > 0)
        at.depth--;
    return err_set(fill->err, ERR_BAD_INPUT,
                   "input '%s': %s has %s than the %" PRIu64 " elements that its shape %s wants",
                   ERR_SLICE(fill->name), PATH(&at), more ? "more" : "fewer", wanted,
                   TENSOR_SHAPE(&fill->input->shape));
}

/* --- elements ------------------------------------------------------------------------------- */

static int put(struct fill *fill, const void *value, size_t size)
{
    if (fill->out)
        memcpy(fill->out + fill->bytes, value, size);
    fill->bytes += size;
    return 0;
}

static int put_bool(struct fill *fill)
{
    bool value;

    if (json_scan_bool(&fill->scan, &value, NULL) < 0)
        return refuse_element(fill);
    return put(fill, &(uint8_t){ value }, 1);
}

static int put_string(struct fill *fill)
{
    const char *open = fill->scan.at;
    uint32_t length;
    size_t size;
    int r;

    if (*open != '"')
        return refuse_element(fill);
    r = json_scan_decode(&fill->scan, NULL, &size, fill->err);
    if (r < 0)
        return r;
    if (size > UINT32_MAX)
        return err_set(fill->err, ERR_TOO_LARGE, "input '%s': %s: more than 4 GiB in a string",
                       ERR_SLICE(fill->name), PATH(fill));
    length = (uint32_t)size;
    (void)put(fill, &length, sizeof length);
    if (fill->out) {
        /* The caller made room for what a first pass over the same text counted. */
        fill->scan.at = open;
        r = json_scan_decode(&fill->scan, fill->out + fill->bytes, &size, fill->err);
    }
    fill->bytes += size;
    return r;
}

static int put_signed(struct fill *fill, const struct number *number, size_t size)
{
    int64_t value, limit = size == 8 ? INT64_MAX : (INT64_C(1) << (size * 8 - 1)) - 1;

    if (!number_i64(number, &value) || value > limit || value < -limit - 1)
        return refuse_element(fill);
    return put(fill, &value, size); /* little-endian: the low bytes come first */
}

static int put_unsigned(struct fill *fill, const struct number *number, size_t size)
{
    uint64_t value, limit = size == 8 ? UINT64_MAX : (UINT64_C(1) << (size * 8)) - 1;

    if (!number_u64(number, &value) || value > limit)
        return refuse_element(fill);
    return put(fill, &value, size);
}

static int put_half(struct fill *fill, const struct number *number)
{
    uint16_t bits;
    bool good =
        fill->input->type == TENSOR_FP16 ? number_fp16(number, &bits) : number_bf16(number, &bits);

    return good ? put(fill, &bits, sizeof bits) : refuse_element(fill);
}

/* At an element, spaces skipped; moves behind it. */
static inline int put_element(struct fill *fill, enum tensor_type type)
{
    struct number number;
    const char *after;
    double wide;
    float narrow;
    int r;

    if (type == TENSOR_BOOL)
        return put_bool(fill);
    if (type == TENSOR_BYTES)
        return put_string(fill);
    after = number_scan(fill->scan.at, fill->scan.end, &number);
    if (!after)
        return refuse_element(fill);
    if (type == TENSOR_FP32)
        r = number_fp32(&number, &narrow) ? put(fill, &narrow, sizeof narrow)
                                          : refuse_element(fill);
    else if (type == TENSOR_FP64)
        r = number_fp64(&number, &wide) ? put(fill, &wide, sizeof wide) : refuse_element(fill);
    else if (type == TENSOR_FP16 || type == TENSOR_BF16)
        r = put_half(fill, &number);
    else if (type >= TENSOR_INT8)
        r = put_signed(fill, &number, tensor_type_bytes(type));
    else
        r = put_unsigned(fill, &number, tensor_type_bytes(type));
    if (r < 0)
        return r;
    fill->scan.at = after;
    return 0;
}

/* Behind '[': `wanted` elements and ']'. */
static inline int row_of(struct fill *fill, uint64_t wanted, enum tensor_type type)
{
    uint64_t *index = &fill->place[fill->depth++];

    for (*index = 0;; ++*index) {
        int r;

        if (json_scan_peek(&fill->scan) == ']') {
            if (*index == 0)
                break;
            return json_scan_fail(&fill->scan, fill->scan.at, "a value is expected behind ','",
                                  fill->err);
        }
        if (*index == wanted)
            return wrong_count(fill, wanted, true);
        if (type == TENSOR_FP32) { /* all but the last, nearly always */
            uint64_t count = number_run_fp32(&fill->scan.at, fill->scan.end, wanted - *index - 1,
                                             fill->out + fill->bytes);
            fill->bytes += count * sizeof(float);
            *index += count;
            json_scan_space(&fill->scan);
        }
        r = put_element(fill, type);
        if (r < 0)
            return r;
        if (json_scan_peek(&fill->scan) == ']') {
            ++*index;
            break;
        }
        if (*fill->scan.at != ',')
            return json_scan_fail(&fill->scan, fill->scan.at, "',' or ']' is expected", fill->err);
        fill->scan.at++;
    }
    if (*index != wanted)
        return wrong_count(fill, wanted, false);
    fill->scan.at++;
    fill->depth--;
    return 0;
}

/* The types of big inputs have a loop of their own. */
static int row(struct fill *fill, uint64_t wanted)
{
    switch (fill->input->type) {
    case TENSOR_FP32:
        return row_of(fill, wanted, TENSOR_FP32);
    case TENSOR_INT64:
        return row_of(fill, wanted, TENSOR_INT64);
    case TENSOR_UINT8:
        return row_of(fill, wanted, TENSOR_UINT8);
    default:
        return row_of(fill, wanted, fill->input->type);
    }
}

/* Behind '[' of dimension `depth`. */
static int nested(struct fill *fill, uint32_t depth)
{
    const struct tensor_shape *shape = &fill->input->shape;
    uint64_t wanted = (uint64_t)shape->dims[depth];
    bool first = true;
    int r;

    if (depth + 1 == shape->rank)
        return row(fill, wanted);
    fill->depth = depth + 1;
    fill->place[depth] = 0;
    while ((r = json_scan_element(&fill->scan, &first, fill->err)) > 0) {
        if (fill->place[depth] == wanted)
            return wrong_count(fill, wanted, true);
        if (*fill->scan.at != '[')
            return err_set(fill->err, ERR_BAD_INPUT,
                           "input '%s': %s: a list is expected; data is one flat list, or lists "
                           "nested exactly as the shape %s",
                           ERR_SLICE(fill->name), PATH(fill), TENSOR_SHAPE(shape));
        fill->scan.at++;
        r = nested(fill, depth + 1);
        if (r < 0)
            return r;
        fill->place[depth]++;
    }
    if (r == 0 && fill->place[depth] != wanted)
        return wrong_count(fill, wanted, false);
    fill->depth = depth;
    return r;
}

int oip_data_read(const struct oip_input *input, struct slice name, char *out, uint64_t *ret_bytes,
                  struct err *err)
{
    struct fill fill = {
        .scan = { .start = input->data.data,
                  .at = input->data.data + 1,
                  .end = input->data.data + input->data.size }, /* the body's text goes on there */
        .input = input,
        .name = name,
        .out = out,
        .err = err,
    };
    int r = json_scan_peek(&fill.scan) == '[' && input->shape.rank > 1
                ? nested(&fill, 0)
                : row(&fill, input->elements);

    if (r == 0)
        *ret_bytes = fill.bytes;
    return r;
}
