/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON that clients and agents get of what the hub knows (docs/api.md). */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/json.h"
#include "control/abroad.h"
#include "control/change.h"
#include "control/control_own.h"
#include "control/granted.h"
#include "control/report.h"
#include "control/status.h"
#include "control/traffic.h"

const char *view_time(int64_t ns, char buffer[static 40])
{
    time_t seconds = (time_t)(ns / 1'000'000'000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t used = strftime(buffer, 40, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(buffer + used, 40 - used, ".%03dZ", (int)(ns % 1'000'000'000 / 1'000'000));
    return buffer;
}

void view_member_time(struct json_writer *w, const char *key, int64_t ns)
{
    char text[40];
    json_member_text(w, key, ns ? view_time(ns, text) : NULL);
}

struct slice view_etag(struct arena *arena, uint64_t generation)
{
    return slice_of(arena_format(arena, "\"%llu\"", (unsigned long long)generation));
}

static void member_revision(struct json_writer *w, const char *key, uint64_t number)
{
    json_member_u64_or_null(w, key, number != 0, number);
}

/* ---- what it is called ---------------------------------------------------------------------- */

static void count_replica(const struct hub_replica *replica, struct status_input *in)
{
    bool target = replica->revision == in->target;
    if (slice_is(replica->state, "ready")) {
        for (size_t i = 0; i < in->share_count; i++)
            in->share_ready[i] += replica->revision == in->shares[i].revision;
        in->target_ready += target;
        in->other_ready += !target;
    } else if (slice_is(replica->state, "draining")) {
        in->draining++;
    } else if (slice_is(replica->state, "backoff")) {
        in->target_backoff += target;
        if (target && replica->message.size)
            in->backoff_message = replica->message;
    } else if (!slice_is(replica->state, "gone")) {
        in->target_starting += target;
    }
}

/* More ready ones than a PoP is to run count for nothing: it cannot make up for another. */
static void count_replicas(const struct hub_endpoint *endpoint, const struct hub_pop *pop,
                           struct status_input *in)
{
    uint64_t ready = in->target_ready;
    for (size_t i = 0; i < pop->replica_count; i++)
        if (pop->replicas[i].endpoint_uid == endpoint->snapshot->row.uid)
            count_replica(&pop->replicas[i], in);
    uint64_t granted = in->target_ready > ready ? granted_most(endpoint, pop) : 0;
    if (granted && in->target_ready > ready + granted)
        in->target_ready = (typeof(in->target_ready))(ready + granted);
}

enum { COPYING_BYTES = 400 };

static const char *copying_text(const struct copies_state *copies, char text[static COPYING_BYTES])
{
    const double mib = 1 << 20;
    if (copies->why)
        snprintf(text, COPYING_BYTES, "it is not copied from %s: %s; it is tried again",
                 copies->host, copies->why);
    else
        snprintf(text, COPYING_BYTES, "it is being copied from %s: %.1f of %.1f MiB", copies->host,
                 (double)copies->bytes_done / mib, (double)copies->bytes / mib);
    return text;
}

static void decide(struct control *control, const struct hub_endpoint *endpoint, struct status *ret)
{
    const struct snapshot *s = endpoint->snapshot;
    struct status_input in = {
        .stopped = s->row.stopped,
        .target = s->row.target,
        .serving = s->row.serving,
        .target_state = s->row.target_state,
        .target_message = s->row.target_message,
        .forbidden = endpoint->forbidden,
        .spread_short = endpoint->spread_short,
        .nowhere = endpoint->place_count ? NULL : endpoint->nowhere,
    };
    struct traffic_plan plan;
    traffic_plan(&s->row, &s->spec, &plan);
    struct copies_state copies;
    char copying[COPYING_BYTES];
    copies_state(control, s, s->row.target, &copies);
    if (copies.copying) {
        in.copying = copying_text(&copies, copying);
        in.copy_failed = copies.lasting;
        in.copy_troubled = copies.why != NULL;
    }
    memcpy(in.shares, plan.shares, sizeof in.shares);
    in.share_count = plan.count;
    in.lead = traffic_lead(&plan, s->row.target);
    in.idle = endpoint->place_count > 0;
    for (size_t i = 0; i < endpoint->place_count; i++) {
        uint64_t wanted = granted_wanted(endpoint, &endpoint->places[i]);
        in.replicas_min += wanted;
        in.idle = in.idle && wanted == 0;
    }
    if (endpoint->min_short && in.replicas_min < s->spec.scale.min)
        in.replicas_min = s->spec.scale.min;
    MAP_EACH (entry, &control->hub.pops) {
        const struct hub_pop *pop = entry->value;
        if (slice_is(pop->row.wanted, "retired") || !hub_pop_runs(pop))
            continue;
        in.pops += pop->reported_ms != 0;
        in.pops_silent += pop->silent;
        count_replicas(endpoint, pop, &in);
    }
    status_decide(&in, ret);
}

