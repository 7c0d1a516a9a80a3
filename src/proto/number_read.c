/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/number.h"

#include <assert.h>
#include <fenv.h>
#include <math.h>
#include <stdlib.h>
#if defined __SSE2__ && !defined NUMBER_PORTABLE /* a test has the other way */
#include <emmintrin.h>
#endif

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "eight digits are read as one word");

/* Exponents beyond this are all the same: zero or infinite, whatever the digits. */
#define EXPONENT_BOUND 100000

static bool is_digit(char c)
{
    return (unsigned char)(c - '0') < 10;
}

static const uint64_t small_powers[] = { 1,      10,      100,      1000,     10000,
                                         100000, 1000000, 10000000, 100000000 };

/* Of eight digits, 0 to 9 each: pairs, fours, then all, in three multiplications. */
static inline uint64_t eight_value(uint64_t word)
{
    word = word * 10 + (word >> 8);
    return ((word & 0x000000ff000000ff) * 0x000f424000000064 +
            ((word >> 16) & 0x000000ff000000ff) * 0x0000271000000001) >>
           32;
}

/* How many of the eight characters are digits from the first on, and what they are worth. No
 * branch hangs on the count: digits move to the end of the word, zeros stand in front. */
static inline int eight_digits(const char *at, uint64_t *ret)
{
    uint64_t word, others;
    int count;

    memcpy(&word, at, sizeof word);
    word ^= 0x3030303030303030;
    others = (word | (word + 0x7676767676767676)) & 0x8080808080808080;
    count = others ? __builtin_ctzll(others) / 8 : 8;
    if (count == 0) /* a shift by 64 is undefined */
        return 0;
    *ret = eight_value(word << (64 - 8 * count));
    return count;
}

/* Wraps around beyond 19 digits: number_scan() then begins anew. */
static inline const char *scan_digits(const char *at, const char *end, uint64_t *digits)
{
    uint64_t eight;

    while (end - at >= 8) {
        int count = eight_digits(at, &eight);

        if (count == 0)
            return at;
        *digits = *digits * small_powers[count] + eight;
        at += count;
        if (count < 8)
            return at;
    }
    for (; is_digit(*at); at++)
        *digits = *digits * 10 + (uint64_t)(*at - '0');
    return at;
}

static const char *scan_exponent(const char *at, int32_t *exponent)
{
    bool negative = *at == '-';
    int32_t value = 0;

    if (*at == '-' || *at == '+')
        at++;
    if (!is_digit(*at))
        return NULL;
    for (; is_digit(*at); at++)
        if (value < EXPONENT_BOUND)
            value = value * 10 + (*at - '0');
    *exponent += negative ? -value : value;
    return at;
}

/* More than 19 digits, though perhaps zeros in front: the first 19 that count. */
static void scan_long(struct number *number, const char *end, int32_t exponent)
{
    const char *at = number->text + number->negative;
    bool fraction = false;
    int count = 0;

    number->digits = 0;
    for (; at < end; at++) {
        if (*at == '.') {
            fraction = true;
            continue;
        }
        if (count == 19) {
            number->cut |= *at != '0';
            exponent += !fraction;
            continue;
        }
        number->digits = number->digits * 10 + (uint64_t)(*at - '0');
        count += number->digits != 0;
        exponent -= fraction;
    }
    number->exponent = exponent;
}

