/* SPDX-License-Identifier: Apache-2.0 */
#include "geo/cities.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"

static const char world[] = "# a note\n"
                            "São Paulo\tSao Paulo\tBR\t-23.5475\t-46.63611\t10021295\n"
                            "Tokyo\t\tJP\t35.6895\t139.69171\t8336599\n"
                            "New York City\t\tUS\t40.71427\t-74.00597\t8175133\n"
                            "Paris\t\tFR\t48.85341\t2.3488\t2138551\n"
                            "\n"
                            "Frankfurt am Main\t\tDE\t50.11552\t8.68417\t650000\n"
                            "Washington, D. C.\t\tUS\t38.89511\t-77.03637\t601723\n"
                            "Frankfurt (Oder)\t\tDE\t52.34714\t14.55062\t51691\n"
                            "Paris\t\tUS\t33.66094\t-95.55551\t24782\n"
                            "Paris\t\tUS\t36.302\t-88.32671\t10150\n";

static const struct {
    const char *name;
    int at; /* -1: none */
} names[] = {
    { "São Paulo", 0 },
    { "Sao Paulo", 0 },
    { "sao paulo", 0 },
    { " Tokyo ", 1 },
    { "tokyo,JP", 1 },
    { "Tokyo, JP", 1 },
    { "Tokyo,US", -1 },
    { "Paris", 3 },
    { "Paris,FR", 3 },
    { "Paris,US", 6 },
    { "Paris,us", -1 }, /* a country's code is two capitals */
    { "New York", 2 },
    { "New Yor", -1 },
    { "Frankfurt", 4 },
    { "Washington, D. C.", 5 },
    { "Washington, D. C.,US", 5 },
    { "Atlantis", -1 },
    { "", -1 },
    { ",FR", -1 },
    { ",", -1 },
};

static void test_names(void **state)
{
    /* As the file has them; "Frankfurt (Oder)" is 6, and Paris in Texas 7. */
    static const size_t at[] = { 0, 1, 2, 3, 4, 5, 7 };
    struct cities *cities;
    struct err err = {};

    (void)state;
    assert_int_equal(cities_parse(slice_of(world), "world", &cities, &err), 0);
    assert_int_equal(cities_count(cities), 9);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct city *looked_up = NULL;
        print_message("  '%s'\n", names[i].name);
        const struct city *city = cities_find(cities, slice_of(names[i].name));
        int r = cities_look_up(cities, slice_of(names[i].name), &looked_up, &err);
        if (names[i].at < 0) {
            assert_null(city);
            assert_int_equal(r, ERR_NOT_FOUND);
        } else {
            assert_ptr_equal(city, cities_at(cities, at[names[i].at]));
            assert_int_equal(r, 0);
            assert_ptr_equal(looked_up, city);
        }
    }
    cities_free(cities);
}

static void test_figures(void **state)
{
    struct cities *cities;
    struct err err = {};

    (void)state;
    assert_int_equal(cities_parse(slice_of(world), "world", &cities, &err), 0);
    const struct city *city = cities_at(cities, 0);
    assert_true(slice_is(city->name, "São Paulo") && slice_is(city->plain, "Sao Paulo"));
    assert_float_equal(city->latitude, -23.5475, 1e-9);
    assert_float_equal(city->longitude, -46.63611, 1e-9);
    assert_int_equal(city->population, 10021295);
    assert_int_equal(city->country, country_number_of(SLICE("BR")));
    assert_true(slice_is(cities_at(cities, 1)->plain, "Tokyo"));
    cities_free(cities);
}

static const struct {
    const char *name, *text, *said;
} wrong[] = {
    { "nothing", "", "names no city" },
    { "notes alone", "# a\n#\n", "names no city" },
    { "five fields", "A\t\tDE\t1\t2\n", "line 1: it has not six" },
    { "seven fields", "A\t\tDE\t1\t2\t3\t4\n", "line 1: it has not six" },
    { "no name", "\t\tDE\t1\t2\t3\n", "the name is empty" },
    { "no UTF-8", "\xff\t\tDE\t1\t2\t3\n", "no UTF-8" },
    { "a plain name that is not", "é\té\tDE\t1\t2\t3\n", "in ASCII" },
    { "a country in small letters", "A\t\tde\t1\t2\t3\n", "two capitals" },
    { "no country", "A\t\t\t1\t2\t3\n", "two capitals" },
    { "beyond the pole", "A\t\tDE\t90.00001\t2\t3\n", "the latitude" },
    { "below the south pole", "A\t\tDE\t-91\t2\t3\n", "the latitude" },
    { "beyond the date line", "A\t\tDE\t9\t180.1\t3\n", "the longitude" },
    { "six decimals", "A\t\tDE\t9\t1.123456\t3\n", "the longitude" },
    { "no digit", "A\t\tDE\t-\t1\t3\n", "the latitude" },
    { "no digit before the point", "A\t\tDE\t.5\t1\t3\n", "the latitude" },
    { "none behind it", "A\t\tDE\t5.\t1\t3\n", "the latitude" },
    { "two points", "A\t\tDE\t5.1.2\t1\t3\n", "the latitude" },
    { "an exponent", "A\t\tDE\t1e1\t1\t3\n", "the latitude" },
    { "a number without end", "A\t\tDE\t000000000000000000000000001\t1\t3\n", "the latitude" },
    { "nobody", "A\t\tDE\t1\t1\t0\n", "the population" },
    { "more than there can be", "A\t\tDE\t1\t1\t4294967296\n", "the population" },
    { "a larger one later", "A\t\tDE\t1\t1\t5\n#\nB\t\tDE\t1\t1\t6\n",
      "line 3: it has more people" },
    { "a carriage return", "A\t\tDE\t1\t1\t5\r\n", "the population" },
};

static void test_what_is_wrong_is_said(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct cities *cities = NULL;
        struct err err = {};
        print_message("  %s\n", wrong[i].name);
        assert_int_equal(cities_parse(slice_of(wrong[i].text), "f", &cities, &err), ERR_BAD_INPUT);
        assert_non_null(strstr(err.message, wrong[i].said));
        assert_null(cities);
    }
}

static void test_a_file(void **state)
{
    char path[] = "/tmp/perigee-cities.XXXXXX";
    struct cities *cities = NULL;
    struct err err = {};
    int fd = mkostemp(path, O_CLOEXEC);

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, world, sizeof world - 1), sizeof world - 1);
    close(fd);
    assert_int_equal(cities_open(path, &cities, &err), 0);
    assert_int_equal(cities_count(cities), 9);
    cities_free(cities);
    unlink(path);
    assert_int_equal(cities_open(path, &cities, &err), ERR_NOT_FOUND);
    assert_int_equal(cities_open("/", &cities, &err), ERR_BAD_INPUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_what_is_wrong_is_said),
        cmocka_unit_test(test_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