const char *view_state(struct control *control, const struct hub_endpoint *endpoint)
{
    struct status status;
    decide(control, endpoint, &status);
    return status_word(status.state);
}

/* ---- parts ---------------------------------------------------------------------------------- */

void view_replicas(struct control *control, struct json_writer *w, uint64_t uid)
{
    json_array_begin(w);
    MAP_EACH (entry, &control->hub.pops) {
        const struct hub_pop *pop = entry->value;
        for (size_t i = 0; i < pop->replica_count; i++)
            if (uid == 0 || pop->replicas[i].endpoint_uid == uid)
                json_raw(w, pop->replicas[i].view);
    }
    json_array_end(w);
}

static struct slice label_of(struct arena *arena, const struct store_endpoint *row)
{
    if (slice_is(row->project, "default"))
        return row->name;
    return slice_of(
        arena_format(arena, "%.*s--%.*s", SLICE_FMT(row->name), SLICE_FMT(row->project)));
}

static void write_hosts(struct control *control, struct json_writer *w, const struct snapshot *s)
{
    struct slice label = label_of(w->arena, &s->row);
    json_key(w, "hosts");
    json_array_begin(w);
    json_text(w, arena_format(w->arena, "%.*s.localhost", SLICE_FMT(label)));
    json_text(w, arena_format(w->arena, "%.*s.%s", SLICE_FMT(label), control->start.zone));
    for (size_t i = 0; i < s->spec.domains.count; i++)
        json_string(w, s->spec.domains.items[i]);
    json_array_end(w);

    json_key(w, "urls");
    json_array_begin(w);
    const char *port = control->hub.gateway ? strrchr(control->hub.gateway, ':') : NULL;
    if (port)
        json_text(w, arena_format(w->arena, "http://%.*s.%s%s", SLICE_FMT(label),
                                  control->hub.gateway_loopback ? "localhost" : control->start.zone,
                                  port));
    json_array_end(w);
}

/* What it is to run there at least, while the schedule's minimum over the fleet is so much. */
static void write_floors(struct json_writer *w, const struct hub_endpoint *endpoint,
                         const struct hub_place *place)
{
    if (endpoint->floor_count == 0)
        return;
    json_key(w, "floors");
    json_array_begin(w);
    for (size_t f = 0; f < endpoint->floor_count; f++) {
        json_object_begin(w);
        json_member_u64(w, "min", endpoint->floors[f]);
        json_member_u64(w, "replicas", place->floors[f]);
        json_object_end(w);
    }
    json_array_end(w);
}

/* What its PoPs say of how many they want, and why. */
static void write_scale(struct json_writer *w, const struct hub_endpoint *endpoint)
{
    json_key(w, "scale");
    json_array_begin(w);
    for (size_t i = 0; i < endpoint->place_count; i++) {
        const struct report_endpoint *said = granted_said(endpoint, endpoint->places[i].pop);
        if (!said || !said->scaled)
            continue;
        json_object_begin(w);
        json_member_string(w, "pop", endpoint->places[i].pop->name);
        json_member_u64(w, "replicas", granted_wanted(endpoint, &endpoint->places[i]));
        json_member_string(w, "reason", said->scale_reason);
        json_member_string(w, "text", said->scale_text);
        json_object_end(w);
    }
    json_array_end(w);
}

/* Lines of its replicas that residency keeps at their PoPs. */
static void write_kept(struct json_writer *w, const struct hub_endpoint *endpoint)
{
    json_key(w, "lines_kept");
    json_array_begin(w);
    for (size_t i = 0; i < endpoint->place_count; i++) {
        const struct report_endpoint *said = granted_said(endpoint, endpoint->places[i].pop);
        if (!said || !said->lines_kept)
            continue;
        json_object_begin(w);
        json_member_string(w, "pop", endpoint->places[i].pop->name);
        json_member_u64(w, "lines", said->lines_kept);
        json_object_end(w);
    }
    json_array_end(w);
}

