/* SPDX-License-Identifier: Apache-2.0 */
#include "pop/mesh.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/err.h"

#define MS INT64_C(1'000'000)
#define SECOND (1000 * MS)

static const struct ip ips[] = { { { [15] = 1 } }, { { [15] = 2 } } };
static const struct table_source_pop pops[] = {
    { .name = SLICE("paris"), .addresses = ips, .address_count = 1 },
    { .name = SLICE("tokyo"), .addresses = ips, .address_count = 2, .port = 9000 },
    { .name = SLICE("quito"), .addresses = ips, .address_count = 1, .flags = TABLE_POP_DRAINING },
    { .name = SLICE("nowhere") }, /* without an address */
};
static const struct address own = { .kind = ADDRESS_IP4, .port = 8000, .ip = { 127, 0, 0, 1 } };
static unsigned gone;

static void on_gone(struct pop_mesh_peer *peer)
{
    (void)peer;
    gone++;
}

struct report {
    struct peer_load_head head;
    struct peer_load_row rows[2];
};

static struct slice said(struct report *report, uint16_t flags, uint64_t number, uint64_t since,
                         uint32_t count)
{
    report->head = (struct peer_load_head){
        PEER_LOAD_MAGIC, PEER_LOAD_VERSION, flags, 7, number, since, count, 0
    };
    return (struct slice){ (const char *)report, peer_load_bytes(PEER_LOAD_VERSION, count, 0) };
}

static void hear(struct pop_mesh_peer *peer, struct slice report, float rtt_ms, int64_t now_ns)
{
    struct err err = {};
    if (pop_mesh_heard(peer, report, rtt_ms, now_ns, &err) < 0)
        fail_msg("%s", err.message);
}

static void beat_of(struct pop_mesh_peer *peer, float rtt_ms, int64_t now_ns)
{
    struct report report = {};
    hear(peer, said(&report, PEER_LOAD_WHOLE, 1, 0, 0), rtt_ms, now_ns);
}

static void beat(struct pop_mesh_peer *peer, int64_t now_ns)
{
    beat_of(peer, 20, now_ns);
}

static void open_mesh(struct pop_mesh *mesh)
{
    pop_mesh_init(mesh);
    pop_mesh_set(mesh, pops, 4, SLICE("paris"), &own, on_gone, SECOND);
}

static const struct mesh_head *printed(struct pop_mesh *mesh, struct arena *arena, int64_t now_ns)
{
    struct slice bytes = {};
    struct err err = {};
    if (pop_mesh_print(mesh, SLICE("paris"), arena, now_ns, &bytes, &err) < 0)
        fail_msg("%s", err.message);
    return (const struct mesh_head *)(const void *)bytes.data;
}

static void test_who_is_asked(void **)
{
    struct pop_mesh mesh;
    open_mesh(&mesh);
    struct pop_mesh_peer *paris = pop_mesh_find(&mesh, SLICE("paris"));
    struct pop_mesh_peer *tokyo = pop_mesh_find(&mesh, SLICE("tokyo"));
    assert_int_equal(mesh.peer_count, 3);
    assert_null(pop_mesh_find(&mesh, SLICE("nowhere")));
    assert_true(pop_mesh_needed(&mesh) && paris->self && !tokyo->self);
    assert_memory_equal(&paris->addresses[0], &own, sizeof own);
    assert_int_equal(tokyo->addresses[0].port, 9000);
    assert_int_equal(tokyo->address_count, 2);
    /* It is the same one for as long as it is listed. */
    beat(tokyo, SECOND);
    pop_mesh_set(&mesh, pops, 2, SLICE("paris"), &own, on_gone, SECOND);
    assert_ptr_equal(pop_mesh_find(&mesh, SLICE("tokyo")), tokyo);
    assert_int_equal(pop_mesh_health(tokyo, SECOND), MESH_UP);
    assert_int_equal(gone, 1);
    /* Alone nobody is asked; and without a gateway not oneself. */
    pop_mesh_set(&mesh, pops, 1, SLICE("paris"), &own, on_gone, SECOND);
    assert_false(pop_mesh_needed(&mesh));
    pop_mesh_set(&mesh, pops, 2, SLICE("paris"), &(struct address){}, on_gone, SECOND);
    assert_true(pop_mesh_needed(&mesh) && !pop_mesh_find(&mesh, SLICE("paris")));
    pop_mesh_deinit(&mesh);
}

