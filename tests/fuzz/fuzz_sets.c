/* SPDX-License-Identifier: Apache-2.0 */
/* Of a file of sets that is taken, each set is found, holds something, and only known countries. */
#include <assert.h>

#include "base/arena.h"
#include "geo/country.h"
#include "geo/sets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct geo_sets sets;

    if (geo_sets_parse(arena, (struct slice){ (const char *)data, size }, &sets, NULL) == 0)
        for (size_t i = 0; i < sets.count; i++) {
            struct countries found;
            int r = geo_sets_find(&sets, sets.items[i].name, &found, NULL);
            assert(r == 0 && !countries_empty(&found));
            for (unsigned country = 0; country <= COUNTRY_NUMBER_MAX; country++) {
                char code[3];
                country_code_of((country_number)country, code);
                assert(!countries_has(&found, (country_number)country) ||
                       country_known(slice_of(code)));
            }
        }
    arena_free(arena);
    return 0;
}