/* Which PoPs have some, also those where it does not run any more. */
static void write_volumes(struct control *control, struct json_writer *w,
                          const struct hub_endpoint *endpoint)
{
    json_key(w, "volumes");
    json_array_begin(w);
    for (size_t i = 0; i < control->hub.sorted_count; i++) {
        const struct hub_pop *pop = control->hub.sorted[i];
        uint64_t bytes =
            report_volumes_of(pop->volumes, pop->volumes_count, endpoint->snapshot->row.uid);
        if (!bytes)
            continue;
        json_object_begin(w);
        json_member_string(w, "pop", pop->name);
        json_member_u64(w, "bytes", bytes);
        json_object_end(w);
    }
    json_array_end(w);
}

static void write_places(struct json_writer *w, const struct hub_endpoint *endpoint)
{
    json_key(w, "pops");
    json_array_begin(w);
    for (size_t i = 0; i < endpoint->place_count; i++) {
        json_object_begin(w);
        json_member_string(w, "name", endpoint->places[i].pop->name);
        json_member_u64(w, "replicas", endpoint->places[i].replicas);
        json_member_u64(w, "max", granted_room(endpoint, &endpoint->places[i]));
        write_floors(w, endpoint, &endpoint->places[i]);
        json_object_end(w);
    }
    json_array_end(w);
}

static void write_labels(struct json_writer *w, const struct endpoint_spec *spec)
{
    json_key(w, "labels");
    json_object_begin(w);
    for (size_t i = 0; i < spec->labels.count; i++) {
        json_key_slice(w, spec->labels.items[i].key);
        json_string(w, spec->labels.items[i].value);
    }
    json_object_end(w);
}

static void write_deaths(struct json_writer *w, const struct snapshot *s)
{
    json_key(w, "deaths");
    json_array_begin(w);
    for (size_t i = 0; i < s->death_count; i++) {
        const struct store_death *death = &s->deaths[i];
        json_object_begin(w);
        json_member_string(w, "replica", death->replica);
        json_member_u64(w, "revision", death->revision);
        view_member_time(w, "at", death->at_ns);
        json_member_string(w, "reason", death->reason);
        json_member_raw_or_null(w, "log", death->log);
        json_object_end(w);
    }
    json_array_end(w);
}

static void write_traffic(struct json_writer *w, const struct snapshot *s)
{
    struct traffic_plan plan;
    traffic_plan(&s->row, &s->spec, &plan);
    json_key(w, "traffic");
    traffic_write(w, &plan);
}

/* What is still to come of the target from another registry. */
static void write_copying(struct control *control, struct json_writer *w, const struct snapshot *s)
{
    struct copies_state copies;
    copies_state(control, s, s->row.target, &copies);
    json_key(w, "copying");
    if (!copies.copying) {
        json_null(w);
        return;
    }
    json_object_begin(w);
    json_member_text(w, "from", copies.host);
    json_member_u64(w, "bytes", copies.bytes);
    json_member_u64(w, "bytes_done", copies.bytes_done);
    json_member_text(w, "error", copies.why);
    json_object_end(w);
}

/* ---- wholes --------------------------------------------------------------------------------- */

struct slice view_endpoint(struct control *control, struct arena *arena,
                           const struct hub_endpoint *endpoint, bool *ret_deploying)
{
    struct json_writer w;
    struct status status;
    const struct snapshot *s = endpoint->snapshot;
    const struct store_endpoint *row = &s->row;
    const struct store_revision *shown =
        snapshot_revision(s, row->serving ? row->serving : row->target);
    decide(control, endpoint, &status);
    *ret_deploying = status.state == STATUS_DEPLOYING;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "name", row->name);
    json_member_string(&w, "project", row->project);
    json_member_u64(&w, "uid", row->uid);
    json_member_u64(&w, "generation", row->generation);
    json_member_u64(&w, "observed_generation", hub_observed(control, row));
    json_member_string(&w, "etag", view_etag(arena, row->generation));
    view_member_time(&w, "created_at", row->created_ns);
    view_member_time(&w, "updated_at", row->updated_ns);
    write_labels(&w, &s->spec);
    json_member_raw_or_null(&w, "spec", row->spec);
    json_member_string_or_null(&w, "source", s->spec.source);
    json_member_u64(&w, "target", row->target);
    json_member_u64(&w, "latest", row->latest);
    member_revision(&w, "serving", row->serving);
    write_traffic(&w, s);
    json_member_text(&w, "state", status_word(status.state));
    json_member_text(&w, "reason", status.reason);
    json_member_text(&w, "message", status.message);
    write_copying(control, &w, s);
    write_hosts(control, &w, s);
    write_places(&w, endpoint);
    write_scale(&w, endpoint);
    write_volumes(control, &w, endpoint);
    write_kept(&w, endpoint);
    json_key(&w, "replicas");
    view_replicas(control, &w, row->uid);
    write_deaths(&w, s);
    json_member_raw_or_null(&w, "model", shown ? shown->metadata : (struct slice){});
    json_object_end(&w);
    return json_end(&w);
}

