/* SPDX-License-Identifier: Apache-2.0 */
/* /api/v1/endpoints: what is asked is answered by the hub, what changes goes through change.c. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/json.h"
#include "control/abroad.h"
#include "control/artifact.h"
#include "control/change.h"
#include "control/control_own.h"
#include "control/routes.h"
#include "control/select.h"
#include "control/watch.h"
#include "spec/reference.h"
#include "sys/sandbox.h"

enum { LIST_MAX = 1000, LIST_DEFAULT = 100 };

/* ---- looking -------------------------------------------------------------------------------- */

static void reply_endpoint(struct request *q, int status, const struct hub_endpoint *endpoint)
{
    uint64_t generation = endpoint->snapshot->row.generation;
    struct http_header headers[2] = {
        { SLICE("ETag"), view_etag(q->arena, generation) },
        { SLICE("Location"),
          slice_of(arena_format(q->arena, "/api/v1%s%.*s/endpoints/%.*s",
                                slice_is(q->project, "default") ? "" : "/projects/",
                                slice_is(q->project, "default") ? 0 : (int)q->project.size,
                                q->project.data, SLICE_FMT(q->parts[0]))) },
    };
    /* A copy: the hub's may change before it is sent. */
    request_reply_with(q, status, headers, status == 201 ? 2 : 1, "application/json",
                       arena_copy(q->arena, endpoint->view));
}

void endpoint_get(struct request *q)
{
    struct hub_endpoint *endpoint = request_endpoint(q);
    if (!endpoint)
        return;
    if (request_flag(q, "watch")) {
        watch_endpoint_open(q, endpoint);
        return;
    }
    /* The tag is the spec's generation; the view has more: If-None-Match does not spare it. */
    reply_endpoint(q, 200, endpoint);
}

static int by_uid(const void *a, const void *b)
{
    uint64_t x = (*(struct hub_endpoint *const *)a)->snapshot->row.uid;
    uint64_t y = (*(struct hub_endpoint *const *)b)->snapshot->row.uid;
    return (x > y) - (x < y);
}

static struct slice list_json(struct request *q, struct hub_endpoint **all, size_t count,
                              uint64_t limit)
{
    struct json_writer w;
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_key(&w, "items");
    json_array_begin(&w);
    for (size_t i = 0; i < count && i < limit; i++)
        json_raw(&w, all[i]->view);
    json_array_end(&w);
    json_key(&w, "next");
    if (count > limit)
        json_text(&w, arena_format(q->arena, "%llu",
                                   (unsigned long long)all[limit - 1]->snapshot->row.uid));
    else
        json_null(&w);
    json_object_end(&w);
    return json_end(&w);
}

void endpoints_list(struct request *q)
{
    struct err err;
    struct selector labels;
    uint64_t limit = LIST_DEFAULT, cursor = 0;
    if (request_flag(q, "watch")) {
        watch_endpoints_open(q);
        return;
    }
    if (request_limit(q, LIST_MAX, &limit, &err) < 0 ||
        request_number(q, "cursor", INT64_MAX, &cursor, &err) < 0 ||
        selector_parse(q->arena, request_query(q, "labels"), &labels, &err) < 0) {
        request_fail(q, &err);
        return;
    }
    struct hub *hub = &q->control->hub;
    struct hub_endpoint **all = ARENA_ARRAY(q->arena, struct hub_endpoint *, hub->by_uid.count + 1);
    size_t count = 0;
    MAP_EACH (entry, &hub->by_uid) {
        struct hub_endpoint *endpoint = entry->value;
        const struct snapshot *s = endpoint->snapshot;
        if (s->row.uid > cursor && slice_equal(s->row.project, q->project) &&
            selector_matches(&labels, &s->spec.labels))
            all[count++] = endpoint;
    }
    qsort(all, count, sizeof *all, by_uid);
    request_reply(q, 200, list_json(q, all, count, limit ? limit : 1));
}

static void reply_replicas(struct request *q, uint64_t uid)
{
    struct json_writer w;
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_key(&w, "items");
    view_replicas(q->control, &w, uid);
    json_key(&w, "next");
    json_null(&w);
    json_object_end(&w);
    request_reply(q, 200, json_end(&w));
}

void endpoint_replicas(struct request *q)
{
    struct hub_endpoint *endpoint = request_endpoint(q);
    if (endpoint)
        reply_replicas(q, endpoint->snapshot->row.uid);
}

void replicas_list(struct request *q)
{
    reply_replicas(q, 0);
}

/* ---- changing ------------------------------------------------------------------------------- */

static int on_change_run(struct job *job, struct store *store, struct err *err)
{
    return change_run(request_of_job(job)->data, store, err);
}

