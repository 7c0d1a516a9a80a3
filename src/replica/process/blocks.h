/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocks.h -- one loop's slice of an input arena, handed out in blocks.
 *
 * A two-level segregated fit: O(1), neighbours merge. What it knows of blocks stands in private
 * memory, since every replica of the revision maps the arena. Free memory reads as zeros: small
 * blocks are wiped when they come back, big ones are punched, and so is what lies idle. Ownership:
 * the loop; a block is its taker's until block_give(). Loop thread only; the budget is shared.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/* Bytes that requests may hold at once, over all loops (docs/limits.md): of all endpoints together,
 * and of one, whose parent that is, so that its flood leaves room for the others. */
struct memory_budget {
    _Atomic uint64_t used;
    uint64_t bytes_max;           /* where share_percent is 0 */
    struct memory_budget *parent; /* NULL: none */
    /* Of what its parent has, while others leave it. Several that take all they may have less each,
     * so that room is always left for one more: of 75, one has 75, two have 43 each, three 30. */
    uint32_t share_percent;
    /* Of the first of all: pages of free memory that stay for the next request. */
    _Atomic uint64_t kept;
    uint64_t kept_max;
};
bool memory_budget_take(struct memory_budget *budget, uint64_t bytes);
void memory_budget_give(struct memory_budget *budget, uint64_t bytes);
/* Would half of what it may have still be free? For what can be let go of when it is not. */
bool memory_budget_spare(const struct memory_budget *budget, uint64_t bytes);

struct block {
    uint64_t offset; /* from the arena's start; a multiple of 64 */
    uint64_t bytes;  /* as rounded up */
    uint64_t owed;   /* of them, not counted against the budget yet */
    /* the allocator's own from here */
    struct block *before, *after; /* neighbours in memory */
    struct block *next_free, *previous_free;
    uint64_t resident; /* bytes that may have been touched since they were last punched */
    bool free;
};

struct blocks;

/* `memory` is the arena's start; the slice is [first, first + bytes), both multiples of 4096. */
struct blocks *blocks_new(void *memory, uint64_t first, uint64_t bytes,
                          struct memory_budget *budget);
void blocks_free(struct blocks *blocks); /* NULL is allowed; every block has come back */

/* ERR_TOO_LARGE: no slice can hold it; ERR_OVERLOADED: not now. */
[[nodiscard]] int block_take(struct blocks *blocks, uint64_t bytes, struct block **ret,
                             struct err *err);
/* For bytes that a client is yet to send: `later` of them count against the budget when
 * block_fill() is called for them, so that one who sends slowly holds what has come and no more.
 * Whether there is room for all is looked at now; whether there is then, is known then. */
[[nodiscard]] int block_take_later(struct blocks *blocks, uint64_t bytes, uint64_t later,
                                   struct block **ret, struct err *err);
/* Before `bytes` more are written. False: the budget is used up, nothing has changed. */
bool block_fill(struct blocks *blocks, struct block *block, uint64_t bytes);
void block_give(struct blocks *blocks, struct block *block);
void *block_memory(const struct blocks *blocks, const struct block *block);

/* Gives back pages of free memory: called when no request has come for a while. */
void blocks_trim(struct blocks *blocks);
uint64_t blocks_used_bytes(const struct blocks *blocks);
uint64_t blocks_resident_bytes(const struct blocks *blocks); /* free, but touched: kept */
/* Walks everything; asserts that neighbours, lists and sums agree. For tests. */
void blocks_check(const struct blocks *blocks);
