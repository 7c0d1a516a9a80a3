/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "cli/tensor_file.h"
#include "proto/number.h"
#include "proto/tensor.h"

/* A number on its way from one datatype to another: integers stay exact. */
struct element {
    bool real;
    bool negative; /* of an integer; `natural` is its magnitude */
    uint64_t natural;
    double value;
};

static struct element integer(int64_t value)
{
    return (struct element){ .negative = value < 0,
                             .natural = value < 0 ? 0 - (uint64_t)value : (uint64_t)value };
}

#define READ(type)                                                                                 \
    ({                                                                                             \
        type read_;                                                                                \
        memcpy(&read_, from, sizeof read_);                                                        \
        read_;                                                                                     \
    })

static struct element element_read(enum tensor_type datatype, const char *from)
{
    switch (datatype) {
    case TENSOR_BOOL:
    case TENSOR_UINT8:
        return (struct element){ .natural = READ(uint8_t) };
    case TENSOR_UINT16:
        return (struct element){ .natural = READ(uint16_t) };
    case TENSOR_UINT32:
        return (struct element){ .natural = READ(uint32_t) };
    case TENSOR_UINT64:
        return (struct element){ .natural = READ(uint64_t) };
    case TENSOR_INT8:
        return integer(READ(int8_t));
    case TENSOR_INT16:
        return integer(READ(int16_t));
    case TENSOR_INT32:
        return integer(READ(int32_t));
    case TENSOR_INT64:
        return integer(READ(int64_t));
    case TENSOR_FP16:
        return (struct element){ .real = true, .value = (double)number_from_fp16(READ(uint16_t)) };
    case TENSOR_BF16:
        return (struct element){ .real = true, .value = (double)number_from_bf16(READ(uint16_t)) };
    case TENSOR_FP32:
        return (struct element){ .real = true, .value = (double)READ(float) };
    default:
        return (struct element){ .real = true, .value = READ(double) };
    }
}

static double element_double(struct element n)
{
    if (n.real)
        return n.value;
    return n.negative ? -(double)n.natural : (double)n.natural;
}

double tensor_element(const struct tensor_file *tensor, uint64_t index)
{
    const char *from = tensor->data.data + index * tensor_type_bytes(tensor->datatype);
    return element_double(element_read(tensor->datatype, from));
}

const char *tensor_element_text(struct arena *arena, const struct tensor_file *tensor,
                                uint64_t index)
{
    const char *from = tensor->data.data + index * tensor_type_bytes(tensor->datatype);
    struct element n = element_read(tensor->datatype, from);
    if (tensor->datatype == TENSOR_BOOL)
        return n.natural ? "true" : "false";
    if (n.real)
        return arena_format(arena, "%.4g", n.value);
    return arena_format(arena, "%s%llu", n.negative ? "-" : "", (unsigned long long)n.natural);
}

/* Into `bits` wide integers; false: not a whole number, or out of range. */
static bool integer_write(struct element n, unsigned bits, bool is_signed, char *to)
{
    if (n.real) {
        if (n.value != trunc(n.value) || fabs(n.value) >= 0x1p64)
            return false;
        n = (struct element){ .negative = n.value < 0, .natural = (uint64_t)fabs(n.value) };
    }
    uint64_t highest = bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1;
    if (is_signed)
        highest >>= 1;
    uint64_t bound = n.negative ? (is_signed ? highest + 1 : 0) : highest;
    if (n.natural > bound)
        return false;
    uint64_t word = n.negative ? 0 - n.natural : n.natural;
    memcpy(to, &word, bits / 8); /* little endian, as all the machines we build for */
    return true;
}

static bool element_write(enum tensor_type datatype, struct element n, char *to)
{
    uint16_t half;
    float single;
    double value = element_double(n);
    switch (datatype) {
    case TENSOR_BOOL:
        *to = value != 0;
        return value == 0 || value == 1;
    case TENSOR_UINT8:
    case TENSOR_UINT16:
    case TENSOR_UINT32:
    case TENSOR_UINT64:
        return integer_write(n, (unsigned)tensor_type_bytes(datatype) * 8, false, to);
    case TENSOR_INT8:
    case TENSOR_INT16:
    case TENSOR_INT32:
    case TENSOR_INT64:
        return integer_write(n, (unsigned)tensor_type_bytes(datatype) * 8, true, to);
    case TENSOR_FP16:
        half = number_to_fp16(value);
        memcpy(to, &half, 2);
        return isfinite(number_from_fp16(half)) || !isfinite(value);
    case TENSOR_BF16:
        half = number_to_bf16(value);
        memcpy(to, &half, 2);
        return isfinite(number_from_bf16(half)) || !isfinite(value);
    case TENSOR_FP32:
        single = (float)value;
        memcpy(to, &single, 4);
        return isfinite(single) || !isfinite(value);
    default:
        memcpy(to, &value, 8);
        return true;
    }
}

