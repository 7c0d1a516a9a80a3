/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/engine/life.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "io/loop.h"
#include "io/socket.h"
#include "io/timer.h"
#include "replica/engine/groups.h"
#include "replica/engine/hidden.h"
#include "replica/engine/stream.h"
#include "replica/engine/walls.h"
#include "sys/cgroup.h"
#include "sys/fd.h"
#include "sys/spawn.h"

enum {
    ASK_MS = 30'000, /* an engine that is busy takes seconds to create and start one */
    STOP_MORE_MS = 15'000,
    KILL_MORE_MS = 500,        /* after its grace: the engine does it, or we */
    AGAIN_BYTES_MAX = 1 << 20, /* of its log: the engine forgets what is older */
    LOG_AGAIN_MS = 1'000,
    REMOVE_TRIES = 3,
    REMOVE_AGAIN_MS = 300, /* twice as long each time */
    LOOKS_MAX = 5,         /* at its process, where what is seen of it does not fit */
};

SM_DEFINE(engine_life_state, ENGINE_LIFE_STATES)

struct engine_life {
    struct engine *engine;
    struct loop *loop;
    struct arena *arena;
    struct engine_container want;
    struct engine_life_events events;
    void *data;
    enum engine_life_state state;
    char id[ENGINE_ID_BYTES + 1], address[48];
    struct engine_call *call, *log_call, *stop_call, *heard_call; /* under way */
    struct loop_task resumed;
    struct engine_frames frames;
    struct watch *watch;     /* of pidfd */
    struct timer *log_timer; /* until its log is followed again */
    struct timer *kill_timer, *remove_timer;
    int64_t grace_ms;   /* of the stop that was asked for */
    int64_t looking_ns; /* at its walls, since then */
    uint64_t walls_ns;  /* that took so long by now */
    int pidfd;
    int64_t pid;
    unsigned looks, removals;
    bool dead, log_broken, removing;
    bool adopted;         /* its walls are to be asked for yet */
    bool unheard;         /* ... once the engine is here */
    uint64_t told, known; /* bytes of its log; of those that come again */
    struct engine_end end;
    struct engine_end_seen seen;
};

enum engine_life_state engine_life_state(const struct engine_life *life)
{
    return life->state;
}

const char *engine_life_id(const struct engine_life *life)
{
    return life->id;
}

uint64_t engine_life_walls_ns(const struct engine_life *life)
{
    return life->walls_ns;
}

const char *engine_life_address(const struct engine_life *life)
{
    return life->address;
}

static struct engine_call *ask(struct engine_life *life, enum engine_method method,
                               const char *format, struct slice json, int64_t timeout_ms,
                               engine_cb on_done)
{
    char target[256];
    (void)snprintf(target, sizeof target, "/containers/%s%s", life->id, format);
    return engine_ask(life->engine, method, target, json, timeout_ms, on_done, life);
}

/* ---- what it writes -------------------------------------------------------------------------- */

static void on_log_text(struct slice text, bool is_error, void *data)
{
    struct engine_life *life = data;
    size_t known = text.size < life->known ? text.size : (size_t)life->known;
    life->known -= known;
    text = (struct slice){ text.data + known, text.size - known };
    life->told += text.size;
    if (text.size)
        life->events.on_log(life, text, is_error, life->data);
}

static void on_log_bytes(struct slice bytes, void *data)
{
    struct engine_life *life = data;
    if (!life->log_broken && engine_frames_feed(&life->frames, bytes, NULL) < 0)
        life->log_broken = true;
}

/* `known` bytes of what comes were told before. */
static struct engine_call *log_ask(struct engine_life *life, const char *more, uint64_t known,
                                   int64_t timeout_ms, engine_cb on_done)
{
    char target[256];
    (void)snprintf(target, sizeof target, "/containers/%s/logs?stdout=1&stderr=1%s", life->id,
                   more);
    life->log_broken = false;
    life->frames = (struct engine_frames){ on_log_text, life };
    life->known = known;
    return engine_follow(life->engine, ENGINE_GET, target, (struct slice){}, timeout_ms,
                         on_log_bytes, on_done, life);
}

