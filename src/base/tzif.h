/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tzif.h -- a time zone as tzdata's files say it: which offset from UTC holds when. Pure; any
 * thread.
 *
 * Reads TZif of version 2 and above (RFC 9636, before it 8536): the table of changes, and behind
 * its last one the rule of the footer (a POSIX TZ string, with its extensions: hours of -167 to
 * 167, daylight saving below standard time, or all year). Leap seconds are not told apart: files
 * that count them ("right/") are refused. Times are seconds since 1970, UTC. glibc's own reader is
 * not used: its zone is the process's, not the call's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct arena;
struct err;

enum {
    TZIF_BYTES_MAX = 64 * 1024,
    TZIF_NAME_MAX = 64,                /* bytes of "America/Argentina/ComodRivadavia" */
    TZIF_OFFSET_MAX_S = 26 * 3600 - 1, /* of an offset from UTC, either way */
};
#define TZIF_TIME_MAX (INT64_C(1) << 60) /* what is asked for lies within it, either way */

struct tzif_type {
    int32_t offset_s; /* local time minus UTC */
    bool dst;
    struct slice name; /* "CET", "+01" */
};

enum tzif_day { TZIF_JULIAN, TZIF_ZERO_BASED, TZIF_MONTH_WEEK }; /* J60, 59, M3.5.0 */

struct tzif_date { /* of each year, local time before the change */
    enum tzif_day kind;
    int day;         /* 1 to 365 without 29 February, 0 to 365, or 0 (Sunday) to 6 */
    int month, week; /* TZIF_MONTH_WEEK: 1 to 12; 1 to 5, which is the last */
    int32_t time_s;
};

struct tzif_rule {       /* the footer */
    bool there, changes; /* changes: there is daylight saving */
    struct tzif_type standard, daylight;
    struct tzif_date begin, end; /* of daylight saving */
};

struct tzif {               /* lies in the arena */
    const int64_t *times;   /* ascending */
    const uint8_t *type_of; /* from each time on: index of types */
    size_t time_count;
    const struct tzif_type *types; /* [0] holds before the first time */
    size_t type_count;
    struct tzif_rule rule; /* from the last time on */
};

struct tzif_period {
    int64_t since, until; /* the last one excluded; -TZIF_TIME_MAX, TZIF_TIME_MAX: for ever */
    struct tzif_type type;
};

/* ERR_BAD_INPUT says what is wrong. Nothing of `bytes` is kept. */
[[nodiscard]] int tzif_parse(struct arena *arena, struct slice bytes, struct tzif *ret,
                             struct err *err);
/* The rule alone, "CET-1CEST,M3.5.0,M10.5.0/3". */
[[nodiscard]] int tzif_rule_parse(struct arena *arena, struct slice text, struct tzif_rule *ret,
                                  struct err *err);
/* What holds at `at`, and for how long. Two periods side by side may have the same offset. */
void tzif_at(const struct tzif *zone, int64_t at, struct tzif_period *ret);

/* Local time is told in seconds, too: what would be since 1970 if the zone were UTC. */

/* The first instant at which clocks there show `local` or later: a time that comes twice is the
 * first, one that does not come at all is when the clocks are put forward over it. */
int64_t tzif_instant(const struct tzif *zone, int64_t local);
/* The latest time that clocks there have shown up to `at`. */
int64_t tzif_latest(const struct tzif *zone, int64_t at);

/* A zone's name as it may become a path: letters, digits and _ + - in parts between single
 * slashes, none of them beginning with a sign. ERR_BAD_INPUT. */
[[nodiscard]] int tzif_check_name(struct slice name, struct err *err);
