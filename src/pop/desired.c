/* SPDX-License-Identifier: Apache-2.0 */
/* Desired state: documents of control, or of the disk, become endpoints and revisions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "pop/state_inside.h"

/* It is there, and will not run: who waits for it is told why. One that was understood before stays
 * as it was. */
static void revision_refuse(struct pop_endpoint *endpoint, uint64_t uid, const char *why)
{
    struct pop *pop = endpoint->pop;
    uint32_t number = (uint32_t)(uid & 0xffffff);
    struct pop_revision *revision = pop_revision_number(endpoint, number);
    if (!revision) {
        revision = pop_revision_new(endpoint, uid, number);
        revision->unreadable = true;
        revision->batch_max = 1;
    }
    revision->wanted = true;
    log_error("pop", "a revision cannot be read", LOG_S("endpoint", endpoint->name),
              LOG_S("error", why));
    if (!revision->unreadable || (revision->failed && strcmp(revision->message, why) == 0))
        return;
    revision->failed = true;
    snprintf(revision->message, sizeof revision->message, "%s", why);
    pop->effects->event(pop, "revision_failed", endpoint, NULL, why, pop->data);
    pop->effects->report(pop, pop->data);
}

/* *ret_uid: once it is known which it is. */
static int revision_apply(struct arena *arena, struct pop_endpoint *endpoint, yyjson_val *json,
                          uint64_t *ret_uid, struct err *err)
{
    uint64_t number, uid;
    struct slice digest, runtime = SLICE("onnx");
    yyjson_val *spec_json = json_member(json, "spec");
    struct endpoint_spec spec;
    if (json_get_u64(json, "number", JSON_REQUIRED, &number, err) < 0 ||
        json_get_u64(json, "uid", JSON_REQUIRED, &uid, err) < 0 ||
        json_get_string(json, "model", JSON_REQUIRED, &digest, err) < 0 ||
        json_get_string(json, "runtime", JSON_OPTIONAL, &runtime, err) < 0)
        return ERR_BAD_INPUT;
    if (number == 0 || number > 0xffffff || uid != (endpoint->uid << 24 | number))
        return err_set(err, ERR_BAD_INPUT, "revision uid and number do not belong together");
    *ret_uid = uid;
    if (spec_json) {
        if (endpoint_spec_parse(arena, spec_json, SPEC_KEEP_UNKNOWN | SPEC_NAME_OPTIONAL, &spec,
                                err) < 0)
            return err_wrap(err, "revision %llu", (unsigned long long)number);
    } else {
        spec = endpoint->spec;
    }
    struct pop_revision *revision = pop_revision_number(endpoint, (uint32_t)number);
    yyjson_val *image_json = json_member(json, "image");
    struct pop_image *image = NULL;
    if (image_json && !(revision && revision->image) &&
        pop_image_read(image_json, spec_json, &image, err) < 0)
        return err_wrap(err, "revision %llu", (unsigned long long)number);
    if (!revision)
        revision = pop_revision_new(endpoint, uid, (uint32_t)number);
    if (image)
        revision->image = image;
    revision->wanted = true;
    if (revision->unreadable)
        revision->unreadable = revision->failed = false;
    pop_text_set(&revision->digest, digest);
    pop_text_set(&revision->runtime, runtime);
    revision->memory_bytes = spec.flavor.memory_bytes;
    revision->threads = (uint32_t)((spec.flavor.cpu_milli + 999) / 1000);
    if (revision->threads == 0)
        revision->threads = 1;
    revision->batch_max = spec.batch.max ? (uint32_t)spec.batch.max : 1;
    revision->batch_delay_us = (uint32_t)(spec.batch.delay_ns / 1000);
    revision->driver = revision->image      ? POP_DRIVER_ENGINE
                       : spec.upstream.size ? POP_DRIVER_UPSTREAM
                                            : POP_DRIVER_PROCESS;
    pop_text_set(&revision->upstream, spec.upstream);
    revision->by_model = slice_is(spec.protocol, "oip");
    pop_text_set(&revision->probe_path, spec.probes.readiness.http_path);
    revision->probe = spec_probe_fill(&spec.probes.readiness);
    return 0;
}

struct document {
    uint64_t uid, target, generation; /* generation 0: an older control's, which says none */
    struct slice name, project, state;
    yyjson_val *spec, *revisions, *pops, *traffic;
};

