/* SPDX-License-Identifier: Apache-2.0 */
#include "store/oci.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/err.h"

#define IMAGE "application/vnd.oci.image.manifest.v1+json"
#define INDEX "application/vnd.oci.image.index.v1+json"
#define DOCKER "application/vnd.docker.distribution.manifest.v2+json"
#define LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define PART "{\"mediaType\":\"a/b\",\"size\":3,\"digest\":\"sha256:" HEX "\"}"
#define LONG "{\"mediaType\":\"a/b\",\"size\":3,\"digest\":\"sha512:" HEX HEX "\"}"
#define OF(more) "{\"schemaVersion\":2" more "}"
#define BODY ",\"config\":" PART ",\"layers\":[" PART "]"

static const struct {
    const char *name, *text, *type;
    const char *word; /* of the refusal; NULL: taken */
    size_t count;
    bool index;
    const char *artifact;
} rows[] = {
    { "an image", OF(BODY), IMAGE, NULL, 2, false, "a/b" },
    { "that says itself what it is", OF(",\"mediaType\":\"" IMAGE "\"" BODY), "", NULL, 2, false,
      "a/b" },
    { "with a parameter", OF(BODY), IMAGE "; charset=utf-8", NULL, 2, false, "a/b" },
    { "Docker's", OF(BODY), DOCKER, NULL, 2, false, "a/b" },
    { "without layers", OF(",\"config\":" PART ",\"layers\":[]"), IMAGE, NULL, 1, false, "a/b" },
    { "by SHA-512", OF(",\"config\":" LONG ",\"layers\":[]"), IMAGE, NULL, 1, false, "a/b" },
    { "of a type of its own", OF(",\"artifactType\":\"c/d\"" BODY), IMAGE, NULL, 2, false, "c/d" },
    { "with what nobody knows", OF(",\"x\":[{}]" BODY), IMAGE, NULL, 2, false, "a/b" },
    { "an index", OF(",\"manifests\":[" PART "," PART "]"), INDEX, NULL, 2, true, "" },
    { "an empty one", OF(",\"manifests\":[]"), INDEX, NULL, 0, true, "" },
    { "Docker's list", OF(",\"manifests\":[" PART "]"), LIST, NULL, 1, true, "" },
    { "nothing", "", IMAGE, "manifest", 0, false, NULL },
    { "a list", "[]", IMAGE, "object", 0, false, NULL },
    { "schema 1", "{\"schemaVersion\":1}", IMAGE, "schema 1", 0, false, NULL },
    { "schema 3", "{\"schemaVersion\":3}", IMAGE, "must be 2", 0, false, NULL },
    { "another type", OF(BODY), "text/plain", "no manifest", 0, false, NULL },
    { "no type", OF(BODY), "", "no manifest", 0, false, NULL },
    { "two types", OF(",\"mediaType\":\"" INDEX "\",\"manifests\":[]"), IMAGE, "Content-Type", 0,
      false, NULL },
    { "both", OF(",\"manifests\":[]" BODY), IMAGE, "at once", 0, false, NULL },
    { "both, as index", OF(",\"manifests\":[],\"layers\":[]"), INDEX, "at once", 0, false, NULL },
    { "no layers", OF(",\"config\":" PART), IMAGE, "layers", 0, false, NULL },
    { "no config", OF(",\"layers\":[]"), IMAGE, "config", 0, false, NULL },
    { "a layer that is none", OF(",\"config\":" PART ",\"layers\":[3]"), IMAGE, "layers[0]", 0,
      false, NULL },
    { "a digest that is a path",
      OF(",\"config\":{\"mediaType\":\"a/b\",\"size\":3,\"digest\":\"sha256:../x\"},\"layers\":[]"),
      IMAGE, "digest", 0, false, NULL },
    { "a size below nothing",
      OF(",\"config\":{\"mediaType\":\"a/b\",\"size\":-3,\"digest\":\"sha256:" HEX
         "\"},\"layers\":[]"),
      IMAGE, "size", 0, false, NULL },
    { "a type with a line's end",
      OF(",\"config\":{\"mediaType\":\"a\\r\\nb\",\"size\":3,\"digest\":\"sha256:" HEX
         "\"},\"layers\":[]"),
      IMAGE, "mediaType", 0, false, NULL },
    { "an artifact type with a line's end", OF(",\"artifactType\":\"a\\nb\"" BODY), IMAGE,
      "artifactType", 0, false, NULL },
    { "a subject without a digest", OF(",\"subject\":{}" BODY), IMAGE, "subject", 0, false, NULL },
    { "annotations that are no text", OF(",\"annotations\":{\"a\":1}" BODY), IMAGE, "annotation", 0,
      false, NULL },
    { "layers twice", OF(",\"layers\":[]" BODY), IMAGE, "layers", 0, false, NULL },
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct oci_manifest manifest;
        struct err err = {};
        print_message("  %s\n", rows[i].name);
        int r = oci_manifest_parse(arena, slice_of(rows[i].text), slice_of(rows[i].type), &manifest,
                                   &err);
        if (rows[i].word) {
            assert_true(r < 0);
            if (!strstr(err.message, rows[i].word))
                fail_msg("'%s' does not say '%s'", err.message, rows[i].word);
        } else {
            if (r < 0)
                fail_msg("%s", err.message);
            assert_int_equal(manifest.count, rows[i].count);
            assert_int_equal(manifest.index, rows[i].index);
            assert_true(slice_is(manifest.artifact_type, rows[i].artifact));
        }
        arena_free(arena);
    }
}

static void test_parts(void **state)
{
    static const char text[] =
        "{\"schemaVersion\":2,\"config\":" PART ",\"subject\":" PART
        ",\"annotations\":{\"k\":\"v\"},\"layers\":["
        "{\"mediaType\":\"application/vnd.oci.image.layer.nondistributable.v1.tar\",\"size\":9,"
        "\"digest\":\"sha256:" HEX "\"},"
        "{\"mediaType\":\"a/b\",\"size\":1,\"digest\":\"sha256:" HEX
        "\",\"annotations\":{\"org.opencontainers.image.title\":\"model.onnx\"}}]}";
    struct arena *arena = arena_new();
    struct oci_manifest manifest;
    struct err err;
    (void)state;
    assert_int_equal(oci_manifest_parse(arena, slice_of(text), slice_of(IMAGE), &manifest, &err),
                     0);
    assert_int_equal(manifest.count, 3);
    assert_false(manifest.parts[0].elsewhere);
    assert_true(manifest.parts[1].elsewhere && manifest.parts[1].bytes == 9);
    assert_true(slice_is(manifest.parts[2].title, "model.onnx"));
    assert_true(slice_is(manifest.subject, "sha256:" HEX));
    assert_true(slice_is(manifest.annotations, "{\"k\":\"v\"}"));
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_rows), cmocka_unit_test(test_parts) };
    return cmocka_run_group_tests_name("oci", tests, NULL, NULL);
}