/* An agent that has just begun says nothing of whom it has not heard. */
static void test_nothing_is_said_at_first(void **)
{
    struct arena *arena = arena_new();
    struct pop_mesh mesh;
    open_mesh(&mesh);
    const struct mesh_head *head = printed(&mesh, arena, SECOND);
    assert_int_equal(head->pop_count, 0);
    assert_false(mesh_fresh(head, SECOND)); /* blind */
    beat(pop_mesh_find(&mesh, SLICE("tokyo")), SECOND + MS);
    assert_true(pop_mesh_ripe(&mesh, SECOND + MS));
    head = printed(&mesh, arena, SECOND + MS);
    assert_true(mesh_fresh(head, SECOND + MS));
    assert_int_equal(head->pop_count, 1);
    head = printed(&mesh, arena, SECOND + HEALTH_SILENT_NS);
    assert_int_equal(head->pop_count, 3);
    assert_int_equal(mesh_find_pop(head, SLICE("quito"))->health, MESH_DOWN);
    assert_true(isnan(mesh_find_pop(head, SLICE("quito"))->rtt_ms));
    pop_mesh_deinit(&mesh);
    arena_free(arena);
}

/* From a last beat, when is it down; by what happens each 10 ms. */
static int64_t down_after(bool refused, bool left, unsigned seen)
{
    struct pop_mesh mesh;
    open_mesh(&mesh);
    struct pop_mesh_peer *tokyo = pop_mesh_find(&mesh, SLICE("tokyo"));
    int64_t now = 10 * SECOND, last = now;
    beat(tokyo, now);
    assert_int_equal(pop_mesh_health(tokyo, now), MESH_UP);
    if (left) {
        now += 50 * MS;
        pop_mesh_left(&mesh, &tokyo->addresses[0], now);
    }
    now = tokyo->due_ns;
    while (pop_mesh_health(tokyo, now) != MESH_DOWN) {
        assert_true(now < last + 60 * SECOND);
        if (refused && now >= tokyo->due_ns)
            pop_mesh_missed(tokyo, true, now);
        if (seen)
            pop_mesh_seen(&mesh, SLICE("tokyo"), seen, seen, now);
        now += 10 * MS;
    }
    assert_true(pop_mesh_ripe(&mesh, now));
    pop_mesh_deinit(&mesh);
    return now - last;
}

static void test_how_soon_one_is_down(void **)
{
    assert_in_range(down_after(false, false, 0), 2200 * MS, 2210 * MS);  /* silent */
    assert_in_range(down_after(true, false, 0), 1300 * MS, 1800 * MS);   /* refuses */
    assert_in_range(down_after(true, true, 0), 350 * MS, 370 * MS);      /* as one that is killed */
    assert_in_range(down_after(false, false, 10), 1300 * MS, 1320 * MS); /* requests say so */
}

/* Who ends the connection over which it is asked is asked again at once: it alone, and not one that
 * ends each as often as it likes. */
static void test_one_that_leaves_is_asked(void **)
{
    struct pop_mesh mesh;
    open_mesh(&mesh);
    struct pop_mesh_peer *tokyo = pop_mesh_find(&mesh, SLICE("tokyo"));
    struct pop_mesh_peer *quito = pop_mesh_find(&mesh, SLICE("quito"));
    int64_t now = 10 * SECOND;
    beat(tokyo, now);
    beat(quito, now);
    pop_mesh_left(&mesh, &tokyo->addresses[1], now + MS); /* it is asked at another one */
    assert_int_equal(tokyo->due_ns, now + MESH_EVERY_NS);
    pop_mesh_left(&mesh, &tokyo->addresses[0], now + MS);
    assert_int_equal(tokyo->due_ns, now + MS);
    assert_int_equal(quito->due_ns, now + MESH_EVERY_NS);
    assert_int_equal(pop_mesh_health(tokyo, now + MS), MESH_UP); /* it may have begun anew */

    tokyo->due_ns = INT64_MAX; /* it is being asked */
    pop_mesh_left(&mesh, &tokyo->addresses[0], now + 2 * SECOND);
    assert_int_equal(tokyo->due_ns, INT64_MAX);

    beat(tokyo, now + 2 * MS);
    pop_mesh_left(&mesh, &tokyo->addresses[0], now + 3 * MS);
    assert_int_equal(tokyo->due_ns, now + 2 * MS + MESH_EVERY_NS);
    beat(tokyo, now + SECOND);
    pop_mesh_left(&mesh, &tokyo->addresses[0], now + MS + MESH_EVERY_NS);
    assert_int_equal(tokyo->due_ns, now + MS + MESH_EVERY_NS);
    assert_int_equal(tokyo->left, 4);
    assert_int_equal(quito->left, 0);
    pop_mesh_deinit(&mesh);
}

