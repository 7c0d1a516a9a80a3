/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sets.h -- jurisdictions: sets of countries by name, as versioned data with source and date.
 *
 * EU and EEA are built in; an operator's own stand in a file:
 *
 *     sets:
 *       - {name: DACH, countries: [AT, CH, DE], source: "contract 17, annex 2", date: 2026-11-28}
 *
 * A set's name is capitals, digits and hyphens, 3 to 16 of them, so that it is no country and no
 * PoP. What it lists are countries, or sets that stand before it. Pure; any thread.
 */
#pragma once

#include <stddef.h>

#include "base/countries.h"
#include "base/slice.h"

struct arena;
struct err;

enum { GEO_SETS_MAX = 256, GEO_SET_NAME_BYTES = 16, GEO_SETS_BYTES_MAX = 64 << 10 };

/* The operator's file, whole, as the processes of a PoP hand it on. */
#define GEO_SETS_ENVIRONMENT "PERIGEE_SETS"

struct geo_set {
    struct slice name;
    struct countries countries;
    struct slice source; /* who says so */
    struct slice date;   /* since when it is so: YYYY-MM-DD */
};

/* Those built in, then the operator's. */
struct geo_sets {
    const struct geo_set *items;
    size_t count;
};

/* `text`: the operator's file (YAML), or empty. All of it lies in the arena. Unknown countries, two
 * sets of one name, a name that is built in, no source or date: ERR_BAD_INPUT. */
[[nodiscard]] int geo_sets_parse(struct arena *arena, struct slice text, struct geo_sets *ret,
                                 struct err *err);

/* "DACH=AT CH DE;EEA=..." by name: sets that decide the same have the same text, whatever their
 * source, date and order. */
struct slice geo_sets_text(struct arena *arena, const struct geo_sets *sets);

/* Of $PERIGEE_SETS; those built in where there is none, and also where it is wrong, with the error.
 */
int geo_sets_environment(struct arena *arena, struct geo_sets *ret, struct err *err);

/* The countries of a code or of a set's name; ERR_BAD_INPUT says what was probably meant. */
[[nodiscard]] int geo_sets_find(const struct geo_sets *sets, struct slice name,
                                struct countries *ret, struct err *err);
/* The set of that name, or NULL. */
const struct geo_set *geo_sets_get(const struct geo_sets *sets, struct slice name);
/* The same as residency.h and regions.h ask it: `data` is the struct geo_sets. */
int geo_sets_lookup(struct slice name, void *data, struct countries *ret, struct err *err);
