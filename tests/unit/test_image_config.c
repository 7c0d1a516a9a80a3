/* SPDX-License-Identifier: Apache-2.0 */
/* Images: what their configuration says, whether they can run here, the archive for an engine. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/err.h"
#include "store/image.h"
#include "store/tar.h"

#define D(digit)                                                                                   \
    "sha256:" digit digit digit digit digit digit digit digit digit digit digit digit digit digit  \
        digit digit digit digit digit digit digit digit digit digit digit digit digit digit digit  \
            digit digit digit
#define A D("aa")
#define B D("bb")
#define C D("cc")
#define FILES "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" A "\"]}"
#define LINUX "\"os\":\"linux\",\"architecture\":\"amd64\","

static void test_parse(void **state)
{
    static const char text[] =
        "{" LINUX FILES ",\"config\":{\"Entrypoint\":[\"/server\",\"a b\"],\"Cmd\":[\"c\"],"
        "\"Env\":["
        "\"PATH=/bin\"],\"User\":\"1000\",\"WorkingDir\":\"/w\",\"StopSignal\":\"SIGINT\","
        "\"ExposedPorts\":{\"9090/tcp\":{},\"53/udp\":{},\"8080\":{}}},\"history\":[]}";
    struct arena *arena = arena_new();
    struct image_config config;
    struct err err;
    uint16_t port;
    (void)state;
    assert_int_equal(0, image_config_parse(arena, slice_of(text), &config, &err));
    assert_true(slice_is(config.system, "linux") && slice_is(config.machine, "amd64"));
    assert_int_equal(config.entrypoint.count, 2);
    assert_string_equal(config.entrypoint.items[1].data, "a b");
    assert_int_equal(config.command.count, 1);
    assert_string_equal(config.environment.items[0].data, "PATH=/bin");
    assert_true(slice_is(config.user, "1000") && slice_is(config.folder, "/w"));
    assert_true(slice_is(config.stop_signal, "SIGINT"));
    assert_int_equal(config.layer_count, 1);
    assert_int_equal(config.port_count, 2);
    assert_int_equal(config.ports[0], 8080);
    assert_true(image_port(&config, 0, &port, &err) < 0);
    assert_string_equal(err.message,
                        "the image exposes the ports 8080, 9090; say with 'port' which one");
    assert_int_equal(0, image_port(&config, 7, &port, &err));
    assert_int_equal(port, 7);
    arena_free(arena);
}

static void test_refused(void **state)
{
    static const struct {
        const char *text, *error;
    } rows[] = {
        { "", "the image's configuration: " },
        { "[]", "a list" },
        { "{" LINUX FILES ",\"config\":[]}", "'config' must be an object" },
        { "{}", "rootfs" },
        { "{" LINUX "\"rootfs\":{}}", "diff_ids" },
        { "{" LINUX "\"rootfs\":{\"diff_ids\":[\"../../etc/passwd\"]}}", "diff_ids" },
        { "{" LINUX "\"rootfs\":{\"diff_ids\":[7]}}", "diff_ids" },
        { "{\"os\":7," FILES "}", "'os'" },
        { "{" LINUX FILES ",\"config\":{\"Entrypoint\":\"/server\"}}", "Entrypoint" },
        { "{" LINUX FILES ",\"config\":{\"Cmd\":[1]}}", "Cmd" },
        { "{" LINUX FILES ",\"config\":{\"Env\":[\"a\\u0000b\"]}}", "Env" },
        { "{" LINUX FILES ",\"config\":{\"User\":\"a\\u0000b\"}}", "User" },
        { "{" LINUX FILES ",\"config\":{\"ExposedPorts\":{\"0/tcp\":{}}}}", "'0/tcp'" },
        { "{" LINUX FILES ",\"config\":{\"ExposedPorts\":{\"65536\":{}}}}", "no port" },
        { "{" LINUX FILES ",\"config\":{\"ExposedPorts\":{\"http\":{}}}}", "no port" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct image_config config;
        struct err err = {};
        if (image_config_parse(arena, slice_of(rows[i].text), &config, &err) >= 0 ||
            !strstr(err.message, rows[i].error))
            fail_msg("%s: %s", rows[i].text, err.message);
        arena_free(arena);
    }
}

static void test_a_bomb_of_layers(void **state)
{
    struct arena *arena = arena_new();
    const char *list = "\"" A "\"";
    struct image_config config;
    struct err err;
    (void)state;
    for (int i = 0; i < IMAGE_LAYERS_MAX; i++)
        list = arena_format(arena, "%s,\"" A "\"", list);
    const char *text = arena_format(arena, "{" LINUX "\"rootfs\":{\"diff_ids\":[%s]}}", list);
    assert_int_equal(ERR_TOO_LARGE, image_config_parse(arena, slice_of(text), &config, &err));
    arena_free(arena);
}

static void test_check(void **state)
{
    static const struct {
        const char *text;
        bool told;
        const char *error; /* NULL: it can run */
    } rows[] = {
        { "{" LINUX FILES ",\"config\":{\"Cmd\":[\"/a\"]}}", false, NULL },
        { "{" LINUX FILES "}", true, NULL },
        { "{" LINUX FILES "}", false, "no entry point" },
        { "{" LINUX FILES ",\"config\":{\"Entrypoint\":null,\"Cmd\":[]}}", false,
          "no entry point" },
        { "{" LINUX "\"rootfs\":{\"diff_ids\":[]}}", true, "no layers" },
        { "{\"os\":\"windows\",\"architecture\":\"amd64\"," FILES "}", true, "'windows'" },
        { "{\"os\":\"linux\",\"architecture\":\"arm64\"," FILES "}", true, "'arm64'" },
        { "{\"os\":\"linux\"," FILES "}", true, "machines" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct image_config config;
        struct err err = {};
        assert_int_equal(0, image_config_parse(arena, slice_of(rows[i].text), &config, &err));
        int r = image_check(&config, SLICE("amd64"), rows[i].told, &err);
        assert_int_equal(r < 0, rows[i].error != NULL);
        if (rows[i].error && !strstr(err.message, rows[i].error))
            fail_msg("%s: %s", rows[i].text, err.message);
        uint16_t port;
        assert_true(image_port(&config, 0, &port, &err) < 0 && strstr(err.message, "no port"));
        arena_free(arena);
    }
}

