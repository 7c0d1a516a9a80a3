/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One report at a time, level-triggered: it says how everything is now. What must not be lost
 * (events, deaths, log lines: notes.c) stays queued until an answer has acknowledged it; control
 * drops what it has seen by its sequence, so a repeat does no harm.
 *
 * A report that control will not take (too large for it, or something in it is bad) comes again
 * with half as many items, down to one, then none: when that is taken it was the one, which is
 * given up, and the rest goes on.
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
    REPORT_SOON_MS = 2,    /* several changes of one moment go together */
    REPORT_HELD_MS = 250,  /* for the gateway's word on the table, which takes 0.1 ms */
    REPORT_QUICK_MAX = 50, /* reports at once; then one in REPORT_PACE_MS: control wants no more */
    REPORT_PACE_MS = 100,
    REPORT_TIMEOUT_MS = 10'000,
    REPORT_ITEMS_MAX = 500, /* notes and models in one report */
    REPORT_ITEM_BYTES_MAX = 4 << 20,
};

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

/* Oldest first, as many as there is room for. */
static void notes_choose(struct agent *agent, struct report_room *room)
{
    struct agent_note *note;
    agent->note_sent = 0;
    LIST_EACH (note, &agent->notes, struct agent_note, link) {
        if (!report_room_take(room, note->bytes))
            break;
        agent->note_sent = note->sequence;
    }
}

