/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request waits in one of two lists of its revision's side: `held` (nothing to run on is known
 * yet) or the queue (dataplane.md 7). Either way it counts against the endpoint's depth, its timer
 * runs, and gl->waiting has it, so that a review finds it.
 */
#include "gateway/admit.h"

#include <string.h>

#include "base/arena.h"
#include "gateway/depth.h"
#include "gateway/dispatch.h"
#include "gateway/forward.h"
#include "gateway/proxy.h"
#include "gateway/request.h"
#include "gateway/target.h"
#include "io/loop.h"
#include "spec/units.h"

/* ---- places --------------------------------------------------------------------------- */

/* Least loaded of two looked at; when both are full, whichever has room. */
static bool take(void *data, struct queue_grant *ret)
{
    struct revision_side *side = data;
    struct lane *first = LIST_FIRST(&side->lanes, struct lane, link);
    struct lane *lane;

    if (side->revision->http)
        return target_take(side, ret);
    if (!first)
        return false;
    if (side->lane_count > 1) {
        struct lane *second = LIST_OWNER(first->link.next, struct lane, link);
        list_remove(&first->link); /* another pair next time */
        list_append(&side->lanes, &first->link);
        if (place_running(&second->replica->place) < place_running(&first->replica->place))
            first = second;
    }
    if (place_take(&first->replica->place, &ret->slot)) {
        ret->lane = first;
        return true;
    }
    LIST_EACH (lane, &side->lanes, struct lane, link)
        if (place_take(&lane->replica->place, &ret->slot)) {
            ret->lane = lane;
            return true;
        }
    return false;
}

static bool room(void *data)
{
    struct revision_side *side = data;
    struct lane *lane;

    LIST_EACH (lane, &side->lanes, struct lane, link)
        if (place_free(&lane->replica->place))
            return true;
    return side->revision->http && target_room(side);
}

/* Its turn came too late: no run is as short as what is left. */
static bool too_late(const struct request *request)
{
    return request->state == REQUEST_WAITING && request->deadline_ns && !request->tried &&
           loop_now_ns() + (int64_t)admission_least_ns(&request->revision->admission) >
               request->deadline_ns;
}

static void start(struct waiter *waiter, const struct queue_grant *grant, void *data)
{
    struct request *request = LIST_OWNER(waiter, struct request, waiter);
    struct lane *lane = request->http ? NULL : grant->lane;
    (void)data;

    admit_leave(request);
    if (request->http) {
        proxy_start(request, grant->lane);
        return;
    }
    if (too_late(request)) { /* queue_serve() goes on: the next one has the place */
        place_give(&lane->replica->place);
        place_give_slot(&lane->replica->place, grant->slot);
        ANSWER_ERROR(request, ERR_DEADLINE, "the request waited until its deadline was too near");
        return;
    }
    dispatch_start(request, lane, grant->slot);
}

struct wake {
    struct revision *revision;
    unsigned loop;
};

static void on_wake(void *data)
{
    struct revision_side *side = data;

    queue_woken(&side->queue);
    revision_unref(side->revision);
}

static void wake(unsigned loop, void *data)
{
    struct revision_side *side = data;
    struct revision *revision = revision_ref(side->revision);

    loop_post(revision->gateway->loop[loop].loop, on_wake, &revision->sides[loop]);
}

const struct queue_events admit_queue_events = { take, room, start, wake };

/* ---- counting ------------------------------------------------------------------------- */

static void on_first_waits(void *data)
{
    world_demand(data, false);
}

static void on_first_comes(void *data)
{
    world_demand(data, true);
}

/* One thread writes each. */
static void sum_add(_Atomic uint64_t *sum, uint64_t more)
{
    atomic_store_explicit(sum, atomic_load_explicit(sum, memory_order_relaxed) + more,
                          memory_order_relaxed);
}

