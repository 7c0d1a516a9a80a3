/* SPDX-License-Identifier: Apache-2.0 */
/* When a prober asks, to the millisecond: what it has of the loop, the client and sockets is played
 * here, in simulated time. Real ones are test_entrance.c's. */
#include "replica/prober.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h> /* after the four above */

#include "base/auto.h"
#include "base/err.h"
#include "http/client.h"
#include "io/loop.h"
#include "io/socket.h"
#include "io/timer.h"

#define NEVER (INT64_MAX / 2)
enum { ASKS_MAX = 2000, PERIOD_MS = 700, TIMEOUT_MS = 300, BEGIN_MS = 50 };

/* ---- the world that is played ---------------------------------------------------------------- */

struct timer {
    void (*on_expired)(void *data);
    void *data;
    int64_t due_ms;
};

struct http_call {
    const struct http_call_events *events;
    void *data;
};

struct stream_connect {
    stream_connected_cb on_connected;
    void *data;
};

static struct {
    int64_t now_ms;
    struct timer timer; /* there is one prober */
    struct http_call call;
    struct stream_connect connect;
    int64_t answer_ms; /* of the call or connection under way; NEVER: none is */
    bool canceled;
    int64_t asks[ASKS_MAX];
    size_t asked;
    /* How it stands with who is asked. */
    int64_t well_ms, ill_ms; /* it is well from then on, and again not */
    int64_t takes_ms;        /* to answer; NEVER: it does not */
    /* What was told. */
    size_t told;
    bool well;
    int64_t told_ms;
    struct prober *free_it; /* when told */
} world;

int64_t loop_now_ms(const struct loop *)
{
    return world.now_ms;
}

struct timer *timer_new(struct loop *, void (*on_expired)(void *data), void *data)
{
    world.timer = (struct timer){ on_expired, data, NEVER };
    return &world.timer;
}

void timer_free(struct timer *timer)
{
    timer->due_ms = NEVER;
}

void timer_start(struct timer *timer, int64_t ms)
{
    timer->due_ms = world.now_ms + ms;
}

static void ask(void)
{
    assert_true(world.asked < ASKS_MAX);
    assert_true(world.answer_ms == NEVER); /* one at a time */
    world.asks[world.asked++] = world.now_ms;
    world.answer_ms = world.takes_ms == NEVER ? NEVER : world.now_ms + world.takes_ms;
}

struct http_call *http_client_call(struct http_client *, const struct http_request_spec *spec,
                                   const struct http_call_events *events, void *data)
{
    assert_int_equal(spec->timeout_ms, TIMEOUT_MS);
    world.call = (struct http_call){ events, data };
    ask();
    if (world.answer_ms > world.now_ms + TIMEOUT_MS)
        world.answer_ms = world.now_ms + TIMEOUT_MS;
    return &world.call;
}

static void end_canceled(void)
{
    world.canceled = true;
    world.answer_ms = world.now_ms;
}

void http_call_cancel(struct http_call *)
{
    end_canceled();
}

struct stream_connect *stream_connect(struct loop *, const struct address *,
                                      stream_connected_cb on_connected, void *data)
{
    world.connect = (struct stream_connect){ on_connected, data };
    ask();
    return &world.connect;
}

void stream_connect_cancel(struct stream_connect *)
{
    end_canceled();
}

void stream_close(struct stream *)
{
}

static bool is_well(void)
{
    return world.now_ms >= world.well_ms && world.now_ms < world.ill_ms;
}

static void answer(void)
{
    const struct http_response response = { .status = is_well() ? 200 : 503 };
    struct http_call call = world.call;
    struct stream_connect connect = world.connect;
    struct err err = {}, *error = NULL;

    world.answer_ms = NEVER;
    if (world.canceled || (connect.data && !is_well())) {
        (void)err_set(&err, world.canceled ? ERR_CANCELED : ERR_NOT_FOUND, "it is not");
        error = &err;
    }
    world.canceled = false;
    world.connect = (struct stream_connect){};
    if (connect.data) {
        connect.on_connected(error ? NULL : (struct stream *)&world, error, connect.data);
        return;
    }
    if (!error)
        call.events->on_head(NULL, &response, call.data);
    call.events->on_done(NULL, error, call.data);
}

