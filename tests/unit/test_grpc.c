/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/grpc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include "base/err.h"

static const struct {
    const char *text;
    uint64_t ns; /* 0 and no text of 0: refused */
} rows[] = {
    { "500m", 500'000'000 },
    { "1H", UINT64_C(3'600'000'000'000) },
    { "2M", UINT64_C(120'000'000'000) },
    { "3S", 3'000'000'000 },
    { "4u", 4000 },
    { "5n", 5 },
    { "99999999n", 99'999'999 },
    { "99999999H", UINT64_MAX },
    { "00000001S", 1'000'000'000 },
    { "123456789S", 0 },
    { "S", 0 },
    { "", 0 },
    { "1", 0 },
    { "1s", 0 },
    { "1 S", 0 },
    { "-1S", 0 },
    { "+1S", 0 },
    { "1.5S", 0 },
    { "1SS", 0 },
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t ns = 7;
        struct err err;
        int r = grpc_timeout_parse(slice_of(rows[i].text), &ns, &err);
        print_message("  '%s'\n", rows[i].text);
        assert_int_equal(r, rows[i].ns ? 0 : ERR_BAD_INPUT);
        assert_int_equal(ns, rows[i].ns ? rows[i].ns : 7);
    }
}

static void test_zero_is_a_time(void **state)
{
    uint64_t ns = 7;
    (void)state;

    assert_int_equal(grpc_timeout_parse(SLICE("0S"), &ns, NULL), 0);
    assert_int_equal(ns, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_zero_is_a_time),
    };
    return cmocka_run_group_tests_name("grpc", tests, NULL, NULL);
}
