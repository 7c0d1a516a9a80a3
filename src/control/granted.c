/* SPDX-License-Identifier: Apache-2.0 */
#include "control/granted.h"

#include "base/env.h"
#include "base/map.h"
#include "control/control_own.h"
#include "control/report.h"
#include "io/loop.h"

/* What an agent tells of, beside what residency refused. */
static const struct {
    const char *kind;
    bool endpoint; /* it is of one, which is placed there, or was lately */
} kinds[] = {
    { "process_exited", false },       { "process_started", false }, { "upgraded", false },
    { "upgrade_failed", false },       { "replica_started", true },  { "replica_ready", true },
    { "replica_exited", true },        { "replica_unready", true },  { "revision_failed", true },
    { "traffic_moved", true },         { "scaled", true },           { "schedule_changed", true },
    { "schedule_zone_unknown", true }, { "image_loaded", true },     { "volume_removed", true },
};

uint32_t granted_replicas(const struct hub_endpoint *endpoint, const struct hub_pop *pop)
{
    for (size_t i = 0; i < endpoint->place_count; i++)
        if (endpoint->places[i].pop == pop)
            return endpoint->places[i].replicas;
    return 0;
}

const struct report_endpoint *granted_said(const struct hub_endpoint *endpoint,
                                           const struct hub_pop *pop)
{
    for (size_t i = 0; i < pop->endpoint_count; i++)
        if (pop->endpoints[i].uid == endpoint->snapshot->row.uid)
            return &pop->endpoints[i];
    return NULL;
}

/* What scale.max leaves beyond what was placed is shared out evenly. */
uint64_t granted_room(const struct hub_endpoint *endpoint, const struct hub_place *place)
{
    const struct endpoint_spec *spec = &endpoint->snapshot->spec;
    uint64_t taken = 0, each = 0;
    size_t at = (size_t)(place - endpoint->places);
    for (size_t i = 0; i < endpoint->place_count; i++)
        taken += endpoint->places[i].most;
    uint64_t left = spec->scale.max > taken ? spec->scale.max - taken : 0;
    each = place->most + left / endpoint->place_count + (at < left % endpoint->place_count);
    uint64_t bound = spec->scale.per_pop.max;
    return bound && each > bound && bound >= place->most ? bound : each;
}

uint64_t granted_wanted(const struct hub_endpoint *endpoint, const struct hub_place *place)
{
    const struct report_endpoint *said = granted_said(endpoint, place->pop);
    if (!said || !said->scaled)
        return place->replicas;
    uint64_t most = granted_room(endpoint, place);
    return said->desired < most ? said->desired : most;
}

uint64_t granted_most(const struct hub_endpoint *endpoint, const struct hub_pop *pop)
{
    for (size_t i = 0; i < endpoint->place_count; i++)
        if (endpoint->places[i].pop == pop)
            return granted_wanted(endpoint, &endpoint->places[i]);
    return 0;
}

/* ---- lately --------------------------------------------------------------------------------- */

void granted_leave(struct control *control, struct hub_pop *pop, uint64_t uid)
{
    int64_t now_ms = loop_now_ms(control->loop);
    (void)map_put_u64(&pop->lately, uid, (void *)(intptr_t)(now_ms > 0 ? now_ms : 1));
}

/* The time counts while it is heard: one that was cut off for hours has something to say when it
 * comes back. */
void granted_tick(struct control *control, struct hub_pop *pop)
{
    int64_t now_ms = loop_now_ms(control->loop);
    MAP_EACH (entry, &pop->lately) {
        if (pop->silent)
            entry->value = (void *)(intptr_t)(now_ms > 0 ? now_ms : 1);
        else if (now_ms - (intptr_t)entry->value > GRANTED_LATELY_MS)
            (void)map_remove_u64(&pop->lately, entry->key.size);
    }
    MAP_EACH (entry, &pop->readied)
        if ((intptr_t)entry->value < now_ms)
            (void)map_remove_u64(&pop->readied, entry->key.size);
    int64_t old_ms = control_wall_ns(control) / ENV_MS - GRANTED_REFUSAL_OLD_MS;
    MAP_EACH (entry, &pop->refusals)
        if ((intptr_t)entry->value < old_ms)
            (void)map_remove_u64(&pop->refusals, entry->key.size);
}

/* NULL: nothing of it is this PoP's. */
static const struct hub_endpoint *given(struct control *control, const struct hub_pop *pop,
                                        uint64_t uid)
{
    const struct hub_endpoint *endpoint = uid ? hub_get(control, uid) : NULL;
    if (!endpoint || granted_replicas(endpoint, pop) || map_get_u64(&pop->lately, uid))
        return endpoint;
    return NULL;
}

/* ---- its share ------------------------------------------------------------------------------- */

