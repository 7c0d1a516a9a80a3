/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A body is bytes that go to one place after the other: the JSON to a buffer, then each binary
 * tensor to its place in the arena. The socket is read straight to there. A compressed body goes
 * through a read buffer and the inflater, by the same two functions: sink_space() and
 * sink_filled().
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "gateway/admit.h"
#include "gateway/dispatch.h"
#include "gateway/forward.h"
#include "gateway/request.h"
#include "io/loop.h"

#define COMPRESSED_BYTES 16384u
#define TEXT_BYTES_FIRST 4096u
#define PARTS_COUNTED_BYTES 1048576u /* of binary tensors that are to come; smaller ones at once */
#define TEXT_BYTES_LONG 16384u

static void fail(struct request *request, const struct err *err)
{
    if (request->state != REQUEST_ANSWERED)
        answer_error(request, err);
}

/* ---- where the next bytes go ---------------------------------------------------------- */

bool body_hold(struct request *request, uint64_t bytes)
{
    if (request->budget_bytes == 0)
        request->budget =
            request->endpoint ? &request->endpoint->memory : &request->gl->gateway->memory;
    if (!memory_budget_take(request->budget, bytes))
        return false;
    request->budget_bytes += bytes;
    return true;
}

static bool json_grow(struct request *request, uint64_t wanted)
{
    struct body *body = &request->body;
    uint64_t room = body->text_room ? body->text_room * 2 : TEXT_BYTES_FIRST;

    if (wanted && room < wanted && wanted <= 65536)
        room = wanted;
    if (wanted && room > wanted)
        room = wanted;
    if (room > body->text_bytes_max)
        room = body->text_bytes_max;
    if (!body_hold(request, room - body->text_room)) {
        request->shed = SHED_memory;
        ANSWER_ERROR(request, ERR_OVERLOADED, "the memory for requests is in use");
        return false;
    }
    body->text = mem_resize(body->text, room, 1);
    body->text_room = room;
    return true;
}

static void text_space(struct request *request, struct iovec *ret)
{
    struct body *body = &request->body;
    uint64_t length = exchange_request(request->x)->content_length;
    uint64_t wanted = body->mode == BODY_SPLIT ? body->text_wanted
                      : body->coding == CODEC_IDENTITY && length != HTTP_LENGTH_UNKNOWN ? length
                                                                                        : 0;

    if (body->text_bytes == body->text_bytes_max) { /* full: one byte more is too much */
        *ret = (struct iovec){ &body->overflow, 1 };
        return;
    }
    if (body->text_bytes == body->text_room && !json_grow(request, wanted))
        return;
    *ret = (struct iovec){ body->text + body->text_bytes, body->text_room - body->text_bytes };
}

/* Memory is short: the oldest upload that is slow is given up for a request that is not. False:
 * there is none. */
static bool upload_give_way(struct revision_side *side, const struct request *other)
{
    int64_t now = loop_now_ns();
    struct request *request;

    LIST_EACH (request, &side->uploads, struct request, pace) {
        int64_t ms = (now - request->arrived_ns) / ENV_MS;
        if (ms < gateway_upload_ms_min)
            return false; /* those behind it are younger */
        uint64_t bytes = exchange_body_bytes(request->x);
        if (request == other || bytes >= (uint64_t)ms * gateway_upload_rate_min / 1000)
            continue;
        request->shed = SHED_memory;
        ANSWER_ERROR(request, ERR_OVERLOADED,
                     "the memory for inputs is short, and this body comes at less than %d bytes a "
                     "second",
                     gateway_upload_rate_min);
        return true;
    }
    return false;
}

/* What the next part of the tensors may fill counts from now on. */
static bool part_grow(struct request *request)
{
    struct block *block = request->block;
    uint64_t more = block->owed < PARTS_COUNTED_BYTES ? block->owed : PARTS_COUNTED_BYTES;
    bool filled;

    while (!(filled = block_fill(request->block_side->blocks, block, more)) &&
           upload_give_way(request->block_side, request))
        ;
    if (!filled) {
        request->shed = SHED_memory;
        ANSWER_ERROR(request, ERR_OVERLOADED, "the memory for requests is in use");
        return false;
    }
    request->body.part_room += more;
    return true;
}