static void count_arrival(struct request *request)
{
    struct gateway *gateway = request->revision->gateway;

    sum_add(&request->side->arrivals, 1);
    if (atomic_load_explicit(&gateway->demand_slow, memory_order_relaxed) &&
        atomic_exchange(&gateway->demand_slow, false))
        loop_post(gateway->main, on_first_comes, gateway);
}

void admit_ran(struct revision_side *side, int64_t ns)
{
    sum_add(&side->done, 1);
    sum_add(&side->busy_ns, ns > 0 ? (uint64_t)ns : 0);
}

/* Whoever comes to a revision without a ready replica. */
static void demand(struct revision *revision)
{
    int64_t warm = 0;

    atomic_compare_exchange_strong(&revision->cold_since_ns, &warm, loop_now_ns());
    if (!atomic_exchange(&revision->demanded, true))
        loop_post(revision->gateway->main, on_first_waits, revision->gateway);
}

static int count_in(struct request *request, uint64_t bytes, struct err *err)
{
    struct revision *revision = request->revision;

    int r = depth_enter(request, bytes, err);
    if (r < 0)
        return r;
    if (request->waiter.class == QUEUE_BATCH)
        atomic_fetch_add(&revision->waiting_batch, 1);
    if (atomic_fetch_add(&revision->waiting, 1) == 0) {
        atomic_store(&revision->waiting_since_ns, loop_now_ns());
        if (atomic_load(&revision->ready) == 0)
            demand(revision);
    }
    list_append(&request->gl->waiting, &request->link);
    return 0;
}

void admit_leave(struct request *request)
{
    if (!request->counted)
        return;
    depth_leave(request);
    if (request->waiter.class == QUEUE_BATCH)
        atomic_fetch_sub(&request->revision->waiting_batch, 1);
    atomic_fetch_sub(&request->revision->waiting, 1);
    list_remove(&request->link);
    if (request->state == REQUEST_HELD)
        list_remove(&request->held);
    else if (!list_empty(&request->waiter.link))
        queue_leave(&request->side->queue, &request->waiter);
    shard_deadline_stop(request->gl, &request->timer);
}

/* ---- parked --------------------------------------------------------------------------- */

static void arena_want(struct request *request)
{
    struct revision *revision = request->revision;

    if (!atomic_load(&revision->arena) && !atomic_exchange(&revision->arena_wanted, true))
        shard_want_arena(request->gl, revision->uid);
}

static int park(struct request *request, struct err *err)
{
    int r = count_in(request, 0, err);

    if (r < 0)
        return r;
    request->parked = true;
    request_state_move(&request->state, REQUEST_HELD);
    list_append(&request->side->held, &request->held);
    admit_arm(request);
    if (!request->http)
        arena_want(request);
    return 0;
}

int admit_park(struct request *request, int64_t look_ns, struct err *err)
{
    int r = admit_check(request, err);

    if (r < 0)
        return r;
    request->queued_ns = loop_now_ns();
    request->look_ns = look_ns;
    count_arrival(request);
    return park(request, err);
}

void admit_unpark(struct request *request)
{
    request->parked = false;
    if (request->state == REQUEST_READING)
        return;
    admit_leave(request);
    request_state_move(&request->state, REQUEST_READING);
}

void admit_parked(struct request *request)
{
    struct err err;

    if (request->side->lane_count > 0) {
        admit_unpark(request);
        request_serve(request);
    } else if (request->state == REQUEST_READING && park(request, &err) < 0) { /* it has moved */
        answer_error(request, &err);
    }
}

/* ---- how long ------------------------------------------------------------------------- */

static int64_t wait_ends_ns(const struct request *request, bool *ret_cold)
{
    const struct revision_side *side = request->side;
    int64_t ends, from = request->arrived_ns;

    *ret_cold = side->lane_count == 0;
    if (*ret_cold) {
        ends = from + (int64_t)request->row->queue_cold_us * 1000;
    } else {
        if (side->ready_since_ns > from)
            from = side->ready_since_ns;
        ends = from + (int64_t)request->row->queue_timeout_us * 1000;
    }
    return request->deadline_ns && request->deadline_ns < ends ? request->deadline_ns : ends;
}

