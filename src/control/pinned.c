/* SPDX-License-Identifier: Apache-2.0 */
#include "control/pinned.h"

#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "control/artifact.h"
#include "spec/endpoint.h"
#include "spec/reference.h"
#include "store/blobs.h"
#include "store/image.h"
#include "store/manifest.h"
#include "store/oci.h"
#include "store/store.h"

enum { INDEX_DEPTH_MAX = 3, PLATFORMS_TOLD = 8 };

struct pinning {
    const struct artifact *artifact;
    struct arena *arena;
    const struct endpoint_spec *spec;
    struct oci_manifest manifest;
    struct image_config config;
    struct pinned *pinned;
    struct err *err;
};

/* ---- which manifest -------------------------------------------------------------------------- */

/* OCI lets a manifest be silent about its own type, which who names it by a tag says. */
int pinned_parse(struct arena *arena, struct slice text, struct oci_manifest *ret, struct err *err)
{
    static const char *const types[] = {
        "",
        MANIFEST_MEDIA_TYPE,
        "application/vnd.oci.image.index.v1+json",
    };
    int r = 0;

    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        r = oci_manifest_parse(arena, text, slice_of(types[i]), ret, err);
        if (r == 0)
            return 0;
    }
    return r;
}

/* As told, else one that says of no machine that it is for it. */
const struct oci_part *pinned_part(const struct oci_manifest *index)
{
    const struct oci_part *any = NULL;

    for (size_t i = 0; i < index->count; i++) {
        const struct oci_part *part = &index->parts[i];
        if (slice_is(part->system, "linux") && slice_is(part->machine, image_machine()))
            return part;
        if (!any && !part->system.size && !part->machine.size)
            any = part;
    }
    return any;
}

static int none_for_us(const struct pinning *pinning, const struct oci_manifest *index)
{
    const char *there = "";
    size_t told = 0;

    for (size_t i = 0; i < index->count && told < PLATFORMS_TOLD; i++) {
        const struct oci_part *part = &index->parts[i];
        if (part->system.size && !slice_is(part->system, "unknown"))
            there = arena_format(pinning->arena, "%s%s%s/%s", there, told++ ? ", " : "",
                                 ERR_SLICE(part->system), ERR_SLICE(part->machine));
    }
    return err_set(pinning->err, ERR_BAD_INPUT,
                   "it has no image for linux/%s, which this machine is, but for: %s; build and "
                   "push one for it as well",
                   image_machine(), told ? there : "none");
}

static int load_manifest(struct pinning *pinning, struct slice digest, unsigned depth)
{
    const struct oci_part *part;
    struct slice text;
    int r = artifact_load(pinning->artifact, digest, OCI_MANIFEST_BYTES_MAX, &text, pinning->err);

    if (r == ERR_NOT_FOUND)
        return err_set(pinning->err, ERR_BAD_INPUT, "manifest %.*s is not here: push the image",
                       SLICE_FMT(digest));
    if (r == 0)
        r = pinned_parse(pinning->arena, text, &pinning->manifest, pinning->err);
    if (r < 0)
        return r;
    if (!pinning->manifest.index) {
        pinning->pinned->digest = digest;
        return 0;
    }
    if (depth == INDEX_DEPTH_MAX)
        return err_set(pinning->err, ERR_BAD_INPUT, "it is an index in an index, %d deep",
                       (int)INDEX_DEPTH_MAX);
    part = pinned_part(&pinning->manifest);
    return part ? load_manifest(pinning, part->digest, depth + 1)
                : none_for_us(pinning, &pinning->manifest);
}

static int find_manifest(struct pinning *pinning)
{
    struct slice image = pinning->spec->image;
    struct store_manifest row;
    struct reference reference;
    struct slice text;

    if (spec_is_digest(image))
        return load_manifest(pinning, image, 0);
    int r = reference_parse(image, &reference, pinning->err);
    if (r == 0)
        r = artifact_manifest(pinning->artifact, &reference, image, &row, &text, pinning->err);
    return r ? r : load_manifest(pinning, row.digest, 0);
}

/* ---- what it names --------------------------------------------------------------------------- */

static int check_blob(const struct pinning *pinning, const struct oci_part *part, const char *what)
{
    uint64_t bytes;
    int r = digest_check(part->digest, pinning->err);

    if (r < 0)
        return err_wrap(pinning->err, "%s", what);
    r = artifact_has(pinning->artifact, part->digest, &bytes, pinning->err);
    if (r == ERR_NOT_FOUND)
        return err_set(pinning->err, ERR_BAD_INPUT, "%s %.*s is not here: push the image again",
                       what, SLICE_FMT(part->digest));
    if (r == 0 && bytes != part->bytes)
        r = err_set(pinning->err, ERR_BAD_INPUT, "%s %.*s has %llu bytes, the manifest says %llu",
                    what, SLICE_FMT(part->digest), (unsigned long long)bytes,
                    (unsigned long long)part->bytes);
    return r;
}

