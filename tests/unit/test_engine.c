/* SPDX-License-Identifier: Apache-2.0 */
/* What an engine is told and says: the pure parts of replica/engine/. Texts are of Podman 4.3 and
 * Docker 20.10, cut. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/err.h"
#include "inside.h"
#include "io/loop.h"
#include "replica/engine/container.h"
#include "replica/engine/engine.h"
#include "replica/engine/life.h"
#include "replica/engine/listed.h"
#include "replica/engine/stream.h"
#include "replica/engine/walls.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/netns.h"

#define ID "489bc99fa7c26be5082d8edef3cbeb70ab5c553fc6244ba4c656449f8358296e"

static const struct engine_container want = {
    .name = { "perigee-digits-1", 16 },
    .image = { "sha256:aa", 9 },
    .home = { "h", 1 },
    .revision = 3,
    .replica = 7,
    .port = 8080,
    .read_only = true,
    .memory_bytes = 134217728,
    .shm_bytes = 67108864,
    .tmp_bytes = 1048576,
    .cpu_milli = 500,
    .pids = 64,
    .nofile = 4096,
    .nproc = 4096,
    .log_driver = "k8s-file",
};

/* ---- told ------------------------------------------------------------------------------------ */

static void test_create(void **state)
{
    struct arena *arena = arena_new();
    struct engine_container container = want;
    struct slice command[] = { SLICE("/bin/a"), SLICE("b \"c\"") };
    struct engine_volume volumes[] = { { SLICE("a"), SLICE("/cache"), SLICE("7:0") },
                                       { SLICE("b"), SLICE("/data"), SLICE("7:1") } };
    struct engine_pair env[] = { { SLICE("LEVEL"), SLICE("2 = two") } };
    (void)state;
    assert_string_equal(
        engine_container_json(arena, &container).data,
        "{\"Image\":\"sha256:aa\",\"Env\":[\"PORT=8080\"],\"Labels\":{\"perigee.home\":\"h\","
        "\"perigee.revision\":\"3\",\"perigee.replica\":\"7\",\"perigee.gpus\":\"\"},"
        "\"HostConfig\":{\"SecurityOpt\":["
        "\"no-new-privileges:true\"],\"CapDrop\":[\"ALL\"],\"ReadonlyRootfs\":true,\"Tmpfs\":{"
        "\"/tmp\":\"rw,nosuid,nodev,mode=1777,size=1048576\"},\"PidsLimit\":64,\"Memory\":"
        "134217728,\"MemorySwap\":134217728,\"NanoCpus\":500000000,\"ShmSize\":67108864,"
        "\"Ulimits\":[{\"Name\":\"nofile\",\"Soft\":4096,\"Hard\":4096},{\"Name\":\"nproc\","
        "\"Soft\":4096,\"Hard\":4096}],\"NetworkMode\":\"none\",\"IpcMode\":\"private\","
        "\"LogConfig\":{\"Type\":\"k8s-file\",\"Config\":{\"max-size\":\"4m\"}},"
        "\"RestartPolicy\":{\"Name\":\"no\"}}}");
    container.command = command;
    container.command_count = 2;
    container.env = env;
    container.env_count = 1;
    container.user = SLICE("1:1");
    container.cgroup_parent = SLICE("/p");
    container.volumes = volumes;
    container.volume_count = 2;
    container.network = ENGINE_NETWORK_OPEN;
    const char *text = engine_container_json(arena, &container).data;
    assert_non_null(strstr(text, "\"Entrypoint\":[\"/bin/a\",\"b \\\"c\\\"\"],\"Cmd\":[]"));
    assert_non_null(strstr(text, "\"Env\":[\"LEVEL=2 = two\",\"PORT=8080\"],\"User\":\"1:1\""));
    assert_non_null(strstr(text, "\"CgroupParent\":\"/p\""));
    assert_null(strstr(text, "NetworkMode"));
    assert_null(strstr(text, "Dns"));
    assert_non_null(strstr(text, "\"Binds\":[\"a:/cache\",\"b:/data\"]"));
    arena_free(arena);
}

/* ---- seen, and its walls --------------------------------------------------------------------- */

#define HOST                                                                                       \
    "\"CapAdd\":null,\"CapDrop\":[\"ALL\"],\"SecurityOpt\":[\"no-new-privileges:true\"],"          \
    "\"ReadonlyRootfs\":true,\"Tmpfs\":{\"/tmp\":\"rw\"},\"Privileged\":false,\"PidMode\":\"\","   \
    "\"IpcMode\":\"private\""
