/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/world.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/err.h"

#define DAY (INT64_C(86'400) * ENV_S)

/* A small supervisor: keeps one program up, starts it anew after 1, 2, 4 .. 10 s, and writes down
 * how often it did. What the real one does, so that the world is tried as it will be used. */
struct keeper {
    struct env *env;
    struct env_timer again;
    int64_t delay_ns, started_ns;
    uint64_t process;
    unsigned starts, exits, failures;
};

static void keeper_start(struct keeper *keeper);

static void on_again(struct env_timer *, void *data)
{
    keeper_start(data);
}

static void back_off(struct keeper *keeper)
{
    bool lasted = env_now_ns(keeper->env) - keeper->started_ns > 60 * ENV_S;

    keeper->delay_ns = lasted || !keeper->delay_ns ? ENV_S : keeper->delay_ns * 2;
    if (keeper->delay_ns > 10 * ENV_S)
        keeper->delay_ns = 10 * ENV_S;
    env_timer_start(keeper->env, &keeper->again, keeper->delay_ns, on_again, keeper);
}

static void on_exit_of_kept(uint64_t process, const struct env_exit *exit, void *data)
{
    struct keeper *keeper = data;

    assert_int_equal(process, keeper->process);
    assert_true(exit->signal == SIGSEGV || exit->signal == SIGKILL);
    keeper->process = 0;
    keeper->exits++;
    back_off(keeper);
}

static void keeper_start(struct keeper *keeper)
{
    static const char *const arguments[] = { "worker", "--quiet", NULL };
    struct env_spawn spawn = { .program = "worker", .arguments = arguments };
    struct err err;

    keeper->started_ns = env_now_ns(keeper->env);
    if (env_process_start(keeper->env, &spawn, on_exit_of_kept, keeper, &keeper->process, &err) <
            0 ||
        env_file_replace(keeper->env, "/state/starts",
                         (struct slice){ (const char *)&keeper->starts, sizeof keeper->starts },
                         &err) < 0) {
        keeper->failures++;
        if (!keeper->process)
            back_off(keeper);
        return;
    }
    keeper->starts++;
}

static void at_most_one(struct world *world, void *)
{
    assert_true(world_running(world, "worker") <= 1);
}

