/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The admin port: /metrics, /healthz, /readyz, GET and HEAD. Loopback names alone, as for control:
 * a page on the web must not read them through a rebound name (SECURITY.md, Open loopback).
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "contract/dns_metrics.h"
#include "contract/gateway_metrics.h"
#include "http/server.h"
#include "http/trust.h"
#include "io/loop.h"
#include "pop/agent.h"
#include "pop/pop_metrics.h"
#include "sys/fd.h"
#include "sys/proc.h"

METRICS_DEFINE(pop_metrics, POP_METRICS)

enum { SERIES_MAX = 4096, DRAIN_MS = 1000 };

/* ---- what /proc says of a process ------------------------------------------------------------ */

struct usage {
    uint64_t cpu_ns, resident_bytes, fds;
};

static bool usage_read(int32_t pid, struct usage *ret)
{
    char path[64];
    if (!proc_cpu_ns(pid, &ret->cpu_ns) || !proc_resident_bytes(pid, &ret->resident_bytes))
        return false;
    ret->fds = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *dir = opendir(path);
    while (dir && readdir(dir))
        ret->fds++;
    if (dir) {
        closedir(dir);
        ret->fds -= ret->fds > 2 ? 2 : ret->fds;
    }
    return true;
}

/* ---- filling in ------------------------------------------------------------------------------ */

static void one(struct metrics *metrics, unsigned row, uint64_t value)
{
    metric_set(metrics_series(metrics, row, NULL), (int64_t)value);
}

static void fill_replica(struct metrics *metrics, const struct pop_replica *replica)
{
    const struct pop_endpoint *endpoint = replica->revision->endpoint;
    char name[64], number[16];
    struct usage usage;
    snprintf(number, sizeof number, "%u", replica->revision->number);
    static const char *const states[] = { "starting", "ready", "draining", "gone" };
    const struct slice by_state[] = { slice_of(endpoint->project), slice_of(endpoint->name),
                                      slice_of(number), slice_of(states[replica->state]) };
    metric_add(metrics_series(metrics, POP_REPLICAS, by_state), 1);
    if (replica->pid <= 0 || !usage_read(replica->pid, &usage))
        return;
    const struct slice by_name[] = { slice_of(endpoint->project), slice_of(endpoint->name),
                                     slice_of(pop_replica_name(replica, name)) };
    metric_set(metrics_series(metrics, POP_REPLICA_MEMORY, by_name), (int64_t)usage.resident_bytes);
    metric_set(metrics_series(metrics, POP_REPLICA_CPU, by_name), (int64_t)usage.cpu_ns);
}

static void fill_starts(struct metrics *metrics, const struct pop_endpoint *endpoint)
{
    for (int cold = 0; endpoint->starts && cold < 2; cold++)
        for (int part = 0; part < POP_START_PARTS_END; part++) {
            const uint64_t *words = endpoint->starts->words[cold][part];
            const struct slice labels[] = { slice_of(endpoint->project), slice_of(endpoint->name),
                                            cold ? SLICE("true") : SLICE("false"),
                                            slice_of(
                                                pop_start_part_text((enum pop_start_part)part)) };
            struct metric_series *series = metrics_series(metrics, POP_START, labels);
            for (size_t i = 0; i < POP_START_WORDS; i++)
                atomic_store_explicit(&series->words[i], words[i], memory_order_relaxed);
        }
}

static void fill_process(struct metrics *metrics, const char *name, int32_t pid)
{
    struct usage usage;
    const struct slice label = slice_of(name);
    if (pid <= 0 || !usage_read(pid, &usage))
        return;
    metric_set(metrics_series(metrics, POP_PROCESS_MEMORY, &label), (int64_t)usage.resident_bytes);
    metric_set(metrics_series(metrics, POP_PROCESS_CPU, &label), (int64_t)usage.cpu_ns);
    metric_set(metrics_series(metrics, POP_PROCESS_FDS, &label), (int64_t)usage.fds);
}

static void fill_mesh(struct agent *agent, struct metrics *metrics)
{
    struct pop_mesh_peer *peer;
    LIST_EACH (peer, &agent->mesh.peers, struct pop_mesh_peer, link) {
        float rtt_ms = pop_mesh_rtt_ms(peer);
        struct slice labels[] = { slice_of(peer->name), SLICE("ok") };
        const struct {
            const char *result;
            uint64_t count;
        } counts[] = {
            { "ok", peer->heard },
            { "failed", peer->failed - peer->odd },
            { "odd", peer->odd },
        };
        if (rtt_ms >= 0)
            metric_set(metrics_series(metrics, POP_MESH_RTT, labels), (int64_t)(rtt_ms * 1e6f));
        metric_set(metrics_series(metrics, POP_MESH_UP, labels),
                   pop_mesh_health(peer, loop_now_ns()) < MESH_DOWN);
        metric_set(metrics_series(metrics, POP_MESH_LEFT, labels), (int64_t)peer->left);
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            labels[1] = slice_of(counts[i].result);
            metric_set(metrics_series(metrics, POP_MESH_PROBES, labels), (int64_t)counts[i].count);
        }
    }
}

