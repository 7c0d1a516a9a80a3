/* SPDX-License-Identifier: Apache-2.0 */
#include "replica/process/blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
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

static void test_half_is_spare(void **state)
{
    struct memory_budget all = { .bytes_max = 1000 }, alone = { .bytes_max = 100 };
    struct memory_budget one = { .parent = &all, .share_percent = 75 };
    (void)state;
    assert_true(memory_budget_spare(&alone, 50));
    assert_false(memory_budget_spare(&alone, 51));
    assert_true(memory_budget_take(&alone, 50));
    assert_false(memory_budget_spare(&alone, 1));
    assert_int_equal(alone.used, 50); /* it takes nothing */
    uint64_t taken = 0;
    while (memory_budget_spare(&one, 1) && memory_budget_take(&one, 1))
        taken++;
    assert_int_equal(taken, 500);               /* half of all */
    assert_true(memory_budget_take(&one, 200)); /* more is there */
    assert_true(memory_budget_take(&all, 300));
    memory_budget_give(&one, 700);
    assert_true(memory_budget_spare(&one, 100));
    assert_true(memory_budget_take(&all, 250)); /* others have more than half of all */
    assert_false(memory_budget_spare(&one, 1));
}

static bool zeros(const char *data, size_t bytes)
{
    return bytes == 0 || (data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0);
}

/* Each takes 1 again and again, in turn, until none gets any more: what each has of 10,000. */
static const struct {
    const char *name;
    unsigned count;
    uint64_t each_min, each_max, left_min;
} floods[] = {
    { "one", 1, 7490, 7500, 2500 },
    { "two", 2, 4270, 4290, 1420 },
    { "three", 3, 2980, 3000, 1000 },
    { "eight", 8, 1190, 1201, 390 },
};

static void test_floods_leave_room_for_others(void **state)
{
    (void)state;
    for (size_t row = 0; row < sizeof floods / sizeof *floods; row++) {
        struct memory_budget all = { .bytes_max = 10'000 };
        struct memory_budget budgets[8] = {};
        bool more = true;
        print_message("  %s\n", floods[row].name);
        for (unsigned i = 0; i < 8; i++) {
            budgets[i].parent = &all;
            budgets[i].share_percent = 75;
        }
        while (more) {
            more = false;
            for (unsigned i = 0; i < floods[row].count; i++)
                more |= memory_budget_take(&budgets[i], 1);
        }
        uint64_t sum = 0;
        for (unsigned i = 0; i < floods[row].count; i++) {
            assert_in_range(budgets[i].used, floods[row].each_min, floods[row].each_max);
            sum += budgets[i].used;
        }
        assert_int_equal(all.used, sum);
        assert_true(all.bytes_max - sum >= floods[row].left_min);
        struct memory_budget other = { .parent = &all, .share_percent = 75 };
        assert_true(memory_budget_take(&other, floods[row].left_min / 2));
        memory_budget_give(&other, floods[row].left_min / 2);
        for (unsigned i = 0; i < floods[row].count; i++)
            memory_budget_give(&budgets[i], budgets[i].used);
        assert_int_equal(all.used, 0);
    }
}

/* What the arena's file really has. */
static uint64_t pages_bytes(int fd)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
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
        /* A block's pages at its edges may hold free memory as well. */
        assert_true(pages_bytes(fd) <=
                    budget.used + blocks_resident_bytes(blocks) + 65 * UINT64_C(8192));
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

static void test_what_is_kept_is_bounded_over_all(void **state)
{
    auto_close int fd = -1;
    void *memory;
    struct err err;
    struct memory_budget all = { .bytes_max = UINT64_C(100) << 20, .kept_max = 8 << 20 };
    struct memory_budget one = { .parent = &all, .share_percent = 75 };
    struct blocks *slices[8];
    struct block *held[8][4];
    (void)state;

    assert_int_equal(shm_create("blocks", ARENA_BYTES, &fd, &err), 0);
    assert_int_equal(shm_map(fd, ARENA_BYTES, true, &memory, &err), 0);
    for (unsigned i = 0; i < 8; i++)
        slices[i] = blocks_new(memory, i * ARENA_BYTES / 8, ARENA_BYTES / 8, &one);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 8; i++)
            for (unsigned k = 0; k < 4; k++) {
                assert_int_equal(block_take(slices[i], 1 << 20, &held[i][k], &err), 0);
                memset(block_memory(slices[i], held[i][k]), 1, 1 << 20);
            }
        for (unsigned i = 0; i < 8; i++)
            for (unsigned k = 0; k < 4; k++)
                block_give(slices[i], held[i][k]);
        assert_int_equal(all.used, 0);
        assert_true(all.kept > 0 && all.kept <= all.kept_max);
        assert_true(pages_bytes(fd) <= all.kept_max + 8 * (256 << 10));
    }
    for (unsigned i = 0; i < 8; i++)
        blocks_free(slices[i]);
    assert_int_equal(all.kept, 0);
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
        cmocka_unit_test(test_half_is_spare),
        cmocka_unit_test(test_floods_leave_room_for_others),
        cmocka_unit_test(test_random_takes_and_gives),
        cmocka_unit_test(test_what_is_kept_is_bounded_over_all),
        cmocka_unit_test(test_the_budget_is_over_all),
        cmocka_unit_test(test_filled_later),
    };
    return cmocka_run_group_tests_name("blocks", tests, NULL, NULL);
}
