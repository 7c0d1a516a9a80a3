/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/residency.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "geo/country.h"
#include "geo/sets.h"
#include "law.h"
#include "policy/regions.h"
#include "spec/endpoint.h"

static country_number number(const char *code)
{
    return country_number_of(slice_of(code));
}

static struct endpoint_spec spec_of(struct arena *arena, const char *yaml)
{
    struct endpoint_specs specs;
    struct err err;
    const char *text = arena_format(arena, "name: digits\nmodel: m\n%s\n", yaml);
    if (endpoint_spec_parse_text(arena, slice_of(text), SPEC_YAML, 0, &specs, &err) < 0)
        fail_msg("%s", err.message);
    return specs.items[0];
}

/* ---- rows ----------------------------------------------------------------------------------- */

#define BOOK                                                                                       \
    "residency: {rules: [{clients: [EU], process_in: [EU]}, {clients: [CH], process_in: "          \
    "same-country}, {clients: any, process_in: any}]}"
#define NO_REST "residency: {rules: [{clients: [EU], process_in: [EU]}]}"

/* Client and PoP "" is not known; `narrow` NULL: the request says nothing. */
static const struct {
    const char *name, *spec, *client, *narrow, *pop;
    enum residency_reason reason;
    bool process, transit;
    uint32_t rule;
} rows[] = {
    { "without rules all may", "", "US", NULL, "JP", RESIDENCY_ALLOWED, true, true, 0 },
    { "without rules also what is not known", "", "", NULL, "", RESIDENCY_ALLOWED, true, true, 0 },
    { "without rules the request narrows", "", "", "EU", "JP", RESIDENCY_ALLOWED, false, true, 0 },
    { "and a PoP without a country is not in it", "", "", "EU", "", RESIDENCY_ALLOWED, false, true,
      0 },
    { "short form, inside", "residency: {process_in: [EU]}", "US", NULL, "DE", RESIDENCY_ALLOWED,
      true, true, 0 },
    { "short form asks no client", "residency: {process_in: [EU]}", "", NULL, "DE",
      RESIDENCY_ALLOWED, true, true, 0 },
    { "short form, outside", "residency: {process_in: [EU]}", "DE", NULL, "US", RESIDENCY_ALLOWED,
      false, false, 0 },
    { "a PoP that does not say where it is", "residency: {process_in: [EU]}", "DE", NULL, "",
      RESIDENCY_ALLOWED, false, false, 0 },
    { "any holds such a PoP", "residency: {process_in: any}", "DE", NULL, "", RESIDENCY_ALLOWED,
      true, true, 0 },
    { "the first rule that matches", BOOK, "FR", NULL, "DE", RESIDENCY_ALLOWED, true, true, 0 },
    { "which is the first", BOOK, "FR", NULL, "US", RESIDENCY_ALLOWED, false, false, 0 },
    { "same country, there", BOOK, "CH", NULL, "CH", RESIDENCY_ALLOWED, true, true, 1 },
    { "same country, elsewhere", BOOK, "CH", NULL, "DE", RESIDENCY_ALLOWED, false, false, 1 },
    { "the rest", BOOK, "US", NULL, "JP", RESIDENCY_ALLOWED, true, true, 2 },
    { "an unknown client is refused", BOOK, "", NULL, "DE", RESIDENCY_CLIENT_UNKNOWN, false, false,
      0 },
    { "no rule for it", NO_REST, "US", NULL, "DE", RESIDENCY_NO_RULE, false, false, 0 },
    { "counted as a country",
      "residency: {rules: [{clients: [EU], process_in: [EU]}], unknown_client: DE}", "", NULL, "FR",
      RESIDENCY_ALLOWED, true, true, 0 },
    { "counted as one without a rule",
      "residency: {rules: [{clients: [EU], process_in: [EU]}], unknown_client: US}", "", NULL, "FR",
      RESIDENCY_NO_RULE, false, false, 0 },
    { "a known client is not counted as another",
      "residency: {rules: [{clients: [EU], process_in: [EU]}], unknown_client: DE}", "US", NULL,
      "DE", RESIDENCY_NO_RULE, false, false, 0 },
    { "same-country of the one it counts as",
      "residency: {process_in: same-country, unknown_client: DE}", "", NULL, "DE",
      RESIDENCY_ALLOWED, true, true, 0 },
    { "same-country asks", "residency: {process_in: same-country}", "", NULL, "",
      RESIDENCY_CLIENT_UNKNOWN, false, false, 0 },
    { "same-country of transit asks", "residency: {process_in: [DE], transit: same-country}", "",
      NULL, "DE", RESIDENCY_CLIENT_UNKNOWN, false, false, 0 },
    { "narrowed, inside", BOOK, "FR", "DE, FR", "DE", RESIDENCY_ALLOWED, true, true, 0 },
    { "narrowed, outside; may pass", BOOK, "FR", "DE,FR", "IT", RESIDENCY_ALLOWED, false, true, 0 },
    { "never widened", BOOK, "FR", "US,FR", "US", RESIDENCY_ALLOWED, false, false, 0 },
    { "narrowed away", BOOK, "FR", "US", "US", RESIDENCY_NARROWED_AWAY, false, false, 0 },
    { "any does not narrow", BOOK, "FR", "any", "IT", RESIDENCY_ALLOWED, true, true, 0 },
    { "transit of its own", "residency: {process_in: [DE], transit: [FR]}", "DE", NULL, "FR",
      RESIDENCY_ALLOWED, false, true, 0 },
    { "who processes sees it pass", "residency: {process_in: [DE], transit: [FR]}", "DE", NULL,
      "DE", RESIDENCY_ALLOWED, true, true, 0 },
    { "Reunion is in the EU", "residency: {process_in: [EU]}", "DE", NULL, "RE", RESIDENCY_ALLOWED,
      true, true, 0 },
    { "Norway is in the EEA alone", "residency: {process_in: [EU]}", "DE", NULL, "NO",
      RESIDENCY_ALLOWED, false, false, 0 },
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct endpoint_spec spec = spec_of(arena, rows[i].spec);
        struct geo_sets sets;
        struct residency residency;
        struct countries narrow;
        struct err err;
        print_message("  %s\n", rows[i].name);
        assert_int_equal(geo_sets_parse(arena, (struct slice){}, &sets, &err), 0);
        assert_int_equal(residency_compile(arena, &spec, geo_sets_lookup, &sets, &residency, &err),
                         0);
        if (rows[i].narrow)
            assert_int_equal(residency_narrow_parse(slice_of(rows[i].narrow), geo_sets_lookup,
                                                    &sets, &narrow, &err),
                             0);
        struct residency_verdict verdict =
            residency_decide(&residency, number(rows[i].client), rows[i].narrow ? &narrow : NULL);
        assert_int_equal(verdict.reason, rows[i].reason);
        assert_int_equal(verdict.rule, rows[i].rule);
        assert_int_equal(countries_has(&verdict.process, number(rows[i].pop)), rows[i].process);
        assert_int_equal(countries_has(&verdict.transit, number(rows[i].pop)), rows[i].transit);
        arena_free(arena);
    }
}

