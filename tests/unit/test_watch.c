/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent's watch, from control's hub to the agent's core: what is told of what has changed
 * meanwhile; and, whatever happens in between, that both know the same once all has come.
 */
#include "watch_world.h"

/* ---- what is told ---------------------------------------------------------------------------- */

static void two(struct control *control)
{
    (void)pop_put(control, "paris", PARIS);
    (void)endpoint_put(control, 1, "");
    (void)endpoint_put(control, 2, "");
    refresh(control);
}

static void nothing_happens(struct world *)
{
}

static void one_changes(struct world *world)
{
    (void)endpoint_put(&world->control, 2, ",\"scale\":{\"min\":2}");
}

static void one_changes_often(struct world *world)
{
    for (int i = 0; i < 5; i++)
        one_changes(world), (void)endpoint_put(&world->control, 2, ",\"scale\":{\"min\":3}");
}

static void one_for_another(struct world *world)
{
    (void)endpoint_put(&world->control, 3, "");
    hub_remove(&world->control, 2);
}

static void one_comes_and_goes(struct world *world)
{
    (void)endpoint_put(&world->control, 3, "");
    hub_remove(&world->control, 3);
}

static void a_pop_comes(struct world *world)
{
    (void)pop_put(&world->control, "rome", TOKYO);
}

static void a_pop_comes_unheard(struct world *world)
{
    a_pop_comes(world);
    watch_pop_keys(&world->control);
    (void)pop_put(&world->control, "oslo", TOKYO);
}

static void many_go(struct world *world, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        (void)endpoint_put(&world->control, 100 + i, "");
        hub_remove(&world->control, 100 + i);
    }
}

static void as_many_go_as_are_kept(struct world *world)
{
    many_go(world, HUB_GONE_MAX);
}

static void one_more_goes(struct world *world)
{
    many_go(world, HUB_GONE_MAX + 1);
}

static void it_starts_anew(struct world *world)
{
    control_restart(world, ENV_S);
    two(&world->control);
}

/* The numbers go back as well: the wall's clock was set back, too. */
static void it_is_restored(struct world *world)
{
    control_restart(world, -500 * ENV_S);
    two(&world->control);
    hub_remove(&world->control, 2);
    (void)endpoint_put(&world->control, 1, ",\"scale\":{\"min\":7}");
}

#define ALL "pops, keys, endpoint 1, endpoint 2, synced 1 2"
#define MARK "own"
static const struct {
    const char *name;
    void (*meanwhile)(struct world *world);
    const char *id; /* MARK: the agent's */
    int64_t more;   /* than that number */
    enum resume wanted;
    const char *told; /* NULL: not looked at */
} rows[] = {
    { "an agent that has nothing", nothing_happens, "", 0, RESUME_FIRST, ALL },
    { "an id of an agent of before", nothing_happens, "17", 0, RESUME_FIRST, ALL },
    { "nothing has changed", nothing_happens, MARK, 0, RESUME_ON, "synced 1 2" },
    { "one has changed", one_changes, MARK, 0, RESUME_ON, "endpoint 2, synced 1 2" },
    { "one has changed often", one_changes_often, MARK, 0, RESUME_ON, "endpoint 2, synced 1 2" },
    { "one for another", one_for_another, MARK, 0, RESUME_ON, "gone 2, endpoint 3, synced 1 3" },
    { "one came and went", one_comes_and_goes, MARK, 0, RESUME_ON, "gone 3, synced 1 2" },
    { "a PoP has come", a_pop_comes, MARK, 0, RESUME_ON, "pops, keys, synced 1 2" },
    { "PoPs have come", a_pop_comes_unheard, MARK, 0, RESUME_ON, "pops, keys, synced 1 2" },
    { "as many went as are kept", as_many_go_as_are_kept, MARK, 0, RESUME_ON, NULL },
    { "one more", one_more_goes, MARK, 0, RESUME_BEHIND, ALL },
    { "it is told again what it has", one_changes, MARK, -1, RESUME_ON, NULL },
    { "far behind", one_more_goes, MARK, -1000, RESUME_BEHIND, ALL },
    { "of the future", one_changes, MARK, 1000, RESUME_AHEAD, ALL },
    { "control began anew", it_starts_anew, MARK, 0, RESUME_EPOCH, ALL },
    { "and its number is lower", it_starts_anew, MARK, -1000, RESUME_EPOCH, ALL },
    { "control was restored", it_is_restored, MARK, 0, RESUME_EPOCH,
      "pops, keys, endpoint 1, synced 1" },
    { "and its number is one of it", it_is_restored, MARK, -500'000'000, RESUME_EPOCH,
      "pops, keys, endpoint 1, synced 1" },
};

static uint64_t begun(struct control *control, enum resume how)
{
    struct slice word = slice_of(resume_word(how));
    return metrics_series(&control->metrics, CONTROL_WATCHES_BEGUN, &word)->words[0];
}

