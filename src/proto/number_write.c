/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/number.h"

/* --- integers ------------------------------------------------------------------------------- */

static const char pairs[] = "0001020304050607080910111213141516171819"
                            "2021222324252627282930313233343536373839"
                            "4041424344454647484950515253545556575859"
                            "6061626364656667686970717273747576777879"
                            "8081828384858687888990919293949596979899";

static int digit_count(uint64_t value)
{
    int count = 1;

    for (; value >= 10000; value /= 10000)
        count += 4;
    return count + (value >= 10) + (value >= 100) + (value >= 1000);
}

/* Exactly `count` digits, zeros in front. */
static void write_digits(char *out, uint64_t value, int count)
{
    for (; count >= 2; count -= 2, value /= 100)
        memcpy(out + count - 2, pairs + value % 100 * 2, 2);
    if (count > 0)
        *out = (char)('0' + value);
}

size_t number_write_u64(char *out, uint64_t value)
{
    int count = digit_count(value);

    write_digits(out, value, count);
    return (size_t)count;
}

size_t number_write_i64(char *out, int64_t value)
{
    if (value >= 0)
        return number_write_u64(out, (uint64_t)value);
    *out = '-';
    return 1 + number_write_u64(out + 1, -(uint64_t)value);
}

/* --- shortest decimals ------------------------------------------------------------------------ */

/*
 * Schubfach (Raffaello Giulietti, "The Schubfach way to render doubles"). A finite value is
 * c * 2^q. All decimals that round to it lie between the middles to its neighbours; of those with
 * the fewest digits the nearest is taken. Everything is computed times 4 and "rounded to odd", so
 * that comparisons with the middles come out right.
 */
struct decimal {
    uint64_t digits;
    int exponent;
};

static int floor_log2_pow10(int e)
{
    return (e * 1741647) >> 19;
}

/* 10^e cut is one too small unless it fits the bits asked for: 5^27 in 64, 5^55 in 128. */
static uint64_t odd32(int e, uint64_t value)
{
    const struct number_power *power = &number_powers[e - NUMBER_POWER_MIN];
    unsigned __int128 x = (unsigned __int128)(power->high + (e < 0 || e > 27)) * value;

    return (uint64_t)(x >> 64) | ((uint32_t)((uint64_t)x >> 32) > 1);
}

static uint64_t odd64(int e, uint64_t value)
{
    const struct number_power *power = &number_powers[e - NUMBER_POWER_MIN];
    uint64_t low = power->low + (e < 0 || e > 55);
    unsigned __int128 x = (unsigned __int128)low * value;
    unsigned __int128 y = (unsigned __int128)power->high * value + (uint64_t)(x >> 64);

    return (uint64_t)(y >> 64) | ((uint64_t)y > 1);
}

static inline struct decimal shortest(uint64_t c, int q, bool lower_closer,
                                      uint64_t (*to_odd)(int e, uint64_t value))
{
    bool odd = c & 1;
    int k = (q * 1262611 - (lower_closer ? 524031 : 0)) >> 22;
    int h = q + floor_log2_pow10(-k) + 1;
    uint64_t lower = to_odd(-k, (4 * c - 2 + lower_closer) << h) + odd;
    uint64_t middle = to_odd(-k, (4 * c) << h);
    uint64_t upper = to_odd(-k, (4 * c + 2) << h) - odd;
    uint64_t s = middle / 4;

    if (s >= 10) {
        uint64_t tens = s / 10;
        bool down = lower <= 40 * tens, up = 40 * tens + 40 <= upper;

        if (down != up)
            return (struct decimal){ tens + up, k + 1 };
    }
    bool down = lower <= 4 * s, up = 4 * s + 4 <= upper;
    if (down == up) {
        uint64_t half = 4 * s + 2;

        up = middle > half || (middle == half && (s & 1));
    }
    return (struct decimal){ s + up, k };
}

