/* SPDX-License-Identifier: Apache-2.0 */
#include "contract/mesh.h"

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <math.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/err.h"
#include "contract/peer_load.h"
#include "policy/route.h"

static_assert((int)MESH_UP == (int)ROUTE_UP && (int)MESH_DRAINING == (int)ROUTE_DRAINING &&
              (int)MESH_DOWN == (int)ROUTE_DOWN);
static_assert((int)MESH_POPS_MAX >= (int)ROUTE_POPS_MAX);

/* Out of order, as an agent may have them. */
static struct mesh_pop pops[] = {
    { .name = "tokyo", .rtt_ms = 240, .health = MESH_UP, .calm = 1 },
    { .name = "paris", .rtt_ms = 0.2f, .health = MESH_UP },
    { .name = "quito", .rtt_ms = NAN, .health = MESH_DOWN },
};
static struct mesh_load loads[] = {
    { .endpoint = 9, .pop = 0, .wait_ms = 1, .service_ms = 2, .start_ms = 0, .weight = 5 },
    { .endpoint = 7, .pop = 0, .wait_ms = 3, .service_ms = 2, .start_ms = 0, .weight = 6 },
    { .endpoint = 7,
      .pop = 1,
      .wait_ms = 0,
      .service_ms = 2,
      .start_ms = 400,
      .weight = 1,
      .last_start_ms = 70 },
    { .endpoint = 7, .pop = 2, .wait_ms = INFINITY, .start_ms = INFINITY },
};

static struct mesh_source source(void)
{
    return (struct mesh_source){ .number = 4,
                                 .at_ns = 100,
                                 .self = SLICE("paris"),
                                 .pops = pops,
                                 .pop_count = 3,
                                 .loads = loads,
                                 .load_count = 4 };
}

static struct mesh_head *built(struct arena *arena)
{
    struct mesh_source from = source();
    struct slice bytes = {};
    struct err err = {};
    if (mesh_build(arena, &from, &bytes, &err) < 0)
        fail_msg("%s", err.message);
    return (struct mesh_head *)(uintptr_t)bytes.data;
}

static void test_build(void **)
{
    struct arena *arena = arena_new();
    const struct mesh_head *mesh = built(arena);
    size_t count;
    assert_int_equal(mesh->self, 0);
    assert_string_equal(mesh_pops(mesh)[1].name, "quito");
    assert_true(mesh_find_pop(mesh, SLICE("tokyo")) == &mesh_pops(mesh)[2]);
    assert_null(mesh_find_pop(mesh, SLICE("rome")));
    assert_null(mesh_find_pop(mesh, (struct slice){}));
    const struct mesh_load *rows = mesh_loads(mesh, 7, &count);
    assert_int_equal(count, 3);
    assert_true(rows[0].pop == 0 && rows[0].start_ms == 400 && rows[2].pop == 2);
    assert_true(mesh_load_at(rows, count, 2)->wait_ms == 3);
    assert_true(isinf(mesh_load_at(rows, count, 1)->start_ms));
    assert_true(mesh_last_start_ms(rows, count) == 70 && mesh_last_start_ms(NULL, 0) == 0);
    (void)mesh_loads(mesh, 8, &count);
    assert_int_equal(count, 0);
    rows = mesh_loads(mesh, 9, &count);
    assert_int_equal(count, 1);
    assert_null(mesh_load_at(rows, count, 0));
    (void)mesh_loads(mesh, UINT64_MAX, &count);
    assert_int_equal(count, 0);
    arena_free(arena);
}

static void test_fresh(void **)
{
    struct arena *arena = arena_new();
    struct mesh_head *mesh = built(arena);
    assert_false(mesh_fresh(NULL, 100));
    assert_true(mesh_fresh(mesh, 100 + MESH_FRESH_NS - 1));
    assert_false(mesh_fresh(mesh, 100 + MESH_FRESH_NS));
    mesh->flags = MESH_BLIND;
    assert_false(mesh_fresh(mesh, 101));
    arena_free(arena);
}

