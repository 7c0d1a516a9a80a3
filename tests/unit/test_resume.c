/* SPDX-License-Identifier: Apache-2.0 */
/* Where an agent's watch goes on: what is said of it, and what is decided. */
#include "policy/resume.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/err.h"
#include "contract/watch.h"

static void test_marks(void **state)
{
    static const struct {
        const char *text;
        struct watch_mark mark;
    } rows[] = {
        { "00000000000000ff-17", { 255, 17 } },
        { "ffffffffffffffff-18446744073709551615", { UINT64_MAX, UINT64_MAX } },
        { "", {} },
        { "17", {} }, /* a client's */
        { "-17", {} },
        { "0000000000000000-17", {} },
        { "00000000000000ff", {} },
        { "00000000000000ff-", {} },
        { "00000000000000ff-x", {} },
        { "00000000000000ff--1", {} },
        { "00000000000000ff-18446744073709551616", {} },
        { "00000000000000FF-17", {} },
        { "000000000000000ff-17", {} },
        { "0x000000000000ff-17", {} },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct watch_mark mark = watch_mark_read(slice_of(rows[i].text));
        char text[WATCH_MARK_BYTES];
        print_message("  '%s'\n", rows[i].text);
        assert_true(mark.epoch == rows[i].mark.epoch);
        if (mark.epoch) {
            assert_true(mark.number == rows[i].mark.number);
            assert_string_equal(watch_mark_text(mark, text), rows[i].text);
        }
    }
}

static void test_begins(void **state)
{
    static const struct {
        const char *json;
        uint64_t epoch;
        bool resumed, good;
    } rows[] = {
        { "{\"epoch\":\"00000000000000ff\",\"resumed\":true}", 255, true, true },
        { "{\"epoch\":\"00000000000000ff\",\"resumed\":false,\"more\":1}", 255, false, true },
        { "{\"epoch\":\"of another form\",\"resumed\":false}", 0, false, true },
        { "{\"epoch\":\"00000000000000ff\"}", 0, false, false },
        { "{\"epoch\":255,\"resumed\":true}", 0, false, false },
        { "{}", 0, false, false },
        { "[]", 0, false, false },
        { "", 0, false, false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct watch_begins begins = {};
        struct err err;
        print_message("  '%s'\n", rows[i].json);
        assert_int_equal(watch_begins_read(slice_of(rows[i].json), &begins, &err) == 0,
                         rows[i].good);
        assert_true(begins.epoch == rows[i].epoch && begins.resumed == rows[i].resumed);
    }
}

static void test_begins_is_read_as_it_was_written(void **state)
{
    static const struct watch_begins rows[] = { { 255, true },
                                                { 255, false },
                                                { UINT64_MAX, true } };
    struct arena *arena = arena_new();
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct watch_begins begins;
        struct err err;
        assert_int_equal(watch_begins_read(watch_begins_json(arena, &rows[i]), &begins, &err), 0);
        assert_true(begins.epoch == rows[i].epoch && begins.resumed == rows[i].resumed);
    }
    arena_free(arena);
}

static void test_synced(void **state)
{
    static const struct {
        const char *json;
        size_t count;
        bool good;
        uint64_t uids[2];
    } rows[] = {
        { "{\"uids\":[]}", 0, true, {} },
        { "{\"uids\":[7]}", 1, true, { 7 } },
        { "{\"uids\":[0,18446744073709551615],\"more\":1}", 2, true, { 0, UINT64_MAX } },
        { "{\"uids\":[7,-1]}", 0, false, {} },
        { "{\"uids\":[1.5]}", 0, false, {} },
        { "{\"uids\":[\"7\"]}", 0, false, {} },
        { "{\"uids\":7}", 0, false, {} },
        { "{}", 0, false, {} },
        { "[7]", 0, false, {} },
        { "", 0, false, {} },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct watch_synced synced = {};
        struct err err;
        print_message("  '%s'\n", rows[i].json);
        assert_int_equal(watch_synced_read(arena, slice_of(rows[i].json), &synced, &err) == 0,
                         rows[i].good);
        assert_int_equal(synced.uid_count, rows[i].count);
        for (size_t k = 0; k < synced.uid_count; k++)
            assert_true(synced.uids[k] == rows[i].uids[k]);
        arena_free(arena);
    }
}

static void test_synced_is_read_as_it_was_written(void **state)
{
    static const uint64_t uids[] = { 1, 17, UINT64_MAX };
    struct arena *arena = arena_new();
    (void)state;
    for (size_t count = 0; count <= 3; count++) {
        struct watch_synced told = { uids, count }, synced;
        struct err err;
        assert_int_equal(watch_synced_read(arena, watch_synced_json(arena, &told), &synced, &err),
                         0);
        assert_int_equal(synced.uid_count, count);
        for (size_t i = 0; i < count; i++)
            assert_true(synced.uids[i] == uids[i]);
    }
    arena_free(arena);
}

static void test_decisions(void **state)
{
    static const struct {
        const char *name;
        uint64_t epoch, number;
        enum resume wanted;
    } rows[] = {
        { "nothing", 0, 150, RESUME_FIRST },
        { "in the midst", 7, 150, RESUME_ON },
        { "all there is", 7, 200, RESUME_ON },
        { "just all that is needed", 7, 100, RESUME_ON },
        { "one too few", 7, 99, RESUME_BEHIND },
        { "far behind", 7, 0, RESUME_BEHIND },
        { "one too many", 7, 201, RESUME_AHEAD },
        { "of the future", 7, UINT64_MAX, RESUME_AHEAD },
        { "of another, in the midst", 8, 150, RESUME_EPOCH },
        { "of another, far behind", 8, 0, RESUME_EPOCH },
        { "of another, of the future", 6, 300, RESUME_EPOCH },
    };
    static const struct resume_log log = { 7, 100, 200 };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_message("  %s\n", rows[i].name);
        assert_int_equal(resume_of(&log, rows[i].epoch, rows[i].number), rows[i].wanted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_begins),
        cmocka_unit_test(test_begins_is_read_as_it_was_written),
        cmocka_unit_test(test_synced),
        cmocka_unit_test(test_synced_is_read_as_it_was_written),
        cmocka_unit_test(test_decisions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