static void test_what_is_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        void *made;
        print_message("  %s\n", rows[i].name);
        assert_int_equal(fleet_up(&made), 0);
        struct world *world = made;
        struct site *site = site_new(&world->control);
        two(&world->control);
        site_open(site, NULL);
        site_read(site, SPACE);
        assert_string_equal(site->words, ALL);
        check_same(site);
        site_cut(site);

        rows[i].meanwhile(world);
        uint64_t before = begun(&world->control, rows[i].wanted);
        char text[WATCH_MARK_BYTES];
        struct watch_mark had = site->told.mark;
        had.number += (uint64_t)rows[i].more;
        const char *id = strcmp(rows[i].id, MARK) == 0 ? watch_mark_text(had, text) : rows[i].id;
        site_open(site, id);
        site_read(site, SPACE);
        assert_int_equal(begun(&world->control, rows[i].wanted), before + 1);
        if (rows[i].told)
            assert_string_equal(site->words, rows[i].told);
        check_same(site);
        site_free(site);
        assert_int_equal(fleet_down(&made), 0);
    }
}

/* Told what has changed since somebody else's mark, it notices, and keeps what it has. */
static void test_led_astray(void **state)
{
    struct world *world = *state;
    struct control *control = &world->control;
    struct site *site = site_new(control);
    char text[WATCH_MARK_BYTES];
    two(control);
    site_open(site, NULL);
    site_read(site, SPACE);
    struct watch_mark had = site->told.mark;
    site_cut(site);
    (void)endpoint_put(control, 3, "");
    had.number = control->hub.changes;
    site_open(site, watch_mark_text(had, text)); /* it has never heard of the third */
    site_read(site, SPACE);
    assert_int_equal(site->astray, 1);
    assert_false(site->open);
    assert_true(pop_endpoint_find(&site->pop, 2)->wanted);
    site_open(site, NULL);
    assert_int_equal(begun(control, RESUME_FIRST), 2);
    site_read(site, SPACE);
    check_same(site);
    /* Of another epoch than it asked for: before anything of it is taken. */
    site_cut(site);
    site->told.mark.epoch ^= 2;
    (void)endpoint_put(control, 1, ",\"scale\":{\"min\":6}");
    had = (struct watch_mark){ control->hub.epoch, control->hub.changes - 1 };
    site_open(site, watch_mark_text(had, text));
    site_read(site, SPACE);
    assert_int_equal(site->astray, 2);
    assert_string_equal(site->words, "");
    site_free(site);
}

/* Half of all that there is is no place to go on from: the mark is that of the end. */
static void test_a_beginning_that_was_cut(void **state)
{
    struct world *world = *state;
    struct control *control = &world->control;
    two(control);
    for (size_t bytes = 0;; bytes += 17) {
        struct site *site = site_new(control);
        site_open(site, NULL);
        site_read(site, bytes);
        bool whole = site->synced;
        assert_true(whole == (site->told.mark.epoch != 0));
        site_cut(site);
        site_open(site, NULL);
        site_read(site, SPACE);
        assert_int_equal(site->resumed, whole);
        check_same(site);
        site_free(site);
        if (whole)
            break;
    }
}

/* What could not be read is told again, with all. */
static void test_what_cannot_be_read(void **state)
{
    static const char *const events[][2] = {
        { "endpoint", "{\"uid\":1}" },
        { "pops", "{}" },
        { "keys", "[]" },
        { "gone", "{}" },
        { "secret", "{}" },
        { "secrets", "{}" },
        { "endpoint", "" },
    };
    struct world *world = *state;
    struct control *control = &world->control;
    two(control);
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        struct site *site = site_new(control);
        site_open(site, NULL);
        site_read(site, SPACE);
        assert_true(site->told.mark.epoch != 0);
        char id[24];
        snprintf(id, sizeof id, "%llu", (unsigned long long)control->hub.changes);
        (void)pop_told_event(&site->told, &site->pop, slice_of(events[i][0]), slice_of(id),
                             slice_of(events[i][1]));
        check_same(site); /* it changes nothing */
        assert_true(site->told.mark.epoch == 0);
        site_cut(site);
        (void)endpoint_put(control, 2, ",\"scale\":{\"min\":2}");
        site_open(site, NULL);
        site_read(site, SPACE);
        assert_int_equal(site->all, 2);
        check_same(site);
        site_free(site);
    }
}

/* A control of before: no "begins", no epoch; each watch tells all. */
static void test_a_control_of_before(void **state)
{
    static const char first[] =
        "event: endpoint\nid: 5\ndata: "
        "{\"uid\":1,\"name\":\"e\",\"state\":\"running\",\"target\":1,"
        "\"revisions\":[],\"spec\":{\"model\":\"m\"}}\n\nevent: synced\nid: 5\n"
        "data: {\"uids\":[1]}\n\n";
    static const char second[] = "event: synced\nid: 6\ndata: {\"uids\":[]}\n\n";
    struct world *world = *state;
    struct site *site = site_new(&world->control);
    site->told.mark = (struct watch_mark){ 7, 4 };
    for (int i = 0; i < 2; i++) {
        site->sse = (struct sse){ .on_event = on_event, .data = site };
        pop_told_open(&site->told);
        assert_true(sse_feed(&site->sse, slice_of(i ? second : first)));
        assert_true(site->told.mark.epoch == 0);
        assert_int_equal(pop_endpoint_find(&site->pop, 1)->wanted, i == 0);
        sse_deinit(&site->sse);
    }
    assert_int_equal(site->all, 2);
    site_free(site);
}