static const uint64_t powers[] = {
#define POWER(e) UINT64_C(1##e)
    POWER(),
    POWER(0),
    POWER(00),
    POWER(000),
    POWER(0000),
    POWER(00000),
    POWER(000000),
    POWER(0000000),
    POWER(00000000),
    POWER(000000000),
    POWER(0000000000),
    POWER(00000000000),
    POWER(000000000000),
    POWER(0000000000000),
    POWER(00000000000000),
    POWER(000000000000000),
    POWER(0000000000000000),
    POWER(00000000000000000),
    POWER(000000000000000000),
    POWER(0000000000000000000),
#undef POWER
};
#define POWERS (int)(sizeof powers / sizeof *powers)

/* As 0.00012, 12.5, 1200000.0 between 1e-4 and 1e17, else as 1.2e-7. */
static size_t write_decimal(char *out, struct decimal decimal)
{
    char *at = out;
    int count, point;

    while (decimal.digits % 10 == 0) {
        decimal.digits /= 10;
        decimal.exponent++;
    }
    count = digit_count(decimal.digits);
    point = count + decimal.exponent;
    if (point > -4 && point <= 17 && -decimal.exponent < POWERS) {
        uint64_t unit = powers[decimal.exponent < 0 ? -decimal.exponent : decimal.exponent];

        if (decimal.exponent >= 0) {
            at += number_write_u64(at, decimal.digits * unit);
            memcpy(at, ".0", 2);
            return (size_t)(at - out) + 2;
        }
        at += number_write_u64(at, decimal.digits / unit);
        *at++ = '.';
        write_digits(at, decimal.digits % unit, -decimal.exponent);
        return (size_t)(at - out) - (size_t)decimal.exponent;
    }
    /* The first digit is written one to the left, and its place becomes the point. */
    write_digits(at + 1, decimal.digits, count);
    at[0] = at[1];
    if (count > 1) {
        at[1] = '.';
        at += count + 1;
    } else {
        at++;
    }
    *at++ = 'e';
    at += number_write_i64(at, point - 1);
    return (size_t)(at - out);
}

/* `bits`: of the magnitude. Narrow formats' neighbours are far apart, so 64 bits of a power do. */
static inline size_t write_binary(char *out, bool negative, uint64_t bits, int mantissa_bits,
                                  int exponent_min, uint64_t infinite)
{
    uint64_t fraction = bits & ((UINT64_C(1) << mantissa_bits) - 1);
    uint64_t exponent = bits >> mantissa_bits;
    struct decimal decimal;
    char *at = out;
    uint64_t c;
    int q;

    if (bits >= infinite) {
        memcpy(out, "null", 4);
        return 4;
    }
    if (negative)
        *at++ = '-';
    if (bits == 0) {
        memcpy(at, "0.0", 3);
        return (size_t)(at - out) + 3;
    }
    c = exponent ? fraction | UINT64_C(1) << mantissa_bits : fraction;
    q = exponent_min - mantissa_bits + (exponent ? (int)exponent - 1 : 0);
    if (q <= 0 && q >= -mantissa_bits && (c & ((UINT64_C(1) << -q) - 1)) == 0)
        decimal = (struct decimal){ c >> -q, 0 }; /* an integer that is written out in full */
    else
        decimal =
            shortest(c, q, fraction == 0 && exponent > 1, mantissa_bits == 52 ? odd64 : odd32);
    return (size_t)(at - out) + write_decimal(at, decimal);
}

size_t number_write_fp64(char *out, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    return write_binary(out, bits >> 63, bits & INT64_MAX, 52, -1022, UINT64_C(0x7ff) << 52);
}

size_t number_write_fp32(char *out, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return write_binary(out, bits >> 31, bits & INT32_MAX, 23, -126, 0x7f800000);
}

size_t number_write_fp16(char *out, uint16_t bits)
{
    return write_binary(out, bits >> 15, bits & INT16_MAX, 10, -14, 0x7c00);
}

size_t number_write_bf16(char *out, uint16_t bits)
{
    return write_binary(out, bits >> 15, bits & INT16_MAX, 7, -126, 0x7f80);
}
