/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table goes to the supervisor first, and then to the disk (keep.h), which nobody waits for.
 * The gateway says when all of it serves the table. Where there is none, the next one's word
 * counts: it has the newest before it accepts. No word within a bound, and the agent goes on.
 */

#include "base/arena.h"
#include "base/err.h"
#include "base/log.h"
#include "io/timer.h"
#include "pop/agent.h"
#include "sys/fd.h"
#include "sys/shm.h"

enum {
    PUBLISH_SOON_MS = 1,
    PUBLISH_AGAIN_MS = 1000, /* where there was no memory for it */
    UNSERVED_MS_MAX = 2000,
    QUEUE_BYTES_FACTOR = 4, /* bytes that may wait an endpoint: so many of its largest bodies */
};

/* ---- the table ------------------------------------------------------------------------------- */

static const struct slice *slices(const struct spec_strings *strings)
{
    return strings->items;
}

/* Those that are reached over HTTP. */
static void source_reach(struct arena *arena, const struct pop_revision *revision,
                         struct table_source_revision *ret)
{
    const struct pop_replica *replica;
    struct spec_upstream upstream;
    struct table_target *targets =
        ARENA_ARRAY(arena, struct table_target, revision->replica_count + 1);
    LIST_EACH (replica, &revision->replicas, struct pop_replica, link) {
        if (!replica->target.id || ret->target_count == TABLE_TARGETS_MAX)
            continue;
        struct table_target *target = &targets[ret->target_count++];
        *target = replica->target;
        target->flags = replica->state == POP_REPLICA_READY ? TABLE_TARGET_READY : 0;
    }
    ret->reach_kind = TABLE_REACH_HTTP;
    ret->reach_flags |= revision->by_model ? TABLE_REACH_BY_MODEL : 0;
    ret->targets = targets;
    if (spec_upstream_parse(slice_of(revision->upstream), &upstream, NULL) == 0)
        ret->authority = upstream.authority;
}

static void source_revision(struct arena *arena, const struct pop_revision *revision,
                            struct table_source_revision *ret)
{
    *ret = (struct table_source_revision){
        .uid = revision->uid,
        .number = revision->number,
        .runtime = slice_of(revision->runtime),
        .digest = slice_of(revision->digest),
        .model = { (const char *)revision->model, revision->model_bytes },
        .message = revision->failed ? slice_of(revision->message) : (struct slice){},
        .retried = pop_revision_retried(revision),
    };
    if (revision->driver != POP_DRIVER_PROCESS)
        source_reach(arena, revision, ret);
}

static uint32_t concurrency(const struct endpoint_spec *spec)
{
    if (!spec->upstream.size)
        return spec_concurrency(spec->scale.concurrency, spec->batch.max);
    return spec->scale.concurrency ? (uint32_t)spec->scale.concurrency : SPEC_UPSTREAM_CONCURRENCY;
}

static void source_split(struct arena *arena, const struct pop_endpoint *endpoint,
                         struct table_source_endpoint *ret)
{
    struct table_source_share *shares =
        ARENA_ARRAY(arena, struct table_source_share, TRAFFIC_SHARES_MAX);
    if (!pop_endpoint_splits(endpoint))
        return;
    for (size_t i = 0; i < endpoint->share_count; i++)
        shares[i] =
            (struct table_source_share){ endpoint->shares[i].revision, endpoint->shares[i].weight };
    ret->shares = shares;
    ret->share_count = endpoint->share_count;
    ret->canary_number = endpoint->canary;
    ret->by_address = slice_is(endpoint->spec.traffic.sticky, "address");
}

static void source_endpoint(struct arena *arena, const struct pop_endpoint *endpoint,
                            struct table_source_endpoint *ret)
{
    const struct endpoint_spec *spec = &endpoint->spec;
    const struct pop_revision *revision;
    size_t count = 0;
    LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
        count++;
    struct table_source_revision *revisions =
        ARENA_ARRAY(arena, struct table_source_revision, count ? count : 1);
    count = 0;
    LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
        if (revision->wanted || revision->number == endpoint->serving)
            source_revision(arena, revision, &revisions[count++]);

    *ret = (struct table_source_endpoint){
        .uid = endpoint->uid,
        .name = slice_of(endpoint->name),
        .project = slice_of(endpoint->project),
        .state = endpoint->elsewhere                       ? TABLE_ENDPOINT_ELSEWHERE
                 : !endpoint->running                      ? TABLE_ENDPOINT_STOPPED
                 : endpoint->placed && !endpoint->replicas ? TABLE_ENDPOINT_AWAY
                                                           : TABLE_ENDPOINT_RUNNING,
        .serving_number = endpoint->serving,
        .revisions = revisions,
        .revision_count = count,
        .origins = slices(&spec->cors.origins),
        .origin_count = spec->cors.origins.count,
        .domains = slices(&spec->domains),
        .domain_count = spec->domains.count,
        .aliases = slices(&spec->aliases),
        .alias_count = spec->aliases.count,
        .queue_depth = (uint32_t)spec->queue.depth,
        .concurrency = concurrency(spec),
        .start_ms = endpoint->start_ms,
        .queue_timeout_us = spec->queue.timeout_ns / 1000,
        .queue_cold_us = spec->queue.cold_ns / 1000,
        .timeout_us = spec->timeout_ns / 1000,
        .body_bytes_max = spec->limits.body_bytes,
        .queue_bytes_max = spec->limits.body_bytes * QUEUE_BYTES_FACTOR,
        .rules = endpoint->residency.rules,
        .rule_count = endpoint->residency.count,
        .unknown_client = endpoint->residency.unknown_client,
        .elsewhere = slice_of(endpoint->elsewhere),
        .placements = endpoint->places,
        .placement_count = endpoint->place_count,
    };
    source_split(arena, endpoint, ret);
}

