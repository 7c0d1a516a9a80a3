/* SPDX-License-Identifier: Apache-2.0 */
#include "pop/keep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "store/seal.h"

enum {
    DESIRED_BYTES_MAX = 64 * 1024 * 1024,
    KEY_BYTES_MAX = 4096,
    SECRETS_BYTES_MAX = 256 * 1024 * 1024, /* as many as there may be, sealed */
};

static const struct {
    const char *name, *failed; /* the file, and what to say when it cannot be written */
} rows[KEEP_FILES] = {
    [KEEP_KEY] = { "table.key", "key of the table not on disk, trying again" },
    [KEEP_TABLE] = { "table", "table not on disk, trying again; until then a cold boot would begin "
                              "with an older one" },
    [KEEP_DESIRED] = { "desired.json", "desired state not on disk, trying again" },
    [KEEP_KEYS] = { "peers.keys", "keys of other PoPs not on disk, trying again" },
    [KEEP_SEAL] = { "seal.key", "key of secrets not on disk, trying again" },
    [KEEP_SECRETS] = { "secrets", "secrets not on disk, trying again" },
    [KEEP_CONTAINERS] = { "containers", "which containers run is not on disk, trying again" },
};

static const char *path_of(const struct keep *keep, char *buffer, size_t room, enum keep_what what)
{
    snprintf(buffer, room, "%s/%s", keep->folder, rows[what].name);
    return buffer;
}

/* ---- saving ---------------------------------------------------------------------------------- */

static void file_begin(struct keep_file *file);

static bool idle(const struct keep *keep)
{
    for (int i = 0; i < KEEP_FILES; i++)
        if (keep->files[i].under_way)
            return false;
    return true;
}

static void on_again(struct env_timer *, void *data)
{
    file_begin(data);
}

static void file_failed(struct keep_file *file, const struct err *err)
{
    struct keep *keep = file->keep;
    if (file->failures++ == 0 || keep->ending)
        log_error("pop", rows[file->what].failed, LOG_S("error", err->message));
    if (!file->waits) { /* nothing newer came meanwhile */
        file->waits = take_ptr(file->under_way);
        file->bytes = file->under_way_bytes;
    }
    if (!keep->ending)
        env_timer_start(keep->env, &file->again, pop_back_off_ns(file->failures), on_again, file);
}

static void on_file(const struct err *err, void *data)
{
    struct keep_file *file = data;
    struct keep *keep = file->keep;
    if (err) {
        file_failed(file, err);
    } else if (file->failures) {
        log_info("pop", "on disk again", LOG_S("file", rows[file->what].name));
        file->failures = 0;
    }
    arena_free(take_ptr(file->under_way));
    if (!err && file->waits)
        file_begin(file);
    else if (!err && keep->on_saved)
        keep->on_saved(file->what, keep->data);
    if (keep->ending && idle(keep))
        keep->on_idle(keep->data);
}

static void file_begin(struct keep_file *file)
{
    struct keep *keep = file->keep;
    char path[sizeof keep->folder + 32];
    struct err err = {};
    env_timer_stop(keep->env, &file->again);
    file->under_way = take_ptr(file->waits);
    file->under_way_bytes = file->bytes;
    /* Where it cannot be made the save says so. */
    (void)env_folder_make(keep->env, keep->folder, &err);
    env_file_save(keep->env, path_of(keep, path, sizeof path, file->what), file->under_way_bytes,
                  on_file, file);
}

/* Takes the arena, which the bytes lie in. */
static void file_put(struct keep *keep, enum keep_what what, struct arena *arena,
                     struct slice bytes)
{
    struct keep_file *file = &keep->files[what];
    arena_free(file->waits);
    file->waits = arena;
    file->bytes = bytes;
    if (!file->under_way)
        file_begin(file);
}

static void key_put(struct keep *keep)
{
    struct arena *arena = arena_new_secret();
    file_put(keep, KEEP_KEY, arena,
             arena_copy(arena, (struct slice){ (char *)keep->key, TABLE_KEY_BYTES }));
}

void keep_table(struct keep *keep, struct slice table)
{
    struct err err = {};
    struct arena *arena = arena_new();
    char *bytes = arena_alloc(arena, table.size + TABLE_MAC_BYTES);
    memcpy(bytes, table.data, table.size);
    if (table_mac(keep->key, table, (unsigned char *)bytes + table.size, &err) < 0) {
        log_error("pop", "table not on disk", LOG_S("error", err.message));
        arena_free(arena);
        return;
    }
    if (!keep->key_known) { /* with the first table it is good for: until then the old ones count */
        keep->key_known = true;
        key_put(keep);
    }
    file_put(keep, KEEP_TABLE, arena, (struct slice){ bytes, table.size + TABLE_MAC_BYTES });
}

