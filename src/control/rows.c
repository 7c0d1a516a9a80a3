/* SPDX-License-Identifier: Apache-2.0 */
/* Lists that the store keeps: revisions, history, logs, events, audit. Read on the reader's thread.
 */
#include <stdlib.h>

#include "base/arena.h"
#include "base/json.h"
#include "control/control_own.h"
#include "control/routes.h"
#include "control/watch.h"

struct listing {
    uint64_t uid;
    uint64_t number; /* one revision; 0: all */
    struct store_page page;
    struct store_filter filter;
    int (*read)(struct listing *listing, struct request *q, struct store *store, struct err *err);
    struct slice json;
};

/* ---- the common part ------------------------------------------------------------------------ */

static int on_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct listing *listing = q->data;
    return listing->read(listing, q, store, err);
}

static void on_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct listing *listing = q->data;
    if (err)
        request_fail(q, err);
    else
        request_reply(q, 200, listing->json);
}

static void start(struct request *q, const struct listing *listing)
{
    struct listing *own = ARENA_NEW(q->arena, struct listing);
    *own = *listing;
    q->data = own;
    request_read(q, on_run, on_done);
}

static void begin(struct json_writer *w, struct request *q)
{
    json_begin(w, q->arena, 0);
    json_object_begin(w);
    json_key(w, "items");
    json_array_begin(w);
}

/* `next` is what `after` wants, where there may be more behind. */
static struct slice end(struct json_writer *w, const struct store_page *page, size_t count,
                        uint64_t last)
{
    json_array_end(w);
    json_member_u64_or_null(w, "next", page && !page->from_end && count == page->limit, last);
    json_object_end(w);
    return json_end(w);
}

/* ---- revisions ------------------------------------------------------------------------------ */

static int read_revisions(struct listing *listing, struct request *q, struct store *store,
                          struct err *err)
{
    struct store_endpoint endpoint;
    struct store_revision *list, one;
    size_t count;
    struct json_writer w;
    int r = store->endpoint_get(store, listing->uid, q->arena, &endpoint, err);
    if (r < 0)
        return r;
    if (listing->number) {
        r = store->revision_get(store, listing->uid, listing->number, q->arena, &one, err);
        if (r < 0)
            return r;
        json_begin(&w, q->arena, 0);
        view_revision(&w, &endpoint, &one);
        listing->json = json_end(&w);
        return 0;
    }
    r = store->revision_list(store, listing->uid, q->arena, &list, &count, err);
    if (r < 0)
        return r;
    begin(&w, q);
    for (size_t i = 0; i < count; i++)
        view_revision(&w, &endpoint, &list[i]);
    listing->json = end(&w, NULL, 0, 0);
    return 0;
}

void revisions_list(struct request *q)
{
    struct hub_endpoint *endpoint = request_endpoint(q);
    if (endpoint)
        start(q, &(struct listing){ .uid = endpoint->snapshot->row.uid, .read = read_revisions });
}

void revision_get(struct request *q)
{
    uint64_t number;
    struct hub_endpoint *endpoint = request_endpoint(q);
    if (!endpoint)
        return;
    if (!slice_u64(q->parts[1], &number) || number == 0 || number > INT64_MAX) {
        request_refuse(q, ERR_NOT_FOUND, "no revision '%s': they are numbered from 1",
                       ERR_SLICE(q->parts[1]));
        return;
    }
    start(q, &(struct listing){
                 .uid = endpoint->snapshot->row.uid, .number = number, .read = read_revisions });
}

/* ---- history -------------------------------------------------------------------------------- */

static int read_history(struct listing *listing, struct request *q, struct store *store,
                        struct err *err)
{
    struct store_history *list;
    size_t count;
    struct json_writer w;
    int r = store->history_list(store, listing->uid, &listing->page, q->arena, &list, &count, err);
    if (r < 0)
        return r;
    begin(&w, q);
    for (size_t i = 0; i < count; i++) {
        json_object_begin(&w);
        json_member_u64(&w, "id", list[i].id);
        view_member_time(&w, "at", list[i].at_ns);
        json_member_string(&w, "who", list[i].who);
        json_member_u64(&w, "generation", list[i].generation);
        json_member_u64(&w, "revision", list[i].revision);
        json_key(&w, "diff");
        json_raw(&w, list[i].diff);
        json_object_end(&w);
    }
    listing->json = end(&w, &listing->page, count, count ? list[count - 1].id : 0);
    return 0;
}

