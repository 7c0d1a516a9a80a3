/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tickets are found by their slot: a slot has one ticket at a time, so the look-up is an index and
 * a comparison, and a completion that mixes the two up matches nothing.
 */
#include "replica/process/lane.h"

#include <assert.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "contract/ring.h"
#include "proto/tensor.h"
#include "replica/replica.h"

enum { PIPE_BYTES_MAX = 65536 }; /* what a pipe holds at most */

/* The hint of worker.h: whose answer nobody reads any more may lose its pages. Asked for first,
 * since mostly it is as it should be, and the line is every loop's. */
static void released_set(struct lane *lane, uint32_t slot, bool released)
{
    slot += lane->replica->slot_first;
    _Atomic uint64_t *word = &lane->replica->submission->released[slot / 64];
    uint64_t bit = UINT64_C(1) << slot % 64;
    bool now = (atomic_load_explicit(word, memory_order_relaxed) & bit) != 0;

    if (now == released)
        return;
    if (released)
        atomic_fetch_or(word, bit);
    else
        atomic_fetch_and(word, ~bit);
}

/* The hint of worker.h beside the ring: only this loop writes it. */
static void canceled_set(struct lane *lane, uint32_t slot, bool canceled)
{
    uint32_t index = (lane->replica->slot_first + slot) % PERIGEE_RING_ENTRIES;
    _Atomic uint64_t *word = &lane->out->canceled[index / 64];
    uint64_t bit = UINT64_C(1) << index % 64;
    uint64_t now = atomic_load_explicit(word, memory_order_relaxed);

    if (((now & bit) != 0) != canceled)
        atomic_store_explicit(word, now ^ bit, memory_order_relaxed);
}

void lane_cancel(struct lane *lane, uint32_t slot)
{
    canceled_set(lane, slot, true);
}

void lane_slot_give(struct lane *lane, uint32_t slot)
{
    released_set(lane, slot, true);
    place_give_slot(&lane->replica->place, slot);
}

bool lane_submit(struct lane *lane, const struct lane_request *request, struct lane_ticket *ticket)
{
    struct perigee_submission submission = {
        .ticket = request->ticket,
        .request_offset = request->offset,
        .request_bytes = request->bytes,
        .slot = lane->replica->slot_first + request->slot,
        .deadline_ns = request->deadline_ns,
    };

    assert(request->ticket != 0 && request->slot < lane->replica->slots);
    assert(!lane->tickets[request->slot]);
    released_set(lane, request->slot, false);
    canceled_set(lane, request->slot, false);
    if (!submission_publish(lane->out, &lane->published, lane->in, &submission))
        return false;
    ticket->ticket = request->ticket;
    ticket->slot = request->slot;
    lane->tickets[request->slot] = ticket;
    lane->outstanding++;
    return true;
}

bool lane_wake(struct lane *lane)
{
    return submission_wake(lane->replica->submission, replica_status(lane->replica), false);
}

int lane_take(struct lane *lane, struct lane_ticket **ret,
              struct perigee_completion *ret_completion, struct err *err)
{
    for (;;) {
        struct perigee_completion completion;
        int r = completion_take(lane->in, &lane->seen, lane->published, &completion, err);
        if (r <= 0)
            return r;
        atomic_store_explicit(&lane->out->taken, lane->seen, memory_order_release);
        completion.slot -= lane->replica->slot_first; /* one before it becomes huge */
        if (completion.slot >= lane->replica->slots || !lane->tickets[completion.slot] ||
            lane->tickets[completion.slot]->ticket != completion.ticket) {
            lane->dropped++;
            continue;
        }
        *ret = lane->tickets[completion.slot];
        *ret_completion = completion;
        lane->tickets[completion.slot] = NULL;
        lane->outstanding--;
        return 1;
    }
}

struct lane_ticket *lane_abandon(struct lane *lane)
{
    for (uint32_t i = 0; lane->outstanding > 0 && i < lane->replica->slots; i++) {
        struct lane_ticket *ticket = lane->tickets[i];
        if (!ticket)
            continue;
        lane->tickets[i] = NULL;
        lane->outstanding--;
        return ticket;
    }
    return NULL;
}

bool lane_answered(const struct lane *lane)
{
    return atomic_load_explicit(&lane->in->head, memory_order_acquire) != lane->seen;
}

bool lane_arm(struct lane *lane)
{
    atomic_store_explicit(&lane->out->armed, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    return lane_answered(lane);
}

void lane_disarm(struct lane *lane)
{
    atomic_store_explicit(&lane->out->armed, 0, memory_order_relaxed);
}

void lane_pipe_drain(struct lane *lane, bool *ret_ended)
{
    char bytes[256]; /* what is left makes the descriptor readable again */

    ssize_t size = read(lane->pipe, bytes, sizeof bytes);

    *ret_ended = size == 0;
    if (size > 0)
        lane->woken += (uint64_t)size;
}

/* One byte a completion, one for READY, and what a full pipe held of an earlier gateway's. */
bool lane_pipe_flooded(const struct lane *lane)
{
    return lane->woken > lane->seen - lane->began + PIPE_BYTES_MAX + PERIGEE_RING_ENTRIES;
}

const char *lane_slot(const struct lane *lane, uint32_t slot)
{
    return lane->replica->output +
           region_slot_offset(lane->replica->slot_first + slot, lane->replica->slot_bytes);
}

static int output_check(const struct lane *lane, const struct tensor_meta *output,
                        const struct perigee_tensor *tensor, uint64_t *seen, struct err *err)
{
    if (!output)
        return err_set(err, ERR_BAD_INPUT, "the model has no output %u", tensor->index);
    if (*seen & UINT64_C(1) << tensor->index)
        return err_set(err, ERR_BAD_INPUT, "output %u came twice", tensor->index);
    *seen |= UINT64_C(1) << tensor->index;
    if (tensor->datatype != (uint32_t)output->type)
        return err_set(err, ERR_BAD_INPUT, "output %u is %s, the model says %s", tensor->index,
                       datatype_name(tensor->datatype), datatype_name((uint32_t)output->type));
    if (tensor->offset < PERIGEE_ANSWER_BYTES)
        return err_set(err, ERR_BAD_INPUT, "output %u lies on the answer's head", tensor->index);
    return tensor_check(tensor, lane->replica->slot_bytes, err);
}

int lane_answer(const struct lane *lane, uint32_t slot, const struct tensor_meta *outputs,
                uint32_t output_count, struct perigee_answer *ret, struct err *err)
{
    const char *from = lane_slot(lane, slot);
    uint64_t seen = 0;

    memcpy(ret, from, offsetof(struct perigee_answer, outputs));
    __asm__ volatile("" ::: "memory"); /* what was copied is not read again */
    if (ret->output_count > PERIGEE_TENSORS_MAX || ret->message_bytes > sizeof ret->message)
        return err_set(err, ERR_BAD_INPUT, "an answer with %u outputs and %u bytes of message",
                       ret->output_count, ret->message_bytes);
    memcpy(ret->outputs, from + offsetof(struct perigee_answer, outputs),
           ret->output_count * sizeof *ret->outputs);
    __asm__ volatile("" ::: "memory");
    for (uint32_t i = 0; i < ret->output_count; i++) {
        uint32_t index = ret->outputs[i].index;
        int r = output_check(lane, index < output_count ? &outputs[index] : NULL, &ret->outputs[i],
                             &seen, err);
        if (r < 0)
            return r;
    }
    return 0;
}
