/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/pace.h"

#include "base/rate.h"

void pace_begin(struct pace *pace, int64_t now_ms, uint64_t bytes)
{
    *pace = (struct pace){ now_ms, bytes };
}

enum pace_is pace_look(struct pace *pace, int64_t now_ms, uint64_t bytes)
{
    uint64_t brought = bytes - pace->from_bytes;
    int64_t ms = now_ms - pace->from_ms;
    if (ms < PACE_SPAN_MS)
        return PACE_WELL;
    pace_begin(pace, now_ms, bytes);
    if (!rate_enough(brought, PACE_RATE_MIN, (uint64_t)ms))
        return PACE_STALLED;
    return rate_enough(brought, PACE_RATE_SLOW, (uint64_t)ms) ? PACE_WELL : PACE_SLOW;
}
