/* SPDX-License-Identifier: Apache-2.0 */
#include "control/request.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/env.h"
#include "base/json.h"
#include "base/log.h"
#include "control/control_own.h"
#include "control/granted.h"
#include "control/guard.h"
#include "control/registry.h"
#include "control/routes.h"
#include "io/loop.h"
#include "spec/endpoint.h"
#include "store/digest.h"
#include "store/oci.h"
#include "store/store.h"

enum {
    BODY_BYTES_FIRST = 16 << 10,
    REPLY_HEADERS_MAX = 12,
    SAY_MOST = 10, /* lines of failed calls in SAY_EVERY_MS */
    SAY_EVERY_MS = 60'000,
};

/* ---- its end -------------------------------------------------------------------------------- */

static void turn_end(struct request *q)
{
    if (q->turn)
        *q->turn = false;
    q->turn = NULL;
}

static void request_free(struct request *q)
{
    turn_end(q);
    if (q->body)
        explicit_bzero(q->body, q->body_bytes); /* it may be a secret */
    if (!q->body_arena)
        free(q->body);
    arena_free(q->body_arena);
    arena_free(q->arena);
}

static void count(struct request *q, int status)
{
    char code[8];
    snprintf(code, sizeof code, "%d", status);
    struct slice operation = slice_of(q->route ? q->route->operation : "none");
    const struct slice labels[] = { operation, slice_of(code) };
    metric_add(control_count(q->control, CONTROL_REQUESTS, labels), 1);
    metric_observe(&q->control->metrics, control_count(q->control, CONTROL_SECONDS, &operation),
                   (uint64_t)(loop_now_ns() - q->started_ns));
}

void request_closed(struct request *q)
{
    q->x = NULL;
    if (q->on_closed)
        q->on_closed(q);
    if (!q->running)
        request_free(q);
}

static void on_closed(struct exchange *x, const struct err *err, void *data)
{
    (void)x;
    (void)err;
    request_closed(data);
}

/* ---- answering ------------------------------------------------------------------------------ */

void request_reply_with(struct request *q, int status, const struct http_header *headers,
                        size_t extra, const char *type, struct slice body)
{
    struct http_header all[REPLY_HEADERS_MAX];
    size_t n = 0;
    if (!q->x || exchange_responded(q->x))
        return;
    assert(extra + 3 <= REPLY_HEADERS_MAX);
    all[n++] = (struct http_header){ SLICE("X-Request-Id"), slice_of(q->id) };
    if (type)
        all[n++] = (struct http_header){ SLICE("Content-Type"), slice_of(type) };
    all[n++] = (struct http_header){ SLICE("Cache-Control"), SLICE("no-store") };
    for (size_t i = 0; i < extra; i++)
        all[n++] = headers[i];
    count(q, status);
    turn_end(q);
    exchange_reply(q->x, status, all, n, body);
}

void request_reply(struct request *q, int status, struct slice json)
{
    request_reply_with(q, status, NULL, 0, "application/json", json);
}

static struct slice problem(struct arena *arena, const struct err *err)
{
    struct json_writer w;
    const struct err_info *info = err_info(err->code);
    json_begin(&w, arena, JSON_NEWLINE);
    json_object_begin(&w);
    json_member_text(&w, "type", arena_format(arena, "urn:perigee:error:%s", info->name));
    json_member_text(&w, "title", info->text);
    json_member_i64(&w, "status", err_http(err));
    json_member_text(&w, "detail", err->message);
    json_object_end(&w);
    return json_end(&w);
}

static size_t error_headers(const struct err *err, struct http_header ret[static 2])
{
    size_t n = 0;
    ret[n++] = (struct http_header){ SLICE("Perigee-Error"), slice_of(err_info(err->code)->name) };
    if (err->code == ERR_UNAUTHENTICATED)
        ret[n++] = HTTP_HEADER("WWW-Authenticate", SLICE("Bearer"));
    if (err->code == ERR_OVERLOADED)
        ret[n++] = (struct http_header){ SLICE("Retry-After"), SLICE("2") };
    if (err->code == ERR_RATE_LIMITED)
        ret[n++] = (struct http_header){ SLICE("Retry-After"), SLICE("1") };
    return n;
}

