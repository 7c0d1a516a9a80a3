/* SPDX-License-Identifier: Apache-2.0 */
/* Images as OCI layouts: in a tar, and as a folder. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "image_scene.h"
#include "sys/fd.h"

#define EEEE "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
#define MANIFEST_TYPE "application/vnd.oci.image.manifest.v1+json"
#define INDEX_TYPE "application/vnd.oci.image.index.v1+json"

static const char *oci_manifest(struct scene *scene, const char *config)
{
    return arena_format(
        scene->arena, "{\"schemaVersion\":2,\"config\":%s,\"layers\":[%s]}",
        scene_descriptor(scene, "application/vnd.oci.image.config.v1+json", config, ""),
        scene_descriptor(scene, "application/vnd.oci.image.layer.v1.tar+gzip", GZIP, ""));
}

static const char *index_of(struct scene *scene, const char *first, const char *second)
{
    return arena_format(scene->arena, "{\"schemaVersion\":2,\"manifests\":[%s%s%s]}", first,
                        *second ? "," : "", second);
}

static void test_oci(void **state)
{
    struct scene *scene = *state;
    const char *manifest = oci_manifest(scene, ONE);
    const char *ours =
        scene_descriptor(scene, MANIFEST_TYPE, manifest,
                         ",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}");
    const char *other = scene_descriptor(
        scene, MANIFEST_TYPE, "{}", ",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}");
    const char *inner = index_of(scene, other, ours);
    if (!scene->folder[0])
        scene_add_special(scene, "blobs", '5', "");
    scene_add_blob(scene, GZIP);
    scene_add_blob(scene, ONE);
    scene_add_blob(scene, manifest);
    scene_add_blob(scene, inner);
    scene_add(scene, "index.json",
              index_of(scene, scene_descriptor(scene, INDEX_TYPE, inner, ""), ""));
    assert_int_equal(0, scene_read(scene));
    assert_string_equal(scene->file.digest.data, scene_digest(scene, manifest));
    assert_int_equal(scene->file.manifest.size, strlen(manifest));
    assert_int_equal(scene->file.layer_count, 1);
    assert_string_equal(scene->file.layers[0].blob.digest.data, scene_digest(scene, GZIP));
    assert_true(slice_is(scene->file.config.entrypoint.items[0], "/a"));
}

static void oci_refused(struct scene *scene, const char *index, const char *words)
{
    scene_reset(scene);
    scene_add_blob(scene, GZIP);
    scene_add_blob(scene, ONE);
    scene_add_blob(scene, oci_manifest(scene, ONE));
    scene_add(scene, "blobs/sha256/" EEEE, "{}");
    scene_add(scene, "index.json", index);
    scene_refused(scene, words);
}

static void test_oci_refused(void **state)
{
    struct scene *scene = *state;
    const char *manifest = oci_manifest(scene, ONE);
    const char *good = scene_descriptor(scene, MANIFEST_TYPE, manifest, "");
    const char *arm = ",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}";
    const char *eee = arena_format(scene->arena, "sha256:%064d", 0);
    oci_refused(scene, index_of(scene, good, good), "2 images of it are for this machine");
    oci_refused(scene, index_of(scene, scene_descriptor(scene, MANIFEST_TYPE, manifest, arm), ""),
                "none of its images is for linux");
    oci_refused(scene, index_of(scene, scene_descriptor(scene, "text/plain", manifest, ""), ""),
                "none of its images");
    oci_refused(scene, index_of(scene, scene_descriptor(scene, MANIFEST_TYPE, "missing", ""), ""),
                "is not in it");
    oci_refused(scene,
                arena_format(scene->arena,
                             "{\"manifests\":[{\"mediaType\":\"" MANIFEST_TYPE
                             "\",\"digest\":\"%s\",\"size\":7}]}",
                             scene_digest(scene, manifest)),
                "and should have 7");
    oci_refused(scene,
                "{\"manifests\":[{\"mediaType\":\"" MANIFEST_TYPE
                "\",\"digest\":\"sha256:../../etc/passwd\",\"size\":7}]}",
                "digest");
    oci_refused(scene,
                "{\"manifests\":[{\"mediaType\":\"" MANIFEST_TYPE "\",\"digest\":\"sha256:" EEEE
                "\",\"size\":2}]}",
                "is damaged");
    oci_refused(scene, "{}", "'manifests' is missing");
    oci_refused(scene,
                arena_format(scene->arena,
                             "{\"manifests\":[{\"mediaType\":\"" INDEX_TYPE
                             "\",\"digest\":\"%s\",\"size\":1}]}",
                             eee),
                "is not in it");
}

/* ---- a folder -------------------------------------------------------------------------------- */

/* An image of one layer, whose file's name is *ret_layer. */
static void whole(struct scene *scene, const char **ret_layer)
{
    const char *manifest = oci_manifest(scene, ONE);
    scene_reset(scene);
    scene_add_blob(scene, GZIP);
    scene_add_blob(scene, ONE);
    scene_add_blob(scene, manifest);
    scene_add(scene, "index.json",
              index_of(scene, scene_descriptor(scene, MANIFEST_TYPE, manifest, ""), ""));
    *ret_layer = arena_format(scene->arena, "blobs/sha256/%s", scene_digest(scene, GZIP) + 7);
}

