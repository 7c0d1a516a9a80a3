/* SPDX-License-Identifier: Apache-2.0 */
#include "base/slice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

static void test_utf8(void **state)
{
    static const struct {
        const char *name;
        struct slice text;
        bool valid;
    } rows[] = {
        { "empty", SLICE(""), true },
        { "two bytes", SLICE("h\xc3\xa9"), true },
        { "overlong", SLICE("\xc0\x80"), false },
        { "overlong in three", SLICE("\xe0\x9f\xbf"), false },
        { "surrogate", SLICE("\xed\xa0\x80"), false },
        { "last code point", SLICE("\xf4\x8f\xbf\xbf"), true },
        { "above the last", SLICE("\xf4\x90\x80\x80"), false },
        { "cut", SLICE("\xe2\x82"), false },
        { "stray continuation", SLICE("\x80"), false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_message("  %s\n", rows[i].name);
        assert_int_equal(utf8_valid(rows[i].text), rows[i].valid);
    }
}

static void test_u64(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        uint64_t value;
    } rows[] = {
        { "0", true, 0 },    { "18446744073709551615", true, UINT64_MAX },
        { "", false, 0 },    { "18446744073709551616", false, 0 },
        { "-1", false, 0 },  { "1 ", false, 0 },
        { "0x1", false, 0 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t value = 0;
        print_message("  '%s'\n", rows[i].text);
        assert_int_equal(slice_u64(slice_of(rows[i].text), &value), rows[i].ok);
        assert_int_equal(value, rows[i].value);
    }
}

static void test_cut(void **state)
{
    struct slice rest = SLICE("a,,b");
    (void)state;
    assert_true(slice_is(slice_cut(&rest, ','), "a"));
    assert_true(slice_is(slice_cut(&rest, ','), ""));
    assert_true(slice_is(slice_cut(&rest, ','), "b"));
    assert_null(rest.data);
    assert_true(slice_is(slice_trim(SLICE(" \tx ")), "x"));
    assert_true(slice_equal_nocase(SLICE("Content-Length"), SLICE("content-length")));
    assert_true(slice_starts(SLICE("abc"), SLICE("ab")));
    assert_true(slice_ends(SLICE("abc"), SLICE("bc")));
    assert_false(slice_ends(SLICE("c"), SLICE("bc")));
}

/* Each byte at each place of texts that are shorter and longer than a word. */
static void test_plain(void **state)
{
    char text[40];
    (void)state;
    assert_int_equal(slice_plain((struct slice){}), 0);
    for (size_t size = 1; size <= sizeof text; size++) {
        memset(text, 'a', size);
        assert_int_equal(slice_plain((struct slice){ text, size }), size);
        for (size_t at = 0; at < size; at++) {
            for (int c = 0; c < 256; c++) {
                bool plain = c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
                text[at] = (char)c;
                assert_int_equal(slice_plain((struct slice){ text, size }), plain ? size : at);
            }
            text[at] = 'a';
        }
        text[size / 2] = '"'; /* of two, the first counts */
        text[size - 1] = '\n';
        assert_int_equal(slice_plain((struct slice){ text, size }), size / 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_u64),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_plain),
    };
    return cmocka_run_group_tests_name("slice", tests, NULL, NULL);
}