static void answer_cold(struct request *request)
{
    struct slice why = table_text(request->table->head, request->revision_row->message);

    ANSWER_ERROR(request, ERR_STARTING, "no replica was ready within queue.cold (%llu ms)%s%.*s",
                 (unsigned long long)request->row->queue_cold_us / 1000,
                 why.size ? "; the last start: " : "", SLICE_FMT(why));
}

static void on_wait_due(struct env_timer *timer, void *data)
{
    struct request *request = data;
    bool cold;
    int64_t now = loop_now_ns(), ends = wait_ends_ns(request, &cold);
    (void)timer;

    if (now < ends) {
        if (request->parked && now >= request->look_ns)
            forward_look(request);
        else
            admit_arm(request);
        return;
    }
    if (request->deadline_ns && now >= request->deadline_ns)
        ANSWER_ERROR(request, ERR_DEADLINE, "the request's deadline passed while it waited");
    else if (cold)
        answer_cold(request);
    else
        ANSWER_ERROR(request, ERR_DEADLINE, "no replica was free within queue.timeout (%llu ms)",
                     (unsigned long long)request->row->queue_timeout_us / 1000);
}

void admit_arm(struct request *request)
{
    bool cold;
    int64_t ends = wait_ends_ns(request, &cold);

    request->cold |= cold;
    if (request->parked && request->look_ns < ends)
        ends = request->look_ns;
    shard_deadline(request->gl, &request->timer, ends, on_wait_due, request);
}

/* ---- in time -------------------------------------------------------------------------- */

static void load_of(const struct request *request, struct admission_load *ret)
{
    const struct revision_side *side = request->side;
    const struct revision *revision = request->revision;
    const struct lane *lane;

    *ret = (struct admission_load){ .ahead = atomic_load(&revision->waiting),
                                    .replicas = side->lane_count };
    if (request->waiter.class == QUEUE_INTERACTIVE) {
        uint32_t behind = atomic_load(&revision->waiting_batch);
        ret->ahead -= behind < ret->ahead ? behind : ret->ahead;
    }
    LIST_EACH (lane, &side->lanes, struct lane, link)
        ret->running += place_running(&lane->replica->place);
    ret->running += targets_running(side);
}

int admit_deadline(struct request *request, struct err *err)
{
    char needs[UNITS_BYTES], has[UNITS_BYTES];
    struct admission *admission = &request->revision->admission;
    struct admission_load load;

    if (!request->deadline_ns || request->tried)
        return 0;
    int64_t now = loop_now_ns(), left = request->deadline_ns - now;
    if (left <= 0)
        return err_set(err, ERR_DEADLINE, "the request's deadline passed before it could run");
    if (request->http) /* its requests are not alike: what one took says nothing of the next */
        return 0;
    load_of(request, &load);
    switch (admission_ask(admission, &load, left, now)) {
    case ADMISSION_IN_TIME:
        return 0;
    case ADMISSION_TRIED:
        request->tried = true;
        return 0;
    case ADMISSION_LATE:
        break;
    }
    request->shed = SHED_deadline;
    return err_set(err, ERR_OVERLOADED,
                   "the deadline cannot be met: an answer takes about %s now, %s are left",
                   units_print_time(needs, admission_finish_ns(admission, &load)),
                   units_print_time(has, (uint64_t)left));
}

void admit_prospect(const struct request *request, struct admit_prospect *ret)
{
    const struct admission *admission = &request->revision->admission;
    struct admission_load load;

    *ret = (struct admit_prospect){ .ready = request->side->lane_count > 0 };
    bool free = room(request->side);
    ret->full = depth_full(request) && !free;
    if (!ret->ready)
        return;
    if (free && !request->deadline_ns)
        return;
    load_of(request, &load);
    uint64_t finish = admission_finish_ns(admission, &load), least = admission_least_ns(admission);
    ret->finish_ms = (float)finish / 1e6f;
    ret->wait_ms = free ? 0 : (float)(finish > least ? finish - least : 0) / 1e6f;
    ret->late = request->deadline_ns && finish > 0 &&
                loop_now_ns() + (int64_t)finish > request->deadline_ns;
}

