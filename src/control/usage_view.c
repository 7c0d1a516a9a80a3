/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /usage: sums of usage by what is asked, and what they cost. Prices change with time and PoP,
 * so sums are taken for each time between two changes, by PoP, priced, and put together here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/env.h"
#include "base/json.h"
#include "control/control_own.h"
#include "control/prices.h"
#include "control/routes.h"
#include "policy/price.h"
#include "spec/units.h"

enum { ROWS_MAX = 20'000, DAY_S = 86'400, HOUR_S = 3600 };

struct used { /* a row of the answer */
    struct store_usage_sum sum;
    struct cost cost;
    bool unpriced; /* some of it has no price */
};

struct usage_view {
    struct store_usage_query query;
    bool by_pop, csv;
    char by[64]; /* words, by comma */
    struct price_list prices;
    struct map index; /* key -> struct used */
    struct used **rows, total;
    size_t count;
};

/* ---- what is asked --------------------------------------------------------------------------- */

static int read_by(struct usage_view *p, struct slice text, struct err *err)
{
    struct slice rest = text;
    while (rest.data && rest.size) {
        struct slice word = slice_trim(slice_cut(&rest, ','));
        if (slice_is(word, "project"))
            p->query.by_project = true;
        else if (slice_is(word, "endpoint"))
            p->query.by_endpoint = true;
        else if (slice_is(word, "revision"))
            p->query.by_endpoint = p->query.by_revision = true;
        else if (slice_is(word, "pop"))
            p->by_pop = true;
        else if (slice_is(word, "hour"))
            p->query.by_s = HOUR_S;
        else if (slice_is(word, "day"))
            p->query.by_s = DAY_S;
        else
            return err_set(err, ERR_BAD_INPUT,
                           "by: '%s' is none of project, endpoint, revision, "
                           "pop, hour, day",
                           ERR_SLICE(word));
    }
    return 0;
}

static int read_time(struct request *q, const char *name, int64_t *s, struct err *err)
{
    struct slice text = request_query(q, name);
    int64_t ns;
    if (!text.size)
        return 0;
    if (!units_parse_instant(text, &ns))
        return err_set(err, ERR_BAD_INPUT,
                       "%s: '%s' is no time such as 2026-11-29T08:00:00Z, and "
                       "no day",
                       name, ERR_SLICE(text));
    *s = ns / ENV_S;
    return 0;
}

