/* SPDX-License-Identifier: Apache-2.0 */
#include "control/change.h"

#include <assert.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "control/abroad.h"
#include "control/change_own.h"
#include "control/schedule.h"
#include "control/secrets.h"
#include "control/traffic.h"
#include "store/digest.h"

/* ---- small parts ---------------------------------------------------------------------------- */

static void event(struct change *change, const char *kind, const char *message)
{
    assert(change->event_count < CHANGE_EVENTS_MAX);
    change->events[change->event_count++] = (struct store_event){
        .endpoint_uid = change->uid,
        .at_ns = change->audit.at_ns,
        .kind = slice_of(kind),
        .project = change->project,
        .endpoint = change->name,
        .message = slice_of(message),
    };
}

bool change_if_match(struct slice header, uint64_t generation)
{
    struct slice rest = header;
    while (rest.data) {
        struct slice tag = slice_trim(slice_cut(&rest, ','));
        uint64_t number;
        if (slice_is(tag, "*"))
            return true;
        if (tag.size > 2 && tag.data[0] == '"' && tag.data[tag.size - 1] == '"' &&
            slice_u64((struct slice){ tag.data + 1, tag.size - 2 }, &number) &&
            number == generation)
            return true;
    }
    return false;
}

int change_parse(struct arena *arena, struct slice text, unsigned flags, struct endpoint_spec *ret,
                 struct err *err)
{
    static const struct json_limits limits = { .bytes_max = 1 << 20 };
    yyjson_val *tree;
    int r = json_parse(arena, text, &limits, &tree, err);
    return r < 0 ? r : endpoint_spec_parse(arena, tree, flags, ret, err);
}

static bool key_of_part(struct slice key, enum option_part part)
{
    for (size_t i = 0; i < endpoint_option_count; i++) {
        struct slice rest = slice_of(endpoint_options[i].key);
        if (endpoint_options[i].part == part && slice_equal(slice_cut(&rest, '.'), key))
            return true;
    }
    return false;
}

int change_merge(struct arena *arena, const struct endpoint_spec *governed, struct slice what_runs,
                 struct endpoint_spec *ret, struct err *err)
{
    yyjson_val *now, *then, *key, *value;
    size_t index, count;
    struct json_writer w;
    int r = json_parse(arena, endpoint_spec_json(arena, governed, 0), NULL, &now, err);
    if (r < 0 || (r = json_parse(arena, what_runs, NULL, &then, err)) < 0)
        return r;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    yyjson_obj_foreach(now, index, count, key, value)
    {
        if (key_of_part(json_slice(key), OPTION_WHAT_RUNS))
            continue;
        json_key_slice(&w, json_slice(key));
        json_value(&w, value);
    }
    yyjson_obj_foreach(then, index, count, key, value)
    {
        json_key_slice(&w, json_slice(key));
        json_value(&w, value);
    }
    json_object_end(&w);
    return change_parse(arena, json_end(&w), 0, ret, err);
}

/* ---- writing -------------------------------------------------------------------------------- */

static struct slice diff_json(struct arena *arena, const struct spec_changes *diff)
{
    struct json_writer w;
    json_begin(&w, arena, 0);
    json_array_begin(&w);
    for (size_t i = 0; i < diff->count; i++) {
        json_object_begin(&w);
        json_member_text(&w, "key", diff->items[i].key);
        json_key(&w, "old");
        json_raw(&w, diff->items[i].before.size ? diff->items[i].before : SLICE("null"));
        json_key(&w, "new");
        json_raw(&w, diff->items[i].after.size ? diff->items[i].after : SLICE("null"));
        json_object_end(&w);
    }
    json_array_end(&w);
    return json_end(&w);
}

static int prune(struct store *store, const struct store_endpoint *endpoint,
                 const struct endpoint_spec *spec, struct err *err)
{
    struct store_keep keep = traffic_keep(endpoint, spec);
    return store->revision_prune(store, endpoint->uid, &keep, err);
}

