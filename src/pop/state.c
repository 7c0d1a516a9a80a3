/* SPDX-License-Identifier: Apache-2.0 */
#include "pop/state_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"

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
    *pop = (struct pop){
        .env = env, .effects = effects, .data = data, .instance = instance, .syncs = 1
    };
    list_init(&pop->endpoints);
    list_init(&pop->strangers);
    list_init(&pop->secrets);
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

void pop_replica_free(struct pop_replica *replica)
{
    list_remove(&replica->link);
    (void)map_remove_u64(&replica->revision->endpoint->pop->replicas_by_id, replica->id);
    free(replica);
}

static void revision_free(struct pop_revision *revision)
{
    struct pop_replica *replica;
    LIST_EACH (replica, &revision->replicas, struct pop_replica, link)
        pop_replica_free(replica);
    list_remove(&revision->link);
    free(revision->digest);
    free(revision->runtime);
    free(revision->upstream);
    free(revision->probe_path);
    if (revision->image)
        arena_free(revision->image->arena);
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

void pop_deinit(struct pop *pop)
{
    struct pop_endpoint *endpoint;
    env_timer_stop(pop->env, &pop->wake);
    env_timer_stop(pop->env, &pop->soon);
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link)
        endpoint_free(endpoint);
    while (!list_empty(&pop->strangers))
        pop_stranger_free(LIST_FIRST(&pop->strangers, struct stranger, link));
    pop_keys_clear(pop);
    pop_secrets_forget(pop);
    arena_free(pop->peers_arena);
    map_deinit(&pop->endpoints_by_uid);
    map_deinit(&pop->unread);
    map_deinit(&pop->replicas_by_id);
    pop_schedule_deinit(pop);
    map_deinit(&pop->arenas);
    arena_free(pop->place_arena);
}

void pop_text_set(char **text, struct slice value)
{
    if (*text && slice_is(value, *text))
        return;
    free(*text);
    *text = mem_string(value);
}

struct pop_endpoint *pop_endpoint_new(struct pop *pop, uint64_t uid)
{
    struct pop_endpoint *endpoint = mem_zalloc(sizeof *endpoint);
    endpoint->pop = pop;
    endpoint->uid = uid;
    list_init(&endpoint->revisions);
    list_append(&pop->endpoints, &endpoint->link);
    (void)map_put_u64(&pop->endpoints_by_uid, uid, endpoint);
    return endpoint;
}

struct pop_revision *pop_revision_new(struct pop_endpoint *endpoint, uint64_t uid, uint32_t number)
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

struct pop_replica *pop_replica_make(struct pop_revision *revision, uint64_t id)
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

/* What serves has been ready here, in an earlier agent's life where not in this one's. */
bool pop_revision_retried(const struct pop_revision *revision)
{
    bool ran = revision->shown || revision->number == revision->endpoint->serving;

    return ran && revision->failed && !revision->unreadable && !revision->start_refused &&
           revision->driver != POP_DRIVER_UPSTREAM;
}

const char *pop_replica_name(const struct pop_replica *replica, char buffer[static 64])
{
    snprintf(buffer, 64, "%s-%u", replica->revision->endpoint->name, replica->ordinal);
    return buffer;
}

uint32_t pop_ordinal_free(const struct pop_endpoint *endpoint)
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
        if (pop_endpoint_barred(endpoint) && !endpoint->barred_told) {
            endpoint->barred_told = true;
            pop->effects->endpoint_barred(endpoint, pop->data);
        }
        /* Who deletes it hears that it is gone once no loop of the gateway serves it. */
        bool served = pop_endpoint_served(endpoint) && pop->gateway;
        if (left == 0 && !endpoint->wanted && !served) {
            endpoint_free(endpoint);
            pop->effects->report(pop, pop->data);
        }
    }
}
