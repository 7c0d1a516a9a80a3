/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's core in a world of its own (pop_world.h). */
#include "pop/state.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
#include <cmocka.h> /* after the five above */

#include "base/err.h"
#include "contract/ring.h"
#include "pop_world.h"

/* ---- tests ----------------------------------------------------------------------------------- */

static void test_back_off(void **state)
{
    static const struct {
        uint32_t failures;
        int64_t seconds;
    } rows[] = { { 0, 0 },  { 1, 1 },   { 2, 2 },   { 3, 4 },          { 4, 8 },
                 { 5, 10 }, { 20, 10 }, { 21, 60 }, { UINT32_MAX, 60 } };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(pop_back_off_ns(rows[i].failures), rows[i].seconds * ENV_S);
}

static void test_how_one_ended_is_said_once(void **state)
{
    static const struct {
        uint32_t end;
        const char *text, *words;
    } rows[] = {
        { REPLICA_END_STOPPED, "", "stopped" },
        { REPLICA_END_STOPPED, "stopped", "stopped" }, /* the supervisor has nothing to add */
        { REPLICA_END_STOPPED, "Perigee is ending", "stopped: Perigee is ending" },
        { REPLICA_END_NOT_STARTED, "no memory", "could not be started: no memory" },
        { REPLICA_END_ITSELF, "", "exited with code 0 while loading the model" },
        { REPLICA_END_ITSELF, "no such opset",
          "exited with code 0 while loading the model: no such opset" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct message_replica_exited exited = { .end = rows[i].end,
                                                 .phase = PERIGEE_PHASE_LOADING };
        char words[256];
        snprintf(exited.text, sizeof exited.text, "%s", rows[i].text);
        assert_string_equal(pop_exit_words(&exited, words, sizeof words), rows[i].words);
    }
}

static void test_a_new_endpoint_serves(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1, 1, 2, true);
    after(world, 1);
    assert_int_equal(world->starts, 2);
    assert_int_equal(world->living_count, 2);
    assert_int_equal(pop_endpoint_find(&world->pop, 1)->serving, 1);
}

static void test_an_update_moves_traffic_then_drains(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1, 1, 1, true);
    after(world, 1);
    world->load_fails = true; /* the new one never gets ready: no traffic for it */
    endpoint_set(world, 2, 2, 1, true);
    after(world, 30);
    struct pop_endpoint *endpoint = pop_endpoint_find(&world->pop, 1);
    assert_int_equal(endpoint->serving, 1);
    assert_true(pop_revision_number(endpoint, 2)->failed);
    assert_int_equal(world->living_count, 1);
    world->load_fails = false;
    after(world, 60);
    assert_int_equal(endpoint->serving, 2);
    assert_int_equal(world->drains, 1);
    assert_int_equal(world->kills, 1);
    assert_int_equal(world->living_count, 1);
    endpoint_set(world, 1, 2, 1, true); /* and back */
    after(world, 5);
    assert_int_equal(endpoint->serving, 1);
    assert_int_equal(world->living_count, 1);
}

static void test_a_killed_replica_is_replaced_at_once(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1, 1, 1, true);
    after(world, 60);
    exited(world, world->living[0], REPLICA_END_ITSELF, SIGKILL);
    run(world, world->now_ns + ENV_MS);
    assert_int_equal(world->living_count, 1);
    assert_int_equal(world->starts, 2);
    assert_int_equal(pop_endpoint_find(&world->pop, 1)->death_count, 1);
}

/* One after the other: how long it was ready before it died, and when the next one comes. */
static void test_back_off_of_one_that_dies_soon(void **state)
{
    static const struct {
        int64_t ready_s, wait_s;
    } rows[] = { { 1, 0 }, { 1, 1 }, { 1, 2 }, { 9, 4 }, { 11, 0 }, { 1, 0 }, { 1, 1 } };
    struct world *world = *state;
    endpoint_set(world, 1, 1, 1, true);
    run(world, world->now_ns + ENV_MS);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(world->living_count, 1);
        after(world, rows[i].ready_s);
        exited(world, world->living[0], REPLICA_END_ITSELF, SIGKILL);
        int64_t due_ns = world->now_ns + rows[i].wait_s * ENV_S;
        if (rows[i].wait_s)
            run(world, due_ns - ENV_MS);
        assert_int_equal(world->living_count, 0);
        run(world, due_ns + ENV_MS);
    }
    assert_int_equal(world->living_count, 1);
}

