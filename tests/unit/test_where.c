/* SPDX-License-Identifier: Apache-2.0 */
/* $GEO_FILES is tests/geo: MMDBs, and the blocks they were made of. */
#include "geo/where.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "geo/country.h"
#include "geo/midst.h"
#include "geo/mmdb.h"
#include "geo/where_file.h"

enum { BLOCKS_MAX = 300, PATH_BYTES = 512 };

const char *__lsan_default_suppressions(void);

/* libmaxminddb forgets the metadata of some files that it refuses. */
[[gnu::visibility("default")]] const char *__lsan_default_suppressions(void)
{
    return "leak:libmaxminddb";
}

static uint64_t random_state = 7;

static unsigned random_below(unsigned below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)(random_state >> 11) % below;
}

static const char *file(const char *name)
{
    static char path[PATH_BYTES];
    assert_non_null(getenv("GEO_FILES"));
    snprintf(path, sizeof path, "%s/%s", getenv("GEO_FILES"), name);
    return path;
}

static struct where_block block_of(const char *text, const char *country)
{
    struct where_block block = { .country = country_number_of(slice_of(country)) };
    struct err err;
    assert_int_equal(ip_block_parse(slice_of(text), &block.block, &err), 0);
    return block;
}

static struct ip ip_of(const char *text)
{
    struct ip ip;
    assert_true(ip_parse(slice_of(text), &ip));
    return ip;
}

static void assert_same(struct where a, struct where b)
{
    assert_int_equal(a.country, b.country);
    assert_int_equal(a.located, b.located);
    assert_true(a.latitude == b.latitude && a.longitude == b.longitude);
}

/* ---- rows ----------------------------------------------------------------------------------- */