static const char *error_type(bool registry)
{
    return registry ? "application/json" : "application/problem+json";
}

static struct slice error_body(struct request *q, const struct err *err)
{
    return q->registry ? registry_errors(q->arena, q, err) : problem(q->arena, err);
}

static void fail_quietly(struct request *q, const struct err *err)
{
    struct http_header headers[2];
    size_t n = error_headers(err, headers);
    request_reply_with(q, err_http(err), headers, n, error_type(q->registry), error_body(q, err));
}

/* Who asks decides how often something fails: of each level so many lines in so long, and how many
 * there would have been besides. */
static bool may_say(struct control *control, enum log_level level, uint64_t *ret_unsaid)
{
    struct control_said *said = &control->said[level == LOG_ERROR];
    int64_t now_ms = loop_now_ms(control->loop);
    *ret_unsaid = 0;
    if (said->from_ms == 0 || now_ms - said->from_ms >= SAY_EVERY_MS) {
        *ret_unsaid = said->count > SAY_MOST ? said->count - SAY_MOST : 0;
        *said = (struct control_said){ .from_ms = now_ms > 0 ? now_ms : 1 };
    }
    return ++said->count <= SAY_MOST;
}

/* Who is refused for now asks again; with all else above 500 somebody has lost something. */
static void say_failure(struct request *q, const struct err *err)
{
    enum log_level level = err->code == ERR_OVERLOADED ? LOG_WARN : LOG_ERROR;
    uint64_t unsaid;
    if (!may_say(q->control, level, &unsaid))
        return;
    log_write(level, "control", level == LOG_WARN ? "call refused for now" : "call failed",
              LOG_FIELDS(LOG_S("request", q->id),
                         LOG_S("operation", q->route ? q->route->operation : ""),
                         LOG_S("error", err->message), LOG_U("unsaid_before", unsaid)));
}

void request_fail(struct request *q, const struct err *err)
{
    if (!q->x)
        return;
    if (err_http(err) >= 500 && err->code != ERR_NOT_SUPPORTED) {
        metric_add(control_count(q->control, CONTROL_STORE_ERRORS, NULL), 1);
        say_failure(q, err);
    }
    fail_quietly(q, err);
}

/* That there is too much of something is no failure of store or disk. */
static void refuse(struct request *q, const struct err *err)
{
    if (err->code != ERR_OVERLOADED) {
        request_fail(q, err);
    } else if (q->x) {
        say_failure(q, err);
        fail_quietly(q, err);
    }
}

void request_refuse(struct request *q, int code, const char *format, ...)
{
    char message[400];
    struct err err;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    (void)!err_set(&err, (enum err_code)code, "%s", message);
    refuse(q, &err);
}

struct hub_endpoint *request_endpoint(struct request *q)
{
    struct hub_endpoint *endpoint = hub_find(q->control, q->project, q->parts[0]);
    if (!endpoint)
        request_refuse(q, ERR_NOT_FOUND, "no endpoint '%s' in project '%s'", ERR_SLICE(q->parts[0]),
                       ERR_SLICE(q->project));
    return endpoint;
}

void request_on_refusal(struct arena *arena, const struct http_request *head, const struct err *err,
                        struct http_refusal *ret, void *control)
{
    bool registry = registry_is(head);
    (void)control;
    ret->headers = ARENA_ARRAY(arena, struct http_header, 4);
    ret->headers[0] = HTTP_HEADER("Content-Type", slice_of(error_type(registry)));
    ret->count = 1 + error_headers(err, ret->headers + 1);
    ret->body = registry ? registry_errors(arena, NULL, err) : problem(arena, err);
}

/* ---- reading -------------------------------------------------------------------------------- */

struct slice request_header(const struct request *q, const char *name)
{
    return http_header_get(&exchange_request(q->x)->headers, name);
}

struct slice request_query(const struct request *q, const char *name)
{
    const struct http_parameter *parameter = http_parameter_find(&q->query, name);
    return parameter ? parameter->value : (struct slice){};
}

bool request_flag(const struct request *q, const char *name)
{
    struct slice value = request_query(q, name);
    return slice_is(value, "1") || slice_is(value, "true");
}

