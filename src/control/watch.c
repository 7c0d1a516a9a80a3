/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A watch of rows (events, logs) first reads what is stored, then goes on with what comes. While it
 * reads, what comes is not sent but makes it read again: so nothing is lost or said twice, and a
 * slow start costs no memory.
 */
#include "control/watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/json.h"
#include "control/control_own.h"
#include "control/request.h"
#include "control/watch_inside.h"

enum {
    WATCH_BYTES_MAX = 4 << 20, /* waiting for a reader, beside the first state */
    WATCHES_MAX = 1000,
    ROWS_AT_ONCE = 500,
};

/* ---- sending -------------------------------------------------------------------------------- */

static void on_chunk_written(struct exchange *x, const struct err *err, void *data)
{
    (void)x;
    (void)err;
    free(data);
}

void watcher_end(struct watcher *watcher)
{
    if (!watcher->ended && watcher->q->x)
        exchange_end(watcher->q->x, NULL, 0);
    watcher->ended = true;
}

bool watcher_say_piece(struct watcher *watcher, struct slice text, bool first,
                       exchange_written_cb on_written, void *data)
{
    struct request *q = watcher->q;
    if (watcher->ended || !q->x || text.size == 0)
        return false;
    if (!first && exchange_write_bytes(q->x) > WATCH_BYTES_MAX + watcher->first_bytes) {
        metric_add(control_count(q->control, CONTROL_WATCHES_CUT, NULL), 1);
        watcher->ended = true;
        exchange_abort(q->x);
        return false;
    }
    watcher->first_bytes += first ? text.size : 0;
    exchange_write(q->x, &(struct iovec){ (char *)(uintptr_t)text.data, text.size }, 1, on_written,
                   data);
    return true;
}

static void say(struct watcher *watcher, struct slice text, bool first)
{
    char *chunk = mem_string(text);
    if (!watcher_say_piece(watcher, (struct slice){ chunk, text.size }, first, on_chunk_written,
                           chunk))
        free(chunk);
}

/* JSON has no line breaks inside: one data line an event. */
struct slice watcher_event_text(struct arena *arena, const char *event, uint64_t id,
                                struct slice data)
{
    char *text = arena_format(arena, "event: %s\nid: %llu\ndata: ", event, (unsigned long long)id);
    size_t head = strlen(text);
    char *all = arena_alloc(arena, head + data.size + 2);
    memcpy(all, text, head);
    memcpy(all + head, data.data, data.size);
    memcpy(all + head + data.size, "\n\n", 2);
    return (struct slice){ all, head + data.size + 2 };
}

void watcher_say_event(struct watcher *watcher, const char *event, uint64_t id, struct slice data,
                       bool first)
{
    struct arena *arena = arena_new();
    say(watcher, watcher_event_text(arena, event, id, data), first);
    arena_free(arena);
}

static void closed(struct request *q)
{
    struct watcher *watcher = q->data;
    list_remove(&watcher->link);
    q->control->watcher_count--;
    if (watcher->pop)
        hub_pop_watched(q->control, watcher->pop, false);
    metric_set(control_count(q->control, CONTROL_WATCHES, NULL),
               (int64_t)q->control->watcher_count);
}

struct watcher *watcher_open(struct request *q, enum watch_kind kind)
{
    static const struct http_header headers[] = {
        { { "Content-Type", 12 }, { "text/event-stream", 17 } },
        { { "Cache-Control", 13 }, { "no-store", 8 } },
    };
    if (q->control->watcher_count >= WATCHES_MAX) {
        request_refuse(q, ERR_OVERLOADED, "%d watches are open already", (int)WATCHES_MAX);
        return NULL;
    }
    struct watcher *watcher = ARENA_NEW(q->arena, struct watcher);
    watcher->q = q;
    watcher->kind = kind;
    list_append(&q->control->watchers, &watcher->link);
    q->control->watcher_count++;
    q->data = watcher;
    q->on_closed = closed;
    metric_set(control_count(q->control, CONTROL_WATCHES, NULL),
               (int64_t)q->control->watcher_count);
    struct http_header all[3] = { headers[0],
                                  headers[1],
                                  { SLICE("X-Request-Id"), slice_of(q->id) } };
    exchange_respond(q->x, 200, all, 3, HTTP_LENGTH_UNKNOWN);
    say(watcher, SLICE(": watching\n\n"), true);
    return watcher;
}

static uint64_t last_event_id(struct request *q)
{
    uint64_t id = 0;
    (void)slice_u64(request_header(q, "Last-Event-ID"), &id);
    return id;
}

/* ---- endpoints ------------------------------------------------------------------------------ */

static bool selects(const struct watcher *watcher, const struct hub_endpoint *endpoint)
{
    const struct snapshot *s = endpoint->snapshot;
    if (watcher->kind == WATCH_ENDPOINT)
        return s->row.uid == watcher->filter.endpoint_uid;
    return slice_equal(s->row.project, watcher->filter.project) &&
           selector_matches(&watcher->labels, &s->spec.labels);
}

