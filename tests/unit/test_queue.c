/* SPDX-License-Identifier: Apache-2.0 */
/*
 * White box: every atomic operation of place.c and queue.c is a point where a random schedule may
 * go on with another loop (coroutines, one thread, any seed repeats). Then the same with real
 * threads, which is what TSan watches. What must hold: nobody waits for ever, no limit is passed,
 * and no loop starts a batch request beside an interactive one of its own. Whose turn it is among
 * several loops stands in rows.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>
#include <cmocka.h> /* after the four above */

#include <stdatomic.h>

static void step(void);
static _Thread_local unsigned steps_here;
#undef atomic_load
#undef atomic_store
#undef atomic_exchange
#undef atomic_fetch_add
#undef atomic_fetch_sub
#undef atomic_fetch_and
#undef atomic_compare_exchange_weak
#define NOW memory_order_seq_cst
#define atomic_load(p) (step(), atomic_load_explicit((p), NOW))
#define atomic_store(p, v) (step(), atomic_store_explicit((p), (v), NOW))
#define atomic_exchange(p, v) (step(), atomic_exchange_explicit((p), (v), NOW))
#define atomic_fetch_add(p, v) (step(), atomic_fetch_add_explicit((p), (v), NOW))
#define atomic_fetch_sub(p, v) (step(), atomic_fetch_sub_explicit((p), (v), NOW))
#define atomic_fetch_and(p, v) (step(), atomic_fetch_and_explicit((p), (v), NOW))
#define atomic_compare_exchange_weak(p, e, v)                                                      \
    (step(), atomic_compare_exchange_strong_explicit((p), (e), (v), NOW, NOW))
#include "replica/place.c" /* NOLINT */
#include "gateway/queue.c" /* NOLINT */

#define LOOPS 3
#define REQUESTS 12 /* of a loop */

struct job {
    struct waiter waiter;
    uint32_t slot;
    bool done, waiting;
};

struct side {
    struct queue_side queue;
    struct job jobs[REQUESTS];
    struct job *running[REQUESTS];
    unsigned running_count, entered, finished, left;
    _Atomic bool message; /* queue_woken() is due */
    unsigned long random;
};

static struct place place;
static struct queue queue;
static struct queue_head queue_heads[LOOPS];
static struct side sides[LOOPS];
static _Atomic uint32_t running_now;
static _Atomic bool slots_held[PERIGEE_SLOTS_MAX];
static bool threads;

static unsigned draw(struct side *side, unsigned below)
{
    side->random = side->random * 6364136223846793005ul + 1442695040888963407ul;
    return (unsigned)(side->random >> 33) % below;
}

static bool take(void *data, struct queue_grant *ret)
{
    ret->lane = data;
    return place_take(&place, &ret->slot);
}

static bool room(void *data)
{
    (void)data;
    return place_free(&place);
}

static void start(struct waiter *waiter, const struct queue_grant *grant, void *data)
{
    struct side *side = data;
    struct job *job = (struct job *)(void *)waiter;

    assert_true(atomic_fetch_add_explicit(&running_now, 1, NOW) < place.concurrency);
    assert_false(atomic_exchange_explicit(&slots_held[grant->slot], true, NOW));
    if (waiter->class == QUEUE_BATCH)
        assert_true(list_empty(&side->queue.waiters[QUEUE_INTERACTIVE]));
    job->slot = grant->slot;
    job->waiting = false;
    side->running[side->running_count++] = job;
}

static void wake_loop(unsigned loop, void *data)
{
    (void)data;
    atomic_store_explicit(&sides[loop].message, true, NOW);
}

static const struct queue_events events = { take, room, start, wake_loop };

static void finish(struct side *side)
{
    unsigned index = draw(side, side->running_count);
    struct job *job = side->running[index];

    side->running[index] = side->running[--side->running_count];
    (void)atomic_fetch_sub_explicit(&running_now, 1, NOW);
    place_give(&place);
    queue_serve(&side->queue);
    atomic_store_explicit(&slots_held[job->slot], false, NOW);
    place_give_slot(&place, job->slot);
    queue_serve(&side->queue);
    job->done = true;
    side->finished++;
}

static void give_up(struct side *side)
{
    for (unsigned i = 0; i < side->entered; i++)
        if (side->jobs[i].waiting && draw(side, 4) == 0) {
            queue_leave(&side->queue, &side->jobs[i].waiter);
            side->jobs[i].waiting = false;
            side->jobs[i].done = true;
            side->finished++;
            side->left++;
            return;
        }
}