static int say_to_come(struct change *change, struct store *store,
                       const struct store_revision *revision, struct err *err)
{
    const char *text = NULL;
    int r = abroad_coming(store, revision, change->arena, &text, err);
    if (text)
        event(change, "copy_started", text);
    return r;
}

static int add_revision(struct change *change, struct store *store,
                        const struct store_endpoint *endpoint, const struct endpoint_spec *spec,
                        const struct change_model *model, struct err *err)
{
    struct slice what_runs = endpoint_spec_what_runs(change->arena, spec);
    struct store_revision revision = {
        .endpoint_uid = endpoint->uid,
        .number = endpoint->latest,
        .spec = what_runs,
        .digest = digest_slice(change->arena, what_runs),
        .runtime = spec->upstream.size  ? SLICE("upstream")
                   : spec->image.size   ? SLICE("image")
                   : spec->runtime.size ? spec->runtime
                                        : SLICE("onnx"),
        .model = spec->model,
        .model_bytes = model->bytes,
        .image = model->image,
        .source = spec->source,
        .created_by = change->audit.who,
        .created_ns = change->audit.at_ns,
        .state = SLICE("new"),
    };
    if (revision.number >= UINT64_C(1) << STORE_REVISION_BITS)
        return err_set(err, ERR_TOO_LARGE,
                       "the endpoint has had %llu revisions: delete it and "
                       "make it anew",
                       (unsigned long long)revision.number - 1);
    int r = change_runtime_check(change, revision.runtime, err);
    if (r == 0)
        r = store->revision_add(store, &revision, model->blobs, model->blob_count, err);
    if (r == 0)
        r = say_to_come(change, store, &revision, err);
    return r < 0 ? r : prune(store, endpoint, spec, err);
}

/* History, events, audit: what every change leaves behind. */
static int leave_trace(struct change *change, struct store *store,
                       const struct store_endpoint *endpoint, struct slice before,
                       struct slice diff, struct err *err)
{
    int r = 0;
    if (change->kind != CHANGE_DELETE) {
        struct store_history history = {
            .endpoint_uid = endpoint->uid,
            .generation = endpoint->generation,
            .revision = endpoint->target,
            .at_ns = change->audit.at_ns,
            .who = change->audit.who,
            .diff = diff,
        };
        r = store->history_add(store, &history, err);
    }
    for (size_t i = 0; i < change->event_count && r == 0; i++)
        r = store->event_add(store, &change->events[i], err);
    change->audit.before = digest_slice(change->arena, before);
    change->audit.after = change->kind == CHANGE_DELETE
                              ? (struct slice){}
                              : digest_slice(change->arena, endpoint->spec);
    if (r == 0)
        r = store->audit_add(store, &change->audit, err);
    if (r == 0 && change->kind != CHANGE_DELETE)
        r = snapshot_load(store, endpoint->uid, &change->snapshot, err);
    return r;
}

static int create(struct change *change, struct store *store, const struct endpoint_spec *spec,
                  struct err *err)
{
    struct endpoint_spec nothing;
    struct change_model model = {};
    struct store_endpoint endpoint = {
        .project = change->project,
        .name = change->name,
        .spec = endpoint_spec_json(change->arena, spec, 0),
        .target = 1,
        .latest = 1,
        .generation = 1,
        .created_ns = change->audit.at_ns,
        .updated_ns = change->audit.at_ns,
    };
    change->created = change->changed = change->new_revision = true;
    endpoint_spec_defaults(&nothing);
    nothing.name = spec->name;
    nothing.project = spec->project;
    change->diff = endpoint_spec_diff(change->arena, &nothing, spec);
    int r = change_check_places(change, spec, err);
    if (r == 0)
        r = schedule_check(change->arena, spec, err);
    if (r == 0)
        r = traffic_check(change->arena, store, NULL, 1, spec, err);
    if (r == 0)
        r = change_model_check(change, store, spec, &model, err);
    if (r == 0)
        r = secrets_check(store, change->arena, change->project, spec, err);
    if (r == 0)
        r = change_check_unique(change, store, spec, err);
    if (r == 0)
        r = change_check_walls(change, store, err);
    if (r < 0 || change->dry_run)
        return r;
    if ((r = store->project_ensure(store, change->project, change->audit.at_ns, err)) < 0 ||
        (r = store->endpoint_add(store, &endpoint, err)) < 0 ||
        (r = add_revision(change, store, &endpoint, spec, &model, err)) < 0)
        return r;
    change->uid = endpoint.uid;
    event(change, "endpoint_created", "created");
    event(change, "revision_created", "revision 1");
    return leave_trace(change, store, &endpoint, (struct slice){},
                       diff_json(change->arena, &change->diff), err);
}

