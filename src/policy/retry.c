/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/retry.h"

static void add(struct retry_budget *budget, float more)
{
    budget->left += more;
    if (budget->left > RETRY_SAVED_MAX)
        budget->left = RETRY_SAVED_MAX;
}

static void catch_up(struct retry_budget *budget, int64_t now_ns)
{
    if (budget->at_ns == 0)
        budget->left = RETRY_SAVED_MAX;
    else if (now_ns > budget->at_ns)
        add(budget, (float)(now_ns - budget->at_ns) / 1e9f * RETRY_PER_S);
    if (budget->at_ns == 0 || now_ns > budget->at_ns)
        budget->at_ns = now_ns ? now_ns : 1;
}

void retry_request(struct retry_budget *budget, int64_t now_ns)
{
    catch_up(budget, now_ns);
    add(budget, RETRY_PART);
}

bool retry_take(struct retry_budget *budget, int64_t now_ns)
{
    catch_up(budget, now_ns);
    if (budget->left < 1)
        return false;
    budget->left -= 1;
    return true;
}
