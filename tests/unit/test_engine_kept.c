/* SPDX-License-Identifier: Apache-2.0 */
/* Which containers run, as an agent notes it for the next one. */
#include "replica/engine/kept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/arena.h"
#include "base/err.h"
#include "sys/proc.h"

#define ID "489bc99fa7c26be5082d8edef3cbeb70ab5c553fc6244ba4c656449f8358296e"

static void test_what_is_noted_is_read_again(void **state)
{
    struct engine_kept items[] = {
        { SLICE(ID), 7, 3, 24776, 99, {}, false, {} },
        { SLICE(ID), UINT64_MAX, 4, 5, 1, SLICE("172.18.0.2"), true, SLICE("GPU-a,GPU-b") },
    };
    struct engine_kept_list list = {
        .boot = SLICE("b"),
        .engine = SLICE("unix:/a"),
        .version = { "Podman", "4.3.1", "1.41", .podman = true },
        .info = { .rootless = true, .cgroup_driver = "cgroupfs" },
        .items = items,
        .count = 2,
    };
    struct arena *arena = arena_new();
    struct engine_kept_list read;
    struct err err;
    (void)state;

    struct slice text = engine_kept_json(arena, &list);
    assert_int_equal(0, engine_kept_parse(arena, text, &read, &err));
    assert_true(slice_equal(read.boot, list.boot) && slice_equal(read.engine, list.engine));
    assert_string_equal(read.version.name, "Podman");
    assert_string_equal(read.version.version, "4.3.1");
    assert_string_equal(read.version.api, "1.41");
    assert_true(read.version.podman && read.info.rootless);
    assert_string_equal(read.info.cgroup_driver, "cgroupfs");
    assert_int_equal(read.count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_true(slice_equal(read.items[i].id, items[i].id));
        assert_true(read.items[i].replica == items[i].replica);
        assert_int_equal(read.items[i].revision, items[i].revision);
        assert_int_equal(read.items[i].pid, items[i].pid);
        assert_int_equal(read.items[i].started, items[i].started);
        assert_int_equal(read.items[i].by_address, items[i].by_address);
        assert_true(slice_equal(read.items[i].address, items[i].address));
        assert_true(slice_equal(read.items[i].gpus, items[i].gpus));
    }
    arena_free(arena);
}

static void test_what_is_noted_wrong_names_none(void **state)
{
#define NOTE(rows)                                                                                 \
    "{\"boot\":\"b\",\"engine\":\"unix:/a\",\"api\":\"1.41\",\"containers\":[" rows "]}"
#define ROW(id, replica, pid, started)                                                             \
    "{\"id\":\"" id "\",\"replica\":" replica ",\"revision\":3,\"pid\":" pid                       \
    ",\"started\":" started "}"
    static const struct {
        const char *name, *text;
        int count; /* below 0: it is refused */
    } rows[] = {
        { "one", NOTE(ROW(ID, "7", "5", "9")), 1 },
        { "none", NOTE(""), 0 },
        { "an older version's", "this home has had containers\n", -1 },
        { "the mark alone", "{}\n", -1 },
        { "nothing", "", -1 },
        { "a target for an API", "{\"boot\":\"b\",\"engine\":\"unix:/a\",\"api\":\"1.41/x\"}", -1 },
        { "no rows", "{\"boot\":\"b\",\"engine\":\"unix:/a\",\"api\":\"1.41\",\"containers\":7}",
          0 },
        { "a path for an id", NOTE(ROW("../x", "7", "5", "9")), 0 },
        { "no replica", NOTE(ROW(ID, "null", "5", "9")), 0 },
        { "the first process", NOTE(ROW(ID, "7", "1", "9")), 0 },
        { "a group of processes", NOTE(ROW(ID, "7", "-5", "9")), 0 },
        { "a number too large", NOTE(ROW(ID, "7", "4294967301", "9")), 0 },
        { "no time", NOTE(ROW(ID, "7", "5", "0")), 0 },
        { "no names of GPUs", NOTE(ROW(ID, "7", "5", "9,\"gpus\":\"GPU-a/../b\"")), 0 },
        { "an empty name", NOTE(ROW(ID, "7", "5", "9,\"gpus\":\"GPU-a,,GPU-b\"")), 0 },
        { "the next one counts", NOTE("7," ROW(ID, "7", "5", "9")), 1 },
    };
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct engine_kept_list list = {};
        struct err err;
        int r = engine_kept_parse(arena, slice_of(rows[i].text), &list, &err);
        if ((r < 0) != (rows[i].count < 0) || (r == 0 && list.count != (size_t)rows[i].count))
            fail_msg("%s: %d, %zu", rows[i].name, r, list.count);
        arena_free(arena);
    }
}

/* By the time it began: its number alone may be another's. */
static void test_a_process_is_known_again(void **state)
{
    struct engine_kept self = { .pid = getpid() };
    char boot[PROC_BOOT_BYTES];
    (void)state;

    assert_true(proc_boot(boot) && strlen(boot) == 36);
    assert_true(proc_started(getpid(), &self.started) && self.started > 0);
    int fd = engine_kept_open(&self);
    assert_true(fd >= 0);
    close(fd);
    self.started++;
    assert_int_equal(-1, engine_kept_open(&self));
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    struct engine_kept ended = { .pid = pid };
    siginfo_t info;
    assert_int_equal(0, waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT)); /* it is there yet */
    assert_true(proc_started(pid, &ended.started));
    assert_int_equal(-1, engine_kept_open(&ended));
    assert_int_equal(pid, waitpid(pid, NULL, 0));
    assert_int_equal(-1, engine_kept_open(&ended));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_noted_is_read_again),
        cmocka_unit_test(test_what_is_noted_wrong_names_none),
        cmocka_unit_test(test_a_process_is_known_again),
    };
    return cmocka_run_group_tests_name("engine_kept", tests, NULL, NULL);
}
