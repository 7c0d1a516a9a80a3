/* SPDX-License-Identifier: Apache-2.0 */
#include "pop/state.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"

SM_DEFINE(pop_replica_state, POP_REPLICA_STATES)
SM_DEFINE(pop_model_state, POP_MODEL_STATES)

static void on_wake(struct env_timer *timer, void *data)
{
    (void)timer;
    pop_reconcile(data);
}

void pop_init(struct pop *pop, struct env *env, uint64_t instance,
              const struct pop_effects *effects, void *data)
{
    *pop = (struct pop){ .env = env, .effects = effects, .data = data, .instance = instance };
    list_init(&pop->endpoints);
    list_init(&pop->strangers);
    (void)!pop_stand(pop, &(struct region_place){}, (struct slice){}, NULL);
}

int pop_stand(struct pop *pop, const struct region_place *place, struct slice sets, struct err *err)
{
    struct arena *arena = arena_new();
    int r = geo_sets_parse(arena, sets, &pop->sets, err);
    if (r < 0) {
        arena_free(arena);
        return r;
    }
    pop->place = (struct region_place){ arena_copy(arena, place->name),
                                        arena_copy(arena, place->region), place->country };
    (void)digest_of(geo_sets_text(arena, &pop->sets), pop->sets_digest);
    arena_free(pop->place_arena);
    pop->place_arena = arena;
    return 0;
}

void pop_reconcile_soon(struct pop *pop)
{
    if (!env_timer_armed(&pop->soon))
        env_timer_start(pop->env, &pop->soon, 0, on_wake, pop);
}

/* ---- making and forgetting ------------------------------------------------------------------- */

static void replica_free(struct pop_replica *replica)
{
    list_remove(&replica->link);
    (void)map_remove_u64(&replica->revision->endpoint->pop->replicas_by_id, replica->id);
    free(replica);
}

static void revision_free(struct pop_revision *revision)
{
    struct pop_replica *replica;
    LIST_EACH (replica, &revision->replicas, struct pop_replica, link)
        replica_free(replica);
    list_remove(&revision->link);
    free(revision->digest);
    free(revision->runtime);
    free(revision->upstream);
    free(revision->probe_path);
    free(revision->folder);
    free(revision->model_file);
    free(revision->model);
    free(revision->scale);
    free(revision);
}

static void endpoint_free(struct pop_endpoint *endpoint)
{
    struct pop_revision *revision;
    LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
        revision_free(revision);
    for (uint32_t i = 0; i < endpoint->death_count; i++)
        free(endpoint->deaths[i].log);
    list_remove(&endpoint->link);
    (void)map_remove_u64(&endpoint->pop->endpoints_by_uid, endpoint->uid);
    arena_free(endpoint->spec_arena);
    free(endpoint->starts);
    free(endpoint->name);
    free(endpoint->project);
    free(endpoint);
}

/* A replica of an earlier agent whose revision is not known here: what the disk says may be older
 * than it, or cannot be read. It serves on until control has told everything. */
struct stranger {
    struct list link;
    struct message_replica_added added;
    bool drained;
};

static void stranger_free(struct stranger *stranger)
{
    list_remove(&stranger->link);
    free(stranger);
}

static struct stranger *stranger_find(struct pop *pop, uint64_t replica)
{
    struct stranger *stranger;
    LIST_EACH (stranger, &pop->strangers, struct stranger, link)
        if (stranger->added.replica == replica)
            return stranger;
    return NULL;
}

void pop_deinit(struct pop *pop)
{
    struct pop_endpoint *endpoint;
    env_timer_stop(pop->env, &pop->wake);
    env_timer_stop(pop->env, &pop->soon);
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link)
        endpoint_free(endpoint);
    while (!list_empty(&pop->strangers))
        stranger_free(LIST_FIRST(&pop->strangers, struct stranger, link));
    pop_keys_clear(pop);
    arena_free(pop->peers_arena);
    map_deinit(&pop->endpoints_by_uid);
    map_deinit(&pop->replicas_by_id);
    pop_schedule_deinit(pop);
    map_deinit(&pop->arenas);
    arena_free(pop->place_arena);
}

