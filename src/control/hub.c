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
#include "control/granted.h"
#include "control/hub_own.h"
#include "control/keys.h"
#include "control/placement.h"
#include "control/schedule.h"
#include "control/secrets.h"
#include "control/watch.h"
#include "io/loop.h"
#include "io/timer.h"
#include "sys/env_linux.h"

enum {
    POP_SILENT_MS = 20'000,
    CALM_MS = 15'000, /* after a start, for PoPs to come back */
    DEAF_MS = 8'000,  /* each reports every 5 s */
    ADDRESSES_BYTES_MAX = 64 << 10,
    REFRESH_SOON_MS = 5, /* changes of one moment go together */
    NUMBERS_A_MS = 1000, /* more changes than that in a millisecond there are not */
};
#define REFRESH_TURN_NS (2 * ENV_MS) /* of the loop's time in one turn */

/* ---- endpoints ------------------------------------------------------------------------------ */

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
    *kept = hub_copy(text);
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
    list_remove(&endpoint->stale);
    placement_update(control, endpoint);
    if (replace(&endpoint->pop_view, view_pop_endpoint(arena, endpoint))) {
        secrets_moved(control, endpoint);
        endpoint->pop_changed = ++control->hub.changes;
        watch_pop_endpoint(control, endpoint);
    }
    if (replace(&endpoint->view, view_endpoint(control, arena, endpoint, &endpoint->deploying))) {
        endpoint->changed = ++control->hub.changes;
        watch_endpoint(control, endpoint);
    }
    arena_free(arena);
}

static void recall(struct control *control, struct hub_endpoint *endpoint)
{
    const struct hub *hub = &control->hub;
    uint64_t uid = endpoint->snapshot->row.uid;
    size_t from = 0, end;
    while (from < hub->recalled_count && hub->recalled[from].endpoint_uid < uid)
        from++;
    for (end = from; end < hub->recalled_count && hub->recalled[end].endpoint_uid == uid;)
        end++;
    placement_recall(control, endpoint, hub->recalled + from, end - from);
}

void hub_put(struct control *control, struct snapshot *snapshot)
{
    struct hub *hub = &control->hub;
    struct hub_endpoint *endpoint = map_get_u64(&hub->by_uid, snapshot->row.uid);
    char buffer[160];
    if (!endpoint) {
        endpoint = mem_zalloc(sizeof *endpoint);
        list_init(&endpoint->stale);
        list_init(&endpoint->naming);
        endpoint->key = hub_copy(key_of(snapshot->row.project, snapshot->row.name, buffer));
        (void)map_put_u64(&hub->by_uid, snapshot->row.uid, endpoint);
        struct hub_endpoint *old = map_put(&hub->by_key, endpoint->key, endpoint);
        assert(!old);
        (void)old;
    }
    snapshot_free(endpoint->snapshot);
    placement_forget(endpoint);
    schedule_forget(endpoint);
    endpoint->snapshot = snapshot;
    secrets_put(control, endpoint);
    if (hub->recalled_count)
        recall(control, endpoint);
    hub_refresh(control, endpoint);
    metric_set(control_count(control, CONTROL_ENDPOINTS, NULL), (int64_t)hub->by_uid.count);
}

static void endpoint_free(struct hub_endpoint *endpoint)
{
    list_remove(&endpoint->stale);
    list_remove(&endpoint->naming);
    placement_drop(endpoint);
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
    struct hub_gone *gone = &hub->gone[hub->gone_count++ % HUB_GONE_MAX];
    free((char *)gone->key.data);
    gone->key = hub_copy(endpoint->key);
    gone->uid = uid;
    gone->number = ++hub->changes;
    watch_endpoint_gone(control, endpoint, gone->number);
    watch_pop_gone(control, uid, gone->number);
    secrets_gone(control, endpoint);
    endpoint_free(endpoint);
    metric_set(control_count(control, CONTROL_ENDPOINTS, NULL), (int64_t)hub->by_uid.count);
}

/* How many are not kept any more. */
static uint64_t gone_first(const struct hub *hub)
{
    return hub->gone_count > HUB_GONE_MAX ? hub->gone_count - HUB_GONE_MAX : 0;
}

uint64_t hub_gone_known(const struct hub *hub)
{
    uint64_t first = gone_first(hub);
    return first ? hub->gone[first % HUB_GONE_MAX].number : 0;
}

const struct hub_gone *hub_gone_after(const struct hub *hub, uint64_t number)
{
    uint64_t low = gone_first(hub), high = hub->gone_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (hub->gone[middle % HUB_GONE_MAX].number > number)
            high = middle;
        else
            low = middle + 1;
    }
    return low < hub->gone_count ? &hub->gone[low % HUB_GONE_MAX] : NULL;
}

/* ---- what is made anew, and when ------------------------------------------------------------- */

/* True when its state is another than when somebody last looked. */
static bool look(struct control *control, struct hub_pop *pop)
{
    enum hub_pop_state state = hub_pop_state_of(pop);
    if (state == pop->seen && pop->state_ns)
        return false;
    pop->seen = state;
    pop->state_ns = control_wall_ns(control);
    return true;
}

static void refresh_peers(struct control *control)
{
    if (!control->hub.peers_stale)
        return;
    struct arena *arena = arena_new();
    control->hub.peers_stale = false;
    for (size_t i = 0; i < control->hub.sorted_count; i++)
        (void)look(control, control->hub.sorted[i]);
    if (replace(&control->hub.peers, view_peers(control, arena))) {
        control->hub.peers_changed = ++control->hub.changes;
        watch_pop_peers(control);
    }
    keys_look(control);
    arena_free(arena);
}

