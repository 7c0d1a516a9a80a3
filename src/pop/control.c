/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The watch: one long answer of server-sent events (WHATWG HTML, "Server-sent events"). One that
 * was cut is gone on with where control still knows what has changed since (told.h).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
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

static void synced(struct agent *agent, bool resumed)
{
    if (!agent->control_there)
        log_info("pop", "desired state is that of control",
                 LOG_S("told", resumed ? "what has changed" : "all of it"));
    agent->control_there = true;
    agent->watch_failures = 0;
    agent_containers_look(agent);
    agent_images_look(agent);
    /* Also when there is no endpoint: a gateway without a table is not live. */
    agent->table_dirty = true;
    agent_publish_soon(agent);
    agent_report_soon(agent);
}

static bool on_event(struct slice kind, struct slice id, struct slice text, void *data)
{
    struct agent *agent = data;
    switch (pop_told_event(&agent->told, &agent->pop, kind, id, text)) {
    case POP_TOLD_ENDPOINT:
        agent_repository_look(agent);
        break;
    case POP_TOLD_PEERS:
        agent_mesh_changed(agent);
        break;
    case POP_TOLD_KEYS:
        agent_keys_changed(agent);
        break;
    case POP_TOLD_QUESTION:
        agent_explain(agent, text);
        break;
    case POP_TOLD_ALL:
        synced(agent, false);
        break;
    case POP_TOLD_CHANGES:
        synced(agent, true);
        break;
    case POP_TOLD_ASTRAY:
        return false;
    case POP_TOLD_NOTHING:
        break;
    }
    return true;
}

static void on_watch_body(struct http_call *call, struct slice bytes, void *data)
{
    struct agent *agent = data;
    if (sse_feed(&agent->watch_stream, bytes))
        return;
    if (agent->watch_stream.too_large)
        log_error("pop", "an event from control is too large, opening the watch anew");
    http_call_cancel(call);
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
    pop_told_forget(&agent->told);
    pop_secrets_clear(&agent->pop);
    pop_sync_begin(&agent->pop);
    pop_sync(&agent->pop, NULL, 0);
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
    sse_deinit(&agent->watch_stream);
    agent->watch_stream = (struct sse){ .on_event = on_event,
                                        .data = agent,
                                        .event_bytes_max = WATCH_EVENT_BYTES_MAX };
    pop_told_open(&agent->told);
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

struct http_call *agent_tell(struct agent *agent, struct arena *arena,
                             const struct agent_word *word, const struct http_call_events *events,
                             void *data)
{
    const struct http_header headers[] = {
        { SLICE("Content-Type"), slice_of(word->content_type) },
        HTTP_HEADER("Authorization", slice_of(agent->bearer)),
    };
    const struct http_request_spec spec = {
        .address = &agent->control.address,
        .authority = agent->control.authority,
        .method = "POST",
        .target =
            slice_of(arena_format(arena, "%.*s/api/v1/pops/%s/%s", SLICE_FMT(agent->control.base),
                                  agent->start.pop, word->path)),
        .headers = headers,
        .header_count = agent->bearer[0] ? 2 : 1,
        .body = word->body,
        .timeout_ms = word->timeout_ms,
    };
    return http_client_call(agent->client, &spec, events, data);
}

void agent_watch_open(struct agent *agent)
{
    static const struct http_call_events events = { on_watch_head, on_watch_body, on_watch_done };
    if (agent->watching || !agent->start.control[0])
        return;
    struct http_header headers[3] = { HTTP_HEADER("Accept", SLICE("text/event-stream")) };
    char mark[WATCH_MARK_BYTES];
    size_t count = 1;
    if (agent->bearer[0])
        headers[count++] = HTTP_HEADER("Authorization", slice_of(agent->bearer));
    if (agent->told.mark.epoch)
        headers[count++] =
            HTTP_HEADER("Last-Event-ID", slice_of(watch_mark_text(agent->told.mark, mark)));
    snprintf(agent->watch_target, sizeof agent->watch_target, "%.*s/api/v1/pops/%s/watch",
             SLICE_FMT(agent->control.base), agent->start.pop);
    struct http_request_spec spec = {
        .address = &agent->control.address,
        .authority = agent->control.authority,
        .method = "GET",
        .target = slice_of(agent->watch_target),
        .headers = headers,
        .header_count = count,
        .silence_ms = WATCH_SILENCE_MS,
    };
    agent->watching = http_client_call(agent->client, &spec, &events, agent);
}

void agent_watch_close(struct agent *agent)
{
    timer_free(agent->watch_again);
    agent->watch_again = NULL;
    sse_deinit(&agent->watch_stream);
}
