/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a request that is passed on, and of its answer.
 *
 * The body goes through a few blocks: the client's bytes are read straight into one and written
 * from there. They are held until an answer begins, so that another PoP can be given the same. Of
 * a body larger than FORWARD_BLOCKS_MAX that is so while half of the memory for requests is free:
 * else a block is free once the kernel has its bytes, and there is no second try. Where
 * FORWARD_BLOCKS_MAX wait for the kernel nothing more is read: the peer's slowness becomes the
 * client's.
 */
#include <stdlib.h>

#include "base/auto.h"
#include "gateway/forward_own.h"
#include "gateway/request.h"
#include "io/loop.h"

/* ---- blocks --------------------------------------------------------------------------------- */

static void block_free(struct forward *forward, struct forward_block *block)
{
    memory_budget_give(&forward->endpoint->memory, block->room);
    if (forward->unsent == block)
        forward->unsent = NULL;
    list_remove(&block->link);
    forward->block_count--;
    free(block);
}

void forward_body_free(struct forward *forward)
{
    struct forward_block *block;

    loop_task_cancel(&forward->push);
    while ((block = LIST_FIRST(&forward->blocks, struct forward_block, link)))
        block_free(forward, block);
    if (forward->answer_room)
        memory_budget_give(&forward->endpoint->memory, forward->answer_room);
    forward->answer_room = 0;
}

static struct forward_block *block_last(struct forward *forward)
{
    return list_empty(&forward->blocks)
               ? NULL
               : LIST_OWNER(forward->blocks.previous, struct forward_block, link);
}

/* The kernel has all that there will be of it. */
static bool taken(const struct forward_block *block)
{
    return !block->writing && block->sent == block->room;
}

/* Those that the kernel has, where they need not be held. */
static void blocks_sweep(struct forward *forward)
{
    struct forward_block *block;

    if (forward->kept)
        return;
    LIST_EACH (block, &forward->blocks, struct forward_block, link)
        if (taken(block))
            block_free(forward, block);
}

void forward_body_let_go(struct forward *forward)
{
    forward->kept = false;
    blocks_sweep(forward);
}

/* As many as may wait for the kernel do: it takes them in their order. */
static bool blocks_full(const struct forward *forward)
{
    const struct list *link = forward->blocks.previous;
    unsigned count = 0;

    for (; link != &forward->blocks && count < FORWARD_BLOCKS_MAX; link = link->previous, count++)
        if (taken(LIST_OWNER(link, struct forward_block, link)))
            return false;
    return count == FORWARD_BLOCKS_MAX;
}

/* What is still to come, as far as one block takes it. */
static size_t block_room(const struct forward *forward)
{
    uint64_t length = exchange_request(forward->request->x)->content_length;

    if (length == HTTP_LENGTH_UNKNOWN)
        return FORWARD_BLOCK_BYTES;
    length -= exchange_body_bytes(forward->request->x);
    return length < FORWARD_BLOCK_BYTES ? length : FORWARD_BLOCK_BYTES;
}

static struct forward_block *block_add(struct forward *forward, size_t room)
{
    if (!memory_budget_take(&forward->endpoint->memory, room))
        return NULL;
    struct forward_block *block = mem_alloc(sizeof *block + room);
    *block = (struct forward_block){ .forward = forward, .room = room };
    list_append(&forward->blocks, &block->link);
    forward->block_count++;
    return block;
}

/* ---- the body ------------------------------------------------------------------------------- */

/* One that can take more; NULL: not now, or an error was answered. */
static struct forward_block *block_open(struct forward *forward)
{
    struct forward_block *block = block_last(forward);
    size_t room = block_room(forward);

    if (block && block->bytes < block->room)
        return block;
    if (room == 0 || blocks_full(forward))
        return NULL; /* until on_body_written() */
    if (forward->block_count >= FORWARD_BLOCKS_MAX &&
        !memory_budget_spare(&forward->endpoint->memory, room))
        forward_body_let_go(forward);
    block = block_add(forward, room);
    if (!block) {
        forward->request->shed = SHED_memory;
        ANSWER_ERROR(forward->request, ERR_OVERLOADED, "the memory for requests is in use");
    }
    return block;
}

void forward_space(struct request *request, struct iovec *ret_space)
{
    struct forward *forward = request->forward;

    /* Nobody wants the rest, or body.c has not taken it; or it waits for the next try, and must not
     * grow too large for it. */
    if (!forward->call || forward->canceled || forward->again)
        return;
    struct forward_block *block = block_open(forward);
    if (block)
        *ret_space = (struct iovec){ block->data + block->bytes, block->room - block->bytes };
}

static void on_body_written(struct http_call *call, const struct err *err, void *data);

static void block_write(struct forward *forward, struct forward_block *block)
{
    struct iovec bytes = { block->data + block->sent, block->bytes - block->sent };

    if (forward->writes++ == 0)
        forward->taken_ns = loop_now_ns();
    block->writing = true;
    block->sent = block->bytes;
    http_call_write(forward->call, &bytes, 1, on_body_written, block);
}

