/* SPDX-License-Identifier: Apache-2.0 */
#include "geo/cities.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/auto.h"
#include "base/err.h"

#define DEGREE 100'000 /* five decimals */

struct cities {
    char *bytes;
    struct city *list;
    size_t count;
};

/* Digits, a point and at most five more, as hundred-thousandths: exact, whatever the locale. */
static bool degrees_parse(struct slice text, int limit, double *ret)
{
    int64_t whole = 0;
    int decimals = -1;
    bool below = text.size > 0 && text.data[0] == '-';
    size_t digits = 0;

    for (size_t i = below; i < text.size; i++) {
        char c = text.data[i];
        if (c == '.' && decimals < 0 && digits > 0) {
            decimals = 0;
        } else if (c >= '0' && c <= '9' && decimals < 5 && digits < 8) {
            whole = whole * 10 + (c - '0');
            digits++;
            decimals += decimals >= 0;
        } else {
            return false;
        }
    }
    if (digits == 0 || decimals == 0)
        return false;
    for (int i = decimals < 0 ? 0 : decimals; i < 5; i++)
        whole *= 10;
    if (whole > (int64_t)limit * DEGREE)
        return false;
    *ret = (double)(below ? -whole : whole) / DEGREE;
    return true;
}

static bool ascii(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] < ' ' || text.data[i] > '~')
            return false;
    return true;
}

static const char *line_parse(struct slice line, struct city *ret)
{
    struct slice fields[6];
    uint64_t population;
    size_t count = 0;

    while (count < 6 && line.data)
        fields[count++] = slice_cut(&line, '\t');
    if (count < 6 || line.data)
        return "it has not six fields with tabs between them";
    ret->name = fields[0];
    ret->plain = fields[1].size ? fields[1] : fields[0];
    ret->country = country_number_of(fields[2]);
    if (ret->name.size == 0 || ret->name.size > CITY_NAME_BYTES_MAX || !utf8_valid(ret->name))
        return "the name is empty, longer than 200 bytes, or no UTF-8";
    if (ret->plain.size > CITY_NAME_BYTES_MAX || (fields[1].size && !ascii(ret->plain)))
        return "the second field is the name in ASCII, or empty";
    if (ret->country == COUNTRY_UNKNOWN)
        return "the country is two capitals";
    if (!degrees_parse(fields[3], 90, &ret->latitude))
        return "the latitude is between -90 and 90 with at most five decimals";
    if (!degrees_parse(fields[4], 180, &ret->longitude))
        return "the longitude is between -180 and 180 with at most five decimals";
    if (!slice_u64(fields[5], &population) || population == 0 || population > UINT32_MAX)
        return "the population is a whole number above 0";
    ret->population = (uint32_t)population;
    return NULL;
}

static int lines_parse(struct cities *cities, struct slice rest, const char *name, struct err *err)
{
    size_t room = 0;

    for (size_t number = 1; rest.size > 0; number++) {
        struct slice line = slice_cut(&rest, '\n');
        struct city city = {};

        if (line.size == 0 || line.data[0] == '#')
            continue;
        const char *wrong = line_parse(line, &city);
        if (!wrong && cities->count == CITIES_MAX)
            wrong = "there are more than a million cities";
        if (!wrong && cities->count > 0 &&
            cities->list[cities->count - 1].population < city.population)
            wrong = "it has more people than the one before it; the most populous come first";
        if (wrong)
            return err_set(err, ERR_BAD_INPUT, "%s: line %zu: %s", name, number, wrong);
        if (cities->count == room) {
            room = room ? room * 2 : 1024;
            cities->list = mem_resize(cities->list, room, sizeof *cities->list);
        }
        cities->list[cities->count++] = city;
    }
    if (cities->count == 0)
        return err_set(err, ERR_BAD_INPUT, "%s: it names no city", name);
    return 0;
}

/* Takes `bytes`. */
static int parse_own(char *bytes, size_t size, const char *name, struct cities **ret,
                     struct err *err)
{
    struct cities *cities = mem_alloc(sizeof *cities);
    *cities = (struct cities){ .bytes = bytes };
    int r = lines_parse(cities, (struct slice){ bytes, size }, name, err);
    if (r < 0) {
        cities_free(cities);
        return r;
    }
    *ret = cities;
    return 0;
}