const char *number_scan(const char *at, const char *end, struct number *ret)
{
    const char *text = at, *first, *digits_end;
    bool negative = *at == '-', integral = true;
    int32_t fraction = 0, exponent = 0;
    uint64_t digits = 0;
    ptrdiff_t count;

    first = at += negative;
    if (is_digit(*at) && !is_digit(at[1])) { /* a zero, or one digit as most have */
        digits = (uint64_t)(*at++ - '0');
    } else {
        at = scan_digits(at, end, &digits);
        if (at == first || *first == '0')
            return NULL;
    }
    count = at - first;
    digits_end = at;
    if (*at == '.') {
        const char *point = ++at;

        integral = false;
        at = scan_digits(at, end, &digits);
        if (at == point)
            return NULL;
        count += at - point;
        fraction = at - point > EXPONENT_BOUND ? EXPONENT_BOUND : (int)(at - point);
        digits_end = at;
    }
    if ((*at | 0x20) == 'e') {
        integral = false;
        at = scan_exponent(at + 1, &exponent);
        if (!at)
            return NULL;
    }
    /* Field by field: to build it elsewhere and copy it would wait for those stores. */
    ret->text = text;
    ret->size = (size_t)(at - text);
    ret->digits = digits;
    ret->exponent = exponent - fraction;
    ret->negative = negative;
    ret->integral = integral;
    ret->cut = false;
    if (ret->size > NUMBER_TEXT_MAX)
        return NULL;
    if (count > 19)
        scan_long(ret, digits_end, exponent);
    return at;
}

/* --- integers ------------------------------------------------------------------------------- */

static bool magnitude(const struct number *number, uint64_t *ret)
{
    uint64_t value = 0;

    if (!number->integral)
        return false;
    if (number->exponent == 0 && !number->cut) {
        *ret = number->digits;
        return true;
    }
    for (size_t i = number->negative; i < number->size; i++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(number->text[i] - '0'), &value))
            return false;
    *ret = value;
    return true;
}

bool number_u64(const struct number *number, uint64_t *ret)
{
    uint64_t value;

    if (!magnitude(number, &value) || (number->negative && value != 0))
        return false;
    *ret = value;
    return true;
}

bool number_i64(const struct number *number, int64_t *ret)
{
    uint64_t value;

    if (!magnitude(number, &value) || value > (uint64_t)INT64_MAX + number->negative)
        return false;
    *ret = (int64_t)(number->negative ? -value : value);
    return true;
}

/* --- binary64 ------------------------------------------------------------------------------- */

static const double exact_powers[] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                       1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                       1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };

#define MANTISSA_BITS 52
#define INFINITE_BITS (UINT64_C(0x7ff) << MANTISSA_BITS)

/* The 128 highest bits of digits * 10^exponent that matter. Powers -27 to -1 have to be rounded up
 * for exact ties to come out exact; the table has them cut. */
static unsigned __int128 product(uint64_t digits, int32_t exponent)
{
    const struct number_power *power = &number_powers[exponent - NUMBER_POWER_MIN];
    uint64_t mask = UINT64_MAX >> (MANTISSA_BITS + 3);
    unsigned __int128 first = (unsigned __int128)digits * power->high;

    if (((uint64_t)(first >> 64) & mask) == mask) {
        uint64_t low = power->low + (exponent >= -27 && exponent < 0);

        first += (uint64_t)(((unsigned __int128)digits * low) >> 64);
    }
    return first;
}

/* Bits of the binary64 nearest to digits * 10^exponent (Lemire, "Number parsing at a gigabyte per
 * second"; that it never needs a fallback: Mushtak and Lemire, 2022). */
static uint64_t nearest(uint64_t digits, int32_t exponent)
{
    if (digits == 0 || exponent < NUMBER_POWER_MIN)
        return 0;
    if (exponent > 308)
        return INFINITE_BITS;

    int zeros = __builtin_clzll(digits);
    unsigned __int128 wide = product(digits << zeros, exponent);
    uint64_t high = (uint64_t)(wide >> 64), low = (uint64_t)wide;
    int upper = (int)(high >> 63);
    int shift = upper + 64 - MANTISSA_BITS - 3;
    uint64_t mantissa = high >> shift;
    int32_t power = (((152170 + 65536) * exponent) >> 16) + 63 + upper - zeros + 1023;

    if (power <= 0) { /* subnormal */
        if (-power + 1 >= 64)
            return 0;
        mantissa >>= -power + 1;
        mantissa += mantissa & 1;
        return mantissa >> 1; /* a carry into bit 52 is the smallest normal, as it should be */
    }
    /* Exactly between two: only these exponents can, and then the product is exact. */
    if (low <= 1 && exponent >= -4 && exponent <= 23 && (mantissa & 3) == 1 &&
        mantissa << shift == high)
        mantissa &= ~UINT64_C(1);
    mantissa += mantissa & 1;
    mantissa >>= 1;
    if (mantissa >= UINT64_C(2) << MANTISSA_BITS) {
        mantissa = UINT64_C(1) << MANTISSA_BITS;
        power++;
    }
    if (power >= 0x7ff)
        return INFINITE_BITS;
    return (mantissa & ~(UINT64_C(1) << MANTISSA_BITS)) | (uint64_t)power << MANTISSA_BITS;
}

