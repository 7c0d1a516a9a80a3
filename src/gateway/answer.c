/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every answer of the gateway goes out here: the headers that all have, the body in the protocol's
 * form, and, once it is out, one log line and the counters.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/log.h"
#include "gateway/admit.h"
#include "gateway/dispatch.h"
#include "gateway/decision.h"
#include "gateway/forward.h"
#include "gateway/proxy.h"
#include "gateway/request.h"
#include "io/loop.h"
#include "proto/hop.h"
#include "proto/number.h"

SM_DEFINE(request_state, REQUEST_STATES)

#define HEADERS_MAX 16
#define ANSWER_FREE_BYTES 65536u

struct reply {
    struct http_header headers[HEADERS_MAX];
    size_t count;
};

static void reply_add(struct reply *reply, struct slice name, struct slice value)
{
    assert(reply->count < HEADERS_MAX);
    reply->headers[reply->count++] = (struct http_header){ name, value };
}

/* A number of every answer's head; printf would be a tenth of a small request. */
static struct slice number_text(struct request *request, uint64_t value)
{
    char *text = arena_alloc(request->arena, NUMBER_OUT_MAX);

    return (struct slice){ text, number_write_u64(text, value) };
}

/* Milliseconds with three decimals. */
static char *duration_put(char *to, struct slice name, uint64_t ns)
{
    uint64_t us = ns / 1000;

    memcpy(to, name.data, name.size);
    to += name.size;
    to += number_write_u64(to, us / 1000);
    *to++ = '.';
    *to++ = (char)('0' + us / 100 % 10);
    *to++ = (char)('0' + us / 10 % 10);
    *to++ = (char)('0' + us % 10);
    return to;
}

static void timing_add(struct request *request, struct reply *reply)
{
    if (!request->infer_ns && !request->queue_ns)
        return;
    char *text = arena_alloc(request->arena, 3 * (NUMBER_OUT_MAX + 20)), *at = text;
    request->rtt_us = exchange_rtt_us(request->x);
    at = duration_put(at, request->cold ? SLICE("cold;dur=") : SLICE("queue;dur="),
                      request->queue_ns);
    if (request->infer_ns) /* else it waited in vain */
        at = duration_put(at, SLICE(", infer;dur="), request->infer_ns);
    if (request->rtt_us) /* of what another PoP passed on, the way from there */
        at = duration_put(at, request->hop ? SLICE(", hop;dur=") : SLICE(", net;dur="),
                          (uint64_t)request->rtt_us * 1000);
    reply_add(reply, SLICE("Server-Timing"), (struct slice){ text, (size_t)(at - text) });
}

static void reply_begin(struct request *request, struct reply *reply)
{
    reply->count = 0;
    reply_add(reply, SLICE("X-Request-Id"), slice_of(request->id));
    if (request->table)
        reply_add(reply, SLICE("Perigee-Pop"),
                  table_text(request->table->head, request->table->head->pop));
    if (request->revision_row && request->infer)
        reply_add(reply, SLICE("Perigee-Revision"),
                  number_text(request, request->revision_row->number));
    if (request->origin_allowed.size) {
        reply_add(reply, SLICE("Access-Control-Allow-Origin"), request->origin_allowed);
        reply_add(reply, SLICE("Access-Control-Expose-Headers"),
                  SLICE("X-Request-Id, Server-Timing, Perigee-Pop, Perigee-Revision, "
                        "Perigee-Error, Inference-Header-Content-Length"));
        reply_add(reply, SLICE("Vary"), SLICE("Origin"));
    }
    timing_add(request, reply);
}

/* From here nothing that waits or runs for it may touch it again. */
static void request_settle(struct request *request)
{
    admit_leave(request);
    dispatch_forget(request);
    if (!request->relayed) {
        forward_cancel(request);
        proxy_cancel(request);
    }
    list_remove(&request->pace);
    shard_deadline_stop(request->gl, &request->timer);
    if (request->number)
        repository_cancel(request);
    if (request->block)
        block_give(request->block_side->blocks, take_ptr(request->block));
    request_state_move(&request->state, REQUEST_ANSWERED);
}

