/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What there is: tables, revisions, endpoints, replicas. Made here, on the main thread, and told to
 * the loops, each with a reference. Nothing here waits.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "contract/ring.h"
#include "gateway/core.h"
#include "gateway/target.h"
#include "io/loop.h"
#include "io/timer.h"
#include "sys/fd.h"
#include "sys/shm.h"

#define PROBE_MS 5

static struct revision *revision_get(struct gateway *gateway, uint64_t uid)
{
    struct revision *revision = map_get_u64(&gateway->revisions, uid);

    if (revision)
        return revision;
    revision = revision_new(gateway, uid);
    revision->stats = gateway_stats_get(gateway->region, uid);
    map_put_u64(&gateway->revisions, uid, revision);
    return revision;
}

/* How long a start takes is the agent's word, which began it: a replica may be ready before we hear
 * of it. An agent that is new knows none; what the one before it said stays. */
static struct endpoint *endpoint_get(struct gateway *gateway, const struct table_endpoint *row)
{
    struct endpoint *endpoint = map_get_u64(&gateway->endpoints, row->uid);

    if (!endpoint) {
        endpoint = endpoint_new(gateway, row->uid);
        map_put_u64(&gateway->endpoints, row->uid, endpoint);
    }
    if (row->start_ms)
        atomic_store(&endpoint->start_ms, row->start_ms);
    return endpoint;
}

/* ---- tables --------------------------------------------------------------------------- */

static bool in_table(const struct table *table, uint64_t uid)
{
    for (uint32_t i = 0; table && i < table->head->revisions.count; i++)
        if (table_revision(table->head, i)->uid == uid)
            return true;
    return false;
}

static bool has_replica(struct gateway *gateway, uint64_t uid)
{
    MAP_EACH (entry, &gateway->replicas)
        if (((struct replica *)entry->value)->revision == uid)
            return true;
    return false;
}

static bool keep_stats(uint64_t uid, void *data)
{
    struct gateway *gateway = data;

    return map_get_u64(&gateway->revisions, uid) != NULL;
}

/* The main thread lets go of what no table row and no replica names any more. */
static void sweep(struct gateway *gateway)
{
    bool gone = false;

    MAP_EACH (entry, &gateway->revisions) {
        struct revision *revision = entry->value;
        if (in_table(gateway->table, revision->uid) || has_replica(gateway, revision->uid))
            continue;
        map_remove_u64(&gateway->revisions, revision->uid);
        revision_unref(revision);
        gone = true;
    }
    MAP_EACH (entry, &gateway->endpoints) {
        struct endpoint *endpoint = entry->value;
        bool found = false;
        for (uint32_t i = 0; i < gateway->table->head->endpoints.count && !found; i++)
            found = gateway->table->endpoints[i] == endpoint;
        if (found)
            continue;
        map_remove_u64(&gateway->endpoints, endpoint->uid);
        endpoint_unref(endpoint);
    }
    if (gone && !gateway->draining) /* else the next one knows better */
        gateway_stats_keep(gateway->region, keep_stats, gateway);
}

static void model_set(struct gateway *gateway, struct revision *revision,
                      const struct perigee_model *model)
{
    if (atomic_load(&revision->model))
        return;
    atomic_store(&revision->model, model_info_new(model));
    for (unsigned i = 0; i < gateway->loops; i++)
        shard_tell_revision(&gateway->loop[i], revision);
}

/* ---- ends of load and unload --------------------------------------------------------------- */

enum { EARLY_MAX = 256 };

struct early {
    struct list link;
    struct message_repository_done done;
};

static void done_tell(struct gateway *gateway, const struct message_repository_done *done)
{
    for (unsigned i = 0; i < gateway->loops && gateway->loop[0].loop; i++)
        shard_tell_done(&gateway->loop[i], done);
}

/* The agent's word comes straight, the table by way of the supervisor: who was told that a model is
 * unloaded must not find it ready. Loops hear both in this order. */
void world_repository_done(struct gateway *gateway, const struct message_repository_done *done)
{
    if (!gateway->table || gateway->table->head->number >= done->table ||
        gateway->early_count == EARLY_MAX) {
        done_tell(gateway, done);
        return;
    }
    struct early *early = mem_zalloc(sizeof *early);
    early->done = *done;
    list_append(&gateway->early, &early->link);
    gateway->early_count++;
}

