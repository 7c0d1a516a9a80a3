/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spin.h -- whether to look for work for a while before sleeping. Waking a halted core takes longer
 * than many a model runs; looking takes a core from whoever else could use it. Pure; one thread.
 *
 * It spins where that pays: where the last wait was short, and nobody else wants the core. A spin
 * that found nothing, or in which the core was taken away, is followed by a rest, twice as long as
 * the one before (1 ms to 1 s); one that found work halves it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct spin {
    uint64_t ns_max; /* of one spin; 0: never */
    uint64_t began_ns, looked_ns, rest_until_ns, rest_ns;
    bool short_waits; /* the last wait was at most ns_max */
};

/* Work has run out. False: sleep at once. */
bool spin_begin(struct spin *spin, uint64_t now_ns);
/* After each look that found nothing. False: sleep. Between two looks the core is offered to others
 * (sched_yield): where that takes long, somebody wanted it. */
bool spin_goes_on(struct spin *spin, uint64_t now_ns);
/* There is work: found by spinning, or after a sleep. */
void spin_end(struct spin *spin, uint64_t now_ns, bool found);
