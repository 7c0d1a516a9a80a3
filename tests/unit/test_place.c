/* SPDX-License-Identifier: Apache-2.0 */
/* How many requests a replica may hold, and when a loop offers it its core. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h> /* after the four above */

#include "gateway/yield.h"
#include "replica/place.h"

#define US UINT64_C(1'000)

/* Runs one after the other, and what may be held after the last of them. */
static const struct {
    const char *name;
    uint32_t concurrency, places_max, slots;
    struct {
        unsigned count;
        uint64_t run_ns;
    } runs[4];
    uint32_t wanted;
} rows[] = {
    { "nothing is known", 4, 16, 32, {}, 4 },
    { "a few short ones", 4, 16, 32, { { 10, 2 * US } }, 4 },
    { "short ones", 4, 16, 32, { { 40, 2 * US } }, 16 },
    { "long ones", 4, 16, 32, { { 1000, 100 * US } }, 4 },
    { "just short", 4, 16, 32, { { 40, PLACE_SHORT_NS - 1 } }, 16 },
    { "not quite", 4, 16, 32, { { 40, PLACE_SHORT_NS } }, 4 },
    { "one lost its core", 4, 16, 32, { { 40, 2 * US }, { 1, 10'000 * US } }, 16 },
    { "it is long now", 4, 16, 32, { { 40, 2 * US }, { 20, 50 * US } }, 4 },
    { "and short again", 4, 16, 32, { { 40, 2 * US }, { 20, 50 * US }, { 40, 2 * US } }, 16 },
    { "a lie", 4, 16, 32, { { 40, 2 * US }, { 30, UINT64_MAX } }, 4 },
    { "the spec says how many", 4, 4, 8, { { 40, 2 * US } }, 4 },
    { "an older supervisor", 4, 0, 8, { { 40, 2 * US } }, 4 },
    { "slots are the bound", 4, 16, 8, { { 40, 2 * US } }, 8 },
    { "and of long runs their part", 4, 16, 8, {}, 2 },
};

static uint32_t held(struct place *place)
{
    uint32_t count = 0, slot;

    while (place_take(place, &slot))
        count++;
    assert_false(place_free(place));
    return count;
}

static void test_places(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct place place;

        place_init(&place, rows[i].concurrency, rows[i].places_max, rows[i].slots);
        for (size_t k = 0; k < 4; k++)
            for (unsigned n = 0; n < rows[i].runs[k].count; n++)
                place_learn(&place, rows[i].runs[k].run_ns);
        uint32_t found = held(&place);
        if (found != rows[i].wanted)
            fail_msg("%s: %u may be held, not %u", rows[i].name, found, rows[i].wanted);
    }
}

/* More than it may hold now are let finish, and none is added. */
static void test_more_than_there_is_room_for(void **state)
{
    struct place place;
    uint32_t slot;

    (void)state;
    place_init(&place, 2, 6, 12);
    for (int i = 0; i < 40; i++)
        place_learn(&place, US);
    assert_int_equal(held(&place), 6);
    for (int i = 0; i < 40; i++)
        place_learn(&place, 1'000 * US);
    for (uint32_t running = 6; running > 2; running--) {
        assert_int_equal(place_running(&place), running);
        assert_false(place_take(&place, &slot));
        place_give(&place);
        place_give_slot(&place, running - 1);
    }
    assert_false(place_take(&place, &slot));
    place_give(&place);
    place_give_slot(&place, 0);
    assert_true(place_take(&place, &slot));
}

/* Answers that nobody reads hold slots, and a slot is memory: long runs get no more than before. */
static void test_slots_of_long_runs(void **state)
{
    struct place place;
    uint32_t slot, count = 0;

    (void)state;
    place_init(&place, 4, 16, 32);
    for (; place_take(&place, &slot); count++)
        place_give(&place);
    assert_int_equal(count, 8);
    for (int i = 0; i < 40; i++)
        place_learn(&place, US);
    for (; place_take(&place, &slot); count++)
        place_give(&place);
    assert_int_equal(count, 32);
}

static void test_yields_while_nobody_else_wants_the_core(void **state)
{
    struct yield yield = {};
    int64_t now = 0, lost = 0, rested = 0;

    (void)state;
    /* Alone with the replica: always. */
    for (int i = 0; i < 1000; i++, now += 30'000) {
        assert_true(yield_due(&yield, now));
        yield_done(&yield, now, now + 5'000);
    }
    /* Another program takes a slice of 3 ms each time: a hundredth of the time in the end. */
    for (int64_t end = now + 60 * INT64_C(1'000'000'000); now < end; now += 30'000) {
        if (!yield_due(&yield, now)) {
            rested += 30'000;
            continue;
        }
        yield_done(&yield, now, now + 3'000'000);
        now += 3'000'000;
        lost += 3'000'000;
    }
    assert_true(lost * 100 < rested);
    /* It has gone: as before, after the rest. */
    now += INT64_C(1'000'000'000);
    for (int i = 0; i < 100; i++, now += 30'000) {
        assert_true(yield_due(&yield, now));
        yield_done(&yield, now, now + 5'000);
    }
    yield_done(&yield, now, now + 3'000'000);
    assert_false(yield_due(&yield, now + 12'000'000));
    assert_true(yield_due(&yield, now + 14'000'000)); /* the rest is the shortest again */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_more_than_there_is_room_for),
        cmocka_unit_test(test_slots_of_long_runs),
        cmocka_unit_test(test_yields_while_nobody_else_wants_the_core),
    };
    return cmocka_run_group_tests_name("place", tests, NULL, NULL);
}
