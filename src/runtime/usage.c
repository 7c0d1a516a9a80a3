/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/usage.h"

void usage_begin(struct usage *usage, uint64_t now_ns, uint64_t cpu_ns)
{
    *usage = (struct usage){ .read_ns = now_ns, .cpu_ns = cpu_ns };
}

void usage_skip(struct usage *usage, uint64_t spent_ns)
{
    usage->cpu_ns += spent_ns;
}

bool usage_read_due(const struct usage *usage, uint64_t now_ns)
{
    return now_ns - usage->read_ns >= USAGE_READ_NS;
}

uint64_t usage_read(struct usage *usage, uint64_t now_ns, uint64_t cpu_ns)
{
    uint64_t spent = cpu_ns - usage->cpu_ns;
    uint64_t guessed = usage->guessed_ns < spent ? usage->guessed_ns : spent;

    usage->read_ns = now_ns;
    usage->cpu_ns = cpu_ns;
    usage->guessed_ns -= guessed;
    return spent - guessed;
}

uint64_t usage_guess(struct usage *usage, uint64_t ran_ns)
{
    usage->guessed_ns += ran_ns;
    return ran_ns;
}
