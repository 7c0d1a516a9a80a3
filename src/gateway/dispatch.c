/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completions are taken as many as there are. Their places come first, so that the next requests
 * are on their way, by one wake-up, while these answers are written; then the answers; then the
 * memory.
 */
#include "gateway/dispatch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/log.h"
#include "gateway/admit.h"
#include "gateway/request.h"
#include "io/loop.h"

#define TAKEN_MAX 32
/* Longer than a request takes from socket to ring, shorter than a wake-up's own cost is worth. */
#define WAKE_NS INT64_C(20'000)
#define INSTANCE_SHIFT 48
#define LOOP_SHIFT 40

static struct flight *flight_new(struct gateway_loop *gl)
{
    struct flight *flight = LIST_FIRST(&gl->flights, struct flight, link);

    if (flight)
        list_remove(&flight->link);
    else
        flight = mem_alloc(sizeof *flight);
    memset(flight, 0, sizeof *flight);
    list_init(&flight->link);
    return flight;
}

void dispatch_free(struct gateway_loop *gl)
{
    struct flight *flight;

    LIST_EACH (flight, &gl->flights, struct flight, link)
        free(flight);
    list_init(&gl->flights);
}

static void flight_free(struct flight *flight)
{
    struct gateway_loop *gl = flight->gl;

    shard_deadline_stop(gl, &flight->kill);
    list_remove(&flight->link);
    if (flight->block)
        block_give(flight->side->blocks, flight->block);
    table_unref(flight->table);
    list_prepend(&gl->flights, &flight->link);
}

static void lane_settle(struct gateway_loop *gl, struct lane *lane)
{
    if (lane->outstanding > 0)
        return;
    list_remove(&lane->link_active);
    lane_disarm(lane);
    if (lane->draining && !lane->gone)
        shard_lane_drained(gl, lane->replica->id);
}

/* ---- waking --------------------------------------------------------------------------- */

static void wake_later(struct gateway_loop *gl, struct lane *lane, int64_t now_ns)
{
    if (list_empty(&gl->to_wake))
        gl->wake_due_ns = now_ns + WAKE_NS;
    if (list_empty(&lane->link_wake))
        list_append(&gl->to_wake, &lane->link_wake);
}

void dispatch_wake(struct gateway_loop *gl)
{
    while (!list_empty(&gl->to_wake)) {
        struct lane *lane = LIST_OWNER(gl->to_wake.next, struct lane, link_wake);
        list_remove(&lane->link_wake);
        if (lane_wake(lane) && place_short(&lane->replica->place))
            gl->woken_short = true;
    }
    gl->wake_due_ns = INT64_MAX;
}

void dispatch_wake_due(struct gateway_loop *gl, int64_t now_ns)
{
    if (now_ns >= gl->wake_due_ns)
        dispatch_wake(gl);
}

/* ---- out ------------------------------------------------------------------------------ */

/* A replica takes a lane's submissions in their order and lanes in turn, those of a gateway that
 * stands beside this one among them. Where it forms batches, a run of each of those that it had
 * already may come first, and one of each lane for each of its own. */
static uint32_t turns(const struct lane *lane, const struct model_info *info, uint32_t beside)
{
    uint32_t lanes = 2 * lane->replica->loops, own = lane->outstanding;
    uint32_t all = place_running(&lane->replica->place) + beside; /* this one is among them */

    if (info->batch_rows_max <= 1)
        return lanes;
    return 1 + (all > own + 1 ? all - own - 1 : 0) + (lanes - 1) * (own + 1);
}

static void flight_enter(struct flight *flight, int64_t now_ns)
{
    if (list_empty(&flight->lane->flights))
        flight->first_ns = now_ns;
    list_append(&flight->lane->flights, &flight->link);
}

static void flight_leave(struct flight *flight, int64_t now_ns)
{
    list_remove(&flight->link);
    struct flight *first = LIST_FIRST(&flight->lane->flights, struct flight, link);
    if (first && first->first_ns == 0)
        first->first_ns = now_ns;
}

