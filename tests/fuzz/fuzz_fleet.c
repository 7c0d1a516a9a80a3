/* SPDX-License-Identifier: Apache-2.0 */
/* A fleet that is taken has a place for every address or none, links within their bounds, and finds
 * each of its places by name. */
#include "fleet/fleet.h"

#include <assert.h>

#include "base/arena.h"
#include "base/err.h"
#include "geo/cities.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct cities *cities_of(void)
{
    static struct cities *cities; /* for the program's life */
    if (!cities && cities_parse(SLICE("Tokyo\t\tJP\t35.6895\t139.69171\t8336599\n"
                                      "Paris\t\tFR\t48.85341\t2.3488\t2138551\n"),
                                "cities", &cities, NULL) < 0)
        assert(!"the cities are right");
    return cities;
}

static void check(const struct fleet *fleet)
{
    assert(fleet->pop_count > 0 && fleet->pop_count <= fleet->place_count);
    assert(fleet->place_count <= FLEET_PLACES_MAX);
    for (size_t i = 0; i < fleet->place_count; i++) {
        uint16_t found;
        int r = fleet_place_find(fleet, fleet->places[i].name, &found, NULL);
        assert(r == 0 && found == i);
        assert(spot_valid(fleet->places[i].latitude, fleet->places[i].longitude));
        for (size_t pop = 0; pop < fleet->pop_count; pop++) {
            struct fleet_link link = fleet_link(fleet, i, pop);
            assert(link.rtt_us <= FLEET_TIME_US_MAX && link.loss_ppm <= 1'000'000);
        }
    }
    for (size_t i = 0; i < fleet->client_count; i++)
        assert(fleet_place_of(fleet, &fleet->clients[i].block.ip) == fleet->clients[i].place);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct fleet fleet;
    struct err err;
    if (fleet_parse(arena, (struct slice){ (const char *)data, size }, cities_of(), &fleet, &err) ==
        0)
        check(&fleet);
    else
        assert(err.code == ERR_BAD_INPUT || err.code == ERR_TOO_LARGE);
    arena_free(arena);
    return 0;
}