static double library(const struct number *number, int rounding)
{
    char text[NUMBER_TEXT_MAX + 1];
    int old = fegetround();
    double value;

    memcpy(text, number->text, number->size);
    text[number->size] = '\0';
    fesetround(rounding);
    value = strtod(text, NULL);
    fesetround(old);
    return value;
}

static inline double rounded(const struct number *number)
{
    int32_t exponent = number->exponent;
    double value;

    if (number->digits <= UINT64_C(1) << 53 && exponent >= -22 && exponent <= 22 && !number->cut) {
        value = (double)number->digits;
        if (exponent < 0)
            value /= exact_powers[-exponent];
        else
            value *= exact_powers[exponent];
    } else {
        uint64_t bits = nearest(number->digits, exponent);

        if (number->cut && bits != nearest(number->digits + 1, exponent))
            return library(number, FE_TONEAREST);
        memcpy(&value, &bits, sizeof value);
    }
    return number->negative ? -value : value;
}

bool number_fp64(const struct number *number, double *ret)
{
    double value = rounded(number);

    if (isinf(value))
        return false;
    *ret = value;
    return true;
}

/* --- straight to binary32 --------------------------------------------------------------------- */

/*
 * Where each number ends is found first, by its comma, for many at once: so the next one need not
 * wait until this one has been read, and no branch hangs on a sign or on how many digits there are,
 * which nothing can foresee.
 */
#define RUN_BYTES 48 /* what one number may look at */
#define COMMAS 64    /* characters at a time */

/* Bit i: character i of COMMAS is one. */
static inline uint64_t commas_of(const char *at)
{
    uint64_t all = 0;

#if defined __SSE2__ && !defined NUMBER_PORTABLE /* a test has the other way */
    for (int i = 0; i < COMMAS / 16; i++) {
        __m128i part = _mm_loadu_si128((const void *)(at + 16 * i));
        int found = _mm_movemask_epi8(_mm_cmpeq_epi8(part, _mm_set1_epi8(',')));
        all |= (uint64_t)(unsigned)found << 16 * i;
    }
#else
    for (int i = 0; i < COMMAS / 8; i++) {
        uint64_t word;
        memcpy(&word, at + 8 * i, sizeof word);
        word ^= 0x2c2c2c2c2c2c2c2c;
        word = ~(((word & 0x7f7f7f7f7f7f7f7f) + 0x7f7f7f7f7f7f7f7f) | word | 0x7f7f7f7f7f7f7f7f);
        all |= ((word >> 7) * 0x0102040810204080 >> 56) << 8 * i;
    }
#endif
    return all;
}

struct commas {
    const char *at, *end; /* where `left` begins; nothing is read from `end` on */
    uint64_t left;
};

static inline void commas_look(struct commas *commas)
{
    char last[COMMAS] = {};

    if (commas->end - commas->at >= COMMAS) {
        commas->left = commas_of(commas->at);
        return;
    }
    memcpy(last, commas->at, (size_t)(commas->end - commas->at));
    commas->left = commas_of(last);
}

/* The next one; NULL: there is none up to `end`. */
static inline const char *commas_next(struct commas *commas)
{
    while (commas->left == 0) {
        if (commas->end - commas->at <= COMMAS)
            return NULL;
        commas->at += COMMAS;
        commas_look(commas);
    }
    const char *found = commas->at + __builtin_ctzll(commas->left);
    commas->left &= commas->left - 1;
    return found;
}

