/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A book of what was last said of each endpoint, and in which report: who says which one it has is
 * told the rest. The lock is held while a report is made (0.1 ms for a thousand endpoints) or
 * copied; loops take it once for each PoP that asks.
 */
#include "gateway/probe.h"

#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "gateway/admit.h"
#include "gateway/mesh.h"
#include "http/exchange.h"
#include "policy/admission.h"
#include "policy/route.h"

#define RUN_MS 50.0f /* of one of which no run was seen, for what it can answer */
#define NS_A_MS 1e6f

struct line { /* one endpoint */
    struct peer_load_row row;
    uint64_t arrivals; /* ever, at the report before */
    uint64_t changed;  /* number of the report that said something else */
    uint64_t seen;     /* number of the last that had it */
};

struct load_book {
    pthread_mutex_t lock;
    uint64_t life, number;
    uint64_t gone; /* number of the last that lacks one of the report before: a delta cannot say */
    int64_t made_ns;
    struct map lines; /* uid -> struct line */
    int64_t mesh_ns;  /* of the mesh that says: */
    uint32_t reached_count;
    uint64_t reached[PEER_LOAD_REACHED_MAX]; /* as the report has them */
};

struct load_book *load_book_new(void)
{
    struct load_book *book = mem_zalloc(sizeof *book);

    if (pthread_mutex_init(&book->lock, NULL) != 0)
        mem_abort(sizeof *book);
    while (book->life == 0)
        if (getrandom(&book->life, sizeof book->life, 0) != sizeof book->life)
            book->life = 0;
    return book;
}

void load_book_free(struct load_book *book)
{
    if (!book)
        return;
    MAP_EACH (entry, &book->lines)
        free(entry->value);
    map_deinit(&book->lines);
    (void)pthread_mutex_destroy(&book->lock);
    free(book);
}

/* ---- one endpoint --------------------------------------------------------------------------- */

static uint64_t arrivals_of(const struct endpoint *endpoint)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < endpoint->loops; i++)
        sum += atomic_load_explicit(&endpoint->sides[i].arrivals, memory_order_relaxed);
    return sum;
}

static float below(float value, float most)
{
    return value < most ? value : most; /* NAN: most */
}

/* What its serving revision can do; the times that admission goes by (policy/admission.h). */
static void capacity_of(const struct table *table, const struct table_endpoint *row,
                        struct peer_load_row *ret)
{
    const struct revision *revision =
        row->serving == TABLE_NONE ? NULL : table->revisions[row->serving];
    uint32_t ready = revision ? atomic_load(&revision->ready) : 0;

    if (!revision)
        return;
    float run_ms = (float)admission_run_ns(&revision->admission) / NS_A_MS;
    float gap_ms = (float)admission_gap_ns(&revision->admission) / NS_A_MS;
    ret->service_ms = below(run_ms, PEER_LOAD_MS_MAX);
    ret->places = ready * row->concurrency;
    if (ready)
        ret->capacity_per_s =
            below((float)ready * 1000 / (gap_ms > 0 ? gap_ms : RUN_MS), PEER_LOAD_RATE_MAX);
}

/* As long as the last one here, which is told as such; else as elsewhere. */
static float start_of(const struct table *table, const struct mesh_head *mesh,
                      const struct table_endpoint *row, float last_ms)
{
    size_t count = 0;
    const struct mesh_load *loads = mesh ? mesh_loads(mesh, row->uid, &count) : NULL;
    float ms = last_ms > 0 ? last_ms : route_start_ms(0, mesh_last_start_ms(loads, count));
    bool failed = false, hopeful = row->revision_count == 0;

    for (uint32_t i = 0; i < row->revision_count; i++) {
        bool bad = table_revision(table->head, row->revision_first + i)->message.bytes > 0;
        float cold_ms = admit_cold_ms(table->revisions[row->revision_first + i]);
        ms = cold_ms > ms ? cold_ms : ms;
        failed = failed || bad;
        hopeful = hopeful || !bad;
    }
    if (failed && !hopeful)
        return INFINITY;
    return below(ms, PEER_LOAD_MS_MAX);
}

