/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One event loop on its thread: listeners and deadlines. What it is told, and tells, is
 * shard_tell.c's and shard_report.c's.
 */
#include <stdio.h>
#include <sys/resource.h>

#include "base/auto.h"
#include "gateway/core.h"
#include "gateway/dispatch.h"
#include "gateway/forward.h"
#include "gateway/mesh.h"
#include "gateway/poll.h"
#include "gateway/proxy.h"
#include "gateway/request.h"
#include "gateway/shard_own.h"
#include "http/server.h"
#include "http/trust.h"
#include "io/loop.h"
#include "io/sleeper.h"
#include "io/socket.h"
#include "io/timer.h"

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
    gl->tick = timer_new(gl->loop, shard_tick, gl);
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
