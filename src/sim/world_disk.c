/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "sim/world_part.h"

struct file {
    char *path;
    char *bytes;
    size_t size;
};

/* "/a/b" is in "/a", "/a" in "/", "a" in "". */
static struct slice folder_of(struct slice path)
{
    size_t size = path.size;

    while (size && path.data[size - 1] != '/')
        size--;
    return (struct slice){ path.data, size > 1 ? size - 1 : size };
}

struct save {
    struct list link;
    struct world *world;
    struct env_timer timer;
    char *path, *bytes;
    int64_t offset; /* of an append; below 0: the whole file */
    size_t size;
    env_saved_cb on_saved;
    void *data;
};

static struct slice without_slash(const char *folder)
{
    struct slice path = slice_of(folder);

    while (path.size > 1 && path.data[path.size - 1] == '/')
        path.size--;
    return path;
}

static void file_free(struct file *file)
{
    if (!file)
        return;
    free(file->path);
    free(file->bytes);
    free(file);
}

static int on_read(struct env *env, const char *path, size_t bytes_max, struct arena *arena,
                   struct slice *ret_bytes, struct err *err)
{
    struct world *world = world_of(env);
    int r = world_may_fail(world, WORLD_FILE_READ, "file read", err);

    if (r < 0)
        return r;
    struct file *file = map_get(&world->files, slice_of(path));
    if (!file)
        return err_set(err, ERR_NOT_FOUND, "there is no file '%s'", ERR_TEXT(path));
    if (file->size > bytes_max)
        return err_set(err, ERR_TOO_LARGE, "'%s' has %zu bytes, the limit is %zu", ERR_TEXT(path),
                       file->size, bytes_max);
    *ret_bytes = arena_copy(arena, (struct slice){ file->bytes, file->size });
    return 0;
}

static int file_put(struct world *world, const char *path, struct slice bytes, struct err *err)
{
    if (!map_get(&world->folders, folder_of(slice_of(path))))
        return err_set(err, ERR_NOT_FOUND, "there is no folder for '%s'", ERR_TEXT(path));
    struct file *file = mem_zalloc(sizeof *file);
    file->path = mem_string(slice_of(path));
    file->bytes = mem_string(bytes);
    file->size = bytes.size;
    file_free(map_put(&world->files, slice_of(file->path), file));
    return 0;
}

static int on_replace(struct env *env, const char *path, struct slice bytes, struct err *err)
{
    struct world *world = world_of(env);
    int r = world_may_fail(world, WORLD_FILE_REPLACE, "file replace", err);

    return r < 0 ? r : file_put(world, path, bytes, err);
}

/* The first `size` bytes of those that are to follow. */
static int file_extend(struct world *world, const struct save *save, size_t size, struct err *err)
{
    struct file *file = map_get(&world->files, slice_of(save->path));
    size_t offset = (size_t)save->offset;

    if (!file)
        return err_set(err, ERR_NOT_FOUND, "there is no file '%s'", ERR_TEXT(save->path));
    if (file->size < offset)
        return err_set(err, ERR_BAD_INPUT, "'%s' is no file of %zu bytes", ERR_TEXT(save->path),
                       offset);
    file->bytes = mem_resize(file->bytes, offset + size + 1, 1);
    memcpy(file->bytes + offset, save->bytes, size);
    file->size = offset + size;
    return 0;
}

static int save_now(struct world *world, const struct save *save, size_t size, struct err *err)
{
    return save->offset < 0
               ? file_put(world, save->path, (struct slice){ save->bytes, save->size }, err)
               : file_extend(world, save, size, err);
}

/* ---- saves: a replace that takes a while ----------------------------------------------------- */

static void save_free(struct save *save)
{
    env_timers_stop(&save->world->timers, &save->timer);
    list_remove(&save->link);
    free(save->path);
    free(save->bytes);
    free(save);
}

static void on_save_due(struct env_timer *, void *data)
{
    struct save *save = data;
    struct world *world = save->world;
    env_saved_cb on_saved = save->on_saved;
    void *their = save->data;
    struct err err = {};
    int r = world_may_fail(world, WORLD_FILE_SAVE, "file save", &err);

    if (r == 0)
        r = save_now(world, save, save->size, &err);
    else if (save->offset >= 0) /* some of it may be there */
        (void)save_now(world, save, (size_t)world_draw(world, 0, (int64_t)save->size), NULL);
    save_free(save);
    on_saved(r < 0 ? &err : NULL, their);
}