void world_early_free(struct gateway *gateway)
{
    struct early *early;
    LIST_EACH (early, &gateway->early, struct early, link)
        free(early);
    list_init(&gateway->early);
}

static void early_look(struct gateway *gateway, uint64_t number)
{
    struct early *early;
    LIST_EACH (early, &gateway->early, struct early, link) {
        if (early->done.table > number)
            continue;
        done_tell(gateway, &early->done);
        list_remove(&early->link);
        gateway->early_count--;
        free(early);
    }
}

/* Where no process of ours says that it is ready, the table does. */
static void reach_set(struct revision *revision, const struct table_head *head, uint32_t row)
{
    const struct table_reach *reach = table_reach(head, row);
    const struct table_target *targets = table_targets(head, reach);
    uint32_t ready = 0;

    for (uint32_t i = 0; i < reach->target_count; i++)
        ready += targets[i].flags & TABLE_TARGET_READY;
    if (!revision->http) /* written once: with the next table loops read it */
        revision->http = true;
    revision->reach_row = row;
    if ((atomic_exchange(&revision->ready, ready) > 0) != (ready > 0))
        atomic_store(&revision->cold_since_ns, 0);
}

void world_table_set(struct gateway *gateway, const void *data, size_t bytes, bool mapped)
{
    const struct table_head *head = data;
    struct table *table = mem_zalloc(sizeof *table), *old = gateway->table;

    atomic_init(&table->refs, 1);
    atomic_init(&table->untaken, gateway->loops);
    table->head = head;
    table->bytes = bytes;
    table->mapped = mapped;
    table->endpoints = mem_zalloc((head->endpoints.count + 1) * sizeof(struct endpoint *));
    table->revisions = mem_zalloc((head->revisions.count + 1) * sizeof(struct revision *));
    for (uint32_t i = 0; i < head->endpoints.count; i++) {
        table->endpoints[i] = endpoint_get(gateway, table_endpoint(head, i));
        atomic_fetch_add(&table->endpoints[i]->refs, 1);
    }
    for (uint32_t i = 0; i < head->revisions.count; i++) {
        const struct table_revision *row = table_revision(head, i);
        struct revision *revision = revision_ref(revision_get(gateway, row->uid));
        table->revisions[i] = revision;
        if (table_reach_http(head, i))
            reach_set(revision, head, i);
        if (table_model(head, row))
            model_set(gateway, revision, table_model(head, row));
    }
    table->targets = targets_of_table(gateway, head);
    gateway->table = table;
    for (unsigned i = 0; i < gateway->loops; i++)
        shard_tell_table(&gateway->loop[i], table);
    table_unref(old);
    early_look(gateway, head->number);
    sweep(gateway);
    log_debug("gateway", "table", LOG_U("number", head->number),
              LOG_U("endpoints", head->endpoints.count));
}

void world_table_served(struct gateway *gateway, uint64_t number)
{
    union message message = { .as_MESSAGE_TABLE_SERVED = MESSAGE_INIT(MESSAGE_TABLE_SERVED) };

    gateway->table_served = number;
    message.as_MESSAGE_TABLE_SERVED.number = number;
    (void)gateway_send_agent(gateway, &message);
    targets_drained(gateway);
    targets_sweep(gateway);
}

/* ---- arenas --------------------------------------------------------------------------- */

static void arena_set(struct gateway *gateway, struct revision *revision, int fd, uint64_t bytes)
{
    void *memory;
    struct err err;

    if (atomic_load(&revision->arena))
        return;
    if (bytes / PERIGEE_LANES_MAX < 4096) {
        log_error("gateway", "input arena is too small", LOG_U("bytes", bytes));
        return;
    }
    if (shm_map(fd, bytes, true, &memory, &err) < 0) {
        log_error("gateway", "cannot map an input arena", LOG_S("why", err.message));
        return;
    }
    (void)madvise(memory, bytes, MADV_DONTDUMP);
    revision->arena_bytes = bytes;
    atomic_store(&revision->arena, (char *)memory);
    for (unsigned i = 0; i < gateway->loops; i++)
        shard_tell_revision(&gateway->loop[i], revision);
}

