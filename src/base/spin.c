/* SPDX-License-Identifier: Apache-2.0 */
#include "base/spin.h"

#define TAKEN_NS UINT64_C(20'000) /* a look takes less than 2 us: longer, and others had the core */
#define REST_NS_MIN UINT64_C(1'000'000)
#define REST_NS_MAX UINT64_C(1'000'000'000)

bool spin_begin(struct spin *spin, uint64_t now_ns)
{
    spin->began_ns = spin->looked_ns = now_ns;
    return spin->ns_max > 0 && spin->short_waits && now_ns >= spin->rest_until_ns;
}

bool spin_goes_on(struct spin *spin, uint64_t now_ns)
{
    uint64_t took = now_ns - spin->looked_ns;

    spin->looked_ns = now_ns;
    if (took < TAKEN_NS && now_ns - spin->began_ns < spin->ns_max)
        return true;
    spin->rest_ns = spin->rest_ns < REST_NS_MIN ? REST_NS_MIN : spin->rest_ns * 2;
    if (spin->rest_ns > REST_NS_MAX)
        spin->rest_ns = REST_NS_MAX;
    spin->rest_until_ns = now_ns + spin->rest_ns;
    return false;
}

void spin_end(struct spin *spin, uint64_t now_ns, bool found)
{
    spin->short_waits = now_ns - spin->began_ns <= spin->ns_max;
    if (found)
        spin->rest_ns /= 2;
}
