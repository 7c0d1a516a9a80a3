/* SPDX-License-Identifier: Apache-2.0 */
/* samples.h -- times of many requests, and their percentiles. Grows; the caller frees nothing (the
 * process ends). Not for two threads at once. */
#pragma once
#include <stdint.h>
#include <stdlib.h>

#include "base/auto.h"

struct samples {
    uint32_t *ns; /* capped at 4.29 s */
    size_t count, room;
};

static inline void samples_add(struct samples *samples, int64_t ns)
{
    if (samples->count == samples->room) {
        samples->room =
            samples->room ? samples->room * 2 : 1 << 20; /* untouched pages cost nothing */
        samples->ns = mem_resize(samples->ns, samples->room, sizeof *samples->ns);
    }
    samples->ns[samples->count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static inline int samples_compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static inline void samples_sort(struct samples *samples)
{
    if (samples->count)
        qsort(samples->ns, samples->count, sizeof *samples->ns, samples_compare);
}

/* Of sorted samples; 0 where there are none. */
static inline double samples_us(const struct samples *samples, double part)
{
    if (samples->count == 0)
        return 0;
    return samples->ns[(size_t)((double)(samples->count - 1) * part)] / 1000.0;
}