/* As control told them; this one, if it is one, by itself before it has, and where it was left
 * out. */
static const struct table_source_pop *source_pops(const struct pop *pop,
                                                  const struct message_start *start,
                                                  struct arena *arena, size_t *ret_count)
{
    struct table_source_pop *pops =
        ARENA_ARRAY(arena, struct table_source_pop, pop->peer_count + 1);
    size_t count = 0;
    if (!pop->no_replicas) {
        pops[count++] = (struct table_source_pop){ slice_of(start->pop), pop->place.region,
                                                   pop->place.country };
        pops[0].flags = TABLE_POP_UP; /* who asks it has reached it */
    }
    for (size_t i = 0; i < pop->peer_count; i++) {
        bool own = !pop->no_replicas && slice_is(pop->peers[i].name, start->pop);
        pops[own ? 0 : count++] = pop->peers[i];
        if (own)
            pops[0].flags |= TABLE_POP_UP;
    }
    *ret_count = count;
    return pops;
}

int pop_table_make(struct pop *pop, const struct message_start *start, uint64_t number,
                   struct arena *arena, struct slice *ret, struct err *err)
{
    const struct pop_endpoint *endpoint;
    size_t count = 0;
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link)
        count++;
    struct table_source_endpoint *endpoints =
        ARENA_ARRAY(arena, struct table_source_endpoint, count ? count : 1);
    count = 0;
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link)
        if (endpoint->wanted)
            source_endpoint(arena, endpoint, &endpoints[count++]);
    size_t pop_count;
    char country[3];
    const struct table_source_pop *pops = source_pops(pop, start, arena, &pop_count);
    country_code_of(pop->place.country, country); /* control's word, as soon as there is one */
    struct table_source source = {
        .number = number,
        .pops = pops,
        .pop_count = pop_count,
        .zone = slice_of(start->zone),
        .pop = slice_of(start->pop),
        .country = slice_of(country),
        .endpoints = endpoints,
        .endpoint_count = count,
    };
    return table_build(arena, &source, ret, err);
}

static void on_unserved(void *data)
{
    struct agent *agent = data;

    log_warn("pop", "the gateway does not say that it has the table, going on",
             LOG_U("number", agent->keep.table_number));
    agent_table_served(agent, agent->keep.table_number);
}

static void table_await(struct agent *agent)
{
    pop_table_shown(&agent->pop, agent->keep.table_number);
    if (!pop_table_awaited(&agent->pop))
        return;
    if (!agent->unserved)
        agent->unserved = timer_new(agent->loop, on_unserved, agent);
    if (!timer_running(agent->unserved))
        timer_start(agent->unserved, UNSERVED_MS_MAX);
}

void agent_table_served(struct agent *agent, uint64_t number)
{
    if (!pop_table_awaited(&agent->pop))
        return;
    pop_table_served(&agent->pop, number);
    if (pop_table_awaited(&agent->pop)) { /* of an older one: it does speak */
        timer_start(agent->unserved, UNSERVED_MS_MAX);
        return;
    }
    timer_stop(agent->unserved);
    agent_report_served(agent);
}

static void publish_in(struct agent *agent, int64_t ms);

static void table_publish(struct agent *agent)
{
    struct arena *arena = arena_new();
    struct err err = {};
    struct slice table;
    int fd = -1;
    if (pop_table_make(&agent->pop, &agent->start, agent->keep.table_number + 1, arena, &table,
                       &err) < 0) {
        log_error("pop", "table not published", LOG_S("error", err.message));
        arena_free(arena);
        return;
    }
    if (shm_publish("perigee-table", table.data, table.size, &fd, &err) < 0) {
        log_error("pop", "table not published, trying again", LOG_S("error", err.message));
        arena_free(arena);
        agent->table_dirty = true;
        publish_in(agent, PUBLISH_AGAIN_MS);
        return;
    }
    struct message_table message = MESSAGE_INIT(MESSAGE_TABLE_NEW);
    message.number = ++agent->keep.table_number;
    message.bytes = table.size;
    wire_send(&agent->supervisor, &message, sizeof message, fd);
    fd_close(&fd);
    table_await(agent);
    keep_table(&agent->keep, table);
    arena_free(arena);
}

/* ---- when ------------------------------------------------------------------------------------ */

void agent_publish_now(struct agent *agent)
{
    if (!agent->gone || !agent->pop.sure)
        return;
    if (agent->table_dirty) {
        agent->table_dirty = false;
        table_publish(agent);
    }
    if (agent->desired_dirty) {
        agent->desired_dirty = false;
        keep_desired(&agent->keep);
    }
    if (agent->pop.secrets_moved) {
        agent->pop.secrets_moved = false;
        keep_secrets(&agent->keep);
    }
}

static void on_publish(void *data)
{
    agent_publish_now(data);
}

static void publish_in(struct agent *agent, int64_t ms)
{
    if (!agent->publish_soon)
        agent->publish_soon = timer_new(agent->loop, on_publish, agent);
    if (!timer_running(agent->publish_soon))
        timer_start(agent->publish_soon, ms);
}

void agent_publish_soon(struct agent *agent)
{
    publish_in(agent, PUBLISH_SOON_MS);
}

void agent_publish_close(struct agent *agent)
{
    timer_free(agent->publish_soon);
    timer_free(agent->unserved);
}