/* Its spec, where an earlier revision stands for the target. */
static struct slice spec_of(struct arena *arena, const struct snapshot *s, uint64_t number)
{
    const struct store_revision *revision = snapshot_revision(s, number);
    struct endpoint_spec spec;
    if (number == s->row.target || !revision ||
        change_merge(arena, &s->spec, revision->spec, &spec, NULL) < 0)
        return s->row.spec;
    return endpoint_spec_json(arena, &spec, 0);
}

/* What is not here whole is not told of. */
struct slice view_pop_endpoint(struct arena *arena, const struct hub_endpoint *endpoint)
{
    const struct snapshot *s = endpoint->snapshot;
    struct json_writer w;
    struct snapshot shown = *s;
    shown.row.target = snapshot_target(s);
    if (shown.row.target == 0)
        return (struct slice){};
    if (shown.row.target == shown.row.stable)
        shown.row.stable = 0;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_u64(&w, "uid", s->row.uid);
    json_member_string(&w, "name", s->row.name);
    json_member_string(&w, "project", s->row.project);
    json_member_text(&w, "state", s->row.stopped ? "stopped" : "running");
    json_member_u64(&w, "generation", s->row.generation);
    json_member_raw_or_null(&w, "spec", spec_of(arena, s, shown.row.target));
    json_member_u64(&w, "target", shown.row.target);
    write_traffic(&w, &shown);
    write_places(&w, endpoint);
    json_key(&w, "revisions");
    json_array_begin(&w);
    for (size_t i = 0; i < s->revision_count; i++) {
        const struct store_revision *revision = &s->revisions[i];
        if (snapshot_waits(s, revision->number))
            continue;
        json_object_begin(&w);
        json_member_u64(&w, "number", revision->number);
        json_member_u64(&w, "uid", s->row.uid << STORE_REVISION_BITS | revision->number);
        json_member_string(&w, "model", revision->model);
        json_member_string(&w, "runtime", revision->runtime);
        if (revision->image.size)
            json_member_raw_or_null(&w, "image", revision->image);
        json_member_raw_or_null(&w, "spec", revision->spec);
        json_object_end(&w);
    }
    json_array_end(&w);
    json_object_end(&w);
    return json_end(&w);
}

struct slice view_pop(struct control *control, struct arena *arena, const struct hub_pop *pop)
{
    struct json_writer w;
    uint64_t ready = 0;
    for (size_t i = 0; i < pop->replica_count; i++)
        ready += slice_is(pop->replicas[i].state, "ready");
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "name", pop->name);
    json_member_text(&w, "state", hub_pop_state_word(hub_pop_state_of(pop)));
    json_member_bool(&w, "joined", pop->row.secret.size > 0 || pop->row.spec.size == 0);
    json_key(&w, "spec");
    if (pop->row.spec.size)
        json_raw(&w, pop->row.spec);
    else
        json_raw(&w, SLICE("{}"));
    view_member_time(&w, "created_at", pop->row.created_ns);
    view_member_time(&w, "reported_at", pop->reported_ns);
    json_member_u64(&w, "instance", pop->instance);
    json_member_u64(&w, "replicas", pop->replica_count);
    json_member_u64(&w, "replicas_ready", ready);
    json_member_u64(&w, "replicas_placed", pop->placed.replicas);
    json_member_text(&w, "sets", pop->sets[0] ? pop->sets : NULL);
    json_member_bool(&w, "sets_differ", hub_pop_sets_differ(control, slice_of(pop->sets)));
    if (pop->peers.size)
        json_member_raw_or_null(&w, "peers", pop->peers);
    json_object_end(&w);
    return json_end(&w);
}

