/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main thread: boot by messages, then listen to supervisor and agent. It serves no client, so
 * it may take a few milliseconds to check a table.
 */
#include "gateway/gateway.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "gateway/core.h"
#include "gateway/mesh.h"
#include "gateway/probe.h"
#include "gateway/target.h"
#include "http/crowd.h"
#include "http/trust.h"
#include "io/loop.h"
#include "io/socket.h"
#include "io/timer.h"
#include "sys/channel.h"
#include "sys/fd.h"
#include "sys/shm.h"

#define KEYLESS_MS 1000 /* an agent that died with it is back by then */

/* ---- sending -------------------------------------------------------------------------- */

static void finish(struct gateway *gateway, int status)
{
    gateway->status = status;
    gateway->done = true;
    loop_stop(gateway->main);
}

static void watch_again(struct watch *watch, const struct channel *channel)
{
    watch_set(watch, WATCH_READ | (channel_wants_write(channel) ? WATCH_WRITE : 0));
}

void gateway_send_supervisor(struct gateway *gateway, const union message *message)
{
    struct err err;

    if (channel_send(gateway->supervisor, message, message_size(message->head.type), NULL, 0,
                     &err) < 0) {
        log_error("gateway", "the supervisor does not read", LOG_S("why", err.message));
        finish(gateway, 1);
        return;
    }
    if (gateway->supervisor_watch)
        watch_again(gateway->supervisor_watch, gateway->supervisor);
}

/* What the agent was asked to load or unload dies with it: clients hear so now. */
static void repository_lost(struct gateway *gateway)
{
    struct message_repository_done lost = { .code = ERR_OVERLOADED };

    snprintf(lost.text, sizeof lost.text, "the agent of this PoP is restarting; try again");
    for (unsigned i = 0; i < gateway->loops && gateway->loop[0].loop; i++)
        shard_tell_done(&gateway->loop[i], &lost);
}

static void agent_lost(struct gateway *gateway, const char *why)
{
    log_warn("gateway", "the agent is gone, going on without", LOG_S("why", why));
    watch_free(take_ptr(gateway->agent_watch));
    channel_free(take_ptr(gateway->agent));
    repository_lost(gateway);
}

bool gateway_send_agent(struct gateway *gateway, const union message *message)
{
    struct err err;

    if (!gateway->agent)
        return false;
    if (channel_send(gateway->agent, message, message_size(message->head.type), NULL, 0, &err) <
        0) {
        agent_lost(gateway, err.message);
        return false;
    }
    watch_again(gateway->agent_watch, gateway->agent);
    return true;
}

static void unknown(struct gateway *gateway, const char *why)
{
    if (gateway->going)
        metric_add(metrics_series(&gateway->metrics, GATEWAY_MESSAGES_UNKNOWN, NULL), 1);
    log_warn("gateway", "message dropped", LOG_S("why", why));
}

/* ---- tables --------------------------------------------------------------------------- */

/* One that is right, and that cannot be mapped just now, is kept: nobody sends it again. */
static void table_new(struct gateway *gateway, int *fd)
{
    struct slice table;
    struct err err;
    int r = shm_map_checked(*fd, TABLE_BYTES_MAX, table_check, &table, &err);

    timer_stop(gateway->table_again);
    fd_close(&gateway->table_later);
    if (r == 0) {
        world_table_set(gateway, table.data, table.size, true);
    } else if (r == ERR_INTERNAL) {
        log_error("gateway", "no memory for a new table, trying again", LOG_S("why", err.message));
        gateway->table_later = take_fd(*fd);
        timer_start(gateway->table_again, GATEWAY_AGAIN_MS);
    } else {
        log_error("gateway", "table refused, keeping the one there is", LOG_S("why", err.message));
    }
}

static void on_table_again(void *data)
{
    struct gateway *gateway = data;
    auto_close int fd = take_fd(gateway->table_later);

    table_new(gateway, &fd);
}

static void mesh_new(struct gateway *gateway, int fd)
{
    struct mesh_view *mesh, *old = gateway->mesh;
    struct err err;

    if (mesh_view_open(fd, &mesh, &err) < 0) {
        log_error("gateway", "what PoPs measure is refused, keeping what there is",
                  LOG_S("why", err.message));
        return;
    }
    gateway->mesh = mesh;
    for (unsigned i = 0; i < gateway->loops; i++)
        shard_tell_mesh(&gateway->loop[i], mesh);
    mesh_view_unref(old);
}

