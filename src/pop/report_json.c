/* SPDX-License-Identifier: Apache-2.0 */
#include "pop/report_json.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/json.h"
#include "contract/ring.h"
#include "pop/state.h"

const char *report_time(int64_t wall_ns, char buffer[static 40])
{
    time_t seconds = (time_t)(wall_ns / ENV_S);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t used = strftime(buffer, 40, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(buffer + used, 40 - used, ".%03dZ", (int)(wall_ns % ENV_S / ENV_MS));
    return buffer;
}

static void write_time(struct json_writer *w, const char *key, int64_t wall_ns)
{
    char text[40];
    json_member_text(w, key, report_time(wall_ns, text));
}

static void write_id(struct json_writer *w, const char *key, uint64_t id)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)id);
    json_member_text(w, key, text);
}

/* ---- replicas -------------------------------------------------------------------------------- */

static const char *state_word(const struct pop_replica *replica)
{
    static const char *const words[] = { "starting", "ready", "draining", "gone" };
    return words[replica->state];
}

static void write_replica(struct json_writer *w, const struct pop_replica *replica)
{
    const struct pop_revision *revision = replica->revision;
    char name[64];
    json_object_begin(w);
    write_id(w, "id", replica->id);
    json_member_text(w, "name", pop_replica_name(replica, name));
    json_member_text(w, "endpoint", revision->endpoint->name);
    json_member_text(w, "project", revision->endpoint->project);
    json_member_u64(w, "endpoint_uid", revision->endpoint->uid);
    json_member_u64(w, "revision", revision->number);
    json_member_u64(w, "revision_uid", revision->uid);
    json_member_i64(w, "pid", replica->pid);
    json_member_text(w, "state", state_word(replica));
    write_time(w, "since", replica->since_wall_ns);
    json_member_u64(w, "restarts", revision->failures);
    json_member_u64(w, "memory_bytes", replica->memory_bytes);
    json_member_text(w, "sandbox", replica->sandbox);
    json_member_text(w, "message", "");
    json_object_end(w);
}

/* A start that waits for its time is shown as well, so that nobody wonders. */
static void write_backoff(struct json_writer *w, const struct pop_revision *revision)
{
    const struct pop_endpoint *endpoint = revision->endpoint;
    char name[64];
    snprintf(name, sizeof name, "%s-next", endpoint->name);
    json_object_begin(w);
    json_member_text(w, "id", "0");
    json_member_text(w, "name", name);
    json_member_text(w, "endpoint", endpoint->name);
    json_member_text(w, "project", endpoint->project);
    json_member_u64(w, "endpoint_uid", endpoint->uid);
    json_member_u64(w, "revision", revision->number);
    json_member_u64(w, "revision_uid", revision->uid);
    json_member_i64(w, "pid", 0);
    json_member_text(w, "state", "backoff");
    write_time(w, "since", env_wall_ns(endpoint->pop->env));
    json_member_u64(w, "restarts", revision->failures);
    json_member_u64(w, "memory_bytes", 0);
    json_member_text(w, "sandbox", "");
    json_member_text(w, "message", revision->message);
    json_object_end(w);
}

/* ---- models ---------------------------------------------------------------------------------- */

static void write_string(struct json_writer *w, const char *key, const struct perigee_model *model,
                         struct perigee_string text)
{
    json_member_string(w, key, (struct slice){ (const char *)model + text.offset, text.bytes });
}

static void write_ios(struct json_writer *w, const char *key, const struct perigee_model *model,
                      const struct perigee_io *ios, uint32_t count)
{
    json_key(w, key);
    json_array_begin(w);
    for (uint32_t i = 0; i < count; i++) {
        json_object_begin(w);
        write_string(w, "name", model, ios[i].name);
        json_member_text(w, "datatype", datatype_name(ios[i].datatype));
        json_key(w, "shape");
        json_array_begin(w);
        for (uint32_t d = 0; d < ios[i].rank; d++)
            json_i64(w, ios[i].dims[d]);
        json_array_end(w);
        json_member_bool(w, "optional", (ios[i].flags & PERIGEE_IO_OPTIONAL) != 0);
        json_object_end(w);
    }
    json_array_end(w);
}

