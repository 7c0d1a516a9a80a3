/* SPDX-License-Identifier: Apache-2.0 */
/* A revision's image, as control tells it: `image` of docs/api.md's document. */
#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "pop/state_inside.h"

bool pop_way_out(const struct pop_revision *revision)
{
    const struct spec_strings *egress = &revision->image->spec.container.egress;
    bool any = egress->count > 0 && !spec_residency_restricts(&revision->endpoint->spec);

    for (size_t i = 0; i < egress->count; i++)
        any = any && slice_is(egress->items[i], "any");
    return any;
}

static int blob_read(struct arena *arena, yyjson_val *json, struct image_blob *ret, struct err *err)
{
    struct slice digest, type = {};

    if (json_get_string(json, "digest", JSON_REQUIRED, &digest, err) < 0 ||
        json_get_u64(json, "size", JSON_REQUIRED, &ret->bytes, err) < 0 ||
        json_get_string(json, "media_type", JSON_OPTIONAL, &type, err) < 0)
        return ERR_BAD_INPUT;
    int r = digest_check(digest, err);
    if (r < 0)
        return r;
    ret->digest = arena_copy(arena, digest);
    ret->media_type = arena_copy(arena, type);
    return 0;
}

static int layers_read(struct pop_image *image, yyjson_val *list, struct err *err)
{
    size_t index, count;
    yyjson_val *item;

    if (yyjson_arr_size(list) == 0 || yyjson_arr_size(list) > IMAGE_LAYERS_MAX)
        return err_set(err, ERR_BAD_INPUT, "an image has 1 to %d layers", (int)IMAGE_LAYERS_MAX);
    image->layers = ARENA_ARRAY(image->arena, struct image_blob, yyjson_arr_size(list));
    yyjson_arr_foreach(list, index, count, item)
    {
        int r = blob_read(image->arena, item, &image->layers[image->layer_count++], err);
        if (r < 0)
            return err_wrap(err, "layer %zu", index + 1);
    }
    return 0;
}

/* A copy of its own: the document goes with the next one. */
static int spec_read(struct pop_image *image, yyjson_val *json, struct err *err)
{
    yyjson_val *root;
    int r = json_parse(image->arena, json_print(image->arena, json, 0), NULL, &root, err);

    if (r == 0)
        r = endpoint_spec_parse(image->arena, root, SPEC_KEEP_UNKNOWN | SPEC_NAME_OPTIONAL,
                                &image->spec, err);
    return r;
}

static int read_all(struct pop_image *image, yyjson_val *json, yyjson_val *spec, struct err *err)
{
    yyjson_val *config, *layers;
    struct slice digest;
    uint64_t port;

    if (json_get_string(json, "digest", JSON_REQUIRED, &digest, err) < 0 ||
        json_get_u64(json, "port", JSON_REQUIRED, &port, err) < 0 ||
        json_get_object(json, "config", JSON_REQUIRED, &config, err) < 0 ||
        json_get_array(json, "layers", JSON_REQUIRED, &layers, err) < 0)
        return ERR_BAD_INPUT;
    if (port == 0 || port > UINT16_MAX)
        return err_set(err, ERR_BAD_INPUT, "port %llu is none", (unsigned long long)port);
    image->port = (uint16_t)port;
    image->digest = arena_copy(image->arena, digest);
    int r = blob_read(image->arena, config, &image->config, err);
    if (r < 0)
        return err_wrap(err, "config");
    r = layers_read(image, layers, err);
    return r < 0 ? r : spec_read(image, spec, err);
}

int pop_image_read(yyjson_val *json, yyjson_val *spec, struct pop_image **ret, struct err *err)
{
    struct arena *arena = arena_new();
    struct pop_image *image = arena_alloc(arena, sizeof *image);

    *image = (struct pop_image){ .arena = arena };
    int r = read_all(image, json, spec, err);
    if (r < 0) {
        arena_free(arena);
        return err_wrap(err, "the image");
    }
    *ret = image;
    return 0;
}