int tensor_convert(struct arena *arena, struct tensor_file *tensor, enum tensor_type datatype,
                   struct err *err)
{
    size_t from = tensor_type_bytes(tensor->datatype), to = tensor_type_bytes(datatype);
    if (tensor->datatype == datatype)
        return 0;
    if (from == 0 || to == 0)
        return err_set(err, ERR_BAD_INPUT, "%s cannot become %s",
                       tensor_type_name(tensor->datatype), tensor_type_name(datatype));
    size_t count = tensor->data.size / from;
    char *data = arena_calloc(arena, count ? count : 1, to);
    for (size_t i = 0; i < count; i++) {
        struct element n = element_read(tensor->datatype, tensor->data.data + i * from);
        if (!element_write(datatype, n, data + i * to))
            return err_set(err, ERR_BAD_INPUT, "element %zu (%.17g) cannot be %s", i,
                           element_double(n), tensor_type_name(datatype));
    }
    tensor->datatype = datatype;
    tensor->data = (struct slice){ data, count * to };
    return 0;
}

static bool dims_match(const int64_t *have, const int64_t *want, uint32_t rank)
{
    for (uint32_t i = 0; i < rank; i++)
        if (want[i] >= 0 && want[i] != have[i])
            return false;
    return true;
}

static void shape_text(char *text, size_t room, const struct tensor_shape *shape)
{
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < shape->rank && at < room; i++)
        at += (size_t)snprintf(text + at, room - at, "%s%lld", i ? "," : "",
                               (long long)shape->dims[i]);
}

static int fit_error(const struct tensor_file *tensor, const struct tensor_file *want,
                     struct err *err)
{
    char have[160], wanted[160];
    shape_text(have, sizeof have, &tensor->shape);
    shape_text(wanted, sizeof wanted, &want->shape);
    return err_set(err, ERR_BAD_INPUT, "a tensor of shape [%s] does not fit the input's [%s]", have,
                   wanted);
}

int tensor_fit(struct tensor_file *tensor, const struct tensor_file *want, struct err *err)
{
    uint64_t elements, known = 1;
    uint32_t unknown = 0, unknown_at = 0;
    if (tensor->shape.rank == want->shape.rank &&
        dims_match(tensor->shape.dims, want->shape.dims, want->shape.rank))
        return 0;
    if (tensor->shape.rank + 1 == want->shape.rank &&
        (want->shape.dims[0] == 1 || want->shape.dims[0] < 0) &&
        dims_match(tensor->shape.dims, want->shape.dims + 1,
                   tensor->shape.rank)) { /* one of a batch */
        memmove(tensor->shape.dims + 1, tensor->shape.dims,
                tensor->shape.rank * sizeof *tensor->shape.dims);
        tensor->shape.dims[0] = 1;
        tensor->shape.rank++;
        return 0;
    }
    /* The same elements in another shape, with at most one dimension left open. */
    if (!tensor_elements(&tensor->shape, &elements))
        return err_set(err, ERR_BAD_INPUT, "the shape is absurd");
    for (uint32_t i = 0; i < want->shape.rank; i++) {
        if (want->shape.dims[i] < 0) {
            unknown++;
            unknown_at = i;
        } else if (__builtin_mul_overflow(known, (uint64_t)want->shape.dims[i], &known)) {
            known = 0;
        }
    }
    if (unknown > 1 || known == 0 || elements % known != 0 || (unknown == 0 && elements != known))
        return fit_error(tensor, want, err);
    tensor->shape.rank = want->shape.rank;
    memcpy(tensor->shape.dims, want->shape.dims, sizeof tensor->shape.dims);
    if (unknown)
        tensor->shape.dims[unknown_at] = (int64_t)(elements / known);
    return 0;
}

const char *tensor_words(struct arena *arena, const struct tensor_file *tensor)
{
    char *text = arena_format(arena, "%s [", tensor_type_name(tensor->datatype));
    for (uint32_t i = 0; i < tensor->shape.rank; i++)
        text =
            arena_format(arena, "%s%s%lld", text, i ? "," : "", (long long)tensor->shape.dims[i]);
    return arena_format(arena, "%s]", text);
}
