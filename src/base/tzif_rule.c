/* SPDX-License-Identifier: Apache-2.0 */
/* POSIX's TZ, as in a TZif footer: "CET-1CEST,M3.5.0,M10.5.0/3", "<+0330>-3:30". */
#include "base/arena.h"
#include "base/err.h"
#include "base/tzif.h"

enum {
    HOURS_MAX = 24,       /* of an offset */
    RULE_HOURS_MAX = 167, /* of the time of a change, either way (RFC 9636, 3.3.2) */
    NAME_MIN = 3,
    NAME_MAX = 31,
    CHANGE_S = 2 * 3600, /* local time of a change that tells none */
};

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool take(struct slice *rest, char c)
{
    if (rest->size == 0 || rest->data[0] != c)
        return false;
    *rest = (struct slice){ rest->data + 1, rest->size - 1 };
    return true;
}

static bool take_number(struct slice *rest, int low, int high, int *ret)
{
    int value = 0;
    size_t digits = 0;
    while (digits < rest->size && digits < 3 && is_digit(rest->data[digits]))
        value = value * 10 + rest->data[digits++] - '0';
    *rest = (struct slice){ rest->data + digits, rest->size - digits };
    *ret = value;
    return digits > 0 && value >= low && value <= high;
}

static bool take_name(struct arena *arena, struct slice *rest, struct slice *ret)
{
    bool quoted = take(rest, '<');
    size_t size = 0;
    while (size < rest->size && (is_letter(rest->data[size]) ||
                                 (quoted && (is_digit(rest->data[size]) ||
                                             rest->data[size] == '+' || rest->data[size] == '-'))))
        size++;
    if (size < NAME_MIN || size > NAME_MAX)
        return false;
    *ret = arena_copy(arena, (struct slice){ rest->data, size });
    *rest = (struct slice){ rest->data + size, rest->size - size };
    return !quoted || take(rest, '>');
}

/* [+-]hh[:mm[:ss]], in seconds. */
static bool take_time(struct slice *rest, int hours_max, int32_t *ret)
{
    int hours, minutes = 0, seconds = 0;
    bool negative = take(rest, '-');
    if (!negative)
        take(rest, '+');
    if (!take_number(rest, 0, hours_max, &hours) ||
        (take(rest, ':') && (!take_number(rest, 0, 59, &minutes) ||
                             (take(rest, ':') && !take_number(rest, 0, 59, &seconds)))))
        return false;
    int32_t all = hours * 3600 + minutes * 60 + seconds;
    *ret = negative ? -all : all;
    return true;
}

static bool take_date(struct slice *rest, struct tzif_date *ret)
{
    *ret = (struct tzif_date){ .kind = TZIF_ZERO_BASED, .time_s = CHANGE_S };
    bool good;
    if (take(rest, 'M')) {
        ret->kind = TZIF_MONTH_WEEK;
        good = take_number(rest, 1, 12, &ret->month) && take(rest, '.') &&
               take_number(rest, 1, 5, &ret->week) && take(rest, '.') &&
               take_number(rest, 0, 6, &ret->day);
    } else if (take(rest, 'J')) {
        ret->kind = TZIF_JULIAN;
        good = take_number(rest, 1, 365, &ret->day);
    } else {
        good = take_number(rest, 0, 365, &ret->day);
    }
    return good && (!take(rest, '/') || take_time(rest, RULE_HOURS_MAX, &ret->time_s));
}

/* Offsets in the text are what is to be added to local time for UTC: the other sign. */
static bool rule_read(struct arena *arena, struct slice rest, struct tzif_rule *rule)
{
    int32_t west_s;
    if (!take_name(arena, &rest, &rule->standard.name) || !take_time(&rest, HOURS_MAX, &west_s))
        return false;
    rule->there = true;
    rule->standard.offset_s = -west_s;
    if (rest.size == 0)
        return true;
    rule->changes = true;
    if (!take_name(arena, &rest, &rule->daylight.name))
        return false;
    west_s -= 3600;
    if (rest.size > 0 && rest.data[0] != ',' && !take_time(&rest, HOURS_MAX, &west_s))
        return false;
    rule->daylight.offset_s = -west_s;
    rule->daylight.dst = true;
    return take(&rest, ',') && take_date(&rest, &rule->begin) && take(&rest, ',') &&
           take_date(&rest, &rule->end) && rest.size == 0;
}

int tzif_rule_parse(struct arena *arena, struct slice text, struct tzif_rule *ret, struct err *err)
{
    struct tzif_rule rule = {};
    if (!rule_read(arena, text, &rule))
        return err_set(err, ERR_BAD_INPUT, "'%s' is no rule of a time zone", ERR_SLICE(text));
    *ret = rule;
    return 0;
}
