/* SPDX-License-Identifier: Apache-2.0 */
/* The agent raises replicas by the time of the day, on one timer, whatever is done to the clock. */
#include "pop/state.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/civil.h"
#include "base/err.h"
#include "pop_effects.h"
#include "sys/zones.h"
#include "zone_text.h"

#define HOUR (3600 * ENV_S)

struct world {
    struct env env; /* first: the env is the world */
    struct env_timers timers;
    int64_t now_ns, wall_ns; /* the second is since 1970, minus the first */
    struct pop pop;
    unsigned starts, drains, events, zones_read, looks;
    bool zone_there;
    char event[256];
};

static int64_t now(struct env *env)
{
    return ((struct world *)env)->now_ns;
}

static int64_t wall(struct env *env)
{
    struct world *world = (struct world *)env;
    world->looks++;
    return world->wall_ns + world->now_ns;
}

static void timer_start(struct env *env, struct env_timer *timer, int64_t delay_ns,
                        env_timer_cb on_due, void *data)
{
    struct world *world = (struct world *)env;
    env_timers_start(&world->timers, timer, world->now_ns + delay_ns, on_due, data);
}

static void timer_stop(struct env *env, struct env_timer *timer)
{
    env_timers_stop(&((struct world *)env)->timers, timer);
}

/* There is one zone. */
static int file_read(struct env *env, const char *path, size_t, struct arena *arena,
                     struct slice *ret, struct err *err)
{
    struct world *world = (struct world *)env;
    char paris[256];
    snprintf(paris, sizeof paris, "%s/Europe/Paris", zones_folder());
    world->zones_read++;
    if (!world->zone_there || strcmp(path, paris) != 0)
        return err_set(err, ERR_NOT_FOUND, "it is not there");
    *ret = zone_text(arena, 0, NULL, 0, "CET-1CEST,M3.5.0,M10.5.0/3");
    return 0;
}

static int on_start(struct pop_replica *, struct err *, void *data)
{
    ((struct world *)data)->starts++;
    return 0;
}

static void on_kill(struct pop_replica *, enum replica_end, const char *, void *data)
{
    ((struct world *)data)->drains++;
}

static void on_event(struct pop *, const char *kind, const struct pop_endpoint *,
                     const struct pop_replica *, const char *message, void *data)
{
    struct world *world = data;
    if (strncmp(kind, "schedule", 8) != 0)
        return;
    world->events++;
    snprintf(world->event, sizeof world->event, "%s: %s", kind, message);
}

static const struct pop_effects effects = {
    on_start,  on_kill,   on_replica, on_number, on_replica, on_fetch,
    on_number, on_change, on_change,  on_change, on_event,   on_any_death,
};

/* Until `until_ns` of the wall's clock. */
static void run(struct world *world, int64_t until_ns)
{
    struct pop_endpoint *endpoint;
    struct pop_revision *revision;
    for (;;) {
        LIST_EACH (endpoint, &world->pop.endpoints, struct pop_endpoint, link)
            LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
                if (revision->model_state == POP_MODEL_FETCHING)
                    pop_model_fetched(revision, "/models/x", "model.onnx", NULL);
        int64_t next_ns = env_timers_next_ns(&world->timers);
        if (next_ns > until_ns - world->wall_ns)
            break;
        if (next_ns > world->now_ns)
            world->now_ns = next_ns;
        (void)env_timers_run(&world->timers, world->now_ns);
    }
    world->now_ns = until_ns - world->wall_ns;
}

static int64_t at(int year, int month, int day, int hour, int minute)
{
    return civil_days(year, month, day) * 24 * HOUR + hour * HOUR + minute * 60 * ENV_S;
}

static void endpoint_set(struct world *world, uint64_t uid, const char *pops, const char *schedule)
{
    char text[2048];
    struct err err = {};
    snprintf(text, sizeof text,
             "{\"uid\":%llu,\"name\":\"digits\",\"state\":\"running\",\"target\":1,\"spec\":{"
             "\"model\":\"sha256:%064d\",\"scale\":{\"min\":1,\"schedule\":[%s]}},%s"
             "\"revisions\":[{\"number\":1,\"uid\":%llu,\"model\":\"sha256:%064d\"}]}",
             (unsigned long long)uid, 1, schedule, pops, (unsigned long long)(uid << 24 | 1), 1);
    if (pop_endpoint_apply(&world->pop, slice_of(text), &err) < 0)
        fail_msg("%s", err.message);
}

static int world_new(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    const struct region_place place = { .name = SLICE("paris") };
    struct err err;
    world->env = (struct env){ .name = "test",
                               .now_ns = now,
                               .wall_ns = wall,
                               .timer_start = timer_start,
                               .timer_stop = timer_stop,
                               .file_read = file_read };
    world->now_ns = 1000 * ENV_S;
    world->wall_ns = at(2026, 3, 28, 0, 0) - world->now_ns; /* a Saturday in winter */
    world->zone_there = true;
    pop_init(&world->pop, &world->env, 7, &effects, world);
    assert_int_equal(pop_stand(&world->pop, &place, (struct slice){}, &err), 0);
    world->pop.name = "paris";
    pop_sync(&world->pop, NULL, 0);
    *state = world;
    return 0;
}

static int world_free(void **state)
{
    struct world *world = *state;
    pop_deinit(&world->pop);
    env_timers_deinit(&world->timers);
    free(world);
    return 0;
}

static uint32_t wanted(struct world *world, uint64_t uid)
{
    struct pop_endpoint *endpoint = pop_endpoint_find(&world->pop, uid);
    return pop_replicas_wanted(endpoint, pop_revision_number(endpoint, 1), world->now_ns);
}

