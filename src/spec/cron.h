/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cron.h -- the five fields of a crontab's line: minute, hour, day of the month, month, day of the
 * week. Pure; any thread.
 *
 * A field is `*` or a list by commas of numbers, ranges `a-b`, and both or `*` with a step (`/n`);
 * months and days of the week by name as well (jan, MON), Sunday is 0 or 7. Where both the day of
 * the month and the day of the week are told (are other than a bare `*`), either is enough. Words
 * (@daily) and seconds are not known.
 *
 * Times are local ones in seconds, as base/tzif.h has them; a match is a whole minute.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct err;

enum { CRON_TEXT_MAX = 256 };

struct cron {
    uint64_t minutes;
    uint32_t hours, days, months; /* bit i is i */
    uint8_t weekdays;             /* bit 0 is Sunday */
    bool any_day, any_weekday;    /* not told */
};

/* ERR_BAD_INPUT says which field; also where it never comes, as 30 February. */
[[nodiscard]] int cron_parse(struct slice text, struct cron *ret, struct err *err);
/* The first match at or after `local`; the last at or before it. There is one within 8 years. */
int64_t cron_next(const struct cron *cron, int64_t local);
int64_t cron_before(const struct cron *cron, int64_t local);
