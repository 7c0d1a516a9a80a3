/* SPDX-License-Identifier: Apache-2.0 */
/* A child puts up all walls that can be seen from outside but one: that one is missed, by name. */
#include "supervisor/walls.h"

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include <perigee/worker.h>

#include "base/err.h"

enum without { NOTHING, NNP, SECCOMP, DATA, SPACE, STACK, FILES, CORE, CAPABILITIES };

/* Whether such a child can be made here: only root keeps capabilities, and a filter without
 * no_new_privs; and a limit that was there before cannot be left out. */
static bool possible(enum without without, int resource)
{
    struct rlimit limit;

    if (geteuid() != 0 && (without == NNP || without == CAPABILITIES))
        return false;
    return resource < 0 || (getrlimit((__rlimit_resource_t)resource, &limit) == 0 &&
                            limit.rlim_max == RLIM_INFINITY);
}

static bool put_up(enum without without, bool *ret_possible)
{
    static const struct {
        enum without name;
        int resource;
        rlim_t value;
    } limits[] = {
        { DATA, RLIMIT_DATA, 1 << 30 },   { SPACE, RLIMIT_AS, (rlim_t)1 << 40 },
        { STACK, RLIMIT_STACK, 8 << 20 }, { FILES, RLIMIT_FSIZE, 0 },
        { CORE, RLIMIT_CORE, 0 },
    };
    struct sock_filter all[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
    struct sock_fprog filter = { 1, all };
    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct none[2] = {}, some[2] = { { 1, 1, 0 } };
    bool good = true;

    *ret_possible = possible(without, -1);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct rlimit limit = { limits[i].value, limits[i].value };
        if (limits[i].name == without)
            *ret_possible = possible(without, limits[i].resource);
        else
            good = good && setrlimit((__rlimit_resource_t)limits[i].resource, &limit) == 0;
    }
    if (without != NNP)
        good = good && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
    if (without != SECCOMP)
        good = good && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0;
    return good && syscall(SYS_capset, &head, without == CAPABILITIES ? some : none) == 0;
}

/* Says over `ready` how it went, and waits to be killed. */
[[gnu::noreturn]] static void child_run(int ready, int spaces, enum without without)
{
    bool can = true;

    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        _exit(1);
    bool apart = !spaces || unshare(spaces) == 0;
    bool good = apart && put_up(without, &can);
    if (write(ready, !apart || !can ? "s" : good ? "y" : "n", 1) != 1)
        _exit(1);
    for (;;)
        pause();
}

static const struct {
    enum without without;
    int spaces;
    uint32_t walls;
    uint32_t uid;
    const char *missing; /* NULL: all stand */
} rows[] = {
    { NOTHING, 0, 0, 0, NULL },
    { NNP, 0, 0, 0, "nnp" },
    { SECCOMP, 0, 0, 0, "seccomp" },
    { DATA, 0, 0, 0, "rlimits" },
    { SPACE, 0, 0, 0, "rlimits" },
    { STACK, 0, 0, 0, "rlimits" },
    { FILES, 0, 0, 0, "rlimits" },
    { CORE, 0, 0, 0, "rlimits" },
    { CAPABILITIES, 0, 0, 0, "no capabilities" },
    { NOTHING, 0, 0, 12345, "uid" },
    { NOTHING, CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWNS,
      PERIGEE_WALL_NET | PERIGEE_WALL_IPC | PERIGEE_WALL_MOUNT, 0, NULL },
    { NOTHING, CLONE_NEWIPC, PERIGEE_WALL_NET | PERIGEE_WALL_IPC, 0, "net" },
    { NOTHING, CLONE_NEWNET, PERIGEE_WALL_NET | PERIGEE_WALL_IPC, 0, "ipc" },
    { NOTHING, CLONE_NEWNET, PERIGEE_WALL_MOUNT | PERIGEE_WALL_NET, 0, "mount" },
    { NOTHING, CLONE_NEWNET, PERIGEE_WALL_USER | PERIGEE_WALL_NET, 0, "user" },
};

static void test_a_wall_that_is_missing_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct walls_expected expected = { rows[i].walls, rows[i].uid };
        uint32_t walls = 0;
        struct err err = {};
        int ends[2];
        char said = 0;
        assert_int_equal(pipe(ends), 0);
        pid_t pid = fork();
        if (pid == 0)
            child_run(ends[1], rows[i].spaces, rows[i].without);
        assert_int_equal(read(ends[0], &said, 1), 1);
        int r = walls_look(pid, &expected, &walls, &err);
        (void)kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        close(ends[0]);
        close(ends[1]);
        if (said == 's') {
            print_message("  row %zu: cannot be here\n", i);
            continue;
        }
        print_message("  row %zu: %s\n", i, err.message);
        assert_int_equal(said, 'y');
        assert_int_equal(r, rows[i].missing ? ERR_PRECONDITION : 0);
        if (rows[i].missing)
            assert_string_equal(strrchr(err.message, ':') + 2, rows[i].missing);
        else
            assert_int_equal(walls, rows[i].walls);
    }
}

static void test_one_that_is_gone_has_none(void **state)
{
    const struct walls_expected expected = {};
    uint32_t walls;
    struct err err;
    pid_t pid = fork();
    (void)state;
    if (pid == 0)
        _exit(0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(walls_look(pid, &expected, &walls, &err), ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_wall_that_is_missing_is_named),
        cmocka_unit_test(test_one_that_is_gone_has_none),
    };
    return cmocka_run_group_tests_name("walls", tests, NULL, NULL);
}