/* What was asked for is no death. */
static void test_an_end_that_was_asked_for_is_no_death(void **state)
{
    static const struct {
        uint32_t end, deaths;
    } rows[] = {
        { REPLICA_END_STOPPED, 0 }, { REPLICA_END_UNWANTED, 0 }, { REPLICA_END_ITSELF, 1 },
        { REPLICA_END_TIMEOUT, 1 }, { REPLICA_END_LIED, 1 },     { REPLICA_END_MEMORY, 1 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct world *world = *state;
        struct pop_endpoint *endpoint;
        endpoint_set(world, 1, 1, 1, true);
        after(world, 60);
        endpoint = pop_endpoint_find(&world->pop, 1);
        exited(world, world->living[0], rows[i].end, SIGKILL);
        assert_int_equal(endpoint->death_count, rows[i].deaths);
        assert_int_equal(endpoint->exits, rows[i].deaths);
        world_free(state);
        world_new(state);
    }
}

static void test_the_last_deaths_are_kept(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1, 1, 1, true);
    struct pop_endpoint *endpoint = pop_endpoint_find(&world->pop, 1);
    int64_t died_ns[POP_DEATHS_MAX + 2];
    for (size_t i = 0; i < POP_DEATHS_MAX + 2; i++) {
        after(world, 60);
        died_ns[i] = world->now_ns;
        exited(world, world->living[0], REPLICA_END_ITSELF, SIGKILL);
    }
    assert_int_equal(endpoint->death_count, POP_DEATHS_MAX);
    for (size_t i = 0; i < POP_DEATHS_MAX; i++)
        assert_int_equal(endpoint->deaths[i].wall_ns, died_ns[i + 2]);
}

/* Of what it wrote, the last is kept. */
static void test_a_death_has_its_last_words(void **state)
{
    enum { PIECES = POP_LOG_BYTES / MESSAGE_LOG_BYTES + 2 };
    struct world *world = *state;
    endpoint_set(world, 1, 1, 1, true);
    after(world, 1);
    struct message_replica_log piece = { .replica = world->living[0] };
    for (int i = 0; i < PIECES; i++) {
        piece.bytes = i ? MESSAGE_LOG_BYTES : 1; /* so that no piece begins where the ring does */
        memset(piece.data, 'a' + i, sizeof piece.data);
        pop_replica_log(&world->pop, &piece);
    }
    exited(world, world->living[0], REPLICA_END_ITSELF, SIGKILL);
    const char *log = pop_endpoint_find(&world->pop, 1)->deaths[0].log;
    assert_int_equal(strlen(log), POP_LOG_BYTES);
    assert_true(log[0] == 'a' + 2 && log[POP_LOG_BYTES - 1] == 'a' + PIECES - 1);
}

/* The nth replica of a revision, from 0. */
static struct pop_replica *replica_nth(struct world *world, uint32_t number, unsigned nth)
{
    struct pop_revision *revision = pop_revision_number(pop_endpoint_find(&world->pop, 1), number);
    struct pop_replica *replica;
    LIST_EACH (replica, &revision->replicas, struct pop_replica, link)
        if (nth-- == 0)
            return replica;
    fail_msg("revision %u has no such replica", number);
    return NULL;
}

static void test_traffic_waits_for_as_many_as_serve(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1, 1, 2, true);
    after(world, 1);
    world->hangs = true; /* until the test says that they are ready */
    endpoint_set(world, 2, 2, 2, true);
    after(world, 1);
    assert_int_equal(world->living_count, 4);
    ready(world, replica_nth(world, 2, 0)->id);
    after(world, 1);
    assert_int_equal(pop_endpoint_find(&world->pop, 1)->serving, 1);
    ready(world, replica_nth(world, 2, 1)->id);
    after(world, 1);
    assert_int_equal(pop_endpoint_find(&world->pop, 1)->serving, 2);
}

