/* SPDX-License-Identifier: Apache-2.0 */
#include "control/grace.h"

#define SLEW_NS INT64_C(60'000'000'000) /* less is a clock that is being set right slowly */

bool grace_over(struct grace *grace, int64_t now_ns, int64_t wall_ns, int64_t hold_ns,
                int64_t *ret_jump_ns)
{
    int64_t offset_ns = wall_ns - now_ns, jump_ns = offset_ns - grace->offset_ns;
    bool jumped = grace->known && (jump_ns > SLEW_NS || jump_ns < -SLEW_NS);
    grace->known = true;
    grace->offset_ns = offset_ns;
    if (jumped)
        grace->until_ns = now_ns + hold_ns;
    *ret_jump_ns = jumped ? jump_ns : 0;
    return now_ns >= grace->until_ns;
}