static struct slice deleted_json(struct arena *arena, struct slice key, uint64_t uid)
{
    struct json_writer w;
    struct slice project = slice_cut(&key, '/');
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "name", key);
    json_member_string(&w, "project", project);
    json_member_u64(&w, "uid", uid);
    json_object_end(&w);
    return json_end(&w);
}

/* What was deleted since, if that is still known. */
static bool say_gone(struct watcher *watcher, uint64_t since)
{
    const struct hub *hub = &watcher->q->control->hub;
    const struct hub_gone *gone;
    if (since < hub_gone_known(hub))
        return false;
    while ((gone = hub_gone_after(hub, since))) {
        struct slice rest = gone->key;
        if (slice_equal(slice_cut(&rest, '/'), watcher->filter.project))
            watcher_say_event(watcher, "deleted", gone->number,
                              deleted_json(watcher->q->arena, gone->key, gone->uid), true);
        since = gone->number;
    }
    return true;
}

void watch_endpoints_open(struct request *q)
{
    struct err err;
    struct selector labels;
    if (selector_parse(q->arena, request_query(q, "labels"), &labels, &err) < 0) {
        request_fail(q, &err);
        return;
    }
    struct watcher *watcher = watcher_open(q, WATCH_ENDPOINTS);
    if (!watcher)
        return;
    struct hub *hub = &q->control->hub;
    uint64_t since = last_event_id(q);
    watcher->labels = labels;
    watcher->filter.project = q->project;
    if (since > hub->changes || !say_gone(watcher, since))
        since = 0;
    struct json_writer w;
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_key(&w, "names");
    json_array_begin(&w);
    MAP_EACH (entry, &hub->by_uid) {
        struct hub_endpoint *endpoint = entry->value;
        if (!selects(watcher, endpoint))
            continue;
        json_string(&w, endpoint->snapshot->row.name);
        if (endpoint->changed > since)
            watcher_say_event(watcher, "endpoint", endpoint->changed, endpoint->view, true);
    }
    json_array_end(&w);
    json_object_end(&w);
    watcher_say_event(watcher, "synced", hub->changes, json_end(&w), true);
}

void watch_endpoint_open(struct request *q, struct hub_endpoint *endpoint)
{
    uint64_t since = last_event_id(q);
    struct watcher *watcher = watcher_open(q, WATCH_ENDPOINT);
    if (!watcher)
        return;
    watcher->filter.endpoint_uid = endpoint->snapshot->row.uid;
    if (endpoint->changed != since)
        watcher_say_event(watcher, "endpoint", endpoint->changed, endpoint->view, true);
}

void watch_endpoint(struct control *control, struct hub_endpoint *endpoint)
{
    struct watcher *watcher;
    LIST_EACH (watcher, &control->watchers, struct watcher, link)
        if ((watcher->kind == WATCH_ENDPOINTS || watcher->kind == WATCH_ENDPOINT) &&
            selects(watcher, endpoint))
            watcher_say_event(watcher, "endpoint", endpoint->changed, endpoint->view, false);
}

void watch_endpoint_gone(struct control *control, struct hub_endpoint *endpoint, uint64_t number)
{
    struct arena *arena = arena_new();
    struct slice json = deleted_json(arena, endpoint->key, endpoint->snapshot->row.uid);
    struct watcher *watcher;
    LIST_EACH (watcher, &control->watchers, struct watcher, link) {
        if ((watcher->kind != WATCH_ENDPOINTS && watcher->kind != WATCH_ENDPOINT) ||
            !selects(watcher, endpoint))
            continue;
        watcher_say_event(watcher, "deleted", number, json, false);
        if (watcher->kind == WATCH_ENDPOINT)
            watcher_end(watcher);
    }
    arena_free(arena);
}

/* ---- rows ----------------------------------------------------------------------------------- */

static struct slice event_json(struct arena *arena, const struct store_event *row)
{
    struct json_writer w;
    json_begin(&w, arena, 0);
    view_event(&w, row);
    return json_end(&w);
}

static struct slice log_json(struct arena *arena, const struct store_log *row)
{
    struct json_writer w;
    json_begin(&w, arena, 0);
    view_log(&w, row);
    return json_end(&w);
}

