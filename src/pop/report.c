/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One report at a time, level-triggered: it says how everything is now. What must not be lost
 * (events, deaths, log lines) stays queued until an answer has acknowledged it; control drops what
 * it has seen by its sequence, so a repeat does no harm.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "io/timer.h"
#include "pop/agent.h"
#include "pop/report_json.h"

enum {
    REPORT_EVERY_MS = 5'000,
    REPORT_SOON_MS = 2,   /* several changes of one moment go together */
    REPORT_HELD_MS = 250, /* for the gateway's word on the table, which takes 0.1 ms */
    REPORT_TIMEOUT_MS = 10'000,
    REPORT_NOTES_MAX = 500,    /* in one report */
    LOG_LINES_A_SECOND = 1000, /* of one replica */
};

/* ---- what waits for an acknowledgement ------------------------------------------------------- */

static void note_free(struct agent *agent, struct agent_note *note)
{
    list_remove(&note->link);
    agent->note_count--;
    free(note->json);
    free(note);
}

static void note_add(struct agent *agent, int kind, struct slice json)
{
    /* The oldest goes: control was away for long. What replicas write gives way to what happened,
     * however much they write. */
    if (agent->note_count == AGENT_QUEUE_MAX) {
        struct agent_note *note, *oldest = LIST_FIRST(&agent->notes, struct agent_note, link);
        LIST_EACH (note, &agent->notes, struct agent_note, link)
            if (note->kind == NOTE_LOG) {
                oldest = note;
                break;
            }
        note_free(agent, oldest);
    }
    struct agent_note *note = mem_zalloc(sizeof *note);
    note->kind = kind;
    note->sequence = agent->note_sequence;
    note->json = mem_string(json);
    list_append(&agent->notes, &note->link);
    agent->note_count++;
}

static uint64_t sequence_next(struct agent *agent)
{
    return agent->note_sequence = agent->note_sequence + 1;
}

/* The same in the log: "replica ready replica=digits-1". */
static void event_log(const char *kind, const struct pop_endpoint *endpoint,
                      const struct pop_replica *replica, const char *message)
{
    char phrase[48], name[64];
    struct log_field fields[3] = {};
    size_t count = 0;
    snprintf(phrase, sizeof phrase, "%s", kind);
    for (char *c = phrase; *c; c++)
        *c = *c == '_' ? ' ' : *c;
    if (replica)
        fields[count++] = LOG_S("replica", pop_replica_name(replica, name));
    else if (endpoint)
        fields[count++] = LOG_S("endpoint", endpoint->name);
    if (message[0])
        fields[count++] = LOG_S("message", message);
    log_write(LOG_INFO, "pop", phrase, fields);
}

void agent_note_event(struct agent *agent, const char *kind, const struct pop_endpoint *endpoint,
                      const struct pop_replica *replica, const char *message)
{
    struct arena *arena = arena_new();
    struct slice json = report_event(arena, sequence_next(agent), env_wall_ns(agent->env), kind,
                                     endpoint, replica, message);
    note_add(agent, NOTE_EVENT, json);
    arena_free(arena);
    event_log(kind, endpoint, replica, message);
    agent_report_soon(agent);
}

void agent_note_denied(struct agent *agent, const struct message_denied *denied)
{
    const struct pop_endpoint *endpoint = pop_endpoint_find(&agent->pop, denied->endpoint);
    char message[96];
    if (!endpoint)
        return;
    snprintf(message, sizeof message, "%u request%s refused: %s", denied->count,
             denied->count == 1 ? "" : "s", denied->reason);
    agent_note_event(agent, "residency_refused", endpoint, NULL, message);
}

void agent_note_death(struct agent *agent, const struct pop_endpoint *endpoint,
                      const struct pop_death *death)
{
    struct arena *arena = arena_new();
    note_add(agent, NOTE_DEATH, report_death(arena, sequence_next(agent), endpoint, death));
    arena_free(arena);
    agent_report_soon(agent);
}

static void log_line(struct agent *agent, struct arena *arena, const struct pop_replica *replica,
                     struct slice line)
{
    note_add(agent, NOTE_LOG,
             report_log(arena, sequence_next(agent), env_wall_ns(agent->env), replica, line));
}

/* False: it has written its share of this second. A replica that writes without end would keep us,
 * and control's disk, from everything else; its last bytes are kept for its death all the same. */
static bool log_share(struct agent *agent, struct arena *arena, struct pop_replica *replica)
{
    int64_t second = env_now_ns(agent->env) / ENV_S;
    if (second != replica->log_second) {
        uint64_t dropped = replica->log_dropped;
        replica->log_second = second;
        replica->log_lines = replica->log_dropped = 0;
        if (dropped)
            log_line(agent, arena, replica,
                     slice_of(arena_format(arena, "(%ju lines dropped: more than %d in a second)",
                                           (uintmax_t)dropped, LOG_LINES_A_SECOND)));
    }
    if (replica->log_lines++ < LOG_LINES_A_SECOND)
        return true;
    replica->log_dropped++;
    return false;
}

