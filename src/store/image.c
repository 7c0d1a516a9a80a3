/* SPDX-License-Identifier: Apache-2.0 */
#include "store/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "store/digest.h"
#include "store/tar.h"

/* ---- the configuration ----------------------------------------------------------------------- */

static int take_text(struct arena *arena, yyjson_val *object, const char *key, struct slice *ret,
                     struct err *err)
{
    struct slice text = {};
    int r = yyjson_is_null(json_member(object, key))
                ? 0
                : json_get_string(object, key, JSON_OPTIONAL, &text, err);

    if (r < 0)
        return r;
    if (memchr(text.data ? text.data : "", '\0', text.size))
        return err_set(err, ERR_BAD_INPUT, "'%s' has a zero byte in it", key);
    *ret = arena_copy(arena, text);
    return 0;
}

static int take_words(struct arena *arena, yyjson_val *object, const char *key,
                      struct image_words *ret, struct err *err)
{
    yyjson_val *list = json_member(object, key), *item;
    yyjson_arr_iter iter;
    struct slice *items;

    if (!list || yyjson_is_null(list))
        return 0;
    if (!yyjson_is_arr(list) || yyjson_arr_size(list) > IMAGE_WORDS_MAX)
        return err_set(err, ERR_BAD_INPUT, "'%s' must be a list of at most %d strings", key,
                       (int)IMAGE_WORDS_MAX);
    items = ARENA_ARRAY(arena, struct slice, yyjson_arr_size(list) + 1);
    ret->items = items;
    yyjson_arr_iter_init(list, &iter);
    while ((item = yyjson_arr_iter_next(&iter))) {
        struct slice word = json_slice(item);
        if (!yyjson_is_str(item) || memchr(word.data, '\0', word.size))
            return err_set(err, ERR_BAD_INPUT, "'%s' must be a list of strings", key);
        items[ret->count++] = arena_copy(arena, word);
    }
    return 0;
}

