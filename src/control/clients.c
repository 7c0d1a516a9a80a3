/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /endpoints/NAME/clients: how far its clients are, by their country and by the PoP that they
 * came to, as PoPs last reported. Each PoP counts since it was started.
 */
#include <math.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/json.h"
#include "control/control_own.h"
#include "control/routes.h"

struct sum {
    struct slice name;
    uint64_t requests, near, rtt_us;
};

static void sum_add(struct sum *sum, const struct hub_clients *row)
{
    sum->requests += row->requests;
    sum->near += row->near;
    sum->rtt_us += row->rtt_us;
}

static void write_sum(struct json_writer *w, const struct sum *sum)
{
    json_member_u64(w, "requests", sum->requests);
    json_key(w, "rtt_mean_ms");
    if (sum->requests)
        json_double(w, round((double)sum->rtt_us / (double)sum->requests) / 1000);
    else
        json_null(w);
    json_key(w, "under_50ms");
    if (sum->requests)
        json_double(w, (double)sum->near / (double)sum->requests);
    else
        json_null(w);
}

static int most_first(const void *a, const void *b)
{
    const struct sum *x = a, *y = b;
    if (x->requests != y->requests)
        return x->requests < y->requests ? 1 : -1;
    return slice_order(x->name, y->name);
}

static void write_sums(struct json_writer *w, const char *list, const char *key, struct map *sums)
{
    struct sum *sorted = ARENA_ARRAY(w->arena, struct sum, sums->count + 1);
    size_t count = 0;
    MAP_EACH (entry, sums)
        sorted[count++] = *(struct sum *)entry->value;
    qsort(sorted, count, sizeof *sorted, most_first);
    json_key(w, list);
    json_array_begin(w);
    for (size_t i = 0; i < count; i++) {
        json_object_begin(w);
        json_member_string(w, key, sorted[i].name);
        write_sum(w, &sorted[i]);
        json_object_end(w);
    }
    json_array_end(w);
    map_deinit(sums);
}

static struct sum *sum_of(struct arena *arena, struct map *sums, struct slice name)
{
    struct sum *sum = map_get(sums, name);
    if (!sum) {
        sum = ARENA_NEW(arena, struct sum);
        sum->name = name;
        (void)map_put(sums, name, sum);
    }
    return sum;
}

void endpoint_clients(struct request *q)
{
    const struct hub_endpoint *endpoint = request_endpoint(q);
    struct map countries = {}, pops = {};
    struct sum all = {};
    struct json_writer w;
    if (!endpoint)
        return;
    MAP_EACH (entry, &q->control->hub.pops) {
        const struct hub_pop *pop = entry->value;
        for (size_t i = 0; i < pop->client_count; i++) {
            const struct hub_clients *row = &pop->clients[i];
            if (row->endpoint_uid != endpoint->snapshot->row.uid || !row->requests)
                continue;
            sum_add(&all, row);
            sum_add(sum_of(q->arena, &pops, pop->name), row);
            sum_add(sum_of(q->arena, &countries, slice_of(row->country)), row);
        }
    }
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "endpoint", endpoint->snapshot->row.name);
    json_member_string(&w, "project", endpoint->snapshot->row.project);
    write_sum(&w, &all);
    write_sums(&w, "countries", "country", &countries);
    write_sums(&w, "pops", "pop", &pops);
    json_object_end(&w);
    request_reply(q, 200, json_end(&w));
}
