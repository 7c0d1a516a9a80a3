/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/answer.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/slice.h"
#include "runtime/runtime.h"

static_assert(sizeof((struct runtime_job){}.message) == sizeof((struct perigee_answer){}.message),
              "a job's message fits into the answer");

void runtime_clean_text(char *text)
{
    size_t size = strlen(text), at = 0, length;

    while (at < size) {
        length = utf8_length((struct slice){ text + at, size - at });
        if (length == 0 || (length == 1 && (unsigned char)text[at] < ' ')) {
            text[at] = ' ';
            length = 1;
        }
        at += length;
    }
    while (size > 0 && text[size - 1] == ' ')
        text[--size] = 0;
}

void job_fail(struct runtime_job *job, enum perigee_completion_status status, const char *format,
              ...)
{
    va_list arguments;

    job->status = status;
    va_start(arguments, format);
    (void)vsnprintf(job->message, sizeof job->message, format, arguments);
    va_end(arguments);
    runtime_clean_text(job->message);
}

void answer_begin(struct answer *answer, char *slot, uint64_t slot_bytes)
{
    answer->slot = slot;
    answer->slot_bytes = slot_bytes;
    answer_again(answer);
}

void answer_again(struct answer *answer)
{
    answer->used = PERIGEE_ANSWER_BYTES;
    answer->output_count = 0;
}

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + PERIGEE_TENSOR_ALIGN - 1) & ~(uint64_t)(PERIGEE_TENSOR_ALIGN - 1);
}

uint64_t answer_room(const struct answer *answer)
{
    uint64_t begin = aligned(answer->used);

    return begin < answer->slot_bytes ? answer->slot_bytes - begin : 0;
}

void *answer_place(struct answer *answer, uint64_t bytes)
{
    uint64_t begin = aligned(answer->used);

    if (begin > answer->slot_bytes || bytes > answer->slot_bytes - begin)
        return NULL;
    answer->used = begin + bytes;
    return answer->slot + begin;
}

void answer_add(struct answer *answer, uint32_t index, uint32_t datatype, const int64_t *dims,
                uint32_t rank, const void *memory, uint64_t bytes)
{
    assert(answer->output_count < PERIGEE_TENSORS_MAX && rank <= PERIGEE_RANK_MAX);
    struct perigee_tensor *tensor = &answer->outputs[answer->output_count++];

    *tensor = (struct perigee_tensor){
        .index = index,
        .datatype = datatype,
        .rank = rank,
        .offset = (uint64_t)((const char *)memory - answer->slot),
        .bytes = bytes,
    };
    if (rank > 0)
        memcpy(tensor->dims, dims, rank * sizeof *dims);
}

void answer_too_large(const struct answer *answer, struct runtime_job *job, const char *output,
                      uint64_t bytes)
{
    job_fail(job, PERIGEE_TOO_LARGE,
             "output '%.64s' needs %" PRIu64 " bytes, and %" PRIu64
             " are left of output_bytes_max (%" PRIu64 "; flavor.memory sets it)",
             output, bytes, answer_room(answer), answer->slot_bytes);
}

void answer_finish(struct answer *answer, const struct runtime_job *job)
{
    struct perigee_answer *head = (struct perigee_answer *)(void *)answer->slot;

    if (job->status != PERIGEE_DONE) {
        size_t size = strnlen(job->message, sizeof job->message);
        /* Cut between characters. */
        while (size > 0 && !utf8_valid((struct slice){ job->message, size }))
            size--;
        head->output_count = answer->output_count = 0;
        head->message_bytes = (uint32_t)size;
        memcpy(head->message, job->message, size);
        return;
    }
    head->message_bytes = 0;
    head->output_count = answer->output_count;
    memcpy(head->outputs, answer->outputs, answer->output_count * sizeof *head->outputs);
}
