/* SPDX-License-Identifier: Apache-2.0 */
/*
 * figures.h -- what is counted of use, from a PoP's ledger to a table of costs: one list.
 *
 * Parts are never above what they are of: busy and start of cpu, idle_ms of life_ms, cold_starts of
 * starts. Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* X(name, what it is). The order is that of the bytes of a ledger, and of a database's columns. */
#define FIGURES(X)                                                                                 \
    X(requests, "Inference requests that were answered.")                                          \
    X(failures, "Inference requests that were answered with an error.")                            \
    X(bytes_in, "Bytes of their bodies, as sent.")                                                 \
    X(bytes_out, "Bytes of the answers' bodies, as sent.")                                         \
    X(cpu_us, "CPU time of replicas, all of it, as the kernel counts.")                            \
    X(busy_us, "Of that, in accounting seconds in which requests ran.")                            \
    X(start_us, "Of that, until they were ready.")                                                 \
    X(memory_kibs, "KiB-seconds of memory that replicas had resident.")                            \
    X(reserved_kibs, "KiB-seconds of flavor.memory, which is the most they may have.")             \
    X(life_ms, "Time that replicas were there.")                                                   \
    X(idle_ms, "Of that, ready and without a request.")                                            \
    X(starts, "Replicas that began.")                                                              \
    X(cold_starts, "Of those, while the endpoint had no other at the PoP.")

struct figures {
#define FIGURE(name, text) uint64_t name;
    FIGURES(FIGURE)
#undef FIGURE
};

#define FIGURE_MAX (UINT64_C(1) << 53) /* fits a JSON number; a thousand fit a 64-bit sum */

/* No figure of a sum is above FIGURE_MAX. */
void figures_add(struct figures *sum, const struct figures *more);
bool figures_none(const struct figures *figures);
bool figures_right(const struct figures *figures); /* bounds, and parts */
/* CPU time that is warm idle: neither busy nor starting. */
static inline uint64_t figures_idle_us(const struct figures *figures)
{
    return figures->cpu_us - figures->busy_us - figures->start_us;
}