/* PoPs before the endpoints that may name them. A thousand endpoints on hundreds of PoPs take a
 * tenth of a second: nobody waits for that but those who wait for the endpoints. */
void hub_refresh_now(struct control *control)
{
    struct hub_endpoint *endpoint;
    int64_t until_ns = loop_now_ns() + REFRESH_TURN_NS;
    refresh_peers(control);
    while ((endpoint = LIST_FIRST(&control->hub.stale, struct hub_endpoint, stale))) {
        hub_refresh(control, endpoint);
        if (loop_now_ns() >= until_ns)
            break;
    }
}

static void on_refresh(void *data)
{
    struct control *control = data;
    hub_refresh_now(control);
    if (!list_empty(&control->hub.stale))
        timer_start(control->hub.refresh, 0);
}

static void refresh_later(struct control *control)
{
    if (!control->hub.refresh)
        control->hub.refresh = timer_new(control->loop, on_refresh, control);
    if (!timer_running(control->hub.refresh))
        timer_start(control->hub.refresh, REFRESH_SOON_MS);
}

void hub_refresh_soon(struct control *control, struct hub_endpoint *endpoint)
{
    if (!list_empty(&endpoint->stale))
        return;
    list_append(&control->hub.stale, &endpoint->stale);
    refresh_later(control);
}

void hub_peers_later(struct control *control)
{
    control->hub.peers_stale = true;
    refresh_later(control);
}

void hub_refresh_all(struct control *control)
{
    hub_peers_later(control);
    MAP_EACH (entry, &control->hub.by_uid)
        hub_refresh_soon(control, entry->value);
}

/* ---- now and then --------------------------------------------------------------------------- */

/* All that report have not for longer than each takes between two: either all are gone, or control
 * was cut off, or stood still. Of one PoP alone nobody can tell. */
static bool hears_nobody(const struct control *control, int64_t now_ms)
{
    int64_t newest_ms = 0;
    size_t count = 0;
    MAP_EACH (entry, &control->hub.pops) {
        const struct hub_pop *pop = entry->value;
        count += pop->reported_ms != 0 && !pop->silent;
        if (pop->reported_ms > newest_ms && !pop->recalled)
            newest_ms = pop->reported_ms;
    }
    return (count > 1 || control->hub.deaf) && newest_ms && now_ms - newest_ms > DEAF_MS;
}

void hub_tick(struct control *control)
{
    bool changed = read_gateway(control);
    int64_t now_ms = loop_now_ms(control->loop);
    bool deaf = hears_nobody(control, now_ms);
    if (deaf && !control->hub.deaf)
        log_warn("control", "no PoP is heard, leaving everything where it is");
    control->hub.deaf = deaf;
    if (deaf) /* when they return they need a moment, as after a start */
        control->hub.calm_ms = now_ms + CALM_MS;
    MAP_EACH (entry, &control->hub.pops) {
        struct hub_pop *pop = entry->value;
        bool silent =
            pop->recalled || (pop->reported_ms && now_ms - pop->reported_ms > POP_SILENT_MS);
        if (silent && !pop->silent)
            log_warn("control", "a PoP fell silent", LOG_SLICE("pop", pop->name));
        pop->unheard = pop->unheard || (silent && !pop->silent && deaf);
        pop->silent = silent;
        granted_tick(control, pop);
        if (!deaf)
            demand_tick(control, &pop->demand);
        changed = look(control, pop) || changed; /* a watch may have ended as well */
    }
    if (control->hub.calm_ms && now_ms >= control->hub.calm_ms) {
        control->hub.calm_ms = 0;
        changed = true;
    }
    if (changed)
        hub_refresh_all(control);
    MAP_EACH (entry, &control->hub.by_uid)
        if (placement_due(control, entry->value))
            hub_refresh_soon(control, entry->value);
}

void hub_open(struct control *control)
{
    list_init(&control->hub.stale);
    control->hub.epoch = env_random_u64(control->env) | 1;
    list_init(&control->hub.naming);
    control->hub.changes = (uint64_t)(control_wall_ns(control) / ENV_MS) * NUMBERS_A_MS;
    control->hub.calm_ms = loop_now_ms(control->loop) + CALM_MS;
    (void)read_gateway(control);
}

void hub_close(struct control *control)
{
    struct hub *hub = &control->hub;
    timer_free(hub->refresh);
    MAP_EACH (entry, &hub->by_uid)
        endpoint_free(entry->value);
    MAP_EACH (entry, &hub->pops) {
        struct hub_pop *pop = entry->value;
        arena_free(pop->arena);
        arena_free(pop->row_arena);
        free((char *)pop->name.data);
        map_deinit(&pop->lately);
        map_deinit(&pop->refusals);
        map_deinit(&pop->readied);
        demand_free(&pop->demand);
        secrets_told_deinit(&pop->secrets);
        free(pop->kept);
        free(pop);
    }
    for (size_t i = 0; i < HUB_GONE_MAX; i++)
        free((char *)hub->gone[i].key.data);
    map_deinit(&hub->by_uid);
    map_deinit(&hub->by_key);
    map_deinit(&hub->pops);
    free((void *)hub->sorted);
    free(hub->gateway);
    free((char *)hub->peers.data);
}