/* To the next part that is not full. */
static void part_advance(struct body *body)
{
    while (body->part_at < body->part_count &&
           body->part_filled == body->parts[body->part_at].iov_len) {
        body->part_at++;
        body->part_filled = 0;
    }
}

static void part_space(struct request *request, struct iovec *ret)
{
    struct body *body = &request->body;

    part_advance(body);
    if (body->part_at == body->part_count) {
        *ret = (struct iovec){ &body->overflow, 1 };
        return;
    }
    if (body->part_room == 0 && !part_grow(request))
        return;
    const struct iovec *part = &body->parts[body->part_at];
    uint64_t left = part->iov_len - body->part_filled;
    *ret = (struct iovec){ (char *)part->iov_base + body->part_filled,
                           left < body->part_room ? left : body->part_room };
}

static bool text_whole(const struct body *body)
{
    return body->mode == BODY_SPLIT && body->text_bytes == body->text_wanted;
}

/* Size 0: not now (held), or not any more (answered). */
static void sink_space(struct request *request, struct iovec *ret)
{
    struct body *body = &request->body;

    *ret = (struct iovec){};
    if (request->state != REQUEST_READING)
        return;
    if (body->parsed)
        part_space(request, ret);
    else if (!text_whole(body))
        text_space(request, ret);
}

/* More came than that. What has no JSON has the exchange's bound as well. */
static void text_too_long(struct request *request)
{
    const struct body *body = &request->body;
    unsigned long long most = body->text_bytes_max;

    if (body->mode == BODY_RAW || body->mode == BODY_OTHER)
        ANSWER_ERROR(request, ERR_TOO_LARGE, "the body of this call may have %llu bytes", most);
    else
        ANSWER_ERROR(request, ERR_TOO_LARGE,
                     "the JSON of a request may have %llu bytes (json_bytes_max); send the tensors "
                     "as binary_data",
                     most);
}

static void sink_filled(struct request *request, size_t bytes)
{
    struct body *body = &request->body;

    if (body->parsed) {
        if (body->part_at == body->part_count)
            ANSWER_ERROR(request, ERR_BAD_INPUT,
                         "the body is longer than the sizes of its binary inputs");
        else {
            body->part_filled += bytes;
            body->part_room -= bytes;
        }
        return;
    }
    if (body->text_bytes == body->text_bytes_max) {
        text_too_long(request);
        return;
    }
    body->text_bytes += bytes;
    if (text_whole(body))
        body_continue(request);
}

/* ---- the exchange's callbacks --------------------------------------------------------- */

void body_space(struct exchange *x, struct iovec *ret_space, void *data)
{
    struct request *request = data;
    struct body *body = &request->body;
    (void)x;

    *ret_space = (struct iovec){};
    if (body->coding == CODEC_IDENTITY)
        sink_space(request, ret_space);
    else if (body->pending.size == 0 && request->state == REQUEST_READING)
        *ret_space = (struct iovec){ body->compressed, COMPRESSED_BYTES };
}

static void copied(struct request *request, uint64_t bytes)
{
    if (bytes)
        metric_add(shard_series(request->gl, request->table->head, request->row, request->endpoint,
                                GATEWAY_COPIED),
                   bytes);
}

/* As much of what is pending as has a place. */
static void inflate(struct request *request)
{
    struct body *body = &request->body;

    while (request->state == REQUEST_READING) {
        struct iovec space;
        struct err err;
        bool tensor = body->parsed;
        sink_space(request, &space);
        if (space.iov_len == 0)
            return;
        int64_t made =
            inflater_run(body->inflater, &body->pending, space.iov_base, space.iov_len, &err);
        if (made < 0) {
            fail(request, &err);
            return;
        }
        if (made == 0)
            return;
        if (tensor)
            copied(request, (uint64_t)made);
        sink_filled(request, (size_t)made);
    }
}

void body_filled(struct exchange *x, size_t bytes, void *data)
{
    struct request *request = data;
    struct body *body = &request->body;

    if (request->state != REQUEST_READING)
        return;
    if (body->coding != CODEC_IDENTITY) {
        body->pending = (struct slice){ body->compressed, bytes };
        inflate(request);
        return;
    }
    if (body->parsed && body->chunked) { /* what one read brought with the head is free */
        uint64_t now = exchange_body_copied_bytes(x);
        copied(request, now - body->copied_seen);
        body->copied_seen = now;
    }
    sink_filled(request, bytes);
}

