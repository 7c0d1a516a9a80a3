/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/number.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static uint64_t random_state = 42;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * UINT64_C(0x2545f4914f6cdd1d);
}

static bool scan(const char *text, struct number *ret)
{
    const char *end = text + strlen(text);

    return number_scan(text, end, ret) == end;
}

static uint64_t bits64(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static uint32_t bits32(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static const struct {
    const char *text;
    bool good;
} grammar[] = {
    { "0", true },
    { "-0", true },
    { "10", true },
    { "0.5", true },
    { "1e5", true },
    { "1E+05", true },
    { "1e-5", true },
    { "01", false },
    { "+1", false },
    { ".5", false },
    { "5.", false },
    { "1e", false },
    { "1e+", false },
    { "-", false },
    { "", false },
    { "1.e5", false },
    { "0x10", false },
    { "NaN", false },
    { "--1", false },
    { "1.5.5", false },
    { "00", false },
    { "1e5.5", false },
    { "123456789012345678901234567890", true },
};

static void test_grammar(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof grammar / sizeof *grammar; i++) {
        struct number number;

        print_message("  '%s'\n", grammar[i].text);
        assert_int_equal(scan(grammar[i].text, &number), grammar[i].good);
    }
}

static void test_too_long(void **state)
{
    char text[NUMBER_TEXT_MAX + 2];
    struct number number;

    (void)state;
    memset(text, '7', sizeof text);
    text[NUMBER_TEXT_MAX] = '\0';
    assert_true(scan(text, &number));
    text[NUMBER_TEXT_MAX] = '7';
    text[NUMBER_TEXT_MAX + 1] = '\0';
    assert_false(scan(text, &number));
}

static const struct {
    const char *text;
    bool is_i64, is_u64;
    int64_t i64;
    uint64_t u64;
} integers[] = {
    { "0", true, true, 0, 0 },
    { "-0", true, true, 0, 0 },
    { "9007199254740993", true, true, INT64_C(9007199254740993), UINT64_C(9007199254740993) },
    { "9223372036854775807", true, true, INT64_MAX, INT64_MAX },
    { "9223372036854775808", false, true, 0, UINT64_C(9223372036854775808) },
    { "-9223372036854775808", true, false, INT64_MIN, 0 },
    { "-9223372036854775809", false, false, 0, 0 },
    { "18446744073709551615", false, true, 0, UINT64_MAX },
    { "18446744073709551616", false, false, 0, 0 },
    { "99999999999999999999999", false, false, 0, 0 },
    { "1.0", false, false, 0, 0 },
    { "1e2", false, false, 0, 0 },
};

static void test_integers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        struct number number;
        int64_t i64 = 0;
        uint64_t u64 = 0;

        print_message("  %s\n", integers[i].text);
        assert_true(scan(integers[i].text, &number));
        assert_int_equal(number_i64(&number, &i64), integers[i].is_i64);
        assert_int_equal(number_u64(&number, &u64), integers[i].is_u64);
        assert_true(i64 == integers[i].i64 && u64 == integers[i].u64);
    }
}

/* Binary64's and binary32's own edges; each must be what strtod and strtof say. */
static const char *const edges[] = {
    "0.0",
    "-0.0",
    "1e-400",
    "4.9406564584124654e-324",
    "2.4703282292062327e-324",
    "2.4703282292062328e-324",
    "2.2250738585072011e-308",
    "2.2250738585072014e-308",
    "1.7976931348623157e308",
    "9007199254740993",
    "9007199254740992.99999999999999999999",
    "9007199254740993.00000000000000000001",
    "0.1",
    "1e22",
    "1e23",
    "8.5e-22",
    "16777217",
    "16777217.0000000000001",
    "16777219",
    "1.00000005960464477539062500000000000000000",
    "1.00000005960464477539062500000000000000001",
    "1.00000005960464477539062499999999999999999",
    "1.00000017881393432617187499999999999999999",
    "1.00000017881393432617187500000000000000001",
    "7.0064923216240853546186479164495e-46",
    "7.0064923216240853546186479164496e-46",
    "7.0064923216240854e-46",
    "1.401298464324817e-45",
    "2.1019476964872256063855943749348741969203929128147736576e-45",
    "2.1019476964872256063855943749348741969203929128147736577e-45",
    "3.4028235677973366e38",
    "0.000000000000000000000000000000123456789",
    "123456789012345678901234567890e-30",
    "65504",
    "65519.999999999999999999",
    "65520",
    "2.9802322387695312e-8",
    "2.98023223876953125e-8",
    "2.980232238769531250000000000000000000001e-8",
};

