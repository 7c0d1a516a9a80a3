/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sizes are counted in units of 64 bytes. A list holds the free blocks of one class: [2^k, 2^(k+1))
 * in 16 parts. A search begins at the class above the size asked for, so that its first block fits.
 */
#include "replica/process/blocks.h"

#include <assert.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"
#include "sys/shm.h"

#define UNIT 64u
#define PAGE 4096u
#define PARTS_LOG2 4
#define PARTS (1u << PARTS_LOG2)
#define LEVELS 36                      /* 2^36 units of 64 bytes are more than any slice */
#define WIPE_BYTES_MAX (4u << 20)      /* above it a block is punched when it comes back */
#define KEPT_STEP (256 << 10)          /* the sum over all slices may be off by so much for each */
#define RESIDENT_BYTES_MAX (32u << 20) /* free and touched: above it all of it is punched */

struct class
{
    uint32_t level, part;
};

struct blocks {
    char *memory;                 /* borrowed */
    struct memory_budget *budget; /* borrowed */
    struct memory_budget *all;    /* the first of its parents */
    uint64_t first, bytes, used, resident;
    uint64_t kept;          /* of `resident`, what all->kept has */
    uint64_t levels;        /* bit: a level has a free block */
    uint32_t parts[LEVELS]; /* bit: a part of it has */
    struct block *lists[LEVELS][PARTS];
    struct block *lowest; /* the first in memory */
    struct block *spare;  /* descriptors to be used again, by next_free */
};

/* What may be used of it with `bytes` more, which stand in `used` of none of its parents. */
static uint64_t budget_limit(const struct memory_budget *budget, uint64_t bytes)
{
    const struct memory_budget *parent = budget->parent;

    if (!parent || budget->share_percent == 0)
        return budget->bytes_max;
    uint64_t taken = atomic_load(&parent->used) + bytes;
    uint64_t left = taken < parent->bytes_max ? parent->bytes_max - taken : 0;
    return left / (100 - budget->share_percent) * budget->share_percent;
}

bool memory_budget_take(struct memory_budget *budget, uint64_t bytes)
{
    uint64_t before = atomic_fetch_add(&budget->used, bytes);

    if (before + bytes <= budget_limit(budget, bytes) &&
        (!budget->parent || memory_budget_take(budget->parent, bytes)))
        return true;
    atomic_fetch_sub(&budget->used, bytes);
    return false;
}

void memory_budget_give(struct memory_budget *budget, uint64_t bytes)
{
    atomic_fetch_sub(&budget->used, bytes);
    if (budget->parent)
        memory_budget_give(budget->parent, bytes);
}

/* `part` 1: there is room; 2: and half would be left. */
static bool budget_room(const struct memory_budget *budget, uint64_t bytes, unsigned part)
{
    for (; budget; budget = budget->parent)
        if (atomic_load(&budget->used) + bytes > budget_limit(budget, bytes) / part)
            return false;
    return true;
}

bool memory_budget_spare(const struct memory_budget *budget, uint64_t bytes)
{
    return budget_room(budget, bytes, 2);
}

static struct class class_of(uint64_t bytes)
{
    uint64_t units = bytes / UNIT;

    if (units < PARTS)
        return (struct class){ 0, (uint32_t)units };
    uint32_t log2 = 63u - (uint32_t)__builtin_clzll(units);
    return (struct class){ log2 - PARTS_LOG2 + 1,
                           (uint32_t)(units >> (log2 - PARTS_LOG2)) & (PARTS - 1) };
}

/* The least size whose class holds nothing smaller than `bytes`. */
static uint64_t class_round(uint64_t bytes)
{
    uint64_t units = bytes / UNIT;

    if (units < PARTS)
        return bytes;
    uint32_t log2 = 63u - (uint32_t)__builtin_clzll(units);
    return (units + (UINT64_C(1) << (log2 - PARTS_LOG2)) - 1) * UNIT;
}

static void list_in(struct blocks *blocks, struct block *block)
{
    struct class class = class_of(block->bytes);
    struct block **list = &blocks->lists[class.level][class.part];

    block->free = true;
    block->previous_free = NULL;
    block->next_free = *list;
    if (*list)
        (*list)->previous_free = block;
    *list = block;
    blocks->levels |= UINT64_C(1) << class.level;
    blocks->parts[class.level] |= 1u << class.part;
}