void agent_note_log(struct agent *agent, const struct message_replica_log *log)
{
    struct pop_replica *replica = map_get_u64(&agent->pop.replicas_by_id, log->replica);
    if (!replica)
        return;
    struct slice rest = { log->data, log->bytes <= MESSAGE_LOG_BYTES ? log->bytes : 0 };
    struct arena *arena = arena_new();
    while (rest.data && rest.size) {
        struct slice line = slice_cut(&rest, '\n');
        if (line.size && log_share(agent, arena, replica))
            log_line(agent, arena, replica, line);
    }
    arena_free(arena);
    agent_report_soon(agent);
}

/* ---- sending --------------------------------------------------------------------------------- */

static void notes_write(struct json_writer *w, struct agent *agent, const char *key, int kind,
                        uint64_t upto)
{
    struct agent_note *note;
    json_key(w, key);
    json_array_begin(w);
    LIST_EACH (note, &agent->notes, struct agent_note, link)
        if ((int)note->kind == kind && note->sequence <= upto)
            json_raw(w, slice_of(note->json));
    json_array_end(w);
}

static struct slice report_body(struct agent *agent, struct arena *arena)
{
    struct json_writer w;
    struct agent_note *note;
    uint32_t taken = 0;
    agent->note_sent = 0;
    LIST_EACH (note, &agent->notes, struct agent_note, link)
        if (taken++ < REPORT_NOTES_MAX)
            agent->note_sent = note->sequence;

    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_u64(&w, "instance", agent->start.instance);
    json_member_u64(&w, "sequence", ++agent->report_sequence);
    report_state(&w, &agent->pop);
    notes_write(&w, agent, "events", NOTE_EVENT, agent->note_sent);
    notes_write(&w, agent, "deaths", NOTE_DEATH, agent->note_sent);
    notes_write(&w, agent, "logs", NOTE_LOG, agent->note_sent);
    json_object_end(&w);
    return json_end(&w);
}

static void models_reported(struct agent *agent)
{
    struct pop_endpoint *endpoint;
    struct pop_revision *revision;
    LIST_EACH (endpoint, &agent->pop.endpoints, struct pop_endpoint, link)
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
            revision->model_reported = revision->model_reported || revision->model_in_flight;
}

static void on_report_head(struct http_call *call, const struct http_response *response, void *data)
{
    struct agent *agent = data;
    (void)call;
    agent->report_status = response->status;
}

static void on_report_done(struct http_call *call, const struct err *err, void *data)
{
    struct agent *agent = data;
    (void)call;
    agent->reporting = NULL;
    arena_free(agent->report_arena);
    agent->report_arena = NULL;
    if (err || agent->report_status != 200) {
        if (agent->control_there)
            log_warn("pop", "report not taken, trying again", LOG_I("status", agent->report_status),
                     LOG_S("error", err ? err->message : ""));
        timer_start(agent->report_timer, REPORT_EVERY_MS / 5);
        return;
    }
    struct agent_note *note;
    LIST_EACH (note, &agent->notes, struct agent_note, link)
        if (note->sequence <= agent->note_sent)
            note_free(agent, note);
    models_reported(agent);
    bool more = agent->report_again || !list_empty(&agent->notes);
    agent->report_again = false;
    timer_start(agent->report_timer, more ? REPORT_SOON_MS : REPORT_EVERY_MS);
}

static void report_send(struct agent *agent)
{
    static const struct http_call_events events = { on_report_head, NULL, on_report_done };
    if (agent->reporting) {
        agent->report_again = true;
        return;
    }
    if (!agent->control_there) {
        timer_start(agent->report_timer, REPORT_EVERY_MS);
        return;
    }
    agent_publish_now(agent); /* as the report says how things are now */
    if (!agent->report_held && pop_table_awaited(&agent->pop)) {
        agent->report_held = true;
        timer_start(agent->report_timer, REPORT_HELD_MS);
        return;
    }
    agent->report_held = false;
    struct arena *arena = agent->report_arena = arena_new();
    const struct http_header headers[] = {
        HTTP_HEADER("Content-Type", SLICE("application/json")),
        HTTP_HEADER("Authorization", slice_of(agent->bearer)),
    };
    struct http_request_spec spec = {
        .address = &agent->control.address,
        .authority = agent->control.authority,
        .method = "POST",
        .target = slice_of(arena_format(arena, "%.*s/api/v1/pops/%s/report",
                                        SLICE_FMT(agent->control.base), agent->start.pop)),
        .headers = headers,
        .header_count = agent->bearer[0] ? 2 : 1,
        .body = report_body(agent, arena),
        .timeout_ms = REPORT_TIMEOUT_MS,
    };
    agent->report_status = 0;
    agent->reporting = http_client_call(agent->client, &spec, &events, agent);
}

static void on_report_timer(void *data)
{
    report_send(data);
}

void agent_report_soon(struct agent *agent)
{
    if (!agent->report_timer)
        agent->report_timer = timer_new(agent->loop, on_report_timer, agent);
    if (agent->reporting)
        agent->report_again = true;
    else
        timer_start(agent->report_timer, REPORT_SOON_MS);
}

void agent_report_served(struct agent *agent)
{
    if (agent->report_timer && !agent->reporting)
        timer_start(agent->report_timer, 0); /* what belongs together has come meanwhile */
    else
        agent_report_soon(agent);
}

void agent_report_close(struct agent *agent)
{
    struct agent_note *note;
    timer_free(agent->report_timer);
    agent->report_timer = NULL;
    LIST_EACH (note, &agent->notes, struct agent_note, link)
        note_free(agent, note);
}