void keep_desired(struct keep *keep)
{
    struct arena *arena = arena_new();
    struct json_writer w;
    const struct pop_endpoint *endpoint;
    json_begin(&w, arena, JSON_NEWLINE);
    json_object_begin(&w);
    json_member_u64(&w, "version", 1);
    json_member_u64(&w, "era", (uint64_t)keep->pop->era);
    if (keep->pop->peers_json.size) {
        json_key(&w, "pops");
        json_raw(&w, keep->pop->peers_json);
    }
    json_key(&w, "endpoints");
    json_array_begin(&w);
    LIST_EACH (endpoint, &keep->pop->endpoints, struct pop_endpoint, link)
        if (endpoint->wanted)
            json_raw(&w, endpoint->json);
    json_array_end(&w);
    json_object_end(&w);
    file_put(keep, KEEP_DESIRED, arena, json_end(&w));
}

void keep_keys(struct keep *keep)
{
    struct arena *arena = arena_new_secret();
    file_put(keep, KEEP_KEYS, arena, pop_keys_json(keep->pop, arena));
}

static void seal_set(struct keep *keep, const unsigned char *bytes)
{
    char path[sizeof keep->folder + 32];
    arena_free(keep->seal_arena);
    keep->seal_arena = arena_new_secret();
    keep->seal = seal_key_of(bytes, path_of(keep, path, sizeof path, KEEP_SEAL), keep->seal_arena);
}

/* With the first secret there is a key, on its way to the disk before what it opens. */
static void seal_make(struct keep *keep)
{
    struct arena *arena = arena_new_secret();
    unsigned char *bytes = arena_alloc(arena, SEAL_KEY_BYTES);
    env_random(keep->env, bytes, SEAL_KEY_BYTES);
    seal_set(keep, bytes);
    file_put(keep, KEEP_SEAL, arena, (struct slice){ (char *)bytes, SEAL_KEY_BYTES });
}

void keep_secrets(struct keep *keep)
{
    if (list_empty(&keep->pop->secrets) && !keep->secrets_there)
        return;
    struct arena *arena = arena_new();
    if (!keep->seal)
        seal_make(keep);
    keep->secrets_there = true;
    file_put(keep, KEEP_SECRETS, arena, pop_secrets_json(keep->pop, keep->seal, arena));
}

void keep_containers(struct keep *keep, struct arena *arena, struct slice json)
{
    file_put(keep, KEEP_CONTAINERS, arena, json);
}

void keep_end(struct keep *keep)
{
    keep->ending = true;
    for (int i = 0; i < KEEP_FILES; i++) {
        struct keep_file *file = &keep->files[i];
        if (env_timer_armed(&file->again)) /* once more, at once */
            file_begin(file);
    }
    if (idle(keep))
        keep->on_idle(keep->data);
}

/* ---- loading --------------------------------------------------------------------------------- */

static void desired_load(struct keep *keep, struct arena *arena)
{
    char path[sizeof keep->folder + 32];
    struct err err = {};
    struct slice bytes;
    yyjson_val *root, *list, *item;
    size_t index, count;
    const struct json_limits limits = { .bytes_max = DESIRED_BYTES_MAX };
    int r = env_file_read(keep->env, path_of(keep, path, sizeof path, KEEP_DESIRED),
                          DESIRED_BYTES_MAX, arena, &bytes, &err);
    if (r == ERR_NOT_FOUND)
        return;
    if (r < 0 || json_parse(arena, bytes, &limits, &root, &err) < 0 ||
        json_get_array(root, "endpoints", JSON_REQUIRED, &list, &err) < 0) {
        log_error("pop", "desired state on disk cannot be read, waiting for control",
                  LOG_S("error", err.message));
        return;
    }
    yyjson_val *peers = json_member(root, "pops");
    if (peers && pop_peers_apply(keep->pop, json_print(arena, peers, 0), &err) < 0)
        log_error("pop", "PoPs on disk cannot be read", LOG_S("error", err.message));
    yyjson_arr_foreach(list, index, count, item)
    {
        if (pop_endpoint_apply(keep->pop, json_print(arena, item, 0), &err) < 0)
            log_error("pop", "an endpoint on disk cannot be read", LOG_S("error", err.message));
    }
    uint64_t era = 0;
    (void)!json_get_u64(root, "era", JSON_OPTIONAL, &era, &err);
    keep->pop->again = era && era == (uint64_t)keep->pop->era;
    keep->pop->begun = true;
}

static void keys_load(struct keep *keep)
{
    struct arena *arena = arena_new_secret();
    char path[sizeof keep->folder + 32];
    struct err err = {};
    struct slice text = {};
    int r = env_file_read(keep->env, path_of(keep, path, sizeof path, KEEP_KEYS), DESIRED_BYTES_MAX,
                          arena, &text, &err);
    if (r == 0)
        r = pop_keys_apply(keep->pop, text, &err);
    if (r < 0 && r != ERR_NOT_FOUND)
        log_warn("pop", "keys of other PoPs on disk cannot be read, waiting for control",
                 LOG_S("error", err.message));
    arena_free(arena);
}