/* Reads the page, or answers why not. */
static bool page_of(struct request *q, struct store_page *ret)
{
    struct err err;
    if (request_page(q, ret, &err) == 0)
        return true;
    request_fail(q, &err);
    return false;
}

void history_list(struct request *q)
{
    struct listing listing = { .read = read_history };
    struct hub_endpoint *endpoint = request_endpoint(q);
    if (!endpoint || !page_of(q, &listing.page))
        return;
    listing.uid = endpoint->snapshot->row.uid;
    start(q, &listing);
}

/* ---- logs ----------------------------------------------------------------------------------- */

static int read_logs(struct listing *listing, struct request *q, struct store *store,
                     struct err *err)
{
    struct store_log *list;
    size_t count;
    struct json_writer w;
    int r = store->log_list(store, &listing->filter, &listing->page, q->arena, &list, &count, err);
    if (r < 0)
        return r;
    begin(&w, q);
    for (size_t i = 0; i < count; i++)
        view_log(&w, &list[i]);
    listing->json = end(&w, &listing->page, count, count ? list[count - 1].id : 0);
    return 0;
}

void logs_list(struct request *q)
{
    struct listing listing = { .read = read_logs };
    struct hub_endpoint *endpoint = request_endpoint(q);
    if (!endpoint || !page_of(q, &listing.page))
        return;
    if (request_flag(q, "watch")) {
        watch_logs_open(q, endpoint->snapshot->row.uid, listing.page.after, listing.page.from_end);
        return;
    }
    listing.filter.endpoint_uid = endpoint->snapshot->row.uid;
    listing.filter.replica = request_query(q, "replica");
    start(q, &listing);
}

/* ---- events --------------------------------------------------------------------------------- */

static int read_events(struct listing *listing, struct request *q, struct store *store,
                       struct err *err)
{
    struct store_event *list;
    size_t count;
    struct json_writer w;
    int r =
        store->event_list(store, &listing->filter, &listing->page, q->arena, &list, &count, err);
    if (r < 0)
        return r;
    begin(&w, q);
    for (size_t i = 0; i < count; i++)
        view_event(&w, &list[i]);
    listing->json = end(&w, &listing->page, count, count ? list[count - 1].id : 0);
    return 0;
}

void events_list(struct request *q)
{
    struct listing listing = { .read = read_events };
    if (!page_of(q, &listing.page))
        return;
    if (request_flag(q, "watch")) {
        watch_events_open(q, listing.page.after, listing.page.from_end);
        return;
    }
    listing.filter.endpoint = request_query(q, "endpoint");
    listing.filter.project = request_query(q, "project");
    start(q, &listing);
}

/* ---- audit ---------------------------------------------------------------------------------- */

static void write_audit(struct json_writer *w, const struct store_audit *row)
{
    json_object_begin(w);
    json_member_u64(w, "id", row->id);
    view_member_time(w, "at", row->at_ns);
    json_member_string(w, "who", row->who);
    json_member_string(w, "action", row->action);
    json_member_string(w, "from", row->from);
    json_member_string(w, "request_id", row->request_id);
    json_member_string(w, "project", row->project);
    json_member_string(w, "endpoint", row->endpoint);
    json_member_text(w, "before", row->before.size ? row->before.data : NULL);
    json_member_text(w, "after", row->after.size ? row->after.data : NULL);
    json_object_end(w);
}

static int read_audit(struct listing *listing, struct request *q, struct store *store,
                      struct err *err)
{
    struct store_audit *list;
    size_t count;
    struct json_writer w;
    int r = store->audit_list(store, &listing->page, q->arena, &list, &count, err);
    if (r < 0)
        return r;
    begin(&w, q);
    for (size_t i = 0; i < count; i++)
        write_audit(&w, &list[i]);
    listing->json = end(&w, &listing->page, count, count ? list[count - 1].id : 0);
    return 0;
}

void audit_list(struct request *q)
{
    struct listing listing = { .read = read_audit };
    if (page_of(q, &listing.page))
        start(q, &listing);
}
