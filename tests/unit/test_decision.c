/* SPDX-License-Identifier: Apache-2.0 */
/* What a gateway loop keeps of its last requests, and who may be believed when it is read. */
#include "contract/decision.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include "base/auto.h"

static void test_round_trips(void **state)
{
    static const struct {
        const char *name;
        unsigned source;
        float told, ms;
    } rows[] = {
        { "TCP's", DECISION_RTT_TCP, 12.5F, 12.5F },
        { "a trusted proxy's", DECISION_RTT_TRUSTED, 12.5F, 12.5F },
        { "nobody's", DECISION_RTT_UNKNOWN, 12.5F, 0 },
        { "of a source that is none", DECISION_RTT_END, 12.5F, 0 },
        { "nothing", DECISION_RTT_TCP, 0, 0 },
        { "less than nothing", DECISION_RTT_TCP, -1, 0 },
        { "without end", DECISION_RTT_TCP, INFINITY, 0 },
        { "no number", DECISION_RTT_TCP, NAN, 0 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct decision_record decision = { .client_rtt_ms = rows[i].told,
                                            .client_rtt_source = (uint8_t)rows[i].source };
        print_message("  %s\n", rows[i].name);
        assert_true(decision_client_ms(&decision) == rows[i].ms);
    }
    assert_string_equal(decision_rtt_text(DECISION_RTT_TCP), "TCP");
    assert_string_equal(decision_rtt_text(DECISION_RTT_TRUSTED), "trusted peer");
    assert_null(decision_rtt_text(DECISION_RTT_UNKNOWN));
    assert_null(decision_rtt_text(UINT32_MAX));
}

/* ---- rings ----------------------------------------------------------------------------------- */

enum { RINGS = 2 };

static int rings_new(void **state)
{
    *state = mem_zalloc(RINGS * sizeof(struct decision_ring));
    return 0;
}

static int rings_free(void **state)
{
    free(*state);
    return 0;
}

static void keep(struct decision_ring *ring, const char *id, int64_t at_s, unsigned pops)
{
    struct decision_record decision = { .at_s = at_s, .why = "cold", .pop_count = (uint8_t)pops };
    snprintf(decision.id, sizeof decision.id, "%s", id);
    for (unsigned i = 0; i < pops; i++)
        snprintf(decision.pops[i].name, sizeof decision.pops[i].name, "pop-%u", i);
    decision_write(ring, &decision);
}

/* When the one that was found was, or -1. */
static int64_t find(const struct decision_ring *rings, const char *id)
{
    struct decision_record found = { .at_s = -7 };
    if (!decision_find(rings, RINGS, slice_of(id), &found)) {
        assert_int_equal(found.at_s, -7); /* untouched */
        return -1;
    }
    assert_string_equal(found.id, id);
    assert_string_equal(found.why, "cold");
    for (unsigned i = 0; i < found.pop_count; i++) {
        char name[16];
        snprintf(name, sizeof name, "pop-%u", i);
        assert_string_equal(found.pops[i].name, name);
    }
    return found.at_s;
}

static void test_what_is_found(void **state)
{
    struct decision_ring *rings = *state;
    char longest[DECISION_ID_BYTES], longer[DECISION_ID_BYTES + 1];
    struct decision_record found;
    memset(longest, 'x', sizeof longest - 1);
    memset(longer, 'x', sizeof longer - 1);
    longest[sizeof longest - 1] = longer[sizeof longer - 1] = '\0';
    assert_int_equal(find(rings, "a"), -1);
    keep(&rings[0], "a", 5, 0);
    keep(&rings[1], "ab", 6, DECISION_POPS_MAX);
    keep(&rings[1], longest, 7, 1);
    assert_int_equal(find(rings, "a"), 5);
    assert_int_equal(find(rings, "ab"), 6);
    assert_int_equal(find(rings, longest), 7);
    assert_int_equal(find(rings, "b"), -1);
    assert_int_equal(find(rings, "abc"), -1); /* one is a part of it */
    assert_int_equal(find(rings, ""), -1);    /* which all others begin with */
    assert_int_equal(find(rings, longer), -1);
    /* More than there is room for, and equal to what lies behind it. */
    char beyond[DECISION_ID_BYTES + 7] = "";
    memcpy(beyond, longest, sizeof longest);
    assert_false(decision_find(rings, RINGS, (struct slice){ beyond, sizeof beyond }, &found));
    assert_false(decision_find(rings, 0, SLICE("a"), &found));
}

/* A client may say an id twice. */
static void test_the_newest_of_an_id(void **state)
{
    struct decision_ring *rings = *state;
    keep(&rings[0], "a", 5, 0);
    keep(&rings[1], "a", 9, 0);
    assert_int_equal(find(rings, "a"), 9);
    keep(&rings[1], "a", 4, 0); /* the clock was set back */
    assert_int_equal(find(rings, "a"), 9);
    keep(&rings[0], "a", 12, 0);
    assert_int_equal(find(rings, "a"), 12);
}

static void test_as_many_as_are_kept(void **state)
{
    struct decision_ring *rings = *state;
    char id[16];
    for (int i = 0; i <= DECISION_RING; i++) {
        snprintf(id, sizeof id, "r%d", i);
        keep(&rings[0], id, i, 3);
    }
    assert_int_equal(atomic_load(&rings[0].next), DECISION_RING + 1);
    assert_int_equal(find(rings, "r0"), -1);
    assert_int_equal(find(rings, "r1"), 1);
    snprintf(id, sizeof id, "r%d", DECISION_RING);
    assert_int_equal(find(rings, id), DECISION_RING);
}

/* What lies behind its PoPs is of an earlier one, and not looked at. */
static void test_fewer_pops_than_before(void **state)
{
    struct decision_ring *rings = *state;
    struct decision_record found;
    for (int i = 0; i < DECISION_RING; i++)
        keep(&rings[0], "a", i, DECISION_POPS_MAX);
    memset(rings[0].rows[0].decision.pops[4].name, 'x', DECISION_NAME_BYTES);
    keep(&rings[0], "b", 1, 4);
    assert_true(decision_find(rings, RINGS, SLICE("b"), &found));
    assert_int_equal(found.pop_count, 4);
}

/* ---- what a gateway that has gone wrong may have left ---------------------------------------- */

#define FILL(field) memset(row->decision.field, 'x', sizeof row->decision.field)

static void being_written(struct decision_row *row)
{
    atomic_store(&row->version, 3);
}

static void never_written(struct decision_row *row)
{
    atomic_store(&row->version, 0);
}

static void id_without_end(struct decision_row *row)
{
    memset(row->decision.id + 1, 'x', sizeof row->decision.id - 1);
}

static void country_without_end(struct decision_row *row)
{
    FILL(country);
}

static void why_without_end(struct decision_row *row)
{
    FILL(why);
}

static void chosen_without_end(struct decision_row *row)
{
    FILL(chosen);
}

static void too_many_pops(struct decision_row *row)
{
    row->decision.pop_count = DECISION_POPS_MAX + 1;
}

static void pop_without_end(struct decision_row *row)
{
    FILL(pops[1].name);
}

static void test_what_is_not_believed(void **state)
{
    static const struct {
        const char *name;
        void (*spoil)(struct decision_row *row);
    } rows[] = {
        { "a row that is being written", being_written },
        { "one that never was", never_written },
        { "an id without end", id_without_end },
        { "a country without end", country_without_end },
        { "a reason without end", why_without_end },
        { "a choice without end", chosen_without_end },
        { "more PoPs than there is room for", too_many_pops },
        { "a PoP's name without end", pop_without_end },
    };
    struct decision_ring *rings = *state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_message("  %s\n", rows[i].name);
        memset(rings, 0, RINGS * sizeof *rings);
        keep(&rings[0], "a", 5, 2);
        assert_int_equal(find(rings, "a"), 5);
        rows[i].spoil(&rings[0].rows[0]);
        assert_int_equal(find(rings, "a"), -1);
        keep(&rings[1], "a", 3, 2); /* an older one that is right is found */
        assert_int_equal(find(rings, "a"), 3);
    }
}

/* A row that a loop was writing as its process was killed: the next writer makes it whole. */
static void test_a_row_that_was_left_half_written(void **state)
{
    struct decision_ring *rings = *state;
    keep(&rings[0], "a", 5, 2);
    atomic_store(&rings[0].rows[1].version, 7);
    keep(&rings[0], "b", 6, 2);
    assert_int_equal(atomic_load(&rings[0].rows[1].version), 8);
    assert_int_equal(find(rings, "b"), 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test_setup_teardown(test_what_is_found, rings_new, rings_free),
        cmocka_unit_test_setup_teardown(test_the_newest_of_an_id, rings_new, rings_free),
        cmocka_unit_test_setup_teardown(test_as_many_as_are_kept, rings_new, rings_free),
        cmocka_unit_test_setup_teardown(test_fewer_pops_than_before, rings_new, rings_free),
        cmocka_unit_test_setup_teardown(test_what_is_not_believed, rings_new, rings_free),
        cmocka_unit_test_setup_teardown(test_a_row_that_was_left_half_written, rings_new,
                                        rings_free),
    };
    return cmocka_run_group_tests_name("decision", tests, NULL, NULL);
}
