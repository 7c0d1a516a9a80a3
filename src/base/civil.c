/* SPDX-License-Identifier: Apache-2.0 */
#include "base/civil.h"

/* Years begin in March, so that the leap day is the last; 400 of them are an era. */
enum { ERA_YEARS = 400, ERA_DAYS = 146'097, DAYS_TO_1970 = 719'468 };

int64_t civil_days(int64_t year, int month, int day)
{
    int64_t shifted = year - (month <= 2);
    int64_t era = (shifted >= 0 ? shifted : shifted - (ERA_YEARS - 1)) / ERA_YEARS;
    int64_t of_era = shifted - era * ERA_YEARS;
    int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * ERA_DAYS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - DAYS_TO_1970;
}

struct civil civil_of(int64_t days)
{
    int64_t shifted = days + DAYS_TO_1970;
    int64_t era = (shifted >= 0 ? shifted : shifted - (ERA_DAYS - 1)) / ERA_DAYS;
    int64_t of_era = shifted - era * ERA_DAYS;
    int64_t year = (of_era - of_era / 1460 + of_era / 36'524 - of_era / (ERA_DAYS - 1)) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int month = (int)((5 * of_year + 2) / 153);
    int day = (int)(of_year - (153 * month + 2) / 5 + 1);
    month += month < 10 ? 3 : -9;
    return (struct civil){ year + era * ERA_YEARS + (month <= 2), month, day };
}

int civil_weekday(int64_t days)
{
    int64_t since_sunday = (days + 4) % 7; /* day 0 was a Thursday */
    return (int)(since_sunday < 0 ? since_sunday + 7 : since_sunday);
}

bool civil_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

int civil_month_days(int64_t year, int month)
{
    static const uint8_t days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    return days[month - 1] + (month == 2 && civil_leap(year));
}
