/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/ttl.h"

#include "policy/route.h"

uint32_t ttl_of(const struct route_choice *choices, size_t count, const bool *stable)
{
    for (size_t i = 0; i < count; i++)
        if (!stable[choices[i].pop])
            return TTL_UNSTABLE_S;
    return TTL_STABLE_S;
}