static void write_model(struct json_writer *w, const struct pop_revision *revision)
{
    const struct perigee_model *model = revision->model;
    json_object_begin(w);
    json_member_u64(w, "revision_uid", revision->uid);
    write_string(w, "platform", model, model->platform);
    write_ios(w, "inputs", model, model->inputs, model->input_count);
    write_ios(w, "outputs", model, model->outputs, model->output_count);
    json_key(w, "properties");
    json_object_begin(w);
    for (uint32_t i = 0; i < model->property_count; i++) {
        const struct perigee_property *property = &model->properties[i];
        const char *base = (const char *)model;
        json_key_slice(w, (struct slice){ base + property->key.offset, property->key.bytes });
        json_string(w, (struct slice){ base + property->value.offset, property->value.bytes });
    }
    json_object_end(w);
    json_object_end(w);
}

/* ---- all ------------------------------------------------------------------------------------- */

/* How many it should have here, and why. */
static void write_scale(struct json_writer *w, struct pop_endpoint *endpoint)
{
    const struct pop_revision *revision = pop_revision_number(endpoint, endpoint->serving);
    const char *text = revision && endpoint->running ? pop_scale_words(revision) : NULL;
    if (!text)
        return;
    json_key(w, "scale");
    json_object_begin(w);
    json_member_u64(w, "replicas", pop_scale_desired(revision));
    json_member_text(w, "reason",
                     scale_reason_text((enum scale_reason)revision->scale->verdict.reason));
    json_member_text(w, "text", text);
    json_object_end(w);
}

static void write_endpoint(struct json_writer *w, struct pop_endpoint *endpoint)
{
    const struct pop_revision *target = pop_revision_number(endpoint, endpoint->target);
    const char *state = "starting", *message = "";
    /* At zero, after it has shown that it can run. */
    bool asleep = target && endpoint->serving &&
                  (target->number == endpoint->serving ||
                   (target->model && pop_endpoint_shares(endpoint, target->number))) &&
                  pop_replicas_wanted(endpoint, target, env_now_ns(endpoint->pop->env)) == 0;
    if (target && (pop_revision_ready(target) > 0 || (asleep && !target->failed)))
        state = "ready";
    else if (target && target->failed)
        state = "failed";
    if (target && target->failed)
        message = target->message;
    /* Where control has not placed it either there is nothing to complain of. */
    if (endpoint->elsewhere && (!endpoint->placed || endpoint->replicas)) {
        state = "failed";
        message = endpoint->elsewhere;
    }
    json_object_begin(w);
    json_member_u64(w, "uid", endpoint->uid);
    json_member_u64_or_null(w, "serving", pop_endpoint_served(endpoint) != 0,
                            pop_endpoint_served(endpoint));
    if (endpoint->generation) /* control says one */
        json_member_u64(w, "generation", endpoint->served_generation);
    json_member_u64(w, "target", endpoint->target);
    json_member_text(w, "target_state", state);
    json_member_text(w, "message", message);
    if (endpoint->lines_kept)
        json_member_u64(w, "lines_kept", endpoint->lines_kept);
    write_scale(w, endpoint);
    json_object_end(w);
}

/* Also where it does not run any more. */
static void write_volumes(struct json_writer *w, const struct pop_endpoint *endpoint)
{
    json_object_begin(w);
    json_member_u64(w, "endpoint_uid", endpoint->uid);
    json_member_u64(w, "bytes", endpoint->volume_bytes);
    json_object_end(w);
}

static bool runs(const struct pop_endpoint *endpoint)
{
    const struct pop_revision *revision;
    LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
        if (revision->replica_count)
            return true;
    return false;
}

bool report_room_take(struct report_room *room, size_t bytes)
{
    if (room->taken == room->items_max || (room->taken && bytes > room->bytes_max))
        return false;
    room->taken++;
    room->bytes_max -= bytes < room->bytes_max ? bytes : room->bytes_max;
    return true;
}