static struct slice text_copy(struct request *request, struct text *text)
{
    struct slice body = arena_copy(request->arena, text_slice(text));

    text_deinit(text);
    return body;
}

static struct slice error_body(struct request *request, const struct err *err)
{
    struct text text;

    if (request->http) /* nobody knows what it speaks but HTTP */
        return slice_of(arena_format(request->arena, "%s\n", err->message));
    text_init(&text);
    oip_write_error(&text, slice_of(err->message));
    return text_copy(request, &text);
}

static void fail_count(struct request *request)
{
    struct gateway_stats *stats =
        request->infer && request->revision ? request->revision->stats : NULL;

    if (!stats)
        return;
    int64_t took = loop_now_ns() - request->arrived_ns;
    atomic_fetch_add_explicit(&stats->fail, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&stats->fail_ns, (uint64_t)took, memory_order_relaxed);
}

static void success_count(struct request *request)
{
    struct gateway_stats *stats = request->side->revision->stats;

    if (!stats)
        return;
    int64_t took = loop_now_ns() - request->arrived_ns;
    atomic_fetch_add_explicit(&stats->success, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&stats->success_ns, (uint64_t)took, memory_order_relaxed);
    atomic_store_explicit(&stats->last_ms, (uint64_t)loop_wall_s() * 1000, memory_order_relaxed);
}

static void overloaded(struct request *request, struct reply *reply)
{
    static const struct slice reasons[] = {
#define REASON(name) SLICE(#name),
        REQUEST_SHEDS(REASON)
#undef REASON
    };

    reply_add(reply, SLICE("Retry-After"),
              slice_of(arena_format(request->arena, "%u", admit_retry_after_s(request))));
    if (!request->row)
        return;
    struct slice labels[] = { table_text(request->table->head, request->row->project),
                              table_text(request->table->head, request->row->name),
                              reasons[request->shed] };
    metric_add(metrics_series(&request->gl->metrics, GATEWAY_OVERLOADED, labels), 1);
}

void answer_error(struct request *request, const struct err *err)
{
    struct reply reply;
    const struct err_info *info = err_info(err->code);

    if (request->state == REQUEST_ANSWERED)
        return;
    if (request->state == REQUEST_WAITING || request->state == REQUEST_HELD)
        request->queue_ns = (uint64_t)(loop_now_ns() - request->queued_ns);
    request_settle(request);
    request->ended = slice_of(info->name);
    fail_count(request);
    if (exchange_responded(request->x)) {
        exchange_abort(request->x);
        return;
    }
    reply_begin(request, &reply);
    reply_add(&reply, SLICE("Content-Type"),
              request->http ? SLICE("text/plain; charset=utf-8") : SLICE("application/json"));
    reply_add(&reply, SLICE("Perigee-Error"), request->ended);
    if (request->hop_refused)
        reply_add(&reply, SLICE(HOP_HEADER), SLICE("refused"));
    if (err->code == ERR_OVERLOADED)
        overloaded(request, &reply);
    if ((err->code == ERR_INTERNAL || err->code == ERR_REPLICA_DIED) && !request->unlogged)
        log_error("gateway", "request failed", LOG_S("request", request->id),
                  LOG_S("error", info->name),
                  LOG_S("why", request->replica_words ? "the model failed, as its client was told"
                                                      : err->message));
    exchange_reply(request->x, err_http(err), reply.headers, reply.count, error_body(request, err));
}

/* Its name as the table has it; empty: none that is known. */
static struct slice error_name(struct slice text)
{
    for (int i = 0; i < ERR_COUNT; i++)
        if (slice_is(text, err_info(-1 - i)->name))
            return slice_of(err_info(-1 - i)->name);
    return (struct slice){};
}

