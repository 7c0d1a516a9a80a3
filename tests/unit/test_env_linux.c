/* SPDX-License-Identifier: Apache-2.0 */
#include "sys/env_linux.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/err.h"
#include "sys/channel.h"
#include "sys/spawn.h"

static struct env_linux *new_env(void)
{
    struct env_linux *self;
    struct err err;
    assert_int_equal(env_linux_new(&self, &err), 0);
    return self;
}

static void note(struct env_timer *timer, void *data)
{
    char **at = data;
    *(*at)++ = (char)('0' + timer->order);
}

static void test_timers(void **state)
{
    (void)state;
    struct env_linux *self = new_env();
    struct env *env = env_linux_env(self);
    struct env_timer late = {}, soon = {}, never = {};
    char seen[8] = "", *at = seen;
    int64_t begin = env_now_ns(env);
    env_timer_start(env, &late, 20 * ENV_MS, note, &at);  /* 1 */
    env_timer_start(env, &soon, 10 * ENV_MS, note, &at);  /* 2 */
    env_timer_start(env, &never, 15 * ENV_MS, note, &at); /* 3 */
    env_timer_stop(env, &never);
    while (at < seen + 2)
        env_linux_run(self, -1);
    assert_string_equal(seen, "21");
    assert_true(env_now_ns(env) - begin >= 20 * ENV_MS);
    env_linux_free(self);
}

static void test_files(void **state)
{
    (void)state;
    char folder[] = "/tmp/test_env_linux.XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    struct env_linux *self = new_env();
    struct env *env = env_linux_env(self);
    struct arena *arena = arena_new();
    struct err err;
    struct slice bytes, *names;
    size_t count;
    (void)snprintf(path, sizeof path, "%s/state", folder);
    assert_int_equal(env_file_read(env, path, 10, arena, &bytes, &err), ERR_NOT_FOUND);
    assert_int_equal(env_file_replace(env, path, SLICE("first"), &err), 0);
    assert_int_equal(env_file_replace(env, path, SLICE("second"), &err), 0);
    assert_int_equal(env_file_read(env, path, 10, arena, &bytes, &err), 0);
    assert_true(slice_is(bytes, "second"));
    assert_int_equal(env_file_read(env, path, 5, arena, &bytes, &err), ERR_TOO_LARGE);
    assert_int_equal(env_file_list(env, folder, arena, &names, &count, &err), 0);
    assert_int_equal(count, 1); /* no temporary file stays */
    assert_true(slice_is(names[0], "state"));
    assert_int_equal(env_file_remove(env, path, &err), 0);
    assert_int_equal(env_file_remove(env, path, &err), ERR_NOT_FOUND);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(env_file_replace(env, path, SLICE("x"), &err), ERR_NOT_FOUND);
    assert_int_equal(env_file_list(env, folder, arena, &names, &count, &err), ERR_NOT_FOUND);
    arena_free(arena);
    env_linux_free(self);
}

struct ended {
    unsigned count;
    int status;
    struct env_exit plain;
};

static void on_ended(uint64_t, const struct env_linux_exit *exit, void *data)
{
    struct ended *ended = data;
    ended->count++;
    ended->status = exit->wait_status;
}

static void on_ended_plain(uint64_t, const struct env_exit *exit, void *data)
{
    struct ended *ended = data;
    ended->count++;
    ended->plain = *exit;
}

/* The child sees its channel as 3, the lifeline as 4, nothing behind, and its own environment. */
static void test_a_child_inherits_nothing(void **state)
{
    (void)state;
    static const char script[] = "test -z \"$HOME$USER\" || exit 10\n"
                                 "test -e /proc/$$/fd/3 && test -e /proc/$$/fd/4 || exit 11\n"
                                 "for i in 5 6 7 8 9 11 12 13 14; do\n"
                                 "  test -e /proc/$$/fd/$i && exit 12\n"
                                 "done\n"
                                 "read pid name state ppid group rest </proc/$$/stat\n"
                                 "test $group = $$ || exit 13\n"
                                 "exit 7\n";
    const char *arguments[] = { "sh", "-c", script, NULL };
    const char *environment[] = { "PATH=/usr/bin:/bin", NULL };
    struct env_linux *self = new_env();
    int lifeline[2], channel[2];
    struct err err;
    assert_int_equal(pipe(lifeline), 0); /* inheritable on purpose */
    assert_int_equal(channel_pair(channel, &err), 0);
    struct spawn_detail detail = { channel[1], lifeline[0], 500 };
    struct env_spawn spawn = { "/bin/sh", arguments, environment, &detail };
    struct ended ended = {};
    uint64_t process;
    pid_t pid;
    assert_int_equal(env_linux_spawn(self, &spawn, on_ended, &ended, &process, &pid, &err), 0);
    assert_true(env_linux_watches(self, pid));
    while (!ended.count)
        env_linux_run(self, -1);
    assert_int_equal(WEXITSTATUS(ended.status), 7);
    assert_false(env_linux_watches(self, pid));

    close(lifeline[1]); /* a child born after its parent's death runs nothing */
    ended = (struct ended){};
    assert_int_equal(env_linux_spawn(self, &spawn, on_ended, &ended, &process, &pid, &err), 0);
    while (!ended.count)
        env_linux_run(self, -1);
    assert_int_equal(WEXITSTATUS(ended.status), 127);
    close(lifeline[0]);
    close(channel[0]);
    close(channel[1]);
    env_linux_free(self);
}