/* The first `count` (0 to 8) of the characters, behind zeros; with a bit of 0x80 where one is no
 * digit. */
static inline uint64_t some_digits(const char *at, ptrdiff_t count)
{
    uint64_t word;
    int bits = 8 * (8 - (int)count);

    memcpy(&word, at, sizeof word);
    word ^= 0x3030303030303030;
    return word << (bits / 2) << (bits - bits / 2); /* a shift by 64 is undefined */
}

static inline uint64_t no_digits(uint64_t word)
{
    return (word | (word + 0x7676767676767676)) & 0x8080808080808080;
}

/* `count` digits of a fraction behind what `digits` holds. */
static inline bool run_fraction(const char *at, ptrdiff_t count, uint64_t *digits)
{
    if (count <= 8) {
        uint64_t word = some_digits(at, count);
        *digits = *digits * small_powers[count] + eight_value(word);
        return no_digits(word) == 0;
    }
    ptrdiff_t second = count < 16 ? count - 8 : 8, third = count > 16 ? count - 16 : 0;
    uint64_t words[] = { some_digits(at, 8), some_digits(at + 8, second),
                         some_digits(at + 16, third) };
    *digits = *digits * small_powers[8] + eight_value(words[0]);
    *digits = *digits * small_powers[second] + eight_value(words[1]);
    *digits = *digits * small_powers[third] + eight_value(words[2]);
    return (no_digits(words[0]) | no_digits(words[1]) | no_digits(words[2])) == 0;
}

/* From `at` to its comma. The quotient has an error of one unit of a binary64 at most, so rounding
 * it again is right unless it lies that near to the middle between two binary32. */
static inline bool run_one(const char *at, const char *comma, float *ret)
{
    bool negative = *at == '-';
    uint64_t digits, bits;
    ptrdiff_t count = 1, fraction = 0;

    at += negative;
    if (is_digit(*at) && !is_digit(at[1])) {
        digits = (uint64_t)(*at - '0');
    } else {
        count = eight_digits(at, &digits);
        if (count == 0 || count == 8 || *at == '0')
            return false;
    }
    at += count;
    if (at != comma) {
        fraction = comma - ++at;
        if (at[-1] != '.' || fraction < 1 || fraction > 18 || count + fraction > 19 ||
            !run_fraction(at, fraction, &digits))
            return false;
    }
    double value = (double)digits / exact_powers[fraction];
    memcpy(&bits, &value, sizeof bits);
    if (((bits + 4) & 0x1fffffff) - 0x10000000 <= 8)
        return false;
    bits |= (uint64_t)negative << 63; /* no branch, which could not be foreseen */
    memcpy(&value, &bits, sizeof value);
    *ret = (float)value;
    return true;
}

uint64_t number_run_fp32(const char **at, const char *end, uint64_t max, char *out)
{
    struct commas commas = { .at = *at, .end = end };
    uint64_t count = 0;
    float value;

    if (max == 0 || end - *at < RUN_BYTES)
        return 0;
    commas_look(&commas);
    for (const char *here = *at; count < max && end - here >= RUN_BYTES; count++) {
        const char *comma = commas_next(&commas);
        if (!comma || !run_one(here, comma, &value))
            break;
        memcpy(out + count * sizeof value, &value, sizeof value);
        here = comma + 1;
        here += *here == ' '; /* as Python's json writes it */
        *at = here;
    }
    return count;
}

/* --- narrower ones ---------------------------------------------------------------------------- */

struct format {
    int mantissa_bits, exponent_min;
};

static const struct format fp32 = { 23, -126 }, fp16 = { 10, -14 }, bf16 = { 7, -126 };

/* How many bits of the binary64's mantissa do not fit, with the hidden bit counted; above 53 the
 * value is less than half of the smallest. */
static int surplus(uint64_t bits, struct format format)
{
    int exponent = (int)(bits >> MANTISSA_BITS & 0x7ff) - 1023;
    int drop = MANTISSA_BITS - format.mantissa_bits;

    return exponent < format.exponent_min ? drop + format.exponent_min - exponent : drop;
}

