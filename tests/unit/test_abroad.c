/* SPDX-License-Identifier: Apache-2.0 */
/* What metrics call other registries: their hosts, of which anybody who deploys names many. */
#include "control/abroad_own.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"

static void test_labels_are_bounded(void **state)
{
    struct abroad abroad = { .labels_arena = arena_new() };
    char host[32];
    (void)state;
    for (int i = 0; i < LABELS_MAX; i++) {
        snprintf(host, sizeof host, "%d.example", i);
        assert_true(slice_is(abroad_label(&abroad, slice_of(host)), host));
    }
    assert_true(slice_is(abroad_label(&abroad, SLICE("one.more")), "other"));
    assert_true(slice_is(abroad_label(&abroad, SLICE("7.example")), "7.example"));
    map_deinit(&abroad.labels);
    arena_free(abroad.labels_arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_labels_are_bounded) };
    return cmocka_run_group_tests_name("abroad", tests, NULL, NULL);
}
