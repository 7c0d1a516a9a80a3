/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oip_model.h -- the model that requests are fuzzed against: a tensor of every datatype, named by
 * its number, dimensions of any size. Any thread.
 */
#pragma once

#include "proto/oip.h"

#define FUZZ_TENSOR(number, symbol)                                                                \
    {                                                                                              \
        .name = { symbol, 1 }, .type = (enum tensor_type)(number), .shape = { 2, { -1, -1 } },     \
        .optional = true                                                                           \
    }

static const struct tensor_meta fuzz_tensors[] = {
    FUZZ_TENSOR(1, "1"),
    FUZZ_TENSOR(2, "2"),
    FUZZ_TENSOR(3, "3"),
    FUZZ_TENSOR(4, "4"),
    FUZZ_TENSOR(5, "5"),
    FUZZ_TENSOR(6, "6"),
    FUZZ_TENSOR(7, "7"),
    FUZZ_TENSOR(8, "8"),
    FUZZ_TENSOR(9, "9"),
    FUZZ_TENSOR(10, "a"),
    FUZZ_TENSOR(11, "b"),
    FUZZ_TENSOR(12, "c"),
    FUZZ_TENSOR(13, "d"),
    FUZZ_TENSOR(14, "e"),
    { .name = { "s", 1 }, .type = TENSOR_FP32, .optional = true },
    { .name = { "r", 1 }, .type = TENSOR_INT64, .rank_any = true, .optional = true },
};

static const struct oip_model fuzz_model = {
    .name = { "m", 1 },
    .inputs = fuzz_tensors,
    .outputs = fuzz_tensors,
    .input_count = sizeof fuzz_tensors / sizeof *fuzz_tensors,
    .output_count = sizeof fuzz_tensors / sizeof *fuzz_tensors,
};
