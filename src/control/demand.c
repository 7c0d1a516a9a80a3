/* SPDX-License-Identifier: Apache-2.0 */
#include "control/demand.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "control/control_own.h"
#include "control/report.h"
#include "io/loop.h"

enum { WINDOW_MS_MIN = 1000, WINDOW_MS_MAX = 3'600'000 };

static int order(uint64_t uid, asked_cell cell, const struct demand_row *row)
{
    if (uid != row->uid)
        return uid < row->uid ? -1 : 1;
    return (cell > row->cell) - (cell < row->cell);
}

/* ---- taking ---------------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
    const struct demand_row *x = a;
    return order(x->uid, x->cell, b);
}

static int by_rate(const void *a, const void *b)
{
    const struct demand_row *x = a, *y = b;
    if (x->rate != y->rate)
        return x->rate < y->rate ? 1 : -1;
    return by_place(a, b);
}

/* What it says, each endpoint and place once. */
static size_t said(struct control *control, const struct report *report, float window_s,
                   struct demand_row *ret)
{
    size_t count = 0, kept = 0;
    for (size_t i = 0; i < report->asked_count; i++) {
        const struct report_asked *asked = &report->asked[i];
        if (asked->requests && hub_get(control, asked->uid))
            ret[count++] = (struct demand_row){ .uid = asked->uid,
                                                .cell = asked->cell,
                                                .rate = (float)asked->requests / window_s };
    }
    qsort(ret, count, sizeof *ret, by_place);
    for (size_t i = 0; i < count; i++) {
        if (kept && by_place(&ret[kept - 1], &ret[i]) == 0)
            ret[kept - 1].rate += ret[i].rate;
        else
            ret[kept++] = ret[i];
    }
    return kept;
}

/* Both are sorted. What is not said any more fades. */
static size_t merge(const struct demand *old, const struct demand_row *rows, size_t count,
                    float weight, struct demand_row *ret)
{
    size_t from = 0, made = 0;
    for (size_t i = 0; i < old->count || from < count;) {
        int which = i == old->count ? 1 : from == count ? -1 : by_place(&old->rows[i], &rows[from]);
        struct demand_row row = which <= 0 ? old->rows[i++] : rows[from];
        float rate = which >= 0 ? rows[from++].rate : 0;
        float before = which <= 0 ? row.rate : 0;
        row.rate = before + (rate - before) * weight;
        ret[made++] = row;
    }
    return made;
}

/* Above what a PoP can get all is made less alike; what is least goes. */
static size_t bound(struct demand_row *rows, size_t count)
{
    float sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += rows[i].rate;
    if (count > DEMAND_ROWS_MAX) {
        qsort(rows, count, sizeof *rows, by_rate);
        count = DEMAND_ROWS_MAX;
        qsort(rows, count, sizeof *rows, by_place);
    }
    for (size_t i = 0; i < count && sum > DEMAND_POP_RATE_MAX; i++)
        rows[i].rate *= DEMAND_POP_RATE_MAX / sum;
    return count;
}

static bool moved(const struct demand_row *row)
{
    return fabsf(row->rate - row->decided) > 0.1f * row->decided + 0.002f;
}

/* Marks endpoints that are asked for otherwise, and leaves out what has faded. */
static size_t look(struct control *control, struct demand_row *rows, size_t count)
{
    struct hub_endpoint *endpoint = NULL;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || rows[i].uid != rows[i - 1].uid)
            endpoint = hub_get(control, rows[i].uid);
        if (endpoint && moved(&rows[i]))
            endpoint->demand_moved = true;
        if (endpoint && (rows[i].rate >= DEMAND_RATE_MIN || rows[i].decided > DEMAND_RATE_MIN))
            rows[kept++] = rows[i];
    }
    return kept;
}

void demand_take(struct control *control, struct hub_pop *pop, const struct report *report)
{
    if (report->asked_ms < WINDOW_MS_MIN)
        return;
    struct demand *demand = &pop->demand;
    float window_ms = report->asked_ms < WINDOW_MS_MAX ? (float)report->asked_ms : WINDOW_MS_MAX;
    float weight = 1 - expf(-window_ms / 1000 / DEMAND_DAMPED_S);
    struct arena *arena = arena_new();
    struct demand_row *rows = ARENA_ARRAY(arena, struct demand_row, report->asked_count + 1);
    size_t count = said(control, report, window_ms / 1000, rows);
    struct demand_row *all = ARENA_ARRAY(arena, struct demand_row, demand->count + count + 1);
    count = merge(demand, rows, count, weight, all);
    count = bound(all, count);
    count = look(control, all, count);
    free(demand->rows);
    demand->rows = mem_alloc((count + 1) * sizeof *all);
    memcpy(demand->rows, all, count * sizeof *all);
    demand->count = count;
    demand->at_ms = loop_now_ms(control->loop);
    arena_free(arena);
}