static void test_it_comes_back_late(void **)
{
    struct pop_mesh mesh;
    open_mesh(&mesh);
    struct pop_mesh_peer *tokyo = pop_mesh_find(&mesh, SLICE("tokyo"));
    int64_t now = 10 * SECOND;
    beat(tokyo, now);
    assert_int_equal(pop_mesh_health(tokyo, now), MESH_UP);
    for (unsigned fall = 1; fall <= 3; fall++) {
        now += HEALTH_SILENT_NS;
        assert_int_equal(pop_mesh_health(tokyo, now), MESH_DOWN);
        int64_t from = now;
        while (beat(tokyo, now), pop_mesh_health(tokyo, now) != MESH_UP)
            now += SECOND;
        assert_int_equal(now - from, SECOND * (INT64_C(1) << fall));
    }
    pop_mesh_deinit(&mesh);
}

/* Heard of quito by others: who says what, and what counts. */
static struct slice sees(struct pop_mesh_peer *by, char *buffer, uint16_t version,
                         const char *reached)
{
    struct peer_load_head head = {
        PEER_LOAD_MAGIC, version, PEER_LOAD_WHOLE, 7, by->heard + 1, 0, 0, 0
    };
    uint64_t name = peer_load_name(slice_of(reached));
    head.reached = *reached != '\0';
    memcpy(buffer, &head, sizeof head);
    memcpy(buffer + sizeof head, &name, sizeof name);
    return (struct slice){ buffer, peer_load_bytes(version, 0, head.reached) };
}

/* A gateway that has too much to do is there: silence counts, and not how often it says so. */
static void test_one_that_is_busy(void **)
{
    struct pop_mesh mesh;
    open_mesh(&mesh);
    struct pop_mesh_peer *tokyo = pop_mesh_find(&mesh, SLICE("tokyo"));
    int64_t now = 10 * SECOND, beat_ns = now;
    beat(tokyo, now);
    for (now = tokyo->due_ns; now < beat_ns + HEALTH_SILENT_NS; now = tokyo->due_ns) {
        assert_int_equal(pop_mesh_health(tokyo, now), MESH_UP);
        pop_mesh_busy(tokyo, now);
        assert_true(tokyo->due_ns > now);
    }
    assert_in_range(tokyo->failures, 3, 5); /* not ten times a second, of all */
    assert_int_equal(pop_mesh_health(tokyo, now), MESH_DOWN);
    pop_mesh_deinit(&mesh);
}

/* And DNS names it no sooner, whichever way it fell, unless another has reached it all along. */
static void test_it_is_named_no_sooner(void **)
{
    static const struct {
        const char *name;
        bool refuses, reached;
    } rows[] = {
        { "one that was silent", false, false },
        { "one that refused", true, false },
        { "one that another reaches", false, true },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct pop_mesh mesh;
        char buffer[256];
        const char *reached = rows[i].reached ? "tokyo" : "";
        open_mesh(&mesh);
        struct pop_mesh_peer *tokyo = pop_mesh_find(&mesh, SLICE("tokyo"));
        struct pop_mesh_peer *quito = pop_mesh_find(&mesh, SLICE("quito"));
        int64_t now = 10 * SECOND, end = now + 4 * SECOND;
        print_message("  %s\n", rows[i].name);
        beat(tokyo, now);
        for (; now < end; now += SECOND / 10) {
            hear(quito, sees(quito, buffer, PEER_LOAD_VERSION, reached), 30, now);
            if (rows[i].refuses)
                pop_mesh_missed(tokyo, true, now);
            pop_mesh_doubt(&mesh, now);
        }
        assert_int_equal(pop_mesh_health(tokyo, now), MESH_DOWN);
        assert_int_equal(tokyo->elsewhere, rows[i].reached);
        for (; pop_mesh_health(tokyo, now) == MESH_DOWN; now += SECOND / 10) {
            hear(quito, sees(quito, buffer, PEER_LOAD_VERSION, reached), 30, now);
            beat(tokyo, now);
            pop_mesh_doubt(&mesh, now);
            assert_true(pop_mesh_health(tokyo, now) == MESH_UP ||
                        tokyo->elsewhere == rows[i].reached);
        }
        assert_true(now >= end + HEALTH_BACK_NS);
        pop_mesh_deinit(&mesh);
    }
}