void world_arena(struct gateway *gateway, const struct message_arena *message, int fd)
{
    struct revision *revision = map_get_u64(&gateway->revisions, message->revision);

    if (revision) /* else it was deleted meanwhile */
        arena_set(gateway, revision, fd, message->bytes);
}

enum { ARENA_PAUSE_MAX = 7 };

void world_arena_want(struct gateway *gateway, uint64_t uid)
{
    union message message = { .as_MESSAGE_ARENA_WANT = MESSAGE_INIT(MESSAGE_ARENA_WANT) };
    struct revision *revision = map_get_u64(&gateway->revisions, uid);

    if (!revision || revision->arena_left > 0)
        return;
    revision->arena_left = revision->arena_pause;
    if (revision->arena_pause < ARENA_PAUSE_MAX)
        revision->arena_pause = (uint8_t)(2 * revision->arena_pause + 1);
    message.as_MESSAGE_ARENA_WANT.revision = uid;
    gateway_send_supervisor(gateway, &message);
}

/* The supervisor could not make it, and says nothing then: it is asked again, less and less often,
 * while requests wait. */
static void arena_again(struct gateway *gateway, struct revision *revision, bool waiting)
{
    if (atomic_load(&revision->arena))
        return;
    if (revision->arena_left > 0)
        revision->arena_left--;
    else if (waiting)
        world_arena_want(gateway, revision->uid);
    else
        atomic_store(&revision->arena_wanted, false); /* the next request asks at once */
}

/* ---- replicas ------------------------------------------------------------------------- */

static void ready_lost(struct replica *replica)
{
    struct revision *revision = replica->owner;

    if (replica->state == REPLICA_READY && atomic_fetch_sub(&revision->ready, 1) == 1)
        atomic_store(&revision->cold_since_ns, 0);
}

void world_kill(struct gateway *gateway, uint64_t id, enum replica_end end, const char *text)
{
    union message message = { .as_MESSAGE_REPLICA_KILL = MESSAGE_INIT(MESSAGE_REPLICA_KILL) };
    struct replica *replica = map_get_u64(&gateway->replicas, id);
    struct slice reason = end == REPLICA_END_TIMEOUT ? SLICE("timeout")
                          : end == REPLICA_END_LIED  ? SLICE("lied")
                                                     : SLICE("stale");

    if (!replica || replica->killed)
        return;
    replica->killed = true;
    ready_lost(replica);
    if (replica->state != REPLICA_DRAINING)
        replica_state_move(&replica->state, REPLICA_DRAINING);
    message.as_MESSAGE_REPLICA_KILL.replica = id;
    message.as_MESSAGE_REPLICA_KILL.end = end;
    snprintf(message.as_MESSAGE_REPLICA_KILL.text, sizeof message.as_MESSAGE_REPLICA_KILL.text,
             "%s", text);
    gateway_send_supervisor(gateway, &message);
    metric_add(metrics_series(&gateway->metrics, GATEWAY_KILLED, &reason), 1);
    log_warn("gateway", "killing a replica", LOG_S("replica", replica->name),
             LOG_S("reason", replica_end_text(end)), LOG_S("why", text));
    /* No loop gives it anything more; what it has comes back when it was reaped. */
    for (unsigned i = 0; i < gateway->loops; i++)
        shard_tell_drain(&gateway->loop[i], replica);
}

/* Requests of a gateway that died are in our lanes still: they may not be given slots that those
 * use. */
static void begin_or_wait(struct gateway *gateway, struct replica *replica)
{
    if (replica->begun)
        return;
    if (!replica_quiet(replica)) {
        /* The dead one may have published and not come to wake it. */
        (void)submission_wake(replica->submission, replica_status(replica), true);
        if (loop_now_ms(gateway->main) - replica->came_ms > gateway_stale_ms)
            world_kill(gateway, replica->id, REPLICA_END_STALE,
                       "requests of an earlier gateway are not completed");
        else if (!timer_running(gateway->probe))
            timer_start(gateway->probe, PROBE_MS);
        return;
    }
    replica_lanes_begin(replica);
    replica->begun = true;
    for (unsigned i = 0; i < gateway->loops; i++)
        shard_tell_attach(&gateway->loop[i], replica);
    world_replica_look(gateway, replica->id);
}

