/* SPDX-License-Identifier: Apache-2.0 */
/* What replicas write, on its way to control: where residency does not let it leave, it stays, and
 * how much there was is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h> /* after the above */

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "io/loop.h"
#include "pop/agent.h"
#include "pop/report_json.h"
#include "pop/state_inside.h"

static int64_t now_ns;

static int64_t now(struct env *)
{
    return now_ns;
}

static void timer_start(struct env *, struct env_timer *, int64_t, env_timer_cb, void *)
{
}

static void timer_stop(struct env *, struct env_timer *)
{
}

static void nothing(struct pop *, void *)
{
}

static void lines_stay(struct pop_endpoint *, void *data)
{
    agent_notes_keep_back(data);
}

static const struct pop_effects effects = {
    .publish = nothing, .lines_stay = lines_stay, .report = nothing, .save = nothing
};

static struct stage {
    struct env env;
    struct agent *agent;
    struct pop_endpoint *endpoint;
    struct pop_replica *replica;
} stage;

static void apply(const char *residency)
{
    char text[512];
    struct err err = {};
    snprintf(text, sizeof text,
             "{\"uid\":1,\"name\":\"digits\",\"state\":\"running\",\"target\":1,\"revisions\":[],"
             "\"spec\":{\"name\":\"digits\",\"model\":\"m\"%s%s}}",
             residency ? ",\"residency\":" : "", residency ? residency : "");
    if (pop_endpoint_apply(&stage.agent->pop, slice_of(text), &err) < 0)
        fail_msg("%s", err.message);
}

static void begin(const char *country, bool control_here, const char *residency)
{
    const struct region_place place = { .name = SLICE("paris"),
                                        .country = country_number_of(slice_of(country)) };
    struct err err;
    now_ns = ENV_S;
    stage = (struct stage){ .env = { .name = "test",
                                     .now_ns = now,
                                     .wall_ns = now,
                                     .timer_start = timer_start,
                                     .timer_stop = timer_stop } };
    struct agent *agent = stage.agent = mem_zalloc(sizeof *agent);
    agent->loop = loop_new();
    agent->env = &stage.env;
    agent_report_open(agent);
    pop_init(&agent->pop, &stage.env, 1, &effects, agent);
    assert_int_equal(pop_stand(&agent->pop, &place, (struct slice){}, &err), 0);
    agent->pop.control_here = control_here;
    apply(residency);
    stage.endpoint = pop_endpoint_find(&agent->pop, 1);
    stage.replica = pop_replica_new(pop_revision_new(stage.endpoint, 1 << 24 | 1, 1));
}

static void end(void)
{
    agent_report_close(stage.agent);
    pop_deinit(&stage.agent->pop);
    loop_free(stage.agent->loop);
    free(stage.agent);
}

static void write_lines(const char *text)
{
    struct message_replica_log log = MESSAGE_INIT(MESSAGE_REPLICA_LOG);
    log.replica = stage.replica->id;
    log.bytes = (uint32_t)strlen(text);
    memcpy(log.data, text, log.bytes);
    agent_note_log(stage.agent, &log);
}

static void die(const char *last)
{
    struct pop_death death = {
        .revision = 1, .replica = "digits-1", .reason = "killed by SIGKILL", .log = (char *)last
    };
    agent_note_death(stage.agent, stage.endpoint, &death);
}

/* Whether a note that waits says so. */
static unsigned told(const char *text)
{
    const struct agent_note *note;
    unsigned count = 0;
    LIST_EACH (note, &stage.agent->notes, struct agent_note, link)
        count += strstr(note->json, text) != NULL;
    return count;
}

static const struct {
    const char *name, *country, *residency;
    bool control_here, leave;
} rows[] = {
    { "no residency", "DE", NULL, false, true },
    { "nor a country", "", NULL, false, true },
    { "any", "DE", "{\"process_in\":\"any\"}", false, true },
    { "a list, and control is somewhere", "DE", "{\"process_in\":[\"EU\"]}", false, false },
    { "control of this home", "DE", "{\"process_in\":[\"EU\"]}", true, true },
    { "which is not where it may be logged", "DE", "{\"process_in\":[\"EU\"],\"logs\":[\"FR\"]}",
      true, false },
    { "logs that may be anywhere", "DE", "{\"process_in\":[\"EU\"],\"logs\":\"any\"}", false,
      true },
    { "any, but for logs", "DE", "{\"process_in\":\"any\",\"logs\":[\"DE\"]}", false, false },
    { "what is not understood", "DE", "{\"process_at\":[\"DE\"]}", true, false },
};