static void list_out(struct blocks *blocks, struct block *block)
{
    struct class class = class_of(block->bytes);
    struct block **list = &blocks->lists[class.level][class.part];

    if (block->next_free)
        block->next_free->previous_free = block->previous_free;
    if (block->previous_free)
        block->previous_free->next_free = block->next_free;
    else
        *list = block->next_free;
    if (!*list) {
        blocks->parts[class.level] &= ~(1u << class.part);
        if (!blocks->parts[class.level])
            blocks->levels &= ~(UINT64_C(1) << class.level);
    }
    block->free = false;
}

static struct block *list_find(const struct blocks *blocks, uint64_t bytes)
{
    struct class class = class_of(class_round(bytes));
    uint32_t parts = blocks->parts[class.level] & (~0u << class.part);

    if (!parts) {
        uint64_t levels = blocks->levels & (~UINT64_C(1) << class.level);
        if (!levels)
            return NULL;
        class.level = (uint32_t)__builtin_ctzll(levels);
        parts = blocks->parts[class.level];
    }
    return blocks->lists[class.level][__builtin_ctz(parts)];
}

static struct block *descriptor_take(struct blocks *blocks)
{
    struct block *block = blocks->spare;

    if (!block)
        return mem_zalloc(sizeof *block);
    blocks->spare = block->next_free;
    *block = (struct block){};
    return block;
}

struct blocks *blocks_new(void *memory, uint64_t first, uint64_t bytes,
                          struct memory_budget *budget)
{
    struct blocks *blocks = mem_zalloc(sizeof *blocks);

    assert(first % PAGE == 0 && bytes % PAGE == 0 && bytes > 0);
    assert(class_of(bytes).level < LEVELS);
    blocks->memory = memory;
    blocks->first = first;
    blocks->bytes = bytes;
    blocks->budget = blocks->all = budget;
    while (blocks->all->parent)
        blocks->all = blocks->all->parent;
    blocks->lowest = descriptor_take(blocks);
    blocks->lowest->offset = first;
    blocks->lowest->bytes = bytes;
    list_in(blocks, blocks->lowest);
    return blocks;
}

void blocks_free(struct blocks *blocks)
{
    if (!blocks)
        return;
    assert(blocks->used == 0);
    atomic_fetch_sub(&blocks->all->kept, blocks->kept);
    for (struct block *block = blocks->lowest, *next; block; block = next) {
        next = block->after;
        free(block);
    }
    for (struct block *block = blocks->spare, *next; block; block = next) {
        next = block->next_free;
        free(block);
    }
    free(blocks);
}

/* Now and then, so that a request mostly costs no write to a line of all loops. */
static void kept_tell(struct blocks *blocks)
{
    int64_t change = (int64_t)(blocks->resident - blocks->kept);

    if (change < KEPT_STEP && change > -KEPT_STEP && blocks->resident > 0)
        return;
    if (change == 0)
        return;
    atomic_fetch_add(&blocks->all->kept, (uint64_t)change);
    blocks->kept = blocks->resident;
}

int block_take(struct blocks *blocks, uint64_t bytes, struct block **ret, struct err *err)
{
    return block_take_later(blocks, bytes, 0, ret, err);
}

int block_take_later(struct blocks *blocks, uint64_t bytes, uint64_t later, struct block **ret,
                     struct err *err)
{
    assert(later <= bytes);
    if (bytes == 0 || bytes > blocks->bytes / 2)
        return err_set(err, ERR_TOO_LARGE, "the inputs need %llu bytes; a request may have %llu",
                       (unsigned long long)bytes, (unsigned long long)blocks->bytes / 2);
    bytes = (bytes + UNIT - 1) & ~(uint64_t)(UNIT - 1);
    struct block *block = list_find(blocks, bytes);
    if (!block)
        return err_set(err, ERR_OVERLOADED, "the memory for inputs of this model is in use");
    if ((later && !budget_room(blocks->budget, bytes, 1)) ||
        !memory_budget_take(blocks->budget, bytes - later))
        return err_set(err, ERR_OVERLOADED, "the memory for requests is in use");
    list_out(blocks, block);
    blocks->resident -= block->resident;
    if (block->bytes > bytes) {
        struct block *rest = descriptor_take(blocks);
        rest->offset = block->offset + bytes;
        rest->bytes = block->bytes - bytes;
        rest->resident = block->resident < rest->bytes ? block->resident : rest->bytes;
        rest->before = block;
        rest->after = block->after;
        if (rest->after)
            rest->after->before = rest;
        block->after = rest;
        block->bytes = bytes;
        blocks->resident += rest->resident;
        list_in(blocks, rest);
    }
    blocks->used += bytes;
    kept_tell(blocks);
    block->owed = later;
    *ret = block;
    return 0;
}