/* One thing changed in a mesh that is right: at offset, so many bytes. */
static void test_check(void **)
{
    const size_t pop = sizeof(struct mesh_head), load = pop + 3 * sizeof(struct mesh_pop);
    const float nan = NAN, less = -1, much = MESH_MS_MAX * 2, endless = INFINITY, never = -INFINITY,
                heavy = MESH_WEIGHT_MAX * 2;
    const uint32_t zero = 0, three = 3, many = UINT32_MAX;
    const struct {
        const char *name, *wanted;
        size_t offset, size;
        const void *bytes;
    } rows[] = {
        { "another kind", "another kind", 0, 4, &three },
        { "another version", "version", 4, 4, &three },
        { "other bytes", "are not", 8, 4, &three },
        { "more PoPs", "are not", offsetof(struct mesh_head, pop_count), 4, &many },
        { "fewer PoPs", "are not", offsetof(struct mesh_head, pop_count), 4, &zero },
        { "more loads", "are not", offsetof(struct mesh_head, load_count), 4, &many },
        { "self outside", "this PoP's row", offsetof(struct mesh_head, self), 4, &three },
        { "no name", "PoP 0 is out of range", pop, 1, "" },
        { "out of order", "PoP 1 is out of order", pop, 1, "r" },
        { "endless name", "PoP 0 is out of range", pop, 64,
          "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" },
        { "health 3", "PoP 0 is out of range", pop + offsetof(struct mesh_pop, health), 4, &three },
        { "calm 3", "PoP 0 is out of range", pop + offsetof(struct mesh_pop, calm), 4, &three },
        { "elsewhere 3", "PoP 0 is out of range", pop + offsetof(struct mesh_pop, elsewhere), 4,
          &three },
        { "absurd round trip", "PoP 0", pop + offsetof(struct mesh_pop, rtt_ms), 4, &much },
        { "negative round trip", "PoP 0", pop + offsetof(struct mesh_pop, rtt_ms), 4, &less },
        { "endless round trip", "PoP 0", pop + offsetof(struct mesh_pop, rtt_ms), 4, &endless },
        { "row outside", "load 0 is out of range", load + 8, 4, &three },
        { "twice", "load 1 is out of order", load + 32 + 8, 4, &zero },
        { "wait is no number", "load 0", load + 12, 4, &nan },
        { "negative wait", "load 0", load + 12, 4, &less },
        { "absurd wait", "load 0", load + 12, 4, &much },
        { "endless service", "load 0", load + 16, 4, &endless },
        { "negative service", "load 0", load + 16, 4, &less },
        { "negative start", "load 0", load + 20, 4, &less },
        { "a wait without a beginning", "load 0", load + 12, 4, &never },
        { "negative weight", "load 0", load + 24, 4, &less },
        { "absurd weight", "load 0", load + 24, 4, &heavy },
        { "negative last start", "load 0", load + 28, 4, &less },
        { "endless last start", "load 3", load + 3 * 32 + 28, 4, &endless },
    };
    struct arena *arena = arena_new();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct mesh_head *mesh = built(arena);
        struct err err = {};
        print_message("  %s\n", rows[i].name);
        memcpy((char *)mesh + rows[i].offset, rows[i].bytes, rows[i].size);
        /* Of a size that is said nowhere. */
        struct slice bytes = { (const char *)mesh, load + 4 * sizeof(struct mesh_load) };
        assert_int_equal(mesh_check(bytes, &err), ERR_BAD_INPUT);
        if (!strstr(err.message, rows[i].wanted))
            fail_msg("'%s' does not say '%s'", err.message, rows[i].wanted);
    }
    const struct mesh_head *mesh = built(arena);
    struct err err;
    assert_int_equal(mesh_check((struct slice){ (const char *)mesh, 47 }, &err), ERR_BAD_INPUT);
    assert_int_equal(mesh_check((struct slice){ (const char *)mesh + 4, 48 }, &err), ERR_BAD_INPUT);
    assert_int_equal(mesh_check((struct slice){ (const char *)mesh, MESH_BYTES_MAX + 1 }, &err),
                     ERR_BAD_INPUT);
    arena_free(arena);
}