static void test_a_stall_here_is_nobodys_death(void **)
{
    struct pop_mesh mesh;
    open_mesh(&mesh);
    struct pop_mesh_peer *tokyo = pop_mesh_find(&mesh, SLICE("tokyo"));
    beat(tokyo, 10 * SECOND);
    pop_mesh_stalled(&mesh, 30 * SECOND, 40 * SECOND);
    assert_int_equal(pop_mesh_health(tokyo, 40 * SECOND), MESH_UP);
    pop_mesh_missed(tokyo, true, 40 * SECOND);
    pop_mesh_stalled(&mesh, SECOND, 41 * SECOND);
    pop_mesh_missed(tokyo, true, 41 * SECOND + MS); /* not: for a second */
    assert_int_equal(pop_mesh_health(tokyo, 41 * SECOND + MS), MESH_UP);
    assert_int_equal(pop_mesh_health(tokyo, 41 * SECOND + HEALTH_SILENT_NS), MESH_DOWN);
    pop_mesh_deinit(&mesh);
}

static void test_round_trips(void **)
{
    struct pop_mesh mesh;
    open_mesh(&mesh);
    struct pop_mesh_peer *tokyo = pop_mesh_find(&mesh, SLICE("tokyo"));
    static const float rows[] = { NAN, 250, 240, 900, -1, INFINITY, 242, 243, 244, 260, 260 };
    struct report report = {};
    assert_true(isnan(pop_mesh_rtt_ms(tokyo)));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        hear(tokyo, said(&report, PEER_LOAD_WHOLE, i + 1, 0, 0), rows[i], (int64_t)(i + 1) * MS);
    assert_true(pop_mesh_rtt_ms(tokyo) == 242); /* 240 is out of the window by now */
    pop_mesh_deinit(&mesh);
}

static void test_load(void **)
{
    struct arena *arena = arena_new();
    struct pop_mesh mesh;
    open_mesh(&mesh);
    struct pop_mesh_peer *tokyo = pop_mesh_find(&mesh, SLICE("tokyo"));
    struct report report = { .rows = { { 1, 10, 100, 3, 0, 16, 0 }, { 2, 0, 0, 0, 900, 0, 0 } } };
    struct err err = {};
    size_t count;
    hear(tokyo, said(&report, PEER_LOAD_WHOLE, 5, 0, 2), 200, 10 * SECOND);
    const struct mesh_head *head = printed(&mesh, arena, 10 * SECOND);
    const struct mesh_load *load = mesh_loads(head, 1, &count);
    assert_int_equal(count, 1);
    assert_true(load->wait_ms == 0 && load->service_ms == 3 && load->weight > 60);
    load = mesh_loads(head, 2, &count); /* cold: it can be had, later */
    assert_true(count == 1 && load->wait_ms == 0 && load->start_ms == 900 && load->weight > 0);

    /* A delta changes what it names. */
    report.rows[0] = (struct peer_load_row){ 2, 0, 0, 0, INFINITY, 0, 0, 70, 0 };
    hear(tokyo, said(&report, 0, 6, 5, 1), 200, 11 * SECOND);
    head = printed(&mesh, arena, 11 * SECOND);
    assert_true(isinf(mesh_loads(head, 2, &count)->wait_ms));
    assert_true(mesh_loads(head, 2, &count)->last_start_ms == 70);
    (void)mesh_loads(head, 1, &count);
    assert_int_equal(count, 1);

    /* One that goes upon another report is none, and the next is asked for as a whole. */
    assert_int_equal(pop_mesh_heard(tokyo, said(&report, 0, 9, 8, 1), 200, 12 * SECOND, &err),
                     ERR_BAD_INPUT);
    assert_true(tokyo->life == 0 && tokyo->number == 0 && tokyo->odd == 1);
    hear(tokyo, said(&report, PEER_LOAD_WHOLE, 9, 0, 1), 200, 13 * SECOND);
    head = printed(&mesh, arena, 13 * SECOND);
    (void)mesh_loads(head, 1, &count);
    assert_int_equal(count, 0);
    assert_int_equal(mesh.line_count, 1);
    pop_mesh_deinit(&mesh);
    arena_free(arena);
}

