/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PoPs: what each is to run (watch.c), and what each says. A report is level-triggered; of what
 * happened, each item has a number that grows in an agent's life, and is taken once. The answer
 * comes when all that must last is on disk.
 */
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/json.h"
#include "base/log.h"
#include "control/control_own.h"
#include "control/granted.h"
#include "control/report.h"
#include "control/routes.h"
#include "control/watch.h"
#include "io/loop.h"

enum { COMPLAIN_EVERY_MS = 60'000 };

struct reporting {
    struct report report;
    struct arena *state_arena; /* of the report; the hub's at the end */
    struct slice pop;          /* its name */
    struct slice keep;
    uint64_t seen;
    bool sets_differ;   /* from those of control, and not as they did before */
    bool late;          /* a newer one of its agent came before: this says how things were */
    struct map touched; /* uid to struct snapshot */
    struct store_event *events;
    struct store_log *logs;
    size_t event_count, log_count;
    uint64_t *uids; /* of endpoints that changed */
    size_t uid_count;
};

/* ---- what must last: on the store's thread -------------------------------------------------- */

/* For so many more endpoints than are reported: those that are not any more. */
static void room_make(struct reporting *p, struct arena *arena, size_t more)
{
    const struct report *report = &p->report;
    size_t uids = report->item_count + report->endpoint_count + report->model_count + more;
    p->uids = ARENA_ARRAY(arena, uint64_t, uids + 1);
    /* One more event per endpoint: revision_ready. */
    p->events =
        ARENA_ARRAY(arena, struct store_event,
                    report->item_count + report->endpoint_count + report->model_count + more + 2);
}

static void touch(struct reporting *p, uint64_t uid)
{
    for (size_t i = 0; i < p->uid_count; i++)
        if (p->uids[i] == uid)
            return;
    p->uids[p->uid_count++] = uid;
}

static int add_event(struct reporting *p, struct store *store, struct store_event event,
                     struct err *err)
{
    int r = store->event_add(store, &event, err);
    if (r == 0)
        p->events[p->event_count++] = event;
    return r;
}

/* What the store has of an endpoint on all PoPs, as one. */
static int sum_of(struct request *q, struct store *store, const struct store_endpoint *row,
                  struct report_sum *ret, struct err *err)
{
    struct store_pop_endpoint *list;
    size_t count;
    int r = store->pop_endpoint_list(store, row->uid, q->arena, &list, &count, err);
    if (r < 0)
        return r;
    struct report_endpoint *said = ARENA_ARRAY(q->arena, struct report_endpoint, count + 1);
    for (size_t i = 0; i < count; i++)
        said[i] = (struct report_endpoint){
            .uid = row->uid,
            .serving = list[i].serving,
            .target = list[i].target,
            .target_state = list[i].state,
            .message = list[i].message,
        };
    *ret = report_sum(said, count, row->target);
    return 0;
}

/* `again`: that it is ready is no event. */
static int keep_sum(struct reporting *p, struct request *q, struct store *store, uint64_t uid,
                    bool again, struct err *err)
{
    struct store_endpoint row;
    struct report_sum sum = {};
    int r = store->endpoint_get(store, uid, q->arena, &row, err);
    if (r == ERR_NOT_FOUND)
        return 0; /* deleted meanwhile; the PoP hears of it */
    if (r == 0)
        r = sum_of(q, store, &row, &sum, err);
    if (r < 0)
        return r;
    bool state = sum.target_state.size && (!slice_equal(sum.target_state, row.target_state) ||
                                           !slice_equal(sum.message, row.target_message));
    bool ready =
        state && slice_is(sum.target_state, "ready") && !slice_is(row.target_state, "ready");
    if (!state && sum.serving == row.serving)
        return 0;
    row.serving = sum.serving;
    if (state) {
        row.target_state = sum.target_state;
        row.target_message = sum.message;
        r = store->revision_report(store, row.uid, row.target, sum.target_state, sum.message,
                                   (struct slice){}, err);
    }
    if (r == 0)
        r = store->endpoint_update(store, &row, row.generation, err);
    if (r == 0 && ready && !again)
        r = add_event(p, store,
                      (struct store_event){
                          .endpoint_uid = row.uid,
                          .at_ns = q->now_ns,
                          .kind = SLICE("revision_ready"),
                          .project = row.project,
                          .endpoint = row.name,
                          .pop = p->pop,
                          .message = slice_of(arena_format(q->arena, "revision %llu",
                                                           (unsigned long long)row.target)),
                      },
                      err);
    touch(p, row.uid);
    return r;
}

static bool says(const struct report *report, uint64_t uid)
{
    for (size_t i = 0; i < report->endpoint_count; i++)
        if (report->endpoints[i].uid == uid)
            return true;
    return false;
}

static int keep_endpoint(struct reporting *p, struct request *q, struct store *store,
                         const struct report_endpoint *said, struct err *err)
{
    struct store_endpoint row;
    const struct store_pop_endpoint own = {
        .endpoint_uid = said->uid,
        .pop = p->pop,
        .serving = said->serving,
        .target = said->target,
        .state = said->target_state,
        .message = said->message,
    };
    int r = store->endpoint_get(store, said->uid, q->arena, &row, err);
    if (r == ERR_NOT_FOUND)
        return 0;
    if (r == 0)
        r = store->pop_endpoint_put(store, &own, err);
    return r < 0 ? r : keep_sum(p, q, store, said->uid, said->again, err);
}

/* What the PoP says takes the place of all that it said before. */
static int keep_endpoints(struct reporting *p, struct request *q, struct store *store,
                          struct err *err)
{
    const struct report *report = &p->report;
    struct store_pop_endpoint *before;
    size_t count;
    int r = store->pop_endpoint_of(store, p->pop, q->arena, &before, &count, err);
    if (r < 0)
        return r;
    room_make(p, q->arena, count);
    if (p->late)
        return 0;
    for (size_t i = 0; i < count && r == 0; i++) {
        uint64_t uid = before[i].endpoint_uid;
        if (says(report, uid))
            continue;
        r = store->pop_endpoint_delete(store, uid, p->pop, err);
        if (r == 0)
            r = keep_sum(p, q, store, uid, false, err);
    }
    for (size_t i = 0; i < report->endpoint_count && r == 0; i++)
        r = keep_endpoint(p, q, store, &report->endpoints[i], err);
    return r;
}

/* The same bytes are the same model wherever they run: a PoP that says otherwise runs something
 * else, or the one before it did. The first word stays, and somebody is to look. */
static int model_differs(struct reporting *p, struct request *q, struct store *store,
                         const struct report_model *said, struct err *err)
{
    struct store_endpoint row;
    int r = store->endpoint_get(store, said->endpoint_uid, q->arena, &row, err);
    if (r < 0)
        return r;
    return add_event(p, store,
                     (struct store_event){
                         .endpoint_uid = row.uid,
                         .at_ns = q->now_ns,
                         .kind = SLICE("model_differs"),
                         .project = row.project,
                         .endpoint = row.name,
                         .pop = p->pop,
                         .message = slice_of(arena_format(
                             q->arena, "what it says of revision %llu's model is not what was said",
                             (unsigned long long)said->number)),
                     },
                     err);
}

static int keep_model(struct reporting *p, struct request *q, struct store *store,
                      const struct report_model *said, struct err *err)
{
    struct store_revision revision;
    int r = store->revision_get(store, said->endpoint_uid, said->number, q->arena, &revision, err);
    if (r == ERR_NOT_FOUND || (r == 0 && !said->metadata.size))
        return 0;
    if (r == 0 && revision.metadata.size)
        return slice_equal(revision.metadata, said->metadata)
                   ? 0
                   : model_differs(p, q, store, said, err);
    if (r == 0)
        r = store->revision_report(store, said->endpoint_uid, said->number, revision.state,
                                   revision.message, said->metadata, err);
    touch(p, said->endpoint_uid);
    return r;
}

/* Requests that residency refused: their number is all that leaves a PoP. */
static int audit_refused(struct reporting *p, struct store *store, const struct store_event *event,
                         struct err *err)
{
    const struct store_audit audit = {
        .at_ns = event->at_ns,
        .who = p->pop,
        .action = event->kind,
        .from = event->message,
        .project = event->project,
        .endpoint = event->endpoint,
    };
    return store->audit_add(store, &audit, err);
}

static int keep_item(struct reporting *p, struct request *q, struct store *store,
                     struct report_item *item, struct err *err)
{
    struct store_endpoint row = {};
    uint64_t uid = item->kind == REPORT_EVENT   ? item->event.endpoint_uid
                   : item->kind == REPORT_DEATH ? item->death.endpoint_uid
                                                : item->log.endpoint_uid;
    int r = uid ? store->endpoint_get(store, uid, q->arena, &row, err) : ERR_NOT_FOUND;
    if (r < 0 && r != ERR_NOT_FOUND)
        return r;
    bool there = r == 0;
    if (item->kind == REPORT_EVENT) {
        item->event.project = row.project;
        item->event.endpoint = row.name;
        r = add_event(p, store, item->event, err);
        if (r == 0 && there && slice_is(item->event.kind, "residency_refused"))
            r = audit_refused(p, store, &item->event, err);
        return r;
    }
    if (!there)
        return 0;
    if (item->kind == REPORT_DEATH) {
        touch(p, uid);
        return store->death_add(store, &item->death, err);
    }
    r = store->log_add(store, &item->log, err);
    if (r == 0)
        p->logs[p->log_count++] = item->log;
    return r;
}

static int say_sets_differ(struct reporting *p, struct request *q, struct store *store,
                           struct err *err)
{
    return add_event(
        p, store,
        (struct store_event){
            .at_ns = q->now_ns,
            .kind = SLICE("sets_differ"),
            .pop = p->pop,
            .message = SLICE("its sets of countries (--sets) are not those of control: "
                             "residency is decided otherwise there"),
        },
        err);
}

static int load_touched(struct reporting *p, struct store *store, struct err *err)
{
    for (size_t i = 0; i < p->uid_count; i++) {
        struct snapshot *snapshot;
        int r = snapshot_load(store, p->uids[i], &snapshot, err);
        if (r == ERR_NOT_FOUND)
            continue;
        if (r < 0)
            return r;
        (void)map_put_u64(&p->touched, p->uids[i], snapshot);
    }
    return 0;
}

static int on_report_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct reporting *p = q->data;
    struct report *report = &p->report;
    struct store_pop pop = {};
    int r = store->pop_get(store, p->pop, q->arena, &pop, err);
    if (r < 0 && r != ERR_NOT_FOUND)
        return r;
    int in = request_check_secret(q, r == 0 ? &pop : NULL, err);
    if (in < 0)
        return in; /* deleted, or shut out, while its report came in */
    if (p->late && pop.instance != report->instance)
        return 0; /* what happened to an agent before it is told */
    p->seen = r == 0 && pop.instance == report->instance ? pop.seq : 0;
    r = keep_endpoints(p, q, store, err);
    if (r == 0 && p->sets_differ)
        r = say_sets_differ(p, q, store, err);
    for (size_t i = 0; i < report->model_count && r == 0; i++)
        r = keep_model(p, q, store, &report->models[i], err);
    for (size_t i = 0; i < report->item_count && r == 0; i++) {
        if (report->items[i].seq <= p->seen)
            continue; /* a repeat */
        p->seen = report->items[i].seq;
        if (!report->items[i].refused)
            r = keep_item(p, q, store, &report->items[i], err);
    }
    pop = (struct store_pop){
        .name = p->pop,
        .instance = report->instance,
        .seq = p->seen,
        .reported_ns = q->now_ns,
        .report = p->late ? pop.report : p->keep,
    };
    if (r == 0)
        r = store->pop_report(store, &pop, err);
    return r < 0 ? r : load_touched(p, store, err);
}