/* The agent's file of before the boot: good until the agent publishes. */
static void table_disk(struct gateway *gateway, int table_fd, int key_fd)
{
    struct slice table;
    struct err err;
    char *data;

    if (gateway->table)
        return;
    if (table_read_file(table_fd, key_fd, &data, &table, &err) < 0) {
        log_warn("gateway", "the table on disk is not used, ignoring", LOG_S("why", err.message));
        return;
    }
    targets_forget(data);
    world_table_set(gateway, data, table.size, false); /* the table is its beginning */
    log_info("gateway", "serving from the table on disk");
}

/* ---- messages ------------------------------------------------------------------------- */

static void drain_begin(struct gateway *gateway, uint32_t within_ms, uint32_t idle_ms)
{
    if (gateway->draining)
        return;
    gateway->draining = true;
    if (!gateway->serving) {
        finish(gateway, 0);
        return;
    }
    atomic_store(&gateway->drain_idle_ms, idle_ms);
    for (unsigned i = 0; i < gateway->loops; i++)
        shard_tell_drain_all(&gateway->loop[i]);
    timer_start(gateway->drain, within_ms);
}

void gateway_loop_drained(void *data)
{
    struct gateway *gateway = data;

    if (++gateway->drained == gateway->loops)
        finish(gateway, 0);
}

static void on_drain_due(void *data)
{
    log_warn("gateway", "requests were cut: draining took too long");
    finish(data, 0);
}

static void listener_add(struct gateway *gateway, const struct message_listener *message, int *fd)
{
    if (message->kind != LISTENER_GATEWAY || gateway->going ||
        gateway->listener_count == GATEWAY_LISTENERS_MAX) {
        unknown(gateway, "a listener that is not the gateway's, or comes late");
        return;
    }
    struct gateway_listener *listener = &gateway->listeners[gateway->listener_count++];
    listener->fd = take_fd(*fd);
    listener->loop = message->loop;
    memcpy(listener->address, message->address, sizeof listener->address);
}

static void metrics_set(struct gateway *gateway, const struct message_region *message, int fd)
{
    void *memory;
    struct err err;

    if (gateway->region)
        return;
    if (shm_map(fd, message->bytes, true, &memory, &err) < 0) {
        log_error("gateway", "cannot map the metrics region", LOG_S("why", err.message));
        return;
    }
    if (!gateway_region_attach(memory, message->bytes)) {
        log_error("gateway", "the metrics region is too small", LOG_U("bytes", message->bytes));
        shm_unmap(memory, message->bytes);
        return;
    }
    gateway->region = memory;
    gateway->region_bytes = message->bytes;
    gateway->region_mapped = true;
}

static void on_demand(void *data)
{
    world_demand(data, true);
}

static void on_probe(void *data)
{
    world_probe(data);
}

/* What came before GO is known to the loops before they run. */
static void serve(struct gateway *gateway)
{
    if (gateway->serving)
        return;
    timer_stop(gateway->keyless);
    gateway->serving = true;
    for (unsigned i = 0; i < gateway->loops; i++)
        shard_start(gateway, i);
    log_debug("gateway", "serving", LOG_U("loops", gateway->loops),
              LOG_U("listeners", gateway->listener_count));
}

static void on_keyless(void *data)
{
    serve(data); /* clients of its own are not to wait for an agent that is away */
}

/* Until its agent has told the keys it knows no other PoP, and would turn away all that these pass
 * on. Who connects meanwhile waits in the backlog. READY is told before: in an upgrade the
 * supervisor lets agent and gateway meet only then. */
static void go(struct gateway *gateway)
{
    union message ready = { .as_MESSAGE_READY = MESSAGE_INIT(MESSAGE_READY) };

    if (gateway->going)
        return;
    gateway->going = true;
    timer_start(gateway->demand, gateway_demand_ms);
    metric_add(metrics_series(&gateway->metrics, GATEWAY_STARTS, NULL), 1);
    gateway_send_supervisor(gateway, &ready);
    if (!gateway->table || !table_pop(gateway->table->head, 1) || peer_keys_came(gateway->keys))
        serve(gateway);
    else
        timer_start(gateway->keyless, KEYLESS_MS);
}

/* Loops are made when the first thing is to be told to them: by then START, the listeners and the
 * metrics region have come. */