static void fill_ledger(const struct agent_usage *usage, struct metrics *metrics)
{
    const struct slice unsent = SLICE("unsent"), unwritten = SLICE("unwritten"), due = SLICE("due");
    const struct ledger_window *window;
    const struct usage_end *end;
    int64_t waiting = 0, ends = 0;
    if (!usage->open)
        return;
    LIST_EACH (window, &usage->ledger.windows, struct ledger_window, link)
        waiting += !window->on_disk;
    LIST_EACH (end, &usage->ends, struct usage_end, link)
        ends += end->replica != 0;
    one(metrics, POP_LEDGER_BYTES, usage->ledger.file_bytes);
    metric_set(metrics_series(metrics, POP_LEDGER_WINDOWS, &unsent), usage->ledger.window_count);
    metric_set(metrics_series(metrics, POP_LEDGER_WINDOWS, &unwritten), waiting);
    metric_set(metrics_series(metrics, POP_LEDGER_WINDOWS, &due), ends);
    one(metrics, POP_LEDGER_LOST, usage->ledger.lost);
    one(metrics, POP_LEDGER_FAILED, usage->ledger.writes_failed);
    one(metrics, POP_USAGE_SENDS, usage->sends);
}

static void fill(struct agent *agent, struct metrics *metrics)
{
    const struct pop_endpoint *endpoint;
    const struct pop_revision *revision;
    const struct pop_replica *replica;
    uint64_t endpoints = 0;
    LIST_EACH (endpoint, &agent->pop.endpoints, struct pop_endpoint, link) {
        const struct slice labels[] = { slice_of(endpoint->project), slice_of(endpoint->name) };
        endpoints += endpoint->wanted;
        metric_set(metrics_series(metrics, POP_EXITS, labels), (int64_t)endpoint->exits);
        fill_starts(metrics, endpoint);
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
            LIST_EACH (replica, &revision->replicas, struct pop_replica, link)
                fill_replica(metrics, replica);
    }
    fill_mesh(agent, metrics);
    fill_ledger(&agent->usage, metrics);
    one(metrics, POP_ENDPOINTS, endpoints);
    one(metrics, POP_VOLUMES, agent->containers.volume_bytes);
    one(metrics, POP_TABLE, agent->keep.table_number);
    one(metrics, POP_CONTROL, agent->control_there);
    const struct slice done = SLICE("done"), failed = SLICE("failed");
    metric_set(metrics_series(metrics, POP_UPGRADES, &done), agent->upgrades_done);
    metric_set(metrics_series(metrics, POP_UPGRADES, &failed), agent->upgrades_failed);
    const struct slice late = SLICE("late"), refused = SLICE("refused");
    metric_set(metrics_series(metrics, POP_UNREPORTED, &late), (int64_t)agent->notes_late);
    metric_set(metrics_series(metrics, POP_UNREPORTED, &refused), (int64_t)agent->items_refused);
    fill_process(metrics, "supervisor", (int32_t)getppid());
    for (uint32_t i = 0; i < agent->process_count; i++) {
        const struct slice label = slice_of(agent->processes[i].name);
        fill_process(metrics, agent->processes[i].name, agent->processes[i].pid);
        metric_set(metrics_series(metrics, POP_PROCESS_RESTARTS, &label),
                   (int64_t)agent->processes[i].restarts);
    }
}

/* ---- answering ------------------------------------------------------------------------------- */

static void reply(struct exchange *x, int status, const char *type, struct slice body)
{
    const struct http_header headers[] = { HTTP_HEADER("Content-Type", slice_of(type)),
                                           HTTP_HEADER("Cache-Control", SLICE("no-store")) };
    exchange_reply(x, status, headers, 2, body);
}

static void refuse(struct exchange *x, enum err_code code, struct slice body)
{
    const struct err_info *info = err_info(code);
    const struct http_header headers[] = {
        HTTP_HEADER("Content-Type", SLICE("text/plain")),
        HTTP_HEADER("Perigee-Error", slice_of(info->name)),
    };
    if (code == ERR_BAD_METHOD)
        exchange_reply_method(x, "GET, HEAD", headers, 2, body);
    else
        exchange_reply(x, info->http, headers, 2, body);
}

