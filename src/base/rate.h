/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rate.h -- did as many bytes come as must, within a time? One rule for all transfers: those of
 * clients, and those that are fetched. Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* `bytes` within so long, at so many a second; nothing at all never is. */
static inline bool rate_enough(uint64_t bytes, uint64_t rate, uint64_t ms)
{
    return bytes > 0 && bytes >= rate * ms / 1000;
}