static void test_after_a_failure_one_is_tried_alone(void **state)
{
    struct world *world = *state;
    world->load_fails = true;
    endpoint_set(world, 1, 1, 3, true);
    run(world, world->now_ns + ENV_MS);
    assert_int_equal(world->starts, 3);
    after(world, 5); /* after three failures the next is in 4 s */
    assert_int_equal(world->starts, 4);
    world->load_fails = false;
    after(world, 20);
    assert_int_equal(world->living_count, 3);
}

/* Of two, by whether the first and the second are ready: which one ends. */
static void test_who_serves_least_ends_first(void **state)
{
    static const struct {
        bool ready[2];
        unsigned ends;
    } rows[] = { { { true, true }, 1 }, { { true, false }, 1 }, { { false, true }, 0 } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct world *world = *state;
        world->hangs = true;
        endpoint_set(world, 1, 1, 2, true);
        after(world, 1);
        for (unsigned nth = 0; nth < 2; nth++)
            if (rows[i].ready[nth])
                ready(world, replica_nth(world, 1, nth)->id);
        world->hangs = false;
        endpoint_set(world, 1, 1, 1, true);
        pop_reconcile(&world->pop);
        for (unsigned nth = 0; nth < 2; nth++) {
            const struct pop_replica *replica = replica_nth(world, 1, nth);
            bool ends = replica->kill_sent || replica->state == POP_REPLICA_DRAINING;
            assert_int_equal(ends, nth == rows[i].ends);
        }
        world_free(state);
        world_new(state);
    }
}

/* Keys of a newer control's spec: the last two say where a request may go, and are no detail. */
static void test_a_residency_that_is_not_known_is_not_served(void **state)
{
    static const char *const rows[] = { "", ",\"novelty\":1", ",\"residency\":[\"EU\"]",
                                        ",\"regions\":[\"EU\"]" };
    for (size_t i = 0; i < 4; i++) {
        struct world *world = *state;
        spec_more = rows[i];
        endpoint_set(world, 1, 1, 1, true);
        after(world, 1);
        assert_int_equal(world->living_count, i < 2);
        world_free(state);
        world_new(state);
    }
    spec_more = "";
}

static void test_stop_start_delete(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1, 1, 3, true);
    after(world, 1);
    endpoint_set(world, 1, 1, 3, false);
    after(world, 1);
    assert_int_equal(world->living_count, 0);
    endpoint_set(world, 1, 1, 3, true);
    after(world, 1);
    assert_int_equal(world->living_count, 3);
    pop_endpoint_gone(&world->pop, 1);
    after(world, 1);
    assert_int_equal(world->living_count, 0);
    assert_null(pop_endpoint_find(&world->pop, 1));
}

/* Control may not take it for gone while a loop of the gateway serves it. */
static void test_one_that_is_deleted_is_there_until_no_gateway_serves_it(void **state)
{
    struct world *world = *state;
    for (int gateway = 0; gateway < 2; gateway++) {
        uint64_t number = gateway ? 10 : 20;
        endpoint_set(world, 1, 1, 1, true);
        after(world, 1);
        pop_table_shown(&world->pop, number);
        pop_table_served(&world->pop, number);
        pop_endpoint_gone(&world->pop, 1);
        pop_table_shown(&world->pop, number + 1);
        after(world, 1);
        assert_int_equal(world->living_count, 0);
        assert_non_null(pop_endpoint_find(&world->pop, 1));
        assert_int_equal(pop_endpoint_served(pop_endpoint_find(&world->pop, 1)), 1);
        if (gateway)
            pop_table_served(&world->pop, number + 1);
        else
            pop_gateway_changed(&world->pop, false);
        after(world, 1);
        assert_null(pop_endpoint_find(&world->pop, 1));
        pop_gateway_changed(&world->pop, true);
    }
}