static void test_build_refuses(void **)
{
    struct arena *arena = arena_new();
    struct mesh_source from = source();
    struct slice bytes;
    struct err err;
    struct mesh_pop twice[2] = { { .name = "a" }, { .name = "a" } };
    from.pops = twice;
    from.pop_count = 2;
    from.load_count = 0;
    assert_int_equal(mesh_build(arena, &from, &bytes, &err), ERR_BAD_INPUT);
    struct mesh_load outside = { .endpoint = 1, .pop = 2 };
    twice[1].name[0] = 'b';
    from.loads = &outside;
    from.load_count = 1;
    assert_int_equal(mesh_build(arena, &from, &bytes, &err), ERR_BAD_INPUT);
    from.load_count = MESH_LOADS_MAX + 1;
    assert_int_equal(mesh_build(arena, &from, &bytes, &err), ERR_TOO_LARGE);
    from.load_count = 0;
    from.pop_count = MESH_POPS_MAX + 1;
    assert_int_equal(mesh_build(arena, &from, &bytes, &err), ERR_TOO_LARGE);
    from.pop_count = 1; /* one alone, which does not say whether it is this one */
    from.self = (struct slice){};
    assert_int_equal(mesh_build(arena, &from, &bytes, &err), 0);
    assert_int_equal(((const struct mesh_head *)(const void *)bytes.data)->self, UINT32_MAX);
    arena_free(arena);
}

static void test_differs(void **)
{
    static const struct {
        const char *name;
        size_t offset;
        float value;
        bool differs;
    } rows[] = {
        { "the same", sizeof(struct mesh_head) + 64, 0.2f, false },
        { "a round trip by a little", sizeof(struct mesh_head) + 64, 0.6f, false },
        { "a round trip by much", sizeof(struct mesh_head) + 64, 2, true },
        { "a wait", sizeof(struct mesh_head) + 3 * sizeof(struct mesh_pop) + 12, 1, true },
        { "no room", sizeof(struct mesh_head) + 3 * sizeof(struct mesh_pop) + 12, INFINITY, true },
        { "a weight by a little", sizeof(struct mesh_head) + 3 * sizeof(struct mesh_pop) + 24, 1.4f,
          false },
        { "a last start", sizeof(struct mesh_head) + 3 * sizeof(struct mesh_pop) + 28, 90, true },
    };
    struct arena *arena = arena_new();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct mesh_head *a = built(arena), *b = built(arena);
        print_message("  %s\n", rows[i].name);
        b->number++;
        b->at_ns++;
        memcpy((char *)b + rows[i].offset, &rows[i].value, sizeof(float));
        assert_int_equal(mesh_differs(a, b), rows[i].differs);
        assert_int_equal(mesh_differs(b, a), rows[i].differs);
    }
    struct mesh_head *a = built(arena), *b = built(arena);
    ((struct mesh_pop *)(b + 1))[1].health = MESH_UP;
    assert_true(mesh_differs(a, b));
    arena_free(arena);
}