static struct slice report_body(struct agent *agent, struct arena *arena)
{
    struct json_writer w;
    struct report_room room = { agent->report_items, REPORT_ITEM_BYTES_MAX, 0 };
    agent_notes_keep_back(agent);
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_u64(&w, "instance", agent->start.instance);
    json_member_u64(&w, "sequence", ++agent->report_sequence);
    agent_mesh_report(agent, &w);
    report_state(&w, &agent->pop, &room);
    pop_asked_write(&agent->asked, &w, env_now_ns(agent->env));
    report_loads(&w, agent);
    report_clients(&w, agent);
    report_activity(&w, agent);
    agent->model_sent = room.taken > 0;
    notes_choose(agent, &room);
    notes_write(&w, agent, "events", NOTE_EVENT, agent->note_sent);
    notes_write(&w, agent, "deaths", NOTE_DEATH, agent->note_sent);
    notes_write(&w, agent, "logs", NOTE_LOG, agent->note_sent);
    json_object_end(&w);
    agent->report_sent = room.taken;
    return json_end(&w);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* True: to send less is worth a try. Where nothing but the state is refused, all of it waits. */
static bool refused(struct agent *agent)
{
    bool first = agent->report_items == REPORT_ITEMS_MAX;
    if (agent->report_status != 413 && agent->report_status != 400)
        return false;
    if (agent->report_sent == 0) {
        agent->suspected = false;
        return false;
    }
    if (first)
        log_warn("pop", "control does not take a report, sending less at once",
                 LOG_I("status", agent->report_status), LOG_U("items", agent->report_sent));
    agent->report_items = agent->report_sent / 2;
    agent->suspected = agent->report_items == 0;
    agent->suspect = agent->model_sent ? 0 : agent->note_sent; /* of one alone */
    return true;
}

static struct pop_revision *model_waiting(struct agent *agent)
{
    struct pop_endpoint *endpoint;
    struct pop_revision *revision;
    LIST_EACH (endpoint, &agent->pop.endpoints, struct pop_endpoint, link)
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
            if (revision->model && !revision->model_reported)
                return revision;
    return NULL;
}

/* Without it the report was taken. */
static void suspect_drop(struct agent *agent)
{
    struct agent_note *note = LIST_FIRST(&agent->notes, struct agent_note, link);
    struct pop_revision *revision = agent->suspect ? NULL : model_waiting(agent);
    const char *what = NULL;
    if (revision) {
        revision->model_reported = true;
        what = "model";
    } else if (agent->suspect && !list_empty(&agent->notes) && note->sequence == agent->suspect) {
        what = note->kind == NOTE_EVENT ? "event" : note->kind == NOTE_DEATH ? "death" : "log";
        agent_note_free(agent, note);
    }
    if (!what)
        return;
    agent->items_refused++;
    log_error("pop", "control does not take one thing it is told, leaving that out",
              LOG_S("what", what));
}

static void taken(struct agent *agent)
{
    if (agent->suspected && agent->report_items == 0)
        suspect_drop(agent);
    agent->suspected = false;
    uint32_t more = agent->report_items ? agent->report_items * 2 : 1;
    agent->report_items = more < REPORT_ITEMS_MAX ? more : REPORT_ITEMS_MAX;
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
    if (!err && refused(agent)) {
        timer_start(agent->report_timer, REPORT_SOON_MS);
        return;
    }
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
            agent_note_free(agent, note);
    models_reported(agent);
    pop_asked_taken(&agent->asked);
    taken(agent);
    bool more = agent->report_again || !list_empty(&agent->notes) || model_waiting(agent);
    agent->report_again = false;
    timer_start(agent->report_timer, more ? REPORT_SOON_MS : REPORT_EVERY_MS);
}

/* Where something changes without end, several changes go together. */
static bool too_quick(struct agent *agent)
{
    int64_t now_ns = env_now_ns(agent->env);
    int64_t back = (now_ns - agent->report_quick_ns) / (REPORT_PACE_MS * ENV_MS);
    if (back > 0) {
        agent->report_quick = back < agent->report_quick ? agent->report_quick - (uint32_t)back : 0;
        agent->report_quick_ns = now_ns;
    }
    return agent->report_quick >= REPORT_QUICK_MAX;
}

static void report_send(struct agent *agent)
{
    static const struct http_call_events events = { on_report_head, NULL, on_report_done };
    agent->report_due = false;
    if (agent->reporting) {
        agent->report_again = true;
        return;
    }
    if (!agent->control_there) {
        timer_start(agent->report_timer, REPORT_EVERY_MS);
        return;
    }
    if (too_quick(agent)) {
        agent->report_due = true;
        timer_start(agent->report_timer, REPORT_PACE_MS);
        return;
    }
    agent_publish_now(agent); /* as the report says how things are now */
    if (!agent->report_held && pop_table_awaited(&agent->pop)) {
        agent->report_held = true;
        timer_start(agent->report_timer, REPORT_HELD_MS);
        return;
    }
    agent->report_held = false;
    agent->report_quick++;
    struct arena *arena = agent->report_arena = arena_new();
    const struct agent_word word = { "report", "application/json", report_body(agent, arena),
                                     REPORT_TIMEOUT_MS };
    agent->report_status = 0;
    agent->reporting = agent_tell(agent, arena, &word, &events, agent);
}

static void on_report_timer(void *data)
{
    report_send(data);
}

void agent_report_soon(struct agent *agent)
{
    if (!agent->report_timer)
        agent->report_timer = timer_new(agent->loop, on_report_timer, agent);
    if (agent->reporting) {
        agent->report_again = true;
    } else if (!agent->report_due) {
        agent->report_due = true;
        timer_start(agent->report_timer, REPORT_SOON_MS);
    }
}

void agent_report_served(struct agent *agent)
{
    if (agent->report_timer && !agent->reporting)
        timer_start(agent->report_timer, 0); /* what belongs together has come meanwhile */
    else
        agent_report_soon(agent);
}

void agent_report_open(struct agent *agent)
{
    list_init(&agent->notes);
    agent->report_items = REPORT_ITEMS_MAX;
}

void agent_report_close(struct agent *agent)
{
    timer_free(agent->report_timer);
    agent->report_timer = NULL;
    agent_notes_close(agent);
    pop_asked_deinit(&agent->asked);
    activity_deinit(&agent->activity);
}
