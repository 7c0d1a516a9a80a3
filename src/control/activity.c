/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /activity: what endpoints are asked for, how many replicas they have, and how long answers
 * take, over all PoPs and at each, as they last reported: of some 5 to 10 s. What `perigee top`
 * shows.
 */
#include <math.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "control/control_own.h"
#include "control/request.h"
#include "control/routes.h"

enum { ITEMS_MAX = 1000, ITEMS_DEFAULT = 100 };

struct activity_sums {
    uint64_t ready, replicas, running, queued;
    double rate, errors; /* a second */
    uint64_t took[METRIC_BUCKETS_MAX + 1];
};

struct at_pop {
    struct at_pop *next;
    const struct hub_pop *pop;
    struct activity_sums figures;
};

struct row {
    const struct hub_endpoint *endpoint;
    struct activity_sums all;
    struct at_pop *pops; /* by falling names, as they were added */
};

/* ---- summing --------------------------------------------------------------------------------- */

/* PoPs come one after the other: the one that is asked for is the first, or not there yet. */
static struct activity_sums *figures_at(struct arena *arena, struct row *row,
                                        const struct hub_pop *pop)
{
    if (!row->pops || row->pops->pop != pop) {
        struct at_pop *at = ARENA_NEW(arena, struct at_pop);
        at->pop = pop;
        at->next = row->pops;
        row->pops = at;
    }
    return &row->pops->figures;
}

static void add_replica(struct activity_sums *figures, const struct hub_replica *replica)
{
    figures->replicas++;
    figures->ready += slice_is(replica->state, "ready");
}

static void add_activity(struct activity_sums *figures, const struct hub_activity *activity)
{
    double seconds = (double)activity->window_ms / 1000;
    figures->running += activity->running;
    figures->queued += activity->queued;
    figures->rate += (double)activity->requests / seconds;
    figures->errors += (double)activity->errors / seconds;
    for (size_t i = 0; i <= metric_buckets_latency.count; i++)
        figures->took[i] += activity->took[i];
}

static void add_pop(struct arena *arena, const struct map *rows, const struct hub_pop *pop)
{
    for (size_t i = 0; i < pop->replica_count; i++) {
        struct row *row = map_get_u64(rows, pop->replicas[i].endpoint_uid);
        if (!row || slice_is(pop->replicas[i].state, "gone"))
            continue;
        add_replica(&row->all, &pop->replicas[i]);
        add_replica(figures_at(arena, row, pop), &pop->replicas[i]);
    }
    for (size_t i = 0; i < pop->activity_count; i++) {
        struct row *row = map_get_u64(rows, pop->activity[i].endpoint_uid);
        if (!row)
            continue;
        add_activity(&row->all, &pop->activity[i]);
        add_activity(figures_at(arena, row, pop), &pop->activity[i]);
    }
}

/* Within its bucket as if all were spread evenly; the last one has no end, and says its begin. */
static double quantile_ms(const struct activity_sums *figures, double share)
{
    const struct metric_buckets *buckets = &metric_buckets_latency;
    uint64_t all = 0, before = 0;
    for (size_t i = 0; i <= buckets->count; i++)
        all += figures->took[i];
    if (all == 0)
        return NAN;
    double rank = share * (double)all;
    for (size_t i = 0; i < buckets->count; i++) {
        uint64_t here = figures->took[i];
        double lower = i > 0 ? (double)buckets->upper[i - 1] : 0;
        if (here && (double)(before + here) >= rank)
            return (lower +
                    ((double)buckets->upper[i] - lower) * (rank - (double)before) / (double)here) /
                   1e6;
        before += here;
    }
    return (double)buckets->upper[buckets->count - 1] / 1e6;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void member_figure(struct json_writer *w, const char *key, double value)
{
    json_member_double(w, key, round(value * 1000) / 1000);
}

static void write_figures(struct json_writer *w, const struct activity_sums *figures)
{
    json_member_u64(w, "ready", figures->ready);
    json_member_u64(w, "replicas", figures->replicas);
    member_figure(w, "rate", figures->rate);
    member_figure(w, "error_rate", figures->errors);
    json_member_u64(w, "running", figures->running);
    json_member_u64(w, "queued", figures->queued);
    member_figure(w, "p50_ms", quantile_ms(figures, 0.5));
    member_figure(w, "p99_ms", quantile_ms(figures, 0.99));
}

static void write_row(struct control *control, struct json_writer *w, const struct row *row)
{
    const struct store_endpoint *endpoint = &row->endpoint->snapshot->row;
    json_object_begin(w);
    json_member_string(w, "endpoint", endpoint->name);
    json_member_string(w, "project", endpoint->project);
    json_member_text(w, "state", view_state(control, row->endpoint));
    json_member_u64(w, "revision", endpoint->serving ? endpoint->serving : endpoint->target);
    write_figures(w, &row->all);
    json_key(w, "pops");
    json_array_begin(w);
    for (const struct at_pop *at = row->pops; at; at = at->next) {
        json_object_begin(w);
        json_member_string(w, "pop", at->pop->name);
        write_figures(w, &at->figures);
        json_object_end(w);
    }
    json_array_end(w);
    json_object_end(w);
}

/* Those with the most to do first. */
static int busiest(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    if (x->all.rate != y->all.rate)
        return x->all.rate < y->all.rate ? 1 : -1;
    uint64_t left = x->all.running + x->all.queued, right = y->all.running + y->all.queued;
    if (left != right)
        return left < right ? 1 : -1;
    int order = slice_order(x->endpoint->snapshot->row.name, y->endpoint->snapshot->row.name);
    return order ? order
                 : slice_order(x->endpoint->snapshot->row.project,
                               y->endpoint->snapshot->row.project);
}

static struct row *rows_of(struct request *q, size_t *ret_count)
{
    struct hub *hub = &q->control->hub;
    struct row *rows = ARENA_ARRAY(q->arena, struct row, hub->by_uid.count + 1);
    struct map by_uid = {};
    size_t count = 0;
    MAP_EACH (entry, &hub->by_uid) {
        const struct hub_endpoint *endpoint = entry->value;
        if (!slice_equal(endpoint->snapshot->row.project, q->project))
            continue;
        rows[count].endpoint = endpoint;
        (void)map_put_u64(&by_uid, endpoint->snapshot->row.uid, &rows[count++]);
    }
    for (size_t i = hub->sorted_count; i > 0; i--)
        if (!hub->sorted[i - 1]->silent)
            add_pop(q->arena, &by_uid, hub->sorted[i - 1]);
    map_deinit(&by_uid);
    qsort(rows, count, sizeof *rows, busiest);
    *ret_count = count;
    return rows;
}

void activity_list(struct request *q)
{
    struct json_writer w;
    struct err err;
    size_t count;
    uint64_t limit = ITEMS_DEFAULT;
    if (request_limit(q, ITEMS_MAX, &limit, &err) < 0) {
        request_fail(q, &err);
        return;
    }
    const struct row *rows = rows_of(q, &count);
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    view_member_time(&w, "at", control_wall_ns(q->control));
    json_member_u64(&w, "endpoints", count);
    json_key(&w, "items");
    json_array_begin(&w);
    for (size_t i = 0; i < count && i < limit; i++)
        write_row(q->control, &w, &rows[i]);
    json_array_end(&w);
    json_object_end(&w);
    request_reply(q, 200, json_end(&w));
}
