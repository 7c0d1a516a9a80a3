/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replicas that are addresses of an upstream: what DNS and probes say in turn, and what the agent's
 * core makes of it. The clock stands still.
 */
#include "pop/state.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h> /* after the seven above */

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"

struct world {
    struct env env; /* first: the env is the world */
    struct pop pop;
    int watched, publishes, failures, readies, unreadies, starts, moves;
};

static int64_t now(struct env *)
{
    return ENV_S;
}

static void timer_start(struct env *, struct env_timer *, int64_t, env_timer_cb, void *)
{
}

static void timer_stop(struct env *, struct env_timer *)
{
}

static void on_watch(struct pop_revision *, bool watch, void *data)
{
    ((struct world *)data)->watched += watch ? 1 : -1;
}

static void on_publish(struct pop *, void *data)
{
    ((struct world *)data)->publishes++;
}

static void on_change(struct pop *, void *)
{
}

static void on_gone(uint64_t, void *)
{
}

static void on_event(struct pop *, const char *kind, const struct pop_endpoint *,
                     const struct pop_replica *, const char *, void *data)
{
    struct world *world = data;
    world->failures += strcmp(kind, "revision_failed") == 0;
    world->readies += strcmp(kind, "replica_ready") == 0;
    world->unreadies += strcmp(kind, "replica_unready") == 0;
    world->starts += strcmp(kind, "replica_started") == 0;
    world->moves += strcmp(kind, "traffic_moved") == 0;
}

static const struct pop_effects effects = { .upstream_watch = on_watch,
                                            .publish = on_publish,
                                            .report = on_change,
                                            .save = on_change,
                                            .revision_gone = on_gone,
                                            .event = on_event };

static int world_new(void **state)
{
    struct world *world = mem_zalloc(sizeof *world);
    world->env = (struct env){ .name = "test",
                               .now_ns = now,
                               .wall_ns = now,
                               .timer_start = timer_start,
                               .timer_stop = timer_stop };
    pop_init(&world->pop, &world->env, 1, &effects, world);
    pop_sync(&world->pop, NULL, 0);
    *state = world;
    return 0;
}

static int world_free(void **state)
{
    struct world *world = *state;
    pop_deinit(&world->pop);
    free(world);
    return 0;
}

static void apply(struct world *world, unsigned target, bool running)
{
    struct arena *arena = arena_new();
    struct err err;
    const char *spec = "{\"name\":\"shop\",\"upstream\":\"http://a:81\"}";
    const char *json = arena_format(
        arena,
        "{\"uid\":1,\"name\":\"shop\",\"state\":\"%s\",\"target\":%u,\"spec\":%s,\"revisions\":["
        "{\"number\":1,\"uid\":%u,\"model\":\"\",\"runtime\":\"upstream\",\"spec\":%s}%s]}",
        running ? "running" : "stopped", target, spec, 1u << 24 | 1, spec,
        target == 2 ? ",{\"number\":2,\"uid\":16777218,\"model\":\"\",\"runtime\":\"upstream\","
                      "\"spec\":{\"name\":\"shop\",\"upstream\":\"http://b\"}}"
                    : "");
    assert_int_equal(pop_endpoint_apply(&world->pop, slice_of(json), &err), 0);
    pop_reconcile(&world->pop);
    arena_free(arena);
}

static struct pop_revision *revision(struct world *world, uint32_t number)
{
    return pop_revision_number(pop_endpoint_find(&world->pop, 1), number);
}

static uint32_t serving(struct world *world)
{
    return pop_endpoint_find(&world->pop, 1)->serving;
}

/* The replica of that address (its last byte); NULL: none. */
static struct pop_replica *at(struct world *world, uint32_t number, uint8_t last)
{
    struct pop_replica *replica;
    LIST_EACH (replica, &revision(world, number)->replicas, struct pop_replica, link)
        if (replica->target.ip.bytes[15] == last)
            return replica;
    return NULL;
}

static void found(struct world *world, uint32_t number, const char *lasts)
{
    struct ip ips[8] = {};
    size_t count = strlen(lasts);
    for (size_t i = 0; i < count; i++)
        ips[i].bytes[15] = (uint8_t)lasts[i];
    pop_upstream_found(revision(world, number), ips, count, 81);
    pop_reconcile(&world->pop);
}

static void seen(struct world *world, uint32_t number, uint8_t last, bool well)
{
    pop_upstream_seen(&world->pop, at(world, number, last)->id, well, "it is ill");
    pop_reconcile(&world->pop);
}

static void test_a_good_probe_brings_the_traffic(void **state)
{
    struct world *world = *state;
    apply(world, 1, true);
    assert_int_equal(world->watched, 1);
    found(world, 1, "ab");
    assert_int_equal(world->starts, 2);
    assert_int_equal(serving(world), 0);
    seen(world, 1, 'a', true);
    assert_int_equal(serving(world), 1);
    assert_int_equal(pop_revision_ready(revision(world, 1)), 1);
    assert_int_equal(at(world, 1, 'a')->target.port, 81);
    seen(world, 1, 'a', true); /* again changes nothing */
    assert_int_equal(world->readies, 1);
}

