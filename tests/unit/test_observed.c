/* SPDX-License-Identifier: Apache-2.0 */
/* What PoPs say of each other, as `explain` takes it: who is up for clients, who misses whom. */
#include "control/observed.h"

#include "control/report.h"
#include "control_world.h"
#include "policy/route.h"

#define UP(pop) "{\"pop\":\"" pop "\",\"health\":\"up\",\"rtt_ms\":9}"
#define DOWN(pop) "{\"pop\":\"" pop "\",\"health\":\"down\",\"rtt_ms\":9}"
#define DRAINING(pop) "{\"pop\":\"" pop "\",\"health\":\"draining\",\"rtt_ms\":9}"
#define ELSEWHERE(pop) "{\"pop\":\"" pop "\",\"health\":\"down\",\"elsewhere\":true,\"rtt_ms\":9}"
#define SAYS(peers) "{\"instance\":1,\"sequence\":1,\"peers\":[" peers "]}"
#define DRAINS "\"draining\":true"
#define NOTHING "{\"instance\":1,\"sequence\":1}"

enum { PARIS_, QUITO_, TOKYO_, POPS }; /* by name */
static const char *const names[POPS] = { "paris", "quito", "tokyo" };

/* Each of them, by its report. `away`: its connection has ended; `late`: it said so long ago;
 * `silent`: for so long that control takes it for unreachable; `drained`: by the operator. */
static const struct {
    const char *name, *says[POPS];
    bool away[POPS], late[POPS], silent[POPS], drained[POPS];
    const char *said; /* "u", "d", "r" (drained) of each */
    struct {
        uint32_t reached_by, missed_by;
    } tokyo;
} rows[] = {
    { "nobody says anything", { NOTHING, NOTHING, NOTHING }, .said = "uuu" },
    { "all reach all",
      { SAYS(UP("quito") "," UP("tokyo")), SAYS(UP("tokyo") "," UP("paris")),
        SAYS(UP("paris") "," UP("quito")) },
      .said = "uuu",
      .tokyo = { 2, 0 } },
    { "one has died, and control still hears it",
      { SAYS(UP("quito") "," DOWN("tokyo")), SAYS(DOWN("tokyo") "," UP("paris")), NOTHING },
      .said = "uud",
      .tokyo = { 0, 2 } },
    { "what it said itself before counts no more, as its connection ended",
      { SAYS(UP("quito") "," DOWN("tokyo")), SAYS(DOWN("tokyo") "," UP("paris")),
        SAYS(DOWN("paris") "," DOWN("quito")) },
      .away = { [TOKYO_] = true },
      .said = "uud",
      .tokyo = { 0, 2 } },
    { "a link alone is cut: one reaches it",
      { SAYS(UP("quito") "," DOWN("tokyo")), SAYS(UP("tokyo") "," UP("paris")), NOTHING },
      .said = "uuu",
      .tokyo = { 1, 1 } },
    { "from there alone, as it knows",
      { SAYS(UP("quito") "," ELSEWHERE("tokyo")), NOTHING, NOTHING },
      .said = "uuu",
      .tokyo = { 0, 1 } },
    { "two died at once: the last word of the one on the other is not that of somebody who asks",
      { SAYS(DOWN("quito") "," DOWN("tokyo")), SAYS(UP("tokyo") "," UP("paris")),
        SAYS(UP("paris") "," UP("quito")) },
      .away = { [QUITO_] = true, [TOKYO_] = true },
      .said = "udd",
      .tokyo = { 0, 1 } },
    { "the same, and their connections stand: an old word",
      { SAYS(DOWN("quito") "," DOWN("tokyo")), SAYS(UP("tokyo") "," UP("paris")),
        SAYS(UP("paris") "," UP("quito")) },
      .late = { [QUITO_] = true, [TOKYO_] = true },
      .said = "udd",
      .tokyo = { 0, 1 } },
    { "control alone does not hear it",
      { SAYS(UP("quito") "," UP("tokyo")), NOTHING, NOTHING },
      .away = { [TOKYO_] = true },
      .silent = { [TOKYO_] = true },
      .said = "uuu",
      .tokyo = { 1, 0 } },
    { "nobody hears it",
      { NOTHING, NOTHING, NOTHING },
      .away = { [TOKYO_] = true },
      .silent = { [TOKYO_] = true },
      .said = "uud" },
    { "all are cut off from each other, and control hears them",
      { SAYS(DOWN("quito") "," DOWN("tokyo")), SAYS(DOWN("tokyo") "," DOWN("paris")),
        SAYS(DOWN("paris") "," DOWN("quito")) },
      .said = "uuu",
      .tokyo = { 0, 2 } },
    { "others say that it drains, and the operator knows nothing of it",
      { SAYS(DRAINING("tokyo")), SAYS(UP("tokyo")), NOTHING },
      .said = "uuu",
      .tokyo = { 2, 0 } },
    { "it drains",
      { SAYS(UP("tokyo")), SAYS(UP("tokyo")), NOTHING },
      .drained = { [TOKYO_] = true },
      .said = "uur",
      .tokyo = { 2, 0 } },
    { "it drains, and control alone does not hear it",
      { SAYS(UP("quito") "," UP("tokyo")), NOTHING, NOTHING },
      .away = { [TOKYO_] = true },
      .silent = { [TOKYO_] = true },
      .drained = { [TOKYO_] = true },
      .said = "uur",
      .tokyo = { 1, 0 } },
    { "it was to drain, and nobody hears it",
      { SAYS(DOWN("tokyo")), NOTHING, NOTHING },
      .away = { [TOKYO_] = true },
      .silent = { [TOKYO_] = true },
      .drained = { [TOKYO_] = true },
      .said = "uud",
      .tokyo = { 0, 1 } },
    { "of itself, of one that is not there, and of one twice",
      { SAYS(UP("paris") "," UP("lima") "," DOWN("tokyo") "," DOWN("tokyo")),
        SAYS(DOWN("aachen") "," DOWN("zagreb")), SAYS(DOWN("tokyo")) },
      .said = "uud",
      .tokyo = { 0, 1 } },
};

