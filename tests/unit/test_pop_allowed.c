/* SPDX-License-Identifier: Apache-2.0 */
/* What regions and residency say of a PoP, and what is said where replicas may not be there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h> /* after the above */

#include "base/arena.h"
#include "base/err.h"
#include "contract/messages.h"
#include "contract/table.h"
#include "pop/agent.h"
#include "pop/state.h"

static unsigned reports;

static void nothing(struct pop *pop, void *data)
{
    (void)pop;
    (void)data;
}

static void report(struct pop *pop, void *data)
{
    (void)pop;
    (void)data;
    reports++;
}

static const struct pop_effects effects = { .publish = nothing, .report = report, .save = nothing };

static void timer_start(struct env *env, struct env_timer *timer, int64_t delay_ns,
                        env_timer_cb on_due, void *data)
{
    (void)env;
    (void)timer;
    (void)delay_ns;
    (void)on_due;
    (void)data;
}

static void timer_stop(struct env *env, struct env_timer *timer)
{
    (void)env;
    (void)timer;
}

static int64_t now(struct env *env)
{
    (void)env;
    return ENV_S;
}

static struct env env = { .name = "test",
                          .now_ns = now,
                          .wall_ns = now,
                          .timer_start = timer_start,
                          .timer_stop = timer_stop };

static const char sets[] =
    "sets: [{name: DACH, countries: [AT, CH, DE], source: us, date: 2026-11-28}]";
static const struct {
    const char *country, *spec, *why; /* why not; NULL: it may */
    size_t rules;
} rows[] = {
    { "", "", NULL, 0 },
    { "", ",\"regions\":[\"berlin\"]", NULL, 0 },
    { "", ",\"regions\":[\"DE\"]", "regions do not hold this PoP, 'berlin' (without a country)",
      0 },
    { "", ",\"residency\":{\"process_in\":\"any\"}", "does not say in which country", 1 },
    { "DE", ",\"residency\":{\"process_in\":\"any\"}", NULL, 1 },
    { "DE", ",\"residency\":{\"process_in\":[\"DACH\"]},\"regions\":[\"eu\"]", NULL, 1 },
    { "DE", ",\"regions\":[\"us\",\"FR\"]", "regions do not hold this PoP, 'berlin' (DE)", 0 },
    { "DE", ",\"residency\":{\"process_in\":[\"US\"]}", "lets nothing be processed", 1 },
    { "DE", ",\"residency\":{\"process_in\":\"same-country\"}", NULL, 1 },
    { "DE", ",\"residency\":{\"rules\":[{\"clients\":[\"FR\"],\"process_in\":\"same-country\"}]}",
      "lets nothing be processed", 1 },
    { "DE", ",\"residency\":{\"process_in\":[\"NATO\"]}", "'NATO' is no country's code", 1 },
    { "DE", ",\"residency\":{\"process_at\":[\"DE\"]}", "a way this PoP does not know", 1 },
    { "DE", ",\"regions\":[]", "a way this PoP does not know", 1 },
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct region_place place = { SLICE("berlin"), SLICE("eu-west"),
                                            country_number_of(slice_of(rows[i].country)) };
        char text[512];
        struct pop pop;
        struct err err = {};
        print_message("  %s%s\n", rows[i].country, rows[i].spec);
        pop_init(&pop, &env, 1, &effects, NULL);
        assert_int_equal(pop_stand(&pop, &place, slice_of(sets), &err), 0);
        snprintf(text, sizeof text,
                 "{\"uid\":1,\"name\":\"digits\",\"state\":\"running\",\"target\":1,\"revisions\":"
                 "[],\"spec\":{\"name\":\"digits\",\"model\":\"m\"%s}}",
                 rows[i].spec);
        reports = 0;
        if (pop_endpoint_apply(&pop, slice_of(text), &err) < 0)
            fail_msg("%s", err.message);
        const struct pop_endpoint *endpoint = pop_endpoint_find(&pop, 1);
        assert_int_equal(endpoint->running, rows[i].why == NULL);
        assert_int_equal(endpoint->residency.count, rows[i].rules);
        assert_int_equal(reports, rows[i].why != NULL);
        if (!rows[i].why)
            assert_null(endpoint->elsewhere);
        else if (!strstr(endpoint->elsewhere, rows[i].why))
            fail_msg("'%s' lacks '%s'", endpoint->elsewhere, rows[i].why);
        pop_deinit(&pop);
    }
}

