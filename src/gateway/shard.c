/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One event loop on its thread: listeners, replicas' pipes, deadlines, and what the main thread
 * tells it. Everything told is a small heap object with a reference to what it is about;
 * loop_post() keeps the order, so that a replica is attached before it is ready, and ready before
 * it is gone.
 */
#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "gateway/admit.h"
#include "gateway/core.h"
#include "gateway/dispatch.h"
#include "gateway/forward.h"
#include "gateway/mesh.h"
#include "gateway/poll.h"
#include "gateway/proxy.h"
#include "gateway/request.h"
#include "gateway/target.h"
#include "http/server.h"
#include "http/trust.h"
#include "io/loop.h"
#include "io/sleeper.h"
#include "io/socket.h"
#include "io/timer.h"
#include "sys/fd.h"

/* ---- deadlines: one timer for all ----------------------------------------------------- */

static void timer_arm(struct gateway_loop *gl)
{
    int64_t due = env_timers_next_ns(&gl->deadlines);

    if (due == gl->timer_due_ns)
        return;
    gl->timer_due_ns = due;
    if (due == INT64_MAX) {
        timer_stop(gl->timer);
        return;
    }
    int64_t ms = (due - loop_now_ns()) / ENV_MS + 1; /* not before it is due */
    timer_start(gl->timer, ms > 0 ? ms : 0);
}

static void on_timer(void *data)
{
    struct gateway_loop *gl = data;

    gl->timer_due_ns = INT64_MAX;
    (void)env_timers_run(&gl->deadlines, loop_now_ns());
    timer_arm(gl);
}

/* An earlier deadline moves the timer; a later or stopped one lets it come in vain, once: most
 * requests are answered long before, and their timers cost two writes to a heap and no call. */
void shard_deadline(struct gateway_loop *gl, struct env_timer *timer, int64_t due_ns,
                    env_timer_cb on_due, void *data)
{
    env_timers_start(&gl->deadlines, timer, due_ns, on_due, data);
    if (due_ns < gl->timer_due_ns)
        timer_arm(gl);
}

void shard_deadline_stop(struct gateway_loop *gl, struct env_timer *timer)
{
    if (env_timer_armed(timer))
        env_timers_stop(&gl->deadlines, timer);
}