/* Drained is what nobody uses any more: neither do we, nor a gateway that ends beside us. */
static void drained_tell(struct gateway *gateway, struct replica *replica)
{
    union message message = { .as_MESSAGE_REPLICA_DRAINED = MESSAGE_INIT(MESSAGE_REPLICA_DRAINED) };

    replica->drained_held = gateway->beside && !replica->killed && !replica_quiet_beside(replica);
    if (replica->drained_held) {
        if (!timer_running(gateway->probe))
            timer_start(gateway->probe, PROBE_MS);
        return;
    }
    message.as_MESSAGE_REPLICA_DRAINED.replica = replica->id;
    (void)gateway_send_agent(gateway, &message);
}

void world_probe(struct gateway *gateway)
{
    MAP_EACH (entry, &gateway->replicas) {
        struct replica *replica = entry->value;
        if (!replica->begun && !replica->killed)
            begin_or_wait(gateway, replica);
        if (replica->drained_held)
            drained_tell(gateway, replica);
    }
}

int world_replica_attach(struct gateway *gateway, const struct message_replica_added *added,
                         int *fds, size_t fd_count, struct err *err)
{
    struct replica *replica;
    int r = replica_attach(added, gateway->start.instance, fds, fd_count, &replica, err);

    if (r < 0)
        return r;
    struct revision *revision = revision_get(gateway, added->revision);
    replica->owner = revision;
    replica->came_ms = loop_now_ms(gateway->main);
    map_put_u64(&gateway->replicas, replica->id, replica);
    arena_set(gateway, revision, fds[2], added->arena_bytes);
    begin_or_wait(gateway, replica);
    return 0;
}

void world_replica_added(struct gateway *gateway, const struct message_replica_added *added,
                         int *fds, size_t fd_count)
{
    struct err err;

    if (map_get_u64(&gateway->replicas, added->replica) || later_has(gateway, added->replica))
        return;
    int r = world_replica_attach(gateway, added, fds, fd_count, &err);
    if (r == ERR_INTERNAL) {
        log_error("gateway", "no memory for a replica, trying again", LOG_S("replica", added->name),
                  LOG_S("why", err.message));
        later_keep(gateway, added, fds, fd_count);
    } else if (r < 0) {
        log_error("gateway", "cannot attach a replica", LOG_S("replica", added->name),
                  LOG_S("why", err.message));
    }
}

/* The model's description is copied and checked once, here, off the loops. */
static bool model_take(struct gateway *gateway, struct replica *replica)
{
    struct revision *revision = replica->owner;
    struct err err;
    size_t bytes;

    if (atomic_load(&revision->model))
        return true;
    auto_free struct perigee_model *model = mem_alloc(PERIGEE_MODEL_BYTES_MAX);
    if (model_copy(replica->output, replica->output_bytes, model, PERIGEE_MODEL_BYTES_MAX, &bytes,
                   &err) < 0) {
        world_kill(gateway, replica->id, REPLICA_END_LIED, err.message);
        return false;
    }
    model_set(gateway, revision, model);
    return true;
}

/* That it is ready is its own word; that its walls stand is the supervisor's. */
static bool walls_stand(struct gateway *gateway, struct replica *replica)
{
    union message message = { .as_MESSAGE_REPLICA_LOOK = MESSAGE_INIT(MESSAGE_REPLICA_LOOK) };

    if (replica->walls_seen || replica->walls_asked)
        return replica->walls_seen;
    replica->walls_asked = true;
    message.as_MESSAGE_REPLICA_LOOK.replica = replica->id;
    gateway_send_supervisor(gateway, &message);
    return false;
}

void world_replica_walls(struct gateway *gateway, uint64_t id)
{
    struct replica *replica = map_get_u64(&gateway->replicas, id);

    if (!replica)
        return;
    replica->walls_seen = true;
    world_replica_look(gateway, id);
}

