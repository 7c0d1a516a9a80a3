/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lane.h -- one loop's way to one replica: a pair of rings, and the tickets that are in it.
 *
 * Slots are numbered from 0 here: those of the gateway's own lane set.
 *
 * A ticket is outstanding from lane_submit() until lane_take() returns it, or lane_abandon() does
 * after the replica was reaped. Whatever else a completion names is counted and dropped, so that a
 * late or invented answer never reaches another client. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <perigee/worker.h>

#include "base/list.h"

struct err;
struct replica;
struct tensor_meta;

struct lane_ticket { /* the caller's memory, until it comes back */
    uint64_t ticket;
    uint32_t slot;
};

struct lane {
    struct replica *replica; /* borrowed */
    int pipe;                /* read end; -1: none for this loop */
    struct perigee_submission_lane *out;
    const struct perigee_completion_lane *in;
    uint64_t published, seen;
    uint64_t began, woken; /* `seen` at first; bytes that came through the pipe */
    uint32_t outstanding;
    uint64_t dropped; /* completions that named no ticket of ours */
    struct lane_ticket *tickets[PERIGEE_SLOTS_MAX / 2]; /* by slot */
    /* the embedder's: */
    struct list link, link_active, link_wake;
    struct list flights; /* in the order in which they were submitted */
    void *watch, *owner;
    bool ready, draining, gone, lied;
};

struct lane_request {
    uint64_t ticket;
    uint64_t offset, bytes; /* of struct perigee_request with its tensors, in the arena */
    int64_t deadline_ns;    /* 0: none */
    uint32_t slot;
};

/* Publishes; the replica looks at once if it is awake, else at the latest after lane_wake(). False:
 * the ring is full though a slot was free, which a lying replica can bring about: kill it. */
bool lane_submit(struct lane *lane, const struct lane_request *request, struct lane_ticket *ticket);
/* Wakes the replica if it sleeps: once, after all that is submitted in one go. */
bool lane_wake(struct lane *lane); /* true: it slept */

/* Nobody waits for what has this slot: if it has not begun, the replica need not run it. It comes
 * back all the same. */
void lane_cancel(struct lane *lane, uint32_t slot);

/* 1: *ret is back, with its completion, whose fields are checked but for the answer's. 0: nothing
 * more. ERR_BAD_INPUT: the replica lies; kill it, and do not ask again. */
[[nodiscard]] int lane_take(struct lane *lane, struct lane_ticket **ret,
                            struct perigee_completion *ret_completion, struct err *err);
/* After the replica was reaped: one outstanding ticket after the other, then NULL. */
struct lane_ticket *lane_abandon(struct lane *lane);

bool lane_answered(const struct lane *lane); /* a completion is there */
/* Before sleeping: from here on a completion writes to the pipe. True: one is there already. */
bool lane_arm(struct lane *lane);
void lane_disarm(struct lane *lane);
void lane_pipe_drain(struct lane *lane, bool *ret_ended);
/* It wrote more wake-ups than there were completions: it keeps the loop busy. Kill it. */
bool lane_pipe_flooded(const struct lane *lane);

/* The answer in a slot, copied once and checked against the model: counts, indices, datatypes,
 * offsets inside the slot, products. Its tensors' bytes stay where they are: lane_slot(). */
[[nodiscard]] int lane_answer(const struct lane *lane, uint32_t slot,
                              const struct tensor_meta *outputs, uint32_t output_count,
                              struct perigee_answer *ret, struct err *err);
const char *lane_slot(const struct lane *lane, uint32_t slot);
/* The answer is not needed any more: place_give_slot(), and the replica may give its pages back. */
void lane_slot_give(struct lane *lane, uint32_t slot);
