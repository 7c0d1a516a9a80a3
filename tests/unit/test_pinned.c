/* SPDX-License-Identifier: Apache-2.0 */
/* An image's name becomes what a revision keeps, or a sentence that says what to do. */
#include "control/pinned.h"

#include "store_case.h"

#include "control/artifact.h"
#include "spec/endpoint.h"
#include "store/blobs.h"
#include "store/image.h"

#define MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define INDEX "application/vnd.oci.image.index.v1+json"
#define CONFIG "application/vnd.oci.image.config.v1+json"
#define LAYER "application/vnd.oci.image.layer.v1.tar+gzip"

static struct blobs *blobs;
static const char *pushed; /* digest of the last blob, or manifest */

static int set_up(void **state)
{
    (void)case_begin(state, NULL);
    OK(blobs_open(((struct fixture *)*state)->folder, NULL, &blobs, &failure));
    return 0;
}

static int tear_down(void **state)
{
    blobs_close(blobs);
    return case_end(state);
}

/* ---- pushing --------------------------------------------------------------------------------- */

static const char *put(struct fixture *f, const char *text)
{
    char digest[DIGEST_TEXT];
    OK(blobs_put(blobs, slice_of(text), digest, &failure));
    return arena_string(f->arena, slice_of(digest));
}

static const char *part(struct fixture *f, const char *type, const char *digest, size_t size,
                        const char *more)
{
    return arena_format(f->arena, "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu%s}", type,
                        digest, size, more);
}

/* What the row says of an image; NULL is what is right. */
struct image {
    const char *config, *system, *machine, *config_type, *layer_type;
    bool layer_gone, layer_short, empty, silent;
};

static const char *push_image(struct fixture *f, const struct image *image)
{
    const char *diff = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const char *config = arena_format(
        f->arena,
        "{\"os\":\"%s\",\"architecture\":\"%s\",\"config\":%s,\"rootfs\":{\"type\":\"layers\","
        "\"diff_ids\":[%s%s%s]}}",
        image->system ? image->system : "linux", image->machine ? image->machine : image_machine(),
        image->config ? image->config
                      : "{\"Entrypoint\":[\"/s\"],\"ExposedPorts\":{\"8080/tcp\":{}}}",
        image->empty ? "" : "\"", image->empty ? "" : diff, image->empty ? "" : "\"");
    const char *layer = image->layer_gone ? diff : put(f, "layer");
    const char *type = image->config_type ? image->config_type : CONFIG;
    const char *manifest =
        arena_format(f->arena, "{\"schemaVersion\":2,%s\"config\":%s,\"layers\":[%s]}",
                     image->silent ? "" : "\"mediaType\":\"" MANIFEST "\",",
                     part(f, type, put(f, config), strlen(config), ""),
                     image->empty ? ""
                                  : part(f, image->layer_type ? image->layer_type : LAYER, layer,
                                         image->layer_short ? 4 : 5, ""));
    return put(f, manifest);
}

/* An index of the last one, said to be for these. */
static const char *push_index(struct fixture *f, const char *digest, const char *platform,
                              bool silent)
{
    uint64_t bytes;
    OK(blobs_find(blobs, slice_of(digest), &bytes, &failure));
    const char *other = part(f, MANIFEST, put(f, "{}"), 2,
                             ",\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}");
    return put(f, arena_format(f->arena, "{\"schemaVersion\":2,%s\"manifests\":[%s,%s]}",
                               silent ? "" : "\"mediaType\":\"" INDEX "\",", other,
                               part(f, MANIFEST, digest, (size_t)bytes, platform)));
}

static int tag(struct store *store, void *, struct err *err)
{
    const struct store_manifest manifest = { .digest = slice_of(pushed),
                                             .media_type = SLICE(MANIFEST),
                                             .bytes = 1 };
    uint64_t id;
    int r = store->repository_ensure(store, SLICE("team"), SLICE("app"), 1, &id, err);
    if (r == 0)
        r = store->manifest_put(store, id, &manifest, NULL, 0, err);
    return r < 0 ? r : store->tag_put(store, id, SLICE("v1"), manifest.digest, 1, err);
}