/* On the reader's thread: rows behind last_id, as the text that is sent. */
static int read_rows(struct job *job, struct store *store, struct err *err)
{
    struct watcher *watcher = request_of_job(job)->data;
    struct store_page page = { .after = watcher->last_id,
                               .limit = ROWS_AT_ONCE,
                               .from_end = watcher->from_end };
    struct store_event *events = NULL;
    struct store_log *logs = NULL;
    struct arena *arena = watcher->arena;
    size_t count = 0;
    int r = watcher->kind == WATCH_EVENTS
                ? store->event_list(store, &watcher->filter, &page, arena, &events, &count, err)
                : store->log_list(store, &watcher->filter, &page, arena, &logs, &count, err);
    if (r < 0)
        return r;
    size_t bytes = 0;
    struct slice *texts = ARENA_ARRAY(arena, struct slice, count + 1);
    for (size_t i = 0; i < count; i++) {
        texts[i] =
            events ? watcher_event_text(arena, "event", events[i].id, event_json(arena, &events[i]))
                   : watcher_event_text(arena, "log", logs[i].id, log_json(arena, &logs[i]));
        bytes += texts[i].size;
        watcher->read_last = events ? events[i].id : logs[i].id;
    }
    char *text = arena_alloc(arena, bytes + 1);
    watcher->text = (struct slice){ text, bytes };
    for (size_t i = 0; i < count; i++) {
        memcpy(text, texts[i].data, texts[i].size);
        text += texts[i].size;
    }
    watcher->read_count = count;
    return 0;
}

static void read_more(struct watcher *watcher);

static void on_rows_read(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct watcher *watcher = q->data;
    watcher->reading = false;
    if (err) {
        watcher_end(watcher); /* the reader comes again, behind what it has */
    } else if (q->x) {
        bool more = watcher->again || watcher->read_count == ROWS_AT_ONCE;
        if (watcher->read_count)
            watcher->last_id = watcher->read_last;
        watcher->from_end = false;
        say(watcher, watcher->text, true);
        if (more && !watcher->ended)
            read_more(watcher);
    }
    if (!watcher->reading) {
        arena_free(watcher->arena);
        watcher->arena = NULL;
    }
}

static void read_more(struct watcher *watcher)
{
    arena_free(watcher->arena);
    watcher->arena = arena_new();
    watcher->reading = true;
    watcher->again = false;
    watcher->read_count = 0;
    request_read(watcher->q, read_rows, on_rows_read);
}

static void open_rows(struct request *q, enum watch_kind kind, const struct store_filter *filter,
                      uint64_t after, bool from_end)
{
    struct watcher *watcher = watcher_open(q, kind);
    if (!watcher)
        return;
    uint64_t last = last_event_id(q);
    watcher->filter = *filter;
    watcher->last_id = last ? last : after;
    watcher->from_end = from_end && !last;
    read_more(watcher);
}

void watch_events_open(struct request *q, uint64_t after, bool from_end)
{
    struct store_filter filter = { .endpoint = request_query(q, "endpoint"),
                                   .project = request_query(q, "project") };
    open_rows(q, WATCH_EVENTS, &filter, after, from_end);
}

void watch_logs_open(struct request *q, uint64_t uid, uint64_t after, bool from_end)
{
    struct store_filter filter = { .endpoint_uid = uid, .replica = request_query(q, "replica") };
    open_rows(q, WATCH_LOGS, &filter, after, from_end);
}

static bool wanted(struct watcher *watcher, uint64_t id)
{
    if (watcher->reading) {
        watcher->again = true;
        return false;
    }
    return id > watcher->last_id && !watcher->ended;
}

static bool passes(struct slice filter, struct slice value)
{
    return filter.size == 0 || slice_equal(filter, value);
}

void watch_events(struct control *control, const struct store_event *events, size_t count)
{
    struct watcher *watcher;
    LIST_EACH (watcher, &control->watchers, struct watcher, link) {
        if (watcher->kind != WATCH_EVENTS)
            continue;
        for (size_t i = 0; i < count; i++) {
            if (!passes(watcher->filter.endpoint, events[i].endpoint) ||
                !passes(watcher->filter.project, events[i].project) ||
                !wanted(watcher, events[i].id))
                continue;
            struct arena *arena = arena_new();
            watcher_say_event(watcher, "event", events[i].id, event_json(arena, &events[i]), false);
            watcher->last_id = events[i].id;
            arena_free(arena);
        }
    }
}

void watch_logs(struct control *control, const struct store_log *logs, size_t count)
{
    struct watcher *watcher;
    LIST_EACH (watcher, &control->watchers, struct watcher, link) {
        if (watcher->kind != WATCH_LOGS)
            continue;
        for (size_t i = 0; i < count; i++) {
            if (logs[i].endpoint_uid != watcher->filter.endpoint_uid ||
                !passes(watcher->filter.replica, logs[i].replica) || !wanted(watcher, logs[i].id))
                continue;
            struct arena *arena = arena_new();
            watcher_say_event(watcher, "log", logs[i].id, log_json(arena, &logs[i]), false);
            watcher->last_id = logs[i].id;
            arena_free(arena);
        }
    }
}

/* ---- all ------------------------------------------------------------------------------------ */

void watch_ping(struct control *control)
{
    struct watcher *watcher;
    LIST_EACH (watcher, &control->watchers, struct watcher, link)
        say(watcher, SLICE(": ping\n\n"), false);
}

void watch_end_all(struct control *control)
{
    struct watcher *watcher;
    LIST_EACH (watcher, &control->watchers, struct watcher, link)
        watcher_end(watcher);
}