/* Written out and read again by the reader of archives. */
static void test_archive(void **state)
{
    static const struct image_blob config_blob = { { A, 71 }, {}, 2 };
    const struct image_blob layers[] = {
        { { B, 71 }, SLICE("application/vnd.oci.image.layer.v1.tar+gzip"), 600 },
        { { C, 71 }, SLICE("application/vnd.docker.image.rootfs.diff.tar.gzip"), 512 },
        { { B, 71 }, SLICE("application/vnd.oci.image.layer.v1.tar+gzip"), 600 },
    };
    static const struct {
        const char *name;
        uint64_t bytes;
    } expected[] = { { "blobs/sha256/", 2 },
                     { "blobs/sha256/", 600 },
                     { "blobs/sha256/", 512 },
                     { "manifest.json", 0 } };
    struct image_config config = { .layer_count = 3 };
    struct arena *arena = arena_new();
    struct image_parts parts;
    struct err err;
    char path[] = "/tmp/pg-image-XXXXXX";
    int fd = mkstemp(path);
    (void)state;
    assert_true(fd >= 0 && unlink(path) == 0);
    assert_int_equal(0, image_archive(arena, &config_blob, &config, layers, 3, &parts, &err));
    uint64_t sum = 0;
    for (size_t i = 0; i < parts.count; i++) {
        const struct image_part *part = &parts.items[i];
        const char *bytes = part->text.size ? part->text.data : arena_alloc(arena, part->bytes);
        assert_int_equal(part->bytes, write(fd, bytes, part->bytes));
        sum += part->bytes;
    }
    assert_int_equal(sum, parts.bytes);
    assert_int_equal(0, lseek(fd, 0, SEEK_SET));
    struct tar_reader reader = { .fd = fd };
    struct tar_entry entry;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(1, tar_read_next(&reader, &entry, &err));
        assert_int_equal(0, strncmp(entry.name, expected[i].name, strlen(expected[i].name)));
        assert_true(!expected[i].bytes || entry.bytes == expected[i].bytes);
    }
    char text[1024] = "";
    assert_int_equal(entry.bytes, tar_read(&reader, text, sizeof text, &err));
    static const char hex[] = "blobs/sha256/aaaa";
    assert_non_null(strstr(text, "[{\"Config\":\"blobs/sha256/aaaa"));
    assert_non_null(strstr(text, "\"RepoTags\":null,\"Layers\":[\"blobs/sha256/bbbb"));
    assert_null(strstr(strstr(text, hex) + 1, hex));
    assert_int_equal(0, tar_read_next(&reader, &entry, &err));
    (void)close(fd);
    arena_free(arena);
}

static void test_archive_refused(void **state)
{
    const struct image_blob config_blob = { { A, 71 }, {}, 2 }, bad_config = { SLICE("x"), {}, 2 };
    struct image_blob layer = { { B, 71 }, SLICE("application/vnd.oci.image.layer.v1.tar"), 600 };
    struct image_config config = { .layer_count = 1 };
    struct arena *arena = arena_new();
    struct image_parts parts;
    struct err err;
    (void)state;
    assert_int_equal(0, image_archive(arena, &config_blob, &config, &layer, 1, &parts, &err));
    assert_true(image_archive(arena, &bad_config, &config, &layer, 1, &parts, &err) < 0);
    assert_true(image_archive(arena, &config_blob, &config, &layer, 0, &parts, &err) < 0);
    assert_non_null(strstr(err.message, "names 0 layers, and its configuration 1"));
    layer.media_type = SLICE("application/vnd.oci.image.layer.v1.tar+zstd");
    assert_int_equal(ERR_NOT_SUPPORTED,
                     image_archive(arena, &config_blob, &config, &layer, 1, &parts, &err));
    layer.media_type = SLICE("application/vnd.oci.image.layer.v1.tar");
    layer.digest = SLICE("sha256:../../x");
    assert_true(image_archive(arena, &config_blob, &config, &layer, 1, &parts, &err) < 0);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_a_bomb_of_layers),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_archive),
        cmocka_unit_test(test_archive_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
