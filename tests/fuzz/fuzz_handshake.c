/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's handshake, both ways: what a template says to the supervisor (HELLO, then CLONED for
 * each replica), and the command (CLONE) as a template reads it.
 *
 * An input is records: what, how many bytes (16 bits), and those. A message comes as it is, or as
 * edits of a right one made here, which grows with the structs: three bytes of where, one to be
 * there. Behind them a command may say its number of descriptors, and before that how many bytes
 * are cut from its end. Whatever comes, a child is adopted once, for a replica that was being
 * cloned, and what is kept of the words ends within its room; a command that is obeyed is within
 * its bounds.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "contract/ring.h"
#include "runtime/command.h"
#include "supervisor/core_private.h"
#include "sys/sandbox.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum what {
    RAW_MESSAGE,
    EDITED_HELLO,
    EDITED_CLONED,
    WANTED,
    TIME_PASSES,
    EDITED_COMMAND,
    EDITED_COMMAND_1, /* of version 1, which ends earlier */
    WHATS
};
enum { REPLICAS = 4, RECORD_HEAD = 3, EDIT = 4 };

static struct world {
    struct env env;
    struct env_timers timers;
    int64_t now_ns;
    struct core *core;
    pid_t pids;
    bool template_killed, ended;
    uint32_t wanted;
    unsigned adopted[REPLICAS + 1]; /* by id */
    struct core_replica *killed[REPLICAS];
    unsigned killed_count;
} world;

/* ---- what is around the core ----------------------------------------------------------------- */

static int64_t now(struct env *)
{
    return world.now_ns;
}

static void timer_start(struct env *, struct env_timer *timer, int64_t delay_ns,
                        env_timer_cb on_due, void *data)
{
    env_timers_start(&world.timers, timer, world.now_ns + delay_ns, on_due, data);
}

static void timer_stop(struct env *, struct env_timer *timer)
{
    env_timers_stop(&world.timers, timer);
}

static int start(struct core_process *process, void *, struct err *)
{
    process->pid = ++world.pids;
    process->shell = &world;
    return 0;
}

static void kill_process(struct core_process *process, void *)
{
    assert(process->role == ROLE_TEMPLATE);
    world.template_killed = true;
}

static void hear(struct core_process *process, const void *bytes, size_t size, const int *,
                 size_t fd_count, void *)
{
    struct perigee_clone command = {};
    assert(process->role == ROLE_TEMPLATE && size <= sizeof command);
    memcpy(&command, bytes, size);
    assert(!command_fault(&command, size, fd_count));
    assert(command.version == process->contract);
}

static bool writable(struct core_process *, void *)
{
    return true;
}

static enum perigee_group group(struct core_replica *, int *, uint32_t *ret_groups, void *)
{
    *ret_groups = 0;
    return PERIGEE_GROUP_NONE;
}

static void ungroup(struct core_replica *, void *)
{
}

static int adopt(struct core_replica *replica, pid_t pid, void *, struct err *err)
{
    uint64_t id = core_replica_id(replica);
    assert(pid > 0 && id > 0 && id <= world.wanted && replica->state == REPLICA_CLONING);
    assert(world.adopted[id]++ == 0);
    if (pid % 8 == 0)
        return err_set(err, ERR_NOT_FOUND, "no such child");
    core_replica_set_shell(replica, &world);
    return 0;
}

static void kill_replica(struct core_replica *replica, void *)
{
    for (unsigned i = 0; i < world.killed_count; i++)
        if (world.killed[i] == replica) /* it may be said twice */
            return;
    assert(world.killed_count < REPLICAS);
    world.killed[world.killed_count++] = replica;
}

static int look(pid_t, const struct walls_expected *expected, uint32_t *ret_walls, void *,
                struct err *)
{
    *ret_walls = expected->walls;
    return 0;
}

static const char *no_cgroup(void *)
{
    return "not here";
}

static void kill_orphans(void *)
{
    const struct core_replica *replica;
    LIST_EACH (replica, &world.core->replicas, struct core_replica, link)
        assert(replica->state != REPLICA_CLONING);
}