struct slice request_bearer(const struct request *q)
{
    struct slice value = request_header(q, "Authorization");
    static const size_t prefix = sizeof "Bearer " - 1;
    if (value.size <= prefix ||
        !slice_equal_nocase((struct slice){ value.data, prefix }, SLICE("Bearer ")))
        return (struct slice){};
    return slice_trim((struct slice){ value.data + prefix, value.size - prefix });
}

int request_number(const struct request *q, const char *name, uint64_t max, uint64_t *value,
                   struct err *err)
{
    const struct http_parameter *parameter = http_parameter_find(&q->query, name);
    if (!parameter)
        return 0;
    if (!slice_u64(parameter->value, value) || *value > max)
        return err_set(err, ERR_BAD_INPUT, "?%s= must be a number up to %llu, not '%s'", name,
                       (unsigned long long)max, ERR_SLICE(parameter->value));
    return 0;
}

int request_limit(const struct request *q, uint64_t max, uint64_t *limit, struct err *err)
{
    int r = request_number(q, "limit", max, limit, err);
    if (r == 0 && *limit == 0)
        return err_set(err, ERR_BAD_INPUT, "?limit= must be 1 or more");
    return r;
}

int request_page(const struct request *q, struct store_page *ret, struct err *err)
{
    uint64_t after = 0, limit = 100;
    int r = request_number(q, "after", INT64_MAX, &after, err);
    if (r == 0)
        r = request_limit(q, STORE_PAGE_MAX, &limit, err);
    if (r < 0)
        return r;
    *ret = (struct store_page){
        .after = after,
        .limit = (uint32_t)limit,
        .from_end = !http_parameter_find(&q->query, "after"),
    };
    return 0;
}

struct store_audit request_audit(struct request *q, const char *action)
{
    char text[ADDRESS_TEXT_BYTES];
    const struct address *client = q->x ? exchange_client(q->x) : NULL;
    return (struct store_audit){
        .at_ns = q->now_ns,
        .who = q->trusted ? SLICE("socket") : SLICE("open"),
        .action = slice_of(action),
        .from = q->trusted || !client
                    ? SLICE("unix")
                    : slice_of(arena_string(q->arena, slice_of(address_text(client, text)))),
        .request_id = slice_of(q->id),
        .project = q->project,
        .endpoint = q->parts[0],
    };
}

/* ---- jobs ----------------------------------------------------------------------------------- */

static void on_job_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    q->running = false;
    q->on_job_done(job, err);
    if (!q->x && !q->running)
        request_free(q);
}

static void start(struct request *q, enum job_place place, job_run_cb run, job_done_cb done)
{
    assert(!q->running);
    q->running = true;
    q->on_job_done = done;
    job_start(q->control, &q->job, place, run, on_job_done, q);
}

void request_write(struct request *q, job_run_cb run, job_done_cb done)
{
    start(q, JOB_WRITE, run, done);
}

void request_read(struct request *q, job_run_cb run, job_done_cb done)
{
    start(q, JOB_READ, run, done);
}

void request_disk(struct request *q, job_run_cb run, job_done_cb done)
{
    start(q, JOB_DISK, run, done);
}

void request_ask(struct request *q, job_run_cb run, job_done_cb done)
{
    start(q, JOB_ASK, run, done);
}

/* ---- the body ------------------------------------------------------------------------------- */

static char *body_grown(struct request *q, size_t room)
{
    if (!(q->route->flags & ROUTE_SECRET))
        return mem_move_wiped(q->body, q->body_bytes, room);
    if (!q->body_arena)
        q->body_arena = arena_new_secret();
    char *body = arena_alloc(q->body_arena, room);
    if (q->body_bytes)
        memcpy(body, q->body, q->body_bytes);
    return body;
}

static void on_body_space(struct exchange *x, struct iovec *ret_space, void *data)
{
    struct request *q = data;
    (void)x;
    if (q->body_room - q->body_bytes < 1024) {
        size_t room = q->body_room ? q->body_room * 2 : BODY_BYTES_FIRST;
        q->body = body_grown(q, room);
        q->body_room = room;
    }
    *ret_space = (struct iovec){ q->body + q->body_bytes, q->body_room - q->body_bytes };
}

