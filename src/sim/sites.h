/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sites.h -- a list of places where PoPs stand, as CSV (RFC 4180) with a first line of column
 * names, in any order:
 *
 *     iata or name    its name
 *     city, country   country is two capitals (ISO 3166-1)
 *     lat, lon        degrees; where they are absent or empty the city is looked up
 *     region          a label, shown
 *     price           of a second of one place's compute, relative; 1 where absent
 *
 * Other columns are passed over. Pure but for the memory; any thread.
 */
#pragma once

#include <stddef.h>

#include "base/countries.h"
#include "base/slice.h"
#include "policy/route.h"

struct arena;
struct cities;
struct err;

enum { SITES_MAX = ROUTE_POPS_MAX, SITES_COLUMNS_MAX = 64 };

struct site {
    struct slice name, city, region; /* in the arena */
    country_number country;
    double latitude, longitude;
    double price;
};

struct sites {
    const struct site *list;
    size_t count;
};

/* ERR_BAD_INPUT names the line. `cities` may be NULL: then each line has its coordinates. */
[[nodiscard]] int sites_parse(struct arena *arena, struct slice text, const struct cities *cities,
                              struct sites *ret, struct err *err);
