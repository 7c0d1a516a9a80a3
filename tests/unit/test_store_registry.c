/* SPDX-License-Identifier: Apache-2.0 */
/* Repositories in the store: what each has, what stays and what goes. */
#include "store_case.h"

static int set_up(void **state)
{
    struct store_limits limits = store_limits_default();
    limits.repositories_max = 2;
    limits.repository_manifests_max = limits.repository_tags_max = 2;
    return case_begin(state, &limits);
}

static int push_all(struct fixture *f, struct store *s, struct err *err)
{
    const struct store_manifest image = { .digest = SLICE("sha256:m"),
                                          .media_type = SLICE("t"),
                                          .artifact_type = SLICE("a"),
                                          .bytes = 7 };
    const struct store_manifest referrer = { .digest = SLICE("sha256:r"),
                                             .media_type = SLICE("t"),
                                             .artifact_type = SLICE("b"),
                                             .subject = SLICE("sha256:m"),
                                             .bytes = 8 };
    const struct slice parts[] = { SLICE("sha256:layer"), SLICE("sha256:layer") };
    uint64_t web, other, again;
    (void)f;
    OK(s->repository_ensure(s, SLICE("shop"), SLICE("web"), 1, &web, err));
    OK(s->repository_ensure(s, SLICE("shop"), SLICE("web"), 2, &again, err));
    assert_int_equal(web, again);
    OK(s->repository_ensure(s, SLICE("shop"), SLICE("other"), 1, &other, err));
    assert_int_equal(s->repository_ensure(s, SLICE("shop"), SLICE("third"), 1, &again, err),
                     ERR_TOO_LARGE);
    OK(s->repository_blob_put(s, web, SLICE("sha256:layer"), 3, 100, err));
    OK(s->repository_blob_put(s, other, SLICE("sha256:layer"), 3, 100, err));
    OK(s->repository_blob_put(s, web, SLICE("sha256:loose"), 4, 100, err));
    OK(s->manifest_put(s, web, &image, parts, 2, err));
    OK(s->manifest_put(s, web, &image, parts, 2, err)); /* the same again */
    OK(s->manifest_put(s, web, &referrer, NULL, 0, err));
    OK(s->tag_put(s, web, SLICE("v2"), SLICE("sha256:m"), 1, err));
    OK(s->tag_put(s, web, SLICE("v1"), SLICE("sha256:r"), 1, err));
    OK(s->tag_put(s, web, SLICE("v1"), SLICE("sha256:m"), 2, err)); /* moves */
    return 0;
}

/* At both limits: what is there may be put again and moved, nothing more comes. */
static int push_at_the_limit(struct fixture *f, struct store *s, struct err *err)
{
    const struct store_manifest third = { .digest = SLICE("sha256:t"), .media_type = SLICE("t") };
    const struct store_manifest first = { .digest = SLICE("sha256:m"),
                                          .media_type = SLICE("t"),
                                          .artifact_type = SLICE("a"),
                                          .bytes = 7 };
    uint64_t web;
    (void)f;
    OK(s->repository_find(s, SLICE("shop"), SLICE("web"), &web, err));
    OK(s->manifest_put(s, web, &first, NULL, 0, err));
    OK(s->tag_put(s, web, SLICE("v1"), SLICE("sha256:r"), 3, err));
    OK(s->tag_put(s, web, SLICE("v1"), SLICE("sha256:m"), 4, err));
    assert_int_equal(s->manifest_put(s, web, &third, NULL, 0, err), ERR_TOO_LARGE);
    assert_non_null(strstr(err->message, "has 2 manifests (repository_manifests_max)"));
    assert_int_equal(s->tag_put(s, web, SLICE("v3"), SLICE("sha256:m"), 5, err), ERR_TOO_LARGE);
    assert_non_null(strstr(err->message, "has 2 tags (repository_tags_max)"));
    return 0;
}

