/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/engine/network.h"

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "replica/engine/container.h"
#include "replica/engine/volume.h"

static const struct json_limits limits = { .bytes_max = ENGINE_ANSWER_BYTES_MAX,
                                           .duplicates_allowed = true };

struct slice engine_network_json(struct arena *arena, struct slice name, struct slice home)
{
    struct json_writer w;

    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "Name", name);
    json_member_text(&w, "Driver", "bridge");
    json_member_bool(&w, "CheckDuplicate", true);
    json_member_bool(&w, "Internal", true);
    json_member_bool(&w, "EnableIPv6", false);
    json_key(&w, "Labels");
    json_object_begin(&w);
    json_member_string(&w, ENGINE_LABEL_HOME, home);
    json_object_end(&w);
    json_object_end(&w);
    return json_end(&w);
}

static void read_one(yyjson_val *root, struct engine_network_seen *ret)
{
    *ret = (struct engine_network_seen){
        .name = json_slice(json_member(root, "Name")),
        .home = json_slice(json_member(json_member(root, "Labels"), ENGINE_LABEL_HOME)),
        .driver = json_slice(json_member(root, "Driver")),
        .internal = yyjson_is_true(json_member(root, "Internal")),
        .ipv6 = yyjson_is_true(json_member(root, "EnableIPv6")),
    };
}

int engine_network_parse(struct arena *arena, struct slice text, struct engine_network_seen *ret,
                         struct err *err)
{
    yyjson_val *root;

    if (json_parse(arena, text, &limits, &root, err) < 0)
        return err_wrap(err, "what the engine says of a network cannot be read");
    read_one(root, ret);
    return 0;
}

bool engine_network_fits(const struct engine_network_seen *seen, struct slice name,
                         struct slice home)
{
    return slice_equal(seen->name, name) && slice_equal(seen->home, home) &&
           slice_is(seen->driver, "bridge") && seen->internal && !seen->ipv6;
}

/* filters={"label":["perigee.home"]}; whose they are is looked at here. */
struct engine_call *engine_networks(struct engine *engine, int64_t timeout_ms, engine_cb on_done,
                                    void *data)
{
    return engine_ask(engine, ENGINE_GET,
                      "/networks?filters=%7B%22label%22%3A%5B%22perigee.home%22%5D%7D",
                      (struct slice){}, timeout_ms, on_done, data);
}

int engine_networks_parse(struct arena *arena, struct slice text, struct slice home,
                          struct slice **ret_names, size_t *ret_count, struct err *err)
{
    yyjson_val *root, *item;
    yyjson_arr_iter iter;
    size_t count = 0;

    if (json_parse(arena, text, &limits, &root, err) < 0)
        return err_wrap(err, "the engine's list of networks cannot be read");
    size_t room = yyjson_arr_size(root);
    room = room < ENGINE_NETWORKS_MAX ? room : ENGINE_NETWORKS_MAX;
    struct slice *names = ARENA_ARRAY(arena, struct slice, room + 1);
    yyjson_arr_iter_init(root, &iter);
    while (count < room && (item = yyjson_arr_iter_next(&iter))) {
        struct engine_network_seen seen;
        read_one(item, &seen);
        names[count] = seen.name;
        count += engine_volume_is_name(seen.name) && slice_equal(seen.home, home);
    }
    *ret_names = names;
    *ret_count = count;
    return 0;
}
