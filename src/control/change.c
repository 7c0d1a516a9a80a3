/* SPDX-License-Identifier: Apache-2.0 */
#include "control/change.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "control/abroad.h"
#include "control/artifact.h"
#include "control/pinned.h"
#include "control/schedule.h"
#include "control/secrets.h"
#include "control/traffic.h"
#include "geo/sets.h"
#include "policy/regions.h"
#include "store/blobs.h"
#include "store/digest.h"
#include "store/manifest.h"

/* ---- small parts ---------------------------------------------------------------------------- */

static struct slice digest_text(struct arena *arena, struct slice bytes)
{
    char text[DIGEST_TEXT];
    return bytes.size ? arena_copy(arena, slice_of(digest_of(bytes, text))) : (struct slice){};
}

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

static int parse_spec(struct arena *arena, struct slice text, unsigned flags,
                      struct endpoint_spec *ret, struct err *err)
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
    return parse_spec(arena, json_end(&w), 0, ret, err);
}

/* ---- the model ------------------------------------------------------------------------------ */

struct model {
    uint64_t bytes;
    struct slice *blobs;
    size_t blob_count;
    struct slice image; /* pinned.h: what PoPs must know; empty: it is a model */
};

static struct artifact artifact_here(struct change *change, struct store *store)
{
    return (struct artifact){
        store,         change->blobs,      change->arena,
        change->hosts, change->host_count, change->audit.at_ns,
        change->found,
    };
}

static int model_missing(struct err *err, const char *what, struct slice digest)
{
    return err_set(err, ERR_BAD_INPUT,
                   "%s %.*s is not here: upload it first (PUT "
                   "/api/v1/blobs/%.*s)",
                   what, SLICE_FMT(digest), SLICE_FMT(digest));
}

static int check_folder(struct change *change, struct store *store, struct slice text,
                        struct model *ret, struct err *err)
{
    const struct artifact artifact = artifact_here(change, store);
    struct manifest manifest;
    int r = manifest_parse(change->arena, text, &manifest, err);
    if (r < 0)
        return r;
    ret->blobs = ARENA_ARRAY(change->arena, struct slice, manifest.count + 1);
    ret->blob_count = 1;
    ret->bytes = manifest.bytes;
    for (size_t i = 0; i < manifest.count; i++) {
        const struct manifest_file *file = &manifest.files[i];
        uint64_t bytes;
        r = artifact_has(&artifact, file->digest, &bytes, err);
        if (r == ERR_NOT_FOUND)
            return model_missing(err, "the model folder's file", file->digest);
        if (r < 0)
            return r;
        if (bytes != file->bytes)
            return err_set(err, ERR_BAD_INPUT, "file '%s' has %llu bytes, the manifest says %llu",
                           ERR_SLICE(file->path), (unsigned long long)bytes,
                           (unsigned long long)file->bytes);
        ret->blobs[ret->blob_count++] = file->digest;
    }
    return 0;
}

static int check_image(struct change *change, struct store *store, const struct endpoint_spec *spec,
                       struct model *ret, struct err *err)
{
    const struct artifact artifact = artifact_here(change, store);
    struct pinned pinned;
    int r = pinned_find(&artifact, spec, &pinned, err);
    if (r == 0)
        *ret = (struct model){ pinned.bytes, pinned.blobs, pinned.blob_count, pinned.text };
    return r;
}

/* All that the model needs is here, or known to come from another registry: in the transaction that
 * makes it needed, so that the garbage collector (of the same thread) cannot come between. */
static int check_model(struct change *change, struct store *store, const struct endpoint_spec *spec,
                       struct model *ret, struct err *err)
{
    uint64_t bytes;
    if (spec->image.size)
        return check_image(change, store, spec, ret, err);
    if (!spec->model.size) /* an upstream: nothing is kept of it */
        return 0;
    if (!slice_starts(spec->model, SLICE("sha256:")))
        return err_set(err, ERR_BAD_INPUT,
                       "model: '%s' is a path; the API opens none: upload it as a blob and give "
                       "sha256:HEX (`perigee deploy` does both)",
                       ERR_SLICE(spec->model));
    const struct artifact artifact = artifact_here(change, store);
    int r = artifact_has(&artifact, spec->model, &bytes, err);
    if (r == ERR_NOT_FOUND)
        return model_missing(err, "model", spec->model);
    if (r < 0)
        return r;
    ret->bytes = bytes;
    bool here = blobs_find(change->blobs, spec->model, &bytes, NULL) == 0;
    if (here && bytes <= MANIFEST_BYTES_MAX) { /* one that is to come is a file: artifact.c */
        char *data;
        size_t size;
        r = blobs_load(change->blobs, spec->model, MANIFEST_BYTES_MAX, &data, &size, err);
        if (r < 0)
            return r;
        struct slice text = arena_copy(change->arena, (struct slice){ data, size });
        free(data);
        if (manifest_is(text))
            r = check_folder(change, store, text, ret, err);
        if (r < 0)
            return r;
    }
    if (!ret->blobs) {
        ret->blobs = ARENA_NEW(change->arena, struct slice);
        ret->blob_count = 1;
    }
    ret->blobs[0] = spec->model;
    return 0;
}

