/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor_day.h"

#include <assert.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h> /* after the four above */

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "supervisor/handover.h"
#include "sys/fd.h"
#include "sys/sandbox.h"
#include "sys/shm.h"

static uint64_t dice(struct day *day)
{
    day->seed ^= day->seed << 13;
    day->seed ^= day->seed >> 7;
    day->seed ^= day->seed << 17;
    return day->seed;
}

static void on_event(struct env_timer *, void *data);

void day_soon(struct day *day, int64_t delay_ns, struct event event)
{
    for (size_t i = 0; i < EVENTS; i++) {
        if (day->events[i].what != NOTHING)
            continue;
        day->events[i] = event;
        env_timers_start(&day->timers, &day->events[i].timer, day->now_ns + delay_ns, on_event,
                         day);
        return;
    }
    fail_msg("more is under way than was thought of");
}

/* ---- the world ------------------------------------------------------------------------------- */

static struct day *day_of(struct env *env)
{
    return (struct day *)env;
}

static int64_t fake_now(struct env *env)
{
    return day_of(env)->now_ns;
}

static void fake_timer_start(struct env *env, struct env_timer *timer, int64_t delay_ns,
                             env_timer_cb on_due, void *data)
{
    env_timers_start(&day_of(env)->timers, timer, day_of(env)->now_ns + delay_ns, on_due, data);
}

static void fake_timer_stop(struct env *env, struct env_timer *timer)
{
    env_timers_stop(&day_of(env)->timers, timer);
}

/* Of two templates each has its own. */
static unsigned row_of(const struct core_process *process)
{
    return process->role == ROLE_TEMPLATE && process->project[0] ? ROLE_NETNS + 1 : process->role;
}

static int op_start(struct core_process *process, void *data, struct err *err)
{
    struct day *day = data;
    if (!day->calm && dice(day) % 40 == 0)
        return err_set(err, ERR_INTERNAL, "no process to be had");
    unsigned at_once = process->role == ROLE_NETNS; /* the first time */
    bool renewed = day->renewed[row_of(process)];   /* and had not died */
    day->renewed[row_of(process)] = false;
    if (day->starts[process->role]++ && process->failures > at_once && !renewed &&
        !core_upgrading(day->core))
        assert_true(day->now_ns - day->died_ns[row_of(process)] >= ENV_S);
    uint64_t life = ++day->lives;
    process->shell = (void *)(uintptr_t)life;
    process->pid = (pid_t)life;
    day->booted[process->role] = false;
    day->queued[process->role] = 0;
    day->inside[process->role] = 0;
    day->inside_of[process->role] = 0;
    if (process->role == ROLE_GATEWAY)
        memset(day->gateway_has[process->instance & 1], 0, sizeof *day->gateway_has);
    bool hangs = day->gateways_hang && process->role == ROLE_GATEWAY;
    day_soon(day, hangs ? 3600 * ENV_S : (int64_t)(dice(day) % 50) * ENV_MS,
             (struct event){ .what = PROCESS_READY_, .life = life, .process = process });
    if (day->calm)
        return 0;
    /* A third dies early, before or after it is ready. */
    int64_t lives_ns = dice(day) % 3 ? (int64_t)(dice(day) % (120 * day->longer)) * ENV_S
                                     : (int64_t)(dice(day) % 100) * ENV_MS;
    day_soon(day, lives_ns,
             (struct event){ .what = PROCESS_DIES, .life = life, .process = process });
    return 0;
}

static void op_kill(struct core_process *process, void *data)
{
    struct day *day = data;
    if (process->role == ROLE_TEMPLATE && (process->replacing || process->unwanted))
        day->renewed[row_of(process)] = true;
    day_soon(data, ENV_MS,
             (struct event){
                 .what = PROCESS_DIES, .life = (uintptr_t)process->shell, .process = process });
}

static ino_t inode(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return st.st_ino;
}

