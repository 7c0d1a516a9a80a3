/* SPDX-License-Identifier: Apache-2.0 */
/* What is read is within its bounds, and each city is found by what it is called. */
#include <assert.h>

#include "base/err.h"
#include "geo/cities.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = { (const char *)data, size };
    struct cities *cities;
    struct err err = {};

    if (cities_parse(text, "fuzz", &cities, &err) < 0) {
        assert(err.message[0]);
        return 0;
    }
    size_t count = cities_count(cities);
    for (size_t i = 0; i < count; i++) {
        const struct city *city = cities_at(cities, i);
        assert(city->latitude >= -90 && city->latitude <= 90);
        assert(city->longitude >= -180 && city->longitude <= 180);
        assert(city->population > 0 && city->country != COUNTRY_UNKNOWN);
        assert(i == 0 || cities_at(cities, i - 1)->population >= city->population);
        if (i < 16)
            (void)cities_find(cities, city->name);
    }
    (void)cities_find(cities, text);
    cities_free(cities);
    return 0;
}
