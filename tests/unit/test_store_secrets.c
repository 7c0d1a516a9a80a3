/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets in the store, and which endpoints name them. */
#include "store_case.h"

static int set_up(void **state)
{
    struct store_limits limits = store_limits_default();
    limits.secrets_max = 3;
    limits.revisions_kept = 2;
    return case_begin(state, &limits);
}

static struct store_secret named(const char *project, const char *name, const char *sealed,
                                 int64_t now_ns)
{
    return (struct store_secret){
        .project = slice_of(project),
        .name = slice_of(name),
        .sealed = slice_of(sealed),
        .created_ns = now_ns,
        .updated_ns = now_ns,
    };
}

static int tell(struct fixture *f, struct store *s, struct err *err)
{
    const struct store_secret rows[] = {
        named("default", "hub-token", "1:x:00", 1),
        named("default", "api-key", "1:x:01", 2),
        named("acme", "hub-token", "1:x:02", 3),
        named("default", "hub-token", "1:x:03", 4),
    };
    (void)f;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        OK(s->secret_put(s, &rows[i], err));
    return 0;
}

static int tell_more(struct fixture *f, struct store *s, struct err *err)
{
    const struct store_secret row = named("default", "one-more", "1:x:04", 5);
    (void)f;
    return s->secret_put(s, &row, err);
}

static int forget(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    OK(s->secret_delete(s, SLICE("default"), SLICE("hub-token"), err));
    assert_int_equal(s->secret_delete(s, SLICE("default"), SLICE("hub-token"), err), ERR_NOT_FOUND);
    return 0;
}

static void test_secrets(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    struct store_secret *list;
    struct slice *names, sealed;
    size_t count;
    OK(inside(f, tell, &failure));
    OK(s->secret_list(s, f->arena, &list, &count, &failure));
    assert_int_equal(count, 3);
    assert_true(slice_is(list[0].project, "acme") && slice_is(list[1].name, "api-key"));
    assert_true(slice_is(list[2].name, "hub-token") && slice_is(list[2].sealed, "1:x:03"));
    assert_int_equal(list[2].created_ns, 1);
    assert_int_equal(list[2].updated_ns, 4);
    OK(s->secret_sealed(s, SLICE("acme"), SLICE("hub-token"), f->arena, &sealed, &failure));
    assert_true(slice_is(sealed, "1:x:02"));
    OK(s->secret_sealed(s, SLICE("acme"), SLICE("api-key"), f->arena, &sealed, &failure));
    assert_int_equal(sealed.size, 0);
    OK(s->secret_names(s, SLICE("default"), f->arena, &names, &count, &failure));
    assert_int_equal(count, 2);
    assert_true(slice_is(names[0], "api-key") && slice_is(names[1], "hub-token"));
    assert_int_equal(inside(f, tell_more, &failure), ERR_TOO_LARGE);
    assert_non_null(strstr(failure.message, "there are 3 secrets"));
    OK(inside(f, forget, &failure));
    OK(inside(f, tell_more, &failure));
}

/* ---- who names them -------------------------------------------------------------------------- */

static int add_endpoints(struct fixture *f, struct store *s, struct err *err)
{
    static const struct {
        const char *project, *name, *spec;
    } rows[] = {
        { "default", "shop", "{\"env\":{\"TOKEN\":{\"secret\":\"hub-token\"}}}" },
        { "default", "other", "{\"env\":{\"TOKEN\":{\"secret\":\"hub-token-2\"}}}" },
        { "default", "says-it",
          "{\"env\":{\"TEXT\":\"{\\\"secret\\\":\\\"hub-token\\\"}\",\"A\":\"hub-token\"}}" },
        { "acme", "shop", "{\"env\":{\"TOKEN\":{\"secret\":\"hub-token\"}}}" },
    };
    (void)f;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct store_endpoint endpoint = { .project = slice_of(rows[i].project),
                                           .name = slice_of(rows[i].name),
                                           .spec = SLICE("{}"),
                                           .target = 1,
                                           .latest = 1,
                                           .generation = 1 };
        struct store_revision revision = { .number = 1, .spec = slice_of(rows[i].spec) };
        OK(s->project_ensure(s, endpoint.project, 1, err));
        OK(s->endpoint_add(s, &endpoint, err));
        revision.endpoint_uid = endpoint.uid;
        OK(s->revision_add(s, &revision, NULL, 0, err));
        revision.number = 2;
        OK(s->revision_add(s, &revision, NULL, 0, err));
    }
    return 0;
}

static void test_endpoints(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    uint64_t *uids;
    size_t count;
    OK(inside(f, add_endpoints, &failure));
    OK(s->secret_endpoints(s, SLICE("default"), SLICE("hub-token"), f->arena, &uids, &count,
                           &failure));
    assert_int_equal(count, 1);
    assert_int_equal(uids[0], 1);
    OK(s->secret_endpoints(s, SLICE("acme"), SLICE("hub-token"), f->arena, &uids, &count,
                           &failure));
    assert_int_equal(count, 1);
    assert_int_equal(uids[0], 4);
    OK(s->secret_endpoints(s, SLICE("default"), SLICE("hub"), f->arena, &uids, &count, &failure));
    assert_int_equal(count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_secrets, set_up, case_end),
        cmocka_unit_test_setup_teardown(test_endpoints, set_up, case_end),
    };
    return cmocka_run_group_tests_name("store_secrets", tests, NULL, NULL);
}