static void test_the_last_that_fails_says_why(void **state)
{
    struct world *world = *state;
    apply(world, 1, true);
    found(world, 1, "ab");
    seen(world, 1, 'a', true);
    seen(world, 1, 'b', false); /* never was well: nobody minds while the other is */
    assert_int_equal(world->failures + world->unreadies, 0);
    seen(world, 1, 'a', false);
    assert_int_equal(world->unreadies, 1);
    assert_int_equal(world->failures, 1);
    assert_string_equal(revision(world, 1)->message, "http://a:81: it is ill");
    int before = world->publishes;
    seen(world, 1, 'a', false); /* the same words once */
    assert_int_equal(world->publishes, before);
    seen(world, 1, 'b', true);
    assert_false(revision(world, 1)->failed);
    assert_string_equal(revision(world, 1)->message, "");
}

/* They fail for different reasons, again and again, and so does the name. */
static void test_of_several_that_fail_one_is_told(void **state)
{
    static const char *const reasons[] = { "refused", "it answers 503" };
    struct world *world = *state;
    int before = 0;
    apply(world, 1, true);
    found(world, 1, "ab");
    for (int i = 0; i < 12; i++) {
        if (i == 4)
            before = world->publishes;
        pop_upstream_seen(&world->pop, at(world, 1, "ab"[i % 2])->id, false, reasons[i % 2]);
        if (i % 3 == 0)
            pop_upstream_lost(revision(world, 1), "nobody knows it");
        pop_reconcile(&world->pop);
    }
    assert_int_equal(world->publishes, before);
    assert_int_equal(world->failures, 1);
    assert_string_equal(revision(world, 1)->message, "http://a:81: refused");
}

static void test_addresses_come_and_go_with_the_name(void **state)
{
    struct world *world = *state;
    apply(world, 1, true);
    found(world, 1, "ab");
    seen(world, 1, 'a', true);
    uint64_t kept = at(world, 1, 'b')->id;
    found(world, 1, "bc");
    assert_null(at(world, 1, 'a'));
    assert_int_equal(at(world, 1, 'b')->id, kept);
    assert_non_null(at(world, 1, 'c'));
    assert_int_equal(pop_revision_ready(revision(world, 1)), 0);
    pop_upstream_lost(revision(world, 1), "nobody knows it"); /* what was known stays */
    assert_int_equal(revision(world, 1)->replica_count, 2);
    assert_string_equal(revision(world, 1)->message, "http://a:81: nobody knows it");
    found(world, 1, "aaaaaaa");
    assert_int_equal(revision(world, 1)->replica_count, 1);
}

static void test_a_new_revision_waits_for_its_probe(void **state)
{
    struct world *world = *state;
    apply(world, 1, true);
    found(world, 1, "a");
    seen(world, 1, 'a', true);
    apply(world, 2, true);
    assert_int_equal(world->watched, 2);
    found(world, 2, "x");
    assert_int_equal(serving(world), 1);
    seen(world, 2, 'x', false);
    assert_int_equal(serving(world), 1);
    seen(world, 2, 'x', true);
    assert_int_equal(serving(world), 2);
    pop_reconcile(&world->pop); /* the one before is watched no more */
    assert_int_equal(world->watched, 1);
    assert_int_equal(revision(world, 1)->replica_count, 0);
}

static void test_stopped_it_is_not_watched(void **state)
{
    struct world *world = *state;
    apply(world, 1, true);
    found(world, 1, "a");
    seen(world, 1, 'a', true);
    apply(world, 1, false);
    assert_int_equal(world->watched, 0);
    assert_int_equal(revision(world, 1)->replica_count, 0);
    found(world, 1, "a"); /* a look-up that was under way */
    assert_int_equal(revision(world, 1)->replica_count, 0);
    pop_endpoint_gone(&world->pop, 1);
    pop_reconcile(&world->pop);
    assert_null(pop_endpoint_find(&world->pop, 1));
}

int main(void)
{
#define WORLD(test) cmocka_unit_test_setup_teardown(test, world_new, world_free)
    const struct CMUnitTest tests[] = {
        WORLD(test_a_good_probe_brings_the_traffic),
        WORLD(test_the_last_that_fails_says_why),
        WORLD(test_of_several_that_fail_one_is_told),
        WORLD(test_addresses_come_and_go_with_the_name),
        WORLD(test_a_new_revision_waits_for_its_probe),
        WORLD(test_stopped_it_is_not_watched),
    };
    return cmocka_run_group_tests_name("pop_upstream", tests, NULL, NULL);
}