/* The map's blocks are below; `country` "" is unknown. */
static const struct {
    const char *address, *country;
    unsigned source, bits;
} rows[] = {
    { "10.0.0.0", "DE", WHERE_MAP, 96 + 16 }, /* 10.1/16 says otherwise */
    { "10.128.0.1", "DE", WHERE_MAP, 96 + 9 },
    { "10.1.0.1", "FR", WHERE_MAP, 96 + 23 },
    { "10.1.2.200", "CH", WHERE_MAP, 96 + 25 },
    { "10.1.2.3", "JP", WHERE_MAP, 128 },
    { "11.0.0.1", "DE", WHERE_MAP, 96 + 8 }, /* two neighbours, one answer */
    { "9.255.255.255", "", WHERE_UNKNOWN, 96 + 7 },
    { "255.255.255.255", "", WHERE_UNKNOWN, 96 + 1 },
    { "::1", "", WHERE_UNKNOWN, 81 },
    { "2001:db8::1", "NL", WHERE_MAP, 32 },
    { "2001:db9::1", "", WHERE_UNKNOWN, 32 },
    { "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "AU", WHERE_MAP, 128 },
    { "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "", WHERE_UNKNOWN, 128 },
};

static struct where_map *map_open(const struct where_block *fallback, const char *mmdb)
{
    struct where_block blocks[] = {
        block_of("10.1.2.3", "JP"),
        block_of("10.0.0.0/8", "DE"),
        block_of("10.1.2.0/24", "CH"),
        block_of("11.0.0.0/8", "DE"),
        block_of("10.1.0.0/16", "FR"),
        block_of("2001:db8::/32", "NL"),
        block_of("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "AU"),
    };
    struct where_map *map;
    struct err err = {};
    int r = where_map_open(blocks, sizeof blocks / sizeof *blocks, fallback, mmdb, &map, &err);
    if (r < 0)
        fail_msg("%s", err.message);
    return map;
}

static void test_rows(void **state)
{
    struct where_map *map = map_open(NULL, NULL);
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct ip ip = ip_of(rows[i].address);
        struct where where = where_find(map, &ip);
        print_message("  %s\n", rows[i].address);
        assert_int_equal(where.country, country_number_of(slice_of(rows[i].country)));
        assert_int_equal(where.source, rows[i].source);
        assert_int_equal(where.bits, rows[i].bits);
    }
    where_map_free(map);
}

static void test_order_of_sources(void **state)
{
    struct where_block fallback = {
        .country = country_number_of(SLICE("US")), .located = true, .latitude = 40, .longitude = -74
    };
    struct where_map *map = map_open(&fallback, file("flat.mmdb"));
    struct ip both = ip_of("10.1.2.3"), mmdb = ip_of("192.0.2.1"), none = ip_of("8.8.8.8");
    struct where where;
    (void)state;
    where = where_find(map, &both);
    assert_int_equal(where.source, WHERE_MAP);
    /* The map's word is whole: where the MMDB has it does not count. */
    assert_true(where.located && where.midst && where.latitude == 35.8);
    where = where_find(map, &mmdb);
    assert_int_equal(where.source, WHERE_MMDB);
    assert_int_equal(where.country, country_number_of(SLICE("SE")));
    assert_true(where.located && !where.midst && where.latitude == 59.3);
    where = where_find(map, &none);
    assert_int_equal(where.source, WHERE_DEFAULT);
    assert_true(where.country == fallback.country && where.latitude == 40 && !where.midst);
    assert_int_equal(where_find(NULL, &none).source, WHERE_UNKNOWN);
    assert_int_equal(where_find(NULL, &none).bits, 0);
    assert_non_null(where_map_mmdb(map));
    where_map_free(map);
    where_map_free(NULL);
    /* A country alone: the law goes by it, and the place is not known. */
    fallback.located = false;
    map = map_open(&fallback, NULL);
    where = where_find(map, &none);
    assert_int_equal(where.source, WHERE_DEFAULT);
    assert_int_equal(where.country, fallback.country);
    assert_false(where.located || where.midst);
    where_map_free(map);
}

static void test_twice(void **state)
{
    struct where_block blocks[] = { block_of("10.0.0.0/8", "DE"), block_of("10.0.0.0/9", "DE"),
                                    block_of("10.0.0.0/8", "DE") };
    struct where_map *map;
    struct err err;
    (void)state;
    assert_int_equal(where_map_open(blocks, 3, NULL, NULL, &map, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "'10.0.0.0/8' is there twice"));
}

/* ---- a file --------------------------------------------------------------------------------- */

static const struct {
    const char *name, *text, *error; /* NULL: taken, */
    size_t count;                    /* and holds so many blocks */
} files[] = {
    { "nothing", "", NULL, 0 },
    { "comments and blanks", "# ours\n\n  \t\n10.0.0.0/8 DE # Germany\r\n", NULL, 1 },
    { "all there is", "203.0.113.0/24 FR 48.9 2.3\n2001:db8::/32\tNL\ndefault DE -52.5 13", NULL,
      2 },
    { "one address", "192.0.2.1 SE", NULL, 1 },
    { "no country", "10.0.0.0/8", "line 1: a line has a block of addresses", 0 },
    { "half a place", "10.0.0.0/8 DE 5", "line 1: a line has a block of addresses", 0 },
    { "a country that is none", "\n10.0.0.0/8 UK", "line 2: 'UK' is no country's code", 0 },
    { "no block", "10.0.0.1/8 DE", "10.0.0.0/8 is meant", 0 },
    { "too far north", "10.0.0.0/8 DE 91 0", "'91' is no number of degrees from -90 to 90", 0 },
    { "too far east", "10.0.0.0/8 DE 0 180.1", "'180.1' is no number of degrees", 0 },
    { "not a number", "10.0.0.0/8 DE 0x10 nan", "'0x10' is no number", 0 },
    { "two points", "10.0.0.0/8 DE 1.2.3 4", "'1.2.3' is no number", 0 },
    { "only a sign", "10.0.0.0/8 DE - 4", "'-' is no number", 0 },
    { "more than there is", "10.0.0.0/8 DE 1 2 3", "'3' stands behind the longitude", 0 },
    { "two defaults", "default DE\ndefault FR", "line 2: default is there twice", 0 },
};

static void test_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct arena *arena = arena_new();
        struct where_file found = {}, again;
        struct err err = {};
        int r = where_file_parse(arena, slice_of(files[i].text), &found, &err);
        print_message("  %s: %s\n", files[i].name, r < 0 ? err.message : "taken");
        assert_int_equal(r, files[i].error ? ERR_BAD_INPUT : 0);
        if (files[i].error) {
            assert_non_null(strstr(err.message, files[i].error));
        } else {
            assert_int_equal(found.count, files[i].count);
            struct slice text = where_file_print(arena, &found);
            assert_int_equal(where_file_parse(arena, text, &again, &err), 0);
            assert_int_equal(again.count, found.count);
            assert_true(slice_equal(where_file_print(arena, &again), text));
            assert_int_equal(again.has_fallback, found.has_fallback);
        }
        arena_free(arena);
    }
    struct where_map *map;
    struct err err;
    char path[64];
    int fd = memfd_create("addresses", MFD_CLOEXEC);
    assert_true(fd >= 0 && write(fd, "127.66.0.0/16 CH\n", 17) == 17);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    assert_int_equal(where_file_open(path, file("flat.mmdb"), &map, &err), 0);
    close(fd);
    struct ip both = ip_of("127.66.0.9"), mmdb = ip_of("127.67.0.9");
    assert_int_equal(where_find(map, &both).country, country_number_of(SLICE("CH")));
    assert_int_equal(where_find(map, &mmdb).source, WHERE_MMDB);
    where_map_free(map);
    assert_int_equal(where_file_open(file("none"), NULL, &map, &err), ERR_NOT_FOUND);
    assert_int_equal(where_file_open(file("flat.mmdb"), NULL, &map, &err), ERR_BAD_INPUT);
}