void admit_demand(struct request *request)
{
    atomic_fetch_add(&request->revision->passed_on, 1);
    demand(request->revision);
}

float admit_cold_ms(const struct revision *revision)
{
    int64_t since = atomic_load(&revision->cold_since_ns);

    return since ? (float)(loop_now_ns() - since) / 1e6f : 0;
}

uint64_t admit_gap_ns(const struct flight *first, size_t count, int64_t now_ns)
{
    struct replica *replica = first->lane->replica;
    int64_t before = atomic_load_explicit(&replica->completed_ns, memory_order_relaxed);

    atomic_store_explicit(&replica->completed_ns, now_ns, memory_order_relaxed);
    if (before < first->submitted_ns)
        before = first->submitted_ns;
    return now_ns > before ? (uint64_t)(now_ns - before) / count : 0;
}

uint32_t admit_retry_after_s(const struct request *request)
{
    struct admission_load load;

    if (!request->side)
        return gateway_retry_after_s_min;
    load_of(request, &load);
    return admission_retry_s(&request->revision->admission, &load, gateway_retry_after_s_min,
                             gateway_retry_after_s_max);
}

/* ---- waiting -------------------------------------------------------------------------- */

int request_away(const struct request *request, struct err *err)
{
    struct slice name = table_text(request->table->head, request->row->name);

    if (request->row->state == TABLE_ENDPOINT_STOPPED)
        return err_set(err, ERR_STOPPED, "endpoint '%.*s' is stopped; start it first",
                       SLICE_FMT(name));
    if (request->row->state == TABLE_ENDPOINT_AWAY)
        return err_set(err, ERR_OVERLOADED,
                       request->hop ? "endpoint '%.*s' does not run at this PoP, and what another "
                                      "PoP passed on goes no further"
                                    : "endpoint '%.*s' does not run at this PoP any more; send the "
                                      "request again",
                       SLICE_FMT(name));
    return 0;
}

/* Its revision has never run here, or will not before somebody changes something. One that has run
 * is tried again while somebody waits for it, whatever its last start came to. */
static int serves_not(const struct request *request, struct err *err)
{
    const struct table_head *table = request->table->head;
    const struct table_revision *revision = request->revision_row;

    if (!revision->message.bytes || request->side->lane_count > 0 || table_retried(table, revision))
        return 0;
    return err_set(err, ERR_OVERLOADED, "revision %u of endpoint '%.*s' does not serve: %.*s",
                   revision->number, SLICE_FMT(table_text(table, request->row->name)),
                   SLICE_FMT(table_text(table, revision->message)));
}

static int not_here(struct request *request, struct err *err)
{
    int r = residency_check(request, err); /* again, once the table is another */

    return r < 0 ? r : request_away(request, err);
}

/* Why a request of this endpoint cannot be served whatever it waits for; 0: it can. */
static int hopeless(struct request *request, struct err *err)
{
    int r = not_here(request, err);

    return r < 0 ? r : serves_not(request, err);
}

int admit_check(struct request *request, struct err *err)
{
    int r = not_here(request, err);

    if (r < 0)
        return r;
    r = serves_not(request, err);
    if (r < 0) { /* it is tried again while somebody asks */
        count_arrival(request);
        return r;
    }
    if (depth_full(request) && !room(request->side)) {
        count_arrival(request);
        request->shed = SHED_queue;
        return err_set(err, ERR_OVERLOADED, "the queue of endpoint '%.*s' is full (queue.depth %u)",
                       SLICE_FMT(table_text(request->table->head, request->row->name)),
                       request->row->queue_depth);
    }
    return admit_deadline(request, err);
}

