/* SPDX-License-Identifier: Apache-2.0 */
/*
 * infer_answer.h -- an answer's tensors, binary or in JSON: read and checked, shown, and kept in a
 * file. All lies in the arena that it is read into; `json` and `binary` are borrowed.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "cli/tensor_file.h"

struct arena;
struct cli;
struct err;

struct infer_output {
    struct slice name;
    struct tensor_file tensor; /* as it came in binary; datatype TENSOR_NONE: */
    yyjson_val *data;          /* this instead, flat; NULL: none */
    struct slice datatype;
    uint64_t count; /* elements */
    size_t columns; /* of a row: the last dimension */
    uint64_t text_index;
    size_t text_at; /* of BYTES: where that element begins */
};

/* `binary` is what follows the JSON; it must be as long as the outputs say. */
[[nodiscard]] int infer_answer_read(struct arena *arena, yyjson_val *json, struct slice binary,
                                    struct infer_output **ret, size_t *ret_count, struct err *err);
void infer_answer_print(struct cli *cli, struct infer_output *outputs, size_t count);
/* As a .npz with an array for each: BF16 as FP32, BYTES as S (which keeps no zero bytes at an
 * element's end). Those of JSON cannot be kept: ERR_NOT_SUPPORTED. */
[[nodiscard]] int infer_answer_save(struct cli *cli, const char *path,
                                    const struct infer_output *outputs, size_t count,
                                    struct err *err);
