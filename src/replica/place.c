/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The word says how many slots are held before a bit is chosen, and a bit is cleared before the
 * word says so: whoever was counted in finds a free bit.
 */
#include "replica/place.h"

#include <assert.h>

#include "contract/messages.h"

#define SLOT_ONE (UINT64_C(1) << 32)

void place_init(struct place *place, uint32_t concurrency, uint32_t places_max, uint32_t slots)
{
    assert(concurrency > 0 && slots > 0 && slots <= PERIGEE_SLOTS_MAX);
    if (places_max < concurrency)
        places_max = concurrency;
    *place = (struct place){
        .concurrency = concurrency,
        .places_max = places_max,
        .slots = slots,
        .slots_few = message_slots_few(slots, concurrency, places_max),
        .until_short = PLACE_SHORT_RUNS,
    };
}

/* One long run alone has perhaps lost its core to another process, which says nothing of the model.
 * Two in a row are long: what a model takes hangs on its inputs, and the next may be alike. */
bool place_learn(struct place *place, uint64_t run_ns)
{
    bool is_long = run_ns >= PLACE_SHORT_NS;
    bool was_long = atomic_load_explicit(&place->was_long, memory_order_relaxed);
    uint32_t left = atomic_load_explicit(&place->until_short, memory_order_relaxed);
    uint32_t now = is_long && was_long ? PLACE_SHORT_RUNS : left - (!is_long && left > 0);

    if (is_long != was_long)
        atomic_store_explicit(&place->was_long, is_long, memory_order_relaxed);
    if (now != left)
        atomic_store_explicit(&place->until_short, now, memory_order_relaxed);
    return now == 0 && left > 0;
}

void place_keep(struct place *place, uint32_t slot, uint64_t bytes)
{
    if (bytes < PLACE_LARGE_BYTES)
        return;
    atomic_fetch_or(&place->large[slot / 64], UINT64_C(1) << slot % 64);
    atomic_fetch_add(&place->large_held, 1);
}

static bool word_free(const struct place *place, uint64_t word)
{
    bool many = place_short(place) && atomic_load(&place->large_held) == 0;

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
    if ((atomic_load(&place->large[slot / 64]) & bit) != 0) {
        atomic_fetch_and(&place->large[slot / 64], ~bit);
        atomic_fetch_sub(&place->large_held, 1);
    }
    uint64_t before = atomic_fetch_and(&place->taken[slot / 64], ~bit);

    assert(before & bit);
    before = atomic_fetch_sub(&place->word, SLOT_ONE);
    assert(before >> 32 > 0);
}

bool place_free(const struct place *place)
{
    return word_free(place, atomic_load(&place->word));
}