/* What is no measured figure differs by the least. */
static void test_differs_by_any_field(void **)
{
    const size_t pop = sizeof(struct mesh_head), load = pop + 3 * sizeof(struct mesh_pop);
    const struct {
        const char *name;
        size_t offset;
        uint32_t value;
        bool health; /* it is said of the PoPs themselves */
    } rows[] = {
        { "fewer PoPs", offsetof(struct mesh_head, pop_count), 2, true },
        { "flags", offsetof(struct mesh_head, flags), MESH_BLIND, true },
        { "another self", offsetof(struct mesh_head, self), 1, true },
        { "calm", pop + offsetof(struct mesh_pop, calm), 1, true },
        { "elsewhere", pop + offsetof(struct mesh_pop, elsewhere), 1, true },
        { "another name", pop, 'x', true },
        { "fewer loads", offsetof(struct mesh_head, load_count), 3, false },
        { "another endpoint", load, 6, false },
        { "another PoP's load", load + 8, 1, false },
        { "a service", load + 16, 0x41100000 /* 9 */, false },
        { "a start", load + 20, 0x44160000 /* 600 */, false },
        { "a weight", load + 24, 0x40a00000 /* 5 */, false },
    };
    struct arena *arena = arena_new();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct mesh_head *a = built(arena), *b = built(arena);
        print_message("  %s\n", rows[i].name);
        memcpy((char *)b + rows[i].offset, &rows[i].value, sizeof rows[i].value);
        assert_true(mesh_differs(a, b));
        assert_int_equal(mesh_health_differs(a, b), rows[i].health);
    }
    struct mesh_head *a = built(arena), *b = built(arena);
    ((struct mesh_pop *)(b + 1))[2].rtt_ms = 250; /* of 240: much, and not a tenth */
    assert_false(mesh_differs(a, b));
    arena_free(arena);
}

/* ---- what a gateway answers ----------------------------------------------------------------- */

struct report {
    struct peer_load_head head;
    struct peer_load_row rows[2];
};

static struct report report(void)
{
    return (struct report){
        { PEER_LOAD_MAGIC, PEER_LOAD_VERSION, PEER_LOAD_WHOLE, 77, 5, 0, 2, 0 },
        { { 1, 10, 20, 3, 0, 4, 2, 70, 0 }, { 8, 0, 0, 0, INFINITY, 0, 0, 0, 0 } },
    };
}

static void test_peer_load(void **)
{
    struct report good = report();
    struct slice bytes = { (const char *)&good, sizeof good };
    struct err err = {};
    assert_int_equal(peer_load_check(bytes, &err), 0);
    assert_int_equal(peer_load_head(bytes).number, 5);
    assert_true(peer_load_row(bytes, 1).endpoint == 8 && isinf(peer_load_row(bytes, 1).start_ms));
    assert_true(peer_load_row(bytes, 0).last_start_ms == 70);
    assert_int_equal(peer_load_check((struct slice){ bytes.data, 39 }, &err), ERR_BAD_INPUT);
    assert_int_equal(peer_load_check((struct slice){ bytes.data, 72 }, &err), ERR_BAD_INPUT);
    assert_int_equal(peer_load_check((struct slice){}, &err), ERR_BAD_INPUT);
}

static void test_peer_load_reached(void **)
{
    struct {
        struct report report;
        uint64_t reached[3];
    } said = { report(), { 5, 9, UINT64_MAX } };
    struct slice bytes = { (const char *)&said, sizeof said };
    struct err err = {};
    said.report.head.reached = 3;
    assert_int_equal(peer_load_check(bytes, &err), 0);
    assert_true(peer_load_reaches(bytes, 5) && peer_load_reaches(bytes, 9) &&
                peer_load_reaches(bytes, UINT64_MAX));
    assert_false(peer_load_reaches(bytes, 6) || peer_load_reaches(bytes, 0));
    said.reached[1] = 5;
    assert_int_equal(peer_load_check(bytes, &err), ERR_BAD_INPUT);
    said.report.head.reached = 2;
    assert_int_equal(peer_load_check(bytes, &err), ERR_BAD_INPUT); /* its size says three */
    assert_true(peer_load_name(SLICE("paris")) != peer_load_name(SLICE("tokyo")));
}

struct before {
    struct peer_load_head head;
    char rows[2][32];
    uint64_t reached[2];
};

static struct before before(uint16_t version)
{
    struct report from = report();
    struct before said = { from.head, {}, { 5, 9 } };
    for (size_t i = 0; i < 2; i++)
        memcpy(said.rows[i], &from.rows[i], sizeof said.rows[i]);
    said.head.version = version;
    said.head.reached = 2;
    return said;
}

