/* SPDX-License-Identifier: Apache-2.0 */
#include "store/manifest.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "store/digest.h"

#define TITLE "org.opencontainers.image.title"

int manifest_check_path(struct slice path, struct err *err)
{
    if (path.size == 0 || path.size > MANIFEST_PATH_MAX || !utf8_valid(path))
        return err_set(err, ERR_BAD_INPUT,
                       "file path '%s' is empty, longer than %d bytes or no UTF-8", ERR_SLICE(path),
                       (int)MANIFEST_PATH_MAX);
    for (size_t i = 0; i < path.size; i++)
        if ((unsigned char)path.data[i] < 0x20 || path.data[i] == 0x7f)
            return err_set(err, ERR_BAD_INPUT, "file path '%s' has control characters",
                           ERR_SLICE(path));
    struct slice rest = path;
    while (rest.data) {
        struct slice segment = slice_cut(&rest, '/');
        if (segment.size == 0 || segment.size > 255 || slice_is(segment, ".") ||
            slice_is(segment, ".."))
            return err_set(err, ERR_BAD_INPUT,
                           "file path '%s' is not plainly below the model's folder",
                           ERR_SLICE(path));
    }
    return 0;
}

static int compare(struct slice a, struct slice b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int r = common ? memcmp(a.data, b.data, common) : 0;
    return r ? r : (a.size > b.size) - (a.size < b.size);
}

static int by_path(const void *a, const void *b)
{
    return compare(((const struct manifest_file *)a)->path,
                   ((const struct manifest_file *)b)->path);
}

/* Sorted, each once, none a folder of another; sizes add up. */
static int check_files(struct manifest *manifest, struct err *err)
{
    manifest->bytes = 0;
    for (size_t i = 0; i < manifest->count; i++) {
        struct manifest_file *file = &manifest->files[i];
        int r = manifest_check_path(file->path, err);
        if (r < 0 || (r = digest_check(file->digest, err)) < 0)
            return r;
        if (__builtin_add_overflow(manifest->bytes, file->bytes, &manifest->bytes) ||
            manifest->bytes > INT64_MAX)
            return err_set(err, ERR_TOO_LARGE, "the files' sizes do not add up");
        if (i > 0 && by_path(file - 1, file) >= 0)
            return err_set(err, ERR_BAD_INPUT, "file '%s' is listed twice, or not in order",
                           ERR_SLICE(file->path));
        for (size_t end = 0; end < file->path.size; end++) {
            struct manifest_file folder = { .path = { file->path.data, end } };
            if (file->path.data[end] == '/' &&
                bsearch(&folder, manifest->files, manifest->count, sizeof folder, by_path))
                return err_set(err, ERR_BAD_INPUT, "'%s' is a file and a folder",
                               ERR_SLICE(folder.path));
        }
    }
    return 0;
}

static int read_layer(struct arena *arena, yyjson_val *layer, struct manifest_file *ret,
                      struct err *err)
{
    yyjson_val *annotations;
    struct slice digest, path;
    int r = yyjson_is_obj(layer) ? 0 : err_set(err, ERR_BAD_INPUT, "must be an object");
    if (r < 0 || (r = json_get_string(layer, "digest", JSON_REQUIRED, &digest, err)) < 0 ||
        (r = json_get_u64(layer, "size", JSON_REQUIRED, &ret->bytes, err)) < 0 ||
        (r = json_get_object(layer, "annotations", JSON_REQUIRED, &annotations, err)) < 0 ||
        (r = json_get_string(annotations, TITLE, JSON_REQUIRED, &path, err)) < 0)
        return r;
    ret->digest = arena_copy(arena, digest);
    ret->path = arena_copy(arena, path);
    return 0;
}

static int expect(yyjson_val *root, const char *key, const char *wanted, struct err *err)
{
    struct slice text;
    int r = json_get_string(root, key, JSON_REQUIRED, &text, err);
    if (r < 0)
        return r;
    return slice_is(text, wanted) ? 0
                                  : err_set(err, ERR_BAD_INPUT, "'%s' is '%s', wanted is %s", key,
                                            ERR_SLICE(text), wanted);
}

