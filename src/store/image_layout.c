/* SPDX-License-Identifier: Apache-2.0 */
/* An OCI layout: its index names an image's manifest, perhaps by further indexes. */
#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "store/digest.h"
#include "store/image_inside.h"

/* By its descriptor: the digest is well-formed, the size as told. Text is checked by its digest;
 * layers are by whoever takes them. */
static int blob_of(const struct image_reading *reading, yyjson_val *descriptor,
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
    r = image_find(reading, slice_of(name), &entry);
    if (r == 0 && entry.bytes != bytes)
        r = err_set(reading->err, ERR_BAD_INPUT, "%.*s has %llu bytes, and should have %llu",
                    SLICE_FMT(digest), (unsigned long long)entry.bytes, (unsigned long long)bytes);
    if (r < 0)
        return r;
    *ret = (struct image_file_blob){ { arena_copy(reading->arena, digest),
                                       arena_copy(reading->arena, type), bytes },
                                     entry.offset,
                                     reading->folder ? name : NULL };
    return 0;
}

static int load_blob(const struct image_reading *reading, const struct image_file_blob *blob,
                     struct slice *ret)
{
    char digest[DIGEST_TEXT];
    const char *name = arena_format(reading->arena, "blobs/sha256/%.*s",
                                    (int)blob->blob.digest.size - 7, blob->blob.digest.data + 7);
    struct image_tar_entry entry;
    int r = image_load(reading, slice_of(name), &entry, ret);

    if (r == 0 && !slice_is(blob->blob.digest, digest_of(*ret, digest)))
        r = err_set(reading->err, ERR_BAD_INPUT, "%.*s is damaged: its content is %s",
                    SLICE_FMT(blob->blob.digest), digest);
    return r;
}

static int oci_manifest(const struct image_reading *reading, struct slice text, yyjson_val *root)
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
    return image_take_config(reading, config_text);
}

/* Of this machine, or of none in particular (the file holds it alone). */
static bool fits(const struct image_reading *reading, yyjson_val *descriptor)
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

static int oci_index(const struct image_reading *reading, struct slice text, unsigned depth)
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
                       "%zu images of it are for this machine: give one of them alone", count);
    if (depth == IMAGE_FILE_DEPTH_MAX)
        return err_set(reading->err, ERR_BAD_INPUT, "its indexes name each other too deep");
    r = blob_of(reading, chosen, &blob);
    if (r >= 0)
        r = load_blob(reading, &blob, &text);
    return r < 0 ? r : oci_index(reading, text, depth + 1);
}

int image_layout_check(const struct image_reading *reading)
{
    static const struct json_limits limits = { .bytes_max = IMAGE_CONFIG_BYTES_MAX,
                                               .duplicates_allowed = true };
    struct image_tar_entry entry;
    struct slice text, version;
    yyjson_val *root;
    int r = image_load(reading, SLICE("oci-layout"), &entry, &text);

    if (r < 0)
        return err_wrap(reading->err, "it is no OCI layout, as skopeo's `oci:FOLDER` is");
    r = json_parse(reading->arena, text, &limits, &root, reading->err);
    if (r >= 0)
        r = json_get_string(root, "imageLayoutVersion", JSON_REQUIRED, &version, reading->err);
    if (r < 0)
        return err_wrap(reading->err, "oci-layout");
    if (!slice_starts(version, SLICE("1.")))
        return err_set(reading->err, ERR_NOT_SUPPORTED,
                       "it is an OCI layout of version '%s', and 1.0.0 is known",
                       ERR_SLICE(version));
    return 0;
}

int image_layout_read(const struct image_reading *reading, struct slice index)
{
    return oci_index(reading, index, 0);
}
