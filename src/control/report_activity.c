/* SPDX-License-Identifier: Apache-2.0 */
/* What endpoints are asked for at a PoP, as it reports it: member "activity". */
#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "base/map.h"
#include "control/report.h"

/* What is above these is no figure of a gateway. */
#define WINDOW_MS_MAX UINT64_C(3'600'000)
#define COUNT_MAX (UINT64_C(1) << 40)

/* In a window, or now. */
static uint64_t figure_of(yyjson_val *object, const char *key, uint64_t most)
{
    yyjson_val *value = json_member(object, key);
    uint64_t figure = yyjson_is_uint(value) ? yyjson_get_uint(value) : 0;
    return figure < most ? figure : most;
}

/* [[upper bound in us, count], ...], each bound taken to the one of ours at or above it. */
static void read_took(yyjson_val *took, struct hub_activity *row)
{
    const struct metric_buckets *buckets = &metric_buckets_latency;
    size_t index, count;
    yyjson_val *pair;
    yyjson_arr_foreach(took, index, count, pair)
    {
        yyjson_val *upper = yyjson_arr_get_first(pair), *many = yyjson_arr_get(pair, 1);
        if (index > METRIC_BUCKETS_MAX || !yyjson_is_uint(upper) || !yyjson_is_uint(many))
            continue;
        uint64_t number = yyjson_get_uint(many), bound_us = yyjson_get_uint(upper);
        size_t at = 0;
        while (at < buckets->count && buckets->upper[at] / 1000 < bound_us)
            at++;
        row->took[at] += number < COUNT_MAX ? number : COUNT_MAX;
    }
}

int report_activity_read(struct arena *arena, yyjson_val *root, struct report *ret, struct err *err)
{
    yyjson_val *activity = NULL, *item;
    size_t index, count;
    int r = json_get_array(root, "activity", JSON_OPTIONAL, &activity, err);
    if (r <= 0)
        return r;
    count = yyjson_arr_size(activity);
    if (count > REPORT_ACTIVITY_MAX)
        return err_set(err, ERR_TOO_LARGE, "'activity' has more than %d items",
                       (int)REPORT_ACTIVITY_MAX);
    struct map seen = {};
    ret->activity = ARENA_ARRAY(arena, struct hub_activity, count + 1);
    yyjson_arr_foreach(activity, index, count, item)
    {
        uint64_t uid = figure_of(item, "endpoint_uid", UINT64_MAX);
        uint64_t window_ms = figure_of(item, "window_ms", WINDOW_MS_MAX);
        if (window_ms == 0 || map_put_u64(&seen, uid, item)) /* the first word counts */
            continue;
        struct hub_activity *row = &ret->activity[ret->activity_count++];
        *row = (struct hub_activity){
            .endpoint_uid = uid,
            .window_ms = window_ms,
            .requests = figure_of(item, "requests", COUNT_MAX),
            .errors = figure_of(item, "errors", COUNT_MAX),
            .running = figure_of(item, "running", COUNT_MAX),
            .queued = figure_of(item, "queued", COUNT_MAX),
        };
        if (row->errors > row->requests)
            row->errors = row->requests;
        read_took(json_member(item, "took"), row);
    }
    map_deinit(&seen);
    return 0;
}