static void gateway_hears(struct day *day, const struct core_process *gateway,
                          const union message *message, const int *fds)
{
    const struct core_process *twin = &day->core->gateways[gateway == day->core->gateways];
    /* Each lane set has its own pipes, and an instance gets those of its set. */
    unsigned set = gateway->instance & 1;
    if (process_alive(twin))
        assert_true((twin->instance & 1) != set);
    if (message->head.type == MESSAGE_REPLICA_EXITED) {
        assert_true(day->gateway_has[set][message->as_MESSAGE_REPLICA_EXITED.replica]);
        day->gateway_has[set][message->as_MESSAGE_REPLICA_EXITED.replica] = false;
    }
    if (message->head.type == MESSAGE_REPLICA_WALLS) {
        assert_true(day->gateway_has[set][message->as_MESSAGE_REPLICA_WALLS.replica]);
        day->gateway_walls++;
    }
    if (message->head.type != MESSAGE_REPLICA_ADDED)
        return;
    uint64_t id = message->as_MESSAGE_REPLICA_ADDED.replica;
    assert_false(day->gateway_has[set][id]);
    day->gateway_has[set][id] = true;
    char other = 0;
    off_t half = (off_t)(message->as_MESSAGE_REPLICA_ADDED.arena_bytes / 2);
    /* What the gateway before had written into its half of the arena went with it. */
    assert_int_equal(pread(fds[2], &other, 1, set ? 0 : half), 1);
    assert_true(other == 0 || process_alive(twin));
    assert_int_equal(pwrite(fds[2], "x", 1, set ? half : 0), 1);
    ino_t pipe = inode(fds[3]);
    if (day->pipes[id][set])
        assert_int_equal(day->pipes[id][set], pipe);
    assert_true(day->pipes[id][!set] != pipe);
    day->pipes[id][set] = pipe;
}

static void agent_hears(struct day *day, const union message *message)
{
    if (message->head.type == MESSAGE_REPLICA_ADDED)
        day->agent_has[message->as_MESSAGE_REPLICA_ADDED.replica] = true;
    if (message->head.type == MESSAGE_REPLICA_WALLS)
        day->agent_walls++;
    if (message->head.type == MESSAGE_DEMAND)
        day->demands++;
    if (message->head.type != MESSAGE_REPLICA_EXITED)
        return;
    uint64_t id = message->as_MESSAGE_REPLICA_EXITED.replica;
    assert_int_equal(day->asked[id], 1); /* once, and of none that it never wanted */
    day->asked[id] = 2;
    day->wanted--;
}

static void op_send(struct core_process *process, const void *bytes, size_t size, const int *fds,
                    size_t fd_count, void *data)
{
    struct day *day = data;
    struct err err = {};
    if (process->role == ROLE_TEMPLATE) {
        const struct perigee_clone *clone = bytes;
        assert_int_equal(clone->message, PERIGEE_CLONE);
        bool grouped = process->contract > 1; /* else it is not spoken of */
        assert_int_equal(clone->version, process->contract);
        assert_int_equal(size, grouped ? sizeof *clone : PERIGEE_CLONE_BYTES_1);
        assert_int_equal(fd_count, PERIGEE_FD_PIPES + clone->lanes + grouped);
        assert_int_equal(day->grouped[clone->replica], grouped);
        void *memory;
        int submission = fds[PERIGEE_FD_SUBMISSION];
        assert_int_equal(shm_map(submission, clone->submission_bytes, true, &memory, &err),
                         ERR_FORBIDDEN);
        day_soon(day, (int64_t)(dice(day) % 10) * ENV_MS,
                 (struct event){ .what = CLONE_DONE,
                                 .life = (uintptr_t)process->shell,
                                 .process = process,
                                 .id = clone->replica });
        return;
    }
    if (day->queue_max && day->queued[process->role]++ == 0)
        day_soon(day, ENV_MS,
                 (struct event){ .what = PROCESS_READS,
                                 .life = (uintptr_t)process->shell,
                                 .process = process });
    if (day->queued[process->role] > day->queued_most)
        day->queued_most = day->queued[process->role];
    const union message *message = bytes;
    if (message_check(message, size, fd_count, &err) < 0)
        fail_msg("%s", err.message);
    /* START comes first. */
    assert_true(day->booted[process->role] || message->head.type == MESSAGE_START);
    day->booted[process->role] = true;
    if (message->head.type == MESSAGE_DRAIN &&
        (process->role != ROLE_GATEWAY || !day->gateways_hang))
        day_soon(day, 10 * ENV_MS,
                 (struct event){
                     .what = PROCESS_DIES, .life = (uintptr_t)process->shell, .process = process });
    if (message->head.type == MESSAGE_TABLE_NEW) {
        assert_int_equal(fd_count, 1);
        day->tables[process->role]++;
        day->table[process->role] = message->as_MESSAGE_TABLE_NEW.number;
    }
    if (message->head.type == MESSAGE_MESH_NEW) {
        assert_int_equal(fd_count, 1);
        day->meshes[process->role]++;
        day->mesh[process->role] = message->as_MESSAGE_MESH_NEW.number;
    }
    if (process->role == ROLE_GATEWAY && message->head.type == MESSAGE_START)
        day->metrics_had = false;
    if (process->role == ROLE_GATEWAY && message->head.type == MESSAGE_METRICS)
        day->metrics_had = true;
    if (message->head.type == MESSAGE_NETNS) {
        day->inside[process->role]++;
        day->inside_of[process->role] = (uint64_t)day->core->netns.pid;
        if (process->role == ROLE_GATEWAY)
            assert_true(day->metrics_had && message->as_MESSAGE_NETNS.loop < LOOPS);
        if (process->role != ROLE_NETNS)
            assert_int_equal(message->as_MESSAGE_NETNS.shows, process->role == ROLE_AGENT);
    }
    if (process->role == ROLE_GATEWAY)
        gateway_hears(day, process, message, fds);
    if (process->role == ROLE_AGENT)
        agent_hears(day, message);
}