/* The wire has no more, and everything of it has gone to its place. */
static void whole(struct request *request)
{
    struct body *body = &request->body;
    struct err err;

    if (body->inflater && inflater_finish(body->inflater, &err) < 0) {
        fail(request, &err);
        return;
    }
    if (body->mode == BODY_OTHER) {
        request->on_text(request, (struct slice){ body->text, body->text_bytes });
        return;
    }
    if (body->mode == BODY_SPLIT && !text_whole(body)) {
        ANSWER_ERROR(request, ERR_BAD_INPUT,
                     "the body ends after %llu bytes; Inference-Header-Content-Length says %llu",
                     (unsigned long long)body->text_bytes, (unsigned long long)body->text_wanted);
        return;
    }
    if (!body->parsed) {
        body_continue(request);
        return;
    }
    part_advance(body);
    if (body->part_at < body->part_count) {
        ANSWER_ERROR(request, ERR_BAD_INPUT,
                     "the body ends %llu bytes before the end of binary input %u of %u",
                     (unsigned long long)(body->parts[body->part_at].iov_len - body->part_filled),
                     body->part_at + 1, body->part_count);
        return;
    }
    char *inputs =
        (char *)block_memory(request->block_side->blocks, request->block) + request->inputs_offset;
    list_remove(&request->pace);
    if (oip_request_check(&request->oip, inputs, &err) < 0)
        fail(request, &err);
    else
        admit_request(request);
}

void body_ended(struct exchange *x, const struct err *err, void *data)
{
    struct request *request = data;
    (void)x;

    request->body.ended = true;
    if (err) {
        fail(request, err);
        return;
    }
    if (request->state == REQUEST_READING)
        whole(request);
}

/* ---- from JSON to a block ------------------------------------------------------------- */

/* The gateway's part of the block, before the tensors: what the replica reads first. */
static void request_write(struct request *request, char *memory)
{
    struct perigee_request *out = (struct perigee_request *)(void *)memory;
    const struct oip_request *oip = &request->oip;

    out->input_count = oip->input_count;
    out->outputs_wanted = 0;
    for (uint32_t i = 0; i < oip->wanted_count; i++)
        out->outputs_wanted |= UINT64_C(1) << oip->wanted[i].index;
    for (uint32_t i = 0; i < oip->input_count; i++) {
        const struct oip_input *input = &oip->inputs[i];
        struct perigee_tensor *tensor = &out->inputs[i];
        *tensor = (struct perigee_tensor){
            .index = input->index,
            .datatype = (uint32_t)input->type,
            .rank = input->shape.rank,
            .offset = request->inputs_offset + input->offset,
            .bytes = input->bytes,
        };
        memcpy(tensor->dims, input->shape.dims, input->shape.rank * sizeof *tensor->dims);
    }
}

/* Bytes of tensors that are still to come. */
static uint64_t parts_bytes(const struct request *request)
{
    uint64_t bytes = 0;

    if (request->body.mode == BODY_RAW && request->body.text_bytes)
        return 0;
    for (uint32_t i = 0; i < request->oip.input_count; i++)
        if (request->oip.inputs[i].binary)
            bytes += request->oip.inputs[i].bytes;
    return bytes;
}

void body_blocks(struct request *request)
{
    struct revision_side *side = request->side;

    if (!side->blocks) {
        uint64_t slice = request->revision->arena_bytes / PERIGEE_LANES_MAX & ~UINT64_C(4095);
        uint64_t lane =
            (request->gl->gateway->start.instance & 1) * PERIGEE_LOOPS_MAX + request->gl->index;
        side->blocks = blocks_new(atomic_load(&request->revision->arena), lane * slice, slice,
                                  &request->endpoint->memory);
        side->endpoint = endpoint_ref(request->endpoint);
    }
    side->used_ms = loop_now_ms(request->gl->loop);
    if (!map_get_u64(&request->gl->touched, request->revision->uid)) {
        revision_ref(request->revision);
        map_put_u64(&request->gl->touched, request->revision->uid, side);
    }
}

