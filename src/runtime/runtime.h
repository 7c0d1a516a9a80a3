/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime.h -- what a runtime (onnx, llama) is to the worker library: one struct of functions.
 *
 * Order: prepare() in the template, before any tenant's byte; then, in each replica behind its
 * walls, load(), warm(), and run() as long as it lives. All on the replica's one serving thread.
 * No generator of random numbers but the C library's may have been seeded by the end of prepare():
 * all replicas would draw the same ones.
 * The model belongs to the replica and dies with its process: there is no unload.
 *
 * Errors: a runtime's own words, for a person. What a run() has to say of one job goes into that
 * job (job_fail); its return value is for what ends the replica.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <perigee/worker.h>

struct answer;
struct err;
struct model_writer;
struct runtime_model;

struct runtime_load {
    const char *file;   /* in the current folder, which is the model's */
    uint32_t threads;   /* at least 1 */
    uint32_t batch_max; /* at least 1 */
    uint64_t memory_bytes_max;
};

/* One request. The tensors are a private, checked copy; their bytes are in memory that can only be
 * read and that the gateway does not change (but a runtime walks lengths in a private copy). */
struct runtime_job {
    const struct perigee_tensor *inputs; /* in the model's order of inputs */
    uint32_t input_count;
    uint64_t outputs_wanted;
    uint64_t rows;             /* its first dimension, where that is a batch's; 0: runs alone */
    uint64_t batch_rows;       /* of all that ran together, at the first of them; 0 at the others.
                                  Before run(): its own, at least 1 */
    const char *block;         /* offsets of `inputs` are from here; 64-aligned */
    struct answer *answer;     /* where outputs go */
    uint32_t status;           /* enum perigee_completion_status */
    char message[1016];        /* for a status other than DONE; terminated */
    uint64_t ready_ns, ran_ns; /* runtime_clock() once inputs are prepared, once it has run */
};

struct runtime {
    const char *name;
    /* enum perigee_wall: never put up. A worker made to test the others (tests/worker) says so in
     * its program; nothing from outside can. 0 in every worker that is installed. */
    uint32_t walls_left_out;
    /* `argv0_dir` is the executable's folder. Writes "ONNX Runtime 1.32.0". */
    int (*prepare)(const char *argv0_dir, char *library, size_t room, struct err *err);
    int (*load)(const struct runtime_load *load, struct model_writer *writer,
                struct runtime_model **ret_model, struct err *err);
    /* One run on zeros. Returns 1 when it ran, 0 with words in `err` when the zeros were refused.
     */
    int (*warm)(struct runtime_model *model, struct err *err);
    /* What is done to the output region just before READY, by a worker made to test who reads it.
     * NULL in every worker that is installed. */
    void (*before_ready)(char *output_region);
    /* More than one only of equal signature (batch.h) with rows, at most batch_rows_max together:
     * each is answered as if it had run alone. */
    void (*run)(struct runtime_model *model, struct runtime_job *const *jobs, size_t count);
};

/* What is no UTF-8 or is a control character becomes a space: a library's words are shown to
 * people. */
void runtime_clean_text(char *text);

[[gnu::format(printf, 3, 4)]] void
job_fail(struct runtime_job *job, enum perigee_completion_status status, const char *format, ...);

/* ---- answers: placed in the slot ------------------------------------------------------------- */

/* Room for `bytes` at the next 64-byte boundary of the slot. Returns NULL when it does not fit. */
void *answer_place(struct answer *answer, uint64_t bytes);
uint64_t answer_room(const struct answer *answer); /* bytes that answer_place() can still give */
/* Forgets what was placed and added. */
void answer_again(struct answer *answer);
/* An output is whole: `memory` is what answer_place() gave. */
void answer_add(struct answer *answer, uint32_t index, uint32_t datatype, const int64_t *dims,
                uint32_t rank, const void *memory, uint64_t bytes);
/* The words for PERIGEE_TOO_LARGE, which name the limit. */
void answer_too_large(const struct answer *answer, struct runtime_job *job, const char *output,
                      uint64_t bytes);

/* ---- metadata: written as the contract has it ------------------------------------------------ */

struct model_io {
    const char *name;
    uint32_t datatype, rank, flags;
    int64_t dims[PERIGEE_RANK_MAX];
    const char *symbols[PERIGEE_RANK_MAX]; /* NULL or "": none */
};

/* Fail when a count or the room is exceeded, or when text is no UTF-8. */
[[nodiscard]] int model_platform(struct model_writer *writer, const char *platform,
                                 struct err *err);
[[nodiscard]] int model_input(struct model_writer *writer, const struct model_io *io,
                              struct err *err);
[[nodiscard]] int model_output(struct model_writer *writer, const struct model_io *io,
                               struct err *err);
[[nodiscard]] int model_property(struct model_writer *writer, const char *key, const char *value,
                                 struct err *err);
void model_batch(struct model_writer *writer, uint32_t rows_max);