static void on_body(struct exchange *x, size_t bytes, void *data)
{
    struct request *q = data;
    (void)x;
    q->body_bytes += bytes;
}

static void on_body_end(struct exchange *x, const struct err *err, void *data)
{
    struct request *q = data;
    (void)x;
    if (err)
        request_fail(q, err);
    else
        q->route->handler(q);
}

const struct exchange_handler request_handler = { on_body_space, on_body, on_body_end, on_closed };

/* ---- the head ------------------------------------------------------------------------------- */

static struct request *request_new(struct exchange *x, struct control *control)
{
    struct arena *arena = arena_new();
    struct request *q = ARENA_NEW(arena, struct request);
    q->arena = arena;
    q->control = control;
    q->x = x;
    q->project = SLICE("default");
    q->started_ns = exchange_started_ns(x);
    q->now_ns = control_wall_ns(control);
    q->trusted = exchange_peer(x)->kind == ADDRESS_UNIX;
    q->registry = registry_is(exchange_request(x));
    if (!request_id_take(exchange_request(x), q->id))
        request_id_make(env_random_u64(control->env), q->id);
    exchange_set_handler(x, &request_handler, q);
    return q;
}

static int check_caller(struct request *q, struct err *err)
{
    struct control *control = q->control;
    const struct http_request *head = exchange_request(q->x);
    const struct guard guard = { control->start.zone, control->start.api_host, control->addresses,
                                 control->listener_count };
    int r;
    if (q->trusted)
        return 0;
    if ((r = guard_host(&guard, head, err)) < 0 || (r = guard_origin(head, err)) < 0)
        return r;
    return 0;
}

/* What is compared is digests: how far two agree tells nothing of a secret. */
int request_check_secret(const struct request *q, const struct store_pop *pop, struct err *err)
{
    if (q->trusted)
        return 0;
    if (pop && q->secret[0] && slice_is(pop->tombstone, q->secret))
        return err_set(err, ERR_GONE,
                       "PoP '%s' was deleted: its replicas end. To have it again: `perigee pops "
                       "create`, and `perigee pop --token-file` with the new token",
                       ERR_SLICE(q->parts[0]));
    if (!pop || !q->secret[0] || !slice_is(pop->secret, q->secret))
        return err_set(err, ERR_UNAUTHENTICATED,
                       "this is not the secret of a PoP '%s', or no more: it has a new token",
                       ERR_SLICE(q->parts[0]));
    return 0;
}

static int check_pop(struct request *q, struct err *err)
{
    char digest[DIGEST_TEXT];
    static_assert(sizeof q->secret >= DIGEST_TEXT, "a digest fits");
    const struct hub_pop *pop = map_get(&q->control->hub.pops, q->parts[0]);
    struct slice secret = request_bearer(q);
    if (!secret.size)
        return err_set(err, ERR_UNAUTHENTICATED,
                       "this is for a PoP's agent, with the secret it joined with");
    snprintf(q->secret, sizeof q->secret, "%s", digest_of(secret, digest));
    return request_check_secret(q, pop ? &pop->row : NULL, err);
}

static int check_route(struct request *q, struct err *err)
{
    static const char *const types[] = {
        [BODY_JSON] = "application/json",           [BODY_PATCH] = "application/merge-patch+json",
        [BODY_REPORT] = "application/json",         [BODY_LEDGER] = "application/octet-stream",
        [BODY_UPLOAD] = "application/octet-stream",
    };
    int r = q->route->scope == SCOPE_POP && !q->trusted ? check_pop(q, err) : 0;
    if (r < 0)
        return r;
    if (q->route->body != BODY_NONE && !q->registry)
        return guard_type(exchange_request(q->x), types[q->route->body], err);
    return 0;
}

/* A report may be large, and is a write. An agent sends the next one when this has been answered,
 * and not without end. */
