/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/option.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "spec/names.h"
#include "spec/residency.h"
#include "spec/schedule.h"
#include "spec/split.h"
#include "spec/units.h"
#include "spec/variables.h"
#include "spec/volumes.h"

enum { WORD_BYTES_MAX = 4096 };

enum storage {
    STORED_NUMBER,
    STORED_TEXT,
    STORED_STRINGS,
    STORED_PAIRS,
    STORED_VARIABLES,
    STORED_RESIDENCY,
    STORED_SCHEDULE,
    STORED_SPLIT,
    STORED_VOLUMES,
    STORED_NOWHERE,
};

static enum storage storage_of(enum option_type type)
{
    switch (type) {
    case OPTION_UINT:
    case OPTION_BOOL:
    case OPTION_BYTES:
    case OPTION_TIME:
    case OPTION_CPU:
    case OPTION_RATE:
    case OPTION_SHARE:
        return STORED_NUMBER;
    case OPTION_TEXT:
    case OPTION_CHOICE:
    case OPTION_NAME:
    case OPTION_PROJECT:
        return STORED_TEXT;
    case OPTION_NAMES:
    case OPTION_HOSTS:
    case OPTION_ORIGINS:
    case OPTION_REGIONS:
    case OPTION_WORDS:
    case OPTION_EGRESS:
        return STORED_STRINGS;
    case OPTION_LABELS:
        return STORED_PAIRS;
    case OPTION_ENV:
        return STORED_VARIABLES;
    case OPTION_RESIDENCY:
        return STORED_RESIDENCY;
    case OPTION_SCHEDULE:
        return STORED_SCHEDULE;
    case OPTION_SPLIT:
        return STORED_SPLIT;
    case OPTION_VOLUMES:
        return STORED_VOLUMES;
    case OPTION_ANY:
        break;
    }
    return STORED_NOWHERE;
}

static const void *member(const struct option *option, const struct endpoint_spec *spec)
{
    return (const char *)spec + option->offset;
}

static uint64_t number_of(const struct option *option, const struct endpoint_spec *spec)
{
    return *(const uint64_t *)member(option, spec);
}

static struct slice text_of(const struct option *option, const struct endpoint_spec *spec)
{
    return *(const struct slice *)member(option, spec);
}

static void member_set(const struct option *option, struct endpoint_spec *spec, const void *value,
                       size_t size)
{
    memcpy((char *)spec + option->offset, value, size);
}

/* --- numbers ------------------------------------------------------------------------------- */

static const char *number_text(const struct option *option, uint64_t value,
                               char buffer[static UNITS_BYTES])
{
    switch (option->type) {
    case OPTION_BYTES:
        return units_print_bytes(buffer, value);
    case OPTION_TIME:
        return units_print_time(buffer, value);
    case OPTION_CPU:
        return units_print_cpu(buffer, value);
    case OPTION_RATE:
        return units_print_rate(buffer, value);
    case OPTION_SHARE:
        return units_print_share(buffer, (uint32_t)value);
    case OPTION_BOOL:
        return value ? "true" : "false";
    default:
        snprintf(buffer, UNITS_BYTES, "%llu", (unsigned long long)value);
        return buffer;
    }
}

static int share_parse(struct slice text, uint64_t *ret, struct err *err)
{
    uint32_t ppm;
    int r = units_parse_share(text, &ppm, err);
    if (r == 0)
        *ret = ppm;
    return r;
}

static int number_parse(const struct option *option, struct slice text, uint64_t *ret,
                        struct err *err)
{
    switch (option->type) {
    case OPTION_BYTES:
        return units_parse_bytes(text, ret, err);
    case OPTION_TIME:
        return units_parse_time(text, ret, err);
    case OPTION_CPU:
        return units_parse_cpu(text, ret, err);
    case OPTION_RATE:
        return units_parse_rate(text, ret, err);
    case OPTION_SHARE:
        return share_parse(text, ret, err);
    case OPTION_BOOL:
        *ret = slice_is(text, "true");
        return 0;
    default:
        assert(option->type == OPTION_UINT);
        if (!slice_u64(text, ret))
            return err_set(err, ERR_BAD_INPUT, "'%s' is no integer", ERR_SLICE(text));
        return 0;
    }
}