/* ---- on the loop ---------------------------------------------------------------------------- */

static void reply_seen(struct request *q, uint64_t seen)
{
    request_reply(
        q, 200,
        slice_of(arena_format(q->arena, "{\"events_seen\":%llu}", (unsigned long long)seen)));
}

/* A report that was passed by a later one of the same agent, or by one of the agent after it, says
 * how things were. Agents count upwards for as long as their home stands; one that has begun anew
 * all the same is believed once the other has fallen silent. Reports are applied in the order in
 * which they came, so this one is judged by the newest that came, not by the newest applied. */
static bool is_late(struct hub_pop *pop, const struct report *report)
{
    bool late = pop->heard_instance == report->instance
                    ? report->sequence < pop->heard_sequence
                    : report->instance < pop->heard_instance && pop->reported_ms && !pop->silent;
    if (!late) {
        pop->heard_instance = report->instance;
        pop->heard_sequence = report->sequence;
    }
    return late;
}

static void take_state(struct request *q, struct reporting *p)
{
    struct control *control = q->control;
    struct hub_pop *pop = hub_pop(control, p->pop);
    const struct report *report = &p->report;
    if (p->late || (pop->instance == report->instance && report->sequence < pop->sequence))
        return;
    pop->instance = report->instance;
    pop->sequence = report->sequence;
    demand_take(control, pop, report);
    hub_pop_state(control, pop, take_ptr(p->state_arena), report);
    control_going_look(control);
    struct slice name = p->pop;
    metric_add(control_count(control, CONTROL_REPORTS, &name), 1);
}