static void assert_blob(struct scene *scene, const struct image_file_blob *blob, const char *text)
{
    char buffer[512];
    auto_close int fd = image_file_open(scene->fd, blob, &scene->err);
    assert_true(fd >= 0);
    assert_int_equal(blob->blob.bytes, strlen(text));
    assert_int_equal(strlen(text), pread(fd, buffer, strlen(text), (off_t)blob->offset));
    assert_memory_equal(buffer, text, strlen(text));
}

/* In the tar and in the folder alike. */
static void test_blobs_are_opened(void **state)
{
    struct scene *scene = *state;
    const char *layer;
    whole(scene, &layer);
    assert_int_equal(0, scene_read(scene));
    assert_blob(scene, &scene->file.layers[0], GZIP);
    assert_blob(scene, &scene->file.config_blob, ONE);
}

static void test_links_within_the_folder(void **state)
{
    struct scene *scene = *state;
    const char *layer;
    whole(scene, &layer);
    assert_int_equal(0, renameat(scene->fd, layer, scene->fd, "layer"));
    assert_int_equal(0, symlinkat("../../layer", scene->fd, layer));
    assert_int_equal(0, scene_read(scene));
    assert_blob(scene, &scene->file.layers[0], GZIP);
}

/* Also where it was put there after the image was read. */
static void test_links_that_lead_out(void **state)
{
    static const char *const links[] = { "/etc/passwd", "../../../other", "../../..",
                                         "/proc/self/fd/0" };
    struct scene *scene = *state;
    const char *layer;
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        whole(scene, &layer);
        assert_int_equal(0, unlinkat(scene->fd, layer, 0));
        assert_int_equal(0, symlinkat(links[i], scene->fd, layer));
        scene_refused(scene, "leads out of it");
        assert_non_null(strstr(scene->err.message, "'blobs/sha256/"));
    }
    whole(scene, &layer);
    assert_int_equal(0, scene_read(scene));
    assert_int_equal(0, unlinkat(scene->fd, layer, 0));
    assert_int_equal(0, symlinkat("/etc/passwd", scene->fd, layer));
    assert_true(image_file_open(scene->fd, &scene->file.layers[0], &scene->err) < 0);
    assert_non_null(strstr(scene->err.message, "leads out of it"));

    whole(scene, &layer);
    const char *elsewhere = arena_format(scene->arena, "%s.away", scene->folder);
    assert_int_equal(0, renameat(scene->fd, "blobs", -1, elsewhere));
    assert_int_equal(0, symlinkat(elsewhere, scene->fd, "blobs"));
    scene_refused(scene, "leads out of it");
    assert_int_equal(0, unlinkat(scene->fd, "blobs", 0));
    assert_int_equal(0, renameat(-1, elsewhere, scene->fd, "blobs"));
    assert_int_equal(0, scene_read(scene));
}

static void test_what_is_no_file(void **state)
{
    struct scene *scene = *state;
    const char *layer;
    whole(scene, &layer);
    assert_int_equal(0, unlinkat(scene->fd, layer, 0));
    scene_refused(scene, "is not in it");
    assert_int_equal(0, mkfifoat(scene->fd, layer, 0600)); /* and nobody waits for its other end */
    scene_refused(scene, "is no plain file");
    assert_int_equal(0, unlinkat(scene->fd, layer, 0));
    assert_int_equal(0, mkdirat(scene->fd, layer, 0700));
    scene_refused(scene, "is no plain file");
    assert_int_equal(0, unlinkat(scene->fd, layer, AT_REMOVEDIR));
    assert_int_equal(0, symlinkat(layer + strlen("blobs/sha256/"), scene->fd, layer));
    scene_refused(scene, "symbolic links");
    assert_int_equal(0, unlinkat(scene->fd, layer, 0));
    scene_add(scene, layer, GZIP "longer");
    scene_refused(scene, "and should have");
}

static void test_folders_that_are_no_layout(void **state)
{
    static const struct {
        const char *layout, *words;
    } rows[] = {
        { NULL, "it is no OCI layout" },
        { "{}", "'imageLayoutVersion' is missing" },
        { "[", "oci-layout: " },
        { "{\"imageLayoutVersion\":\"2.0.0\"}", "of version '2.0.0'" },
        { "{\"imageLayoutVersion\":\"1.1.0\"}", "'index.json' is not in it" },
    };
    struct scene *scene = *state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        scene_reset(scene);
        assert_int_equal(0, unlinkat(scene->fd, "oci-layout", 0));
        if (rows[i].layout)
            scene_add(scene, "oci-layout", rows[i].layout);
        scene_refused(scene, rows[i].words);
    }
}

#define IN_BOTH(test)                                                                              \
    cmocka_unit_test_setup_teardown(test, scene_setup, scene_teardown),                            \
        cmocka_unit_test_setup_teardown(test, scene_setup_folder, scene_teardown)
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, scene_setup_folder, scene_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_BOTH(test_oci),
        IN_BOTH(test_oci_refused),
        IN_BOTH(test_blobs_are_opened),
        IN_FOLDER(test_links_within_the_folder),
        IN_FOLDER(test_links_that_lead_out),
        IN_FOLDER(test_what_is_no_file),
        IN_FOLDER(test_folders_that_are_no_layout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
