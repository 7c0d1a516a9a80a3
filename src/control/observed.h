/* SPDX-License-Identifier: Apache-2.0 */
/*
 * observed.h -- how PoPs are as those see them who ask them all the time, which is other PoPs:
 * their words, each second anew there, stand in their reports (pop/mesh.h). What DNS goes by is one
 * PoP's word, and here are all of them, by the same rule (policy/believed.h). Loop thread only.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct arena;
struct control;
struct hub_pop;

enum {
    OBSERVED_NAMES_MAX = 8,
    /* Agents report every 5 s, and at once when somebody falls or returns: an older word is of one
     * who may have died with whom he speaks of. */
    OBSERVED_WORD_MS = 7'500,
};

struct observed {
    uint8_t health;                          /* enum route_health */
    uint32_t reached_by, missed_by;          /* PoPs that say so of their own asking */
    struct slice missed[OBSERVED_NAMES_MAX]; /* the first of those that do not reach it, by name */
};

/* Of each of these, which are in the order of their names; in the arena. Where by what PoPs say of
 * each other nobody is up, and by what control hears somebody is, control's word counts: two that
 * are cut off from each other do not reach anybody. */
struct observed *observed_find(struct control *control, struct arena *arena,
                               const struct hub_pop *const *pops, size_t count);
