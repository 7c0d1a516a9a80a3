/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Control asks whether this PoP remembers a request (the watch's event "explain"), and is answered,
 * also if not. What is said of it are figures and names of PoPs, its client's country, its status.
 */
#include <math.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "contract/gateway_metrics.h"
#include "pop/agent.h"
#include "pop/decided.h"

enum { ANSWERS_MAX = 16, ANSWER_TIMEOUT_MS = 5'000 };

struct answer {
    struct agent *agent;
    struct arena *arena;
};

static void member_ms(struct json_writer *w, const char *key, float ms)
{
    json_member_double_or_null(w, key, isfinite(ms) && ms >= 0, (double)roundf(ms * 1000) / 1000);
}

static void write_pop(struct json_writer *w, const char *name, const struct route_choice *row)
{
    bool placed = row->exclusion != ROUTE_NOT_PLACED;
    enum route_exclusion exclusion = (enum route_exclusion)row->exclusion;
    json_object_begin(w);
    json_member_text(w, "pop", name);
    member_ms(w, "rtt_ms", row->rtt_ms);
    json_member_text(w, "rtt_source",
                     route_rtt_source_text((enum route_rtt_source)row->rtt_source));
    member_ms(w, "queue_ms", placed ? row->wait_ms : NAN);
    member_ms(w, "queue_felt_ms", placed ? row->felt_ms : NAN);
    member_ms(w, "service_ms", placed ? row->service_ms : NAN);
    member_ms(w, "cold_ms", placed ? row->start_ms : NAN);
    member_ms(w, "cold_felt_ms", placed ? row->start_felt_ms : NAN);
    member_ms(w, "total_ms", placed ? row->total_ms : NAN);
    member_ms(w, "share", row->share);
    json_member_bool(w, "near", row->near);
    json_member_text(w, "excluded",
                     exclusion == ROUTE_ALLOWED ? NULL : route_exclusion_text(exclusion));
    json_object_end(w);
}

static void write_decision(struct json_writer *w, const struct decision_record *decision)
{
    struct route_choice rows[DECISION_POPS_MAX];
    size_t count = decided_rows(decision, rows);
    json_object_begin(w);
    json_member_u64(w, "endpoint_uid", decision->endpoint);
    json_member_i64(w, "at_s", decision->at_s);
    json_member_text(w, "country", decision->country);
    json_member_text(w, "why", decision->why);
    json_member_text(w, "chosen", decision->chosen);
    json_member_u64(w, "status", decision->status);
    json_member_bool(w, "hop", decision->hop);
    float client_ms = decision_client_ms(decision);
    member_ms(w, "client_rtt_ms", client_ms > 0 ? client_ms : NAN);
    json_member_text(w, "client_rtt_source",
                     client_ms > 0 ? decision_rtt_text(decision->client_rtt_source) : NULL);
    json_key(w, "pops");
    json_array_begin(w);
    for (size_t i = 0; i < count; i++)
        write_pop(w, decision->pops[rows[i].pop].name, &rows[i]);
    json_array_end(w);
    json_object_end(w);
}

static struct slice answer_body(struct agent *agent, struct arena *arena, uint64_t question,
                                struct slice id)
{
    struct decision_record *decision = ARENA_NEW(arena, struct decision_record);
    struct json_writer w;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_u64(&w, "question", question);
    json_key(&w, "decision");
    if (agent->metrics && gateway_decision_find(agent->metrics, agent->metrics_bytes, id, decision))
        write_decision(&w, decision);
    else
        json_null(&w);
    json_object_end(&w);
    return json_end(&w);
}

static void on_head(struct http_call *call, const struct http_response *response, void *data)
{
    (void)call;
    (void)response;
    (void)data;
}

static void on_done(struct http_call *call, const struct err *err, void *data)
{
    struct answer *answer = data;
    (void)call;
    (void)err; /* whoever asked has waited long enough */
    answer->agent->answers--;
    arena_free(answer->arena);
    free(answer);
}

void agent_explain(struct agent *agent, struct slice event)
{
    static const struct http_call_events events = { on_head, NULL, on_done };
    struct arena *arena = arena_new();
    struct slice id;
    yyjson_val *root;
    uint64_t question;
    struct err err;
    if (json_parse(arena, event, NULL, &root, &err) < 0 ||
        json_get_u64(root, "question", JSON_REQUIRED, &question, &err) < 0 ||
        json_get_string(root, "request", JSON_REQUIRED, &id, &err) < 0 ||
        agent->answers == ANSWERS_MAX) {
        arena_free(arena);
        return;
    }
    struct answer *answer = mem_alloc(sizeof *answer);
    *answer = (struct answer){ agent, arena };
    agent->answers++;
    const struct agent_word word = { "answers", "application/json",
                                     answer_body(agent, arena, question, id), ANSWER_TIMEOUT_MS };
    (void)agent_tell(agent, arena, &word, &events, answer);
}
