/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a head to a call: who is addressed, and whether a web page may.
 */
#include "gateway/request.h"

#include <string.h>

#include "base/arena.h"
#include "gateway/admit.h"
#include "gateway/dispatch.h"
#include "gateway/forward.h"
#include "gateway/hosts.h"
#include "gateway/probe.h"
#include "gateway/proxy.h"
#include "io/loop.h"

enum { TRACE_BYTES = 55 };

static void on_closed(struct exchange *x, const struct err *err, void *data)
{
    (void)x;
    answer_closed(data, err);
}

/* The body is another PoP's, or this one's. */
static void on_body_space(struct exchange *x, struct iovec *ret_space, void *data)
{
    struct request *request = data;

    if (request->forward)
        forward_space(request, ret_space);
    else if (request->proxy)
        proxy_space(request, ret_space);
    else
        body_space(x, ret_space, data);
}

static void on_body(struct exchange *x, size_t bytes, void *data)
{
    struct request *request = data;

    if (request->forward)
        forward_filled(request, bytes);
    else if (request->proxy)
        proxy_filled(request, bytes);
    else
        body_filled(x, bytes, data);
}

static void on_body_end(struct exchange *x, const struct err *err, void *data)
{
    struct request *request = data;

    if (request->forward)
        forward_body_ended(request, err);
    else if (request->proxy)
        proxy_body_ended(request, err);
    else
        body_ended(x, err, data);
}

static const struct exchange_handler handler = { on_body_space, on_body, on_body_end, on_closed };

static bool hexadecimal(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (!((text.data[i] >= '0' && text.data[i] <= '9') ||
              (text.data[i] >= 'a' && text.data[i] <= 'f')))
            return false;
    return true;
}

static bool all_zero(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] != '0')
            return false;
    return true;
}

/* 00-<32 hex>-<16 hex>-<2 hex>, as W3C Trace Context (section 3.2) has it: no id is all 0, there is
 * no version ff, and what a later version has behind these is left out. */
static struct slice trace_of(const struct http_headers *headers)
{
    static const struct {
        size_t from, size;
    } parts[] = { { 0, 2 }, { 3, 32 }, { 36, 16 }, { 53, TRACE_BYTES - 53 } };
    struct slice text = http_header_get(headers, "traceparent");
    if (text.size < TRACE_BYTES)
        return (struct slice){};
    struct slice version = { text.data, 2 };
    bool first = slice_is(version, "00");

    if (slice_is(version, "ff") ||
        (text.size > TRACE_BYTES && (first || text.data[TRACE_BYTES] != '-')))
        return (struct slice){};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        struct slice part = { text.data + parts[i].from, parts[i].size };
        bool id = i == 1 || i == 2;
        if (!hexadecimal(part) || (id && all_zero(part)) ||
            (i > 0 && text.data[parts[i].from - 1] != '-'))
            return (struct slice){};
    }
    return (struct slice){ text.data, TRACE_BYTES };
}

static struct request *request_new(struct exchange *x, struct gateway_loop *gl)
{
    struct request *request = ARENA_NEW(exchange_arena(x), struct request);
    const struct http_request *http = exchange_request(x);

    request->x = x;
    request->arena = exchange_arena(x);
    request->gl = gl;
    request->state = REQUEST_READING;
    request->arrived_ns = exchange_started_ns(x);
    list_init(&request->waiter.link);
    list_init(&request->held);
    list_init(&request->link);
    list_init(&request->pace);
    list_init(&request->batch);
    if (gl->table)
        request->table = table_ref(gl->table);
    (void)answer_id_make(gl, http, request->id);
    request->trace = trace_of(&http->headers);
    exchange_set_handler(x, &handler, request);
    return request;
}

/* ---- addresses ------------------------------------------------------------------------ */

static void endpoint_set(struct request *request, uint32_t row)
{
    request->row = table_endpoint(request->table->head, row);
    request->endpoint = request->table->endpoints[row];
}

/* The host, or Perigee-Endpoint, names an endpoint; 0 also when the path has to. */
static int host_resolve(struct request *request, struct err *err)
{
    const struct http_request *http = exchange_request(request->x);
    const struct table_head *table = request->table->head;
    struct slice named = http_header_get(&http->headers, "Perigee-Endpoint");
    uint32_t row;

    switch (host_find(table, http->host, &row)) {
    case HOST_FOREIGN:
        return err_set(err, ERR_MISDIRECTED, "host '%s' is none of ours", ERR_SLICE(http->host));
    case HOST_UNKNOWN:
        return err_set(err, ERR_NOT_FOUND, "no endpoint has the host '%s'", ERR_SLICE(http->host));
    case HOST_ENDPOINT:
        endpoint_set(request, row);
        if (named.size && host_label_find(table, named) != row)
            return err_set(err, ERR_NOT_FOUND, "the host is endpoint '%.*s', not '%s'",
                           SLICE_FMT(table_text(table, request->row->name)), ERR_SLICE(named));
        return 0;
    case HOST_ANY:
        break;
    }
    if (named.size == 0)
        return 0;
    row = host_label_find(table, named);
    if (row == TABLE_NONE)
        return err_set(err, ERR_NOT_FOUND, "there is no endpoint '%s'", ERR_SLICE(named));
    endpoint_set(request, row);
    return 0;
}