void demand_free(struct demand *demand)
{
    free(demand->rows);
    *demand = (struct demand){};
}

/* ---- telling --------------------------------------------------------------------------------- */

static size_t first_of(const struct demand *demand, uint64_t uid)
{
    size_t from = 0, end = demand->count;
    while (from < end) {
        size_t half = from + (end - from) / 2;
        if (order(uid, 0, &demand->rows[half]) > 0)
            from = half + 1;
        else
            end = half;
    }
    return from;
}

/* One that says nothing any more (it fell silent) fades as well. */
static float fading(const struct control *control, const struct demand *demand)
{
    int64_t age_ms = loop_now_ms(control->loop) - demand->at_ms - DEMAND_STALE_MS;
    return age_ms > 0 ? expf(-(float)age_ms / 1000 / DEMAND_DAMPED_S) : 1;
}

struct found {
    asked_cell cell;
    size_t pop; /* of those whose place is not known: to which they came */
    float rate;
};

static int found_by_cell(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    if (x->cell != y->cell)
        return x->cell < y->cell ? -1 : 1;
    return (x->pop > y->pop) - (x->pop < y->pop);
}

static int found_by_rate(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    if (x->rate != y->rate)
        return x->rate < y->rate ? 1 : -1;
    return found_by_cell(a, b);
}

static struct found *collect(struct control *control, struct arena *arena, uint64_t uid,
                             bool decide, size_t *ret_count)
{
    struct hub *hub = &control->hub;
    size_t room = 1, count = 0, kept = 0;
    double unused;
    for (size_t i = 0; i < hub->sorted_count; i++) {
        const struct demand *demand = &hub->sorted[i]->demand;
        for (size_t k = first_of(demand, uid); k < demand->count && demand->rows[k].uid == uid; k++)
            room++;
    }
    struct found *all = ARENA_ARRAY(arena, struct found, room);
    for (size_t i = 0; i < hub->sorted_count; i++) {
        struct demand *demand = &hub->sorted[i]->demand;
        float part = fading(control, demand);
        for (size_t k = first_of(demand, uid); k < demand->count && demand->rows[k].uid == uid;
             k++) {
            struct demand_row *row = &demand->rows[k];
            if (decide)
                row->decided = row->rate;
            bool located = asked_spot(row->cell, &unused, &unused);
            all[count++] = (struct found){ row->cell, located ? SIZE_MAX : i, row->rate * part };
        }
    }
    qsort(all, count, sizeof *all, found_by_cell);
    for (size_t i = 0; i < count; i++) {
        if (kept && found_by_cell(&all[kept - 1], &all[i]) == 0)
            all[kept - 1].rate += all[i].rate;
        else
            all[kept++] = all[i];
    }
    *ret_count = kept;
    return all;
}

const struct demand_cell *demand_of(struct control *control, struct arena *arena,
                                    const struct hub_endpoint *endpoint, bool decide,
                                    size_t *ret_count)
{
    size_t count;
    struct found *all = collect(control, arena, endpoint->snapshot->row.uid, decide, &count);
    qsort(all, count, sizeof *all, found_by_rate);
    if (count > DEMAND_CELLS_MAX)
        count = DEMAND_CELLS_MAX;
    struct demand_cell *cells = ARENA_ARRAY(arena, struct demand_cell, count + 1);
    for (size_t i = 0; i < count; i++) {
        struct demand_cell *cell = &cells[i];
        cell->country = asked_country(all[i].cell);
        cell->rate = all[i].rate;
        cell->located = asked_spot(all[i].cell, &cell->latitude, &cell->longitude);
        cell->spot = cell->located ? spot_at(cell->latitude, cell->longitude)
                                   : control->hub.sorted[all[i].pop]->spot;
    }
    *ret_count = count;
    return cells;
}