static bool take(const struct control *control, struct hub_share *share, uint32_t most,
                 int64_t a_second)
{
    int64_t now_ms = loop_now_ms(control->loop);
    int64_t back = (now_ms - share->at_ms) * a_second / 1000;
    if (back > 0) {
        share->used = back < share->used ? share->used - (uint32_t)back : 0;
        share->at_ms = now_ms;
    }
    if (share->used >= most)
        return false;
    share->used++;
    return true;
}

bool granted_share(struct control *control, struct hub_pop *pop)
{
    return take(control, &pop->told, GRANTED_EVENTS_MAX, GRANTED_EVENTS_A_SECOND);
}

bool granted_report(struct control *control, struct hub_pop *pop)
{
    return take(control, &pop->reports, GRANTED_REPORTS_MAX, GRANTED_REPORTS_A_SECOND);
}

bool granted_ready(struct control *control, struct hub_pop *pop, uint64_t uid, uint64_t revision)
{
    uint64_t key = uid << STORE_REVISION_BITS | revision;
    int64_t now_ms = loop_now_ms(control->loop);
    int64_t told_ms = (intptr_t)map_get_u64(&pop->readied, key);
    if (told_ms > now_ms + GRANTED_READY_MS * (GRANTED_READY_AT_ONCE - 1))
        return false;
    told_ms = (told_ms > now_ms ? told_ms : now_ms) + GRANTED_READY_MS;
    (void)map_put_u64(&pop->readied, key, (void *)(intptr_t)told_ms);
    return true;
}

/* ---- what things must be like --------------------------------------------------------------- */

/* NAME-3, or NAME-next, which waits to be started. */
static bool replica_named(struct slice name, const struct hub_endpoint *endpoint)
{
    struct slice of = endpoint->snapshot->row.name;
    uint64_t ordinal;
    if (name.size < of.size + 2 || !slice_starts(name, of) || name.data[of.size] != '-')
        return false;
    struct slice rest = { name.data + of.size + 1, name.size - of.size - 1 };
    return slice_is(rest, "next") || slice_u64(rest, &ordinal);
}

static bool state_known(struct slice state)
{
    static const char *const words[] = { "starting", "ready", "draining", "gone", "backoff" };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (slice_is(state, words[i]))
            return true;
    return false;
}

/* ---- trimming ------------------------------------------------------------------------------- */

/* It was deleted while this was on its way, which is nobody's fault. */
static bool gone(struct control *control, uint64_t uid)
{
    return uid && !hub_get(control, uid);
}

static uint64_t trim_endpoints(struct control *control, const struct hub_pop *pop,
                               struct report *report)
{
    size_t kept = 0, late = 0, count = report->endpoint_count;
    struct map seen = {};
    for (size_t i = 0; i < count; i++) {
        struct report_endpoint said = report->endpoints[i];
        const struct hub_endpoint *endpoint = given(control, pop, said.uid);
        if (!endpoint || map_get_u64(&seen, said.uid)) {
            late += gone(control, said.uid);
            continue;
        }
        (void)map_put_u64(&seen, said.uid, report);
        if (!snapshot_revision(endpoint->snapshot, said.serving))
            said.serving = 0; /* it is kept no more, or never was there */
        report->endpoints[kept++] = said;
    }
    map_deinit(&seen);
    report->endpoint_count = kept;
    return count - kept - late;
}

static uint64_t trim_replicas(struct control *control, const struct hub_pop *pop,
                              struct report *report)
{
    size_t kept = 0, late = 0, count = report->replica_count;
    struct map counts = {};
    for (size_t i = 0; i < count; i++) {
        const struct hub_replica *said = &report->replicas[i];
        const struct hub_endpoint *endpoint = given(control, pop, said->endpoint_uid);
        if (!endpoint || !snapshot_revision(endpoint->snapshot, said->revision) ||
            !replica_named(said->name, endpoint) || !state_known(said->state)) {
            late += gone(control, said->endpoint_uid);
            continue;
        }
        uintptr_t before = (uintptr_t)map_get_u64(&counts, said->endpoint_uid);
        if (before >= GRANTED_REPLICAS_MAX)
            continue;
        (void)map_put_u64(&counts, said->endpoint_uid, (void *)(before + 1));
        report->replicas[kept++] = *said;
    }
    map_deinit(&counts);
    report->replica_count = kept;
    return count - kept - late;
}

static uint64_t trim_models(struct control *control, struct hub_pop *pop, struct report *report)
{
    size_t kept = 0, late = 0, count = report->model_count;
    struct map seen = {};
    for (size_t i = 0; i < count; i++) {
        const struct report_model *said = &report->models[i];
        const struct hub_endpoint *endpoint = given(control, pop, said->endpoint_uid);
        uint64_t uid = said->endpoint_uid << STORE_REVISION_BITS | said->number;
        if (!endpoint || !snapshot_revision(endpoint->snapshot, said->number) ||
            map_put_u64(&seen, uid, report) || !granted_share(control, pop)) {
            late += gone(control, said->endpoint_uid);
            continue;
        }
        report->models[kept++] = *said;
    }
    map_deinit(&seen);
    report->model_count = kept;
    return count - kept - late;
}

