/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes of engines: how they are asked for, and the walls that say that they are bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "replica/engine/container.h"
#include "replica/engine/network.h"
#include "replica/engine/volume.h"
#include "replica/engine/walls.h"

#define ID "489bc99fa7c26be5082d8edef3cbeb70ab5c553fc6244ba4c656449f8358296e"

static const struct engine_container want = {
    .image = { "sha256:aa", 9 },
    .memory_bytes = 1 << 20,
    .shm_bytes = 1 << 20,
    .cpu_milli = 500,
    .pids = 64,
    .nofile = 4096,
    .nproc = 4096,
};

/* With all other walls. */
#define SEEN(host)                                                                                 \
    "{\"Id\":\"" ID "\",\"Image\":\"sha256:aa\",\"HostConfig\":{\"SecurityOpt\":["                 \
    "\"no-new-privileges\"],\"Tmpfs\":{\"/"                                                        \
    "tmp\":\"rw\"},\"NetworkMode\":\"none\",\"PidsLimit\":64,"                                     \
    "\"Memory\":1048576,\"MemorySwap\":1048576,\"ShmSize\":1048576,\"NanoCpus\":500000000,"        \
    "\"Ulimits\":[{\"Name\":\"nofile\",\"Hard\":4096},{\"Name\":\"nproc\",\"Hard\":4096}]" host    \
    "}}"
#define MOUNT(type, name, path)                                                                    \
    "{\"Type\":\"" type "\",\"Name\":\"" name "\",\"Destination\":\"" path "\",\"RW\":true}"
#define MOUNTED(binds, mounts)                                                                     \
    SEEN(",\"Binds\":[" binds "]},\"Mounts\":[" mounts "],\"Other\":"                              \
         "{")

static const struct engine_volume two_volumes[] = {
    { { "v1", 2 }, { "/cache", 6 }, { "7:0", 3 } },
    { { "v2", 2 }, { "/data", 5 }, { "7:12", 4 } },
};

static struct engine_container want_volumes(void)
{
    struct engine_container more = want;

    more.volumes = two_volumes;
    more.volume_count = 2;
    return more;
}

static void test_volumes(void **state)
{
    static const struct {
        const char *name, *text, *missing; /* NULL: none */
    } rows[] = {
        { "Docker's",
          MOUNTED("\"v1:/cache\",\"v2:/data\"",
                  MOUNT("volume", "v1", "/cache") "," MOUNT("volume", "v2", "/data")),
          NULL },
        { "Podman's",
          MOUNTED("\"v1:/cache:rw,rprivate,nosuid,nodev,rbind\",\"v2:/data:rw\"",
                  MOUNT("volume", "v2", "/data") "," MOUNT("volume", "v1", "/cache")),
          NULL },
        { "none", MOUNTED("", ""), "its volume '/cache'" },
        { "one", MOUNTED("\"v1:/cache\"", MOUNT("volume", "v1", "/cache")), "its volume '/data'" },
        { "elsewhere", MOUNTED("", MOUNT("volume", "v1", "/etc")), "VOLUME '/etc'" },
        { "another", MOUNTED("", MOUNT("volume", "v3", "/cache")), "VOLUME '/cache'" },
        { "a folder", MOUNTED("", MOUNT("bind", "v1", "/cache")), "VOLUME '/cache'" },
        { "a folder too",
          MOUNTED("\"v1:/cache\",\"/:/host\"",
                  MOUNT("volume", "v1", "/cache") "," MOUNT("volume", "v2", "/data")),
          "folders of this machine" },
    };
    struct engine_container more = want_volumes();
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct engine_seen seen;
        struct err err = {};
        assert_int_equal(0, engine_seen_parse(arena, slice_of(rows[i].text), &seen, &err));
        int r = engine_walls_check(&more, &seen, &err);
        if ((r < 0) != (rows[i].missing != NULL) ||
            (r < 0 && !strstr(err.message, rows[i].missing)))
            fail_msg("%s: %s", rows[i].name, err.message);
        arena_free(arena);
    }
}

