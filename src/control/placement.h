/* SPDX-License-Identifier: Apache-2.0 */
/*
 * placement.h -- where endpoints are placed: policy/place.h's decision, made of what the hub knows,
 * and kept by the store so that a new control moves nothing. Loop thread only.
 */
#pragma once

struct control;
struct hub_endpoint;
struct store_placement;

/* Decides anew. Cheap; called whenever something of the endpoint or of a PoP may have changed. */
void placement_update(struct control *control, struct hub_endpoint *endpoint);
/* As the store has it, before anything is decided. Rows of PoPs that are not known are left out. */
void placement_recall(struct control *control, struct hub_endpoint *endpoint,
                      const struct store_placement *rows, unsigned long count);
void placement_drop(struct hub_endpoint *endpoint); /* with what it took of its PoPs */
/* What was decided goes to the store soon; of several changes the last. */
void placement_save_soon(struct control *control);