uint64_t shard_random(struct gateway_loop *gl)
{
    /* splitmix64: ids need to differ, not to be secret */
    uint64_t z = gl->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

struct metric_series *shard_series(struct gateway_loop *gl, const struct table_head *table,
                                   const struct table_endpoint *row, struct endpoint *endpoint,
                                   unsigned metric)
{
    struct endpoint_side *side = &endpoint->sides[gl->index];

    if (!side->series) /* nobody asked for it yet: those at zero, for the most part */
        side->series = mem_zalloc(gateway_metrics_count * sizeof(struct metric_series *));
    struct metric_series **series = &side->series[metric];
    if (!*series) {
        struct slice labels[] = { table_text(table, row->project), table_text(table, row->name) };
        *series = metrics_series(&gl->metrics, metric, labels);
    }
    return *series;
}

/* ---- telling the main thread ---------------------------------------------------------- */

struct report {
    struct gateway *gateway;
    uint64_t id;
    enum replica_end end;
    char text[256];
    struct message_repository repository;
};

static struct report *report_new(struct gateway_loop *gl, uint64_t id)
{
    struct report *report = mem_zalloc(sizeof *report);

    report->gateway = gl->gateway;
    report->id = id;
    return report;
}

static void on_report_kill(void *data)
{
    struct report *report = data;

    world_kill(report->gateway, report->id, report->end, report->text);
    free(report);
}

void shard_kill(struct gateway_loop *gl, struct lane *lane, enum replica_end end, const char *text)
{
    struct report *report = report_new(gl, lane->replica->id);

    report->end = end;
    snprintf(report->text, sizeof report->text, "%s", text);
    /* Nothing new goes there meanwhile. */
    if (!list_empty(&lane->link)) {
        struct revision *revision = lane->replica->owner;
        list_remove(&lane->link);
        revision->sides[gl->index].lane_count--;
    }
    loop_post(gl->gateway->main, on_report_kill, report);
}

static void on_report_look(void *data)
{
    struct report *report = data;

    world_replica_look(report->gateway, report->id);
    free(report);
}

static void on_report_arena(void *data)
{
    struct report *report = data;

    world_arena_want(report->gateway, report->id);
    free(report);
}

void shard_want_arena(struct gateway_loop *gl, uint64_t revision)
{
    loop_post(gl->gateway->main, on_report_arena, report_new(gl, revision));
}

static void on_report_drained(void *data)
{
    struct report *report = data;

    world_replica_lane_drained(report->gateway, report->id);
    free(report);
}

void shard_lane_drained(struct gateway_loop *gl, uint64_t replica)
{
    loop_post(gl->gateway->main, on_report_drained, report_new(gl, replica));
}

static void on_report_repository(void *data)
{
    struct report *report = data;
    union message message = { .as_MESSAGE_REPOSITORY = report->repository };

    if (!gateway_send_agent(report->gateway, &message)) {
        struct message_repository_done done = { .request = report->repository.request,
                                                .code = ERR_OVERLOADED };
        snprintf(done.text, sizeof done.text, "the agent of this PoP is restarting; try again");
        for (unsigned i = 0; i < report->gateway->loops; i++)
            shard_tell_done(&report->gateway->loop[i], &done);
    }
    free(report);
}

void shard_repository(struct gateway_loop *gl, const struct message_repository *message)
{
    struct report *report = report_new(gl, 0);

    report->repository = *message;
    loop_post(gl->gateway->main, on_report_repository, report);
}

static void on_report_table(void *data)
{
    struct report *report = data;

    world_table_served(report->gateway, report->id);
    free(report);
}

static void on_report_inside(void *data)
{
    struct report *report = data;
    union message message = { .as_MESSAGE_NETNS_LOST = MESSAGE_INIT(MESSAGE_NETNS_LOST) };

    message.as_MESSAGE_NETNS_LOST.loop = (uint32_t)report->id;
    gateway_send_supervisor(report->gateway, &message);
    free(report);
}

void shard_inside_lost(struct gateway_loop *gl)
{
    loop_post(gl->gateway->main, on_report_inside, report_new(gl, gl->index));
}

/* ---- replicas ------------------------------------------------------------------------- */

static void on_pipe(struct watch *watch, unsigned events, void *data)
{
    struct lane *lane = data;
    struct gateway_loop *gl = lane->owner;
    bool ended = false;
    (void)events;

    lane_pipe_drain(lane, &ended);
    if (ended) /* it is dying; that it is dead, the supervisor says */
        watch_set(watch, 0);
    if (lane_pipe_flooded(lane) && !lane->lied) {
        lane->lied = true; /* its tickets come back when it was reaped */
        watch_set(watch, 0);
        list_remove(&lane->link_active);
        shard_kill(gl, lane, REPLICA_END_LIED, "it wakes the gateway without a cause");
        return;
    }
    if (!lane->ready && gl->index == 0)
        loop_post(gl->gateway->main, on_report_look, report_new(gl, lane->replica->id));
    if (!list_empty(&lane->link_active)) {
        lane_disarm(lane);
        dispatch_completions(gl, lane);
    }
}

struct tell {
    struct gateway_loop *gl;
    struct replica *replica;   /* a reference, or NULL */
    struct table *table;       /* likewise */
    struct revision *revision; /* likewise */
    struct mesh_view *mesh;    /* likewise */
    struct message_repository_done done;
    int fd; /* -1: none */
};

static struct tell *tell_new(struct gateway_loop *gl)
{
    struct tell *tell = mem_zalloc(sizeof *tell);

    tell->gl = gl;
    tell->fd = -1;
    return tell;
}

static void tell_free(struct tell *tell)
{
    replica_unref(tell->replica);
    revision_unref(tell->revision);
    table_unref(tell->table);
    mesh_view_unref(tell->mesh);
    fd_close(&tell->fd);
    free(tell);
}

static struct lane *tell_lane(const struct tell *tell)
{
    return &tell->replica->lanes[tell->gl->index];
}

static struct revision_side *lane_side(struct gateway_loop *gl, const struct lane *lane)
{
    return &((struct revision *)lane->replica->owner)->sides[gl->index];
}

static void on_attach(void *data)
{
    struct tell *tell = data;
    struct lane *lane = tell_lane(tell);

    replica_ref(tell->replica);     /* the lane's, until on_gone, */
    (void)take_ptr(tell->revision); /* and so is this one */
    lane->owner = tell->gl;
    if (lane->pipe >= 0)
        lane->watch = watch_new(tell->gl->loop, lane->pipe, WATCH_READ, on_pipe, lane);
    tell_free(tell);
}

static void on_ready(void *data)
{
    struct tell *tell = data;
    struct lane *lane = tell_lane(tell);
    struct revision_side *side = lane_side(tell->gl, lane);

    if (!lane->ready && !lane->draining && !lane->gone && lane->pipe >= 0) {
        lane->ready = true;
        if (side->lane_count++ == 0)
            side->ready_since_ns = loop_now_ns();
        list_append(&side->lanes, &lane->link);
        admit_continue(side);
    }
    tell_free(tell);
}

static void lane_out(struct gateway_loop *gl, struct lane *lane)
{
    struct revision_side *side = lane_side(gl, lane);

    if (list_empty(&lane->link))
        return;
    list_remove(&lane->link);
    side->lane_count--;
}

static void on_drain_lane(void *data)
{
    struct tell *tell = data;
    struct gateway_loop *gl = tell->gl;
    struct lane *lane = tell_lane(tell);

    if (!lane->draining && !lane->gone) {
        lane->draining = true;
        lane_out(gl, lane);
        if (lane->outstanding == 0)
            shard_lane_drained(gl, lane->replica->id);
        admit_review(gl);
    }
    tell_free(tell);
}

static void on_gone(void *data)
{
    struct tell *tell = data;
    struct gateway_loop *gl = tell->gl;
    struct lane *lane = tell_lane(tell);
    struct revision *revision = lane->replica->owner;

    lane_out(gl, lane);
    if (!lane->lied && lane->outstanding > 0)
        dispatch_completions(gl, lane); /* what it had answered before it died, is answered */
    lane->gone = true;
    lane->owner = NULL;
    watch_free(take_ptr(lane->watch));
    dispatch_abandon(gl, lane);
    gl->dropped += lane->dropped;
    admit_review(gl);
    replica_unref(tell->replica);
    revision_unref(revision);
    tell_free(tell);
}

static void on_revision(void *data)
{
    struct tell *tell = data;

    admit_continue(&tell->revision->sides[tell->gl->index]);
    tell_free(tell);
}

static bool name_in(const struct table *table, struct slice name)
{
    for (uint32_t i = 0; i < table->head->endpoints.count; i++)
        if (slice_equal(table_text(table->head, table_endpoint(table->head, i)->name), name))
            return true;
    return false;
}

/* Series of endpoints that were deleted go; in time the slice would be full of them. A request that
 * still runs finds its pointers gone, and at worst makes a series anew. */
static void series_forget(struct gateway_loop *gl, const struct table *old, const struct table *new)
{
    for (uint32_t i = 0; i < old->head->endpoints.count; i++) {
        struct slice name = table_text(old->head, table_endpoint(old->head, i)->name);
        if (name_in(new, name))
            continue;
        struct endpoint_side *side = &old->endpoints[i]->sides[gl->index];
        free(take_ptr(side->series));
        side->requests_ok = side->proxied_answered = NULL;
        for (unsigned row = 0; row < gateway_metrics_count; row++)
            if (strncmp(gateway_metrics.rows[row].labels, "project,endpoint", 16) == 0)
                metrics_forget(&gl->metrics, row, 1, name);
    }
}

static void on_table(void *data)
{
    struct tell *tell = data;
    struct table *old = tell->gl->table;

    tell->gl->table = take_ptr(tell->table);
    targets_changed(tell->gl, old, tell->gl->table);
    forwards_table(tell->gl);
    metric_set(metrics_series(&tell->gl->metrics, GATEWAY_TABLE, NULL),
               tell->gl->index == 0 ? (int64_t)tell->gl->table->head->number : 0);
    if (old) {
        admit_review(tell->gl);
        series_forget(tell->gl, old, tell->gl->table);
    }
    proxies_table(tell->gl);
    if (atomic_fetch_sub(&tell->gl->table->untaken, 1) == 1)
        loop_post(tell->gl->gateway->main, on_report_table,
                  report_new(tell->gl, tell->gl->table->head->number));
    table_unref(old);
    tell_free(tell);
}

static void on_mesh(void *data)
{
    struct tell *tell = data;
    struct mesh_view *old = tell->gl->mesh;

    tell->gl->mesh = take_ptr(tell->mesh);
    mesh_view_unref(old);
    forwards_review(tell->gl);
    tell_free(tell);
}

static void on_done(void *data)
{
    struct tell *tell = data;

    repository_done(tell->gl, &tell->done);
    tell_free(tell);
}

static void on_inside(void *data)
{
    struct tell *tell = data;

    proxies_inside(tell->gl, take_fd(tell->fd));
    tell_free(tell);
}

/* What a lane leans on is referenced here, by the main thread: it may sweep the revision away
 * before the loop has come to look. */
void shard_tell_attach(struct gateway_loop *gl, struct replica *replica)
{
    struct tell *tell = tell_new(gl);

    tell->replica = replica_ref(replica);
    tell->revision = revision_ref(replica->owner);
    loop_post(gl->loop, on_attach, tell);
}

static void tell_replica(struct gateway_loop *gl, struct replica *replica, void (*fn)(void *data))
{
    struct tell *tell = tell_new(gl);

    tell->replica = replica_ref(replica);
    loop_post(gl->loop, fn, tell);
}

void shard_tell_ready(struct gateway_loop *gl, struct replica *replica)
{
    tell_replica(gl, replica, on_ready);
}

void shard_tell_drain(struct gateway_loop *gl, struct replica *replica)
{
    tell_replica(gl, replica, on_drain_lane);
}

void shard_tell_gone(struct gateway_loop *gl, struct replica *replica)
{
    tell_replica(gl, replica, on_gone);
}

void shard_tell_revision(struct gateway_loop *gl, struct revision *revision)
{
    struct tell *tell = tell_new(gl);

    tell->revision = revision_ref(revision);
    loop_post(gl->loop, on_revision, tell);
}

void shard_tell_table(struct gateway_loop *gl, struct table *table)
{
    struct tell *tell = tell_new(gl);

    tell->table = table_ref(table);
    loop_post(gl->loop, on_table, tell);
}

void shard_tell_mesh(struct gateway_loop *gl, struct mesh_view *mesh)
{
    struct tell *tell = tell_new(gl);

    tell->mesh = mesh_view_ref(mesh);
    loop_post(gl->loop, on_mesh, tell);
}

void shard_tell_done(struct gateway_loop *gl, const struct message_repository_done *done)
{
    struct tell *tell = tell_new(gl);

    tell->done = *done;
    loop_post(gl->loop, on_done, tell);
}

void shard_tell_inside(struct gateway_loop *gl, int fd)
{
    struct tell *tell = tell_new(gl);

    tell->fd = fd;
    loop_post(gl->loop, on_inside, tell);
}

/* ---- once a second -------------------------------------------------------------------- */

static const struct {
    unsigned row;
    size_t offset; /* of the server's counter */
    const char *label;
} server_counters[] = {
#define COUNTER(row, name, label)                                                                  \
    {                                                                                              \
        row, offsetof(struct http_server_stats, name), label                                       \
    }
    COUNTER(GATEWAY_ACCEPTED, accepted, ""),
    COUNTER(GATEWAY_REFUSED, refused, ""),
    COUNTER(GATEWAY_WIRE_IN, bytes_in, ""),
    COUNTER(GATEWAY_WIRE_OUT, bytes_out, ""),
    COUNTER(GATEWAY_AWAY, full, "full"),
    COUNTER(GATEWAY_AWAY, crowded, "address"),
    COUNTER(GATEWAY_EVICTED, evicted, ""),
#define TIMEOUT(name) COUNTER(GATEWAY_TIMEOUTS, timeouts.name, #name),
    HTTP_SERVER_TIMEOUTS(TIMEOUT)
#undef TIMEOUT
#undef COUNTER
};

static uint64_t server_count(const struct http_server_stats *stats, size_t index)
{
    uint64_t count;
    memcpy(&count, (const char *)stats + server_counters[index].offset, sizeof count);
    return count;
}

static void server_metrics(struct gateway_loop *gl)
{
    const struct http_server_stats *stats = http_server_stats(gl->server);
    struct metrics *metrics = &gl->metrics;

    metric_set(metrics_series(metrics, GATEWAY_CONNECTIONS, NULL), (int64_t)stats->open);
    for (size_t i = 0; i < sizeof server_counters / sizeof *server_counters; i++) {
        uint64_t more = server_count(stats, i) - server_count(&gl->seen, i);
        struct slice label = slice_of(server_counters[i].label);
        metric_add(metrics_series(metrics, server_counters[i].row, &label), more);
    }
    uint64_t away = stats->full + stats->crowded - gl->seen.full - gl->seen.crowded;
    if (away)
        log_warn("gateway", "connections were sent away", LOG_U("count", away),
                 LOG_U("full", stats->full - gl->seen.full),
                 LOG_U("one_address", stats->crowded - gl->seen.crowded));
    metric_add(metrics_series(metrics, GATEWAY_DROPPED, NULL), gl->dropped);
    gl->dropped = 0;
    gl->seen = *stats;
}

static void queued_metrics(struct gateway_loop *gl, const struct table_endpoint *row,
                           struct endpoint *endpoint)
{
    static const struct slice classes[QUEUE_CLASSES] = { SLICE("interactive"), SLICE("batch") };
    const struct table_head *table = gl->table->head;

    for (unsigned i = 0; i < QUEUE_CLASSES; i++) {
        struct slice labels[] = { table_text(table, row->project), table_text(table, row->name),
                                  classes[i] };
        metric_set(metrics_series(&gl->metrics, GATEWAY_QUEUED, labels),
                   atomic_load(&endpoint->waiting[i].count));
    }
}

/* Queue and running are sums over loops: loop 0 writes them for all. */
static void endpoint_metrics(struct gateway_loop *gl)
{
    struct table *table = gl->table;

    for (uint32_t i = 0; table && i < table->head->endpoints.count; i++) {
        const struct table_endpoint *row = table_endpoint(table->head, i);
        uint32_t running = 0;
        for (uint32_t k = 0; k < row->revision_count; k++) {
            struct revision_side *side =
                &table->revisions[row->revision_first + k]->sides[gl->index];
            struct lane *lane;
            LIST_EACH (lane, &side->lanes, struct lane, link)
                running += place_running(&lane->replica->place);
            running += targets_running(side);
        }
        struct endpoint *endpoint = table->endpoints[i];
        queued_metrics(gl, row, endpoint);
        metric_set(shard_series(gl, table->head, row, endpoint, GATEWAY_RUNNING), running);
    }
    metric_set(metrics_series(&gl->metrics, GATEWAY_MEMORY, NULL),
               (int64_t)atomic_load(&gl->gateway->memory.used));
    metric_set(metrics_series(&gl->metrics, GATEWAY_KEPT, NULL),
               (int64_t)atomic_load(&gl->gateway->memory.kept));
}

static void memory_trim(struct gateway_loop *gl)
{
    int64_t now = loop_now_ms(gl->loop);

    MAP_EACH (entry, &gl->touched) {
        struct revision_side *side = entry->value;
        if (now - side->used_ms < gateway_trim_idle_ms || blocks_used_bytes(side->blocks) > 0)
            continue;
        blocks_trim(side->blocks);
        map_remove_u64(&gl->touched, side->revision->uid);
        revision_unref(side->revision);
    }
}

static void on_tick(void *data)
{
    struct gateway_loop *gl = data;

    server_metrics(gl);
    if (gl->index == 0)
        endpoint_metrics(gl);
    memory_trim(gl);
    answer_shed(gl);
    forwards_review(gl);
    timer_start(gl->tick, 1000);
}

/* ---- the thread ----------------------------------------------------------------------- */

static void on_drained(void *data)
{
    struct gateway_loop *gl = data;

    loop_post(gl->gateway->main, gateway_loop_drained, gl->gateway);
}

static void on_drain_all(void *data)
{
    struct gateway_loop *gl = data;

    if (gl->draining || !gl->server)
        return;
    gl->draining = true;
    http_server_drain(gl->server, atomic_load(&gl->gateway->drain_idle_ms), on_drained, gl);
}

void shard_tell_drain_all(struct gateway_loop *gl)
{
    loop_post(gl->loop, on_drain_all, gl);
}

static void on_stop(void *data)
{
    struct gateway_loop *gl = data;

    http_server_free(take_ptr(gl->server));
    forwards_free(take_ptr(gl->forwards));
    proxies_free(take_ptr(gl->proxies));
    timer_free(take_ptr(gl->tick)); /* it looks at the server; the loop runs on for a few rounds */
    loop_stop(gl->loop);
}

void shard_stop(struct gateway_loop *gl)
{
    loop_post(gl->loop, on_stop, gl);
}

static void *shard_run(void *data)
{
    struct gateway_loop *gl = data;

    loop_run(gl->loop);
    return NULL;
}

/* A descriptor that is not left over is a replica that cannot be attached: clients may have three
 * quarters of what this process may open. Each loop has its part, at least one. */
static uint64_t connections_max(const struct gateway *gateway, uint64_t wanted)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur / 4 * 3 < wanted)
        wanted = limit.rlim_cur / 4 * 3;
    return wanted > gateway->loops ? wanted / gateway->loops : 1;
}