/* The endpoint's timeout is that of a run: what waits in the replica's ring behind another request
 * begins when that one has ended, at the earliest. But the replica does not say when it begins, and
 * one that keeps a request back may answer others for ever: once nothing is before it in its lane,
 * what is behind it there says nothing of it, and runs of other lanes come first so many times. */
static int64_t run_ends_ns(struct flight *flight)
{
    int64_t since = flight->first_ns ? flight->first_ns : flight->submitted_ns;
    int64_t last = flight->first_ns ? since + (flight->turns - 1) * flight->timeout_ns : INT64_MAX;
    int64_t began = atomic_load(&flight->lane->replica->completed_ns);
    uint64_t beside = flight->beside;
    uint32_t has;

    replica_beside(flight->lane->replica, &has, &flight->beside);
    if (flight->beside != beside)
        flight->beside_ns = loop_now_ns();
    if (began < flight->beside_ns)
        began = flight->beside_ns;
    if (began < since)
        began = since;
    if (began > last)
        began = last;
    return began + flight->timeout_ns;
}

static void on_kill_due(struct env_timer *timer, void *data)
{
    struct flight *flight = data;
    int64_t due = run_ends_ns(flight) + gateway_kill_after_ms * ENV_MS;

    if (loop_now_ns() < due) {
        shard_deadline(flight->gl, timer, due, on_kill_due, flight);
        return;
    }
    shard_kill(flight->gl, flight->lane, REPLICA_END_TIMEOUT,
               "a request was not answered within the endpoint's timeout");
}

static void on_run_due(struct env_timer *timer, void *data)
{
    struct request *request = data;
    int64_t now = loop_now_ns();

    if (request->state == REQUEST_ANSWERED) { /* the client does not take its answer */
        exchange_abort(request->x);
        return;
    }
    bool own = request->deadline_ns && now >= request->deadline_ns;
    int64_t due = run_ends_ns(request->flight);
    if (!own && now < due) {
        if (request->deadline_ns && request->deadline_ns < due)
            due = request->deadline_ns;
        shard_deadline(request->gl, timer, due, on_run_due, request);
        return;
    }
    dispatch_forget(request);
    if (own)
        ANSWER_ERROR(request, ERR_DEADLINE, "the request's deadline passed while it ran");
    else
        ANSWER_ERROR(request, ERR_DEADLINE, "no answer within the endpoint's timeout (%llu ms)",
                     (unsigned long long)request->row->timeout_us / 1000);
}

static uint64_t ticket_next(struct gateway_loop *gl)
{
    /* 40 bits of sequence: at a million a second, two weeks of one loop; an instance that wraps
     * would begin anew, and tickets of two weeks ago are not outstanding. */
    uint64_t sequence = ++gl->sequence & ((UINT64_C(1) << LOOP_SHIFT) - 1);

    if (sequence == 0)
        sequence = ++gl->sequence & ((UINT64_C(1) << LOOP_SHIFT) - 1);
    return (gl->gateway->start.instance & 0xffff) << INSTANCE_SHIFT |
           (uint64_t)gl->index << LOOP_SHIFT | sequence;
}