static const char *keys_text(struct change *change)
{
    const char *text = "";
    for (size_t i = 0; i < change->diff.count && i < 8; i++)
        text =
            arena_format(change->arena, "%s%s%s", text, i ? ", " : "", change->diff.items[i].key);
    return text;
}

static bool diff_has(const struct spec_changes *diff, const char *key)
{
    for (size_t i = 0; i < diff->count; i++)
        if (strcmp(diff->items[i].key, key) == 0)
            return true;
    return false;
}

static int update(struct change *change, struct store *store, struct store_endpoint *endpoint,
                  const struct endpoint_spec *before, const struct endpoint_spec *after,
                  struct err *err)
{
    struct change_model model = {};
    struct slice old = endpoint->spec;
    uint64_t generation = endpoint->generation;
    change->diff = endpoint_spec_diff(change->arena, before, after);
    change->changed = change->diff.count > 0;
    change->new_revision = change->diff.new_revision;
    int r = 0;
    if (!change->changed)
        return change->dry_run ? 0 : snapshot_load(store, endpoint->uid, &change->snapshot, err);
    bool moves = diff_has(&change->diff, "regions") || diff_has(&change->diff, "residency");
    if (moves)
        r = change_check_places(change, after, err);
    /* One that stood before stays, whatever zones are here now. */
    if (r == 0 && diff_has(&change->diff, "scale.schedule"))
        r = schedule_check(change->arena, after, err);
    if (r == 0 && diff_has(&change->diff, "traffic.split"))
        r = traffic_check(change->arena, store, endpoint,
                          change->new_revision ? endpoint->latest + 1 : 0, after, err);
    if (r == 0 && change->new_revision)
        r = change_model_check(change, store, after, &model, err);
    if (r == 0 && change->new_revision)
        r = secrets_check(store, change->arena, change->project, after, err);
    if (r == 0)
        r = change_check_unique(change, store, after, err);
    if (r < 0 || change->dry_run)
        return r;
    endpoint->spec = endpoint_spec_json(change->arena, after, 0);
    traffic_change(endpoint, after, change->new_revision);
    endpoint->generation++;
    endpoint->updated_ns = change->audit.at_ns;
    event(change, "endpoint_updated", keys_text(change));
    if (moves && slice_is(endpoint->target_state, "failed")) { /* it may be for that alone */
        endpoint->target_state = SLICE("starting");
        endpoint->target_message = (struct slice){};
    }
    if (change->new_revision) {
        endpoint->target = ++endpoint->latest;
        endpoint->target_state = SLICE("starting");
        endpoint->target_message = (struct slice){};
        event(change, "revision_created",
              arena_format(change->arena, "revision %llu", (unsigned long long)endpoint->latest));
        r = add_revision(change, store, endpoint, after, &model, err);
    }
    if (r == 0)
        r = store->endpoint_update(store, endpoint, generation, err);
    return r < 0 ? r
                 : leave_trace(change, store, endpoint, old,
                               diff_json(change->arena, &change->diff), err);
}

/* ---- the kinds ------------------------------------------------------------------------------ */

