/* SPDX-License-Identifier: Apache-2.0 */
/*
 * midst.h -- where the people of a country are, in the mean: the place of a client of whom no more
 * is known. Built in, made by tools/make-midsts from the cities of GeoNames; pure, any thread.
 *
 * It is the city nearest to the mean of the country's people on the sphere, a place where somebody
 * lives: so the mean of islands is not in the sea between them. Of a large country it says little
 * (in the United States people are 1,460 km away from it), and yet which PoPs are on another
 * continent. Who decides what is allowed never asks it: that is the country's to say alone.
 */
#pragma once

#include "base/countries.h"

struct geo_midst {
    double latitude, longitude; /* degrees, north and east positive */
    unsigned away_km;           /* of its people, in the mean */
};

/* NULL: nobody lives there, or it is no country (BV, HM, IO and UM have none). */
const struct geo_midst *geo_midst_of(country_number country);

/* Whose data it is, which is to be shown where the data is; and when the table was made of it:
 * YYYY-MM-DD. */
const char *geo_midst_source(void);
const char *geo_midst_date(void);
