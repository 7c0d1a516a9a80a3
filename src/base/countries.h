/* SPDX-License-Identifier: Apache-2.0 */
/*
 * countries.h -- a country as a number, and a set of them. Plain data, no list of countries:
 * geo/country.h knows which codes there are.
 *
 * The number is made of the two letters of ISO 3166-1, so that it is the same in every version, in
 * shared memory and on disk. 0 is "not known"; it can be a member of a set, and is one of
 * countries_any().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

typedef uint16_t country_number;

enum { COUNTRY_UNKNOWN = 0, COUNTRY_NUMBER_MAX = 26 * 26, COUNTRIES_WORDS = 11 };

struct countries {
    uint64_t words[COUNTRIES_WORDS];
};

/* COUNTRY_UNKNOWN for what is not two capitals. */
static inline country_number country_number_of(struct slice code)
{
    if (code.size != 2 || code.data[0] < 'A' || code.data[0] > 'Z' || code.data[1] < 'A' ||
        code.data[1] > 'Z')
        return COUNTRY_UNKNOWN;
    return (country_number)(1 + (code.data[0] - 'A') * 26 + (code.data[1] - 'A'));
}

/* The two letters, terminated; "" for COUNTRY_UNKNOWN. */
static inline void country_code_of(country_number country, char ret_code[static 3])
{
    ret_code[0] = ret_code[1] = ret_code[2] = '\0';
    if (country == COUNTRY_UNKNOWN || country > COUNTRY_NUMBER_MAX)
        return;
    ret_code[0] = (char)('A' + (country - 1) / 26);
    ret_code[1] = (char)('A' + (country - 1) % 26);
}

static inline struct countries countries_any(void)
{
    struct countries all;
    for (size_t i = 0; i < COUNTRIES_WORDS; i++)
        all.words[i] = UINT64_MAX;
    return all;
}

static inline bool countries_has(const struct countries *set, country_number country)
{
    return country <= COUNTRY_NUMBER_MAX && (set->words[country / 64] >> country % 64 & 1);
}

static inline void countries_add(struct countries *set, country_number country)
{
    if (country <= COUNTRY_NUMBER_MAX)
        set->words[country / 64] |= UINT64_C(1) << country % 64;
}

static inline void countries_unite(struct countries *set, const struct countries *other)
{
    for (size_t i = 0; i < COUNTRIES_WORDS; i++)
        set->words[i] |= other->words[i];
}

static inline void countries_intersect(struct countries *set, const struct countries *other)
{
    for (size_t i = 0; i < COUNTRIES_WORDS; i++)
        set->words[i] &= other->words[i];
}

static inline bool countries_empty(const struct countries *set)
{
    uint64_t any = 0;
    for (size_t i = 0; i < COUNTRIES_WORDS; i++)
        any |= set->words[i];
    return any == 0;
}