/* What the spec's form lets through and the sets do not. */
static const struct {
    const char *spec, *error;
} unknown[] = {
    { "residency: {process_in: [EU, UK]}",
      "residency.rules[0].process_in: 'UK' is no country's code; the United Kingdom's is GB" },
    { "residency: {process_in: [EU], logs: [DACH]}",
      "residency.rules[0].logs: 'DACH' is no country's code" },
    { "residency: {rules: [{clients: [EU], process_in: [EU]}, {clients: [XX], process_in: any}]}",
      "residency.rules[1].clients: 'XX' is no country's code" },
    { "residency: {process_in: [EEAA]}", "did you mean 'EEA'?" },
    { "residency: {process_in: any, unknown_client: EU}",
      "residency.unknown_client: 'EU' is a set of countries: name one country" },
    { "residency: {process_in: any, unknown_client: XX}", "residency.unknown_client: 'XX'" },
    { "regions: [paris, XX]", "regions: 'XX' is no country's code" },
};

static void test_unknown_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        struct arena *arena = arena_new();
        struct endpoint_spec spec = spec_of(arena, unknown[i].spec);
        struct geo_sets sets;
        struct residency residency;
        struct regions regions;
        struct err err = {};
        assert_int_equal(geo_sets_parse(arena, (struct slice){}, &sets, &err), 0);
        int r = residency_compile(arena, &spec, geo_sets_lookup, &sets, &residency, &err);
        if (r == 0)
            r = regions_compile(arena, &spec, geo_sets_lookup, &sets, &regions, &err);
        print_message("  %s: %s\n", unknown[i].spec, err.message);
        assert_int_equal(r, ERR_BAD_INPUT);
        assert_non_null(strstr(err.message, unknown[i].error));
        arena_free(arena);
    }
}