void dispatch_start(struct request *request, struct lane *lane, uint32_t slot)
{
    struct gateway_loop *gl = request->gl;
    struct flight *flight = flight_new(gl);
    int64_t now = loop_now_ns();
    int64_t timeout_ns = (int64_t)request->row->timeout_us * 1000;
    uint32_t beside;

    replica_beside(lane->replica, &beside, &flight->beside);
    flight->gl = gl;
    flight->lane = lane;
    flight->side = request->side;
    flight->table = table_ref(request->table);
    flight->block = take_ptr(request->block);
    flight->request = request;
    flight->slot = slot;
    flight->turns = turns(lane, atomic_load(&request->side->revision->model), beside);
    flight->submitted_ns = now;
    flight->timeout_ns = timeout_ns;
    request->flight = flight;
    request->submitted_ns = now;
    request->queue_ns = (uint64_t)(now - request->queued_ns);
    if (request->state == REQUEST_WAITING || request->state == REQUEST_READING)
        request_state_move(&request->state, REQUEST_RUNNING);
    int64_t ends = now + timeout_ns;
    if (request->deadline_ns && request->deadline_ns < ends)
        ends = request->deadline_ns;
    shard_deadline(gl, &request->timer, ends, on_run_due, request);
    shard_deadline(gl, &flight->kill, now + timeout_ns + gateway_kill_after_ms * ENV_MS,
                   on_kill_due, flight);
    struct lane_request out = {
        .ticket = ticket_next(gl),
        .offset = flight->block->offset,
        .bytes = request->request_bytes,
        .deadline_ns = request->deadline_ns,
        .slot = slot,
    };
    if (list_empty(&lane->link_active))
        list_append(&gl->active, &lane->link_active);
    if (lane_submit(lane, &out, &flight->ticket)) {
        flight_enter(flight, now);
        wake_later(gl, lane, now);
        dispatch_wake_due(gl, now);
        return;
    }
    /* Slots bound what is in a ring, so it says it has taken less than it has: a lie. The ticket is
     * counted as lost with the replica. */
    shard_kill(gl, lane, REPLICA_END_LIED, "its ring is full though it has free slots");
    request->flight = NULL;
    request->block = take_ptr(flight->block);
    place_give(&lane->replica->place);
    place_give_slot(&lane->replica->place, slot);
    flight_free(flight);
    lane_settle(gl, lane);
    ANSWER_ERROR(request, ERR_REPLICA_DIED, "the replica broke its contract");
}

void dispatch_forget(struct request *request)
{
    struct flight *flight = take_ptr(request->flight);

    if (!flight)
        return;
    flight->request = NULL;
    lane_cancel(flight->lane, flight->slot);
}

/* ---- back ----------------------------------------------------------------------------- */

/* The runtime's own words: shown as they are, but for what is no text. */
static void words(const struct perigee_answer *answer, char *buffer, size_t room)
{
    size_t size = 0;

    for (uint32_t i = 0; i < answer->message_bytes && size + 1 < room;) {
        struct slice rest = { answer->message + i, answer->message_bytes - i };
        size_t length = utf8_length(rest);
        if (length == 0 || (unsigned char)rest.data[0] < 0x20 || rest.data[0] == 0x7f) {
            buffer[size++] = length ? ' ' : '?';
            i++;
            continue;
        }
        if (size + length + 1 > room)
            break;
        memcpy(buffer + size, rest.data, length);
        size += length;
        i += (uint32_t)length;
    }
    buffer[size] = '\0';
}

static void refused(struct request *request, const struct perigee_completion *completion,
                    const struct perigee_answer *answer)
{
    char text[480];

    words(answer, text, sizeof text);
    switch (completion->status) {
    case PERIGEE_BAD_INPUT:
        ANSWER_ERROR(request, ERR_BAD_INPUT, "%s", text[0] ? text : "the model refuses the input");
        break;
    case PERIGEE_TOO_LARGE:
        ANSWER_ERROR(request, ERR_TOO_LARGE, "%s", text[0] ? text : "the answer is too large");
        break;
    case PERIGEE_CANCELED:
        ANSWER_ERROR(request, ERR_DEADLINE, "the request's deadline passed while it waited");
        break;
    default:
        request->replica_words = true;
        ANSWER_ERROR(request, ERR_INTERNAL, "%s", text[0] ? text : "the model failed");
        break;
    }
}

#define ADD(to, field, value) atomic_fetch_add_explicit(&(to)->field, (value), memory_order_relaxed)

