/* SPDX-License-Identifier: Apache-2.0 */
/* Other registries in the store, and what is still to come from them. */
#include "store_case.h"

static int set_up(void **state)
{
    struct store_limits limits = store_limits_default();
    limits.registries_max = 2;
    limits.revisions_kept = 1;
    return case_begin(state, &limits);
}

static struct store_registry named(const char *host, const char *username, int64_t now_ns)
{
    return (struct store_registry){
        .host = slice_of(host),
        .username = slice_of(username),
        .sealed = SLICE("1:x:00"),
        .ca = SLICE("PEM"),
        .plain = true,
        .created_ns = now_ns,
        .updated_ns = now_ns,
    };
}

static int tell(struct fixture *f, struct store *s, struct err *err)
{
    const struct store_registry b = named("b.example", "old", 1), a = named("a.example", "", 2),
                                again = named("b.example", "new", 3);
    (void)f;
    OK(s->registry_put(s, &b, err));
    OK(s->registry_put(s, &a, err));
    return s->registry_put(s, &again, err);
}

static int tell_more(struct fixture *f, struct store *s, struct err *err)
{
    const struct store_registry row = named("c.example", "", 4);
    (void)f;
    return s->registry_put(s, &row, err);
}

static int forget(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    OK(s->registry_delete(s, SLICE("b.example"), err));
    assert_int_equal(s->registry_delete(s, SLICE("b.example"), err), ERR_NOT_FOUND);
    return 0;
}

static void test_registries(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    struct store_registry *list;
    size_t count;
    OK(inside(f, tell, &failure));
    OK(s->registry_list(s, f->arena, &list, &count, &failure));
    assert_int_equal(count, 2);
    assert_true(slice_is(list[0].host, "a.example") && list[0].username.size == 0);
    assert_true(slice_is(list[1].username, "new") && list[1].plain);
    assert_true(slice_is(list[1].sealed, "1:x:00") && slice_is(list[1].ca, "PEM"));
    assert_int_equal(list[1].created_ns, 1);
    assert_int_equal(list[1].updated_ns, 3);
    assert_int_equal(inside(f, tell_more, &failure), ERR_TOO_LARGE);
    OK(inside(f, forget, &failure));
    OK(inside(f, tell_more, &failure));
}

/* ---- what is to come ------------------------------------------------------------------------- */

static int add_endpoint(struct fixture *f, struct store *s, struct err *err)
{
    static const struct slice blobs[] = { SLICE("sha256:here"), SLICE("sha256:later") };
    struct store_endpoint endpoint = { .project = SLICE("default"),
                                       .name = SLICE("shop"),
                                       .spec = SLICE("{}"),
                                       .target = 1,
                                       .latest = 1,
                                       .generation = 1 };
    struct store_revision revision = { .number = 1, .spec = SLICE("{}") };
    const struct store_origin later = { .digest = SLICE("sha256:later"),
                                        .bytes = 5,
                                        .host = SLICE("a.example"),
                                        .repository = SLICE("x/y"),
                                        .created_ns = 7 },
                              nobodys = { .digest = SLICE("sha256:nobody"), .bytes = 6 };
    (void)f;
    OK(s->project_ensure(s, SLICE("default"), 1, err));
    OK(s->endpoint_add(s, &endpoint, err));
    revision.endpoint_uid = endpoint.uid;
    OK(s->revision_add(s, &revision, blobs, 2, err));
    OK(s->origin_put(s, &nobodys, err));
    return s->origin_put(s, &later, err);
}

static int prune(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    return s->origin_prune(s, err);
}

static int arrive(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    return s->origin_delete(s, SLICE("sha256:later"), err);
}

static int remove_endpoint(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    return s->endpoint_delete(s, 1, err);
}

static void test_origins(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    struct store_origin one, *list;
    uint64_t *uids;
    size_t count;
    OK(inside(f, add_endpoint, &failure));
    OK(s->origin_list(s, f->arena, &list, &count, &failure));
    assert_int_equal(count, 2);
    OK(inside(f, prune, &failure));
    OK(s->origin_list(s, f->arena, &list, &count, &failure));
    assert_int_equal(count, 1);
    assert_true(slice_is(list[0].digest, "sha256:later") && list[0].bytes == 5);
    assert_true(slice_is(list[0].host, "a.example") && slice_is(list[0].repository, "x/y"));
    OK(s->origin_find(s, SLICE("sha256:later"), f->arena, &one, &failure));
    assert_int_equal(one.created_ns, 7);
    assert_int_equal(s->origin_find(s, SLICE("sha256:here"), f->arena, &one, &failure),
                     ERR_NOT_FOUND);
    OK(s->origin_of(s, 1, f->arena, &list, &count, &failure));
    assert_int_equal(count, 1);
    assert_int_equal(list[0].number, 1);
    OK(s->origin_endpoints(s, SLICE("sha256:later"), f->arena, &uids, &count, &failure));
    assert_int_equal(count, 1);
    assert_int_equal(uids[0], 1);
    OK(inside(f, arrive, &failure));
    OK(s->origin_of(s, 1, f->arena, &list, &count, &failure));
    assert_int_equal(count, 0);
}

static void test_origins_go_with_their_revisions(void **state)
{
    struct fixture *f = *state;
    struct store_origin *list;
    size_t count;
    OK(inside(f, add_endpoint, &failure));
    OK(inside(f, remove_endpoint, &failure));
    OK(inside(f, prune, &failure));
    OK(f->store->origin_list(f->store, f->arena, &list, &count, &failure));
    assert_int_equal(count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_registries, set_up, case_end),
        cmocka_unit_test_setup_teardown(test_origins, set_up, case_end),
        cmocka_unit_test_setup_teardown(test_origins_go_with_their_revisions, set_up, case_end),
    };
    return cmocka_run_group_tests_name("store_elsewhere", tests, NULL, NULL);
}