static void test_a_child_is_killed_and_reaped(void **state)
{
    (void)state;
    const char *arguments[] = { "sleep", "1000", NULL };
    struct env_linux *self = new_env();
    struct env *env = env_linux_env(self);
    struct env_spawn spawn = { "/bin/sleep", arguments, NULL, NULL };
    struct ended ended = {};
    struct err err;
    uint64_t process;
    assert_int_equal(env_process_start(env, &spawn, on_ended_plain, &ended, &process, &err), 0);
    env_process_kill(env, process, SIGKILL);
    while (!ended.count)
        env_linux_run(self, -1);
    assert_int_equal(ended.plain.signal, SIGKILL);
    env_process_kill(env, process, SIGKILL); /* of no effect */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);

    spawn.program = "/no/such/program";
    assert_int_equal(env_process_start(env, &spawn, on_ended_plain, &ended, &process, &err),
                     ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "/no/such/program"));
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nor is a zombie left */
    assert_int_equal(ended.count, 1);
    assert_int_equal(env_linux_adopt(self, getpid(), on_ended, &ended, &process, &err),
                     ERR_NOT_FOUND);
    env_linux_free(self);
}

static void test_a_child_that_is_adopted(void **state)
{
    (void)state;
    struct env_linux *self = new_env();
    struct ended ended = {};
    struct err err;
    uint64_t process;
    pid_t children[8], pid = fork();
    if (pid == 0)
        _exit(9);
    assert_int_equal(spawn_children(children, 8), 1);
    assert_int_equal(children[0], pid);
    assert_int_equal(env_linux_adopt(self, pid, on_ended, &ended, &process, &err), 0);
    while (!ended.count)
        env_linux_run(self, -1);
    assert_int_equal(WEXITSTATUS(ended.status), 9);
    env_linux_free(self);
}

struct talk {
    unsigned messages, closed;
    int code;
};

static void on_message(struct env_channel *, struct slice message, void *data)
{
    struct talk *talk = data;
    assert_true(slice_is(message, "hello"));
    talk->messages++;
}

static void on_closed(struct env_channel *, const struct err *err, void *data)
{
    struct talk *talk = data;
    talk->closed++;
    talk->code = err->code;
}

static void test_channels(void **state)
{
    (void)state;
    static const struct env_channel_events events = { on_message, on_closed };
    struct env_linux *self = new_env();
    struct env *env = env_linux_env(self);
    struct env_channel *ends[2], *none;
    struct talk talks[2] = {};
    struct err err;
    int fds[2];
    assert_int_equal(channel_pair(fds, &err), 0);
    env_linux_peer(self, "a", fds[0]);
    env_linux_peer(self, "b", fds[1]);
    assert_int_equal(env_channel_open(env, "a", &events, &talks[0], &ends[0], &err), 0);
    assert_int_equal(env_channel_open(env, "a", &events, &talks[0], &none, &err), ERR_NOT_FOUND);
    assert_int_equal(env_channel_open(env, "b", &events, &talks[1], &ends[1], &err), 0);
    assert_int_equal(env_channel_send(env, ends[0], SLICE("hello"), &err), 0);
    while (!talks[1].messages)
        env_linux_run(self, -1);
    env_channel_close(env, ends[0]);
    assert_int_equal(talks[0].closed, 0); /* never from inside the call */
    while (!talks[0].closed || !talks[1].closed)
        env_linux_run(self, -1);
    assert_int_equal(talks[0].closed, 1);
    assert_int_equal(talks[1].closed, 1);
    assert_int_equal(talks[1].code, ERR_CANCELED);
    env_linux_free(self);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_a_child_inherits_nothing),
        cmocka_unit_test(test_a_child_is_killed_and_reaped),
        cmocka_unit_test(test_a_child_that_is_adopted),
        cmocka_unit_test(test_channels),
    };
    return cmocka_run_group_tests_name("env_linux", tests, NULL, NULL);
}