static int find(struct fixture *f, const char *image, const char *more, struct pinned *ret,
                struct err *err)
{
    const struct slice host = SLICE("localhost:8080");
    const struct artifact artifact = { f->store, blobs, f->arena, &host, 1, 1 };
    const char *yaml = arena_format(f->arena, "name: aaa\nimage: %s\n%s", image, more);
    struct endpoint_specs specs;
    OK(endpoint_spec_parse_text(f->arena, slice_of(yaml), SPEC_YAML, 0, &specs, &failure));
    return pinned_find(&artifact, &specs.items[0], ret, err);
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* clang-format off */
static const struct {
    const char *name;
    struct image image;
    const char *spec;
    uint16_t port;
    const char *message; /* or NULL: it is taken */
} images[] = {
    { "as it should be", {}, "", 8080, NULL },
    { "silent about its type", { .silent = true }, "", 8080, NULL },
    { "of Docker",
      { .config_type = "application/vnd.docker.container.image.v1+json",
        .layer_type = "application/vnd.docker.image.rootfs.diff.tar.gzip" },
      "",
      8080,
      NULL },
    { "a port that is told", {}, "port: 81\n", 81, NULL },
    { "no port",
      { .config = "{\"Cmd\":[\"/s\"]}" },
      "",
      0,
      "say with 'port' where it listens" },
    { "no port, told", { .config = "{\"Cmd\":[\"/s\"]}" }, "port: 81\n", 81, NULL },
    { "two ports",
      { .config = "{\"Cmd\":[\"/s\"],\"ExposedPorts\":{\"1/tcp\":{},\"2/tcp\":{}}}" },
      "",
      0,
      "exposes the ports 1, 2; say with 'port' which one" },
    { "no entry point", { .config = "{}" }, "port: 1\n", 0, "say with 'command' what to run" },
    { "no entry point, a command", { .config = "{}" }, "port: 1\ncommand: [/s]\n", 1, NULL },
    { "another machine", { .machine = "s390x" }, "", 0, "the image is for 's390x' machines" },
    { "another system", { .system = "windows" }, "", 0, "for the system 'windows'" },
    { "no layers", { .empty = true }, "", 0, "there is nothing in it" },
    { "a layer that is not here",
      { .layer_gone = true },
      "",
      0,
      "is not here: push the image" },
    { "a layer of another size", { .layer_short = true }, "", 0, "has 5 bytes, the manifest" },
    { "a layer by zstd",
      { .layer_type = "application/vnd.oci.image.layer.v1.tar+zstd" },
      "",
      0,
      "which not every engine loads" },
    { "a model",
      { .config_type = "application/vnd.oci.empty.v1+json" },
      "",
      0,
      "a model is deployed with model: oci://" },
    { "a configuration that is none", { .config = "[]" }, "", 0, "'config' must be an object" },
};
/* clang-format on */

static void test_images(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof images / sizeof *images; i++) {
        struct pinned pinned = {};
        struct err err = {};
        const char *digest = push_image(f, &images[i].image);
        print_message("  %s\n", images[i].name);
        int r = find(f, digest, images[i].spec, &pinned, &err);
        if (images[i].message) {
            assert_true(r < 0);
            if (!strstr(err.message, images[i].message))
                fail_msg("'%s' lacks '%s'", err.message, images[i].message);
            assert_non_null(strstr(err.message, "image 'sha256:"));
            continue;
        }
        if (r < 0)
            fail_msg("%s", err.message);
        assert_string_equal(pinned.digest.data, digest);
        assert_int_equal(pinned.port, images[i].port);
        assert_int_equal(pinned.blob_count, 3);
        assert_true(pinned.bytes > 5);
    }
}

/* By tag, by index and by both; what is kept is one image's. */
static void test_names(void **state)
{
    struct fixture *f = *state;
    struct pinned pinned;
    struct err err;
    const char *ours = arena_format(
        f->arena, ",\"platform\":{\"os\":\"linux\",\"architecture\":\"%s\"}", image_machine());
    const char *image = push_image(f, &(struct image){});

    pushed = image;
    OK(f->store->transact(f->store, tag, NULL, &failure));
    OK(find(f, "team/app:v1", "", &pinned, &failure));
    assert_string_equal(pinned.digest.data, image);
    OK(find(f, "localhost:8080/team/app:v1", "", &pinned, &failure));
    OK(find(f, arena_format(f->arena, "team/app@%s", image), "", &pinned, &failure));
    const struct store_revision row = { .image = pinned.text };
    assert_true(slice_is(pinned_digest(&row), image));
    assert_non_null(strstr(pinned.text.data, "\"port\":8080,\"config\":{\"digest\":\"sha256:"));
    assert_non_null(strstr(pinned.text.data, "\"size\":5,\"media_type\":\"" LAYER "\"}]}"));

    pushed = push_index(f, image, ours, false);
    OK(f->store->transact(f->store, tag, NULL, &failure));
    OK(find(f, "team/app:v1", "", &pinned, &failure));
    assert_string_equal(pinned.digest.data, image);
    pushed = push_index(f, pushed, "", true); /* an index in an index, of no machine */
    OK(find(f, pushed, "", &pinned, &failure));
    assert_string_equal(pinned.digest.data, image);

    pushed =
        push_index(f, image, ",\"platform\":{\"os\":\"linux\",\"architecture\":\"s390x\"}", false);
    assert_true(find(f, pushed, "", &pinned, &err) < 0);
    if (!strstr(err.message, "which this machine is, but for: linux/s390x; build and push"))
        fail_msg("%s", err.message);
    assert_true(find(f, "team/app:v2", "", &pinned, &err) < 0);
    assert_non_null(strstr(err.message, "'team/app' has no manifest 'v2'"));
    assert_true(find(f, "team/other", "", &pinned, &err) < 0);
    assert_non_null(strstr(err.message, "there is no repository 'team/other': push it first"));
    assert_int_equal(find(f, "registry.example/team/app", "", &pinned, &err), ERR_CONFLICT);
    assert_non_null(strstr(err.message, "'registry.example' was not asked for it"));
    assert_true(find(f, "./app.tar", "", &pinned, &err) < 0);
    assert_non_null(strstr(err.message, "it is a path; the API opens none"));
    assert_true(find(f, put(f, "not JSON"), "", &pinned, &err) < 0);
    assert_non_null(strstr(err.message, "the manifest"));
    for (int i = 0; i < 5; i++)
        image = push_index(f, image, "", false);
    assert_true(find(f, image, "", &pinned, &err) < 0);
    assert_non_null(strstr(err.message, "an index in an index, 3 deep"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_images, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("pinned", tests, NULL, NULL);
}
