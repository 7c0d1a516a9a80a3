/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mmdb.h -- countries and coordinates from a MaxMind DB file (its specification, version 2.0).
 *
 * Two forms of records are read: MaxMind's nested one (country.iso_code, location.latitude) and
 * ip-location-db's flat one (country_code, latitude). A country that ISO 3166-1 does not know
 * (EU, AP, XK) is no country; of XK, Kosovo, the place is known nevertheless. Opened once, then
 * immutable: any thread. The file is mapped: who brings a newer one renames it over the old one,
 * and never writes into it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/countries.h"
#include "base/ip.h"

struct err;
struct mmdb;

enum { MMDB_OLD_DAYS = 180 }; /* addresses change hands: of an older file we warn */

struct mmdb_found {
    country_number country;
    bool located;
    bool placed_by_us; /* Kosovo, of which the record says nothing but its code */
    double latitude, longitude;
    uint8_t bits; /* every address that shares so many leading bits has the same record */
};

/* ERR_NOT_FOUND, or ERR_BAD_INPUT: no MMDB, damaged (every node of the tree is looked at, and many
 * records), or of records without countries. */
[[nodiscard]] int mmdb_open(const char *path, struct mmdb **ret, struct err *err);
void mmdb_free(struct mmdb *mmdb); /* NULL is allowed */

/* Always sets `bits`. A record that cannot be read is one without a country. */
struct mmdb_found mmdb_find(const struct mmdb *mmdb, const struct ip *ip);

/* Its age at `unix_s`, in whole days; negative: made in the future. */
int64_t mmdb_age_days(const struct mmdb *mmdb, int64_t unix_s);
/* What to warn of at that time, or NULL: it is old, or the clock is before its making. */
const char *mmdb_warning(const struct mmdb *mmdb, int64_t unix_s, char *buffer, size_t bytes);
const char *mmdb_type(const struct mmdb *mmdb); /* as its maker calls it; not escaped */
