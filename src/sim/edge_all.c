/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/edge_all.h"

#include <pthread.h>
#include <unistd.h>

#include "base/arena.h"

enum { RUNS = EDGE_SCENARIOS * EDGE_WAYS, THREADS_MAX = 16 };

struct pool {
    struct edge_all *all;
    struct edge_progress progress;
    uint32_t runs[RUNS];
    size_t count;
    _Atomic size_t next;
    struct arena *arenas[RUNS]; /* of each run: its sums by site stay */
};

static void *work(void *data)
{
    struct pool *pool = data;

    for (;;) {
        size_t at = atomic_fetch_add(&pool->next, 1);
        if (at >= pool->count)
            return NULL;
        uint32_t scenario = pool->runs[at] / EDGE_WAYS, way = pool->runs[at] % EDGE_WAYS;
        edge_run(pool->arenas[at], pool->all->world, scenario, way, &pool->progress,
                 &pool->all->result[scenario][way]);
    }
}

/* The long runs first. */
static void runs_take(struct pool *pool, struct arena *arena)
{
    static const enum edge_way order[] = { EDGE_OURS, EDGE_ORACLE, EDGE_GEOGRAPHY, EDGE_NEAREST };

    for (size_t i = 0; i < EDGE_WAYS; i++)
        for (uint32_t scenario = 0; scenario < EDGE_SCENARIOS; scenario++) {
            if (!pool->all->scenario[scenario])
                continue;
            pool->progress.total += edge_requests(pool->all->world, scenario);
            pool->arenas[pool->count] = arena_new();
            arena_defer(arena, (void (*)(void *))arena_free, pool->arenas[pool->count]);
            pool->runs[pool->count++] = scenario * EDGE_WAYS + order[i];
        }
}

void edge_all_run(struct arena *arena, struct edge_all *all, void (*on)(double part, void *data),
                  void *data)
{
    struct pool *pool = ARENA_NEW(arena, struct pool);
    pthread_t threads[THREADS_MAX];
    size_t count = 0;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    *pool = (struct pool){ .all = all, .progress = { .on = on, .data = data } };
    runs_take(pool, arena);
    while (count < THREADS_MAX && (long)count + 1 < cores && count + 1 < pool->count &&
           pthread_create(&threads[count], NULL, work, pool) == 0)
        count++;
    (void)work(pool);
    while (count > 0)
        pthread_join(threads[--count], NULL);
}
