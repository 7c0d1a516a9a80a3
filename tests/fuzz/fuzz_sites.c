/* SPDX-License-Identifier: Apache-2.0 */
/* What is read of a list of sites is within its bounds. */
#include <assert.h>

#include "base/arena.h"
#include "base/err.h"
#include "policy/rtt.h"
#include "sim/sites.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct sites sites;
    struct err err = {};

    if (sites_parse(arena, (struct slice){ (const char *)data, size }, NULL, &sites, &err) < 0) {
        assert(err.message[0]);
        arena_free(arena);
        return 0;
    }
    assert(sites.count > 0 && sites.count <= SITES_MAX);
    for (size_t i = 0; i < sites.count; i++) {
        const struct site *site = &sites.list[i];
        assert(spot_valid(site->latitude, site->longitude) && site->price >= 0);
        assert(site->name.size > 0 && utf8_valid(site->name) && utf8_valid(site->city));
        assert(site->country != COUNTRY_UNKNOWN);
    }
    arena_free(arena);
    return 0;
}
