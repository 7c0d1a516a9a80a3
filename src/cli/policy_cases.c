/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/policy_cases.h"

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "base/yaml.h"
#include "geo/country.h"
#include "spec/endpoint.h"

static const char *const outcomes[] = { "process", "pass", "refuse", NULL };

struct reader {
    struct arena *arena;
    yyjson_val *where; /* what the error is about */
    const struct policy_pop *pops;
    size_t pop_count;
    struct err *err;
};

const char *policy_outcome_text(enum policy_outcome outcome)
{
    return outcomes[outcome];
}

static int country_read(struct reader *reader, struct slice code, country_number *ret)
{
    int r = country_check(code, reader->err);
    if (r == 0)
        *ret = country_number_of(code);
    return r;
}

/* ---- addresses and PoPs --------------------------------------------------------------------- */

static int addresses_read(struct reader *reader, yyjson_val *object, struct policy_cases *cases)
{
    struct where_block *blocks =
        ARENA_ARRAY(reader->arena, struct where_block, yyjson_obj_size(object) + 1);
    yyjson_obj_iter iter;
    yyjson_obj_iter_init(object, &iter);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter));) {
        yyjson_val *value = yyjson_obj_iter_get_val(key);
        struct where_block *block = &blocks[cases->address_count];
        reader->where = key;
        int r = ip_block_parse(json_slice(key), &block->block, reader->err);
        if (r == 0 && !yyjson_is_str(value))
            r = err_set(reader->err, ERR_BAD_INPUT, "must be a country's code, not %s",
                        json_kind(value));
        if (r == 0)
            r = country_read(reader, json_slice(value), &block->country);
        if (r < 0)
            return err_wrap(reader->err, "addresses");
        cases->address_count++;
    }
    cases->addresses = blocks;
    return 0;
}

static int pop_read(struct reader *reader, struct slice name, yyjson_val *object,
                    struct policy_pop *ret)
{
    static const char *const known[] = { "country", "region", NULL };
    struct slice country, region = {};
    struct policy_pop pop = { .name = name, .place.name = name };
    int r = spec_check_name(name, "PoP name", reader->err);

    if (r == 0 && !yyjson_is_obj(object))
        r = err_set(reader->err, ERR_BAD_INPUT, "must be an object, not %s", json_kind(object));
    if (r == 0)
        r = json_check_keys(object, known, reader->err);
    if (r < 0)
        return r;
    r = json_get_string(object, "country", JSON_OPTIONAL, &country, reader->err);
    if (r > 0)
        r = country_read(reader, country, &pop.place.country);
    if (r >= 0)
        r = json_get_string(object, "region", JSON_OPTIONAL, &region, reader->err);
    if (r < 0)
        return r;
    pop.place.region = region;
    *ret = pop;
    return 0;
}

static int pops_read(struct reader *reader, yyjson_val *object)
{
    struct policy_pop *pops =
        ARENA_ARRAY(reader->arena, struct policy_pop, yyjson_obj_size(object) + 1);
    yyjson_obj_iter iter;
    yyjson_obj_iter_init(object, &iter);
    for (yyjson_val *key; (key = yyjson_obj_iter_next(&iter));) {
        reader->where = key;
        if (pop_read(reader, json_slice(key), yyjson_obj_iter_get_val(key),
                     &pops[reader->pop_count]) < 0)
            return err_wrap(reader->err, "pops: '%s'", ERR_SLICE(json_slice(key)));
        reader->pop_count++;
    }
    reader->pops = pops;
    return 0;
}

/* ---- cases ---------------------------------------------------------------------------------- */

static int client_read(struct reader *reader, struct policy_case *item)
{
    struct slice text = item->client_text;
    item->by_address = ip_parse(text, &item->address);
    if (item->by_address || slice_is(text, "unknown"))
        return 0;
    if (text.size != 2)
        return err_set(reader->err, ERR_BAD_INPUT,
                       "'%s' is no address, no country's code (ISO 3166-1) and not unknown",
                       ERR_SLICE(text));
    return country_read(reader, text, &item->client);
}

static int case_pop_read(struct reader *reader, struct policy_case *item)
{
    struct slice text = item->pop_text;
    for (size_t i = 0; i < reader->pop_count; i++)
        if (slice_equal(reader->pops[i].name, text)) {
            item->pop = reader->pops[i].place;
            return 0;
        }
    if (slice_is(text, "unknown"))
        return 0;
    if (text.size != 2)
        return err_set(reader->err, ERR_BAD_INPUT,
                       "'%s' is none of 'pops', no country's code (ISO 3166-1) and not unknown",
                       ERR_SLICE(text));
    return country_read(reader, text, &item->pop.country);
}

/* "EU,CH", as the header has it, or a list. */
static int process_in_read(struct reader *reader, yyjson_val *object, struct slice *ret)
{
    yyjson_val *value = json_member(object, "process_in");
    if (!value)
        return 0;
    if (yyjson_is_str(value)) {
        *ret = json_slice(value);
        return 0;
    }
    const char *text = NULL;
    yyjson_arr_iter iter;
    if (!yyjson_is_arr(value) || yyjson_arr_size(value) == 0)
        return err_set(reader->err, ERR_BAD_INPUT, "must be a list of countries and sets, not %s",
                       yyjson_is_arr(value) ? "an empty one" : json_kind(value));
    yyjson_arr_iter_init(value, &iter);
    for (yyjson_val *at; (at = yyjson_arr_iter_next(&iter));) {
        if (!yyjson_is_str(at))
            return err_set(reader->err, ERR_BAD_INPUT, "must hold strings, not %s", json_kind(at));
        text = arena_format(reader->arena, "%s%s%.*s", text ? text : "", text ? "," : "",
                            SLICE_FMT(json_slice(at)));
    }
    *ret = slice_of(text);
    return 0;
}

