/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table goes to the supervisor first, and then to the disk; desired state likewise. What is on
 * disk is enough to serve after a cold boot without control (dataplane.md 8).
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "io/timer.h"
#include "pop/agent.h"
#include "sys/fd.h"
#include "sys/shm.h"

enum {
    PUBLISH_SOON_MS = 1,
    DESIRED_BYTES_MAX = 64 * 1024 * 1024,
    QUEUE_BYTES_FACTOR = 4, /* bytes that may wait an endpoint: so many of its largest bodies */
};

static const char *path_of(const struct agent *agent, char *buffer, size_t room, const char *name)
{
    snprintf(buffer, room, "%s/%s", agent->pop_folder, name);
    return buffer;
}

/* ---- the table ------------------------------------------------------------------------------- */

static const struct slice *slices(const struct spec_strings *strings)
{
    return strings->items;
}

static void source_revision(const struct pop_revision *revision, struct table_source_revision *ret)
{
    *ret = (struct table_source_revision){
        .uid = revision->uid,
        .number = revision->number,
        .runtime = slice_of(revision->runtime),
        .digest = slice_of(revision->digest),
        .model = { (const char *)revision->model, revision->model_bytes },
        .message = revision->failed ? slice_of(revision->message) : (struct slice){},
    };
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
            source_revision(revision, &revisions[count++]);

    *ret = (struct table_source_endpoint){
        .uid = endpoint->uid,
        .name = slice_of(endpoint->name),
        .project = slice_of(endpoint->project),
        .state = endpoint->running ? TABLE_ENDPOINT_RUNNING : TABLE_ENDPOINT_STOPPED,
        .metrics_slot = endpoint->metrics_slot,
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
        .concurrency = (uint32_t)spec->scale.concurrency,
        .queue_timeout_us = spec->queue.timeout_ns / 1000,
        .queue_cold_us = spec->queue.cold_ns / 1000,
        .timeout_us = spec->timeout_ns / 1000,
        .body_bytes_max = spec->limits.body_bytes,
        .queue_bytes_max = spec->limits.body_bytes * QUEUE_BYTES_FACTOR,
    };
}

static int table_make(struct agent *agent, struct arena *arena, struct slice *ret, struct err *err)
{
    const struct pop_endpoint *endpoint;
    size_t count = 0;
    LIST_EACH (endpoint, &agent->pop.endpoints, struct pop_endpoint, link)
        count++;
    struct table_source_endpoint *endpoints =
        ARENA_ARRAY(arena, struct table_source_endpoint, count ? count : 1);
    count = 0;
    LIST_EACH (endpoint, &agent->pop.endpoints, struct pop_endpoint, link)
        if (endpoint->wanted)
            source_endpoint(arena, endpoint, &endpoints[count++]);
    struct table_source source = {
        .number = agent->table_number + 1,
        .zone = slice_of(agent->start.zone),
        .pop = slice_of(agent->start.pop),
        .country = slice_of(agent->start.country),
        .endpoints = endpoints,
        .endpoint_count = count,
    };
    return table_build(arena, &source, ret, err);
}

static void table_to_disk(struct agent *agent, struct arena *arena, struct slice table)
{
    char path[sizeof agent->pop_folder + 32];
    struct err err = {};
    char *file = arena_alloc(arena, table.size + TABLE_MAC_BYTES);
    memcpy(file, table.data, table.size);
    if (table_mac(agent->table_key, table, (unsigned char *)file + table.size, &err) < 0 ||
        env_file_replace(agent->env, path_of(agent, path, sizeof path, "table"),
                         (struct slice){ file, table.size + TABLE_MAC_BYTES }, &err) < 0)
        log_error("pop", "table not on disk; a cold boot would begin with an older one",
                  LOG_S("error", err.message));
}

static void table_publish(struct agent *agent)
{
    struct arena *arena = arena_new();
    struct err err = {};
    struct slice table;
    int fd = -1;
    if (table_make(agent, arena, &table, &err) < 0 ||
        shm_publish("perigee-table", table.data, table.size, &fd, &err) < 0) {
        log_error("pop", "table not published", LOG_S("error", err.message));
        arena_free(arena);
        return;
    }
    struct message_table message = MESSAGE_INIT(MESSAGE_TABLE_NEW);
    message.number = ++agent->table_number;
    message.bytes = table.size;
    wire_send(&agent->supervisor, &message, sizeof message, fd);
    fd_close(&fd);
    table_to_disk(agent, arena, table);
    arena_free(arena);
}

/* ---- desired state --------------------------------------------------------------------------- */

static void desired_save(struct agent *agent)
{
    struct arena *arena = arena_new();
    struct json_writer w;
    struct err err = {};
    char path[sizeof agent->pop_folder + 32];
    const struct pop_endpoint *endpoint;
    json_begin(&w, arena, JSON_NEWLINE);
    json_object_begin(&w);
    json_member_u64(&w, "version", 1);
    json_key(&w, "endpoints");
    json_array_begin(&w);
    LIST_EACH (endpoint, &agent->pop.endpoints, struct pop_endpoint, link)
        if (endpoint->wanted)
            json_raw(&w, endpoint->json);
    json_array_end(&w);
    json_object_end(&w);
    if (env_file_replace(agent->env, path_of(agent, path, sizeof path, "desired.json"),
                         json_end(&w), &err) < 0)
        log_error("pop", "desired state not on disk", LOG_S("error", err.message));
    arena_free(arena);
}