static void save_begin(struct env *env, const char *path, int64_t offset, struct slice bytes,
                       env_saved_cb on_saved, void *data)
{
    struct world *world = world_of(env);
    struct save *save = mem_zalloc(sizeof *save);
    int64_t at_ns = world->now_ns + world_draw(world, world->disk_ns_min, world->disk_ns_max);

    if (at_ns < world->saved_last_ns)
        at_ns = world->saved_last_ns;
    world->saved_last_ns = at_ns;
    save->world = world;
    save->path = mem_string(slice_of(path));
    save->bytes = mem_string(bytes);
    save->offset = offset;
    save->size = bytes.size;
    save->on_saved = on_saved;
    save->data = data;
    list_append(&world->saves, &save->link);
    env_timer_start(env, &save->timer, at_ns - world->now_ns, on_save_due, save);
}

static void on_save(struct env *env, const char *path, struct slice bytes, env_saved_cb on_saved,
                    void *data)
{
    save_begin(env, path, -1, bytes, on_saved, data);
}

static void on_append(struct env *env, const char *path, uint64_t offset, struct slice bytes,
                      env_saved_cb on_saved, void *data)
{
    save_begin(env, path, (int64_t)offset, bytes, on_saved, data);
}

void world_saves_lose(struct world *world)
{
    struct save *save = LIST_FIRST(&world->saves, struct save, link);

    if (save && world_draw(world, 0, 1))
        (void)save_now(world, save, (size_t)world_draw(world, 0, (int64_t)save->size), NULL);
    LIST_EACH (save, &world->saves, struct save, link)
        save_free(save);
}

void world_disk_latency(struct world *world, int64_t min_ns, int64_t max_ns)
{
    world->disk_ns_min = min_ns;
    world->disk_ns_max = max_ns;
}

static int on_folder_make(struct env *env, const char *folder, struct err *err)
{
    struct world *world = world_of(env);
    int r = world_may_fail(world, WORLD_FOLDER_MAKE, "folder make", err);

    if (r < 0)
        return r;
    if (!map_get(&world->folders, folder_of(without_slash(folder))))
        return err_set(err, ERR_NOT_FOUND, "there is no folder for '%s'", ERR_TEXT(folder));
    world_folder_make(world, folder);
    return 0;
}

static int on_remove(struct env *env, const char *path, struct err *err)
{
    struct world *world = world_of(env);
    int r = world_may_fail(world, WORLD_FILE_REMOVE, "file remove", err);

    if (r < 0)
        return r;
    struct file *file = map_remove(&world->files, slice_of(path));
    if (!file)
        return err_set(err, ERR_NOT_FOUND, "there is no file '%s'", ERR_TEXT(path));
    file_free(file);
    return 0;
}

static int name_compare(const void *a, const void *b)
{
    return strcmp(((const struct slice *)a)->data, ((const struct slice *)b)->data);
}

static int on_list(struct env *env, const char *folder, struct arena *arena,
                   struct slice **ret_names, size_t *ret_count, struct err *err)
{
    struct world *world = world_of(env);
    struct slice wanted = without_slash(folder);
    size_t count = 0;
    int r = world_may_fail(world, WORLD_FILE_LIST, "file list", err);

    if (r < 0)
        return r;
    if (!map_get(&world->folders, wanted))
        return err_set(err, ERR_NOT_FOUND, "there is no folder '%s'", ERR_TEXT(folder));
    struct slice *names = ARENA_ARRAY(arena, struct slice, world->files.count + 1);
    MAP_EACH (entry, &world->files) {
        struct slice path = entry->key;
        if (!slice_equal(folder_of(path), wanted))
            continue;
        const char *slash = memrchr(path.data, '/', path.size);
        names[count++] = arena_copy(arena, slice_of(slash ? slash + 1 : path.data));
    }
    qsort(names, count, sizeof *names, name_compare);
    *ret_names = names;
    *ret_count = count;
    return 0;
}

void world_file_set(struct world *world, const char *path, struct slice bytes)
{
    if (bytes.data)
        (void)file_put(world, path, bytes, NULL);
    else
        file_free(map_remove(&world->files, slice_of(path)));
}

void world_folder_make(struct world *world, const char *folder)
{
    struct slice path = without_slash(folder);

    if (map_get(&world->folders, path))
        return;
    char *copy = mem_string(path);
    map_put(&world->folders, slice_of(copy), copy);
}

size_t world_files(const struct world *world)
{
    return world->files.count;
}

void world_disk_init(struct world *world)
{
    world->env.file_read = on_read;
    world->env.file_replace = on_replace;
    world->env.file_save = on_save;
    world->env.file_append = on_append;
    world->env.folder_make = on_folder_make;
    list_init(&world->saves);
    world_disk_latency(world, 100 * ENV_US, 10 * ENV_MS);
    world->env.file_remove = on_remove;
    world->env.file_list = on_list;
    world_folder_make(world, "/");
}

void world_disk_deinit(struct world *world)
{
    struct save *save;

    LIST_EACH (save, &world->saves, struct save, link)
        save_free(save);
    MAP_EACH (entry, &world->files)
        file_free(entry->value);
    MAP_EACH (entry, &world->folders)
        free(entry->value);
    map_deinit(&world->files);
    map_deinit(&world->folders);
}
