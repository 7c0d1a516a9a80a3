/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A start, from the agent's decision to a replica that may serve, and its parts: walls, load and
 * first run are the replica's own words, within what the whole took; spawn is the rest (the
 * supervisor, the clone, the look at its walls).
 */
#include "base/auto.h"
#include "pop/state.h"

const char *pop_start_part_text(enum pop_start_part part)
{
    static const char *const texts[] = {
#define POP_START_TEXT(name) #name,
        POP_START_PARTS(POP_START_TEXT)
#undef POP_START_TEXT
    };
    return texts[part];
}

static void observe(uint64_t *words, uint64_t ns)
{
    const struct metric_buckets *buckets = &metric_buckets_latency;
    size_t at = 0;

    while (at < buckets->count && ns > buckets->upper[at])
        at++;
    words[at]++;
    words[buckets->count + 1] += ns;
}

/* Of what is left; takes it away. */
static uint64_t part_of(uint64_t *left_ns, uint64_t said_ns)
{
    uint64_t part = said_ns < *left_ns ? said_ns : *left_ns;

    *left_ns -= part;
    return part;
}

void pop_starts_add(const struct pop_replica *replica, const struct pop_ready *ready)
{
    struct pop_endpoint *endpoint = replica->revision->endpoint;
    int64_t took_ns = env_now_ns(endpoint->pop->env) - replica->since_ns;
    uint64_t ns[POP_START_PARTS_END], left = took_ns > 0 ? (uint64_t)took_ns : 0;

    if (replica->adopted)
        return;
    if (!endpoint->starts)
        endpoint->starts = mem_zalloc(sizeof *endpoint->starts);
    endpoint->start_ms = left < ENV_MS ? 1 : (uint32_t)(left / ENV_MS);
    ns[POP_START_all] = left;
    ns[POP_START_walls] = part_of(&left, ready->walls_ns);
    ns[POP_START_load] = part_of(&left, ready->load_ns);
    ns[POP_START_first_run] = part_of(&left, ready->first_run_ns);
    ns[POP_START_spawn] = left;
    for (int part = 0; part < POP_START_PARTS_END; part++)
        observe(endpoint->starts->words[replica->cold][part], ns[part]);
}