static void reporting_end(struct reporting *p)
{
    MAP_EACH (entry, &p->touched)
        snapshot_free(entry->value);
    map_deinit(&p->touched);
    arena_free(take_ptr(p->state_arena));
}

static void on_report_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct reporting *p = q->data;
    struct control *control = q->control;
    if (err) {
        request_fail(q, err);
        reporting_end(p);
        return;
    }
    struct hub_pop *pop = hub_pop(control, p->pop);
    if (!p->late) {
        free(pop->kept);
        pop->kept = mem_string(p->keep);
    }
    take_state(q, p);
    MAP_EACH (entry, &p->touched)
        hub_put(control, entry->value);
    map_deinit(&p->touched);
    watch_events(control, p->events, p->event_count);
    watch_logs(control, p->logs, p->log_count);
    reply_seen(q, p->seen);
    reporting_end(p);
}

/* Most reports say what is known: then nothing is written. */
static bool says_something_new(struct request *q, const struct reporting *p)
{
    const struct report *report = &p->report;
    const struct hub_pop *pop = map_get(&q->control->hub.pops, p->pop);
    const char *kept = pop ? pop->kept : NULL;
    if (report->item_count || report->model_count || !kept || pop->instance != report->instance ||
        !slice_is(p->keep, kept))
        return true;
    for (size_t i = 0; i < report->endpoint_count; i++) {
        const struct hub_endpoint *endpoint = hub_get(q->control, report->endpoints[i].uid);
        const struct store_endpoint *row = endpoint ? &endpoint->snapshot->row : NULL;
        if (!row)
            continue;
        struct report_sum sum = hub_sum(q->control, row, p->pop, &report->endpoints[i]);
        if (sum.serving != row->serving ||
            (sum.target_state.size && (!slice_equal(sum.target_state, row->target_state) ||
                                       !slice_equal(sum.message, row->target_message))))
            return true;
    }
    return false;
}

