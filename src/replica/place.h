/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place.h -- how many requests a replica has, over all loops: one atomic word (dataplane.md 7).
 *
 * A request in a replica needs a place (below `concurrency`) and an answer slot. The place is given
 * back when the replica has completed it; the slot when the answer has been written out, which may
 * be later. Both counts stand in one word, so that a place is taken by one compare-and-swap and
 * never half. Any thread, no lock.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <perigee/worker.h>

struct place {
    _Atomic uint64_t word;                          /* running, and slots held << 32 */
    _Atomic uint64_t taken[PERIGEE_SLOTS_MAX / 64]; /* bit: the slot is held */
    uint32_t concurrency, slots;
};

void place_init(struct place *place, uint32_t concurrency, uint32_t slots);

bool place_take(struct place *place, uint32_t *ret_slot); /* false: full */
void place_give(struct place *place);                     /* it is completed; the slot stays held */
void place_give_slot(struct place *place, uint32_t slot); /* its answer is not needed any more */

bool place_free(const struct place *place); /* a take would do, just now */
static inline uint32_t place_running(const struct place *place)
{
    return (uint32_t)atomic_load(&place->word);
}