static int read_put(struct change *change, struct endpoint_spec *ret, struct err *err)
{
    static const struct json_limits limits = { .bytes_max = 1 << 20 };
    yyjson_val *tree;
    int r = json_parse(change->arena, change->body, &limits, &tree, err);
    if (r < 0 || (r = endpoint_spec_parse(change->arena, tree, SPEC_NAME_OPTIONAL, ret, err)) < 0)
        return r;
    if (ret->name.size && !slice_equal(ret->name, change->name))
        return err_set(err, ERR_BAD_INPUT, "name: '%s' is not the path's '%s'",
                       ERR_SLICE(ret->name), ERR_SLICE(change->name));
    if (json_member(tree, "project") && !slice_equal(ret->project, change->project))
        return err_set(err, ERR_BAD_INPUT, "project: '%s' is not the path's '%s'",
                       ERR_SLICE(ret->project), ERR_SLICE(change->project));
    ret->name = change->name;
    ret->project = change->project;
    return endpoint_spec_check(ret, err);
}

static int run_state(struct change *change, struct store *store, struct store_endpoint *endpoint,
                     struct err *err)
{
    bool stop = change->kind == CHANGE_STOP;
    uint64_t generation = endpoint->generation;
    change->changed = endpoint->stopped != stop;
    if (!change->changed)
        return snapshot_load(store, endpoint->uid, &change->snapshot, err);
    endpoint->stopped = stop;
    endpoint->generation++;
    endpoint->updated_ns = change->audit.at_ns;
    if (!stop) {
        endpoint->target_state = SLICE("starting");
        endpoint->target_message = (struct slice){};
    }
    event(change, "endpoint_updated", stop ? "stopped" : "started");
    int r = store->endpoint_update(store, endpoint, generation, err);
    return r < 0 ? r
                 : leave_trace(change, store, endpoint, endpoint->spec,
                               stop ? SLICE("[{\"key\":\"state\",\"old\":\"running\","
                                            "\"new\":\"stopped\"}]")
                                    : SLICE("[{\"key\":\"state\",\"old\":\"stopped\","
                                            "\"new\":\"running\"}]"),
                               err);
}

static int run_rollback(struct change *change, struct store *store, struct store_endpoint *endpoint,
                        const struct endpoint_spec *before, struct err *err)
{
    struct store_revision revision;
    struct endpoint_spec after;
    uint64_t generation = endpoint->generation;
    struct slice old = endpoint->spec;
    int r =
        store->revision_get(store, endpoint->uid, change->revision, change->arena, &revision, err);
    if (r < 0)
        return r;
    /* Of one that shares the traffic: it is to have all. */
    if (revision.number == endpoint->target && !endpoint->stable && !before->traffic.split.count)
        return snapshot_load(store, endpoint->uid, &change->snapshot, err);
    r = change_merge(change->arena, before, revision.spec, &after, err);
    if (r == 0)
        r = secrets_check(store, change->arena, change->project, &after, err);
    if (r < 0)
        return err_wrap(err, "revision %llu", (unsigned long long)revision.number);
    after.source = revision.source;              /* it tells of the model */
    after.traffic.split = (struct spec_split){}; /* it would say something else */
    endpoint->stable = 0;
    change->changed = true;
    change->diff = endpoint_spec_diff(change->arena, before, &after);
    endpoint->spec = endpoint_spec_json(change->arena, &after, 0);
    const char *text =
        arena_format(change->arena, "rolled back from revision %llu to %llu",
                     (unsigned long long)endpoint->target, (unsigned long long)revision.number);
    endpoint->target = revision.number;
    endpoint->target_state = SLICE("starting");
    endpoint->target_message = (struct slice){};
    endpoint->generation++;
    endpoint->updated_ns = change->audit.at_ns;
    event(change, "endpoint_updated", text);
    r = store->endpoint_update(store, endpoint, generation, err);
    if (r == 0)
        r = prune(store, endpoint, &after, err);
    return r < 0 ? r
                 : leave_trace(change, store, endpoint, old,
                               diff_json(change->arena, &change->diff), err);
}

