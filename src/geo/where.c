/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nested blocks are cut into spans that do not overlap: one binary search finds the answer, and
 * how far it reaches is what the address has in common with the ends of its span. Neighbours that
 * say the same are one span, so that `bits` is as short as it can be.
 */
#include "geo/where.h"

#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "geo/midst.h"
#include "geo/mmdb.h"

struct span {
    struct ip first; /* up to the next one's */
    uint32_t block;  /* NO_BLOCK: the map does not say */
};

#define NO_BLOCK UINT32_MAX

struct where_map {
    struct where_block *blocks; /* sorted: by address, of equal ones the wider first */
    struct span *spans;         /* sorted; the first begins at ::, so that there is one at least */
    size_t span_count;
    bool has_fallback;
    struct where_block fallback;
    struct mmdb *mmdb; /* or NULL */
};

static int ip_compare(const struct ip *a, const struct ip *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes);
}

static int order_blocks(const void *a, const void *b)
{
    const struct where_block *left = a, *right = b;
    int order = ip_compare(&left->block.ip, &right->block.ip);
    return order ? order : (int)left->block.bits - (int)right->block.bits;
}

/* The first address behind the block; false: there is none. */
static bool block_end(const struct ip_block *block, struct ip *ret)
{
    *ret = block->ip;
    for (unsigned bit = block->bits; bit > 0; bit--) {
        uint8_t mask = (uint8_t)(0x80 >> (bit - 1) % 8);
        if (!(ret->bytes[(bit - 1) / 8] & mask)) {
            ret->bytes[(bit - 1) / 8] |= mask;
            return true;
        }
        ret->bytes[(bit - 1) / 8] &= (uint8_t)~mask;
    }
    return false;
}

static bool says_same(const struct where_map *map, uint32_t a, uint32_t b)
{
    if (a == b)
        return true;
    if (a == NO_BLOCK || b == NO_BLOCK)
        return false;
    const struct where_block *left = &map->blocks[a], *right = &map->blocks[b];
    return left->country == right->country && left->located == right->located &&
           (!left->located ||
            (left->latitude == right->latitude && left->longitude == right->longitude));
}

static void span_begin(struct where_map *map, const struct ip *first, uint32_t block)
{
    if (map->span_count > 0 && ip_compare(&map->spans[map->span_count - 1].first, first) == 0) {
        map->span_count--; /* what began here lasts for no address */
    }
    if (map->span_count > 0 && says_same(map, map->spans[map->span_count - 1].block, block))
        return;
    map->spans[map->span_count++] = (struct span){ *first, block };
}

/* Blocks nest or lie apart: those that hold the present address are a stack, at most 129 deep. */
static void spans_make(struct where_map *map, size_t count)
{
    uint32_t stack[130] = { NO_BLOCK };
    size_t depth = 1;
    struct ip end;

    map->spans = mem_alloc((2 * count + 1) * sizeof *map->spans);
    span_begin(map, &(struct ip){}, NO_BLOCK);
    for (size_t i = 0; i <= count; i++) {
        const struct ip_block *next = i < count ? &map->blocks[i].block : NULL;
        while (depth > 1) {
            const struct ip_block *inner = &map->blocks[stack[depth - 1]].block;
            if (next && ip_block_has(inner, &next->ip))
                break;
            depth--;
            if (block_end(inner, &end))
                span_begin(map, &end, stack[depth - 1]);
        }
        if (next) {
            stack[depth++] = (uint32_t)i;
            span_begin(map, &next->ip, (uint32_t)i);
        }
    }
}

static int blocks_take(struct where_map *map, const struct where_block *blocks, size_t count,
                       struct err *err)
{
    char text[IP_TEXT_BYTES];
    if (count > WHERE_BLOCKS_MAX)
        return err_set(err, ERR_TOO_LARGE, "%zu blocks of addresses are more than %d", count,
                       WHERE_BLOCKS_MAX);
    map->blocks = mem_alloc((count + 1) * sizeof *map->blocks);
    if (count > 0) {
        memcpy(map->blocks, blocks, count * sizeof *blocks);
        qsort(map->blocks, count, sizeof *blocks, order_blocks);
    }
    for (size_t i = 1; i < count; i++)
        if (order_blocks(&map->blocks[i - 1], &map->blocks[i]) == 0)
            return err_set(err, ERR_BAD_INPUT, "the block of addresses '%s' is there twice",
                           ip_block_text(&map->blocks[i].block, text));
    spans_make(map, count);
    return 0;
}