/* An engine that is begun anew gives all streams up. */
static void on_log_done(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct engine_life *life = data;
    (void)answer;
    (void)err;
    life->log_call = NULL;
    if (life->state == ENGINE_LOOKING || life->state == ENGINE_RUNNING)
        timer_start(life->log_timer, LOG_AGAIN_MS);
}

static void log_follow(void *data)
{
    struct engine_life *life = data;
    if (life->told <= AGAIN_BYTES_MAX) /* from its beginning */
        life->log_call = log_ask(life, "&follow=1", life->told, 0, on_log_done);
    else
        life->log_call = log_ask(life, "&follow=1&tail=0", 0, 0, on_log_done);
}

/* ---- its end --------------------------------------------------------------------------------- */

static void gone(struct engine_life *life)
{
    struct engine_end end = life->end;

    engine_life_state_move(&life->state, ENGINE_GONE);
    life->events.on_gone(life, &end, life->data);
    engine_life_free(life);
}

static void remove_now(void *data);

static void on_others_removed(const struct engine_answer *answer, const struct err *err, void *data)
{
    (void)answer;
    (void)err;
    remove_now(data);
}

static void on_removed(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct engine_life *life = data;
    (void)answer;

    life->call = NULL;
    bool there = err && err->code != ERR_NOT_FOUND;
    if (there && ++life->removals < REMOVE_TRIES) {
        if (err->code == ERR_CONFLICT) /* somebody else does it just now */
            life->call = ask(life, ENGINE_POST, "/wait?condition=removed", (struct slice){}, ASK_MS,
                             on_others_removed);
        else
            timer_start(life->remove_timer, REMOVE_AGAIN_MS << life->removals);
        return;
    }
    if (there) {
        struct err why = *err;
        engine_hide(life->want.hidden, why.message);
        log_warn("engine", "a container could not be removed", LOG_S("id", life->id),
                 LOG_S("why", why.message));
    }
    life->end.left = there;
    if (there && life->pidfd >= 0) /* it must not run on unseen: what is left is to be swept */
        spawn_kill(life->pidfd, SIGKILL);
    if (life->want.cgroup_parent.size)
        engine_groups_remove(engine_groups(life->engine), life->want.cgroup_parent.data);
    gone(life);
}

static void remove_now(void *data)
{
    struct engine_life *life = data;

    life->call = ask(life, ENGINE_DELETE, "?force=1&v=1", (struct slice){}, ASK_MS, on_removed);
}

static void remove_it(struct engine_life *life)
{
    engine_life_state_move(&life->state, ENGINE_REMOVING);
    watch_free(take_ptr(life->watch));
    timer_stop(life->log_timer);
    timer_stop(life->kill_timer);
    if (!life->id[0]) { /* it was never made */
        gone(life);
        return;
    }
    remove_now(life);
}

static void fail(struct engine_life *life, const char *why)
{
    (void)snprintf(life->end.text, sizeof life->end.text, "%s", why);
    engine_hide(life->want.hidden, life->end.text);
    remove_it(life);
}

/* What was written last may not have come by then, or nothing of one that ended soon (Podman): all
 * is read once more, but for what was told. */
static void on_rest(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct engine_life *life = data;
    (void)answer;
    (void)err;
    life->call = NULL;
    remove_it(life);
}

static void log_rest(struct engine_life *life)
{
    timer_stop(life->log_timer);
    if (life->log_call)
        engine_forget(take_ptr(life->log_call));
    if (life->told > AGAIN_BYTES_MAX)
        remove_it(life);
    else
        life->call = log_ask(life, "", life->told, ASK_MS, on_rest);
}

