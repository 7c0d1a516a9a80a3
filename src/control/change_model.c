/* SPDX-License-Identifier: Apache-2.0 */
/* What runs of an endpoint: the model or the image that a change names, pinned and here. */
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "control/abroad.h"
#include "control/artifact.h"
#include "control/change_own.h"
#include "control/pinned.h"
#include "store/blobs.h"
#include "store/manifest.h"

static struct artifact artifact_here(struct change *change, struct store *store)
{
    return (struct artifact){
        store,         change->blobs,      change->arena,
        change->hosts, change->host_count, change->audit.at_ns,
        change->found,
    };
}

static int model_missing(struct err *err, const char *what, struct slice digest)
{
    return err_set(err, ERR_BAD_INPUT,
                   "%s %.*s is not here: upload it first (PUT "
                   "/api/v1/blobs/%.*s)",
                   what, SLICE_FMT(digest), SLICE_FMT(digest));
}

static int check_folder(struct change *change, struct store *store, struct slice text,
                        struct change_model *ret, struct err *err)
{
    const struct artifact artifact = artifact_here(change, store);
    struct manifest manifest;
    int r = manifest_parse(change->arena, text, &manifest, err);
    if (r < 0)
        return r;
    ret->blobs = ARENA_ARRAY(change->arena, struct slice, manifest.count + 1);
    ret->blob_count = 1;
    ret->bytes = manifest.bytes;
    for (size_t i = 0; i < manifest.count; i++) {
        const struct manifest_file *file = &manifest.files[i];
        uint64_t bytes;
        r = artifact_has(&artifact, file->digest, &bytes, err);
        if (r == ERR_NOT_FOUND)
            return model_missing(err, "the model folder's file", file->digest);
        if (r < 0)
            return r;
        if (bytes != file->bytes)
            return err_set(err, ERR_BAD_INPUT, "file '%s' has %llu bytes, the manifest says %llu",
                           ERR_SLICE(file->path), (unsigned long long)bytes,
                           (unsigned long long)file->bytes);
        ret->blobs[ret->blob_count++] = file->digest;
    }
    return 0;
}

static int check_image(struct change *change, struct store *store, const struct endpoint_spec *spec,
                       struct change_model *ret, struct err *err)
{
    const struct artifact artifact = artifact_here(change, store);
    struct pinned pinned;
    int r = pinned_find(&artifact, spec, &pinned, err);
    if (r == 0)
        *ret = (struct change_model){ pinned.bytes, pinned.blobs, pinned.blob_count, pinned.text };
    return r;
}

int change_model_check(struct change *change, struct store *store, const struct endpoint_spec *spec,
                       struct change_model *ret, struct err *err)
{
    uint64_t bytes;
    if (spec->image.size)
        return check_image(change, store, spec, ret, err);
    if (!spec->model.size) /* an upstream: nothing is kept of it */
        return 0;
    if (!slice_starts(spec->model, SLICE("sha256:")))
        return err_set(err, ERR_BAD_INPUT,
                       "model: '%s' is a path; the API opens none: upload it as a blob and give "
                       "sha256:HEX (`perigee deploy` does both)",
                       ERR_SLICE(spec->model));
    const struct artifact artifact = artifact_here(change, store);
    int r = artifact_has(&artifact, spec->model, &bytes, err);
    if (r == ERR_NOT_FOUND)
        return model_missing(err, "model", spec->model);
    if (r < 0)
        return r;
    ret->bytes = bytes;
    bool here = blobs_find(change->blobs, spec->model, &bytes, NULL) == 0;
    if (here && bytes <= MANIFEST_BYTES_MAX) { /* one that is to come is a file: artifact.c */
        char *data;
        size_t size;
        r = blobs_load(change->blobs, spec->model, MANIFEST_BYTES_MAX, &data, &size, err);
        if (r < 0)
            return r;
        struct slice text = arena_copy(change->arena, (struct slice){ data, size });
        free(data);
        if (manifest_is(text))
            r = check_folder(change, store, text, ret, err);
        if (r < 0)
            return r;
    }
    if (!ret->blobs) {
        ret->blobs = ARENA_NEW(change->arena, struct slice);
        ret->blob_count = 1;
    }
    ret->blobs[0] = spec->model;
    return 0;
}

static int resolve_image(struct change *change, struct store *store, struct endpoint_spec *spec,
                         struct err *err)
{
    const struct artifact artifact = artifact_here(change, store);
    struct slice written = spec->image;
    struct pinned pinned;
    int r = pinned_find(&artifact, spec, &pinned, err);
    if (r < 0)
        return r;
    if (!spec_is_digest(written))
        spec->source = written;
    spec->image = pinned.digest;
    return 0;
}

int change_model_resolve(struct change *change, struct store *store, struct endpoint_spec *spec,
                         struct err *err)
{
    struct slice written = spec->model;
    if (change->found) {
        const struct artifact artifact = artifact_here(change, store);
        int r = abroad_keep(&artifact, change->found, err);
        if (r < 0)
            return r;
    }
    if (spec->image.size)
        return resolve_image(change, store, spec, err);
    const struct artifact artifact = artifact_here(change, store);
    if (!slice_starts(written, SLICE(ARTIFACT_SCHEME)))
        return 0;
    int r = artifact_resolve(&artifact, written, &spec->model, err);
    if (r == 0)
        spec->source = written;
    return r;
}

int change_runtime_check(struct change *change, struct slice runtime, struct err *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
    const char *name = arena_string(change->arena, runtime);
    if (!change->libdir || slice_is(runtime, "upstream") || slice_is(runtime, "image"))
        return 0;
    if (strlen(name) == runtime.size && strspn(name, letters) == runtime.size &&
        access(arena_format(change->arena, "%s/perigee-worker-%s", change->libdir, name), X_OK) ==
            0)
        return 0;
    return err_set(err, ERR_BAD_INPUT, "runtime: '%s' is not installed here; onnx is",
                   ERR_SLICE(runtime));
}
