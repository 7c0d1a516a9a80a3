/* SPDX-License-Identifier: Apache-2.0 */
#include "pop/usage.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/log.h"
#include "contract/gateway_metrics.h"
#include "contract/ring.h"
#include "pop/agent.h"
#include "sys/proc.h"

enum {
    LOOK_MS = 1000,
    MEMORY_LOOKS = 5, /* at each fifth look memory is read */
    COUNT_LOOKS = 10, /* ... and revisions that have no replica are counted at each tenth */
    WINDOW_MS = 10'000,
    WINDOW_ALONE_MS = 60'000, /* while control is away */
    END_MS = 1000,            /* at the end the disk is waited for */
};

static bool process_read(const struct usage_replica *replica, bool memory, struct meter_use *ret)
{
    uint64_t cpu_ns, bytes;
    if (replica->pid <= 0 || !proc_cpu_ns(replica->pid, &cpu_ns))
        return false;
    *ret = (struct meter_use){ .cpu_us = cpu_ns / 1000, .memory_kib = METER_UNKNOWN };
    if (memory && proc_resident_bytes(replica->pid, &bytes))
        ret->memory_kib = bytes / 1024;
    return true;
}

const struct usage_source usage_of_processes = { process_read };

static int64_t now_ms(struct agent *agent)
{
    return env_now_ns(agent->env) / ENV_MS;
}

/* ---- looking --------------------------------------------------------------------------------- */

/* What a worker says of itself decides what of its own CPU time is called idle, nothing else. Of a
 * container it is the gateway's word. */
static bool runs_now(struct agent *agent, const struct usage_replica *replica)
{
    const struct agent_region *region = map_get_u64(&agent->regions, replica->id);
    if (replica->source == &usage_of_groups) {
        const struct pop_revision *revision = pop_revision_find(&agent->pop, replica->revision);
        return revision && pop_scale_runs(revision);
    }
    const struct perigee_status *status = region ? region->memory : NULL;
    return status && atomic_load_explicit(&status->sleeping, memory_order_relaxed) == 0;
}

static void look(struct agent *agent, struct usage_replica *replica, bool memory)
{
    struct meter_use use;
    if (!replica->source->read(replica, memory, &use))
        return; /* it has just ended: what it used comes with its end */
    replica->cpu_us = use.cpu_us;
    if (use.memory_kib != METER_UNKNOWN)
        replica->memory_kib = use.memory_kib;
    use.runs = runs_now(agent, replica);
    meter_look(&agent->usage.meter, replica->id, &use, now_ms(agent));
}

static void count(struct agent *agent, uint64_t uid)
{
    struct agent_usage *usage = &agent->usage;
    if (!agent->metrics)
        return;
    const struct gateway_stats *stats =
        gateway_stats_find(agent->metrics, agent->metrics_bytes, uid);
    if (!stats) {
        meter_uncounted(&usage->meter, uid);
        return;
    }
    struct ledger_counter_mark totals = {
        .revision_uid = uid,
        .requests = atomic_load_explicit(&stats->success, memory_order_relaxed),
        .failures = atomic_load_explicit(&stats->fail, memory_order_relaxed),
        .bytes_in = atomic_load_explicit(&stats->bytes_in, memory_order_relaxed),
        .bytes_out = atomic_load_explicit(&stats->bytes_out, memory_order_relaxed),
    };
    meter_counts(&usage->meter, &totals, !usage->begun);
}

static void look_all(struct agent *agent, bool all)
{
    struct agent_usage *usage = &agent->usage;
    struct pop_endpoint *endpoint;
    struct pop_revision *revision;
    LIST_EACH (endpoint, &agent->pop.endpoints, struct pop_endpoint, link)
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
            if (all || revision->replica_count)
                count(agent, revision->uid);
    /* Those that the agent let go, too: a gateway that was killed has not, and they come back. */
    MAP_EACH (entry, &usage->meter.revisions)
        if (all)
            count(agent, entry->key.size);
    MAP_EACH (entry, &usage->replicas) {
        struct usage_replica *replica = entry->value;
        look(agent, replica, all || (usage->looks + replica->id) % MEMORY_LOOKS == 0);
    }
    meter_second(&usage->meter);
}

/* ---- windows --------------------------------------------------------------------------------- */

static void window_begin(struct agent *agent)
{
    struct agent_usage *usage = &agent->usage;
    usage->window_ms = now_ms(agent);
    usage->window_wall_ms = env_wall_ns(agent->env) / ENV_MS;
}