static void on_nothing(void *)
{
}

static void on_ended(void *)
{
    world.ended = true;
}

static const struct core_ops ops = {
    .start = start,
    .kill = kill_process,
    .send = hear,
    .writable = writable,
    .group = group,
    .ungroup = ungroup,
    .adopt = adopt,
    .kill_replica = kill_replica,
    .look = look,
    .no_cgroup = no_cgroup,
    .kill_orphans = kill_orphans,
    .on_ready = on_nothing,
    .on_ended = on_ended,
};

/* ---- a world with a template ----------------------------------------------------------------- */

static struct core_process *template(void)
{
    return list_empty(&world.core->templates)
               ? NULL
               : LIST_FIRST(&world.core->templates, struct core_process, link);
}

static void want(void)
{
    struct message_replica_start start = MESSAGE_INIT(MESSAGE_REPLICA_START);
    if (world.wanted == REPLICAS)
        return;
    start.replica = ++world.wanted;
    start.revision = 1;
    start.memory_bytes_max = 1 << 20;
    start.slots = start.concurrency = start.threads = start.batch_max = 2;
    start.slot_bytes = 4 * 4096;
    strcpy(start.runtime, "onnx");
    strcpy(start.name, "digits-1");
    strcpy(start.model_file, "model.onnx");
    replica_start(world.core, &start, open("/dev/null", O_RDONLY | O_CLOEXEC));
}

static void begin(void)
{
    struct core_config config = { .start = MESSAGE_INIT(MESSAGE_START), .lifeline_fd = 0 };
    struct err err;
    config.start.loops = 1;
    world = (struct world){ .env = { .name = "handshake",
                                     .now_ns = now,
                                     .timer_start = timer_start,
                                     .timer_stop = timer_stop },
                            .pids = 100 };
    log_level_set(LOG_ERROR + 1);
    int r = core_new(&world.env, &config, &ops, NULL, &world.core, &err);
    assert(r == 0);
    core_begin(world.core);
    want();
    assert(template() && template()->state == PROCESS_STARTING);
}

/* Those that were killed die. */
static void bury(void)
{
    static const struct rusage usage;
    if (world.template_killed) {
        world.template_killed = false;
        core_process_exited(template(), 9);
    }
    while (world.killed_count)
        core_replica_exited(world.killed[--world.killed_count], 9, &usage);
}

static void end(void)
{
    core_stop(world.core, true);
    bury();
    assert(world.ended);
    core_free(world.core);
    env_timers_deinit(&world.timers);
}

static void check(void)
{
    const struct core_process *one = template();
    const struct core_replica *replica;
    if (one) {
        assert(memchr(one->library, 0, sizeof one->library));
        assert(memchr(one->walls_off, 0, sizeof one->walls_off));
    }
    if (one && one->state == PROCESS_SERVING)
        assert(one->contract >= PERIGEE_WORKER_VERSION_LEAST &&
               one->contract <= PERIGEE_WORKER_VERSION);
    LIST_EACH (replica, &world.core->replicas, struct core_replica, link)
        assert(replica->state != REPLICA_RUNNING ||
               (replica->pid > 0 && world.adopted[core_replica_id(replica)] == 1));
}

/* ---- what comes ------------------------------------------------------------------------------ */

static void edit(void *message, size_t room, const uint8_t *data, size_t size)
{
    for (; size >= EDIT; data += EDIT, size -= EDIT) {
        size_t at = data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16;
        ((uint8_t *)message)[at % room] = data[3];
    }
}

static void say(const void *message, size_t size)
{
    if (!template() || !process_alive(template()))
        return;
    auto_free char *copy = mem_alloc(size ? size : 1); /* of its size, for a sanitizer */
    memcpy(copy, message, size);
    core_template_message(template(), copy, size);
}