/* One run, told at the first request of those that ran together. */
static void stats_run(struct gateway_stats *stats, const struct perigee_completion *completion)
{
    uint32_t size = completion->batch_rows;

    if (!stats || size == 0 || completion->status != PERIGEE_DONE)
        return;
    struct gateway_batch_stats *row =
        &stats->batches[(size < GATEWAY_BATCH_SIZES ? size : GATEWAY_BATCH_SIZES) - 1];
    ADD(row, runs, 1);
    ADD(row, input_ns, completion->input_ns);
    ADD(row, infer_ns, completion->infer_ns);
    ADD(row, output_ns, completion->output_ns);
}

static void stats_add(struct request *request, const struct model_info *info,
                      const struct perigee_completion *completion)
{
    struct gateway_stats *stats = request->side->revision->stats;
    const struct oip_request *oip = &request->oip;
    uint64_t rows = 1;

    if (info->batch_rows_max != PERIGEE_BATCH_NONE && oip->input_count > 0 &&
        oip->inputs[0].shape.rank > 0 && oip->inputs[0].shape.dims[0] > 0)
        rows = (uint64_t)oip->inputs[0].shape.dims[0];
    if (completion->batch_rows != rows && info->batch_rows_max > 1)
        metric_add(shard_series(request->gl, request->table->head, request->row, request->endpoint,
                                GATEWAY_COPIED),
                   oip->block_bytes);
    if (!stats)
        return;
    ADD(stats, rows, rows);
    ADD(stats, queue, 1);
    ADD(stats, queue_ns, request->queue_ns);
    ADD(stats, input_ns, completion->input_ns);
    ADD(stats, infer_ns, completion->infer_ns);
    ADD(stats, output_ns, completion->output_ns);
}

static uint64_t answer_bytes(const struct perigee_answer *answer)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < answer->output_count; i++)
        bytes += answer->outputs[i].bytes;
    return bytes;
}

/* To a request that waits for it. True: the slot is the request's from here. */
static bool answered(struct request *request, struct lane *lane, uint32_t slot,
                     const struct perigee_completion *completion)
{
    struct gateway_loop *gl = request->gl;
    struct model_info *info = atomic_load(&request->side->revision->model);
    struct perigee_answer answer;
    struct err err = {};
    int r = lane_answer(lane, slot, info->outputs, info->output_count, &answer, &err);

    if (r == 0 && completion->status > PERIGEE_CANCELED)
        r = err_set(&err, ERR_BAD_INPUT, "a completion with status %u", completion->status);
    if (r < 0) {
        metric_add(shard_series(gl, request->table->head, request->row, request->endpoint,
                                GATEWAY_NONSENSE),
                   1);
        log_error("gateway", "a replica answered nonsense", LOG_S("replica", lane->replica->name),
                  LOG_S("request", request->id), LOG_S("why", err.message));
        ANSWER_ERROR(request, ERR_INTERNAL, "the replica's answer contradicts its model");
        return false;
    }
    if (completion->status != PERIGEE_DONE) {
        refused(request, completion, &answer);
        return false;
    }
    stats_add(request, info, completion);
    place_keep(&lane->replica->place, slot, answer_bytes(&answer));
    return answer_outputs(request, lane, slot, &answer);
}

/* In the ring it still waited: `start_ns` is the replica's word, believed within what can be. */
static int64_t started_ns(const struct flight *flight, const struct perigee_completion *completion,
                          int64_t now_ns)
{
    int64_t started = (int64_t)completion->start_ns;

    return started < flight->submitted_ns || started > now_ns ? flight->submitted_ns : started;
}

static void times(struct request *request, const struct flight *flight, int64_t started,
                  int64_t now_ns)
{
    request->queue_ns += (uint64_t)(started - flight->submitted_ns);
    request->infer_ns = (uint64_t)(now_ns - started);
    if (request->infer_ns == 0)
        request->infer_ns = 1;
}

