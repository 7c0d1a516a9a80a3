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

enum {
    WINDOW_MS_MIN = 1000,
    WINDOW_MS_MAX = 3'600'000,
    WINDOW_FIRST_MS = 60'000, /* of one that was not heard before */
    WINDOW_SLACK_MS = 10'000, /* reports come early and late */
};

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

static bool moved(float rate, float decided)
{
    return fabsf(rate - decided) > 0.1f * decided + 0.002f;
}

/* Marks endpoints that are asked for otherwise, and leaves out what has faded. `part`: of the
 * rates, that count. */
static size_t look(struct control *control, struct demand_row *rows, size_t count, float part)
{
    struct hub_endpoint *endpoint = NULL;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || rows[i].uid != rows[i - 1].uid)
            endpoint = hub_get(control, rows[i].uid);
        float rate = rows[i].rate * part;
        if (endpoint && moved(rate, rows[i].decided))
            endpoint->demand_moved = true;
        if (endpoint && (rate >= DEMAND_RATE_MIN || rows[i].decided > DEMAND_RATE_MIN))
            rows[kept++] = rows[i];
    }
    return kept;
}

/* How much of the time that it speaks of counts: no more than has passed since it last spoke, or
 * one could change what is decided at once, by one report or by many. */
static float believed_ms(const struct control *control, struct demand *demand, uint64_t said_ms)
{
    int64_t now_ms = loop_now_ms(control->loop);
    int64_t upto_ms = demand->at_ms ? demand->upto_ms : now_ms - WINDOW_FIRST_MS;
    int64_t most_ms = now_ms + WINDOW_SLACK_MS - upto_ms;
    int64_t ms = said_ms < WINDOW_MS_MAX ? (int64_t)said_ms : WINDOW_MS_MAX;
    if (ms > most_ms)
        ms = most_ms > 0 ? most_ms : 0;
    upto_ms += ms;
    demand->upto_ms = upto_ms > now_ms - WINDOW_SLACK_MS ? upto_ms : now_ms - WINDOW_SLACK_MS;
    return (float)ms;
}

void demand_take(struct control *control, struct hub_pop *pop, const struct report *report)
{
    if (report->asked_ms < WINDOW_MS_MIN || !hub_pop_runs(pop))
        return; /* to a DNS server no request comes */
    struct demand *demand = &pop->demand;
    float said_ms = report->asked_ms < WINDOW_MS_MAX ? (float)report->asked_ms : WINDOW_MS_MAX;
    float window_ms = believed_ms(control, demand, report->asked_ms);
    float weight = 1 - expf(-window_ms / 1000 / DEMAND_DAMPED_S);
    struct arena *arena = arena_new();
    struct demand_row *rows = ARENA_ARRAY(arena, struct demand_row, report->asked_count + 1);
    size_t count = said(control, report, said_ms / 1000, rows);
    struct demand_row *all = ARENA_ARRAY(arena, struct demand_row, demand->count + count + 1);
    count = merge(demand, rows, count, weight, all);
    count = bound(all, count);
    count = look(control, all, count, 1);
    free(demand->rows);
    demand->rows = mem_alloc((count + 1) * sizeof *all);
    memcpy(demand->rows, all, count * sizeof *all);
    demand->count = count;
    demand->at_ms = loop_now_ms(control->loop);
    if (demand->at_ms == 0)
        demand->at_ms = 1;
    arena_free(arena);
}

/* One that says nothing any more (it fell silent) fades as well. */
static float fading(const struct control *control, const struct demand *demand)
{
    int64_t age_ms = loop_now_ms(control->loop) - demand->at_ms - DEMAND_STALE_MS;
    return age_ms > 0 ? expf(-(float)age_ms / 1000 / DEMAND_DAMPED_S) : 1;
}

