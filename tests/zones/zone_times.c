/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What we read of time zones, for check_zones.py to compare.
 *
 * usage: zone_times offsets FROM TO ZONE...     a line for each change: ZONE SINCE OFFSET
 *        zone_times fires CRON FROM TO ZONE...  a line for each firing: ZONE AT
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "policy/schedule.h"
#include "sys/zones.h"

static void offsets(const char *name, const struct tzif *zone, int64_t from, int64_t to)
{
    struct tzif_period period = { .until = from };
    int32_t before = INT32_MIN;
    while (period.until < to) {
        int64_t at = period.until;
        tzif_at(zone, at, &period);
        if (period.type.offset_s != before)
            printf("%s %" PRId64 " %" PRId32 "\n", name, at, period.type.offset_s);
        before = period.type.offset_s;
    }
}

static void fires(const char *name, const struct schedule_window *window, int64_t from, int64_t to)
{
    for (int64_t at = schedule_window_next(window, from); at < to;
         at = schedule_window_next(window, at + 1)) {
        if (schedule_window_before(window, at) != at ||
            schedule_window_before(window, at + 59) < at)
            printf("%s %" PRId64 " is not the last up to then\n", name, at);
        printf("%s %" PRId64 "\n", name, at);
    }
}

int main(int count, char **words)
{
    bool all = count > 4 && strcmp(words[1], "offsets") == 0;
    struct schedule_window window = { .for_s = 60 };
    struct err err = {};
    int at = all ? 2 : 3;
    if (count < at + 3 || (!all && cron_parse(slice_of(words[2]), &window.cron, &err) < 0)) {
        fprintf(stderr, "zone_times: %s\n", err.message[0] ? err.message : "see its source");
        return 2;
    }
    int64_t from = strtoll(words[at], NULL, 10), to = strtoll(words[at + 1], NULL, 10);
    for (at += 2; at < count; at++) {
        struct arena *arena = arena_new();
        struct tzif zone;
        if (zones_read(NULL, arena, slice_of(words[at]), &zone, &err) < 0) {
            fprintf(stderr, "zone_times: %s\n", err.message);
            return 1;
        }
        window.zone = &zone;
        if (all)
            offsets(words[at], &zone, from, to);
        else
            fires(words[at], &window, from, to);
        arena_free(arena);
    }
    return 0;
}
