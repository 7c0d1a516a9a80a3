/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hub_own.h -- what the hub's files share among themselves: hub.c keeps endpoints and says when
 * views are made anew, hub_pops.c keeps PoPs. Loop thread only.
 */
#pragma once

#include "base/auto.h"
#include "base/slice.h"

struct control;

static inline struct slice hub_copy(struct slice text) /* on the heap */
{
    return (struct slice){ mem_string(text), text.size };
}

void hub_refresh_all(struct control *control); /* soon */
void hub_peers_later(struct control *control); /* what PoPs hear of each other: soon */
