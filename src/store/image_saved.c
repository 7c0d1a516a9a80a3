/* SPDX-License-Identifier: Apache-2.0 */
/* What `docker save` writes has neither a manifest nor digests of its layers: both are made. */
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "store/digest.h"
#include "store/image_inside.h"
#include "store/manifest.h"

enum { READ_BYTES = 256 << 10 };

#define LAYER "application/vnd.oci.image.layer.v1.tar"
#define CONFIG "application/vnd.oci.image.config.v1+json"

static int hash(const struct image_reading *reading, const struct image_tar_entry *entry,
                struct slice *ret)
{
    auto_free char *buffer = mem_alloc(READ_BYTES);
    char text[DIGEST_TEXT];
    struct digest *digest = digest_new();
    int r = 0;

    for (uint64_t at = 0; r == 0 && at < entry->bytes; at += READ_BYTES) {
        uint64_t left = entry->bytes - at;
        size_t size = left < READ_BYTES ? (size_t)left : READ_BYTES;
        r = image_read_part(reading, entry->offset + at, buffer, size);
        if (r == 0)
            digest_add(digest, buffer, size);
    }
    *ret = arena_copy(reading->arena, slice_of(digest_end(digest, text)));
    digest_free(digest);
    return r;
}

static const char *layer_type(const struct image_reading *reading,
                              const struct image_tar_entry *entry)
{
    unsigned char begin[4] = {};
    struct err ignored;
    struct image_reading quiet = *reading;

    quiet.err = &ignored;
    if (entry->bytes < sizeof begin ||
        image_read_part(&quiet, entry->offset, begin, sizeof begin) < 0)
        return LAYER;
    if (begin[0] == 0x1f && begin[1] == 0x8b)
        return LAYER "+gzip";
    return memcmp(begin, "\x28\xb5\x2f\xfd", 4) == 0 ? LAYER "+zstd" : LAYER;
}

static int docker_layer(const struct image_reading *reading, struct slice name,
                        struct image_file_blob *ret)
{
    struct image_tar_entry entry;
    int r = image_find(reading, name, &entry);

    if (r < 0)
        return r;
    *ret = (struct image_file_blob){ { {}, slice_of(layer_type(reading, &entry)), entry.bytes },
                                     entry.offset,
                                     NULL };
    return hash(reading, &entry, &ret->blob.digest);
}

static void descriptor(struct json_writer *w, const struct image_blob *blob)
{
    json_object_begin(w);
    json_member_string(w, "mediaType", blob->media_type);
    json_member_string(w, "digest", blob->digest);
    json_member_u64(w, "size", blob->bytes);
    json_object_end(w);
}

static void make_manifest(const struct image_reading *reading)
{
    struct image_file *file = reading->file;
    char digest[DIGEST_TEXT];
    struct json_writer w;

    json_begin(&w, reading->arena, 0);
    json_object_begin(&w);
    json_member_u64(&w, "schemaVersion", 2);
    json_member_text(&w, "mediaType", MANIFEST_MEDIA_TYPE);
    json_key(&w, "config");
    descriptor(&w, &file->config_blob.blob);
    json_key(&w, "layers");
    json_array_begin(&w);
    for (size_t i = 0; i < file->layer_count; i++)
        descriptor(&w, &file->layers[i].blob);
    json_array_end(&w);
    json_object_end(&w);
    file->manifest = json_end(&w);
    file->digest = arena_copy(reading->arena, slice_of(digest_of(file->manifest, digest)));
}

static int docker_image(const struct image_reading *reading, yyjson_val *image)
{
    struct image_file *file = reading->file;
    struct image_tar_entry entry;
    struct slice name, text;
    yyjson_val *layers, *item;
    yyjson_arr_iter iter;
    char digest[DIGEST_TEXT];
    int r = json_get_string(image, "Config", JSON_REQUIRED, &name, reading->err);

    if (r >= 0)
        r = json_get_array(image, "Layers", JSON_REQUIRED, &layers, reading->err);
    if (r >= 0 && yyjson_arr_size(layers) > IMAGE_LAYERS_MAX)
        r = err_set(reading->err, ERR_TOO_LARGE, "it has %zu layers, and engines take at most %d",
                    yyjson_arr_size(layers), (int)IMAGE_LAYERS_MAX);
    if (r >= 0)
        r = image_load(reading, name, &entry, &text);
    if (r < 0)
        return r;
    file->config_blob =
        (struct image_file_blob){ { arena_copy(reading->arena, slice_of(digest_of(text, digest))),
                                    SLICE(CONFIG), text.size },
                                  entry.offset,
                                  NULL };
    file->layers = ARENA_ARRAY(reading->arena, struct image_file_blob, yyjson_arr_size(layers) + 1);
    yyjson_arr_iter_init(layers, &iter);
    while (r >= 0 && (item = yyjson_arr_iter_next(&iter)))
        r = docker_layer(reading, json_slice(item), &file->layers[file->layer_count++]);
    if (r < 0)
        return r;
    make_manifest(reading);
    return image_take_config(reading, text);
}

int image_saved_read(const struct image_reading *reading, struct slice text)
{
    static const struct json_limits limits = { .bytes_max = IMAGE_CONFIG_BYTES_MAX };
    yyjson_val *root;
    int r = json_parse(reading->arena, text, &limits, &root, reading->err);

    if (r < 0)
        return r;
    if (!yyjson_is_arr(root) || yyjson_arr_size(root) != 1)
        return err_set(reading->err, ERR_BAD_INPUT,
                       "its manifest.json is not a list of one image: save one alone");
    return docker_image(reading, yyjson_arr_get_first(root));
}
