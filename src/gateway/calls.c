/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls of the Open Inference Protocol that no replica is asked for: what is here, whether it
 * is ready, what it takes and gives, what it has done.
 */
#include <string.h>

#include "base/arena.h"
#include "base/version.h"
#include "gateway/request.h"

/* The revision a request without a version goes to: the serving one, or else the newest. */
const struct table_revision *call_target(const struct table *table,
                                         const struct table_endpoint *endpoint, uint32_t *ret_row)
{
    uint32_t row = endpoint->serving;

    if (row == TABLE_NONE) {
        if (endpoint->revision_count == 0)
            return NULL;
        row = endpoint->revision_first + endpoint->revision_count - 1;
    }
    *ret_row = row;
    return table_revision(table->head, row);
}

struct oip_model *call_model(struct request *request, const struct model_info *info)
{
    const struct table_head *table = request->table->head;
    const struct table_endpoint *endpoint = request->row;
    struct oip_model *model = ARENA_NEW(request->arena, struct oip_model);
    uint64_t *versions = ARENA_ARRAY(request->arena, uint64_t, endpoint->revision_count + 1);

    for (uint32_t i = 0; i < endpoint->revision_count; i++)
        versions[i] = table_revision(table, endpoint->revision_first + i)->number;
    struct slice runtime = table_text(table, request->revision_row->runtime);
    *model = (struct oip_model){
        .name = table_text(table, endpoint->name),
        .platform = info->platform,
        .backend = slice_is(runtime, "onnx") ? SLICE("onnxruntime") : runtime,
        .versions = versions,
        .version_count = endpoint->revision_count,
        .batch_max = info->batch_rows_max,
        .inputs = info->inputs,
        .outputs = info->outputs,
        .input_count = info->input_count,
        .output_count = info->output_count,
    };
    return model;
}

static void text_send(struct request *request, int status, struct text *text)
{
    struct slice body = arena_copy(request->arena, text_slice(text));

    text_deinit(text);
    answer_json(request, status, body);
}

/* At zero it answers as well, after a start: who asks this first would else never wake it. */
static bool revision_ready(const struct table *table, const struct table_endpoint *endpoint,
                           uint32_t revision)
{
    bool starts =
        endpoint->serving == revision && table_revision(table->head, revision)->message.bytes == 0;

    return atomic_load(&table->revisions[revision]->ready) > 0 || starts;
}

static bool endpoint_ready(const struct table *table, uint32_t row)
{
    uint32_t target;
    const struct table_endpoint *endpoint = table_endpoint(table->head, row);

    return endpoint->state == TABLE_ENDPOINT_RUNNING && call_target(table, endpoint, &target) &&
           (revision_ready(table, endpoint, target) || traffic_ready(table, row));
}

static void server_ready(struct request *request)
{
    struct text text;
    /* On an endpoint's own host, it is the endpoint that is asked. */
    bool ready = !request->row ||
                 endpoint_ready(request->table,
                                (uint32_t)(request->row - table_endpoint(request->table->head, 0)));

    text_init(&text);
    oip_write_ready(&text, ready);
    text_send(request, ready ? 200 : 400, &text);
}

static void model_ready(struct request *request)
{
    struct text text;
    const struct table *table = request->table;
    bool ready =
        request->pinned
            ? request->row->state == TABLE_ENDPOINT_RUNNING &&
                  revision_ready(table, request->row,
                                 (uint32_t)(request->revision_row - table_revision(table->head, 0)))
            : endpoint_ready(table, (uint32_t)(request->row - table_endpoint(table->head, 0)));

    text_init(&text);
    oip_write_model_ready(&text, table_text(request->table->head, request->row->name), ready);
    text_send(request, ready ? 200 : 400, &text);
}

/* Metadata and config: from the table, or from the replica that is there. */
static void model_describe(struct request *request)
{
    const struct model_info *info = atomic_load(&request->revision->model);
    struct text text;

    if (!info) {
        struct slice why = table_text(request->table->head, request->revision_row->message);
        struct err away;
        if (request_away(request, &away) < 0)
            answer_error(request, &away);
        else
            ANSWER_ERROR(request, ERR_OVERLOADED, "the model is not loaded yet%s%.*s",
                         why.size ? ": " : "", SLICE_FMT(why));
        return;
    }
    text_init(&text);
    if (request->route.call == OIP_MODEL_CONFIG)
        oip_write_config(&text, call_model(request, info));
    else
        oip_write_model(&text, call_model(request, info));
    text_send(request, 200, &text);
}

/* ---- statistics ----------------------------------------------------------------------- */

