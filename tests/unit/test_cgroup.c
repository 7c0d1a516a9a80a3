/* SPDX-License-Identifier: Apache-2.0 */
/* With real groups, where they can be written: as root, mostly. */
#include "supervisor/cgroup.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "base/auto.h"
#include "sys/fd.h"

enum { EMPTY = 7, WITH_ONE = 8, PROCESSES_MAX = 17 };
static const uint64_t memory_max = UINT64_C(64) << 20;

static struct cgroups groups;

static int groups_open(void **)
{
    cgroups_init(&groups);
    if (groups.version == 0)
        print_message("  no groups here: %s\n", groups.why);
    return 0;
}

static int groups_close(void **)
{
    cgroups_deinit(&groups);
    return 0;
}

static void folder_of(const char *parent, uint64_t id, char ret[static CGROUP_PATH_BYTES])
{
    (void)snprintf(ret, CGROUP_PATH_BYTES, "%.900s/perigee-%d-%u", parent, (int)getpid(),
                   (unsigned)id);
}

static bool is_there(uint64_t id)
{
    char folder[CGROUP_PATH_BYTES];
    folder_of(groups.memory, id, folder);
    return access(folder, F_OK) == 0;
}

static void make(uint64_t id)
{
    int fds[PERIGEE_GROUPS_MAX];
    uint32_t count = cgroups_open(&groups, id, memory_max, PROCESSES_MAX, fds);
    assert_int_equal(count, groups.version == 1 ? 2 : 1);
    for (uint32_t i = 0; i < count; i++)
        fd_close(&fds[i]);
}

static pid_t idle(void)
{
    pid_t parent = getpid(), pid = fork();
    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (getppid() == parent)
        pause();
    _exit(0);
}

static void end(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_a_group_is_bounded_before_anybody_is_in_it(void **)
{
    char folder[CGROUP_PATH_BYTES], text[64];
    bool v1 = groups.version == 1;
    if (groups.version == 0)
        skip();
    make(EMPTY);
    folder_of(groups.memory, EMPTY, folder);
    assert_int_equal(cgroup_number(folder, v1 ? "memory.limit_in_bytes" : "memory.max"),
                     memory_max);
    assert_int_equal(cgroup_text(folder, "cgroup.procs", text, sizeof text), 0);
    folder_of(v1 ? groups.pids : groups.memory, EMPTY, folder);
    assert_int_equal(cgroup_number(folder, "pids.max"), PROCESSES_MAX);
    assert_false(cgroups_remove(&groups, EMPTY));
    assert_false(is_there(EMPTY));
}

static void test_a_clone_that_nobody_heard_of_leaves_no_group(void **)
{
    if (groups.version == 0)
        skip();
    pid_t pid = idle();
    make(WITH_ONE);
    assert_true(cgroups_enter(&groups, WITH_ONE, pid, memory_max, PROCESSES_MAX));
    assert_false(cgroups_remove(&groups, WITH_ONE)); /* as far as that goes */
    cgroups_sweep(&groups);
    assert_true(is_there(WITH_ONE));
    end(pid);
    cgroups_sweep(&groups);
    assert_false(is_there(WITH_ONE));
}

/* Takes more than its group may have. */
[[gnu::noreturn]] static void greedy(int go)
{
    char byte;
    (void)!read(go, &byte, 1);
    for (size_t left = 4 * memory_max; left > 0; left -= 1 << 20) {
        volatile char *more = malloc(1 << 20);
        for (size_t i = 0; more && i < 1 << 20; i += 4096)
            more[i] = 1;
    }
    _exit(0); /* where there is swap */
}

/* One that has ended, or has not begun, is swept with nobody else's: its group says why it ended,
 * until that was asked. */
static void test_what_is_waited_for_is_not_swept(void **)
{
    siginfo_t info;
    int go[2], status;
    if (groups.version == 0)
        skip();
    assert_int_equal(pipe(go), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)close(go[1]);
        greedy(go[0]);
    }
    make(EMPTY);
    make(WITH_ONE);
    assert_true(cgroups_enter(&groups, WITH_ONE, pid, memory_max, PROCESSES_MAX));
    (void)close(go[0]);
    (void)close(go[1]);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    cgroups_sweep(&groups);
    if (info.si_code == CLD_KILLED) /* a supervisor that has become another program asks anew */
        assert_true(cgroups_enter(&groups, WITH_ONE, pid, memory_max, PROCESSES_MAX));
    assert_true(is_there(EMPTY));
    assert_true(is_there(WITH_ONE));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(cgroups_remove(&groups, WITH_ONE), WIFSIGNALED(status));
    assert_false(cgroups_remove(&groups, EMPTY));
    assert_false(is_there(EMPTY));
    assert_false(is_there(WITH_ONE));
}