/* Of residency that is not known here, the gateway is told that it allows nothing. */
static void test_what_is_not_known_allows_nothing(void **state)
{
    static const char text[] =
        "{\"uid\":1,\"name\":\"digits\",\"state\":\"running\",\"target\":1,\"revisions\":[],"
        "\"spec\":{\"name\":\"digits\",\"model\":\"m\",\"residency\":{\"new\":1}}}";
    struct pop pop;
    struct err err;
    (void)state;
    pop_init(&pop, &env, 1, &effects, NULL);
    assert_int_equal(pop_endpoint_apply(&pop, slice_of(text), &err), 0);
    for (unsigned client = 0; client <= COUNTRY_NUMBER_MAX; client++) {
        struct residency_verdict verdict =
            residency_decide(&pop_endpoint_find(&pop, 1)->residency, (country_number)client, NULL);
        assert_true(countries_empty(&verdict.process) && countries_empty(&verdict.transit));
    }
    pop_deinit(&pop);
}

static void test_bad_sets(void **state)
{
    struct pop pop;
    struct err err;
    (void)state;
    pop_init(&pop, NULL, 1, &effects, NULL);
    assert_int_equal(pop_stand(&pop, &(struct region_place){}, SLICE("sets: 5"), &err),
                     ERR_BAD_INPUT);
    assert_int_equal(pop.sets.count, 2); /* those built in stay */
    arena_free(pop.place_arena);
}

/* A list of PoPs as control sends it, the region it gives this one (berlin), or what is wrong. */
static const struct {
    const char *list, *error;
    size_t count;
    bool here; /* the endpoint, whose regions are [eu], may be at this PoP then */
} lists[] = {
    { "[]", NULL, 0, false },
    { "[{\"name\":\"berlin\",\"region\":\"eu-west\",\"country\":\"DE\"},"
      "{\"name\":\"tokyo\",\"region\":\"\",\"country\":\"JP\"}]",
      NULL, 2, true },
    { "[{\"name\":\"paris\"}]", NULL, 1, true }, /* without it nothing is known anew */
    { "[{\"name\":\"berlin\",\"region\":\"us\"}]", NULL, 1, false },
    { "{}", "must be a list", 1, false },
    { "[{\"region\":\"eu\"}]", "'name' is missing", 1, false },
    { "[{\"name\":\"Berlin\",\"region\":\"eu\"}]", "PoP", 1, false },
    { "[{\"name\":\"berlin\",\"region\":7}]", "'region' must be", 1, false },
    { "[{\"name\":\"berlin\",\"region\":\"eu\"}]", NULL, 1, true },
    { "[{\"name\":\"berlin\",\"latitude\":91,\"longitude\":0}]", "nowhere on Earth", 1, true },
    { "[{\"name\":\"berlin\",\"addresses\":[\"10.0.0.300\"]}]", "is no address", 1, true },
    { "[{\"name\":\"berlin\",\"region\":\"eu\",\"state\":\"draining\",\"latitude\":52.5,"
      "\"longitude\":13.4,\"addresses\":[\"10.0.0.3\",\"2001:db8::1\"]}]",
      NULL, 1, true },
};

static void test_where_it_stands_is_control_s_word(void **state)
{
    static const char text[] =
        "{\"uid\":1,\"name\":\"digits\",\"state\":\"running\",\"target\":1,\"revisions\":[],"
        "\"spec\":{\"name\":\"digits\",\"model\":\"m\",\"regions\":[\"eu\"]}}";
    const struct region_place place = { SLICE("berlin"), SLICE(""), COUNTRY_UNKNOWN };
    struct pop pop;
    struct err err = {};
    (void)state;
    pop_init(&pop, &env, 1, &effects, NULL);
    pop.name = "berlin";
    assert_int_equal(pop_stand(&pop, &place, (struct slice){}, &err), 0);
    assert_int_equal(pop_endpoint_apply(&pop, slice_of(text), &err), 0);
    assert_non_null(pop_endpoint_find(&pop, 1)->elsewhere);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        int r = pop_peers_apply(&pop, slice_of(lists[i].list), &err);
        print_message("  %s: %s\n", lists[i].list, r < 0 ? err.message : "taken");
        assert_int_equal(r, lists[i].error ? ERR_BAD_INPUT : 0);
        if (lists[i].error && !strstr(err.message, lists[i].error))
            fail_msg("'%s' lacks '%s'", err.message, lists[i].error);
        assert_int_equal(pop.peer_count, lists[i].count);
        assert_int_equal(pop_endpoint_find(&pop, 1)->running, lists[i].here);
    }
    pop_deinit(&pop);
}