/* Of the group above its own: that one goes with it. Shared with others it would say nothing. */
static void read_groups(struct engine_life *life)
{
    char memory[CGROUP_PATH_BYTES];
    const char *parent = life->want.cgroup_parent.data;

    if (!life->want.cgroup_parent.size)
        return;
    bool v1 = cgroup_folder("memory", parent, memory);
    if (!v1 && !cgroup_folder("", parent, memory))
        return;
    uint64_t most = cgroup_number(memory, v1 ? "memory.max_usage_in_bytes" : "memory.peak");
    life->seen.kills = cgroup_kills(memory);
    life->seen.memory_bytes_max = most == UINT64_MAX ? 0 : most;
    life->end.cpu_us = engine_group_cpu_us(parent);
}

/* How it ended, in the engine's words and in those of its group. */
static void on_end_seen(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct engine_life *life = data;
    struct arena *arena = arena_new_secret();
    struct engine_seen seen = { .exit_code = -1 };

    life->call = NULL;
    if (answer && !err)
        (void)engine_seen_parse(arena, answer->body, &seen, NULL);
    read_groups(life);
    life->seen.exit_code = (int)seen.exit_code;
    life->seen.engine_says = seen.out_of_memory;
    life->seen.asked = life->end.asked;
    life->seen.memory_bytes_limit = life->want.memory_bytes;
    life->end.exit_code = life->seen.exit_code;
    life->end.memory_bytes_max = life->seen.memory_bytes_max;
    life->end.out_of_memory = engine_end_was_memory(&life->seen);
    if (!life->end.text[0])
        engine_end_text(&life->seen, life->end.text, sizeof life->end.text);
    arena_free(arena);
    log_rest(life);
}

/* The engine has seen it as well, and knows how. */
static void on_waited(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct engine_life *life = data;
    (void)answer;
    (void)err;
    life->call = ask(life, ENGINE_GET, "/json", (struct slice){}, ASK_MS, on_end_seen);
}

static void died(struct engine_life *life)
{
    life->dead = true;
    loop_task_cancel(&life->resumed);
    if (life->heard_call)
        engine_forget(take_ptr(life->heard_call));
    watch_free(take_ptr(life->watch));
    if (life->state == ENGINE_LOOKING && life->call) /* it goes on from there */
        return;
    bool ran = life->state == ENGINE_RUNNING;
    timer_stop(life->kill_timer);
    engine_life_state_move(&life->state, ENGINE_ENDED);
    if (ran)
        life->events.on_dead(life, life->data);
    life->call = ask(life, ENGINE_POST, "/wait", (struct slice){}, ASK_MS, on_waited);
}

static void on_pidfd(struct watch *watch, unsigned events, void *data)
{
    (void)watch;
    (void)events;
    died(data);
}

/* ---- from its making to its running ---------------------------------------------------------- */

static void look(struct engine_life *life);

static void looks(struct engine_life *life)
{
    life->looking_ns = loop_now_ns();
}

static void looked(struct engine_life *life)
{
    if (life->looking_ns)
        life->walls_ns += (uint64_t)(loop_now_ns() - life->looking_ns);
    life->looking_ns = 0;
}

static void running(struct engine_life *life)
{
    struct err err = {};
    int r = engine_walls_look((pid_t)life->pid, &life->want, &err);

    if (r == ERR_NOT_FOUND || life->dead) {
        life->end.ran = true;
        died(life);
        return;
    }
    if (r < 0) {
        fail(life, err.message);
        return;
    }
    life->end.ran = true;
    looked(life);
    engine_life_state_move(&life->state, ENGINE_RUNNING);
    life->events.on_running(life, life->pid, life->pidfd, life->data);
}

static void watch_process(struct engine_life *life, int64_t pid, int pidfd)
{
    watch_free(take_ptr(life->watch));
    fd_close(&life->pidfd);
    life->pid = pid;
    life->pidfd = pidfd;
    if (pidfd >= 0)
        life->watch = watch_new(life->loop, pidfd, WATCH_READ, on_pidfd, life);
}