#define MORNINGS "{\"cron\":\"0 8 * * *\",\"tz\":\"Europe/Paris\",\"for\":\"10h\",\"min\":4}"
#define NOON "{\"cron\":\"0 12 * * *\",\"tz\":\"Europe/Paris\",\"for\":\"1h\",\"min\":6}"
#define HERE                                                                                       \
    "\"pops\":[{\"name\":\"paris\",\"replicas\":1,\"floors\":[{\"min\":4,\"replicas\":3},{"        \
    "\"min\":6,\"replicas\":4}]},{\"name\":\"tokyo\",\"replicas\":1,\"floors\":[{\"min\":4,"       \
    "\"replicas\":1},{\"min\":6,\"replicas\":2}]}],"

static void test_a_day(void **state)
{
    static const struct {
        int day, hour, minute; /* UTC; on the 29th clocks are put forward */
        uint32_t wanted;
    } rows[] = { { 28, 6, 59, 1 }, { 28, 7, 0, 3 },  { 28, 10, 59, 3 }, { 28, 11, 0, 4 },
                 { 28, 12, 0, 3 }, { 28, 17, 0, 1 }, { 29, 5, 59, 1 },  { 29, 6, 0, 3 },
                 { 29, 10, 0, 4 }, { 29, 16, 0, 1 } };
    struct world *world = *state;
    endpoint_set(world, 1, HERE, MORNINGS "," NOON);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        run(world, at(2026, 3, rows[i].day, rows[i].hour, rows[i].minute));
        assert_int_equal(wanted(world, 1), rows[i].wanted);
    }
    assert_int_equal(world->events, 8);
    assert_string_equal(world->event, "schedule_changed: scale.schedule: at least 1 over the "
                                      "fleet, 0 here");
    assert_true(world->starts >= 3 && world->drains >= 3);
}

static void test_where_it_is_not_placed_it_is_not_raised(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1,
                 "\"pops\":[{\"name\":\"tokyo\",\"replicas\":1,\"floors\":[{\"min\":4,"
                 "\"replicas\":4}]}],",
                 MORNINGS);
    run(world, at(2026, 3, 28, 9, 0));
    assert_int_equal(wanted(world, 1), 0);
    assert_int_equal(world->starts, 0);
}

/* Of a control that places nothing. */
static void test_alone(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1, "", MORNINGS);
    run(world, at(2026, 3, 28, 9, 0));
    assert_int_equal(wanted(world, 1), 4);
}

/* Forward into a window, back out of it, and far away: noticed within seconds. */
static void test_a_clock_that_is_set(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1, HERE, MORNINGS);
    run(world, at(2026, 3, 28, 1, 0));
    assert_int_equal(wanted(world, 1), 1);
    static const struct {
        int day, hour;
        uint32_t wanted;
    } rows[] = { { 28, 9, 3 }, { 28, 2, 1 }, { 30, 12, 3 }, { 1, 3, 1 } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        world->wall_ns = at(2026, 3, rows[i].day, rows[i].hour, 0) - world->now_ns;
        run(world, at(2026, 3, rows[i].day, rows[i].hour, 0) + 5 * ENV_S);
        assert_int_equal(wanted(world, 1), rows[i].wanted);
    }
}

/* One timer: a thousand endpoints make no more looks than one. */
static void test_many_wait_for_one_timer(void **state)
{
    enum { MANY = 1000 };
    struct world *world = *state;
    for (uint64_t uid = 1; uid <= MANY; uid++)
        endpoint_set(world, uid, HERE, MORNINGS);
    run(world, at(2026, 3, 28, 1, 0));
    assert_true(world->timers.count <= 2);
    world->looks = 0;
    run(world, at(2026, 3, 28, 2, 0));
    assert_true(world->looks <= 1500);
    assert_true(world->zones_read <= 4);
    run(world, at(2026, 3, 28, 7, 0));
    for (uint64_t uid = 1; uid <= MANY; uid += 333)
        assert_int_equal(wanted(world, uid), 3);
}

static void test_nothing_is_looked_at_without_a_schedule(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1, HERE, "");
    run(world, at(2026, 3, 28, 1, 0));
    assert_int_equal(world->timers.count, 0);
    assert_int_equal(world->zones_read, 0);
}

/* Rather too many replicas than too few; and it mends itself once tzdata is there. */
static void test_a_zone_that_is_not_known_here(void **state)
{
    struct world *world = *state;
    world->zone_there = false;
    endpoint_set(world, 1, HERE, MORNINGS);
    run(world, at(2026, 3, 28, 1, 0));
    assert_int_equal(wanted(world, 1), 3);
    assert_int_equal(world->events, 2);
    world->zone_there = true;
    run(world, at(2026, 3, 28, 3, 0));
    assert_int_equal(wanted(world, 1), 1);
}

static void test_a_spec_without_it_ends_it(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1, HERE, MORNINGS);
    run(world, at(2026, 3, 28, 9, 0));
    assert_int_equal(wanted(world, 1), 3);
    endpoint_set(world, 1, HERE, "");
    run(world, at(2026, 3, 28, 9, 1));
    assert_int_equal(wanted(world, 1), 1);
}

int main(void)
{
#define WORLD(test) cmocka_unit_test_setup_teardown(test, world_new, world_free)
    const struct CMUnitTest tests[] = {
        WORLD(test_a_day),
        WORLD(test_where_it_is_not_placed_it_is_not_raised),
        WORLD(test_alone),
        WORLD(test_a_clock_that_is_set),
        WORLD(test_many_wait_for_one_timer),
        WORLD(test_nothing_is_looked_at_without_a_schedule),
        WORLD(test_a_zone_that_is_not_known_here),
        WORLD(test_a_spec_without_it_ends_it),
    };
    return cmocka_run_group_tests_name("pop_schedule", tests, NULL, NULL);
}
