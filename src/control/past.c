/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /requests/ID: where a request went and why, from the PoPs that remember it. Each is asked
 * over its watch and answers by a call of its own, also if not; what has not come in a while is not
 * waited for. What a PoP says is written anew, in words and bounds of ours.
 */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/env.h"
#include "base/json.h"
#include "contract/decision.h"
#include "contract/mesh.h"
#include "control/control_own.h"
#include "control/routes.h"
#include "control/watch.h"
#include "io/timer.h"
#include "policy/route.h"

enum {
    PASTS_MAX = 64, /* questions under way */
    PAST_WAIT_MS = 2000,
    DECISIONS_MAX = 8, /* who passed it on, who served it */
    DECISION_POPS = 16,
    ID_BYTES_MAX = 64,
};

struct past {
    struct list link;
    struct request *q;
    uint64_t number;
    struct hub_pop **pops; /* who was asked and has not answered: the first `waiting` of them */
    size_t asked, waiting;
    struct slice decisions[DECISIONS_MAX]; /* JSON, in the request's arena */
    size_t count;
    struct timer *timer;
    bool replied;
};

/* ---- what a PoP says ------------------------------------------------------------------------- */

/* Of what it may be; anything else is nothing. */
static void copy_figure(struct json_writer *w, const char *key, yyjson_val *object, double least,
                        double most)
{
    yyjson_val *value = json_member(object, key);
    double figure = yyjson_get_num(value);
    json_key(w, key);
    if (!yyjson_is_num(value) || !(figure >= least && figure <= most))
        json_null(w);
    else if (yyjson_is_int(value))
        json_i64(w, yyjson_get_sint(value));
    else
        json_double(w, figure);
}

/* One of the words that there are, or none. */
static struct slice word_of(yyjson_val *object, const char *key, const char *const *words,
                            size_t count)
{
    struct slice text = json_slice(json_member(object, key));
    for (size_t i = 0; i < count; i++)
        if (slice_is(text, words[i]))
            return slice_of(words[i]);
    return (struct slice){};
}

/* The name of a PoP that there is, or was. */
static struct slice pop_of(struct control *control, yyjson_val *object, const char *key)
{
    const struct hub_pop *pop = map_get(&control->hub.pops, json_slice(json_member(object, key)));
    return pop ? pop->name : (struct slice){};
}

/* Of the texts that the policy has for its numbers. */
static struct slice source_of(yyjson_val *pop)
{
    const char *words[ROUTE_RTT_NONE + 1];
    for (unsigned i = 0; i <= ROUTE_RTT_NONE; i++)
        words[i] = route_rtt_source_text((enum route_rtt_source)i);
    return word_of(pop, "rtt_source", words, ROUTE_RTT_NONE + 1);
}

static struct slice client_source_of(yyjson_val *said)
{
    const char *words[DECISION_RTT_END - 1];
    for (unsigned i = 1; i < DECISION_RTT_END; i++)
        words[i - 1] = decision_rtt_text(i);
    return word_of(said, "client_rtt_source", words, DECISION_RTT_END - 1);
}

static struct slice exclusion_of(yyjson_val *pop)
{
    const char *words[ROUTE_NO_ROOM + 1];
    for (unsigned i = 0; i <= ROUTE_NO_ROOM; i++)
        words[i] = route_exclusion_text((enum route_exclusion)i);
    return word_of(pop, "excluded", words, ROUTE_NO_ROOM + 1);
}

static void copy_pop(struct json_writer *w, yyjson_val *pop, struct slice name, struct slice chosen)
{
    static const char *const figures[] = { "rtt_ms",  "queue_ms",     "queue_felt_ms", "service_ms",
                                           "cold_ms", "cold_felt_ms", "total_ms" };
    json_object_begin(w);
    json_member_string(w, "pop", name);
    copy_figure(w, "share", pop, 0, 1);
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        copy_figure(w, figures[i], pop, 0, (double)MESH_MS_MAX);
    json_member_string_or_null(w, "rtt_source", source_of(pop));
    json_member_bool(w, "chosen", slice_equal(name, chosen));
    json_member_bool(w, "near", yyjson_is_true(json_member(pop, "near")));
    json_member_string_or_null(w, "excluded", exclusion_of(pop));
    json_object_end(w);
}

