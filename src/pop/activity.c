/* SPDX-License-Identifier: Apache-2.0 */
#include "pop/activity.h"

#include "base/arena.h"
#include "base/json.h"
#include "base/map.h"
#include "contract/gateway_metrics.h"
#include "pop/agent.h"

#define WINDOW_NS (5 * ENV_S)

static void counted_free(struct activity_counted *counted)
{
    arena_free(counted->arena);
    *counted = (struct activity_counted){};
}

void activity_deinit(struct activity *activity)
{
    counted_free(&activity->before);
    counted_free(&activity->between);
}

static struct activity_counted count_now(struct agent *agent)
{
    struct activity_counted now = { .arena = arena_new(), .at_ns = env_now_ns(agent->env) };
    if (agent->metrics)
        now.count =
            gateway_metrics_activity(now.arena, agent->metrics, agent->metrics_bytes, &now.rows);
    return now;
}

/* The oldest is given up once the one between is old enough to follow it. */
static void keep(struct activity *activity, struct activity_counted *now)
{
    if (!activity->before.arena) {
        activity->before = *now;
    } else if (!activity->between.arena) {
        activity->between = *now;
    } else if (now->at_ns - activity->between.at_ns >= WINDOW_NS) {
        counted_free(&activity->before);
        activity->before = activity->between;
        activity->between = *now;
    } else {
        counted_free(now);
    }
}

/* What fell was counted anew. */
static uint64_t grown(uint64_t before, uint64_t now)
{
    return now >= before ? now - before : now;
}

static uint64_t present(int64_t gauge)
{
    return gauge > 0 ? (uint64_t)gauge : 0;
}

static struct slice key_of(struct arena *arena, struct slice project, struct slice endpoint)
{
    return slice_of(arena_format(arena, "%.*s/%.*s", SLICE_FMT(project), SLICE_FMT(endpoint)));
}

static void write_took(struct json_writer *w, const struct gateway_activity *before,
                       const struct gateway_activity *now)
{
    const struct metric_buckets *buckets = &metric_buckets_latency;
    json_key(w, "took");
    json_array_begin(w);
    for (size_t i = 0; i <= buckets->count; i++) {
        uint64_t count = grown(before->took[i], now->took[i]);
        /* Above the last bound: told as twice as long. */
        uint64_t upper_ns = i < buckets->count ? buckets->upper[i] : 2 * buckets->upper[i - 1];
        if (!count)
            continue;
        json_array_begin(w);
        json_u64(w, upper_ns / 1000);
        json_u64(w, count);
        json_array_end(w);
    }
    json_array_end(w);
}

static void write_row(struct json_writer *w, const struct pop_endpoint *endpoint, int64_t window_ns,
                      const struct gateway_activity *before, const struct gateway_activity *now)
{
    uint64_t requests = grown(before->requests, now->requests);
    if (!requests && now->running <= 0 && now->queued <= 0)
        return;
    json_object_begin(w);
    json_member_u64(w, "endpoint_uid", endpoint->uid);
    json_member_u64(w, "window_ms", (uint64_t)(window_ns / ENV_MS));
    json_member_u64(w, "requests", requests);
    json_member_u64(w, "errors", grown(before->errors, now->errors));
    json_member_u64(w, "running", present(now->running));
    json_member_u64(w, "queued", present(now->queued));
    write_took(w, before, now);
    json_object_end(w);
}

static void write_rows(struct json_writer *w, const struct agent *agent,
                       const struct activity_counted *before, const struct activity_counted *now)
{
    static const struct gateway_activity nothing = {};
    struct pop_endpoint *endpoint;
    struct map endpoints = {}, earlier = {};
    LIST_EACH (endpoint, &agent->pop.endpoints, struct pop_endpoint, link)
        (void)map_put(&endpoints,
                      key_of(w->arena, slice_of(endpoint->project), slice_of(endpoint->name)),
                      endpoint);
    for (size_t i = 0; i < before->count; i++)
        (void)map_put(&earlier, key_of(w->arena, before->rows[i].project, before->rows[i].endpoint),
                      &before->rows[i]);
    for (size_t i = 0; i < now->count; i++) {
        struct slice key = key_of(w->arena, now->rows[i].project, now->rows[i].endpoint);
        const struct gateway_activity *row = map_get(&earlier, key);
        endpoint = map_get(&endpoints, key);
        if (endpoint)
            write_row(w, endpoint, now->at_ns - before->at_ns, row ? row : &nothing, &now->rows[i]);
    }
    map_deinit(&endpoints);
    map_deinit(&earlier);
}

void report_activity(struct json_writer *w, struct agent *agent)
{
    struct activity *activity = &agent->activity;
    struct activity_counted now = count_now(agent);
    json_key(w, "activity");
    json_array_begin(w);
    if (activity->before.arena && now.at_ns > activity->before.at_ns)
        write_rows(w, agent, &activity->before, &now);
    json_array_end(w);
    keep(activity, &now);
}