static struct pop_endpoint *endpoint_new(struct pop *pop, uint64_t uid)
{
    struct pop_endpoint *endpoint = mem_zalloc(sizeof *endpoint);
    endpoint->pop = pop;
    endpoint->uid = uid;
    list_init(&endpoint->revisions);
    list_append(&pop->endpoints, &endpoint->link);
    (void)map_put_u64(&pop->endpoints_by_uid, uid, endpoint);
    return endpoint;
}

static struct pop_revision *revision_new(struct pop_endpoint *endpoint, uint64_t uid,
                                         uint32_t number)
{
    struct pop_revision *revision = mem_zalloc(sizeof *revision), *other;
    revision->endpoint = endpoint;
    revision->uid = uid;
    revision->number = number;
    revision->digest = mem_string((struct slice){});
    revision->runtime = mem_string((struct slice){});
    revision->upstream = mem_string((struct slice){});
    revision->probe_path = mem_string((struct slice){});
    list_init(&revision->replicas);
    struct list *place = &endpoint->revisions;
    LIST_EACH (other, &endpoint->revisions, struct pop_revision, link)
        if (other->number < number)
            place = &other->link;
    list_insert_after(place, &revision->link);
    return revision;
}

static struct pop_replica *replica_new(struct pop_revision *revision, uint64_t id)
{
    struct pop *pop = revision->endpoint->pop;
    struct pop_replica *replica = mem_zalloc(sizeof *replica);
    replica->revision = revision;
    replica->id = id;
    replica->since_ns = env_now_ns(pop->env);
    replica->since_wall_ns = env_wall_ns(pop->env);
    list_append(&revision->replicas, &replica->link);
    revision->replica_count++;
    (void)map_put_u64(&pop->replicas_by_id, id, replica);
    return replica;
}

/* ---- looking up ------------------------------------------------------------------------------ */

struct pop_endpoint *pop_endpoint_find(struct pop *pop, uint64_t uid)
{
    return map_get_u64(&pop->endpoints_by_uid, uid);
}

struct pop_revision *pop_revision_number(struct pop_endpoint *endpoint, uint32_t number)
{
    struct pop_revision *revision;
    LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
        if (revision->number == number)
            return revision;
    return NULL;
}

struct pop_revision *pop_revision_find(struct pop *pop, uint64_t revision_uid)
{
    struct pop_endpoint *endpoint = pop_endpoint_find(pop, revision_uid >> 24);
    return endpoint ? pop_revision_number(endpoint, (uint32_t)(revision_uid & 0xffffff)) : NULL;
}

uint32_t pop_revision_ready(const struct pop_revision *revision)
{
    uint32_t ready = 0;
    const struct pop_replica *replica;
    LIST_EACH (replica, &revision->replicas, struct pop_replica, link)
        ready += replica->state == POP_REPLICA_READY;
    return ready;
}

const char *pop_replica_name(const struct pop_replica *replica, char buffer[static 64])
{
    snprintf(buffer, 64, "%s-%u", replica->revision->endpoint->name, replica->ordinal);
    return buffer;
}

/* ---- replicas of earlier agents -------------------------------------------------------------- */

/* The lowest number that no other replica of the endpoint has. */
static uint32_t ordinal_free(const struct pop_endpoint *endpoint)
{
    for (uint32_t ordinal = 1;; ordinal++) {
        bool taken = false;
        const struct pop_revision *revision;
        const struct pop_replica *replica;
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
            for (struct list *at = revision->replicas.next; at != &revision->replicas;
                 at = at->next) {
                replica = LIST_OWNER(at, struct pop_replica, link);
                taken = taken || replica->ordinal == ordinal;
            }
        if (!taken)
            return ordinal;
    }
}

static void replica_adopt(struct pop_revision *revision, const struct message_replica_added *added)
{
    struct pop_replica *replica = replica_new(revision, added->replica);
    const char *dash = strrchr(added->name, '-');
    uint64_t ordinal = 0;
    (void)(dash && slice_u64(slice_of(dash + 1), &ordinal));
    replica->ordinal = ordinal ? (uint32_t)ordinal : ordinal_free(revision->endpoint);
    replica->pid = added->pid;
    replica->adopted = true;
    revision->adopted_ns = env_now_ns(revision->endpoint->pop->env);
}

