/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/residency.h"

#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "spec/names.h"

/* The lists of a rule, in the order of printing; the first two are its own alone. */
#define PLACES(key)                                                                                \
    {                                                                                              \
#key, offsetof(struct spec_residency_rule, key)                                            \
    }
static const struct {
    const char *key;
    size_t offset;
} lists[] = {
    PLACES(clients), PLACES(process_in), PLACES(transit), PLACES(logs), PLACES(cache),
};
enum { CLIENTS, PROCESS_IN, TRANSIT, LIST_COUNT = sizeof lists / sizeof *lists };

static const char *const rule_keys[] = {
    "clients", "process_in", "transit", "logs", "cache", NULL
};
static const char *const short_keys[] = { "process_in", "transit",        "logs", "cache",
                                          "rules",      "unknown_client", NULL };

struct reader {
    struct arena *arena;
    yyjson_val **where;
    struct err *err;
};

static struct spec_places *places_of(struct spec_residency_rule *rule, size_t list)
{
    return (struct spec_places *)(void *)((char *)rule + lists[list].offset);
}

static const struct spec_places *places_in(const struct spec_residency_rule *rule, size_t list)
{
    return (const struct spec_places *)(const void *)((const char *)rule + lists[list].offset);
}

/* ---- reading -------------------------------------------------------------------------------- */

static int names_read(const struct reader *reader, yyjson_val *value, struct spec_strings *ret)
{
    size_t count = yyjson_arr_size(value), known = 0;
    if (count == 0)
        return err_set(reader->err, ERR_BAD_INPUT,
                       "the list is empty: name a country or a set of them");
    if (count > SPEC_PLACES_MAX)
        return err_set(reader->err, ERR_BAD_INPUT, "%zu entries are above %d", count,
                       SPEC_PLACES_MAX);
    struct slice *items = ARENA_ARRAY(reader->arena, struct slice, count);
    yyjson_arr_iter iter;
    yyjson_arr_iter_init(value, &iter);
    for (yyjson_val *at; (at = yyjson_arr_iter_next(&iter));) {
        struct slice name = json_slice(at);
        *reader->where = at;
        if (!yyjson_is_str(at))
            return err_set(reader->err, ERR_BAD_INPUT, "must hold strings, not %s%s", json_kind(at),
                           yyjson_is_bool(at) ? "; quote it" : "");
        int r = spec_check_countries(name, reader->err);
        if (r < 0)
            return r;
        for (size_t i = 0; i < known; i++)
            if (slice_equal(items[i], name))
                return err_set(reader->err, ERR_BAD_INPUT, "'%s' is there twice", ERR_SLICE(name));
        items[known++] = arena_copy(reader->arena, name);
    }
    *ret = (struct spec_strings){ items, known };
    return 0;
}

static int places_read(const struct reader *reader, yyjson_val *value, size_t list,
                       struct spec_places *ret)
{
    struct spec_places places = { .kind = SPEC_PLACES_LIST };
    struct slice word = json_slice(value);
    const char *words = list == CLIENTS ? "a list (as in [EU, CH]) or any"
                                        : "a list (as in [EU, CH]), any or "
                                          "same-country";

    *reader->where = value;
    if (yyjson_is_str(value) && slice_is(word, "any"))
        places.kind = SPEC_PLACES_ANY;
    else if (yyjson_is_str(value) && slice_is(word, "same-country") && list != CLIENTS)
        places.kind = SPEC_PLACES_SAME_COUNTRY;
    else if (!yyjson_is_arr(value))
        return yyjson_is_str(value)
                   ? err_set(reader->err, ERR_BAD_INPUT, "'%s' is none of its words: %s",
                             ERR_SLICE(word), words)
                   : err_set(reader->err, ERR_BAD_INPUT, "must be %s, not %s", words,
                             json_kind(value));
    else {
        int r = names_read(reader, value, &places.names);
        if (r < 0)
            return r;
    }
    *ret = places;
    return 0;
}