static void say_hello(const uint8_t *data, size_t size)
{
    struct perigee_hello hello = {
        .magic = PERIGEE_WORKER_MAGIC,
        .message = PERIGEE_HELLO,
        .version_min = PERIGEE_WORKER_VERSION_LEAST,
        .version_max = PERIGEE_WORKER_VERSION,
        .runtime = "onnx",
        .library = "a library",
        .walls = SANDBOX_MANDATORY,
    };
    edit(&hello, sizeof hello, data, size);
    say(&hello, sizeof hello);
}

static void say_cloned(const uint8_t *data, size_t size)
{
    struct perigee_cloned cloned = { PERIGEE_WORKER_MAGIC, PERIGEE_CLONED, world.wanted,
                                     ++world.pids, 0 };
    edit(&cloned, sizeof cloned, data, size);
    say(&cloned, sizeof cloned);
}

static void obey(uint32_t version, const uint8_t *data, size_t size)
{
    enum { SLOTS = 2, SLOT_BYTES = 16384 };
    struct perigee_clone clone = {
        .magic = PERIGEE_WORKER_MAGIC,
        .message = PERIGEE_CLONE,
        .version = version,
        .loops = 1,
        .lanes = 2,
        .slots = SLOTS,
        .slot_bytes = SLOT_BYTES,
        .submission_bytes = region_submission_bytes(),
        .output_bytes = region_output_bytes(SLOTS, SLOT_BYTES),
        .arena_bytes = 1 << 20,
        .replica = 1,
        .memory_bytes_max = 1 << 20,
        .threads = 1,
        .batch_max = 1,
        .model_file = "model.onnx",
    };
    size_t whole = version == 1 ? PERIGEE_CLONE_BYTES_1 : sizeof clone;
    size_t fd_count = size % EDIT ? data[size - 1] : PERIGEE_FD_PIPES + 2;
    size_t cut = size % EDIT > 1 ? data[size - 2] : 0;
    edit(&clone, whole, data, size);
    memset((char *)&clone + whole - cut, 0, cut); /* as a template receives it */
    const char *fault = command_fault(&clone, whole - cut, fd_count);
    if (fault) {
        assert(fault[0] && (size >= EDIT || fd_count != PERIGEE_FD_PIPES + 2 || cut));
        return;
    }
    assert(clone.version == 1 ? whole - cut == PERIGEE_CLONE_BYTES_1 : whole - cut == sizeof clone);
    assert(clone.version > 1 || (clone.group == PERIGEE_GROUP_NONE && clone.groups == 0));
    assert(clone.loops >= 1 && clone.lanes <= PERIGEE_LANES_MAX);
    assert(clone.groups <= PERIGEE_GROUPS_MAX && clone.slots <= PERIGEE_SLOTS_MAX);
    assert(fd_count == PERIGEE_FD_PIPES + clone.lanes + clone.groups);
    assert(clone.output_bytes >= PERIGEE_SLOTS_OFFSET + clone.slots * clone.slot_bytes);
    assert(strlen(clone.model_file) < sizeof clone.model_file && clone.model_file[0] != '/');
    assert(!strstr(clone.model_file, "/../"));
}

static void record(enum what what, const uint8_t *data, size_t size)
{
    switch (what) {
    case EDITED_HELLO:
        say_hello(data, size);
        break;
    case EDITED_CLONED:
        say_cloned(data, size);
        break;
    case WANTED:
        want();
        break;
    case TIME_PASSES:
        world.now_ns += (size ? data[0] : 1) * ENV_S;
        (void)env_timers_run(&world.timers, world.now_ns);
        break;
    case EDITED_COMMAND:
        obey(PERIGEE_WORKER_VERSION, data, size);
        break;
    case EDITED_COMMAND_1:
        obey(1, data, size);
        break;
    default:
        say(data, size);
        break;
    }
    check();
    bury();
    check();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    begin();
    while (size >= RECORD_HEAD) {
        enum what what = (enum what)(data[0] % WHATS);
        size_t bytes = data[1] | (size_t)data[2] << 8;
        data += RECORD_HEAD;
        size -= RECORD_HEAD;
        bytes = bytes < size ? bytes : size;
        record(what, data, bytes);
        data += bytes;
        size -= bytes;
    }
    end();
    return 0;
}