static int model_resolve(struct request *request, struct err *err)
{
    const struct table_head *table = request->table->head;
    struct slice model = request->route.model;
    struct slice project =
        request->row ? table_text(table, request->row->project) : SLICE("default");

    if (model.size == 0)
        return 0;
    uint32_t row = table_find_endpoint(table, project, model);
    if (row == TABLE_NONE)
        row = table_find_alias(table, project, model);
    if (row != TABLE_NONE && (!request->row || request->row == table_endpoint(table, row))) {
        endpoint_set(request, row);
        return 0;
    }
    if (request->row)
        return err_set(err, ERR_NOT_FOUND, "endpoint '%.*s' has no model '%s'",
                       SLICE_FMT(table_text(table, request->row->name)), ERR_SLICE(model));
    return err_set(err, ERR_NOT_FOUND, "there is no model '%s'", ERR_SLICE(model));
}

static int revision_resolve(struct request *request, struct err *err)
{
    const struct table *table = request->table;
    uint32_t row;

    if (!request->row || (request->route.model.size == 0 && !request->http))
        return 0;
    if (request->route.version) {
        row =
            request->route.version > UINT32_MAX
                ? TABLE_NONE
                : table_find_revision(table->head, request->row, (uint32_t)request->route.version);
        if (row == TABLE_NONE)
            return err_set(err, ERR_NOT_FOUND, "model '%.*s' has no version %llu",
                           SLICE_FMT(table_text(table->head, request->row->name)),
                           (unsigned long long)request->route.version);
        request->pinned = true;
    }
    if (request->revision_named) {
        int r = traffic_named(request, &row, err);
        if (r < 0)
            return r;
        request->pinned = true;
    } else if (!request->route.version && !(request->http || request->route.call == OIP_INFER
                                                ? traffic_target(request, &row)
                                                : call_target(table, request->row, &row))) {
        return err_set(err, ERR_OVERLOADED, "endpoint '%.*s' has no revision yet",
                       SLICE_FMT(table_text(table->head, request->row->name)));
    }
    if (table->revisions[row]->http !=
        request->http) /* what a model takes is not sent on as it is */
        return err_set(
            err, ERR_NOT_FOUND,
            "revision %u of endpoint '%.*s' is a model, and the one that serves is not, or "
            "the other way round",
            table_revision(table->head, row)->number,
            SLICE_FMT(table_text(table->head, request->row->name)));
    request->revision = table->revisions[row];
    request->revision_row = table_revision(table->head, row);
    request->side = &request->revision->sides[request->gl->index];
    return 0;
}

/* ---- web pages ------------------------------------------------------------------------ */

/* 403 to a page from elsewhere, unless the endpoint's cors.origins names it (docs/requests.md). */
static int page_check(struct request *request, struct err *err)
{
    const struct http_request *http = exchange_request(request->x);
    struct slice origin = http_header_get(&http->headers, "Origin");
    struct slice site = http_header_get(&http->headers, "Sec-Fetch-Site");

    if (!host_foreign_page(http->scheme, http->authority, origin, site))
        return 0;
    if (request->row && origin.size &&
        table_origin_allowed(request->table->head, request->row, origin)) {
        request->origin_allowed = origin;
        return 0;
    }
    const char *tick = origin.size ? "'" : ""; /* around a name alone */
    return err_set(err, ERR_FORBIDDEN,
                   "a page of %s%s%s may not call this; cors.origins of an endpoint names those "
                   "that may",
                   tick, origin.size ? ERR_SLICE(origin) : "another site", tick);
}

/* ---- the head ------------------------------------------------------------------------- */

static void infer(struct request *request)
{
    struct err err;

    request->infer = true;
    if (admit_check(request, &err) < 0 || body_begin(request, &err) < 0)
        answer_error(request, &err);
}