static int number_check(const struct option *option, uint64_t value, struct err *err)
{
    char given[UNITS_BYTES], bound[UNITS_BYTES];

    if (value >= option->min && value <= option->max)
        return 0;
    bool above = value > option->max;
    return err_set(err, ERR_BAD_INPUT, "%s: %s is %s %s", option->key,
                   number_text(option, value, given), above ? "above" : "below",
                   number_text(option, above ? option->max : option->min, bound));
}

/* Integers stand bare; what has a unit is a string, and cpu may be either. */
static int number_read(const struct option *option, yyjson_val *value, uint64_t *ret,
                       struct err *err)
{
    char digits[JSON_NUMBER_BYTES];
    struct slice text = json_slice(value);
    int r;

    if (option->type == OPTION_BOOL) {
        if (!yyjson_is_bool(value))
            return err_set(err, ERR_BAD_INPUT, "%s: must be true or false, not %s", option->key,
                           json_kind(value));
        *ret = yyjson_get_bool(value);
        return 0;
    }
    if (option->type == OPTION_UINT) {
        if (!yyjson_is_int(value))
            return err_set(err, ERR_BAD_INPUT, "%s: must be an integer, not %s", option->key,
                           json_kind(value));
        if (yyjson_is_sint(value) && yyjson_get_sint(value) < 0)
            return err_set(err, ERR_BAD_INPUT, "%s: %lld is below %llu", option->key,
                           (long long)yyjson_get_sint(value), (unsigned long long)option->min);
        *ret = yyjson_get_uint(value);
        return 0;
    }
    if (yyjson_is_num(value)) {
        size_t size;
        if (yyjson_is_uint(value))
            size = (size_t)snprintf(digits, sizeof digits, "%llu",
                                    (unsigned long long)yyjson_get_uint(value));
        else if (yyjson_is_int(value))
            size =
                (size_t)snprintf(digits, sizeof digits, "%lld", (long long)yyjson_get_sint(value));
        else
            size = json_double_text(digits, yyjson_get_real(value));
        text = (struct slice){ digits, size };
    } else if (!yyjson_is_str(value)) {
        return err_set(err, ERR_BAD_INPUT, "%s: must be %s, not %s", option->key,
                       option->type == OPTION_CPU     ? "a number of cores (as in 0.5)"
                       : option->type == OPTION_BYTES ? "a size (as in 64MiB)"
                       : option->type == OPTION_RATE  ? "a rate (as in 50/s)"
                       : option->type == OPTION_SHARE ? "a share (as in 70%)"
                                                      : "a time (as in 30s)",
                       json_kind(value));
    }
    r = number_parse(option, text, ret, err);
    return r < 0 ? err_wrap(err, "%s", option->key) : 0;
}

/* --- texts --------------------------------------------------------------------------------- */

/* Is `word` one of "a|b|c"? */
static bool among(struct slice list, struct slice word)
{
    while (list.data)
        if (slice_equal(slice_cut(&list, '|'), word))
            return true;
    return false;
}

static int choice_check(const struct option *option, struct slice text, struct err *err)
{
    struct slice later = slice_of(option->choices);
    struct slice live = slice_cut(&later, ';');
    char words[128];
    size_t size = 0;

    if (among(live, text))
        return 0;
    for (struct slice rest = live; rest.data;) {
        struct slice word = slice_cut(&rest, '|');
        size += (size_t)snprintf(words + size, sizeof words - size, "%s%.*s",
                                 size == 0   ? ""
                                 : rest.data ? ", "
                                             : " or ",
                                 SLICE_FMT(word));
    }
    if (later.data && (slice_is(later, "*") || among(later, text)))
        return err_set(err, ERR_NOT_SUPPORTED, "%s: '%s' is not acted upon yet; it can be %s",
                       option->key, ERR_SLICE(text), words);
    return err_set(err, ERR_BAD_INPUT, "%s: '%s' is none of its values; it can be %s", option->key,
                   ERR_SLICE(text), words);
}

static int characters_check(const char *key, struct slice text, struct err *err)
{
    for (size_t i = 0; i < text.size; i++)
        if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f)
            return err_set(err, ERR_BAD_INPUT, "%s: '%s' holds a control character", key,
                           ERR_SLICE(text));
    return 0;
}

