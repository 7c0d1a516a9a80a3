/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/cron.h"

#include <assert.h>

#include "base/civil.h"
#include "base/err.h"

/* ---- a field --------------------------------------------------------------------------------- */

static const char months[][4] = { "jan", "feb", "mar", "apr", "may", "jun",
                                  "jul", "aug", "sep", "oct", "nov", "dec" };
static const char weekdays[][4] = { "sun", "mon", "tue", "wed", "thu", "fri", "sat" };

static const struct field {
    const char *name;
    unsigned low, high;
    const char (*words)[4]; /* the first one is `low` */
    unsigned word_count;
} fields[] = {
    { "minute", 0, 59, NULL, 0 },
    { "hour", 0, 23, NULL, 0 },
    { "day of the month", 1, 31, NULL, 0 },
    { "month", 1, 12, months, 12 },
    { "day of the week", 0, 7, weekdays, 7 },
};
enum { MINUTE, HOUR, DAY, MONTH, WEEKDAY, FIELDS };

static int value_read(const struct field *field, struct slice text, unsigned *ret, struct err *err)
{
    uint64_t number;
    for (unsigned i = 0; i < field->word_count; i++)
        if (slice_equal_nocase(text, slice_of(field->words[i]))) {
            *ret = field->low + i;
            return 0;
        }
    if (!slice_u64(text, &number) || text.size > 2)
        return err_set(err, ERR_BAD_INPUT, "%s: '%s' is no %s%s", field->name, ERR_SLICE(text),
                       field->words ? "number or name" : "number",
                       field->words ? "; names have three letters, as in mon or jan" : "");
    if (number < field->low || number > field->high)
        return err_set(err, ERR_BAD_INPUT, "%s: %llu is not within %u to %u", field->name,
                       (unsigned long long)number, field->low, field->high);
    *ret = (unsigned)number;
    return 0;
}

/* One of a list: 5, 1-5, *, each with a step. */
static int item_read(const struct field *field, struct slice item, uint64_t *bits, struct err *err)
{
    struct slice step_text = item, high_text;
    struct slice range = slice_cut(&step_text, '/');
    uint64_t step = 1;
    unsigned low = 0, high = 0;
    int r = 0;
    high_text = range;
    struct slice low_text = slice_cut(&high_text, '-');
    bool is_range = high_text.data || slice_is(range, "*");
    if (slice_is(range, "*")) {
        low = field->low;
        high = field->high;
    } else {
        r = value_read(field, low_text, &low, err);
        if (r == 0 && high_text.data)
            r = value_read(field, high_text, &high, err);
        if (r < 0)
            return r;
        /* fri-sun */
        if (high_text.data && field == &fields[WEEKDAY] && high == 0 && low > 0)
            high = 7;
        if (!high_text.data)
            high = low;
    }
    if (low > high)
        return err_set(err, ERR_BAD_INPUT, "%s: '%s' ends before it begins", field->name,
                       ERR_SLICE(range));
    if (step_text.data && !is_range)
        return err_set(err, ERR_BAD_INPUT, "%s: '%s' is a step of one value; say */%s or a range",
                       field->name, ERR_SLICE(item), ERR_SLICE(step_text));
    if (step_text.data &&
        (!slice_u64(step_text, &step) || step < 1 || step > field->high - field->low))
        return err_set(err, ERR_BAD_INPUT, "%s: '%s' is no step of 1 to %u", field->name,
                       ERR_SLICE(step_text), field->high - field->low);
    for (unsigned i = low; i <= high; i += (unsigned)step)
        *bits |= UINT64_C(1) << i;
    return 0;
}