static uint64_t mantissa_of(uint64_t bits)
{
    return (bits & ((UINT64_C(1) << MANTISSA_BITS) - 1)) | UINT64_C(1) << MANTISSA_BITS;
}

/* Rounding to binary64 and then once more is wrong where the first lands exactly between two
 * values of the narrower format. There the binary64 on the other side of the true value is taken
 * instead, unless the true value is the middle itself. */
static inline double rounded_for(const struct number *number, struct format format)
{
    double value = rounded(number);
    uint64_t bits;
    int drop;

    memcpy(&bits, &value, sizeof bits);
    drop = surplus(bits, format);
    if (drop > 53 || (mantissa_of(bits) & ((UINT64_C(1) << drop) - 1)) != UINT64_C(1) << (drop - 1))
        return value;

    double below = library(number, FE_DOWNWARD), above = library(number, FE_UPWARD);
    return below == above ? value : value == below ? above : below;
}

bool number_fp32(const struct number *number, float *ret)
{
    float value;

    /* Both exact in binary32, so their quotient is rounded once. */
    if (number->digits <= 1 << 24 && number->exponent <= 0 && number->exponent >= -10) {
        value = (float)number->digits / (float)exact_powers[-number->exponent];
        *ret = number->negative ? -value : value;
        return true;
    }
    value = (float)rounded_for(number, fp32);

    if (isinf(value))
        return false;
    *ret = value;
    return true;
}

static uint16_t narrow(double value, struct format format)
{
    uint64_t bits;
    uint32_t infinite = 0x7fffu >> format.mantissa_bits << format.mantissa_bits;
    uint32_t sign, result;

    memcpy(&bits, &value, sizeof bits);
    sign = (uint32_t)(bits >> 63) << 15;
    if (isnan(value))
        return (uint16_t)(sign | infinite | 1u << (format.mantissa_bits - 1));
    if (isinf(value))
        return (uint16_t)(sign | infinite);

    int drop = surplus(bits, format);
    if (drop > 53)
        return (uint16_t)sign;
    uint64_t mantissa = mantissa_of(bits), half = UINT64_C(1) << (drop - 1);
    uint64_t rest = mantissa & (2 * half - 1);
    int exponent = (int)(bits >> MANTISSA_BITS & 0x7ff) - 1023;

    result = (uint32_t)(mantissa >> drop);
    result += rest > half || (rest == half && (result & 1));
    /* The hidden bit, or a carry, counts the exponent up by one. */
    if (exponent > format.exponent_min) {
        uint32_t above = (uint32_t)(exponent - format.exponent_min);

        result +=
            above > 0xffffu >> format.mantissa_bits ? infinite : above << format.mantissa_bits;
    }
    return (uint16_t)(sign | (result > infinite ? infinite : result));
}

uint16_t number_to_fp16(double value)
{
    return narrow(value, fp16);
}

uint16_t number_to_bf16(double value)
{
    return narrow(value, bf16);
}

bool number_fp16(const struct number *number, uint16_t *ret)
{
    uint16_t bits = narrow(rounded_for(number, fp16), fp16);

    if ((bits & 0x7c00) == 0x7c00)
        return false;
    *ret = bits;
    return true;
}

bool number_bf16(const struct number *number, uint16_t *ret)
{
    uint16_t bits = narrow(rounded_for(number, bf16), bf16);

    if ((bits & 0x7f80) == 0x7f80)
        return false;
    *ret = bits;
    return true;
}

float number_from_fp16(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    uint32_t exponent = bits >> 10 & 0x1f, mantissa = bits & 0x3ff, wide;
    float value;

    if (exponent == 0) { /* zero or subnormal: a multiple of 2^-24, exact in binary32 */
        value = (float)mantissa * 0x1p-24f;
        return sign ? -value : value;
    }
    if (exponent == 0x1f)
        wide = sign | 0x7f800000 | mantissa << 13;
    else
        wide = sign | (exponent + 112) << 23 | mantissa << 13;
    memcpy(&value, &wide, sizeof value);
    return value;
}