/* ---- against a brute force ------------------------------------------------------------------ */

struct world {
    struct where_block blocks[BLOCKS_MAX];
    size_t count;
};

static const struct where_block *longest(const struct world *world, const struct ip *ip)
{
    const struct where_block *best = NULL;
    for (size_t i = 0; i < world->count; i++)
        if (ip_block_has(&world->blocks[i].block, ip) &&
            (!best || world->blocks[i].block.bits > best->block.bits))
            best = &world->blocks[i];
    return best;
}

static struct ip random_ip(const struct world *world)
{
    struct ip ip;
    for (size_t i = 0; i < 16; i++)
        ip.bytes[i] = (uint8_t)random_below(256);
    if (random_below(2)) {
        uint8_t four[4] = { 10, (uint8_t)random_below(4), (uint8_t)random_below(256),
                            (uint8_t)random_below(256) };
        ip = ip_from4(four);
    }
    if (world->count > 0 && random_below(4)) { /* near a block: in it, or one bit off its edge */
        const struct ip_block *near = &world->blocks[random_below((unsigned)world->count)].block;
        for (unsigned bit = 0; bit < near->bits; bit++) {
            uint8_t mask = (uint8_t)(0x80 >> bit % 8);
            ip.bytes[bit / 8] =
                (uint8_t)((ip.bytes[bit / 8] & ~mask) | (near->ip.bytes[bit / 8] & mask));
        }
        if (near->bits > 0 && random_below(3) == 0)
            ip.bytes[(near->bits - 1) / 8] ^= (uint8_t)(0x80 >> (near->bits - 1) % 8);
    }
    return ip;
}

