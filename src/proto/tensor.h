/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tensor.h -- datatypes, shapes, and what a model says of its tensors.
 *
 * The numbers of the datatypes are those of the worker contract (enum perigee_datatype) and go
 * over shared memory: they are never renumbered. A tensor's bytes are row-major, little-endian; a
 * BYTES element is a 4-byte length and that many bytes. Plain data; names are borrowed from
 * whoever filled a tensor_meta in. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct err;

/* X(constant, number, name in OIP, bytes of an element (0: variable)) */
#define TENSOR_TYPES(X)                                                                            \
    X(BOOL, 1, 1)                                                                                  \
    X(UINT8, 2, 1)                                                                                 \
    X(UINT16, 3, 2)                                                                                \
    X(UINT32, 4, 4)                                                                                \
    X(UINT64, 5, 8)                                                                                \
    X(INT8, 6, 1)                                                                                  \
    X(INT16, 7, 2)                                                                                 \
    X(INT32, 8, 4)                                                                                 \
    X(INT64, 9, 8)                                                                                 \
    X(FP16, 10, 2)                                                                                 \
    X(FP32, 11, 4)                                                                                 \
    X(FP64, 12, 8)                                                                                 \
    X(BYTES, 13, 0)                                                                                \
    X(BF16, 14, 2)

enum tensor_type {
    TENSOR_NONE = 0,
#define TENSOR_ENUM(name, number, bytes) TENSOR_##name = number,
    TENSOR_TYPES(TENSOR_ENUM)
#undef TENSOR_ENUM
};

#define TENSOR_TYPE_COUNT 15 /* the highest number, and 0 */
#define TENSOR_RANK_MAX 16
#define TENSOR_ALIGN 64 /* every tensor begins on such a boundary of its block */
#define TENSOR_BYTES_MAX (UINT64_C(1) << 40)

const char *tensor_type_name(enum tensor_type type);   /* "FP32"; "?" for a number that is none */
const char *tensor_config_name(enum tensor_type type); /* "TYPE_FP32", as in Triton's config */
enum tensor_type tensor_type_of(struct slice name);    /* TENSOR_NONE when there is none */
size_t tensor_type_bytes(enum tensor_type type);       /* of one element; 0 for BYTES and none */

struct tensor_shape {
    uint32_t rank;
    int64_t dims[TENSOR_RANK_MAX];
};

/* What a model says of one input or output. */
struct tensor_meta {
    struct slice name;
    enum tensor_type type;
    struct tensor_shape shape;   /* -1: any size */
    const struct slice *symbols; /* by dimension: names of those of any size, may be empty; NULL */
    bool rank_any;               /* the model does not say; shape.rank is 0 */
    bool optional;               /* inputs: a request may leave it out */
    const struct slice *labels;  /* outputs: names of classes, or NULL */
    uint32_t label_count;
};

/* Elements of a shape; false when a dimension is negative or the product is above what 2^40
 * bytes can hold. A scalar has one. */
bool tensor_elements(const struct tensor_shape *shape, uint64_t *ret);

/* Bytes of a tensor of fixed-size elements; false as above, and for BYTES. */
bool tensor_bytes(enum tensor_type type, const struct tensor_shape *shape, uint64_t *ret);

/* Does `shape` agree with what the model says? */
bool tensor_fits(const struct tensor_meta *meta, const struct tensor_shape *shape);

/* "[-1,64]" or, with the meta's symbols, "[batch,64]"; cut with dots where it does not fit. */
#define TENSOR_SHAPE_TEXT 256
const char *tensor_shape_text(char buffer[static TENSOR_SHAPE_TEXT],
                              const struct tensor_shape *shape);
const char *tensor_meta_text(char buffer[static TENSOR_SHAPE_TEXT], const struct tensor_meta *meta);
#define TENSOR_SHAPE(shape) tensor_shape_text((char[TENSOR_SHAPE_TEXT]){}, (shape))
#define TENSOR_META(meta) tensor_meta_text((char[TENSOR_SHAPE_TEXT]){}, (meta))

/* A serialised BYTES tensor holds exactly `elements` elements in exactly `bytes` bytes. Each
 * length is read once, so `data` may be memory that another process writes. */
[[nodiscard]] int tensor_strings_check(const void *data, uint64_t bytes, uint64_t elements,
                                       struct err *err);