void pop_replica_added(struct pop *pop, const struct message_replica_added *added)
{
    struct pop_replica *replica = map_get_u64(&pop->replicas_by_id, added->replica);
    struct pop_revision *revision = pop_revision_find(pop, added->revision);
    if (replica) {
        replica->pid = added->pid;
    } else if (revision) { /* of the agent before this one */
        replica_adopt(revision, added);
    } else if (pop->synced) {
        pop->effects->replica_unwanted(added->replica, pop->data);
        return;
    } else if (!stranger_find(pop, added->replica)) {
        struct stranger *stranger = mem_zalloc(sizeof *stranger);
        stranger->added = *added;
        list_append(&pop->strangers, &stranger->link);
    }
    pop->effects->report(pop, pop->data);
}

static void strangers_look(struct pop *pop)
{
    struct stranger *stranger;
    LIST_EACH (stranger, &pop->strangers, struct stranger, link) {
        struct pop_revision *revision = pop_revision_find(pop, stranger->added.revision);
        if (revision) {
            replica_adopt(revision, &stranger->added);
            struct pop_replica *replica =
                map_get_u64(&pop->replicas_by_id, stranger->added.replica);
            replica->drained_before = stranger->drained;
            pop->effects->replica_look(replica, pop->data);
        } else if (pop->synced) {
            pop->effects->replica_unwanted(stranger->added.replica, pop->data);
        } else {
            continue;
        }
        stranger_free(stranger);
    }
}

void pop_arena_kept(struct pop *pop, uint64_t revision_uid)
{
    if (pop_revision_find(pop, revision_uid))
        return; /* pop_forget() gives it up in time */
    if (pop->synced)
        pop->effects->revision_gone(revision_uid, pop->data);
    else
        (void)map_put_u64(&pop->arenas, revision_uid, pop);
}

static void arenas_look(struct pop *pop)
{
    MAP_EACH (entry, &pop->arenas) {
        uint64_t uid = entry->key.size;
        map_remove_u64(&pop->arenas, uid);
        pop_arena_kept(pop, uid);
    }
}

/* ---- desired state --------------------------------------------------------------------------- */

static void text_set(char **text, struct slice value)
{
    if (*text && slice_is(value, *text))
        return;
    free(*text);
    *text = mem_string(value);
}

static int revision_apply(struct arena *arena, struct pop_endpoint *endpoint, yyjson_val *json,
                          struct err *err)
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
    if (spec_json) {
        if (endpoint_spec_parse(arena, spec_json, SPEC_KEEP_UNKNOWN | SPEC_NAME_OPTIONAL, &spec,
                                err) < 0)
            return err_wrap(err, "revision %llu", (unsigned long long)number);
    } else {
        spec = endpoint->spec;
    }
    struct pop_revision *revision = pop_revision_number(endpoint, (uint32_t)number);
    if (!revision)
        revision = revision_new(endpoint, uid, (uint32_t)number);
    revision->wanted = true;
    text_set(&revision->digest, digest);
    text_set(&revision->runtime, runtime);
    revision->memory_bytes = spec.flavor.memory_bytes;
    revision->threads = (uint32_t)((spec.flavor.cpu_milli + 999) / 1000);
    if (revision->threads == 0)
        revision->threads = 1;
    revision->batch_max = spec.batch.max ? (uint32_t)spec.batch.max : 1;
    revision->batch_delay_us = (uint32_t)(spec.batch.delay_ns / 1000);
    revision->driver = spec.upstream.size ? POP_DRIVER_UPSTREAM : POP_DRIVER_PROCESS;
    text_set(&revision->upstream, spec.upstream);
    revision->by_model = slice_is(spec.protocol, "oip");
    text_set(&revision->probe_path, spec.probes.readiness.http_path);
    revision->probe = spec_probe_fill(&spec.probes.readiness);
    return 0;
}

struct document {
    uint64_t uid, target;
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

int pop_endpoint_apply(struct pop *pop, struct slice json, struct err *err)
{
    struct arena *arena = arena_new();
    yyjson_val *root, *item;
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
        arena_free(arena);
        return r;
    }

