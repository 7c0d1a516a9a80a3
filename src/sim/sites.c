/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/sites.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "geo/cities.h"
#include "policy/rtt.h"

enum column { NAME, CITY, COUNTRY, LATITUDE, LONGITUDE, REGION, PRICE, COLUMNS };
enum { NUMBER_BYTES = 32 };

static const struct {
    const char *name;
    enum column column;
} columns[] = {
    { "iata", NAME },         { "name", NAME },           { "city", CITY },
    { "country", COUNTRY },   { "lat", LATITUDE },        { "lon", LONGITUDE },
    { "latitude", LATITUDE }, { "longitude", LONGITUDE }, { "region", REGION },
    { "price", PRICE },
};

struct reader {
    struct slice rest;
    size_t line; /* of the record that is read, from 1 */
    size_t breaks;
    struct slice fields[SITES_COLUMNS_MAX];
    size_t count;
};

/* A field in quotes, its doubled quotes made one where it lies: the text is our own copy. */
static const char *quoted(struct reader *reader, struct slice *ret)
{
    struct slice rest = reader->rest;
    char *text = (char *)(uintptr_t)rest.data;
    size_t size = 0, at = 1;

    for (;; at++) {
        if (at >= rest.size)
            return "a quote is not closed";
        if (rest.data[at] == '"') {
            if (at + 1 >= rest.size || rest.data[at + 1] != '"')
                break;
            at++;
        }
        reader->breaks += rest.data[at] == '\n';
        text[size++] = rest.data[at];
    }
    at++;
    if (at < rest.size && rest.data[at] != ',' && rest.data[at] != '\n' && rest.data[at] != '\r')
        return "text stands behind a closing quote";
    *ret = (struct slice){ text, size };
    reader->rest = (struct slice){ rest.data + at, rest.size - at };
    return NULL;
}

static void plain(struct reader *reader, struct slice *ret)
{
    struct slice rest = reader->rest;
    size_t at = 0;

    while (at < rest.size && rest.data[at] != ',' && rest.data[at] != '\n' && rest.data[at] != '\r')
        at++;
    *ret = slice_trim((struct slice){ rest.data, at });
    reader->rest = (struct slice){ rest.data + at, rest.size - at };
}

/* One record; NULL: it is in `fields`. */
static const char *record(struct reader *reader)
{
    reader->line += 1 + reader->breaks;
    reader->breaks = 0;
    reader->count = 0;
    for (;;) {
        if (reader->count == SITES_COLUMNS_MAX)
            return "more than 64 columns";
        struct slice *field = &reader->fields[reader->count++];
        if (reader->rest.size && reader->rest.data[0] == '"') {
            const char *wrong = quoted(reader, field);
            if (wrong)
                return wrong;
        } else {
            plain(reader, field);
        }
        if (reader->rest.size && reader->rest.data[0] == '\r')
            reader->rest = (struct slice){ reader->rest.data + 1, reader->rest.size - 1 };
        if (reader->rest.size == 0)
            return NULL;
        char end = reader->rest.data[0];
        if (end != ',' && end != '\n')
            return "a carriage return stands in the line";
        reader->rest = (struct slice){ reader->rest.data + 1, reader->rest.size - 1 };
        if (end == '\n')
            return NULL;
    }
}

static bool number(struct slice text, double *ret)
{
    char buffer[NUMBER_BYTES], *end;

    if (text.size == 0 || text.size >= sizeof buffer)
        return false;
    memcpy(buffer, text.data, text.size);
    buffer[text.size] = '\0';
    *ret = strtod(buffer, &end);
    return *end == '\0' && isfinite(*ret);
}