static int block_make(struct request *request, struct err *err)
{
    struct revision_side *side = request->side;
    uint64_t head =
        sizeof(struct perigee_request) + request->oip.input_count * sizeof(struct perigee_tensor);

    body_blocks(request);
    request->inputs_offset = (head + 63) & ~UINT64_C(63);
    request->request_bytes = request->inputs_offset + request->oip.block_bytes;
    uint64_t coming = parts_bytes(request);
    uint64_t later = coming > PARTS_COUNTED_BYTES ? coming : 0;
    int r;
    request->shed = SHED_memory;
    while ((r = block_take_later(side->blocks, request->request_bytes, later, &request->block,
                                 err)) == ERR_OVERLOADED &&
           upload_give_way(side, request))
        ;
    if (r < 0)
        return r;
    request->shed = SHED_unready;
    if (later)
        list_append(&side->uploads, &request->pace);
    request->body.part_room = coming - later;
    request->block_side = side;
    request_write(request, block_memory(side->blocks, request->block));
    return 0;
}

/* Length of what follows the JSON after inflation, where that is known. */
static uint64_t following(const struct request *request)
{
    const struct body *body = &request->body;
    uint64_t length = exchange_request(request->x)->content_length;

    if (body->mode == BODY_JSON)
        return 0;
    if (body->coding != CODEC_IDENTITY || length == HTTP_LENGTH_UNKNOWN)
        return body->mode == BODY_RAW ? body->text_bytes : OIP_BYTES_UNKNOWN;
    return length - (body->mode == BODY_SPLIT ? body->text_wanted : 0);
}

static int parse(struct request *request, const struct model_info *info, struct err *err)
{
    struct body *body = &request->body;
    struct oip_limits limits = { .json_bytes_max = gateway_json_bytes_max,
                                 .block_bytes_max = request->row->body_bytes_max * 16 };
    struct slice text = { body->text, body->text_bytes };
    int r;

    request->model = call_model(request, info);
    if (body->mode == BODY_RAW)
        r = oip_request_raw(request->arena, request->model, following(request), &limits,
                            &request->oip, err);
    else
        r = oip_request_parse(request->arena, request->model, text, following(request), &limits,
                              &request->oip, err);
    if (r == 0) {
        terms_parameters(request);
        r = admit_deadline(request, err);
    }
    if (r == 0)
        r = block_make(request, err);
    if (r < 0)
        return r;
    char *inputs =
        (char *)block_memory(request->block_side->blocks, request->block) + request->inputs_offset;
    if (body->mode != BODY_RAW)
        r = oip_request_convert(&request->oip, inputs, err);
    body->parts = ARENA_ARRAY(request->arena, struct iovec, request->oip.input_count + 1);
    for (uint32_t i = 0; i < request->oip.input_count; i++)
        if (request->oip.inputs[i].binary)
            body->parts[body->part_count++] =
                (struct iovec){ inputs + request->oip.inputs[i].offset,
                                request->oip.inputs[i].bytes };
    if (body->mode == BODY_RAW && body->text_bytes) { /* of unknown length until now */
        memcpy(inputs + request->oip.inputs[0].offset, body->text, body->text_bytes);
        copied(request, body->text_bytes);
        body->part_at = body->part_count;
    }
    body->copied_seen = exchange_body_copied_bytes(request->x);
    body->parsed = true;
    return r;
}

static void text_free(struct request *request)
{
    free(take_ptr(request->body.text));
    if (request->budget_bytes)
        memory_budget_give(request->budget, request->budget_bytes);
    request->budget_bytes = 0;
}

/* The text is whole: on to the block, once the model is known and the arena there. */
void body_continue(struct request *request)
{
    struct body *body = &request->body;
    struct revision *revision = request->revision;
    const struct model_info *info = atomic_load(&revision->model);
    struct err err;

    if (request->parked) { /* nothing of it was read */
        admit_parked(request);
        return;
    }
    if (!info || !atomic_load(&revision->arena)) {
        admit_hold(request);
        return;
    }
    if (request->state == REQUEST_HELD) {
        admit_leave(request);
        request_state_move(&request->state, REQUEST_READING);
    }
    if (request->block) { /* whole: it was held to move to this revision */
        admit_request(request);
        return;
    }
    if (!body->parsed) {
        if (body->text_bytes > TEXT_BYTES_LONG)
            dispatch_wake(request->gl); /* not slept over while this is parsed */
        if (parse(request, info, &err) < 0) {
            fail(request, &err);
            return;
        }
        text_free(request);
        uint64_t kept = arena_bytes(request->arena); /* keys and names that were decoded */
        if (kept > TEXT_BYTES_LONG && !body_hold(request, kept)) {
            ANSWER_ERROR(request, ERR_OVERLOADED, "the memory for requests is in use");
            return;
        }
    }
    if (body->inflater)
        inflate(request);
    if (request->state != REQUEST_READING)
        return;
    if (body->ended)
        whole(request);
    else if (request->forward) /* what came of it while another PoP had it */
        forward_replay(request);
    else
        exchange_body_resume(request->x);
}

