/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/engine/listed.h"

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "replica/engine/container.h"
#include "replica/engine/engine.h"

static struct slice network_of(yyjson_val *item)
{
    yyjson_obj_iter iter;

    yyjson_obj_iter_init(json_member(json_member(item, "NetworkSettings"), "Networks"), &iter);
    return json_slice(yyjson_obj_iter_next(&iter));
}

static bool listed(yyjson_val *item, struct slice home, struct engine_listed *ret)
{
    yyjson_val *labels = json_member(item, "Labels");

    *ret = (struct engine_listed){ .id = json_slice(json_member(item, "Id")),
                                   .state = json_slice(json_member(item, "State")),
                                   .network = network_of(item),
                                   .gpus = json_slice(json_member(labels, ENGINE_LABEL_GPUS)) };
    if (!engine_is_gpus(ret->gpus)) /* not written by us: its walls are looked at without */
        ret->gpus = (struct slice){};
    return engine_is_id(ret->id) &&
           slice_equal(json_slice(json_member(labels, ENGINE_LABEL_HOME)), home) &&
           slice_u64(json_slice(json_member(labels, ENGINE_LABEL_REVISION)), &ret->revision) &&
           slice_u64(json_slice(json_member(labels, ENGINE_LABEL_REPLICA)), &ret->replica);
}

int engine_list_parse(struct arena *arena, struct slice text, struct slice home,
                      struct engine_list *ret, struct err *err)
{
    static const struct json_limits limits = { .bytes_max = ENGINE_ANSWER_BYTES_MAX,
                                               .duplicates_allowed = true };
    struct engine_list list = {};
    yyjson_val *root, *item;
    yyjson_arr_iter iter;
    int r = json_parse(arena, text, &limits, &root, err);

    if (r < 0)
        return err_wrap(err, "the engine's list of containers cannot be read");
    if (!yyjson_is_arr(root))
        return err_set(err, ERR_BAD_INPUT, "the engine's list of containers is %s",
                       json_kind(root));
    size_t room = yyjson_arr_size(root) < ENGINE_LIST_MAX ? yyjson_arr_size(root) : ENGINE_LIST_MAX;
    list.items = ARENA_ARRAY(arena, struct engine_listed, room + 1);
    yyjson_arr_iter_init(root, &iter);
    while (list.count < room && (item = yyjson_arr_iter_next(&iter)))
        list.count += listed(item, home, &list.items[list.count]);
    *ret = list;
    return 0;
}

/* filters={"label":["perigee.home"]}; whose they are is looked at here. */
struct engine_call *engine_list(struct engine *engine, int64_t timeout_ms, engine_cb on_done,
                                void *data)
{
    return engine_ask(engine, ENGINE_GET,
                      "/containers/json?all=1&filters=%7B%22label%22%3A%5B%22perigee.home%22%5D%7D",
                      (struct slice){}, timeout_ms, on_done, data);
}
