/* SPDX-License-Identifier: Apache-2.0 */
#include "store/oci.h"

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "store/digest.h"

#define UNPACK "io.deis.oras.content.unpack"
#define TITLE "org.opencontainers.image.title"

static const struct {
    const char *media_type;
    bool index;
} kinds[] = {
    { "application/vnd.oci.image.manifest.v1+json", false },
    { "application/vnd.oci.image.index.v1+json", true },
    { "application/vnd.docker.distribution.manifest.v2+json", false },
    { "application/vnd.docker.distribution.manifest.list.v2+json", true },
};
enum { KIND_COUNT = sizeof kinds / sizeof *kinds };

static bool type_valid(struct slice type)
{
    if (type.size == 0 || type.size > OCI_TYPE_MAX)
        return false;
    for (size_t i = 0; i < type.size; i++)
        if (type.data[i] <= ' ' || type.data[i] == 0x7f || type.data[i] == '"' ||
            (unsigned char)type.data[i] >= 0x80)
            return false;
    return true;
}

static bool holds(struct slice text, const char *word)
{
    return memmem(text.data, text.size, word, strlen(word)) != NULL;
}

static int read_digest(struct arena *arena, yyjson_val *object, struct slice *ret, struct err *err)
{
    enum digest_kind kind;
    struct slice digest;
    int r = json_get_string(object, "digest", JSON_REQUIRED, &digest, err);
    if (r < 0 || (r = digest_check_any(digest, &kind, err)) < 0)
        return r;
    *ret = arena_copy(arena, digest);
    return 0;
}

static int read_descriptor(struct arena *arena, yyjson_val *value, struct oci_part *ret,
                           struct err *err)
{
    struct slice type;
    yyjson_val *annotations = NULL, *platform = json_member(value, "platform");
    int r = yyjson_is_obj(value)
                ? 0
                : err_set(err, ERR_BAD_INPUT, "must be an object, not %s", json_kind(value));
    if (r < 0 || (r = json_get_string(value, "mediaType", JSON_REQUIRED, &type, err)) < 0 ||
        (r = json_get_u64(value, "size", JSON_REQUIRED, &ret->bytes, err)) < 0 ||
        (r = read_digest(arena, value, &ret->digest, err)) < 0 ||
        (r = json_get_object(value, "annotations", JSON_OPTIONAL, &annotations, err)) < 0)
        return r;
    if (!type_valid(type))
        return err_set(err, ERR_BAD_INPUT, "'mediaType' is '%s', which is none", ERR_SLICE(type));
    if (ret->bytes > INT64_MAX)
        return err_set(err, ERR_BAD_INPUT, "'size' is larger than any file");
    ret->media_type = arena_copy(arena, type);
    ret->elsewhere = holds(type, "nondistributable") || holds(type, ".foreign.");
    ret->unpack = slice_is(json_slice(json_member(annotations, UNPACK)), "true");
    ret->title = arena_copy(arena, json_slice(json_member(annotations, TITLE)));
    ret->system = arena_copy(arena, json_slice(json_member(platform, "os")));
    ret->machine = arena_copy(arena, json_slice(json_member(platform, "architecture")));
    return 0;
}

static int read_parts(struct arena *arena, yyjson_val *root, const char *key,
                      struct oci_manifest *ret, struct err *err)
{
    yyjson_val *list, *item;
    size_t index, count;
    int r = json_get_array(root, key, JSON_REQUIRED, &list, err);
    if (r < 0)
        return r;
    count = yyjson_arr_size(list);
    if (count > OCI_PARTS_MAX)
        return err_set(err, ERR_BAD_INPUT, "'%s' lists %zu; at most %d are taken", key, count,
                       (int)OCI_PARTS_MAX);
    ret->parts = ARENA_ARRAY(arena, struct oci_part, count + 1);
    if (!ret->index) {
        yyjson_val *config = NULL;
        r = json_get_object(root, "config", JSON_REQUIRED, &config, err);
        if (r < 0 || (r = read_descriptor(arena, config, &ret->parts[ret->count++], err)) < 0)
            return err_wrap(err, "config");
    }
    yyjson_arr_foreach(list, index, count, item)
    {
        struct oci_part *part = &ret->parts[ret->count++];
        if ((r = read_descriptor(arena, item, part, err)) < 0)
            return err_wrap(err, "%s[%zu]", key, index);
        part->manifest = ret->index;
    }
    return 0;
}