static void test_bad_narrowing(void **state)
{
    static const char *const texts[] = { "", ",", "EU,", "EU;CH", "eu", "any,XX", "UK" };
    struct arena *arena = arena_new();
    struct geo_sets sets;
    struct countries narrow;
    struct err err;
    (void)state;
    assert_int_equal(geo_sets_parse(arena, (struct slice){}, &sets, &err), 0);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_int_equal(
            residency_narrow_parse(slice_of(texts[i]), geo_sets_lookup, &sets, &narrow, &err),
            ERR_BAD_INPUT);
    arena_free(arena);
}

/* ---- regions -------------------------------------------------------------------------------- */

static const struct {
    const char *regions, *name, *label, *country;
    bool held;
} places[] = {
    { "", "paris", "", "", true },
    { "regions: [EU]", "paris", "", "FR", true },
    { "regions: [EU]", "paris", "", "", false },
    { "regions: [EU]", "newark", "us-east", "US", false },
    { "regions: [EU, us]", "newark", "us-east", "US", true },
    { "regions: [us]", "newark", "us", "US", true },
    { "regions: [us]", "newark", "usa", "US", false },
    { "regions: [us-east]", "newark", "us", "US", false },
    { "regions: [us-east]", "newark", "us-east-2", "US", true },
    { "regions: [newark]", "newark", "", "", true },
    { "regions: [newark]", "newark-2", "", "US", false },
};

static void test_regions(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct arena *arena = arena_new();
        struct endpoint_spec spec = spec_of(arena, places[i].regions);
        const struct region_place pop = { slice_of(places[i].name), slice_of(places[i].label),
                                          number(places[i].country) };
        struct geo_sets sets;
        struct regions regions;
        struct err err;
        print_message("  %s: %s\n", places[i].regions, places[i].name);
        assert_int_equal(geo_sets_parse(arena, (struct slice){}, &sets, &err), 0);
        assert_int_equal(regions_compile(arena, &spec, geo_sets_lookup, &sets, &regions, &err), 0);
        assert_int_equal(regions_hold(&regions, &pop), places[i].held);
        arena_free(arena);
    }
}

static void test_may_process(void **state)
{
    struct arena *arena = arena_new();
    struct endpoint_spec spec = spec_of(arena, BOOK), none = spec_of(arena, NO_REST);
    struct geo_sets sets;
    struct residency residency;
    struct err err;
    (void)state;
    assert_int_equal(geo_sets_parse(arena, (struct slice){}, &sets, &err), 0);
    assert_int_equal(residency_compile(arena, &spec, geo_sets_lookup, &sets, &residency, &err), 0);
    assert_true(residency_may_process(&residency, number("")));
    assert_true(residency_may_process(&residency, number("US")));
    assert_int_equal(residency_compile(arena, &none, geo_sets_lookup, &sets, &residency, &err), 0);
    assert_true(residency_may_process(&residency, number("DE")));
    assert_false(residency_may_process(&residency, number("US")));
    assert_false(residency_may_process(&residency, number("")));
    arena_free(arena);
}

/* What a replica at `here` writes, kept at `there`. */
#define LOGGED                                                                                     \
    "residency: {rules: [{clients: [DE], process_in: [EU], logs: [DE]}, {clients: [CH], "          \
    "process_in: same-country}, {clients: [US], process_in: [EU, US], logs: any}]}"
static const struct {
    const char *spec, *here, *there;
    bool may;
} written[] = {
    { "", "DE", "", true },
    { "", "", "US", true },
    { "residency: {process_in: any}", "DE", "", true },
    { "residency: {process_in: [EU]}", "DE", "", false },
    { "residency: {process_in: [EU]}", "DE", "DE", true },
    { "residency: {process_in: [EU]}", "DE", "US", false },
    { "residency: {process_in: [EU]}", "US", "US", false }, /* nothing is processed there */
    { "residency: {process_in: same-country}", "CH", "CH", true },
    { "residency: {process_in: same-country}", "CH", "DE", false },
    { LOGGED, "FR", "FR", false }, /* some may be of Germans */
    { LOGGED, "FR", "DE", true },
    { LOGGED, "CH", "CH", true },
    { LOGGED, "CH", "DE", false },
    { LOGGED, "US", "", true },
};