void body_deinit(struct request *request)
{
    text_free(request);
    inflater_free(take_ptr(request->body.inflater));
}

/* ---- the beginning -------------------------------------------------------------------- */

/* Of those that say how a body is to be read, one alone: who stands before us may read another. */
static int once(const struct http_headers *headers, const char *name, struct slice *ret,
                struct err *err)
{
    *ret = (struct slice){};
    for (size_t i = 0; i < headers->count; i++) {
        if (!slice_equal_nocase(headers->items[i].name, slice_of(name)))
            continue;
        if (ret->data)
            return err_set(err, ERR_BAD_INPUT, "the header %s came twice", name);
        *ret = headers->items[i].value;
    }
    return 0;
}

static int coding_begin(struct request *request, uint64_t bytes_max, struct err *err)
{
    struct body *body = &request->body;
    const struct http_request *http = exchange_request(request->x);
    struct slice coding;

    if (once(&http->headers, "Content-Encoding", &coding, err) < 0 ||
        codec_parse(coding, &body->coding, err) < 0)
        return ERR_BAD_INPUT;
    body->chunked = http->content_length == HTTP_LENGTH_UNKNOWN;
    if (body->coding != CODEC_IDENTITY) {
        body->inflater = inflater_new(body->coding, bytes_max);
        body->compressed = arena_alloc(request->arena, COMPRESSED_BYTES);
    }
    return 0;
}

int body_begin_other(struct request *request, uint64_t bytes_max, struct err *err)
{
    struct body *body = &request->body;
    int r = coding_begin(request, bytes_max, err);

    body->mode = BODY_OTHER;
    body->text_bytes_max = bytes_max;
    return r < 0 ? r : exchange_body_start(request->x, bytes_max, err);
}

int body_begin(struct request *request, struct err *err)
{
    struct body *body = &request->body;
    const struct http_request *http = exchange_request(request->x);
    uint64_t bytes_max = request->row->body_bytes_max;
    struct slice length;
    int r = coding_begin(request, bytes_max, err);

    if (r == 0)
        r = once(&http->headers, "Inference-Header-Content-Length", &length, err);
    if (r < 0)
        return r;
    body->text_bytes_max =
        bytes_max < gateway_json_bytes_max ? bytes_max : (uint64_t)gateway_json_bytes_max;
    body->mode = BODY_JSON;
    if (length.data) {
        if (!slice_u64(length, &body->text_wanted))
            return err_set(err, ERR_BAD_INPUT,
                           "Inference-Header-Content-Length '%s' is not a number of bytes",
                           ERR_SLICE(length));
        if (body->text_wanted > body->text_bytes_max)
            return err_set(err, ERR_TOO_LARGE,
                           "the JSON of a request may have %llu bytes (json_bytes_max)",
                           (unsigned long long)body->text_bytes_max);
        if (body->coding == CODEC_IDENTITY && http->content_length != HTTP_LENGTH_UNKNOWN &&
            body->text_wanted > http->content_length)
            return err_set(err, ERR_BAD_INPUT,
                           "Inference-Header-Content-Length (%llu) is above Content-Length (%llu)",
                           (unsigned long long)body->text_wanted,
                           (unsigned long long)http->content_length);
        body->mode = body->text_wanted ? BODY_SPLIT : BODY_RAW;
        if (body->mode == BODY_RAW) /* no JSON: all of it is the tensor */
            body->text_bytes_max = bytes_max;
    }
    if (!request->forward) /* else it has begun, towards another PoP */
        r = exchange_body_start(request->x, bytes_max, err);
    if (r < 0)
        return r;
    if (body->mode == BODY_RAW && body->coding == CODEC_IDENTITY && !body->chunked)
        body_continue(request);
    return 0;
}
