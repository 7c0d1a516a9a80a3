/* SPDX-License-Identifier: Apache-2.0 */
/* Images in files: as an OCI layout, as `docker save` writes them, and as nobody should. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/err.h"
#include "store/digest.h"
#include "store/image_file.h"
#include "store/tar.h"

#define GZIP "\x1f\x8b\x08 a layer"
#define DIFF "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define CONFIG(layers)                                                                             \
    "{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"diff_ids\":[" layers "]},"         \
    "\"config\":{\"Entrypoint\":[\"/a\"]}}"
#define EEEE "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
#define ONE CONFIG("\"" DIFF "\"")
#define TWO CONFIG("\"" DIFF "\",\"" DIFF "\"")

struct scene {
    struct arena *arena;
    int fd;
    struct image_file file;
    struct err err;
};

static int setup(void **state)
{
    struct scene *scene = calloc(1, sizeof *scene);
    scene->arena = arena_new();
    scene->fd = memfd_create("image", MFD_CLOEXEC);
    *state = scene;
    return 0;
}

static int teardown(void **state)
{
    struct scene *scene = *state;
    arena_free(scene->arena);
    close(scene->fd);
    free(scene);
    return 0;
}

static void add(struct scene *scene, const char *name, const char *text)
{
    assert_int_equal(0, tar_write_bytes(scene->fd, name, slice_of(text), 0, &scene->err));
}

/* Its type, and what it points to; the sum is put right. */
static void add_special(struct scene *scene, const char *name, char type, const char *link)
{
    unsigned char head[TAR_BLOCK];
    unsigned sum = 0;
    tar_head(head, name, 0, 0);
    head[TAR_TYPE_AT] = (unsigned char)type;
    memcpy(head + 157, link, strlen(link));
    memset(head + 148, ' ', 8);
    for (size_t i = 0; i < sizeof head; i++)
        sum += head[i];
    (void)snprintf((char *)head + 148, 8, "%06o", sum);
    assert_int_equal(sizeof head, write(scene->fd, head, sizeof head));
}

static const char *digest(struct scene *scene, const char *text)
{
    return digest_of(slice_of(text), arena_alloc(scene->arena, DIGEST_TEXT));
}

static void add_blob(struct scene *scene, const char *text)
{
    add(scene, arena_format(scene->arena, "blobs/sha256/%s", digest(scene, text) + 7), text);
}

static const char *descriptor(struct scene *scene, const char *type, const char *text,
                              const char *more)
{
    return arena_format(scene->arena, "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu%s}",
                        type, digest(scene, text), strlen(text), more);
}

static int read_it(struct scene *scene)
{
    assert_int_equal(0, tar_write_end(scene->fd, &scene->err));
    return image_file_read(scene->arena, scene->fd, SLICE("amd64"), &scene->file, &scene->err);
}

static void refused(struct scene *scene, const char *words)
{
    if (read_it(scene) >= 0 || !strstr(scene->err.message, words))
        fail_msg("'%s' is not in '%s'", words, scene->err.message);
}

/* ---- docker save ----------------------------------------------------------------------------- */

static void test_docker(void **state)
{
    struct scene *scene = *state;
    add_special(scene, "one/", '5', "");
    add(scene, "one/layer.tar", "plain");
    add(scene, "./two.tar.gz", GZIP);
    add(scene, "c.json", TWO);
    add(scene, "manifest.json",
        "[{\"Config\":\"c.json\",\"RepoTags\":[\"a:1\"],\"Layers\":[\"one/layer.tar\","
        "\"two.tar.gz\"]}]");
    assert_int_equal(0, read_it(scene));
    assert_int_equal(scene->file.layer_count, 2);
    assert_string_equal(scene->file.layers[0].blob.digest.data, digest(scene, "plain"));
    assert_string_equal(scene->file.layers[1].blob.digest.data, digest(scene, GZIP));
    assert_true(slice_ends(scene->file.layers[0].blob.media_type, SLICE("v1.tar")));
    assert_true(slice_ends(scene->file.layers[1].blob.media_type, SLICE("v1.tar+gzip")));
    assert_string_equal(scene->file.config_blob.blob.digest.data, digest(scene, TWO));
    assert_string_equal(scene->file.digest.data, digest(scene, scene->file.manifest.data));
    assert_int_equal(scene->file.bytes, 5 + strlen(GZIP) + strlen(TWO));
    char text[5];
    assert_int_equal(5, pread(scene->fd, text, 5, (off_t)scene->file.layers[0].offset));
    assert_memory_equal(text, "plain", 5);
    assert_non_null(strstr(scene->file.manifest.data, "\"schemaVersion\":2"));
}