static void on_looked(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct engine_life *life = data;
    struct engine_seen seen;
    struct err why = {};

    life->call = NULL;
    if (err || life->removing) {
        fail(life, err ? err->message : "it was stopped");
        return;
    }
    struct arena *arena = arena_new_secret();
    int r = engine_seen_parse(arena, answer->body, &seen, &why);
    int64_t pid = r == 0 ? seen.pid : 0;
    bool runs = r == 0 && seen.running && pid > 0;
    if (runs)
        (void)snprintf(life->address, sizeof life->address, "%.*s", SLICE_FMT(seen.address));
    if (runs && life->adopted)
        r = engine_walls_check(&life->want, &seen, &why);
    arena_free(arena);
    if (r < 0) {
        fail(life, why.message);
    } else if (!runs) { /* it has ended already */
        life->end.ran = true;
        life->dead = false;
        died(life);
    } else if (life->pidfd >= 0 && pid == life->pid) {
        running(life);
    } else if (++life->looks > LOOKS_MAX) {
        fail(life, "its process changes its number");
    } else {
        watch_process(life, pid, (int)syscall(SYS_pidfd_open, (pid_t)pid, 0));
        if (life->pidfd < 0) { /* the engine does not know yet that it has ended */
            life->end.ran = true;
            died(life);
        } else {
            look(life); /* is it still that one? */
        }
    }
}

static void look(struct engine_life *life)
{
    life->call = ask(life, ENGINE_GET, "/json", (struct slice){}, ASK_MS, on_looked);
}

static void on_started(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct engine_life *life = data;
    (void)answer;

    life->call = NULL;
    if (err || life->removing) {
        fail(life, err ? err->message : "it was stopped");
        return;
    }
    engine_life_state_move(&life->state, ENGINE_LOOKING);
    log_follow(life);
    looks(life);
    look(life);
}

static void on_checked(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct engine_life *life = data;
    struct arena *arena = arena_new_secret();
    struct engine_seen seen;
    struct err why = {};

    life->call = NULL;
    int r = err ? err->code : engine_seen_parse(arena, answer->body, &seen, &why);
    if (r == 0)
        r = engine_walls_check(&life->want, &seen, &why);
    arena_free(arena);
    if (r < 0 || life->removing) {
        fail(life, err ? err->message : r < 0 ? why.message : "it was stopped");
        return;
    }
    looked(life);
    engine_life_state_move(&life->state, ENGINE_STARTING);
    life->call = ask(life, ENGINE_POST, "/start", (struct slice){}, ASK_MS, on_started);
}

static void on_created(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct engine_life *life = data;
    struct arena *arena = arena_new();
    yyjson_val *root = NULL;
    struct err why = {};

    life->call = NULL;
    if (!err && json_parse(arena, answer->body, NULL, &root, &why) == 0) {
        struct slice id = json_slice(json_member(root, "Id"));
        if (engine_is_id(id))
            (void)snprintf(life->id, sizeof life->id, "%.*s", SLICE_FMT(id));
        else
            (void)err_set(&why, ERR_BAD_INPUT, "the engine gives a container the id '%s'",
                          ERR_SLICE(id));
    }
    arena_free(arena);
    life->end.left = !answer; /* it may be made all the same */
    if (!life->id[0] || life->removing) {
        fail(life, err ? err->message : why.code ? why.message : "it was stopped");
        return;
    }
    looks(life);
    engine_life_state_move(&life->state, ENGINE_CHECKING);
    life->call = ask(life, ENGINE_GET, "/json", (struct slice){}, ASK_MS, on_checked);
}

/* ---- one whose process was known before the engine came -------------------------------------- */

static void on_resumed(void *data)
{
    struct engine_life *life = data;

    if (life->removing)
        fail(life, "it was stopped");
    else
        running(life);
}

