/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/units.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include "base/err.h"

enum kind { BYTES, TIME, CPU, SHARE, RATE };

/* text in, value, text out (NULL: the same); or a part of the error's message */
static const struct {
    enum kind kind;
    const char *text;
    uint64_t value;
    const char *printed, *error;
} rows[] = {
    { BYTES, "64MiB", 64 << 20, NULL, NULL },
    { BYTES, "64Mi", 64 << 20, "64MiB", NULL },
    { BYTES, "1024KiB", 1 << 20, "1MiB", NULL },
    { BYTES, "1000KB", 1'000'000, "1MB", NULL },
    { BYTES, "0GiB", 0, "0B", NULL },
    { BYTES, "1500B", 1500, NULL, NULL },
    { BYTES, "1536B", 1536, NULL, NULL },
    { BYTES, "17179869183GiB", UINT64_C(17179869183) << 30, NULL, NULL },
    { BYTES, "17179869184GiB", 0, NULL, "is too big" },
    { BYTES, "64", 0, NULL, "'64' needs a unit: B, KB, MB, GB or KiB, MiB, GiB" },
    { BYTES, "64mb", 0, NULL, "unknown unit" },
    { BYTES, "1.5GiB", 0, NULL, "unknown unit" },
    { BYTES, "-1B", 0, NULL, "not an integer with a unit" },
    { BYTES, "", 0, NULL, "not an integer with a unit" },
    { BYTES, "99999999999999999999B", 0, NULL, "is too big" },
    { TIME, "30s", UINT64_C(30'000'000'000), NULL, NULL },
    { TIME, "60s", UINT64_C(60'000'000'000), "1m", NULL },
    { TIME, "90s", UINT64_C(90'000'000'000), NULL, NULL },
    { TIME, "24h", UINT64_C(86'400'000'000'000), "1d", NULL },
    { TIME, "1500us", 1'500'000, NULL, NULL },
    { TIME, "2000us", 2'000'000, "2ms", NULL },
    { TIME, "0d", 0, "0s", NULL },
    { TIME, "30", 0, NULL, "'30' needs a unit: us, ms, s, m, h, d (as in 30s)" },
    { TIME, "1w", 0, NULL, "unknown unit" },
    { TIME, "300000d", 0, NULL, "too big" },
    { CPU, "1", 1000, NULL, NULL },
    { CPU, "0.5", 500, NULL, NULL },
    { CPU, "500m", 500, "0.5", NULL },
    { CPU, "1.250", 1250, "1.25", NULL },
    { CPU, "0.001", 1, "1m", NULL },
    { CPU, "2.0000", 2000, "2", NULL },
    { CPU, "0.0005", 0, NULL, "more than 3 decimals" },
    { CPU, "0.5m", 0, NULL, "more than 0 decimals" },
    { CPU, ".5", 0, NULL, "not cores" },
    { CPU, "1.", 0, NULL, "not cores" },
    { CPU, "two", 0, NULL, "not cores" },
    { SHARE, "10%", 100'000, NULL, NULL },
    { SHARE, "12.50%", 125'000, "12.5%", NULL },
    { SHARE, "100%", 1'000'000, NULL, NULL },
    { SHARE, "100.1%", 0, NULL, "more than 100%" },
    { SHARE, "10", 0, NULL, "needs a unit: %" },
    { SHARE, "x%", 0, NULL, "not a share" },
    { RATE, "100/s", 100'000'000, NULL, NULL },
    { RATE, "0.5/s", 500'000, NULL, NULL },
    { RATE, "100", 0, NULL, "needs a unit: /s" },
    { RATE, "100/m", 0, NULL, "not a rate" },
};

static int parse(enum kind kind, struct slice text, uint64_t *ret, struct err *err)
{
    uint32_t ppm = 0;
    int r;

    switch (kind) {
    case BYTES:
        return units_parse_bytes(text, ret, err);
    case TIME:
        return units_parse_time(text, ret, err);
    case CPU:
        return units_parse_cpu(text, ret, err);
    case SHARE:
        r = units_parse_share(text, &ppm, err);
        *ret = ppm;
        return r;
    default:
        return units_parse_rate(text, ret, err);
    }
}

static const char *print(enum kind kind, uint64_t value, char *buffer)
{
    switch (kind) {
    case BYTES:
        return units_print_bytes(buffer, value);
    case TIME:
        return units_print_time(buffer, value);
    case CPU:
        return units_print_cpu(buffer, value);
    case SHARE:
        return units_print_share(buffer, (uint32_t)value);
    default:
        return units_print_rate(buffer, value);
    }
}

static void test_rows(void **state)
{
    char buffer[UNITS_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {};
        uint64_t value = 0;
        print_message("  %s\n", rows[i].text);
        int r = parse(rows[i].kind, slice_of(rows[i].text), &value, &err);
        if (rows[i].error) {
            assert_int_equal(r, ERR_BAD_INPUT);
            if (!strstr(err.message, rows[i].error))
                fail_msg("'%s' lacks '%s'", err.message, rows[i].error);
            continue;
        }
        if (r < 0)
            fail_msg("%s", err.message);
        assert_true(value == rows[i].value);
        assert_string_equal(print(rows[i].kind, value, buffer),
                            rows[i].printed ? rows[i].printed : rows[i].text);
    }
}

/* Whatever is printed reads back as the same. */
static void test_round_trip(void **state)
{
    char buffer[UNITS_BYTES];
    uint64_t seed = 42, back;

    (void)state;
    for (int i = 0; i < 100'000; i++) {
        seed = seed * 6364136223846793005 + 1442695040888963407;
        uint64_t value = seed >> (seed >> 58);
        static const uint64_t factors[] = { 1, 1000, 1024, 1 << 20, 60 };
        value = value / factors[i % 5] * factors[i % 5];
        assert_int_equal(units_parse_bytes(slice_of(units_print_bytes(buffer, value)), &back, NULL),
                         0);
        assert_true(back == value);
        assert_int_equal(units_parse_cpu(slice_of(units_print_cpu(buffer, value)), &back, NULL), 0);
        assert_true(back == value);
        value -= value % 1000;
        assert_int_equal(units_parse_time(slice_of(units_print_time(buffer, value)), &back, NULL),
                         0);
        assert_true(back == value);
    }
}

static void test_money(void **state)
{
    struct money money;
    struct err err;
    char buffer[UNITS_BYTES];

    (void)state;
    assert_int_equal(units_parse_money(SLICE("50 EUR"), &money, &err), 0);
    assert_true(money.micro == 50'000'000);
    assert_string_equal(units_print_money(buffer, &money), "50 EUR");
    assert_int_equal(units_parse_money(SLICE("12.50 CHF"), &money, &err), 0);
    assert_string_equal(units_print_money(buffer, &money), "12.5 CHF");
    static const char *const bad[] = { "50",     "50 eur", "50 EURO",       "EUR 50", "50EUR",
                                       "-1 EUR", " EUR",   "0.0000001 EUR", "" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(units_parse_money(slice_of(bad[i]), &money, &err), ERR_BAD_INPUT);
    money.micro = INT64_MIN;
    assert_string_equal(units_print_money(buffer, &money), "-9223372036854.775808 CHF");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_money),
    };
    return cmocka_run_group_tests_name("units", tests, NULL, NULL);
}
