/* SPDX-License-Identifier: Apache-2.0 */
#include "control/hub.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/env.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "control/control_own.h"
#include "control/watch.h"
#include "io/loop.h"
#include "sys/env_linux.h"

enum {
    POP_SILENT_MS = 20'000,
    ADDRESSES_BYTES_MAX = 64 << 10,
    NUMBERS_A_MS = 1000, /* more changes than that in a millisecond there are not */
};

/* ---- snapshots ------------------------------------------------------------------------------ */

int snapshot_load(struct store *store, uint64_t uid, struct snapshot **ret, struct err *err)
{
    struct arena *arena = arena_new();
    struct snapshot *s = ARENA_NEW(arena, struct snapshot);
    yyjson_val *tree;
    s->arena = arena;
    int r = store->endpoint_get(store, uid, arena, &s->row, err);
    if (r == 0)
        r = store->revision_list(store, uid, arena, &s->revisions, &s->revision_count, err);
    if (r == 0)
        r = store->death_list(store, uid, arena, &s->deaths, &s->death_count, err);
    if (r == 0)
        r = json_parse(arena, s->row.spec, NULL, &tree, err);
    if (r == 0)
        r = endpoint_spec_parse(arena, tree, SPEC_KEEP_UNKNOWN, &s->spec, err);
    if (r < 0) {
        arena_free(arena);
        return r;
    }
    *ret = s;
    return 0;
}

void snapshot_free(struct snapshot *snapshot)
{
    if (snapshot)
        arena_free(snapshot->arena);
}

const struct store_revision *snapshot_revision(const struct snapshot *snapshot, uint64_t number)
{
    for (size_t i = 0; i < snapshot->revision_count; i++)
        if (snapshot->revisions[i].number == number)
            return &snapshot->revisions[i];
    return NULL;
}

/* ---- endpoints ------------------------------------------------------------------------------ */

static struct slice heap_copy(struct slice text)
{
    return (struct slice){ mem_string(text), text.size };
}

static struct slice key_of(struct slice project, struct slice name, char buffer[static 160])
{
    int size = snprintf(buffer, 160, "%.*s/%.*s", project.size < 64 ? (int)project.size : 64,
                        project.data, name.size < 64 ? (int)name.size : 64, name.data);
    return (struct slice){ buffer, (size_t)size };
}

struct hub_endpoint *hub_find(struct control *control, struct slice project, struct slice name)
{
    char buffer[160];
    return map_get(&control->hub.by_key, key_of(project, name, buffer));
}

struct hub_endpoint *hub_get(struct control *control, uint64_t uid)
{
    return map_get_u64(&control->hub.by_uid, uid);
}

static bool replace(struct slice *kept, struct slice text)
{
    if (slice_equal(*kept, text))
        return false;
    free((char *)kept->data);
    *kept = heap_copy(text);
    return true;
}

/* HOME/run/addresses.json says where endpoints answer; it is written once all listen. */
static bool read_gateway(struct control *control)
{
    struct arena *arena = arena_new();
    struct slice text;
    yyjson_val *root;
    bool changed = false;
    const char *path = arena_format(arena, "%s/run/addresses.json", control->start.home);
    if (disk_read(path, ADDRESSES_BYTES_MAX, arena, &text, NULL) == 0 &&
        json_parse(arena, text, NULL, &root, NULL) == 0) {
        struct address address;
        yyjson_val *first = yyjson_arr_get_first(json_member(root, "gateway"));
        struct slice words = json_slice(first);
        const char *old = control->hub.gateway;
        if (words.size && address_parse(words, &address, NULL) == 0 &&
            address.kind != ADDRESS_UNIX && (!old || !slice_is(words, old))) {
            free(control->hub.gateway);
            control->hub.gateway = mem_string(words);
            control->hub.gateway_loopback = address_loopback(&address);
            changed = true;
        }
    }
    arena_free(arena);
    return changed;
}

void hub_refresh(struct control *control, struct hub_endpoint *endpoint)
{
    struct arena *arena = arena_new();
    if (!control->hub.gateway) /* a view made now is to say where the endpoint answers */
        (void)read_gateway(control);
    if (replace(&endpoint->pop_view, view_pop_endpoint(arena, endpoint->snapshot)))
        watch_pop_endpoint(control, endpoint);
    if (replace(&endpoint->view,
                view_endpoint(control, arena, endpoint->snapshot, &endpoint->deploying))) {
        endpoint->changed = ++control->hub.changes;
        watch_endpoint(control, endpoint);
    }
    arena_free(arena);
}

void hub_put(struct control *control, struct snapshot *snapshot)
{
    struct hub *hub = &control->hub;
    struct hub_endpoint *endpoint = map_get_u64(&hub->by_uid, snapshot->row.uid);
    char buffer[160];
    if (!endpoint) {
        endpoint = mem_zalloc(sizeof *endpoint);
        endpoint->key = heap_copy(key_of(snapshot->row.project, snapshot->row.name, buffer));
        (void)map_put_u64(&hub->by_uid, snapshot->row.uid, endpoint);
        struct hub_endpoint *old = map_put(&hub->by_key, endpoint->key, endpoint);
        assert(!old);
        (void)old;
    }
    snapshot_free(endpoint->snapshot);
    endpoint->snapshot = snapshot;
    hub_refresh(control, endpoint);
    metric_set(control_count(control, CONTROL_ENDPOINTS, NULL), (int64_t)hub->by_uid.count);
}

