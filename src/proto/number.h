/* SPDX-License-Identifier: Apache-2.0 */
/*
 * number.h -- JSON's numbers: exact both ways, and fast.
 *
 * Text to number is rounded once, to nearest even, whatever the target (Clinger's fast path, then
 * Eisel and Lemire's, then strtod). Number to text is the shortest that reads back as the same
 * value of its own format (Giulietti's Schubfach). Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define NUMBER_POWER_MIN (-342)
#define NUMBER_POWER_MAX 324

struct number_power {
    uint64_t high, low;
};
extern const struct number_power number_powers[NUMBER_POWER_MAX - NUMBER_POWER_MIN + 1];

/* As scanned: value = digits * 10^exponent, or a little more where `cut`. */
struct number {
    const char *text; /* where it stands; borrowed */
    size_t size;
    uint64_t digits; /* the first 19 significant ones */
    int32_t exponent;
    bool negative;
    bool integral; /* neither a point nor an exponent */
    bool cut;      /* digits other than 0 were left out */
};

#define NUMBER_TEXT_MAX 1024 /* characters; a longer one is not accepted */

/* Scans a number of JSON's grammar at `at` and returns the place behind it, or NULL when there is
 * none. *end must be readable, and no character a number can hold. */
const char *number_scan(const char *at, const char *end, struct number *ret);

/* Numbers as arrays are full of: digits, perhaps a point and digits, no exponent, a comma behind;
 * straight to the nearest binary32, where that is plain. Stops at the first that is not, which says
 * nothing of it: number_scan() decides. Moves *at behind the commas (and one space); returns how
 * many, at most `max`. */
uint64_t number_run_fp32(const char **at, const char *end, uint64_t max, char *out);

/* False: not an integer, or out of range. */
bool number_u64(const struct number *number, uint64_t *ret);
bool number_i64(const struct number *number, int64_t *ret);

/* Rounded to nearest even; false where that is infinite. */
bool number_fp64(const struct number *number, double *ret);
bool number_fp32(const struct number *number, float *ret);
bool number_fp16(const struct number *number, uint16_t *ret);
bool number_bf16(const struct number *number, uint16_t *ret);

/* FP16 is IEEE binary16; BF16 the upper half of a binary32. */
float number_from_fp16(uint16_t bits);
uint16_t number_to_fp16(double value); /* nearest even; too large becomes infinite */
uint16_t number_to_bf16(double value);

static inline float number_from_bf16(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;

    memcpy(&value, &wide, sizeof value);
    return value;
}

/* Each writes at most NUMBER_OUT_MAX characters, not terminated, and returns how many; infinities
 * and NaN, which JSON does not have, as null. */
#define NUMBER_OUT_MAX 32
size_t number_write_u64(char *out, uint64_t value);
size_t number_write_i64(char *out, int64_t value);
size_t number_write_fp64(char *out, double value);
size_t number_write_fp32(char *out, float value);
size_t number_write_fp16(char *out, uint16_t bits);
size_t number_write_bf16(char *out, uint16_t bits);
