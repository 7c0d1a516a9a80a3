/* SPDX-License-Identifier: Apache-2.0 */
/* In worlds made from a seed: what the memo spares changes no answer. */
#include "dns/choose.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include "dns/memo.h"
#include "dns_world.h"
#include "geo/where.h"

enum { CLIENTS = 4000 };

static void test_the_memo_changes_no_answer(void **)
{
    static struct dns_world world;
    unsigned several = 0;
    for (unsigned number = 0; number < WORLDS; number++) {
        dns_world_make(&world, number);
        struct dns_view *view = dns_world_view(&world);
        struct dns_memo *memo = dns_memo_new();
        for (unsigned i = 0; i < CLIENTS; i++)
            several += dns_world_check(&world, view, i, memo) > 1;
        dns_memo_free(memo);
        dns_view_free(view);
        where_map_free(world.map);
    }
    print_message("  %u of %u had several\n", several, WORLDS * CLIENTS);
    assert_true(several > CLIENTS / 10 && several < WORLDS * CLIENTS);
}

/* A row is of one view, one name and one block. */
static void test_what_a_row_is_of(void **)
{
    struct dns_memo *memo = dns_memo_new();
    const uint64_t one = 1, two = 2;
    struct ip_block block = { ip_from4((uint8_t[]){ 10, 0, 0, 0 }), 104 }, other = block;
    const struct dns_memo_row row = { .count = 3 };
    dns_memo_put(memo, one, &block, &row);
    assert_int_equal(dns_memo_get(memo, one, &block)->count, 3);
    assert_null(dns_memo_get(memo, two, &block));
    other.bits++;
    assert_null(dns_memo_get(memo, one, &other));
    dns_memo_clear(memo);
    assert_null(dns_memo_get(memo, one, &block));
    dns_memo_free(memo);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_the_memo_changes_no_answer),
                                        cmocka_unit_test(test_what_a_row_is_of) };
    return cmocka_run_group_tests_name("dns_choose", tests, NULL, NULL);
}
