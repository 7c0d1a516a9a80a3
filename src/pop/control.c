/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The watch: one long answer of server-sent events (WHATWG HTML, "Server-sent events"). Each
 * connection begins with the whole state, so nothing is remembered between two of them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "io/timer.h"
#include "pop/agent.h"

enum {
    WATCH_EVENT_BYTES_MAX = 4 * 1024 * 1024,
    WATCH_SILENCE_MS = 15'000, /* control pings every 5 s */
    WATCH_AGAIN_MS = 100,
    WATCH_AGAIN_MS_MAX = 2'000,
    WATCH_DELETED_MS = 30'000, /* somebody may have taken it back by a backup of control */
};

static void synced(struct agent *agent)
{
    if (!agent->control_there)
        log_info("pop", "desired state is that of control");
    agent->control_there = true;
    agent->watch_failures = 0;
    pop_sync_end(&agent->pop);
    agent_containers_look(agent);
    agent_images_look(agent);
    /* Also when there is no endpoint: a gateway without a table is not live. */
    agent->table_dirty = true;
    agent_publish_soon(agent);
    agent_report_soon(agent);
}

static void event_gone(struct agent *agent, struct slice data)
{
    struct arena *arena = arena_new();
    struct err err = {};
    yyjson_val *root;
    uint64_t uid;
    if (json_parse(arena, data, NULL, &root, &err) < 0 ||
        json_get_u64(root, "uid", JSON_REQUIRED, &uid, &err) < 0)
        log_warn("pop", "odd event from control, ignoring", LOG_S("error", err.message));
    else
        pop_endpoint_gone(&agent->pop, uid);
    arena_free(arena);
}

static void event_take(struct agent *agent, struct slice kind, struct slice data)
{
    struct err err = {};
    if (slice_is(kind, "endpoint")) {
        if (pop_endpoint_apply(&agent->pop, data, &err) < 0)
            log_error("pop", "an endpoint from control cannot be read",
                      LOG_S("error", err.message));
        agent_repository_look(agent);
    } else if (slice_is(kind, "pops")) {
        if (pop_peers_apply(&agent->pop, data, &err) < 0)
            log_error("pop", "PoPs from control cannot be read", LOG_S("error", err.message));
        agent_mesh_changed(agent);
    } else if (slice_is(kind, "keys")) {
        if (pop_keys_apply(&agent->pop, data, &err) < 0)
            log_error("pop", "keys from control cannot be read", LOG_S("error", err.message));
        else
            agent_keys_changed(agent);
        explicit_bzero((char *)(uintptr_t)data.data, data.size); /* in the watch's buffer */
    } else if (slice_is(kind, "secret")) {
        if (pop_secret_apply(&agent->pop, data, &err) < 0)
            log_error("pop", "a secret from control cannot be read", LOG_S("error", err.message));
        explicit_bzero((char *)(uintptr_t)data.data, data.size);
    } else if (slice_is(kind, "secrets")) {
        if (pop_secrets_keep(&agent->pop, data, &err) < 0)
            log_error("pop", "secrets from control cannot be read", LOG_S("error", err.message));
    } else if (slice_is(kind, "explain")) {
        agent_explain(agent, data);
    } else if (slice_is(kind, "gone")) {
        event_gone(agent, data);
    } else if (slice_is(kind, "synced")) {
        synced(agent);
    }
}

/* One event: lines up to an empty one. Control writes each event's data on one line, and numbers
 * them upwards; several may have one number (all of the state at the beginning). */
static void event_parse(struct agent *agent, struct slice text)
{
    struct slice kind = {}, data = {};
    uint64_t number = 0;
    while (text.data) {
        struct slice line = slice_cut(&text, '\n');
        if (slice_starts(line, SLICE("event: ")))
            kind = (struct slice){ line.data + 7, line.size - 7 };
        else if (slice_starts(line, SLICE("data: ")))
            data = (struct slice){ line.data + 6, line.size - 6 };
        else if (slice_starts(line, SLICE("id: ")))
            (void)slice_u64((struct slice){ line.data + 4, line.size - 4 }, &number);
    }
    if (!kind.size)
        return;
    if (number && number < agent->watch_number) {
        log_warn("pop", "an event from control is older than the last one, ignoring",
                 LOG_SLICE("event", kind), LOG_U("id", number));
        return;
    }
    agent->watch_number = number ? number : agent->watch_number;
    event_take(agent, kind, data);
}