static void test_a_layer_that_is_a_link(void **state)
{
    struct scene *scene = *state;
    add(scene, "aa/layer.tar", "plain");
    add_special(scene, "bb/layer.tar", '2', "../aa/layer.tar");
    add(scene, "c.json", TWO);
    add(scene, "manifest.json",
        "[{\"Config\":\"c.json\",\"Layers\":[\"aa/layer.tar\",\"bb/layer.tar\"]}]");
    assert_int_equal(0, read_it(scene));
    assert_int_equal(scene->file.layers[1].offset, scene->file.layers[0].offset);
}

#define MANIFEST "[{\"Config\":\"c.json\",\"Layers\":[\"l\"]}]"

static void test_docker_refused(void **state)
{
    static const struct {
        const char *config, *manifest, *words;
    } rows[] = {
        { ONE, "[]", "list of one image" },
        { ONE, "[{\"Config\":\"c.json\",\"Layers\":[\"l\"]},{}]", "list of one image" },
        { ONE, "{", "line 1" },
        { ONE, "[{\"Config\":\"c.json\",\"Layers\":[\"other\"]}]", "'other' is not in it" },
        { ONE, "[{\"Config\":\"../c.json\",\"Layers\":[\"l\"]}]", "'../c.json' is not in it" },
        { ONE, "[{\"Config\":\"c.json\",\"Layers\":[7]}]", "is not in it" },
        { ONE, "[{\"Config\":\"c.json\"}]", "'Layers' is missing" },
        { TWO, MANIFEST, "has 1 layers, and its configuration names 2" },
        { "{}", MANIFEST, "the image's configuration" },
    };
    struct scene *scene = *state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(0, ftruncate(scene->fd, 0));
        assert_int_equal(0, lseek(scene->fd, 0, SEEK_SET));
        add(scene, "l", "plain");
        add(scene, "c.json", rows[i].config);
        add(scene, "manifest.json", rows[i].manifest);
        refused(scene, rows[i].words);
    }
}

/* ---- an OCI layout --------------------------------------------------------------------------- */

#define MANIFEST_TYPE "application/vnd.oci.image.manifest.v1+json"
#define INDEX_TYPE "application/vnd.oci.image.index.v1+json"

static const char *oci_manifest(struct scene *scene, const char *config)
{
    return arena_format(scene->arena, "{\"schemaVersion\":2,\"config\":%s,\"layers\":[%s]}",
                        descriptor(scene, "application/vnd.oci.image.config.v1+json", config, ""),
                        descriptor(scene, "application/vnd.oci.image.layer.v1.tar+gzip", GZIP, ""));
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
    const char *ours = descriptor(scene, MANIFEST_TYPE, manifest,
                                  ",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}");
    const char *other = descriptor(scene, MANIFEST_TYPE, "{}",
                                   ",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}");
    const char *inner = index_of(scene, other, ours);
    add_special(scene, "blobs", '5', "");
    add_blob(scene, GZIP);
    add_blob(scene, ONE);
    add_blob(scene, manifest);
    add_blob(scene, inner);
    add(scene, "index.json", index_of(scene, descriptor(scene, INDEX_TYPE, inner, ""), ""));
    assert_int_equal(0, read_it(scene));
    assert_string_equal(scene->file.digest.data, digest(scene, manifest));
    assert_int_equal(scene->file.manifest.size, strlen(manifest));
    assert_int_equal(scene->file.layer_count, 1);
    assert_string_equal(scene->file.layers[0].blob.digest.data, digest(scene, GZIP));
    assert_true(slice_is(scene->file.config.entrypoint.items[0], "/a"));
}