static int text_check(const struct option *option, struct slice text, struct err *err)
{
    int r;

    switch (option->type) {
    case OPTION_CHOICE:
        return choice_check(option, text, err);
    case OPTION_NAME:
        r = slice_is(slice_of(option->key), "name") ? spec_check_endpoint_name(text, err)
                                                    : spec_check_name(text, option->key, err);
        return r < 0 ? err_wrap(err, "%s", option->key) : 0;
    case OPTION_PROJECT:
        r = spec_check_project_name(text, err);
        return r < 0 ? err_wrap(err, "%s", option->key) : 0;
    default:
        if (text.size < option->min || text.size > option->max)
            return err_set(err, ERR_BAD_INPUT, "%s: '%s' has %zu bytes; it needs %llu to %llu",
                           option->key, ERR_SLICE(text), text.size, (unsigned long long)option->min,
                           (unsigned long long)option->max);
        return characters_check(option->key, text, err);
    }
}

static int text_read(const struct option *option, struct arena *arena, yyjson_val *value,
                     struct slice *ret, struct err *err)
{
    if (!yyjson_is_str(value))
        return err_set(err, ERR_BAD_INPUT, "%s: must be a string, not %s%s", option->key,
                       json_kind(value),
                       yyjson_is_num(value) || yyjson_is_bool(value) ? "; quote it" : "");
    int r = text_check(option, json_slice(value), err);
    if (r < 0)
        return r;
    *ret = arena_copy(arena, json_slice(value));
    return 0;
}

/* --- lists and maps -------------------------------------------------------------------------- */

/* What execve() takes; it may hold whole lines of a script. */
static int word_check(struct slice word, struct err *err)
{
    if (word.size && memchr(word.data, '\0', word.size))
        return err_set(err, ERR_BAD_INPUT, "'%s' holds a zero byte", ERR_SLICE(word));
    if (word.size > WORD_BYTES_MAX)
        return err_set(err, ERR_BAD_INPUT, "'%s' is longer than %d bytes", ERR_SLICE(word),
                       (int)WORD_BYTES_MAX);
    return 0;
}

static int egress_check(struct slice item, struct err *err)
{
    if (slice_is(item, "any"))
        return 0;
    return err_set(err, ERR_NOT_SUPPORTED,
                   "'%s': a list of destinations is not acted upon yet; it can be [] or [any]",
                   ERR_SLICE(item));
}

static int item_check(const struct option *option, struct slice item, struct err *err)
{
    int r = option->type == OPTION_HOSTS     ? spec_check_host(item, err)
            : option->type == OPTION_ORIGINS ? spec_check_origin(item, err)
            : option->type == OPTION_REGIONS ? spec_check_region(item, err)
            : option->type == OPTION_WORDS   ? word_check(item, err)
            : option->type == OPTION_EGRESS  ? egress_check(item, err)
                                             : spec_check_model_name(item, err);
    return r < 0 ? err_wrap(err, "%s", option->key) : 0;
}

static int count_check(const struct option *option, size_t count, struct err *err)
{
    if (count <= option->max)
        return 0;
    return err_set(err, ERR_BAD_INPUT, "%s: %zu entries are above %llu", option->key, count,
                   (unsigned long long)option->max);
}

static int strings_read(const struct option *option, struct arena *arena, yyjson_val *value,
                        struct spec_strings *ret, yyjson_val **ret_where, struct err *err)
{
    if (!yyjson_is_arr(value))
        return err_set(err, ERR_BAD_INPUT, "%s: must be a list, not %s", option->key,
                       json_kind(value));
    size_t count = yyjson_arr_size(value), known = 0;
    int r = count_check(option, count, err);
    if (r < 0)
        return r;
    if (count < option->min)
        return err_set(err, ERR_BAD_INPUT,
                       "%s: the list is empty; leave the key out for its "
                       "default",
                       option->key);
    struct slice *items = ARENA_ARRAY(arena, struct slice, count + 1);
    yyjson_arr_iter iter;
    yyjson_val *at;
    yyjson_arr_iter_init(value, &iter);
    while ((at = yyjson_arr_iter_next(&iter))) {
        *ret_where = at;
        if (!yyjson_is_str(at))
            return err_set(err, ERR_BAD_INPUT, "%s[%zu]: must be a string, not %s", option->key,
                           known, json_kind(at));
        r = item_check(option, json_slice(at), err);
        if (r < 0)
            return r;
        for (size_t i = 0; i < known && option->type != OPTION_WORDS; i++)
            if (slice_equal(items[i], json_slice(at)))
                return err_set(err, ERR_BAD_INPUT, "%s: '%s' is there twice", option->key,
                               ERR_SLICE(items[i]));
        items[known++] = arena_copy(arena, json_slice(at));
    }
    *ret = (struct spec_strings){ items, known };
    return 0;
}