static void reply_metrics(struct agent *agent, struct exchange *x)
{
    struct arena *arena = exchange_arena(x);
    size_t bytes = metrics_bytes(SERIES_MAX);
    auto_free void *memory = mem_zalloc(bytes);
    struct metrics metrics = {};
    metrics_attach(&metrics, &pop_metrics, memory, bytes);
    fill(agent, &metrics);
    const struct metrics_view view = { memory, bytes };
    struct slice own = metrics_print(arena, &pop_metrics, &view, 1);
    struct slice gateways = {}, dns = {};
    if (agent->metrics)
        gateways = gateway_metrics_print(arena, agent->metrics, agent->metrics_bytes);
    if (agent->dns_metrics) {
        const struct metrics_view servers = { agent->dns_metrics, agent->dns_metrics_bytes };
        dns = metrics_print(arena, &dns_metrics, &servers, 1);
    }
    metrics_deinit(&metrics);
    char *all =
        arena_format(arena, "%.*s%.*s%.*s", SLICE_FMT(gateways), SLICE_FMT(dns), SLICE_FMT(own));
    reply(x, 200, "text/plain; version=0.0.4; charset=utf-8", slice_of(all));
}

static void reply_ready(struct agent *agent, struct exchange *x)
{
    bool alone = agent->pop.no_replicas, serves = false;
    for (uint32_t i = 0; i < agent->process_count; i++)
        serves = serves || (agent->processes[i].role == (alone ? ROLE_DNS : ROLE_GATEWAY) &&
                            agent->processes[i].state == 2);
    if (agent->deleted)
        reply(
            x, 503, "text/plain",
            SLICE("this PoP was deleted at control: it serves nothing; to join again: perigee pops "
                  "create, then perigee pop --token-file\n"));
    else if (!serves)
        reply(x, 503, "text/plain",
              alone ? SLICE("DNS is not ready\n") : SLICE("the gateway is not ready\n"));
    else if (!agent->pop.begun)
        reply(x, 503, "text/plain", SLICE("no desired state yet: neither control nor the disk\n"));
    else
        reply(x, 200, "text/plain", SLICE("ready\n"));
}

static bool host_ours(const struct exchange *x)
{
    struct slice host = exchange_request(x)->host;
    struct address address;
    return exchange_peer(x)->kind == ADDRESS_UNIX || address_parse_ip(host, &address) ||
           slice_equal_nocase(host, SLICE("localhost")) || slice_ends(host, SLICE(".localhost"));
}

static void on_head(struct exchange *x, void *data)
{
    struct agent *agent = data;
    const struct http_request *request = exchange_request(x);
    bool known = slice_is(request->path, "/metrics") || slice_is(request->path, "/healthz") ||
                 slice_is(request->path, "/readyz");
    if (!host_ours(x))
        refuse(x, ERR_MISDIRECTED, SLICE("not a host of this port\n"));
    else if (!known)
        refuse(x, ERR_NOT_FOUND, SLICE("here are /metrics, /healthz and /readyz\n"));
    else if (request->method != HTTP_GET && request->method != HTTP_HEAD)
        refuse(x, ERR_BAD_METHOD, SLICE("only to be read\n"));
    else if (slice_is(request->path, "/metrics"))
        reply_metrics(agent, x);
    else if (slice_is(request->path, "/readyz"))
        reply_ready(agent, x);
    else
        reply(x, 200, "text/plain", SLICE("ok\n"));
}

void agent_admin_open(struct agent *agent)
{
    static const struct http_server_events events = { .on_head = on_head };
    struct http_server_limits limits = http_server_limits_default();
    limits.connections_max = 256;
    agent->admin = http_server_new(agent->loop, &limits, &events, agent);
    agent->trust = trust_of_environment();
    http_server_set_trust(agent->admin, agent->trust);
    for (uint32_t i = 0; i < agent->listener_count; i++)
        if (agent->in_home[i])
            http_server_listen_trusted(agent->admin, agent->listeners[i]);
        else
            http_server_listen(agent->admin, agent->listeners[i]);
}

/* Answers are out, and nobody asks any more; then what is to be on disk goes there. */
static void on_drained(void *data)
{
    struct agent *agent = data;
    env_timer_stop(agent->env, &agent->drained_late);
    if (!agent->keep.ending)
        keep_end(&agent->keep);
}

static void on_drained_late(struct env_timer *timer, void *data)
{
    (void)timer;
    on_drained(data);
}

void agent_admin_drain(struct agent *agent, uint32_t idle_ms)
{
    if (!agent->admin) {
        on_drained(agent);
        return;
    }
    env_timer_start(agent->env, &agent->drained_late, DRAIN_MS * ENV_MS, on_drained_late, agent);
    http_server_drain(agent->admin, idle_ms, on_drained, agent);
}

void agent_admin_close(struct agent *agent)
{
    http_server_free(agent->admin);
    trust_free(agent->trust);
    for (uint32_t i = 0; i < agent->listener_count; i++)
        fd_close(&agent->listeners[i]);
}