static void window_end(struct agent *agent)
{
    struct agent_usage *usage = &agent->usage;
    struct arena *arena = arena_new();
    struct ledger_record window = {};
    struct usage_end *end;
    int64_t length_ms = now_ms(agent) - usage->window_ms;
    usage->soon = false;
    if (meter_window(&usage->meter, arena, &window)) {
        window.begin_ms = usage->window_wall_ms > 0 ? usage->window_wall_ms : 0;
        window.length_ms = length_ms > 0 ? (uint64_t)length_ms : 0;
        ledger_keep(&usage->ledger, &window, agent->control_there);
    }
    LIST_EACH (end, &usage->ends, struct usage_end, link)
        end->written = true;
    arena_free(arena);
    window_begin(agent);
}

/* They lie on the wall's tens of seconds, so that few stand across a minute. */
static bool window_due(struct agent *agent)
{
    struct agent_usage *usage = &agent->usage;
    int64_t length_ms = agent->control_there ? WINDOW_MS : WINDOW_ALONE_MS;
    int64_t number = env_wall_ns(agent->env) / ENV_MS / length_ms;
    bool due = number != usage->window_wall_ms / length_ms ||
               now_ms(agent) - usage->window_ms >= length_ms;
    return due || usage->soon;
}

/* One that the supervisor did not hear of is told again, to the next agent: its mark stays. */
static void metered(struct agent *agent, uint64_t replica)
{
    struct message_replica message = MESSAGE_INIT(MESSAGE_REPLICA_METERED);
    message.replica = replica;
    if (wire_send(&agent->supervisor, &message, sizeof message, -1))
        meter_forget(&agent->usage.meter, replica);
}

static void ended(struct agent *agent)
{
    usage_ended_cb on_ended = agent->usage.on_ended;
    env_timer_stop(agent->env, &agent->usage.end_late);
    agent->usage.on_ended = NULL;
    if (on_ended)
        on_ended(agent);
}

/* The disk does not take it: the next agent counts it. */
static void on_end_late(struct env_timer *, void *data)
{
    ended(data);
}

static void on_kept(void *data)
{
    struct agent *agent = data;
    struct agent_usage *usage = &agent->usage;
    struct usage_end *end;
    if (ledger_kept(&usage->ledger)) {
        LIST_EACH (end, &usage->ends, struct usage_end, link) {
            if (!end->written)
                continue;
            metered(agent, end->replica);
            list_remove(&end->link);
            free(end);
        }
        ended(agent);
    }
    agent_usage_send(agent);
}

static void on_second(struct env_timer *timer, void *data)
{
    struct agent *agent = data;
    struct agent_usage *usage = &agent->usage;
    bool due = window_due(agent);
    env_timer_start(agent->env, timer, LOOK_MS * ENV_MS, on_second, agent);
    usage->looks++;
    look_all(agent, due || usage->looks % COUNT_LOOKS == 0);
    if (due)
        window_end(agent);
    agent_usage_send(agent);
}

/* ---- what happens ---------------------------------------------------------------------------- */

void agent_usage_open(struct agent *agent)
{
    struct agent_usage *usage = &agent->usage;
    struct arena *arena = arena_new();
    struct ledger_marks marks;
    bool found;
    list_init(&usage->ends);
    (void)env_folder_make(agent->env, arena_format(arena, "%s/pop", agent->start.home), NULL);
    ledger_open(&usage->ledger, agent->env,
                arena_format(arena, "%s/" LEDGER_FOLDER, agent->start.home), agent->start.pop,
                arena, &marks, &found);
    usage->ledger.on_kept = on_kept;
    usage->ledger.data = agent;
    meter_init(&usage->meter, (uint64_t)agent->start.started_ns);
    if (found && marks.era != usage->meter.era)
        ledger_skip(&usage->ledger);
    if (found)
        meter_restore(&usage->meter, &marks);
    usage->open = true;
    arena_free(arena);
}

void agent_usage_lives(struct agent *agent, uint64_t replica)
{
    meter_told(&agent->usage.meter, replica);
}

void agent_usage_told(struct agent *agent)
{
    meter_forget_untold(&agent->usage.meter);
}

void agent_usage_go(struct agent *agent)
{
    struct agent_usage *usage = &agent->usage;
    if (!usage->open)
        return;
    if (!agent->containers.marked) /* else once the engine has said which there are */
        agent_usage_told(agent);
    window_begin(agent);
    look_all(agent, true);
    usage->begun = true;
    env_timer_start(agent->env, &usage->second, LOOK_MS * ENV_MS, on_second, agent);
}

static void added(struct agent *agent, struct usage_replica *replica)
{
    struct agent_usage *usage = &agent->usage;
    struct pop_revision *revision = pop_revision_find(&agent->pop, replica->revision);
    bool own = replica->id >> 32 == agent->start.instance;
    uint64_t age_ms = 0;
    map_put_u64(&usage->replicas, replica->id, replica);
    if (!own)
        (void)proc_age_ms(replica->pid, &age_ms);
    meter_replica(&usage->meter, replica->id, replica->revision,
                  revision ? revision->memory_bytes / 1024 : 0, own, age_ms, now_ms(agent));
    look(agent, replica, true);
}

