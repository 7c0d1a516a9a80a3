/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/range.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>

#include "base/err.h"

static const struct {
    const char *header;
    uint64_t size;
    enum range_answer answer;
    struct range range;
} ranges[] = {
    { "", 100, RANGE_WHOLE, {} },
    { "bytes=0-", 100, RANGE_PART, { 0, 99 } },
    { "bytes=5-9", 100, RANGE_PART, { 5, 9 } },
    { "BYTES = 5-9 ", 100, RANGE_PART, { 5, 9 } },
    { "bytes=5-500", 100, RANGE_PART, { 5, 99 } },
    { "bytes=99-", 100, RANGE_PART, { 99, 99 } },
    { "bytes=-4", 100, RANGE_PART, { 96, 99 } },
    { "bytes=-400", 100, RANGE_PART, { 0, 99 } },
    { "bytes=100-", 100, RANGE_OUTSIDE, {} },
    { "bytes=9-5", 100, RANGE_OUTSIDE, {} },
    { "bytes=-0", 100, RANGE_OUTSIDE, {} },
    { "bytes=0-", 0, RANGE_OUTSIDE, {} },
    { "bytes=-1", 0, RANGE_OUTSIDE, {} },
    { "bytes=0-1,5-6", 100, RANGE_WHOLE, {} },
    { "bytes=", 100, RANGE_WHOLE, {} },
    { "bytes=-", 100, RANGE_WHOLE, {} },
    { "bytes=x-", 100, RANGE_WHOLE, {} },
    { "items=0-4", 100, RANGE_WHOLE, {} },
    { "bytes=18446744073709551616-", 100, RANGE_WHOLE, {} },
};

static const struct {
    const char *header;
    bool good;
    struct range range;
} chunks[] = {
    { "0-0", true, { 0, 0 } },
    { "5-9", true, { 5, 9 } },
    { "bytes 5-9/100", true, { 5, 9 } },
    { "bytes 5-9/*", true, { 5, 9 } },
    { "9-5", false, {} },
    { "5-", false, {} },
    { "-5", false, {} },
    { "5", false, {} },
    { "", false, {} },
    { "0x5-9", false, {} },
    { "0-18446744073709551615", false, {} },
};

static void test_ranges(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        struct range range = {};
        print_message("  '%s'\n", ranges[i].header);
        assert_int_equal(range_of(slice_of(ranges[i].header), ranges[i].size, &range),
                         ranges[i].answer);
        assert_int_equal(range.first, ranges[i].range.first);
        assert_int_equal(range.last, ranges[i].range.last);
    }
}

static void test_chunks(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        struct range range = {};
        struct err err;
        print_message("  '%s'\n", chunks[i].header);
        assert_int_equal(range_of_chunk(slice_of(chunks[i].header), &range, &err) == 0,
                         chunks[i].good);
        assert_int_equal(range.first, chunks[i].range.first);
        assert_int_equal(range.last, chunks[i].range.last);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_ranges),
                                        cmocka_unit_test(test_chunks) };
    return cmocka_run_group_tests_name("range", tests, NULL, NULL);
}