void answer_relay(struct request *request, int status, const struct http_headers *headers,
                  uint64_t content_length, struct slice error)
{
    request->relayed = true;
    request_settle(request);
    request->ended = error_name(error);
    if (slice_is(request->ended, err_info(ERR_RESIDENCY)->name))
        request->unlogged = true; /* as one that was refused here */
    if (status == 101) {
        exchange_upgrade(request->x, headers->items, headers->count);
        decision_close(request); /* it may last: who asks meanwhile finds it */
        return;
    }
    exchange_respond(request->x, status, headers->items, headers->count, content_length);
}

void answer_proxied(struct request *request, int status, const struct http_headers *headers,
                    uint64_t content_length)
{
    struct http_headers all = proxy_answer_headers(request, headers, HEADERS_MAX);
    bool own_cors = !http_header_find(headers, "Access-Control-Allow-Origin");
    struct reply reply;

    request->relayed = true;
    request_settle(request);
    if (status < 500)
        success_count(request);
    else
        fail_count(request);
    if (!own_cors) /* the application says itself who may read it */
        request->origin_allowed = (struct slice){};
    reply_begin(request, &reply);
    if (status == 101) {
        reply_add(&reply, SLICE("Connection"), SLICE("Upgrade"));
        reply_add(&reply, SLICE("Upgrade"), SLICE("websocket"));
    }
    memcpy(all.items + all.count, reply.headers, reply.count * sizeof *reply.headers);
    all.count += reply.count;
    if (status == 101) {
        exchange_upgrade(request->x, all.items, all.count);
        decision_close(request);
    } else {
        exchange_respond(request->x, status, all.items, all.count, content_length);
    }
}

void answer_method(struct request *request, const char *allow)
{
    struct reply reply;
    struct err err;

    (void)err_set(&err, ERR_BAD_METHOD, "this path takes %s", allow);
    request_settle(request);
    request->ended = slice_of(err_info(ERR_BAD_METHOD)->name);
    reply_begin(request, &reply);
    reply_add(&reply, SLICE("Content-Type"), SLICE("application/json"));
    reply_add(&reply, SLICE("Perigee-Error"), request->ended);
    exchange_reply_method(request->x, allow, reply.headers, reply.count, error_body(request, &err));
}

void answer_json(struct request *request, int status, struct slice body)
{
    struct reply reply;

    if (request->state == REQUEST_ANSWERED)
        return;
    request_settle(request);
    reply_begin(request, &reply);
    if (body.size)
        reply_add(&reply, SLICE("Content-Type"), SLICE("application/json"));
    exchange_reply(request->x, status, reply.headers, reply.count, body);
}