static int port_order(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

/* {"8080/tcp": {}}; without a protocol it is TCP. */
static int take_ports(yyjson_val *object, struct image_config *config, struct err *err)
{
    yyjson_obj_iter iter;
    yyjson_val *key;

    yyjson_obj_iter_init(json_member(object, "ExposedPorts"), &iter);
    while ((key = yyjson_obj_iter_next(&iter))) {
        struct slice rest = json_slice(key), number = slice_cut(&rest, '/');
        uint64_t port;
        if (!slice_u64(number, &port) || port == 0 || port > UINT16_MAX)
            return err_set(err, ERR_BAD_INPUT, "it exposes '%s', which is no port",
                           ERR_SLICE(json_slice(key)));
        bool tcp = !rest.size || slice_equal_nocase(rest, SLICE("tcp"));
        if (tcp && config->port_count < IMAGE_PORTS_MAX)
            config->ports[config->port_count++] = (uint16_t)port;
    }
    qsort(config->ports, config->port_count, sizeof *config->ports, port_order);
    return 0;
}

static int take_layers(struct arena *arena, yyjson_val *root, struct image_config *config,
                       struct err *err)
{
    yyjson_val *files, *list, *item;
    yyjson_arr_iter iter;
    struct slice *layers;
    int r = json_get_object(root, "rootfs", JSON_REQUIRED, &files, err);

    if (r >= 0)
        r = json_get_array(files, "diff_ids", JSON_REQUIRED, &list, err);
    if (r < 0)
        return r;
    if (yyjson_arr_size(list) > IMAGE_LAYERS_MAX)
        return err_set(err, ERR_TOO_LARGE, "it has %zu layers, and engines take at most %d",
                       yyjson_arr_size(list), (int)IMAGE_LAYERS_MAX);
    layers = ARENA_ARRAY(arena, struct slice, yyjson_arr_size(list) + 1);
    config->layers = layers;
    yyjson_arr_iter_init(list, &iter);
    while ((item = yyjson_arr_iter_next(&iter))) {
        r = digest_check(json_slice(item), err);
        if (r < 0)
            return err_wrap(err, "rootfs.diff_ids");
        layers[config->layer_count++] = arena_copy(arena, json_slice(item));
    }
    return 0;
}

static int parse(struct arena *arena, struct slice text, struct image_config *config,
                 struct err *err)
{
    static const struct json_limits limits = { .bytes_max = IMAGE_CONFIG_BYTES_MAX };
    yyjson_val *root, *run;
    int r = json_parse(arena, text, &limits, &root, err);

    if (r >= 0 && !yyjson_is_obj(root))
        r = err_set(err, ERR_BAD_INPUT, "it is %s", json_kind(root));
    if (r >= 0)
        r = take_text(arena, root, "os", &config->system, err);
    if (r >= 0)
        r = take_text(arena, root, "architecture", &config->machine, err);
    if (r >= 0)
        r = take_layers(arena, root, config, err);
    if (r < 0)
        return r;
    run = json_member(root, "config");
    if (!run || yyjson_is_null(run)) /* an image need not have one */
        return 0;
    if (!yyjson_is_obj(run))
        return err_set(err, ERR_BAD_INPUT, "'config' must be an object, not %s", json_kind(run));
    r = take_words(arena, run, "Entrypoint", &config->entrypoint, err);
    if (r >= 0)
        r = take_words(arena, run, "Cmd", &config->command, err);
    if (r >= 0)
        r = take_words(arena, run, "Env", &config->environment, err);
    if (r >= 0)
        r = take_text(arena, run, "User", &config->user, err);
    if (r >= 0)
        r = take_text(arena, run, "WorkingDir", &config->folder, err);
    if (r >= 0)
        r = take_text(arena, run, "StopSignal", &config->stop_signal, err);
    return r < 0 ? r : take_ports(run, config, err);
}

int image_config_parse(struct arena *arena, struct slice text, struct image_config *ret,
                       struct err *err)
{
    struct image_config config = {};
    int r = parse(arena, text, &config, err);

    if (r < 0)
        return err_wrap(err, "the image's configuration");
    *ret = config;
    return 0;
}

/* ---- does it fit ----------------------------------------------------------------------------- */

const char *image_machine(void)
{
    static const char *const names[][2] = { { "x86_64", "amd64" },
                                            { "aarch64", "arm64" },
                                            { "riscv64", "riscv64" } };
    static struct utsname name;

    if (uname(&name) < 0)
        return "?";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name.machine, names[i][0]) == 0)
            return names[i][1];
    return name.machine;
}

int image_check(const struct image_config *config, struct slice machine, bool command_told,
                struct err *err)
{
    if (!slice_is(config->system, "linux"))
        return err_set(err, ERR_BAD_INPUT, "the image is for the system '%s', not for linux",
                       ERR_SLICE(config->system));
    if (!slice_equal(config->machine, machine))
        return err_set(err, ERR_BAD_INPUT,
                       "the image is for '%s' machines, and this one is '%s'; build it for both, "
                       "or for this one",
                       ERR_SLICE(config->machine), ERR_SLICE(machine));
    if (config->layer_count == 0)
        return err_set(err, ERR_BAD_INPUT, "the image has no layers: there is nothing in it");
    if (!command_told && config->entrypoint.count + config->command.count == 0)
        return err_set(err, ERR_BAD_INPUT,
                       "the image has no entry point; say with 'command' what to run in it");
    return 0;
}

int image_port(const struct image_config *config, uint16_t told, uint16_t *ret, struct err *err)
{
    char all[IMAGE_PORTS_MAX * 8] = "";
    size_t at = 0;

    if (told || config->port_count == 1) {
        *ret = told ? told : config->ports[0];
        return 0;
    }
    if (config->port_count == 0)
        return err_set(err, ERR_BAD_INPUT,
                       "the image exposes no port; say with 'port' where it listens");
    for (size_t i = 0; i < config->port_count; i++)
        at += (size_t)snprintf(all + at, sizeof all - at, "%s%u", i ? ", " : "",
                               (unsigned)config->ports[i]);
    return err_set(err, ERR_BAD_INPUT, "the image exposes the ports %s; say with 'port' which one",
                   all);
}

