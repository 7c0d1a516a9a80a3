/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must not be lost on its way to control: events, deaths, log lines. They wait in a queue that
 * is bounded in number and bytes, until a report that held them was answered (report.c).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/log.h"
#include "pop/agent.h"
#include "pop/report_json.h"

enum {
    NOTES_BYTES_MAX = 32 << 20,
    LOG_LINES_A_SECOND = 1000, /* of one replica */
    LOG_KEPT_EVERY_S = 10,     /* how many lines stay here */
};

/* ---- the queue ------------------------------------------------------------------------------- */

void agent_note_free(struct agent *agent, struct agent_note *note)
{
    list_remove(&note->link);
    agent->note_count--;
    agent->note_bytes -= note->bytes;
    free(note->json);
    free(note->bare);
    free(note);
}

/* The oldest goes: control was away for long. What replicas write gives way to what happened,
 * however much they write. */
static void make_room(struct agent *agent, size_t bytes)
{
    while (agent->note_count == AGENT_QUEUE_MAX ||
           (agent->note_count && agent->note_bytes + bytes > NOTES_BYTES_MAX)) {
        struct agent_note *note, *oldest = LIST_FIRST(&agent->notes, struct agent_note, link);
        LIST_EACH (note, &agent->notes, struct agent_note, link)
            if (note->kind == NOTE_LOG) {
                oldest = note;
                break;
            }
        agent_note_free(agent, oldest);
        agent->notes_late++;
    }
}

static struct agent_note *note_add(struct agent *agent, int kind, struct slice json,
                                   struct slice bare)
{
    make_room(agent, json.size + bare.size);
    struct agent_note *note = mem_zalloc(sizeof *note);
    note->kind = kind;
    note->sequence = agent->note_sequence;
    note->json = mem_string(json);
    note->bare = bare.size ? mem_string(bare) : NULL;
    note->bytes = json.size + bare.size;
    list_append(&agent->notes, &note->link);
    agent->note_count++;
    agent->note_bytes += note->bytes;
    return note;
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
    note_add(agent, NOTE_EVENT, json, (struct slice){});
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
    const char *plural = denied->count == 1 ? "" : "s";
    if (strcmp(denied->reason, "ended") == 0)
        snprintf(message, sizeof message, "%u request%s under way ended: residency has changed",
                 denied->count, plural);
    else
        snprintf(message, sizeof message, "%u request%s refused: %s", denied->count, plural,
                 denied->reason);
    agent_note_event(agent, "residency_refused", endpoint, NULL, message);
}

void agent_note_death(struct agent *agent, const struct pop_endpoint *endpoint,
                      const struct pop_death *death)
{
    struct arena *arena = arena_new();
    uint64_t sequence = sequence_next(agent);
    struct slice bare = report_death(arena, sequence, endpoint, death, false);
    if (endpoint->lines_leave)
        note_add(agent, NOTE_DEATH, report_death(arena, sequence, endpoint, death, true), bare)
            ->endpoint = endpoint->uid;
    else
        note_add(agent, NOTE_DEATH, bare, (struct slice){});
    arena_free(arena);
    agent_report_soon(agent);
}

/* ---- what replicas write --------------------------------------------------------------------- */

static struct agent_note *log_line(struct agent *agent, struct arena *arena,
                                   const struct pop_replica *replica, struct slice line)
{
    return note_add(agent, NOTE_LOG,
                    report_log(arena, sequence_next(agent), env_wall_ns(agent->env), replica, line),
                    (struct slice){});
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

/* What it writes may be of requests, and control would hold it where they may not be logged: it
 * hears how much there was, at the first line and then every 10 s in which more come. */
static void log_keep(struct agent *agent, struct arena *arena, struct pop_replica *replica)
{
    int64_t now_ns = env_now_ns(agent->env);
    replica->log_kept++;
    replica->revision->endpoint->lines_kept++;
    if (replica->log_kept_ns && now_ns - replica->log_kept_ns < LOG_KEPT_EVERY_S * ENV_S)
        return;
    log_line(agent, arena, replica, slice_of(report_kept(arena, replica->log_kept)));
    replica->log_kept = 0;
    replica->log_kept_ns = now_ns;
    agent_report_soon(agent);
}

static void log_tell(struct agent *agent, struct arena *arena, struct pop_replica *replica,
                     struct slice line)
{
    if (log_share(agent, arena, replica))
        log_line(agent, arena, replica, line)->endpoint = replica->revision->endpoint->uid;
    agent_report_soon(agent);
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
        if (line.size && replica->revision->endpoint->lines_leave)
            log_tell(agent, arena, replica, line);
        else if (line.size)
            log_keep(agent, arena, replica);
    }
    arena_free(arena);
}

void agent_notes_keep_back(struct agent *agent)
{
    struct agent_note *note;
    LIST_EACH (note, &agent->notes, struct agent_note, link) {
        struct pop_endpoint *endpoint =
            note->endpoint ? pop_endpoint_find(&agent->pop, note->endpoint) : NULL;
        if (!note->endpoint || (endpoint && endpoint->lines_leave))
            continue;
        if (note->kind == NOTE_LOG) {
            if (endpoint)
                endpoint->lines_kept++;
            agent_note_free(agent, note);
        } else {
            free(note->json);
            note->json = take_ptr(note->bare);
            note->endpoint = 0;
        }
    }
}

void agent_notes_close(struct agent *agent)
{
    struct agent_note *note;
    LIST_EACH (note, &agent->notes, struct agent_note, link)
        agent_note_free(agent, note);
}