static int read_query(struct request *q, struct usage_view *p, struct err *err)
{
    struct slice by = request_query(q, "by"), format = request_query(q, "format");
    p->query.to_s = q->now_ns / ENV_S + 1;
    int r = read_time(q, "to", &p->query.to_s, err);
    p->query.from_s = p->query.to_s - DAY_S;
    if (r == 0)
        r = read_time(q, "from", &p->query.from_s, err);
    if (r == 0)
        r = read_by(p, by.size ? by : SLICE("endpoint"), err);
    if (r < 0)
        return r;
    if (p->query.from_s >= p->query.to_s)
        return err_set(err, ERR_BAD_INPUT, "from is not before to");
    p->csv = slice_is(format, "csv");
    if (format.size && !p->csv && !slice_is(format, "json"))
        return err_set(err, ERR_BAD_INPUT, "format: '%s' is neither json nor csv",
                       ERR_SLICE(format));
    p->query.project = request_query(q, "project");
    p->query.endpoint = request_query(q, "endpoint");
    p->query.pop = request_query(q, "pop");
    p->query.by_pop = true; /* for its price */
    p->query.limit = ROWS_MAX;
    return 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

static struct used *row_of(struct request *q, struct usage_view *p,
                           const struct store_usage_sum *sum)
{
    struct slice pop = p->by_pop ? sum->pop : (struct slice){};
    const char *key =
        arena_format(q->arena, "%lld %llu %llu %.*s %.*s", (long long)sum->start_s,
                     (unsigned long long)sum->endpoint_uid, (unsigned long long)sum->revision,
                     SLICE_FMT(pop), SLICE_FMT(sum->project));
    struct used *row = map_get(&p->index, slice_of(key));
    if (row)
        return row;
    row = ARENA_NEW(q->arena, struct used);
    row->sum = *sum;
    row->sum.pop = pop;
    row->sum.figures = (struct figures){};
    map_put(&p->index, slice_of(key), row);
    return row;
}

static void row_add(struct used *row, const struct store_usage_sum *sum, const struct cost *cost,
                    bool unpriced)
{
    figures_add(&row->sum.figures, &sum->figures);
    cost_sum(&row->cost, cost);
    row->unpriced = row->unpriced || unpriced;
    if (sum->period_s > row->sum.period_s)
        row->sum.period_s = sum->period_s;
}

static int read_epoch(struct request *q, struct store *store, struct usage_view *p, int64_t from_s,
                      int64_t to_s, struct err *err)
{
    struct store_usage_query query = p->query;
    struct store_usage_sum *sums;
    size_t count;
    query.from_s = from_s;
    query.to_s = to_s;
    int r = store->usage_sum(store, &query, q->arena, &sums, &count, err);
    for (size_t i = 0; r == 0 && i < count; i++) {
        const struct price_row *price = price_find(&p->prices, sums[i].pop, from_s);
        struct cost cost = {};
        if (price)
            cost_add(&cost, &price->price, &sums[i].figures);
        row_add(row_of(q, p, &sums[i]), &sums[i], &cost, !price);
        row_add(&p->total, &sums[i], &cost, !price);
        if (p->index.count > ROWS_MAX)
            r = err_set(err, ERR_TOO_LARGE,
                        "more than %d rows of usage: ask for a shorter time, "
                        "or by less",
                        (int)ROWS_MAX);
    }
    return r;
}

static int row_order(const void *a, const void *b)
{
    const struct store_usage_sum *x = &(*(struct used *const *)a)->sum;
    const struct store_usage_sum *y = &(*(struct used *const *)b)->sum;
    int order;
    if (x->start_s != y->start_s)
        return x->start_s < y->start_s ? -1 : 1;
    if ((order = slice_order(x->project, y->project)) ||
        (order = slice_order(x->endpoint, y->endpoint)))
        return order;
    if (x->endpoint_uid != y->endpoint_uid)
        return x->endpoint_uid < y->endpoint_uid ? -1 : 1;
    if (x->revision != y->revision)
        return x->revision < y->revision ? -1 : 1;
    return slice_order(x->pop, y->pop);
}

static int on_view_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct usage_view *p = q->data;
    int r = prices_load(store, q->arena, &p->prices, err);
    for (int64_t from_s = p->query.from_s; r == 0 && from_s < p->query.to_s;) {
        int64_t next_s = price_next(&p->prices, from_s);
        int64_t to_s = next_s < p->query.to_s ? next_s : p->query.to_s;
        r = read_epoch(q, store, p, from_s, to_s, err);
        from_s = to_s;
    }
    p->rows = ARENA_ARRAY(q->arena, struct used *, p->index.count + 1);
    MAP_EACH (entry, &p->index)
        p->rows[p->count++] = entry->value;
    qsort(p->rows, p->count, sizeof(struct used *), row_order);
    map_deinit(&p->index);
    return r;
}

/* ---- answering ------------------------------------------------------------------------------- */

static const char *amount(price_exact exact, char buffer[static UNITS_BYTES])
{
    int64_t micro = price_micro(exact < 0 ? -exact : exact);
    snprintf(buffer, UNITS_BYTES, "%s%lld.%06lld", exact < 0 && micro ? "-" : "",
             (long long)(micro / 1'000'000), (long long)(micro % 1'000'000));
    return buffer;
}

static void write_amount(struct json_writer *w, const char *key, price_exact exact)
{
    char text[UNITS_BYTES];
    json_member_text(w, key, amount(exact, text));
}