static void pass_until(int64_t end_ms)
{
    for (;;) {
        int64_t next_ms =
            world.answer_ms < world.timer.due_ms ? world.answer_ms : world.timer.due_ms;
        if (next_ms > end_ms)
            break;
        world.now_ms = next_ms;
        if (next_ms == world.answer_ms) {
            answer();
        } else {
            world.timer.due_ms = NEVER;
            world.timer.on_expired(world.timer.data);
        }
    }
    world.now_ms = end_ms;
}

static void on_seen(struct prober *, bool well, const char *why, void *)
{
    assert_non_null(why);
    world.told++;
    world.well = well;
    world.told_ms = world.now_ms;
    prober_free(take_ptr(world.free_it));
}

static struct prober *begin(bool hasty, const char *path)
{
    const struct probe_plan plan = { .path = slice_of(path),
                                     .authority = SLICE("shop"),
                                     .begin_ms = BEGIN_MS,
                                     .period_ms = PERIOD_MS,
                                     .timeout_ms = TIMEOUT_MS,
                                     .failures = 3,
                                     .hasty = hasty };
    return prober_new(NULL, NULL, &plan, on_seen, NULL);
}

static int setup(void **state)
{
    (void)state;
    world = (typeof(world)){ .now_ms = 123'456,
                             .timer.due_ms = NEVER,
                             .answer_ms = NEVER,
                             .well_ms = NEVER,
                             .ill_ms = NEVER };
    return 0;
}

/* ---- what is started ------------------------------------------------------------------------- */