static int document_read(yyjson_val *root, struct document *ret, struct err *err)
{
    *ret = (struct document){ .project = SLICE("default") };
    if (json_get_u64(root, "uid", JSON_REQUIRED, &ret->uid, err) < 0 ||
        json_get_string(root, "name", JSON_REQUIRED, &ret->name, err) < 0 ||
        json_get_string(root, "project", JSON_OPTIONAL, &ret->project, err) < 0 ||
        json_get_string(root, "state", JSON_REQUIRED, &ret->state, err) < 0 ||
        json_get_u64(root, "target", JSON_REQUIRED, &ret->target, err) < 0 ||
        json_get_u64(root, "generation", JSON_OPTIONAL, &ret->generation, err) < 0 ||
        json_get_object(root, "spec", JSON_REQUIRED, &ret->spec, err) < 0 ||
        json_get_array(root, "revisions", JSON_REQUIRED, &ret->revisions, err) < 0 ||
        json_get_array(root, "pops", JSON_OPTIONAL, &ret->pops, err) < 0)
        return ERR_BAD_INPUT;
    ret->traffic = json_member(root, "traffic");
    if (ret->uid == 0 || ret->uid >> 40 != 0)
        return err_set(err, ERR_BAD_INPUT, "endpoint uid out of range");
    return 0;
}

static void floors_apply(struct pop_endpoint *endpoint, yyjson_val *floors)
{
    size_t index, count;
    yyjson_val *item;
    yyjson_arr_foreach(floors, index, count, item)
    {
        uint64_t min = 0, replicas = 0;
        struct err ignored;
        if (json_get_u64(item, "min", JSON_REQUIRED, &min, &ignored) <= 0 ||
            json_get_u64(item, "replicas", JSON_REQUIRED, &replicas, &ignored) <= 0 ||
            endpoint->floor_count == SPEC_WINDOWS_MAX || min > UINT32_MAX)
            continue;
        endpoint->floors[endpoint->floor_count++] =
            (struct pop_floor){ (uint32_t)min, replicas < POP_REPLICAS_MAX ? (uint32_t)replicas
                                                                           : POP_REPLICAS_MAX };
    }
}

/* Without a list (a control from before there were several PoPs) it is placed here. */
static void places_apply(struct pop_endpoint *endpoint, yyjson_val *pops)
{
    size_t index, count, room = pops ? yyjson_arr_size(pops) : 0;
    yyjson_val *item;
    struct table_source_placement *places =
        ARENA_ARRAY(endpoint->spec_arena, struct table_source_placement, room + 1);
    endpoint->placed = pops != NULL;
    endpoint->replicas = 0;
    endpoint->most = 0;
    endpoint->floor_count = 0;
    endpoint->places = places;
    endpoint->place_count = 0;
    yyjson_arr_foreach(pops, index, count, item)
    {
        uint64_t replicas = 0;
        struct err ignored;
        struct slice name = json_slice(json_member(item, "name"));
        if (json_get_u64(item, "replicas", JSON_REQUIRED, &replicas, &ignored) <= 0)
            continue;
        if (replicas > POP_REPLICAS_MAX)
            replicas = POP_REPLICAS_MAX;
        places[endpoint->place_count++] =
            (struct table_source_placement){ name, (uint32_t)replicas };
        if (!slice_is(name, endpoint->pop->name))
            continue;
        endpoint->replicas = (uint32_t)replicas;
        uint64_t most = 0;
        (void)!json_get_u64(item, "max", JSON_OPTIONAL, &most, &ignored);
        endpoint->most = most < POP_REPLICAS_MAX ? (uint32_t)most : POP_REPLICAS_MAX;
        floors_apply(endpoint, json_member(item, "floors"));
    }
}

/* Without any the target has all. */
static void shares_apply(struct pop_endpoint *endpoint, yyjson_val *traffic)
{
    size_t index, count;
    yyjson_val *item;
    struct err ignored;
    uint64_t canary = 0;
    endpoint->share_count = 0;
    endpoint->canary = 0;
    yyjson_arr_foreach(json_member(traffic, "shares"), index, count, item)
    {
        uint64_t revision, weight;
        if (json_get_u64(item, "revision", JSON_REQUIRED, &revision, &ignored) <= 0 ||
            json_get_u64(item, "weight", JSON_REQUIRED, &weight, &ignored) <= 0 || revision == 0 ||
            revision > 0xffffff || weight > UINT32_MAX ||
            endpoint->share_count == TRAFFIC_SHARES_MAX)
            continue;
        endpoint->shares[endpoint->share_count++] =
            (struct traffic_share){ (uint32_t)revision, (uint32_t)weight, true };
    }
    if (traffic && json_get_u64(traffic, "canary", JSON_OPTIONAL, &canary, &ignored) > 0 &&
        canary <= 0xffffff)
        endpoint->canary = (uint32_t)canary;
}

/* What shared the traffic and does not any more ends as what had all of it does. */
static void shares_left(struct pop_endpoint *endpoint, const struct traffic_share *before,
                        size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct pop_revision *revision = pop_revision_number(endpoint, before[i].revision);
        if (!revision || !revision->demand_ns || before[i].weight == 0 ||
            before[i].revision == endpoint->serving || before[i].revision == endpoint->target ||
            pop_endpoint_shares(endpoint, before[i].revision))
            continue;
        revision->left_ns = env_now_ns(endpoint->pop->env);
        revision->demand_ns = 0;
    }
}

