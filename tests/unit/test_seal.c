/* SPDX-License-Identifier: Apache-2.0 */
#include "store/seal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"

static char home[64];

static const char *key_path(void)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/" SEAL_KEY_FILE, home);
    return path;
}

static int setup(void **state)
{
    char folder[80];
    (void)state;
    snprintf(home, sizeof home, "/tmp/perigee-seal-XXXXXX");
    if (!mkdtemp(home))
        return -1;
    snprintf(folder, sizeof folder, "%s/control", home);
    return mkdir(folder, 0700);
}

static int teardown(void **state)
{
    char folder[80];
    (void)state;
    (void)unlink(key_path());
    snprintf(folder, sizeof folder, "%s/control", home);
    (void)rmdir(folder);
    return rmdir(home);
}

static int close_it(const char *purpose, struct slice text, struct arena *arena, struct slice *ret)
{
    struct arena *secret = arena_new_secret();
    const struct seal_key *key;
    struct err err;
    int r = seal_key_load(key_path(), true, secret, &key, &err);
    if (r == 0)
        r = seal_close(key, slice_of(purpose), text, arena, ret, &err);
    arena_free(secret);
    return r;
}

static int open_it(const char *purpose, struct slice sealed, const char *wanted)
{
    struct arena *secret = arena_new_secret();
    struct slice text;
    struct err err;
    const struct seal_key *key;
    int r = seal_key_load(key_path(), false, secret, &key, &err);
    if (r == 0)
        r = seal_open(key, slice_of(purpose), sealed, secret, &text, &err);
    if (r == 0) {
        assert_int_equal(text.size, strlen(wanted));
        assert_string_equal(text.data, wanted);
    } else {
        assert_null(strstr(err.message, "hunter2"));
        print_message("  %s\n", err.message);
    }
    arena_free(secret);
    return r;
}

static void test_there_and_back(void **state)
{
    static const char *const texts[] = { "", "hunter2", "p\"w: \xc3\xa9\n" };
    struct arena *arena = arena_new();
    struct slice sealed, again;
    struct stat st;
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(close_it("a", slice_of(texts[i]), arena, &sealed), 0);
        assert_int_equal(open_it("a", sealed, texts[i]), 0);
        assert_null(texts[i][0] ? strstr(sealed.data, texts[i]) : NULL);
    }
    assert_int_equal(close_it("a", SLICE("hunter2"), arena, &sealed), 0);
    assert_int_equal(close_it("a", SLICE("hunter2"), arena, &again), 0);
    assert_false(slice_equal(sealed, again)); /* a nonce of its own each */
    assert_int_equal(stat(key_path(), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_size, SEAL_KEY_BYTES);
    arena_free(arena);
}

static void test_what_is_refused(void **state)
{
    struct arena *arena = arena_new();
    struct slice sealed;
    (void)state;
    assert_int_equal(close_it("a", SLICE("hunter2"), arena, &sealed), 0);
    assert_int_equal(open_it("b", sealed, ""), ERR_INTERNAL); /* another row's */
    for (size_t i = 0; i < sealed.size; i++) {
        struct slice changed = arena_copy(arena, sealed);
        ((char *)changed.data)[i] ^= 1;
        assert_true(open_it("a", changed, "") < 0);
    }
    for (size_t size = 0; size < sealed.size; size++)
        assert_true(open_it("a", (struct slice){ sealed.data, size }, "") < 0);
    char *large = arena_alloc(arena, SEAL_TEXT_MAX + 1);
    assert_int_equal(close_it("a", (struct slice){ large, SEAL_TEXT_MAX + 1 }, arena, &sealed),
                     ERR_TOO_LARGE);
    assert_int_equal(close_it("a", (struct slice){ large, SEAL_TEXT_MAX }, arena, &sealed), 0);
    arena_free(arena);
}

static void test_the_key_is_needed(void **state)
{
    struct arena *arena = arena_new();
    struct slice sealed, other;
    (void)state;
    assert_int_equal(close_it("a", SLICE("hunter2"), arena, &sealed), 0);
    assert_int_equal(unlink(key_path()), 0);
    assert_int_equal(open_it("a", sealed, ""), ERR_PRECONDITION);
    assert_false(seal_has_key(key_path(), sealed));
    assert_int_equal(access(key_path(), F_OK), -1); /* opening makes none */
    assert_int_equal(close_it("a", SLICE("x"), arena, &other), 0);
    assert_int_equal(open_it("a", sealed, ""), ERR_PRECONDITION);
    assert_int_equal(open_it("a", other, "x"), 0);
    assert_true(seal_has_key(key_path(), other) && !seal_has_key(key_path(), sealed));
    FILE *file = fopen(key_path(), "w");
    assert_non_null(file);
    fputs("short", file);
    fclose(file);
    assert_int_equal(open_it("a", other, ""), ERR_PRECONDITION);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_there_and_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_key_is_needed, setup, teardown),
    };
    return cmocka_run_group_tests_name("seal", tests, NULL, NULL);
}