static int resolve_image(struct change *change, struct store *store, struct endpoint_spec *spec,
                         struct err *err)
{
    const struct artifact artifact = artifact_here(change, store);
    struct slice written = spec->image;
    struct pinned pinned;
    int r = pinned_find(&artifact, spec, &pinned, err);
    if (r < 0)
        return r;
    if (!spec_is_digest(written))
        spec->source = written;
    spec->image = pinned.digest;
    return 0;
}

/* A tag is looked up once: the spec keeps what it named then, and how it was written. */
static int resolve_model(struct change *change, struct store *store, struct endpoint_spec *spec,
                         struct err *err)
{
    struct slice written = spec->model;
    if (change->found) {
        const struct artifact artifact = artifact_here(change, store);
        int r = abroad_keep(&artifact, change->found, err);
        if (r < 0)
            return r;
    }
    if (spec->image.size)
        return resolve_image(change, store, spec, err);
    const struct artifact artifact = artifact_here(change, store);
    if (!slice_starts(written, SLICE(ARTIFACT_SCHEME)))
        return 0;
    int r = artifact_resolve(&artifact, written, &spec->model, err);
    if (r == 0)
        spec->source = written;
    return r;
}

/* ---- names that only one may have ----------------------------------------------------------- */

static bool lists_share(const struct spec_strings *a, const struct spec_strings *b,
                        struct slice *ret)
{
    for (size_t i = 0; i < a->count; i++)
        for (size_t k = 0; k < b->count; k++)
            if (slice_equal_nocase(a->items[i], b->items[k])) {
                *ret = a->items[i];
                return true;
            }
    return false;
}

static bool list_has(const struct spec_strings *list, struct slice name)
{
    for (size_t i = 0; i < list->count; i++)
        if (slice_equal(list->items[i], name))
            return true;
    return false;
}

static int check_other(struct change *change, const struct endpoint_spec *spec,
                       const struct store_endpoint *other, struct err *err)
{
    struct endpoint_spec theirs;
    struct slice shared = {};
    struct arena *arena = arena_new();
    int r = parse_spec(arena, other->spec, SPEC_KEEP_UNKNOWN, &theirs, err);
    bool same_project = slice_equal(other->project, change->project);
    if (r == 0 && lists_share(&spec->domains, &theirs.domains, &shared))
        r = err_set(err, ERR_CONFLICT, "domain '%s' is endpoint '%s's already", ERR_SLICE(shared),
                    ERR_SLICE(other->name));
    if (r == 0 && same_project && lists_share(&spec->aliases, &theirs.aliases, &shared))
        r = err_set(err, ERR_CONFLICT, "alias '%s' is endpoint '%s's already", ERR_SLICE(shared),
                    ERR_SLICE(other->name));
    if (r == 0 && same_project &&
        (list_has(&spec->aliases, other->name) || list_has(&theirs.aliases, change->name)))
        r = err_set(err, ERR_CONFLICT, "an endpoint's name is the other's alias: '%s' and '%s'",
                    ERR_SLICE(change->name), ERR_SLICE(other->name));
    arena_free(arena);
    return r;
}

static int check_unique(struct change *change, struct store *store,
                        const struct endpoint_spec *spec, struct err *err)
{
    struct store_page page = {};
    struct store_endpoint *list;
    size_t count;
    int r;
    bool own = spec->domains.count || spec->aliases.count;
    do {
        r = store->endpoint_list(store, &page, change->arena, &list, &count, err);
        for (size_t i = 0; i < count && r == 0; i++) {
            page.after = list[i].uid;
            if (list[i].uid == change->uid)
                continue;
            /* Most have neither: not worth reading their spec. */
            if (own || memmem(list[i].spec.data, list[i].spec.size, "\"aliases\"", 9))
                r = check_other(change, spec, &list[i], err);
        }
    } while (r == 0 && count == STORE_PAGE_MAX);
    return r;
}