void agent_usage_added(struct agent *agent, const struct message_replica_added *message)
{
    struct agent_usage *usage = &agent->usage;
    if (!usage->open || map_get_u64(&usage->replicas, message->replica))
        return;
    struct usage_replica *replica = mem_zalloc(sizeof *replica);
    replica->id = message->replica;
    replica->revision = message->revision;
    replica->pid = message->pid;
    replica->source = &usage_of_processes;
    added(agent, replica);
}

void agent_usage_contained(struct agent *agent, uint64_t id, uint64_t revision, int32_t pid,
                           const char *group)
{
    struct agent_usage *usage = &agent->usage;
    if (!usage->open || map_get_u64(&usage->replicas, id))
        return;
    struct usage_replica *replica = mem_zalloc(sizeof *replica);
    replica->id = id;
    replica->revision = revision;
    replica->pid = pid;
    replica->source = &usage_of_groups;
    usage_group_find(replica, group);
    added(agent, replica);
}

uint64_t agent_usage_memory(struct agent *agent, uint64_t id)
{
    const struct usage_replica *replica = map_get_u64(&agent->usage.replicas, id);
    struct meter_use use;
    if (!replica || !replica->source->read(replica, true, &use) || use.memory_kib == METER_UNKNOWN)
        return 0;
    return use.memory_kib * 1024;
}

bool agent_usage_cpu_us(struct agent *agent, uint64_t id, uint64_t *ret)
{
    const struct usage_replica *replica = map_get_u64(&agent->usage.replicas, id);
    struct meter_use use;
    if (!replica || !replica->source->read(replica, false, &use))
        return false;
    *ret = use.cpu_us;
    return true;
}

void agent_usage_ready(struct agent *agent, uint64_t id)
{
    struct agent_usage *usage = &agent->usage;
    struct usage_replica *replica = map_get_u64(&usage->replicas, id);
    if (!replica)
        return;
    look(agent, replica, true); /* up to here it was starting */
    meter_ready(&usage->meter, id);
    usage->soon = true; /* an agent that begins knows it by what is on disk alone */
}

void agent_usage_ended(struct agent *agent, uint64_t id, uint64_t revision, uint64_t cpu_us)
{
    struct agent_usage *usage = &agent->usage;
    struct usage_end *end;
    if (!usage->open)
        return;
    LIST_EACH (end, &usage->ends, struct usage_end, link)
        if (end->replica == id)
            return;  /* told twice, and on its way to the disk */
    if (agent->gone) /* what ended with it makes its last second a busy one */
        count(agent, revision);
    struct usage_replica *replica = map_remove_u64(&usage->replicas, id);
    if (replica && replica->source == &usage_of_groups && cpu_us < replica->cpu_us)
        cpu_us = replica->cpu_us; /* its group was gone before it could be read once more */
    free(replica);
    if (!meter_ended(&usage->meter, id, revision, cpu_us, now_ms(agent))) {
        metered(agent, id); /* it is on disk already */
        return;
    }
    end = mem_zalloc(sizeof *end);
    end->replica = id;
    list_append(&usage->ends, &end->link);
    usage->soon = true;
}

void agent_usage_revision_gone(struct agent *agent, uint64_t revision)
{
    if (agent->usage.open)
        count(agent, revision);
}

void agent_usage_end(struct agent *agent, usage_ended_cb on_ended)
{
    struct agent_usage *usage = &agent->usage;
    if (usage->open && agent->gone) {
        env_timer_stop(agent->env, &usage->second);
        look_all(agent, true);
        window_end(agent);
    }
    usage->on_ended = on_ended;
    if (!usage->open || ledger_kept(&usage->ledger))
        ended(agent);
    else
        env_timer_start(agent->env, &usage->end_late, END_MS * ENV_MS, on_end_late, agent);
}

void agent_usage_close(struct agent *agent)
{
    struct agent_usage *usage = &agent->usage;
    struct usage_end *end;
    agent_usage_send_close(agent);
    if (!usage->open)
        return;
    env_timer_stop(agent->env, &usage->second);
    env_timer_stop(agent->env, &usage->end_late);
    ledger_close(&usage->ledger);
    meter_deinit(&usage->meter);
    LIST_EACH (end, &usage->ends, struct usage_end, link) {
        list_remove(&end->link);
        free(end);
    }
    MAP_EACH (entry, &usage->replicas)
        free(entry->value);
    map_deinit(&usage->replicas);
}