static void oci_refused(struct scene *scene, const char *index, const char *words)
{
    assert_int_equal(0, ftruncate(scene->fd, 0));
    assert_int_equal(0, lseek(scene->fd, 0, SEEK_SET));
    add_blob(scene, GZIP);
    add_blob(scene, ONE);
    add_blob(scene, oci_manifest(scene, ONE));
    add(scene, "blobs/sha256/" EEEE, "{}");
    add(scene, "index.json", index);
    refused(scene, words);
}

static void test_oci_refused(void **state)
{
    struct scene *scene = *state;
    const char *manifest = oci_manifest(scene, ONE);
    const char *good = descriptor(scene, MANIFEST_TYPE, manifest, "");
    const char *arm = ",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}";
    const char *eee = arena_format(scene->arena, "sha256:%064d", 0);
    oci_refused(scene, index_of(scene, good, good), "2 images of it are for this machine");
    oci_refused(scene, index_of(scene, descriptor(scene, MANIFEST_TYPE, manifest, arm), ""),
                "none of its images is for linux");
    oci_refused(scene, index_of(scene, descriptor(scene, "text/plain", manifest, ""), ""),
                "none of its images");
    oci_refused(scene, index_of(scene, descriptor(scene, MANIFEST_TYPE, "missing", ""), ""),
                "is not in it");
    oci_refused(scene,
                arena_format(scene->arena,
                             "{\"manifests\":[{\"mediaType\":\"" MANIFEST_TYPE
                             "\",\"digest\":\"%s\",\"size\":7}]}",
                             digest(scene, manifest)),
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

/* ---- the tar --------------------------------------------------------------------------------- */

static void test_names_that_lead_out(void **state)
{
    static const char *const names[] = { "../etc/passwd", "/etc/passwd", "a/../../b", "a//b" };
    struct scene *scene = *state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(0, ftruncate(scene->fd, 0));
        assert_int_equal(0, lseek(scene->fd, 0, SEEK_SET));
        add(scene, names[i], "x");
        refused(scene, "a name in it");
    }
    static const char *const links[] = { "/etc/passwd", "../../../../etc/passwd", "a/../../x" };
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        assert_int_equal(0, ftruncate(scene->fd, 0));
        assert_int_equal(0, lseek(scene->fd, 0, SEEK_SET));
        add_special(scene, "a/layer.tar", '2', links[i]);
        refused(scene, "the link 'a/layer.tar'");
    }
}

static void test_links_in_a_ring(void **state)
{
    struct scene *scene = *state;
    add_special(scene, "index.json", '2', "b");
    add_special(scene, "b", '2', "index.json");
    refused(scene, "neither index.json nor manifest.json");
}

static void test_what_is_no_image(void **state)
{
    struct scene *scene = *state;
    refused(scene, "neither index.json nor manifest.json");
    assert_int_equal(0, ftruncate(scene->fd, 0));
    assert_int_equal(0, lseek(scene->fd, 0, SEEK_SET));
    assert_int_equal(5, write(scene->fd, "hello", 5));
    assert_true(
        image_file_read(scene->arena, scene->fd, SLICE("amd64"), &scene->file, &scene->err) < 0);
    assert_non_null(strstr(scene->err.message, "ends too early, or is no tar"));
}

static void test_a_size_that_lies(void **state)
{
    struct scene *scene = *state;
    unsigned char head[TAR_BLOCK];
    tar_head(head, "index.json", UINT64_C(1) << 40, 0);
    assert_int_equal(sizeof head, write(scene->fd, head, sizeof head));
    refused(scene, "it ends too early");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_docker, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_layer_that_is_a_link, setup, teardown),
        cmocka_unit_test_setup_teardown(test_docker_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_oci, setup, teardown),
        cmocka_unit_test_setup_teardown(test_oci_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names_that_lead_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_links_in_a_ring, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_no_image, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_size_that_lies, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
