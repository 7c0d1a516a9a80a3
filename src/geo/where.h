/* SPDX-License-Identifier: Apache-2.0 */
/*
 * where.h -- where an address is: by the operator's address map, else by an MMDB, else not known.
 *
 * The map is blocks of addresses with a country and a place (of a fleet file); the longest block
 * holds. The MMDB is MaxMind's nested form or ip-location-db's flat one (geo/mmdb.h). Opened once,
 * then immutable: any thread.
 *
 * Where only the country is known, the place is that of its people in the mean (geo/midst.h), and
 * `midst` says so: near enough to tell one continent from another, and for nothing finer.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/countries.h"
#include "base/ip.h"

struct err;
struct mmdb;

enum { WHERE_BLOCKS_MAX = 1 << 20 };

/* Path of the MMDB, for the processes of a PoP. */
#define WHERE_MMDB_ENVIRONMENT "PERIGEE_GEO"

enum where_source { WHERE_UNKNOWN, WHERE_MAP, WHERE_MMDB, WHERE_DEFAULT };

struct where {
    country_number country;
    bool located; /* latitude and longitude are known: degrees, north and east positive */
    double latitude, longitude;
    uint8_t bits;   /* every address that shares so many leading bits gets the same answer */
    uint8_t source; /* enum where_source */
    bool midst;     /* they are not the client's own: those of its country's people in the mean */
};

struct where_block {
    struct ip_block block;
    country_number country;
    bool located;
    double latitude, longitude;
};

struct where_map; /* an address map and an MMDB, either may be absent */

/* `blocks` in any order; two equal ones are ERR_BAD_INPUT. `fallback`: for addresses that neither
 * knows (a fleet file's default_place; its block is not looked at), or NULL. Of one whose place
 * alone the MMDB tells the country stays unknown, Kosovo's apart, whose place is ours. `mmdb_path`:
 * or NULL;
 * one that is missing, damaged or of an unknown form is an error that says so. */
[[nodiscard]] int where_map_open(const struct where_block *blocks, size_t count,
                                 const struct where_block *fallback, const char *mmdb_path,
                                 struct where_map **ret, struct err *err);
void where_map_free(struct where_map *map); /* NULL is allowed */

/* `map` NULL: nothing is known. */
struct where where_find(const struct where_map *map, const struct ip *ip);

/* The MMDB that was opened, or NULL: geo/mmdb.h says its age. */
const struct mmdb *where_map_mmdb(const struct where_map *map);