int where_map_open(const struct where_block *blocks, size_t count,
                   const struct where_block *fallback, const char *mmdb_path,
                   struct where_map **ret, struct err *err)
{
    struct where_map *map = mem_zalloc(sizeof *map);
    int r = blocks_take(map, blocks, count, err);

    if (r == 0 && mmdb_path)
        r = mmdb_open(mmdb_path, &map->mmdb, err);
    if (r < 0) {
        where_map_free(map);
        return r;
    }
    if (fallback) {
        map->has_fallback = true;
        map->fallback = *fallback;
    }
    *ret = map;
    return 0;
}

void where_map_free(struct where_map *map)
{
    if (!map)
        return;
    mmdb_free(map->mmdb);
    free(map->spans);
    free(map->blocks);
    free(map);
}

const struct mmdb *where_map_mmdb(const struct where_map *map)
{
    return map ? map->mmdb : NULL;
}

/* ---- finding -------------------------------------------------------------------------------- */

static size_t span_find(const struct where_map *map, const struct ip *ip)
{
    size_t low = 0, high = map->span_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (ip_compare(&map->spans[middle].first, ip) <= 0)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static unsigned common_bits(const struct ip *a, const struct ip *b)
{
    for (unsigned at = 0; at < sizeof a->bytes; at++)
        if (a->bytes[at] != b->bytes[at])
            return at * 8 + (unsigned)__builtin_clz((unsigned)(a->bytes[at] ^ b->bytes[at])) - 24;
    return 128;
}

/* So many bits of it leave no room for the address before the span, and the first behind it. */
static unsigned span_bits(const struct where_map *map, size_t at, const struct ip *ip)
{
    unsigned bits = 0;
    if (at > 0) {
        struct ip before = map->spans[at].first;
        for (unsigned i = 16; i-- > 0 && before.bytes[i]-- == 0;)
            ;
        bits = common_bits(&before, ip) + 1;
    }
    if (at + 1 < map->span_count) {
        unsigned behind = common_bits(&map->spans[at + 1].first, ip) + 1;
        bits = behind > bits ? behind : bits;
    }
    return bits;
}

static struct where answer(const struct where_block *block, unsigned bits, enum where_source source)
{
    return (struct where){
        .country = block->country,
        .located = block->located,
        .latitude = block->latitude,
        .longitude = block->longitude,
        .bits = (uint8_t)bits,
        .source = (uint8_t)source,
    };
}

/* Whoever knows the address, in the order of their words. */
static struct where find(const struct where_map *map, const struct ip *ip)
{
    size_t at = span_find(map, ip);
    unsigned bits = span_bits(map, at, ip);
    if (map->spans[at].block != NO_BLOCK)
        return answer(&map->blocks[map->spans[at].block], bits, WHERE_MAP);
    if (map->mmdb) {
        struct mmdb_found found = mmdb_find(map->mmdb, ip);
        bits = found.bits > bits ? found.bits : bits;
        bool falls = found.placed_by_us && map->has_fallback; /* the MMDB knows of neither */
        if (found.country != COUNTRY_UNKNOWN || found.located)
            return (struct where){
                .country = falls ? map->fallback.country : found.country,
                .located = found.located,
                .latitude = found.latitude,
                .longitude = found.longitude,
                .bits = (uint8_t)bits,
                .source = WHERE_MMDB,
            };
    }
    if (map->has_fallback)
        return answer(&map->fallback, bits, WHERE_DEFAULT);
    return (struct where){ .bits = (uint8_t)bits };
}

/* The block of the country is the block of its midst: `bits` stands. */
struct where where_find(const struct where_map *map, const struct ip *ip)
{
    struct where where = map ? find(map, ip) : (struct where){};
    bool known = where.source != WHERE_DEFAULT; /* its country is an assumption, and no place */
    const struct geo_midst *midst = where.located || !known ? NULL : geo_midst_of(where.country);
    if (!midst)
        return where;
    where.located = where.midst = true;
    where.latitude = midst->latitude;
    where.longitude = midst->longitude;
    return where;
}
