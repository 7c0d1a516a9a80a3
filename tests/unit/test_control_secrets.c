/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets in control: what a spec may name, what is in use, and what each agent is told. */
#include "store_case.h"

#include "base/json.h"
#include "contract/watch.h"
#include "control/control_own.h"
#include "control/secrets_own.h"

#define ENV(pairs) "{\"name\":\"shop\",\"image\":\"default/a:1\",\"env\":{" pairs "}}"

static int set_up(void **state)
{
    struct store_limits limits = store_limits_default();
    return case_begin(state, &limits);
}

static int tell(struct fixture *f, struct store *s, struct err *err)
{
    static const char *const names[] = { "hub-token", "api-key", "key-of-hub" };
    (void)f;
    for (size_t i = 0; i < 3; i++) {
        const struct store_secret row = { .project = SLICE("default"),
                                          .name = slice_of(names[i]),
                                          .sealed = SLICE("1:x:00") };
        OK(s->secret_put(s, &row, err));
    }
    return 0;
}

static const struct {
    const char *name, *spec, *project, *error; /* NULL: it may be so */
} rows[] = {
    { "none is named", ENV("\"A\":\"hub\""), "default", NULL },
    { "one that is there", ENV("\"A\":{\"secret\":\"hub-token\"}"), "default", NULL },
    { "one twice", ENV("\"A\":{\"secret\":\"api-key\"},\"B\":{\"secret\":\"api-key\"}"), "default",
      NULL },
    { "mistyped", ENV("\"A\":{\"secret\":\"hub-tokn\"}"), "default",
      "env.A: there is no secret 'hub-tokn' in project 'default'; did you mean 'hub-token'? "
      "`perigee secrets set hub-tokn` makes it" },
    { "nothing like it",
      ENV("\"A\":{\"secret\":\"hub-token\"},\"B\":{\"secret\":\"something-else\"}"), "default",
      "env.B: there is no secret 'something-else' in project 'default'; `perigee secrets set "
      "something-else` makes it" },
    { "another project's", ENV("\"A\":{\"secret\":\"hub-token\"}"), "acme",
      "there is no secret 'hub-token' in project 'acme'" },
};

static void test_what_a_spec_may_name(void **state)
{
    struct fixture *f = *state;
    OK(inside(f, tell, &failure));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct endpoint_spec spec;
        yyjson_val *tree;
        print_message("  %s\n", rows[i].name);
        OK(json_parse(f->arena, slice_of(rows[i].spec), NULL, &tree, &failure));
        OK(endpoint_spec_parse(f->arena, tree, 0, &spec, &failure));
        int r = secrets_check(f->store, f->arena, slice_of(rows[i].project), &spec, &failure);
        assert_int_equal(r, rows[i].error ? ERR_BAD_INPUT : 0);
        if (rows[i].error && !strstr(failure.message, rows[i].error))
            fail_msg("'%s' lacks '%s'", failure.message, rows[i].error);
    }
}

/* ---- in use ---------------------------------------------------------------------------------- */

static struct snapshot *snapshot_of(struct arena *arena, const char *name, const char *const *specs,
                                    size_t count)
{
    struct snapshot *s = ARENA_NEW(arena, struct snapshot);
    s->arena = arena;
    s->row = (struct store_endpoint){
        .project = SLICE("default"), .name = slice_of(name), .target = count, .latest = count
    };
    s->revisions = ARENA_ARRAY(arena, struct store_revision, count);
    s->revision_count = count;
    for (size_t i = 0; i < count; i++)
        s->revisions[i] = (struct store_revision){ .number = i + 1, .spec = slice_of(specs[i]) };
    secrets_named(s);
    return s;
}

static void test_what_is_in_use(void **state)
{
    static const char *const specs[] = {
        ENV("\"A\":{\"secret\":\"first-one\"},\"B\":{\"secret\":\"both-of-them\"}"),
        ENV("\"A\":{\"secret\":\"second-one\"},\"B\":{\"secret\":\"both-of-them\"}"),
        ENV("\"A\":\"{\\\"secret\\\":\\\"said-only\\\"}\""),
        "{\"image\":\"default/a:1\",\"env\":{\"A\":{\"secret\":\"third-one\"}}}",
    };
    static const struct spec_share latest[] = { { SPEC_LATEST, 1 } };
    struct arena *arena = arena_new();
    struct snapshot *s = snapshot_of(arena, "shop", specs, 4);
    (void)state;
    assert_int_equal(s->secret_count, 5);
    assert_true(secrets_in_use(s, SLICE("third-one")));
    assert_false(secrets_in_use(s, SLICE("both-of-them"))); /* a rollback would name it */
    s->row.stable = 2;
    assert_true(secrets_in_use(s, SLICE("both-of-them")));
    assert_true(secrets_in_use(s, SLICE("second-one")));
    assert_false(secrets_in_use(s, SLICE("first-one")));
    assert_false(secrets_in_use(s, SLICE("said-only")));
    s->row = (struct store_endpoint){ .target = 1, .latest = 4 }; /* rolled back */
    assert_false(secrets_in_use(s, SLICE("third-one")));
    s->spec.traffic.split = (struct spec_split){ latest, 1 };
    assert_true(secrets_in_use(s, SLICE("third-one")));
    arena_free(arena);
}