static void completed(struct lane *lane, struct flight *flight,
                      const struct perigee_completion *completion, int64_t now_ns, uint64_t gap_ns)
{
    struct request *request = flight->request;
    struct revision_side *side = flight->side;
    uint32_t slot = flight->slot;
    int64_t started = started_ns(flight, completion, now_ns);
    bool slot_kept = false, more_room = false;

    flight_leave(flight, now_ns);
    stats_run(side->revision->stats, completion);
    admit_ran(side, now_ns - flight->submitted_ns);
    if (completion->status == PERIGEE_DONE)
        admission_learn(&side->revision->admission, gap_ns, (uint64_t)(now_ns - started));
    if (completion->status == PERIGEE_CANCELED)
        metric_add(metrics_series(&flight->gl->metrics, GATEWAY_SKIPPED, NULL), 1);
    else /* one that failed took its time as well */
        more_room = place_learn(&lane->replica->place, completion->input_ns + completion->infer_ns +
                                                           completion->output_ns);
    if (request) {
        request->flight = NULL;
        times(request, flight, started, now_ns);
        slot_kept = answered(request, lane, slot, completion);
    }
    if (!slot_kept)
        lane_slot_give(lane, slot);
    if (!slot_kept || more_room)
        queue_serve(&side->queue);
    flight_free(flight);
}

/* One round: 1 when there may be more, 0 when not, ERR_BAD_INPUT when the replica lies. */
static int completions_take(struct gateway_loop *gl, struct lane *lane, struct err *err)
{
    struct lane_ticket *tickets[TAKEN_MAX];
    struct perigee_completion completions[TAKEN_MAX];
    size_t count = 0;
    int r = 0;

    while (count < TAKEN_MAX &&
           (r = lane_take(lane, &tickets[count], &completions[count], err)) > 0) {
        place_give(&lane->replica->place);
        count++;
    }
    if (count == 0)
        return r;
    /* All are of one revision: the replica's. */
    const struct flight *first = LIST_OWNER(tickets[0], struct flight, ticket);
    queue_serve(&first->side->queue);
    dispatch_wake(gl);
    gl->worked = true;
    int64_t now_ns = loop_now_ns();
    uint64_t gap_ns = admit_gap_ns(first, count, now_ns);
    for (size_t i = 0; i < count; i++)
        completed(lane, LIST_OWNER(tickets[i], struct flight, ticket), &completions[i], now_ns,
                  gap_ns);
    return r < 0 ? r : 1;
}

void dispatch_completions(struct gateway_loop *gl, struct lane *lane)
{
    struct err err;
    int r = 0;

    while (!lane->gone && !lane->lied && (r = completions_take(gl, lane, &err)) > 0)
        ;
    if (r < 0) {
        lane->lied = true; /* its tickets come back when it was reaped */
        shard_kill(gl, lane, REPLICA_END_LIED, err.message);
        list_remove(&lane->link_active);
        return;
    }
    lane_settle(gl, lane);
}

void dispatch_abandon(struct gateway_loop *gl, struct lane *lane)
{
    struct lane_ticket *ticket;

    while ((ticket = lane_abandon(lane)) != NULL) {
        struct flight *flight = LIST_OWNER(ticket, struct flight, ticket);
        struct request *request = flight->request;
        place_give(&lane->replica->place);
        place_give_slot(&lane->replica->place, flight->slot);
        if (!request) {
            flight_free(flight);
            continue;
        }
        request->flight = NULL;
        request->block = take_ptr(flight->block); /* unchanged: the replica could only read it */
        flight_free(flight);
        shard_deadline_stop(gl, &request->timer);
        if (request->retried)
            ANSWER_ERROR(request, ERR_REPLICA_DIED,
                         "the replica died while it had the request, twice");
        else
            admit_again(request);
    }
    list_remove(&lane->link_active);
    list_remove(&lane->link_wake);
}