/* Control places within them, and the PoP scales within them. */
static void write_limits(struct json_writer *w, const struct pop_spec *spec)
{
    if (!spec->limits.replicas && !spec->limits.cpu_milli && !spec->limits.memory_bytes)
        return;
    json_key(w, "limits");
    json_object_begin(w);
    json_member_u64(w, "replicas", spec->limits.replicas);
    json_member_u64(w, "cpu_milli", spec->limits.cpu_milli);
    json_member_u64(w, "memory_bytes", spec->limits.memory_bytes);
    json_object_end(w);
}

struct slice view_peers(struct control *control, struct arena *arena)
{
    struct json_writer w;
    char country[3];
    json_begin(&w, arena, 0);
    json_array_begin(&w);
    MAP_EACH (entry, &control->hub.pops) {
        const struct hub_pop *pop = entry->value;
        struct region_place place = hub_pop_place(control, pop);
        if (hub_pop_state_of(pop) == HUB_POP_RETIRED || !hub_pop_runs(pop))
            continue;
        country_code_of(place.country, country);
        json_object_begin(&w);
        json_member_string(&w, "name", place.name);
        json_member_string(&w, "region", place.region);
        json_member_text(&w, "country", country);
        json_member_text(&w, "state", hub_pop_state_word(hub_pop_state_of(pop)));
        json_member_bool(&w, "draining", slice_is(pop->row.wanted, "drained"));
        if (pop->spec.located) {
            json_member_double(&w, "latitude", pop->spec.latitude);
            json_member_double(&w, "longitude", pop->spec.longitude);
        }
        json_key(&w, "addresses");
        json_array_begin(&w);
        for (size_t i = 0; i < pop->spec.addresses.count; i++)
            json_string(&w, pop->spec.addresses.items[i]);
        json_array_end(&w);
        uint64_t port = pop->spec.port ? pop->spec.port : pop->gateway_port;
        if (port)
            json_member_u64(&w, "port", port);
        write_limits(&w, &pop->spec);
        json_object_end(&w);
    }
    json_array_end(&w);
    return json_end(&w);
}

void view_revision(struct json_writer *w, const struct store_endpoint *endpoint,
                   const struct store_revision *revision)
{
    json_object_begin(w);
    json_member_u64(w, "number", revision->number);
    json_member_u64(w, "uid", endpoint->uid << STORE_REVISION_BITS | revision->number);
    view_member_time(w, "created_at", revision->created_ns);
    json_member_string(w, "created_by", revision->created_by);
    json_member_raw_or_null(w, "spec", revision->spec);
    json_member_string(w, "digest", revision->digest);
    json_member_string(w, "runtime", revision->runtime);
    json_key(w, "model");
    json_object_begin(w);
    json_member_string_or_null(w, "digest", revision->model);
    json_member_u64(w, "size", revision->model_bytes);
    json_member_string_or_null(w, "source", revision->source);
    json_object_end(w);
    json_member_raw_or_null(w, "image", revision->image);
    json_member_raw_or_null(w, "metadata", revision->metadata);
    json_member_bool(w, "target", revision->number == endpoint->target);
    json_member_bool(w, "serving", revision->number == endpoint->serving);
    json_member_string(w, "state", revision->state);
    json_member_string(w, "message", revision->message);
    json_object_end(w);
}

void view_event(struct json_writer *w, const struct store_event *event)
{
    json_object_begin(w);
    json_member_u64(w, "id", event->id);
    view_member_time(w, "at", event->at_ns);
    json_member_string(w, "kind", event->kind);
    json_member_string_or_null(w, "endpoint", event->endpoint);
    json_member_string_or_null(w, "project", event->project);
    json_member_string_or_null(w, "pop", event->pop);
    json_member_string_or_null(w, "replica", event->replica);
    json_member_string(w, "message", event->message);
    json_object_end(w);
}

void view_log(struct json_writer *w, const struct store_log *log)
{
    json_object_begin(w);
    json_member_u64(w, "id", log->id);
    view_member_time(w, "at", log->at_ns);
    json_member_string_or_null(w, "pop", log->pop);
    json_member_string(w, "replica", log->replica);
    json_member_string(w, "stream", log->stream);
    json_member_string(w, "line", log->line);
    json_object_end(w);
}
