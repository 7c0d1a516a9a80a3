/* SPDX-License-Identifier: Apache-2.0 */
#include "geo/sets.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "base/yaml.h"
#include "geo/country.h"

/*
 * ISO 3166-1 gives codes of their own to regions of a member state that are far away; address data
 * uses those codes, and the law of the Union holds there all the same: AX is Finland's, the others
 * are France's (Article 355(1) TFEU: GF, GP, MF, MQ, RE, YT). What is only associated (Article
 * 355(2): BL, GL, NC, PF ...), and Svalbard (SJ), is in neither set.
 */
static const struct {
    const char *name, *countries, *source, *date;
} built_in[] = {
    { "EU",
      "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK "
      "AX GF GP MF MQ RE YT",
      "Treaty on European Union, Article 52, and on the Functioning of the European Union, "
      "Article 355, after the withdrawal of the United Kingdom",
      "2020-02-01" },
    { "EEA",
      "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IS IT LI LT LU LV MT NL NO PL PT RO SE SI SK "
      "AX GF GP MF MQ RE YT",
      "Agreement on the European Economic Area, Article 126 and Protocol 40, after the withdrawal "
      "of the United Kingdom",
      "2020-02-01" },
};
enum { BUILT_IN_COUNT = sizeof built_in / sizeof *built_in };

static void built_in_add(struct geo_set *items)
{
    for (size_t i = 0; i < BUILT_IN_COUNT; i++) {
        struct slice rest = slice_of(built_in[i].countries);
        items[i] = (struct geo_set){ .name = slice_of(built_in[i].name),
                                     .source = slice_of(built_in[i].source),
                                     .date = slice_of(built_in[i].date) };
        while (rest.data)
            countries_add(&items[i].countries, country_number_of(slice_cut(&rest, ' ')));
    }
}

/* ---- finding -------------------------------------------------------------------------------- */

const struct geo_set *geo_sets_get(const struct geo_sets *sets, struct slice name)
{
    for (size_t i = 0; i < sets->count; i++)
        if (slice_equal(sets->items[i].name, name))
            return &sets->items[i];
    return NULL;
}

/* The set whose name is one typing error away. */
static const struct geo_set *nearest(const struct geo_sets *sets, struct slice name)
{
    for (size_t i = 0; name.size > 2 && i < sets->count; i++)
        if (slice_equal_nocase(sets->items[i].name, name) ||
            json_distance(sets->items[i].name, name, 1) <= 1)
            return &sets->items[i];
    return NULL;
}

int geo_sets_find(const struct geo_sets *sets, struct slice name, struct countries *ret,
                  struct err *err)
{
    const struct geo_set *set = geo_sets_get(sets, name);
    if (set) {
        *ret = set->countries;
        return 0;
    }
    if (name.size <= 2) {
        int r = country_check(name, err);
        if (r < 0)
            return r;
        *ret = (struct countries){};
        countries_add(ret, country_number_of(name));
        return 0;
    }
    set = nearest(sets, name);
    if (set)
        return err_set(err, ERR_BAD_INPUT, "no set of countries is named '%s'; did you mean '%s'?",
                       ERR_SLICE(name), ERR_SLICE(set->name));
    return err_set(err, ERR_BAD_INPUT,
                   "'%s' is no country's code (ISO 3166-1) and no set of countries",
                   ERR_SLICE(name));
}

/* ---- the operator's file -------------------------------------------------------------------- */

static int name_check(const struct geo_sets *sets, struct slice name, struct err *err)
{
    const struct geo_set *other = geo_sets_get(sets, name);
    if (other)
        return err_set(err, ERR_BAD_INPUT, "the set '%s' is %s", ERR_SLICE(name),
                       other < sets->items + BUILT_IN_COUNT ? "built in" : "there twice");
    bool good = name.size >= 3 && name.size <= GEO_SET_NAME_BYTES && name.data[0] >= 'A' &&
                name.data[0] <= 'Z' && name.data[name.size - 1] != '-';
    for (size_t i = 0; i < name.size && good; i++)
        good = (name.data[i] >= 'A' && name.data[i] <= 'Z') ||
               (name.data[i] >= '0' && name.data[i] <= '9') ||
               (name.data[i] == '-' && name.data[i - 1] != '-');
    if (!good)
        return err_set(err, ERR_BAD_INPUT,
                       "the name '%s' is not 3 to %d capitals, digits and single hyphens, "
                       "beginning with a letter",
                       ERR_SLICE(name), GEO_SET_NAME_BYTES);
    return 0;
}

static bool is_date(struct slice text)
{
    static const char form[] = "dddd-dd-dd";
    unsigned parts[3] = {}, part = 0;
    if (text.size != sizeof form - 1)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        if (form[i] == 'd' ? text.data[i] < '0' || text.data[i] > '9' : text.data[i] != '-')
            return false;
        if (form[i] == 'd')
            parts[part] = parts[part] * 10 + (unsigned)(text.data[i] - '0');
        else
            part++;
    }
    return parts[0] >= 1900 && parts[1] >= 1 && parts[1] <= 12 && parts[2] >= 1 && parts[2] <= 31;
}

static int set_read(struct arena *arena, const struct geo_sets *sets, yyjson_val *tree,
                    struct geo_set *ret, struct err *err)
{
    static const char *const known[] = { "name", "countries", "source", "date", NULL };
    struct slice name, source, date;
    struct geo_set set = {};
    yyjson_val *list;
    yyjson_arr_iter iter;
    int r;