int cities_parse(struct slice bytes, const char *name, struct cities **ret, struct err *err)
{
    if (bytes.size > CITIES_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "%s: more than 64 MiB of cities", name);
    char *own = mem_alloc(bytes.size + 1);
    if (bytes.size)
        memcpy(own, bytes.data, bytes.size);
    return parse_own(own, bytes.size, name, ret, err);
}

/* What is read short (a disk that fails, a file cut while it is read) is seen by its last line. */
static int file_read(FILE *file, const char *path, char **ret, size_t *ret_bytes, struct err *err)
{
    struct stat stat;

    if (fstat(fileno(file), &stat) < 0 || !S_ISREG(stat.st_mode))
        return err_set(err, ERR_BAD_INPUT, "'%s' is no file", ERR_TEXT(path));
    if (stat.st_size > CITIES_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "'%s': more than 64 MiB of cities", ERR_TEXT(path));
    *ret = mem_alloc((size_t)stat.st_size + 1);
    *ret_bytes = fread(*ret, 1, (size_t)stat.st_size, file);
    return 0;
}

int cities_open(const char *path, struct cities **ret, struct err *err)
{
    FILE *file = fopen(path, "re");
    char *bytes = NULL;
    size_t size = 0;

    if (!file)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_BAD_INPUT, "'%s': %s",
                       ERR_TEXT(path), strerror(errno));
    int r = file_read(file, path, &bytes, &size, err);
    (void)fclose(file);
    return r < 0 ? r : parse_own(bytes, size, path, ret, err);
}

void cities_free(struct cities *cities)
{
    if (!cities)
        return;
    free(cities->list);
    free(cities->bytes);
    free(cities);
}

size_t cities_count(const struct cities *cities)
{
    return cities->count;
}

const struct city *cities_at(const struct cities *cities, size_t index)
{
    return &cities->list[index];
}

/* "Paris, US" into its parts; a comma not followed by a country's code belongs to the name. */
static void name_split(struct slice *name, country_number *ret_country)
{
    const char *comma = name->size ? memrchr(name->data, ',', name->size) : NULL;

    *ret_country = COUNTRY_UNKNOWN;
    *name = slice_trim(*name);
    if (!comma)
        return;
    struct slice code =
        slice_trim((struct slice){ comma + 1, (size_t)(name->data + name->size - comma - 1) });
    *ret_country = country_number_of(code);
    if (*ret_country != COUNTRY_UNKNOWN)
        *name = slice_trim((struct slice){ name->data, (size_t)(comma - name->data) });
}

/* `begins`: the name goes on with a space. */
static bool called(struct slice name, struct slice wanted, bool begins)
{
    if (begins) {
        if (name.size <= wanted.size || name.data[wanted.size] != ' ')
            return false;
        name.size = wanted.size;
    }
    return slice_equal_nocase(name, wanted);
}

static const struct city *find(const struct cities *cities, struct slice name,
                               country_number country)
{
    if (name.size == 0)
        return NULL;
    for (int begins = 0; begins < 2; begins++) {
        for (size_t i = 0; i < cities->count; i++) {
            const struct city *city = &cities->list[i];
            if (country != COUNTRY_UNKNOWN && country != city->country)
                continue;
            if (called(city->name, name, begins) || called(city->plain, name, begins))
                return city;
        }
    }
    return NULL;
}

const struct city *cities_find(const struct cities *cities, struct slice name)
{
    country_number country;

    name_split(&name, &country);
    return find(cities, name, country);
}

int cities_look_up(const struct cities *cities, struct slice name, const struct city **ret,
                   struct err *err)
{
    struct slice bare = name;
    country_number country;
    char code[3];

    name_split(&bare, &country);
    const struct city *city = find(cities, bare, country);
    if (city) {
        *ret = city;
        return 0;
    }
    city = country == COUNTRY_UNKNOWN ? NULL : find(cities, bare, COUNTRY_UNKNOWN);
    if (!city)
        return err_set(err, ERR_NOT_FOUND, "no city is called '%s'", ERR_SLICE(bare));
    country_code_of(city->country, code);
    return err_set(err, ERR_NOT_FOUND, "no city '%s': the largest of that name is in %s",
                   ERR_SLICE(name), code);
}
