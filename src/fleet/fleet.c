/* SPDX-License-Identifier: Apache-2.0 */
#include "fleet/fleet.h"

#include <assert.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "geo/where.h"

static struct ip loopback(unsigned third, size_t last)
{
    assert(last > 0 && last < 255);
    return ip_from4((uint8_t[]){ 127, 0, (uint8_t)third, (uint8_t)last });
}

struct ip fleet_face(size_t index)
{
    return loopback(1, index + 1);
}

struct ip fleet_inside(size_t index)
{
    return loopback(2, index + 1);
}

struct ip fleet_control_face(void)
{
    return loopback(0, 1);
}

struct ip fleet_control_inside(void)
{
    return loopback(2, 254);
}

struct fleet_link fleet_link(const struct fleet *fleet, size_t place, size_t pop)
{
    assert(place < fleet->place_count && pop < fleet->pop_count);
    return fleet->links[place * fleet->pop_count + pop];
}

struct ip fleet_dns_admin(void)
{
    return loopback(1, 254);
}

static bool same(const struct ip *a, const struct ip *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

/* Control stands where the first PoP does, and so does 127.0.0.1. */
uint16_t fleet_place_of(const struct fleet *fleet, const struct ip *ip)
{
    const struct ip control[] = { fleet_control_face(), fleet_control_inside() };
    if (same(ip, &control[0]) || same(ip, &control[1]))
        return 0;
    for (size_t i = 0; i < fleet->pop_count; i++) {
        struct ip face = fleet_face(i), inside = fleet_inside(i);
        if (same(ip, &face) || same(ip, &inside))
            return (uint16_t)i;
    }
    for (size_t i = 0; i < fleet->client_count; i++)
        if (ip_block_has(&fleet->clients[i].block, ip))
            return fleet->clients[i].place;
    return fleet->default_place;
}

static const char *nearest(const struct fleet *fleet, struct slice name, struct arena *arena)
{
    const char **names = ARENA_ARRAY(arena, const char *, fleet->place_count + 1);
    for (size_t i = 0; i < fleet->place_count; i++)
        names[i] = arena_string(arena, fleet->places[i].name);
    return json_nearest(name, names);
}

int fleet_place_find(const struct fleet *fleet, struct slice name, uint16_t *ret, struct err *err)
{
    for (int exact = 1; exact >= 0; exact--)
        for (size_t i = 0; i < fleet->place_count; i++)
            if (exact ? slice_equal(fleet->places[i].name, name)
                      : slice_equal_nocase(fleet->places[i].name, name)) {
                *ret = (uint16_t)i;
                return 0;
            }
    struct arena *arena = arena_new();
    const char *meant = nearest(fleet, name, arena);
    int r = meant ? err_set(err, ERR_NOT_FOUND, "the fleet has no place '%s'; '%s' is one",
                            ERR_SLICE(name), ERR_TEXT(meant))
                  : err_set(err, ERR_NOT_FOUND,
                            "the fleet has no place '%s'; it knows its PoPs, and its clients' "
                            "cities or names",
                            ERR_SLICE(name));
    arena_free(arena);
    return r;
}

static struct where_block where_of(const struct fleet *fleet, uint16_t index,
                                   const struct ip_block *block)
{
    const struct fleet_place *place = &fleet->places[index];
    return (struct where_block){
        .block = *block,
        .country = place->country,
        .located = true,
        .latitude = place->latitude,
        .longitude = place->longitude,
    };
}

size_t fleet_where(const struct fleet *fleet, struct arena *arena, struct where_block **ret)
{
    size_t count = 0, most = fleet->client_count + 2 * fleet->pop_count + 2;
    struct where_block *blocks = ARENA_ARRAY(arena, struct where_block, most);
    for (size_t i = 0; i < fleet->client_count; i++)
        blocks[count++] = where_of(fleet, fleet->clients[i].place, &fleet->clients[i].block);
    for (size_t i = 0; i < fleet->pop_count; i++) {
        blocks[count++] = where_of(fleet, (uint16_t)i, &(struct ip_block){ fleet_face(i), 128 });
        blocks[count++] = where_of(fleet, (uint16_t)i, &(struct ip_block){ fleet_inside(i), 128 });
    }
    blocks[count++] = where_of(fleet, 0, &(struct ip_block){ fleet_control_face(), 128 });
    blocks[count++] = where_of(fleet, 0, &(struct ip_block){ fleet_control_inside(), 128 });
    assert(count == most);
    *ret = blocks;
    return count;
}

bool fleet_where_default(const struct fleet *fleet, struct where_block *ret)
{
    if (fleet->default_place == FLEET_PLACE_NONE)
        return false;
    *ret = where_of(fleet, fleet->default_place, &(struct ip_block){});
    return true;
}
