/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admission.h -- can a request make its deadline, and when is it worth asking again. Pure.
 *
 * Learned from completions, per revision: `gap`, the mean time between two completions of a replica
 * that is busy (so batches and parallel runs count as what they give), `run`, the mean time of one
 * run, and `least`, the shortest run of the last 256 to 512. Until it has seen a few it knows
 * nothing, and refuses nobody. A request that is refused because `least` alone is above its
 * deadline teaches nothing: of 16 such, and at most once a second, one is let through.
 *
 * Any thread, no lock. Loops may overwrite each other's sample: a mean with one sample less.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

struct admission {
    _Atomic uint64_t gap_ns, run_ns;
    _Atomic uint64_t least_ns, least_before_ns; /* of this window, and of the one before */
    _Atomic uint32_t samples, let_down;
    _Atomic int64_t let_down_since_ns;
};

struct admission_load {
    uint32_t ahead;    /* requests that wait and have their turn before it */
    uint32_t running;  /* requests in replicas */
    uint32_t replicas; /* ready; 0: nothing is known */
};

/* A run has ended: `gap_ns` after the completion before it at that replica, or after it was given
 * to the replica, whichever is shorter; of several that end together, each has its part of that. */
void admission_learn(struct admission *admission, uint64_t gap_ns, uint64_t run_ns);

/* Until the answer of a request that comes now; 0: not known. */
uint64_t admission_finish_ns(const struct admission *admission, const struct admission_load *load);
/* The means; 0: not known. */
uint64_t admission_run_ns(const struct admission *admission);
uint64_t admission_gap_ns(const struct admission *admission);
/* The shortest run seen of late; 0: not known. */
uint64_t admission_least_ns(const struct admission *admission);
/* LATE: it cannot be answered within `left_ns`, refuse it. TRIED: nor can this one, as far as is
 * known; let it through, and do not ask about it again. */
enum admission_answer { ADMISSION_IN_TIME, ADMISSION_LATE, ADMISSION_TRIED };
enum admission_answer admission_ask(struct admission *admission, const struct admission_load *load,
                                    int64_t left_ns, int64_t now_ns);
/* Whole seconds until those that are there now are done, within the bounds. */
uint32_t admission_retry_s(const struct admission *admission, const struct admission_load *load,
                           uint32_t min_s, uint32_t max_s);
