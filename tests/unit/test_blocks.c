/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/process/blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include "base/err.h"
#include "sys/fd.h"
#include "sys/shm.h"

#define ARENA_BYTES (UINT64_C(256) << 20)
#define FIRST (UINT64_C(1) << 20)

static unsigned long random_state = 1;

static unsigned draw(unsigned below)
{
    random_state = random_state * 6364136223846793005ul + 1442695040888963407ul;
    return (unsigned)(random_state >> 33) % below;
}

static bool zeros(const char *data, size_t bytes)
{
    return bytes == 0 || (data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0);
}

static void test_one_revision_leaves_room_for_others(void **state)
{
    struct memory_budget all = { .bytes_max = 100 };
    struct memory_budget one = { .bytes_max = 75, .parent = &all };
    struct memory_budget other = { .bytes_max = 75, .parent = &all };
    (void)state;

    assert_true(memory_budget_take(&one, 75));
    assert_false(memory_budget_take(&one, 1));
    assert_true(memory_budget_take(&other, 25));
    assert_false(memory_budget_take(&other, 1)); /* its own share is not used up: all is */
    memory_budget_give(&one, 75);
    assert_int_equal(all.used, 25);
    assert_int_equal(other.used, 25);
    assert_true(memory_budget_take(&other, 50));
}

static void test_random_takes_and_gives(void **state)
{
    auto_close int fd = -1;
    void *memory;
    struct err err;
    struct memory_budget budget = { .bytes_max = UINT64_C(100) << 20 };
    struct block *held[64] = {};
    (void)state;

    assert_int_equal(shm_create("blocks", ARENA_BYTES, &fd, &err), 0);
    assert_int_equal(shm_map(fd, ARENA_BYTES, true, &memory, &err), 0);
    struct blocks *blocks = blocks_new(memory, FIRST, ARENA_BYTES - FIRST, &budget);
    for (unsigned round = 0; round < 20'000; round++) {
        struct block **at = &held[draw(64)];
        if (*at) {
            block_give(blocks, *at);
            *at = NULL;
        } else {
            uint64_t bytes = 1 + draw(draw(50) == 0 ? 4u << 20 : draw(5) == 0 ? 100'000 : 2000);
            if (block_take(blocks, bytes, at, &err) < 0)
                continue; /* full at times */
            assert_int_equal((*at)->offset % 64, 0);
            assert_true((*at)->offset >= FIRST && (*at)->offset + (*at)->bytes <= ARENA_BYTES);
            assert_true((*at)->bytes >= bytes);
            assert_true(zeros(block_memory(blocks, *at), (*at)->bytes));
            memset(block_memory(blocks, *at), (int)(1 + draw(200)), bytes);
        }
        if (round % 64 == 0)
            blocks_check(blocks);
        if (round % 5000 == 4999)
            blocks_trim(blocks);
        assert_int_equal(budget.used, blocks_used_bytes(blocks));
    }
    for (unsigned i = 0; i < 64; i++)
        if (held[i])
            block_give(blocks, held[i]);
    blocks_check(blocks);
    assert_int_equal(blocks_used_bytes(blocks), 0);
    /* All of it is one again, and can be had in two halves at most. */
    struct block *half;
    budget.bytes_max = ARENA_BYTES;
    assert_int_equal(block_take(blocks, (ARENA_BYTES - FIRST) / 2, &half, &err), 0);
    block_give(blocks, half);
    assert_int_equal(block_take(blocks, ARENA_BYTES, &half, &err), ERR_TOO_LARGE);
    blocks_free(blocks);
    shm_unmap(memory, ARENA_BYTES);
}

static void test_the_budget_is_over_all(void **state)
{
    auto_close int fd = -1;
    void *memory;
    struct err err;
    struct memory_budget budget = { .bytes_max = 300'000 };
    struct block *a, *b, *c;
    (void)state;

    assert_int_equal(shm_create("blocks", ARENA_BYTES, &fd, &err), 0);
    assert_int_equal(shm_map(fd, ARENA_BYTES, true, &memory, &err), 0);
    struct blocks *one = blocks_new(memory, 0, ARENA_BYTES / 2, &budget);
    struct blocks *two = blocks_new(memory, ARENA_BYTES / 2, ARENA_BYTES / 2, &budget);
    assert_int_equal(block_take(one, 100'000, &a, &err), 0);
    assert_int_equal(block_take(two, 150'000, &b, &err), 0);
    assert_int_equal(block_take(one, 100'000, &c, &err), ERR_OVERLOADED);
    block_give(two, b);
    assert_int_equal(block_take(one, 100'000, &c, &err), 0);
    block_give(one, a);
    block_give(one, c);
    assert_int_equal(budget.used, 0);
    assert_true(blocks_resident_bytes(one) > 0);
    blocks_trim(one);
    assert_int_equal(blocks_resident_bytes(one), 0);
    blocks_free(one);
    blocks_free(two);
    blocks_free(NULL);
    shm_unmap(memory, ARENA_BYTES);
}

/* What is to be filled later counts then; there must have been room for all. */
static void test_filled_later(void **state)
{
    auto_close int fd = -1;
    void *memory;
    struct err err;
    struct memory_budget all = { .bytes_max = 300'000 };
    struct memory_budget budget = { .bytes_max = 250'048, .parent = &all };
    struct block *a, *b, *c;
    (void)state;

    assert_int_equal(shm_create("blocks", ARENA_BYTES, &fd, &err), 0);
    assert_int_equal(shm_map(fd, ARENA_BYTES, true, &memory, &err), 0);
    struct blocks *blocks = blocks_new(memory, FIRST, ARENA_BYTES - FIRST, &budget);
    assert_int_equal(block_take_later(blocks, 200'000, 150'000, &a, &err), 0);
    assert_int_equal(budget.used, 50'000);
    assert_int_equal(all.used, 50'000);
    assert_int_equal(block_take_later(blocks, 200'000, 200'000, &b, &err), 0);
    assert_int_equal(block_take_later(blocks, 200'064, 200'000, &c, &err), ERR_OVERLOADED);
    assert_int_equal(budget.used, 50'000);
    assert_true(block_fill(blocks, b, 200'000));
    assert_false(block_fill(blocks, a, 64));
    assert_int_equal(budget.used, 250'000);
    block_give(blocks, b);
    assert_int_equal(budget.used, 50'000);
    assert_true(block_fill(blocks, a, 64));
    block_give(blocks, a);
    assert_int_equal(budget.used, 0);
    assert_int_equal(all.used, 0);
    blocks_check(blocks);
    blocks_free(blocks);
    shm_unmap(memory, ARENA_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_revision_leaves_room_for_others),
        cmocka_unit_test(test_random_takes_and_gives),
        cmocka_unit_test(test_the_budget_is_over_all),
        cmocka_unit_test(test_filled_later),
    };
    return cmocka_run_group_tests_name("blocks", tests, NULL, NULL);
}