    struct pop_endpoint *endpoint = pop_endpoint_find(pop, document.uid);
    if (!endpoint)
        endpoint = endpoint_new(pop, document.uid);
    bool was_elsewhere = endpoint->elsewhere != NULL;
    arena_free(endpoint->spec_arena);
    endpoint->spec_arena = arena;
    endpoint->spec = spec;
    endpoint->json = copy;
    endpoint->wanted = endpoint->synced = true;
    places_apply(endpoint, document.pops);
    shares_apply(endpoint, document.traffic);
    text_set(&endpoint->name, document.name);
    text_set(&endpoint->project, document.project);
    pop_schedule_changed(endpoint);
    pop_allow(pop, endpoint);
    if (endpoint->elsewhere || was_elsewhere) /* somebody may wait for it */
        pop->effects->report(pop, pop->data);
    bool ran = endpoint->running;
    endpoint->running = slice_is(document.state, "running") && !endpoint->elsewhere;
    endpoint->target = (uint32_t)document.target;
    struct pop_revision *revision;
    LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
        revision->wanted = false;
    size_t index, count;
    yyjson_arr_foreach(document.revisions, index, count, item)
    {
        r = revision_apply(arena, endpoint, item, err);
        if (r < 0)
            log_error("pop", "a revision cannot be read", LOG_S("endpoint", endpoint->name),
                      LOG_S("error", err ? err->message : ""));
    }
    revision = pop_revision_number(endpoint, endpoint->serving);
    if (revision && endpoint->running && !ran) /* started again: one shows that it can */
        pop_scale_wake(revision, 1);
    strangers_look(pop);
    pop->effects->save(pop, pop->data);
    pop->effects->publish(pop, pop->data);
    pop_reconcile_soon(pop);
    return 0;
}

void pop_endpoint_gone(struct pop *pop, uint64_t uid)
{
    struct pop_endpoint *endpoint = pop_endpoint_find(pop, uid);
    if (!endpoint || !endpoint->wanted)
        return;
    endpoint->wanted = false;
    pop->effects->save(pop, pop->data);
    pop->effects->publish(pop, pop->data);
    pop_reconcile_soon(pop);
}

void pop_sync_begin(struct pop *pop)
{
    struct pop_endpoint *endpoint;
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link)
        endpoint->synced = false;
}

void pop_sync_end(struct pop *pop)
{
    struct pop_endpoint *endpoint;
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link)
        if (!endpoint->synced)
            pop_endpoint_gone(pop, endpoint->uid);
    pop->begun = pop->sure = pop->synced = true;
    strangers_look(pop);
    arenas_look(pop);
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

/* ---- what happens ---------------------------------------------------------------------------- */

void pop_model_fetched(struct pop_revision *revision, const char *folder, const char *model_file,
                       const struct err *err)
{
    struct pop *pop = revision->endpoint->pop;
    if (err) {
        pop_model_state_move(&revision->model_state, POP_MODEL_ABSENT);
        revision->failures++;
        revision->failed = true;
        revision->start_not_before_ns = env_now_ns(pop->env) + pop_back_off_ns(revision->failures);
        snprintf(revision->message, sizeof revision->message, "%s", err->message);
        pop->effects->event(pop, "revision_failed", revision->endpoint, NULL, revision->message,
                            pop->data);
        pop->effects->publish(pop, pop->data);
    } else {
        pop_model_state_move(&revision->model_state, POP_MODEL_HERE);
        text_set(&revision->folder, slice_of(folder));
        text_set(&revision->model_file, slice_of(model_file));
    }
    pop->effects->report(pop, pop->data);
    pop_reconcile_soon(pop);
}

struct pop_replica *pop_replica_new(struct pop_revision *revision)
{
    struct pop *pop = revision->endpoint->pop;
    uint32_t ordinal = ordinal_free(revision->endpoint);
    struct pop_replica *replica =
        replica_new(revision, pop->instance << 32 | ++pop->replica_counter);
    replica->ordinal = ordinal;
    replica->cold = pop_revision_ready(revision) == 0;
    return replica;
}