static void desired_load(struct agent *agent, struct arena *arena)
{
    char path[sizeof agent->pop_folder + 32];
    struct err err = {};
    struct slice bytes;
    yyjson_val *root, *list, *item;
    size_t index, count;
    const struct json_limits limits = { .bytes_max = DESIRED_BYTES_MAX };
    int r = env_file_read(agent->env, path_of(agent, path, sizeof path, "desired.json"),
                          DESIRED_BYTES_MAX, arena, &bytes, &err);
    if (r == ERR_NOT_FOUND)
        return;
    if (r < 0 || json_parse(arena, bytes, &limits, &root, &err) < 0 ||
        json_get_array(root, "endpoints", JSON_REQUIRED, &list, &err) < 0) {
        log_error("pop", "desired state on disk cannot be read, waiting for control",
                  LOG_S("error", err.message));
        return;
    }
    yyjson_arr_foreach(list, index, count, item)
    {
        if (pop_endpoint_apply(&agent->pop, json_print(arena, item, 0), &err) < 0)
            log_error("pop", "an endpoint on disk cannot be read", LOG_S("error", err.message));
    }
    agent->pop.begun = true;
}

/* ---- what only the table remembers: serving revisions, metric slots, models' metadata -------- */

static void table_recall(struct agent *agent, const struct table_head *table)
{
    agent->table_number = table->number;
    for (uint32_t i = 0; i < table->endpoints.count; i++) {
        const struct table_endpoint *row = table_endpoint(table, i);
        struct pop_endpoint *endpoint = pop_endpoint_find(&agent->pop, row->uid);
        if (row->metrics_slot >= agent->pop.metrics_slot_next)
            agent->pop.metrics_slot_next = row->metrics_slot + 1;
        if (!endpoint)
            continue;
        endpoint->metrics_slot = row->metrics_slot;
        for (uint32_t k = 0; k < row->revision_count; k++) {
            const struct table_revision *was = table_revision(table, row->revision_first + k);
            struct pop_revision *revision = pop_revision_find(&agent->pop, was->uid);
            const struct perigee_model *model = table_model(table, was);
            if (revision && row->serving == row->revision_first + k)
                endpoint->serving = revision->number;
            if (!revision || !model || revision->model)
                continue;
            revision->model = mem_alloc(was->model.bytes);
            memcpy(revision->model, model, was->model.bytes);
            revision->model_bytes = was->model.bytes;
        }
    }
}

static void key_load(struct agent *agent, struct arena *arena)
{
    char path[sizeof agent->pop_folder + 32];
    struct err err = {};
    struct slice key;
    path_of(agent, path, sizeof path, "table.key");
    if (env_file_read(agent->env, path, 4096, arena, &key, &err) == 0 &&
        key.size == TABLE_KEY_BYTES) {
        memcpy(agent->table_key, key.data, TABLE_KEY_BYTES);
        return;
    }
    env_random(agent->env, agent->table_key, TABLE_KEY_BYTES);
    key = (struct slice){ (const char *)agent->table_key, TABLE_KEY_BYTES };
    if (env_file_replace(agent->env, path, key, &err) < 0)
        log_error("pop", "key of the table not on disk", LOG_S("error", err.message));
}

void agent_disk_load(struct agent *agent)
{
    struct arena *arena = arena_new();
    struct err err = {};
    struct slice file, table;
    char path[sizeof agent->pop_folder + 32];
    snprintf(agent->pop_folder, sizeof agent->pop_folder, "%s/pop", agent->start.home);
    (void)mkdir(agent->pop_folder, 0700); /* what it cannot hold says so when it is written */
    key_load(agent, arena);
    desired_load(agent, arena);

    int r = env_file_read(agent->env, path_of(agent, path, sizeof path, "table"), TABLE_BYTES_MAX,
                          arena, &file, &err);
    if (r == 0)
        r = table_open_file(agent->table_key, file, &table, &err);
    if (r == 0)
        table_recall(agent, (const struct table_head *)(const void *)table.data);
    else if (r != ERR_NOT_FOUND)
        log_warn("pop", "table on disk cannot be used, ignoring", LOG_S("error", err.message));
    arena_free(arena);
}

/* ---- when ------------------------------------------------------------------------------------ */

void agent_publish_now(struct agent *agent)
{
    if (!agent->gone || !agent->pop.begun)
        return;
    if (agent->table_dirty) {
        agent->table_dirty = false;
        table_publish(agent);
    }
    if (agent->desired_dirty) {
        agent->desired_dirty = false;
        desired_save(agent);
        agent_models_collect(agent);
    }
}

static void on_publish(void *data)
{
    agent_publish_now(data);
}

void agent_publish_soon(struct agent *agent)
{
    if (!agent->publish_soon)
        agent->publish_soon = timer_new(agent->loop, on_publish, agent);
    if (!timer_running(agent->publish_soon))
        timer_start(agent->publish_soon, PUBLISH_SOON_MS);
}