static void secrets_load(struct keep *keep)
{
    struct arena *arena = arena_new_secret();
    char path[sizeof keep->folder + 32];
    struct err err = {};
    struct slice key = {}, text = {};
    int r = env_file_read(keep->env, path_of(keep, path, sizeof path, KEEP_SEAL), KEY_BYTES_MAX,
                          arena, &key, &err);
    if (r == 0 && key.size == SEAL_KEY_BYTES)
        seal_set(keep, (const unsigned char *)key.data);
    r = env_file_read(keep->env, path_of(keep, path, sizeof path, KEEP_SECRETS), SECRETS_BYTES_MAX,
                      arena, &text, &err);
    keep->secrets_there = r != ERR_NOT_FOUND;
    if (r == 0)
        r = keep->seal ? pop_secrets_load(keep->pop, keep->seal, text, &err)
                       : err_set(&err, ERR_PRECONDITION, "their key is not there");
    if (r < 0 && r != ERR_NOT_FOUND)
        log_warn("pop", "secrets on disk cannot be read, waiting for control",
                 LOG_S("error", err.message));
    arena_free(arena);
}

/* What only the table remembers: serving revisions, models' metadata. */
static void table_recall(struct keep *keep, const struct table_head *table)
{
    struct pop *pop = keep->pop;
    keep->table_number = table->number;
    for (uint32_t i = 0; i < table->endpoints.count; i++) {
        const struct table_endpoint *row = table_endpoint(table, i);
        struct pop_endpoint *endpoint = pop_endpoint_find(pop, row->uid);
        if (!endpoint)
            continue;
        for (uint32_t k = 0; k < row->revision_count; k++) {
            const struct table_revision *was = table_revision(table, row->revision_first + k);
            struct pop_revision *revision = pop_revision_find(pop, was->uid);
            const struct perigee_model *model = table_model(table, was);
            if (revision && row->serving == row->revision_first + k) {
                endpoint->serving = revision->number;
                revision->shown = true;
            }
            if (!revision || !model || revision->model)
                continue;
            revision->model = mem_alloc(was->model.bytes);
            memcpy(revision->model, model, was->model.bytes);
            revision->model_bytes = was->model.bytes;
            revision->shown = true;
        }
    }
}

static void key_load(struct keep *keep, struct arena *arena)
{
    char path[sizeof keep->folder + 32];
    struct err err = {};
    struct slice key;
    int r = env_file_read(keep->env, path_of(keep, path, sizeof path, KEEP_KEY), KEY_BYTES_MAX,
                          arena, &key, &err);
    keep->key_known = r == 0 && key.size == TABLE_KEY_BYTES;
    if (keep->key_known) {
        memcpy(keep->key, key.data, TABLE_KEY_BYTES);
        return;
    }
    if (r != ERR_NOT_FOUND)
        log_warn("pop", "key of the table cannot be read, making a new one",
                 LOG_S("error", r < 0 ? err.message : "it has another size"));
    env_random(keep->env, keep->key, TABLE_KEY_BYTES);
}

void keep_load(struct keep *keep)
{
    struct arena *arena = arena_new();
    struct err err = {};
    struct slice file, table;
    char path[sizeof keep->folder + 32];
    key_load(keep, arena);
    desired_load(keep, arena);
    keys_load(keep);
    secrets_load(keep);
    int r = env_file_read(keep->env, path_of(keep, path, sizeof path, KEEP_TABLE), TABLE_BYTES_MAX,
                          arena, &file, &err);
    if (r == 0)
        r = table_open_file(keep->key, file, &table, &err);
    if (r == 0)
        table_recall(keep, (const struct table_head *)(const void *)table.data);
    else if (r != ERR_NOT_FOUND)
        log_warn("pop", "table on disk cannot be used, ignoring", LOG_S("error", err.message));
    arena_free(arena);
}

/* ---- life ------------------------------------------------------------------------------------ */

void keep_init(struct keep *keep, struct pop *pop, const char *home)
{
    keep->env = pop->env;
    keep->pop = pop;
    snprintf(keep->folder, sizeof keep->folder, "%s/pop", home);
    for (int i = 0; i < KEEP_FILES; i++)
        keep->files[i] = (struct keep_file){ .keep = keep, .what = (enum keep_what)i };
}

void keep_deinit(struct keep *keep)
{
    for (int i = 0; i < KEEP_FILES && keep->env; i++) {
        env_timer_stop(keep->env, &keep->files[i].again);
        arena_free(keep->files[i].waits);
        arena_free(keep->files[i].under_way);
    }
    arena_free(keep->seal_arena);
}
