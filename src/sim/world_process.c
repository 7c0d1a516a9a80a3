/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <signal.h>
#include <stdlib.h>

#include "base/auto.h"
#include "base/err.h"
#include "sim/world_part.h"

struct program {
    struct list link;
    struct world_program what;
};

struct process {
    struct list link;
    struct world *world;
    struct world_program what; /* as it was when the process began */
    uint64_t id;
    int64_t started_ns;
    char **arguments;
    struct env_timer begin;
    struct env_timer end;
    struct env_exit exit; /* how it ends, when `end` is due */
    env_exit_cb on_exit;
    void *data;
};

static struct program *program_find(struct world *world, const char *name)
{
    struct program *program;

    LIST_EACH (program, &world->programs, struct program, link)
        if (strcmp(program->what.name, name) == 0)
            return program;
    return NULL;
}

static struct process *process_find(struct world *world, uint64_t id)
{
    struct process *process;

    LIST_EACH (process, &world->processes, struct process, link)
        if (process->id == id)
            return process;
    return NULL;
}

static char **arguments_copy(const char *const *arguments)
{
    size_t count = 0;

    while (arguments && arguments[count])
        count++;
    char **copy = mem_zalloc((count + 1) * sizeof *copy);
    for (size_t i = 0; i < count; i++)
        copy[i] = mem_string(slice_of(arguments[i]));
    return copy;
}

static void process_free(struct process *process)
{
    env_timers_stop(&process->world->timers, &process->begin);
    env_timers_stop(&process->world->timers, &process->end);
    list_remove(&process->link);
    for (char **at = process->arguments; *at; at++)
        free(*at);
    free(process->arguments);
    free(process);
}

static void on_end(struct env_timer *, void *data)
{
    struct process *process = data;
    struct world *world = process->world;
    struct env_exit how = process->exit;
    env_exit_cb on_exit = process->on_exit;
    void *on_exit_data = process->data;
    uint64_t id = process->id;

    how.memory_max = process->what.memory_max;
    how.cpu_ns = (uint64_t)(world->now_ns - process->started_ns) / 10;
    world_note(world, "process ended", id);
    process_free(process); /* reaped: nobody sees it running any more */
    on_exit(id, &how, on_exit_data);
}

static void on_begin(struct env_timer *, void *data)
{
    struct process *process = data;

    process->what.on_started(process->world, process->id, (const char *const *)process->arguments,
                             process->what.data);
}

static int on_start(struct env *env, const struct env_spawn *spawn, env_exit_cb on_exit, void *data,
                    uint64_t *ret_process, struct err *err)
{
    struct world *world = world_of(env);
    struct program *program = program_find(world, spawn->program);
    int r = world_may_fail(world, WORLD_PROCESS_START, "process start", err);

    if (r < 0)
        return r;
    if (!program)
        return err_set(err, ERR_NOT_FOUND, "there is no program '%s'", ERR_TEXT(spawn->program));
    struct process *process = mem_zalloc(sizeof *process);
    process->world = world;
    process->what = program->what;
    process->id = ++world->process_last;
    process->started_ns = world->now_ns;
    process->arguments = arguments_copy(spawn->arguments);
    process->on_exit = on_exit;
    process->data = data;
    process->exit.code = process->what.exit_code;
    process->exit.signal = process->what.exit_signal;
    list_append(&world->processes, &process->link);
    if (process->what.on_started)
        env_timer_start(env, &process->begin, 0, on_begin, process);
    if (process->what.lives_ns_max)
        env_timer_start(env, &process->end,
                        world_draw(world, process->what.lives_ns_min, process->what.lives_ns_max),
                        on_end, process);
    *ret_process = process->id;
    return 0;
}

/* It ends by `exit` after `delay_ns`, unless its end comes sooner anyway. */
static void end_by(struct process *process, struct env_exit exit, int64_t delay_ns)
{
    struct world *world = process->world;

    if (env_timer_armed(&process->end) && process->end.due_ns <= world->now_ns + delay_ns)
        return;
    process->exit = exit;
    env_timer_start(&world->env, &process->end, delay_ns, on_end, process);
}

static void on_kill(struct env *env, uint64_t id, int signal)
{
    struct process *process = process_find(world_of(env), id);

    if (!process)
        return;
    world_note(process->world, "kill", id);
    end_by(process, (struct env_exit){ .signal = signal },
           signal == SIGKILL ? 0 : process->what.stop_ns);
}

void world_process_exit(struct world *world, uint64_t id, int code, int signal)
{
    struct process *process = process_find(world, id);

    assert(process);
    end_by(process, (struct env_exit){ .code = code, .signal = signal }, 0);
}

void world_program(struct world *world, const struct world_program *what)
{
    struct program *program = program_find(world, what->name);

    assert(what->lives_ns_max == 0 || what->lives_ns_min <= what->lives_ns_max);
    if (!program) {
        program = mem_zalloc(sizeof *program);
        list_append(&world->programs, &program->link);
    }
    program->what = *what;
}

size_t world_running(const struct world *world, const char *program)
{
    const struct process *process;
    size_t count = 0;

    LIST_EACH (process, &world->processes, struct process, link)
        count += !program || strcmp(process->what.name, program) == 0;
    return count;
}

uint64_t world_process(const struct world *world, const char *program)
{
    const struct process *process;

    LIST_EACH (process, &world->processes, struct process, link)
        if (strcmp(process->what.name, program) == 0)
            return process->id;
    return 0;
}

void world_processes_init(struct world *world)
{
    world->env.process_start = on_start;
    world->env.process_kill = on_kill;
    list_init(&world->programs);
    list_init(&world->processes);
}

void world_processes_deinit(struct world *world)
{
    struct process *process;
    struct program *program;

    LIST_EACH (process, &world->processes, struct process, link)
        process_free(process);
    LIST_EACH (program, &world->programs, struct program, link)
        free(program);
}
