/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/variables.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"

enum {
    NAME_MAX_BYTES = 128,
    VALUE_BYTES_MAX = 32 << 10,
    ALL_BYTES_MAX = 64 << 10,
};

static const char key[] = "env";

static int by_name(const void *a, const void *b)
{
    return slice_order(((const struct spec_variable *)a)->name,
                       ((const struct spec_variable *)b)->name);
}

static bool is_name(struct slice name)
{
    bool good = name.size > 0 && name.size <= NAME_MAX_BYTES &&
                !(name.data[0] >= '0' && name.data[0] <= '9');
    for (size_t i = 0; i < name.size && good; i++) {
        char c = name.data[i];
        good =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    }
    return good;
}

static int name_check(struct slice name, struct err *err)
{
    if (!is_name(name))
        return err_set(err, ERR_BAD_INPUT,
                       "%s: '%s' is no variable's name: letters, digits and _, beginning with no "
                       "digit, at most %d",
                       key, ERR_SLICE(name), (int)NAME_MAX_BYTES);
    if (slice_is(name, "PORT"))
        return err_set(err, ERR_BAD_INPUT, "%s: PORT is told by Perigee: see the key 'port'", key);
    return 0;
}

static int value_check(struct slice name, struct slice value, struct err *err)
{
    bool long_one = value.size > VALUE_BYTES_MAX;
    if (!long_one && !(value.size && memchr(value.data, '\0', value.size)))
        return 0;
    return err_set(err, ERR_BAD_INPUT, "%s: the value of '%s' %s", key, ERR_SLICE(name),
                   long_one ? "is longer than 32 KiB" : "holds a zero byte");
}

/* {secret: NAME} */
static int secret_read(struct arena *arena, yyjson_val *value, struct spec_variable *ret,
                       struct err *err)
{
    static const char *const known[] = { "secret", NULL };
    struct slice secret;

    int r = json_check_keys(value, known, err);
    if (r == 0)
        r = json_get_string(value, "secret", JSON_REQUIRED, &secret, err) < 0 ? ERR_BAD_INPUT : 0;
    if (r == 0)
        r = spec_check_name(secret, "secret name", err);
    if (r == 0) {
        ret->value = arena_copy(arena, secret);
        ret->secret = true;
    }
    return r;
}

static int variable_read(struct arena *arena, struct slice name, yyjson_val *value,
                         struct spec_variable *ret, struct err *err)
{
    int r;

    if (!yyjson_is_str(value) && !yyjson_is_obj(value))
        return err_set(err, ERR_BAD_INPUT, "%s.%s: must be a string or {secret: NAME}, not %s%s",
                       key, ERR_SLICE(name), json_kind(value),
                       yyjson_is_num(value) || yyjson_is_bool(value) ? "; quote it" : "");
    r = name_check(name, err);
    if (r < 0)
        return r;
    ret->name = arena_copy(arena, name);
    if (yyjson_is_obj(value)) {
        r = secret_read(arena, value, ret, err);
        return r < 0 ? err_wrap(err, "%s.%s", key, ERR_SLICE(name)) : 0;
    }
    r = value_check(name, json_slice(value), err);
    if (r == 0)
        ret->value = arena_copy(arena, json_slice(value));
    return r;
}

int spec_variables_read(const struct option *option, struct arena *arena, yyjson_val *value,
                        struct spec_variables *ret, yyjson_val **ret_where, struct err *err)
{
    size_t count = yyjson_obj_size(value), known = 0, bytes = 0, secrets = 0;

    *ret_where = value;
    if (!yyjson_is_obj(value))
        return err_set(err, ERR_BAD_INPUT, "%s: must be a map of strings, not %s", key,
                       json_kind(value));
    if (count > option->max)
        return err_set(err, ERR_BAD_INPUT, "%s: %zu entries are above %llu", key, count,
                       (unsigned long long)option->max);
    struct spec_variable *items = ARENA_ARRAY(arena, struct spec_variable, count + 1);
    yyjson_obj_iter iter;
    yyjson_obj_iter_init(value, &iter);
    for (yyjson_val *at; (at = yyjson_obj_iter_next(&iter)); known++) {
        struct spec_variable *item = &items[known];
        *ret_where = yyjson_obj_iter_get_val(at);
        int r = variable_read(arena, json_slice(at), *ret_where, item, err);
        if (r < 0)
            return r;
        secrets += item->secret;
        bytes += item->name.size + item->value.size + 2; /* as NAME=VALUE */
    }
    if (bytes > ALL_BYTES_MAX)
        return err_set(err, ERR_BAD_INPUT, "%s: %zu bytes in all are above %d", key, bytes,
                       (int)ALL_BYTES_MAX);
    if (secrets > SPEC_SECRETS_MAX)
        return err_set(err, ERR_BAD_INPUT, "%s: %zu secrets are above %d", key, secrets,
                       (int)SPEC_SECRETS_MAX);
    qsort(items, known, sizeof *items, by_name);
    *ret = (struct spec_variables){ items, known };
    return 0;
}

static yyjson_mut_val *text_value(struct slice text, yyjson_mut_doc *doc)
{
    return yyjson_mut_strncpy(doc, text.data, text.size);
}

yyjson_mut_val *spec_variables_value(const struct spec_variables *variables, yyjson_mut_doc *doc)
{
    yyjson_mut_val *all = yyjson_mut_obj(doc);

    for (size_t i = 0; i < variables->count; i++) {
        const struct spec_variable *variable = &variables->items[i];
        yyjson_mut_val *value = text_value(variable->value, doc);
        if (variable->secret) {
            yyjson_mut_val *object = yyjson_mut_obj(doc);
            yyjson_mut_obj_add(object, yyjson_mut_str(doc, "secret"), value);
            value = object;
        }
        yyjson_mut_obj_add(all, text_value(variable->name, doc), value);
    }
    return all;
}