static int pair_compare(const void *a, const void *b)
{
    return slice_order(((const struct spec_pair *)a)->key, ((const struct spec_pair *)b)->key);
}

static int pair_check(const struct option *option, const struct spec_pair *pair, struct err *err)
{
    if (pair->key.size > 63)
        return err_set(err, ERR_BAD_INPUT, "%s: the key '%s' is longer than 63 characters",
                       option->key, ERR_SLICE(pair->key));
    int r = spec_check_model_name(pair->key, NULL); /* the same characters */
    if (r < 0)
        return err_set(err, ERR_BAD_INPUT,
                       "%s: the key '%s' may hold letters, digits and - _ . /, and begins with a "
                       "letter or digit",
                       option->key, ERR_SLICE(pair->key));
    if (pair->value.size > 256)
        return err_set(err, ERR_BAD_INPUT, "%s: the value of '%s' is longer than 256 bytes",
                       option->key, ERR_SLICE(pair->key));
    return characters_check(option->key, pair->value, err);
}

static int pairs_read(const struct option *option, struct arena *arena, yyjson_val *value,
                      struct spec_pairs *ret, yyjson_val **ret_where, struct err *err)
{
    if (!yyjson_is_obj(value))
        return err_set(err, ERR_BAD_INPUT, "%s: must be a map of strings, not %s", option->key,
                       json_kind(value));
    size_t count = yyjson_obj_size(value), known = 0;
    int r = count_check(option, count, err);
    if (r < 0)
        return r;
    struct spec_pair *items = ARENA_ARRAY(arena, struct spec_pair, count + 1);
    yyjson_obj_iter iter;
    yyjson_val *key;
    yyjson_obj_iter_init(value, &iter);
    while ((key = yyjson_obj_iter_next(&iter))) {
        yyjson_val *of = yyjson_obj_iter_get_val(key);
        *ret_where = of;
        if (!yyjson_is_str(of))
            return err_set(err, ERR_BAD_INPUT, "%s.%s: must be a string, not %s%s", option->key,
                           ERR_SLICE(json_slice(key)), json_kind(of),
                           yyjson_is_num(of) || yyjson_is_bool(of) ? "; quote it" : "");
        struct spec_pair pair = { json_slice(key), json_slice(of) };
        r = pair_check(option, &pair, err);
        if (r < 0)
            return r;
        items[known++] =
            (struct spec_pair){ arena_copy(arena, pair.key), arena_copy(arena, pair.value) };
    }
    qsort(items, known, sizeof *items, pair_compare);
    *ret = (struct spec_pairs){ items, known };
    return 0;
}

/* --- all kinds ------------------------------------------------------------------------------- */

int option_read(const struct option *option, struct arena *arena, yyjson_val *value,
                struct endpoint_spec *spec, yyjson_val **ret_where, struct err *err)
{
    uint64_t number = 0;
    struct slice text;
    struct spec_strings strings;
    struct spec_pairs pairs;
    struct spec_variables variables;
    struct spec_residency residency;
    struct spec_windows windows;
    struct spec_split split;
    struct spec_volumes volumes;
    int r;

