/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oip_classes.h -- the classification extension: the best k elements of each row as strings
 * "value:index[:label]". For oip_answer.c. Everything returned lives in the arena. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "proto/tensor.h"

struct arena;
struct err;
struct oip_output;

struct oip_classes {
    struct tensor_shape shape; /* [rows,k], or [k] where the model has no batches */
    struct slice *strings;
    uint64_t count;
};

/* The output's shape and bytes were checked, its type is a number's. `batched`: its first
 * dimension counts rows. Equal values come in the order of their indexes, NaN last. */
[[nodiscard]] int oip_classes_find(struct arena *arena, const struct oip_output *output,
                                   const struct tensor_meta *meta, bool batched, uint32_t k,
                                   uint64_t bytes_max, struct oip_classes *ret, struct err *err);

/* As a serialised BYTES tensor. */
struct slice oip_classes_bytes(struct arena *arena, const struct oip_classes *classes);
