/* SPDX-License-Identifier: Apache-2.0 */
#include "geo/midst.h"

#include <stddef.h>

/* As country_number_of() has it. */
#define NUMBER(first, second) (1 + ((first) - 'A') * 26 + ((second) - 'A'))

static const struct row {
    bool there;
    struct geo_midst midst;
} rows[COUNTRY_NUMBER_MAX + 1] = {
#define MIDST(first, second, latitude, longitude, away_km)                                         \
    [NUMBER(first, second)] = { true, { latitude, longitude, away_km } },
#include "geo/midst.def"
#undef MIDST
};

const struct geo_midst *geo_midst_of(country_number country)
{
    if (country > COUNTRY_NUMBER_MAX || !rows[country].there)
        return NULL;
    return &rows[country].midst;
}

const char *geo_midst_source(void)
{
    return MIDST_SOURCE;
}

const char *geo_midst_date(void)
{
    return MIDST_DATE;
}
