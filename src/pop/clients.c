/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For control: how endpoints do here, as the mesh has it; and how far clients are: of each endpoint
 * and country how many requests, how many of them from within 50 ms, and the sum of round trips,
 * since this PoP's supervisor started. Counts alone, as /metrics has them.
 */
#include <math.h>

#include "base/arena.h"
#include "base/json.h"
#include "base/map.h"
#include "contract/gateway_metrics.h"
#include "pop/agent.h"
#include "pop/report_json.h"

enum {
    ROWS_MAX = 1000,  /* those with the most requests */
    LOADS_MAX = 4096, /* PEER_LOAD_ROWS_MAX: a gateway says no more */
};

static void member_figure(struct json_writer *w, const char *key, float figure)
{
    json_member_double(w, key, (double)roundf(figure * 1000) / 1000);
}

void report_loads(struct json_writer *w, struct agent *agent)
{
    struct mesh_load *loads;
    size_t count;
    if (!pop_mesh_own(&agent->mesh, w->arena, &loads, &count))
        return;
    json_key(w, "loads");
    json_array_begin(w);
    for (size_t i = 0; i < count && i < LOADS_MAX; i++) {
        json_object_begin(w);
        json_member_u64(w, "endpoint_uid", loads[i].endpoint);
        member_figure(w, "wait_ms", loads[i].wait_ms);
        member_figure(w, "service_ms", loads[i].service_ms);
        member_figure(w, "start_ms", loads[i].start_ms);
        member_figure(w, "weight", loads[i].weight);
        member_figure(w, "last_start_ms", loads[i].last_start_ms);
        json_object_end(w);
    }
    json_array_end(w);
}

static struct slice key_of(struct arena *arena, struct slice project, struct slice endpoint)
{
    return slice_of(arena_format(arena, "%.*s/%.*s", SLICE_FMT(project), SLICE_FMT(endpoint)));
}

static void write_row(struct json_writer *w, const struct pop_endpoint *endpoint,
                      const struct gateway_clients *row)
{
    json_object_begin(w);
    json_member_u64(w, "endpoint_uid", endpoint->uid);
    json_member_string(w, "country", row->country);
    json_member_u64(w, "requests", row->requests);
    json_member_u64(w, "near", row->near);
    json_member_u64(w, "rtt_us", row->rtt_ns / 1000);
    json_object_end(w);
}

void report_clients(struct json_writer *w, struct agent *agent)
{
    struct arena *arena = w->arena;
    struct gateway_clients *rows = NULL;
    struct pop_endpoint *endpoint;
    struct map endpoints = {};
    size_t count = 0;
    if (agent->metrics)
        count =
            gateway_metrics_clients(arena, agent->metrics, agent->metrics_bytes, ROWS_MAX, &rows);
    if (count)
        LIST_EACH (endpoint, &agent->pop.endpoints, struct pop_endpoint, link)
            (void)map_put(&endpoints,
                          key_of(arena, slice_of(endpoint->project), slice_of(endpoint->name)),
                          endpoint);
    json_key(w, "clients");
    json_array_begin(w);
    for (size_t i = 0; i < count; i++) {
        endpoint = map_get(&endpoints, key_of(arena, rows[i].project, rows[i].endpoint));
        if (endpoint)
            write_row(w, endpoint, &rows[i]);
    }
    json_array_end(w);
    map_deinit(&endpoints);
}
