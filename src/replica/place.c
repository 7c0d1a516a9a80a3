/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The word says how many slots are held before a bit is chosen, and a bit is cleared before the
 * word says so: whoever was counted in finds a free bit.
 */
#include "replica/place.h"

#include <assert.h>

#define SLOT_ONE (UINT64_C(1) << 32)

void place_init(struct place *place, uint32_t concurrency, uint32_t places_max, uint32_t slots)
{
    assert(concurrency > 0 && slots > 0 && slots <= PERIGEE_SLOTS_MAX);
    if (places_max < concurrency)
        places_max = concurrency;
    uint32_t few = (uint32_t)((uint64_t)slots * concurrency / places_max);
    *place = (struct place){
        .concurrency = concurrency,
        .places_max = places_max,
        .slots = slots,
        .slots_few = few > 0 ? few : 1,
        .long_runs = PLACE_LONG_ALL, /* until some twenty short ones tell otherwise */
    };
}

/* Shares rather than a mean: a run that lost its core to another process says nothing of the model.
 */
void place_learn(struct place *place, uint64_t run_ns)
{
    uint32_t share = atomic_load_explicit(&place->long_runs, memory_order_relaxed);

    share -= share / 16;
    if (run_ns >= PLACE_SHORT_NS)
        share += PLACE_LONG_ALL / 16;
    atomic_store_explicit(&place->long_runs, share, memory_order_relaxed);
    atomic_store_explicit(&place->short_runs, share < PLACE_LONG_ALL / 4, memory_order_relaxed);
}

static bool word_free(const struct place *place, uint64_t word)
{
    bool many = place_short(place);

    return (uint32_t)word < (many ? place->places_max : place->concurrency) &&
           word >> 32 < (many ? place->slots : place->slots_few);
}

static bool slot_take(struct place *place, uint32_t first, uint32_t *ret_slot)
{
    uint32_t end = place->slots < first + 64 ? place->slots : first + 64;
    uint64_t valid = end - first == 64 ? ~UINT64_C(0) : (UINT64_C(1) << (end - first)) - 1;
    uint64_t taken = atomic_load(&place->taken[first / 64]);

    while ((~taken & valid) != 0) {
        uint32_t bit = (uint32_t)__builtin_ctzll(~taken & valid);
        if (atomic_compare_exchange_weak(&place->taken[first / 64], &taken,
                                         taken | UINT64_C(1) << bit)) {
            *ret_slot = first + bit;
            return true;
        }
    }
    return false;
}

bool place_take(struct place *place, uint32_t *ret_slot)
{
    uint64_t word = atomic_load(&place->word);

    do
        if (!word_free(place, word))
            return false;
    while (!atomic_compare_exchange_weak(&place->word, &word, word + 1 + SLOT_ONE));
    for (;;) /* at most as many rounds as others pass us */
        for (uint32_t first = 0; first < place->slots; first += 64)
            if (slot_take(place, first, ret_slot))
                return true;
}

void place_give(struct place *place)
{
    uint64_t before = atomic_fetch_sub(&place->word, 1);

    assert((uint32_t)before > 0);
}

void place_give_slot(struct place *place, uint32_t slot)
{
    uint64_t bit = UINT64_C(1) << slot % 64;
    uint64_t before = atomic_fetch_and(&place->taken[slot / 64], ~bit);

    assert(before & bit);
    before = atomic_fetch_sub(&place->word, SLOT_ONE);
    assert(before >> 32 > 0);
}

bool place_free(const struct place *place)
{
    return word_free(place, atomic_load(&place->word));
}
