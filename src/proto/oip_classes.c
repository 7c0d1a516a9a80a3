/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/oip_classes.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "proto/number.h"
#include "proto/oip.h"

/* A long double holds every integer of 64 bits exactly. */
static_assert(__LDBL_MANT_DIG__ >= 64, "values of INT64 and UINT64 are compared as long double");

struct best {
    long double value;
    uint64_t index;
};

#define VALUE_TEXT 400 /* "%f" of the largest binary64 has 309 digits and 6 decimals */

static bool is_signed(enum tensor_type type)
{
    return type >= TENSOR_INT8 && type <= TENSOR_INT64;
}

/* One read of memory that may change: the value is private from here. */
static long double load(enum tensor_type type, const char *raw)
{
    size_t size = tensor_type_bytes(type);
    uint64_t bits = 0;
    double wide;
    float narrow;

    memcpy(&bits, raw, size);
    __asm__ volatile("" : "+r"(bits));
    switch (type) {
    case TENSOR_FP16:
        return (long double)number_from_fp16((uint16_t)bits);
    case TENSOR_BF16:
        return (long double)number_from_bf16((uint16_t)bits);
    case TENSOR_FP32:
        memcpy(&narrow, &bits, sizeof narrow);
        return (long double)narrow;
    case TENSOR_FP64:
        memcpy(&wide, &bits, sizeof wide);
        return (long double)wide;
    default:
        break;
    }
    if (!is_signed(type))
        return (long double)bits;
    int unused = (int)(64 - size * 8);
    return (long double)((int64_t)(bits << unused) >> unused);
}

static bool worse(const struct best *a, const struct best *b)
{
    if (isnan(a->value) != isnan(b->value))
        return isnan(a->value);
    if (a->value != b->value && !isnan(a->value))
        return a->value < b->value;
    return a->index > b->index;
}

static int best_compare(const void *a, const void *b)
{
    return worse(a, b) ? 1 : -1;
}

/* The worst of the heap is at its root; it goes down to where it belongs. */
static void sink(struct best *heap, uint64_t count, uint64_t at)
{
    for (;;) {
        uint64_t child = 2 * at + 1;
        struct best held = heap[at];

        if (child >= count)
            return;
        if (child + 1 < count && worse(&heap[child + 1], &heap[child]))
            child++;
        if (!worse(&heap[child], &held))
            return;
        heap[at] = heap[child];
        heap[child] = held;
        at = child;
    }
}

static void best_of_row(enum tensor_type type, const char *row, uint64_t count, struct best *heap,
                        uint64_t k)
{
    size_t size = tensor_type_bytes(type);

    for (uint64_t i = 0; i < k; i++)
        heap[i] = (struct best){ load(type, row + i * size), i };
    for (uint64_t i = k / 2; i-- > 0;)
        sink(heap, k, i);
    for (uint64_t i = k; i < count; i++) {
        struct best next = { load(type, row + i * size), i };

        if (!worse(&heap[0], &next))
            continue;
        heap[0] = next;
        sink(heap, k, 0);
    }
    qsort(heap, k, sizeof *heap, best_compare);
}

static struct slice describe(struct arena *arena, enum tensor_type type, const struct best *best,
                             const struct tensor_meta *meta)
{
    char text[VALUE_TEXT + 32];
    bool labelled = best->index < meta->label_count;
    struct slice label = labelled ? meta->labels[best->index] : (struct slice){};
    int size;

    if (type == TENSOR_UINT64)
        size = snprintf(text, sizeof text, "%" PRIu64, (uint64_t)best->value);
    else if (type < TENSOR_FP16)
        size = snprintf(text, sizeof text, "%" PRId64, (int64_t)best->value);
    else
        size = snprintf(text, sizeof text, "%f", (double)best->value);
    size += snprintf(text + size, sizeof text - (size_t)size, ":%" PRIu64 "%s", best->index,
                     labelled ? ":" : "");

    char *copy = arena_alloc(arena, (size_t)size + label.size);
    memcpy(copy, text, (size_t)size);
    if (label.size > 0)
        memcpy(copy + size, label.data, label.size);
    return (struct slice){ copy, (size_t)size + label.size };
}

int oip_classes_find(struct arena *arena, const struct oip_output *output,
                     const struct tensor_meta *meta, bool batched, uint32_t k, uint64_t bytes_max,
                     struct oip_classes *ret, struct err *err)
{
    size_t size = tensor_type_bytes(output->type);
    uint64_t elements = output->bytes / size;
    uint64_t rows = batched && output->shape.rank > 0 ? (uint64_t)output->shape.dims[0] : 1;
    uint64_t per_row = rows ? elements / rows : 0;
    uint64_t best_count = k < per_row ? k : per_row;
    uint64_t bytes = 0;
    struct best *heap;

    /* A string takes about 64 bytes until it is sent, and its label, so this bounds the arena. */
    if (best_count > 0 && rows > bytes_max / 64 / best_count)
        return err_set(err, ERR_TOO_LARGE,
                       "%" PRIu64 " classes of %" PRIu64 " rows are too many for one answer",
                       best_count, rows);
    *ret = (struct oip_classes){ .count = rows * best_count };
    if (batched && output->shape.rank > 0)
        ret->shape.dims[ret->shape.rank++] = (int64_t)rows;
    ret->shape.dims[ret->shape.rank++] = (int64_t)best_count;
    if (ret->count == 0)
        return 0;

    heap = ARENA_ARRAY(arena, struct best, best_count);
    ret->strings = ARENA_ARRAY(arena, struct slice, ret->count);
    for (uint64_t i = 0; i < rows; i++) {
        best_of_row(output->type, (const char *)output->data + i * per_row * size, per_row, heap,
                    best_count);
        for (uint64_t j = 0; j < best_count; j++) {
            struct slice *string = &ret->strings[i * best_count + j];
            *string = describe(arena, output->type, &heap[j], meta);
            bytes += string->size + 64;
            if (bytes > bytes_max)
                return err_set(err, ERR_TOO_LARGE,
                               "the names of %" PRIu64 " classes of %" PRIu64
                               " rows are too long for one answer",
                               best_count, rows);
        }
    }
    return 0;
}

struct slice oip_classes_bytes(struct arena *arena, const struct oip_classes *classes)
{
    size_t size = 0, at = 0;
    char *out;

    for (uint64_t i = 0; i < classes->count; i++)
        size += sizeof(uint32_t) + classes->strings[i].size;
    out = arena_alloc(arena, size);
    for (uint64_t i = 0; i < classes->count; i++) {
        uint32_t length = (uint32_t)classes->strings[i].size;

        memcpy(out + at, &length, sizeof length);
        memcpy(out + at + sizeof length, classes->strings[i].data, length);
        at += sizeof length + length;
    }
    return (struct slice){ out, size };
}