static void against_library(const char *text)
{
    struct number number;
    double wide = 0, wanted = strtod(text, NULL);
    float narrow = 0, wanted_narrow = strtof(text, NULL);

    assert_true(scan(text, &number));
    assert_int_equal(number_fp64(&number, &wide), !isinf(wanted));
    if (!isinf(wanted) && bits64(wide) != bits64(wanted))
        fail_msg("'%s' became %.17g, not %.17g", text, wide, wanted);
    assert_int_equal(number_fp32(&number, &narrow), !isinf(wanted_narrow));
    if (!isinf(wanted_narrow) && bits32(narrow) != bits32(wanted_narrow))
        fail_msg("'%s' became %.9g, not %.9g", text, (double)narrow, (double)wanted_narrow);
}

static void test_read_edges(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        against_library(edges[i]);
}

static void test_read_random(void **state)
{
    (void)state;
    for (int i = 0; i < 100000; i++) {
        char text[64];
        uint64_t bits = random_next();
        double value;

        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value))
            continue;
        snprintf(text, sizeof text, "%.*e", (int)(random_next() % 25), value);
        against_library(text);
        snprintf(text, sizeof text, "%.*f", (int)(random_next() % 12),
                 (double)(int64_t)random_next() / 1e12);
        against_library(text);
        snprintf(text, sizeof text, "%llue%d", (unsigned long long)random_next(),
                 (int)(random_next() % 700) - 350);
        against_library(text);
    }
}

/* The middle between two neighbours, and a hair beside it, for every value of both half formats. */
static void read_middles(bool (*read)(const struct number *, uint16_t *), float (*wide)(uint16_t),
                         uint16_t infinite)
{
    for (uint32_t bits = 0; bits + 1 < infinite; bits++) {
        double middle = ((double)wide((uint16_t)bits) + (double)wide((uint16_t)(bits + 1))) / 2;
        struct number number;
        uint16_t result;
        char text[256];
        int size;

        snprintf(text, sizeof text, "%.*e", 150, middle); /* exact: no more digits than that */
        assert_true(scan(text, &number));
        assert_true(read(&number, &result));
        assert_int_equal(result, bits + (bits & 1));

        /* One more digit, far behind what a binary64 can see. */
        size = snprintf(text, sizeof text, "%.*e", 160, middle);
        for (int i = size; text[i] != 'e'; i--)
            if (text[i - 1] == 'e')
                text[i - 2] = '1';
        assert_true(scan(text, &number));
        assert_true(read(&number, &result));
        assert_int_equal(result, bits + 1);
    }
}

static void test_read_middles(void **state)
{
    (void)state;
    read_middles(number_fp16, number_from_fp16, 0x7c00);
    read_middles(number_bf16, number_from_bf16, 0x7f80);
}

/* What the standard says, slowly: clang 14 has no _Float16 here to compare with. */
static double fp16_of(uint16_t bits)
{
    int exponent = bits >> 10 & 0x1f, mantissa = bits & 0x3ff;
    double value = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);

    return bits >> 15 ? -value : value;
}

static double fp16_nearest(double value)
{
    int exponent = ilogb(value) < -14 ? -14 : ilogb(value);
    double result = ldexp(nearbyint(ldexp(value, 10 - exponent)), exponent - 10);

    return fabs(result) > 65504 ? copysign(INFINITY, result) : result;
}

/* --- runs of numbers -------------------------------------------------------------------------- */

/* `text` with a comma and more behind it, and a space or not; what the run says of it is what
 * number_scan() and number_fp32() say. Returns whether it was taken. */
