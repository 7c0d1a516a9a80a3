/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/engine/exec.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "io/timer.h"
#include "replica/engine/container.h"
#include "replica/engine/engine.h"

struct engine_exec {
    struct engine *engine;
    struct engine_call *call; /* under way */
    struct timer *timer;
    engine_exec_cb on_done;
    void *data;
    char id[ENGINE_ID_BYTES + 1];
};

void engine_exec_free(struct engine_exec *exec)
{
    if (exec->call)
        engine_forget(exec->call);
    timer_free(exec->timer);
    free(exec);
}

static void over(struct engine_exec *exec, int exit_code, const struct err *err)
{
    engine_exec_cb done = exec->on_done;
    void *data = exec->data;
    struct err kept = err ? *err : (struct err){};

    engine_exec_free(exec);
    done(exit_code, err ? &kept : NULL, data);
}

static void on_late(void *data)
{
    struct err err;
    (void)err_set(&err, ERR_DEADLINE, "the command did not end in time");
    over(data, -1, &err);
}

static void on_seen(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct engine_exec *exec = data;
    struct arena *arena = arena_new();
    yyjson_val *root;
    struct err why = {};
    int64_t exit_code = -1;

    exec->call = NULL;
    if (!err && (json_parse(arena, answer->body, NULL, &root, &why) < 0 ||
                 json_get_i64(root, "ExitCode", JSON_REQUIRED, &exit_code, &why) < 0))
        err = &why;
    arena_free(arena);
    over(exec, (int)exit_code, err);
}

/* What it writes comes until it ends. */
static void on_ended(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct engine_exec *exec = data;
    char target[128];
    (void)answer;

    exec->call = NULL;
    if (err) {
        over(exec, -1, err);
        return;
    }
    (void)snprintf(target, sizeof target, "/exec/%s/json", exec->id);
    exec->call = engine_ask(exec->engine, ENGINE_GET, target, (struct slice){}, 0, on_seen, exec);
}

static void on_bytes(struct slice bytes, void *data)
{
    (void)bytes;
    (void)data;
}

static void on_made(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct engine_exec *exec = data;
    struct arena *arena = arena_new();
    yyjson_val *root;
    struct err why = {};
    char target[128];

    exec->call = NULL;
    if (!err && json_parse(arena, answer->body, NULL, &root, &why) < 0)
        err = &why;
    struct slice id = err ? (struct slice){} : json_slice(json_member(root, "Id"));
    if (!err && !engine_is_id(id)) {
        (void)err_set(&why, ERR_BAD_INPUT, "the engine gives a command the id '%s'", ERR_SLICE(id));
        err = &why;
    }
    if (!err)
        (void)snprintf(exec->id, sizeof exec->id, "%.*s", SLICE_FMT(id));
    arena_free(arena);
    if (err) {
        over(exec, -1, err);
        return;
    }
    (void)snprintf(target, sizeof target, "/exec/%s/start", exec->id);
    exec->call =
        engine_follow(exec->engine, ENGINE_POST, target, SLICE("{\"Detach\":false,\"Tty\":false}"),
                      0, on_bytes, on_ended, exec);
}

struct engine_exec *engine_exec(struct engine *engine, struct loop *loop, struct slice container,
                                const struct slice *command, size_t count, int64_t timeout_ms,
                                engine_exec_cb on_done, void *data)
{
    struct engine_exec *exec = mem_zalloc(sizeof *exec);
    struct arena *arena = arena_new();
    struct json_writer w;
    char target[128];

    exec->engine = engine;
    exec->on_done = on_done;
    exec->data = data;
    exec->timer = timer_new(loop, on_late, exec);
    timer_start(exec->timer, timeout_ms);
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_bool(&w, "AttachStdout", true); /* its end is that of the stream */
    json_member_bool(&w, "AttachStderr", true);
    json_key(&w, "Cmd");
    json_array_begin(&w);
    for (size_t i = 0; i < count; i++)
        json_string(&w, command[i]);
    json_array_end(&w);
    json_object_end(&w);
    (void)snprintf(target, sizeof target, "/containers/%.*s/exec", SLICE_FMT(container));
    exec->call = engine_ask(engine, ENGINE_POST, target, json_end(&w), 0, on_made, exec);
    arena_free(arena);
    return exec;
}