static void model_learn(struct pop_revision *revision, const struct pop_ready *ready)
{
    if (revision->model && revision->model_bytes == ready->model_bytes &&
        memcmp(revision->model, ready->model, ready->model_bytes) == 0)
        return;
    free(revision->model);
    revision->model = mem_alloc(ready->model_bytes);
    memcpy(revision->model, ready->model, ready->model_bytes);
    revision->model_bytes = ready->model_bytes;
    revision->model_reported = false;
}

void pop_replica_ready(struct pop *pop, uint64_t id, const struct pop_ready *ready)
{
    struct pop_replica *replica = map_get_u64(&pop->replicas_by_id, id);
    if (!replica || replica->state != POP_REPLICA_STARTING)
        return;
    struct pop_revision *revision = replica->revision;
    pop_starts_add(replica, ready);
    pop_replica_state_move(&replica->state, POP_REPLICA_READY);
    replica->since_ns = env_now_ns(pop->env);
    replica->since_wall_ns = env_wall_ns(pop->env);
    (void)pop_walls_words(ready->walls, replica->sandbox, sizeof replica->sandbox);
    replica->memory_bytes = ready->memory_bytes;
    if (!revision->model)
        pop_share_keep(revision);
    model_learn(revision, ready);
    revision->failed = false;
    revision->message[0] = '\0';
    pop->effects->event(pop, "replica_ready", revision->endpoint, replica, "", pop->data);
    pop->effects->publish(pop, pop->data);
    pop->effects->report(pop, pop->data);
    if (replica->drained_before)
        pop_replica_drained(pop, id);
    pop_reconcile_soon(pop);
}

void pop_replica_drained(struct pop *pop, uint64_t id)
{
    struct pop_replica *replica = map_get_u64(&pop->replicas_by_id, id);
    struct stranger *stranger = replica ? NULL : stranger_find(pop, id);
    if (stranger)
        stranger->drained = true;
    if (!replica || (replica->state != POP_REPLICA_DRAINING && replica->state != POP_REPLICA_READY))
        return;
    /* Drained for the agent before this one: the gateway gives it nothing any more, so it is no
     * replica that serves, and another takes its place. */
    if (replica->state == POP_REPLICA_READY) {
        pop_replica_state_move(&replica->state, POP_REPLICA_DRAINING);
        pop->effects->report(pop, pop->data);
    }
    replica->kill_at_ns = env_now_ns(pop->env);
    pop_reconcile_soon(pop);
}

static void death_add(struct pop_replica *replica, const char *reason)
{
    struct pop_endpoint *endpoint = replica->revision->endpoint;
    if (endpoint->death_count == POP_DEATHS_MAX) {
        free(endpoint->deaths[0].log);
        memmove(endpoint->deaths, endpoint->deaths + 1,
                sizeof endpoint->deaths - sizeof endpoint->deaths[0]);
        endpoint->death_count--;
    }
    struct pop_death *death = &endpoint->deaths[endpoint->death_count++];
    *death = (struct pop_death){
        .revision = replica->revision->number,
        .wall_ns = env_wall_ns(endpoint->pop->env),
        .log = mem_string((struct slice){ replica->log.bytes, replica->log.used }),
    };
    pop_replica_name(replica, death->replica);
    snprintf(death->reason, sizeof death->reason, "%s", reason);
    endpoint->pop->effects->death(endpoint, death, endpoint->pop->data);
}

enum { READY_LONG_S = 10 }; /* ready for so long: what ended it is no failure to start */

/* `was_ready`: as we saw it, or as it says itself, when it died before the gateway's word came; not
 * when the supervisor has looked at its walls, and ended it. */
static void exit_judge(struct pop_replica *replica, const char *reason, bool was_ready)
{
    struct pop_revision *revision = replica->revision;
    struct pop *pop = revision->endpoint->pop;
    int64_t now = env_now_ns(pop->env);

    if (was_ready && now - replica->since_ns >= READY_LONG_S * ENV_S)
        revision->failures = 0;
    else
        revision->failures++;
    /* A replica that had served is replaced at once the first time. */
    uint32_t counted =
        was_ready && revision->failures ? revision->failures - 1 : revision->failures;
    revision->start_not_before_ns = now + pop_back_off_ns(counted);
    if (!was_ready) {
        revision->failed = true;
        snprintf(revision->message, sizeof revision->message, "%s", reason);
        pop->effects->event(pop, "revision_failed", revision->endpoint, replica, reason, pop->data);
    }
}

