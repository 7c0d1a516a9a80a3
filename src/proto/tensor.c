/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/tensor.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are little-endian in memory");

static const struct {
    const char *name, *config;
    size_t bytes;
} types[TENSOR_TYPE_COUNT] = {
#define TENSOR_ROW(type, number, size) [number] = { #type, "TYPE_" #type, size },
    TENSOR_TYPES(TENSOR_ROW)
#undef TENSOR_ROW
};

static bool known(enum tensor_type type)
{
    return (unsigned)type < TENSOR_TYPE_COUNT && types[type].name;
}

const char *tensor_type_name(enum tensor_type type)
{
    return known(type) ? types[type].name : "?";
}

const char *tensor_config_name(enum tensor_type type)
{
    if (type == TENSOR_BYTES)
        return "TYPE_STRING";
    return known(type) ? types[type].config : "TYPE_INVALID";
}

enum tensor_type tensor_type_of(struct slice name)
{
    for (int i = 1; i < TENSOR_TYPE_COUNT; i++)
        if (slice_is(name, types[i].name))
            return (enum tensor_type)i;
    return TENSOR_NONE;
}

size_t tensor_type_bytes(enum tensor_type type)
{
    return known(type) ? types[type].bytes : 0;
}

bool tensor_elements(const struct tensor_shape *shape, uint64_t *ret)
{
    uint64_t count = 1, largest = 1;

    if (shape->rank > TENSOR_RANK_MAX)
        return false;
    for (uint32_t i = 0; i < shape->rank; i++) {
        if (shape->dims[i] < 0)
            return false;
        /* A zero must not hide an overflow: others multiply the dimensions in another order. */
        uint64_t size = shape->dims[i] ? (uint64_t)shape->dims[i] : 1;
        if (__builtin_mul_overflow(largest, size, &largest) || largest > TENSOR_BYTES_MAX)
            return false;
        count *= (uint64_t)shape->dims[i];
    }
    *ret = count;
    return true;
}

bool tensor_bytes(enum tensor_type type, const struct tensor_shape *shape, uint64_t *ret)
{
    uint64_t elements, size = tensor_type_bytes(type);

    if (size == 0 || !tensor_elements(shape, &elements) || elements * size > TENSOR_BYTES_MAX)
        return false;
    *ret = elements * size;
    return true;
}

bool tensor_fits(const struct tensor_meta *meta, const struct tensor_shape *shape)
{
    if (meta->rank_any)
        return true;
    if (meta->shape.rank != shape->rank)
        return false;
    for (uint32_t i = 0; i < shape->rank; i++)
        if (meta->shape.dims[i] >= 0 && meta->shape.dims[i] != shape->dims[i])
            return false;
    return true;
}

static const char *shape_text(char *buffer, const struct tensor_shape *shape,
                              const struct slice *symbols)
{
    size_t size = 0, room = TENSOR_SHAPE_TEXT - 8;

    buffer[size++] = '[';
    for (uint32_t i = 0; i < shape->rank && i < TENSOR_RANK_MAX; i++) {
        char piece[ERR_TEXT_BYTES + 1] = ",";
        size_t length;

        if (symbols && shape->dims[i] < 0 && symbols[i].size > 0)
            err_text(piece + 1, symbols[i].data, symbols[i].size);
        else
            snprintf(piece + 1, sizeof piece - 1, "%" PRId64, shape->dims[i]);
        length = strlen(piece) - (i == 0);
        if (length > room - size) {
            memcpy(buffer + size, ",...", 4);
            size += 4;
            break;
        }
        memcpy(buffer + size, piece + (i == 0), length);
        size += length;
    }
    buffer[size++] = ']';
    buffer[size] = '\0';
    return buffer;
}

const char *tensor_shape_text(char buffer[static TENSOR_SHAPE_TEXT],
                              const struct tensor_shape *shape)
{
    return shape_text(buffer, shape, NULL);
}

const char *tensor_meta_text(char buffer[static TENSOR_SHAPE_TEXT], const struct tensor_meta *meta)
{
    if (meta->rank_any)
        return "[any]";
    return shape_text(buffer, &meta->shape, meta->symbols);
}

int tensor_strings_check(const void *data, uint64_t bytes, uint64_t elements, struct err *err)
{
    const char *at = data;
    uint64_t left = bytes;

    for (uint64_t i = 0; i < elements; i++) {
        uint32_t length;

        if (left < sizeof length)
            return err_set(err, ERR_BAD_INPUT,
                           "the bytes end in front of element %" PRIu64 " of %" PRIu64, i,
                           elements);
        memcpy(&length, at, sizeof length);
        __asm__ volatile("" : "+r"(length)); /* once: the memory may change under us */
        left -= sizeof length;
        if (length > left)
            return err_set(err, ERR_BAD_INPUT,
                           "element %" PRIu64 " says it has %" PRIu32 " bytes, and %" PRIu64
                           " are left",
                           i, length, left);
        at += sizeof length + length;
        left -= length;
    }
    if (left > 0)
        return err_set(err, ERR_BAD_INPUT,
                       "%" PRIu64 " bytes are left over behind %" PRIu64 " elements", left,
                       elements);
    return 0;
}
