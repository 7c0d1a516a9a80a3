/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/edge_kept.h"

#include <assert.h>
#include <stdlib.h>

#include "base/auto.h"
#include "policy/ttl.h"
#include "sim/edge_run.h"

void edge_kept_begin(struct edge_state *state)
{
    size_t count = state->world->city_count * state->world->options.resolvers;

    state->kept = count > 0 ? mem_zalloc(count * sizeof *state->kept) : NULL;
}

void edge_kept_end(struct edge_state *state)
{
    free(state->kept);
    state->kept = NULL;
}

static uint32_t resolver_of(const struct edge_state *state, const struct edge_request *request)
{
    return (uint32_t)(request->seed % EDGE_PREFIXES % state->world->options.resolvers);
}

struct edge_kept *edge_kept_of(const struct edge_state *state, const struct edge_request *request)
{
    size_t first = (size_t)request->city * state->world->options.resolvers;

    return state->kept ? &state->kept[first + resolver_of(state, request)] : NULL;
}

uint64_t edge_kept_seed(const struct edge_state *state, const struct edge_request *request)
{
    return state->kept ? (uint64_t)request->city * EDGE_PREFIXES + resolver_of(state, request)
                       : request->seed;
}

size_t edge_kept_get(const struct edge_kept *kept, double at, uint32_t ret[static EDGE_ANSWERS_MAX])
{
    if (at >= kept->until)
        return 0;
    for (size_t i = 0; i < kept->count; i++)
        ret[i] = kept->sites[i];
    return kept->count;
}

void edge_kept_put(const struct edge_state *state, const struct edge_request *request,
                   struct edge_kept *kept, const struct route_choice *choices, size_t count)
{
    struct chance chance = { edge_kept_seed(state, request) };
    bool first = kept->count == 0;

    assert(count > 0 && count <= EDGE_ANSWERS_MAX);
    kept->count = (uint8_t)count;
    for (size_t i = 0; i < count; i++)
        kept->sites[i] = (uint16_t)choices[i].pop;
    kept->until =
        request->at + ttl_of(choices, count, state->stable) * (first ? chance_part(&chance) : 1);
}