static void test_a_drain_that_never_ends_is_cut(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1, 1, 1, true);
    after(world, 1);
    world->drains_never = true;
    endpoint_set(world, 1, 1, 1, false);
    after(world, 30);
    assert_int_equal(world->living_count, 1);
    after(world, 60); /* timeout is 60 s, and 2 of grace */
    assert_int_equal(world->living_count, 0);
}

static void test_a_new_gateway_is_told_to_drain(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1, 1, 1, true);
    after(world, 1);
    world->drains_never = true;
    endpoint_set(world, 1, 1, 1, false);
    after(world, 1);
    assert_int_equal(world->drains, 1);
    pop_gateway_changed(&world->pop, true);
    assert_int_equal(world->drains, 2);
    world->drains_never = false;
    after(world, 1);
    assert_int_equal(world->living_count, 0);
}

/* The agent before this one had it drained: it looks ready, and gets nothing. */
static void test_what_the_gateway_drained_is_replaced(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 1, 1, 1, true);
    after(world, 1);
    uint64_t before = world->living[0];
    pop_replica_drained(&world->pop, before);
    after(world, 1);
    assert_int_equal(world->starts, 2);
    assert_int_equal(world->living_count, 1);
    assert_int_not_equal(world->living[0], before);
}

static void test_a_start_that_hangs_is_cut(void **state)
{
    struct world *world = *state;
    world->hangs = true;
    endpoint_set(world, 1, 1, 1, true);
    after(world, 299);
    assert_int_equal(world->kills, 0);
    after(world, 2); /* queue.cold is 5 minutes */
    assert_int_equal(world->kills, 1);
    assert_int_equal(world->failures, 1);
}

/* It says that it is ready, and ends before the supervisor's word that its walls stand. */
static void test_ended_after_its_own_word_only(void **state)
{
    static const struct {
        uint32_t end;
        unsigned failures;
    } rows[] = {
        { REPLICA_END_ITSELF, 0 }, { REPLICA_END_NOT_STARTED, 1 }, /* by who looked at its walls */
    };
    struct world *world = *state;
    world->hangs = true;
    endpoint_set(world, 1, 1, 1, true);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        after(world, 10);
        assert_int_equal(world->living_count, 1);
        struct message_replica_exited message = {
            .replica = world->living[--world->living_count],
            .end = rows[i].end,
            .wait_status = SIGKILL,
            .phase = PERIGEE_PHASE_READY,
        };
        pop_replica_exited(&world->pop, &message);
        assert_int_equal(world->failures, rows[i].failures);
    }
}

static void test_a_revision_asked_for_by_number(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 2, 2, 1, true);
    after(world, 1);
    assert_int_equal(world->living_count, 1);
    struct message_demand demand = { .revision = 1u << 24 | 1, .waiting = 1 };
    pop_demand(&world->pop, &demand);
    after(world, 100);
    assert_int_equal(world->living_count, 2);
    after(world, 30); /* 120 s after it was last asked for */
    assert_int_equal(world->living_count, 1);
}

static void added(struct world *world, uint64_t id, uint64_t revision)
{
    struct message_replica_added message = { .replica = id, .revision = revision };
    snprintf(message.name, sizeof message.name, "digits-%u", (unsigned)id);
    world->living[world->living_count++] = id;
    pop_replica_added(&world->pop, &message);
}

/* Clients name its version, and have not said so to this agent yet. */
static void test_what_was_asked_for_by_number_outlives_the_agent(void **state)
{
    struct world *world = *state;
    endpoint_set(world, 2, 2, 1, true);
    added(world, 3, 1u << 24 | 1);
    added(world, 4, 1u << 24 | 2);
    ready(world, 3);
    ready(world, 4);
    after(world, 9);
    assert_int_equal(world->living_count, 2);
    struct message_demand demand = { .revision = 1u << 24 | 1, .waiting = 1 };
    pop_demand(&world->pop, &demand);
    after(world, 100);
    assert_int_equal(world->living_count, 2);
    added(world, 5, 1u << 24 | 1); /* nobody asks any more: but for a while it stays */
    ready(world, 5);
    after(world, 30);
    assert_int_equal(world->living_count, 1);
    added(world, 6, 1u << 24 | 1);
    endpoint_set(world, 2, 2, 1, false); /* stopped is stopped */
    after(world, 5);
    assert_int_equal(world->living_count, 0);
}

