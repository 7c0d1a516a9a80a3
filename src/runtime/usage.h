/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage.h -- how much CPU each run took. Reading the thread's CPU clock is a system call (0.4 us
 * behind seccomp, a third of a small model's run), so it is read once in a while; a run in between
 * is told by the clock on the wall, and what that was wrong by is made up for at the next readings:
 * the sum of what is told is what the kernel counts. What no run was for (forming, publishing) is
 * told with the run at which the clock is read. Pure; one thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define USAGE_READ_NS UINT64_C(1'000'000) /* between two readings, of the wall's */

struct usage {
    uint64_t read_ns;    /* when the CPU clock was read last */
    uint64_t cpu_ns;     /* as it was then */
    uint64_t guessed_ns; /* told since, or told too much before */
};

/* What the CPU clock counts up to `cpu_ns` is nobody's. */
void usage_begin(struct usage *usage, uint64_t now_ns, uint64_t cpu_ns);
/* So much was spent on nobody's behalf. */
void usage_skip(struct usage *usage, uint64_t spent_ns);
bool usage_read_due(const struct usage *usage, uint64_t now_ns);
/* What to tell for a run that has just ended: the CPU clock was read... */
uint64_t usage_read(struct usage *usage, uint64_t now_ns, uint64_t cpu_ns);
/* ...or not, and it took so long. */
uint64_t usage_guess(struct usage *usage, uint64_t ran_ns);