#define BOUNDS                                                                                     \
    ",\"PidsLimit\":64,\"Memory\":134217728,\"MemorySwap\":134217728,\"ShmSize\":67108864"
#define CPU ",\"NanoCpus\":500000000"
#define LIMITS                                                                                     \
    ",\"Ulimits\":[{\"Name\":\"nofile\",\"Hard\":4096,\"Soft\":1024},{\"Name\":\"nproc\","         \
    "\"Hard\":4096,\"Soft\":4096}]"
#define NNP "\"SecurityOpt\":[\"no-new-privileges\"]"
#define NONE ",\"NetworkMode\":\"none\""
#define SEEN(host)                                                                                 \
    "{\"Id\":\"" ID "\",\"Image\":\"sha256:aa\",\"State\":{\"Status\":\"running\",\"Running\":"    \
    "true,\"Pid\":24776,\"ExitCode\":0,\"OOMKilled\":false},\"Config\":{\"Labels\":{"              \
    "\"perigee.home\":\"h\",\"perigee.revision\":\"3\",\"perigee.replica\":\"7\"},\"User\":\"\"}," \
    "\"HostConfig\":{" host "}}"

static void test_walls(void **state)
{
    static const struct {
        const char *name, *text, *missing; /* NULL: none */
    } rows[] = {
        { "Docker's", SEEN(HOST BOUNDS CPU LIMITS NONE), NULL },
        { "Podman's",
          SEEN("\"CapAdd\":[],\"CapDrop\":[\"CHOWN\"],\"SecurityOpt\":[\"no-new-privileges\"],"
               "\"ReadonlyRootfs\":true,\"Tmpfs\":{\"/run\":\"rw\",\"/tmp\":\"rw\"},\"IpcMode\":"
               "\"shareable\"" BOUNDS
               ",\"CpuPeriod\":100000,\"CpuQuota\":50000,\"NanoCpus\":500000000,\"Ulimits\":[{"
               "\"Name\":\"RLIMIT_NOFILE\",\"Hard\":4096,\"Soft\":1024},{\"Name\":\"RLIMIT_NPROC\","
               "\"Hard\":4096,\"Soft\":4096}]" NONE),
          NULL },
        { "a quota alone", SEEN(HOST BOUNDS LIMITS NONE ",\"CpuPeriod\":100000,\"CpuQuota\":50000"),
          NULL },
        { "nothing", SEEN(""), "no-new-privileges" },
        { "privileged", SEEN(HOST BOUNDS CPU LIMITS NONE ",\"Privileged\":true"), NULL },
        { "unconfined",
          SEEN("\"SecurityOpt\":[\"no-new-privileges\",\"seccomp=unconfined\"],"
               "\"ReadonlyRootfs\":true"),
          "seccomp" },
        { "capabilities", SEEN(NNP ",\"CapAdd\":[\"SYS_PTRACE\"]"), "capabilities" },
        { "a device", SEEN(NNP ",\"Devices\":[{\"PathOnHost\":\"/dev/sda\"}]"), "devices" },
        { "a GPU",
          SEEN(NNP ",\"DeviceRequests\":[{\"Driver\":\"nvidia\",\"Count\":1,"
                   "\"Capabilities\":[[\"gpu\"]]}]"),
          "devices" },
        { "a folder", SEEN(HOST BOUNDS CPU LIMITS NONE ",\"Binds\":[\"/:/host\"]"), "folders" },
        { "a volume",
          SEEN(HOST BOUNDS CPU LIMITS NONE
               "},\"Mounts\":[{\"Type\":\"tmpfs\"},{\"Type\":\"volume\",\"Name\":\"9f\","
               "\"Destination\":\"/data\"}],\"Other\":{"),
          "VOLUME '/data'" },
        { "the host's processes", SEEN(NNP ",\"PidMode\":\"host\""), "namespace" },
        { "another's network", SEEN(NNP ",\"NetworkMode\":\"container:a\""), "namespace" },
        { "can be written", SEEN(NNP), "root can be written" },
        { "no tmp", SEEN(NNP ",\"ReadonlyRootfs\":true"), "/tmp" },
        { "a network", SEEN(HOST BOUNDS CPU LIMITS ",\"NetworkMode\":\"bridge\""), "network" },
        { "no bound on memory", SEEN(HOST ",\"PidsLimit\":64" NONE), "memory is 0" },
        { "unlimited pids", SEEN(HOST ",\"PidsLimit\":-1" NONE), "pids is -1" },
        { "swap", SEEN(HOST ",\"PidsLimit\":64,\"Memory\":134217728,\"MemorySwap\":-1" NONE),
          "memory and swap" },
        { "no cpu", SEEN(HOST BOUNDS LIMITS NONE), "cpu" },
        { "more cpu", SEEN(HOST BOUNDS LIMITS NONE ",\"NanoCpus\":600000000"), "cpu" },
        { "no limits", SEEN(HOST BOUNDS CPU NONE), "open files" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct engine_seen seen;
        struct err err = {};
        assert_int_equal(0, engine_seen_parse(arena, slice_of(rows[i].text), &seen, &err));
        assert_int_equal(seen.pid, 24776);
        assert_int_equal(seen.replica, 7);
        int r = engine_walls_check(&want, &seen, &err);
        if (strcmp(rows[i].name, "privileged") == 0) { /* two members of a name: the first counts */
            seen.privileged = true;
            r = engine_walls_check(&want, &seen, &err);
            assert_non_null(strstr(err.message, "privileged"));
        } else if (!rows[i].missing) {
            assert_int_equal(r, 0);
        } else if (r == 0 || !strstr(err.message, rows[i].missing)) {
            fail_msg("%s: %s", rows[i].name, r ? err.message : "nothing is missing");
        }
        arena_free(arena);
    }
}

static void test_what_is_asked_for_beyond(void **state)
{
    struct arena *arena = arena_new();
    struct engine_container more = want;
    struct engine_seen seen;
    struct err err;
    (void)state;
    assert_int_equal(
        0, engine_seen_parse(arena, SLICE(SEEN(HOST BOUNDS CPU LIMITS NONE)), &seen, &err));
    more.image = SLICE("sha256:bb");
    assert_true(engine_walls_check(&more, &seen, &err) < 0 && strstr(err.message, "image"));
    more = want;
    more.user = SLICE("5:5");
    assert_true(engine_walls_check(&more, &seen, &err) < 0 && strstr(err.message, "user"));
    more = want;
    more.cgroup_parent = SLICE("/p");
    assert_true(engine_walls_check(&more, &seen, &err) < 0 && strstr(err.message, "group"));
    arena_free(arena);
}

static void test_seen_refused(void **state)
{
    static const char *const rows[] = {
        "",
        "[]",
        "{}",
        "{\"Id\":\"../../etc\"}",
        "{\"Id\":\"" ID "\",\"State\":{\"Pid\":-1}}",
        "{\"Id\":\"" ID "\",\"State\":{\"Pid\":4294967297}}",
        "{\"Id\":\"" ID "\"",
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct engine_seen seen;
        struct err err;
        if (engine_seen_parse(arena, slice_of(rows[i]), &seen, &err) >= 0)
            fail_msg("taken: %s", rows[i]);
        arena_free(arena);
    }
}

#define CAPS(bounding)                                                                             \
    "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"            \
    "CapBnd:\t" bounding "\nCapAmb:\t0000000000000000\n"

static void test_kernel(void **state)
{
    static const struct {
        const char *text, *missing;
    } rows[] = {
        { "Name:\tx\n" CAPS("0000000000000000") "NoNewPrivs:\t1\nSeccomp:\t2\n", NULL },
        { CAPS("0000000000000000") "NoNewPrivs:\t0\nSeccomp:\t2\n", "no-new-privileges" },
        { CAPS("00000000a80425fb") "NoNewPrivs:\t1\nSeccomp:\t2\n", "capabilities" },
        { CAPS("0000000000000000") "NoNewPrivs:\t1\nSeccomp:\t0\n", "seccomp" },
        { CAPS("0000000000000000") "NoNewPrivs:\t1\n", "seccomp" },
        { "NoNewPrivs:\t1\nSeccomp:\t2\n", "capabilities" },
        { "", "no-new-privileges" },
    };
    struct err err;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int r = engine_walls_status(slice_of(rows[i].text), &err);
        assert_int_equal(r < 0, rows[i].missing != NULL);
        assert_true(r == 0 || strstr(err.message, rows[i].missing));
    }
    static const char limits[] =
        "Limit                     Soft Limit           Hard Limit\n"
        "Max processes             4096                 4096     processes\n"
        "Max open files            1024                 4096     files\n";
    assert_int_equal(0, engine_walls_limits(&want, slice_of(limits), &err));
    struct engine_container less = want;
    less.nofile = 1024;
    assert_true(engine_walls_limits(&less, slice_of(limits), &err) < 0);
    assert_non_null(strstr(err.message, "open files"));
    assert_true(engine_walls_limits(&want, SLICE("Max processes  unlimited  unlimited\n"), &err) <
                0);

    struct engine_bounds bounds = { want.memory_bytes, 64, 500 };
    assert_int_equal(0, engine_walls_bounds(&want, &bounds, &err));
    bounds.pids = UINT64_MAX;
    assert_true(engine_walls_bounds(&want, &bounds, &err) < 0 && strstr(err.message, "pids"));
    bounds = (struct engine_bounds){ UINT64_MAX, 64, 500 };
    assert_true(engine_walls_bounds(&want, &bounds, &err) < 0 && strstr(err.message, "memory"));
    bounds = (struct engine_bounds){ 1, 64, 500, want.memory_bytes + 1 };
    assert_true(engine_walls_bounds(&want, &bounds, &err) < 0 && strstr(err.message, "swap"));
    bounds = (struct engine_bounds){ 1, 64, UINT64_MAX };
    assert_true(engine_walls_bounds(&want, &bounds, &err) < 0 && strstr(err.message, "cpu"));
}