static struct peer_load_row row_of(const struct table *table, const struct mesh_head *mesh,
                                   uint32_t at, float arrivals_per_s)
{
    const struct table_endpoint *row = table_endpoint(table->head, at);
    const struct endpoint *endpoint = table->endpoints[at];
    struct peer_load_row ret = { .endpoint = row->uid,
                                 .arrivals_per_s = below(arrivals_per_s, PEER_LOAD_RATE_MAX) };

    capacity_of(table, row, &ret);
    ret.last_start_ms = below((float)atomic_load(&endpoint->start_ms), PEER_LOAD_MS_MAX);
    if (ret.places == 0)
        ret.start_ms = start_of(table, mesh, row, ret.last_start_ms);
    for (unsigned i = 0; i < QUEUE_CLASSES; i++)
        ret.waiting += atomic_load(&endpoint->waiting[i].count);
    return ret;
}

/* ---- the report ----------------------------------------------------------------------------- */

struct report_asked {
    uint64_t life, since; /* of the report that the asker has */
    unsigned version;     /* of the one that it is sent */
};

static bool same(const struct peer_load_row *a, const struct peer_load_row *b)
{
    return a->arrivals_per_s == b->arrivals_per_s && a->capacity_per_s == b->capacity_per_s &&
           a->service_ms == b->service_ms && a->start_ms == b->start_ms && a->places == b->places &&
           a->waiting == b->waiting && a->last_start_ms == b->last_start_ms;
}

static void line_make(struct load_book *book, const struct table *table,
                      const struct mesh_head *mesh, uint32_t at, float seconds)
{
    uint64_t uid = table_endpoint(table->head, at)->uid;
    uint64_t arrivals = arrivals_of(table->endpoints[at]);
    struct line *line = map_get_u64(&book->lines, uid);
    bool fresh = !line;

    if (fresh) {
        if (book->lines.count >= PEER_LOAD_ROWS_MAX)
            return; /* the others do without */
        line = mem_zalloc(sizeof *line);
        line->arrivals = arrivals;
        (void)map_put_u64(&book->lines, uid, line);
    }
    uint64_t came = arrivals < line->arrivals ? 0 : arrivals - line->arrivals; /* counted anew */
    float rate = seconds > 0 ? (float)came / seconds : 0;
    struct peer_load_row row = row_of(table, mesh, at, rate);
    if (fresh || !same(&row, &line->row))
        line->changed = book->number;
    line->row = row;
    line->arrivals = arrivals;
    line->seen = book->number;
}

static void book_make(struct load_book *book, const struct table *table,
                      const struct mesh_head *mesh, int64_t now_ns)
{
    float seconds = book->made_ns ? (float)(now_ns - book->made_ns) / 1e9f : 0;

    book->made_ns = now_ns;
    book->number++;
    for (uint32_t i = 0; i < table->head->endpoints.count; i++)
        if (table_endpoint(table->head, i)->state == TABLE_ENDPOINT_RUNNING)
            line_make(book, table, mesh, i, seconds);
    MAP_EACH (entry, &book->lines) {
        struct line *line = entry->value;
        if (line->seen == book->number)
            continue;
        book->gone = book->number;
        (void)map_remove_u64(&book->lines, line->row.endpoint);
        free(line);
    }
}

static int order_rows(const void *a, const void *b)
{
    uint64_t x = ((const struct peer_load_row *)a)->endpoint;
    uint64_t y = ((const struct peer_load_row *)b)->endpoint;

    return (x > y) - (x < y);
}