static void reply_dry_run(struct request *q, const struct change *change)
{
    struct json_writer w;
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_member_bool(&w, "created", change->created);
    json_member_bool(&w, "changed", change->changed);
    json_member_bool(&w, "new_revision", change->new_revision);
    json_key(&w, "diff");
    json_array_begin(&w);
    for (size_t i = 0; i < change->diff.count; i++) {
        const struct spec_change *item = &change->diff.items[i];
        json_object_begin(&w);
        json_member_text(&w, "key", item->key);
        json_key(&w, "old");
        json_raw(&w, item->before.size ? item->before : SLICE("null"));
        json_key(&w, "new");
        json_raw(&w, item->after.size ? item->after : SLICE("null"));
        json_member_bool(&w, "what_runs", item->part == OPTION_WHAT_RUNS);
        json_object_end(&w);
    }
    json_array_end(&w);
    json_object_end(&w);
    request_reply(q, 200, json_end(&w));
}

static void on_change_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct change *change = q->data;
    struct control *control = q->control;
    if (err) {
        request_fail(q, err);
        return;
    }
    if (change->dry_run) {
        reply_dry_run(q, change);
        return;
    }
    copies_changed(control, change->found);
    if (change->kind == CHANGE_DELETE) {
        bool draining = hub_has_replicas(control, change->uid);
        hub_remove(control, change->uid);
        watch_events(control, change->events, change->event_count);
        control_going(q, change->uid, draining ? 202 : 204);
        return;
    }
    hub_put(control, take_ptr(change->snapshot));
    watch_events(control, change->events, change->event_count);
    struct hub_endpoint *endpoint = hub_get(control, change->uid);
    int status = change->created ? 201 : change->changed && endpoint->deploying ? 202 : 200;
    reply_endpoint(q, status, endpoint);
}

/* ---- another registry is asked first --------------------------------------------------------- */

struct asking {
    struct change *change;
    struct abroad_ask ask;
    struct reference reference;
    struct slice written;
    bool image;
    struct abroad_found found;
};

/* What the body names in another registry; false: nothing, or what change.c has words for. */
static bool names_abroad(struct request *q, const struct change *change, struct asking *ret)
{
    static const struct json_limits limits = { .bytes_max = REQUEST_SPEC_BYTES_MAX };
    yyjson_val *root;
    if (json_parse(q->arena, change->body, &limits, &root, NULL) < 0)
        return false;
    struct slice image = json_slice(json_member(root, "image"));
    struct slice model = json_slice(json_member(root, "model"));
    ret->image = image.size > 0;
    ret->written = image;
    if (!ret->image && slice_starts(model, SLICE(ARTIFACT_SCHEME)))
        ret->written = (struct slice){ model.data + sizeof ARTIFACT_SCHEME - 1,
                                       model.size - (sizeof ARTIFACT_SCHEME - 1) };
    return ret->written.size && !spec_image_is_path(ret->written) &&
           !spec_is_digest(ret->written) &&
           reference_parse(ret->written, &ret->reference, NULL) == 0 &&
           !artifact_own(change->hosts, change->host_count, ret->reference.host);
}

static int on_ask_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct asking *asking = q->data;
    (void)store;
    return abroad_find(&asking->ask, &asking->reference, asking->written, asking->image, q->arena,
                       &asking->found, err);
}

static void on_ask_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct asking *asking = q->data;
    if (err) {
        abroad_refuse(q, err);
        return;
    }
    asking->change->found = &asking->found;
    q->data = asking->change;
    request_write(q, on_change_run, on_change_done);
}

static void change_ask(struct request *q, struct change *change)
{
    struct asking *asking = ARENA_NEW(q->arena, struct asking);
    bool may = change->kind == CHANGE_PUT || change->kind == CHANGE_PATCH;
    if (!may || !names_abroad(q, change, asking)) {
        q->data = change;
        request_write(q, on_change_run, on_change_done);
        return;
    }
    asking->change = change;
    abroad_ask(q->control, q->arena, asking->reference.host, &asking->ask);
    q->data = asking;
    request_ask(q, on_ask_run, on_ask_done);
}

/* What two projects need and this machine has not, unless somebody has said that it will do. */
static const char *walls_off(const struct message_start *start)
{
    bool whole = (sandbox_required() & ~start->walls) == 0;
    bool unknown = start->walls == 0;
    return whole || unknown || start->flags & MESSAGE_SANDBOX_SAID ? NULL : start->walls_off;
}

