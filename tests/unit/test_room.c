/* SPDX-License-Identifier: Apache-2.0 */
/* What may be put on a disk at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "sys/room.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static void test_a_floor_is_left(void **state)
{
    static const struct {
        const char *name;
        uint64_t disk, free, bytes, lacks;
    } rows[] = {
        { "nothing comes", 16 * MIB, 0, 0, 0 },
        { "a small disk, to its floor", 16 * MIB, 16 * MIB, 15 * MIB, 0 },
        { "a byte too many", 16 * MIB, 16 * MIB, 15 * MIB + 1, 1 },
        { "a large disk, to its floor", 1024 * GIB, GIB, GIB - 256 * MIB, 0 },
        { "a MiB too many", 1024 * GIB, GIB, GIB - 255 * MIB, MIB },
        { "below the floor already", 1024 * GIB, 100 * MIB, 16 * MIB, 172 * MIB },
        { "full", 16 * MIB, 0, MIB, 2 * MIB },
        { "more than there is", 16 * MIB, 16 * MIB, UINT64_MAX, UINT64_MAX - 16 * MIB },
        { "no disk", 0, 0, 1, 1 },
    };
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (room_short(rows[i].disk, rows[i].free, rows[i].bytes) != rows[i].lacks)
            fail_msg("%s: %llu", rows[i].name,
                     (unsigned long long)room_short(rows[i].disk, rows[i].free, rows[i].bytes));
}

static void test_a_disk_is_asked(void **state)
{
    struct err err = {};
    (void)state;

    assert_int_equal(0, room_check("/", 1, &err));
    assert_int_equal(room_lacks("/", 1), 0);
    assert_int_equal(ERR_OVERLOADED, room_check("/", UINT64_C(1) << 60, &err));
    assert_non_null(strstr(err.message, "the disk has no room for it: 1099511627776 MiB"));
    assert_true(room_lacks("/", UINT64_C(1) << 60) > UINT64_C(1) << 59);
    assert_int_equal(0, room_check("/nothing/here", UINT64_C(1) << 60, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_floor_is_left),
        cmocka_unit_test(test_a_disk_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
