/* SPDX-License-Identifier: Apache-2.0 */
#include "store/image_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "store/digest.h"
#include "store/image_tar.h"
#include "store/manifest.h"

enum { READ_BYTES = 256 << 10 };

#define LAYER "application/vnd.oci.image.layer.v1.tar"
#define CONFIG "application/vnd.oci.image.config.v1+json"

struct reading {
    struct arena *arena;
    int fd;
    struct slice machine;
    struct image_tar tar;
    struct image_file *file;
    struct err *err;
};

/* ---- pieces of the file ---------------------------------------------------------------------- */

static int read_part(const struct reading *reading, uint64_t offset, void *data, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(reading->fd, (char *)data + done, bytes - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(reading->err, n < 0 ? ERR_INTERNAL : ERR_BAD_INPUT, "reading it: %s",
                           n < 0 ? strerror(errno) : "it ends too early");
        done += (size_t)n;
    }
    return 0;
}

static int find(const struct reading *reading, struct slice name, struct image_tar_entry *ret)
{
    if (image_tar_find(&reading->tar, name, ret))
        return 0;
    return err_set(reading->err, ERR_BAD_INPUT, "'%s' is not in it", ERR_SLICE(name));
}

/* All of a small one. */
static int load(const struct reading *reading, struct slice name, struct image_tar_entry *ret_entry,
                struct slice *ret)
{
    int r = find(reading, name, ret_entry);

    if (r == 0 && ret_entry->bytes > IMAGE_CONFIG_BYTES_MAX)
        r = err_set(reading->err, ERR_TOO_LARGE, "'%s' is above %d MiB", ERR_SLICE(name),
                    IMAGE_CONFIG_BYTES_MAX >> 20);
    if (r < 0)
        return r;
    char *text = arena_alloc(reading->arena, (size_t)ret_entry->bytes + 1);
    *ret = (struct slice){ text, (size_t)ret_entry->bytes };
    return read_part(reading, ret_entry->offset, text, ret->size);
}

static int hash(const struct reading *reading, const struct image_tar_entry *entry,
                struct slice *ret)
{
    auto_free char *buffer = mem_alloc(READ_BYTES);
    char text[DIGEST_TEXT];
    struct digest *digest = digest_new();
    int r = 0;

    for (uint64_t at = 0; r == 0 && at < entry->bytes; at += READ_BYTES) {
        uint64_t left = entry->bytes - at;
        size_t size = left < READ_BYTES ? (size_t)left : READ_BYTES;
        r = read_part(reading, entry->offset + at, buffer, size);
        if (r == 0)
            digest_add(digest, buffer, size);
    }
    *ret = arena_copy(reading->arena, slice_of(digest_end(digest, text)));
    digest_free(digest);
    return r;
}

static int take_config(const struct reading *reading, struct slice text)
{
    int r = image_config_parse(reading->arena, text, &reading->file->config, reading->err);

    if (r == 0 && reading->file->config.layer_count != reading->file->layer_count)
        r = err_set(reading->err, ERR_BAD_INPUT,
                    "the image has %zu layers, and its configuration names %zu",
                    reading->file->layer_count, reading->file->config.layer_count);
    return r;
}

/* ---- an OCI layout --------------------------------------------------------------------------- */

/* By its descriptor: the digest is well-formed, the size as told. Text is checked by its digest;
 * layers are by whoever takes them. */
static int blob_of(const struct reading *reading, yyjson_val *descriptor,
                   struct image_file_blob *ret)
{
    struct image_tar_entry entry;
    struct slice digest, type = {};
    uint64_t bytes;
    int r = json_get_string(descriptor, "digest", JSON_REQUIRED, &digest, reading->err);

    if (r >= 0)
        r = digest_check(digest, reading->err);
    if (r >= 0)
        r = json_get_u64(descriptor, "size", JSON_REQUIRED, &bytes, reading->err);
    if (r >= 0)
        r = json_get_string(descriptor, "mediaType", JSON_OPTIONAL, &type, reading->err);
    if (r < 0)
        return r;
    const char *name =
        arena_format(reading->arena, "blobs/sha256/%.*s", (int)digest.size - 7, digest.data + 7);
    r = find(reading, slice_of(name), &entry);
    if (r == 0 && entry.bytes != bytes)
        r = err_set(reading->err, ERR_BAD_INPUT, "%.*s has %llu bytes, and should have %llu",
                    SLICE_FMT(digest), (unsigned long long)entry.bytes, (unsigned long long)bytes);
    if (r < 0)
        return r;
    *ret = (struct image_file_blob){ { arena_copy(reading->arena, digest),
                                       arena_copy(reading->arena, type), bytes },
                                     entry.offset };
    return 0;
}