/* ---- whatever happens ------------------------------------------------------------------------ */

enum { UIDS = 40, SECRETS = 8, STEPS = 20'000 };

struct day {
    struct world *world;
    struct site *site;
    struct {
        unsigned min[UIDS + 1];     /* by uid; 0: there is none */
        unsigned versions[SECRETS]; /* 0: there is none */
    } is, saved;                    /* what a backup has */
    unsigned newest;
    bool rome;
};

static unsigned chance(struct day *day, unsigned of)
{
    return (unsigned)(env_random_u64(&day->world->env) >> 8) % of;
}

static void put(struct day *day, uint64_t uid)
{
    char more[64];
    unsigned min = day->is.min[uid];
    struct arena *arena = arena_new();
    const struct slice names[] = { secret_name(arena, (uid + min) % SECRETS),
                                   secret_name(arena, uid * 3 % SECRETS) };
    snprintf(more, sizeof more, ",\"scale\":{\"min\":%u}", min);
    (void)endpoint_put_naming(&day->world->control, uid, more, names, uid % 5 ? 0 : min % 3);
    arena_free(arena);
}

static void begin_anew(struct day *day, int64_t later_ns)
{
    site_cut(day->site);
    control_restart(day->world, later_ns);
    (void)pop_put(&day->world->control, "paris", PARIS);
    if (day->rome)
        (void)pop_put(&day->world->control, "rome", TOKYO);
    secrets_are(&day->world->control, day->is.versions, SECRETS);
    for (uint64_t uid = 1; uid <= UIDS; uid++)
        if (day->is.min[uid])
            put(day, uid);
}

static void happens(struct day *day)
{
    struct control *control = &day->world->control;
    uint64_t uid = 1 + chance(day, UIDS);
    unsigned dice = chance(day, 1000);
    if (dice < 50) {
        day->is.versions[dice % SECRETS] = dice < 40 ? ++day->newest : 0;
        secrets_are(control, day->is.versions, SECRETS);
    } else if (dice < 300) {
        day->is.min[uid] = 1 + chance(day, 3);
        put(day, uid);
    } else if (dice < 400) {
        day->is.min[uid] = 0;
        hub_remove(control, uid);
    } else if (dice < 420) {
        day->rome = true;
        (void)pop_put(control, "rome", chance(day, 2) ? TOKYO : LONDON);
    } else if (dice < 440) {
        watch_pop_keys(control);
    } else if (dice < 460) {
        refresh(control);
    } else if (dice < 463) {
        begin_anew(day, (int64_t)chance(day, 100) * ENV_S);
    } else if (dice < 465) {
        day->saved = day->is;
    } else if (dice < 467) {
        day->is = day->saved;
        begin_anew(day, -(int64_t)chance(day, 100) * ENV_S);
    } else if (dice < 500) {
        site_cut(day->site);
    } else if (!day->site->open) {
        site_open(day->site, NULL);
    } else {
        site_read(day->site, 1 + chance(day, dice < 950 ? 300 : SPACE));
    }
}

static void test_whatever_happens(void **state)
{
    struct day day = { .world = *state };
    struct control *control = &day.world->control;
    unsigned same = 0;
    day.site = site_new(control);
    day.world->now_ns = 100'000 * ENV_S;
    begin_anew(&day, 0);
    for (int i = 0; i < STEPS; i++) {
        happens(&day);
        if (chance(&day, 20))
            continue;
        if (!day.site->open)
            site_open(day.site, NULL);
        refresh(control);
        watch_pop_keys(control);
        watch_pop_secrets(control, NULL);
        site_read(day.site, SPACE);
        check_same(day.site);
        same++;
    }
    print_message("  %u times all was told, %u times what had changed; %u times compared\n",
                  day.site->all, day.site->resumed, same);
    assert_int_equal(day.site->astray, 0);
    assert_true(day.site->resumed > 100 && day.site->all > 50);
    site_free(day.site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_told),
        cmocka_unit_test_setup_teardown(test_led_astray, fleet_up, fleet_down),
        cmocka_unit_test_setup_teardown(test_a_beginning_that_was_cut, fleet_up, fleet_down),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_read, fleet_up, fleet_down),
        cmocka_unit_test_setup_teardown(test_a_control_of_before, fleet_up, fleet_down),
        cmocka_unit_test_setup_teardown(test_whatever_happens, fleet_up, fleet_down),
    };
    log_level_set(LOG_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