static bool op_writable(struct core_process *process, void *data)
{
    struct day *day = data;
    return !day->queue_max || day->queued[process->role] < day->queue_max;
}

/* Lives of replicas by their process id. */
static uint64_t replica_life[4 * STARTS_MAX];

static enum perigee_group op_group(struct core_replica *replica, int *ret_fds, uint32_t *ret_groups,
                                   void *data)
{
    struct day *day = data;
    uint64_t id = core_replica_id(replica);
    assert_false(day->grouped[id]);
    day->grouped[id] = true;
    day->groups++;
    ret_fds[0] = open("/dev/null", O_WRONLY | O_CLOEXEC);
    *ret_groups = 1;
    return PERIGEE_GROUP_FOLDER;
}

static void op_ungroup(struct core_replica *replica, void *data)
{
    ((struct day *)data)->grouped[core_replica_id(replica)] = false;
}

static int op_adopt(struct core_replica *replica, pid_t pid, void *data, struct err *err)
{
    struct day *day = data;
    if (day->restoring) {
        for (size_t i = 0; i < EVENTS; i++)
            if (day->events[i].what == REPLICA_DIES && day->events[i].life == replica_life[pid])
                day->events[i].replica = replica;
        core_replica_set_shell(replica, (void *)(uintptr_t)replica_life[pid]);
        return 0;
    }
    if (day->stillborn || (!day->calm && dice(day) % 100 == 0))
        return err_set(err, ERR_NOT_FOUND, "no such child");
    day->alive_replicas++;
    core_replica_set_shell(replica, (void *)(uintptr_t)++day->lives);
    replica_life[pid] = day->lives;
    if (day->calm)
        return 0;
    day_soon(day, (int64_t)(dice(day) % (200 * day->longer)) * ENV_S,
             (struct event){ .what = REPLICA_DIES, .life = day->lives, .replica = replica });
    return 0;
}

static void op_kill_replica(struct core_replica *replica, void *data)
{
    day_soon(data, ENV_MS,
             (struct event){ .what = REPLICA_DIES,
                             .life = (uintptr_t)core_replica_shell(replica),
                             .replica = replica });
}

static int op_look(pid_t, const struct walls_expected *expected, uint32_t *ret_walls, void *data,
                   struct err *)
{
    ((struct day *)data)->looks++;
    *ret_walls = expected->walls;
    return 0;
}

static const char *op_no_cgroup(void *)
{
    return "not here";
}

static bool alive(const struct event *event)
{
    return event->process->shell == (void *)(uintptr_t)event->life &&
           (event->process->state == PROCESS_STARTING || event->process->state == PROCESS_SERVING);
}