static int load_blob(const struct reading *reading, const struct image_file_blob *blob,
                     struct slice *ret)
{
    char digest[DIGEST_TEXT];
    const char *name = arena_format(reading->arena, "blobs/sha256/%.*s",
                                    (int)blob->blob.digest.size - 7, blob->blob.digest.data + 7);
    struct image_tar_entry entry;
    int r = load(reading, slice_of(name), &entry, ret);

    if (r == 0 && !slice_is(blob->blob.digest, digest_of(*ret, digest)))
        r = err_set(reading->err, ERR_BAD_INPUT, "%.*s is damaged: its content is %s",
                    SLICE_FMT(blob->blob.digest), digest);
    return r;
}

static int oci_manifest(const struct reading *reading, struct slice text, yyjson_val *root)
{
    struct image_file *file = reading->file;
    yyjson_val *config, *layers, *item;
    yyjson_arr_iter iter;
    char digest[DIGEST_TEXT];
    struct slice config_text;
    int r = json_get_object(root, "config", JSON_REQUIRED, &config, reading->err);

    if (r >= 0)
        r = json_get_array(root, "layers", JSON_REQUIRED, &layers, reading->err);
    if (r >= 0 && yyjson_arr_size(layers) > IMAGE_LAYERS_MAX)
        r = err_set(reading->err, ERR_TOO_LARGE, "it has %zu layers, and engines take at most %d",
                    yyjson_arr_size(layers), (int)IMAGE_LAYERS_MAX);
    if (r >= 0)
        r = blob_of(reading, config, &file->config_blob);
    if (r < 0)
        return r;
    file->layers = ARENA_ARRAY(reading->arena, struct image_file_blob, yyjson_arr_size(layers) + 1);
    yyjson_arr_iter_init(layers, &iter);
    while (r >= 0 && (item = yyjson_arr_iter_next(&iter)))
        r = blob_of(reading, item, &file->layers[file->layer_count++]);
    if (r >= 0)
        r = load_blob(reading, &file->config_blob, &config_text);
    if (r < 0)
        return r;
    file->manifest = text;
    file->digest = arena_copy(reading->arena, slice_of(digest_of(text, digest)));
    return take_config(reading, config_text);
}

/* Of this machine, or of none in particular (the file holds it alone). */
static bool fits(const struct reading *reading, yyjson_val *descriptor)
{
    yyjson_val *platform = json_member(descriptor, "platform");
    struct slice type = json_slice(json_member(descriptor, "mediaType"));

    if (!slice_ends(type, SLICE("manifest.v1+json")) && !slice_ends(type, SLICE("index.v1+json")) &&
        !slice_ends(type, SLICE("manifest.v2+json")) &&
        !slice_ends(type, SLICE("manifest.list.v2+json")))
        return false;
    return !platform ||
           (slice_is(json_slice(json_member(platform, "os")), "linux") &&
            slice_equal(json_slice(json_member(platform, "architecture")), reading->machine));
}

