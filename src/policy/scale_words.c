/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "policy/scale.h"

const char *scale_reason_text(enum scale_reason reason)
{
    static const char *const texts[SCALE_REASONS] = {
#define SCALE_REASON(reason, text) [reason] = text,
        SCALE_REASON_TABLE(SCALE_REASON)
#undef SCALE_REASON
    };
    return (unsigned)reason < SCALE_REASONS ? texts[reason] : "?";
}

/* Without %f, whose point depends on the locale. */
static const char *figure(char buffer[static 24], float value)
{
    if (!(value > 0))
        value = 0;
    if (value >= 1e9f)
        value = 1e9f;
    uint64_t tenths = (uint64_t)(value * 10 + 0.5f);
    if (tenths >= 1000)
        snprintf(buffer, 24, "%llu", (unsigned long long)((tenths + 5) / 10));
    else
        snprintf(buffer, 24, "%llu.%llu", (unsigned long long)(tenths / 10),
                 (unsigned long long)(tenths % 10));
    return buffer;
}

static const char *unit(uint8_t signal)
{
    return signal == SCALE_RPS   ? "requests a second"
           : signal == SCALE_CPU ? "cores in use"
                                 : "requests at a time";
}

static long long whole_seconds(int64_t ns)
{
    return ns > 0 ? (long long)((ns + SCALE_SECOND_NS - 1) / SCALE_SECOND_NS) : 0;
}

/* "; 4 from 9.0 on, 2 from 4.9 down" */
static int change(char *buffer, size_t room, const struct scale_verdict *v)
{
    char above[24], below[24];

    if (v->above > 0 && v->below > 0)
        return snprintf(buffer, room, "; %u from %s on, %u from %s down", v->desired + 1,
                        figure(above, v->above), v->desired - 1, figure(below, v->below));
    if (v->above > 0)
        return snprintf(buffer, room, "; %u from %s on", v->desired + 1, figure(above, v->above));
    if (v->below > 0)
        return snprintf(buffer, room, "; %u from %s down", v->desired - 1, figure(below, v->below));
    return 0;
}

static int reason(char *buffer, size_t room, const struct scale_verdict *v,
                  const struct scale_rules *rules, const char *floor_name)
{
    char now[24];

    switch ((enum scale_reason)v->reason) {
    case SCALE_ASLEEP:
        return snprintf(buffer, room, "nobody asks (scale.idle %llds); 1 with the first request",
                        whole_seconds(rules->idle_ns));
    case SCALE_FIRST:
        return snprintf(buffer, room,
                        "the first requests have come, and how long one takes is not "
                        "known yet; more with more that wait");
    case SCALE_STEADY:
    case SCALE_BURST:
        return snprintf(buffer, room, "%s %s over the last %d s", figure(now, v->now),
                        unit(v->signal),
                        (v->reason == SCALE_STEADY ? SCALE_STEADY_SLOTS : SCALE_BURST_SLOTS) / 2);
    case SCALE_QUEUE:
        return snprintf(buffer, room, "%u requests wait; fewer once they do not", v->waiting);
    case SCALE_WARM:
        return snprintf(
            buffer, room, "nobody asks; %s once that has been so for %llds (scale.idle)",
            rules->min || rules->floor ? "the least" : "none", whole_seconds(rules->idle_ns));
    case SCALE_CALMING:
        return snprintf(buffer, room, "%u would do; so once that has been so for %llds", v->load,
                        whole_seconds(scale_hold_ns(rules)));
    case SCALE_AT_MIN:
        return snprintf(buffer, room,
                        "the least here (scale.min, scale.per_pop.min); the load "
                        "alone would have %u",
                        v->load);
    case SCALE_AT_FLOOR:
        return snprintf(buffer, room, "a schedule%s%s; the load alone would have %u",
                        floor_name ? " " : "", floor_name ? floor_name : "", v->load);
    case SCALE_AT_MAX:
        return snprintf(buffer, room,
                        "the most here (scale.max, scale.per_pop.max, this PoP's "
                        "room); the load would have %u",
                        v->load);
    case SCALE_REASONS:
        break;
    }
    return 0;
}

const char *scale_words(const struct scale_verdict *v, const struct scale_rules *rules,
                        const char *floor_name, char buffer[static SCALE_WORDS_BYTES])
{
    int used = snprintf(buffer, SCALE_WORDS_BYTES, "%u %s: ", v->desired,
                        v->desired == 1 ? "replica" : "replicas");
    used += reason(buffer + used, SCALE_WORDS_BYTES - (size_t)used, v, rules, floor_name);
    if (used < SCALE_WORDS_BYTES && (v->reason == SCALE_STEADY || v->reason == SCALE_BURST))
        (void)change(buffer + used, SCALE_WORDS_BYTES - (size_t)used, v);
    return buffer;
}