/* Desired state is on disk, and a gateway is there: but what runs has not been told yet. */
static void test_nothing_is_started_before_all_is_told(void **state)
{
    struct world *world = *state;
    world->pop.hearing = true;
    endpoint_set(world, 1, 1, 2, true);
    pop_gateway_changed(&world->pop, true);
    after(world, 1);
    assert_int_equal(world->starts, 0);
    added(world, 3, 1u << 24 | 1);
    world->pop.hearing = false;
    pop_reconcile_soon(&world->pop);
    after(world, 5);
    assert_int_equal(world->starts, 1);
}

/* Desired state on disk cannot be read: what runs is somebody's, until control has said whose. */
static void test_strangers_live_until_control_has_spoken(void **state)
{
    struct world *world = *state;
    struct pop *pop = &world->pop;
    added(world, 3, 1u << 24 | 1);
    added(world, 4, 1u << 24 | 1);
    added(world, 5, 9u << 24 | 1);
    added(world, 6, 9u << 24 | 1);
    pop_replica_drained(pop, 3); /* for the agent before */
    exited(world, 6, REPLICA_END_ITSELF, SIGSEGV);
    pop_alone(pop); /* control is away, and nothing is known: nothing is done */
    after(world, 60);
    assert_int_equal(world->unwanted + world->kills + world->starts, 0);
    endpoint_set(world, 1, 1, 1, true);
    assert_int_equal(world->looks, 2);
    pop_sync(pop, (uint64_t[]){ 1 }, 1);
    assert_int_equal(world->unwanted, 1);
    ready(world, 3);
    ready(world, 4);
    after(world, 1);
    assert_int_equal(world->starts, 0);
    assert_int_equal(world->kills, 1); /* the one that the gateway gives nothing any more */
    assert_int_equal(pop_endpoint_find(pop, 1)->serving, 1);
    assert_null(map_get_u64(&pop->replicas_by_id, 3));
    assert_non_null(map_get_u64(&pop->replicas_by_id, 4));
    added(world, 7, 8u << 24 | 1); /* from now on a stranger is nobody's */
    assert_int_equal(world->unwanted, 2);
}

/* What was saved is older than what runs: nothing is stopped, drained or told to the gateway by it
 * until control has spoken, or does not answer. */
static void test_arenas_of_deleted_revisions_are_given_up(void **state)
{
    struct world *world = *state;
    struct pop *pop = &world->pop;
    enum { UNKNOWN = 77 << 24 | 1 };
    endpoint_set(world, 1, 1, 1, true);
    pop_arena_kept(pop, 1u << 24 | 1);
    pop_arena_kept(pop, UNKNOWN); /* control may know of it */
    assert_int_equal(world->gone, 0);
    pop_sync(pop, (uint64_t[]){ 1 }, 1);
    assert_int_equal(world->gone, 1);
    assert_int_equal(world->gone_last, UNKNOWN);
    pop_arena_kept(pop, UNKNOWN); /* made again for a late request */
    assert_int_equal(world->gone, 2);
    pop_endpoint_gone(pop, 1);
    after(world, 10);
    assert_int_equal(world->gone_last, 1u << 24 | 1);
}