/* The lists that stand in `object`, from `first` on; `path` is for errors. */
static int lists_read(const struct reader *reader, yyjson_val *object, size_t first,
                      const char *path, struct spec_residency_rule *ret)
{
    for (size_t i = first; i < LIST_COUNT; i++) {
        yyjson_val *value = json_member(object, lists[i].key);
        if (value && places_read(reader, value, i, places_of(ret, i)) < 0)
            return err_wrap(reader->err, "%s.%s", path, lists[i].key);
    }
    return 0;
}

static int keys_check(const struct reader *reader, yyjson_val *object, const char *const *known,
                      const char *path)
{
    *reader->where = object;
    if (!yyjson_is_obj(object))
        return err_set(reader->err, ERR_BAD_INPUT, "%s: must be an object, not %s", path,
                       json_kind(object));
    return json_check_keys(object, known, reader->err) < 0 ? err_wrap(reader->err, "%s", path) : 0;
}

static int rule_read(const struct reader *reader, yyjson_val *value, size_t index,
                     const struct spec_residency_rule *common, struct spec_residency_rule *ret)
{
    struct spec_residency_rule rule = *common;
    char path[48];

    snprintf(path, sizeof path, "residency.rules[%zu]", index);
    int r = keys_check(reader, value, rule_keys, path);
    if (r == 0)
        r = lists_read(reader, value, CLIENTS, path, &rule);
    if (r < 0)
        return r;
    *reader->where = value;
    for (size_t i = CLIENTS; i <= PROCESS_IN; i++)
        if (places_in(&rule, i)->kind == SPEC_PLACES_ABSENT)
            return err_set(reader->err, ERR_BAD_INPUT, "%s: '%s' is missing%s", path, lists[i].key,
                           i == CLIENTS ? "; for whoever is left say any" : "");
    *ret = rule;
    return 0;
}

static int rules_read(const struct reader *reader, yyjson_val *value,
                      const struct spec_residency_rule *common, struct spec_residency *ret)
{
    static const char key[] = "residency.rules";
    size_t count = yyjson_arr_size(value), index = 0;

    *reader->where = value;
    if (!yyjson_is_arr(value))
        return err_set(reader->err, ERR_BAD_INPUT, "%s: must be a list, not %s", key,
                       json_kind(value));
    if (count == 0)
        return err_set(reader->err, ERR_BAD_INPUT,
                       "%s: without a rule everybody is refused; leave residency out, or name one",
                       key);
    if (count > SPEC_RESIDENCY_RULES_MAX)
        return err_set(reader->err, ERR_BAD_INPUT, "%s: %zu rules are above %d", key, count,
                       SPEC_RESIDENCY_RULES_MAX);
    struct spec_residency_rule *rules =
        ARENA_ARRAY(reader->arena, struct spec_residency_rule, count);
    yyjson_arr_iter iter;
    yyjson_arr_iter_init(value, &iter);
    for (yyjson_val *at; (at = yyjson_arr_iter_next(&iter)); index++) {
        *reader->where = at;
        if (index > 0 && rules[index - 1].clients.kind == SPEC_PLACES_ANY)
            return err_set(reader->err, ERR_BAD_INPUT,
                           "%s[%zu]: can never hold: the rule before it is for any client", key,
                           index);
        int r = rule_read(reader, at, index, common, &rules[index]);
        if (r < 0)
            return r;
    }
    ret->rules = rules;
    ret->count = count;
    return 0;
}

static int unknown_client_read(const struct reader *reader, yyjson_val *value, struct slice *ret)
{
    struct slice word = json_slice(value);

    *reader->where = value;
    if (!yyjson_is_str(value))
        return err_set(reader->err, ERR_BAD_INPUT,
                       "residency.unknown_client: must be refuse or a country's code, not %s%s",
                       json_kind(value), yyjson_is_bool(value) ? "; quote it" : "");
    if (slice_is(word, "refuse"))
        return 0;
    if (word.size != 2 || spec_check_countries(word, NULL) < 0)
        return err_set(reader->err, ERR_BAD_INPUT,
                       "residency.unknown_client: '%s' is neither refuse nor a country's code (two "
                       "capitals of ISO 3166-1)",
                       ERR_SLICE(word));
    *ret = arena_copy(reader->arena, word);
    return 0;
}