/* Once a minute of each PoP, or it could fill the log. */
static bool may_complain(const struct control *control, struct hub_pop *pop)
{
    int64_t now_ms = loop_now_ms(control->loop);
    if (pop->complained_ms && now_ms - pop->complained_ms < COMPLAIN_EVERY_MS)
        return false;
    pop->complained_ms = now_ms;
    return true;
}

/* What a PoP may not say is left out, and counted. */
static void trim(struct request *q, struct reporting *p, struct hub_pop *pop)
{
    struct control *control = q->control;
    uint64_t refused = q->trusted ? 0 : granted_trim(control, pop, &p->report);
    if (refused && may_complain(control, pop))
        log_warn("control", "a PoP says what is not its to say, leaving that out",
                 LOG_SLICE("pop", p->pop), LOG_U("items", refused));
    if (refused)
        metric_add(control_count(control, CONTROL_REPORTS_REFUSED, &p->pop), refused);
}

/* A revision that is ready and not ready in turn is told of now and then. */
static void look_at_ready(const struct request *q, struct reporting *p, struct hub_pop *pop)
{
    for (size_t i = 0; i < p->report.endpoint_count && !p->late && !q->trusted; i++) {
        struct report_endpoint *said = &p->report.endpoints[i];
        const struct hub_endpoint *endpoint = hub_get(q->control, said->uid);
        if (endpoint && slice_is(said->target_state, "ready") &&
            !slice_is(endpoint->snapshot->row.target_state, "ready"))
            said->again = !granted_ready(q->control, pop, said->uid, said->target);
    }
}

