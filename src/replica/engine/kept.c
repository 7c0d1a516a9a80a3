/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/engine/kept.h"

#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "replica/engine/container.h"
#include "sys/fd.h"
#include "sys/proc.h"

/* ---- writing --------------------------------------------------------------------------------- */

static void item_json(struct json_writer *w, const struct engine_kept *item)
{
    json_object_begin(w);
    json_member_string(w, "id", item->id);
    json_member_u64(w, "replica", item->replica);
    json_member_u64(w, "revision", item->revision);
    json_member_u64(w, "pid", (uint64_t)item->pid);
    json_member_u64(w, "started", item->started);
    json_member_string(w, "address", item->address);
    json_member_bool(w, "by_address", item->by_address);
    if (item->gpus.size)
        json_member_string(w, "gpus", item->gpus);
    json_object_end(w);
}

struct slice engine_kept_json(struct arena *arena, const struct engine_kept_list *list)
{
    struct json_writer w;

    json_begin(&w, arena, JSON_NEWLINE);
    json_object_begin(&w);
    json_member_string(&w, "boot", list->boot);
    json_member_string(&w, "engine", list->engine);
    json_member_text(&w, "name", list->version.name);
    json_member_text(&w, "version", list->version.version);
    json_member_text(&w, "api", list->version.api);
    json_member_bool(&w, "podman", list->version.podman);
    json_member_text(&w, "cgroup_driver", list->info.cgroup_driver);
    json_member_bool(&w, "rootless", list->info.rootless);
    json_key(&w, "containers");
    json_array_begin(&w);
    for (size_t i = 0; i < list->count; i++)
        item_json(&w, &list->items[i]);
    json_array_end(&w);
    json_object_end(&w);
    return json_end(&w);
}

/* ---- reading --------------------------------------------------------------------------------- */

static uint64_t number_of(yyjson_val *object, const char *key)
{
    yyjson_val *value = json_member(object, key);

    return yyjson_is_uint(value) ? yyjson_get_uint(value) : 0;
}

static struct slice text_of(yyjson_val *object, const char *key)
{
    return json_slice(json_member(object, key));
}

static bool item_parse(yyjson_val *item, struct engine_kept *ret)
{
    uint64_t pid = number_of(item, "pid");

    *ret = (struct engine_kept){
        .id = text_of(item, "id"),
        .replica = number_of(item, "replica"),
        .revision = number_of(item, "revision"),
        .pid = pid <= INT32_MAX ? (int64_t)pid : 0,
        .started = number_of(item, "started"),
        .address = text_of(item, "address"),
        .by_address = yyjson_is_true(json_member(item, "by_address")),
        .gpus = text_of(item, "gpus"),
    };
    return engine_is_id(ret->id) && engine_is_gpus(ret->gpus) && ret->replica && ret->revision &&
           ret->pid > 1 && ret->started;
}

static void word(char *to, size_t room, yyjson_val *root, const char *key)
{
    struct slice text = text_of(root, key);

    (void)snprintf(to, room, "%.*s", SLICE_FMT(text));
}

/* It stands in the target of each request. */
static bool is_api(const char *text)
{
    uint64_t major, minor;
    struct slice rest = slice_of(text);

    return slice_u64(slice_cut(&rest, '.'), &major) && major == 1 && slice_u64(rest, &minor) &&
           minor >= ENGINE_API_MINOR;
}

int engine_kept_parse(struct arena *arena, struct slice text, struct engine_kept_list *ret,
                      struct err *err)
{
    static const struct json_limits limits = { .bytes_max = ENGINE_KEPT_BYTES_MAX };
    struct engine_kept_list list = {};
    yyjson_val *root, *item;
    yyjson_arr_iter iter;
    int r = json_parse(arena, text, &limits, &root, err);

    if (r < 0)
        return err_wrap(err, "the note of containers cannot be read");
    list.boot = text_of(root, "boot");
    list.engine = text_of(root, "engine");
    word(list.version.name, sizeof list.version.name, root, "name");
    word(list.version.version, sizeof list.version.version, root, "version");
    word(list.version.api, sizeof list.version.api, root, "api");
    list.version.podman = yyjson_is_true(json_member(root, "podman"));
    word(list.info.cgroup_driver, sizeof list.info.cgroup_driver, root, "cgroup_driver");
    list.info.rootless = yyjson_is_true(json_member(root, "rootless"));
    if (!list.boot.size || !list.engine.size || !is_api(list.version.api))
        return err_set(err, ERR_BAD_INPUT, "the note of containers names no engine");
    yyjson_val *rows = json_member(root, "containers");
    size_t room = yyjson_arr_size(rows) < ENGINE_KEPT_MAX ? yyjson_arr_size(rows) : ENGINE_KEPT_MAX;
    list.items = ARENA_ARRAY(arena, struct engine_kept, room + 1);
    yyjson_arr_iter_init(rows, &iter);
    while (list.count < room && (item = yyjson_arr_iter_next(&iter)))
        list.count += item_parse(item, &list.items[list.count]);
    *ret = list;
    return 0;
}

/* The time is looked at once the pidfd is there: from then on the number is not used again. */
int engine_kept_open(const struct engine_kept *item)
{
    int fd = (int)syscall(SYS_pidfd_open, (pid_t)item->pid, 0);
    uint64_t started = 0;

    if (fd >= 0 && (!proc_started((pid_t)item->pid, &started) || started != item->started ||
                    proc_ending((pid_t)item->pid)))
        fd_close(&fd);
    return fd;
}
