/* SPDX-License-Identifier: Apache-2.0 */
/* A path goes to engines as "NAME:PATH", and is looked for in what the kernel lists: it has no
 * character that means something to either. */
#include "spec/volumes.h"

#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "spec/units.h"

static const char key[] = "volumes";
static const char *const volume_keys[] = { "path", "size", NULL };

static bool fits(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           memchr("._-+@/", c, 6);
}

/* Absolute, and written in the one way. */
static bool plain(struct slice path)
{
    struct slice rest = path;

    if (path.size < 2 || path.size > SPEC_VOLUME_PATH_MAX || path.data[0] != '/')
        return false;
    for (size_t i = 0; i < path.size; i++)
        if (!fits(path.data[i]))
            return false;
    (void)slice_cut(&rest, '/');
    while (rest.data) {
        struct slice part = slice_cut(&rest, '/');
        if (!part.size || slice_is(part, ".") || slice_is(part, ".."))
            return false;
    }
    return true;
}

/* The same, or below it. */
static bool within(struct slice path, struct slice of)
{
    return slice_starts(path, of) && (path.size == of.size || path.data[of.size] == '/');
}

static int path_check(struct slice path, struct err *err)
{
    static const struct slice engines[] = { SLICE("/tmp"), SLICE("/dev"), SLICE("/proc"),
                                            SLICE("/sys"), SLICE("/etc") };

    if (!plain(path))
        return err_set(err, ERR_BAD_INPUT,
                       "path: '%s' must be absolute, without . and .. and / at its end, at most %d "
                       "letters, digits and . _ - + @ /",
                       ERR_SLICE(path), (int)SPEC_VOLUME_PATH_MAX);
    for (size_t i = 0; i < sizeof engines / sizeof *engines; i++)
        if (within(path, engines[i]))
            return err_set(err, ERR_BAD_INPUT, "path: '%s' is made by the engine",
                           ERR_SLICE(engines[i]));
    return 0;
}

static int size_read(const struct option *option, yyjson_val *value, uint64_t *ret, struct err *err)
{
    char low[UNITS_BYTES], high[UNITS_BYTES];

    if (!yyjson_is_str(value))
        return err_set(err, ERR_BAD_INPUT, "size: must be a size (as in 1GiB), not %s",
                       json_kind(value));
    int r = units_parse_bytes(json_slice(value), ret, err);
    if (r < 0)
        return err_wrap(err, "size");
    if (*ret < option->min || *ret > option->max)
        return err_set(err, ERR_BAD_INPUT, "size: '%s' is not within %s to %s",
                       ERR_SLICE(json_slice(value)), units_print_bytes(low, option->min),
                       units_print_bytes(high, option->max));
    return 0;
}

static int volume_read(const struct option *option, struct arena *arena, yyjson_val *value,
                       struct spec_volume *ret, yyjson_val **ret_where, struct err *err)
{
    *ret_where = value;
    if (!yyjson_is_obj(value))
        return err_set(err, ERR_BAD_INPUT, "must be an object, not %s", json_kind(value));
    int r = json_check_keys(value, volume_keys, err);
    if (r < 0)
        return r;
    yyjson_val *path = json_member(value, "path"), *size = json_member(value, "size");
    if (!path || !size)
        return err_set(err, ERR_BAD_INPUT, "'%s' is missing, as in {path: /cache, size: 1GiB}",
                       path ? "size" : "path");
    *ret_where = path;
    if (!yyjson_is_str(path))
        return err_set(err, ERR_BAD_INPUT, "path: must be a string, not %s", json_kind(path));
    r = path_check(json_slice(path), err);
    if (r < 0)
        return r;
    ret->path = arena_copy(arena, json_slice(path));
    *ret_where = size;
    return size_read(option, size, &ret->bytes, err);
}

static int overlap_check(const struct spec_volume *volumes, size_t at, struct err *err)
{
    for (size_t i = 0; i < at; i++)
        if (within(volumes[i].path, volumes[at].path) || within(volumes[at].path, volumes[i].path))
            return err_set(err, ERR_BAD_INPUT, "'%s' and '%s' overlap", ERR_SLICE(volumes[i].path),
                           ERR_SLICE(volumes[at].path));
    return 0;
}

int spec_volumes_read(const struct option *option, struct arena *arena, yyjson_val *value,
                      struct spec_volumes *ret, yyjson_val **ret_where, struct err *err)
{
    size_t count = yyjson_arr_size(value), index = 0;

    *ret_where = value;
    if (!yyjson_is_arr(value))
        return err_set(err, ERR_BAD_INPUT, "%s: must be a list of {path, size}, not %s", key,
                       json_kind(value));
    if (count > SPEC_VOLUMES_MAX)
        return err_set(err, ERR_BAD_INPUT, "%s: %zu entries are above %d", key, count,
                       (int)SPEC_VOLUMES_MAX);
    struct spec_volume *volumes = ARENA_ARRAY(arena, struct spec_volume, count + 1);
    yyjson_arr_iter iter;
    yyjson_arr_iter_init(value, &iter);
    for (yyjson_val *at; (at = yyjson_arr_iter_next(&iter)); index++) {
        int r = volume_read(option, arena, at, &volumes[index], ret_where, err);
        if (r == 0)
            r = overlap_check(volumes, index, err);
        if (r < 0)
            return err_wrap(err, "%s[%zu]", key, index);
    }
    *ret = (struct spec_volumes){ volumes, count };
    return 0;
}

yyjson_mut_val *spec_volumes_value(const struct spec_volumes *volumes, yyjson_mut_doc *doc)
{
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    char buffer[UNITS_BYTES];

    for (size_t i = 0; i < volumes->count; i++) {
        const struct spec_volume *volume = &volumes->items[i];
        yyjson_mut_val *object = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_strncpy(doc, object, "path", volume->path.data, volume->path.size);
        yyjson_mut_obj_add_strcpy(doc, object, "size", units_print_bytes(buffer, volume->bytes));
    }
    return list;
}