static int expected_read(struct reader *reader, struct slice word, enum policy_outcome *ret)
{
    for (size_t i = 0; outcomes[i]; i++)
        if (slice_is(word, outcomes[i])) {
            *ret = (enum policy_outcome)i;
            return 0;
        }
    return err_set(reader->err, ERR_BAD_INPUT, "'%s' is not process, pass or refuse",
                   ERR_SLICE(word));
}

static int case_read(struct reader *reader, yyjson_val *object, struct policy_case *item)
{
    static const char *const known[] = { "name", "client", "pop", "process_in", "expect", NULL };
    struct slice expected;
    int r;

    reader->where = object;
    if (!yyjson_is_obj(object))
        return err_set(reader->err, ERR_BAD_INPUT, "must be an object, not %s", json_kind(object));
    if ((r = json_check_keys(object, known, reader->err)) < 0 ||
        (r = json_get_string(object, "name", JSON_OPTIONAL, &item->name, reader->err)) < 0 ||
        (r = json_get_string(object, "client", JSON_REQUIRED, &item->client_text, reader->err)) <
            0 ||
        (r = json_get_string(object, "pop", JSON_REQUIRED, &item->pop_text, reader->err)) < 0 ||
        (r = json_get_string(object, "expect", JSON_REQUIRED, &expected, reader->err)) < 0)
        return r;
    if (client_read(reader, item) < 0)
        return err_wrap(reader->err, "client");
    if (case_pop_read(reader, item) < 0)
        return err_wrap(reader->err, "pop");
    if (process_in_read(reader, object, &item->process_in) < 0)
        return err_wrap(reader->err, "process_in");
    if (expected_read(reader, expected, &item->expected) < 0)
        return err_wrap(reader->err, "expect");
    return 0;
}

static int cases_read(struct reader *reader, const struct yaml_document *document, yyjson_val *list,
                      struct policy_cases *cases)
{
    size_t count = yyjson_arr_size(list);
    struct policy_case *items = ARENA_ARRAY(reader->arena, struct policy_case, count + 1);
    yyjson_arr_iter iter;

    reader->where = list;
    if (count == 0)
        return err_set(reader->err, ERR_BAD_INPUT, "'cases' is empty");
    yyjson_arr_iter_init(list, &iter);
    for (yyjson_val *at; (at = yyjson_arr_iter_next(&iter)); cases->count++) {
        items[cases->count].line = yaml_line(document, at);
        if (case_read(reader, at, &items[cases->count]) < 0)
            return err_wrap(reader->err, "case %zu", cases->count + 1);
    }
    cases->items = items;
    return 0;
}

static int document_read(struct reader *reader, const struct yaml_document *document,
                         struct policy_cases *cases)
{
    static const char *const known[] = { "spec", "endpoint", "addresses", "pops", "cases", NULL };
    yyjson_val *root = document->root, *part;
    struct err *err = reader->err;
    int r;

    reader->where = root;
    if (!yyjson_is_obj(root))
        return err_set(err, ERR_BAD_INPUT, "it must be an object with 'cases', not %s",
                       json_kind(root));
    if ((r = json_check_keys(root, known, err)) < 0 ||
        (r = json_get_string(root, "spec", JSON_OPTIONAL, &cases->spec, err)) < 0 ||
        (r = json_get_string(root, "endpoint", JSON_OPTIONAL, &cases->endpoint, err)) < 0 ||
        (r = json_get_object(root, "addresses", JSON_OPTIONAL, &part, err)) < 0)
        return r;
    if (r > 0 && (r = addresses_read(reader, part, cases)) < 0)
        return r;
    if ((r = json_get_object(root, "pops", JSON_OPTIONAL, &part, err)) < 0 ||
        (r > 0 && (r = pops_read(reader, part)) < 0))
        return r;
    reader->where = root;
    if ((r = json_get_array(root, "cases", JSON_REQUIRED, &part, err)) < 0)
        return r;
    return cases_read(reader, document, part, cases);
}

int policy_cases_parse(struct arena *arena, struct slice text, struct policy_cases *ret,
                       struct err *err)
{
    struct reader reader = { .arena = arena, .err = err };
    struct policy_cases cases = {};
    struct yaml_documents documents;
    int r = yaml_parse(arena, text, NULL, &documents, err);

    if (r < 0)
        return r;
    if (documents.count != 1)
        return err_set(err, ERR_BAD_INPUT, "it holds %zu documents, and one is read",
                       documents.count);
    r = document_read(&reader, &documents.items[0], &cases);
    if (r < 0) {
        uint32_t line = yaml_line(&documents.items[0], reader.where);
        return line ? err_wrap(err, "line %u", line) : r;
    }
    *ret = cases;
    return 0;
}
