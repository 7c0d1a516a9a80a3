/* SPDX-License-Identifier: Apache-2.0 */
/*
 * onnx.h -- ONNX models by ONNX Runtime's C API, on the CPU. The library is opened (dlopen) from
 * the executable's folder, so that nothing but this worker carries it.
 *
 * onnx_runtime is the runtime; the rest is shared between the files of this folder.
 */
#pragma once

#include <onnxruntime_c_api.h>
#include <stdbool.h>
#include <stdint.h>

#include <perigee/worker.h>

struct err;
struct model_writer;
struct runtime;
struct runtime_job;
struct runtime_load;

extern const struct runtime onnx_runtime;
extern bool onnx_log_quiet; /* nothing of what ONNX Runtime says is logged */

/* Where a dimension of an output is taken from before a run. */
struct onnx_dim {
    int64_t value; /* at least 0: known; else that of the input's dimension */
    uint32_t input, at;
};

struct onnx_io {
    char *name;
    uint32_t datatype; /* enum perigee_datatype */
    ONNXTensorElementDataType element;
    uint32_t rank;
    int64_t dims[PERIGEE_RANK_MAX];
    const char *symbols[PERIGEE_RANK_MAX]; /* the session's; NULL or "" */
    bool optional;                         /* inputs: an initializer stands in for it */
    /* Outputs: the shape can be said beforehand, so it is bound to the slot. */
    bool bound;
    struct onnx_dim sources[PERIGEE_RANK_MAX];
};

struct runtime_model {
    const OrtApi *api;
    OrtSession *session;
    OrtMemoryInfo *memory;
    OrtAllocator *allocator; /* borrowed */
    uint32_t input_count, output_count;
    struct onnx_io inputs[PERIGEE_TENSORS_MAX], outputs[PERIGEE_TENSORS_MAX];
    uint64_t memory_bytes_max; /* for words */
    char *batch_memory;        /* where a batch is gathered; grows */
    uint64_t batch_bytes;
    bool never_together; /* its outputs have shown that its rows are no batch */
};

/* 0 when `status` is NULL; else its words go to `err`, behind `doing`, and it is released. */
[[nodiscard]] int onnx_check(const struct runtime_model *model, OrtStatus *status,
                             const char *doing, struct err *err);
uint32_t onnx_datatype(ONNXTensorElementDataType element); /* 0: none of the protocol's */

/* Reads names, types and shapes, and writes the metadata. */
[[nodiscard]] int onnx_describe(struct runtime_model *model, const struct runtime_load *load,
                                struct model_writer *writer, struct err *err);

int onnx_warm(struct runtime_model *model, struct err *err);
void onnx_run(struct runtime_model *model, struct runtime_job *const *jobs, size_t count);
/* As one run. False: that cannot be, or it failed; nothing is answered, let each run alone. */
bool onnx_run_together(struct runtime_model *model, struct runtime_job *const *jobs, size_t count);
