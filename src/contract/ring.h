/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.h -- the rings of <perigee/worker.h>: publishing and taking, both sides. Single producer,
 * single consumer a lane. What the other side wrote is copied once to private memory and checked.
 *
 * `seen` counters are the consumer's own, in private memory: the shared ones are only told to the
 * other side, never believed. Lane's owner thread only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <perigee/worker.h>

struct err;

/* From here on the compiler may not go back to the shared memory that was just copied. */
static inline void copy_once(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
    __asm__ volatile("" ::: "memory");
}

/* Gateway side. publish returns false when the ring has no room (a fault of ours: slots bound it).
 */
bool submission_publish(struct perigee_submission_lane *lane, uint64_t *own_head,
                        const struct perigee_completion_lane *answers,
                        const struct perigee_submission *submission);
/* Wakes the replica's futex when it sleeps, or always when `force`. True: somebody slept. */
bool submission_wake(struct perigee_submission_page *page, const struct perigee_status *status,
                     bool force);
/* 1: one copied to *ret; 0: none; ERR_BAD_INPUT: the index jumped (the replica lies: kill it). */
[[nodiscard]] int completion_take(const struct perigee_completion_lane *lane, uint64_t *seen,
                                  uint64_t published, struct perigee_completion *ret,
                                  struct err *err);

/* Worker side. */
[[nodiscard]] int submission_take(const struct perigee_submission_lane *lane, uint64_t *seen,
                                  struct perigee_submission *ret);
void completion_publish(struct perigee_completion_lane *lane, uint64_t *own_head,
                        const struct perigee_completion *completion);

/* Sleeps on page->wake while it is `seen` (FUTEX_WAIT on a read-only shared mapping works). */
void submission_sleep(const struct perigee_submission_page *page, uint32_t seen, int64_t ns_max);

/* Sizes of regions for a replica (page multiples). */
size_t region_submission_bytes(void);
size_t region_output_bytes(uint32_t slots, uint64_t slot_bytes);
static inline uint64_t region_slot_offset(uint32_t slot, uint64_t slot_bytes)
{
    return PERIGEE_SLOTS_OFFSET + (uint64_t)slot * slot_bytes;
}

/* Bytes of one element; 0 for BYTES and unknown datatypes. */
size_t datatype_bytes(uint32_t datatype);
const char *datatype_name(uint32_t datatype);        /* "FP32"; "?" */
uint32_t datatype_of(const char *name, size_t size); /* 0: unknown */

/* A tensor description read from the other side, already copied to private memory: datatype, rank,
 * dims not negative, product without overflow, bytes equal, offset aligned and inside `room`.
 * (BYTES: inside only; its lengths are walked by who reads it.) */
[[nodiscard]] int tensor_check(const struct perigee_tensor *tensor, uint64_t room, struct err *err);
/* Product of the dimensions; false when it overflows or one is negative. */
bool dims_elements(const int64_t *dims, uint32_t rank, uint64_t *ret);

/* Copies and checks the model's metadata from a replica's output region into `ret` (`room` bytes,
 * PERIGEE_MODEL_BYTES_MAX suffices): counts, ranks, datatypes, strings inside and UTF-8, names
 * unique. */
[[nodiscard]] int model_copy(const void *output_region, size_t region_bytes,
                             struct perigee_model *ret, size_t room, size_t *ret_bytes,
                             struct err *err);
/* The same checks on bytes already private (from the table or the disk). */
[[nodiscard]] int model_check(const struct perigee_model *model, size_t bytes, struct err *err);