/* What the sender says, what the document says: one of them at least, and the same. */
static int read_kind(struct arena *arena, yyjson_val *root, struct slice type,
                     struct oci_manifest *ret, struct err *err)
{
    uint64_t version;
    struct slice own = {}, sent = slice_trim(slice_cut(&type, ';'));
    int r = json_get_u64(root, "schemaVersion", JSON_REQUIRED, &version, err);
    if (r == 1 && version == 1)
        return err_set(err, ERR_BAD_INPUT,
                       "Docker's schema 1 is not taken: push it as schema 2 or OCI");
    if (r < 0 || (r = json_get_string(root, "mediaType", JSON_OPTIONAL, &own, err)) < 0)
        return r;
    if (version != 2)
        return err_set(err, ERR_BAD_INPUT, "'schemaVersion' must be 2");
    if (own.size && sent.size && !slice_equal(own, sent))
        return err_set(err, ERR_BAD_INPUT, "'mediaType' is '%s', but Content-Type '%s'",
                       ERR_SLICE(own), ERR_SLICE(sent));
    ret->media_type = arena_copy(arena, own.size ? own : sent);
    for (size_t i = 0; i < KIND_COUNT; i++)
        if (slice_is(ret->media_type, kinds[i].media_type)) {
            ret->index = kinds[i].index;
            return 0;
        }
    return err_set_http(err, 415,
                        "'%s' is no manifest that is taken: OCI's image manifest and "
                        "index, Docker's schema 2 and list are",
                        ERR_SLICE(ret->media_type));
}

static int read_annotations(struct arena *arena, yyjson_val *root, struct oci_manifest *ret,
                            struct err *err)
{
    yyjson_val *annotations = NULL, *key, *value;
    yyjson_obj_iter iter;
    int r = json_get_object(root, "annotations", JSON_OPTIONAL, &annotations, err);
    if (r <= 0)
        return r;
    yyjson_obj_iter_init(annotations, &iter);
    while ((key = yyjson_obj_iter_next(&iter))) {
        value = yyjson_obj_iter_get_val(key);
        if (!yyjson_is_str(value))
            return err_set(err, ERR_BAD_INPUT, "annotation '%s' must be a string, not %s",
                           ERR_SLICE(json_slice(key)), json_kind(value));
    }
    ret->annotations = json_print(arena, annotations, 0);
    return 0;
}

static int read_root(struct arena *arena, yyjson_val *root, struct slice type,
                     struct oci_manifest *ret, struct err *err)
{
    struct slice artifact = {};
    yyjson_val *subject = NULL;
    int r = yyjson_is_obj(root) ? 0 : err_set(err, ERR_BAD_INPUT, "must be an object");
    if (r < 0 || (r = read_kind(arena, root, type, ret, err)) < 0)
        return r;
    /* Else what one reader takes for an image is another's index. */
    if (json_member(root, "manifests") &&
        (json_member(root, "layers") || json_member(root, "config")))
        return err_set(err, ERR_BAD_INPUT, "it is an image and an index at once");
    if ((r = read_parts(arena, root, ret->index ? "manifests" : "layers", ret, err)) < 0 ||
        (r = read_annotations(arena, root, ret, err)) < 0 ||
        (r = json_get_string(root, "artifactType", JSON_OPTIONAL, &artifact, err)) < 0 ||
        (r = json_get_object(root, "subject", JSON_OPTIONAL, &subject, err)) < 0)
        return r;
    if (artifact.size && !type_valid(artifact))
        return err_set(err, ERR_BAD_INPUT, "'artifactType' is '%s', which is no media type",
                       ERR_SLICE(artifact));
    ret->artifact_type = artifact.size ? arena_copy(arena, artifact)
                         : ret->index  ? (struct slice){}
                                       : ret->parts[0].media_type;
    if (subject && (r = read_digest(arena, subject, &ret->subject, err)) < 0)
        return err_wrap(err, "subject");
    return 0;
}

int oci_manifest_parse(struct arena *arena, struct slice text, struct slice type,
                       struct oci_manifest *ret, struct err *err)
{
    static const struct json_limits limits = { .bytes_max = OCI_MANIFEST_BYTES_MAX,
                                               .depth_max = 32 };
    struct oci_manifest manifest = {};
    yyjson_val *root;
    int r = json_parse(arena, text, &limits, &root, err);
    if (r == 0)
        r = read_root(arena, root, type, &manifest, err);
    if (r < 0)
        return err_wrap(err, "the manifest");
    *ret = manifest;
    return 0;
}