/* One thing that a loop may do; false: nothing is left for it to do by itself. */
static bool act(struct side *side)
{
    if (atomic_exchange_explicit(&side->message, false, NOW)) {
        queue_woken(&side->queue);
        return true;
    }
    unsigned choice = draw(side, 8);
    if (choice < 4 && side->entered < REQUESTS) {
        struct job *job = &side->jobs[side->entered];
        job->waiting = true;
        job->waiter.class = draw(side, 2) ? QUEUE_BATCH : QUEUE_INTERACTIVE;
        side->entered++;
        if (draw(side, 2) && queue_try(&side->queue, &job->waiter))
            return true;
        queue_enter(&side->queue, &job->waiter, (int64_t)(side->entered * 10 + draw(side, 9) + 1));
        return true;
    }
    if (choice == 4) {
        give_up(side);
        return true;
    }
    if (side->running_count > 0)
        finish(side);
    return side->running_count > 0 || side->entered < REQUESTS;
}

static void begin(unsigned long seed, uint32_t concurrency, uint32_t slots)
{
    place_init(&place, concurrency, 0, slots);
    queue_init(&queue, queue_heads, LOOPS);
    for (unsigned i = 0; i < LOOPS; i++) {
        sides[i] = (struct side){ .random = seed * 977 + i * 7919 + 1 };
        queue_side_init(&sides[i].queue, &queue, i, &events, &sides[i]);
    }
}

static void check_end(void)
{
    for (unsigned i = 0; i < LOOPS; i++) {
        assert_int_equal(sides[i].finished, REQUESTS);
        assert_int_equal(sides[i].queue.count, 0);
    }
    assert_int_equal(place.word, 0);
    for (unsigned i = 0; i < PERIGEE_SLOTS_MAX / 64; i++)
        assert_int_equal(place.taken[i], 0);
}

/* ---- whose turn it is ------------------------------------------------------------------------ */

/* Each comes while the one place is taken: loop, class (i, b), when. What starts, one after the
 * other, by index; `leaves` gives up before. */
static const struct {
    const char *name;
    struct {
        unsigned loop;
        char class;
        int since;
    } comes[5];
    int leaves;
    const char *starts;
} turns[] = {
    { "by age", { { 0, 'i', 1 }, { 0, 'i', 2 }, { 0, 'i', 3 } }, -1, "012" },
    { "by age over loops", { { 2, 'i', 1 }, { 0, 'i', 2 }, { 1, 'i', 3 } }, -1, "012" },
    { "one that is tried again is older", { { 0, 'i', 5 }, { 0, 'i', 2 } }, -1, "10" },
    { "interactive first", { { 0, 'b', 1 }, { 0, 'i', 2 }, { 0, 'b', 3 } }, -1, "102" },
    { "interactive of another loop first",
      { { 0, 'b', 1 }, { 1, 'i', 2 }, { 0, 'i', 3 } },
      -1,
      "120" },
    { "batch by age over loops",
      { { 1, 'b', 1 }, { 0, 'b', 2 }, { 2, 'b', 3 }, { 0, 'i', 4 }, { 1, 'i', 5 } },
      -1,
      "34012" },
    { "the last of a class leaves", { { 0, 'b', 1 }, { 1, 'i', 2 }, { 2, 'b', 3 } }, 1, "02" },
    { "the first of batch leaves", { { 1, 'b', 1 }, { 2, 'b', 2 }, { 0, 'i', 3 } }, 0, "21" },
};

static void wake_all(void)
{
    bool again = true;

    while (again) {
        again = false;
        for (unsigned i = 0; i < LOOPS; i++)
            if (atomic_exchange_explicit(&sides[i].message, false, NOW)) {
                queue_woken(&sides[i].queue);
                again = true;
            }
    }
}

/* The loop and index of what runs, of one place. */
static struct job *running_job(unsigned *ret_loop)
{
    for (unsigned i = 0; i < LOOPS; i++)
        if (sides[i].running_count > 0) {
            assert_int_equal(sides[i].running_count, 1);
            *ret_loop = i;
            return sides[i].running[0];
        }
    return NULL;
}

static void test_turns(void **state)
{
    (void)state;
    threads = true; /* no other schedule: this thread */
    for (size_t row = 0; row < sizeof turns / sizeof *turns; row++) {
        struct job first = { .waiter.class = QUEUE_BATCH }, jobs[5] = {};
        char started[8] = "";
        unsigned loop, count = 0;
        print_message("  %s\n", turns[row].name);
        begin(1, 1, 4);
        assert_true(queue_try(&sides[0].queue, &first.waiter));
        for (unsigned i = 0; i < 5 && turns[row].comes[i].class; i++) {
            jobs[i].waiter.class =
                turns[row].comes[i].class == 'b' ? QUEUE_BATCH : QUEUE_INTERACTIVE;
            assert_false(queue_try(&sides[turns[row].comes[i].loop].queue, &jobs[i].waiter));
            queue_enter(&sides[turns[row].comes[i].loop].queue, &jobs[i].waiter,
                        turns[row].comes[i].since);
        }
        if (turns[row].leaves >= 0)
            queue_leave(&sides[turns[row].comes[turns[row].leaves].loop].queue,
                        &jobs[turns[row].leaves].waiter);
        for (struct job *job; (job = running_job(&loop)) != NULL; wake_all()) {
            if (job != &first)
                started[count++] = (char)('0' + (job - jobs));
            finish(&sides[loop]);
        }
        assert_string_equal(started, turns[row].starts);
    }
}