static void test_haste_each_5_ms_for_2_s_each_20_ms_to_10_s_then_each_period(void **state)
{
    static const char *const paths[] = { "/health", "" };

    for (size_t i = 0; i < 2; i++) {
        (void)setup(state);
        int64_t begun_ms = world.now_ms;
        struct prober *prober = begin(true, paths[i]);
        pass_until(begun_ms + 20'000);
        assert_int_equal(world.asks[0], begun_ms);
        for (size_t k = 0; k + 1 < world.asked; k++) {
            int64_t age_ms = world.asks[k] - begun_ms;
            int64_t pause_ms = age_ms < 2000 ? 5 : age_ms < 10'000 ? 20 : PERIOD_MS;
            assert_int_equal(world.asks[k + 1] - world.asks[k], pause_ms);
        }
        /* The last of each begins the next. */
        assert_int_equal(world.asked, 2000 / 5 + 8000 / 20 + 1 + 10'000 / PERIOD_MS);
        assert_false(world.well);
        assert_int_equal(world.told, world.asked); /* each time why it is not */
        prober_free(prober);
        pass_until(world.now_ms + 20'000);
    }
}

static void test_it_is_seen_within_one_pause_of_listening(void **state)
{
    static const struct {
        int64_t well_ms, seen_ms;
    } rows[] = { { 0, 0 },       { 1, 5 },         { 137, 140 },       { 1996, 2000 },
                 { 2001, 2020 }, { 9999, 10'000 }, { 10'001, 10'700 }, { 10'701, 11'400 } };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        (void)setup(state);
        int64_t begun_ms = world.now_ms;
        world.well_ms = begun_ms + rows[i].well_ms;
        struct prober *prober = begin(true, "/health");
        pass_until(begun_ms + 12'000);
        assert_true(world.well);
        assert_int_equal(world.told_ms - begun_ms, rows[i].seen_ms);
        prober_free(prober);
    }
}

static void test_a_pause_begins_with_the_answer(void **state)
{
    int64_t begun_ms = world.now_ms;
    (void)state;

    world.takes_ms = 7;
    struct prober *prober = begin(true, "/health");
    pass_until(begun_ms + 100);
    for (size_t k = 0; k < world.asked; k++)
        assert_int_equal(world.asks[k], begun_ms + 12 * (int64_t)k);
    assert_true(world.asked > 8);
    prober_free(prober);
    pass_until(world.now_ms + 100);
}

/* ---- what was well once ---------------------------------------------------------------------- */

static void test_there_is_no_haste_once_it_was_well(void **state)
{
    int64_t begun_ms = world.now_ms;
    (void)state;

    world.well_ms = begun_ms + 10;
    world.ill_ms = begun_ms + 300;
    struct prober *prober = begin(true, "/health");
    pass_until(begun_ms + 10 + 2 * PERIOD_MS); /* 2 looks that fail leave it well */
    assert_int_equal(world.asked, 3 + 2);
    assert_int_equal(world.told, 2 + 1);
    assert_true(world.well);
    pass_until(begun_ms + 10 + 3 * PERIOD_MS);
    assert_false(world.well);
    assert_int_equal(world.told_ms, begun_ms + 10 + 3 * PERIOD_MS);
    world.ill_ms = NEVER;
    pass_until(begun_ms + 10 + 4 * PERIOD_MS); /* and the first good one makes it well */
    assert_true(world.well);
    for (size_t k = 3; k < world.asked; k++)
        assert_int_equal(world.asks[k] - world.asks[k - 1], PERIOD_MS);
    prober_free(prober);
}

static void test_what_runs_already_is_asked_each_begin_and_given_up(void **state)
{
    int64_t begun_ms = world.now_ms;
    (void)state;

    struct prober *prober = begin(false, "/health");
    pass_until(begun_ms + 2 * BEGIN_MS + 2 * PERIOD_MS);
    assert_int_equal(world.asked, 3 + 2); /* 3 failures, then each period */
    assert_int_equal(world.asks[1] - world.asks[0], BEGIN_MS);
    assert_int_equal(world.asks[2] - world.asks[1], BEGIN_MS);
    assert_int_equal(world.asks[3] - world.asks[2], PERIOD_MS);
    assert_int_equal(world.told, 3); /* from the third on */
    prober_free(prober);
}

/* ---- who does not answer --------------------------------------------------------------------- */

static void test_a_connection_has_its_timeout(void **state)
{
    int64_t begun_ms = world.now_ms;
    (void)state;

    world.takes_ms = NEVER;
    struct prober *prober = begin(true, "");
    pass_until(begun_ms + TIMEOUT_MS - 1);
    assert_int_equal(world.told, 0);
    pass_until(begun_ms + TIMEOUT_MS);
    assert_int_equal(world.told, 1);
    assert_false(world.well);
    pass_until(begun_ms + TIMEOUT_MS + 5);
    assert_int_equal(world.asked, 2);
    assert_int_equal(world.asks[1] - begun_ms, TIMEOUT_MS + 5);
    prober_free(prober); /* with one under way */
    size_t told = world.told;
    pass_until(world.now_ms + 10'000);
    assert_int_equal(world.asked, 2);
    assert_int_equal(world.told, told);
}

static void test_it_may_be_freed_when_it_tells(void **state)
{
    static const char *const paths[] = { "/health", "" };

    for (size_t i = 0; i < 2; i++) {
        (void)setup(state);
        world.free_it = begin(true, paths[i]);
        pass_until(world.now_ms + 10'000);
        assert_int_equal(world.asked, 1);
        assert_int_equal(world.told, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_haste_each_5_ms_for_2_s_each_20_ms_to_10_s_then_each_period),
        cmocka_unit_test(test_it_is_seen_within_one_pause_of_listening),
        cmocka_unit_test_setup(test_a_pause_begins_with_the_answer, setup),
        cmocka_unit_test_setup(test_there_is_no_haste_once_it_was_well, setup),
        cmocka_unit_test_setup(test_what_runs_already_is_asked_each_begin_and_given_up, setup),
        cmocka_unit_test_setup(test_a_connection_has_its_timeout, setup),
        cmocka_unit_test_setup(test_it_may_be_freed_when_it_tells, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