static void test_mounts(void **state)
{
#define ROOT "115 57 0:45 / / ro,relatime master:2 - overlay overlay rw,lowerdir=/a\n"
#define WRITTEN "115 57 0:45 / / rw,relatime master:2 - overlay overlay ro,lowerdir=/a\n"
#define MEMORY(path, options, size)                                                                \
    "140 115 0:50 / " path " " options " - tmpfs tmpfs rw,size=" size ",inode64\n"
#define TMP MEMORY("/tmp", "rw,nosuid,nodev,relatime master:9", "1024k")
#define SHM MEMORY("/dev/shm", "rw,nosuid,nodev,noexec", "1024k")
#define MINE TMP SHM CACHE DATA
#define CACHE "136 115 7:0 / /cache rw,nosuid,nodev,relatime master:3 - ext4 /dev/loop0 rw\n"
#define DATA "137 115 7:12 / /data rw,nosuid,nodev - ext4 /dev/loop12 rw\n"
#define AT_CACHE(how) "138 115 " how " - ext4 /dev/x rw\n"
    static const struct {
        const char *name, *text, *missing; /* NULL: none */
    } rows[] = {
        { "both", ROOT TMP SHM CACHE DATA, NULL },
        { "the other way", DATA SHM ROOT CACHE TMP, NULL },
        { "none", ROOT TMP SHM, "'/cache'" },
        { "one", ROOT TMP SHM CACHE, "'/data'" },
        { "nothing", "", "a root" },
        { "cut", ROOT TMP SHM DATA "136 115 7:0 / /cache", "'/cache'" },
        { "another device", ROOT MINE AT_CACHE("7:1 / /cache rw,nosuid,nodev"), "'/cache'" },
        { "this machine's disk", ROOT MINE AT_CACHE("254:0 /v /cache rw,nosuid,nodev"),
          "'/cache'" },
        { "a part of it", ROOT MINE AT_CACHE("7:0 /a /cache rw,nosuid,nodev"), "'/cache'" },
        { "with devices", ROOT MINE AT_CACHE("7:0 / /cache rw,nosuid"), "'/cache'" },
        { "with setuid", ROOT MINE AT_CACHE("7:0 / /cache rw,nodev"), "'/cache'" },
        { "a root that can be written", WRITTEN MINE, "root can be written" },
        { "covered by one", ROOT MINE WRITTEN, "root can be written" },
        { "no /tmp", ROOT SHM CACHE DATA, "/tmp" },
        { "/tmp without a bound",
          ROOT SHM CACHE DATA "140 115 0:50 / /tmp rw,nosuid,nodev - tmpfs tmpfs rw\n", "/tmp" },
        { "a larger /tmp", ROOT MINE MEMORY("/tmp", "rw,nosuid,nodev", "2048k"), "/tmp" },
        { "/tmp with devices", ROOT MINE MEMORY("/tmp", "rw,nosuid", "1024k"), "/tmp" },
        { "/tmp with setuid", ROOT MINE MEMORY("/tmp", "rw,nodev", "1024k"), "/tmp" },
        { "/tmp on a disk",
          ROOT MINE "140 115 8:1 / /tmp rw,nosuid,nodev - ext4 /dev/sda rw,size=1k\n", "/tmp" },
        { "a larger shm", ROOT MINE MEMORY("/dev/shm", "rw,nosuid,nodev", "65536k"), "shared" },
        { "no shm", ROOT TMP CACHE DATA, "shared" },
    };
    struct engine_container more = want_volumes();
    (void)state;
    more.read_only = true;
    more.tmp_bytes = more.shm_bytes = 1 << 20;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {};
        int r = engine_walls_mounts(&more, slice_of(rows[i].text), &err);
        if ((r < 0) != (rows[i].missing != NULL) ||
            (r < 0 && !strstr(err.message, rows[i].missing)))
            fail_msg("%s: %s", rows[i].name, err.message);
    }
    struct err err = {};
    more.read_only = false;
    assert_int_equal(0, engine_walls_mounts(&more, SLICE(WRITTEN MINE), &err));
}