static void listen_on(struct gateway_loop *gl, const struct gateway_listener *listener)
{
    if (trust_in_home(listener->address, gl->gateway->start.home))
        http_server_listen_trusted(gl->server, listener->fd);
    else
        http_server_listen(gl->server, listener->fd);
}

/* Everything but the thread, so that what the main thread posts before it runs finds all in place.
 */
void shard_prepare(struct gateway *gateway, unsigned index)
{
    struct gateway_loop *gl = &gateway->loop[index];
    struct http_server_limits limits = gateway->limits;

    gl->gateway = gateway;
    gl->index = index;
    gl->loop = loop_new();
    list_init(&gl->active);
    list_init(&gl->to_wake);
    gl->wake_due_ns = INT64_MAX;
    list_init(&gl->waiting);
    list_init(&gl->answers);
    list_init(&gl->flights);
    gl->timer = timer_new(gl->loop, on_timer, gl);
    gl->timer_due_ns = INT64_MAX;
    gl->tick = timer_new(gl->loop, on_tick, gl);
    poll_init(gl);
    gl->random =
        (uint64_t)loop_now_ns() ^ (gateway->start.instance << 32) ^ ((uint64_t)(index + 1) << 56);
    limits.connections_max = connections_max(gateway, limits.connections_max);
    gl->server = http_server_new(gl->loop, &limits, &request_server_events, gl);
    gl->forwards = forwards_new(gl);
    gl->proxies = proxies_new(gl);
    http_server_set_crowd(gl->server, gateway->crowd);
    http_server_set_trust(gl->server, gateway->trust);
    gateway_metrics_attach(&gl->metrics, gateway->region, gateway_set(gateway), index);
    gl->decisions = gateway_decisions(gateway->region, gateway_set(gateway), index);
    timer_start(gl->tick, 1000);
    for (unsigned i = 0; i < gateway->listener_count; i++)
        if (gateway->listeners[i].loop % gateway->loops == index)
            listen_on(gl, &gateway->listeners[i]);
}