static bool newborn(const struct event *event)
{
    return event->what == CLONE_DONE && !event->killed && alive(event);
}

bool day_cloning(const struct day *day)
{
    for (size_t i = 0; i < EVENTS; i++)
        if (newborn(&day->events[i]))
            return true;
    return false;
}

/* A clone of which CLONED has not been read is nobody's child as yet. */
static void op_kill_orphans(void *data)
{
    struct day *day = data;
    day->orphans++;
    for (size_t i = 0; i < EVENTS; i++) {
        if (!newborn(&day->events[i]))
            continue;
        day->events[i].killed = true;
        day->newborns_killed++;
    }
}

static void op_end(pid_t pid, void *data)
{
    struct day *day = data;
    assert_true(pid > 1);
    day->netns_ended++;
}

static void op_ready(void *data)
{
    ((struct day *)data)->ready++;
}

static void op_ended(void *data)
{
    ((struct day *)data)->ended++;
}

static int op_restore(struct core_process *process, int, void *data, struct err *)
{
    struct day *day = data;
    process->shell = (void *)(uintptr_t)process->pid;
    for (size_t i = 0; i < EVENTS; i++)
        if (day->events[i].what != NOTHING && day->events[i].life == (uint64_t)process->pid)
            day->events[i].process = process;
    return 0;
}

enum { CHANNELS = 1 << 20, OTHER_FDS = 1 << 23 }; /* numbers of none that is open */

static int op_channel(struct core_process *process, void *)
{
    return CHANNELS + process->pid;
}

static void op_upgrade(uint32_t state, const char *text, void *data)
{
    struct day *day = data;
    const struct core *core = day->core;
    assert_true(state == UPGRADE_DONE || text[0]);
    day->upgrades_failed += state == UPGRADE_FAILED;
    if (state != UPGRADE_DONE)
        return;
    day->upgrades_done++;
    assert_false(core_draining(core));
    assert_int_equal(core->gateways[core->gateway].generation, core->generation);
    assert_int_equal(core->agent.generation, core->generation);
    assert_int_equal(core->control.generation, core->generation);
    assert_int_equal(core->dns.generation, core->generation);
}

static const struct core_ops ops = {
    .start = op_start,
    .restore = op_restore,
    .channel = op_channel,
    .kill = op_kill,
    .send = op_send,
    .writable = op_writable,
    .group = op_group,
    .ungroup = op_ungroup,
    .adopt = op_adopt,
    .kill_replica = op_kill_replica,
    .look = op_look,
    .no_cgroup = op_no_cgroup,
    .kill_orphans = op_kill_orphans,
    .end = op_end,
    .on_ready = op_ready,
    .on_ended = op_ended,
    .on_upgrade = op_upgrade,
};

/* ---- what happens ---------------------------------------------------------------------------- */

static void process_ready(struct core_process *process)
{
    struct message_empty ready = MESSAGE_INIT(MESSAGE_READY);
    struct perigee_hello hello = {
        .magic = PERIGEE_WORKER_MAGIC,
        .message = PERIGEE_HELLO,
        .version_min = 1,
        .version_max = 1 + process->instance % 2, /* the next one may be of another build */
        .runtime = "onnx",
        .library = "a library",
        .walls = SANDBOX_MANDATORY,
    };
    if (process->role == ROLE_TEMPLATE)
        core_template_message(process, &hello, sizeof hello);
    else
        core_message(process, (union message *)&ready, sizeof ready, NULL, 0);
}

static void clone_done(struct day *day, const struct event *event)
{
    struct perigee_cloned cloned = {
        PERIGEE_WORKER_MAGIC, PERIGEE_CLONED, event->id, (int32_t)++day->lives, 0,
    };
    if (!day->calm && dice(day) % 50 == 0) {
        cloned.pid = -1;
        cloned.error = 11;
    }
    day->stillborn = event->killed;
    core_template_message(event->process, &cloned, sizeof cloned);
    day->stillborn = false;
}