/* ---- what agents are told -------------------------------------------------------------------- */

static struct store_secret secret_rows[] = {
    { .project = SLICE("acme"), .name = SLICE("api-key"), .updated_ns = 1 },
    { .project = SLICE("default"), .name = SLICE("api-key"), .updated_ns = 2 },
    { .project = SLICE("default"), .name = SLICE("hub-token"), .updated_ns = 3 },
};

/* What it hears behind that number: numbers that rise, above it. */
static const char *news_since(struct control *control, struct hub_pop *pop,
                              const struct hub_endpoint *endpoint, uint64_t since,
                              struct arena *arena)
{
    struct secrets_news news;
    const char *text = "";
    secrets_news(control, pop, endpoint, since, arena, &news);
    assert_true(news.fewer == 0 || news.fewer > since);
    for (size_t i = 0; i < news.count; i++) {
        const struct store_secret *row = news.items[i].row;
        assert_true(news.items[i].number > since && news.items[i].number <= control->hub.changes);
        text = arena_format(arena, "%s%.*s/%.*s ", text, SLICE_FMT(row->project),
                            SLICE_FMT(row->name));
    }
    return news.fewer ? arena_format(arena, "fewer %s", text) : text;
}

/* Live. */
static const char *news_text(struct control *control, struct hub_pop *pop,
                             const struct hub_endpoint *endpoint, struct arena *arena)
{
    return news_since(control, pop, endpoint, control->hub.changes, arena);
}

/* PoP "a" has the shop, PoP "b" both. */
static void test_each_agent_hears_of_what_is_placed_there(void **state)
{
    static const char *const shop_specs[] = { ENV("\"A\":{\"secret\":\"hub-token\"}") };
    static const char *const bot_specs[] = { ENV(
        "\"A\":{\"secret\":\"api-key\"},\"B\":{\"secret\":\"hub-token\"}") };
    struct arena *arena = arena_new();
    struct secrets secrets = { .rows = secret_rows, .count = 3 };
    struct control *control = ARENA_NEW(arena, struct control);
    struct hub_pop a = { .name = SLICE("a") }, b = { .name = SLICE("b") };
    struct hub_place at_both[] = { { .pop = &a, .replicas = 1 }, { .pop = &b, .replicas = 2 } };
    struct hub_endpoint shop = { .snapshot = snapshot_of(arena, "shop", shop_specs, 1),
                                 .places = at_both,
                                 .place_count = 2 };
    struct hub_endpoint bot = { .snapshot = snapshot_of(arena, "bot", bot_specs, 1),
                                .places = at_both + 1,
                                .place_count = 1 };
    (void)state;
    control->secrets = &secrets;
    control->hub.changes = 100;
    list_init(&control->hub.naming);
    list_append(&control->hub.naming, &shop.naming);
    list_append(&control->hub.naming, &bot.naming);
    assert_string_equal(news_text(control, &a, NULL, arena), "default/hub-token ");
    assert_string_equal(news_text(control, &a, NULL, arena), "");
    assert_string_equal(news_text(control, &a, &bot, arena), "");
    assert_string_equal(news_text(control, &b, &bot, arena), "default/api-key default/hub-token ");
    assert_string_equal(news_text(control, &b, NULL, arena), "");
    secret_rows[2].updated_ns++; /* another value */
    assert_string_equal(news_text(control, &a, NULL, arena), "default/hub-token ");
    assert_string_equal(news_text(control, &b, NULL, arena), "default/hub-token ");
    at_both[0].replicas = 0; /* it moves away */
    assert_string_equal(news_text(control, &a, NULL, arena), "fewer ");
    assert_string_equal(secrets_list_json(&a.secrets, arena).data, "{\"secrets\":[]}");
    list_remove(&bot.naming);
    assert_string_equal(news_text(control, &b, NULL, arena), "fewer ");
    assert_string_equal(secrets_list_json(&b.secrets, arena).data,
                        "{\"secrets\":[{\"project\":\"default\",\"name\":\"hub-token\"}]}");
    secrets.count = 2; /* it was deleted */
    assert_string_equal(news_text(control, &b, NULL, arena), "fewer ");
    secrets_told_deinit(&a.secrets);
    secrets_told_deinit(&b.secrets);
    arena_free(arena);
}