static void test_volumes_told(void **state)
{
    static const char head[] = "{\"Name\":\"perigee-a-1-loop7\",\"Driver\":\"local\"";
    static const struct {
        const char *name, *text;
        bool fits;
    } rows[] = {
        { "ours", "\"type\":\"ext4\",\"device\":\"/dev/loop7\",\"o\":\"nosuid,nodev\"", true },
        { "a plain folder", "", false },
        { "another device", "\"type\":\"ext4\",\"device\":\"/dev/loop8\",\"o\":\"nosuid,nodev\"",
          false },
        { "memory", "\"type\":\"tmpfs\",\"device\":\"/dev/loop7\",\"o\":\"nosuid,nodev\"", false },
        { "with devices", "\"type\":\"ext4\",\"device\":\"/dev/loop7\",\"o\":\"nosuid\"", false },
    };
    struct engine_volume_want told = { SLICE("perigee-a-1-loop7"), SLICE("h"), 7 };
    struct arena *arena = arena_new();
    struct engine_volume_seen seen;
    (void)state;
    assert_string_equal(engine_volume_json(arena, &told).data,
                        "{\"Name\":\"perigee-a-1-loop7\",\"Driver\":\"local\",\"DriverOpts\":{"
                        "\"type\":\"ext4\",\"device\":\"/dev/loop7\",\"o\":\"nosuid,nodev\"},"
                        "\"Labels\":{\"perigee.home\":\"h\"}}");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *text = arena_format(arena, "%s,\"Options\":{%s}}", head, rows[i].text);
        assert_int_equal(0, engine_volume_parse(arena, slice_of(text), &seen, NULL));
        if (engine_volume_fits(&told, &seen) != rows[i].fits)
            fail_msg("%s", rows[i].name);
    }
    assert_int_equal(0, engine_volume_parse(arena, SLICE("[]"), &seen, NULL));
    assert_false(engine_volume_fits(&told, &seen));
    assert_true(engine_volume_parse(arena, SLICE("{"), &seen, NULL) < 0);

    struct engine_volumes list;
#define LISTED(name, home) "{\"Name\":\"" name "\",\"Labels\":{\"perigee.home\":\"" home "\"}}"
    static const char all[] = "{\"Volumes\":[" LISTED("perigee-a-1", "h") "," LISTED(
        "perigee-a-1", "other") "," LISTED("perigee-../a", "h") "," LISTED("data", "h") ",5]}";
    assert_int_equal(0, engine_volumes_parse(arena, slice_of(all), SLICE("h"), &list, NULL));
    assert_int_equal(list.count, 1);
    assert_int_equal(
        0, engine_volumes_parse(arena, SLICE("{\"Volumes\":null}"), SLICE("h"), &list, NULL));
    assert_int_equal(list.count, 0);
    arena_free(arena);
}

#define GPUS(count, more)                                                                          \
    SEEN(",\"DeviceRequests\":[{\"Driver\":\"nvidia\",\"Count\":" count                            \
         ",\"DeviceIDs\":null,\"Capabilities\":[[\"gpu\"" more "]],\"Options\":{}}]")