static void test_user(void **state)
{
    static const struct {
        const char *user, *status, *map;
        bool right;
    } rows[] = {
        { "", "Uid:\t0\t0\t0\t0\n", "0 0 4294967295\n", true },
        { "app", "Uid:\t0\t0\t0\t0\n", "0 0 4294967295\n", true }, /* the image says which */
        { "1000:10", "Name:\tx\nUid:\t1000\t1000\n", "         0          0 4294967295\n", true },
        { "1000", "Uid:\t0\t0\n", "0 0 4294967295\n", false },
        { "0", "Uid:\t1000\t1000\n", "0 1000 1\n1 100000 65536\n", true }, /* rootless */
        { "7", "Uid:\t100006\t100006\n", "0 1000 1\n1 100000 65536\n", true },
        { "7", "Uid:\t1000\t1000\n", "0 1000 1\n1 100000 65536\n", false },
        { "7", "Uid:\t7\t7\n", "0 1000 1\n1 100000 65536\n", false },
        { "7", "Uid:\t7\t7\n", "", false },
        { "7", "", "0 0 4294967295\n", false },
    };
    struct engine_container one = want;
    struct err err;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        one.user = slice_of(rows[i].user);
        int r = engine_walls_user(&one, slice_of(rows[i].status), slice_of(rows[i].map), &err);
        if ((r == 0) != rows[i].right)
            fail_msg("%s of %s", rows[i].user, rows[i].status);
    }
}

