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
#include "control/control_own.h"
#include "control/routes.h"
#include "control/watch.h"
#include "io/timer.h"

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
    unsigned asked, answered;
    struct slice decisions[DECISIONS_MAX]; /* JSON, in the request's arena */
    size_t count;
    struct timer *timer;
    bool replied;
};

/* ---- what a PoP says ------------------------------------------------------------------------- */

static struct slice words_of(yyjson_val *object, const char *key)
{
    struct slice text = json_slice(json_member(object, key));
    text.size = text.size < ID_BYTES_MAX ? text.size : ID_BYTES_MAX;
    return text;
}

static void copy_figure(struct json_writer *w, const char *key, yyjson_val *object)
{
    yyjson_val *value = json_member(object, key);
    json_key(w, key);
    if (yyjson_is_num(value))
        json_double(w, yyjson_get_num(value));
    else
        json_null(w);
}

static void copy_words(struct json_writer *w, const char *key, yyjson_val *object)
{
    struct slice text = words_of(object, key);
    json_key(w, key);
    if (text.size)
        json_string(w, text);
    else
        json_null(w);
}

static void copy_pop(struct json_writer *w, yyjson_val *pop, struct slice chosen)
{
    static const char *const figures[] = { "share",      "rtt_ms",  "queue_ms", "queue_felt_ms",
                                           "service_ms", "cold_ms", "total_ms" };
    json_object_begin(w);
    copy_words(w, "pop", pop);
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        copy_figure(w, figures[i], pop);
    copy_words(w, "rtt_source", pop);
    json_member_bool(w, "chosen", slice_equal(words_of(pop, "pop"), chosen));
    json_member_bool(w, "near", yyjson_is_true(json_member(pop, "near")));
    copy_words(w, "excluded", pop);
    json_object_end(w);
}

static struct slice decision_json(struct past *past, struct slice pop, yyjson_val *said)
{
    struct control *control = past->q->control;
    uint64_t uid = yyjson_get_uint(json_member(said, "endpoint_uid"));
    int64_t at_s = yyjson_get_sint(json_member(said, "at_s"));
    const struct hub_endpoint *endpoint = hub_get(control, uid);
    struct json_writer w;
    size_t index, count;
    yyjson_val *item;
    json_begin(&w, past->q->arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "pop", pop);
    json_key(&w, "endpoint");
    if (endpoint)
        json_string(&w, endpoint->key);
    else
        json_null(&w); /* it was deleted since */
    view_member_time(&w, "at", at_s > 0 && at_s < INT64_MAX / ENV_S ? at_s * ENV_S : 0);
    copy_words(&w, "country", said);
    copy_words(&w, "why", said);
    copy_words(&w, "chosen", said);
    copy_figure(&w, "status", said);
    json_member_bool(&w, "hop", yyjson_is_true(json_member(said, "hop")));
    json_key(&w, "pops");
    json_array_begin(&w);
    yyjson_arr_foreach(json_member(said, "pops"), index, count, item)
    {
        if (index < DECISION_POPS)
            copy_pop(&w, item, words_of(said, "chosen"));
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
                       ERR_SLICE(q->parts[0]), past->answered, past->asked);
        return;
    }
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "request", q->parts[0]);
    json_member_u64(&w, "pops_asked", past->asked);
    json_member_u64(&w, "pops_answered", past->answered);
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
    past->asked = watch_pop_ask(control, json_end(&w));
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

void pop_answer(struct request *q)
{
    yyjson_val *root, *decision;
    uint64_t number = 0;
    struct err err;
    int r = json_parse(q->arena, (struct slice){ q->body, q->body_bytes }, NULL, &root, &err);
    if (r == 0 && json_get_u64(root, "question", JSON_REQUIRED, &number, &err) < 0)
        r = ERR_BAD_INPUT;
    if (r < 0) {
        request_fail(q, &err);
        return;
    }
    struct past *past = past_find(q->control, number);
    decision = json_member(root, "decision");
    if (past && yyjson_is_obj(decision) && past->count < DECISIONS_MAX)
        past->decisions[past->count++] = decision_json(past, q->parts[0], decision);
    request_reply(q, 200, SLICE("{}"));
    if (past && ++past->answered >= past->asked)
        reply(past);
}
