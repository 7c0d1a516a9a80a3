/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/schedule.h"

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "base/tzif.h"
#include "spec/units.h"

#define SECOND UINT64_C(1'000'000'000)
#define FOR_MIN (60 * SECOND)
#define FOR_MAX (366 * 24 * 3600 * SECOND)
enum { MIN_MAX = 1000 };

static const char key[] = "scale.schedule";
static const char *const window_keys[] = { "cron", "tz", "for", "min", NULL };

struct reader {
    struct arena *arena;
    yyjson_val **where;
    struct err *err;
};

/* ---- reading --------------------------------------------------------------------------------- */

/* NULL: not there. An error where it is there and is no string. */
static int text_read(const struct reader *reader, yyjson_val *object, const char *name,
                     const char *example, bool needed, struct slice *ret)
{
    yyjson_val *value = json_member(object, name);
    if (!value && !needed)
        return 0;
    if (!value)
        return err_set(reader->err, ERR_BAD_INPUT, "'%s' is missing, as in %s", name, example);
    *reader->where = value;
    if (!yyjson_is_str(value))
        return err_set(reader->err, ERR_BAD_INPUT, "%s: must be a string, as in %s, not %s", name,
                       example, json_kind(value));
    *ret = json_slice(value);
    return 0;
}

static int for_read(const struct reader *reader, yyjson_val *object, struct spec_window *window)
{
    struct slice text = {};
    int r = text_read(reader, object, "for", "10h", true, &text);
    if (r < 0)
        return r;
    r = units_parse_time(text, &window->for_ns, reader->err);
    if (r < 0)
        return err_wrap(reader->err, "for");
    if (window->for_ns < FOR_MIN || window->for_ns > FOR_MAX || window->for_ns % SECOND)
        return err_set(reader->err, ERR_BAD_INPUT,
                       "for: '%s' is not within 1m to 366d in whole seconds", ERR_SLICE(text));
    return 0;
}

static int min_read(const struct reader *reader, yyjson_val *object, struct spec_window *window)
{
    yyjson_val *value = json_member(object, "min");
    if (!value)
        return err_set(reader->err, ERR_BAD_INPUT, "'min' is missing: how many replicas at least");
    *reader->where = value;
    if (!yyjson_is_uint(value))
        return err_set(reader->err, ERR_BAD_INPUT, "min: must be an integer, not %s",
                       yyjson_is_int(value) ? "one below 0" : json_kind(value));
    window->min = yyjson_get_uint(value);
    if (window->min < 1 || window->min > MIN_MAX)
        return err_set(reader->err, ERR_BAD_INPUT, "min: %llu is not within 1 to %d%s",
                       (unsigned long long)window->min, (int)MIN_MAX,
                       window->min ? "" : "; no window lowers scale.min");
    return 0;
}

static int window_read(const struct reader *reader, yyjson_val *value, struct spec_window *ret)
{
    struct spec_window window = { .zone = SLICE("UTC") };
    *reader->where = value;
    if (!yyjson_is_obj(value))
        return err_set(reader->err, ERR_BAD_INPUT, "must be an object, not %s", json_kind(value));
    int r = json_check_keys(value, window_keys, reader->err);
    if (r == 0)
        r = text_read(reader, value, "cron", "\"0 8 * * 1-5\"", true, &window.text);
    if (r == 0 && (r = cron_parse(window.text, &window.cron, reader->err)) < 0)
        return err_wrap(reader->err, "cron");
    if (r == 0)
        r = text_read(reader, value, "tz", "Europe/Paris", false, &window.zone);
    if (r == 0 && (r = tzif_check_name(window.zone, reader->err)) < 0)
        return err_wrap(reader->err, "tz");
    if (r == 0)
        r = for_read(reader, value, &window);
    if (r == 0)
        r = min_read(reader, value, &window);
    if (r < 0)
        return r;
    window.text = arena_copy(reader->arena, window.text);
    window.zone = arena_copy(reader->arena, window.zone);
    *ret = window;
    return 0;
}

int spec_schedule_read(struct arena *arena, yyjson_val *value, struct spec_windows *ret,
                       yyjson_val **ret_where, struct err *err)
{
    const struct reader reader = { arena, ret_where, err };
    size_t count = yyjson_arr_size(value), index = 0;
    *ret_where = value;
    if (!yyjson_is_arr(value))
        return err_set(err, ERR_BAD_INPUT, "%s: must be a list of {cron, tz, for, min}, not %s",
                       key, json_kind(value));
    if (count > SPEC_WINDOWS_MAX)
        return err_set(err, ERR_BAD_INPUT, "%s: %zu entries are above %d", key, count,
                       (int)SPEC_WINDOWS_MAX);
    struct spec_window *windows = ARENA_ARRAY(arena, struct spec_window, count + 1);
    yyjson_arr_iter iter;
    yyjson_arr_iter_init(value, &iter);
    for (yyjson_val *at; (at = yyjson_arr_iter_next(&iter)); index++)
        if (window_read(&reader, at, &windows[index]) < 0)
            return err_wrap(err, "%s[%zu]", key, index);
    *ret = (struct spec_windows){ windows, count };
    return 0;
}

/* ---- printing -------------------------------------------------------------------------------- */

yyjson_mut_val *spec_schedule_value(const struct spec_windows *windows, yyjson_mut_doc *doc)
{
    char buffer[UNITS_BYTES];
    if (windows->count == 0)
        return yyjson_mut_null(doc);
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    for (size_t i = 0; i < windows->count; i++) {
        const struct spec_window *window = &windows->items[i];
        yyjson_mut_val *object = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_strncpy(doc, object, "cron", window->text.data, window->text.size);
        if (!slice_is(window->zone, "UTC"))
            yyjson_mut_obj_add_strncpy(doc, object, "tz", window->zone.data, window->zone.size);
        yyjson_mut_obj_add_strcpy(doc, object, "for", units_print_time(buffer, window->for_ns));
        yyjson_mut_obj_add_uint(doc, object, "min", window->min);
    }
    return list;
}