static struct slice decision_json(struct past *past, struct slice pop, yyjson_val *said)
{
    /* As gateways say it (gateway/forward.h). */
    static const char *const whys[] = { "here",       "away",     "place", "cold",
                                        "overloaded", "draining", "again" };
    struct control *control = past->q->control;
    uint64_t uid = yyjson_get_uint(json_member(said, "endpoint_uid"));
    int64_t at_s = yyjson_get_sint(json_member(said, "at_s"));
    const struct hub_endpoint *endpoint = hub_get(control, uid);
    struct slice chosen = pop_of(control, said, "chosen");
    struct json_writer w;
    size_t index, count;
    yyjson_val *item;
    char country[3];
    country_code_of(country_number_of(json_slice(json_member(said, "country"))), country);
    json_begin(&w, past->q->arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "pop", pop);
    json_key(&w, "endpoint");
    if (endpoint)
        json_string(&w, endpoint->key);
    else
        json_null(&w); /* it was deleted since */
    view_member_time(&w, "at", at_s > 0 && at_s < INT64_MAX / ENV_S ? at_s * ENV_S : 0);
    json_member_string_or_null(&w, "country", slice_of(country));
    json_member_string_or_null(&w, "why", word_of(said, "why", whys, sizeof whys / sizeof *whys));
    json_member_string_or_null(&w, "chosen", chosen);
    copy_figure(&w, "status", said, 100, 599);
    json_member_bool(&w, "hop", yyjson_is_true(json_member(said, "hop")));
    copy_figure(&w, "client_rtt_ms", said, 0, (double)MESH_MS_MAX);
    json_member_string_or_null(&w, "client_rtt_source", client_source_of(said));
    json_key(&w, "pops");
    json_array_begin(&w);
    yyjson_arr_foreach(json_member(said, "pops"), index, count, item)
    {
        struct slice name = pop_of(control, item, "pop");
        if (index < DECISION_POPS && name.size)
            copy_pop(&w, item, name, chosen);
    }
    json_array_end(&w);
    json_object_end(&w);
    return json_end(&w);
}

/* ---- the end of a question ------------------------------------------------------------------- */

static void reply(struct past *past)
{
    struct request *q = past->q;
    struct json_writer w;
    past->replied = true;
    timer_stop(past->timer);
    if (past->count == 0) {
        request_refuse(q, ERR_NOT_FOUND,
                       "no PoP remembers request '%s': each keeps the last few hundred, and "
                       "nothing of those that residency refused or does not let it log; %u of %u "
                       "answered",
                       ERR_SLICE(q->parts[0]), (unsigned)(past->asked - past->waiting),
                       (unsigned)past->asked);
        return;
    }
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "request", q->parts[0]);
    json_member_u64(&w, "pops_asked", past->asked);
    json_member_u64(&w, "pops_answered", past->asked - past->waiting);
    json_key(&w, "decisions");
    json_array_begin(&w);
    for (size_t i = 0; i < past->count; i++)
        json_raw(&w, past->decisions[i]);
    json_array_end(&w);
    json_object_end(&w);
    request_reply(q, 200, json_end(&w));
}

static void on_late(void *data)
{
    struct past *past = data;
    if (!past->replied)
        reply(past);
}

static void closed(struct request *q)
{
    struct past *past = q->data;
    timer_free(past->timer);
    list_remove(&past->link);
    q->control->past_count--;
}

void request_explain(struct request *q)
{
    struct control *control = q->control;
    struct past *past = ARENA_NEW(q->arena, struct past);
    struct json_writer w;
    if (q->parts[0].size > ID_BYTES_MAX) {
        request_refuse(q, ERR_BAD_INPUT, "an id of %zu bytes; at most %d", q->parts[0].size,
                       (int)ID_BYTES_MAX);
        return;
    }
    if (control->past_count == PASTS_MAX) {
        request_refuse(q, ERR_OVERLOADED, "%d such questions are under way", (int)PASTS_MAX);
        return;
    }
    past->q = q;
    past->number = ++control->past_number;
    past->timer = timer_new(control->loop, on_late, past);
    list_append(&control->pasts, &past->link);
    control->past_count++;
    q->data = past;
    q->on_closed = closed;
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_member_u64(&w, "question", past->number);
    json_member_string(&w, "request", q->parts[0]);
    json_object_end(&w);
    past->asked = past->waiting = watch_pop_ask(control, json_end(&w), q->arena, &past->pops);
    timer_start(past->timer, past->asked ? PAST_WAIT_MS : 0);
}

/* ---- an answer ------------------------------------------------------------------------------- */

static struct past *past_find(struct control *control, uint64_t number)
{
    struct past *past;
    LIST_EACH (past, &control->pasts, struct past, link)
        if (past->number == number && !past->replied && past->q->x)
            return past;
    return NULL;
}

/* Who was asked answers once. */
static bool strike(struct past *past, const struct hub_pop *pop)
{
    for (size_t i = 0; i < past->waiting; i++)
        if (past->pops[i] == pop) {
            past->pops[i] = past->pops[--past->waiting];
            return true;
        }
    return false;
}

void pop_answer(struct request *q)
{
    yyjson_val *root = NULL, *decision;
    uint64_t number = 0;
    struct err err;
    const struct hub_pop *pop = map_get(&q->control->hub.pops, q->parts[0]);
    /* Its PoP may have been deleted, or given a new token, while the body came in. */
    int r = request_check_secret(q, pop ? &pop->row : NULL, &err);
    if (r == 0)
        r = json_parse(q->arena, (struct slice){ q->body, q->body_bytes }, NULL, &root, &err);
    if (r == 0 && json_get_u64(root, "question", JSON_REQUIRED, &number, &err) < 0)
        r = ERR_BAD_INPUT;
    if (r < 0) {
        request_fail(q, &err);
        return;
    }
    struct past *past = past_find(q->control, number);
    bool counts = past && strike(past, pop);
    decision = json_member(root, "decision");
    if (counts && yyjson_is_obj(decision) && past->count < DECISIONS_MAX)
        past->decisions[past->count++] = decision_json(past, pop->name, decision);
    request_reply(q, 200, SLICE("{}"));
    if (counts && past->waiting == 0)
        reply(past);
}