static int check_blobs(struct pinning *pinning)
{
    const struct oci_manifest *manifest = &pinning->manifest;
    struct pinned *pinned = pinning->pinned;

    if (manifest->count > IMAGE_LAYERS_MAX + 1)
        return err_set(pinning->err, ERR_TOO_LARGE,
                       "it has %zu layers, and engines take at most %d", manifest->count - 1,
                       (int)IMAGE_LAYERS_MAX);
    pinned->blobs = ARENA_ARRAY(pinning->arena, struct slice, manifest->count + 1);
    pinned->blobs[pinned->blob_count++] = pinned->digest;
    for (size_t i = 0; i < manifest->count; i++) {
        int r = check_blob(pinning, &manifest->parts[i], i ? "layer" : "the configuration");
        if (r < 0)
            return r;
        pinned->bytes += manifest->parts[i].bytes;
        pinned->blobs[pinned->blob_count++] = manifest->parts[i].digest;
    }
    return 0;
}

static int load_config(struct pinning *pinning)
{
    const struct oci_part *part = &pinning->manifest.parts[0];
    struct slice text;

    if (!slice_is(part->media_type, "application/vnd.oci.image.config.v1+json") &&
        !slice_is(part->media_type, "application/vnd.docker.container.image.v1+json"))
        return err_set(pinning->err, ERR_BAD_INPUT,
                       "it is no container image but an artifact of '%s'; a model is deployed with "
                       "model: oci://...",
                       ERR_SLICE(pinning->manifest.artifact_type));
    if (part->bytes > IMAGE_CONFIG_BYTES_MAX)
        return err_set(pinning->err, ERR_TOO_LARGE, "its configuration is above %d MiB",
                       IMAGE_CONFIG_BYTES_MAX >> 20);
    int r =
        artifact_load(pinning->artifact, part->digest, IMAGE_CONFIG_BYTES_MAX, &text, pinning->err);
    return r < 0 ? r : image_config_parse(pinning->arena, text, &pinning->config, pinning->err);
}

static int check_fit(struct pinning *pinning, const struct image_blob *config,
                     const struct image_blob *layers, size_t count)
{
    const struct spec_container *container = &pinning->spec->container;
    struct image_parts unused;
    int r = image_check(&pinning->config, slice_of(image_machine()), container->command.count > 0,
                        pinning->err);

    if (r == 0)
        r = image_port(&pinning->config, (uint16_t)container->port, &pinning->pinned->port,
                       pinning->err);
    /* What every engine loads is said in one place. */
    return r < 0 ? r
                 : image_archive(pinning->arena, config, &pinning->config, layers, count, &unused,
                                 pinning->err);
}

/* ---- what PoPs must know --------------------------------------------------------------------- */

static void write_blob(struct json_writer *w, const struct image_blob *blob)
{
    json_object_begin(w);
    json_member_string(w, "digest", blob->digest);
    json_member_u64(w, "size", blob->bytes);
    json_member_string(w, "media_type", blob->media_type);
    json_object_end(w);
}

static struct slice text_of(const struct pinning *pinning, const struct image_blob *blobs,
                            size_t count)
{
    struct json_writer w;

    json_begin(&w, pinning->arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "digest", pinning->pinned->digest);
    json_member_u64(&w, "port", pinning->pinned->port);
    json_key(&w, "config");
    write_blob(&w, &blobs[0]);
    json_key(&w, "layers");
    json_array_begin(&w);
    for (size_t i = 1; i < count; i++)
        write_blob(&w, &blobs[i]);
    json_array_end(&w);
    json_object_end(&w);
    return json_end(&w);
}

static int pin(struct pinning *pinning)
{
    int r = find_manifest(pinning);

    if (r == 0)
        r = check_blobs(pinning);
    if (r == 0)
        r = load_config(pinning);
    if (r < 0)
        return r;
    size_t count = pinning->manifest.count;
    struct image_blob *blobs = ARENA_ARRAY(pinning->arena, struct image_blob, count);
    for (size_t i = 0; i < count; i++) {
        const struct oci_part *part = &pinning->manifest.parts[i];
        blobs[i] = (struct image_blob){ part->digest, part->media_type, part->bytes };
    }
    r = check_fit(pinning, &blobs[0], blobs + 1, count - 1);
    if (r == 0)
        pinning->pinned->text = text_of(pinning, blobs, count);
    return r;
}

int pinned_find(const struct artifact *artifact, const struct endpoint_spec *spec,
                struct pinned *ret, struct err *err)
{
    struct pinned pinned = {};
    struct pinning pinning = {
        .artifact = artifact,
        .arena = artifact->arena,
        .spec = spec,
        .pinned = &pinned,
        .err = err,
    };
    int r = spec_image_is_path(spec->image)
                ? err_set(err, ERR_BAD_INPUT,
                          "it is a path; the API opens none: push the image and give PROJECT/NAME:"
                          "TAG (`perigee deploy` uploads a file itself)")
                : pin(&pinning);

    if (r < 0)
        return err_wrap(err, "image '%s'", ERR_SLICE(spec->image));
    *ret = pinned;
    return 0;
}

/* ---- of what was kept ------------------------------------------------------------------------ */

struct slice pinned_digest(const struct store_revision *revision)
{
    static const struct slice before = SLICE("{\"digest\":\""); /* as text_of() begins */
    struct slice rest = revision->image;

    if (!slice_starts(rest, before))
        return (struct slice){};
    rest = (struct slice){ rest.data + before.size, rest.size - before.size };
    return slice_cut(&rest, '"');
}

struct slice pinned_media_type(struct arena *arena, struct slice text)
{
    struct oci_manifest manifest;

    return pinned_parse(arena, text, &manifest, NULL) == 0 ? manifest.media_type
                                                           : SLICE(MANIFEST_MEDIA_TYPE);
}