void admit_hold(struct request *request)
{
    struct err err;

    if (request->state == REQUEST_HELD)
        return;
    if (!request->queued_ns)
        request->queued_ns = loop_now_ns();
    uint64_t bytes = request->block ? request->request_bytes : request->body.text_bytes;
    if (count_in(request, bytes, &err) < 0) {
        answer_error(request, &err);
        return;
    }
    request_state_move(&request->state, REQUEST_HELD);
    list_append(&request->side->held, &request->held);
    admit_arm(request);
    arena_want(request);
}

static bool metas_equal(const struct tensor_meta *a, const struct tensor_meta *b, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!slice_equal(a[i].name, b[i].name) || a[i].type != b[i].type ||
            a[i].optional != b[i].optional || a[i].shape.rank != b[i].shape.rank ||
            memcmp(a[i].shape.dims, b[i].shape.dims, a[i].shape.rank * sizeof *a[i].shape.dims) !=
                0)
            return false;
    return true;
}

static bool models_equal(const struct model_info *a, const struct model_info *b)
{
    return a->input_count == b->input_count && a->output_count == b->output_count &&
           metas_equal(a->inputs, b->inputs, a->input_count) &&
           metas_equal(a->outputs, b->outputs, a->output_count);
}

/* The inputs go over to the arena of the revision that serves now. 1: not yet. */
static int block_move(struct request *request, struct err *err)
{
    struct revision_side *from = request->block_side, *to = request->side;
    const struct model_info *old = atomic_load(&from->revision->model);
    const struct model_info *new = atomic_load(&to->revision->model);
    struct block *block;

    if (!new || !atomic_load(&to->revision->arena))
        return 1;
    if (!models_equal(old, new))
        return err_set(
            err, ERR_OVERLOADED,
            "the revision was replaced by one with other inputs; send the request again");
    body_blocks(request);
    request->shed = SHED_memory;
    int r = block_take(to->blocks, request->request_bytes, &block, err);
    if (r < 0)
        return r;
    request->shed = SHED_unready;
    memcpy(block_memory(to->blocks, block), block_memory(from->blocks, request->block),
           request->request_bytes);
    block_give(from->blocks, request->block);
    request->block = block;
    request->block_side = to;
    metric_add(shard_series(request->gl, request->table->head, request->row, request->endpoint,
                            GATEWAY_COPIED),
               request->request_bytes);
    return 0;
}

static void enqueue(struct request *request)
{
    struct revision_side *side = request->side;
    struct err err;

    int r = !request->http && request->block_side != side ? block_move(request, &err) : 0;
    if (r < 0) {
        answer_error(request, &err);
        return;
    }
    if (r > 0) { /* body_continue() comes back here */
        admit_hold(request);
        return;
    }
    if (queue_try(&side->queue, &request->waiter))
        return;
    if (count_in(request, request->request_bytes, &err) < 0) {
        answer_error(request, &err);
        return;
    }
    request_state_move(&request->state, REQUEST_WAITING);
    admit_arm(request);
    queue_enter(&side->queue, &request->waiter, request->queued_ns);
}

/* The endpoint serves another revision than the one it waits for, which has nothing to run on. */
static bool follow(struct request *request)
{
    uint32_t row;

    if (request->pinned || request->side->lane_count > 0)
        return false;
    const struct table_revision *target = traffic_target(request, &row);
    if (!target || request->table->revisions[row] == request->revision ||
        request->table->revisions[row]->http != request->http)
        return false;
    request->revision = request->table->revisions[row];
    request->revision_row = target;
    request->side = &request->revision->sides[request->gl->index];
    return true;
}