static void write_cost(struct json_writer *w, const struct used *row)
{
    json_key(w, "cost");
    json_object_begin(w);
    write_amount(w, "busy", row->cost.busy);
    write_amount(w, "idle", row->cost.idle);
    write_amount(w, "memory", row->cost.memory);
    write_amount(w, "requests", row->cost.requests);
    write_amount(w, "total", cost_total(&row->cost));
    if (row->unpriced)
        json_member_bool(w, "unpriced", true);
    json_object_end(w);
}

/* As they are now; of an endpoint that is gone there are none. */
static void write_labels(struct json_writer *w, struct request *q, uint64_t uid)
{
    const struct hub_endpoint *endpoint = hub_get(q->control, uid);
    if (!endpoint)
        return;
    const struct spec_pairs *labels = &endpoint->snapshot->spec.labels;
    json_key(w, "labels");
    json_object_begin(w);
    for (size_t i = 0; i < labels->count; i++) {
        json_key_slice(w, labels->items[i].key);
        json_string(w, labels->items[i].value);
    }
    json_object_end(w);
}

/* Without scale to zero and schedules: as many as either ever asks for, one at least. */
static uint64_t always(const struct endpoint_spec *spec)
{
    uint64_t replicas = spec->scale.min > 1 ? spec->scale.min : 1;

    for (size_t i = 0; i < spec->scale.schedule.count; i++)
        if (spec->scale.schedule.items[i].min > replicas)
            replicas = spec->scale.schedule.items[i].min;
    return replicas;
}

/* Of an endpoint that there is, over all of its PoPs and revisions: what it would have cost with
 * so many replicas from its beginning on. Less than it did cost is a loss, and told as such. */
static void write_always_on(struct json_writer *w, struct request *q, const struct usage_view *p,
                            const struct used *row)
{
    const struct hub_endpoint *endpoint = hub_get(q->control, row->sum.endpoint_uid);
    const struct store_usage_query *query = &p->query;
    if (!query->by_endpoint || query->by_revision || p->by_pop || query->by_s || query->pop.size ||
        !endpoint || row->unpriced || !row->sum.figures.life_ms)
        return;
    int64_t now_s = q->now_ns / ENV_S, made_s = endpoint->snapshot->row.created_ns / ENV_S;
    int64_t from_s = made_s > query->from_s ? made_s : query->from_s;
    int64_t to_s = now_s < query->to_s ? now_s : query->to_s;
    uint64_t replicas = always(&endpoint->snapshot->spec);
    uint64_t seconds = to_s > from_s ? (uint64_t)(to_s - from_s) : 0;
    price_exact cost = price_always_on(&row->cost, &row->sum.figures, replicas, seconds);
    json_key(w, "always_on");
    json_object_begin(w);
    json_member_u64(w, "replicas", replicas);
    json_member_u64(w, "seconds", seconds);
    write_amount(w, "cost", cost);
    write_amount(w, "saved", cost - cost_total(&row->cost));
    json_object_end(w);
}

static void write_row(struct json_writer *w, struct request *q, const struct usage_view *p,
                      const struct used *row, bool total)
{
    const struct figures *f = &row->sum.figures;
    json_object_begin(w);
    if (p->query.by_s && !total)
        view_member_time(w, "at", row->sum.start_s * ENV_S);
    if ((p->query.by_project || p->query.by_endpoint) && !total)
        json_member_string(w, "project", row->sum.project);
    if (p->query.by_endpoint && !total) {
        json_member_string(w, "endpoint", row->sum.endpoint);
        json_member_u64(w, "endpoint_uid", row->sum.endpoint_uid);
        write_labels(w, q, row->sum.endpoint_uid);
    }
    if (p->query.by_revision && !total)
        json_member_u64(w, "revision", row->sum.revision);
    if (p->by_pop && !total)
        json_member_string(w, "pop", row->sum.pop);
    json_member_u64(w, "resolution_s", row->sum.period_s);
#define FIGURE_MEMBER(name, text) json_member_u64(w, #name, f->name);
    FIGURES(FIGURE_MEMBER)
#undef FIGURE_MEMBER
    json_member_u64(w, "idle_us", figures_idle_us(f));
    if (p->prices.currency[0]) {
        write_cost(w, row);
        if (!total)
            write_always_on(w, q, p, row);
    }
    json_object_end(w);
}

