/* SPDX-License-Identifier: Apache-2.0 */
/*
 * today.h -- the view that a table gives: its PoPs, and of them the node's own where its gateway
 * listens. A node that is no PoP (`perigee dns`) names the others alone. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct dns_https_told;
struct dns_view;
struct dns_young;
struct err;
struct mesh_head;
struct table_head;
struct where_map;

enum {
    DNS_NODE_ADDRESSES_MAX = 48,
    DNS_STABLE_S = 60, /* up for so long: an answer may be kept longer */
};

struct dns_node {
    struct {           /* where this node listens, as the supervisor says it: "127.0.0.1:8000" */
        uint32_t kind; /* enum message_listener_kind */
        char text[128];
    } addresses[DNS_NODE_ADDRESSES_MAX];
    size_t address_count;
    struct slice api_host;              /* a further host of control, or empty */
    const struct dns_https_told *https; /* or NULL */
    bool alone; /* it is no PoP: nothing is answered from what it listens to */
    bool stable;
    const struct where_map *map; /* borrowed for the view's life, or NULL */
    /* What this node's agent measures (contract/mesh.h), or NULL: none, or too old to be believed.
     * It says which of the PoPs it names are up and calm, and what waits there; of others the table
     * does. */
    const struct mesh_head *mesh;
    const struct dns_young *young; /* which endpoints are, at `now_ns`; NULL: none */
    int64_t now_ns;
};

/* `table` is checked (table_check). */
[[nodiscard]] int dns_view_today(const struct table_head *table, const struct dns_node *node,
                                 struct dns_view **ret, struct err *err);