/* It asks whenever it has no channel, whoever has given it the last one up. */
static void agent_enters(struct day *day, struct core_process *agent)
{
    struct message_empty want = MESSAGE_INIT(MESSAGE_NETNS_WANT);
    const struct core_process *netns = &day->core->netns;
    bool lives = netns->state == PROCESS_STARTING || netns->state == PROCESS_SERVING;
    if (lives)
        assert_int_equal(day->inside_of[ROLE_AGENT], netns->pid);
    else
        core_message(agent, (const union message *)&want, sizeof want, NULL, 0);
}

static void agent_looks(struct day *day, struct core_process *agent)
{
    day_soon(day, ENV_S, (struct event){ .what = AGENT_LOOKS });
    if (agent->state != PROCESS_SERVING)
        return;
    if (day->contains)
        agent_enters(day, agent);
    if (day->wanted < WANTED)
        day_agent_wants(day, agent);
    if (dice(day) % 20 == 0) { /* one that exists, has ended, or never was */
        union message message = { .as_MESSAGE_REPLICA_KILL = MESSAGE_INIT(MESSAGE_REPLICA_KILL) };
        message.as_MESSAGE_REPLICA_KILL.replica = dice(day) % (day->next_id + 2);
        message.as_MESSAGE_REPLICA_KILL.end = REPLICA_END_STOPPED;
        core_message(agent, &message, sizeof(struct message_replica_kill), NULL, 0);
    }
}

/* Ids of replicas that died: their struct may be gone, so an event asks here first. */
static bool replica_dead[4 * STARTS_MAX];

static void day_upgrade(struct day *day);

static void on_event(struct env_timer *timer, void *data)
{
    struct day *day = data;
    struct event *slot = (struct event *)timer, event = *slot;
    slot->what = NOTHING;
    switch (event.what) {
    case PROCESS_READY_:
        if (alive(&event))
            process_ready(event.process);
        break;
    case PROCESS_DIES:
        if (alive(&event)) {
            /* Who was to be replaced, or was beside another, is not waited for. */
            if (!event.process->replacing && event.process != core_twin(day->core))
                day->died_ns[row_of(event.process)] = day->now_ns;
            core_process_exited(event.process, 9);
        }
        break;
    case PROCESS_READS:
        if (alive(&event)) {
            day->queued[event.process->role] = 0;
            core_process_writable(event.process);
        }
        break;
    case CLONE_DONE:
        if (alive(&event))
            clone_done(day, &event);
        break;
    case REPLICA_DIES:
        if (!replica_dead[event.life]) {
            struct rusage usage = {};
            replica_dead[event.life] = true;
            day->alive_replicas--;
            op_ungroup(event.replica, day);
            int wait_status = day->replica_wait_status ? day->replica_wait_status : SIGKILL;
            core_replica_exited(event.replica, wait_status, &usage);
        }
        break;
    case AGENT_LOOKS:
        agent_looks(day, &day->core->agent);
        break;
    case UPGRADE:
        day_upgrade(day);
        break;
    default:
        fail();
    }
}

void day_run_until(struct day *day, int64_t end_ns)
{
    while (!day->ended) {
        int64_t next_ns = env_timers_next_ns(&day->timers);
        if (next_ns > end_ns)
            break;
        day->now_ns = next_ns;
        (void)env_timers_run(&day->timers, day->now_ns);
    }
    if (!day->ended)
        day->now_ns = end_ns;
}