void world_replica_look(struct gateway *gateway, uint64_t id)
{
    struct replica *replica = map_get_u64(&gateway->replicas, id);

    if (!replica || replica->state != REPLICA_STARTING || !replica->begun || replica->killed ||
        replica_phase(replica) != PERIGEE_PHASE_READY || !walls_stand(gateway, replica) ||
        !model_take(gateway, replica))
        return;
    struct revision *revision = replica->owner;
    replica_state_move(&replica->state, REPLICA_READY);
    atomic_fetch_add(&revision->ready, 1);
    atomic_store(&revision->demanded, false);
    atomic_store(&revision->cold_since_ns, 0);
    for (unsigned i = 0; i < gateway->loops; i++)
        shard_tell_ready(&gateway->loop[i], replica);
    union message message = { .as_MESSAGE_REPLICA_READY = MESSAGE_INIT(MESSAGE_REPLICA_READY) };
    message.as_MESSAGE_REPLICA_READY.replica = id;
    (void)gateway_send_agent(gateway, &message);
    log_debug("gateway", "replica ready", LOG_S("replica", replica->name));
}

void world_replica_drain(struct gateway *gateway, uint64_t id)
{
    struct replica *replica = map_get_u64(&gateway->replicas, id);
    union message message = { .as_MESSAGE_REPLICA_DRAINED = MESSAGE_INIT(MESSAGE_REPLICA_DRAINED) };

    message.as_MESSAGE_REPLICA_DRAINED.replica = id;
    later_forget(gateway, id); /* of ours there is nothing in it */
    if (!replica && target_drain(gateway, id))
        return;
    if (!replica) {
        (void)gateway_send_agent(gateway, &message);
        return;
    }
    if (!replica->begun || replica->killed) { /* there is nothing in it of ours */
        drained_tell(gateway, replica);
        return;
    }
    if (replica->state == REPLICA_DRAINING) {
        if (replica->lanes_drained == gateway->loops)
            drained_tell(gateway, replica);
        return;
    }
    ready_lost(replica);
    replica_state_move(&replica->state, REPLICA_DRAINING);
    for (unsigned i = 0; i < gateway->loops; i++)
        shard_tell_drain(&gateway->loop[i], replica);
}

void world_replica_lane_drained(struct gateway *gateway, uint64_t id)
{
    struct replica *replica = map_get_u64(&gateway->replicas, id);

    if (!replica || ++replica->lanes_drained != gateway->loops || replica->killed ||
        replica->state != REPLICA_DRAINING)
        return;
    drained_tell(gateway, replica);
}

void world_replica_exited(struct gateway *gateway, uint64_t id)
{
    struct replica *replica = map_get_u64(&gateway->replicas, id);

    later_forget(gateway, id);
    if (!replica)
        return;
    ready_lost(replica);
    if (replica->begun)
        for (unsigned i = 0; i < gateway->loops; i++)
            shard_tell_gone(&gateway->loop[i], replica);
    replica_state_move(&replica->state, REPLICA_GONE);
    map_remove_u64(&gateway->replicas, id);
    replica_unref(replica);
    if (gateway->table)
        sweep(gateway);
    world_demand(gateway, false);
}

/* ---- demand --------------------------------------------------------------------------- */

static uint32_t running_at_targets(const struct table *table, const struct revision *revision)
{
    uint32_t row = revision->reach_row, sum = 0;

    if (row >= table->head->revisions.count || table->revisions[row] != revision)
        return 0; /* it stands in this table no more */
    const struct table_reach *reach = table_reach(table->head, row);
    for (uint32_t i = 0; i < reach->target_count; i++)
        if (table->targets[reach->target_first + i])
            sum += atomic_load(&table->targets[reach->target_first + i]->running);
    return sum;
}

static uint32_t running(struct gateway *gateway, const struct revision *revision)
{
    uint32_t sum = 0;

    if (revision->http)
        return running_at_targets(gateway->table, revision);
    MAP_EACH (entry, &gateway->replicas) {
        struct replica *replica = entry->value;
        if (replica->revision == revision->uid)
            sum += place_running(&replica->place);
    }
    return sum;
}

struct sums {
    uint64_t arrivals, done, busy_ns;
};

static struct sums sums_of(const struct gateway *gateway, const struct revision *revision)
{
    struct sums sums = {};