/* ---- what an engine loads -------------------------------------------------------------------- */

static int check_layer(const struct image_blob *layer, struct err *err)
{
    static const char *const types[] = {
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    };
    int r = digest_check(layer->digest, err);

    if (r < 0)
        return err_wrap(err, "a layer");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (slice_is(layer->media_type, types[i]))
            return 0;
    return err_set(err, ERR_NOT_SUPPORTED,
                   "a layer is of the type '%s', which not every engine loads; give one that is a "
                   "tar, plain or by gzip",
                   ERR_SLICE(layer->media_type));
}

static void add_text(struct image_parts *parts, struct slice text)
{
    parts->items[parts->count++] = (struct image_part){ .text = text, .bytes = text.size };
    parts->bytes += text.size;
}

static void add_padding(struct arena *arena, struct image_parts *parts, uint64_t bytes)
{
    size_t over = bytes % TAR_BLOCK;
    if (over)
        add_text(parts, (struct slice){ arena_alloc(arena, TAR_BLOCK - over), TAR_BLOCK - over });
}

static struct slice head(struct arena *arena, const char *name, uint64_t bytes)
{
    unsigned char *block = arena_alloc(arena, TAR_BLOCK);
    tar_head(block, name, bytes, 0);
    return (struct slice){ (const char *)block, TAR_BLOCK };
}

static const char *path_of(struct arena *arena, struct slice digest)
{
    return arena_format(arena, "blobs/sha256/%.*s", (int)digest.size - 7, digest.data + 7);
}

/* Layers may be there twice; their file is there once. */
static void add_blob(struct arena *arena, struct image_parts *parts, const struct image_blob *blob)
{
    for (size_t i = 0; i < parts->count; i++)
        if (slice_equal(parts->items[i].blob, blob->digest))
            return;
    add_text(parts, head(arena, path_of(arena, blob->digest), blob->bytes));
    parts->items[parts->count++] =
        (struct image_part){ .blob = blob->digest, .bytes = blob->bytes };
    parts->bytes += blob->bytes;
    add_padding(arena, parts, blob->bytes);
}

static struct slice manifest(struct arena *arena, const struct image_blob *config,
                             const struct image_blob *layers, size_t count)
{
    struct json_writer w;

    json_begin(&w, arena, 0);
    json_array_begin(&w);
    json_object_begin(&w);
    json_member_text(&w, "Config", path_of(arena, config->digest));
    json_member_text(&w, "RepoTags", NULL);
    json_key(&w, "Layers");
    json_array_begin(&w);
    for (size_t i = 0; i < count; i++)
        json_text(&w, path_of(arena, layers[i].digest));
    json_array_end(&w);
    json_object_end(&w);
    json_array_end(&w);
    return json_end(&w);
}

int image_archive(struct arena *arena, const struct image_blob *config_blob,
                  const struct image_config *config, const struct image_blob *layers,
                  size_t layer_count, struct image_parts *ret, struct err *err)
{
    struct image_parts parts = {};
    int r = digest_check(config_blob->digest, err);

    if (r < 0)
        return err_wrap(err, "the image's configuration");
    if (layer_count != config->layer_count)
        return err_set(err, ERR_BAD_INPUT,
                       "the image's manifest names %zu layers, and its configuration %zu",
                       layer_count, config->layer_count);
    for (size_t i = 0; i < layer_count; i++)
        if ((r = check_layer(&layers[i], err)) < 0)
            return r;
    parts.items = ARENA_ARRAY(arena, struct image_part, 3 * (layer_count + 2) + 1);
    add_blob(arena, &parts, config_blob);
    for (size_t i = 0; i < layer_count; i++)
        add_blob(arena, &parts, &layers[i]);
    struct slice text = manifest(arena, config_blob, layers, layer_count);
    add_text(&parts, head(arena, "manifest.json", text.size));
    add_text(&parts, text);
    add_padding(arena, &parts, text.size);
    add_text(&parts, (struct slice){ arena_alloc(arena, 2 * TAR_BLOCK), 2 * TAR_BLOCK });
    *ret = parts;
    return 0;
}