static void on_watch_body(struct http_call *call, struct slice bytes, void *data)
{
    struct agent *agent = data;
    if (agent->watch_used + bytes.size > WATCH_EVENT_BYTES_MAX) {
        log_error("pop", "an event from control is too large, opening the watch anew");
        http_call_cancel(call);
        return;
    }
    if (agent->watch_used + bytes.size > agent->watch_room) {
        agent->watch_room = (agent->watch_used + bytes.size) * 2;
        agent->watch_buffer =
            mem_move_wiped(agent->watch_buffer, agent->watch_used, agent->watch_room);
    }
    memcpy(agent->watch_buffer + agent->watch_used, bytes.data, bytes.size);
    agent->watch_used += bytes.size;

    size_t from = 0;
    for (;;) {
        const char *end = memmem(agent->watch_buffer + from, agent->watch_used - from, "\n\n", 2);
        if (!end)
            break;
        size_t size = (size_t)(end - agent->watch_buffer) - from;
        event_parse(agent, (struct slice){ agent->watch_buffer + from, size });
        from += size + 2;
    }
    memmove(agent->watch_buffer, agent->watch_buffer + from, agent->watch_used - from);
    agent->watch_used -= from;
    explicit_bzero(agent->watch_buffer + agent->watch_used,
                   from); /* a part of a key, or a secret */
}

/* Control itself says that this PoP was deleted; a server that is no control may say 410 as well.
 * What runs here is nobody's any more, and would be a surprise to whoever deleted it. */
static bool is_deleted(const struct http_response *response)
{
    return response->status == 410 &&
           slice_is(http_header_get(&response->headers, "Perigee-Error"), "gone");
}

static void deleted(struct agent *agent)
{
    if (!agent->deleted)
        log_error("pop",
                  "this PoP was deleted at control: it ends its replicas, and serves "
                  "nothing; to join again: pops create, pop --token-file",
                  LOG_S("pop", agent->start.pop));
    agent->deleted = true;
    pop_secrets_clear(&agent->pop);
    pop_sync_begin(&agent->pop);
    pop_sync_end(&agent->pop);
    agent_containers_look(agent);
}

static void on_watch_head(struct http_call *call, const struct http_response *response, void *data)
{
    struct agent *agent = data;
    if (is_deleted(response)) {
        deleted(agent);
        http_call_cancel(call);
        return;
    }
    agent->deleted = agent->deleted && response->status != 200;
    if (response->status != 200) {
        log_warn("pop", "control refuses the watch, trying again",
                 LOG_I("status", response->status));
        http_call_cancel(call);
        return;
    }
    agent->watch_used = 0;
    agent->watch_number = 0;
    pop_sync_begin(&agent->pop);
}

static void on_watch_again(void *data)
{
    agent_watch_open(data);
}

static void on_watch_done(struct http_call *call, const struct err *err, void *data)
{
    struct agent *agent = data;
    (void)call;
    agent->watching = NULL;
    if (agent->control_there)
        log_warn("pop", "control is away, going on without",
                 LOG_S("error", err ? err->message : "it ended the watch"));
    agent->control_there = false;
    if (!agent->watch_again)
        agent->watch_again = timer_new(agent->loop, on_watch_again, agent);
    int64_t ms = WATCH_AGAIN_MS << (agent->watch_failures < 5 ? agent->watch_failures : 5);
    agent->watch_failures++;
    ms = ms < WATCH_AGAIN_MS_MAX ? ms : WATCH_AGAIN_MS_MAX;
    timer_start(agent->watch_again, agent->deleted ? WATCH_DELETED_MS : ms);
}

void agent_watch_open(struct agent *agent)
{
    static const struct http_call_events events = { on_watch_head, on_watch_body, on_watch_done };
    if (agent->watching || !agent->start.control[0])
        return;
    const struct http_header headers[] = {
        HTTP_HEADER("Accept", SLICE("text/event-stream")),
        HTTP_HEADER("Authorization", slice_of(agent->bearer)),
    };
    snprintf(agent->watch_target, sizeof agent->watch_target, "%.*s/api/v1/pops/%s/watch",
             SLICE_FMT(agent->control.base), agent->start.pop);
    struct http_request_spec spec = {
        .address = &agent->control.address,
        .authority = agent->control.authority,
        .method = "GET",
        .target = slice_of(agent->watch_target),
        .headers = headers,
        .header_count = agent->bearer[0] ? 2 : 1,
        .silence_ms = WATCH_SILENCE_MS,
    };
    agent->watching = http_client_call(agent->client, &spec, &events, agent);
}

void agent_watch_close(struct agent *agent)
{
    timer_free(agent->watch_again);
    agent->watch_again = NULL;
    free(agent->watch_buffer);
    agent->watch_buffer = NULL;
}