/* It is read as well, and says nothing of last starts. */
static void test_peer_load_of_the_version_before(void **)
{
    struct before said = before(PEER_LOAD_VERSION_BEFORE);
    struct slice bytes = { (const char *)&said, sizeof said };
    struct err err = {};
    assert_int_equal(peer_load_check(bytes, &err), 0);
    assert_int_equal(peer_load_row(bytes, 1).endpoint, 8);
    assert_true(peer_load_row(bytes, 0).waiting == 2 && peer_load_row(bytes, 0).last_start_ms == 0);
    assert_true(peer_load_reaches(bytes, 5) && peer_load_reaches(bytes, 9));
    said.head.version = PEER_LOAD_VERSION;
    assert_int_equal(peer_load_check(bytes, &err), ERR_BAD_INPUT); /* rows are longer by now */
}

/* The first one, too; but its list is of those that are not reached: nothing is made of it. */
static void test_peer_load_of_the_first_version(void **)
{
    struct before said = before(PEER_LOAD_VERSION_FIRST);
    struct slice bytes = { (const char *)&said, sizeof said };
    struct err err = {};
    said.head.flags |= PEER_LOAD_FIRST_SEES;
    assert_int_equal(peer_load_check(bytes, &err), 0);
    assert_int_equal(peer_load_row(bytes, 1).endpoint, 8);
    assert_false(peer_load_reaches(bytes, 5) || peer_load_reaches(bytes, 9));
    said.reached[1] = 5;
    assert_int_equal(peer_load_check(bytes, &err), ERR_BAD_INPUT);
    said.reached[1] = 9;
    said.head.flags |= 4;
    assert_int_equal(peer_load_check(bytes, &err), ERR_BAD_INPUT);
}

static void test_peer_load_lies(void **)
{
    static const struct {
        const char *name, *wanted;
        size_t offset;
        float value;
    } rows[] = {
        { "arrivals are no number", "row 0", offsetof(struct report, rows[0].arrivals_per_s), NAN },
        { "negative arrivals", "row 0", offsetof(struct report, rows[0].arrivals_per_s), -1 },
        { "absurd arrivals", "row 0", offsetof(struct report, rows[0].arrivals_per_s), 1e8f },
        { "absurd capacity", "row 1", offsetof(struct report, rows[1].capacity_per_s), INFINITY },
        { "a year of service", "row 0", offsetof(struct report, rows[0].service_ms), 3e10f },
        { "a negative start", "row 1", offsetof(struct report, rows[1].start_ms), -INFINITY },
        { "not one of ours", "no report", 0, 1 },
        { "another version", "version 0", 4, 0 },
        { "a later one", "version 4", 4, 0x1.0004p-133f },
        { "a flag of the first one", "later", 4, 0x1.80018p-132f },
        { "a negative last start", "row 0", offsetof(struct report, rows[0].last_start_ms), -1 },
        { "an endless last start", "row 1", offsetof(struct report, rows[1].last_start_ms),
          INFINITY },
        { "rows out of order", "row 1", offsetof(struct report, rows[1].endpoint), 0 },
        { "more PoPs reached", "rows has", offsetof(struct report, head.reached), 1 },
        { "more rows", "rows has", offsetof(struct report, head.count), 1 },
        { "number 0", "later", offsetof(struct report, head.number), 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct report bad = report();
        struct err err = {};
        print_message("  %s\n", rows[i].name);
        memcpy((char *)&bad + rows[i].offset, &rows[i].value, sizeof(float));
        struct slice bytes = { (const char *)&bad, sizeof bad };
        assert_int_equal(peer_load_check(bytes, &err), ERR_BAD_INPUT);
        if (!strstr(err.message, rows[i].wanted))
            fail_msg("'%s' does not say '%s'", err.message, rows[i].wanted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_build),
        cmocka_unit_test(test_fresh),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_build_refuses),
        cmocka_unit_test(test_differs),
        cmocka_unit_test(test_differs_by_any_field),
        cmocka_unit_test(test_peer_load),
        cmocka_unit_test(test_peer_load_of_the_version_before),
        cmocka_unit_test(test_peer_load_of_the_first_version),
        cmocka_unit_test(test_peer_load_lies),
        cmocka_unit_test(test_peer_load_reached),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
