/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mesh.h -- what this PoP's agent measures of all PoPs, as one immutable block in a sealed memfd,
 * published about once a second and at once when a PoP's health has changed: who is up, how far it
 * is from here, how long an endpoint's requests would wait there. Gateway and DNS choose by it.
 *
 * It is never more than figures: whom it does not name, or when it has grown old because the agent
 * is gone, the reader goes by the table (mesh_fresh()). mesh_check() looks at every offset, row and
 * value once; after it the accessors cannot fail. Any thread; immutable.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct arena;
struct err;

#define MESH_MAGIC 0x68676550u /* "Pegh" */
#define MESH_VERSION 1u
#define MESH_NAME_BYTES 64
#define MESH_FRESH_NS INT64_C(5'000'000'000)
enum { MESH_POPS_MAX = 2048, MESH_LOADS_MAX = 1 << 20 };
#define MESH_BYTES_MAX (UINT64_C(64) << 20)

/* Figures above these are none: an agent never publishes them. */
#define MESH_MS_MAX 600'000.0f
#define MESH_WEIGHT_MAX 1e7f

/* As enum route_health has them (policy/route.h). */
enum mesh_health { MESH_UP, MESH_DRAINING, MESH_DOWN };

struct mesh_pop {
    char name[MESH_NAME_BYTES]; /* terminated */
    float rtt_ms;               /* between this PoP and that one's gateway; NAN: not measured */
    uint32_t health;            /* enum mesh_health */
    uint32_t calm;              /* 1: up for long, answers that name it may be kept */
    uint32_t
        elsewhere; /* 1: it is down from here alone: other PoPs reach it, or it is this one that
                         * is cut off; so clients may */
};

/* An endpoint at a PoP that has said something of it. */
struct mesh_load {
    uint64_t endpoint; /* uid */
    uint32_t pop;      /* row */
    float wait_ms;     /* of one more request, damped (policy/load.h); INFINITY: no room */
    float service_ms;
    float start_ms;      /* 0: a replica is ready there; INFINITY: it does not start */
    float weight;        /* share among near-equals: room left, in requests a second */
    float last_start_ms; /* that the last start there took; 0: it does not say */
};

#define MESH_BLIND 1u /* nobody was reached, nor itself: believe none of it */

struct mesh_head {
    uint32_t magic, version;
    uint64_t bytes;  /* of all, this struct included */
    uint64_t number; /* grows */
    int64_t at_ns;   /* CLOCK_MONOTONIC */
    uint32_t flags;  /* MESH_BLIND */
    uint32_t self;   /* row of this PoP; UINT32_MAX: it is not among them */
    uint32_t pop_count, load_count;
    /* struct mesh_pop by name, then struct mesh_load by (endpoint, pop). */
};

/* ---- building: rows may be in any order, and are sorted here, in place ---------------------- */

struct mesh_source {
    uint64_t number;
    int64_t at_ns;
    uint32_t flags;
    struct slice self; /* name; empty: none */
    struct mesh_pop *pops;
    size_t pop_count;
    struct mesh_load *loads; /* `pop` is an index into pops as they are given */
    size_t load_count;
};

/* The block in the arena. ERR_BAD_INPUT: two of one name, a figure out of range. */
[[nodiscard]] int mesh_build(struct arena *arena, const struct mesh_source *source,
                             struct slice *ret_bytes, struct err *err);

/* ---- reading -------------------------------------------------------------------------------- */

[[nodiscard]] int mesh_check(struct slice bytes, struct err *err);

static inline const struct mesh_pop *mesh_pops(const struct mesh_head *mesh)
{
    return (const struct mesh_pop *)(mesh + 1);
}

/* NULL: it is not among them. A binary search. */
const struct mesh_pop *mesh_find_pop(const struct mesh_head *mesh, struct slice name);
/* By rising row of their PoP; a binary search. */
const struct mesh_load *mesh_loads(const struct mesh_head *mesh, uint64_t endpoint,
                                   size_t *ret_count);
/* Of those the one at that row of `pops`, or NULL. */
const struct mesh_load *mesh_load_at(const struct mesh_load *loads, size_t count, uint32_t pop);

/* The longest of the last starts that PoPs have told, as mesh_loads() has them; 0: none. */
float mesh_last_start_ms(const struct mesh_load *loads, size_t count);

/* May it be believed? `mesh` NULL: no. */
bool mesh_fresh(const struct mesh_head *mesh, int64_t now_ns);
/* Would somebody who chooses by it choose otherwise: another PoP up, down or gone, a round trip or
 * a load that has moved by more than a little. Their ages do not count. */
bool mesh_differs(const struct mesh_head *a, const struct mesh_head *b);
/* Another PoP is up, down, or gone: of that alone. */
bool mesh_health_differs(const struct mesh_head *a, const struct mesh_head *b);
