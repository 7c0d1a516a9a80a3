/* SPDX-License-Identifier: Apache-2.0 */
/* Images in files: as `docker save` writes them, and as nobody should. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "image_scene.h"
#include "store/tar.h"

/* ---- docker save ----------------------------------------------------------------------------- */

static void test_docker(void **state)
{
    struct scene *scene = *state;
    scene_add_special(scene, "one/", '5', "");
    scene_add(scene, "one/layer.tar", "plain");
    scene_add(scene, "./two.tar.gz", GZIP);
    scene_add(scene, "c.json", TWO);
    scene_add(scene, "manifest.json",
              "[{\"Config\":\"c.json\",\"RepoTags\":[\"a:1\"],\"Layers\":[\"one/layer.tar\","
              "\"two.tar.gz\"]}]");
    assert_int_equal(0, scene_read(scene));
    assert_int_equal(scene->file.layer_count, 2);
    assert_string_equal(scene->file.layers[0].blob.digest.data, scene_digest(scene, "plain"));
    assert_string_equal(scene->file.layers[1].blob.digest.data, scene_digest(scene, GZIP));
    assert_true(slice_ends(scene->file.layers[0].blob.media_type, SLICE("v1.tar")));
    assert_true(slice_ends(scene->file.layers[1].blob.media_type, SLICE("v1.tar+gzip")));
    assert_string_equal(scene->file.config_blob.blob.digest.data, scene_digest(scene, TWO));
    assert_string_equal(scene->file.digest.data, scene_digest(scene, scene->file.manifest.data));
    assert_int_equal(scene->file.bytes, 5 + strlen(GZIP) + strlen(TWO));
    char text[5];
    assert_int_equal(5, pread(scene->fd, text, 5, (off_t)scene->file.layers[0].offset));
    assert_memory_equal(text, "plain", 5);
    assert_non_null(strstr(scene->file.manifest.data, "\"schemaVersion\":2"));
}

static void test_a_layer_that_is_a_link(void **state)
{
    struct scene *scene = *state;
    scene_add(scene, "aa/layer.tar", "plain");
    scene_add_special(scene, "bb/layer.tar", '2', "../aa/layer.tar");
    scene_add(scene, "c.json", TWO);
    scene_add(scene, "manifest.json",
              "[{\"Config\":\"c.json\",\"Layers\":[\"aa/layer.tar\",\"bb/layer.tar\"]}]");
    assert_int_equal(0, scene_read(scene));
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
        scene_reset(scene);
        scene_add(scene, "l", "plain");
        scene_add(scene, "c.json", rows[i].config);
        scene_add(scene, "manifest.json", rows[i].manifest);
        scene_refused(scene, rows[i].words);
    }
}

/* ---- the tar --------------------------------------------------------------------------------- */

static void test_names_that_lead_out(void **state)
{
    static const char *const names[] = { "../etc/passwd", "/etc/passwd", "a/../../b", "a//b" };
    struct scene *scene = *state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        scene_reset(scene);
        scene_add(scene, names[i], "x");
        scene_refused(scene, "a name in it");
    }
    static const char *const links[] = { "/etc/passwd", "../../../../etc/passwd", "a/../../x" };
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        scene_reset(scene);
        scene_add_special(scene, "a/layer.tar", '2', links[i]);
        scene_refused(scene, "the link 'a/layer.tar'");
    }
}

static void test_links_in_a_ring(void **state)
{
    struct scene *scene = *state;
    scene_add_special(scene, "index.json", '2', "b");
    scene_add_special(scene, "b", '2', "index.json");
    scene_refused(scene, "neither index.json nor manifest.json");
}

static void test_what_is_no_image(void **state)
{
    struct scene *scene = *state;
    scene_refused(scene, "neither index.json nor manifest.json");
    scene_reset(scene);
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
    scene_refused(scene, "it ends too early");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_docker, scene_setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_a_layer_that_is_a_link, scene_setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_docker_refused, scene_setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_names_that_lead_out, scene_setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_links_in_a_ring, scene_setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_what_is_no_image, scene_setup, scene_teardown),
        cmocka_unit_test_setup_teardown(test_a_size_that_lies, scene_setup, scene_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