static int turn_begin(struct request *q, struct err *err)
{
    struct hub_pop *pop = map_get(&q->control->hub.pops, q->parts[0]);
    if (q->trusted || !pop)
        return 0;
    bool report = q->route->body == BODY_REPORT;
    bool *turn = report ? &pop->report_in_hand : &pop->usage_in_hand;
    if (*turn)
        return err_set(err, ERR_OVERLOADED, "another %s of PoP '%s' is being taken",
                       report ? "report" : "ledger", ERR_SLICE(q->parts[0]));
    if (report && !granted_report(q->control, pop))
        return err_set(err, ERR_RATE_LIMITED,
                       "PoP '%s' reports more than %d times a second; one report may say much",
                       ERR_SLICE(q->parts[0]), (int)GRANTED_REPORTS_A_SECOND);
    *turn = true;
    q->turn = turn;
    return 0;
}

static void read_body(struct request *q)
{
    struct err err;
    bool report = q->route->body == BODY_REPORT || q->route->body == BODY_LEDGER;
    if (report && turn_begin(q, &err) < 0) {
        fail_quietly(q, &err); /* it can ask for this as often as it likes */
        return;
    }
    q->body_bytes_max = report                            ? REQUEST_REPORT_BYTES_MAX
                        : q->route->body == BODY_MANIFEST ? OCI_MANIFEST_BYTES_MAX
                                                          : REQUEST_SPEC_BYTES_MAX;
    if (exchange_body_start(q->x, q->body_bytes_max, &err) < 0)
        request_fail(q, &err);
}

/* The head's slices go with the exchange; a job may outlive it. What had nothing to decode is still
 * the head's, and a handler's job reads its parameters. */
static void keep_words(struct request *q)
{
    q->project = arena_copy(q->arena, q->project);
    for (size_t i = 0; i < HTTP_PATH_PARTS_MAX; i++)
        if (q->parts[i].data)
            q->parts[i] = arena_copy(q->arena, q->parts[i]);
    for (size_t i = 0; i < q->query.count; i++) {
        struct http_parameter *item = &q->query.items[i];
        item->name = arena_copy(q->arena, item->name);
        item->value = arena_copy(q->arena, item->value);
    }
}

static int find_route(struct request *q, const struct http_request *head,
                      char allow[static ROUTES_ALLOW_BYTES], struct err *err)
{
    if (!q->registry)
        return routes_find(control_routes, control_route_count, head, &q->route, q->parts,
                           &q->project, allow, err);
    int r = routes_find(registry_routes, registry_route_count, head, &q->route, q->parts,
                        &q->project, allow, err);
    if (r == ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND,
                       "no such path: a repository is /v2/PROJECT/NAME, and nothing deeper");
    if (r == 0 && q->parts[0].data)
        q->project = q->parts[0];
    return r < 0 ? r : registry_check_name(q, err);
}

static int check_query(const struct request *q, struct err *err)
{
    /* What clients of a registry put there is the specification's to add to. */
    return q->registry ? 0 : routes_check_query(q->route, &q->query, err);
}

void request_on_head(struct exchange *x, void *data)
{
    struct control *control = data;
    struct request *q = request_new(x, control);
    const struct http_request *head = exchange_request(x);
    char allow[ROUTES_ALLOW_BYTES];
    struct err err = {};

    int r = check_caller(q, &err);
    if (r == 0)
        r = http_query_parse(q->arena, head->query, &q->query, &err);
    if (r == 0)
        r = find_route(q, head, allow, &err);
    if (r == ERR_BAD_METHOD) {
        struct http_header headers[] = {
            { SLICE("X-Request-Id"), slice_of(q->id) },
            { SLICE("Content-Type"), slice_of(error_type(q->registry)) },
            { SLICE("Perigee-Error"), SLICE("bad_method") },
        };
        count(q, 405);
        exchange_reply_method(x, allow, headers, 3, error_body(q, &err));
        return;
    }
    if (r == 0)
        r = check_route(q, &err);
    if (r == 0)
        r = check_query(q, &err);
    if (r == 0 && q->route->flags & ROUTE_PROJECT)
        r = spec_check_project_name(q->project, &err);
    if (r < 0) {
        request_fail(q, &err);
        return;
    }
    keep_words(q);
    if (q->route->body == BODY_NONE || q->route->body == BODY_UPLOAD)
        q->route->handler(q);
    else
        read_body(q);
}
