/* SPDX-License-Identifier: Apache-2.0 */
/*
 * civil.h -- days of the Gregorian calendar, before and after, as numbers: day 0 is 1 January 1970.
 * Pure. After Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms" (public domain).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { CIVIL_DAY_S = 24 * 3600 };

struct civil {
    int64_t year;
    int month, day; /* from 1 */
};

int64_t civil_days(int64_t year, int month, int day);
struct civil civil_of(int64_t days);
int civil_weekday(int64_t days); /* 0: Sunday */
bool civil_leap(int64_t year);
int civil_month_days(int64_t year, int month);

/* Rounds towards the past. */
static inline int64_t civil_day_of(int64_t seconds)
{
    return seconds / CIVIL_DAY_S - (seconds % CIVIL_DAY_S < 0);
}