static void test_gpus(void **state)
{
    static const struct {
        const char *name, *text, *missing; /* NULL: none */
    } rows[] = {
        { "two", GPUS("2", ""), NULL },
        { "none", SEEN(""), "its GPUs" },
        { "one", GPUS("1", ""), "its GPUs" },
        { "all", GPUS("-1", ""), "it was given devices" },
        { "three", GPUS("3", ""), "it was given devices" },
        { "more of them", GPUS("2", ",\"display\""), "it was given devices" },
        { "another's", SEEN(",\"DeviceRequests\":[{\"Driver\":\"cdi\",\"Count\":2}]"),
          "it was given devices" },
        { "a device too", SEEN(",\"Devices\":[{}],\"DeviceRequests\":[]"), "it was given devices" },
    };
    struct engine_container more = want;
    struct arena *arena = arena_new();
    (void)state;
    more.gpus = 2;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct engine_seen seen;
        struct err err = {};
        assert_int_equal(0, engine_seen_parse(arena, slice_of(rows[i].text), &seen, &err));
        int r = engine_walls_check(&more, &seen, &err);
        if ((r < 0) != (rows[i].missing != NULL) ||
            (r < 0 && !strstr(err.message, rows[i].missing)))
            fail_msg("%s: %s", rows[i].name, err.message);
    }
    more.log_driver = "local";
    /* It is written where there is none, too: an image may have a label of that name. */
    assert_non_null(strstr(engine_container_json(arena, &more).data, "\"perigee.gpus\":\"\""));
    assert_non_null(strstr(engine_container_json(arena, &more).data,
                           "\"DeviceRequests\":[{\"Driver\":\"nvidia\",\"Count\":2,"
                           "\"Capabilities\":[[\"gpu\"]]}],"));
    arena_free(arena);
}

#define GPUS_OF(count, ids)                                                                        \
    SEEN(",\"DeviceRequests\":[{\"Driver\":\"nvidia\",\"Count\":" count ",\"DeviceIDs\":" ids      \
         ",\"Capabilities\":[[\"gpu\"]],\"Options\":null}]")

static void test_gpus_by_name(void **state)
{
    static const struct {
        const char *name, *text, *missing; /* NULL: none */
    } rows[] = {
        { "those", GPUS_OF("0", "[\"GPU-a\",\"GPU-b\"]"), NULL },
        { "another", GPUS_OF("0", "[\"GPU-a\",\"GPU-c\"]"), "its own GPUs" },
        { "one", GPUS_OF("0", "[\"GPU-a\"]"), "its GPUs" },
        { "one more", GPUS_OF("0", "[\"GPU-a\",\"GPU-b\",\"GPU-c\"]"), "it was given devices" },
        { "any two", GPUS_OF("2", "null"), "its own GPUs" },
        { "those and any", GPUS_OF("1", "[\"GPU-a\",\"GPU-b\"]"), "it was given devices" },
        { "all", GPUS_OF("0", "[\"all\"]"), "its GPUs" },
        { "two in one", GPUS_OF("0", "[\"GPU-a,GPU-b\"]"), "it was given devices" },
        { "no name", GPUS_OF("0", "[\"GPU-a\",\"\"]"), "it was given devices" },
        { "numbers", GPUS_OF("0", "[0,1]"), "it was given devices" },
        { "none", SEEN(""), "its GPUs" },
    };
    struct engine_container more = want;
    struct arena *arena = arena_new();
    (void)state;
    more.gpus = 2;
    more.gpu_ids = SLICE("GPU-a,GPU-b");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct engine_seen seen;
        struct err err = {};
        assert_int_equal(0, engine_seen_parse(arena, slice_of(rows[i].text), &seen, &err));
        int r = engine_walls_check(&more, &seen, &err);
        if ((r < 0) != (rows[i].missing != NULL) ||
            (r < 0 && !strstr(err.message, rows[i].missing)))
            fail_msg("%s: %s", rows[i].name, err.message);
    }
    more.log_driver = "local";
    const char *json = engine_container_json(arena, &more).data;
    assert_non_null(strstr(json, "\"DeviceRequests\":[{\"Driver\":\"nvidia\","
                                 "\"DeviceIDs\":[\"GPU-a\",\"GPU-b\"],"
                                 "\"Capabilities\":[[\"gpu\"]]}],"));
    assert_non_null(strstr(json, "\"perigee.gpus\":\"GPU-a,GPU-b\""));
    assert_null(strstr(json, "\"Count\""));
    arena_free(arena);
}