static int look_all(struct fixture *f, struct store *s, struct err *err)
{
    struct store_manifest manifest, *rows;
    struct slice *tags;
    size_t count;
    uint64_t web, bytes;
    OK(s->repository_find(s, SLICE("shop"), SLICE("web"), &web, err));
    assert_int_equal(s->repository_find(s, SLICE("shop"), SLICE("none"), &bytes, err),
                     ERR_NOT_FOUND);
    OK(s->repository_blob_find(s, web, SLICE("sha256:loose"), &bytes, err));
    assert_int_equal(bytes, 4);
    assert_int_equal(s->repository_blob_find(s, web, SLICE("sha256:m"), &bytes, err),
                     ERR_NOT_FOUND);
    OK(s->repository_blob_any(s, SLICE("sha256:layer"), &bytes, err));
    OK(s->manifest_tagged(s, web, SLICE("v1"), f->arena, &manifest, err));
    assert_true(slice_is(manifest.digest, "sha256:m") && manifest.bytes == 7);
    OK(s->tag_list(s, web, SLICE(""), 10, f->arena, &tags, &count, err));
    assert_int_equal(count, 2);
    assert_true(slice_is(tags[0], "v1"));
    OK(s->tag_list(s, web, SLICE("v1"), 10, f->arena, &tags, &count, err));
    assert_int_equal(count, 1);
    OK(s->referrer_list(s, web, SLICE("sha256:m"), SLICE(""), SLICE(""), 9, f->arena, &rows, &count,
                        err));
    assert_int_equal(count, 1);
    assert_true(slice_is(rows[0].digest, "sha256:r"));
    OK(s->referrer_list(s, web, SLICE("sha256:m"), SLICE("a"), SLICE(""), 9, f->arena, &rows,
                        &count, err));
    assert_int_equal(count, 0);
    OK(s->referrer_list(s, web, SLICE(""), SLICE(""), SLICE(""), 9, f->arena, &rows, &count, err));
    assert_int_equal(count, 0);
    return 0;
}

static size_t garbage(struct fixture *f, struct store *s, struct err *err)
{
    struct slice *digests;
    size_t count;
    OK(s->blob_garbage(s, 1, f->arena, &digests, &count, err));
    return count;
}

static int drop_all(struct fixture *f, struct store *s, struct err *err)
{
    uint64_t web, other, bytes;
    OK(s->repository_find(s, SLICE("shop"), SLICE("web"), &web, err));
    OK(s->repository_find(s, SLICE("shop"), SLICE("other"), &other, err));
    assert_int_equal(garbage(f, s, err), 0);
    /* What no manifest names goes with time, the rest stays. */
    OK(s->repository_prune(s, 100, err));
    assert_int_equal(garbage(f, s, err), 0);
    OK(s->repository_prune(s, 101, err));
    assert_int_equal(s->repository_blob_find(s, web, SLICE("sha256:loose"), &bytes, err),
                     ERR_NOT_FOUND);
    assert_int_equal(garbage(f, s, err), 1);
    /* The other repository had no manifest over it: it is gone from there alone, and so is that. */
    OK(s->repository_blob_find(s, web, SLICE("sha256:layer"), &bytes, err));
    assert_int_equal(s->repository_find(s, SLICE("shop"), SLICE("other"), &other, err),
                     ERR_NOT_FOUND);
    assert_int_equal(s->tag_delete(s, web, SLICE("v9"), err), ERR_NOT_FOUND);
    OK(s->tag_delete(s, web, SLICE("v1"), err));
    OK(s->manifest_delete(s, web, SLICE("sha256:m"), 500, err));
    assert_int_equal(s->manifest_delete(s, web, SLICE("sha256:m"), 500, err), ERR_NOT_FOUND);
    assert_int_equal(garbage(f, s, err), 2); /* the manifest too; its layer not yet */
    OK(s->repository_prune(s, 500, err));
    OK(s->repository_blob_find(s, web, SLICE("sha256:layer"), &bytes, err));
    OK(s->repository_blob_delete(s, web, SLICE("sha256:layer"), err));
    assert_int_equal(s->repository_blob_delete(s, web, SLICE("sha256:layer"), err), ERR_NOT_FOUND);
    assert_int_equal(garbage(f, s, err), 3);
    OK(s->manifest_delete(s, web, SLICE("sha256:r"), 500, err));
    OK(s->repository_prune(s, 1, err));
    assert_int_equal(s->repository_find(s, SLICE("shop"), SLICE("web"), &web, err), ERR_NOT_FOUND);
    return 0;
}

/* A blob that is needed for a deploy is no garbage for its while, whoever drops it. */
static int drop_needed(struct fixture *f, struct store *s, struct err *err)
{
    const struct store_blob blob = { SLICE("sha256:both"), 3, 1000 };
    uint64_t id;
    OK(s->repository_ensure(s, SLICE("shop"), SLICE("both"), 1, &id, err));
    OK(s->repository_blob_put(s, id, blob.digest, 3, 1, err));
    OK(s->blob_index(s, &blob, err)); /* at a start: it stays of no age */
    OK(s->repository_blob_delete(s, id, blob.digest, err));
    size_t before = garbage(f, s, err);
    OK(s->blob_put(s, &blob, err));
    assert_int_equal(garbage(f, s, err), before - 1);
    return 0;
}

static void test_registry(void **state)
{
    struct fixture *f = *state;
    OK(inside(f, push_all, &failure));
    OK(inside(f, push_at_the_limit, &failure));
    OK(inside(f, look_all, &failure));
    OK(inside(f, drop_all, &failure));
    OK(inside(f, drop_needed, &failure));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(test_registry, set_up,
                                                                        case_end) };
    return cmocka_run_group_tests_name("store_registry", tests, NULL, NULL);
}