    if (!yyjson_is_obj(tree))
        return err_set(err, ERR_BAD_INPUT, "must be an object, not %s", json_kind(tree));
    if ((r = json_check_keys(tree, known, err)) < 0 ||
        (r = json_get_string(tree, "name", JSON_REQUIRED, &name, err)) < 0 ||
        (r = name_check(sets, name, err)) < 0 ||
        (r = json_get_array(tree, "countries", JSON_REQUIRED, &list, err)) < 0 ||
        (r = json_get_string(tree, "source", JSON_REQUIRED, &source, err)) < 0 ||
        (r = json_get_string(tree, "date", JSON_REQUIRED, &date, err)) < 0)
        return r;
    if (source.size == 0)
        return err_set(err, ERR_BAD_INPUT, "'source' is empty: say who says so");
    if (!is_date(date))
        return err_set(err, ERR_BAD_INPUT, "'date' is '%s', not a day such as 2026-11-28",
                       ERR_SLICE(date));
    yyjson_arr_iter_init(list, &iter);
    for (yyjson_val *item; (item = yyjson_arr_iter_next(&iter));) {
        struct countries one;
        if (!yyjson_is_str(item))
            return err_set(err, ERR_BAD_INPUT, "'countries' must hold strings, not %s",
                           json_kind(item));
        r = geo_sets_find(sets, json_slice(item), &one, err);
        if (r < 0)
            return err_wrap(err, "'countries'");
        countries_unite(&set.countries, &one);
    }
    if (countries_empty(&set.countries))
        return err_set(err, ERR_BAD_INPUT, "'countries' is empty");
    set.name = arena_copy(arena, name);
    set.source = arena_copy(arena, source);
    set.date = arena_copy(arena, date);
    *ret = set;
    return 0;
}

static int file_read(struct arena *arena, struct slice text, struct geo_set *items, size_t *count,
                     struct err *err)
{
    static const char *const known[] = { "sets", NULL };
    struct yaml_documents documents;
    yyjson_val *list;
    yyjson_arr_iter iter;
    int r = yaml_parse(arena, text, NULL, &documents, err);

    if (r < 0)
        return r;
    if (documents.count != 1 || !yyjson_is_obj(documents.items[0].root))
        return err_set(err, ERR_BAD_INPUT, "it is not one object with 'sets' in it");
    if ((r = json_check_keys(documents.items[0].root, known, err)) < 0 ||
        (r = json_get_array(documents.items[0].root, "sets", JSON_REQUIRED, &list, err)) < 0)
        return r;
    yyjson_arr_iter_init(list, &iter);
    for (yyjson_val *item; (item = yyjson_arr_iter_next(&iter)); (*count)++) {
        const struct geo_sets before = { items, *count };
        if (*count == GEO_SETS_MAX)
            return err_set(err, ERR_TOO_LARGE, "more than %d sets", GEO_SETS_MAX - BUILT_IN_COUNT);
        r = set_read(arena, &before, item, &items[*count], err);
        if (r < 0)
            return err_wrap(err, "line %u: set %zu", yaml_line(&documents.items[0], item),
                            *count - BUILT_IN_COUNT + 1);
    }
    return 0;
}

int geo_sets_parse(struct arena *arena, struct slice text, struct geo_sets *ret, struct err *err)
{
    struct geo_set *items = ARENA_ARRAY(arena, struct geo_set, GEO_SETS_MAX);
    size_t count = BUILT_IN_COUNT;

    built_in_add(items);
    int r = text.size ? file_read(arena, text, items, &count, err) : 0;
    if (r < 0)
        return r;
    *ret = (struct geo_sets){ items, count };
    return 0;
}

int geo_sets_environment(struct arena *arena, struct geo_sets *ret, struct err *err)
{
    const char *text = getenv(GEO_SETS_ENVIRONMENT);
    int r = geo_sets_parse(arena, slice_of(text), ret, err);
    if (r < 0)
        (void)!geo_sets_parse(arena, (struct slice){}, ret, NULL);
    return r;
}

int geo_sets_lookup(struct slice name, void *data, struct countries *ret, struct err *err)
{
    return geo_sets_find(data, name, ret, err);
}

/* ---- comparing ------------------------------------------------------------------------------ */

static int by_name(const void *a, const void *b)
{
    return slice_order((*(const struct geo_set *const *)a)->name,
                       (*(const struct geo_set *const *)b)->name);
}

struct slice geo_sets_text(struct arena *arena, const struct geo_sets *sets)
{
    const struct geo_set **sorted = ARENA_ARRAY(arena, const struct geo_set *, sets->count + 1);
    size_t room = 1;
    for (size_t i = 0; i < sets->count; i++) {
        sorted[i] = &sets->items[i];
        room += sets->items[i].name.size + 2 + (size_t)3 * COUNTRY_NUMBER_MAX;
    }
    qsort((void *)sorted, sets->count, sizeof *sorted, by_name);
    char *text = arena_alloc(arena, room), *at = text;
    for (size_t i = 0; i < sets->count; i++) {
        at += snprintf(at, room - (size_t)(at - text), "%.*s=", SLICE_FMT(sorted[i]->name));
        for (unsigned country = 1; country <= COUNTRY_NUMBER_MAX; country++) {
            if (!countries_has(&sorted[i]->countries, (country_number)country))
                continue;
            country_code_of((country_number)country, at);
            at += 2;
            *at++ = ' ';
        }
        at[-1] = ';';
    }
    return (struct slice){ text, (size_t)(at - text) };
}
