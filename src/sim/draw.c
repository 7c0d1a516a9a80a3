/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/draw.h"

#include "base/arena.h"

const struct edge_draw *draw_new(struct arena *arena, const uint32_t *weights, size_t count)
{
    struct edge_draw *draw = ARENA_NEW(arena, struct edge_draw);
    float *keep = ARENA_ARRAY(arena, float, count + 1);
    uint32_t *other = ARENA_ARRAY(arena, uint32_t, count + 1);
    double *part = ARENA_ARRAY(arena, double, count + 1);
    uint32_t *todo = ARENA_ARRAY(arena, uint32_t, count + 1); /* small from the left, large right */
    size_t small = 0, large = count;
    double sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += weights[i];
    for (size_t i = 0; i < count; i++) {
        part[i] = sum > 0 ? weights[i] * (double)count / sum : 1;
        keep[i] = 1;
        other[i] = (uint32_t)i;
        todo[part[i] < 1 ? small++ : --large] = (uint32_t)i;
    }
    while (small > 0 && large < count) {
        uint32_t less = todo[--small], more = todo[large];
        keep[less] = (float)part[less];
        other[less] = more;
        part[more] -= 1 - part[less];
        if (part[more] < 1) {
            large++;
            todo[small++] = more;
        }
    }
    *draw = (struct edge_draw){ count, keep, other };
    return draw;
}