static int field_read(const struct field *field, struct slice text, uint64_t *ret, struct err *err)
{
    *ret = 0;
    while (text.data) {
        struct slice item = slice_cut(&text, ',');
        if (item.size == 0)
            return err_set(err, ERR_BAD_INPUT, "%s: something is missing beside a comma",
                           field->name);
        int r = item_read(field, item, ret, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- the line -------------------------------------------------------------------------------- */

static size_t split(struct slice text, struct slice words[static FIELDS + 1])
{
    size_t count = 0, at = 0;
    while (at < text.size && count <= FIELDS) {
        size_t from = at;
        while (at < text.size && text.data[at] != ' ' && text.data[at] != '\t')
            at++;
        if (at > from)
            words[count++] = (struct slice){ text.data + from, at - from };
        at++;
    }
    return count;
}

/* Days of the week come in each month; a day of the month needs a month that is so long. */
static int check_comes(const struct cron *cron, struct err *err)
{
    if (cron->any_day || !cron->any_weekday)
        return 0;
    unsigned first = (unsigned)__builtin_ctz(cron->days);
    for (int month = 1; month <= 12; month++)
        if (cron->months >> month & 1 && first <= (unsigned)civil_month_days(2000, month))
            return 0;
    return err_set(err, ERR_BAD_INPUT, "it never comes: no month in it has a day %u", first);
}

int cron_parse(struct slice text, struct cron *ret, struct err *err)
{
    struct slice words[FIELDS + 1];
    uint64_t bits[FIELDS];
    if (text.size > CRON_TEXT_MAX)
        return err_set(err, ERR_BAD_INPUT, "'%s' is longer than %d characters", ERR_SLICE(text),
                       (int)CRON_TEXT_MAX);
    size_t count = split(text, words);
    if (count > 0 && words[0].data[0] == '@')
        return err_set(err, ERR_BAD_INPUT,
                       "'%s': words are not known; write five fields, as in "
                       "0 8 * * 1-5",
                       ERR_SLICE(words[0]));
    if (count != FIELDS)
        return err_set(err, ERR_BAD_INPUT,
                       "'%s' has %s fields; it needs five: minute, hour, day of the month, month, "
                       "day of the week, as in 0 8 * * 1-5",
                       ERR_SLICE(text), count > FIELDS ? "more" : "fewer");
    for (size_t i = 0; i < FIELDS; i++) {
        int r = field_read(&fields[i], words[i], &bits[i], err);
        if (r < 0)
            return r;
    }
    struct cron cron = {
        .minutes = bits[MINUTE],
        .hours = (uint32_t)bits[HOUR],
        .days = (uint32_t)bits[DAY],
        .months = (uint32_t)bits[MONTH],
        .weekdays = (uint8_t)((bits[WEEKDAY] | bits[WEEKDAY] >> 7) & 0x7f),
        .any_day = slice_is(words[DAY], "*"),
        .any_weekday = slice_is(words[WEEKDAY], "*"),
    };
    int r = check_comes(&cron, err);
    if (r == 0)
        *ret = cron;
    return r;
}

/* ---- when ------------------------------------------------------------------------------------ */

/* One that is not told holds all days. */
static bool day_matches(const struct cron *cron, int64_t day)
{
    struct civil civil = civil_of(day);
    if (!(cron->months >> civil.month & 1))
        return false;
    bool of_month = cron->days >> civil.day & 1;
    bool of_week = cron->weekdays >> civil_weekday(day) & 1;
    return cron->any_day || cron->any_weekday ? of_month && of_week : of_month || of_week;
}

static uint64_t bits_from(unsigned first)
{
    return first < 64 ? ~UINT64_C(0) << first : 0;
}

/* The first minute of the day at or after `from`; -1: none. */
static int minute_next(const struct cron *cron, int from)
{
    unsigned hour = (unsigned)from / 60, minute = (unsigned)from % 60;
    if (hour > 23)
        return -1;
    if (cron->hours >> hour & 1 && cron->minutes & bits_from(minute))
        return (int)(hour * 60) + __builtin_ctzll(cron->minutes & bits_from(minute));
    uint64_t later = cron->hours & bits_from(hour + 1);
    return later ? __builtin_ctzll(later) * 60 + __builtin_ctzll(cron->minutes) : -1;
}

static int high_bit(uint64_t bits)
{
    return 63 - __builtin_clzll(bits);
}

static int minute_before(const struct cron *cron, int from)
{
    unsigned hour = (unsigned)from / 60, minute = (unsigned)from % 60;
    uint64_t so_far = cron->minutes & ~bits_from(minute + 1);
    if (cron->hours >> hour & 1 && so_far)
        return (int)(hour * 60) + high_bit(so_far);
    uint64_t earlier = cron->hours & ~bits_from(hour);
    return earlier ? high_bit(earlier) * 60 + high_bit(cron->minutes) : -1;
}

enum { DAYS_AT_MOST = 8 * 366 + 1 }; /* 29 February 2096 to that of 2104 */

int64_t cron_next(const struct cron *cron, int64_t local)
{
    int64_t day = civil_day_of(local);
    int minute = (int)((local - day * CIVIL_DAY_S + 59) / 60);
    for (unsigned i = 0; i <= DAYS_AT_MOST; i++, day++, minute = 0) {
        int found = day_matches(cron, day) ? minute_next(cron, minute) : -1;
        if (found >= 0)
            return day * CIVIL_DAY_S + (int64_t)found * 60;
    }
    assert(!"what never comes was refused");
    return INT64_MAX;
}

int64_t cron_before(const struct cron *cron, int64_t local)
{
    int64_t day = civil_day_of(local);
    int minute = (int)((local - day * CIVIL_DAY_S) / 60);
    for (unsigned i = 0; i <= DAYS_AT_MOST; i++, day--, minute = 24 * 60 - 1) {
        int found = day_matches(cron, day) ? minute_before(cron, minute) : -1;
        if (found >= 0)
            return day * CIVIL_DAY_S + (int64_t)found * 60;
    }
    assert(!"what never comes was refused");
    return INT64_MIN;
}
