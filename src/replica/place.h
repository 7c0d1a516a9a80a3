/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place.h -- how many requests a replica has, over all loops: one atomic word.
 *
 * A request in a replica needs a place (below `concurrency`) and an answer slot. The place is given
 * back when the replica has completed it; the slot when the answer has been written out, which may
 * be later. Both counts stand in one word, so that a place is taken by one compare-and-swap and
 * never half. Any thread, no lock.
 *
 * A replica that has done all its requests sleeps, and to wake it takes longer than many a model
 * runs. So where the spec does not say how many it may hold, and runs are short, it may hold more:
 * `places_max`, and the slots that belong to them. No more slots than belong to `concurrency` ever
 * hold a large answer, whatever the runs were: while one does, there are no others.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <perigee/worker.h>

struct place {
    _Atomic uint64_t word;                          /* running, and slots held << 32 */
    _Atomic uint64_t taken[PERIGEE_SLOTS_MAX / 64]; /* bit: the slot is held */
    uint32_t concurrency, places_max;
    uint32_t slots, slots_few;    /* all; the part that belongs to `concurrency` */
    _Atomic uint32_t until_short; /* runs; 0: they are short */
    _Atomic bool was_long;        /* the last run */
    _Atomic uint32_t large_held;
    _Atomic uint64_t large[PERIGEE_SLOTS_MAX / 64]; /* bit: it counts in large_held */
};

#define PLACE_SHORT_NS UINT64_C(20'000) /* a run that is over sooner than a sleeper is awake */
#define PLACE_SHORT_RUNS 64             /* so many, and the next ones are believed to be short */
#define PLACE_LARGE_BYTES (UINT64_C(64) << 10)

/* `places_max` (0: `concurrency`) is at most as many as slots belong to `concurrency`, so that what
 * runs when an answer turns out large finds no more; `slots` are those for all places. */
void place_init(struct place *place, uint32_t concurrency, uint32_t places_max, uint32_t slots);
/* A run took so long. Any thread; a sample lost to another's is one less. True: runs are short from
 * here on, so that there may be room for who waits. */
bool place_learn(struct place *place, uint64_t run_ns);
/* The answer in a slot that is held, and stays so, has so many bytes. */
void place_keep(struct place *place, uint32_t slot, uint64_t bytes);

bool place_take(struct place *place, uint32_t *ret_slot); /* false: full */
void place_give(struct place *place);                     /* it is completed; the slot stays held */
void place_give_slot(struct place *place, uint32_t slot); /* its answer is not needed any more */

bool place_free(const struct place *place); /* a take would do, just now */
static inline bool place_short(const struct place *place)
{
    return atomic_load_explicit(&place->until_short, memory_order_relaxed) == 0;
}
static inline uint32_t place_running(const struct place *place)
{
    return (uint32_t)atomic_load(&place->word);
}
