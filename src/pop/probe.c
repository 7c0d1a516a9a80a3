/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking PoPs how they are, over connections of its own that are kept, whatever control does; and
 * telling gateway and DNS what came of it (mesh.h decides). One timer, for whatever is next.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/env.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "io/loop.h"
#include "io/timer.h"
#include "pop/agent.h"
#include "pop/pop.h"
#include "proto/hop.h"
#include "sys/fd.h"
#include "sys/shm.h"

enum {
    PROBE_TIMEOUT_MS =
        2'000, /* of a round trip of 700 ms the first over a new connection is 1.4 s */
    PROBE_KEPT_MS = 10'000,
    JITTER_PERCENT = 10,
    TARGET_BYTES = 112,
    BLOCKED_MS = 100, /* of a supervisor that does not read: it gets what is known once it does */
};

/* One question under way; freed in its on_probe_done. */
struct pop_probe {
    struct agent *agent;
    struct pop_mesh_peer *peer; /* NULL: it is asked no more, whatever comes */
    struct http_call *call;
    int status;
    float rtt_ms; /* NAN: it went over a new connection */
    char *body;
    size_t bytes, room;
};

static void look(struct agent *agent);

/* ---- one question ------------------------------------------------------------------------ */

static void on_probe_head(struct http_call *call, const struct http_response *response, void *data)
{
    struct pop_probe *probe = data;
    probe->status = response->status;
    if (http_call_reused(call))
        probe->rtt_ms = (float)(loop_now_ns() - http_call_sent_ns(call)) / 1e6f;
}

static void on_probe_body(struct http_call *call, struct slice bytes, void *data)
{
    struct pop_probe *probe = data;
    if (probe->bytes + bytes.size > PEER_LOAD_BYTES_MAX) {
        http_call_cancel(call);
        return;
    }
    if (probe->bytes + bytes.size > probe->room) {
        probe->room = (probe->bytes + bytes.size) * 2;
        probe->body = mem_resize(probe->body, probe->room, 1);
    }
    memcpy(probe->body + probe->bytes, bytes.data, bytes.size);
    probe->bytes += bytes.size;
}

/* Said when it begins and when it ends, not each second; of one that has yet to start, later. */
static void complain(const struct pop_mesh_peer *peer, const char *why)
{
    if (peer->failures == (peer->heard ? 0 : MESH_AGAIN_MAX) && !peer->self)
        log_warn("pop", "another PoP does not answer", LOG_S("pop", peer->name), LOG_S("why", why));
}

static void failed(struct pop_mesh_peer *peer, bool no, const char *why)
{
    complain(peer, why);
    pop_mesh_missed(peer, no, loop_now_ns());
}

static void full(struct pop_mesh_peer *peer, const char *why)
{
    complain(peer, why);
    pop_mesh_busy(peer, loop_now_ns());
}

static void answered(struct pop_mesh_peer *peer, const struct pop_probe *probe)
{
    bool before = peer->failures > (peer->heard ? 0 : MESH_AGAIN_MAX);
    struct err err = {};
    if (pop_mesh_heard(peer, (struct slice){ probe->body, probe->bytes }, probe->rtt_ms,
                       loop_now_ns(), &err) < 0) {
        if (!before)
            log_warn("pop", "what another PoP answers is no report of load, ignoring",
                     LOG_S("pop", peer->name), LOG_S("why", err.message));
    } else if (before && !peer->self) {
        log_info("pop", "another PoP answers again", LOG_S("pop", peer->name));
    }
}

/* Did somebody there say no? A network without a way there says nothing of who is behind it, nor do
 * we where we have no address or no descriptor left. */
static bool refused(const struct err *err)
{
    if (!err)
        return true; /* it has answered */
    return err->code != ERR_DEADLINE &&
           (err->system == 0 || err->system == ECONNREFUSED || err->system == ECONNRESET);
}

static void probe_end(struct pop_probe *probe, const struct err *err)
{
    struct pop_mesh_peer *peer = probe->peer;
    char why[64];
    peer->probe = NULL;
    snprintf(why, sizeof why, "its gateway answers %d", probe->status);
    if (!err && (probe->status == 429 || probe->status == 503))
        full(peer, why);
    else if (err || probe->status != 200)
        failed(peer, refused(err), err ? err->message : why);
    else
        answered(peer, probe);
    if (peer->failures == 0) { /* not all in step */
        int64_t share = (int64_t)(env_random_u64(probe->agent->env) % (2 * JITTER_PERCENT + 1));
        peer->due_ns += (share - JITTER_PERCENT) * (MESH_EVERY_NS / 100);
    }
    look(probe->agent);
}

static void on_probe_done(struct http_call *call, const struct err *err, void *data)
{
    struct pop_probe *probe = data;
    (void)call;
    if (probe->peer)
        probe_end(probe, err);
    free(probe->body);
    free(probe);
}

