/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include "base/slice.h"

static void test_set_and_wrap(void **state)
{
    struct err err = {};
    (void)state;
    assert_int_equal(err_set(&err, ERR_CONFLICT, "min (%u) is above max (%u)", 5u, 4u),
                     ERR_CONFLICT);
    assert_int_equal(err_wrap(&err, "endpoint '%s'", "resnet"), ERR_CONFLICT);
    assert_string_equal(err.message, "endpoint 'resnet': min (5) is above max (4)");
    assert_int_equal(err_http(&err), 409);
    assert_string_equal(err_info(err.code)->name, "conflict");
}

static void test_http_refusals(void **state)
{
    static const struct {
        int http, code;
    } rows[] = {
        { 400, ERR_BAD_INPUT }, { 408, ERR_DEADLINE },  { 411, ERR_BAD_INPUT },
        { 413, ERR_TOO_LARGE }, { 414, ERR_TOO_LARGE }, { 415, ERR_BAD_INPUT },
        { 417, ERR_BAD_INPUT }, { 431, ERR_TOO_LARGE }, { 505, ERR_BAD_INPUT },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {};
        assert_int_equal(err_set_http(&err, rows[i].http, "x"), rows[i].code);
        assert_int_equal(err_http(&err), rows[i].http);
    }
}

static void test_outside_text(void **state)
{
    (void)state;
    assert_string_equal(ERR_TEXT("plain é"), "plain é");
    assert_string_equal(ERR_TEXT("a\nb\x1b[31m\x7f"), "a\\x0ab\\x1b[31m\\x7f");
    assert_string_equal(ERR_TEXT("\xff"), "\\xff");
    char longer[100];
    memset(longer, 'x', sizeof longer);
    assert_int_equal(strlen(ERR_SLICE(((struct slice){ longer, sizeof longer }))), 64 + 3);
    memset(longer, 1, sizeof longer);
    assert_true(strlen(ERR_SLICE(((struct slice){ longer, sizeof longer }))) < ERR_TEXT_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_and_wrap),
        cmocka_unit_test(test_http_refusals),
        cmocka_unit_test(test_outside_text),
    };
    return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