void report_state(struct json_writer *w, struct pop *pop, struct report_room *room)
{
    struct pop_endpoint *endpoint;
    struct pop_revision *revision;
    struct pop_replica *replica;
    json_member_text(w, "sets", pop->sets_digest);
    json_key(w, "replicas");
    json_array_begin(w);
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link)
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link) {
            LIST_EACH (replica, &revision->replicas, struct pop_replica, link)
                write_replica(w, replica);
            int64_t now_ns = env_now_ns(pop->env);
            if (revision->start_not_before_ns > now_ns &&
                revision->replica_count < pop_replicas_wanted(endpoint, revision, now_ns))
                write_backoff(w, revision);
        }
    json_array_end(w);

    json_key(w, "endpoints");
    json_array_begin(w);
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link)
        if ((endpoint->wanted || pop_endpoint_served(endpoint)) && !pop->no_replicas &&
            (!endpoint->placed || endpoint->replicas || runs(endpoint)))
            write_endpoint(w, endpoint);
    json_array_end(w);

    json_key(w, "volumes");
    json_array_begin(w);
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link)
        if (endpoint->volume_bytes)
            write_volumes(w, endpoint);
    json_array_end(w);

    json_key(w, "models");
    json_array_begin(w);
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link)
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link) {
            revision->model_in_flight = revision->model && !revision->model_reported &&
                                        report_room_take(room, revision->model_bytes);
            if (revision->model_in_flight)
                write_model(w, revision);
        }
    json_array_end(w);
}

struct slice report_event(struct arena *arena, uint64_t sequence, int64_t wall_ns, const char *kind,
                          const struct pop_endpoint *endpoint, const struct pop_replica *replica,
                          const char *message)
{
    struct json_writer w;
    char name[64];
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_u64(&w, "seq", sequence);
    json_member_text(&w, "kind", kind);
    if (endpoint)
        json_member_u64(&w, "endpoint_uid", endpoint->uid);
    if (replica)
        json_member_text(&w, "replica", pop_replica_name(replica, name));
    write_time(&w, "at", wall_ns);
    json_member_text(&w, "message", message);
    json_object_end(&w);
    return json_end(&w);
}

const char *report_kept(struct arena *arena, uint64_t lines)
{
    return arena_format(arena, "(%ju line%s kept at this PoP: residency lets none go to control)",
                        (uintmax_t)lines, lines == 1 ? "" : "s");
}

struct slice report_death(struct arena *arena, uint64_t sequence,
                          const struct pop_endpoint *endpoint, const struct pop_death *death,
                          bool lines)
{
    struct json_writer w;
    struct slice rest = slice_of(death->log);
    uint64_t kept = 0;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_u64(&w, "seq", sequence);
    json_member_u64(&w, "endpoint_uid", endpoint->uid);
    json_member_text(&w, "replica", death->replica);
    json_member_u64(&w, "revision", death->revision);
    write_time(&w, "at", death->wall_ns);
    json_member_text(&w, "reason", death->reason);
    json_key(&w, "log");
    json_array_begin(&w);
    while (rest.data && rest.size) {
        struct slice line = slice_cut(&rest, '\n');
        if (line.size && lines)
            json_string(&w, line);
        kept += line.size && !lines;
    }
    if (kept)
        json_text(&w, report_kept(arena, kept));
    json_array_end(&w);
    json_object_end(&w);
    return json_end(&w);
}

struct slice report_log(struct arena *arena, uint64_t sequence, int64_t wall_ns,
                        const struct pop_replica *replica, struct slice line)
{
    struct json_writer w;
    char name[64];
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_u64(&w, "seq", sequence);
    json_member_u64(&w, "endpoint_uid", replica->revision->endpoint->uid);
    json_member_text(&w, "replica", pop_replica_name(replica, name));
    write_time(&w, "at", wall_ns);
    json_member_string(&w, "line", line);
    json_object_end(&w);
    return json_end(&w);
}