static const char *place(const struct slice *cell, const struct cities *cities, struct site *site)
{
    const struct city *city;
    char name[CITY_NAME_BYTES_MAX + 4], code[3];

    if (cell[LATITUDE].size || cell[LONGITUDE].size) {
        if (!number(cell[LATITUDE], &site->latitude) ||
            !number(cell[LONGITUDE], &site->longitude) ||
            !spot_valid(site->latitude, site->longitude))
            return "lat is between -90 and 90, lon between -180 and 180";
        return NULL;
    }
    if (!cities)
        return "it has no coordinates";
    if (site->city.size > CITY_NAME_BYTES_MAX)
        return "the city's name is too long";
    country_code_of(site->country, code);
    int size = snprintf(name, sizeof name, "%.*s,%s", SLICE_FMT(site->city), code);
    city = cities_find(cities, (struct slice){ name, (size_t)size });
    if (!city)
        return "it has no coordinates, and no such city is known";
    site->latitude = city->latitude;
    site->longitude = city->longitude;
    return NULL;
}

static const char *site_of(struct reader *reader, const size_t *at, const struct cities *cities,
                           struct site *ret)
{
    struct slice cell[COLUMNS] = {};

    for (size_t i = 0; i < COLUMNS; i++)
        if (at[i] < reader->count)
            cell[i] = reader->fields[at[i]];
    *ret = (struct site){ .name = cell[NAME].size ? cell[NAME] : cell[CITY],
                          .city = cell[CITY].size ? cell[CITY] : cell[NAME],
                          .region = cell[REGION],
                          .price = 1,
                          .country = country_number_of(cell[COUNTRY]) };
    if (ret->name.size == 0)
        return "it has neither a name nor a city";
    if (!utf8_valid(ret->name) || !utf8_valid(ret->city) || !utf8_valid(ret->region))
        return "it is no UTF-8";
    if (ret->country == COUNTRY_UNKNOWN)
        return "country is two capitals";
    if (cell[PRICE].size && (!number(cell[PRICE], &ret->price) || ret->price < 0))
        return "price is a number, 0 or above";
    return place(cell, cities, ret);
}

static const char *header(struct reader *reader, size_t *ret_at)
{
    const char *wrong = record(reader);

    for (size_t i = 0; i < COLUMNS; i++)
        ret_at[i] = SIZE_MAX;
    for (size_t i = 0; !wrong && i < reader->count; i++)
        for (size_t k = 0; k < sizeof columns / sizeof *columns; k++)
            if (slice_equal_nocase(reader->fields[i], slice_of(columns[k].name)) &&
                ret_at[columns[k].column] == SIZE_MAX)
                ret_at[columns[k].column] = i;
    if (wrong)
        return wrong;
    if (ret_at[NAME] == SIZE_MAX && ret_at[CITY] == SIZE_MAX)
        return "the first line names no column 'name', 'iata' or 'city'";
    return ret_at[COUNTRY] == SIZE_MAX ? "the first line names no column 'country'" : NULL;
}

static bool named(const struct site *list, size_t count, struct slice name)
{
    for (size_t i = 0; i < count; i++)
        if (slice_equal_nocase(list[i].name, name))
            return true;
    return false;
}

int sites_parse(struct arena *arena, struct slice text, const struct cities *cities,
                struct sites *ret, struct err *err)
{
    struct reader *reader = ARENA_NEW(arena, struct reader);
    struct site *list = ARENA_ARRAY(arena, struct site, SITES_MAX);
    size_t at[COLUMNS], count = 0;

    *reader = (struct reader){ .rest = arena_copy(arena, text) };
    const char *wrong = header(reader, at);
    while (!wrong && reader->rest.size) {
        struct site site;
        wrong = record(reader);
        if (!wrong && reader->count == 1 && reader->fields[0].size == 0)
            continue;
        if (!wrong)
            wrong = site_of(reader, at, cities, &site);
        if (!wrong && count == SITES_MAX)
            wrong = "there are more than 1024 sites";
        if (!wrong && named(list, count, site.name))
            wrong = "a site of that name stands before it";
        if (!wrong)
            list[count++] = site;
    }
    if (wrong)
        return err_set(err, ERR_BAD_INPUT, "line %zu: %s", reader->line, wrong);
    if (count == 0)
        return err_set(err, ERR_BAD_INPUT, "it names no site");
    *ret = (struct sites){ list, count };
    return 0;
}