/* What a PoP says is bounded, whatever it is. */
static void test_lies(void **)
{
    static const struct peer_load_row rows[] = {
        { 1, NAN, 100, 3, 0, 16, 0 }, { 1, 1e30f, 100, 3, 0, 16, 0 },
        { 1, 10, -1, 3, 0, 16, 0 },   { 1, 10, 100, INFINITY, 0, 16, 0 },
        { 1, 10, 100, 3, -5, 16, 0 },
    };
    struct arena *arena = arena_new();
    struct pop_mesh mesh;
    open_mesh(&mesh);
    struct pop_mesh_peer *tokyo = pop_mesh_find(&mesh, SLICE("tokyo"));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct report report = { .rows = { rows[i] } };
        struct err err = {};
        assert_int_equal(
            pop_mesh_heard(tokyo, said(&report, PEER_LOAD_WHOLE, 5, 0, 1), 200, 10 * SECOND, &err),
            ERR_BAD_INPUT);
    }
    assert_int_equal(pop_mesh_health(tokyo, 10 * SECOND), MESH_DOWN); /* no heartbeats either */
    struct report most = {
        .rows = { { 1, PEER_LOAD_RATE_MAX, 1e-30f, PEER_LOAD_MS_MAX, 0, 1, UINT32_MAX },
                  { 2, 0, PEER_LOAD_RATE_MAX, 0, PEER_LOAD_MS_MAX, UINT32_MAX, 0 } }
    };
    for (int i = 0; i < 100; i++)
        hear(tokyo, said(&most, PEER_LOAD_WHOLE, 5, 0, 2), 200, (11 + i) * SECOND);
    (void)printed(&mesh, arena, 200 * SECOND); /* mesh_build() checks all of it */
    pop_mesh_deinit(&mesh);
    arena_free(arena);
}

/* Deltas add up to no more than a whole report may have. */
static void test_lines_are_bounded(void **)
{
    struct pop_mesh mesh;
    struct report report = {};
    open_mesh(&mesh);
    struct pop_mesh_peer *tokyo = pop_mesh_find(&mesh, SLICE("tokyo"));
    hear(tokyo, said(&report, PEER_LOAD_WHOLE, 1, 0, 0), 200, 10 * SECOND);
    for (uint64_t i = 1; i <= PEER_LOAD_ROWS_MAX; i++) {
        report.rows[0] = (struct peer_load_row){ .endpoint = 2 * i };
        report.rows[1] = (struct peer_load_row){ .endpoint = 2 * i + 1 };
        hear(tokyo, said(&report, 0, i + 1, i, 2), 200, 10 * SECOND);
    }
    assert_int_equal(tokyo->lines.count, PEER_LOAD_ROWS_MAX);
    assert_int_equal(mesh.line_count, PEER_LOAD_ROWS_MAX);
    pop_mesh_deinit(&mesh);
    assert_int_equal(mesh.line_count, 0);
}

