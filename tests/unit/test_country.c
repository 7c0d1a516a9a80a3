/* SPDX-License-Identifier: Apache-2.0 */
#include "geo/country.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <string.h>

#include "base/err.h"

/* A code, and a part of what is said when it is none. */
static const struct {
    const char *code, *error;
} rows[] = {
    { "DE", NULL },
    { "AD", NULL }, /* the first and the last */
    { "ZW", NULL },
    { "GB", NULL },
    { "XX", "two capitals of ISO 3166-1" },
    { "XK", "two capitals of ISO 3166-1" }, /* used by many, assigned by nobody */
    { "ZZ", "two capitals of ISO 3166-1" },
    { "UK", "the United Kingdom's is GB" },
    { "EL", "Greece's is GR" },
    { "EU", "a set of countries" },
    { "de", "two capitals" },
    { "DEU", "two capitals" },
    { "D", "two capitals" },
    { "", "two capitals" },
    { "E ", "two capitals" }, /* what lies between two codes of the list */
    { " A", "two capitals" },
    { "D\x1b", "'D\\x1b' is no country's code" },
};

static void test_check(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {};
        int r = country_check(slice_of(rows[i].code), &err);
        print_message("  '%s'\n", rows[i].error ? err.message : rows[i].code);
        assert_int_equal(r, rows[i].error ? ERR_BAD_INPUT : 0);
        assert_int_equal(country_known(slice_of(rows[i].code)), r == 0);
        if (rows[i].error)
            assert_non_null(strstr(err.message, rows[i].error));
    }
}

static void test_all(void **state)
{
    size_t known = 0;
    (void)state;
    for (char a = 'A'; a <= 'Z'; a++)
        for (char b = 'A'; b <= 'Z'; b++)
            known += country_known((struct slice){ (char[]){ a, b }, 2 });
    assert_int_equal(known, 249);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_check), cmocka_unit_test(test_all) };
    return cmocka_run_group_tests_name("country", tests, NULL, NULL);
}