/* Who drains is told apart from whether control hears of it. */
static void test_what_control_says_of_a_peer(void **)
{
    static const struct {
        const char *said;
        uint32_t flags;
    } said[] = {
        { "\"state\":\"ready\",\"draining\":false", TABLE_POP_UP },
        { "\"state\":\"ready\"", TABLE_POP_UP },
        { "\"state\":\"draining\",\"draining\":true", TABLE_POP_UP | TABLE_POP_DRAINING },
        { "\"state\":\"draining\"", TABLE_POP_UP | TABLE_POP_DRAINING },
        { "\"state\":\"unreachable\",\"draining\":true", TABLE_POP_DRAINING },
        { "\"state\":\"unreachable\",\"draining\":false", 0 },
        { "\"state\":\"joining\"", 0 },
    };
    struct pop pop;
    struct err err = {};
    pop_init(&pop, &env, 1, &effects, NULL);
    pop.name = "berlin";
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        char list[128];
        (void)snprintf(list, sizeof list, "[{\"name\":\"rome\",%s}]", said[i].said);
        print_message("  %s\n", list);
        assert_int_equal(pop_peers_apply(&pop, slice_of(list), &err), 0);
        assert_int_equal(pop.peers[0].flags, said[i].flags);
    }
    pop_deinit(&pop);
}

/* The gateway asks residency of the country that control placed by, whatever the PoP was started
 * with: an operator may have made it anew with another. */
static void test_the_table_says_the_country_that_control_says(void **state)
{
    const struct region_place place = { .name = SLICE("berlin"),
                                        .country = country_number_of(SLICE("DE")) };
    const struct message_start start = { .pop = "berlin", .country = "DE", .zone = "perigee.test" };
    static const struct {
        const char *peers, *country;
    } said[] = {
        { NULL, "DE" },
        { "[{\"name\":\"rome\",\"country\":\"IT\"}]", "DE" },
        { "[{\"name\":\"rome\",\"country\":\"IT\"},{\"name\":\"berlin\",\"country\":\"US\"}]",
          "US" },
        { "[{\"name\":\"berlin\",\"country\":\"\"}]", "" },
    };
    struct arena *arena = arena_new();
    struct pop pop;
    struct err err;
    (void)state;
    pop_init(&pop, &env, 1, &effects, NULL);
    pop.name = "berlin";
    assert_int_equal(pop_stand(&pop, &place, (struct slice){}, &err), 0);
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        struct slice bytes;
        if (said[i].peers)
            assert_int_equal(pop_peers_apply(&pop, slice_of(said[i].peers), &err), 0);
        assert_int_equal(pop_table_make(&pop, &start, i + 1, arena, &bytes, &err), 0);
        const struct table_head *table = (const void *)bytes.data;
        assert_true(slice_is(table_text(table, table->country), said[i].country));
        const struct table_pop *row;
        for (uint32_t k = 0; (row = table_pop(table, k)); k++)
            if (slice_is(table_text(table, row->name), "berlin"))
                assert_int_equal(row->country, country_number_of(slice_of(said[i].country)));
    }
    pop_deinit(&pop);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_what_is_not_known_allows_nothing),
        cmocka_unit_test(test_bad_sets),
        cmocka_unit_test(test_where_it_stands_is_control_s_word),
        cmocka_unit_test(test_what_control_says_of_a_peer),
        cmocka_unit_test(test_the_table_says_the_country_that_control_says),
    };
    return cmocka_run_group_tests_name("pop_allowed", tests, NULL, NULL);
}