static void test_devices(void **state)
{
#define DEVICES_HEAD                                                                               \
    "Inter-|   Receive                                                |  Transmit\n"               \
    " face |bytes    packets errs drop fifo frame compressed multicast|bytes\n"
    static const struct {
        const char *name, *text, *error; /* NULL: none */
    } rows[] = {
        { "a loopback", DEVICES_HEAD "    lo:       0       0    0\n", NULL },
        { "the kernel's", DEVICES_HEAD "    lo: 0\n tunl0: 0\nip6tnl0: 0\n  sit0: 0\n", NULL },
        { "a bridge's end", DEVICES_HEAD "    lo: 0 0\n  eth0: 0 0\n", "'eth0'" },
        { "slirp's", DEVICES_HEAD "  tap0: 0 0\n    lo: 0 0\n", "'tap0'" },
        { "its end missing", DEVICES_HEAD "    lo: 0 0\n  lo0:", "'lo0'" },
        { "no name", DEVICES_HEAD "    lo: 0 0\n:", "''" },
        { "its head alone", DEVICES_HEAD, "cannot be seen" },
        { "nothing", "", "cannot be seen" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {};
        int r = engine_walls_devices(slice_of(rows[i].text), &err);
        if ((r < 0) != (rows[i].error != NULL) || (r < 0 && !strstr(err.message, rows[i].error)))
            fail_msg("%s: %s", rows[i].name, err.message);
    }
}

/* ---- streams --------------------------------------------------------------------------------- */

static void test_lines(void **state)
{
    static const struct {
        const char *text, *error;
    } rows[] = {
        { "", NULL },
        { "{\"stream\":\"Loaded image ID: sha256:798b\\n\"}\r\n", NULL },
        { "{\"stream\":\"Loaded\"}", NULL },
        { "{\"status\":\"Loading\"}\n{\"errorDetail\":{\"message\":\"no "
          "space\"},\"error\":\"no\"}\n",
          "no space" },
        { "{\"status\":\"a\"}\n{\"error\":\"payload does not match\"}", "payload does not match" },
        { "{\"cause\":\"x\",\"message\":\"two\\nlines\\u0007\",\"response\":500}", "two lines" },
        { "{\"message\":\"payload does not match any of the formats:\\n * oci: no index\\n"
          " * docker-archive: writing blob: no such file\\n * dir: no directory\"}",
          "says: writing blob: no such file" },
        { "{\"message\":\"no\\n * docker-archive: \"}", "says: no  * docker-archive:" },
        { "{\"error\":7}\n", "without words" },
        { "no JSON at all\n", NULL },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t piece = 1; piece < 90; piece += 13) {
            struct engine_lines lines = {};
            struct slice rest = slice_of(rows[i].text);
            struct err err = {};
            while (rest.size) {
                size_t size = rest.size < piece ? rest.size : piece;
                assert_int_equal(
                    0, engine_lines_feed(&lines, (struct slice){ rest.data, size }, &err));
                rest = (struct slice){ rest.data + size, rest.size - size };
            }
            int r = engine_lines_end(&lines, &err);
            assert_int_equal(r < 0, rows[i].error != NULL);
            assert_true(r == 0 || strstr(err.message, rows[i].error));
            engine_lines_deinit(&lines);
        }
}

static void test_a_line_is_bounded(void **state)
{
    struct engine_lines lines = {};
    char *much = calloc(1, ENGINE_LINE_MAX + 1);
    struct err err;
    (void)state;
    memset(much, 'a', ENGINE_LINE_MAX + 1);
    assert_int_equal(0, engine_lines_feed(&lines, (struct slice){ much, ENGINE_LINE_MAX }, &err));
    assert_int_equal(ERR_TOO_LARGE, engine_lines_feed(&lines, (struct slice){ much, 1 }, &err));
    engine_lines_deinit(&lines);
    free(much);
}

static void on_text(struct slice text, bool is_error, void *data)
{
    char *all = data;
    (void)snprintf(all + strlen(all), 64 - strlen(all), "%s%.*s", is_error ? "!" : "",
                   SLICE_FMT(text));
}

static void test_frames(void **state)
{
    static const char frames[] = "\1\0\0\0\0\0\0\3one\2\0\0\0\0\0\0\3two\1\0\0\0\0\0\0\0";
    char all[64] = "";
    struct engine_frames reader = { on_text, all };
    struct err err;
    (void)state;
    assert_int_equal(
        0, engine_frames_feed(&reader, ((struct slice){ frames, sizeof frames - 1 }), &err));
    assert_string_equal(all, "one!two");
    reader = (struct engine_frames){ on_text, all };
    assert_int_equal(ERR_BAD_INPUT, engine_frames_feed(&reader, SLICE("listens, raw"), &err));
    reader = (struct engine_frames){ on_text, all };
    assert_int_equal(ERR_BAD_INPUT, engine_frames_feed(&reader, SLICE("\1\0\0\0\377\0\0\0"), &err));
}

static void test_events(void **state)
{
    static const char die[] =
        "{\"status\":\"die\",\"id\":\"" ID "\",\"Type\":\"container\",\"Action\":"
        "\"die\",\"Actor\":{\"ID\":\"" ID "\",\"Attributes\":{\"perigee.home\":\"h\"}}}";
    struct engine_event event;
    char room[256];
    (void)state;
    assert_true(engine_event_parse(slice_of(die), &event, room, sizeof room));
    assert_true(slice_is(event.id, ID) && slice_is(event.action, "die") &&
                slice_is(event.home, "h"));
    assert_false(engine_event_parse(SLICE("{\"Type\":\"image\",\"Action\":\"pull\"}"), &event, room,
                                    sizeof room));
    assert_false(engine_event_parse(slice_of(die), &event, room, 8));
    assert_false(engine_event_parse(SLICE("no JSON"), &event, room, sizeof room));
}

/* ---- who it is, and what there is ------------------------------------------------------------ */

static void test_version(void **state)
{
    static const struct {
        const char *text, *api; /* NULL: refused */
        bool podman;
    } rows[] = {
        { "{\"Version\":\"20.10.24\",\"ApiVersion\":\"1.41\",\"MinAPIVersion\":\"1.12\"}", "1.41",
          false },
        { "{\"Version\":\"29.0\",\"ApiVersion\":\"1.52\",\"MinAPIVersion\":\"1.44\"}", "1.44",
          false },
        { "{\"Components\":[{\"Name\":\"Podman Engine\"}],\"Version\":\"4.3.1\",\"ApiVersion\":"
          "\"1.41\",\"MinAPIVersion\":\"1.24\"}",
          "1.41", true },
        { "{\"Version\":\"19.03\",\"ApiVersion\":\"1.40\"}", NULL, false },
        { "{\"ApiVersion\":\"1.41\"}", NULL, false },
        { "{\"Version\":\"1\",\"ApiVersion\":\"2.0\"}", NULL, false },
        { "<html>", NULL, false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct engine_version version;
        struct err err;
        int r = engine_version_parse(slice_of(rows[i].text), &version, &err);
        assert_int_equal(r == 0, rows[i].api != NULL);
        if (r == 0) {
            assert_string_equal(version.api, rows[i].api);
            assert_int_equal(version.podman, rows[i].podman);
        }
    }
}

static void test_info(void **state)
{
    static const struct {
        const char *text, *lacks;
    } rows[] = {
        { "{\"MemoryLimit\":true,\"PidsLimit\":true,\"CpuCfsQuota\":true,\"SecurityOptions\":["
          "\"name=apparmor\",\"name=seccomp,profile=default\"],\"CgroupDriver\":\"cgroupfs\","
          "\"CgroupVersion\":\"2\",\"DockerRootDir\":\"/\"}",
          "" },
        { "{}", "seccomp, memory, pids, cpu" },
        { "{\"MemoryLimit\":true,\"PidsLimit\":true,\"CpuCfsQuota\":true,\"SecurityOptions\":["
          "\"name=seccomp,profile=unconfined\"]}",
          "seccomp" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct engine_info info;
        struct err err;
        char lacks[128];
        assert_int_equal(0, engine_info_parse(slice_of(rows[i].text), &info, &err));
        assert_int_equal(engine_info_whole(&info, lacks, sizeof lacks), !*rows[i].lacks);
        assert_string_equal(lacks, rows[i].lacks);
        assert_int_equal(info.cgroup_version, i ? 1 : 2);
        int no = i ? 0 : ERR_OVERLOADED;
        assert_int_equal(0, engine_info_room(&info, 1, "/", 1, &err));
        assert_int_equal(engine_info_room(&info, UINT64_MAX / 2, NULL, 0, &err), no);
        assert_int_equal(engine_info_room(&info, 1, "/", UINT64_MAX / 2, &err), no);
        assert_int_equal(0, engine_info_room(&info, 1, "/proc", UINT64_MAX / 2, &err));
        snprintf(info.root, sizeof info.root, "/nonexistent"); /* it may be elsewhere */
        assert_int_equal(0, engine_info_room(&info, UINT64_MAX / 2, NULL, 0, &err));
    }
    assert_true(engine_info_parse(SLICE("<"), &(struct engine_info){}, NULL) < 0);
}

static void test_list(void **state)
{
    static const char text[] =
        "[{\"Id\":\"" ID "\",\"State\":\"running\",\"Labels\":{\"perigee.home\":\"h\","
        "\"perigee.revision\":\"3\",\"perigee.replica\":\"7\",\"perigee.gpus\":\"GPU-a\"},"
        "\"NetworkSettings\":{\"Networks\":{\"perigee-h-1\":{},\"other\":{}}}},"
        "{\"Id\":\"" ID "\",\"State\":\"running\",\"Labels\":{\"perigee.home\":\"h\","
        "\"perigee.revision\":\"3\",\"perigee.replica\":\"6\",\"perigee.gpus\":\"an image's\"},"
        "\"NetworkSettings\":null},"
        "{\"Id\":\"" ID "\",\"Labels\":{\"perigee.home\":\"other\",\"perigee.revision\":\"3\","
        "\"perigee.replica\":\"8\"}},"
        "{\"Id\":\"x\",\"Labels\":{\"perigee.home\":\"h\",\"perigee.revision\":\"3\","
        "\"perigee.replica\":\"9\"}},{\"Id\":\"" ID "\",\"Labels\":null},7]";
    struct arena *arena = arena_new();
    struct engine_list list;
    struct err err;
    (void)state;
    assert_int_equal(0, engine_list_parse(arena, slice_of(text), SLICE("h"), &list, &err));
    assert_int_equal(list.count, 2);
    assert_int_equal(list.items[0].replica, 7);
    assert_true(slice_is(list.items[0].network, "perigee-h-1"));
    assert_int_equal(list.items[1].replica, 6);
    assert_int_equal(list.items[1].network.size, 0);
    assert_true(slice_is(list.items[0].gpus, "GPU-a") && list.items[1].gpus.size == 0);
    assert_true(engine_list_parse(arena, SLICE("{}"), SLICE("h"), &list, &err) < 0);
    arena_free(arena);
}

static void test_find(void **state)
{
    struct address address;
    struct err err;
    (void)state;
    assert_int_equal(ERR_BAD_INPUT, engine_find(SLICE("tcp://1.2.3.4:2375"), &address, &err));
    assert_non_null(strstr(err.message, "unix:PATH"));
    assert_int_equal(ERR_NOT_FOUND, engine_find(SLICE("unix:/nonexistent"), &address, &err));
    assert_int_equal(ERR_NOT_FOUND, engine_find(SLICE("unix:///nonexistent"), &address, &err));
    assert_non_null(strstr(err.message, "'/nonexistent'"));
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void test_ends(void **state)
{
    static const struct {
        struct engine_end_seen seen;
        const char *text;
    } rows[] = {
        { { .exit_code = 0 }, "it ended by itself with status 0" },
        { { .exit_code = 3 }, "it ended by itself with status 3" },
        { { .exit_code = 139 }, "it ended by itself: killed by SIGSEGV" },
        { { .exit_code = 137, .asked = true }, "it was stopped" },
        { { .exit_code = 137, .memory_bytes_limit = 32 << 20 },
          "it ended by itself: killed by SIGKILL" },
        { { .exit_code = 137, .memory_bytes_limit = 32 << 20, .memory_bytes_max = 32 << 20 },
          "it ran out of memory (flavor.memory is 32 MiB)" },
        { { .exit_code = 137,
            .asked = true,
            .memory_bytes_limit = 32 << 20,
            .memory_bytes_max = 32 << 20 },
          "it was stopped" },
        { { .exit_code = 1, .kills = 1, .memory_bytes_limit = 1 << 30 },
          "it ran out of memory (flavor.memory is 1024 MiB)" },
        { { .exit_code = 137, .engine_says = true, .memory_bytes_limit = 1 << 30 },
          "it ran out of memory (flavor.memory is 1024 MiB)" },
        { { .exit_code = -1 }, "it ended, and the engine does not say how" },
        { { .exit_code = 255 }, "it ended by itself with status 255" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[128];
        engine_end_text(&rows[i].seen, text, sizeof text);
        assert_string_equal(text, rows[i].text);
    }
}

/* ---- an engine that does not answer ---------------------------------------------------------- */

static void on_silent(const struct engine_answer *answer, const struct err *err, void *data)
{
    assert_null(answer);
    assert_int_equal(err->code, ERR_DEADLINE);
    loop_stop(data);
}

static void on_silent_bytes(struct slice bytes, void *data)
{
    (void)bytes;
    (void)data;
    fail();
}

static void test_what_is_followed_ends_in_time(void **state)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    struct address address;
    char folder[] = "/tmp/pg-test-engine-XXXXXX", text[sizeof at.sun_path + 8];
    struct loop *loop = loop_new();
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(at.sun_path, sizeof at.sun_path, "%s/socket", folder);
    snprintf(text, sizeof text, "unix:%s", at.sun_path);
    assert_int_equal(0, bind(listener, (struct sockaddr *)&at, sizeof at));
    assert_int_equal(0, listen(listener, 1));
    assert_int_equal(0, address_parse(slice_of(text), &address, NULL));
    struct engine *engine = engine_new(loop, NULL, &address);
    engine_follow(engine, ENGINE_GET, "/events", (struct slice){}, 20, on_silent_bytes, on_silent,
                  loop);
    loop_run(loop);
    engine_free(engine);
    loop_free(loop);
    close(listener);
    unlink(at.sun_path);
    rmdir(folder);
}

/* ---- the helper for namespaces --------------------------------------------------------------- */

static struct netns_message ask(struct channel *channel, struct netns_message message, int fd,
                                int *ret_fd)
{
    struct pollfd wait = { channel_fd(channel), POLLIN, 0 };
    struct netns_message got = {};
    int fds[CHANNEL_FDS_MAX];
    size_t size, count = 0;
    message.magic = NETNS_MAGIC;
    *ret_fd = -1;
    if (channel_send(channel, &message, sizeof message, &fd, fd >= 0, NULL) < 0)
        return got; /* cut off already */
    if (message.type != NETNS_WANT && message.type != NETNS_SHOW)
        return got;
    assert_int_equal(1, poll(&wait, 1, 30'000));
    if (channel_receive(channel, &got, sizeof got, &size, fds, &count, NULL) != 1)
        return got; /* cut off */
    assert_int_equal(0, netns_message_check(&got, size, count, NULL));
    for (size_t i = 1; i < count; i++)
        close(fds[i]);
    if (count)
        *ret_fd = fds[0];
    return got;
}

static void test_netns(void **state)
{
    int owner[2], other[2], fd, self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    struct inside inside = { .pidfd = dup(self) };
    struct err err;
    (void)state;
    bool possible = inside_possible(); /* root, that is */
    if (possible) {
        fd_close(&inside.pidfd);
        inside_begin(&inside, "");
    }
    assert_int_equal(0, channel_pair(owner, &err));
    assert_int_equal(0, channel_pair(other, &err));
    pid_t pid = fork();
    if (pid == 0) {
        close(owner[0]);
        close(other[0]);
        netns_serve((int[]){ owner[1], other[1] }, 2, -1);
        _exit(0);
    }
    close(owner[1]);
    close(other[1]);
    struct channel *shows = channel_new(owner[0]), *wants = channel_new(other[0]);
    struct netns_message want_one = { .type = NETNS_WANT, .replica = 5, .request = 9, .count = 1 };
    assert_int_equal(ERR_NOT_FOUND, ask(shows, want_one, -1, &fd).code);
    struct netns_message got =
        ask(shows, (struct netns_message){ .type = NETNS_SHOW, .replica = 5 }, inside.pidfd, &fd);
    assert_int_equal(got.type, NETNS_SHOWN);
    assert_int_equal(got.code, possible ? 0 : ERR_FORBIDDEN);
    got = ask(shows, want_one, -1, &fd);
    assert_int_equal(got.request, 9);
    assert_int_equal(got.code == 0 && fd >= 0, possible);
    fd_close(&fd);
    got = ask(wants, want_one, -1, &fd); /* the same, by who may only connect */
    assert_int_equal(got.code == 0 && fd >= 0, possible);
    fd_close(&fd);
    ask(shows, (struct netns_message){ .type = NETNS_FORGET, .replica = 5 }, -1, &fd);
    assert_int_equal(ERR_NOT_FOUND, ask(shows, want_one, -1, &fd).code);
    /* it has no network of its own, and may not be reached over this machine's */
    got = ask(shows, (struct netns_message){ .type = NETNS_SHOW, .replica = 5 }, self, &fd);
    assert_int_equal(got.code, possible ? ERR_PRECONDITION : ERR_FORBIDDEN);
    /* who may not show is cut off */
    ask(wants, (struct netns_message){ .type = NETNS_SHOW, .replica = 6 }, self, &fd);
    assert_int_equal(0, ask(wants, want_one, -1, &fd).type);
    channel_free(shows); /* and it ends */
    assert_int_equal(pid, waitpid(pid, NULL, 0));
    channel_free(wants);
    close(self);
    inside_end(&inside);
}

static void test_netns_messages(void **state)
{
    struct netns_message good = { NETNS_MAGIC, NETNS_WANT, 1, 1, 0, 1 }, bad = good;
    (void)state;
    assert_int_equal(0, netns_message_check(&good, sizeof good, 0, NULL));
    assert_true(netns_message_check(&good, sizeof good - 1, 0, NULL) < 0);
    assert_true(netns_message_check(&good, sizeof good, 1, NULL) < 0);
    bad.count = 2;
    assert_true(netns_message_check(&bad, sizeof bad, 0, NULL) < 0);
    bad = good;
    bad.type = NETNS_SHOW;
    assert_true(netns_message_check(&bad, sizeof bad, 0, NULL) < 0);
    bad.type = 77;
    assert_true(netns_message_check(&bad, sizeof bad, 0, NULL) < 0);
    bad = good;
    memset(bad.text, 'a', sizeof bad.text);
    assert_true(netns_message_check(&bad, sizeof bad, 0, NULL) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create),
        cmocka_unit_test(test_walls),
        cmocka_unit_test(test_user),
        cmocka_unit_test(test_devices),
        cmocka_unit_test(test_what_is_asked_for_beyond),
        cmocka_unit_test(test_seen_refused),
        cmocka_unit_test(test_kernel),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_a_line_is_bounded),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_what_is_followed_ends_in_time),

        cmocka_unit_test(test_netns),
        cmocka_unit_test(test_netns_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