/* An engine that is lost meanwhile says so when it is back. */
static void on_heard(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct engine_life *life = data;
    struct arena *arena = arena_new_secret();
    struct engine_seen seen = {};
    struct err why = {};
    int r = err ? err->code : engine_seen_parse(arena, answer->body, &seen, &why);

    life->heard_call = NULL;
    if (r == 0 && (!seen.running || seen.pid != life->pid))
        r = err_set(&why, ERR_CONFLICT, "the engine says that it is another process");
    if (r == 0)
        r = engine_walls_check(&life->want, &seen, &why);
    arena_free(arena);
    if (r == 0)
        life->unheard = false;
    else if (!err || err->code == ERR_NOT_FOUND)
        engine_life_fail(life, err ? "the engine does not know it any more" : why.message);
}

void engine_life_heard(struct engine_life *life)
{
    if (!life->unheard || life->heard_call || life->state != ENGINE_RUNNING)
        return;
    if (!life->log_call && !timer_running(life->log_timer))
        log_follow(life);
    life->heard_call = ask(life, ENGINE_GET, "/json", (struct slice){}, ASK_MS, on_heard);
}

/* ---- what the caller asks for ---------------------------------------------------------------- */

static struct engine_container copy(struct arena *arena, const struct engine_container *from)
{
    struct engine_container to = *from;
    struct slice *command = ARENA_ARRAY(arena, struct slice, from->command_count + 1);

    to.name = arena_copy(arena, from->name);
    to.image = arena_copy(arena, from->image);
    to.home = arena_copy(arena, from->home);
    to.user = arena_copy(arena, from->user);
    to.cgroup_parent = arena_copy(arena, from->cgroup_parent);
    to.network_name = arena_copy(arena, from->network_name);
    to.gpu_ids = arena_copy(arena, from->gpu_ids);
    struct engine_volume *volumes =
        ARENA_ARRAY(arena, struct engine_volume, from->volume_count + 1);
    for (size_t i = 0; i < from->volume_count; i++)
        volumes[i] = (struct engine_volume){ arena_copy(arena, from->volumes[i].name),
                                             arena_copy(arena, from->volumes[i].path),
                                             arena_copy(arena, from->volumes[i].device) };
    to.volumes = volumes;
    for (size_t i = 0; i < from->command_count; i++)
        command[i] = arena_copy(arena, from->command[i]);
    to.command = command;
    to.env = NULL; /* secrets may be in it, and it is said once */
    to.env_count = 0;
    return to;
}

/* Its stop did not end it: the engine hangs, or knows it no more. */
static void on_kill_due(void *data)
{
    engine_life_kill(data);
}

static struct engine_life *life_new(struct engine *engine, struct loop *loop,
                                    const struct engine_container *container,
                                    const struct engine_life_events *events, void *data)
{
    struct engine_life *life = mem_zalloc(sizeof *life);

    life->engine = engine;
    life->loop = loop;
    life->arena = arena_new();
    life->want = copy(life->arena, container);
    life->want.log_driver = engine_log_driver(engine);
    life->events = *events;
    life->data = data;
    life->pidfd = -1;
    loop_task_init(&life->resumed, on_resumed, life);
    life->log_timer = timer_new(loop, log_follow, life);
    life->kill_timer = timer_new(loop, on_kill_due, life);
    life->remove_timer = timer_new(loop, remove_now, life);
    life->end.exit_code = -1;
    return life;
}

struct engine_life *engine_life_begin(struct engine *engine, struct loop *loop,
                                      const struct engine_container *container,
                                      const struct engine_life_events *events, void *data)
{
    struct engine_life *life = life_new(engine, loop, container, events, data);
    char target[256];

    (void)snprintf(target, sizeof target, "/containers/create?name=%.*s",
                   SLICE_FMT(container->name));
    struct arena *secret = arena_new_secret();
    struct engine_container want = life->want;
    want.env = container->env;
    want.env_count = container->env_count;
    life->call = engine_ask(engine, ENGINE_POST, target, engine_container_json(secret, &want),
                            ASK_MS, on_created, life);
    arena_free(secret);
    return life;
}