bool block_fill(struct blocks *blocks, struct block *block, uint64_t bytes)
{
    assert(bytes <= block->owed);
    if (!memory_budget_take(blocks->budget, bytes))
        return false;
    block->owed -= bytes;
    return true;
}

static void memory_clear(struct blocks *blocks, struct block *block)
{
    char *memory = blocks->memory + block->offset;

    if (block->bytes <= WIPE_BYTES_MAX &&
        block->owed == 0) { /* else much of it was never written */
        memset(memory, 0, block->bytes);
        block->resident = block->bytes;
        return;
    }
    uint64_t low = (block->offset + PAGE - 1) & ~(uint64_t)(PAGE - 1);
    uint64_t high = (block->offset + block->bytes) & ~(uint64_t)(PAGE - 1);
    memset(memory, 0, low - block->offset);
    shm_punch(blocks->memory + low, high - low);
    memset(blocks->memory + high, 0, block->offset + block->bytes - high);
    block->resident = 0;
}

/* `upper` becomes part of `lower`; neither is in a list. */
static void merge(struct blocks *blocks, struct block *lower, struct block *upper)
{
    lower->bytes += upper->bytes;
    lower->resident += upper->resident;
    lower->after = upper->after;
    if (lower->after)
        lower->after->before = lower;
    upper->next_free = blocks->spare;
    blocks->spare = upper;
}

void block_give(struct blocks *blocks, struct block *block)
{
    assert(!block->free && blocks->used >= block->bytes);
    blocks->used -= block->bytes;
    memory_budget_give(blocks->budget, block->bytes - block->owed);
    memory_clear(blocks, block);
    block->owed = 0;
    blocks->resident += block->resident;
    if (block->after && block->after->free) {
        list_out(blocks, block->after);
        merge(blocks, block, block->after);
    }
    if (block->before && block->before->free) {
        struct block *lower = block->before;
        list_out(blocks, lower);
        merge(blocks, lower, block);
        block = lower;
    }
    list_in(blocks, block);
    kept_tell(blocks);
    if (blocks->resident > RESIDENT_BYTES_MAX ||
        (blocks->all->kept_max && atomic_load(&blocks->all->kept) > blocks->all->kept_max))
        blocks_trim(blocks);
}

void *block_memory(const struct blocks *blocks, const struct block *block)
{
    return blocks->memory + block->offset;
}

void blocks_trim(struct blocks *blocks)
{
    if (blocks->resident == 0)
        return;
    for (struct block *block = blocks->lowest; block; block = block->after) {
        if (!block->free || block->resident == 0)
            continue;
        uint64_t low = (block->offset + PAGE - 1) & ~(uint64_t)(PAGE - 1);
        uint64_t high = (block->offset + block->bytes) & ~(uint64_t)(PAGE - 1);
        if (high > low) /* the pages at the edges are shared, stay, and hold zeros already */
            shm_punch(blocks->memory + low, high - low);
        block->resident = 0;
    }
    blocks->resident = 0;
    kept_tell(blocks);
}

uint64_t blocks_used_bytes(const struct blocks *blocks)
{
    return blocks->used;
}

uint64_t blocks_resident_bytes(const struct blocks *blocks)
{
    return blocks->resident;
}

void blocks_check(const struct blocks *blocks)
{
    uint64_t at = blocks->first, used = 0, resident = 0;
    const struct block *before = NULL;

    for (const struct block *block = blocks->lowest; block; block = block->after) {
        assert(block->offset == at && block->before == before && block->bytes % UNIT == 0);
        assert(!(block->free && before && before->free));
        if (block->free)
            resident += block->resident;
        else
            used += block->bytes;
        at += block->bytes;
        before = block;
    }
    assert(at == blocks->first + blocks->bytes);
    assert(used == blocks->used && resident == blocks->resident);
}