void answer_preflight(struct request *request)
{
    struct reply reply;
    struct slice headers =
        http_header_get(&exchange_request(request->x)->headers, "Access-Control-Request-Headers");

    request_settle(request);
    reply_begin(request, &reply);
    reply_add(&reply, SLICE("Access-Control-Allow-Methods"),
              request->http ? SLICE("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
                            : SLICE("GET, HEAD, POST, OPTIONS"));
    if (headers.size)
        reply_add(&reply, SLICE("Access-Control-Allow-Headers"), headers);
    reply_add(&reply, SLICE("Access-Control-Max-Age"), SLICE("600"));
    exchange_reply(request->x, 204, reply.headers, reply.count, (struct slice){});
}

/* ---- outputs -------------------------------------------------------------------------- */

void answer_release(struct request *request)
{
    struct lane *lane = take_ptr(request->answer_lane);

    if (!lane)
        return;
    list_remove(&request->pace);
    lane_slot_give(lane, request->answer_slot);
    if (!lane->gone)
        queue_serve(&request->side->queue);
    replica_unref(lane->replica);
}

static void on_outputs_written(struct exchange *x, const struct err *err, void *data)
{
    (void)x;
    (void)err;
    answer_release(data);
}

static enum codec coding_choose(const struct request *request, uint64_t bytes)
{
    const struct http_headers *headers = &exchange_request(request->x)->headers;
    struct slice accepted = http_header_get(headers, "Accept-Encoding");

    if (accepted.size == 0 || bytes < gateway_gzip_bytes_min || bytes > gateway_gzip_bytes_max)
        return CODEC_IDENTITY;
    return codec_accepted(accepted);
}

static struct slice compress(struct request *request, enum codec coding,
                             const struct oip_answer *answer)
{
    struct deflater *deflater = deflater_new(coding, 1);
    struct text text;

    text_init(&text);
    deflater_push(deflater, answer->json, &text);
    for (uint32_t i = 0; i < answer->part_count; i++)
        deflater_push(deflater,
                      (struct slice){ answer->parts[i].iov_base, answer->parts[i].iov_len }, &text);
    deflater_finish(deflater, &text);
    deflater_free(deflater);
    return text_copy(request, &text);
}

/* All in the arena or in the replica's region. */
static void outputs_send(struct request *request, const struct oip_answer *answer)
{
    struct reply reply;
    enum codec coding = coding_choose(request, answer->bytes);
    struct slice whole = answer->json;
    uint64_t bytes = answer->bytes;

    reply_begin(request, &reply);
    reply_add(&reply, SLICE("Content-Type"),
              answer->binary ? SLICE("application/octet-stream") : SLICE("application/json"));
    if (answer->binary)
        reply_add(&reply, SLICE("Inference-Header-Content-Length"),
                  number_text(request, answer->json.size));
    if (coding != CODEC_IDENTITY) {
        reply_add(&reply, SLICE("Content-Encoding"), slice_of(codec_name(coding)));
        whole = compress(request, coding, answer);
        bytes = whole.size;
    }
    bool parts = coding == CODEC_IDENTITY && answer->part_count > 0;
    if (!parts) /* nothing of the replica's memory is needed any more */
        answer_release(request);
    exchange_respond(request->x, 200, reply.headers, reply.count, bytes);
    struct iovec *iovecs = ARENA_ARRAY(request->arena, struct iovec, answer->part_count + 1);
    iovecs[0] = (struct iovec){ (void *)(uintptr_t)whole.data, whole.size };
    if (parts)
        memcpy(iovecs + 1, answer->parts, answer->part_count * sizeof *iovecs);
    exchange_write(request->x, iovecs, parts ? answer->part_count + 1 : 1,
                   parts ? on_outputs_written : NULL, request);
    if (parts && exchange_write_bytes(request->x) > 0)
        list_append(&request->gl->answers, &request->pace);
    exchange_end(request->x, NULL, 0);
}

/* A slot that a slow client holds is one that no waiter has. */
void answer_shed(struct gateway_loop *gl)
{
    struct request *request;

    LIST_EACH (request, &gl->answers, struct request, pace) {
        const struct revision *revision = request->answer_lane->replica->owner;
        uint64_t taken = exchange_taken_bytes(request->x);
        request->answer_slow_s++;
        if (taken >= request->answer_taken + request->answer_slow_s * gateway_answer_rate_min) {
            request->answer_taken = taken;
            request->answer_slow_s = 0;
        } else if (request->answer_slow_s >= gateway_answer_slow_s &&
                   atomic_load(&revision->waiting) > 0) {
            exchange_abort(request->x);
        }
    }
}

/* Text is ours until the client has taken it, which may be long after the slot went back: it counts
 * against the memory for requests, until the exchange closes. What a socket takes at once does not.
 */
static bool answer_hold(struct request *request, const struct oip_answer *answer)
{
    uint64_t bytes = answer->json.size + arena_bytes(request->arena);

    if (bytes < ANSWER_FREE_BYTES || bytes <= request->budget_bytes)
        return true;
    return body_hold(request, bytes - request->budget_bytes);
}

bool answer_outputs(struct request *request, struct lane *lane, uint32_t slot,
                    const struct perigee_answer *from)
{
    struct oip_output *outputs =
        ARENA_ARRAY(request->arena, struct oip_output, from->output_count + 1);
    struct oip_limits limits = { .json_bytes_max = gateway_json_bytes_max,
                                 .answer_bytes_max = gateway_answer_bytes_max };
    struct oip_answer answer;
    struct err err;

    for (uint32_t i = 0; i < from->output_count; i++) {
        const struct perigee_tensor *tensor = &from->outputs[i];
        outputs[i] = (struct oip_output){
            .index = tensor->index,
            .type = (enum tensor_type)tensor->datatype,
            .shape.rank = tensor->rank,
            .data = lane_slot(lane, slot) + tensor->offset,
            .bytes = tensor->bytes,
        };
        memcpy(outputs[i].shape.dims, tensor->dims, tensor->rank * sizeof *tensor->dims);
    }
    if (oip_answer_write(request->arena, &request->oip, request->revision_row->number, outputs,
                         from->output_count, &limits, &answer, &err) < 0) {
        if (err.code == ERR_INTERNAL) /* strings are looked at when they are written */
            metric_add(shard_series(request->gl, request->table->head, request->row,
                                    request->endpoint, GATEWAY_NONSENSE),
                       1);
        answer_error(request, &err);
        return false;
    }
    if (!answer_hold(request, &answer)) {
        request->shed = SHED_memory;
        ANSWER_ERROR(request, ERR_OVERLOADED, "the memory for requests is in use");
        return false;
    }
    replica_ref(lane->replica);
    request->answer_lane = lane;
    request->answer_slot = slot;
    success_count(request);
    /* The timer stays: endpoint's timeout is to the last byte. */
    admit_leave(request);
    request_state_move(&request->state, REQUEST_ANSWERED);
    outputs_send(request, &answer);
    return true;
}

/* ---- the end -------------------------------------------------------------------------- */

static void count(struct request *request, unsigned row, uint64_t value)
{
    if (value)
        metric_add(
            shard_series(request->gl, request->table->head, request->row, request->endpoint, row),
            value);
}

static void observe(struct request *request, unsigned row, uint64_t ns)
{
    metric_observe(
        &request->gl->metrics,
        shard_series(request->gl, request->table->head, request->row, request->endpoint, row), ns);
}

/* labels[0] and [1] are set. Nearly all end with 200: that series is kept. */
static struct metric_series *requests_series(struct request *request, struct slice labels[3])
{
    struct metrics *metrics = &request->gl->metrics;
    struct endpoint_side *side =
        request->row ? &request->endpoint->sides[request->gl->index] : NULL;
    int status = exchange_status(request->x);
    char code[16];

    if (side && status == 200 && side->requests_ok)
        return side->requests_ok;
    snprintf(code, sizeof code, "%d", status);
    labels[2] = slice_of(code);
    struct metric_series *series = metrics_series(metrics, GATEWAY_REQUESTS, labels);
    if (side && status == 200)
        side->requests_ok = series;
    return series;
}

/* By country as well: unknown where no map tells it. */
static void rtt_observe(struct request *request)
{
    struct metrics *metrics = &request->gl->metrics;
    uint64_t ns = (uint64_t)request->rtt_us * 1000;
    char code[3];

    observe(request, GATEWAY_RTT, ns);
    country_code_of(residency_client(request), code);
    const struct table_head *table = request->table->head;
    struct slice labels[] = { table_text(table, request->row->project),
                              table_text(table, request->row->name),
                              *code ? slice_of(code) : SLICE("unknown") };
    labels[2] = gateway_metrics_country(metrics, labels[0], labels[1], labels[2]);
    metric_observe(metrics, metrics_series(metrics, GATEWAY_RTT_COUNTRY, labels), ns);
}

/* What another PoP had is that one's, though this one has such a revision too. */
static void usage_count(const struct request *request)
{
    struct gateway_stats *stats =
        request->infer && request->revision ? request->revision->stats : NULL;

    if (!stats || request->forward)
        return;
    atomic_fetch_add_explicit(&stats->bytes_in, exchange_body_bytes(request->x),
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&stats->bytes_out, exchange_answer_bytes(request->x),
                              memory_order_relaxed);
}

static void metrics_count(struct request *request, bool whole)
{
    struct metrics *metrics = &request->gl->metrics;
    const struct table_head *table = request->table ? request->table->head : NULL;
    struct slice labels[3] = {};

    if (request->row) {
        labels[0] = table_text(table, request->row->project);
        labels[1] = table_text(table, request->row->name);
    }
    metric_add(requests_series(request, labels), 1);
    if (request->ended.size) {
        labels[2] = request->ended;
        metric_add(metrics_series(metrics, GATEWAY_ERRORS, labels), 1);
    }
    if (request->denied)
        residency_count(request);
    if (!request->row)
        return;
    count(request, GATEWAY_BODY_IN, exchange_body_bytes(request->x));
    count(request, GATEWAY_BODY_OUT, exchange_answer_bytes(request->x));
    usage_count(request);
    if (!whole)
        count(request, GATEWAY_CANCELED, 1);
    if (!request->infer || request->ended.size)
        return;
    if (request->rtt_us && !request->hop) /* else it is another PoP's */
        rtt_observe(request);
    if (!request->infer_ns)
        return;
    observe(request, GATEWAY_TOTAL, (uint64_t)(loop_now_ns() - request->arrived_ns));
    observe(request, GATEWAY_QUEUE, request->queue_ns);
    observe(request, GATEWAY_INFER, request->infer_ns);
}

/* One line a request: debug, or info where somebody may ask why it failed. What is not built
 * (501) is the client's to know: a line for each would be its own to write. */
static void log_done(struct request *request)
{
    const struct http_request *http = exchange_request(request->x);
    char client[ADDRESS_TEXT_BYTES];
    int status = exchange_status(request->x);
    enum log_level level = status >= 500 && status != 501 && status != 503 ? LOG_INFO : LOG_DEBUG;

    if (log_level_get() > level || request->unlogged || request->denied)
        return;
    log_write(level, "gateway", "request done",
              LOG_FIELDS(LOG_S("request", request->id),
                         LOG_S("client", address_text(exchange_client(request->x), client)),
                         LOG_SLICE("method", http->method_text), LOG_SLICE("path", http->path),
                         LOG_I("status", status), LOG_SLICE("error", request->ended),
                         LOG_SLICE("traceparent", request->trace),
                         LOG_S("passed_to", request->forward ? forward_pop(request) : ""),
                         LOG_U("took_us", (loop_now_ns() - request->arrived_ns) / 1000),
                         LOG_U("queue_us", request->queue_ns / 1000),
                         LOG_U("infer_us", request->infer_ns / 1000)));
}

void answer_closed(struct request *request, const struct err *err)
{
    if (request->state != REQUEST_ANSWERED)
        request_settle(request); /* the client went away first */
    shard_deadline_stop(request->gl, &request->timer);
    answer_release(request);
    metrics_count(request, err == NULL);
    log_done(request);
    decision_close(request);
    forward_closed(request);
    proxy_closed(request);
    body_deinit(request);
    for (struct kept_table *kept = request->kept; kept; kept = kept->next)
        table_unref(kept->table);
    table_unref(request->table);
}

/* ---- what HTTP itself refuses --------------------------------------------------------- */

const char *answer_id_make(struct gateway_loop *gl, const struct http_request *http,
                           char buffer[static REQUEST_ID_BYTES])
{
    if (!request_id_take(http, buffer))
        request_id_make(shard_random(gl), buffer);
    return buffer;
}

void answer_refusal(struct arena *arena, const struct http_request *http, const struct err *err,
                    struct http_refusal *ret, void *data)
{
    struct gateway_loop *gl = data;
    char id[REQUEST_ID_BYTES];
    struct text text;

    text_init(&text);
    oip_write_error(&text, slice_of(err->message));
    ret->body = arena_copy(arena, text_slice(&text));
    text_deinit(&text);
    ret->headers = ARENA_ARRAY(arena, struct http_header, 3);
    ret->headers[0] =
        HTTP_HEADER("X-Request-Id", arena_copy(arena, slice_of(answer_id_make(gl, http, id))));
    ret->headers[1] = HTTP_HEADER("Content-Type", SLICE("application/json"));
    ret->headers[2] = HTTP_HEADER("Perigee-Error", slice_of(err_info(err->code)->name));
    ret->count = 3;
}