static bool of_another(const char *parent, pid_t pid, char ret[static CGROUP_PATH_BYTES])
{
    (void)snprintf(ret, CGROUP_PATH_BYTES, "%.900s/perigee-%d-3", parent, (int)pid);
    return access(ret, F_OK) == 0;
}

/* Those of a supervisor that was killed go at the next start, those of one that lives stay. */
static void test_what_a_killed_supervisor_left_is_swept(void **)
{
    const char *parents[] = { groups.memory, groups.version == 1 ? groups.pids : groups.memory };
    char folder[CGROUP_PATH_BYTES];
    struct cgroups next;
    if (groups.version == 0)
        skip();
    pid_t dead = idle(), alive = getppid();
    end(dead);
    for (int i = 0; i < groups.version % 2 + 1; i++) {
        assert_false(of_another(parents[i], dead, folder));
        assert_int_equal(mkdir(folder, 0755), 0);
        assert_false(of_another(parents[i], alive, folder));
        assert_int_equal(mkdir(folder, 0755), 0);
    }
    cgroups_init(&next);
    assert_int_equal(next.version, groups.version);
    for (int i = 0; i < groups.version % 2 + 1; i++) {
        assert_false(of_another(parents[i], dead, folder));
        assert_true(of_another(parents[i], alive, folder));
        assert_int_equal(rmdir(folder), 0);
    }
}

static bool was_written(int watch)
{
    char events[1024];
    return read(watch, events, sizeof events) > 0;
}

/* Every write there may wait for all cores, a vain one too. */
static void test_who_is_elsewhere_is_moved_and_nobody_else(void **)
{
    char folder[CGROUP_PATH_BYTES], procs[CGROUP_PATH_BYTES + 16];
    if (groups.version == 0)
        skip();
    pid_t pid = idle(), other = idle();
    auto_close int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    make(WITH_ONE);
    folder_of(groups.memory, WITH_ONE, folder);
    (void)snprintf(procs, sizeof procs, "%s/cgroup.procs", folder);
    assert_true(inotify_add_watch(watch, procs, IN_MODIFY) >= 0);
    assert_true(cgroups_enter(&groups, WITH_ONE, pid, memory_max, PROCESSES_MAX));
    assert_true(was_written(watch));
    assert_true(cgroups_enter(&groups, WITH_ONE, pid, memory_max, PROCESSES_MAX));
    assert_false(was_written(watch));
    assert_true(cgroups_enter(&groups, EMPTY, other, memory_max, PROCESSES_MAX));
    folder_of(groups.memory, WITH_ONE, folder);
    assert_int_equal(cgroup_number(folder, "cgroup.procs"), pid);
    folder_of(groups.memory, EMPTY, folder);
    assert_int_equal(cgroup_number(folder, "cgroup.procs"), other);
    end(pid);
    end(other);
    assert_false(cgroups_enter(&groups, EMPTY, other, memory_max, PROCESSES_MAX));
    assert_false(is_there(EMPTY));
    (void)cgroups_remove(&groups, WITH_ONE);
    assert_false(is_there(WITH_ONE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_group_is_bounded_before_anybody_is_in_it),
        cmocka_unit_test(test_a_clone_that_nobody_heard_of_leaves_no_group),
        cmocka_unit_test(test_what_is_waited_for_is_not_swept),
        cmocka_unit_test(test_what_a_killed_supervisor_left_is_swept),
        cmocka_unit_test(test_who_is_elsewhere_is_moved_and_nobody_else),
    };
    return cmocka_run_group_tests_name("cgroup", tests, groups_open, groups_close);
}