static int oci_index(const struct reading *reading, struct slice text, unsigned depth)
{
    static const struct json_limits limits = { .bytes_max = IMAGE_CONFIG_BYTES_MAX,
                                               .duplicates_allowed = true };
    yyjson_val *root, *list, *item, *chosen = NULL;
    struct image_file_blob blob;
    yyjson_arr_iter iter;
    size_t count = 0;
    int r = json_parse(reading->arena, text, &limits, &root, reading->err);

    if (r >= 0 && yyjson_is_obj(json_member(root, "config")))
        return oci_manifest(reading, text, root);
    if (r >= 0)
        r = json_get_array(root, "manifests", JSON_REQUIRED, &list, reading->err);
    if (r < 0)
        return r;
    yyjson_arr_iter_init(list, &iter);
    while ((item = yyjson_arr_iter_next(&iter)))
        if (fits(reading, item)) {
            chosen = item;
            count++;
        }
    if (count == 0)
        return err_set(reading->err, ERR_BAD_INPUT,
                       "none of its images is for linux on this machine ('%s')",
                       ERR_SLICE(reading->machine));
    if (count > 1)
        return err_set(reading->err, ERR_BAD_INPUT,
                       "%zu images of it are for this machine: give a file of one", count);
    if (depth == IMAGE_FILE_DEPTH_MAX)
        return err_set(reading->err, ERR_BAD_INPUT, "its indexes name each other too deep");
    r = blob_of(reading, chosen, &blob);
    if (r >= 0)
        r = load_blob(reading, &blob, &text);
    return r < 0 ? r : oci_index(reading, text, depth + 1);
}

/* ---- what `docker save` writes --------------------------------------------------------------- */

static const char *layer_type(const struct reading *reading, const struct image_tar_entry *entry)
{
    unsigned char begin[4] = {};
    struct err ignored;
    struct reading quiet = *reading;

    quiet.err = &ignored;
    if (entry->bytes < sizeof begin || read_part(&quiet, entry->offset, begin, sizeof begin) < 0)
        return LAYER;
    if (begin[0] == 0x1f && begin[1] == 0x8b)
        return LAYER "+gzip";
    return memcmp(begin, "\x28\xb5\x2f\xfd", 4) == 0 ? LAYER "+zstd" : LAYER;
}

static int docker_layer(const struct reading *reading, struct slice name,
                        struct image_file_blob *ret)
{
    struct image_tar_entry entry;
    int r = find(reading, name, &entry);

    if (r < 0)
        return r;
    *ret = (struct image_file_blob){ { {}, slice_of(layer_type(reading, &entry)), entry.bytes },
                                     entry.offset };
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

static void make_manifest(const struct reading *reading)
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

static int docker_image(const struct reading *reading, yyjson_val *image)
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
        r = load(reading, name, &entry, &text);
    if (r < 0)
        return r;
    file->config_blob =
        (struct image_file_blob){ { arena_copy(reading->arena, slice_of(digest_of(text, digest))),
                                    SLICE(CONFIG), text.size },
                                  entry.offset };
    file->layers = ARENA_ARRAY(reading->arena, struct image_file_blob, yyjson_arr_size(layers) + 1);
    yyjson_arr_iter_init(layers, &iter);
    while (r >= 0 && (item = yyjson_arr_iter_next(&iter)))
        r = docker_layer(reading, json_slice(item), &file->layers[file->layer_count++]);
    if (r < 0)
        return r;
    make_manifest(reading);
    return take_config(reading, text);
}

static int docker_archive(const struct reading *reading, struct slice text)
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

/* ---- all ------------------------------------------------------------------------------------- */

static int read_file(const struct reading *reading)
{
    struct image_tar_entry entry;
    struct slice text;

    if (image_tar_find(&reading->tar, SLICE("index.json"), &entry)) {
        int r = load(reading, SLICE("index.json"), &entry, &text);
        return r < 0 ? r : oci_index(reading, text, 0);
    }
    if (image_tar_find(&reading->tar, SLICE("manifest.json"), &entry)) {
        int r = load(reading, SLICE("manifest.json"), &entry, &text);
        return r < 0 ? r : docker_archive(reading, text);
    }
    return err_set(reading->err, ERR_BAD_INPUT,
                   "there is neither index.json nor manifest.json in it: it is no image as `podman "
                   "save` or `docker save` write it");
}

int image_file_read(struct arena *arena, int fd, struct slice machine, struct image_file *ret,
                    struct err *err)
{
    struct image_file file = {};
    struct reading reading = {
        .arena = arena, .fd = fd, .machine = machine, .file = &file, .err = err
    };
    int r = image_tar_index(arena, fd, &reading.tar, err);

    if (r == 0)
        r = read_file(&reading);
    if (r < 0)
        return err_wrap(err, "the image's file");
    file.bytes = file.config_blob.blob.bytes;
    for (size_t i = 0; i < file.layer_count; i++)
        file.bytes += file.layers[i].blob.bytes;
    *ret = file;
    return 0;
}
