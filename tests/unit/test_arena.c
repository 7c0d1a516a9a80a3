/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

static void pieces_check(struct arena *arena)
{
    static const size_t sizes[] = { 0, 1, 16, 17, 700, 5000, 3, 200'000, 64 * 1024, 8 };
    unsigned char *pieces[10];
    for (size_t i = 0; i < 10; i++) {
        pieces[i] = arena_alloc(arena, sizes[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(pieces[i][k], 0);
        memset(pieces[i], (int)i + 1, sizes[i]);
    }
    for (size_t i = 0; i < 10; i++)
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(pieces[i][k], i + 1);
    assert_true(arena_bytes(arena) < 1'000'000);
    arena_free(arena);
}

static void test_pieces_are_apart_aligned_and_zeroed(void **state)
{
    (void)state;
    pieces_check(arena_new());
    pieces_check(arena_new_for(16));
    pieces_check(arena_new_for(1'000'000 / 2));
    arena_free(NULL);
}

static void test_what_was_asked_for_is_one_piece(void **state)
{
    struct arena *arena = arena_new_for(8 * 1008);
    size_t before = arena_bytes(arena);
    (void)state;
    for (int i = 0; i < 8; i++)
        arena_alloc(arena, 1000);
    assert_int_equal(arena_bytes(arena), before);
    arena_alloc(arena, 1);
    assert_true(arena_bytes(arena) > before);
    arena_free(arena);
}

static void count(void *data)
{
    int *counter = data;
    *counter = *counter * 10 + 1;
}

static void count_two(void *data)
{
    int *counter = data;
    *counter = *counter * 10 + 2;
}

static void test_deferred_runs_last_first(void **state)
{
    int counter = 0;
    struct arena *arena = arena_new();
    (void)state;
    arena_defer(arena, count, &counter);
    arena_defer(arena, count_two, &counter);
    assert_string_equal(arena_format(arena, "%d-%s", 7, "x"), "7-x");
    assert_string_equal(arena_string(arena, SLICE("copy")), "copy");
    assert_string_equal(arena_lower(arena, SLICE("Docker.IO:5000[@Z")), "docker.io:5000[@z");
    arena_free(arena);
    assert_int_equal(counter, 21);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_are_apart_aligned_and_zeroed),
        cmocka_unit_test(test_what_was_asked_for_is_one_piece),
        cmocka_unit_test(test_deferred_runs_last_first),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