static int run_delete(struct change *change, struct store *store,
                      const struct store_endpoint *endpoint, struct err *err)
{
    change->changed = true;
    event(change, "endpoint_deleted", "deleted");
    int r = store->endpoint_delete(store, endpoint->uid, err);
    return r < 0 ? r : leave_trace(change, store, endpoint, endpoint->spec, (struct slice){}, err);
}

static int run_patch(struct change *change, struct store *store, struct store_endpoint *endpoint,
                     const struct endpoint_spec *before, struct err *err)
{
    struct endpoint_spec after;
    yyjson_val *patch;
    int r = json_parse(change->arena, change->body, NULL, &patch, err);
    if (r == 0)
        r = endpoint_spec_patch(change->arena, before, patch, &after, err);
    if (r != 0)
        return r;
    if (!slice_equal(after.name, change->name) || !slice_equal(after.project, change->project))
        return err_set(err, ERR_BAD_INPUT,
                       "an endpoint's name and project do not change: make "
                       "another one");
    r = change_model_resolve(change, store, &after, err);
    return r < 0 ? r : update(change, store, endpoint, before, &after, err);
}

static int run_existing(struct change *change, struct store *store, struct store_endpoint *endpoint,
                        const struct endpoint_spec *wanted, struct err *err)
{
    struct endpoint_spec before;
    if (change->only_create)
        return err_set(err, ERR_CONFLICT, "endpoint '%s' exists already", ERR_SLICE(change->name));
    if (change->if_match.size && !change_if_match(change->if_match, endpoint->generation))
        return err_set(err, ERR_PRECONDITION,
                       "endpoint '%s' is at \"%llu\", not what If-Match says: look again",
                       ERR_SLICE(change->name), (unsigned long long)endpoint->generation);
    change->uid = endpoint->uid;
    int r = change_parse(change->arena, endpoint->spec, SPEC_KEEP_UNKNOWN, &before, err);
    if (r < 0)
        return r;
    switch (change->kind) {
    case CHANGE_PUT:
        return update(change, store, endpoint, &before, wanted, err);
    case CHANGE_PATCH:
        return run_patch(change, store, endpoint, &before, err);
    case CHANGE_ROLLBACK:
        return run_rollback(change, store, endpoint, &before, err);
    case CHANGE_DELETE:
        return run_delete(change, store, endpoint, err);
    default:
        return run_state(change, store, endpoint, err);
    }
}

int change_run(struct change *change, struct store *store, struct err *err)
{
    struct store_endpoint endpoint;
    struct endpoint_spec wanted = {};
    int r = change->kind == CHANGE_PUT ? read_put(change, &wanted, err) : 0;
    if (r == 0 && change->kind == CHANGE_PUT)
        r = change_model_resolve(change, store, &wanted, err);
    if (r < 0)
        return r;
    r = store->endpoint_find(store, change->project, change->name, change->arena, &endpoint, err);
    if (r == 0)
        r = run_existing(change, store, &endpoint, &wanted, err);
    else if (r == ERR_NOT_FOUND && change->kind == CHANGE_PUT && change->if_match.size == 0)
        r = create(change, store, &wanted, err);
    else if (r == ERR_NOT_FOUND && change->if_match.size)
        r = err_set(err, ERR_PRECONDITION, "endpoint '%s' does not exist", ERR_SLICE(change->name));
    else if (r == ERR_NOT_FOUND)
        r = err_set(err, ERR_NOT_FOUND, "no endpoint '%s' in project '%s'", ERR_SLICE(change->name),
                    ERR_SLICE(change->project));
    if (r < 0) { /* what was loaded is of a transaction that is taken back */
        snapshot_free(change->snapshot);
        change->snapshot = NULL;
    }
    return r;
}
