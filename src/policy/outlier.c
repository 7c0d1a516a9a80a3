/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/outlier.h"

void outlier_good(struct outlier *outlier)
{
    outlier->failed = 0;
}

void outlier_bad(struct outlier *outlier, int64_t now_ns)
{
    int64_t ns = OUTLIER_FIRST_NS;

    /* What was under way when it was ejected says nothing new; of those after, one is enough. */
    if (outlier_ejected(outlier, now_ns))
        return;
    if (outlier->until_ns && now_ns - outlier->until_ns >= OUTLIER_FORGOTTEN_NS)
        outlier->times = 0;
    if (++outlier->failed < OUTLIER_FAILURES)
        return;
    for (uint32_t i = 0; i < outlier->times && ns < OUTLIER_LONGEST_NS; i++)
        ns *= 2;
    outlier->until_ns = now_ns + (ns < OUTLIER_LONGEST_NS ? ns : OUTLIER_LONGEST_NS);
    outlier->times += outlier->times < 16;
    outlier->failed = OUTLIER_FAILURES - 1;
}
