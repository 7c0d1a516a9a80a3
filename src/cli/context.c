/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/context.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "base/yaml.h"
#include "cli/cli.h"
#include "spec/endpoint.h"
#include "sys/env_linux.h"
#include "sys/home.h"

enum { CONFIG_BYTES_MAX = 64 << 10 };

static const char *config_path(struct cli *cli)
{
    return arena_format(cli->arena, "%s/config.yaml", cli->home);
}

static int check_mode(const char *path, struct err *err)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return errno == ENOENT ? 0 : err_set(err, ERR_INTERNAL, "'%s': %s", path, strerror(errno));
    if ((st.st_mode & 022) || (st.st_uid != geteuid() && st.st_uid != 0))
        return err_set(err, ERR_FORBIDDEN,
                       "'%s' may be written by others: own it, and chmod 600 it", path);
    return 0;
}

static int read_one(struct arena *arena, struct slice name, yyjson_val *value, struct contexts *ret,
                    struct err *err)
{
    static const char *const keys[] = { "control", NULL };
    struct context *context = &ret->items[ret->count];
    if (ret->count == CONTEXTS_MAX)
        return err_set(err, ERR_TOO_LARGE, "more than %d contexts", (int)CONTEXTS_MAX);
    if (spec_check_name(name, "context", err) < 0)
        return ERR_BAD_INPUT;
    context->name = name;
    if (json_check_keys(value, keys, err) < 0 ||
        json_get_string(value, "control", JSON_REQUIRED, &context->control, err) < 0 ||
        control_check_url(arena_string(arena, context->control), err) < 0)
        return err_wrap(err, "context '%s'", ERR_SLICE(name));
    ret->count++;
    return 0;
}

static int read_all(struct arena *arena, yyjson_val *root, struct contexts *ret, struct err *err)
{
    static const char *const keys[] = { "context", "contexts", NULL };
    yyjson_val *map = NULL, *key;
    yyjson_obj_iter iter;
    int r = json_check_keys(root, keys, err);
    if (r == 0)
        r = json_get_string(root, "context", JSON_OPTIONAL, &ret->in_use, err);
    if (r >= 0)
        r = json_get_object(root, "contexts", JSON_OPTIONAL, &map, err);
    yyjson_obj_iter_init(map, &iter);
    while (r >= 0 && map && (key = yyjson_obj_iter_next(&iter)))
        r = read_one(arena, json_slice(key), yyjson_obj_iter_get_val(key), ret, err);
    return r < 0 ? r : 0;
}

int contexts_read(struct cli *cli, struct contexts *ret, struct err *err)
{
    const char *path = config_path(cli);
    struct yaml_documents documents;
    struct slice text;
    *ret = (struct contexts){};
    int r = check_mode(path, err);
    if (r == 0)
        r = disk_read(path, CONFIG_BYTES_MAX, cli->arena, &text, err);
    if (r < 0)
        return r == ERR_NOT_FOUND ? 0 : r;
    r = yaml_parse(cli->arena, text, NULL, &documents, err);
    if (r == 0 && documents.count > 1)
        r = err_set(err, ERR_BAD_INPUT, "more than one document");
    if (r == 0 && documents.count)
        r = read_all(cli->arena, documents.items[0].root, ret, err);
    return r < 0 ? err_wrap(err, "%s", path) : 0;
}

int contexts_write(struct cli *cli, const struct contexts *contexts, struct err *err)
{
    struct json_writer w;
    yyjson_val *root;
    int r = home_make(cli->home, err);
    if (r < 0)
        return r;
    json_begin(&w, cli->arena, 0);
    json_object_begin(&w);
    if (contexts->in_use.size)
        json_member_string(&w, "context", contexts->in_use);
    json_key(&w, "contexts");
    json_object_begin(&w);
    for (size_t i = 0; i < contexts->count; i++) {
        json_key_slice(&w, contexts->items[i].name);
        json_object_begin(&w);
        json_member_string(&w, "control", contexts->items[i].control);
        json_object_end(&w);
    }
    json_object_end(&w);
    json_object_end(&w);
    r = json_parse(cli->arena, json_end(&w), NULL, &root, err);
    assert(r == 0); /* it is ours */
    return disk_replace(config_path(cli), yaml_print(cli->arena, root), err);
}

struct context *contexts_find(struct contexts *contexts, struct slice name)
{
    for (size_t i = 0; i < contexts->count; i++)
        if (slice_equal(contexts->items[i].name, name))
            return &contexts->items[i];
    return NULL;
}

int context_control(struct cli *cli, const char **ret, struct err *err)
{
    struct contexts *contexts = ARENA_NEW(cli->arena, struct contexts);
    int r = contexts_read(cli, contexts, err);
    if (r < 0 || contexts->in_use.size == 0)
        return r;
    const struct context *context = contexts_find(contexts, contexts->in_use);
    if (!context)
        return err_set(err, ERR_NOT_FOUND,
                       "the context in use, '%s', is not there (any more): perigee context clear, "
                       "or use another",
                       ERR_SLICE(contexts->in_use));
    *ret = arena_string(cli->arena, context->control);
    return 1;
}