/* Of all PoPs; that of `up` before it has ever come. */
static const struct region_place *places_of(struct request *q, size_t *ret_count)
{
    const struct control *control = q->control;
    struct region_place *places =
        ARENA_ARRAY(q->arena, struct region_place, control->hub.pops.count + 1);
    size_t count = 0;
    MAP_EACH (entry, &control->hub.pops) {
        struct region_place place = hub_pop_place(control, entry->value);
        if (hub_pop_state_of(entry->value) == HUB_POP_RETIRED)
            continue;
        place.name = arena_copy(q->arena, place.name);
        place.region = arena_copy(q->arena, place.region);
        places[count++] = place;
    }
    if (count == 0 && control->start.pop[0])
        places[count++] = control->place;
    *ret_count = count;
    return places;
}

/* The names that reach this registry, as a reference has them. */
static const struct slice *hosts_of(struct request *q, size_t *ret_count)
{
    const struct control *control = q->control;
    struct slice *hosts = ARENA_ARRAY(q->arena, struct slice, 2 * control->listener_count + 2);
    size_t count = 0;
    for (size_t i = 0; i < control->listener_count; i++) {
        const struct address *address = &control->addresses[i];
        char text[ADDRESS_TEXT_BYTES];
        if (address->kind != ADDRESS_IP4 && address->kind != ADDRESS_IP6)
            continue;
        hosts[count++] = slice_of(arena_string(q->arena, slice_of(address_text(address, text))));
        hosts[count++] = slice_of(arena_format(q->arena, "localhost:%u", address->port));
    }
    if (control->start.api_host[0])
        hosts[count++] = slice_of(control->start.api_host);
    if (control->start.zone[0])
        hosts[count++] = slice_of(arena_format(q->arena, "api.%s", control->start.zone));
    *ret_count = count;
    return hosts;
}

static void change_start(struct request *q, enum change_kind kind, const char *action,
                         uint64_t revision)
{
    struct change *change = ARENA_NEW(q->arena, struct change);
    size_t pop_count, host_count;
    *change = (struct change){
        .kind = kind,
        .arena = q->arena,
        .blobs = q->control->blobs,
        .libdir = q->control->start.libdir[0] ? q->control->start.libdir : NULL,
        .walls_off = walls_off(&q->control->start),
        .sets = &q->control->sets,
        .pops = places_of(q, &pop_count),
        .hosts = hosts_of(q, &host_count),
        .project = q->project,
        .name = q->parts[0],
        .body = { q->body, q->body_bytes },
        .revision = revision,
        .if_match = arena_copy(q->arena, request_header(q, "If-Match")),
        .only_create = slice_is(request_header(q, "If-None-Match"), "*"),
        .dry_run = request_flag(q, "dry_run"),
        .audit = request_audit(q, action),
    };
    change->pop_count = pop_count;
    change->host_count = host_count;
    change_ask(q, change);
}

void endpoint_put(struct request *q)
{
    struct err err;
    if (spec_check_endpoint_name(q->parts[0], &err) < 0) {
        request_fail(q, &err);
        return;
    }
    change_start(q, CHANGE_PUT, "put", 0);
}

void endpoint_patch(struct request *q)
{
    change_start(q, CHANGE_PATCH, "patch", 0);
}

void endpoint_delete(struct request *q)
{
    change_start(q, CHANGE_DELETE, "delete", 0);
}

/* `{}`, or the members named; an empty body counts as `{}`. */
static int read_members(struct request *q, const char *const *known, yyjson_val **ret,
                        struct err *err)
{
    struct slice body = { q->body, q->body_bytes };
    int r = json_parse(q->arena, body.size ? body : SLICE("{}"), NULL, ret, err);
    if (r == 0 && !yyjson_is_obj(*ret))
        r = err_set(err, ERR_BAD_INPUT, "the body must be an object");
    return r < 0 ? r : json_check_keys(*ret, known, err);
}

static void start_without_body(struct request *q, enum change_kind kind, const char *action)
{
    static const char *const none[] = { NULL };
    struct err err;
    yyjson_val *body;
    if (read_members(q, none, &body, &err) < 0)
        request_fail(q, &err);
    else
        change_start(q, kind, action, 0);
}

void endpoint_stop(struct request *q)
{
    start_without_body(q, CHANGE_STOP, "stop");
}

void endpoint_start(struct request *q)
{
    start_without_body(q, CHANGE_START, "start");
}

void endpoint_rollback(struct request *q)
{
    static const char *const known[] = { "revision", NULL };
    struct err err;
    yyjson_val *body;
    uint64_t number = 0;
    if (read_members(q, known, &body, &err) < 0 ||
        json_get_u64(body, "revision", JSON_REQUIRED, &number, &err) < 0) {
        request_fail(q, &err);
        return;
    }
    change_start(q, CHANGE_ROLLBACK, "rollback", number);
}
