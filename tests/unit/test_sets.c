/* SPDX-License-Identifier: Apache-2.0 */
#include "geo/sets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <string.h>

#include "base/arena.h"
#include "base/err.h"

#define SAID "source: contract 17, date: 2026-11-28"

static const struct {
    const char *name, *text, *error; /* NULL: taken */
} files[] = {
    { "one", "sets: [{name: DACH, countries: [AT, CH, DE], " SAID "}]", NULL },
    { "none", "sets: []", NULL },
    { "nothing", "", NULL },
    { "sets of sets", "sets: [{name: ALPS, countries: [EU, CH], " SAID "}]", NULL },
    { "hyphens and digits", "sets: [{name: G-20A, countries: [BR], " SAID "}]", NULL },
    { "only itself before", "sets: [{name: DACH, countries: [DACH], " SAID "}]",
      "line 1: set 1: 'countries': 'DACH' is no country's code" },
    { "no source", "sets: [{name: DACH, countries: [AT], date: 2026-11-28}]",
      "'source' is missing" },
    { "no date", "sets: [{name: DACH, countries: [AT], source: x}]", "'date' is missing" },
    { "an empty source", "sets: [{name: DACH, countries: [AT], source: '', date: 2026-11-28}]",
      "'source' is empty" },
    { "no day", "sets: [{name: DACH, countries: [AT], source: x, date: 2026-13-28}]",
      "'date' is '2026-13-28', not a day" },
    { "no country", "sets: [{name: DACH, countries: [AT, UK], " SAID "}]",
      "the United Kingdom's is GB" },
    { "no countries", "sets: [{name: DACH, countries: [], " SAID "}]", "'countries' is empty" },
    { "a number", "sets: [{name: DACH, countries: [5], " SAID "}]", "must hold strings" },
    { "built in", "sets: [{name: EEA, countries: [AT], " SAID "}]", "the set 'EEA' is built in" },
    { "twice",
      "sets:\n- {name: DACH, countries: [AT], " SAID "}\n- {name: DACH, countries: [AT], " SAID "}",
      "line 3: set 2: the set 'DACH' is there twice" },
    { "small", "sets: [{name: dach, countries: [AT], " SAID "}]", "the name 'dach' is not" },
    { "two letters", "sets: [{name: AB, countries: [AT], " SAID "}]", "the name 'AB' is not" },
    { "too long", "sets: [{name: ABCDEFGHIJKLMNOPQ, countries: [AT], " SAID "}]",
      "is not 3 to 16" },
    { "ends in a hyphen", "sets: [{name: ABC-, countries: [AT], " SAID "}]", "is not 3 to 16" },
    { "unknown key", "sets: [{name: DACH, country: [AT], " SAID "}]", "'country'" },
    { "a list", "- 5", "not one object" },
    { "two documents", "sets: []\n---\nsets: []", "not one object" },
    { "a key beside", "sets: []\nset: []", "'set'" },
};

static void test_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct arena *arena = arena_new();
        struct geo_sets sets;
        struct err err = {};
        int r = geo_sets_parse(arena, slice_of(files[i].text), &sets, &err);
        print_message("  %s: %s\n", files[i].name, r < 0 ? err.message : "taken");
        assert_int_equal(r, files[i].error ? ERR_BAD_INPUT : 0);
        if (files[i].error)
            assert_non_null(strstr(err.message, files[i].error));
        arena_free(arena);
    }
}

static const struct {
    const char *name, *inside, *outside, *error;
} finds[] = {
    { "EU", "DE FR FI SE CY HR AX RE GP", "GB CH NO IS US BL GL NC", NULL },
    { "EEA", "DE NO IS LI AX", "CH GB SJ US", NULL },
    { "DE", "DE", "FR AT", NULL },
    { "DACH", "AT CH DE", "FR LI", NULL },
    { "UK", NULL, NULL, "is GB" },
    { "XX", NULL, NULL, "two capitals" },
    { "DAHC", NULL, NULL, "did you mean 'DACH'?" },
    { "dach", NULL, NULL, "did you mean 'DACH'?" },
    { "EEAS", NULL, NULL, "did you mean 'EEA'?" },
    { "ATLANTIS", NULL, NULL, "'ATLANTIS' is no country's code (ISO 3166-1) and no set" },
    { "", NULL, NULL, "two capitals" },
};