static void endpoint_free(struct hub_endpoint *endpoint)
{
    snapshot_free(endpoint->snapshot);
    free((char *)endpoint->key.data);
    free((char *)endpoint->view.data);
    free((char *)endpoint->pop_view.data);
    free(endpoint);
}

void hub_remove(struct control *control, uint64_t uid)
{
    struct hub *hub = &control->hub;
    struct hub_endpoint *endpoint = map_remove_u64(&hub->by_uid, uid);
    if (!endpoint)
        return;
    (void)map_remove(&hub->by_key, endpoint->key);
    typeof(&hub->gone[0]) gone = &hub->gone[hub->gone_count++ % HUB_GONE_MAX];
    free((char *)gone->key.data);
    gone->key = heap_copy(endpoint->key);
    gone->uid = uid;
    gone->number = ++hub->changes;
    watch_endpoint_gone(control, endpoint, gone->number);
    endpoint_free(endpoint);
    metric_set(control_count(control, CONTROL_ENDPOINTS, NULL), (int64_t)hub->by_uid.count);
}

/* ---- PoPs ----------------------------------------------------------------------------------- */

struct hub_pop *hub_pop(struct control *control, struct slice name)
{
    struct hub_pop *pop = map_get(&control->hub.pops, name);
    if (!pop) {
        pop = mem_zalloc(sizeof *pop);
        pop->name = heap_copy(name);
        (void)map_put(&control->hub.pops, pop->name, pop);
    }
    return pop;
}

/* Endpoints that either of the two lists names. */
static void refresh_touched(struct control *control, const struct hub_replica *replicas,
                            size_t count, struct map *done)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t uid = replicas[i].endpoint_uid;
        struct hub_endpoint *endpoint = map_get_u64(&control->hub.by_uid, uid);
        if (endpoint && !map_get_u64(done, uid)) {
            (void)map_put_u64(done, uid, endpoint);
            hub_refresh(control, endpoint);
        }
    }
}

static void refresh_all(struct control *control)
{
    MAP_EACH (entry, &control->hub.by_uid)
        hub_refresh(control, entry->value);
}

void hub_pop_state(struct control *control, struct hub_pop *pop, struct arena *arena,
                   struct hub_replica *replicas, size_t count)
{
    struct map done = {};
    struct arena *old_arena = pop->arena;
    struct hub_replica *old = pop->replicas;
    size_t old_count = pop->replica_count;
    bool all = pop->silent || pop->reported_ms == 0; /* PoPs heard of are in every state */

    pop->arena = arena;
    pop->replicas = replicas;
    pop->replica_count = count;
    pop->reported_ms = loop_now_ms(control->loop);
    pop->reported_ns = control_wall_ns(control);
    pop->silent = pop->recalled = false;
    if (pop->reported_ms == 0)
        pop->reported_ms = 1;
    if (all) {
        refresh_all(control);
    } else {
        refresh_touched(control, old, old_count, &done);
        refresh_touched(control, replicas, count, &done);
    }
    map_deinit(&done);
    arena_free(old_arena);
}

bool hub_has_replicas(struct control *control, uint64_t uid)
{
    MAP_EACH (entry, &control->hub.pops) {
        const struct hub_pop *pop = entry->value;
        for (size_t i = 0; i < pop->replica_count; i++)
            if (pop->replicas[i].endpoint_uid == uid)
                return true;
    }
    return false;
}

/* ---- now and then --------------------------------------------------------------------------- */

void hub_tick(struct control *control)
{
    bool changed = read_gateway(control);
    int64_t now_ms = loop_now_ms(control->loop);
    MAP_EACH (entry, &control->hub.pops) {
        struct hub_pop *pop = entry->value;
        bool silent =
            pop->recalled || (pop->reported_ms && now_ms - pop->reported_ms > POP_SILENT_MS);
        if (silent && !pop->silent)
            log_warn("control", "a PoP fell silent", LOG_SLICE("pop", pop->name));
        changed = changed || silent != pop->silent;
        pop->silent = silent;
    }
    if (changed)
        refresh_all(control);
}

void hub_open(struct control *control)
{
    control->hub.changes = (uint64_t)(control_wall_ns(control) / ENV_MS) * NUMBERS_A_MS;
    (void)read_gateway(control);
}

void hub_close(struct control *control)
{
    struct hub *hub = &control->hub;
    MAP_EACH (entry, &hub->by_uid)
        endpoint_free(entry->value);
    MAP_EACH (entry, &hub->pops) {
        struct hub_pop *pop = entry->value;
        arena_free(pop->arena);
        free((char *)pop->name.data);
        free(pop->kept);
        free(pop);
    }
    for (size_t i = 0; i < HUB_GONE_MAX; i++)
        free((char *)hub->gone[i].key.data);
    map_deinit(&hub->by_uid);
    map_deinit(&hub->by_key);
    map_deinit(&hub->pops);
    free(hub->gateway);
}
