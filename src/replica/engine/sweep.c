/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/engine/sweep.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "replica/engine/container.h"
#include "replica/engine/engine.h"

enum { LIST_MS = 30'000, REMOVE_MS = 60'000 };

/* ---- the list -------------------------------------------------------------------------------- */

static bool listed(yyjson_val *item, struct slice home, struct engine_listed *ret)
{
    yyjson_val *labels = json_member(item, "Labels");

    *ret = (struct engine_listed){ .id = json_slice(json_member(item, "Id")),
                                   .state = json_slice(json_member(item, "State")) };
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

/* ---- sweeping: one after the other ----------------------------------------------------------- */

struct sweep {
    struct engine *engine;
    struct arena *arena;
    struct slice home;
    bool (*keeps)(uint64_t replica, void *data);
    engine_swept_cb on_swept;
    void *data;
    struct engine_list list;
    size_t at;
    struct engine_swept swept;
};

static void over(struct sweep *sweep, const struct err *err)
{
    if (!err || err->code != ERR_CANCELED)
        sweep->on_swept(&sweep->swept, err, sweep->data);
    arena_free(sweep->arena);
    free(sweep);
}

static void next(struct sweep *sweep);

static void on_removed(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct sweep *sweep = data;
    (void)answer;

    if (err && err->code == ERR_CANCELED) {
        over(sweep, err);
        return;
    }
    bool left = err && err->code != ERR_NOT_FOUND;
    sweep->swept.left += left;
    sweep->swept.removed += !left;
    if (left)
        log_warn("engine", "a container that nobody needs could not be removed",
                 LOG_S("why", err->message));
    next(sweep);
}

static void next(struct sweep *sweep)
{
    char target[128];

    while (sweep->at < sweep->list.count) {
        const struct engine_listed *item = &sweep->list.items[sweep->at++];
        if (sweep->keeps && sweep->keeps(item->replica, sweep->data))
            continue;
        (void)snprintf(target, sizeof target, "/containers/%.*s?force=1&v=1", SLICE_FMT(item->id));
        engine_ask(sweep->engine, ENGINE_DELETE, target, (struct slice){}, REMOVE_MS, on_removed,
                   sweep);
        return;
    }
    over(sweep, NULL);
}

static void on_listed(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct sweep *sweep = data;
    struct err why = {};

    if (!err && engine_list_parse(sweep->arena, answer->body, sweep->home, &sweep->list, &why) < 0)
        err = &why;
    if (err)
        over(sweep, err);
    else
        next(sweep);
}

void engine_sweep(struct engine *engine, struct slice home,
                  bool (*keeps)(uint64_t replica, void *data), engine_swept_cb on_swept, void *data)
{
    struct sweep *sweep = mem_zalloc(sizeof *sweep);

    sweep->engine = engine;
    sweep->arena = arena_new();
    sweep->home = arena_copy(sweep->arena, home);
    sweep->keeps = keeps;
    sweep->on_swept = on_swept;
    sweep->data = data;
    engine_list(engine, LIST_MS, on_listed, sweep);
}