static void test_find(void **state)
{
    struct arena *arena = arena_new();
    struct geo_sets sets;
    struct err err = {};
    (void)state;
    assert_int_equal(geo_sets_parse(arena, slice_of(files[0].text), &sets, &err), 0);
    for (size_t i = 0; i < sizeof finds / sizeof *finds; i++) {
        struct countries found;
        int r = geo_sets_find(&sets, slice_of(finds[i].name), &found, &err);
        print_message("  %s\n", finds[i].name);
        assert_int_equal(r, finds[i].error ? ERR_BAD_INPUT : 0);
        if (finds[i].error) {
            assert_non_null(strstr(err.message, finds[i].error));
            continue;
        }
        for (const char *at = finds[i].inside; *at; at += at[2] ? 3 : 2)
            assert_true(countries_has(&found, country_number_of((struct slice){ at, 2 })));
        for (const char *at = finds[i].outside; *at; at += at[2] ? 3 : 2)
            assert_false(countries_has(&found, country_number_of((struct slice){ at, 2 })));
        assert_false(countries_has(&found, COUNTRY_UNKNOWN));
    }
    for (size_t i = 0; i < sets.count; i++)
        assert_true(sets.items[i].source.size > 0 && sets.items[i].date.size == 10);
    assert_string_equal(geo_sets_get(&sets, SLICE("DACH"))->source.data, "contract 17");
    arena_free(arena);
}

/* 27 and 30 states, and seven regions that have codes of their own. */
static void test_sizes(void **state)
{
    struct arena *arena = arena_new();
    struct geo_sets sets;
    struct err err;
    (void)state;
    assert_int_equal(geo_sets_parse(arena, (struct slice){}, &sets, &err), 0);
    assert_int_equal(sets.count, 2);
    for (size_t i = 0; i < 2; i++) {
        unsigned count = 0;
        for (unsigned country = 0; country <= COUNTRY_NUMBER_MAX; country++)
            count += countries_has(&sets.items[i].countries, (country_number)country);
        assert_int_equal(count, i == 0 ? 27 + 7 : 30 + 7);
    }
    arena_free(arena);
}

/* Sets that decide the same have the same text, whatever else is said of them. */
static void test_text(void **state)
{
#define A "{name: DACH, countries: [AT, CH, DE], "
#define B "{name: ALPS, countries: [AT, IT], "
    static const struct {
        const char *name, *first, *second;
        bool same;
    } rows[] = {
        { "none", "", "sets: []", true },
        { "as they are", "sets: [" A SAID "}]", "sets: [" A SAID "}]", true },
        { "another order", "sets: [" A SAID "}, " B SAID "}]", "sets: [" B SAID "}, " A SAID "}]",
          true },
        { "another order of countries", "sets: [" A SAID "}]",
          "sets: [{name: DACH, countries: [DE, AT, CH, AT], " SAID "}]", true },
        { "another source", "sets: [" A SAID "}]", "sets: [" A "source: x, date: 2020-01-01}]",
          true },
        { "one more", "sets: [" A SAID "}]", "sets: [" A SAID "}, " B SAID "}]", false },
        { "another name", "sets: [" A SAID "}]",
          "sets: [{name: DACHS, countries: [AT, CH, DE], " SAID "}]", false },
        { "one country less", "sets: [" A SAID "}]",
          "sets: [{name: DACH, countries: [AT, CH], " SAID "}]", false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct geo_sets first, second;
        struct err err;
        print_message("  %s\n", rows[i].name);
        assert_int_equal(geo_sets_parse(arena, slice_of(rows[i].first), &first, &err), 0);
        assert_int_equal(geo_sets_parse(arena, slice_of(rows[i].second), &second, &err), 0);
        assert_int_equal(slice_equal(geo_sets_text(arena, &first), geo_sets_text(arena, &second)),
                         rows[i].same);
        arena_free(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests_name("sets", tests, NULL, NULL);
}