struct engine_life *engine_life_adopt(struct engine *engine, struct loop *loop,
                                      const struct engine_container *container, struct slice id,
                                      const struct engine_life_events *events, void *data)
{
    struct engine_life *life = life_new(engine, loop, container, events, data);

    (void)snprintf(life->id, sizeof life->id, "%.*s", SLICE_FMT(id));
    life->adopted = true;
    life->told = AGAIN_BYTES_MAX + 1; /* what it wrote before is somebody else's to tell */
    life->state = ENGINE_LOOKING;
    log_follow(life);
    look(life);
    return life;
}

struct engine_life *engine_life_resume(struct engine *engine, struct loop *loop,
                                       const struct engine_container *container, struct slice id,
                                       int64_t pid, int pidfd, struct slice address,
                                       const struct engine_life_events *events, void *data)
{
    struct engine_life *life = life_new(engine, loop, container, events, data);

    (void)snprintf(life->id, sizeof life->id, "%.*s", SLICE_FMT(id));
    (void)snprintf(life->address, sizeof life->address, "%.*s", SLICE_FMT(address));
    life->unheard = life->end.ran = true;
    life->told = AGAIN_BYTES_MAX + 1;
    life->state = ENGINE_LOOKING;
    watch_process(life, pid, pidfd);
    loop_defer(loop, &life->resumed);
    return life;
}

static void on_stopped(const struct engine_answer *answer, const struct err *err, void *data)
{
    struct engine_life *life = data;
    (void)answer;

    life->stop_call = NULL;
    /* One that the engine knows no more may run on all the same; who it stopped is dead in a
     * moment, or kill_timer sees to it. Its end comes by the pidfd. */
    if (!err || life->state != ENGINE_RUNNING)
        return;
    /* Where neither can end it, removal is the last means. */
    if (!spawn_kill(life->pidfd, SIGKILL))
        fail(life, err->message);
}

void engine_life_kill(struct engine_life *life)
{
    if (life->pidfd >= 0 && !life->dead)
        spawn_kill(life->pidfd, SIGKILL);
}

void engine_life_stop(struct engine_life *life, int64_t grace_ms)
{
    char how[64];

    if (life->end.asked && grace_ms >= life->grace_ms)
        return;
    life->end.asked = true;
    life->grace_ms = grace_ms;
    if (life->state < ENGINE_RUNNING) {
        life->removing = true;
        return;
    }
    if (life->state != ENGINE_RUNNING)
        return;
    if (life->stop_call)
        engine_forget(life->stop_call);
    (void)snprintf(how, sizeof how, "/stop?t=%" PRId64, (grace_ms + 999) / 1000);
    life->stop_call =
        ask(life, ENGINE_POST, how, (struct slice){}, grace_ms + STOP_MORE_MS, on_stopped);
    timer_start(life->kill_timer, (grace_ms + 999) / 1000 * 1000 + KILL_MORE_MS);
}

void engine_life_fail(struct engine_life *life, const char *why)
{
    if (life->state == ENGINE_RUNNING)
        (void)snprintf(life->end.text, sizeof life->end.text, "%s", why);
    engine_life_stop(life, 0);
}

void engine_life_free(struct engine_life *life)
{
    struct engine_call *calls[] = { life->call, life->log_call, life->stop_call, life->heard_call };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (calls[i])
            engine_forget(calls[i]);
    loop_task_cancel(&life->resumed);
    watch_free(life->watch);
    timer_free(life->log_timer);
    timer_free(life->kill_timer);
    timer_free(life->remove_timer);
    fd_close(&life->pidfd);
    arena_free(life->arena);
    free(life);
}
