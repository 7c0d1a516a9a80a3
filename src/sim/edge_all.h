/* SPDX-License-Identifier: Apache-2.0 */
/* edge_all.h -- the runs of a world, on as many threads as there are cores; what comes of them does
 * not depend on how many. */
#pragma once

#include "sim/edge.h"

struct edge_all {
    const struct edge_world *world;
    bool scenario[EDGE_SCENARIOS]; /* which to run */
    struct edge_result result[EDGE_SCENARIOS][EDGE_WAYS];
};

/* `on`, or NULL: now and then with the part that is done, on any of the threads. */
void edge_all_run(struct arena *arena, struct edge_all *all, void (*on)(double part, void *data),
                  void *data);