static void test_may_write(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof written / sizeof *written; i++) {
        struct arena *arena = arena_new();
        struct endpoint_spec spec = spec_of(arena, written[i].spec);
        struct geo_sets sets;
        struct residency residency;
        struct err err;
        print_message("  %s: %s, %s\n", written[i].spec, written[i].here, written[i].there);
        assert_int_equal(geo_sets_parse(arena, (struct slice){}, &sets, &err), 0);
        assert_int_equal(residency_compile(arena, &spec, geo_sets_lookup, &sets, &residency, &err),
                         0);
        assert_int_equal(
            residency_may_write(&residency, number(written[i].here), number(written[i].there)),
            written[i].may);
        arena_free(arena);
    }
}

/* ---- all countries, random rules ------------------------------------------------------------ */

static void rules_try(struct arena *arena, const struct geo_sets *sets,
                      const country_number countries[static LAW_COUNTRIES])
{
    struct law law;
    struct law_list narrow = law_list(sets, true);
    bool narrows = law_below(3) == 0 && !narrow.any;
    struct residency residency;
    struct err err;

    law_make(arena, sets, &law);
    struct endpoint_spec spec = spec_of(arena, law.text);
    assert_int_equal(
        residency_compile(arena, &spec, geo_sets_lookup, (void *)sets, &residency, &err), 0);
    assert_int_equal(residency_asks_client(&residency), law.asks);

    for (size_t c = 0; c < LAW_COUNTRIES; c++) {
        struct residency_verdict verdict =
            residency_decide(&residency, countries[c], narrows ? &narrow.countries : NULL);
        for (size_t p = 0; p < LAW_COUNTRIES; p++) {
            bool may = law_process(&law, countries[c], countries[p]) &&
                       (!narrows || countries_has(&narrow.countries, countries[p]));
            assert_int_equal(countries_has(&verdict.process, countries[p]), may);
            if (verdict.reason != RESIDENCY_NARROWED_AWAY)
                assert_int_equal(countries_has(&verdict.transit, countries[p]),
                                 law_transit(&law, countries[c], countries[p]));
        }
        assert_int_equal(verdict.reason == RESIDENCY_ALLOWED, !countries_empty(&verdict.process));
        country_number counted = countries[c];
        if (verdict.reason == RESIDENCY_ALLOWED)
            assert_int_equal(verdict.rule, law_rule(&law, &counted));
        else
            assert_true(countries_empty(&verdict.transit) && countries_empty(&verdict.logs) &&
                        countries_empty(&verdict.cache));
    }
}

static void test_nothing_denied_is_allowed(void **state)
{
    country_number countries[LAW_COUNTRIES];
    (void)state;
    law_countries(countries);
    for (unsigned seed = 1; seed <= 300; seed++) {
        struct arena *arena = arena_new();
        struct geo_sets sets;
        struct err err;
        law_seed(seed);
        assert_int_equal(geo_sets_parse(arena, (struct slice){}, &sets, &err), 0);
        rules_try(arena, &sets, countries);
        arena_free(arena);
    }
}

/* A table from elsewhere: a scope that is none. */
static void test_fails_closed(void **state)
{
    struct residency_rule rule = { .clients.scope = RESIDENCY_ANY, .process.scope = 7 };
    const struct residency residency = { .rules = &rule, .count = 1 };
    struct residency_verdict verdict = residency_decide(&residency, number("DE"), NULL);
    (void)state;
    assert_int_not_equal(verdict.reason, RESIDENCY_ALLOWED);
    rule.process.scope = RESIDENCY_ANY;
    rule.clients.scope = 7;
    verdict = residency_decide(&residency, number("DE"), NULL);
    assert_int_equal(verdict.reason, RESIDENCY_NO_RULE);
    rule.process.scope = rule.clients.scope = RESIDENCY_COUNTRIES;
    rule.clients.countries = rule.process.countries = countries_any(); /* "unknown" among them */
    verdict = residency_decide(&residency, number("DE"), NULL);
    assert_false(countries_has(&verdict.process, COUNTRY_UNKNOWN));
    assert_int_equal(residency_decide(&residency, COUNTRY_UNKNOWN, NULL).reason,
                     RESIDENCY_CLIENT_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_unknown_names),
        cmocka_unit_test(test_bad_narrowing),
        cmocka_unit_test(test_regions),
        cmocka_unit_test(test_may_process),
        cmocka_unit_test(test_may_write),
        cmocka_unit_test(test_nothing_denied_is_allowed),
        cmocka_unit_test(test_fails_closed),
    };
    return cmocka_run_group_tests_name("residency", tests, NULL, NULL);
}
