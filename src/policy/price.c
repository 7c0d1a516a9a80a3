/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/price.h"

#define EXACT_MAX ((price_exact)(((unsigned __int128)-1) >> 1))
enum { HOUR_S = 3600 };
#define GIB_KIB (INT64_C(1) << 20)
#define MICRO INT64_C(1'000'000)

__extension__ typedef unsigned __int128 wide;

/* None of them is below 0. */
static price_exact add(price_exact a, price_exact b)
{
    price_exact sum;
    return __builtin_add_overflow(a, b, &sum) ? EXACT_MAX : sum;
}

static price_exact times(price_exact a, uint64_t b)
{
    price_exact product;
    return __builtin_mul_overflow(a, (price_exact)b, &product) ? EXACT_MAX : product;
}

const struct price_row *price_find(const struct price_list *list, struct slice pop, int64_t at_s)
{
    const struct price_row *all = NULL, *own = NULL;
    for (size_t i = 0; i < list->count && list->rows[i].from_s <= at_s; i++) {
        if (list->rows[i].pop.size == 0)
            all = &list->rows[i];
        else if (slice_equal(list->rows[i].pop, pop))
            own = &list->rows[i];
    }
    return own ? own : all;
}

int64_t price_next(const struct price_list *list, int64_t after_s)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->rows[i].from_s > after_s)
            return list->rows[i].from_s;
    return INT64_MAX;
}

/* Microseconds at a price of an hour, in millionths of millionths: 10^-18 of it, and 1/3600. */
static price_exact of_cpu(int64_t cpu_hour, uint64_t us)
{
    return times(times(cpu_hour, us), GIB_KIB);
}

void cost_add(struct cost *cost, const struct price *price, const struct figures *figures)
{
    cost->busy = add(cost->busy, of_cpu(price->cpu_hour, figures->busy_us));
    cost->idle = add(cost->idle, of_cpu(price->cpu_hour, figures->cpu_us - figures->busy_us));
    cost->memory = add(cost->memory, times(times(price->gib_hour, figures->memory_kibs), MICRO));
    cost->requests =
        add(cost->requests,
            times(times(times(times(price->request, figures->requests), MICRO), GIB_KIB), HOUR_S));
}

void cost_sum(struct cost *sum, const struct cost *more)
{
    sum->busy = add(sum->busy, more->busy);
    sum->idle = add(sum->idle, more->idle);
    sum->memory = add(sum->memory, more->memory);
    sum->requests = add(sum->requests, more->requests);
}

price_exact cost_total(const struct cost *cost)
{
    return add(add(cost->busy, cost->idle), add(cost->memory, cost->requests));
}

int64_t price_micro(price_exact exact)
{
    const wide one = (wide)MICRO * MICRO * (wide)GIB_KIB * HOUR_S;
    wide rounded = ((wide)exact + one / 2) / one;
    return rounded > INT64_MAX ? INT64_MAX : (int64_t)rounded;
}

/* a * b / c without losing what does not fit: a is below 2^127, b and c are below 2^64. */
static price_exact scale(price_exact a, uint64_t b, uint64_t c)
{
    wide whole = (wide)a / c, rest = (wide)a % c;
    price_exact most = times((price_exact)whole, b);
    return add(most, (price_exact)(rest * b / c));
}

price_exact price_always_on(const struct cost *cost, const struct figures *figures,
                            uint64_t replicas, uint64_t seconds)
{
    uint64_t ms;
    price_exact own = add(cost->busy, cost->requests);
    if (__builtin_mul_overflow(seconds, 1000 * replicas, &ms))
        return EXACT_MAX;
    if (figures->life_ms)
        own = add(own, scale(cost->memory, ms, figures->life_ms));
    /* Of what was not busy the warm part, by the time that it was warm. */
    uint64_t quiet_us = figures->cpu_us - figures->busy_us;
    if (figures->idle_ms && quiet_us)
        own = add(own, scale(scale(cost->idle, figures_idle_us(figures), quiet_us), ms,
                             figures->idle_ms));
    return own;
}