void pop_replica_drop(struct pop_replica *replica)
{
    pop_replica_state_move(&replica->state, POP_REPLICA_GONE);
    replica->revision->replica_count--;
    replica_free(replica);
}

void pop_replica_exited(struct pop *pop, const struct message_replica_exited *exited)
{
    struct pop_replica *replica = map_get_u64(&pop->replicas_by_id, exited->replica);
    struct stranger *stranger = replica ? NULL : stranger_find(pop, exited->replica);
    if (stranger)
        stranger_free(stranger);
    if (!replica)
        return;
    char reason[1400];
    struct pop_revision *revision = replica->revision;
    bool asked = exited->end == REPLICA_END_STOPPED || exited->end == REPLICA_END_UNWANTED;
    pop_exit_words(exited, reason, sizeof reason);
    if (!asked) {
        revision->endpoint->exits++;
        exit_judge(
            replica, reason,
            replica->state != POP_REPLICA_STARTING ||
                (exited->phase == PERIGEE_PHASE_READY && exited->end != REPLICA_END_NOT_STARTED));
        death_add(replica, reason);
    }
    pop->effects->event(pop, "replica_exited", revision->endpoint, replica, reason, pop->data);
    pop_replica_drop(replica);
    pop->effects->publish(pop, pop->data);
    pop->effects->report(pop, pop->data);
    pop_reconcile_soon(pop);
}

void pop_replica_log(struct pop *pop, const struct message_replica_log *message)
{
    struct pop_replica *replica = map_get_u64(&pop->replicas_by_id, message->replica);
    uint32_t bytes = message->bytes <= MESSAGE_LOG_BYTES ? message->bytes : MESSAGE_LOG_BYTES;
    if (!replica)
        return;
    struct pop_log *log = &replica->log;
    if (log->used + bytes > POP_LOG_BYTES) {
        uint32_t drop = log->used + bytes - POP_LOG_BYTES;
        memmove(log->bytes, log->bytes + drop, log->used - drop);
        log->used -= drop;
    }
    memcpy(log->bytes + log->used, message->data, bytes);
    log->used += bytes;
}

void pop_demand(struct pop *pop, const struct message_demand *demand)
{
    struct pop_revision *revision = pop_revision_find(pop, demand->revision);
    if (!revision)
        return;
    pop_scale_demand(revision, demand);
    if (demand->arrivals || demand->waiting || demand->running) {
        int64_t now_ns = env_now_ns(pop->env);
        revision->demand_ns = now_ns ? now_ns : 1;
        pop_share_keep(revision);
    }
    pop_reconcile_soon(pop);
}

void pop_gateway_changed(struct pop *pop, bool present)
{
    pop->gateway = present;
    for (size_t at = 0; present;) { /* a new one knows nothing of drains */
        const struct map_entry *entry = map_next(&pop->replicas_by_id, &at);
        if (!entry)
            break;
        struct pop_replica *replica = entry->value;
        if (replica->state == POP_REPLICA_DRAINING && !replica->kill_sent)
            pop->effects->replica_drain(replica, pop->data);
    }
    pop_reconcile_soon(pop);
}

void pop_forget(struct pop *pop)
{
    struct pop_endpoint *endpoint;
    struct pop_revision *revision;
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link) {
        uint32_t left = 0;
        for (struct list *at = endpoint->revisions.next, *next; at != &endpoint->revisions;
             at = next) {
            next = at->next;
            revision = LIST_OWNER(at, struct pop_revision, link);
            bool kept = revision->wanted && endpoint->wanted;
            if (kept || revision->replica_count || revision->watched ||
                revision->model_state == POP_MODEL_FETCHING) {
                left++;
                continue;
            }
            if (endpoint->serving == revision->number)
                endpoint->serving = 0;
            pop->effects->revision_gone(revision->uid, pop->data);
            revision_free(revision);
        }
        if (left == 0 && !endpoint->wanted) {
            endpoint_free(endpoint);
            pop->effects->report(pop, pop->data);
        }
    }
}