#define NETWORKS_DNS(text, dns)                                                                    \
    SEEN(",\"Dns\":" dns "},\"NetworkSettings\":{\"Networks\":{" text "}")
#define NETWORKS(text) NETWORKS_DNS(text, "[\"127.0.0.1\"]")
#define ONE "\"n1\":{\"IPAddress\":\"10.89.0.2\"}"

static void test_networks(void **state)
{
    static const struct {
        const char *name, *text, *missing; /* NULL: none */
    } rows[] = {
        { "its own", NETWORKS(ONE), NULL },
        { "none", NETWORKS("\"none\":{}"), "a network of its own" },
        { "nothing", NETWORKS(""), "a network of its own" },
        { "another", NETWORKS("\"bridge\":{}"), "a network of its own" },
        { "two", NETWORKS("\"n1\":{},\"bridge\":{}"), "a network more" },
        { "no resolver is told", SEEN("},\"NetworkSettings\":{\"Networks\":{" ONE "}"),
          "resolver" },
        { "none is", NETWORKS_DNS(ONE, "null"), "resolver" },
        { "an empty list", NETWORKS_DNS(ONE, "[]"), "resolver" },
        { "another", NETWORKS_DNS(ONE, "[\"9.9.9.9\"]"), "resolver" },
        { "one more", NETWORKS_DNS(ONE, "[\"127.0.0.1\",\"9.9.9.9\"]"), "resolver" },
    };
    static const struct {
        const char *text;
        bool fits;
    } seen_rows[] = {
        { "{\"Name\":\"n1\",\"Driver\":\"bridge\",\"Internal\":true,\"EnableIPv6\":false,"
          "\"Labels\":{\"perigee.home\":\"h\"}}",
          true },
        { "{\"Name\":\"n1\",\"Driver\":\"bridge\",\"Internal\":false,"
          "\"Labels\":{\"perigee.home\":\"h\"}}",
          false },
        { "{\"Name\":\"n1\",\"Driver\":\"macvlan\",\"Internal\":true,"
          "\"Labels\":{\"perigee.home\":\"h\"}}",
          false },
        { "{\"Name\":\"n1\",\"Driver\":\"bridge\",\"Internal\":true,\"Labels\":null}", false },
        { "[]", false },
    };
    struct engine_container own = want;
    struct arena *arena = arena_new();
    struct err err;
    (void)state;
    own.network = ENGINE_NETWORK_OWN;
    own.network_name = SLICE("n1");
    own.log_driver = "local";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct engine_seen seen;
        assert_int_equal(0, engine_seen_parse(arena, slice_of(rows[i].text), &seen, &err));
        int r = engine_walls_check(&own, &seen, &err);
        if ((r < 0) != (rows[i].missing != NULL) ||
            (r < 0 && !strstr(err.message, rows[i].missing)))
            fail_msg("%s: %s", rows[i].name, r < 0 ? err.message : "nothing is missing");
        assert_true(r < 0 || slice_is(seen.address, "10.89.0.2"));
    }
    assert_non_null(strstr(engine_container_json(arena, &own).data,
                           "\"NetworkMode\":\"n1\",\"Dns\":[\"127.0.0.1\"]"));
    for (size_t i = 0; i < sizeof seen_rows / sizeof *seen_rows; i++) {
        struct engine_network_seen seen;
        assert_int_equal(0, engine_network_parse(arena, slice_of(seen_rows[i].text), &seen, &err));
        assert_int_equal(engine_network_fits(&seen, SLICE("n1"), SLICE("h")), seen_rows[i].fits);
    }
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_volumes),      cmocka_unit_test(test_mounts),
        cmocka_unit_test(test_volumes_told), cmocka_unit_test(test_gpus),
        cmocka_unit_test(test_gpus_by_name), cmocka_unit_test(test_networks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
