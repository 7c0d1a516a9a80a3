/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway_scene.h -- a gateway in Germany (`local`), and two other PoPs that the test plays:
 * `other` in France, `third` in Japan, which echoes. One endpoint, `digits`.
 */
#pragma once

#include "base/rules.h"
#include "contract/mesh.h"
#include "gateway_case.h"
#include "gateway_peer.h"

#define BODY CASE_ROW
#define LOCAL "Host: localhost:8000\r\n"

struct scene {
    struct world world;
    struct fake fake;
    struct peer other, third;
    struct table_source_pop pops[3];
    struct ip address;
    struct world_endpoint row;
    uint64_t table; /* number of the last one */
};

/* Memory of the machine, as gateways that begin see it; 0: as it is. */
extern uint64_t scene_machine_bytes;

/* Where an endpoint is placed. */
extern const struct table_source_placement scene_at_other[1], scene_at_both[2], scene_at_all[3];
struct world_endpoint scene_endpoint(uint32_t state, const struct table_source_placement *placed,
                                     size_t count);

/* For any client: processed in that country, and passed through it and `transit` (or NULL). */
struct residency_rule scene_rule_in(const char *process, const char *transit);

/* `mode`: of `other`; `replica`: one is ready here. The gateway has the keys. */
void scene_begin(struct scene *scene, const struct world_endpoint *row, enum peer_mode mode,
                 bool replica);
/* The endpoint is at `other` alone. */
void scene_begin_away(struct scene *scene, enum peer_mode mode);
void scene_end(struct scene *scene);
/* Another table, of `row` and `pops`. Once every loop serves it, they have what was sent before it
 * as well. */
void scene_table(struct scene *scene);
struct scene_figures { /* of one PoP, as the mesh says them */
    const char *name;
    enum mesh_health health;
    float rtt_ms, wait_ms, start_ms; /* start_ms NAN: it has not spoken of the endpoint */
    float last_start_ms;
};
/* A mesh of those, and a table, for the same. */
void scene_mesh(struct scene *scene, const struct scene_figures *figures, size_t count);
void scene_expect(struct reply reply, int status, const char *part); /* and frees it */
bool scene_counter(struct world *world, const char *row);            /* it stands in /metrics */
bool scene_asked(struct world *world, void *peer);                   /* for world_until() */