static void loops_prepare(struct gateway *gateway)
{
    if (gateway->loop[0].loop)
        return;
    if (!gateway->region) {
        gateway->region_bytes = gateway_region_bytes();
        gateway->region = mmap(NULL, gateway->region_bytes, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (gateway->region == MAP_FAILED)
            mem_abort(gateway->region_bytes);
        (void)gateway_region_attach(gateway->region, gateway->region_bytes);
        log_warn("gateway", "no metrics region came: counters end with this process");
    }
    gateway_metrics_attach(&gateway->metrics, gateway->region, gateway_set(gateway),
                           PERIGEE_LOOPS_MAX);
    for (unsigned i = 0; i < gateway->loops; i++)
        shard_prepare(gateway, i);
    if (!gateway->beside)
        gateway_metrics_ended(gateway->region, !gateway_set(gateway));
}

static void on_agent_event(struct watch *watch, unsigned events, void *data);

static void peer_set(struct gateway *gateway, int *fd)
{
    if (gateway->agent)
        agent_lost(gateway, "there is a new one");
    gateway->agent = channel_new(take_fd(*fd));
    gateway->agent_watch =
        watch_new(gateway->main, channel_fd(gateway->agent), WATCH_READ, on_agent_event, gateway);
    /* A new agent knows of no replica that is ready, nor which ones the one before had us drain. */
    MAP_EACH (entry, &gateway->replicas) {
        const struct replica *replica = entry->value;
        union message message = { .as_MESSAGE_REPLICA_READY = MESSAGE_INIT(MESSAGE_REPLICA_READY) };
        message.as_MESSAGE_REPLICA_READY.replica = replica->id;
        if (replica->state == REPLICA_READY)
            (void)gateway_send_agent(gateway, &message);
        else if (replica->state == REPLICA_DRAINING)
            world_replica_drain(gateway, replica->id);
    }
    if (gateway->table_served)
        world_table_served(gateway, gateway->table_served);
    world_demand(gateway, false);
}

static void on_supervisor_message(struct gateway *gateway, const union message *message, int *fds,
                                  size_t fd_count)
{
    uint16_t type = message->head.type;

    if (type != MESSAGE_START && gateway->loops == 0) {
        unknown(gateway, "a message before START");
        return;
    }
    switch (type) {
    case MESSAGE_START:
        if (gateway->loops == 0 && message->as_MESSAGE_START.loops > 0 &&
            message->as_MESSAGE_START.loops <= PERIGEE_LOOPS_MAX) {
            gateway->start = message->as_MESSAGE_START;
            gateway->loops = gateway->start.loops;
            gateway->beside = gateway->start.flags & MESSAGE_BESIDE;
        }
        return;
    case MESSAGE_LISTENER:
        if (fd_count == 1)
            listener_add(gateway, &message->as_MESSAGE_LISTENER, &fds[0]);
        return;
    case MESSAGE_METRICS:
        if (fd_count == 1)
            metrics_set(gateway, &message->as_MESSAGE_METRICS, fds[0]);
        return;
    case MESSAGE_DRAIN:
        drain_begin(gateway, message->as_MESSAGE_DRAIN.within_ms,
                    message->as_MESSAGE_DRAIN.idle_ms);
        return;
    case MESSAGE_PEER:
        if (fd_count == 1)
            peer_set(gateway, &fds[0]);
        return;
    default:
        break;
    }
    loops_prepare(gateway);
    switch (type) {
    case MESSAGE_TABLE_NEW:
        if (fd_count == 1)
            table_new(gateway, &fds[0]);
        break;
    case MESSAGE_MESH_NEW:
        if (fd_count == 1)
            mesh_new(gateway, fds[0]);
        break;
    case MESSAGE_TABLE_DISK:
        if (fd_count == 2)
            table_disk(gateway, fds[0], fds[1]);
        break;
    case MESSAGE_ALONE:
        gateway->beside = false;
        gateway_metrics_ended(gateway->region, !gateway_set(gateway));
        targets_alone(gateway);
        break;
    case MESSAGE_GO:
        go(gateway);
        break;
    case MESSAGE_NETNS:
        if (fd_count == 1 && message->as_MESSAGE_NETNS.loop < gateway->loops)
            shard_tell_inside(&gateway->loop[message->as_MESSAGE_NETNS.loop], take_fd(fds[0]));
        break;
    case MESSAGE_REPLICA_ADDED:
        world_replica_added(gateway, &message->as_MESSAGE_REPLICA_ADDED, fds, fd_count);
        break;
    case MESSAGE_REPLICA_WALLS:
        world_replica_walls(gateway, message->as_MESSAGE_REPLICA_WALLS.replica);
        break;
    case MESSAGE_REPLICA_EXITED:
        world_replica_exited(gateway, message->as_MESSAGE_REPLICA_EXITED.replica);
        break;
    case MESSAGE_ARENA:
        if (fd_count == 1)
            world_arena(gateway, &message->as_MESSAGE_ARENA, fds[0]);
        break;
    default:
        unknown(gateway, message_name(type));
        break;
    }
}

static void on_agent_message(struct gateway *gateway, union message *message)
{
    switch (message->head.type) {
    case MESSAGE_REPLICA_DRAIN:
        world_replica_drain(gateway, message->as_MESSAGE_REPLICA_DRAIN.replica);
        break;
    case MESSAGE_REPOSITORY_DONE:
        world_repository_done(gateway, &message->as_MESSAGE_REPOSITORY_DONE);
        break;
    case MESSAGE_PEER_KEY:
        peer_keys_take(gateway->keys, &message->as_MESSAGE_PEER_KEY);
        if (peer_keys_came(gateway->keys) && timer_running(gateway->keyless))
            serve(gateway);
        break;
    default:
        unknown(gateway, message_name(message->head.type));
        break;
    }
}

/* ---- channels ------------------------------------------------------------------------- */

/* Everything there is; false: the peer is gone. */
static bool channel_read(struct gateway *gateway, struct channel *channel, bool agent)
{
    static union message message; /* main thread only; some KiB */
    int fds[CHANNEL_FDS_MAX];
    size_t size, fd_count;
    struct err err;

    while (!gateway->done && (!agent || gateway->agent == channel)) {
        int r = channel_receive(channel, &message, sizeof message, &size, fds, &fd_count, &err);
        if (r == 0)
            return true;
        if (r == ERR_CANCELED)
            return false;
        if (r < 0) {
            unknown(gateway, err.message);
            continue;
        }
        if (message_check(&message, size, fd_count, &err) < 0)
            unknown(gateway, err.message);
        else if (agent)
            on_agent_message(gateway, &message);
        else
            on_supervisor_message(gateway, &message, fds, fd_count);
        for (size_t i = 0; i < fd_count; i++)
            fd_close(&fds[i]);
    }
    return true;
}

static void on_agent_event(struct watch *watch, unsigned events, void *data)
{
    struct gateway *gateway = data;
    struct channel *channel = gateway->agent;
    struct err err;

    if (events & WATCH_WRITE && channel_flush(channel, &err) < 0) {
        agent_lost(gateway, err.message);
        return;
    }
    if (!channel_read(gateway, channel, true)) {
        agent_lost(gateway, "end of file");
        return;
    }
    if (gateway->agent == channel)
        watch_again(watch, channel);
}

static void on_supervisor_event(struct watch *watch, unsigned events, void *data)
{
    struct gateway *gateway = data;
    struct err err;

    if ((events & WATCH_WRITE && channel_flush(gateway->supervisor, &err) < 0) ||
        !channel_read(gateway, gateway->supervisor, false)) {
        finish(gateway, 1);
        return;
    }
    if (!gateway->done)
        watch_again(watch, gateway->supervisor);
}

static void on_lifeline(struct watch *watch, unsigned events, void *data)
{
    (void)watch;
    (void)events;
    finish(data, 1);
}

/* ---- life ----------------------------------------------------------------------------- */

static uint64_t memory_bytes(void)
{
    struct sysinfo info;

    if (sysinfo(&info) < 0)
        return UINT64_C(1) << 30;
    return (uint64_t)info.totalram * info.mem_unit;
}

/* `perigee up` has checked them, and put them into the environment. */
static void limits_read(struct gateway *gateway)
{
    const char *text = getenv(GATEWAY_LIMITS_ENVIRONMENT);
    struct err err;

    gateway->limits = http_server_limits_default();
    if (text && http_server_limits_parse(slice_of(text), &gateway->limits, &err) < 0)
        log_warn("gateway", "limits refused, going on without", LOG_S("why", err.message));
    gateway->crowd =
        crowd_new(gateway->limits.address_connections_max, gateway->limits.address_loopback);
    gateway->trust = trust_of_environment();
}

static void gateway_begin(struct gateway *gateway, int channel_fd_taken, int lifeline_fd)
{
    limits_read(gateway);
    residency_begin(gateway);
    gateway->main = loop_new();
    gateway->keys = peer_keys_new();
    gateway->book = load_book_new();
    list_init(&gateway->early);
    uint64_t share = memory_bytes() / 100 * gateway_memory_share_percent;
    gateway->memory.kept_max = share / 100 * gateway_kept_share_percent;
    gateway->memory.bytes_max = share - gateway->memory.kept_max;
    gateway->supervisor = channel_new(channel_fd_taken);
    gateway->supervisor_watch =
        watch_new(gateway->main, channel_fd_taken, WATCH_READ, on_supervisor_event, gateway);
    gateway->lifeline = lifeline_fd;
    if (lifeline_fd >= 0)
        gateway->lifeline_watch =
            watch_new(gateway->main, lifeline_fd, WATCH_READ, on_lifeline, gateway);
    gateway->demand = timer_new(gateway->main, on_demand, gateway);
    gateway->denied = timer_new(gateway->main, residency_tell, gateway);
    gateway->asked = timer_new(gateway->main, asked_tell, gateway);
    gateway->drain = timer_new(gateway->main, on_drain_due, gateway);
    gateway->probe = timer_new(gateway->main, on_probe, gateway);
    gateway->keyless = timer_new(gateway->main, on_keyless, gateway);
    gateway->table_again = timer_new(gateway->main, on_table_again, gateway);
    gateway->table_later = -1;
    list_init(&gateway->later);
    gateway->later_due = timer_new(gateway->main, later_again, gateway);
}

/* No thread runs any more. What was told and reported is carried out to the end, in rounds: telling
 * leads to reports, and these to telling. */
static void loops_free(struct gateway *gateway)
{
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < gateway->loops; i++)
            (void)loop_run_once(gateway->loop[i].loop, false);
        (void)loop_run_once(gateway->main, false);
    }
    for (unsigned i = 0; i < gateway->loops; i++)
        shard_free(&gateway->loop[i]);
    mesh_view_unref(take_ptr(gateway->mesh));
    world_free(gateway);
}

