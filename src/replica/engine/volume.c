/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/engine/volume.h"

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "replica/engine/container.h"

#define OPTIONS "nosuid,nodev"

static const struct json_limits limits = { .bytes_max = ENGINE_ANSWER_BYTES_MAX,
                                           .duplicates_allowed = true };

bool engine_volume_is_name(struct slice text)
{
    if (!slice_starts(text, SLICE("perigee-")) || text.size > ENGINE_VOLUME_NAME_MAX)
        return false;
    for (size_t i = 0; i < text.size; i++)
        if (!((text.data[i] >= 'a' && text.data[i] <= 'z') ||
              (text.data[i] >= '0' && text.data[i] <= '9') || text.data[i] == '-'))
            return false;
    return true;
}

static const char *device_of(struct arena *arena, const struct engine_volume_want *want)
{
    return arena_format(arena, "/dev/loop%u", want->number);
}

struct slice engine_volume_json(struct arena *arena, const struct engine_volume_want *want)
{
    struct json_writer w;

    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "Name", want->name);
    json_member_text(&w, "Driver", "local");
    json_key(&w, "DriverOpts");
    json_object_begin(&w);
    json_member_text(&w, "type", "ext4");
    json_member_text(&w, "device", device_of(arena, want));
    json_member_text(&w, "o", OPTIONS);
    json_object_end(&w);
    json_key(&w, "Labels");
    json_object_begin(&w);
    json_member_string(&w, ENGINE_LABEL_HOME, want->home);
    json_object_end(&w);
    json_object_end(&w);
    return json_end(&w);
}

static void read_one(yyjson_val *root, struct engine_volume_seen *ret)
{
    yyjson_val *options = json_member(root, "Options");

    *ret = (struct engine_volume_seen){
        .name = json_slice(json_member(root, "Name")),
        .home = json_slice(json_member(json_member(root, "Labels"), ENGINE_LABEL_HOME)),
        .driver = json_slice(json_member(root, "Driver")),
        .type = json_slice(json_member(options, "type")),
        .device = json_slice(json_member(options, "device")),
        .options = json_slice(json_member(options, "o")),
    };
}

int engine_volume_parse(struct arena *arena, struct slice text, struct engine_volume_seen *ret,
                        struct err *err)
{
    yyjson_val *root;

    if (json_parse(arena, text, &limits, &root, err) < 0)
        return err_wrap(err, "what the engine says of a volume cannot be read");
    read_one(root, ret);
    return 0;
}

bool engine_volume_fits(const struct engine_volume_want *want,
                        const struct engine_volume_seen *seen)
{
    struct arena *arena = arena_new();
    bool fits = slice_equal(seen->name, want->name) && slice_is(seen->driver, "local") &&
                slice_is(seen->type, "ext4") && slice_is(seen->device, device_of(arena, want)) &&
                slice_is(seen->options, OPTIONS);

    arena_free(arena);
    return fits;
}

/* filters={"label":["perigee.home"]}; whose they are is looked at here. */
struct engine_call *engine_volumes(struct engine *engine, int64_t timeout_ms, engine_cb on_done,
                                   void *data)
{
    return engine_ask(engine, ENGINE_GET,
                      "/volumes?filters=%7B%22label%22%3A%5B%22perigee.home%22%5D%7D",
                      (struct slice){}, timeout_ms, on_done, data);
}

int engine_volumes_parse(struct arena *arena, struct slice text, struct slice home,
                         struct engine_volumes *ret, struct err *err)
{
    struct engine_volumes list = {};
    yyjson_val *root, *item;
    yyjson_arr_iter iter;

    if (json_parse(arena, text, &limits, &root, err) < 0)
        return err_wrap(err, "the engine's list of volumes cannot be read");
    yyjson_val *volumes = json_member(root, "Volumes"); /* null: none */
    size_t room = yyjson_arr_size(volumes);
    room = room < ENGINE_VOLUMES_MAX ? room : ENGINE_VOLUMES_MAX;
    list.items = ARENA_ARRAY(arena, struct engine_volume_seen, room + 1);
    yyjson_arr_iter_init(volumes, &iter);
    while (list.count < room && (item = yyjson_arr_iter_next(&iter))) {
        struct engine_volume_seen *seen = &list.items[list.count];
        read_one(item, seen);
        list.count += engine_volume_is_name(seen->name) && slice_equal(seen->home, home);
    }
    *ret = list;
    return 0;
}
