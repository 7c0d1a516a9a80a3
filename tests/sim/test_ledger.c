/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PoP's meter and ledger in a world made from a seed, and a control that counts as the real one
 * does. For an hour replicas come and go, the agent is killed at any time, writes fail and are cut,
 * the wall clock jumps, control is away, is set back, or its answers are lost; once in a while the
 * supervisor is killed as well. What control has counted is never more than was used; afterwards,
 * in peace, it is all of it, but for what a killed supervisor took along.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/log.h"
#include "pop/ledger.h"
#include "pop/meter.h"
#include "sim/world.h"

#define UID(endpoint) ((uint64_t)(endpoint) << LEDGER_REVISION_BITS | 1)

enum { SEEDS = 40, CHAOS_S = 3600, REPLICAS = 6, ENDPOINTS = 3, WINDOW_S = 10 };

struct sim_replica { /* as the kernel has it */
    uint64_t id, endpoint, cpu_us;
    bool lives, told; /* the agent that is there knows of it */
    bool metered;     /* an agent has said that it is on disk */
};

struct count { /* what control has */
    uint64_t last;
    struct ledger_check check;
    struct ledger_id id;
};

struct scene {
    struct world *world;
    struct env *env;
    struct meter meter;
    struct ledger ledger;
    struct sim_replica replicas[4096]; /* all that ever were */
    size_t replica_count, first;       /* those before `first` are of no interest any more */
    uint64_t requests[ENDPOINTS + 1];
    uint64_t era, before[ENDPOINTS + 1]; /* requests when it began */
    bool agent, control, over;           /* over: nothing is used any more */
    int64_t window_s;
    struct figures counted[ENDPOINTS + 1];
    uint64_t cpu_lost; /* taken along by supervisors that were killed */
    struct count known[64];
    size_t known_count;
    bool whole; /* no supervisor was killed, no disk set back */
};

static int64_t chance(struct scene *s, int64_t most) /* 0 to most - 1 */
{
    return (int64_t)(env_random_u64(s->env) % (uint64_t)most);
}

/* ---- control --------------------------------------------------------------------------------- */

static struct count *count_of(struct scene *s, const struct ledger_id *id)
{
    for (size_t i = 0; i < s->known_count; i++)
        if (memcmp(&s->known[i].id, id, sizeof *id) == 0)
            return &s->known[i];
    assert_true(s->known_count < 64);
    s->known[s->known_count].id = *id;
    return &s->known[s->known_count++];
}

static struct count control_counts(struct scene *s, struct slice sent)
{
    struct arena *arena = arena_new();
    struct ledger_reader reader;
    struct ledger_record head, window;
    ledger_read(&reader, sent, true);
    assert_int_equal(ledger_next(&reader, arena, &head, NULL), 1);
    assert_int_equal(head.type, LEDGER_FILE);
    struct count *count = count_of(s, &head.id);
    if (head.last == count->last && ledger_check_equal(&head.counted, &count->check)) {
        while (ledger_next(&reader, arena, &window, NULL) == 1) {
            assert_true(window.first > count->last);
            for (uint32_t i = 0; i < window.row_count; i++)
                figures_add(&s->counted[window.rows[i].endpoint], &window.rows[i].figures);
            count->last = window.last;
            count->check = window.check;
        }
    }
    struct count answer = *count;
    arena_free(arena);
    return answer;
}

static void send(struct scene *s)
{
    struct arena *arena = arena_new();
    struct slice bytes;
    if (s->agent && s->control && ledger_to_send(&s->ledger, arena, &bytes)) {
        struct count answer = control_counts(s, bytes);
        if (chance(s, 4) == 0) /* it comes a second time */
            answer = control_counts(s, bytes);
        if (chance(s, 4)) /* else the answer is lost */
            ledger_counted(&s->ledger, answer.last, &answer.check);
    }
    arena_free(arena);
}

/* ---- the agent ------------------------------------------------------------------------------- */

static void on_kept(void *data)
{
    struct scene *s = data;
    for (size_t i = s->first; ledger_kept(&s->ledger) && i < s->replica_count; i++) {
        struct sim_replica *r = &s->replicas[i];
        if (!r->lives && r->told && !r->metered) {
            /* Its end is in a window if one was taken since: so it is here, each second has one. */
            r->metered = true;
            meter_forget(&s->meter, r->id);
        }
    }
}