int pop_endpoint_apply(struct pop *pop, struct slice json, struct err *err)
{
    struct arena *arena = arena_new();
    yyjson_val *root = NULL, *item;
    struct document document;
    struct endpoint_spec spec;
    struct slice copy = arena_copy(arena, json);
    int r = json_parse(arena, copy, NULL, &root, err);
    if (r == 0)
        r = document_read(root, &document, err);
    if (r == 0)
        r = endpoint_spec_parse(arena, document.spec, SPEC_KEEP_UNKNOWN | SPEC_NAME_OPTIONAL, &spec,
                                err);
    if (r != 0) {
        pop_unread_document(pop, root);
        arena_free(arena);
        return r;
    }

    struct pop_endpoint *endpoint = pop_endpoint_find(pop, document.uid);
    if (!endpoint)
        endpoint = pop_endpoint_new(pop, document.uid);
    bool was_elsewhere = endpoint->elsewhere != NULL;
    struct traffic_share shares_before[TRAFFIC_SHARES_MAX];
    size_t shares_before_count = endpoint->share_count;
    memcpy(shares_before, endpoint->shares, sizeof shares_before);
    arena_free(endpoint->spec_arena);
    endpoint->spec_arena = arena;
    endpoint->spec = spec;
    endpoint->json = copy;
    endpoint->generation = document.generation;
    endpoint->wanted = true;
    places_apply(endpoint, document.pops);
    shares_apply(endpoint, document.traffic);
    pop_text_set(&endpoint->name, document.name);
    pop_text_set(&endpoint->project, document.project);
    pop_schedule_changed(endpoint);
    pop_allow(pop, endpoint);
    if (endpoint->elsewhere || was_elsewhere) /* somebody may wait for it */
        pop->effects->report(pop, pop->data);
    bool ran = endpoint->running;
    endpoint->running = slice_is(document.state, "running") && !endpoint->elsewhere;
    endpoint->target = (uint32_t)document.target;
    shares_left(endpoint, shares_before, shares_before_count);
    struct pop_revision *revision;
    LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
        revision->wanted = false;
    pop_unread_set(pop, document.uid, false);
    size_t index, count;
    yyjson_arr_foreach(document.revisions, index, count, item)
    {
        struct err why;
        uint64_t revision_uid = 0;
        if (revision_apply(arena, endpoint, item, &revision_uid, &why) == 0)
            continue;
        pop_unread_set(pop, document.uid, true);
        if (revision_uid)
            revision_refuse(endpoint, revision_uid, why.message);
        else
            log_error("pop", "a revision cannot be read", LOG_S("endpoint", endpoint->name),
                      LOG_S("error", why.message));
    }
    revision = pop_revision_number(endpoint, endpoint->serving);
    if (revision && endpoint->running && !ran) /* started again: one shows that it can */
        pop_scale_wake(revision, 1);
    pop_strangers_look(pop);
    pop->effects->save(pop, pop->data);
    pop->effects->publish(pop, pop->data);
    pop_reconcile_soon(pop);
    return 0;
}

static void endpoint_end(struct pop_endpoint *endpoint)
{
    struct pop *pop = endpoint->pop;
    if (!endpoint->wanted)
        return;
    endpoint->wanted = false;
    pop->effects->save(pop, pop->data);
    pop->effects->publish(pop, pop->data);
    pop_reconcile_soon(pop);
}

void pop_endpoint_gone(struct pop *pop, uint64_t uid)
{
    struct pop_endpoint *endpoint = pop_endpoint_find(pop, uid);
    pop_unread_set(pop, uid, false);
    if (endpoint)
        endpoint_end(endpoint);
}

void pop_sync_begin(struct pop *pop)
{
    pop->syncs++;
}

void pop_sync(struct pop *pop, const uint64_t *uids, size_t count)
{
    struct pop_endpoint *endpoint;
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link)
        endpoint->listed = false;
    for (size_t i = 0; i < count; i++)
        if ((endpoint = pop_endpoint_find(pop, uids[i])))
            endpoint->listed = true;
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link)
        if (!endpoint->listed)
            endpoint_end(endpoint);
    pop_unread_prune(pop);
    pop->begun = pop->sure = pop->synced = true;
    pop_strangers_look(pop);
    pop_arenas_look(pop);
    pop->effects->publish(pop, pop->data); /* what waited until now */
    pop_reconcile_soon(pop);
}

void pop_alone(struct pop *pop)
{
    if (pop->sure || !pop->begun)
        return;
    pop->sure = true;
    pop->effects->publish(pop, pop->data);
    pop_reconcile_soon(pop);
}
