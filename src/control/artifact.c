/* SPDX-License-Identifier: Apache-2.0 */
#include "control/artifact.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "control/abroad.h"
#include "control/pinned.h"
#include "spec/reference.h"
#include "store/blobs.h"
#include "store/manifest.h"
#include "store/oci.h"
#include "store/store.h"

#define TAG_PREFIX "revision-"

int artifact_load(const struct artifact *artifact, struct slice digest, size_t bytes_max,
                  struct slice *ret, struct err *err)
{
    char *data;
    size_t bytes;
    int r = blobs_load(artifact->blobs, digest, bytes_max, &data, &bytes, err);
    if (r < 0)
        return r;
    *ret = arena_copy(artifact->arena, (struct slice){ data, bytes });
    free(data);
    return 0;
}

/* ---- from the registry ---------------------------------------------------------------------- */

bool artifact_own(const struct slice *hosts, size_t count, struct slice host)
{
    for (size_t i = 0; i < count; i++)
        if (slice_equal_nocase(host, hosts[i]))
            return true;
    return host.size == 0;
}

static bool ours(const struct artifact *artifact, struct slice host)
{
    return artifact_own(artifact->hosts, artifact->host_count, host);
}

int artifact_has(const struct artifact *artifact, struct slice digest, uint64_t *ret_bytes,
                 struct err *err)
{
    struct store_origin origin;
    int r = blobs_find(artifact->blobs, digest, ret_bytes, err);
    if (r != ERR_NOT_FOUND)
        return r;
    struct err missing = err ? *err : (struct err){};
    r = artifact->store->origin_find(artifact->store, digest, artifact->arena, &origin, err);
    if (r == 0)
        *ret_bytes = origin.bytes;
    else if (r == ERR_NOT_FOUND && err)
        *err = missing;
    return r;
}

/* What was found in another registry, before this transaction, and kept in it. */
static int abroad(const struct artifact *artifact, const struct reference *reference,
                  struct slice written, struct store_manifest *ret, struct err *err)
{
    const struct abroad_found *found = artifact->found;
    if (!found || !slice_equal(found->written, written))
        return err_set(err, ERR_CONFLICT, "it was changed meanwhile, and '%s' was not asked for it",
                       ERR_SLICE(reference->host));
    *ret = (struct store_manifest){ .digest = found->digest, .media_type = found->media_type };
    return 0;
}

static int find(const struct artifact *artifact, const struct reference *reference,
                uint64_t *ret_id, struct store_manifest *ret, struct err *err)
{
    struct store *store = artifact->store;
    int r = reference_check_own(reference, err);
    if (r < 0)
        return r;
    r = store->repository_find(store, reference->project, reference->name, ret_id, err);
    if (r == ERR_NOT_FOUND)
        return err_set(err, ERR_BAD_INPUT, "there is no repository '%s/%s': push it first",
                       ERR_SLICE(reference->project), ERR_SLICE(reference->name));
    if (r == 0)
        r = reference->digest.size
                ? store->manifest_find(store, *ret_id, reference->digest, artifact->arena, ret, err)
                : store->manifest_tagged(store, *ret_id, reference->tag, artifact->arena, ret, err);
    if (r == ERR_NOT_FOUND)
        return err_set(err, ERR_BAD_INPUT, "'%s/%s' has no manifest '%s'",
                       ERR_SLICE(reference->project), ERR_SLICE(reference->name),
                       ERR_SLICE(reference->digest.size ? reference->digest : reference->tag));
    return r;
}

/* A layer as a file of the model. */
static int take_layer(const struct artifact *artifact, uint64_t repository,
                      const struct oci_part *layer, struct manifest_file *ret, struct err *err)
{
    uint64_t bytes;
    struct store *store = artifact->store;
    if (!layer->title.size)
        return err_set(err, ERR_BAD_INPUT,
                       "layer %.*s has no title, so this is an image or no model: `oras push` "
                       "gives files their names",
                       SLICE_FMT(layer->digest));
    if (layer->unpack)
        return err_set(err, ERR_BAD_INPUT,
                       "'%s' is a folder packed into one layer: push the files by themselves",
                       ERR_SLICE(layer->title));
    int r = digest_check(layer->digest, err);
    if (r < 0)
        return r;
    r = repository ? store->repository_blob_find(store, repository, layer->digest, &bytes, err) : 0;
    if (r == ERR_NOT_FOUND)
        return err_set(err, ERR_BAD_INPUT, "'%s' was deleted from its repository",
                       ERR_SLICE(layer->title));
    *ret = (struct manifest_file){ layer->title, layer->digest, layer->bytes };
    return r;
}

