/* SPDX-License-Identifier: Apache-2.0 */
#include "geo/midst.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include <string.h>

#include "geo/country.h"

/* Bounds in degrees that any map shows: what a mean of degrees, of the whole country's area, or of
 * its largest city would miss. */
static const struct {
    const char *country;
    double south, north, west, east;
    unsigned away_least, away_most;
} rows[] = {
    { "JP", 34.5, 36.5, 135, 139, 200, 450 },
    { "FR", 46, 48.5, 1.5, 4, 200, 400 },
    { "US", 36, 40, -97, -88, 1200, 1700 }, /* with Alaska and Hawaii, and yet not to the west */
    { "RU", 53, 60, 40, 60, 800, 1600 },    /* where people are; its area's is in Siberia */
    { "CA", 43, 51, -100, -75, 900, 1700 },
    { "FJ", -19, -16, 176, 180, 20, 200 }, /* over the antimeridian: not at 0 degrees */
    { "NZ", -42, -36, 172, 179, 100, 500 },
    { "KI", -1, 4, 172, 175, 0, 100 }, /* most of three archipelagos' people are in one */
    { "GB", 51.5, 54, -3, 0, 100, 250 },
    { "PT", 38.5, 41, -9.5, -7, 100, 350 }, /* Madeira and the Azores are far, and few */
    { "NO", 59, 62, 8, 12, 150, 350 },
    { "AU", -37, -31, 142, 149, 600, 1100 },
    { "MC", 43.7, 43.8, 7.3, 7.5, 0, 2 },
    { "BM", 32.2, 32.5, -65, -64.5, 0, 10 }, /* no city of 5,000: of its places */
};

static void test_rows(void **)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct geo_midst *midst = geo_midst_of(country_number_of(slice_of(rows[i].country)));
        print_message("  %s\n", rows[i].country);
        assert_non_null(midst);
        assert_true(midst->latitude > rows[i].south && midst->latitude < rows[i].north);
        assert_true(midst->longitude > rows[i].west && midst->longitude < rows[i].east);
        assert_in_range(midst->away_km, rows[i].away_least, rows[i].away_most);
    }
}

static void test_all(void **)
{
    size_t without = 0;
    for (unsigned number = 0; number <= UINT16_MAX; number++) {
        const struct geo_midst *midst = geo_midst_of((country_number)number);
        char code[3];
        country_code_of((country_number)number, code);
        if (!country_known(slice_of(code))) {
            assert_null(midst);
            continue;
        }
        if (!midst) {
            without++;
            assert_non_null(strstr("BV HM IO UM", code));
            continue;
        }
        assert_true(midst->latitude >= -90 && midst->latitude <= 90);
        assert_true(midst->longitude >= -180 && midst->longitude <= 180);
        assert_true(midst->away_km < 2000);
    }
    assert_int_equal(without, 4);
}

static void test_whose_data_it_is(void **)
{
    assert_non_null(strstr(geo_midst_source(), "GeoNames (CC BY 4.0)"));
    assert_int_equal(strlen(geo_midst_date()), strlen("2026-11-30"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_whose_data_it_is),
    };
    return cmocka_run_group_tests_name("midst", tests, NULL, NULL);
}