static void look(struct scene *s)
{
    int64_t now_ms = env_now_ns(s->env) / ENV_MS;
    for (uint64_t e = 1; e <= ENDPOINTS; e++) {
        const struct ledger_counter_mark totals = { UID(e), s->requests[e] - s->before[e], 0, 0,
                                                    0 };
        meter_counts(&s->meter, &totals, false);
    }
    for (size_t i = s->first; i < s->replica_count; i++) {
        const struct sim_replica *r = &s->replicas[i];
        const struct meter_use use = { r->cpu_us, 1000, chance(s, 3) == 0 };
        if (r->lives)
            meter_look(&s->meter, r->id, &use, now_ms);
    }
    meter_second(&s->meter);
}

static void window(struct scene *s)
{
    struct arena *arena = arena_new();
    struct ledger_record record = {};
    if (meter_window(&s->meter, arena, &record)) {
        int64_t wall_ms = env_wall_ns(s->env) / ENV_MS;
        record.begin_ms = wall_ms > 0 ? wall_ms : 0;
        record.length_ms = 1000;
        ledger_keep(&s->ledger, &record, s->control);
    }
    arena_free(arena);
}

static void agent_begins(struct scene *s)
{
    struct arena *arena = arena_new();
    struct ledger_marks marks;
    bool found;
    int64_t now_ms = env_now_ns(s->env) / ENV_MS;
    ledger_open(&s->ledger, s->env, "/ledger", "paris", arena, &marks, &found);
    s->ledger.on_kept = on_kept;
    s->ledger.data = s;
    meter_init(&s->meter, s->era);
    if (found)
        meter_restore(&s->meter, &marks);
    arena_free(arena);
    s->agent = true;
    for (size_t i = s->first; i < s->replica_count; i++) {
        struct sim_replica *r = &s->replicas[i];
        r->told = r->lives || !r->metered;
        if (r->lives)
            meter_replica(&s->meter, r->id, UID(r->endpoint), 2000, !found, 0, now_ms);
        else if (!r->metered && !meter_ended(&s->meter, r->id, UID(r->endpoint), r->cpu_us, now_ms))
            r->metered = true;
    }
    meter_forget_untold(&s->meter);
    window(s); /* with the ends that were told */
}

static void agent_dies(struct scene *s)
{
    if (!s->agent)
        return;
    s->agent = false;
    world_saves_lose(s->world);
    ledger_close(&s->ledger);
    meter_deinit(&s->meter);
}

/* ---- what happens ---------------------------------------------------------------------------- */

static void replica_starts(struct scene *s)
{
    if (!s->agent || s->replica_count == 4096)
        return;
    struct sim_replica *r = &s->replicas[s->replica_count++];
    *r = (struct sim_replica){ .id = s->replica_count,
                               .endpoint = 1 + (uint64_t)chance(s, ENDPOINTS),
                               .lives = true,
                               .told = true };
    meter_replica(&s->meter, r->id, UID(r->endpoint), 2000, true, 0, env_now_ns(s->env) / ENV_MS);
    if (chance(s, 2))
        meter_ready(&s->meter, r->id);
}

static void replica_ends(struct scene *s)
{
    size_t at = s->first + (size_t)chance(s, (int64_t)(s->replica_count - s->first) + 1);
    if (at >= s->replica_count || !s->replicas[at].lives)
        return;
    struct sim_replica *r = &s->replicas[at];
    r->lives = false;
    r->cpu_us += 77;
    r->told = s->agent;
    if (s->agent &&
        meter_ended(&s->meter, r->id, UID(r->endpoint), r->cpu_us, env_now_ns(s->env) / ENV_MS))
        window(s); /* before anything is on disk that does not have it */
}

static void supervisor_dies(struct scene *s)
{
    agent_dies(s);
    s->whole = false;
    s->first = s->replica_count; /* all gone, and nobody tells */
    s->era++;
    memcpy(s->before, s->requests, sizeof s->before);
}