static struct core_config day_config(uint32_t generation)
{
    struct core_config config = { .start = MESSAGE_INIT(MESSAGE_START),
                                  .control = true,
                                  .agent = true,
                                  .gateway = true,
                                  .dns = true,
                                  .generation = generation,
                                  .instance_base = 1000,
                                  .lifeline_fd = 0,
                                  .replica_uid_base = 100'000 };
    config.start.role = ROLE_GATEWAY;
    config.start.loops = LOOPS;
    (void)snprintf(config.start.home, sizeof config.start.home, "/nonexistent");
    return config;
}

struct day *day_new(uint64_t seed)
{
    struct day *day = mem_zalloc(sizeof *day);
    struct core_config config = day_config(1);
    struct err err;
    day->seed = seed;
    day->longer = 1;
    day->lives = 100; /* process ids: 1 is nobody's child */
    day->env = (struct env){ .name = "day",
                             .now_ns = fake_now,
                             .timer_start = fake_timer_start,
                             .timer_stop = fake_timer_stop };
    memset(replica_dead, 0, sizeof replica_dead);
    log_level_set(LOG_ERROR + 1); /* thousands of deaths are no news here */
    assert_int_equal(core_new(&day->env, &config, &ops, day, &day->core, &err), 0);
    return day;
}

/* As an exec does: its memory goes, the descriptors stay. */
static void day_forget(struct day *day)
{
    struct core *core = day->core;
    struct core_process *const roles[] = { core->gateways, core->gateways + 1, &core->agent,
                                           &core->control, &core->dns };
    struct list *const lists[] = { &core->templates, &core->revisions, &core->replicas,
                                   &core->dead };
    struct core_process *template;
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        env_timers_stop(&day->timers, &roles[i]->timer);
    LIST_EACH (template, &core->templates, struct core_process, link)
        env_timers_stop(&day->timers, &template->timer);
    env_timers_stop(&day->timers, &core->netns.timer);
    env_timers_stop(&day->timers, &core->upgrade.timer);
    static const size_t offsets[] = { offsetof(struct core_process, link),
                                      offsetof(struct core_revision, link),
                                      offsetof(struct core_replica, link),
                                      offsetof(struct core_replica, link) };
    for (size_t i = 0; i < 4; i++)
        while (!list_empty(lists[i])) {
            struct list *link = lists[i]->next;
            list_remove(link);
            free((char *)link - offsets[i]);
        }
    free(core);
}

/* Cut anywhere, or changed anywhere, it is refused or within its bounds: nothing else is promised.
 */
static void state_check(struct day *day, const char *state, size_t size)
{
    assert(size > sizeof(struct handover_head));
    auto_free char *copy = mem_alloc(size);
    struct handover in;
    struct err err;
    for (size_t cut = 0; cut < size; cut++) {
        memcpy(copy, state, size < 4096 ? size : 4096);
        assert_true(handover_read(copy, cut, &in, &err) < 0);
    }
    memcpy(copy, state, size);
    ((struct handover_head *)(void *)copy)->version++;
    assert_int_equal(handover_read(copy, size, &in, &err), ERR_PRECONDITION);
    assert_non_null(strstr(err.message, "version 2"));
    for (int i = 0; i < 3000; i++) {
        memcpy(copy, state, size);
        copy[dice(day) % size] ^= (char)(1 << dice(day) % 8);
        (void)!handover_read(copy, size, &in, &err);
    }
    memcpy(copy, state, size);
    handover_place(copy, &in);
    in.processes[0].channel_fd = in.head->lock_fd;
    in.processes[0].state = PROCESS_SERVING;
    in.processes[0].pid = 7;
    assert_int_equal(handover_read(copy, size, &in, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "twice"));
}

/* ---- a state in which every byte says something, through a core of its own ------------------- */

static void process_mark(struct handover_process *row)
{
    const struct handover_process kept = *row;
    memset(row, 'm', sizeof *row);
    row->role = kept.role;
    row->state = kept.state;
    row->due_ns = kept.due_ns;
    row->pid = kept.pid;
    row->channel_fd = kept.channel_fd;
    row->fresh = row->proven = row->booting = row->replacing = row->unwanted = true;
    memset(row->reserved, 0, sizeof row->reserved);
}

static void revision_mark(struct handover_revision *row)
{
    memset(row, 'm', sizeof *row);
    row->gone = row->told = true;
    memset(row->reserved, 0, sizeof row->reserved);
}

static void replica_mark(struct handover_replica *row)
{
    const struct handover_replica kept = *row;
    memset(row, 'm', sizeof *row);
    row->state = kept.state;
    row->template = kept.template;
    row->revision = kept.revision;
    row->log_written = kept.log_written;
    row->log_bytes = kept.log_bytes;
    row->ending = row->out_of_memory = true;
}

static int nothing_restored(struct core_process *, int, void *, struct err *)
{
    return 0;
}

static int nothing_adopted(struct core_replica *, pid_t, void *, struct err *)
{
    return 0;
}

static void nothing_killed(void *)
{
}

static void nothing_ended(pid_t, void *)
{
}

/* What is loaded is what is saved again: no field of a row is forgotten. */
static void fields_check(struct day *day, const struct core_config *config, const char *state,
                         size_t size)
{
    static const struct core_ops quiet = { .restore = nothing_restored,
                                           .channel = op_channel,
                                           .adopt = nothing_adopted,
                                           .kill_orphans = nothing_killed,
                                           .end = nothing_ended };
    struct core *own = day->core;
    auto_free char *marked = mem_alloc(size), *again = mem_zalloc(size);
    struct handover in, out;
    struct err err;
    memcpy(marked, state, size);
    handover_place(marked, &in);
    in.head->metrics_fd = -1;
    for (uint32_t i = 0; i < in.head->process_count; i++)
        process_mark(&in.processes[i]);
    for (uint32_t i = 0; i < in.head->revision_count; i++)
        revision_mark(&in.revisions[i]);
    for (uint32_t i = 0; i < in.head->replica_count + in.head->dead_count; i++)
        replica_mark(&in.replicas[i]);
    assert_int_equal(core_new(&day->env, config, &quiet, day, &day->core, &err), 0);
    assert_int_equal(core_load(day->core, &in, &err), 0);
    memcpy(again, marked, sizeof *in.head);
    core_save_counts(day->core, (struct handover_head *)(void *)again);
    handover_place(again, &out);
    assert_int_equal(handover_bytes(out.head), size);
    core_save(day->core, &out);
    size_t rows_at = (size_t)((char *)in.processes - marked);
    assert_memory_equal(again + rows_at, marked + rows_at, size - rows_at);
    fd_close(&day->core->metrics_fd);
    day_forget(day);
    day->core = own;
}

/* The whole core through its state, and on. */
void day_handover(struct day *day, uint32_t generation)
{
    struct core_config config = day_config(generation);
    struct handover_head head = {
        .generation = generation,
        .lock_fd = OTHER_FDS,
        .lifeline_fds = { OTHER_FDS + 1, OTHER_FDS + 2 },
        .socket_fd = -1,
        .client_fd = -1,
        .before_fd = -1,
        .start = config.start,
    };
    struct handover out;
    struct err err;
    uint32_t used_count = day->core->used_count;
    assert_true(core_calm(day->core));
    day->newborns_handed_over += day_cloning(day);
    core_save_counts(day->core, &head);
    handover_seal(&head);
    auto_free char *memory = mem_zalloc(head.bytes);
    memcpy(memory, &head, sizeof head);
    handover_place(memory, &out);
    core_save(day->core, &out);
    if (handover_read(memory, head.bytes, &out, &err) < 0)
        fail_msg("%s", err.message);
    if (day->handovers++ % 64 == 0)
        state_check(day, memory, head.bytes);
    fields_check(day, &config, memory, head.bytes);
    /* For who has died already, and who ends with its channel. */
    for (size_t i = 0; i < EVENTS; i++) {
        struct event *event = &day->events[i];
        bool ends = event->process == &day->core->netns;
        if (event->what != NOTHING && event->process && (ends || !alive(event))) {
            env_timers_stop(&day->timers, &event->timer);
            event->what = NOTHING;
        }
    }
    day_forget(day);
    assert_int_equal(core_new(&day->env, &config, &ops, day, &day->core, &err), 0);
    day->restoring = true;
    assert_int_equal(core_load(day->core, &out, &err), 0);
    day->restoring = false;
    assert_int_equal(day->core->used_count, used_count); /* no agent here says that it has them */
    assert_memory_equal(day->core->used, out.used, used_count * sizeof *out.used);
    day->used_handed_over += used_count;
}

/* Every few minutes another program takes over, now and then with nothing to replace: just behind a
 * look of the agent, who may have a replica cloned. */
static void day_upgrade(struct day *day)
{
    day_soon(day, (int64_t)(dice(day) % 600 + 1) * ENV_S - day->now_ns % ENV_S + ENV_MS,
             (struct event){ .what = UPGRADE });
    if (core_upgrading(day->core) || core_draining(day->core))
        return;
    day_handover(day, day->core->generation + (dice(day) % 4 > 0));
    core_upgrade_begin(day->core);
}
