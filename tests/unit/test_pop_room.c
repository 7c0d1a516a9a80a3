/* SPDX-License-Identifier: Apache-2.0 */
/* What endpoints scale up to together is held to the PoP's limits. */
#include "pop/state.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h> /* after the four above */

#include "pop_world.h"

static int paris_new(void **state)
{
    int r = world_new(state);
    ((struct world *)*state)->pop.name = "paris";
    return r;
}

/* Another PoP's limits are none of ours. */
static void limits_set(struct world *world, const char *limits)
{
    char text[512];
    struct err err = {};
    snprintf(text, sizeof text,
             "[{\"name\":\"tokyo\",\"country\":\"JP\",\"limits\":{\"replicas\":1}},"
             "{\"name\":\"paris\",\"country\":\"FR\"%s%s}]",
             *limits ? ",\"limits\":" : "", limits);
    if (pop_peers_apply(&world->pop, slice_of(text), &err) < 0)
        fail_msg("%s", err.message);
}

static struct pop_endpoint *place(struct world *world, unsigned uid, const char *flavor,
                                  unsigned placed, const char *more)
{
    char text[1024];
    struct err err = {};
    snprintf(
        text, sizeof text,
        "{\"uid\":%u,\"name\":\"e%u\",\"state\":\"running\",\"target\":1,\"spec\":{"
        "\"model\":\"sha256:%064d\",\"flavor\":{%s},\"scale\":{\"max\":8,\"per_pop\":{\"max\":8}}},"
        "\"pops\":[{\"name\":\"paris\",\"replicas\":%u%s}],\"revisions\":[{\"number\":1,"
        "\"uid\":%u,\"model\":\"sha256:%064d\"}]}",
        uid, uid, 1, flavor, placed, more, uid << 24 | 1, 1);
    if (pop_endpoint_apply(&world->pop, slice_of(text), &err) < 0)
        fail_msg("%s", err.message);
    return pop_endpoint_find(&world->pop, uid);
}

/* Under a load for which scale.max would not be enough: how many there are. */
static uint32_t grow(struct world *world, struct pop_endpoint *endpoint)
{
    struct pop_revision *revision = pop_revision_number(endpoint, 1);
    for (int i = 0; i < 40; i++) {
        struct message_demand demand = MESSAGE_INIT(MESSAGE_DEMAND);
        demand.revision = revision->uid;
        demand.arrivals = demand.done = 250;
        demand.busy_ns = 250 * 100 * ENV_MS;
        demand.running = demand.waiting = 100;
        pop_demand(&world->pop, &demand);
        run(world, world->now_ns + 250 * ENV_MS);
    }
    return pop_revision_ready(revision);
}

/* Of an endpoint beside another one, both placed once. */
static const struct {
    const char *name, *limits, *flavor, *other;
    uint32_t room, other_room;
} rows[] = {
    { "no limits", "", "", "", POP_REPLICAS_MAX, POP_REPLICAS_MAX },
    { "none is 0", "{\"replicas\":0}", "", "", POP_REPLICAS_MAX, POP_REPLICAS_MAX },
    { "replicas", "{\"replicas\":5}", "", "", 4, 4 },
    { "memory", "{\"memory_bytes\":1073741824}", "\"memory\":\"256MiB\"", "\"memory\":\"512MiB\"",
      2, 1 },
    { "cores", "{\"cpu_milli\":4000}", "\"cpu\":0.5", "\"cpu\":2", 4, 1 },
    { "the least of them", "{\"cpu_milli\":4000,\"replicas\":3}", "\"cpu\":0.5", "\"cpu\":2", 2,
      1 },
    { "never less than it was given", "{\"replicas\":1}", "", "", 1, 1 },
};

static void test_rows(void **)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        void *state;
        print_message("  %s\n", rows[i].name);
        (void)paris_new(&state);
        struct world *world = state;
        limits_set(world, rows[i].limits);
        struct pop_endpoint *one = place(world, 1, rows[i].flavor, 1, "");
        struct pop_endpoint *other = place(world, 2, rows[i].other, 1, "");
        pop_reconcile(&world->pop);
        assert_int_equal(pop_room(one), rows[i].room);
        assert_int_equal(pop_room(other), rows[i].other_room);
        (void)world_free(&state);
    }
}

static void test_who_needs_it_first_has_it(void **state)
{
    struct world *world = *state;
    limits_set(world, "{\"replicas\":6}");
    struct pop_endpoint *one = place(world, 1, "", 1, "");
    struct pop_endpoint *other = place(world, 2, "", 2, "");
    assert_int_equal(grow(world, one), 4); /* the other one's are kept free */
    assert_int_equal(grow(world, other), 2);
    /* Another one is placed here: who has more than its share gives way. */
    struct pop_endpoint *third = place(world, 3, "", 1, "");
    assert_int_equal(grow(world, third), 1);
    assert_int_equal(grow(world, one), 3);
    assert_int_equal(grow(world, other), 2);
    /* It is placed elsewhere, and nothing of it is left. */
    (void)place(world, 2, "", 0, "");
    assert_int_equal(grow(world, one), 5);
    limits_set(world, "");
    assert_int_equal(grow(world, one), 8); /* scale.max */
}

/* What a schedule will have is kept free as well. */
static void test_a_schedule_has_its_room(void **state)
{
    struct world *world = *state;
    limits_set(world, "{\"replicas\":6}");
    struct pop_endpoint *one = place(world, 1, "", 1, "");
    (void)place(world, 2, "", 1, ",\"floors\":[{\"min\":4,\"replicas\":4}]");
    assert_int_equal(grow(world, one), 2);
}

static void test_limits_that_are_none(void **state)
{
    struct world *world = *state;
    static const char *const wrong[] = { "{\"replicas\":-1}", "{\"cpu_milli\":\"many\"}",
                                         "{\"memory_bytes\":1.5}" };
    limits_set(world, "{\"replicas\":5}");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[256];
        struct err err = {};
        snprintf(text, sizeof text, "[{\"name\":\"paris\",\"limits\":%s}]", wrong[i]);
        assert_int_equal(pop_peers_apply(&world->pop, slice_of(text), &err), ERR_BAD_INPUT);
        print_message("  %s\n", err.message);
        assert_int_equal(world->pop.limits.replicas, 5); /* nothing is changed */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test_setup_teardown(test_who_needs_it_first_has_it, paris_new, world_free),
        cmocka_unit_test_setup_teardown(test_a_schedule_has_its_room, paris_new, world_free),
        cmocka_unit_test_setup_teardown(test_limits_that_are_none, paris_new, world_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
