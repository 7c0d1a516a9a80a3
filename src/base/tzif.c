/* SPDX-License-Identifier: Apache-2.0 */
/* The file, and what it answers; the footer's text is tzif_rule.c's. */
#include "base/tzif.h"

#include <assert.h>

#include "base/arena.h"
#include "base/civil.h"
#include "base/err.h"

enum { HEAD_BYTES = 44, TYPES_MAX = 256 };

/* ---- the file -------------------------------------------------------------------------------- */

struct head {
    uint32_t isut, isstd, leaps, times, types, chars;
};

static uint64_t big_endian(const unsigned char *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

static int head_read(struct slice bytes, size_t from, struct head *ret, struct err *err)
{
    if (bytes.size - from < HEAD_BYTES)
        return err_set(err, ERR_BAD_INPUT, "it ends inside a head");
    const unsigned char *at = (const unsigned char *)bytes.data + from;
    if (memcmp(at, "TZif", 4) != 0)
        return err_set(err, ERR_BAD_INPUT, "it is no TZif file");
    if (at[4] < '2')
        return err_set(err, ERR_BAD_INPUT,
                       "it is of TZif's version 1, which ends in 2038; 2 or above is needed");
    uint32_t counts[6];
    for (unsigned i = 0; i < 6; i++)
        counts[i] = (uint32_t)big_endian(at + 20 + 4 * i, 4);
    *ret = (struct head){ counts[0], counts[1], counts[2], counts[3], counts[4], counts[5] };
    return 0;
}

static uint64_t body_bytes(const struct head *head, unsigned time_bytes)
{
    return (uint64_t)head->times * (time_bytes + 1) + (uint64_t)head->types * 6 + head->chars +
           (uint64_t)head->leaps * (time_bytes + 4) + head->isstd + head->isut;
}

static int types_read(struct arena *arena, const unsigned char *at, const struct head *head,
                      struct tzif *zone, struct err *err)
{
    const char *chars = (const char *)at + (size_t)head->types * 6;
    struct tzif_type *types = ARENA_ARRAY(arena, struct tzif_type, head->types);
    for (uint32_t i = 0; i < head->types; i++, at += 6) {
        int32_t offset_s = (int32_t)(uint32_t)big_endian(at, 4);
        if (offset_s < -TZIF_OFFSET_MAX_S || offset_s > TZIF_OFFSET_MAX_S)
            return err_set(err, ERR_BAD_INPUT, "an offset from UTC is a day or more");
        const char *end =
            at[5] < head->chars ? memchr(chars + at[5], 0, head->chars - at[5]) : NULL;
        if (at[4] > 1 || !end)
            return err_set(err, ERR_BAD_INPUT, "a kind of local time is not well-formed");
        struct slice name = { chars + at[5], (size_t)(end - chars) - at[5] };
        types[i] = (struct tzif_type){ offset_s, at[4] == 1, arena_copy(arena, name) };
    }
    zone->types = types;
    zone->type_count = head->types;
    return 0;
}

static int times_read(struct arena *arena, const unsigned char *at, const struct head *head,
                      struct tzif *zone, struct err *err)
{
    int64_t *times = ARENA_ARRAY(arena, int64_t, head->times + 1);
    uint8_t *type_of = ARENA_ARRAY(arena, uint8_t, head->times + 1);
    const unsigned char *indexes = at + (size_t)head->times * 8;
    for (uint32_t i = 0; i < head->times; i++) {
        times[i] = (int64_t)big_endian(at + (size_t)i * 8, 8);
        type_of[i] = indexes[i];
        if (times[i] <= -TZIF_TIME_MAX || times[i] >= TZIF_TIME_MAX ||
            (i > 0 && times[i] <= times[i - 1]))
            return err_set(err, ERR_BAD_INPUT, "its times do not ascend");
        if (type_of[i] >= head->types)
            return err_set(err, ERR_BAD_INPUT, "a time is of a kind that is not there");
    }
    zone->times = times;
    zone->type_of = type_of;
    zone->time_count = head->times;
    return 0;
}

static int footer_read(struct arena *arena, struct slice rest, struct tzif *zone, struct err *err)
{
    const char *end =
        rest.size > 1 && rest.data[0] == '\n' ? memchr(rest.data + 1, '\n', rest.size - 1) : NULL;
    if (!end)
        return err_set(err, ERR_BAD_INPUT, "its footer is missing");
    struct slice text = { rest.data + 1, (size_t)(end - rest.data) - 1 };
    if (text.size == 0) /* the last change is for good */
        return 0;
    int r = tzif_rule_parse(arena, text, &zone->rule, err);
    return r < 0 ? err_wrap(err, "its footer") : 0;
}

int tzif_parse(struct arena *arena, struct slice bytes, struct tzif *ret, struct err *err)
{
    struct head head;
    struct tzif zone = {};
    if (bytes.size > TZIF_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "it is larger than %d bytes", (int)TZIF_BYTES_MAX);
    int r = head_read(bytes, 0, &head, err);
    if (r < 0)
        return r;
    uint64_t at = HEAD_BYTES + body_bytes(&head, 4); /* the first body is for old readers */
    if (at > bytes.size)
        return err_set(err, ERR_BAD_INPUT, "it ends inside its first part");
    r = head_read(bytes, (size_t)at, &head, err);
    if (r < 0)
        return r;
    at += HEAD_BYTES;
    if (body_bytes(&head, 8) > bytes.size - at)
        return err_set(err, ERR_BAD_INPUT, "it ends inside its second part");
    if (head.types == 0 || head.types > TYPES_MAX)
        return err_set(err, ERR_BAD_INPUT, "it names no kind of local time, or more than %d",
                       (int)TYPES_MAX);
    if (head.leaps > 0)
        return err_set(err, ERR_BAD_INPUT, "it counts leap seconds, as Perigee's clock does not");
    const unsigned char *body = (const unsigned char *)bytes.data + at;
    r = times_read(arena, body, &head, &zone, err);
    if (r == 0)
        r = types_read(arena, body + (size_t)head.times * 9, &head, &zone, err);
    at += body_bytes(&head, 8);
    if (r == 0)
        r = footer_read(arena, (struct slice){ bytes.data + at, bytes.size - (size_t)at }, &zone,
                        err);
    if (r == 0)
        *ret = zone;
    return r;
}

/* ---- the rule of the footer ------------------------------------------------------------------ */

static int64_t day_of(const struct tzif_date *date, int64_t year)
{
    int64_t first = civil_days(year, 1, 1);
    if (date->kind == TZIF_JULIAN)
        return first + date->day - 1 + (date->day >= 60 && civil_leap(year));
    if (date->kind == TZIF_ZERO_BASED)
        return first + date->day;
    first = civil_days(year, date->month, 1);
    int day = (date->day - civil_weekday(first) + 7) % 7 + 7 * (date->week - 1);
    int days = civil_month_days(year, date->month);
    return first + (day < days ? day : day - 7);
}

static int64_t change_at(const struct tzif_date *date, int64_t year, int32_t before_s)
{
    return day_of(date, year) * CIVIL_DAY_S + date->time_s - before_s;
}

/* Some years of changes around `at`, in order: those of one year may lie in another. Where
 * daylight saving ends when it begins again, it goes on. */
enum { RULE_YEARS = 5 };
struct change {
    int64_t at;
    bool dst;
};

static void changes_of(const struct tzif_rule *rule, int64_t year,
                       struct change ret[static 2 * RULE_YEARS])
{
    size_t count = 0;
    for (int i = 0; i < RULE_YEARS; i++) {
        int64_t of = year - RULE_YEARS / 2 + i;
        struct change both[] = {
            { change_at(&rule->end, of, rule->daylight.offset_s), false },
            { change_at(&rule->begin, of, rule->standard.offset_s), true },
        };
        for (unsigned j = 0; j < 2; j++) {
            size_t place = count++;
            for (; place > 0 && (ret[place - 1].at > both[j].at ||
                                 (ret[place - 1].at == both[j].at && ret[place - 1].dst));
                 place--)
                ret[place] = ret[place - 1];
            ret[place] = both[j];
        }
    }
}

static void rule_at(const struct tzif_rule *rule, int64_t at, struct tzif_period *ret)
{
    struct change changes[2 * RULE_YEARS];
    *ret = (struct tzif_period){ -TZIF_TIME_MAX, TZIF_TIME_MAX, rule->standard };
    if (!rule->changes)
        return;
    changes_of(rule, civil_of(civil_day_of(at)).year, changes);
    for (size_t i = 0; i < 2 * RULE_YEARS; i++) {
        if (changes[i].at > at) {
            ret->until = changes[i].at;
            return;
        }
        ret->since = changes[i].at;
        ret->type = changes[i].dst ? rule->daylight : rule->standard;
    }
}

/* ---- what it answers ------------------------------------------------------------------------- */

void tzif_at(const struct tzif *zone, int64_t at, struct tzif_period *ret)
{
    size_t low = 0, high = zone->time_count; /* times before `low` are not after `at` */
    assert(at >= -TZIF_TIME_MAX && at < TZIF_TIME_MAX);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (zone->times[middle] <= at)
            low = middle + 1;
        else
            high = middle;
    }
    bool last = low == zone->time_count;
    if (last && zone->rule.there) {
        rule_at(&zone->rule, at, ret);
        if (low > 0 && ret->since < zone->times[low - 1])
            ret->since = zone->times[low - 1];
        return;
    }
    *ret = (struct tzif_period){
        .since = low > 0 ? zone->times[low - 1] : -TZIF_TIME_MAX,
        .until = last ? TZIF_TIME_MAX : zone->times[low],
        .type = zone->types[low > 0 ? zone->type_of[low - 1] : 0],
    };
}