/* One that comes again hears what it has not. */
static void test_behind_a_number(void **state)
{
    static const char *const specs[] = { ENV(
        "\"A\":{\"secret\":\"api-key\"},\"B\":{\"secret\":\"hub-token\"}") };
    struct arena *arena = arena_new();
    struct secrets secrets = { .rows = secret_rows, .count = 3 };
    struct control *control = ARENA_NEW(arena, struct control);
    struct hub_pop a = { .name = SLICE("a") };
    struct hub_place there = { .pop = &a, .replicas = 1 };
    struct hub_endpoint bot = { .snapshot = snapshot_of(arena, "bot", specs, 1),
                                .places = &there,
                                .place_count = 1 };
    (void)state;
    control->secrets = &secrets;
    list_init(&control->hub.naming);
    list_append(&control->hub.naming, &bot.naming);
    assert_string_equal(news_since(control, &a, NULL, 0, arena),
                        "default/api-key default/hub-token ");
    uint64_t all = control->hub.changes;
    assert_string_equal(news_since(control, &a, NULL, all, arena), "");
    assert_string_equal(news_since(control, &a, NULL, all - 1, arena), "default/hub-token ");
    secret_rows[1].updated_ns++; /* while it is away */
    assert_string_equal(news_since(control, &a, NULL, all, arena), "default/api-key ");
    assert_string_equal(news_since(control, &a, NULL, all, arena), "default/api-key ");
    assert_string_equal(news_since(control, &a, NULL, control->hub.changes, arena), "");
    there.replicas = 0;
    assert_string_equal(news_since(control, &a, NULL, all, arena), "fewer ");
    there.replicas = 1; /* it was told to forget them, or was to be */
    assert_string_equal(news_since(control, &a, NULL, all, arena),
                        "fewer default/api-key default/hub-token ");
    assert_string_equal(news_since(control, &a, NULL, 0, arena),
                        "fewer default/api-key default/hub-token ");
    secrets_told_deinit(&a.secrets);
    arena_free(arena);
}

/* An endpoint's own are told before others are forgotten, as far as an agent takes so many. */
static void test_no_more_than_an_agent_takes(void **state)
{
    enum { EACH = WATCH_SECRETS_MAX / 2 + 1 };
    struct arena *arena = arena_new();
    struct store_secret *rows_of = ARENA_ARRAY(arena, struct store_secret, EACH);
    struct snapshot_secret *named = ARENA_ARRAY(arena, struct snapshot_secret, EACH);
    struct secrets secrets = { .rows = rows_of };
    struct control *control = ARENA_NEW(arena, struct control);
    struct hub_pop a = { .name = SLICE("a") };
    struct hub_place there = { .pop = &a, .replicas = 1 };
    struct snapshot snapshot = { .row.project = SLICE("default"), .secrets = named };
    struct hub_endpoint shop = { .snapshot = &snapshot, .places = &there, .place_count = 1 };
    struct secrets_news news;
    (void)state;
    control->secrets = &secrets;
    list_init(&control->hub.naming);
    list_append(&control->hub.naming, &shop.naming);
    for (int turn = 0; turn < 3; turn++) { /* each names others, the last one fewer */
        secrets.count = snapshot.secret_count = turn < 2 ? EACH : 1;
        for (size_t i = 0; i < secrets.count; i++) {
            named[i].name = slice_of(arena_format(arena, "s-%d-%04zu", turn, i));
            rows_of[i] =
                (struct store_secret){ .project = SLICE("default"), .name = named[i].name };
        }
        uint64_t before = control->hub.changes;
        secrets_news(control, &a, &shop, before, arena, &news);
        assert_int_equal(news.count, secrets.count);
        assert_int_equal(news.fewer != 0, turn == 1);
        for (uint64_t i = 0, last = turn == 1 ? news.fewer : before; i < news.count; i++) {
            assert_true(news.items[i].number > last);
            last = news.items[i].number;
        }
        assert_true(a.secrets.by_key.count <= WATCH_SECRETS_MAX);
    }
    secrets_told_deinit(&a.secrets);
    arena_free(arena);
}

static void test_a_value_is_opened_for_who_is_told(void **state)
{
    static const unsigned char bytes[SEAL_KEY_BYTES] = "a key";
    struct arena *arena = arena_new_secret();
    struct secrets secrets = { .why = "the key is gone" };
    struct control control = { .secrets = &secrets };
    struct store_secret row = { .project = SLICE("default"), .name = SLICE("hub-token") };
    (void)state;
    secrets.key = seal_key_of(bytes, "it", arena);
    OK(seal_close(secrets.key, secrets_purpose(arena, row.project, row.name), SLICE("hu\"sh"),
                  arena, &row.sealed, &failure));
    assert_string_equal(secrets_value_json(&control, &row, arena).data,
                        "{\"project\":\"default\",\"name\":\"hub-token\",\"value\":\"hu\\\"sh\"}");
    row.name = SLICE("api-key"); /* what was sealed is another's */
    assert_non_null(strstr(secrets_value_json(&control, &row, arena).data, "\"error\":\"what was"));
    secrets.key = NULL;
    assert_non_null(
        strstr(secrets_value_json(&control, &row, arena).data, "\"error\":\"the key is gone\""));
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_a_spec_may_name, set_up, case_end),
        cmocka_unit_test(test_what_is_in_use),
        cmocka_unit_test(test_each_agent_hears_of_what_is_placed_there),
        cmocka_unit_test(test_behind_a_number),
        cmocka_unit_test(test_no_more_than_an_agent_takes),
        cmocka_unit_test(test_a_value_is_opened_for_who_is_told),
    };
    return cmocka_run_group_tests_name("control_secrets", tests, NULL, NULL);
}