static void test_a_link_alone_is_cut(void **)
{
    static const struct {
        const char *name, *reached; /* as tokyo says it */
        bool elsewhere;
        uint16_t version;
    } rows[] = {
        { "tokyo reaches it", "quito", true, PEER_LOAD_VERSION },
        { "tokyo of the version before reaches it", "quito", true, PEER_LOAD_VERSION_BEFORE },
        { "tokyo reaches another one, and does not know it", "lima", false, PEER_LOAD_VERSION },
        { "tokyo reaches nobody, or has yet to judge", "", false, PEER_LOAD_VERSION },
        { "tokyo, of the version before, does not reach it", "quito", false,
          PEER_LOAD_VERSION_FIRST },
    };
    struct arena *arena = arena_new();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct pop_mesh mesh;
        char buffer[64];
        int64_t now = 10 * SECOND;
        open_mesh(&mesh);
        struct pop_mesh_peer *tokyo = pop_mesh_find(&mesh, SLICE("tokyo"));
        struct pop_mesh_peer *quito = pop_mesh_find(&mesh, SLICE("quito"));
        print_message("  %s\n", rows[i].name);
        beat(quito, now);
        beat(tokyo, now);
        (void)pop_mesh_health(quito, now);
        (void)pop_mesh_health(tokyo, now);
        (void)printed(&mesh, arena, now);
        assert_false(pop_mesh_news(&mesh)); /* that they are there is none */
        for (int k = 0; k < 3; k++) {       /* quito is silent */
            now += SECOND;
            hear(tokyo, sees(tokyo, buffer, rows[i].version, rows[i].reached), 20, now);
        }
        pop_mesh_doubt(&mesh, now);
        const struct mesh_head *head = printed(&mesh, arena, now);
        const struct mesh_pop *pop = mesh_find_pop(head, SLICE("quito"));
        assert_int_equal(pop->health, MESH_DOWN); /* from here */
        assert_int_equal(pop->elsewhere, rows[i].elsewhere);
        assert_int_equal(mesh_find_pop(head, SLICE("tokyo"))->elsewhere, 0);
        /* Control hears at once of whom clients do not reach, and of nobody twice. */
        assert_int_equal(pop_mesh_news(&mesh), !rows[i].elsewhere);
        pop_mesh_reported(&mesh);
        assert_false(pop_mesh_news(&mesh));
        /* While there is doubt who says so is asked again soon. */
        assert_int_equal(tokyo->due_ns, now + (rows[i].elsewhere ? MESH_DOUBT_NS : MESH_EVERY_NS));
        /* Nobody is left who could know. */
        now += HEALTH_SILENT_NS;
        pop_mesh_doubt(&mesh, now);
        assert_false(quito->elsewhere || tokyo->elsewhere);
        (void)printed(&mesh, arena, now);
        assert_true(pop_mesh_news(&mesh));
        pop_mesh_reported(&mesh);
        /* That one is back is news as well. */
        while (beat(tokyo, now), pop_mesh_health(tokyo, now) != MESH_UP)
            now += SECOND;
        (void)printed(&mesh, arena, now);
        assert_true(pop_mesh_news(&mesh));
        pop_mesh_deinit(&mesh);
    }
    arena_free(arena);
}

/* Tokyo and Quito fall silent, and what DNS is told of them then. */
static const struct {
    const char *name;
    int64_t apart_ns;  /* between their last words */
    bool refuses;      /* quito says that nobody is there */
    bool alone;        /* there is no quito */
    int64_t after_ns;  /* the last word of the latter */
    const char *heard; /* of whom control hears, by letter, all that time */
    bool tokyo, quito; /* clients may reach it */
    bool unheard;      /* by this agent, ever */
} silences[] = {
    { "both at once: it is us", 0, false, false, 3 * SECOND, "tq", true, true },
    { "in one second", SECOND, false, false, 3 * SECOND, "tq", true, true },
    { "for long", 0, false, false, 3600 * SECOND, "tq", true, true },
    { "one after the other: they are dead", 2 * SECOND, false, false, 3 * SECOND, "tq", false,
      false },
    { "one of them refuses: the other is as dead as one alone", 0, true, false, 3 * SECOND, "tq",
      false, false },
    { "one alone: nobody can tell", 0, false, true, 3 * SECOND, "tq", false, false },
    { "control hears one of them, and is not cut off", 0, false, false, 20 * SECOND, "t", true,
      false },
    { "it has only begun to miss one", 0, false, false, 4 * SECOND, "t", true, true },
    { "control hears neither, and may be cut off with us", 0, false, false, 20 * SECOND, "", true,
      true },
    { "neither was ever heard, by control either: they are dead", 0, false, false, 20 * SECOND, "",
      false, false, true },
    { "nor here, and by control until it was cut off with us", 0, false, false, 3 * SECOND, "tq",
      true, true, true },
};

/* Paris answers on: as our own gateway, or as the PoP that a DNS server stands beside, and then it
 * says that it reaches nobody either. */
static void silence(struct pop_mesh *mesh, size_t row, bool beside, float rtt_ms, int64_t *now_ns)
{
    const struct address none = {};
    struct table_source_pop told[3] = { pops[0], pops[1], pops[2] };
    told[1].flags = strchr(silences[row].heard, 't') ? TABLE_POP_UP : 0;
    told[2].flags = strchr(silences[row].heard, 'q') ? TABLE_POP_UP : 0;
    told[0].flags = TABLE_POP_UP;
    pop_mesh_init(mesh);
    mesh->beside = beside ? "paris" : NULL;
    pop_mesh_set(mesh, told, silences[row].alone ? 2 : 3, beside ? SLICE("ns-1") : SLICE("paris"),
                 beside ? &none : &own, on_gone, *now_ns);
    struct pop_mesh_peer *tokyo = pop_mesh_find(mesh, SLICE("tokyo"));
    struct pop_mesh_peer *quito = pop_mesh_find(mesh, SLICE("quito"));
    if (!silences[row].unheard)
        beat(tokyo, *now_ns);
    *now_ns += silences[row].apart_ns;
    if (quito && !silences[row].unheard)
        beat(quito, *now_ns);
    int64_t end_ns = *now_ns + silences[row].after_ns;
    for (; *now_ns < end_ns; *now_ns += SECOND / 10) {
        beat_of(pop_mesh_find(mesh, SLICE("paris")), rtt_ms, *now_ns);
        if (quito && silences[row].refuses)
            pop_mesh_missed(quito, true, *now_ns);
        pop_mesh_doubt(mesh, *now_ns);
    }
    pop_mesh_doubt(mesh, *now_ns);
}