int64_t tzif_instant(const struct tzif *zone, int64_t local)
{
    struct tzif_period period;
    int64_t at = local - TZIF_OFFSET_MAX_S; /* before it no clock shows so much */
    for (;; at = period.until) {
        tzif_at(zone, at, &period);
        int64_t shown = local - period.type.offset_s;
        if (shown < at)
            shown = at;
        if (shown < period.until)
            return shown;
    }
}

int64_t tzif_latest(const struct tzif *zone, int64_t at)
{
    struct tzif_period period;
    int64_t latest = INT64_MIN, until = at;
    do {
        tzif_at(zone, until, &period);
        if (until + period.type.offset_s > latest)
            latest = until + period.type.offset_s;
        until = period.since - 1;
    } while (until > at - 2 * TZIF_OFFSET_MAX_S);
    return latest;
}

int tzif_check_name(struct slice name, struct err *err)
{
    bool begins = true;
    if (name.size == 0 || name.size > TZIF_NAME_MAX)
        return err_set(err, ERR_BAD_INPUT, "a time zone's name has 1 to %d characters",
                       (int)TZIF_NAME_MAX);
    for (size_t i = 0; i < name.size; i++) {
        char c = name.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool other = (c >= '0' && c <= '9') || c == '_' || c == '+' || c == '-';
        if (!letter && (begins || !(other || c == '/')))
            return err_set(err, ERR_BAD_INPUT,
                           "'%s' is no name of a time zone; it looks like Europe/Paris",
                           ERR_SLICE(name));
        begins = c == '/';
    }
    if (begins)
        return err_set(err, ERR_BAD_INPUT, "'%s' is no name of a time zone: it ends with a slash",
                       ERR_SLICE(name));
    return 0;
}