static void world_make(struct world *world, size_t count)
{
    static const char *const codes[] = { "DE", "FR", "JP", "US" };
    world->count = 0;
    while (world->count < count) {
        unsigned bits = random_below(2) ? 96 + random_below(33) : random_below(129);
        struct ip ip = random_ip(world);
        struct where_block block = { .block = { ip_cut(&ip, bits), (uint8_t)bits },
                                     .country =
                                         country_number_of(slice_of(codes[random_below(4)])) };
        bool twice = false;
        for (size_t i = 0; i < world->count; i++)
            twice |= memcmp(&world->blocks[i].block, &block.block, sizeof block.block) == 0;
        if (!twice)
            world->blocks[world->count++] = block;
    }
}

/* Another address that shares `bits` leading bits. */
static struct ip sibling(const struct ip *ip, unsigned bits)
{
    struct ip other = random_ip(&(struct world){});
    for (unsigned bit = 0; bit < bits; bit++) {
        uint8_t mask = (uint8_t)(0x80 >> bit % 8);
        other.bytes[bit / 8] =
            (uint8_t)((other.bytes[bit / 8] & ~mask) | (ip->bytes[bit / 8] & mask));
    }
    return other;
}

/* Could one bit less do? What differs in the other half would begin at its first address, or at the
 * first of a block, or behind the last of one. */
static bool reaches_too_short(const struct world *world, const struct where_map *map,
                              const struct ip *ip, struct where where)
{
    struct ip other = *ip;
    if (where.bits == 0)
        return false;
    other.bytes[(where.bits - 1) / 8] ^= (uint8_t)(0x80 >> (where.bits - 1) % 8);
    struct ip_block half = { ip_cut(&other, where.bits), where.bits };
    if (where_find(map, &half.ip).country != where.country)
        return false;
    for (size_t i = 0; i < world->count; i++) {
        struct ip edge = world->blocks[i].block.ip;
        if (ip_block_has(&half, &edge) && where_find(map, &edge).country != where.country)
            return false;
        for (unsigned bit = world->blocks[i].block.bits; bit < 128; bit++)
            edge.bytes[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
        for (unsigned at = 16; at-- > 0 && ++edge.bytes[at] == 0;)
            ;
        if (ip_block_has(&half, &edge) && where_find(map, &edge).country != where.country)
            return false;
    }
    return true;
}

static void test_brute_force(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 60; seed++) {
        struct world world;
        struct where_map *map;
        struct err err;
        random_state = seed * UINT64_C(0x9e3779b97f4a7c15);
        world_make(&world, seed % 7 == 0 ? 0 : random_below(BLOCKS_MAX));
        assert_int_equal(where_map_open(world.blocks, world.count, NULL, NULL, &map, &err), 0);
        for (size_t i = 0; i < 500; i++) {
            struct ip ip = random_ip(&world);
            const struct where_block *wanted = longest(&world, &ip);
            struct where where = where_find(map, &ip);
            assert_int_equal(where.country, wanted ? wanted->country : COUNTRY_UNKNOWN);
            assert_int_equal(where.source, wanted ? WHERE_MAP : WHERE_UNKNOWN);
            for (size_t k = 0; k < 8; k++) {
                struct ip other = sibling(&ip, where.bits);
                assert_same(where_find(map, &other), where);
                assert_int_equal(where_find(map, &other).bits, where.bits);
            }
            assert_false(reaches_too_short(&world, map, &ip, where));
        }
        where_map_free(map);
    }
}

/* ---- MMDB ----------------------------------------------------------------------------------- */

static void world_read(struct world *world)
{
    char block[64], country[3];
    double latitude, longitude;
    FILE *in = fopen(file("blocks.txt"), "r");
    assert_non_null(in);
    world->count = 0;
    while (fscanf(in, "%63s %2s %lf %lf", block, country, &latitude, &longitude) == 4) {
        struct where_block *row = &world->blocks[world->count++];
        *row = block_of(block, country);
        if (!country_known(slice_of(country)))
            row->country = COUNTRY_UNKNOWN;
        row->located = true;
        row->latitude = latitude;
        row->longitude = longitude;
    }
    fclose(in);
    assert_true(world->count > 10);
}

