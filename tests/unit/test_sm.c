/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define DOOR_STATES(X)                                                                             \
    X(SHUT, SM_TO(OPEN) | SM_TO(BROKEN))                                                           \
    X(OPEN, SM_TO(SHUT) | SM_TO(OPEN))                                                             \
    X(BROKEN, 0)
SM_DECLARE(door, DOOR_STATES)
SM_DEFINE(door, DOOR_STATES)

static const bool may[door_count][door_count] = {
    [SHUT] = { [OPEN] = true, [BROKEN] = true },
    [OPEN] = { [SHUT] = true, [OPEN] = true },
};

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(door_count, 3);
    assert_string_equal(door_name(SHUT), "SHUT");
    assert_string_equal(door_name(BROKEN), "BROKEN");
}

/* Does a move end this process? Its words are not shown. */
static bool move_aborts(enum door from, enum door to)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
        door_move(&from, to);
        _exit(from == to ? 0 : 1);
    }
    assert_true(child > 0 && waitpid(child, &status, 0) == child);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void test_moves(void **state)
{
    (void)state;
    for (int from = 0; from < door_count; from++)
        for (int to = 0; to < door_count; to++) {
            assert_int_equal(door_may((enum door)from, (enum door)to), may[from][to]);
            assert_int_equal(move_aborts((enum door)from, (enum door)to), !may[from][to]);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_names),
                                        cmocka_unit_test(test_moves) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