/* What came since goes out, in its order. One write of a block at a time: however small the pieces
 * that a client sends, while the kernel or the connection is awaited they become one. */
static void body_push(struct forward *forward)
{
    struct list *link = forward->unsent ? &forward->unsent->link : forward->blocks.next;

    for (; link != &forward->blocks; link = link->next) {
        struct forward_block *block = forward->unsent =
            LIST_OWNER(link, struct forward_block, link);
        if (block->sent == block->bytes)
            continue;
        if (block->writing) /* on_body_written() goes on */
            return;
        block_write(forward, block);
    }
    if (forward->ended && !forward->ended_told) {
        forward->ended_told = true;
        http_call_end(forward->call);
    }
}

/* After this pass's reads. */
static void on_push(void *data)
{
    struct forward *forward = data;

    if (forward->call && !forward->canceled)
        body_push(forward);
}

void forward_body_init(struct forward *forward)
{
    list_init(&forward->blocks);
    loop_task_init(&forward->push, on_push, forward);
}

static void on_body_written(struct http_call *call, const struct err *err, void *data)
{
    struct forward_block *block = data;
    struct forward *forward = block->forward;
    (void)call;

    block->writing = false;
    forward->writes--;
    if (err) /* the call's end says what becomes of it */
        return;
    forward->taken_ns = loop_now_ns();
    blocks_sweep(forward);
    on_push(forward);
    if (forward->request && !blocks_full(forward))
        exchange_body_resume(forward->request->x);
}

void forward_filled(struct request *request, size_t bytes)
{
    struct forward *forward = request->forward;
    struct forward_block *block = block_last(forward);

    if (!block)
        return;
    block->bytes += bytes;
    loop_defer(forward->gl->loop, &forward->push);
}

void forward_body_send(struct forward *forward)
{
    struct forward_block *block;

    LIST_EACH (block, &forward->blocks, struct forward_block, link)
        block->sent = 0;
    forward->unsent = NULL;
    forward->ended_told = false;
    if (forward->body)
        body_push(forward);
}

void forward_body_end(struct forward *forward)
{
    body_push(forward);
}

/* ---- the answer ----------------------------------------------------------------------------- */

struct piece {
    struct forward *forward;
    size_t bytes;
    char data[];
};

static void on_answer_written(struct exchange *x, const struct err *err, void *data)
{
    struct piece *piece = data;
    struct forward *forward = piece->forward;
    (void)x;
    (void)err;

    forward->answer_bytes -= piece->bytes;
    if (forward->paused && forward->call && forward->answer_bytes <= forward->answer_room / 2) {
        forward->paused = false;
        forward->answer_ns = loop_now_ns();
        http_call_resume(forward->call);
    }
    free(piece);
}

/* What is not small counts as the memory of its endpoint; where there is none, one read at a time
 * is passed on. */
void forward_answer_hold(struct forward *forward, uint64_t content_length)
{
    if (content_length > FORWARD_ANSWER_FREE_BYTES &&
        memory_budget_take(&forward->endpoint->memory, FORWARD_ANSWER_BYTES))
        forward->answer_room = FORWARD_ANSWER_BYTES;
}

void forward_answer_body(struct forward *forward, struct slice bytes)
{
    struct piece *piece = mem_alloc(sizeof *piece + bytes.size);

    piece->forward = forward;
    piece->bytes = bytes.size;
    memcpy(piece->data, bytes.data, bytes.size);
    forward->answer_bytes += bytes.size;
    forward->answer_ns = loop_now_ns();
    exchange_write(forward->request->x, &(struct iovec){ piece->data, bytes.size }, 1,
                   on_answer_written, piece);
    if (forward->answer_bytes >= forward->answer_room && !forward->paused) {
        forward->paused = true;
        http_call_pause(forward->call);
    }
}

/* ---- back here ------------------------------------------------------------------------------ */

void forward_replay(struct request *request)
{
    struct forward *forward = request->forward;
    struct forward_block *block;

    if (forward->replaying) /* body.c asks for more from inside of what it is given */
        return;
    forward->replaying = true;
    while ((block = LIST_FIRST(&forward->blocks, struct forward_block, link))) {
        struct iovec space;
        size_t left = block->bytes - forward->replayed;
        if (left == 0) {
            block_free(forward, block);
            forward->replayed = 0;
            continue;
        }
        body_space(request->x, &space, request);
        if (space.iov_len == 0) /* held, or answered */
            break;
        size_t bytes = left < space.iov_len ? left : space.iov_len;
        memcpy(space.iov_base, block->data + forward->replayed, bytes);
        forward->replayed += bytes;
        body_filled(request->x, bytes, request);
    }
    forward->replaying = false;
    if (list_empty(&forward->blocks) && request->state != REQUEST_ANSWERED)
        forward_replayed(request);
}
