/* SPDX-License-Identifier: Apache-2.0 */
/* What runs of an endpoint whose revisions share the traffic. */
#include "pop/state.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include "pop_world.h"

#define CANARY                                                                                     \
    ",\"traffic\":{\"shares\":[{\"revision\":1,\"weight\":800000},"                                \
    "{\"revision\":2,\"weight\":200000}],\"canary\":2}"

static unsigned living_of(struct world *world, uint32_t number)
{
    struct pop_endpoint *endpoint = pop_endpoint_find(&world->pop, 1);
    struct pop_revision *revision = pop_revision_number(endpoint, number);
    return revision ? revision->replica_count : 0;
}

/* Beside the stable one, which keeps all of its own; then rolled back. */
static void test_a_canary_runs_beside(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1, 1, 8, true);
    after(world, 1);
    struct pop_endpoint *endpoint = pop_endpoint_find(&world->pop, 1);
    traffic_more = CANARY;
    world->load_fails = true; /* it crashes: the stable one is not touched */
    endpoint_set(world, 2, 2, 8, true);
    after(world, 30);
    assert_int_equal(endpoint->serving, 1);
    assert_true(pop_endpoint_splits(endpoint));
    assert_int_equal(living_of(world, 1), 8);
    assert_true(pop_revision_number(endpoint, 2)->failed);
    unsigned tries = world->starts - 8;
    if (tries < 5 || tries > 7) /* at 0, 1, 3, 7, 15, 25 s; the first ones by two */
        fail_msg("%u starts", tries);
    assert_int_equal(world->drains, 0);
    world->load_fails = false;
    after(world, 60);
    assert_int_equal(endpoint->serving, 1);
    assert_int_equal(living_of(world, 1), 8);
    assert_int_equal(living_of(world, 2), 2);
    traffic_more = ""; /* rolled back */
    endpoint_set(world, 1, 2, 8, true);
    after(world, 5);
    assert_int_equal(living_of(world, 2), 0);
    assert_int_equal(living_of(world, 1), 8);
    assert_int_equal(endpoint->serving, 1);
    assert_int_equal(world->drains, 2);
}

static void test_the_lead_moves_with_the_shares(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1, 1, 2, true);
    after(world, 1);
    struct pop_endpoint *endpoint = pop_endpoint_find(&world->pop, 1);
    traffic_more = ",\"traffic\":{\"shares\":[{\"revision\":2,\"weight\":1},"
                   "{\"revision\":3,\"weight\":3},{\"revision\":1,\"weight\":0}]}";
    endpoint_set(world, 3, 3, 2, true);
    assert_false(pop_endpoint_splits(endpoint)); /* 1 is none of them, and serves until 3 can */
    after(world, 8);
    assert_int_equal(endpoint->serving, 3);
    assert_true(pop_endpoint_splits(endpoint));
    assert_int_equal(living_of(world, 1), 0);
    assert_int_equal(living_of(world, 2), 1);
    assert_int_equal(living_of(world, 3), 2);
    traffic_more = ",\"traffic\":null";
    endpoint_set(world, 3, 3, 2, true);
    traffic_more = "";
    after(world, 8);
    assert_int_equal(living_of(world, 2), 0);
    assert_int_equal(living_of(world, 3), 2);
}

static void asked(struct world *world, unsigned number, bool waits)
{
    struct message_demand demand = MESSAGE_INIT(MESSAGE_DEMAND);
    demand.revision = (uint64_t)1 << 24 | number;
    demand.arrivals = 1;
    demand.waiting = waits;
    demand.done = !waits;
    demand.busy_ns = demand.done * ENV_MS;
    pop_demand(&world->pop, &demand);
}

enum { IDLE_S = 121 }; /* beyond scale.idle */

/* One of them alone would have all of the traffic, and the other would never be asked for. */
static void test_what_shares_is_there_together(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1, 1, 0, true);
    after(world, 1);
    traffic_more = CANARY;
    endpoint_set(world, 2, 2, 0, true);
    after(world, 5);
    assert_true(living_of(world, 1) == 1 && living_of(world, 2) == 1);
    after(world, 2 * IDLE_S);
    assert_true(living_of(world, 1) == 0 && living_of(world, 2) == 0);
    for (unsigned number = 1; number <= 2; number++) {
        for (int i = 0; i < 2 * IDLE_S; i++) {
            asked(world, number, i == 0);
            after(world, 1);
            if (i > 2)
                assert_true(living_of(world, 1) == 1 && living_of(world, 2) == 1);
        }
        after(world, IDLE_S);
        assert_true(living_of(world, 1) == 0 && living_of(world, 2) == 0);
    }
    traffic_more = "";
}

static void test_a_canary_at_zero_shows_that_it_can(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1, 1, 0, true);
    after(world, IDLE_S + 1);
    assert_int_equal(living_of(world, 1), 0);
    traffic_more = CANARY;
    endpoint_set(world, 2, 2, 0, true);
    after(world, 5);
    assert_true(living_of(world, 1) == 1 && living_of(world, 2) == 1);
    after(world, IDLE_S);
    assert_true(living_of(world, 1) == 0 && living_of(world, 2) == 0);
    traffic_more = "";
}

/* Many have asked it; that it has no share any more ends it as soon as what had all of the traffic.
 */
static void test_a_canary_that_is_given_up_does_not_stay_warm(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1, 1, 1, true);
    after(world, 1);
    traffic_more = CANARY;
    endpoint_set(world, 2, 2, 1, true);
    after(world, 5);
    assert_int_equal(living_of(world, 2), 1);
    asked(world, 2, false);
    traffic_more = ""; /* rolled back */
    endpoint_set(world, 1, 2, 1, true);
    after(world, 1);
    assert_int_equal(living_of(world, 2), 1); /* not every gateway knows yet */
    after(world, 5);
    assert_int_equal(living_of(world, 2), 0);
    asked(world, 2, true); /* by number */
    after(world, 5);
    assert_int_equal(living_of(world, 2), 1);
    assert_int_equal(living_of(world, 1), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_canary_runs_beside, world_new, world_free),
        cmocka_unit_test_setup_teardown(test_the_lead_moves_with_the_shares, world_new, world_free),
        cmocka_unit_test_setup_teardown(test_what_shares_is_there_together, world_new, world_free),
        cmocka_unit_test_setup_teardown(test_a_canary_that_is_given_up_does_not_stay_warm,
                                        world_new, world_free),
        cmocka_unit_test_setup_teardown(test_a_canary_at_zero_shows_that_it_can, world_new,
                                        world_free),
    };
    return cmocka_run_group_tests_name("pop_traffic", tests, NULL, NULL);
}