static void test_an_interactive_request_passes_batch_ones_that_wait(void **state)
{
    struct job batch = { .waiter.class = QUEUE_BATCH }, other = { .waiter.class = QUEUE_BATCH };
    struct job interactive = { .waiter.class = QUEUE_INTERACTIVE };
    struct job late = { .waiter.class = QUEUE_BATCH };
    (void)state;

    threads = true;
    begin(1, 1, 4);
    assert_true(queue_try(&sides[0].queue, &other.waiter));
    queue_enter(&sides[1].queue, &batch.waiter, 1);
    (void)atomic_fetch_sub_explicit(&running_now, 1, NOW);
    place_give(&place); /* and before anybody has read the heads: */
    assert_false(queue_try(&sides[2].queue, &late.waiter)); /* one of its class waits */
    assert_true(queue_try(&sides[2].queue, &interactive.waiter));
    assert_int_equal(sides[2].running_count, 1);
    queue_leave(&sides[1].queue, &batch.waiter);
    (void)atomic_fetch_sub_explicit(&running_now, 1, NOW);
    atomic_store_explicit(&slots_held[other.slot], false, NOW);
    atomic_store_explicit(&slots_held[interactive.slot], false, NOW);
}

/* ---- random schedules ----------------------------------------------------------------- */

static ucontext_t scheduler, contexts[LOOPS];
static char stacks[LOOPS][256 * 1024];
static unsigned current;
static bool ended[LOOPS], idle[LOOPS];

static void step(void)
{
    if (!threads)
        swapcontext(&contexts[current], &scheduler);
    else if (++steps_here % 64 == 0)
        sched_yield();
}

static void coroutine(void)
{
    struct side *side = &sides[current];

    while (side->finished < REQUESTS) {
        idle[current] = !act(side);
        step();
    }
    /* It may still be asked to pass a wake-up on. */
    ended[current] = true;
    for (;;) {
        if (atomic_exchange_explicit(&side->message, false, NOW))
            queue_woken(&side->queue);
        step();
    }
}

static unsigned long schedule_random;
static unsigned schedule_steps;

static void run_schedule(unsigned long seed)
{
    schedule_random = seed;
    schedule_steps = 0;

    begin(seed, 1 + seed % 3, 1 + seed % 4);
    for (unsigned i = 0; i < LOOPS; i++) {
        ended[i] = idle[i] = false;
        getcontext(&contexts[i]);
        contexts[i].uc_stack.ss_sp = stacks[i];
        contexts[i].uc_stack.ss_size = sizeof stacks[i];
        makecontext(&contexts[i], coroutine, 0);
    }
    while (!(ended[0] && ended[1] && ended[2])) {
        schedule_random = schedule_random * 6364136223846793005ul + 1442695040888963407ul;
        current = (unsigned)(schedule_random >> 40) % LOOPS;
        swapcontext(&scheduler, &contexts[current]);
        if (++schedule_steps > 2'000'000)
            fail_msg("seed %lu: somebody waits for ever", seed);
    }
    check_end();
}

static void test_random_schedules(void **state)
{
    (void)state;
    threads = false;
    for (unsigned long seed = 1; seed <= 3000; seed++)
        run_schedule(seed);
}

/* ---- real threads --------------------------------------------------------------------- */

static void *thread(void *data)
{
    struct side *side = data;
    unsigned long rounds = 0;

    while (side->finished < REQUESTS) {
        act(side);
        if (++rounds % 16 == 0)
            sched_yield();
        if (rounds > 50'000'000)
            return data;
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    threads = true;
    for (unsigned long seed = 1; seed <= 200; seed++) {
        pthread_t ids[LOOPS];
        begin(seed, 1 + seed % 3, 2 + seed % 4);
        for (unsigned i = 0; i < LOOPS; i++)
            pthread_create(&ids[i], NULL, thread, &sides[i]);
        for (unsigned i = 0; i < LOOPS; i++) {
            void *stuck;
            pthread_join(ids[i], &stuck);
            assert_null(stuck);
        }
        check_end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_an_interactive_request_passes_batch_ones_that_wait),
        cmocka_unit_test(test_random_schedules),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
