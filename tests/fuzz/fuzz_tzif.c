/* SPDX-License-Identifier: Apache-2.0 */
/* A zone that is read answers at any time, its periods join, and local times agree with them. */
#include <assert.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/tzif.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_at(const struct tzif *zone, int64_t at)
{
    struct tzif_period period, next;
    tzif_at(zone, at, &period);
    assert(period.since <= at && at < period.until);
    assert(period.type.offset_s >= -TZIF_OFFSET_MAX_S && period.type.offset_s <= TZIF_OFFSET_MAX_S);
    if (period.until < TZIF_TIME_MAX) {
        tzif_at(zone, period.until, &next);
        assert(next.since == period.until);
    }
    if (at < -TZIF_TIME_MAX / 2 || at > TZIF_TIME_MAX / 2)
        return;
    int64_t latest = tzif_latest(zone, at);
    assert(latest >= at + period.type.offset_s);
    assert(tzif_instant(zone, latest) <= at && tzif_instant(zone, latest + 1) > at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int64_t times[] = { -TZIF_TIME_MAX,    -1'000'000'000'000,
                                     -2'000'000'000,    0,
                                     1'774'742'400,     4'000'000'000,
                                     1'000'000'000'000, TZIF_TIME_MAX - 1 };
    struct arena *arena = arena_new();
    struct tzif zone;
    struct err err = {};
    if (tzif_parse(arena, (struct slice){ (const char *)data, size }, &zone, &err) < 0) {
        assert(err.message[0]);
        /* The footer alone is reached as well. */
        zone = (struct tzif){};
        if (tzif_rule_parse(arena, (struct slice){ (const char *)data, size }, &zone.rule, &err) <
            0) {
            arena_free(arena);
            return 0;
        }
    }
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        check_at(&zone, times[i]);
    for (size_t i = 0; i < zone.time_count && i < 64; i++) {
        check_at(&zone, zone.times[i]);
        check_at(&zone, zone.times[i] - 1);
    }
    arena_free(arena);
    return 0;
}