static uint64_t run_day(uint64_t seed, struct keeper *keeper)
{
    static const struct world_program worker = {
        .name = "worker",
        .lives_ns_min = 1 * ENV_MS,
        .lives_ns_max = 600 * ENV_S,
        .exit_signal = SIGSEGV,
    };
    struct world *world = world_new(seed);

    *keeper = (struct keeper){ .env = world_env(world) };
    world_program(world, &worker);
    world_folder_make(world, "/state");
    world_fail_often(world, WORLD_PROCESS_START, 100'000);
    world_fail_often(world, WORLD_FILE_REPLACE, 50'000);
    world_on_step(world, at_most_one, NULL);
    keeper_start(keeper);
    world_run(world, DAY);
    assert_true(env_now_ns(keeper->env) == DAY);
    /* A file is written after each start: each that started has ended, or runs. */
    assert_int_equal(world_calls(world, WORLD_FILE_REPLACE),
                     keeper->exits + world_running(world, NULL));
    uint64_t trace = world_trace(world);
    world_free(world);
    return trace;
}

static void test_day(void **state)
{
    struct keeper one, same, other;

    (void)state;
    uint64_t trace = run_day(42, &one);
    assert_true(run_day(42, &same) == trace);
    assert_memory_equal(&one.starts, &same.starts, 3 * sizeof one.starts);
    assert_true(run_day(43, &other) != trace);
    print_message("  %u starts, %u exits, %u failures\n", one.starts, one.exits, one.failures);
    assert_in_range(one.starts, 200, 400);
    assert_true(one.failures > 0);
}

static void test_disk(void **state)
{
    struct world *world = world_new(1);
    struct env *env = world_env(world);
    struct arena *arena = arena_new();
    struct slice bytes = {}, *names;
    struct err err;
    size_t count;

    (void)state;
    world_folder_make(world, "/home");
    world_folder_make(world, "/home/pop/");
    assert_int_equal(env_file_replace(env, "/none/x", SLICE("a"), &err), ERR_NOT_FOUND);
    for (unsigned n = 1; n <= 3; n++) { /* the n-th fails, the others do not */
        world_fail(world, WORLD_FILE_REPLACE, n);
        for (unsigned i = 1; i <= 3; i++)
            assert_int_equal(env_file_replace(env, "/home/b", SLICE("two"), &err),
                             i == n ? ERR_INTERNAL : 0);
    }
    assert_int_equal(env_file_replace(env, "/home/a", SLICE("one"), &err), 0);
    assert_int_equal(env_file_replace(env, "/home/pop/c", SLICE(""), &err), 0);
    assert_int_equal(env_file_read(env, "/home/b", 3, arena, &bytes, &err), 0);
    assert_true(slice_is(bytes, "two"));
    assert_int_equal(env_file_read(env, "/home/b", 2, arena, &bytes, &err), ERR_TOO_LARGE);
    assert_int_equal(env_file_read(env, "/home", 2, arena, &bytes, &err), ERR_NOT_FOUND);
    assert_int_equal(env_file_list(env, "/home/", arena, &names, &count, &err), 0);
    assert_int_equal(count, 2);
    assert_true(slice_is(names[0], "a") && slice_is(names[1], "b"));
    assert_int_equal(env_file_list(env, "/none", arena, &names, &count, &err), ERR_NOT_FOUND);
    assert_int_equal(env_file_remove(env, "/home/a", &err), 0);
    assert_int_equal(env_file_remove(env, "/home/a", &err), ERR_NOT_FOUND);
    assert_int_equal(world_files(world), 2);
    arena_free(arena);
    world_free(world);
}

/* --- channels -------------------------------------------------------------------------------- */

struct end {
    struct world *world;
    struct env_channel *channel;
    uint32_t next; /* the number wanted */
    int closed;    /* how often */
    int closed_code;
    bool echoes;
};

static void on_message(struct env_channel *channel, struct slice message, void *data)
{
    struct end *end = data;
    uint32_t number;

    assert_int_equal(end->closed, 0);
    assert_int_equal(message.size, sizeof number);
    memcpy(&number, message.data, sizeof number);
    assert_int_equal(number, end->next++);
    if (end->echoes)
        assert_int_equal(env_channel_send(world_env(end->world), channel, message, NULL), 0);
}

static void on_closed(struct env_channel *, const struct err *err, void *data)
{
    struct end *end = data;

    end->closed++;
    end->closed_code = err->code;
}

static const struct env_channel_events events = { on_message, on_closed };

static void on_accept(struct world *, struct env_channel *channel, void *data)
{
    struct end *end = data;

    end->channel = channel;
    world_channel_events(channel, &events, end);
}

static void send_all(struct end *end, uint32_t count)
{
    struct err err;

    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(env_channel_send(world_env(end->world), end->channel,
                                          (struct slice){ (const char *)&i, sizeof i }, &err),
                         0);
}

static void test_channels(void **state)
{
    enum { MESSAGES = 1000 };
    struct world *world = world_new(7);
    struct env *env = world_env(world);
    struct end near_end = { .world = world }, far_end = { .world = world, .echoes = true };
    struct err err;

    (void)state;
    assert_int_equal(env_channel_open(env, "control", &events, &near_end, &near_end.channel, &err),
                     ERR_NOT_FOUND);
    world_listen(world, "control", on_accept, &far_end);
    world_latency(world, 1 * ENV_MS, 50 * ENV_MS);
    assert_int_equal(env_channel_open(env, "control", &events, &near_end, &near_end.channel, &err),
                     0);
    send_all(&near_end, MESSAGES);
    world_run(world, ENV_S);
    assert_int_equal(near_end.next, MESSAGES); /* there and back, in order */

    /* What was sent before the close still comes; then each end hears of it once. */
    far_end.echoes = false;
    far_end.next = near_end.next = 0;
    send_all(&near_end, 10);
    env_channel_close(env, near_end.channel);
    env_channel_close(env, near_end.channel);
    assert_int_equal(near_end.closed, 0); /* never from inside the call */
    world_run(world, ENV_S);
    assert_int_equal(far_end.next, 10);
    assert_int_equal(near_end.closed + far_end.closed, 2);
    assert_int_equal(near_end.closed_code, ERR_CANCELED);
    assert_int_equal(far_end.closed_code, ERR_CANCELED);

    /* A cut loses what is under way. */
    struct end again = { .world = world }, far_again = { .world = world };
    world_listen(world, "control", on_accept, &far_again);
    assert_int_equal(env_channel_open(env, "control", &events, &again, &again.channel, &err), 0);
    world_run(world, ENV_S);
    send_all(&again, 5);
    world_cut(world, "control");
    world_run(world, ENV_S);
    assert_int_equal(far_again.next, 0);
    assert_int_equal(again.closed + far_again.closed, 2);
    assert_int_equal(again.closed_code, ERR_INTERNAL);

    /* A peer that does not read is no reason to wait. */
    struct end full = { .world = world };
    uint32_t number = 0;
    assert_int_equal(env_channel_open(env, "control", &events, &full, &full.channel, &err), 0);
    struct slice message = { (const char *)&number, sizeof number };
    int r = 0;
    while (r == 0 && number < 1'000'000) {
        r = env_channel_send(env, full.channel, message, &err);
        number++;
    }
    assert_int_equal(r, ERR_OVERLOADED);
    world_free(world);
}

/* --- processes ------------------------------------------------------------------------------- */

static struct env_exit last_exit;
static int exits;

static void on_exit_note(uint64_t, const struct env_exit *exit, void *)
{
    last_exit = *exit;
    exits++;
}

static void on_started(struct world *, uint64_t, const char *const *arguments, void *data)
{
    assert_string_equal(arguments[1], "b");
    ++*(int *)data;
}

static void test_processes(void **state)
{
    struct world *world = world_new(3);
    struct env *env = world_env(world);
    int started = 0;
    struct world_program sleeper = {
        .name = "sleeper", .stop_ns = 5 * ENV_S, .on_started = on_started, .data = &started
    };
    struct env_spawn spawn = { .program = "sleeper",
                               .arguments = (const char *[]){ "a", "b", NULL } };
    uint64_t first, second;
    struct err err;

    (void)state;
    assert_int_equal(env_process_start(env, &spawn, on_exit_note, NULL, &first, &err),
                     ERR_NOT_FOUND);
    world_program(world, &sleeper);
    assert_int_equal(env_process_start(env, &spawn, on_exit_note, NULL, &first, &err), 0);
    assert_int_equal(env_process_start(env, &spawn, on_exit_note, NULL, &second, &err), 0);
    assert_true(first != second && world_process(world, "sleeper") == first);
    world_run(world, DAY);
    assert_int_equal(started, 2);
    assert_int_equal(world_running(world, NULL), 2);
    env_process_kill(env, first, SIGTERM);
    world_run(world, ENV_S);
    assert_int_equal(exits, 0);
    env_process_kill(env, first, SIGKILL); /* sooner than SIGTERM would have it */
    env_process_kill(env, first, SIGTERM);
    assert_int_equal(exits, 0);
    world_run(world, 1);
    assert_int_equal(exits, 1);
    assert_int_equal(last_exit.signal, SIGKILL);
    env_process_kill(env, first, SIGKILL); /* reaped: ignored */
    world_process_exit(world, second, 3, 0);
    world_run(world, 10 * ENV_S);
    assert_int_equal(exits, 2);
    assert_int_equal(last_exit.code, 3);
    assert_int_equal(world_running(world, NULL), 0);
    world_free(world);
}

static void test_clock(void **state)
{
    struct world *world = world_new(3), *same = world_new(3);
    struct env *env = world_env(world);
    char a[13], b[13];

    (void)state;
    assert_true(env_wall_ns(env) == INT64_C(1795392000) * ENV_S);
    world_wall_jump(world, -ENV_S);
    world_run(world, 5 * ENV_S);
    assert_true(env_now_ns(env) == 5 * ENV_S);
    assert_true(env_wall_ns(env) == INT64_C(1795392004) * ENV_S);
    assert_false(world_step(world));
    env_random(env, a, sizeof a);
    env_random(world_env(same), b, sizeof b);
    assert_memory_equal(a, b, sizeof a);
    assert_true(env_random_u64(env) != env_random_u64(env));
    world_free(world);
    world_free(same);
    world_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_day),      cmocka_unit_test(test_disk),
        cmocka_unit_test(test_channels), cmocka_unit_test(test_processes),
        cmocka_unit_test(test_clock),
    };
    return cmocka_run_group_tests_name("world", tests, NULL, NULL);
}
