/* SPDX-License-Identifier: Apache-2.0 */
/*
 * placement.h -- where endpoints are placed: policy/place.h's decision, made of what the hub knows,
 * and kept by the store so that a new control moves nothing. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct arena;
struct control;
struct decision;
struct hub_endpoint;
struct store_placement;

/* So long must all be as it is, and nobody ask, until what is beyond what must be is given up. */
#define PLACEMENT_SETTLED_NS (INT64_C(300) * 1'000'000'000)

/* Decides anew. Some 10 us among 300 PoPs; called whenever something of the endpoint or of a PoP
 * may have changed. */
void placement_update(struct control *control, struct hub_endpoint *endpoint);
/* What would be decided now; nothing changes. In the arena, and borrowed from the hub. */
void placement_look(struct control *control, struct arena *arena, struct hub_endpoint *endpoint,
                    struct decision *ret);
/* As the store has it, before anything is decided. Rows of PoPs that are not known are left out. */
void placement_recall(struct control *control, struct hub_endpoint *endpoint,
                      const struct store_placement *rows, unsigned long count);
/* All has settled since the last decision, so that the next may give something up. */
bool placement_due(struct control *control, const struct hub_endpoint *endpoint);
void placement_forget(struct hub_endpoint *endpoint); /* its spec is another */
void placement_drop(struct hub_endpoint *endpoint);   /* with what it took of its PoPs */
/* What was decided goes to the store soon; of several changes the last. */
void placement_save_soon(struct control *control);