static void test_all_fall_silent(void **)
{
    struct arena *arena = arena_new();
    for (size_t n = 0; n < 2 * (sizeof silences / sizeof *silences); n++) {
        struct pop_mesh mesh;
        int64_t now = 10 * SECOND;
        size_t i = n / 2;
        print_message("  %s%s\n", silences[i].name, n % 2 ? ", of a DNS server beside one" : "");
        silence(&mesh, i, n % 2, 1, &now);
        const struct mesh_head *head = printed(&mesh, arena, now);
        const struct mesh_pop *tokyo = mesh_find_pop(head, SLICE("tokyo"));
        const struct mesh_pop *quito = mesh_find_pop(head, SLICE("quito"));
        assert_true(mesh_fresh(head, now));
        assert_int_equal(tokyo->health, MESH_DOWN); /* nothing is passed on to it */
        assert_int_equal(tokyo->elsewhere, silences[i].tokyo);
        assert_int_equal(quito && quito->elsewhere, silences[i].quito);
        assert_int_equal(mesh_find_pop(head, SLICE("paris"))->health, MESH_UP);
        pop_mesh_deinit(&mesh);
    }
    arena_free(arena);
}

/* Too far away to stand beside it: what it misses, too, is dead. */
static void test_who_stands_beside_is_near(void **)
{
    static const struct {
        float rtt_ms;
        bool elsewhere;
    } rows[] = { { 0, true }, { MESH_BESIDE_MS, true }, { MESH_BESIDE_MS + 1, false } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct pop_mesh mesh;
        int64_t now = 10 * SECOND;
        silence(&mesh, 0, true, rows[i].rtt_ms, &now);
        assert_int_equal(pop_mesh_find(&mesh, SLICE("tokyo"))->elsewhere, rows[i].elsewhere);
        assert_int_equal(pop_mesh_find(&mesh, SLICE("quito"))->elsewhere, rows[i].elsewhere);
        pop_mesh_deinit(&mesh);
    }
}

/* Who does not reach himself either knows nothing of others. One without a gateway asks others
 * alone. */
static void test_nobody_is_reached(void **)
{
    static const struct {
        const char *name;
        bool gateway, beside, itself, fresh;
    } rows[] = {
        { "itself", true, false, true, true },
        { "not even itself", true, false, false, false },
        { "nor is there one", false, false, false, true },
        { "whom a DNS server stands beside", false, true, true, true },
        { "not even that one", false, true, false, false },
    };
    struct arena *arena = arena_new();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct pop_mesh mesh;
        int64_t now = 10 * SECOND, end = now + 3 * SECOND;
        print_message("  %s\n", rows[i].name);
        pop_mesh_init(&mesh);
        mesh.beside = rows[i].beside ? "paris" : NULL;
        pop_mesh_set(&mesh, pops, 3, rows[i].beside ? SLICE("ns-1") : SLICE("paris"),
                     rows[i].gateway ? &own : &(struct address){}, on_gone, now);
        struct pop_mesh_peer *paris = pop_mesh_find(&mesh, SLICE("paris"));
        beat(pop_mesh_find(&mesh, SLICE("tokyo")), now);
        beat(pop_mesh_find(&mesh, SLICE("quito")), now);
        if (paris)
            beat_of(paris, 1, now);
        for (; now < end; now += SECOND / 10) {
            if (rows[i].itself)
                beat_of(paris, 1, now);
            pop_mesh_doubt(&mesh, now);
        }
        const struct mesh_head *head = printed(&mesh, arena, now);
        assert_int_equal(mesh_find_pop(head, SLICE("tokyo"))->elsewhere, 1);
        assert_int_equal(mesh_fresh(head, now), rows[i].fresh);
        pop_mesh_deinit(&mesh);
    }
    arena_free(arena);
}

