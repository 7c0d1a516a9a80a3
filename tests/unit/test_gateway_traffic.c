/* SPDX-License-Identifier: Apache-2.0 */
/* Which of two revisions answers, in a whole gateway. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h> /* after the above */

#include "base/err.h"
#include "gateway_case.h"
#include "sys/fd.h"
#include "sys/shm.h"

static void infer(struct world *world, const char *headers, const char *body, int status,
                  const char *part)
{
    struct reply reply = world_infer(world, headers, body);

    case_answer(&reply, status, part);
    reply_free(&reply);
}

/* How many of `count` requests the second of two revisions answers. */
static int asked_of_second(struct world *world, const char *headers, int count)
{
    int second = 0;

    for (int i = 0; i < count; i++) {
        struct reply reply = world_infer(world, headers, CASE_ROW);
        assert_int_equal(reply.status, 200);
        second += strstr(reply.text, "Perigee-Revision: 2") != NULL;
        reply_free(&reply);
    }
    return second;
}

/* *arena: of that revision, which has one for good; -1: none yet. */
static void revision_two(struct world *world, struct fake *next, uint64_t id, int *arena)
{
    struct world of_next = *world;
    union message message;
    struct err err;

    if (*arena < 0)
        assert_int_equal(shm_create("next", WORLD_ARENA_BYTES, arena, &err), 0);
    of_next.arena_fd = *arena;
    fake_prepare(&of_next, next, id, WORLD_REVISION(0, 2));
    fake_begin(world, next, 2);
    world_expect(world, true, MESSAGE_REPLICA_READY, &message);
    world_pass(world);
}

/* A canary gets nothing before it is ready, then its share, and nothing once it has died; who names
 * it gets it. */
static void test_a_canary(void **state)
{
    static const struct table_source_share shares[] = { { 1, 700'000 }, { 2, 300'000 } };
    struct world_endpoint two = case_digits;
    struct world world;
    struct fake fake, next = {};
    int arena = -1;
    (void)state;

    two.revisions = two.canary = 2;
    two.shares = shares;
    two.share_count = 2;
    world = (struct world){};
    case_begin(&world, &fake, &two, 1, FAKE_RIGHT);
    assert_int_equal(asked_of_second(&world, "", 50), 0);
    revision_two(&world, &next, 9, &arena);
    int found = asked_of_second(&world, "", 400);
    if (found < 120 - 46 || found > 120 + 46) /* five standard deviations */
        fail_msg("%d of 400", found);
    assert_int_equal(asked_of_second(&world, "Perigee-Revision: canary\r\n", 20), 20);
    assert_int_equal(asked_of_second(&world, "Perigee-Revision: 2\r\n", 20), 20);
    assert_int_equal(asked_of_second(&world, "Perigee-Revision: 1\r\n", 20), 0);
    infer(&world, "Perigee-Revision: 3\r\n", CASE_ROW, 404, "has no revision 3");
    infer(&world, "Perigee-Revision: new\r\n", CASE_ROW, 400, "neither a revision's number");
    infer(&world, "Perigee-Revision: 1\r\nPerigee-Revision: 2\r\n", CASE_ROW, 400, "came twice");
    fake_exit(&world, &next);
    world_pass(&world);
    assert_int_equal(asked_of_second(&world, "", 50), 0);

    two.by_address = true; /* one client: all or nothing */
    world_table(&world, 2, &two, 1);
    world_pass(&world);
    struct fake again = {};
    revision_two(&world, &again, 10, &arena);
    found = asked_of_second(&world, "", 50);
    if (found != 0 && found != 50)
        fail_msg("%d of 50", found);
    two.share_count = two.canary = 0; /* it is taken away: the first has all */
    world_table(&world, 3, &two, 1);
    world_pass(&world);
    assert_int_equal(asked_of_second(&world, "", 50), 0);
    infer(&world, "Perigee-Revision: canary\r\n", CASE_ROW, 404, "has no canary now");
    fake_exit(&world, &again);
    fd_close(&arena);
    case_end(&world, &fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_canary),
    };
    return cmocka_run_group_tests_name("gateway_traffic", tests, NULL, NULL);
}