static void hear(struct control *control, struct hub_pop *pop, const char *text)
{
    struct arena *arena = arena_new();
    struct report report;
    struct err err = {};
    if (report_parse(arena, slice_of(text), pop->name, 0, &report, &err) < 0)
        fail_msg("%s", err.message);
    hub_pop_state(control, pop, arena, &report);
}

static void test_rows(void **state)
{
    struct control *control = &((struct world *)*state)->control;
    const struct hub_pop *pops[POPS];
    for (size_t i = 0; i < POPS; i++)
        pops[i] = pop_put(control, names[i], PARIS);
    for (size_t n = 0; n < sizeof rows / sizeof *rows; n++) {
        print_message("  %s\n", rows[n].name);
        for (size_t i = 0; i < POPS; i++) {
            struct hub_pop *pop = hub_pop(control, slice_of(names[i]));
            hear(control, pop, rows[n].says[i]);
            if (rows[n].away[i])
                hub_pop_watched(control, pop, false);
            pop->reported_ms -= rows[n].late[i] ? OBSERVED_WORD_MS + 1 : 0;
            pop->silent = rows[n].silent[i];
            pop->row.wanted = rows[n].drained[i] ? SLICE("drained") : SLICE("joined");
        }
        struct arena *arena = arena_new();
        const struct observed *observed = observed_find(control, arena, pops, POPS);
        for (size_t i = 0; i < POPS; i++)
            assert_int_equal(observed[i].health, rows[n].said[i] == 'u'   ? ROUTE_UP
                                                 : rows[n].said[i] == 'd' ? ROUTE_DOWN
                                                                          : ROUTE_DRAINING);
        assert_int_equal(observed[TOKYO_].reached_by, rows[n].tokyo.reached_by);
        assert_int_equal(observed[TOKYO_].missed_by, rows[n].tokyo.missed_by);
        if (rows[n].tokyo.missed_by)
            assert_true(slice_is(observed[TOKYO_].missed[0], "paris"));
        if (rows[n].tokyo.missed_by > 1)
            assert_true(slice_is(observed[TOKYO_].missed[1], "quito"));
        struct slice told = view_peers(control, arena);
        assert_int_equal(memmem(told.data, told.size, DRAINS, strlen(DRAINS)) != NULL,
                         rows[n].drained[TOKYO_]);
        arena_free(arena);
        for (size_t i = 0; i < POPS; i++)
            if (rows[n].away[i])
                hub_pop_watched(control, hub_pop(control, slice_of(names[i])), true);
    }
}

/* Of many that miss one a few are named. */
static void test_many(void **state)
{
    struct control *control = &((struct world *)*state)->control;
    enum { MANY = OBSERVED_NAMES_MAX + 5 };
    char text[32];
    const struct hub_pop *dead = pop_put(control, "dead", PARIS);
    for (int i = 0; i < MANY; i++) {
        (void)snprintf(text, sizeof text, "pop-%02d", i);
        hear(control, pop_put(control, text, PARIS), SAYS(DOWN("dead")));
    }
    struct arena *arena = arena_new();
    const struct observed *observed = observed_find(control, arena, &dead, 1);
    assert_int_equal(observed->missed_by, MANY);
    assert_true(slice_is(observed->missed[OBSERVED_NAMES_MAX - 1], "pop-07"));
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("observed", tests, NULL, NULL);
}