/* All fall silent at once, the last words of one, before that, without a word of the other: until
 * that one has said more, or has fallen too, nobody knows which. */
static void test_nobody_is_dead_before_another_has_spoken(void **)
{
    struct pop_mesh mesh;
    int64_t now = 10 * SECOND, end;
    open_mesh(&mesh);
    struct pop_mesh_peer *tokyo = pop_mesh_find(&mesh, SLICE("tokyo"));
    struct pop_mesh_peer *quito = pop_mesh_find(&mesh, SLICE("quito"));
    for (int silent = 0; silent < 2; silent++) { /* tokyo alone, then both */
        beat(tokyo, now);
        beat(quito, now + SECOND);
        end = now + 4 * SECOND;
        for (bool down = false; now < end; now += SECOND / 10) {
            pop_mesh_doubt(&mesh, now);
            bool unspoken = pop_mesh_health(tokyo, now) == MESH_DOWN && (silent || !down);
            assert_int_equal(tokyo->elsewhere, unspoken);
            down = down || unspoken;
            if (down && !silent)
                beat(quito, now);
        }
        for (end = now + 10 * SECOND; now < end; now += SECOND) { /* well again */
            beat(tokyo, now);
            beat(quito, now);
            pop_mesh_doubt(&mesh, now);
        }
    }
    pop_mesh_deinit(&mesh);
}

/* Clients never notice that it ends, but of one that is dead by then. */
static void test_who_is_heard_again(void **)
{
    struct pop_mesh mesh;
    int64_t now = 10 * SECOND, again;
    silence(&mesh, 0, false, 1, &now);
    struct pop_mesh_peer *tokyo = pop_mesh_find(&mesh, SLICE("tokyo"));
    struct pop_mesh_peer *quito = pop_mesh_find(&mesh, SLICE("quito"));
    pop_mesh_missed(tokyo, false, now);
    pop_mesh_missed(quito, false, now);
    for (again = now; pop_mesh_health(tokyo, now) == MESH_DOWN; now += SECOND / 2) {
        beat(tokyo, now);
        pop_mesh_doubt(&mesh, now);
        assert_true(tokyo->elsewhere || pop_mesh_health(tokyo, now) == MESH_UP);
        assert_true(quito->elsewhere || pop_mesh_health(tokyo, now) == MESH_UP);
        assert_true(now < again + HEALTH_BACK_MAX_NS);
    }
    pop_mesh_doubt(&mesh, now);
    assert_false(quito->elsewhere || tokyo->elsewhere);
    pop_mesh_deinit(&mesh);
}

static void test_draining(void **)
{
    struct pop_mesh mesh;
    open_mesh(&mesh);
    struct pop_mesh_peer *quito = pop_mesh_find(&mesh, SLICE("quito"));
    beat(quito, 10 * SECOND);
    assert_int_equal(pop_mesh_health(quito, 10 * SECOND), MESH_DRAINING);
    pop_mesh_seen(&mesh, SLICE("rome"), 1, 1, SECOND); /* not known: nothing */
    pop_mesh_seen(&mesh, SLICE("quito"), 1, 2, SECOND);
    assert_int_equal(pop_mesh_health(quito, 10 * SECOND), MESH_DRAINING);
    pop_mesh_deinit(&mesh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_is_asked),
        cmocka_unit_test(test_nothing_is_said_at_first),
        cmocka_unit_test(test_how_soon_one_is_down),
        cmocka_unit_test(test_one_that_leaves_is_asked),
        cmocka_unit_test(test_it_comes_back_late),
        cmocka_unit_test(test_it_is_named_no_sooner),
        cmocka_unit_test(test_one_that_is_busy),
        cmocka_unit_test(test_a_stall_here_is_nobodys_death),
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_lines_are_bounded),
        cmocka_unit_test(test_a_link_alone_is_cut),
        cmocka_unit_test(test_all_fall_silent),
        cmocka_unit_test(test_who_stands_beside_is_near),
        cmocka_unit_test(test_nobody_is_reached),
        cmocka_unit_test(test_nobody_is_dead_before_another_has_spoken),
        cmocka_unit_test(test_who_is_heard_again),
        cmocka_unit_test(test_draining),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