/* How requests that residency refused are told of, in gateways' words (docs/residency.md). Each
 * tells of an endpoint and a reason every 10 s; one more may come meanwhile, of a gateway that was
 * started anew. The times are the PoP's own, which may have been cut off, but go forward. */
static bool refusal_allowed(struct control *control, struct hub_pop *pop, struct store_event *event)
{
    static const char *const reasons[] = { "client_unknown", "no_rule", "narrowed", "place" };
    const struct hub_endpoint *endpoint = hub_get(control, event->endpoint_uid);
    int64_t now_ms = control_wall_ns(control) / ENV_MS, at_ms = event->at_ns / ENV_MS;
    uint64_t reason = 0, reason_count = sizeof reasons / sizeof *reasons;
    if (!endpoint || event->replica.size || !hub_pop_runs(pop))
        return false; /* also of one that is not placed there: it is asked for everywhere */
    if (event->message.size > GRANTED_REFUSAL_BYTES)
        event->message.size = GRANTED_REFUSAL_BYTES;
    while (reason < reason_count && !slice_ends(event->message, slice_of(reasons[reason])))
        reason++;
    if (at_ms > now_ms)
        at_ms = now_ms;
    else if (at_ms < now_ms - GRANTED_REFUSAL_OLD_MS)
        at_ms = now_ms - GRANTED_REFUSAL_OLD_MS;
    event->at_ns = at_ms * ENV_MS;
    uint64_t key = event->endpoint_uid * (reason_count + 1) + reason;
    int64_t told_ms = (intptr_t)map_get_u64(&pop->refusals, key);
    if (told_ms > at_ms + GRANTED_REFUSAL_MS)
        return false;
    told_ms = (told_ms > at_ms ? told_ms : at_ms) + GRANTED_REFUSAL_MS;
    (void)map_put_u64(&pop->refusals, key, (void *)(intptr_t)told_ms);
    return true;
}

static bool event_allowed(struct control *control, struct hub_pop *pop, struct store_event *event)
{
    if (slice_is(event->kind, "residency_refused"))
        return refusal_allowed(control, pop, event);
    if (event->at_ns > control_wall_ns(control))
        event->at_ns = control_wall_ns(control);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!slice_is(event->kind, kinds[i].kind))
            continue;
        if (!kinds[i].endpoint)
            return event->endpoint_uid == 0 && event->replica.size == 0;
        const struct hub_endpoint *endpoint = given(control, pop, event->endpoint_uid);
        return endpoint && (!event->replica.size || replica_named(event->replica, endpoint));
    }
    return false;
}

static bool item_allowed(struct control *control, struct hub_pop *pop, struct report_item *item)
{
    const struct hub_endpoint *endpoint;
    switch (item->kind) {
    case REPORT_EVENT:
        return event_allowed(control, pop, &item->event);
    case REPORT_DEATH:
        endpoint = given(control, pop, item->death.endpoint_uid);
        return endpoint && snapshot_revision(endpoint->snapshot, item->death.revision) &&
               replica_named(item->death.replica, endpoint);
    case REPORT_LOG:
        endpoint = given(control, pop, item->log.endpoint_uid);
        return endpoint && replica_named(item->log.replica, endpoint);
    }
    return false;
}

static uint64_t uid_of(const struct report_item *item)
{
    return item->kind == REPORT_EVENT   ? item->event.endpoint_uid
           : item->kind == REPORT_DEATH ? item->death.endpoint_uid
                                        : item->log.endpoint_uid;
}

static uint64_t trim_items(struct control *control, struct hub_pop *pop, struct report *report)
{
    uint64_t refused = 0;
    for (size_t i = 0; i < report->item_count; i++) {
        struct report_item *item = &report->items[i];
        item->refused = !item_allowed(control, pop, item) ||
                        (item->kind != REPORT_LOG && !granted_share(control, pop));
        refused += item->refused && !gone(control, uid_of(item));
    }
    return refused;
}

/* To a DNS server no request comes. */
static uint64_t trim_clients(const struct hub_pop *pop, struct report *report)
{
    uint64_t count = report->client_count + report->load_count + report->asked_count;
    if (hub_pop_runs(pop))
        return 0;
    report->client_count = report->load_count = report->asked_count = 0;
    return count;
}

uint64_t granted_trim(struct control *control, struct hub_pop *pop, struct report *report)
{
    return trim_clients(pop, report) + trim_endpoints(control, pop, report) +
           trim_replicas(control, pop, report) + trim_models(control, pop, report) +
           trim_items(control, pop, report);
}