static bool run_check(const char *text, bool space)
{
    char long_text[256], out[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    int size = snprintf(long_text, sizeof long_text, "%s,%s%-60s", text, space ? " " : "", "x");
    const char *at = long_text;
    struct number number;
    float expected = 0, value;

    assert_in_range(size, 60, sizeof long_text - 1);
    uint64_t count = number_run_fp32(&at, long_text + size, 3, out);
    if (count == 0) {
        assert_ptr_equal(at, long_text);
        assert_int_equal(out[0], 1);
        return false;
    }
    assert_int_equal(count, 1);
    assert_int_equal(at - long_text, strlen(text) + 1 + space);
    assert_int_equal(out[4], 5);
    assert_true(scan(text, &number) && number_fp32(&number, &expected));
    memcpy(&value, out, sizeof value);
    if (bits32(value) != bits32(expected))
        fail_msg("'%s' became %.9g, not %.9g", text, (double)value, (double)expected);
    return true;
}

static void test_run_rows(void **state)
{
    static const struct {
        const char *text;
        bool taken;
    } rows[] = {
        { "0", true },
        { "-0", true },
        { "7", true },
        { "255", true },
        { "1234567", true },
        { "12345678", false }, /* rare */
        { "0.000000", true },
        { "-0.123456", true },
        { "0.12345678", true },
        { "0.1234567890123456", true },
        { "0.12345678901234567", true },
        { "0.123456789012345678", true },
        { "0.1234567890123456789", false },
        { "12.345678901234567", true },
        { "1234567.123456789012", true },
        { "1234567.1234567890123", false },
        { "0.5000000298023224", false }, /* next to the middle of two */
        { "1e5", false },
        { "1.5E5", false },
        { "01", false },
        { "00.5", false },
        { "-", false },
        { "-.5", false },
        { "1.", false },
        { ".5", false },
        { "1.5.5", false },
        { "", false },
        { "+1", false },
        { "1 ", false },
        { "NaN", false },
        { "true", false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_message("  '%s'\n", rows[i].text);
        assert_int_equal(run_check(rows[i].text, i % 2), rows[i].taken);
    }
}

static void test_run_random(void **state)
{
    static const int decimals[] = { 0, 3, 6, 7, 8, 12, 16, 17 };
    uint32_t taken[8] = {};
    (void)state;
    for (int i = 0; i < 400'000; i++) {
        double value = ((double)(random_next() >> 11) * 0x1p-53 - 0.5) * (i % 3 ? 2 : 500);
        if (i % 5 == 0) { /* a binary32, or the middle between two */
            value = (double)(float)value;
            if (i % 2 == 0)
                value += (double)(nextafterf((float)value, INFINITY) - (float)value) / 2;
        }
        char text[64];
        snprintf(text, sizeof text, "%.*f", decimals[i % 8], value);
        taken[i % 8] += run_check(text, i % 16 < 8);
    }
    for (int i = 0; i < 7; i++) /* else it were of no use */
        assert_in_range(taken[i], 40'000, 50'000);
    assert_in_range(taken[7], 30'000, 50'000);
}

/* Many in a row, up to `max` and not behind the end. */
static void test_run_ends(void **state)
{
    char text[400];
    float out[16];
    size_t size = 0;
    (void)state;
    for (int i = 0; i < 16; i++)
        size += (size_t)snprintf(text + size, sizeof text - size, "%d.25%s", i, i % 3 ? "," : ", ");
    memset(text + size, ']', 100);
    const char *at = text;
    assert_int_equal(number_run_fp32(&at, text + size + 100, 5, (char *)out), 5);
    assert_int_equal(number_run_fp32(&at, text + size + 100, 100, (char *)(out + 5)), 11);
    assert_ptr_equal(at, text + size);
    for (int i = 0; i < 16; i++)
        assert_true(out[i] == (float)i + 0.25F);
    assert_int_equal(number_run_fp32(&at, text + size + 100, 0, (char *)out), 0);
    for (size_t end = 0; end < size; end++) { /* whatever the end is, nothing behind it is read */
        char *copy = test_malloc(end + 1);
        memcpy(copy, text, end);
        copy[end] = ']';
        at = copy;
        uint64_t count = number_run_fp32(&at, copy + end, 16, (char *)out);
        assert_true(at <= copy + end && count <= 16);
        test_free(copy);
    }
}

static void test_half_all(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits <= 0xffff; bits++) {
        float half = number_from_fp16((uint16_t)bits), brain = number_from_bf16((uint16_t)bits);
        uint16_t narrow = (uint16_t)bits;
        char text[NUMBER_OUT_MAX + 1];
        struct number number;
        uint16_t back;

        if ((bits & 0x7c00) != 0x7c00)
            assert_true(bits32(half) == bits32((float)fp16_of(narrow)));
        else
            assert_true(bits & 0x3ff ? isnan(half) : isinf(half) && (half < 0) == bits >> 15);
        if (isnan(half))
            assert_true((number_to_fp16((double)half) & 0x7fff) > 0x7c00);
        else
            assert_int_equal(number_to_fp16((double)half), bits);
        if (isnan(brain))
            assert_true((number_to_bf16((double)brain) & 0x7fff) > 0x7f80);
        else
            assert_int_equal(number_to_bf16((double)brain), bits);

        text[number_write_fp16(text, narrow)] = '\0';
        assert_int_equal(scan(text, &number), isfinite(half));
        if (isfinite(half)) {
            assert_true(number_fp16(&number, &back));
            assert_int_equal(back, bits);
        }
        text[number_write_bf16(text, narrow)] = '\0';
        assert_int_equal(scan(text, &number), isfinite(brain));
        if (isfinite(brain)) {
            assert_true(number_bf16(&number, &back));
            assert_int_equal(back, bits);
        }
    }
}

static void test_half_rounding(void **state)
{
    (void)state;
    for (int i = 0; i < 300000; i++) {
        uint64_t bits = random_next();
        double value;

        /* Exponents around those of FP16. */
        bits = (bits & UINT64_C(0x800fffffffffffff)) | (1023 - 30 + bits % 50) << 52;
        memcpy(&value, &bits, sizeof value);
        assert_true(number_from_fp16(number_to_fp16(value)) == (float)fp16_nearest(value));
    }
    assert_int_equal(number_to_fp16(65519.99), 0x7bff);
    assert_int_equal(number_to_fp16(65520), 0x7c00);
    assert_int_equal(number_to_fp16(1e300), 0x7c00);
    assert_int_equal(number_to_bf16(1e300), 0x7f80);
    assert_int_equal(number_to_bf16(-3.4e38), 0xff80);
    assert_int_equal(number_to_fp16(1e-300), 0);
}

static const struct {
    double value;
    const char *text;
} shortest[] = {
    { 0.0, "0.0" },
    { -0.0, "-0.0" },
    { 1.0, "1.0" },
    { -1.5, "-1.5" },
    { 100.0, "100.0" },
    { 0.1, "0.1" },
    { 0.0001, "0.0001" },
    { 0.00001, "1e-5" },
    { 123456789.125, "123456789.125" },
    { 1e16, "10000000000000000.0" },
    { 1e17, "1e17" },
    { 1e23, "1e23" },
    { 9007199254740993.0, "9007199254740992.0" },
    { 5e-324, "5e-324" },
    { 1.7976931348623157e308, "1.7976931348623157e308" },
    { 2.2250738585072014e-308, "2.2250738585072014e-308" },
    { 0.30000000000000004, "0.30000000000000004" },
    { INFINITY, "null" },
    { -INFINITY, "null" },
    { NAN, "null" },
};

static void test_write_rows(void **state)
{
    char text[NUMBER_OUT_MAX + 1];

    (void)state;
    for (size_t i = 0; i < sizeof shortest / sizeof *shortest; i++) {
        text[number_write_fp64(text, shortest[i].value)] = '\0';
        assert_string_equal(text, shortest[i].text);
    }
    text[number_write_fp32(text, 0.1f)] = '\0';
    assert_string_equal(text, "0.1");
    text[number_write_fp32(text, 3.4028235e38f)] = '\0';
    assert_string_equal(text, "3.4028235e38");
    text[number_write_fp32(text, 1e-45f)] = '\0';
    assert_string_equal(text, "1e-45");
    text[number_write_fp32(text, 16777216.0f)] = '\0';
    assert_string_equal(text, "16777216.0");
    text[number_write_i64(text, INT64_MIN)] = '\0';
    assert_string_equal(text, "-9223372036854775808");
    text[number_write_u64(text, UINT64_MAX)] = '\0';
    assert_string_equal(text, "18446744073709551615");
}

static size_t significant(const char *text)
{
    size_t count = 0, zeros = 0;

    for (; *text && *text != 'e'; text++) {
        if (*text < '0' || *text > '9' || (count == 0 && *text == '0'))
            continue;
        zeros = *text == '0' ? zeros + 1 : 0;
        count++;
    }
    return count - zeros;
}

/* Reads back as the same, is as short as printf could be, and as near as that. */
static void check_fp32(uint32_t bits)
{
    char text[NUMBER_OUT_MAX + 1], other[64];
    float value;
    int digits = 0;

    memcpy(&value, &bits, sizeof value);
    if (!isfinite(value) || value == 0)
        return;
    text[number_write_fp32(text, value)] = '\0';
    if (bits32(strtof(text, NULL)) != bits)
        fail_msg("%.9g became '%s'", (double)value, text);
    do
        snprintf(other, sizeof other, "%.*e", digits++, (double)value);
    while (bits32(strtof(other, NULL)) != bits);
    assert_true(significant(text) <= significant(other));
    if (significant(text) == significant(other))
        assert_true(strtod(text, NULL) == strtod(other, NULL));
}

static void check_fp64(uint64_t bits)
{
    char text[NUMBER_OUT_MAX + 1], other[64];
    double value;
    int digits = 14;

    memcpy(&value, &bits, sizeof value);
    if (!isfinite(value))
        return;
    text[number_write_fp64(text, value)] = '\0';
    if (bits64(strtod(text, NULL)) != bits)
        fail_msg("%.17g became '%s'", value, text);
    do
        snprintf(other, sizeof other, "%.*e", digits++, value);
    while (bits64(strtod(other, NULL)) != bits);
    assert_true(significant(text) <= significant(other));
}

static void test_write_random(void **state)
{
    (void)state;
    for (uint32_t exponent = 0; exponent < 255; exponent++) /* the powers of two: uneven middles */
        check_fp32(exponent << 23);
    for (uint64_t exponent = 0; exponent < 2047; exponent++)
        check_fp64(exponent << 52);
    for (int i = 0; i < 100000; i++) {
        check_fp32((uint32_t)random_next());
        check_fp64(random_next());
    }
    for (uint32_t bits = 0; bits < 20000; bits++) {
        check_fp32(bits);
        check_fp32(0x3f800000 + bits);
        check_fp64(bits);
    }
}

/* The table, by long multiplication and division in words of 32 bits. */
static struct number_power head(const uint32_t *words, int count)
{
    unsigned __int128 top = 0;
    int i = count - 1, shift;

    while (words[i] == 0)
        i--;
    shift = __builtin_clz(words[i]);
    for (int j = 0; j < 5; j++) {
        uint64_t word = i - j >= 0 ? words[i - j] : 0;

        if (j < 4)
            top = top << 32 | word;
        else if (shift)
            top = top << shift | word >> (32 - shift);
    }
    return (struct number_power){ (uint64_t)(top >> 64), (uint64_t)top };
}

static void test_powers(void **state)
{
    static uint32_t words[64];

    (void)state;
    words[0] = 1;
    for (int e = 0; e <= NUMBER_POWER_MAX; e++) {
        struct number_power power = head(words, 64);
        uint64_t carry = 0;

        assert_memory_equal(&power, &number_powers[e - NUMBER_POWER_MIN], sizeof power);
        for (int i = 0; i < 64; i++) {
            carry += (uint64_t)words[i] * 5;
            words[i] = (uint32_t)carry;
            carry >>= 32;
        }
    }
    memset(words, 0, sizeof words);
    words[63] = 1;
    for (int e = 0; e >= NUMBER_POWER_MIN; e--) {
        struct number_power power = head(words, 64);
        uint64_t rest = 0;

        assert_memory_equal(&power, &number_powers[e - NUMBER_POWER_MIN], sizeof power);
        for (int i = 63; i >= 0; i--) {
            rest = rest << 32 | words[i];
            words[i] = (uint32_t)(rest / 5);
            rest %= 5;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_powers),        cmocka_unit_test(test_grammar),
        cmocka_unit_test(test_too_long),      cmocka_unit_test(test_integers),
        cmocka_unit_test(test_read_edges),    cmocka_unit_test(test_read_random),
        cmocka_unit_test(test_read_middles),  cmocka_unit_test(test_half_all),
        cmocka_unit_test(test_half_rounding), cmocka_unit_test(test_write_rows),
        cmocka_unit_test(test_write_random),  cmocka_unit_test(test_run_rows),
        cmocka_unit_test(test_run_random),    cmocka_unit_test(test_run_ends),
    };
    return cmocka_run_group_tests_name("number", tests, NULL, NULL);
}
