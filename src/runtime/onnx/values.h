/* SPDX-License-Identifier: Apache-2.0 */
/*
 * values.h -- what one run takes and gives: ONNX Runtime's values over memory of ours.
 *
 * Inputs are used where they lie, in memory that can only be read; ONNX Runtime does not write to
 * them. An output whose shape can be said beforehand is bound to memory of ours. ONNX Runtime may
 * still hand back other memory (an input passed through), so the pointer is looked at, not assumed.
 *
 * values_init(), then inputs and outputs, values_run(), look at outputs, values_deinit().
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "runtime/onnx/onnx.h"

struct answer;

/* Nothing of it is set beyond the counts: it is made for each run. */
struct values {
    const struct runtime_model *model;
    uint32_t input_count, output_count;
    const char *input_names[PERIGEE_TENSORS_MAX], *output_names[PERIGEE_TENSORS_MAX];
    OrtValue *inputs[PERIGEE_TENSORS_MAX], *outputs[PERIGEE_TENSORS_MAX];
    uint32_t indexes[PERIGEE_TENSORS_MAX]; /* of the outputs, in the model */
    void *places[PERIGEE_TENSORS_MAX];     /* where bound outputs are; NULL: ONNX Runtime says */
    uint64_t place_bytes[PERIGEE_TENSORS_MAX];
    int64_t dims[PERIGEE_TENSORS_MAX][PERIGEE_RANK_MAX]; /* of bound outputs */
};

static inline void values_init(struct values *values, const struct runtime_model *model)
{
    values->model = model;
    values->input_count = values->output_count = 0;
}
void values_release_outputs(struct values *values); /* the model's outputs may be added again */
void values_deinit(struct values *values);

/* An input that is not BYTES, over its memory. */
[[nodiscard]] int values_input(struct values *values, const struct perigee_tensor *tensor,
                               const char *memory, struct err *err);
/* An input of BYTES with that shape; its elements follow by values_fill(). */
[[nodiscard]] int values_input_strings(struct values *values, const struct perigee_tensor *tensor,
                                       struct err *err);
/* The elements of one request into the last input, from element `first` on. Lengths are copied
 * once, then checked, then used. */
[[nodiscard]] int values_fill(struct values *values, uint64_t first,
                              const struct perigee_tensor *tensor, const char *memory,
                              struct err *err);

/* An output whose shape ONNX Runtime says. Returns its row. */
uint32_t values_output(struct values *values, uint32_t index);
/* The shape of an output, from those of the inputs; false: it cannot be said beforehand. *ret_bytes
 * is UINT64_MAX when there is no such number. */
bool output_shape(const struct onnx_io *output, const struct perigee_tensor *inputs,
                  uint32_t input_count, int64_t dims[static PERIGEE_RANK_MAX], uint64_t *ret_bytes);
/* Binds row `at` to memory, with that shape. */
[[nodiscard]] int values_bind(struct values *values, uint32_t at, void *memory, const int64_t *dims,
                              uint64_t bytes, struct err *err);

[[nodiscard]] int values_run(struct values *values, struct err *err);

struct output {     /* what a run gave */
    uint32_t index; /* in the model */
    uint32_t datatype, rank;
    int64_t dims[PERIGEE_RANK_MAX];
    uint64_t elements, bytes; /* bytes: 0 for BYTES */
    const void *data;         /* NULL for BYTES */
    const OrtValue *value;
};
[[nodiscard]] int values_look(const struct values *values, uint32_t at, struct output *ret,
                              struct err *err);

/* Copies elements [first, first + count) of an output of BYTES into the answer, with that shape.
 * ERR_TOO_LARGE with the job's own words set. */
[[nodiscard]] int output_add_strings(const struct runtime_model *model, const struct output *output,
                                     uint64_t first, uint64_t count, const int64_t *dims,
                                     struct runtime_job *job, struct err *err);