static bool target_print(struct agent *agent, const struct pop_mesh_peer *peer,
                         char target[static TARGET_BYTES], char hop_text[static HOP_BYTES_MAX])
{
    const struct pop_key *key = pop_key_find(&agent->pop, slice_of(peer->name));
    char id[24];
    struct err err;
    snprintf(target, TARGET_BYTES, PEER_LOAD_PATH "?life=%llu&since=%llu&version=%u&hop=%u",
             (unsigned long long)peer->life, (unsigned long long)peer->number, PEER_LOAD_VERSION,
             HOP_KNOWN);
    snprintf(id, sizeof id, "probe-%llu", (unsigned long long)peer->asked);
    const struct hop hop = { .from = slice_of(agent->start.pop),
                             .to = slice_of(peer->name),
                             .id = slice_of(id) };
    const struct hop_request request = { .method = SLICE("GET"), .target = slice_of(target) };
    return key && hop_print(&hop, &request, key->key, hop_text, &err) > 0;
}

/* Without a key it cannot be asked, and is as one that does not answer; not for long. */
static void ask(struct agent *agent, struct pop_mesh_peer *peer)
{
    static const struct http_call_events events = { on_probe_head, on_probe_body, on_probe_done };
    char target[TARGET_BYTES], hop_text[HOP_BYTES_MAX];
    peer->asked++;
    if (!target_print(agent, peer, target, hop_text)) {
        failed(peer, false, "control has given no key for it");
        peer->due_ns = loop_now_ns() + MESH_EVERY_NS;
        return;
    }
    const struct http_header headers[] = { HTTP_HEADER(HOP_HEADER, slice_of(hop_text)) };
    const struct http_request_spec spec = {
        .address = &peer->addresses[peer->address_at],
        .method = "GET",
        .target = slice_of(target),
        .headers = headers,
        .header_count = 1,
        .timeout_ms = PROBE_TIMEOUT_MS,
    };
    struct pop_probe *probe = mem_zalloc(sizeof *probe);
    *probe = (struct pop_probe){ .agent = agent, .peer = peer, .rtt_ms = NAN };
    peer->due_ns = INT64_MAX;
    peer->probe = probe;
    probe->call = http_client_call(agent->mesh_client, &spec, &events, probe);
}

/* ---- what came of it --------------------------------------------------------------------- */

static void publish(struct agent *agent, int64_t now_ns)
{
    struct arena *arena = arena_new();
    struct err err = {};
    struct slice mesh;
    int fd = -1;
    if (pop_mesh_print(&agent->mesh, slice_of(agent->start.pop), arena, now_ns, &mesh, &err) < 0 ||
        shm_publish("perigee-mesh", mesh.data, mesh.size, &fd, &err) < 0) {
        log_error("pop", "what PoPs measure is not published", LOG_S("error", err.message));
    } else {
        struct message_mesh message = MESSAGE_INIT(MESSAGE_MESH_NEW);
        message.number = agent->mesh.number;
        message.bytes = mesh.size;
        wire_send(&agent->supervisor, &message, sizeof message, fd);
    }
    fd_close(&fd);
    arena_free(arena);
}

/* Control hears soon of what DNS and gateway hear at once, so that `explain` is not behind them. */
static void tell(struct agent *agent, int64_t now_ns)
{
    if (!agent->control_there || !pop_mesh_news(&agent->mesh) ||
        (agent->mesh_told_ns && now_ns - agent->mesh_told_ns < MESH_EVERY_NS))
        return;
    agent->mesh_told_ns = now_ns;
    agent_report_soon(agent);
}

/* All that is due now; then the timer, for what is next. */
static void look(struct agent *agent)
{
    struct pop_mesh *mesh = &agent->mesh;
    struct pop_mesh_peer *peer;
    int64_t now_ns = loop_now_ns();
    if (!pop_mesh_needed(mesh))
        return;
    if (agent->mesh_looked_ns && now_ns - agent->mesh_looked_ns > MESH_STALL_NS)
        pop_mesh_stalled(mesh, now_ns - agent->mesh_looked_ns, now_ns);
    agent->mesh_looked_ns = now_ns;
    pop_mesh_doubt(mesh, now_ns);
    LIST_EACH (peer, &mesh->peers, struct pop_mesh_peer, link)
        if (peer->due_ns <= now_ns)
            ask(agent, peer);
    bool ripe = pop_mesh_ripe(mesh, now_ns), blocked = wire_blocked(&agent->supervisor);
    if (ripe && !blocked)
        publish(agent, now_ns);
    tell(agent, now_ns);
    int64_t ms = (pop_mesh_due_ns(mesh) - now_ns) / ENV_MS + 1;
    if (ripe && blocked)
        ms = BLOCKED_MS;
    timer_start(agent->mesh_timer, ms > 0 ? ms : 0);
}

static void on_timer(void *data)
{
    look(data);
}

