/* SPDX-License-Identifier: Apache-2.0 */
#include "base/figures.h"

void figures_add(struct figures *sum, const struct figures *more)
{
#define FIGURE_ADD(name, text)                                                                     \
    sum->name += more->name;                                                                       \
    sum->name = sum->name < FIGURE_MAX ? sum->name : FIGURE_MAX;
    FIGURES(FIGURE_ADD)
#undef FIGURE_ADD
    /* One that was cut takes its parts along. */
    uint64_t rest = sum->cpu_us - sum->busy_us;
    sum->start_us = sum->start_us < rest ? sum->start_us : rest;
}

bool figures_none(const struct figures *f)
{
#define FIGURE_NONE(name, text)                                                                    \
    if (f->name)                                                                                   \
        return false;
    FIGURES(FIGURE_NONE)
#undef FIGURE_NONE
    return true;
}

bool figures_right(const struct figures *f)
{
#define FIGURE_BOUNDED(name, text)                                                                 \
    if (f->name > FIGURE_MAX)                                                                      \
        return false;
    FIGURES(FIGURE_BOUNDED)
#undef FIGURE_BOUNDED
    return f->busy_us <= f->cpu_us && f->start_us <= f->cpu_us - f->busy_us &&
           f->idle_ms <= f->life_ms && f->cold_starts <= f->starts;
}