    *ret_where = value;
    if (yyjson_is_null(value))
        return err_set(err, ERR_BAD_INPUT, "%s: has no value; leave the key out for its default",
                       option->key);
    switch (storage_of(option->type)) {
    case STORED_NUMBER:
        r = number_read(option, value, &number, err);
        if (r == 0)
            r = number_check(option, number, err);
        if (r == 0)
            member_set(option, spec, &number, sizeof number);
        return r;
    case STORED_TEXT:
        r = text_read(option, arena, value, &text, err);
        if (r == 0)
            member_set(option, spec, &text, sizeof text);
        return r;
    case STORED_STRINGS:
        r = strings_read(option, arena, value, &strings, ret_where, err);
        if (r == 0)
            member_set(option, spec, &strings, sizeof strings);
        return r;
    case STORED_PAIRS:
        r = pairs_read(option, arena, value, &pairs, ret_where, err);
        if (r == 0)
            member_set(option, spec, &pairs, sizeof pairs);
        return r;
    case STORED_VARIABLES:
        r = spec_variables_read(option, arena, value, &variables, ret_where, err);
        if (r == 0)
            member_set(option, spec, &variables, sizeof variables);
        return r;
    case STORED_RESIDENCY:
        r = spec_residency_read(arena, value, &residency, ret_where, err);
        if (r == 0)
            member_set(option, spec, &residency, sizeof residency);
        return r;
    case STORED_SCHEDULE:
        r = spec_schedule_read(arena, value, &windows, ret_where, err);
        if (r == 0)
            member_set(option, spec, &windows, sizeof windows);
        return r;
    case STORED_SPLIT:
        r = spec_split_read(arena, value, &split, ret_where, err);
        if (r == 0)
            member_set(option, spec, &split, sizeof split);
        return r;
    case STORED_VOLUMES:
        r = spec_volumes_read(option, arena, value, &volumes, ret_where, err);
        if (r == 0)
            member_set(option, spec, &volumes, sizeof volumes);
        return r;
    default:
        assert(!"a live option is stored somewhere");
        return ERR_INTERNAL;
    }
}

int option_check(const struct option *option, const struct endpoint_spec *spec, struct err *err)
{
    const struct spec_strings *strings;
    const struct spec_pairs *pairs;
    int r = 0;

    if (option_is_absent(option, spec))
        return 0;
    switch (storage_of(option->type)) {
    case STORED_NUMBER:
        return number_check(option, number_of(option, spec), err);
    case STORED_TEXT:
        return text_check(option, text_of(option, spec), err);
    case STORED_STRINGS:
        strings = member(option, spec);
        r = count_check(option, strings->count, err);
        for (size_t i = 0; i < strings->count && r == 0; i++)
            r = item_check(option, strings->items[i], err);
        return r;
    case STORED_PAIRS:
        pairs = member(option, spec);
        r = count_check(option, pairs->count, err);
        for (size_t i = 0; i < pairs->count && r == 0; i++)
            r = pair_check(option, &pairs->items[i], err);
        return r;
    default:
        return 0;
    }
}

void option_default(const struct option *option, struct endpoint_spec *spec)
{
    uint64_t number = 0;
    struct slice text = slice_of(option->fallback);
    int r;

    switch (storage_of(option->type)) {
    case STORED_NUMBER:
        r = option->fallback ? number_parse(option, text, &number, NULL) : 0;
        assert(r == 0);
        (void)r;
        member_set(option, spec, &number, sizeof number);
        break;
    case STORED_TEXT:
        member_set(option, spec, &text, sizeof text);
        break;
    case STORED_STRINGS:
        member_set(option, spec, &(struct spec_strings){}, sizeof(struct spec_strings));
        break;
    case STORED_PAIRS:
        member_set(option, spec, &(struct spec_pairs){}, sizeof(struct spec_pairs));
        break;
    case STORED_VARIABLES:
        member_set(option, spec, &(struct spec_variables){}, sizeof(struct spec_variables));
        break;
    case STORED_RESIDENCY:
        member_set(option, spec, &(struct spec_residency){}, sizeof(struct spec_residency));
        break;
    case STORED_SCHEDULE:
        member_set(option, spec, &(struct spec_windows){}, sizeof(struct spec_windows));
        break;
    case STORED_SPLIT:
        member_set(option, spec, &(struct spec_split){}, sizeof(struct spec_split));
        break;
    case STORED_VOLUMES:
        member_set(option, spec, &(struct spec_volumes){}, sizeof(struct spec_volumes));
        break;
    default:
        break;
    }
}

bool option_is_of_image(const struct option *option)
{
    static const size_t from = offsetof(struct endpoint_spec, container);

    return option->status == OPTION_LIVE && option->offset >= from &&
           option->offset < from + sizeof(struct spec_container);
}

