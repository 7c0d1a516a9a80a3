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
    } runs[5];
    uint32_t wanted;
} rows[] = {
    { "nothing is known", 4, 8, 16, {}, 4 },
    { "a few short ones", 4, 8, 16, { { 63, 2 * US } }, 4 },
    { "short ones", 4, 8, 16, { { 64, 2 * US } }, 8 },
    { "long ones", 4, 8, 16, { { 1000, 100 * US } }, 4 },
    { "just short", 4, 8, 16, { { 64, PLACE_SHORT_NS - 1 } }, 8 },
    { "not quite", 4, 8, 16, { { 64, PLACE_SHORT_NS } }, 4 },
    { "one lost its core", 4, 8, 16, { { 64, 2 * US }, { 1, 10'000 * US } }, 8 },
    { "now and then", 4, 8, 16, { { 64, US }, { 1, 90 * US }, { 1, US }, { 1, 90 * US } }, 8 },
    { "two are long", 4, 8, 16, { { 64, 2 * US }, { 2, 50 * US } }, 4 },
    { "for a while", 4, 8, 16, { { 64, 2 * US }, { 2, 50 * US }, { 63, US } }, 4 },
    { "and short again", 4, 8, 16, { { 64, 2 * US }, { 2, 50 * US }, { 64, US } }, 8 },
    { "a lie", 4, 8, 16, { { 64, 2 * US }, { 2, UINT64_MAX } }, 4 },
    { "the spec says how many", 4, 4, 8, { { 64, 2 * US } }, 4 },
    { "an older supervisor", 4, 0, 8, { { 64, 2 * US } }, 4 },
    { "slots are the bound", 4, 8, 4, { { 64, 2 * US } }, 4 },
    { "and of long runs their part", 4, 8, 4, {}, 2 },
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
        for (size_t k = 0; k < sizeof rows[i].runs / sizeof *rows[i].runs; k++)
            for (unsigned n = 0; n < rows[i].runs[k].count; n++)
                (void)place_learn(&place, rows[i].runs[k].run_ns);
        uint32_t found = held(&place);
        if (found != rows[i].wanted)
            fail_msg("%s: %u may be held, not %u", rows[i].name, found, rows[i].wanted);
    }
}

/* Returns how often it said that there may be more room. */
static unsigned learn(struct place *place, int count, uint64_t run_ns)
{
    unsigned said = 0;

    for (int i = 0; i < count; i++)
        said += place_learn(place, run_ns);
    return said;
}

/* More than it may hold now are let finish, and none is added. */
static void test_more_than_there_is_room_for(void **state)
{
    struct place place;
    uint32_t slot;

    (void)state;
    place_init(&place, 2, 4, 8);
    assert_int_equal(learn(&place, 200, US), 1);
    assert_int_equal(held(&place), 4);
    assert_int_equal(learn(&place, 40, 1'000 * US), 0);
    for (uint32_t running = 4; running > 2; running--) {
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

/* Short runs and long ones by turns, as a hostile client would have it: small answers leave at
 * once, large ones are not read. However that goes, no more slots hold a large one than of long
 * runs. */
static void test_large_answers_are_bounded(void **state)
{
    (void)state;
    for (int each = 1; each <= 40; each++) {
        struct place place;
        uint32_t slots[32], running = 0, large = 0, taken = 0, large_max = 0;

        place_init(&place, 4, 8, 16);
        (void)learn(&place, 100, US);
        for (int step = 0; step < 2000; step++) {
            while (running < 32 && place_take(&place, &slots[running]))
                running++;
            if (running == 0)
                break;
            uint32_t slot = slots[--running];
            bool is_large = ++taken % (uint32_t)each == 0;
            (void)place_learn(&place, is_large ? 500 * US : US);
            place_give(&place);
            place_keep(&place, slot, is_large ? 16 << 20 : 40);
            large += is_large;
            if (!is_large)
                place_give_slot(&place, slot);
            large_max = large > large_max ? large : large_max;
        }
        if (large_max > 8)
            fail_msg("one large answer in %d: %u are held", each, large_max);
    }
}

/* All that runs may turn out large; once they are read, there is room as before. */
static void test_large_answers_are_read(void **state)
{
    struct place place;
    uint32_t slot, slots[16];

    (void)state;
    place_init(&place, 4, 8, 16);
    (void)learn(&place, 100, US);
    for (int i = 0; i < 8; i++)
        assert_true(place_take(&place, &slots[i]));
    for (int i = 0; i < 8; i++) {
        place_give(&place);
        place_keep(&place, slots[i], PLACE_LARGE_BYTES);
    }
    assert_false(place_take(&place, &slot));
    for (int i = 0; i < 8; i++)
        place_give_slot(&place, slots[i]);
    assert_int_equal(held(&place), 8);
    for (uint32_t i = 0; i < 8; i++) {
        place_give(&place);
        place_keep(&place, i, PLACE_LARGE_BYTES - 1);
    }
    assert_int_equal(held(&place), 8);
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
        cmocka_unit_test(test_large_answers_are_bounded),
        cmocka_unit_test(test_large_answers_are_read),
        cmocka_unit_test(test_yields_while_nobody_else_wants_the_core),
    };
    return cmocka_run_group_tests_name("place", tests, NULL, NULL);
}
