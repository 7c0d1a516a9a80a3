/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a request that is passed on, and of its answer: a relay (http/relay.h) that counts
 * as its endpoint's memory. Where no other PoP answers, what is held of the body is body.c's, as if
 * the client had just sent it.
 */
#include "gateway/forward_own.h"
#include "gateway/request.h"

static bool memory_take(size_t bytes, void *data)
{
    return memory_budget_take(&((struct forward *)data)->endpoint->memory, bytes);
}

static void memory_give(size_t bytes, void *data)
{
    memory_budget_give(&((struct forward *)data)->endpoint->memory, bytes);
}

static bool memory_spare(size_t bytes, void *data)
{
    return memory_budget_spare(&((struct forward *)data)->endpoint->memory, bytes);
}

void forward_relay_init(struct forward *forward)
{
    static const struct relay_memory memory = { .take = memory_take,
                                                .spare = memory_spare,
                                                .give = memory_give };

    relay_init(&forward->relay, forward->request->x, forward->gl->loop, &memory, forward);
}

void forward_space(struct request *request, struct iovec *ret_space)
{
    struct forward *forward = request->forward;

    /* Nobody wants the rest, or body.c has not taken it; or it waits for the next try, and must not
     * grow too large for it. */
    if (!forward->relay.call || forward->canceled || forward->again)
        return;
    relay_space(&forward->relay, ret_space);
    if (!forward->relay.short_of_memory)
        return;
    forward->relay.short_of_memory = false;
    request->shed = SHED_memory;
    if (forward->answering)
        exchange_abort(request->x); /* nobody would go on reading */
    else if (forward_unsafe(forward, forward->relay.call))
        ANSWER_ERROR(request, ERR_REPLICA_DIED,
                     "the memory for requests is in use, and PoP '%s' may have acted upon the "
                     "request",
                     forward->peer->name);
    else
        ANSWER_ERROR(request, ERR_OVERLOADED, "the memory for requests is in use");
}

void forward_filled(struct request *request, size_t bytes)
{
    relay_filled(&request->forward->relay, bytes);
}

void forward_replay(struct request *request)
{
    if (relay_replay(&request->forward->relay, body_space, body_filled, request) &&
        request->state != REQUEST_ANSWERED)
        forward_replayed(request);
}