static void test_mmdb(void **state)
{
    static const char *const names[] = { "flat.mmdb", "nested.mmdb", "four.mmdb" };
    struct world world;
    (void)state;
    world_read(&world);
    for (size_t n = 0; n < 3; n++) {
        struct where_map *map;
        struct err err = {};
        size_t found = 0;
        random_state = n + 1;
        if (where_map_open(NULL, 0, NULL, file(names[n]), &map, &err) < 0)
            fail_msg("%s: %s", names[n], err.message);
        for (size_t i = 0; i < 5000; i++) {
            struct ip ip = random_ip(&world);
            const struct where_block *wanted = longest(&world, &ip);
            struct where where = where_find(map, &ip);
            if (n == 2 && !ip_is4(&ip))
                wanted = NULL;
            assert_int_equal(where.country, wanted ? wanted->country : COUNTRY_UNKNOWN);
            assert_int_equal(where.located, wanted != NULL);
            if (wanted)
                assert_true(where.latitude == wanted->latitude &&
                            where.longitude == wanted->longitude);
            found += wanted != NULL;
            for (size_t k = 0; k < 8; k++) {
                struct ip other = sibling(&ip, where.bits);
                assert_same(where_find(map, &other), where);
            }
        }
        print_message("  %s: %zu of 5000 known\n", names[n], found);
        assert_true(found > 100);
        where_map_free(map);
    }
}

/* Of which only the countries are known: each address is in the midst of its own. */
static void test_mmdb_of_countries(void **state)
{
    struct world world;
    struct where_map *map;
    struct err err = {};
    size_t found = 0;
    (void)state;
    world_read(&world);
    random_state = 5;
    if (where_map_open(NULL, 0, NULL, file("countries.mmdb"), &map, &err) < 0)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < 5000; i++) {
        struct ip ip = random_ip(&world);
        const struct where_block *wanted = longest(&world, &ip);
        const struct geo_midst *midst = wanted ? geo_midst_of(wanted->country) : NULL;
        struct where where = where_find(map, &ip);
        assert_int_equal(where.country, wanted ? wanted->country : COUNTRY_UNKNOWN);
        assert_int_equal(where.located, midst != NULL);
        assert_int_equal(where.midst, midst != NULL);
        if (midst)
            assert_true(where.latitude == midst->latitude && where.longitude == midst->longitude);
        found += midst != NULL;
        for (size_t k = 0; k < 8; k++) { /* the scope of an answer goes by this */
            struct ip other = sibling(&ip, where.bits);
            assert_same(where_find(map, &other), where);
        }
    }
    assert_true(found > 100);
    where_map_free(map);
}

/* It has no country's code, and a place. What the operator says of unknown ones stands. */
static void test_mmdb_of_kosovo(void **state)
{
    static const struct {
        const char *address, *country;
        bool located;
        double latitude, longitude;
        const char *with_default;
    } found[] = {
        { "10.0.0.1", "DE", true, 52.5, 13.4, "DE" },
        { "10.1.0.1", "", true, 42.6, 20.9, "AT" },
        { "10.2.0.1", "", true, 42.2, 20.7, "" }, /* the file's own place: it knows the address */
        { "10.3.0.1", "", false, 0, 0, "AT" },
    };
    const struct where_block fallback = { .country = country_number_of(SLICE("AT")) };
    struct where_map *map;
    struct err err = {};
    (void)state;
    for (size_t i = 0; i < 2 * (sizeof found / sizeof *found); i++) {
        bool falls = i >= sizeof found / sizeof *found;
        size_t row = i % (sizeof found / sizeof *found);
        if (where_map_open(NULL, 0, falls ? &fallback : NULL, file("kosovo.mmdb"), &map, &err) < 0)
            fail_msg("%s", err.message);
        struct ip ip = ip_of(found[row].address);
        struct where where = where_find(map, &ip);
        print_message("  %s%s\n", found[row].address, falls ? ", with a default" : "");
        const char *country = falls ? found[row].with_default : found[row].country;
        assert_int_equal(where.country, country_number_of(slice_of(country)));
        assert_int_equal(where.located, found[row].located);
        assert_true(where.latitude == found[row].latitude &&
                    where.longitude == found[row].longitude);
        assert_false(where.midst);
        where_map_free(map);
    }
}