static void write_by(struct json_writer *w, const struct usage_view *p)
{
    json_key(w, "by");
    json_array_begin(w);
    if (p->query.by_s)
        json_text(w, p->query.by_s == HOUR_S ? "hour" : "day");
    if (p->query.by_project)
        json_text(w, "project");
    if (p->query.by_endpoint)
        json_text(w, "endpoint");
    if (p->query.by_revision)
        json_text(w, "revision");
    if (p->by_pop)
        json_text(w, "pop");
    json_array_end(w);
}

static struct slice as_json(struct request *q, const struct usage_view *p)
{
    struct json_writer w;
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    view_member_time(&w, "from", p->query.from_s * ENV_S);
    view_member_time(&w, "to", p->query.to_s * ENV_S);
    write_by(&w, p);
    json_member_text(&w, "currency", p->prices.currency[0] ? p->prices.currency : NULL);
    json_key(&w, "items");
    json_array_begin(&w);
    for (size_t i = 0; i < p->count; i++)
        write_row(&w, q, p, p->rows[i], false);
    json_array_end(&w);
    json_key(&w, "total");
    write_row(&w, q, p, &p->total, true);
    json_object_end(&w);
    return json_end(&w);
}

/* RFC 4180. Names are of small letters, digits and hyphens: nothing needs a quote. */
static struct slice as_csv(struct request *q, const struct usage_view *p)
{
    char *text;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    if (!out)
        abort(); /* no memory */
    fputs("at,project,endpoint,revision,pop,resolution_s", out);
#define FIGURE_TITLE(name, what) fputs("," #name, out);
    FIGURES(FIGURE_TITLE)
#undef FIGURE_TITLE
    fputs(",idle_us,currency,cost_busy,cost_idle,cost_memory,cost_requests,cost\r\n", out);
    for (size_t i = 0; i < p->count; i++) {
        const struct used *row = p->rows[i];
        const struct figures *f = &row->sum.figures;
        char at[40] = "", amounts[5][UNITS_BYTES] = {};
        const price_exact exact[] = { row->cost.busy, row->cost.idle, row->cost.memory,
                                      row->cost.requests, cost_total(&row->cost) };
        if (p->query.by_s)
            (void)view_time(row->sum.start_s * ENV_S, at);
        for (int k = 0; k < 5 && p->prices.currency[0]; k++)
            amount(exact[k], amounts[k]);
        fprintf(out, "%s,%.*s,%.*s,", at, SLICE_FMT(row->sum.project),
                SLICE_FMT(row->sum.endpoint));
        if (p->query.by_revision)
            fprintf(out, "%llu", (unsigned long long)row->sum.revision);
        fprintf(out, ",%.*s,%llu", SLICE_FMT(row->sum.pop), (unsigned long long)row->sum.period_s);
#define FIGURE_CELL(name, what) fprintf(out, ",%llu", (unsigned long long)f->name);
        FIGURES(FIGURE_CELL)
#undef FIGURE_CELL
        fprintf(out, ",%llu,%s,%s,%s,%s,%s,%s\r\n", (unsigned long long)figures_idle_us(f),
                p->prices.currency, amounts[0], amounts[1], amounts[2], amounts[3], amounts[4]);
    }
    fclose(out);
    struct slice csv = arena_copy(q->arena, (struct slice){ text, bytes });
    free(text);
    return csv;
}

static void on_view_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    const struct usage_view *p = q->data;
    if (err)
        request_fail(q, err);
    else if (p->csv)
        request_reply_with(q, 200, NULL, 0, "text/csv; charset=utf-8", as_csv(q, p));
    else
        request_reply(q, 200, as_json(q, p));
}

void usage_list(struct request *q)
{
    struct err err;
    struct usage_view *p = ARENA_NEW(q->arena, struct usage_view);
    q->data = p;
    if (read_query(q, p, &err) < 0)
        request_fail(q, &err);
    else
        request_read(q, on_view_run, on_view_done);
}
