/* SPDX-License-Identifier: Apache-2.0 */
/*
 * draw.h -- chance from a seed, and drawing by weight in constant time (Walker's alias method, in
 * Vose's form, 1991). Pure; one thread for each struct chance.
 */
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>

struct arena;

/* splitmix64 (Steele, Lea, Flood 2014). */
struct chance {
    uint64_t state;
};

static inline uint64_t chance_bits(struct chance *chance)
{
    uint64_t bits = chance->state += UINT64_C(0x9e3779b97f4a7c15);
    bits = (bits ^ bits >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    bits = (bits ^ bits >> 27) * UINT64_C(0x94d049bb133111eb);
    return bits ^ bits >> 31;
}

/* Above 0, below 1. */
static inline double chance_part(struct chance *chance)
{
    return ((double)(chance_bits(chance) >> 12) + 0.5) / (double)(UINT64_C(1) << 52);
}

static inline double chance_exponential(struct chance *chance, double mean)
{
    return -mean * log(chance_part(chance));
}

struct edge_draw {
    size_t count;
    const float *keep;     /* of a column, the part that is its own */
    const uint32_t *other; /* whose the rest is */
};

/* `weights` that are 0 are never drawn, unless all are. */
const struct edge_draw *draw_new(struct arena *arena, const uint32_t *weights, size_t count);

static inline uint32_t draw_one(const struct edge_draw *draw, struct chance *chance)
{
    double at = chance_part(chance) * (double)draw->count;
    uint32_t column = (uint32_t)at;
    return (float)(at - column) < draw->keep[column] ? column : draw->other[column];
}