static int take_layers(const struct artifact *artifact, uint64_t repository,
                       const struct oci_manifest *image, struct manifest *ret, struct err *err)
{
    int r = 0;
    ret->files = ARENA_ARRAY(artifact->arena, struct manifest_file, image->count);
    for (size_t i = 1; i < image->count && r == 0; i++) /* behind the config */
        r = take_layer(artifact, repository, &image->parts[i], &ret->files[ret->count++], err);
    return r;
}

static int digest_of_files(const struct artifact *artifact, struct manifest *manifest,
                           struct slice *ret_digest, struct err *err)
{
    char digest[DIGEST_TEXT];
    struct slice text;
    if (manifest->count == 1 && slice_ends(manifest->files[0].path, SLICE(".onnx"))) {
        *ret_digest = manifest->files[0].digest; /* the file itself, as if it had been uploaded */
        return manifest_check_path(manifest->files[0].path, err);
    }
    int r = manifest_print(artifact->arena, manifest, &text, err);
    if (r == 0)
        r = blobs_put(artifact->blobs, text, digest, err);
    if (r < 0)
        return r;
    *ret_digest = arena_copy(artifact->arena, slice_of(digest));
    const struct store_blob row = { *ret_digest, text.size, artifact->now_ns };
    return artifact->store->blob_put(artifact->store, &row, err);
}

/* What a manifest names, as a model. `repository` 0: another registry's. */
static int resolve_manifest(const struct artifact *artifact, uint64_t repository,
                            const struct store_manifest *row, struct slice *ret_digest,
                            struct err *err)
{
    struct oci_manifest image;
    struct manifest manifest = {};
    struct slice text;
    int r = artifact_load(artifact, row->digest, OCI_MANIFEST_BYTES_MAX, &text, err);
    if (r == 0)
        r = oci_manifest_parse(artifact->arena, text, row->media_type, &image, err);
    if (r == 0 && image.index)
        r = err_set(err, ERR_BAD_INPUT, "it is an index of %zu manifests: name one by its digest",
                    image.count);
    if (r == 0)
        r = take_layers(artifact, repository, &image, &manifest, err);
    return r < 0 ? r : digest_of_files(artifact, &manifest, ret_digest, err);
}

static int resolve(const struct artifact *artifact, const struct reference *reference,
                   struct slice *ret_digest, struct err *err)
{
    struct store_manifest row;
    struct manifest manifest = {};
    uint64_t repository, number;
    if (artifact_tag(reference->tag, &number) && !reference->digest.size) {
        struct slice found;
        int r = artifact_find(artifact, reference->project, reference->name, reference->tag, &row,
                              &found, err);
        if (r == 0)
            r = manifest_parse(artifact->arena, found, &manifest, err);
        return r == ERR_NOT_FOUND
                   ? err_set(err, ERR_BAD_INPUT, "endpoint '%s' has no revision %llu any more",
                             ERR_SLICE(reference->name), (unsigned long long)number)
               : r < 0 ? r
                       : digest_of_files(artifact, &manifest, ret_digest, err);
    }
    int r = find(artifact, reference, &repository, &row, err);
    return r ? r : resolve_manifest(artifact, repository, &row, ret_digest, err);
}

int artifact_manifest(const struct artifact *artifact, const struct reference *reference,
                      struct slice written, struct store_manifest *ret, struct slice *ret_text,
                      struct err *err)
{
    uint64_t repository;
    int r = ours(artifact, reference->host) ? find(artifact, reference, &repository, ret, err)
                                            : abroad(artifact, reference, written, ret, err);
    return r < 0 ? r : artifact_load(artifact, ret->digest, OCI_MANIFEST_BYTES_MAX, ret_text, err);
}

int artifact_resolve(const struct artifact *artifact, struct slice model, struct slice *ret_digest,
                     struct err *err)
{
    static const size_t scheme = sizeof ARTIFACT_SCHEME - 1;
    struct slice written = { model.data + scheme, model.size - scheme };
    struct reference reference;
    struct store_manifest row;
    int r = reference_parse(written, &reference, err);
    if (r == 0 && ours(artifact, reference.host)) {
        r = resolve(artifact, &reference, ret_digest, err);
    } else if (r == 0) {
        r = abroad(artifact, &reference, written, &row, err);
        if (r == 0)
            r = resolve_manifest(artifact, 0, &row, ret_digest, err);
    }
    return r < 0 ? err_wrap(err, "model '%s'", ERR_SLICE(model)) : 0;
}

/* ---- into it -------------------------------------------------------------------------------- */

bool artifact_tag(struct slice tag, uint64_t *ret_number)
{
    static const size_t prefix = sizeof TAG_PREFIX - 1;
    return slice_starts(tag, SLICE(TAG_PREFIX)) &&
           slice_u64((struct slice){ tag.data + prefix, tag.size - prefix }, ret_number);
}