/* The names in regions and residency are known, and where both are told some PoP is in both. */
static int check_places(struct change *change, const struct endpoint_spec *spec, struct err *err)
{
    struct geo_sets sets;
    struct residency residency;
    struct regions regions;
    int r = 0;
    if (change->sets)
        sets = *change->sets;
    else
        r = geo_sets_parse(change->arena, (struct slice){}, &sets, err);
    if (r < 0 ||
        (r = residency_compile(change->arena, spec, geo_sets_lookup, &sets, &residency, err)) < 0 ||
        (r = regions_compile(change->arena, spec, geo_sets_lookup, &sets, &regions, err)) < 0)
        return r;
    if (regions.everywhere || residency.count == 0 || change->pop_count == 0)
        return 0;
    size_t inside = 0;
    for (size_t i = 0; i < change->pop_count; i++) {
        const struct region_place *pop = &change->pops[i];
        if (!regions_hold(&regions, pop))
            continue;
        if (pop->country != COUNTRY_UNKNOWN && residency_may_process(&residency, pop->country))
            return 0;
        inside++;
    }
    return err_set(err, ERR_BAD_INPUT,
                   "regions and residency share no PoP: of %zu, %zu %s in regions, and residency "
                   "lets nothing be processed there",
                   change->pop_count, inside, inside == 1 ? "is" : "are");
}

/* Two projects do not trust each other: where a wall between them is missing there is one. */
static int check_walls(struct change *change, struct store *store, struct err *err)
{
    struct store_page page = {};
    struct store_endpoint *list;
    size_t count = 0;
    int r = 0;
    if (!change->walls_off)
        return 0;
    do {
        r = store->endpoint_list(store, &page, change->arena, &list, &count, err);
        for (size_t i = 0; i < count && r == 0; i++) {
            page.after = list[i].uid;
            if (!slice_equal(list[i].project, change->project))
                r = err_set(err, ERR_PRECONDITION,
                            "project '%s' has endpoints here, and walls between two projects do "
                            "not stand: %s; start Perigee with --sandbox best if '%s' may run "
                            "beside it all the same",
                            ERR_SLICE(list[i].project), change->walls_off,
                            ERR_SLICE(change->project));
        }
    } while (r == 0 && count == STORE_PAGE_MAX);
    return r;
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

/* A runtime is an executable perigee-worker-NAME beside ours (include/perigee/worker.h). */
static int check_runtime(struct change *change, struct slice runtime, struct err *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
    const char *name = arena_string(change->arena, runtime);
    if (!change->libdir || slice_is(runtime, "upstream") || slice_is(runtime, "image"))
        return 0;
    if (strlen(name) == runtime.size && strspn(name, letters) == runtime.size &&
        access(arena_format(change->arena, "%s/perigee-worker-%s", change->libdir, name), X_OK) ==
            0)
        return 0;
    return err_set(err, ERR_BAD_INPUT, "runtime: '%s' is not installed here; onnx is",
                   ERR_SLICE(runtime));
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
                        const struct model *model, struct err *err)
{
    struct slice what_runs = endpoint_spec_what_runs(change->arena, spec);
    struct store_revision revision = {
        .endpoint_uid = endpoint->uid,
        .number = endpoint->latest,
        .spec = what_runs,
        .digest = digest_text(change->arena, what_runs),
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
    int r = check_runtime(change, revision.runtime, err);
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
    change->audit.before = digest_text(change->arena, before);
    change->audit.after = change->kind == CHANGE_DELETE
                              ? (struct slice){}
                              : digest_text(change->arena, endpoint->spec);
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
    struct model model = {};
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
    int r = check_places(change, spec, err);
    if (r == 0)
        r = schedule_check(change->arena, spec, err);
    if (r == 0)
        r = traffic_check(change->arena, store, 0, 1, spec, err);
    if (r == 0)
        r = check_model(change, store, spec, &model, err);
    if (r == 0)
        r = secrets_check(store, change->arena, change->project, spec, err);
    if (r == 0)
        r = check_unique(change, store, spec, err);
    if (r == 0)
        r = check_walls(change, store, err);
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
    struct model model = {};
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
        r = check_places(change, after, err);
    /* One that stood before stays, whatever zones are here now. */
    if (r == 0 && diff_has(&change->diff, "scale.schedule"))
        r = schedule_check(change->arena, after, err);
    if (r == 0 && diff_has(&change->diff, "traffic.split"))
        r = traffic_check(change->arena, store, endpoint->uid,
                          change->new_revision ? endpoint->latest + 1 : 0, after, err);
    if (r == 0 && change->new_revision)
        r = check_model(change, store, after, &model, err);
    if (r == 0 && change->new_revision)
        r = secrets_check(store, change->arena, change->project, after, err);
    if (r == 0)
        r = check_unique(change, store, after, err);
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
        return r;
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
    r = resolve_model(change, store, &after, err);
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
    int r = parse_spec(change->arena, endpoint->spec, SPEC_KEEP_UNKNOWN, &before, err);
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
        r = resolve_model(change, store, &wanted, err);
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