int spec_residency_read(struct arena *arena, yyjson_val *value, struct spec_residency *ret,
                        yyjson_val **ret_where, struct err *err)
{
    const struct reader reader = { arena, ret_where, err };
    struct spec_residency residency = {};
    struct spec_residency_rule common = {}; /* of all rules, or the one of the short form */
    int r = keys_check(&reader, value, short_keys, "residency");

    if (r == 0)
        r = lists_read(&reader, value, PROCESS_IN, "residency", &common);
    if (r < 0)
        return r;
    bool is_short = common.process_in.kind != SPEC_PLACES_ABSENT;
    yyjson_val *rules = json_member(value, "rules"),
               *unknown = json_member(value, "unknown_client");
    *ret_where = value;
    if (is_short && rules)
        return err_set(
            err, ERR_BAD_INPUT,
            "residency: 'rules' and 'process_in' exclude each other; the second is short "
            "for one rule of any client");
    if (!is_short && !rules)
        return err_set(err, ERR_BAD_INPUT,
                       "residency: says nothing; it needs 'rules' or 'process_in'");
    if (is_short) {
        struct spec_residency_rule *rule = ARENA_NEW(arena, struct spec_residency_rule);
        *rule = common;
        rule->clients.kind = SPEC_PLACES_ANY;
        residency = (struct spec_residency){ .rules = rule, .count = 1 };
    } else {
        r = rules_read(&reader, rules, &common, &residency);
    }
    if (r == 0 && unknown)
        r = unknown_client_read(&reader, unknown, &residency.unknown_client);
    if (r == 0)
        *ret = residency;
    return r;
}

/* ---- printing ------------------------------------------------------------------------------- */

static bool places_equal(const struct spec_places *a, const struct spec_places *b)
{
    if (a->kind != b->kind || a->names.count != b->names.count)
        return false;
    for (size_t i = 0; i < a->names.count; i++)
        if (!slice_equal(a->names.items[i], b->names.items[i]))
            return false;
    return true;
}

static void places_add(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *key,
                       const struct spec_places *places)
{
    if (places->kind != SPEC_PLACES_LIST) {
        yyjson_mut_obj_add_str(doc, object, key,
                               places->kind == SPEC_PLACES_ANY ? "any" : "same-country");
        return;
    }
    yyjson_mut_val *names = yyjson_mut_obj_add_arr(doc, object, key);
    for (size_t i = 0; i < places->names.count; i++)
        yyjson_mut_arr_add_strncpy(doc, names, places->names.items[i].data,
                                   places->names.items[i].size);
}

/* As process_in is the default, and is not printed. */
static bool list_is_said(const struct spec_residency_rule *rule, size_t list)
{
    const struct spec_places *places = places_in(rule, list);
    return places->kind != SPEC_PLACES_ABSENT &&
           (list <= PROCESS_IN || !places_equal(places, &rule->process_in));
}

static void lists_add(yyjson_mut_doc *doc, yyjson_mut_val *object,
                      const struct spec_residency_rule *rule, size_t first)
{
    for (size_t i = first; i < LIST_COUNT; i++)
        if (list_is_said(rule, i))
            places_add(doc, object, lists[i].key, places_in(rule, i));
}

yyjson_mut_val *spec_residency_value(const struct spec_residency *residency, yyjson_mut_doc *doc)
{
    if (residency->count == 0)
        return yyjson_mut_null(doc);
    yyjson_mut_val *object = yyjson_mut_obj(doc);
    if (residency->count == 1 && residency->rules[0].clients.kind == SPEC_PLACES_ANY) {
        lists_add(doc, object, &residency->rules[0], PROCESS_IN);
    } else {
        yyjson_mut_val *rules = yyjson_mut_obj_add_arr(doc, object, "rules");
        for (size_t i = 0; i < residency->count; i++)
            lists_add(doc, yyjson_mut_arr_add_obj(doc, rules), &residency->rules[i], CLIENTS);
    }
    if (residency->unknown_client.size > 0)
        yyjson_mut_obj_add_strncpy(doc, object, "unknown_client", residency->unknown_client.data,
                                   residency->unknown_client.size);
    return object;
}
