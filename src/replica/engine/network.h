/* SPDX-License-Identifier: Apache-2.0 */
/*
 * network.h -- a network of an engine that leads nowhere but to its own containers and to this
 * machine: for containers whose network nobody of ours can enter. What an engine says is from
 * outside: bounded, and read without trust. Pure; any thread.
 */
#pragma once

#include <stdbool.h>

#include "base/slice.h"
#include "replica/engine/engine.h"

struct arena;
struct err;

struct engine_network_seen {
    struct slice name, home; /* home: of our label; or empty */
    struct slice driver;
    bool internal, ipv6;
};

/* The body of POST /networks/create; that there is one of that name already may be an error. */
struct slice engine_network_json(struct arena *arena, struct slice name, struct slice home);
/* The answer of GET /networks/NAME. */
[[nodiscard]] int engine_network_parse(struct arena *arena, struct slice text,
                                       struct engine_network_seen *ret, struct err *err);
/* Is it one that we made, and does it lead nowhere else? */
bool engine_network_fits(const struct engine_network_seen *seen, struct slice name,
                         struct slice home);

/* Asks for the names that engine_networks_parse() reads: of those with that home. */
struct engine_call *engine_networks(struct engine *engine, int64_t timeout_ms, engine_cb on_done,
                                    void *data);
enum { ENGINE_NETWORKS_MAX = 4096, ENGINE_NETWORK_NAME_MAX = 120 };
[[nodiscard]] int engine_networks_parse(struct arena *arena, struct slice text, struct slice home,
                                        struct slice **ret_names, size_t *ret_count,
                                        struct err *err);
