/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outlier.h -- one of several replicas that fails while others answer: it is left alone for a
 * while, which doubles each time, and tried again with what comes then. Pure; one thread at a time
 * for each. After Envoy's outlier detection (consecutive gateway failures).
 *
 * Whether there is another one to go to is asked by the caller: where all are ejected, none is.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { OUTLIER_FAILURES = 5 };                       /* in a row */
#define OUTLIER_FIRST_NS INT64_C(1'000'000'000)      /* left alone so long */
#define OUTLIER_LONGEST_NS INT64_C(30'000'000'000)   /* at most */
#define OUTLIER_FORGOTTEN_NS INT64_C(60'000'000'000) /* after so long without, it begins anew */

/* All 0: nothing is known against it. */
struct outlier {
    uint32_t failed;  /* in a row */
    uint32_t times;   /* it was ejected, of late */
    int64_t until_ns; /* 0: it is not ejected, or not again */
};

void outlier_good(struct outlier *outlier);
void outlier_bad(struct outlier *outlier, int64_t now_ns);
static inline bool outlier_ejected(const struct outlier *outlier, int64_t now_ns)
{
    return outlier->until_ns > now_ns;
}
