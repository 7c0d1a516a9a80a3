/* SPDX-License-Identifier: Apache-2.0 */
/*
 * asked.h -- from where requests come, coarsely: a country and a field of two degrees of latitude
 * by two of longitude, as one number. Placement needs no more, and no more leaves a PoP. Plain
 * data, any thread.
 *
 * bit 0 is always set, so that 0 is none; then 10 bits of the country (0: not known), one that says
 * whether the field is known, 7 bits of latitude from the south pole and 8 of longitude from the
 * antimeridian.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/countries.h"

typedef uint32_t asked_cell;

/* Of one endpoint, told at once; what is beyond counts for ASKED_SOMEWHERE. */
enum { ASKED_CELLS_MAX = 64 };
/* Nothing is known of the client but that it came. */
#define ASKED_SOMEWHERE UINT32_C(1)

#define ASKED_DEGREES 2.0

/* Latitude and longitude in degrees, as a PoP or an address map has them; others are cut. */
static inline asked_cell asked_cell_of(country_number country, bool located, double latitude,
                                       double longitude)
{
    asked_cell cell = 1u | (uint32_t)(country <= COUNTRY_NUMBER_MAX ? country : 0) << 1;
    if (!located || !(latitude >= -90 && latitude <= 90) ||
        !(longitude >= -180 && longitude <= 180))
        return cell;
    uint32_t north = (uint32_t)((latitude + 90) / ASKED_DEGREES);
    uint32_t east = (uint32_t)((longitude + 180) / ASKED_DEGREES);
    return cell | 1u << 11 | (north < 90 ? north : 89) << 12 | (east < 180 ? east : 179) << 19;
}

static inline country_number asked_country(asked_cell cell)
{
    return (country_number)(cell >> 1 & 0x3ff);
}

/* The middle of its field, in degrees; false: not known. */
static inline bool asked_spot(asked_cell cell, double *ret_latitude, double *ret_longitude)
{
    *ret_latitude = ((cell >> 12 & 0x7f) + 0.5) * ASKED_DEGREES - 90;
    *ret_longitude = ((cell >> 19 & 0xff) + 0.5) * ASKED_DEGREES - 180;
    return (cell >> 11 & 1) != 0;
}

/* Of what somebody else made. */
static inline bool asked_valid(asked_cell cell)
{
    double north, east;
    bool located = asked_spot(cell, &north, &east);
    return asked_country(cell) <= COUNTRY_NUMBER_MAX &&
           cell == asked_cell_of(asked_country(cell), located, north, east);
}