static int read_root(struct arena *arena, yyjson_val *root, struct manifest *ret, struct err *err)
{
    uint64_t version;
    yyjson_val *layers, *layer;
    size_t index, count;
    int r = yyjson_is_obj(root) ? 0 : err_set(err, ERR_BAD_INPUT, "must be an object");
    if (r < 0 || (r = json_get_u64(root, "schemaVersion", JSON_REQUIRED, &version, err)) < 0)
        return r;
    if (version != 2)
        return err_set(err, ERR_BAD_INPUT, "'schemaVersion' must be 2");
    if ((r = expect(root, "mediaType", MANIFEST_MEDIA_TYPE, err)) < 0 ||
        (r = expect(root, "artifactType", MANIFEST_ARTIFACT_TYPE, err)) < 0 ||
        (r = json_get_array(root, "layers", JSON_REQUIRED, &layers, err)) < 0)
        return r;
    count = yyjson_arr_size(layers);
    if (count == 0 || count > MANIFEST_FILES_MAX)
        return err_set(err, ERR_BAD_INPUT, "a model's folder has 1 to %d files, not %zu",
                       (int)MANIFEST_FILES_MAX, count);
    ret->files = ARENA_ARRAY(arena, struct manifest_file, count);
    ret->count = count;
    yyjson_arr_foreach(layers, index, count, layer)
    {
        r = read_layer(arena, layer, &ret->files[index], err);
        if (r < 0)
            return err_wrap(err, "layer %zu", index);
    }
    return check_files(ret, err);
}

int manifest_parse(struct arena *arena, struct slice text, struct manifest *ret, struct err *err)
{
    static const struct json_limits limits = { .bytes_max = MANIFEST_BYTES_MAX, .depth_max = 16 };
    yyjson_val *root;
    int r = json_parse(arena, text, &limits, &root, err);
    if (r == 0) {
        struct manifest manifest = {};
        r = read_root(arena, root, &manifest, err);
        if (r == 0)
            *ret = manifest;
    }
    return r < 0 ? err_wrap(err, "the model's manifest") : 0;
}

bool manifest_is(struct slice blob)
{
    if (blob.size > MANIFEST_BYTES_MAX || blob.size == 0 || blob.data[0] != '{')
        return false;
    static const struct json_limits limits = { .bytes_max = MANIFEST_BYTES_MAX, .depth_max = 16 };
    struct arena *arena = arena_new();
    yyjson_val *root;
    bool is = json_parse(arena, blob, &limits, &root, NULL) == 0 &&
              slice_is(json_slice(json_member(root, "artifactType")), MANIFEST_ARTIFACT_TYPE);
    arena_free(arena);
    return is;
}

int manifest_print(struct arena *arena, struct manifest *manifest, struct slice *ret,
                   struct err *err)
{
    struct json_writer w;
    if (manifest->count == 0 || manifest->count > MANIFEST_FILES_MAX)
        return err_set(err, ERR_BAD_INPUT, "a model's folder has 1 to %d files, not %zu",
                       (int)MANIFEST_FILES_MAX, manifest->count);
    qsort(manifest->files, manifest->count, sizeof *manifest->files, by_path);
    int r = check_files(manifest, err);
    if (r < 0)
        return r;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_u64(&w, "schemaVersion", 2);
    json_member_text(&w, "mediaType", MANIFEST_MEDIA_TYPE);
    json_member_text(&w, "artifactType", MANIFEST_ARTIFACT_TYPE);
    json_key(&w, "config");
    json_raw(&w, SLICE("{\"mediaType\":\"application/vnd.oci.empty.v1+json\",\"digest\":"
                       "\"" MANIFEST_EMPTY_DIGEST "\",\"size\":2,\"data\":\"e30=\"}"));
    json_key(&w, "layers");
    json_array_begin(&w);
    for (size_t i = 0; i < manifest->count; i++) {
        const struct manifest_file *file = &manifest->files[i];
        json_object_begin(&w);
        json_member_text(&w, "mediaType", "application/octet-stream");
        json_member_string(&w, "digest", file->digest);
        json_member_u64(&w, "size", file->bytes);
        json_key(&w, "annotations");
        json_object_begin(&w);
        json_member_string(&w, TITLE, file->path);
        json_object_end(&w);
        json_object_end(&w);
    }
    json_array_end(&w);
    json_object_end(&w);
    *ret = json_end(&w);
    if (ret->size > MANIFEST_BYTES_MAX)
        return err_set(err, ERR_TOO_LARGE, "the list of the folder's files is above %d bytes",
                       (int)MANIFEST_BYTES_MAX);
    return 0;
}