static uint64_t sum(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void stats_fill(struct arena *arena, const struct gateway_stats *from, struct oip_stats *ret)
{
    struct oip_batch_stats *batches =
        ARENA_ARRAY(arena, struct oip_batch_stats, GATEWAY_BATCH_SIZES);

    ret->last_inference_ms = sum(&from->last_ms);
    ret->success = (struct oip_times){ sum(&from->success), sum(&from->success_ns) };
    ret->fail = (struct oip_times){ sum(&from->fail), sum(&from->fail_ns) };
    ret->queue = (struct oip_times){ sum(&from->queue), sum(&from->queue_ns) };
    ret->compute_input = (struct oip_times){ ret->queue.count, sum(&from->input_ns) };
    ret->compute_infer = (struct oip_times){ ret->queue.count, sum(&from->infer_ns) };
    ret->compute_output = (struct oip_times){ ret->queue.count, sum(&from->output_ns) };
    ret->inference_count = sum(&from->rows);
    ret->batches = batches;
    for (uint32_t i = 0; i < GATEWAY_BATCH_SIZES; i++) {
        const struct gateway_batch_stats *row = &from->batches[i];
        uint64_t runs = sum(&row->runs);
        if (runs == 0)
            continue;
        ret->execution_count += runs;
        batches[ret->batch_count++] = (struct oip_batch_stats){
            .batch_size = i + 1,
            .compute_input = { runs, sum(&row->input_ns) },
            .compute_infer = { runs, sum(&row->infer_ns) },
            .compute_output = { runs, sum(&row->output_ns) },
        };
    }
}

static void stats_one(struct request *request, uint32_t revision, struct oip_stats *ret)
{
    const struct table *table = request->table;
    const struct table_revision *row = table_revision(table->head, revision);
    const struct table_endpoint *endpoint = table_endpoint(table->head, row->endpoint);

    *ret = (struct oip_stats){ .name = table_text(table->head, endpoint->name),
                               .version = row->number };
    if (table->revisions[revision]->stats)
        stats_fill(request->arena, table->revisions[revision]->stats, ret);
}

/* Rows [first, first + count) of the project's endpoints, or of the request's own. */
static bool listed(const struct request *request, uint32_t row)
{
    const struct table_head *table = request->table->head;
    const struct table_endpoint *endpoint = table_endpoint(table, row);

    if (request->row)
        return endpoint == request->row;
    return slice_is(table_text(table, endpoint->project), "default");
}

static void model_stats(struct request *request)
{
    const struct table_head *table = request->table->head;
    struct oip_stats *stats =
        ARENA_ARRAY(request->arena, struct oip_stats, table->revisions.count + 1);
    size_t count = 0;
    struct text text;

    if (request->route.version) {
        stats_one(request,
                  table_find_revision(table, request->row, (uint32_t)request->route.version),
                  &stats[count++]);
    } else {
        for (uint32_t i = 0; i < table->revisions.count; i++)
            if (listed(request, table_revision(table, i)->endpoint))
                stats_one(request, i, &stats[count++]);
    }
    text_init(&text);
    oip_write_stats(&text, stats, count);
    text_send(request, 200, &text);
}

/* ---- the repository's index ----------------------------------------------------------- */

static void index_send(struct request *request, struct slice body)
{
    const struct table *table = request->table;
    struct oip_index_row *rows =
        ARENA_ARRAY(request->arena, struct oip_index_row, table->head->endpoints.count + 1);
    size_t count = 0;
    bool ready_only = false;
    struct err err;
    struct text text;

    if (oip_index_parse(request->arena, body, &ready_only, &err) < 0) {
        answer_error(request, &err);
        return;
    }
    for (uint32_t i = 0; i < table->head->endpoints.count; i++) {
        const struct table_endpoint *endpoint = table_endpoint(table->head, i);
        uint32_t target;
        if (!listed(request, i) || (ready_only && !endpoint_ready(table, i)))
            continue;
        const struct table_revision *revision = call_target(table, endpoint, &target);
        struct oip_index_row *row = &rows[count++];
        *row = (struct oip_index_row){ .name = table_text(table->head, endpoint->name),
                                       .version = revision ? revision->number : 0,
                                       .state = OIP_LOADING };
        if (endpoint_ready(table, i)) {
            row->state = OIP_READY;
        } else if (endpoint->state != TABLE_ENDPOINT_RUNNING) {
            row->state = OIP_UNAVAILABLE;
            row->reason = endpoint->state == TABLE_ENDPOINT_STOPPED     ? SLICE("stopped")
                          : endpoint->state == TABLE_ENDPOINT_ELSEWHERE ? SLICE("not at this PoP")
                                                                        : SLICE("at other PoPs");
        } else if (revision && revision->message.bytes) {
            row->state = OIP_UNAVAILABLE;
            row->reason = table_text(table->head, revision->message);
        }
    }
    text_init(&text);
    oip_write_index(&text, rows, count);
    text_send(request, 200, &text);
}

static void index_begin(struct request *request)
{
    struct err err;

    request->on_text = index_send;
    if (body_begin_other(request, 65536, &err) < 0)
        answer_error(request, &err);
}

void call_answer(struct request *request)
{
    struct text text;

    switch (request->route.call) {
    case OIP_SERVER_METADATA:
        text_init(&text);
        oip_write_server(&text, slice_of(PERIGEE_VERSION));
        text_send(request, 200, &text);
        break;
    case OIP_SERVER_LIVE:
        text_init(&text);
        oip_write_live(&text, true);
        text_send(request, 200, &text);
        break;
    case OIP_SERVER_READY:
        server_ready(request);
        break;
    case OIP_MODEL_READY:
        model_ready(request);
        break;
    case OIP_MODEL_METADATA:
    case OIP_MODEL_CONFIG:
        model_describe(request);
        break;
    case OIP_MODEL_STATS:
        model_stats(request);
        break;
    case OIP_REPOSITORY_INDEX:
        index_begin(request);
        break;
    case OIP_REPOSITORY_LOAD:
    case OIP_REPOSITORY_UNLOAD:
        repository_begin(request);
        break;
    case OIP_SHM_STATUS:
        answer_json(request, 200, SLICE("[]"));
        break;
    case OIP_UNSUPPORTED:
        ANSWER_ERROR(request, ERR_NOT_SUPPORTED, "%s is not supported", request->route.unsupported);
        break;
    case OIP_INFER:
        break; /* request.c */
    }
}