bool option_is_absent(const struct option *option, const struct endpoint_spec *spec)
{
    switch (storage_of(option->type)) {
    case STORED_NUMBER:
        return !option->fallback && number_of(option, spec) == 0;
    case STORED_TEXT:
        return text_of(option, spec).size == 0;
    case STORED_STRINGS:
        return ((const struct spec_strings *)member(option, spec))->count == 0;
    case STORED_PAIRS:
        return ((const struct spec_pairs *)member(option, spec))->count == 0;
    case STORED_VARIABLES:
        return ((const struct spec_variables *)member(option, spec))->count == 0;
    case STORED_RESIDENCY:
        return ((const struct spec_residency *)member(option, spec))->count == 0;
    case STORED_SCHEDULE:
        return ((const struct spec_windows *)member(option, spec))->count == 0;
    case STORED_SPLIT:
        return ((const struct spec_split *)member(option, spec))->count == 0;
    case STORED_VOLUMES:
        return ((const struct spec_volumes *)member(option, spec))->count == 0;
    default:
        return true;
    }
}

bool option_is_default(const struct option *option, const struct endpoint_spec *spec)
{
    struct endpoint_spec fresh;

    switch (storage_of(option->type)) {
    case STORED_NUMBER:
        option_default(option, &fresh);
        return number_of(option, &fresh) == number_of(option, spec);
    case STORED_TEXT:
        if (option->offset == offsetof(struct endpoint_spec, protocol))
            return slice_equal(spec_protocol_default(spec), spec->protocol);
        return slice_equal(slice_of(option->fallback), text_of(option, spec));
    default:
        return option_is_absent(option, spec);
    }
}

static yyjson_mut_val *number_value(const struct option *option, uint64_t number,
                                    yyjson_mut_doc *doc)
{
    char buffer[UNITS_BYTES];

    if (option->type == OPTION_UINT)
        return yyjson_mut_uint(doc, number);
    if (option->type == OPTION_BOOL)
        return yyjson_mut_bool(doc, number != 0);
    if (option->type == OPTION_CPU && number % 1000 == 0)
        return yyjson_mut_uint(doc, number / 1000);
    const char *text = number_text(option, number, buffer);
    if (option->type == OPTION_CPU && !slice_ends(slice_of(text), SLICE("m")))
        return yyjson_mut_real(doc, (double)number / 1000);
    return yyjson_mut_strcpy(doc, text);
}

yyjson_mut_val *option_value(const struct option *option, const struct endpoint_spec *spec,
                             yyjson_mut_doc *doc)
{
    const struct spec_strings *strings;
    const struct spec_pairs *pairs;
    struct slice text;
    yyjson_mut_val *all;

    if (option_is_of_image(option) && !spec->image.size)
        return yyjson_mut_null(doc);
    switch (storage_of(option->type)) {
    case STORED_NUMBER:
        if (option_is_absent(option, spec))
            return yyjson_mut_null(doc);
        return number_value(option, number_of(option, spec), doc);
    case STORED_TEXT:
        text = text_of(option, spec);
        return text.size ? yyjson_mut_strncpy(doc, text.data, text.size) : yyjson_mut_null(doc);
    case STORED_STRINGS:
        strings = member(option, spec);
        if (strings->count < option->min) /* an empty list would say something else */
            return yyjson_mut_null(doc);
        all = yyjson_mut_arr(doc);
        for (size_t i = 0; i < strings->count; i++)
            yyjson_mut_arr_append(
                all, yyjson_mut_strncpy(doc, strings->items[i].data, strings->items[i].size));
        return all;
    case STORED_PAIRS:
        pairs = member(option, spec);
        all = yyjson_mut_obj(doc);
        for (size_t i = 0; i < pairs->count; i++) {
            const struct spec_pair *pair = &pairs->items[i];
            yyjson_mut_obj_add(all, yyjson_mut_strncpy(doc, pair->key.data, pair->key.size),
                               yyjson_mut_strncpy(doc, pair->value.data, pair->value.size));
        }
        return all;
    case STORED_VARIABLES:
        return spec_variables_value(member(option, spec), doc);
    case STORED_RESIDENCY:
        return spec_residency_value(member(option, spec), doc);
    case STORED_SCHEDULE:
        return spec_schedule_value(member(option, spec), doc);
    case STORED_SPLIT:
        return spec_split_value(member(option, spec), doc);
    case STORED_VOLUMES:
        return spec_volumes_value(member(option, spec), doc);
    default:
        return yyjson_mut_null(doc);
    }
}