static void look_at_sets(const struct request *q, struct reporting *p, struct hub_pop *pop)
{
    const struct slice said = p->report.sets;
    p->sets_differ = !p->late && hub_pop_sets_differ(q->control, said) &&
                     !slice_is(said, pop->sets) && granted_share(q->control, pop);
    if (p->sets_differ && may_complain(q->control, pop))
        log_warn("control", "a PoP's sets of countries (--sets) are not those of control",
                 LOG_SLICE("pop", p->pop));
}

/* Its PoP may have been deleted, or given a new token, while the body came in. */
static int report_begin(struct request *q, struct reporting *p, struct err *err)
{
    const struct hub_pop *there = map_get(&q->control->hub.pops, p->pop);
    int r = spec_check_name(p->pop, "PoP name", err);
    if (r == 0)
        r = request_check_secret(q, there ? &there->row : NULL, err);
    if (r == 0)
        r = report_parse(p->state_arena, (struct slice){ q->body, q->body_bytes }, p->pop,
                         q->now_ns, &p->report, err);
    return r;
}

void pop_report(struct request *q)
{
    struct err err;
    struct reporting *p = ARENA_NEW(q->arena, struct reporting);
    p->pop = q->parts[0];
    p->state_arena = arena_new();
    if (report_begin(q, p, &err) < 0) {
        request_fail(q, &err);
        reporting_end(p);
        return;
    }
    struct hub_pop *pop = hub_pop(q->control, p->pop);
    p->late = is_late(pop, &p->report);
    trim(q, p, pop);
    look_at_sets(q, p, pop);
    look_at_ready(q, p, pop);
    p->keep = report_keep(q->arena, &p->report);
    q->data = p;
    if (p->late ? p->report.item_count == 0 : !says_something_new(q, p)) {
        take_state(q, p);
        reply_seen(q, 0);
        reporting_end(p);
        return;
    }
    p->logs = ARENA_ARRAY(q->arena, struct store_log, p->report.item_count + 1);
    request_write(q, on_report_run, on_report_done);
}

/* ---- the others ----------------------------------------------------------------------------- */

void pop_watch(struct request *q)
{
    struct err err;
    if (spec_check_name(q->parts[0], "PoP name", &err) < 0)
        request_fail(q, &err);
    else
        watch_pop_open(q);
}
