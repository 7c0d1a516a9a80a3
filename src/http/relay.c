/* SPDX-License-Identifier: Apache-2.0 */
#include "http/relay.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "http/client.h"
#include "http/exchange.h"
#include "proto/end_to_end.h"

struct relay_block {
    struct list link;
    struct relay *relay;
    bool writing; /* a write points into it */
    size_t sent;  /* given to the call */
    size_t bytes; /* filled */
    size_t room;
    char data[];
};

/* ---- blocks --------------------------------------------------------------------------------- */

static void block_free(struct relay *relay, struct relay_block *block)
{
    relay->memory->give(block->room, relay->memory_data);
    if (relay->unsent == block)
        relay->unsent = NULL;
    list_remove(&block->link);
    relay->block_count--;
    free(block);
}

static struct relay_block *block_last(struct relay *relay)
{
    return list_empty(&relay->blocks)
               ? NULL
               : LIST_OWNER(relay->blocks.previous, struct relay_block, link);
}

/* The kernel has all that there will be of it. */
static bool taken(const struct relay_block *block)
{
    return !block->writing && block->sent == block->room;
}

/* Those that the kernel has, where they need not be held. */
static void blocks_sweep(struct relay *relay)
{
    struct relay_block *block;

    if (relay->kept)
        return;
    LIST_EACH (block, &relay->blocks, struct relay_block, link)
        if (taken(block))
            block_free(relay, block);
}

void relay_let_go(struct relay *relay)
{
    relay->kept = false;
    blocks_sweep(relay);
}

/* As many as may wait for the kernel do: it takes them in their order. */
static bool blocks_full(const struct relay *relay)
{
    const struct list *link = relay->blocks.previous;
    unsigned count = 0;

    for (; link != &relay->blocks && count < RELAY_BLOCKS_MAX; link = link->previous, count++)
        if (taken(LIST_OWNER(link, struct relay_block, link)))
            return false;
    return count == RELAY_BLOCKS_MAX;
}

/* What is still to come, as far as one block takes it. */
static size_t block_room(const struct relay *relay)
{
    uint64_t length = exchange_request(relay->x)->content_length;

    if (relay->tunnel || length == HTTP_LENGTH_UNKNOWN)
        return RELAY_BLOCK_BYTES;
    length -= exchange_body_bytes(relay->x);
    return length < RELAY_BLOCK_BYTES ? length : RELAY_BLOCK_BYTES;
}

static struct relay_block *block_add(struct relay *relay, size_t room)
{
    if (!relay->memory->take(room, relay->memory_data))
        return NULL;
    struct relay_block *block = mem_alloc(sizeof *block + room);
    *block = (struct relay_block){ .relay = relay, .room = room };
    list_append(&relay->blocks, &block->link);
    relay->block_count++;
    return block;
}

/* One that can take more. */
static struct relay_block *block_open(struct relay *relay)
{
    struct relay_block *block = block_last(relay);
    size_t room = block_room(relay);

    if (block && block->bytes < block->room)
        return block;
    if (room == 0 || blocks_full(relay))
        return NULL; /* until on_written() */
    if (relay->block_count >= RELAY_BLOCKS_MAX && !relay->memory->spare(room, relay->memory_data))
        relay_let_go(relay);
    block = block_add(relay, room);
    relay->short_of_memory = !block;
    return block;
}

/* ---- the body ------------------------------------------------------------------------------- */

void relay_space(struct relay *relay, struct iovec *ret_space)
{
    struct relay_block *block = relay->call ? block_open(relay) : NULL;

    if (block)
        *ret_space = (struct iovec){ block->data + block->bytes, block->room - block->bytes };
}

static void on_push(void *data);

static void on_written(struct http_call *call, const struct err *err, void *data)
{
    struct relay_block *block = data;
    struct relay *relay = block->relay;
    (void)call;

    block->writing = false;
    relay->writes--;
    if (err) /* the call's end says what becomes of it */
        return;
    relay->taken_ns = loop_now_ns();
    blocks_sweep(relay);
    on_push(relay);
    if (relay->x && !blocks_full(relay))
        exchange_body_resume(relay->x);
}

static void block_write(struct relay *relay, struct relay_block *block)
{
    struct iovec bytes = { block->data + block->sent, block->bytes - block->sent };

    if (relay->writes++ == 0)
        relay->taken_ns = loop_now_ns();
    block->writing = true;
    block->sent = block->bytes;
    http_call_write(relay->call, &bytes, 1, on_written, block);
}

static void end_tell(struct relay *relay)
{
    struct http_headers trailers = {};

    if (relay->x)
        trailers = http_trailers_right(exchange_arena(relay->x), exchange_trailers(relay->x));
    relay->ended_told = true;
    http_call_end_with(relay->call, trailers.items, trailers.count);
}

/* What came since goes out, in its order. One write of a block at a time: however small the pieces
 * that a client sends, while the kernel or the connection is awaited they become one. */
static void push(struct relay *relay)
{
    struct list *link = relay->unsent ? &relay->unsent->link : relay->blocks.next;

    for (; link != &relay->blocks; link = link->next) {
        struct relay_block *block = relay->unsent = LIST_OWNER(link, struct relay_block, link);
        if (block->sent == block->bytes)
            continue;
        if (block->writing) /* on_written() goes on */
            return;
        block_write(relay, block);
    }
    if (relay->ended && !relay->ended_told)
        end_tell(relay);
}