/* In order: clients are cut, loops end, and only then is taken away what they stood on. */
static void gateway_end(struct gateway *gateway)
{
    bool prepared = gateway->loop[0].loop != NULL;

    world_early_free(gateway);
    timer_stop(gateway->table_again);
    timer_stop(gateway->later_due);
    if (prepared && gateway->serving)
        for (unsigned i = 0; i < gateway->loops; i++)
            shard_stop(&gateway->loop[i]);
    if (prepared && gateway->serving)
        for (unsigned i = 0; i < gateway->loops; i++)
            pthread_join(gateway->loop[i].thread, NULL);
    watch_free(gateway->supervisor_watch);
    watch_free(gateway->agent_watch);
    watch_free(gateway->lifeline_watch);
    gateway->supervisor_watch = gateway->agent_watch = NULL;
    channel_free(take_ptr(gateway->agent));
    if (prepared)
        loops_free(gateway);
    timer_free(gateway->demand);
    timer_free(gateway->denied);
    timer_free(gateway->asked);
    timer_free(gateway->drain);
    timer_free(gateway->probe);
    timer_free(gateway->keyless);
    timer_free(gateway->table_again);
    later_end(gateway);
    fd_close(&gateway->table_later);
    channel_free(gateway->supervisor);
    loop_free(gateway->main);
    metrics_deinit(&gateway->metrics);
    crowd_free(gateway->crowd);
    trust_free(gateway->trust);
    residency_end(gateway);
    peer_keys_free(gateway->keys);
    load_book_free(gateway->book);
    for (unsigned i = 0; i < gateway->listener_count; i++)
        fd_close(&gateway->listeners[i].fd);
    fd_close(&gateway->lifeline);
    if (gateway->region_mapped)
        shm_unmap(gateway->region, gateway->region_bytes);
    else if (gateway->region)
        munmap(gateway->region, gateway->region_bytes);
}

int gateway_main(int channel_fd_taken, int lifeline_fd)
{
    struct gateway *gateway = mem_zalloc(sizeof *gateway);

    /* Ctrl-C goes to the whole process group: it is the supervisor that ends us, after a drain. */
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    gateway_begin(gateway, channel_fd_taken, lifeline_fd);
    loop_run(gateway->main);
    gateway_end(gateway);
    int status = gateway->status;
    free(gateway);
    return status;
}