void demand_tick(struct control *control, struct demand *demand)
{
    float part = fading(control, demand);
    if (demand->count && part < 1)
        demand->count = look(control, demand->rows, demand->count, part);
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

/* What part of each PoP's word of the endpoint counts, by hub_pop.index; and how many rows there
 * are. The one of the home is believed, as in all else. */
static float *parts_of(const struct control *control, struct arena *arena, uint64_t uid,
                       size_t *ret_rows)
{
    const struct hub *hub = &control->hub;
    float *parts = ARENA_ARRAY(arena, float, hub->sorted_count + 1);
    double *sums = ARENA_ARRAY(arena, double, hub->sorted_count + 1);
    double all = 0;
    *ret_rows = 0;
    for (size_t i = 0; i < hub->sorted_count; i++) {
        const struct demand *demand = &hub->sorted[i]->demand;
        parts[i] = fading(control, demand);
        for (size_t k = first_of(demand, uid); k < demand->count && demand->rows[k].uid == uid;
             k++) {
            sums[i] += (double)(demand->rows[k].rate * parts[i]);
            ++*ret_rows;
        }
        all += sums[i];
    }
    for (size_t i = 0; i < hub->sorted_count; i++) {
        double most = all - sums[i] + (double)DEMAND_FLOOR_RATE;
        if (hub->sorted[i]->row.secret.size && sums[i] > most)
            parts[i] *= (float)(most / sums[i]);
    }
    return parts;
}

static struct found *collect(struct control *control, struct arena *arena, uint64_t uid,
                             bool decide, size_t *ret_count)
{
    struct hub *hub = &control->hub;
    size_t room, count = 0, kept = 0;
    double unused;
    const float *parts = parts_of(control, arena, uid, &room);
    struct found *all = ARENA_ARRAY(arena, struct found, room + 1);
    for (size_t i = 0; i < hub->sorted_count; i++) {
        struct demand *demand = &hub->sorted[i]->demand;
        float faded = fading(control, demand);
        for (size_t k = first_of(demand, uid); k < demand->count && demand->rows[k].uid == uid;
             k++) {
            struct demand_row *row = &demand->rows[k];
            if (decide)
                row->decided = row->rate * faded;
            bool located = asked_spot(row->cell, &unused, &unused);
            all[count++] =
                (struct found){ row->cell, located ? SIZE_MAX : i, row->rate * parts[i] };
        }
    }
    qsort(all, count, sizeof *all, found_by_cell);
    for (size_t i = 0; i < count; i++) {
        if (kept && found_by_cell(&all[kept - 1], &all[i]) == 0)
            all[kept - 1].rate += all[i].rate;
        else
            all[kept++] = all[i];
    }
    qsort(all, kept, sizeof *all, found_by_rate);
    *ret_count = kept;
    return all;
}

/* The first ones stay, and of each other country its first, so that none is lost whose law wants a
 * PoP of its own. What goes is shared out among those of its country that stay. */
static size_t cut(struct arena *arena, struct found *all, size_t count)
{
    float *sums = ARENA_ARRAY(arena, float, COUNTRY_NUMBER_MAX + 1);
    float *stay = ARENA_ARRAY(arena, float, COUNTRY_NUMBER_MAX + 1);
    size_t kept = 0;
    if (count <= DEMAND_CELLS_MAX)
        return count;
    for (size_t i = 0; i < count; i++) {
        country_number country = asked_country(all[i].cell);
        sums[country] += all[i].rate;
        if (i >= DEMAND_CELLS_MAX && stay[country] > 0)
            continue;
        stay[country] += all[i].rate;
        all[kept++] = all[i];
    }
    for (size_t i = 0; i < kept; i++) {
        country_number country = asked_country(all[i].cell);
        if (stay[country] > 0)
            all[i].rate *= sums[country] / stay[country];
    }
    qsort(all, kept, sizeof *all, found_by_rate);
    return kept;
}

const struct demand_cell *demand_of(struct control *control, struct arena *arena,
                                    const struct hub_endpoint *endpoint, bool decide,
                                    size_t *ret_count)
{
    size_t count;
    struct found *all = collect(control, arena, endpoint->snapshot->row.uid, decide, &count);
    count = cut(arena, all, count);
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