static int order_names(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Those that this PoP's agent reaches itself; once for each mesh, not for each who asks. */
static void book_reach(struct load_book *book, const struct mesh_head *mesh)
{
    if (book->mesh_ns == mesh->at_ns)
        return;
    book->mesh_ns = mesh->at_ns;
    book->reached_count = 0;
    for (uint32_t i = 0; i < mesh->pop_count && book->reached_count < PEER_LOAD_REACHED_MAX; i++)
        if (mesh_pops(mesh)[i].health != MESH_DOWN)
            book->reached[book->reached_count++] =
                peer_load_name(slice_of(mesh_pops(mesh)[i].name));
    if (book->reached_count > 1)
        qsort(book->reached, book->reached_count, sizeof *book->reached, order_names);
}

static struct slice book_print(const struct load_book *book, uint32_t reached,
                               const struct report_asked *asked, struct arena *arena)
{
    uint64_t since = asked->since;
    bool whole =
        asked->life != book->life || since == 0 || since < book->gone || since > book->number;
    struct peer_load_row *rows = ARENA_ARRAY(arena, struct peer_load_row, book->lines.count + 1);
    size_t count = 0, each = peer_load_row_bytes(asked->version);

    MAP_EACH (entry, &book->lines) {
        const struct line *line = entry->value;
        if (whole || line->changed > since)
            rows[count++] = line->row;
    }
    if (count > 1)
        qsort(rows, count, sizeof *rows, order_rows);
    size_t bytes = peer_load_bytes(asked->version, count, reached);
    struct peer_load_head *head = arena_alloc(arena, bytes);
    *head = (struct peer_load_head){
        .magic = PEER_LOAD_MAGIC,
        .version = (uint16_t)asked->version,
        .flags = whole ? PEER_LOAD_WHOLE : 0,
        .life = book->life,
        .number = book->number,
        .since = whole ? 0 : since,
        .count = (uint32_t)count,
        .reached = reached,
    };
    char *to = (char *)(head + 1);
    for (size_t i = 0; i < count; i++, to += each)
        memcpy(to, &rows[i], each);
    memcpy(to, book->reached, reached * sizeof *book->reached);
    return (struct slice){ (const char *)head, bytes };
}

static struct slice report_make(struct gateway_loop *gl, const struct report_asked *asked,
                                struct arena *arena)
{
    struct load_book *book = gl->gateway->book;
    int64_t now_ns = loop_now_ns();

    const struct mesh_head *mesh = mesh_view_head(gl->mesh, now_ns);
    (void)pthread_mutex_lock(&book->lock);
    if (book->made_ns == 0 || now_ns - book->made_ns >= PROBE_FRESH_MS * ENV_MS)
        book_make(book, gl->table, mesh, now_ns);
    if (mesh)
        book_reach(book, mesh);
    struct slice report = book_print(book, mesh ? book->reached_count : 0, asked, arena);
    (void)pthread_mutex_unlock(&book->lock);
    return report;
}

/* ---- who asks ------------------------------------------------------------------------------- */

static bool signed_right(struct gateway_loop *gl, const struct http_request *http,
                         struct slice *ret_from)
{
    struct slice text = http_header_get(&http->headers, HOP_HEADER);
    unsigned char key[HOP_KEY_BYTES];
    struct hop hop;

    if (text.size == 0 || hop_parse(text, &hop, NULL) < 0 ||
        !slice_is(hop.to, gl->gateway->start.pop) ||
        !peer_keys_find(gl->gateway->keys, hop.from, key))
        return false;
    const struct hop_request request = { .method = http->method_text, .target = http->target };
    bool right = hop_verify(&hop, &request, key);
    *ret_from = hop.from;
    explicit_bzero(key, sizeof key);
    return right;
}

static uint64_t number_of(const struct http_parameters *query, const char *name)
{
    const struct http_parameter *parameter = http_parameter_find(query, name);
    uint64_t value = 0;

    return parameter && slice_u64(parameter->value, &value) ? value : 0;
}

bool probe_answer(struct gateway_loop *gl, struct exchange *x)
{
    const struct http_request *http = exchange_request(x);
    struct http_parameters query = {};
    struct slice from;

    if (!slice_is(http->path, PEER_LOAD_PATH) || http->method != HTTP_GET || !gl->table ||
        http_header_count(&http->headers, HOP_HEADER) != 1 || !signed_right(gl, http, &from) ||
        http_query_parse(exchange_arena(x), http->query, &query, NULL) < 0)
        return false;
    uint64_t known = number_of(&query, "hop");
    peer_keys_know(gl->gateway->keys, from, known < UINT_MAX ? (unsigned)known : UINT_MAX);
    const struct report_asked asked = {
        .life = number_of(&query, "life"),
        .since = number_of(&query, "since"),
        .version = number_of(&query, "version") < PEER_LOAD_VERSION ? PEER_LOAD_VERSION_BEFORE
                                                                    : PEER_LOAD_VERSION,
    };
    struct slice report = report_make(gl, &asked, exchange_arena(x));
    const struct http_header headers[] = {
        HTTP_HEADER("Content-Type", SLICE("application/octet-stream")),
        HTTP_HEADER("Cache-Control", SLICE("no-store")),
    };
    exchange_reply(x, 200, headers, 2, report);
    return true;
}