static void test_where_lines_go(void **)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_message("  %s\n", rows[i].name);
        begin(rows[i].country, rows[i].control_here, rows[i].residency);
        write_lines("of a request\nof another\n");
        die("of a third\n");
        assert_int_equal(told("of a request"), rows[i].leave);
        assert_int_equal(told("of another"), rows[i].leave);
        assert_int_equal(told("of a third"), rows[i].leave);
        assert_int_equal(told("killed by SIGKILL"), 1);
        assert_int_equal(stage.endpoint->lines_kept, rows[i].leave ? 0 : 2);
        assert_int_equal(told("(1 line kept at this PoP: residency"), rows[i].leave ? 0 : 2);
        end();
    }
}

/* At the first, and then every 10 s in which more come. */
static void test_how_many_is_told_now_and_then(void **)
{
    begin("DE", false, "{\"process_in\":[\"EU\"]}");
    write_lines("one\n");
    assert_int_equal(told("(1 line kept"), 1);
    for (int i = 0; i < 5000; i++) /* more than may leave in a second */
        write_lines("more\n");
    assert_int_equal(stage.agent->note_count, 1);
    now_ns += 10 * ENV_S;
    assert_int_equal(stage.agent->note_count, 1);
    write_lines("and one\n\n");
    assert_int_equal(told("(5001 lines kept"), 1);
    assert_int_equal(stage.agent->note_count, 2);
    assert_int_equal(stage.endpoint->lines_kept, 5002);
    end();
}

/* What waited for control when the rules changed. */
static void test_what_waits_is_asked_again(void **)
{
    begin("DE", false, NULL);
    write_lines("first\nsecond\n");
    die("third\nfourth\n");
    agent_notes_keep_back(stage.agent);
    assert_int_equal(told("first") + told("second") + told("third"), 3);
    apply("{\"process_in\":[\"EU\"]}");
    assert_int_equal(told("first") + told("second") + told("third"), 0);
    assert_int_equal(told("killed by SIGKILL"), 1);
    assert_int_equal(told("(2 lines kept"), 1);
    assert_int_equal(stage.endpoint->lines_kept, 2);
    assert_int_equal(stage.agent->note_count, 1);
    end();
}

/* Nobody knows any more by which law. */
static void test_lines_of_one_that_is_gone_stay(void **)
{
    begin("DE", false, NULL);
    write_lines("first\nsecond\n");
    die("third\n");
    struct agent_note *note;
    LIST_EACH (note, &stage.agent->notes, struct agent_note, link)
        note->endpoint = 99;
    agent_notes_keep_back(stage.agent);
    assert_int_equal(told("first") + told("second") + told("third"), 0);
    assert_int_equal(told("killed by SIGKILL"), 1);
    assert_int_equal(stage.agent->note_count, 1);
    end();
}

static void test_the_report_has_the_sum(void **)
{
    struct report_room room = { 10, 1000, 0 };
    struct json_writer w;
    struct arena *arena = arena_new();
    begin("DE", false, "{\"process_in\":[\"EU\"]}");
    write_lines("one\ntwo\n");
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    report_state(&w, &stage.agent->pop, &room);
    json_object_end(&w);
    assert_non_null(strstr(json_end(&w).data, "\"lines_kept\":2"));
    arena_free(arena);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_where_lines_go),
        cmocka_unit_test(test_how_many_is_told_now_and_then),
        cmocka_unit_test(test_what_waits_is_asked_again),
        cmocka_unit_test(test_lines_of_one_that_is_gone_stay),
        cmocka_unit_test(test_the_report_has_the_sum),
    };
    return cmocka_run_group_tests_name("notes", tests, NULL, NULL);
}