/* Everything under its host is the endpoint's; a page of elsewhere that it allows may ask first. */
static int http_resolve(struct request *request, bool *ret_answered, struct err *err)
{
    const struct http_request *http = exchange_request(request->x);
    int r = page_check(request, err);

    if (r < 0)
        return r;
    if (http->method == HTTP_CONNECT || http->method == HTTP_TRACE) {
        answer_method(request, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        *ret_answered = true;
        return 0;
    }
    if (http->method == HTTP_OPTIONS && request->origin_allowed.size &&
        http_header_find(&http->headers, "Access-Control-Request-Method")) {
        answer_preflight(request);
        *ret_answered = true;
        return 0;
    }
    return terms_headers(request, err);
}

/* Is what it goes to reached over HTTP, and by a name in a path as well? */
static bool over_http(const struct request *request, bool *ret_by_model)
{
    uint32_t row;

    if (!request->row || !call_target(request->table, request->row, &row) ||
        !table_reach_http(request->table->head, row))
        return false;
    *ret_by_model = table_reach(request->table->head, row)->flags & TABLE_REACH_BY_MODEL;
    return true;
}

static int resolve(struct request *request, bool *ret_answered, struct err *err)
{
    const struct http_request *http = exchange_request(request->x);
    const char *allow = NULL;
    bool by_model;
    int r = host_resolve(request, err);

    if (r < 0)
        return r;
    request->http = over_http(request, &by_model);
    if (request->http)
        return http_resolve(request, ret_answered, err);
    if (http->method == HTTP_OPTIONS) {
        struct slice wanted = http_header_get(&http->headers, "Access-Control-Request-Method");
        struct oip_route route;
        if (oip_route_find(request->arena, wanted.size ? wanted : SLICE("GET"), http->path, &route,
                           &allow, NULL) == 0)
            request->route.model = route.model;
        if (!request->row)
            (void)model_resolve(request, NULL);
        r = page_check(request, err);
        if (r == 0) {
            answer_preflight(request);
            *ret_answered = true;
        }
        return r;
    }
    int route =
        oip_route_find(request->arena, http->method_text, http->path, &request->route, &allow, err);
    int model = route == 0 ? model_resolve(request, err) : 0;
    if (model == 0 && over_http(request, &by_model)) {
        request->http = by_model;
        if (!by_model) /* it speaks no protocol that has names of models */
            model = err_set(err, ERR_NOT_FOUND, "there is no model '%s'",
                            ERR_SLICE(request->route.model));
        else
            return http_resolve(request, ret_answered, err);
    }
    struct err page;
    r = page_check(request, &page);
    if (r < 0) { /* before anything is said about what there is */
        *err = page;
        return r;
    }
    if (route == ERR_BAD_METHOD) {
        answer_method(request, allow);
        *ret_answered = true;
        return 0;
    }
    if (route < 0 || model < 0)
        return route < 0 ? route : model;
    return terms_headers(request, err);
}

/* ---- here, or elsewhere ----------------------------------------------------------------- */

void request_serve(struct request *request)
{
    struct err err;

    if (!request->revision && revision_resolve(request, &err) < 0)
        answer_error(request, &err);
    else if (request->http)
        proxy_begin(request);
    else if (request->route.call == OIP_INFER)
        infer(request);
    else
        call_answer(request);
}

/* Calls about an endpoint that where it runs alone can be answered. */
static bool belongs_to_endpoint(const struct request *request)
{
    if (request->http)
        return true;
    switch (request->route.call) {
    case OIP_INFER:
    case OIP_MODEL_READY:
    case OIP_MODEL_METADATA:
    case OIP_MODEL_CONFIG:
    case OIP_SERVER_READY:
        return request->row != NULL;
    case OIP_MODEL_STATS:
        return request->row && request->route.model.size > 0;
    default:
        return false;
    }
}

/* As load, and as from where it is asked for; wherever it goes on from here. What its head alone
 * forbids costs nothing here, and must neither draw replicas nor look like load (anyone can send
 * it); of what residency refuses nothing is said of who sent it. */
static void count(struct request *request)
{
    if (!request->infer || !request->endpoint)
        return;
    probe_arrival(request->endpoint, request->gl->index);
    asked_count(request);
}

/* 1: it is with another PoP; 0: it stays. From the head alone. */
static int place(struct request *request, struct err *err)
{
    uint32_t state = request->row ? request->row->state : TABLE_ENDPOINT_STOPPED;
    bool passable = belongs_to_endpoint(request) && state != TABLE_ENDPOINT_STOPPED;
    enum residency_place place;
    int r = residency_head(request, passable, &place, err);

    if (r < 0)
        return r;
    if (!request->http && request->route.call == OIP_INFER && !exchange_request(request->x)->framed)
        return err_set_http(err, 411, "an inference wants a body: send a Content-Length");
    request->infer = request->http || request->route.call == OIP_INFER;
    count(request);
    if (place == RESIDENCY_PASSES)
        return forward_away(request, FORWARD_place, err);
    if (passable && state != TABLE_ENDPOINT_RUNNING && !request->hop && forward_placed(request))
        return forward_away(request, FORWARD_away, err);
    r = residency_elsewhere(request, err);
    if (r == 0 && request->infer && state == TABLE_ENDPOINT_AWAY)
        r = request_away(request, err);
    if (r == 0)
        r = revision_resolve(request, err);
    return r < 0 || !request->infer || state != TABLE_ENDPOINT_RUNNING
               ? r
               : forward_begin(request, err);
}

static void on_head(struct exchange *x, void *data)
{
    struct gateway_loop *gl = data;
    bool answered = false;
    struct err err;

    if (probe_answer(gl, x))
        return;
    struct request *request = request_new(x, gl);

    gl->worked = true;
    dispatch_wake_due(gl, request->arrived_ns);
    if (!request->table) {
        ANSWER_ERROR(request, ERR_OVERLOADED, "starting: nothing is known of any endpoint yet");
        return;
    }
    int r = resolve(request, &answered, &err);
    if (r == 0 && !answered)
        r = place(request, &err);
    if (r < 0)
        answer_error(request, &err);
    else if (r == 0 && !answered)
        request_serve(request);
}

const struct http_server_events request_server_events = { on_head, answer_refusal };