static void test_an_old_state_starts_and_stops_nothing(void **state)
{
    struct world *world = *state;
    struct pop *pop = &world->pop;
    for (int alone = 0; alone < 2; alone++) {
        endpoint_set(world, 1, 1, 1, true); /* as it was on disk: one replica */
        pop->begun = true;
        pop->sure = false;
        for (unsigned id = 1; id <= 3 && !alone; id++) {
            added(world, id, 1u << 24 | 1);
            ready(world, id);
        }
        after(world, 5);
        assert_int_equal(world->living_count, 3);
        assert_int_equal(world->starts + world->kills + world->drains, 0);
        if (alone)
            break;
        endpoint_set(world, 1, 1, 3, true); /* control wants the three that run */
        pop_sync(pop, (uint64_t[]){ 1 }, 1);
        after(world, 5);
        assert_int_equal(world->starts + world->kills + world->drains, 0);
    }
    pop_alone(pop);
    after(world, 5);
    assert_int_equal(world->living_count, 1);
    assert_int_equal(world->drains, 2);
}

/* Crashes at random, a control that changes its mind, starts that are refused: after each settling
 * the bounds hold, and once all is quiet it is as wanted. */
static void test_a_day(void **state)
{
    struct world *world = *state;
    uint64_t seed = 42;
    unsigned crashes = 0;
    endpoint_set(world, 1, 3, 2, true);
    int64_t end_ns = world->now_ns + 24 * 3600 * ENV_S;
    while (world->now_ns < end_ns) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        unsigned dice = (unsigned)(seed >> 33);
        after(world, 1 + dice % 120);
        assert_true(world->living_count <= 4);
        switch (dice >> 8 & 7) {
        case 0:
            endpoint_set(world, 1 + (dice >> 12) % 3, 3, 2, (dice >> 16 & 7) != 0);
            break;
        case 1:
            world->load_fails = !world->load_fails;
            break;
        case 2:
            world->refuse = !world->refuse;
            break;
        default:
            if (world->living_count) {
                exited(world, world->living[dice % world->living_count], REPLICA_END_ITSELF,
                       SIGSEGV);
                crashes++;
            }
        }
    }
    world->refuse = world->load_fails = false;
    endpoint_set(world, 3, 3, 2, true);
    after(world, 300);
    assert_int_equal(world->living_count, 2);
    assert_int_equal(pop_endpoint_find(&world->pop, 1)->serving, 3);
    print_message("  %u crashes, %u starts\n", crashes, world->starts);
    assert_true(crashes > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_back_off),
        cmocka_unit_test(test_how_one_ended_is_said_once),
#define WORLD(test) cmocka_unit_test_setup_teardown(test, world_new, world_free)
        WORLD(test_a_new_endpoint_serves),
        WORLD(test_an_update_moves_traffic_then_drains),
        WORLD(test_a_killed_replica_is_replaced_at_once),
        WORLD(test_back_off_of_one_that_dies_soon),
        WORLD(test_an_end_that_was_asked_for_is_no_death),
        WORLD(test_the_last_deaths_are_kept),
        WORLD(test_a_death_has_its_last_words),
        WORLD(test_traffic_waits_for_as_many_as_serve),
        WORLD(test_after_a_failure_one_is_tried_alone),
        WORLD(test_who_serves_least_ends_first),
        WORLD(test_a_residency_that_is_not_known_is_not_served),
        WORLD(test_stop_start_delete),
        WORLD(test_one_that_is_deleted_is_there_until_no_gateway_serves_it),
        WORLD(test_a_drain_that_never_ends_is_cut),
        WORLD(test_a_new_gateway_is_told_to_drain),
        WORLD(test_what_the_gateway_drained_is_replaced),
        WORLD(test_a_start_that_hangs_is_cut),
        WORLD(test_ended_after_its_own_word_only),
        WORLD(test_a_revision_asked_for_by_number),
        WORLD(test_what_was_asked_for_by_number_outlives_the_agent),
        WORLD(test_nothing_is_started_before_all_is_told),
        cmocka_unit_test_setup_teardown(test_strangers_live_until_control_has_spoken,
                                        world_new_bare, world_free),
        cmocka_unit_test_setup_teardown(test_arenas_of_deleted_revisions_are_given_up,
                                        world_new_bare, world_free),
        cmocka_unit_test_setup_teardown(test_an_old_state_starts_and_stops_nothing, world_new_bare,
                                        world_free),
        WORLD(test_a_day),
    };
    return cmocka_run_group_tests_name("pop", tests, NULL, NULL);
}