    for (unsigned i = 0; i < gateway->loops; i++) {
        const struct revision_side *side = &revision->sides[i];
        sums.arrivals += atomic_load_explicit(&side->arrivals, memory_order_relaxed);
        sums.done += atomic_load_explicit(&side->done, memory_order_relaxed);
        sums.busy_ns += atomic_load_explicit(&side->busy_ns, memory_order_relaxed);
    }
    return sums;
}

/* What is not taken is told the next time. */
static void demand_tell(struct gateway *gateway, struct revision *revision, const struct sums *sums,
                        const struct message_demand *levels)
{
    union message message = { .as_MESSAGE_DEMAND = *levels };

    message.as_MESSAGE_DEMAND.arrivals = sums->arrivals - revision->arrivals_told;
    message.as_MESSAGE_DEMAND.done = sums->done - revision->done_told;
    message.as_MESSAGE_DEMAND.busy_ns = sums->busy_ns - revision->busy_told_ns;
    if (!gateway_send_agent(gateway, &message))
        gateway_send_supervisor(gateway, &message); /* a gateway that ends has no peer */
    revision->arrivals_told = sums->arrivals;
    revision->done_told = sums->done;
    revision->busy_told_ns = sums->busy_ns;
}

/* One revision's; false: there is nothing to tell of it. */
static bool demand_of(struct gateway *gateway, struct revision *revision, bool repeated)
{
    bool demanded = atomic_exchange(&revision->demanded, false); /* first: who comes now tells */
    struct message_demand levels = MESSAGE_INIT(MESSAGE_DEMAND);
    struct sums sums = sums_of(gateway, revision);
    uint32_t waiting = atomic_load(&revision->waiting);
    bool ready = atomic_load(&revision->ready) > 0;
    uint32_t passed = ready ? 0 : atomic_exchange(&revision->passed_on, 0);
    bool moved = sums.arrivals != revision->arrivals_told || sums.done != revision->done_told;

    if (waiting > 0 || passed > 0)
        atomic_store(&revision->demanded, demanded);
    if (repeated)
        arena_again(gateway, revision, waiting > 0);
    if (!repeated && passed == 0 && (waiting == 0 || ready))
        return false;
    if (waiting == 0 && passed == 0 && !moved && !revision->told)
        return false;
    levels.revision = revision->uid;
    levels.set = gateway_set(gateway);
    levels.waiting = waiting + passed;
    levels.running = running(gateway, revision);
    if (waiting > 0)
        levels.oldest_ms =
            (uint64_t)(loop_now_ns() - atomic_load(&revision->waiting_since_ns)) / 1'000'000;
    demand_tell(gateway, revision, &sums, &levels);
    revision->told = moved || levels.waiting > 0 || levels.running > 0;
    return true;
}

/* Level-triggered: at once when a request waits for a revision without a ready replica, then again
 * and again while it, or any other, is used, and once when it is not any more. With nothing to tell
 * it is looked at less often, so that an idle gateway sleeps; whoever comes first then says so. */
void world_demand(struct gateway *gateway, bool repeated)
{
    bool told = false;

    if (repeated)
        atomic_store(&gateway->demand_slow, true); /* first: who comes from here on says so */
    MAP_EACH (entry, &gateway->revisions)
        told |= demand_of(gateway, entry->value, repeated);
    if (told)
        atomic_store(&gateway->demand_slow, false);
    if (told || repeated)
        timer_start(gateway->demand, told ? gateway_demand_ms : gateway_demand_idle_ms);
}

void world_free(struct gateway *gateway)
{
    MAP_EACH (entry, &gateway->replicas)
        replica_unref(entry->value);
    map_deinit(&gateway->replicas);
    MAP_EACH (entry, &gateway->targets)
        target_unref(entry->value);
    map_deinit(&gateway->targets);
    map_deinit(&gateway->drained_beside);
    table_unref(take_ptr(gateway->table));
    MAP_EACH (entry, &gateway->revisions)
        revision_unref(entry->value);
    map_deinit(&gateway->revisions);
    MAP_EACH (entry, &gateway->endpoints)
        endpoint_unref(entry->value);
    map_deinit(&gateway->endpoints);
}