static void work(struct scene *s)
{
    for (size_t i = s->first; i < s->replica_count; i++)
        if (s->replicas[i].lives)
            s->replicas[i].cpu_us += (uint64_t)chance(s, 900'000);
    for (uint64_t e = 1; e <= ENDPOINTS; e++)
        s->requests[e] += s->over ? 0 : (uint64_t)chance(s, 20);
}

static struct figures used(const struct scene *s, uint64_t endpoint)
{
    struct figures sum = { .requests = s->requests[endpoint] };
    for (size_t i = 0; i < s->replica_count; i++)
        if (s->replicas[i].endpoint == endpoint)
            sum.cpu_us += s->replicas[i].cpu_us;
    return sum;
}

static void never_more(const struct scene *s)
{
    for (uint64_t e = 1; e <= ENDPOINTS; e++) {
        struct figures truth = used(s, e);
        assert_true(s->counted[e].cpu_us <= truth.cpu_us);
        assert_true(s->counted[e].requests <= truth.requests);
        assert_true(figures_right(&s->counted[e]));
    }
}

static void second(struct scene *s, bool chaos)
{
    world_run(s->world, ENV_S);
    work(s);
    if (chaos) {
        if (chance(s, 60) == 0)
            agent_dies(s);
        if (chance(s, 2000) == 0)
            supervisor_dies(s);
        if (chance(s, 100) == 0)
            s->control = !s->control;
        if (chance(s, 300) == 0)
            world_wall_jump(s->world, (chance(s, 3) - 1) * 7000 * ENV_S);
        if (chance(s, 200) == 0)
            world_fail_often(s->world, WORLD_FILE_SAVE, 500'000);
        if (chance(s, 50) == 0)
            world_fail_often(s->world, WORLD_FILE_SAVE, 0);
        if (chance(s, 20) == 0)
            replica_ends(s);
    }
    if (!s->agent && chance(s, 3) == 0)
        agent_begins(s);
    if (!s->agent)
        return;
    size_t alive = 0;
    for (size_t i = s->first; i < s->replica_count; i++)
        alive += s->replicas[i].lives;
    if (!s->over && alive < REPLICAS && chance(s, 10) == 0)
        replica_starts(s);
    look(s);
    if (++s->window_s % WINDOW_S == 0)
        window(s);
    send(s);
    never_more(s);
}

static void run(uint64_t seed)
{
    struct scene *s = calloc(1, sizeof *s);
    s->world = world_new(seed);
    s->env = world_env(s->world);
    s->control = s->whole = true;
    s->era = 1;
    world_wall_jump(s->world, 1'700'000'000 * ENV_S);
    agent_begins(s);
    for (int i = 0; i < CHAOS_S; i++)
        second(s, i > 5); /* the first head is on disk */
    world_fail_often(s->world, WORLD_FILE_SAVE, 0);
    s->control = true;
    for (int i = 0; i < 900; i++) {
        second(s, false);
        s->over = i >= 800;
        for (size_t k = s->first; s->over && k < s->replica_count; k++)
            while (s->replicas[k].lives)
                replica_ends(s);
    }
    assert_int_equal(s->ledger.window_count, 0);
    for (uint64_t e = 1; e <= ENDPOINTS; e++) {
        struct figures truth = used(s, e);
        if (s->whole && s->counted[e].cpu_us != truth.cpu_us)
            fail_msg("seed %llu: endpoint %llu: %llu us counted, %llu used",
                     (unsigned long long)seed, (unsigned long long)e,
                     (unsigned long long)s->counted[e].cpu_us, (unsigned long long)truth.cpu_us);
        if (s->whole)
            assert_int_equal(s->counted[e].requests, truth.requests);
        /* A supervisor that was killed takes a window of six replicas along, at most. */
        assert_true(s->counted[e].cpu_us + 40 * REPLICAS * UINT64_C(900'000) * WINDOW_S >=
                    truth.cpu_us);
    }
    agent_dies(s);
    world_free(s->world);
    free(s);
}

static void test_counted_once(void **state)
{
    const char *one = getenv("PERIGEE_SIM_SEED"), *many = getenv("PERIGEE_SIM_SEEDS");
    (void)state;
    if (one) {
        run(strtoull(one, NULL, 10));
        return;
    }
    uint64_t seeds = many ? strtoull(many, NULL, 10) : SEEDS;
    for (uint64_t seed = 1; seed <= seeds; seed++)
        run(seed);
}

/* ---- one at a time --------------------------------------------------------------------------- */

static struct ledger_row row = { 1, 1, { .requests = 1, .cpu_us = 10 } };

static void keep(struct ledger *ledger, int64_t begin_ms, bool offer)
{
    struct ledger_record record = {
        .begin_ms = begin_ms, .length_ms = 1000, .rows = &row, .row_count = 1
    };
    ledger_keep(ledger, &record, offer);
}

static bool opened(struct world *world, struct ledger *ledger, const char *pop)
{
    struct arena *arena = arena_new();
    struct ledger_marks marks;
    bool found;
    ledger_open(ledger, world_env(world), "/ledger", pop, arena, &marks, &found);
    arena_free(arena);
    world_run(world, ENV_S);
    return found;
}

/* Requests that are in the windows that are kept. */
static uint64_t requests_kept(const struct ledger *ledger)
{
    struct ledger_window *window;
    uint64_t sum = 0;
    LIST_EACH (window, &ledger->windows, struct ledger_window, link) {
        struct arena *arena = arena_new();
        struct ledger_reader reader;
        struct ledger_record record;
        ledger_read(&reader, (struct slice){ window->bytes, window->size }, true);
        assert_int_equal(ledger_next(&reader, arena, &record, NULL), 1);
        for (uint32_t i = 0; i < record.row_count; i++)
            sum += record.rows[i].figures.requests;
        arena_free(arena);
    }
    return sum;
}

/* Months without control: the ledger stays within its bound, and nothing is left out of it. */
static void test_bounded_without_control(void **state)
{
    struct world *world = world_new(1);
    struct ledger ledger;
    (void)state;
    assert_false(opened(world, &ledger, "paris"));
    keep(&ledger, 0, true); /* control may have that one */
    for (int i = 1; i < 22'000; i++) {
        keep(&ledger, 60'000 * (int64_t)i, false);
        world_run(world, 10 * ENV_MS);
        assert_true(ledger.window_bytes <= LEDGER_KEPT_BYTES);
    }
    assert_true(ledger.merged > 0);
    assert_int_equal(requests_kept(&ledger), 22'000);
    const struct ledger_window *first = LIST_FIRST(&ledger.windows, struct ledger_window, link);
    assert_int_equal(first->first, 1);
    assert_int_equal(first->last, 1);
    world_run(world, ENV_S);
    assert_true(ledger_kept(&ledger));
    assert_true(ledger.file_bytes < 2 * LEDGER_KEPT_BYTES + LEDGER_FILE_BYTES);
    ledger_close(&ledger);
    assert_true(opened(world, &ledger, "paris"));
    assert_int_equal(requests_kept(&ledger), 22'000);
    assert_int_equal(world_files(world), 1);
    ledger_close(&ledger);
    world_free(world);
}

static const char file[] = "/ledger/0000000001.ledger";

static struct slice file_bytes(struct world *world, struct arena *arena, const char *path)
{
    struct slice bytes = {};
    (void)!env_file_read(world_env(world), path, 1 << 20, arena, &bytes, NULL);
    return bytes;
}

/* Cut anywhere it goes on behind the last whole window; what is written then is whole. */
static void test_cut_and_flipped(void **state)
{
    struct world *world = world_new(2);
    struct ledger ledger;
    struct arena *arena = arena_new();
    (void)state;
    (void)opened(world, &ledger, "paris");
    for (int i = 0; i < 4; i++)
        keep(&ledger, 1000 * i, true);
    world_run(world, ENV_S);
    ledger_close(&ledger);
    struct slice whole = file_bytes(world, arena, file);
    assert_true(whole.size > 4 * sizeof row);
    for (size_t cut = 0; cut < whole.size; cut += 4) {
        world_free(world);
        world = world_new(3);
        world_folder_make(world, "/ledger");
        world_file_set(world, file, (struct slice){ whole.data, cut });
        (void)opened(world, &ledger, "paris");
        uint64_t before = requests_kept(&ledger);
        assert_true(before <= 4 && ledger.window_count == before);
        keep(&ledger, 5000, true);
        world_run(world, ENV_S);
        ledger_close(&ledger);
        (void)opened(world, &ledger, "paris");
        assert_int_equal(requests_kept(&ledger), before + 1);
        ledger_close(&ledger);
    }
    for (size_t at = 0; at < whole.size; at += 3) {
        char *copy = (char *)(uintptr_t)arena_copy(arena, whole).data;
        copy[at] ^= 0x10;
        world_free(world);
        world = world_new(3);
        world_folder_make(world, "/ledger");
        world_file_set(world, file, (struct slice){ copy, whole.size });
        (void)opened(world, &ledger, "paris");
        assert_true(requests_kept(&ledger) >= 3); /* the others stay */
        ledger_close(&ledger);
        (void)opened(world, &ledger, "paris"); /* mended */
        assert_true(requests_kept(&ledger) >= 3);
        ledger_close(&ledger);
    }
    world_free(world);
    arena_free(arena);
}

/* One that the disk does not give stays, however often an agent begins after that. */
static void test_not_readable(void **state)
{
    struct world *world = world_new(4);
    struct ledger ledger;
    struct arena *arena = arena_new();
    (void)state;
    (void)opened(world, &ledger, "paris");
    keep(&ledger, 1000, true);
    world_run(world, ENV_S);
    ledger_close(&ledger);
    struct slice before = file_bytes(world, arena, file);
    world_fail(world, WORLD_FILE_READ, 1);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(opened(world, &ledger, "paris"), i > 0);
        assert_int_equal(requests_kept(&ledger), i);
        keep(&ledger, 2000 + i * 1000, true);
        world_run(world, ENV_S);
        ledger_close(&ledger);
        assert_true(slice_equal(file_bytes(world, arena, file), before));
        assert_int_equal(world_files(world), 2);
    }
    arena_free(arena);
    world_free(world);
}

/* While nobody knows what is in the folder nothing is written there; what came meanwhile goes
 * behind what is found. */
static void test_not_listed(void **state)
{
    static const enum world_fault faults[] = { WORLD_FILE_LIST, WORLD_FOLDER_MAKE };
    (void)state;
    for (size_t k = 0; k < 2; k++)
        for (uint64_t meanwhile = 0; meanwhile < 4; meanwhile += 3) {
            struct world *world = world_new(4);
            struct ledger ledger;
            struct arena *arena = arena_new();
            (void)opened(world, &ledger, "paris");
            keep(&ledger, 1000, true);
            world_run(world, ENV_S);
            struct ledger_id id = ledger.id;
            ledger_close(&ledger);
            struct slice before = file_bytes(world, arena, file);
            world_fail_often(world, faults[k], 1'000'000);
            assert_false(opened(world, &ledger, "paris"));
            for (uint64_t i = 0; i < meanwhile; i++)
                keep(&ledger, 2000 + 1000 * (int64_t)i, true);
            world_run(world, 5 * ENV_S);
            struct slice none;
            assert_false(ledger_to_send(&ledger, arena, &none));
            assert_int_equal(ledger.window_count, meanwhile);
            assert_int_equal(ledger_kept(&ledger), meanwhile == 0);
            assert_true(slice_equal(file_bytes(world, arena, file), before));
            assert_int_equal(world_files(world), 1);
            world_fail_often(world, faults[k], 0);
            world_run(world, 3 * ENV_S);
            for (unsigned i = 0; i < 2; i++) {
                assert_memory_equal(&id, &ledger.id, sizeof id);
                assert_int_equal(ledger.window_count, 1 + meanwhile);
                assert_int_equal(ledger.last, 1 + meanwhile);
                assert_int_equal(requests_kept(&ledger), 1 + meanwhile);
                assert_true(ledger_kept(&ledger));
                ledger_close(&ledger);
                assert_true(opened(world, &ledger, "paris"));
            }
            ledger_close(&ledger);
            arena_free(arena);
            world_free(world);
        }
}

static void test_of_another_pop(void **state)
{
    static struct ledger_counter_mark mark = { (uint64_t)1 << LEDGER_REVISION_BITS | 1, 5, 0, 0,
                                               0 };
    struct ledger_record marked = { .rows = &row,
                                    .row_count = 1,
                                    .marks = { .era = 9, .counters = &mark, .counter_count = 1 } };

    struct world *world = world_new(4);
    struct ledger ledger;
    struct ledger_id id;
    struct arena *arena = arena_new();
    (void)state;
    (void)opened(world, &ledger, "paris");
    ledger.anew = true; /* such a file's head has the marks: no more is read of it */
    ledger_keep(&ledger, &marked, true);
    world_run(world, ENV_S);
    id = ledger.id;
    ledger_close(&ledger);
    struct slice theirs = file_bytes(world, arena, "/ledger/0000000002.ledger");
    assert_false(opened(world, &ledger, "tokyo"));
    assert_int_equal(ledger.window_count, 0);
    assert_int_equal(ledger.marks.era, 0);
    assert_int_equal(ledger.marks.counter_count, 0);
    assert_true(memcmp(&id, &ledger.id, sizeof id) != 0);
    struct slice aside = file_bytes(world, arena, "/ledger/refused");
    assert_true(slice_equal(theirs, aside));
    ledger_close(&ledger);
    world_free(world);
    arena_free(arena);
}

/* A disk that was set back: control has counted what is written there a second time. */
static void test_set_back(void **state)
{
    struct world *world = world_new(5);
    struct ledger ledger;
    struct arena *arena = arena_new();
    (void)state;
    (void)opened(world, &ledger, "paris");
    keep(&ledger, 0, true);
    world_run(world, ENV_S);
    struct slice old = file_bytes(world, arena, file);
    keep(&ledger, 1000, true);
    keep(&ledger, 2000, true);
    world_run(world, ENV_S);
    struct slice sent;
    assert_true(ledger_to_send(&ledger, arena, &sent));
    struct ledger_window *newest = LIST_OWNER(ledger.windows.previous, struct ledger_window, link);
    struct ledger_check check = newest->check;
    struct ledger_id id = ledger.id;
    ledger_close(&ledger);

    world_file_set(world, file, old);
    assert_true(opened(world, &ledger, "paris"));
    assert_int_equal(ledger.window_count, 1);
    for (int i = 0; i < 4; i++) /* 2 to 5 once more, others than control has */
        keep(&ledger, 9000 + i, true);
    world_run(world, ENV_S);
    ledger_counted(&ledger, 3, &check);
    assert_true(memcmp(&id, &ledger.id, sizeof id) != 0);
    assert_int_equal(ledger.lost, 3); /* 1 was counted, 2 and 3 perhaps not: never twice */
    assert_int_equal(requests_kept(&ledger), 2);
    world_run(world, ENV_S);
    ledger_close(&ledger);
    assert_true(opened(world, &ledger, "paris"));
    assert_int_equal(requests_kept(&ledger), 2);
    assert_int_equal(ledger.counted, 0);
    ledger_close(&ledger);
    world_free(world);
    arena_free(arena);
}

/* The n-th write fails, or reading does: nothing is lost that was kept in memory, and in the end
 * all is on disk. */
static void test_failing_disk(void **state)
{
    static const enum world_fault faults[] = { WORLD_FILE_SAVE, WORLD_FILE_REMOVE };
    (void)state;
    for (size_t k = 0; k < 2; k++)
        for (unsigned nth = 1; nth < 30; nth++) {
            struct world *world = world_new(6);
            struct ledger ledger;
            (void)opened(world, &ledger, "paris");
            world_fail(world, faults[k], nth);
            for (int i = 0; i < 20; i++) {
                keep(&ledger, 1000 * i, false);
                if (i % 7 == 6)
                    ledger.anew = true;
                world_run(world, 20 * ENV_MS);
            }
            world_run(world, 5 * ENV_S);
            assert_true(ledger_kept(&ledger));
            ledger_close(&ledger);
            (void)opened(world, &ledger, "paris");
            assert_int_equal(requests_kept(&ledger), 20);
            ledger_close(&ledger);
            world_free(world);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounded_without_control),
        cmocka_unit_test(test_cut_and_flipped),
        cmocka_unit_test(test_not_readable),
        cmocka_unit_test(test_not_listed),
        cmocka_unit_test(test_of_another_pop),
        cmocka_unit_test(test_set_back),
        cmocka_unit_test(test_failing_disk),
        cmocka_unit_test(test_counted_once),
    };
    if (!getenv("PERIGEE_SIM_LOG"))
        log_level_set(LOG_ERROR + 1);
    return cmocka_run_group_tests_name("sim_ledger", tests, NULL, NULL);
}
