/* SPDX-License-Identifier: Apache-2.0 */
/*
 * yield.h -- whether a loop offers its core to a replica that it has just woken. Pure; one thread.
 *
 * A replica whose runs are short is done before a loop that went to sleep would be awake again: so
 * the loop steps back once (sched_yield), and finds the answers, where the replica was put on the
 * same core; where it was not, that costs a system call. But others may want the core too, and then
 * the loop waits for as long as a scheduler's slice: after that it rests, twice as long as the last
 * time (10 ms to 1 s); a yield that was short halves the next rest.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct yield {
    int64_t rest_until_ns, rest_ns;
};

bool yield_due(const struct yield *yield, int64_t now_ns);
void yield_done(struct yield *yield, int64_t began_ns, int64_t now_ns);
