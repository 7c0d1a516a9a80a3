/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay.h -- the bytes between an exchange and the calls that are made for it: the client's body to
 * a call, that call's answer to the client. Streamed, each held back by whoever takes it slowly.
 *
 * The body goes through a few blocks: the client's bytes are read straight into one and written
 * from there. While `kept` they are held until an answer begins, so that another call can be given
 * the same; a body larger than RELAY_BLOCKS_MAX only while half of the memory is free: else a block
 * is free once the kernel has its bytes, and there is no second try. Where RELAY_BLOCKS_MAX wait
 * for the kernel nothing more is read: the call's slowness becomes the client's.
 *
 * An answer is given to the client's kernel from the buffer that it was read to; what is not taken
 * at once is copied, and beyond a bound the call is not read on.
 *
 * A relay is a part of its owner, who has the exchange's and the call's callbacks. It outlives its
 * exchange by as long as its call takes to end. Loop thread only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/list.h"
#include "base/slice.h"
#include "io/loop.h"

struct exchange;
struct http_call;
struct http_headers;

enum {
    RELAY_BLOCK_BYTES = 32768,
    RELAY_BLOCKS_MAX = 8,           /* not yet taken by the call's kernel */
    RELAY_ANSWER_BYTES = 131072,    /* not yet taken by the client's kernel */
    RELAY_ANSWER_FREE_BYTES = 16384 /* an answer of no more is not counted */
};

/* Whose memory it counts as. */
struct relay_memory {
    bool (*take)(size_t bytes, void *data);
    bool (*spare)(size_t bytes, void *data); /* half of it would still be free */
    void (*give)(size_t bytes, void *data);
};

struct relay {
    struct exchange *x;     /* NULL: its client has gone */
    struct http_call *call; /* NULL: none */
    struct loop *loop;
    const struct relay_memory *memory;
    void *memory_data;

    struct list blocks;         /* of the body, oldest first */
    struct relay_block *unsent; /* those before it were given to the call; NULL: the first */
    unsigned block_count;
    bool kept;       /* they hold all that came of the body */
    bool body;       /* there is one */
    bool tunnel;     /* it is no body, but another protocol's bytes */
    bool ended;      /* all of it came */
    bool ended_told; /* to the call */
    bool short_of_memory;
    struct loop_task push;
    unsigned writes; /* that the kernel has not taken */
    int64_t
        taken_ns; /* when it last took one, or was given one while it had none, or the end came */

    bool replaying;
    size_t replayed; /* of the first block */

    bool paused;         /* the answer */
    int64_t answer_ns;   /* when the last of it came, or was let come */
    size_t answer_bytes; /* not yet taken */
    size_t answer_room;  /* how many may be; 0: one read */
};

/* Zeroed storage in. The memory's data outlives it. */
void relay_init(struct relay *relay, struct exchange *x, struct loop *loop,
                const struct relay_memory *memory, void *memory_data);
/* The exchange is closed: nothing of it is touched any more. */
void relay_left(struct relay *relay);
/* Neither has anything to do with it any more. */
void relay_deinit(struct relay *relay);

/* ---- the body: the exchange's callbacks ----------------------------------------------------- */
/* Size 0: not now; with `short_of_memory` set: there is none for it, and the caller answers. */
void relay_space(struct relay *relay, struct iovec *ret_space);
void relay_filled(struct relay *relay, size_t bytes);
void relay_ended(struct relay *relay); /* it is whole; told to the call with its trailers */

/* What is held goes over a new call, which is streamed where there is a body. */
void relay_begin(struct relay *relay, struct http_call *call);
/* What is held goes somewhere else than to a call, as far as there is space for it; asked for more
 * from inside, it goes on outside. True: all of it has gone. */
bool relay_replay(struct relay *relay,
                  void (*on_space)(struct exchange *x, struct iovec *ret_space, void *data),
                  void (*on_bytes)(struct exchange *x, size_t bytes, void *data), void *data);
/* What is held, and whether it is whole, is another's: of the same exchange, that has none yet.
 * Both count as the same memory. */
void relay_move(struct relay *from, struct relay *to);
/* The call's on_done: nothing of it is touched any more. */
void relay_over(struct relay *relay);
void relay_let_go(struct relay *relay); /* there will be no other call */
/* The call was answered 101: from here the exchange's bytes are written as they are. */
void relay_tunnel(struct relay *relay);
int64_t relay_moved_ns(const struct relay *relay); /* when a byte last went, either way */

/* ---- the answer: the call's callbacks ------------------------------------------------------- */
/* A 1xx before it goes to the client: RFC 9110 15.2. Not 100, which the exchange says itself, nor
 * to one that has not taken those before. */
void relay_inform(struct relay *relay, int status, const struct http_headers *headers);
/* Before its body. What is not small is counted; where there is no memory, one read at a time is
 * passed on. */
void relay_answer_begin(struct relay *relay, uint64_t content_length);
void relay_answer(struct relay *relay, struct slice bytes);