static int revisions(const struct artifact *artifact, struct slice project, struct slice name,
                     struct store_revision **ret, size_t *ret_count, struct err *err)
{
    struct store *store = artifact->store;
    struct store_endpoint endpoint;
    int r = store->endpoint_find(store, project, name, artifact->arena, &endpoint, err);
    return r < 0 ? r
                 : store->revision_list(store, endpoint.uid, artifact->arena, ret, ret_count, err);
}

static bool pullable(const struct store_revision *revision)
{
    return revision->model.size > 0 || revision->image.size > 0;
}

/* What a single file is called in the artifact: as it was called where it came from. */
static struct slice file_name(const struct store_revision *revision)
{
    struct slice name = revision->source;
    const char *slash = name.size ? memrchr(name.data, '/', name.size) : NULL;
    if (slash)
        name = (struct slice){ slash + 1, (size_t)(name.data + name.size - slash - 1) };
    return slice_ends(name, SLICE(".onnx")) && manifest_check_path(name, NULL) == 0
               ? name
               : SLICE("model.onnx");
}

/* An image's, and a folder's, is what it is stored as; a file's is made. */
static int text_of(const struct artifact *artifact, const struct store_revision *revision,
                   struct slice *ret, struct err *err)
{
    if (revision->image.size)
        return artifact_load(artifact, pinned_digest(revision), OCI_MANIFEST_BYTES_MAX, ret, err);
    struct manifest_file file = { file_name(revision), revision->model, 0 };
    struct manifest manifest = { .files = &file, .count = 1 };
    int r = blobs_find(artifact->blobs, revision->model, &file.bytes, err);
    if (r < 0)
        return r;
    if (file.bytes <= MANIFEST_BYTES_MAX) {
        r = artifact_load(artifact, revision->model, MANIFEST_BYTES_MAX, ret, err);
        if (r < 0 || manifest_is(*ret))
            return r;
    }
    return manifest_print(artifact->arena, &manifest, ret, err);
}

int artifact_find(const struct artifact *artifact, struct slice project, struct slice name,
                  struct slice reference, struct store_manifest *ret, struct slice *ret_text,
                  struct err *err)
{
    struct store_revision *list;
    size_t count = 0;
    uint64_t number = 0;
    bool tag = artifact_tag(reference, &number);
    if (!tag && !slice_starts(reference, SLICE("sha256:")))
        return ERR_NOT_FOUND;
    int r = revisions(artifact, project, name, &list, &count, err);
    for (size_t i = 0; i < count * (r == 0); i++) {
        char digest[DIGEST_TEXT];
        if (!pullable(&list[i]) || (tag && list[i].number != number))
            continue;
        r = text_of(artifact, &list[i], ret_text, err);
        if (r < 0)
            return r;
        if (!slice_is(reference, digest_of(*ret_text, digest)) && !tag)
            continue;
        *ret = (struct store_manifest){
            .digest = arena_copy(artifact->arena, slice_of(digest)),
            .media_type = list[i].image.size ? pinned_media_type(artifact->arena, *ret_text)
                                             : SLICE(MANIFEST_MEDIA_TYPE),
            .artifact_type = list[i].image.size ? (struct slice){} : SLICE(MANIFEST_ARTIFACT_TYPE),
            .bytes = ret_text->size,
            .created_ns = list[i].created_ns,
        };
        return 0;
    }
    return r < 0 ? r : ERR_NOT_FOUND;
}

int artifact_blob(const struct artifact *artifact, struct slice project, struct slice name,
                  struct slice digest, struct err *err)
{
    struct store *store = artifact->store;
    struct store_endpoint endpoint;
    int r = store->endpoint_find(store, project, name, artifact->arena, &endpoint, err);
    return r < 0 || slice_is(digest, MANIFEST_EMPTY_DIGEST)
               ? r
               : store->revision_needs(store, endpoint.uid, digest, err);
}

static int by_bytes(const void *a, const void *b)
{
    return slice_order(*(const struct slice *)a, *(const struct slice *)b);
}

int artifact_tags(const struct artifact *artifact, struct slice project, struct slice name,
                  struct slice **ret, size_t *ret_count, struct err *err)
{
    struct store_revision *list;
    size_t count;
    int r = revisions(artifact, project, name, &list, &count, err);
    if (r < 0)
        return r;
    *ret = ARENA_ARRAY(artifact->arena, struct slice, count + 1);
    *ret_count = 0;
    for (size_t i = 0; i < count; i++)
        if (pullable(&list[i]))
            (*ret)[(*ret_count)++] = slice_of(arena_format(artifact->arena, TAG_PREFIX "%llu",
                                                           (unsigned long long)list[i].number));
    qsort(*ret, *ret_count, sizeof **ret, by_bytes);
    return 0;
}