/* Its rows in the loop's newest table; false: its endpoint or revision is gone. */
static bool rows_renew(struct request *request)
{
    struct table *table = request->gl->table;
    const struct table_head *old = request->table->head;

    if (request->table == table)
        return true;
    uint32_t row = table_find_endpoint(table->head, table_text(old, request->row->project),
                                       table_text(old, request->row->name));
    if (row == TABLE_NONE || table->endpoints[row] != request->endpoint)
        return false;
    const struct table_endpoint *endpoint = table_endpoint(table->head, row);
    uint32_t revision = table_find_revision(table->head, endpoint, request->revision_row->number);
    if (revision == TABLE_NONE)
        return false;
    /* The old one stays until the end: what was parsed points into it, and into its models. */
    struct kept_table *kept = ARENA_NEW(request->arena, struct kept_table);
    *kept = (struct kept_table){ request->table, request->kept };
    request->kept = kept;
    request->table = table_ref(table);
    request->row = endpoint;
    request->revision_row = table_revision(table->head, revision);
    return true;
}

void admit_request(struct request *request)
{
    struct err err;

    bool first = !request->queued_ns; /* else it was held, and waits since then */
    if (first)
        request->queued_ns = loop_now_ns();
    if (!rows_renew(request)) { /* while its body came; no review looks at those */
        ANSWER_ERROR(request, ERR_NOT_FOUND, "the endpoint or its revision was deleted");
        return;
    }
    (void)follow(request);
    if (first)
        count_arrival(request);
    if (hopeless(request, &err) < 0 || admit_deadline(request, &err) < 0)
        answer_error(request, &err);
    else
        enqueue(request);
}

void admit_again(struct request *request)
{
    struct err err;

    request->retried = true;
    request_state_move(&request->state, REQUEST_READING);
    if (!rows_renew(request)) {
        ANSWER_ERROR(request, ERR_NOT_FOUND, "the endpoint or its revision was deleted");
        return;
    }
    (void)follow(request);
    metric_add(shard_series(request->gl, request->table->head, request->row, request->endpoint,
                            GATEWAY_RETRIED),
               1);
    if (hopeless(request, &err) < 0)
        answer_error(request, &err);
    else
        enqueue(request);
}

/* ---- the world changes ---------------------------------------------------------------- */

static void review(struct request *request)
{
    struct err err;

    if (!rows_renew(request)) {
        ANSWER_ERROR(request, ERR_NOT_FOUND, "the endpoint or its revision was deleted");
        return;
    }
    bool held = request->state == REQUEST_HELD;
    struct revision_side *side = request->side;
    bool moved = false;
    if (side->lane_count == 0 && !request->pinned) {
        uint32_t row;
        const struct table_revision *target = traffic_target(request, &row);
        moved = target && request->table->revisions[row] != request->revision;
        if (moved && request->table->revisions[row]->http != request->http) {
            ANSWER_ERROR(request, ERR_OVERLOADED,
                         "the revision was replaced by one of another kind; send the request "
                         "again");
            return;
        }
    }
    if (moved) {
        admit_leave(request);
        request_state_move(&request->state,
                           held ? REQUEST_READING : REQUEST_HELD); /* READING by way of HELD */
        if (!held)
            request_state_move(&request->state, REQUEST_READING);
        (void)follow(request);
    }
    if (hopeless(request, &err) < 0)
        answer_error(request, &err);
    else if (moved && held)
        body_continue(request);
    else if (moved)
        enqueue(request);
}

void admit_review(struct gateway_loop *gl)
{
    struct list todo;

    /* A request that moves goes to the end of gl->waiting: it is looked at once. */
    list_take_all(&todo, &gl->waiting);
    while (!list_empty(&todo)) {
        struct request *request = LIST_OWNER(todo.next, struct request, link);
        list_remove(&request->link);
        list_append(&gl->waiting, &request->link);
        review(request);
    }
}

void admit_continue(struct revision_side *side)
{
    struct list held;
    struct request *request;

    list_take_all(&held, &side->held);
    while (!list_empty(&held)) {
        request = LIST_OWNER(held.next, struct request, held);
        list_remove(&request->held);
        list_append(&side->held, &request->held);
        body_continue(request);
    }
    LIST_EACH (request, &side->loop->waiting, struct request, link)
        if (request->side == side)
            admit_arm(request); /* from queue.cold to queue.timeout, or back */
    queue_serve(&side->queue);
}