/* After this pass's reads. */
static void on_push(void *data)
{
    struct relay *relay = data;

    if (relay->call && (relay->body || relay->tunnel))
        push(relay);
}

void relay_filled(struct relay *relay, size_t bytes)
{
    struct relay_block *block = block_last(relay);

    if (!block)
        return;
    block->bytes += bytes;
    loop_defer(relay->loop, &relay->push);
}

void relay_ended(struct relay *relay)
{
    relay->ended = true;
    relay->taken_ns = loop_now_ns();
    on_push(relay);
}

void relay_init(struct relay *relay, struct exchange *x, struct loop *loop,
                const struct relay_memory *memory, void *memory_data)
{
    const struct http_request *http = exchange_request(x);

    *relay = (struct relay){ .x = x,
                             .loop = loop,
                             .memory = memory,
                             .memory_data = memory_data,
                             .kept = true,
                             .body = http->framed && http->content_length != 0,
                             .taken_ns = loop_now_ns() };
    list_init(&relay->blocks);
    loop_task_init(&relay->push, on_push, relay);
}

void relay_left(struct relay *relay)
{
    assert(relay->answer_bytes == 0);
    relay->x = NULL;
}

void relay_deinit(struct relay *relay)
{
    struct relay_block *block;

    assert(!relay->x && !relay->call);
    loop_task_cancel(&relay->push);
    LIST_EACH (block, &relay->blocks, struct relay_block, link)
        block_free(relay, block);
    if (relay->answer_room)
        relay->memory->give(relay->answer_room, relay->memory_data);
    relay->answer_room = 0;
}

void relay_begin(struct relay *relay, struct http_call *call)
{
    struct relay_block *block;

    relay->call = call;
    relay->unsent = NULL;
    relay->ended_told = false;
    relay->paused = false;
    LIST_EACH (block, &relay->blocks, struct relay_block, link)
        block->sent = 0;
    on_push(relay);
}

bool relay_replay(struct relay *relay,
                  void (*on_space)(struct exchange *x, struct iovec *ret_space, void *data),
                  void (*on_bytes)(struct exchange *x, size_t bytes, void *data), void *data)
{
    struct relay_block *block;

    if (relay->replaying)
        return false;
    relay->replaying = true;
    while ((block = LIST_FIRST(&relay->blocks, struct relay_block, link))) {
        struct iovec space = {};
        size_t left = block->bytes - relay->replayed;
        if (left == 0) {
            block_free(relay, block);
            relay->replayed = 0;
            continue;
        }
        on_space(relay->x, &space, data);
        if (space.iov_len == 0) /* held, or answered */
            break;
        size_t bytes = left < space.iov_len ? left : space.iov_len;
        memcpy(space.iov_base, block->data + relay->replayed, bytes);
        relay->replayed += bytes;
        on_bytes(relay->x, bytes, data);
    }
    relay->replaying = false;
    return list_empty(&relay->blocks);
}

void relay_move(struct relay *from, struct relay *to)
{
    struct relay_block *block;

    assert(!from->call && from->kept && list_empty(&to->blocks));
    LIST_EACH (block, &from->blocks, struct relay_block, link) {
        list_remove(&block->link);
        list_append(&to->blocks, &block->link);
        block->relay = to;
    }
    to->block_count = from->block_count;
    to->ended = from->ended;
    from->block_count = 0;
    from->unsent = NULL;
}

void relay_over(struct relay *relay)
{
    relay->call = NULL;
}

void relay_tunnel(struct relay *relay)
{
    relay->tunnel = true;
    relay_let_go(relay);
    relay->ended = relay->ended_told = false;
}

int64_t relay_moved_ns(const struct relay *relay)
{
    return relay->taken_ns > relay->answer_ns ? relay->taken_ns : relay->answer_ns;
}

/* ---- the answer ----------------------------------------------------------------------------- */

struct relay_piece {
    struct relay *relay;
    size_t bytes;
};

static void on_answer_written(struct exchange *x, const struct err *err, void *data)
{
    struct relay_piece *piece = data;
    struct relay *relay = piece->relay;
    (void)x;
    (void)err;

    relay->answer_bytes -= piece->bytes;
    if (relay->paused && relay->call && relay->answer_bytes <= relay->answer_room / 2) {
        relay->paused = false;
        relay->answer_ns = loop_now_ns();
        http_call_resume(relay->call);
    }
    free(piece);
}

void relay_inform(struct relay *relay, int status, const struct http_headers *headers)
{
    if (status > 101 && exchange_write_bytes(relay->x) < RELAY_ANSWER_FREE_BYTES)
        exchange_inform(relay->x, status, headers->items, headers->count);
}

void relay_answer_begin(struct relay *relay, uint64_t content_length)
{
    if (content_length > RELAY_ANSWER_FREE_BYTES &&
        relay->memory->take(RELAY_ANSWER_BYTES, relay->memory_data))
        relay->answer_room = RELAY_ANSWER_BYTES;
}

void relay_answer(struct relay *relay, struct slice bytes)
{
    struct relay_piece *piece = mem_alloc(sizeof *piece);

    *piece = (struct relay_piece){ relay, bytes.size };
    relay->answer_bytes += bytes.size;
    relay->answer_ns = loop_now_ns();
    if (exchange_put(relay->x, bytes, on_answer_written, piece)) {
        relay->answer_bytes -= bytes.size;
        free(piece);
    } else if (relay->answer_bytes >= relay->answer_room && !relay->paused) {
        relay->paused = true;
        http_call_pause(relay->call);
    }
}
