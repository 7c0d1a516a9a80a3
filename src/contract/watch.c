/* SPDX-License-Identifier: Apache-2.0 */
#include "contract/watch.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"

enum { EPOCH_DIGITS = 16 };

/* 0: it is none. */
static uint64_t epoch_read(struct slice text)
{
    uint64_t epoch = 0;
    if (text.size != EPOCH_DIGITS)
        return 0;
    for (size_t i = 0; i < text.size; i++) {
        char c = text.data[i];
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f'))
            return 0;
        epoch = epoch << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return epoch;
}

const char *watch_mark_text(struct watch_mark mark, char text[static WATCH_MARK_BYTES])
{
    (void)snprintf(text, WATCH_MARK_BYTES, "%016" PRIx64 "-%" PRIu64, mark.epoch, mark.number);
    return text;
}

struct watch_mark watch_mark_read(struct slice text)
{
    struct watch_mark mark = {};
    uint64_t epoch = epoch_read(slice_cut(&text, '-'));
    if (epoch && slice_u64(text, &mark.number))
        mark.epoch = epoch;
    return mark;
}

struct slice watch_begins_json(struct arena *arena, const struct watch_begins *begins)
{
    return slice_of(arena_format(arena, "{\"epoch\":\"%016" PRIx64 "\",\"resumed\":%s}",
                                 begins->epoch, begins->resumed ? "true" : "false"));
}

int watch_begins_read(struct slice json, struct watch_begins *ret, struct err *err)
{
    struct arena *arena = arena_new();
    struct slice epoch = {};
    yyjson_val *root;
    bool resumed = false;
    int r = json_parse(arena, json, NULL, &root, err);
    if (r == 0 && (json_get_string(root, "epoch", JSON_REQUIRED, &epoch, err) < 0 ||
                   json_get_bool(root, "resumed", JSON_REQUIRED, &resumed, err) < 0))
        r = ERR_BAD_INPUT;
    if (r == 0)
        *ret = (struct watch_begins){ epoch_read(epoch), resumed };
    arena_free(arena);
    return r;
}

struct slice watch_synced_json(struct arena *arena, const struct watch_synced *synced)
{
    struct json_writer w;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_key(&w, "uids");
    json_array_begin(&w);
    for (size_t i = 0; i < synced->uid_count; i++)
        json_u64(&w, synced->uids[i]);
    json_array_end(&w);
    json_object_end(&w);
    return json_end(&w);
}

int watch_synced_read(struct arena *arena, struct slice json, struct watch_synced *ret,
                      struct err *err)
{
    yyjson_val *root, *list, *item;
    size_t index, count;
    if (json_parse(arena, json, NULL, &root, err) < 0 ||
        json_get_array(root, "uids", JSON_REQUIRED, &list, err) < 0)
        return ERR_BAD_INPUT;
    uint64_t *uids = ARENA_ARRAY(arena, uint64_t, yyjson_arr_size(list) + 1);
    yyjson_arr_foreach(list, index, count, item)
    {
        if (!yyjson_is_uint(item))
            return err_set(err, ERR_BAD_INPUT, "'uids' must be numbers, not %s", json_kind(item));
        uids[index] = yyjson_get_uint(item);
    }
    *ret = (struct watch_synced){ uids, yyjson_arr_size(list) };
    return 0;
}