/* ---- who is there ------------------------------------------------------------------------ */

static void on_gone(struct pop_mesh_peer *peer)
{
    if (!peer->probe)
        return;
    peer->probe->peer = NULL;
    http_call_cancel(peer->probe->call);
    peer->probe = NULL;
}

/* Our own gateway is asked where it listens, not by the way round that clients take. */
static struct address own_address(const struct agent *agent)
{
    struct address own = agent->gateway_address;
    static const uint8_t any[16] = {};
    if (agent->pop.no_replicas)
        return (struct address){};
    if (memcmp(own.ip, any, sizeof any) == 0 && own.kind == ADDRESS_IP4)
        memcpy(own.ip, (uint8_t[]){ 127, 0, 0, 1 }, 4);
    if (memcmp(own.ip, any, sizeof any) == 0 && own.kind == ADDRESS_IP6)
        own.ip[15] = 1;
    return own;
}

/* Of a DNS server alone: a PoP has a gateway of its own. */
static const char *beside_of(struct agent *agent)
{
    const char *beside = agent->pop.no_replicas ? getenv(POP_BESIDE_ENVIRONMENT) : NULL;
    bool there = !beside || agent->pop.peer_count == 0; /* they are not told yet */
    for (size_t i = 0; i < agent->pop.peer_count && !there; i++)
        there = slice_is(agent->pop.peers[i].name, beside);
    if (!there && !agent->mesh_beside_warned)
        log_warn("pop", "--beside names no PoP of control's", LOG_S("beside", beside));
    agent->mesh_beside_warned = !there;
    return beside;
}

static void on_left(const struct address *address, void *data)
{
    struct agent *agent = data;
    pop_mesh_left(&agent->mesh, address, loop_now_ns());
    timer_start(agent->mesh_timer, 0);
}

void agent_mesh_changed(struct agent *agent)
{
    struct address own = own_address(agent);
    if (!agent->gone)
        return;
    agent->mesh.beside = beside_of(agent);
    pop_mesh_set(&agent->mesh, agent->pop.peers, agent->pop.peer_count, slice_of(agent->start.pop),
                 &own, on_gone, loop_now_ns());
    if (!pop_mesh_needed(&agent->mesh)) {
        if (agent->mesh_timer)
            timer_stop(agent->mesh_timer);
        agent->mesh_looked_ns = 0;
        return;
    }
    if (!agent->mesh_client) {
        const struct http_client_config config = {
            .source = http_source_of_environment(),
            .connect_ms = PROBE_TIMEOUT_MS,
            .head_ms = PROBE_TIMEOUT_MS,
            .idle_ms = PROBE_KEPT_MS,
            .kept_max = MESH_POPS_MAX,
            .on_left = on_left,
            .data = agent,
        };
        agent->mesh_client = http_client_new(agent->loop, &config);
        agent->mesh_timer = timer_new(agent->loop, on_timer, agent);
    }
    timer_start(agent->mesh_timer, 0);
}

void agent_mesh_seen(struct agent *agent, const struct message_peer_seen *seen)
{
    pop_mesh_seen(&agent->mesh, slice_of(seen->pop), seen->seen, seen->failed, loop_now_ns());
    if (agent->mesh_timer && pop_mesh_needed(&agent->mesh))
        timer_start(agent->mesh_timer, 0);
}

/* As DNS and gateway were told last. */
void agent_mesh_report(struct agent *agent, struct json_writer *w)
{
    struct pop_mesh_peer *peer;
    if (agent->gateway_address.kind == ADDRESS_IP4 || agent->gateway_address.kind == ADDRESS_IP6)
        json_member_u64(w, "gateway_port", agent->gateway_address.port);
    json_key(w, "peers");
    json_array_begin(w);
    LIST_EACH (peer, &agent->mesh.peers, struct pop_mesh_peer, link) {
        if (peer->self || peer->shown_health == MESH_UNSAID)
            continue;
        json_object_begin(w);
        json_member_text(w, "pop", peer->name);
        json_member_text(w, "health", pop_mesh_health_word(peer->shown_health));
        json_member_bool(w, "elsewhere", peer->shown_health == MESH_DOWN && peer->shown_elsewhere);
        json_member_double(w, "rtt_ms", (double)roundf(pop_mesh_rtt_ms(peer) * 100) / 100);
        json_object_end(w);
    }
    json_array_end(w);
    pop_mesh_reported(&agent->mesh);
}

void agent_mesh_close(struct agent *agent)
{
    struct pop_mesh_peer *peer;
    LIST_EACH (peer, &agent->mesh.peers, struct pop_mesh_peer, link)
        if (peer->probe)
            peer->probe->peer = NULL;
    http_client_free(agent->mesh_client);
    agent->mesh_client = NULL;
    timer_free(agent->mesh_timer);
    agent->mesh_timer = NULL;
    pop_mesh_deinit(&agent->mesh);
}