static void test_mmdb_age(void **state)
{
    static const struct {
        int64_t day;
        const char *warning;
    } ages[] = {
        { 0, NULL },
        { 180, NULL },
        { 181, "made 181 days ago" },
        { -1, NULL },
        { -2, "made 2 days in the future: is this machine's clock right?" },
    };
    struct mmdb *mmdb;
    struct err err;
    char text[200];
    (void)state;
    assert_int_equal(mmdb_open(file("flat.mmdb"), &mmdb, &err), 0);
    assert_string_equal(mmdb_type(mmdb), "Perigee-Test");
    for (size_t i = 0; i < sizeof ages / sizeof *ages; i++) {
        int64_t now = 1795824000 + ages[i].day * 86'400;
        const char *warning = mmdb_warning(mmdb, now, text, sizeof text);
        assert_int_equal(mmdb_age_days(mmdb, now), ages[i].day);
        if (ages[i].warning)
            assert_non_null(strstr(warning, ages[i].warning));
        else
            assert_null(warning);
    }
    mmdb_free(mmdb);
}

/* ---- what is no MMDB ------------------------------------------------------------------------ */

static uint8_t *bytes_of(const char *name, size_t *size)
{
    FILE *in = fopen(file(name), "rb");
    uint8_t *data = malloc(1 << 16);
    assert_true(in && data);
    *size = fread(data, 1, 1 << 16, in);
    fclose(in);
    return data;
}

static int open_bytes(const uint8_t *data, size_t size, struct mmdb **ret, struct err *err)
{
    char path[64];
    int fd = memfd_create("mmdb", MFD_CLOEXEC);
    assert_true(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int r = mmdb_open(path, ret, err);
    close(fd);
    return r;
}

static void test_bad_files(void **state)
{
    struct mmdb *mmdb;
    struct err err;
    size_t size;
    (void)state;
    assert_int_equal(mmdb_open(file("no such.mmdb"), &mmdb, &err), ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "No such file"));
    assert_int_equal(mmdb_open(file(""), &mmdb, &err), ERR_BAD_INPUT); /* a folder */
    assert_int_equal(mmdb_open(file("blocks.txt"), &mmdb, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "is no MMDB"));
    assert_int_equal(mmdb_open(file("numbers.mmdb"), &mmdb, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "('Perigee-Test') name no countries"));
    assert_int_equal(open_bytes((const uint8_t *)"", 0, &mmdb, &err), ERR_BAD_INPUT);

    uint8_t *data = bytes_of("flat.mmdb", &size);
    for (size_t cut = 0; cut < size; cut += 17) /* the metadata lies at the end */
        assert_int_equal(open_bytes(data, cut, &mmdb, &err), ERR_BAD_INPUT);
    for (size_t i = 0; i < 7; i++)
        data[700 + i] = 0xff; /* a node that points outside */
    assert_int_equal(open_bytes(data, size, &mmdb, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "it is damaged, at node 100 of"));
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_order_of_sources),
        cmocka_unit_test(test_twice),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_brute_force),
        cmocka_unit_test(test_mmdb),
        cmocka_unit_test(test_mmdb_of_countries),
        cmocka_unit_test(test_mmdb_of_kosovo),
        cmocka_unit_test(test_mmdb_age),
        cmocka_unit_test(test_bad_files),
    };
    return cmocka_run_group_tests_name("where", tests, NULL, NULL);
}
