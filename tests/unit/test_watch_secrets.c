/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets over an agent's watch: those that have changed, and no more at once than it takes. */
#include "watch_world.h"

static void name_from(struct control *control, size_t first, size_t count)
{
    struct arena *arena = arena_new();
    struct slice *names = ARENA_ARRAY(arena, struct slice, count + 1);
    for (size_t i = 0; i < count; i++)
        names[i] = secret_name(arena, first + i);
    const char *more = arena_format(arena, ",\"scale\":{\"min\":%zu}", first % 7 + 1);
    (void)endpoint_put_naming(control, 1, more, names, count); /* another document, too */
    refresh(control);
    arena_free(arena);
}

static void again(struct site *site, const char *told)
{
    site_cut(site);
    site_open(site, NULL);
    site_read(site, SPACE);
    assert_string_equal(site->words, told);
    check_same(site);
}

static void test_secrets_that_have_changed(void **state)
{
    struct control *control = &((struct world *)*state)->control;
    struct site *site = site_new(control);
    (void)pop_put(control, "paris", PARIS);
    secrets_are(control, (unsigned[]){ 1, 1, 1 }, 3);
    name_from(control, 0, 2);
    again(site, "pops, keys, s-0000, s-0001, endpoint 1, synced 1");
    again(site, "synced 1");
    site_cut(site);
    secrets_are(control, (unsigned[]){ 1, 2, 2 }, 3);
    again(site, "s-0001, synced 1");
    site->words[0] = '\0';
    secrets_are(control, (unsigned[]){ 3, 3, 3 }, 3);
    while (!site->words[0]) /* live, and cut between the two */
        site_read(site, 1);
    again(site, "s-0001, synced 1");
    site_cut(site);
    name_from(control, 1, 2); /* at the time nobody is there to be told so */
    again(site, "s-0002, endpoint 1, synced 1");
    site_cut(site);
    secrets_are(control, (unsigned[]){ 3, 0, 3 }, 3);
    again(site, "synced 1");
    secrets_are(control, (unsigned[]){ 3, 3, 3 }, 3); /* as it was, but it was gone */
    again(site, "s-0001, synced 1");
    site_free(site);
}

/* Another agent of the PoP comes: what the first is still to forget is not lost on it. */
static void test_two_agents_hear_of_secrets(void **state)
{
    struct control *control = &((struct world *)*state)->control;
    struct site *first = site_new(control), *second = site_new(control);
    (void)pop_put(control, "paris", PARIS);
    secrets_are(control, (unsigned[]){ 1, 1, 1 }, 3);
    name_from(control, 0, 2);
    again(first, "pops, keys, s-0000, s-0001, endpoint 1, synced 1");
    name_from(control, 1, 2); /* to forget something has time */
    again(second, "pops, keys, s-0001, s-0002, endpoint 1, synced 1");
    site_read(first, SPACE);
    check_same(first);
    secrets_are(control, (unsigned[]){ 1, 2, 3 }, 3);
    site_read(first, SPACE);
    site_read(second, SPACE);
    check_same(first);
    check_same(second);
    site_free(first);
    site_free(second);
}

/* It has as many as it takes at no time more, and nothing is lost by that. */
static void test_secrets_for_others(void **state)
{
    enum { EACH = WATCH_SECRETS_MAX / 2 + 1 };
    struct control *control = &((struct world *)*state)->control;
    struct site *site = site_new(control);
    static unsigned versions[2 * EACH];
    (void)pop_put(control, "paris", PARIS);
    for (size_t i = 0; i < 2 * EACH; i++)
        versions[i] = 1;
    secrets_are(control, versions, 2 * EACH);
    name_from(control, 0, EACH);
    site_open(site, NULL);
    site_read(site, SPACE);
    check_same(site);
    name_from(control, EACH, EACH); /* live */
    site_read(site, SPACE);
    assert_true(site->told.mark.epoch != 0);
    check_same(site);
    site_cut(site);
    name_from(control, 0, EACH);
    site_open(site, NULL);
    site_read(site, SPACE);
    assert_true(site->told.mark.epoch != 0);
    check_same(site);
    assert_int_equal(site->all, 1);
    site_free(site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_secrets_that_have_changed, fleet_up, fleet_down),
        cmocka_unit_test_setup_teardown(test_two_agents_hear_of_secrets, fleet_up, fleet_down),
        cmocka_unit_test_setup_teardown(test_secrets_for_others, fleet_up, fleet_down),
    };
    log_level_set(LOG_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