void shard_start(struct gateway *gateway, unsigned index)
{
    struct gateway_loop *gl = &gateway->loop[index];
    char name[16];

    if (pthread_create(&gl->thread, NULL, shard_run, gl) != 0)
        mem_abort(0);                                       /* no threads: nothing can be served */
    snprintf(name, sizeof name, GATEWAY_NAME "/%u", index); /* here: there is none without a name */
    (void)pthread_setname_np(gl->thread, name);
}

static void lanes_free(struct gateway_loop *gl)
{
    MAP_EACH (entry, &gl->gateway->replicas) {
        struct replica *replica = entry->value;
        struct lane *lane = &replica->lanes[gl->index];
        if (!lane->owner)
            continue;
        lane->gone = true;
        watch_free(take_ptr(lane->watch));
        dispatch_abandon(gl, lane);
        lane->owner = NULL;
        revision_unref(replica->owner);
        replica_unref(replica);
    }
}

/* After its thread has ended. */
void shard_free(struct gateway_loop *gl)
{
    lanes_free(gl);
    http_server_free(gl->server);
    forwards_free(gl->forwards);
    proxies_free(gl->proxies);
    timer_free(gl->timer);
    timer_free(gl->tick);
    sleeper_free(gl->sleeper);
    MAP_EACH (entry, &gl->touched)
        revision_unref(((struct revision_side *)entry->value)->revision);
    map_deinit(&gl->touched);
    map_deinit(&gl->repository);
    loop_free(gl->loop);
    env_timers_deinit(&gl->deadlines);
    dispatch_free(gl);
    metrics_deinit(&gl->metrics);
    table_unref(gl->table);
    mesh_view_unref(gl->mesh);
}
