/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request waits in one of two lists of its revision's side: `held` (nothing to run on is known
 * yet) or the queue (gateway/queue.h). Either way it counts against the endpoint's depth, its timer
 * runs, and gl->waiting has it, so that a review finds it.
 */
#include "gateway/admit.h"

#include "base/arena.h"
#include "gateway/admit_own.h"
#include "gateway/depth.h"
#include "gateway/forward.h"
#include "gateway/request.h"
#include "io/loop.h"

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

void admit_demand(struct request *request)
{
    atomic_fetch_add(&request->revision->passed_on, 1);
    demand(request->revision);
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
    if (depth_full(request) && !admit_room(request->side)) {
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

static void enqueue(struct request *request)
{
    struct revision_side *side = request->side;
    struct err err;

    int r = !request->http && request->block_side != side ? admit_move(request, &err) : 0;
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
