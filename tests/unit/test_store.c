/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance test of a store: every function, on SQLite. */
#include "store_case.h"

#include <dirent.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/sqlite_inside.h"

static int set_up(void **state)
{
    struct store_limits limits = store_limits_default();
    limits.endpoints_max = 4;
    limits.events_rows_max = 5;
    limits.audit_rows_max = 4;
    limits.log_rows_max = 100;
    limits.log_bytes_max = 1000;
    limits.history_rows_max = 2;
    limits.pops_max = 2;
    return case_begin(state, &limits);
}

static struct store_endpoint endpoint_named(const char *name)
{
    return (struct store_endpoint){
        .project = SLICE("default"),
        .name = slice_of(name),
        .spec = SLICE("{}"),
        .target = 1,
        .latest = 1,
        .generation = 1,
        .created_ns = 5,
        .updated_ns = 6,
    };
}

static struct store_revision revision_of(uint64_t uid, uint64_t number)
{
    return (struct store_revision){
        .endpoint_uid = uid,
        .number = number,
        .spec = SLICE("{\"model\":1}"),
        .digest = SLICE("sha256:d"),
        .runtime = SLICE("onnx"),
        .model = SLICE("sha256:m"),
        .model_bytes = 7,
        .source = SLICE("./m.onnx"),
        .created_by = SLICE("me"),
        .created_ns = 9,
        .state = SLICE("new"),
    };
}

static int add_two(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    int r;
    struct store_endpoint a = endpoint_named("alpha"), b = endpoint_named("beta");
    struct slice blobs[] = { SLICE("sha256:m"), SLICE("sha256:m"), SLICE("sha256:n") };
    if ((r = s->project_ensure(s, SLICE("default"), 1, err)) < 0 ||
        (r = s->project_ensure(s, SLICE("default"), 2, err)) < 0 ||
        (r = s->endpoint_add(s, &a, err)) < 0 || (r = s->endpoint_add(s, &b, err)) < 0)
        return r;
    struct store_revision revision = revision_of(a.uid, 1);
    assert_int_equal(a.uid, 1);
    assert_int_equal(b.uid, 2);
    return s->revision_add(s, &revision, blobs, 3, err);
}

static int add_taken(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    struct store_endpoint a = endpoint_named("gamma"), b = endpoint_named("alpha");
    int r = s->endpoint_add(s, &a, err);
    return r < 0 ? r : s->endpoint_add(s, &b, err);
}

static int delete_second(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    return s->endpoint_delete(s, 2, err);
}

static int add_gamma(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    struct store_endpoint a = endpoint_named("gamma");
    int r = s->endpoint_add(s, &a, err);
    assert_int_equal(a.uid, 3); /* 2 was given, and is not given again */
    return r;
}

static int add_above(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    struct store_endpoint a = endpoint_named("delta"), b = endpoint_named("epsilon"),
                          c = endpoint_named("zeta");
    int r = s->endpoint_add(s, &a, err);
    if (r >= 0)
        r = s->endpoint_add(s, &b, err);
    return r < 0 ? r : s->endpoint_add(s, &c, err);
}

static void test_endpoints(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    struct err err = {};
    struct store_endpoint got, *list;
    size_t count;
    struct store_page page = {};

    OK(inside(f, add_two, &failure));
    OK(s->endpoint_find(s, SLICE("default"), SLICE("alpha"), f->arena, &got, &failure));
    assert_int_equal(got.uid, 1);
    assert_int_equal(got.created_ns, 5);
    assert_true(slice_is(got.project, "default") && slice_is(got.spec, "{}"));
    assert_int_equal(s->endpoint_find(s, SLICE("other"), SLICE("alpha"), f->arena, &got, &err),
                     ERR_NOT_FOUND);
    assert_int_equal(s->endpoint_get(s, 77, f->arena, &got, &err), ERR_NOT_FOUND);

    /* All or nothing: gamma is not there after alpha was refused. */
    assert_int_equal(inside(f, add_taken, &err), ERR_CONFLICT);
    OK(s->endpoint_list(s, &page, f->arena, &list, &count, &failure));
    assert_int_equal(count, 2);

    OK(inside(f, delete_second, &failure));
    OK(inside(f, add_gamma, &failure));
    page = (struct store_page){ .after = 1, .limit = 5 };
    OK(s->endpoint_list(s, &page, f->arena, &list, &count, &failure));
    assert_int_equal(count, 1);
    assert_true(slice_is(list[0].name, "gamma"));
    assert_int_equal(inside(f, add_above, &err), ERR_TOO_LARGE);
}

static int change(struct fixture *f, struct store *s, struct err *err)
{
    struct store_endpoint e;
    int r = s->endpoint_get(s, 1, f->arena, &e, err);
    uint64_t before = e.generation++;
    e.spec = SLICE("{\"scale\":{\"min\":2}}");
    e.stopped = true;
    e.target = e.latest = 2;
    e.serving = 1;
    e.target_state = SLICE("starting");
    e.target_message = SLICE("soon");
    if (r < 0 || (r = s->endpoint_update(s, &e, before, err)) < 0)
        return r;
    assert_int_equal(s->endpoint_update(s, &e, before, NULL), ERR_PRECONDITION);
    return 0;
}

static int many_revisions(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    for (uint64_t i = 2; i <= 30; i++) {
        struct store_revision revision = revision_of(1, i);
        int r = s->revision_add(s, &revision, NULL, 0, err);
        if (r < 0)
            return r;
    }
    return s->revision_prune(s, 1, &(struct store_keep){ { 30, 3 } }, err);
}

static int report(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    int r = s->revision_report(s, 1, 30, SLICE("ready"), SLICE(""), SLICE("{\"m\":1}"), err);
    return r < 0 ? r : s->revision_report(s, 1, 30, SLICE("failed"), SLICE("x"), SLICE("{}"), err);
}

static int change_immutable(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    (void)err;
    struct db *db = db_of(s);
    assert_int_not_equal(sqlite3_exec(db->handle, "UPDATE revisions SET spec = 'x'", 0, 0, 0),
                         SQLITE_OK);
    assert_int_not_equal(
        sqlite3_exec(db->handle, "UPDATE revisions SET metadata = 'x' WHERE number = 30", 0, 0, 0),
        SQLITE_OK);
    return 0;
}

static void test_revisions(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    struct store_endpoint got;
    struct store_revision revision, *list;
    size_t count;
    OK(inside(f, add_two, &failure));
    OK(inside(f, change, &failure));
    OK(s->endpoint_get(s, 1, f->arena, &got, &failure));
    assert_true(got.stopped && got.target == 2 && got.serving == 1 && got.generation == 2);
    assert_true(slice_is(got.target_message, "soon"));

    OK(inside(f, many_revisions, &failure));
    OK(s->revision_list(s, 1, f->arena, &list, &count, &failure));
    assert_int_equal(count, 11); /* the last 10, and 3 that has traffic */
    assert_int_equal(list[0].number, 3);
    assert_int_equal(list[1].number, 21);
    OK(inside(f, report, &failure));
    OK(s->revision_get(s, 1, 30, f->arena, &revision, &failure));
    assert_true(slice_is(revision.state, "failed") && slice_is(revision.metadata, "{\"m\":1}"));
    assert_true(slice_is(revision.created_by, "me") && revision.model_bytes == 7);
    assert_int_equal(s->revision_get(s, 1, 1, f->arena, &revision, NULL), ERR_NOT_FOUND);
    OK(inside(f, change_immutable, &failure));
}

static int fill_rows(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    int r = 0;
    for (int i = 0; i < 9 && r >= 0; i++) {
        struct store_event event = { .endpoint_uid = (uint64_t)(i % 2 + 1),
                                     .at_ns = i,
                                     .kind = SLICE("k"),
                                     .project = SLICE("default"),
                                     .endpoint = i % 2 ? SLICE("beta") : SLICE("alpha") };
        struct store_audit audit = { .at_ns = i, .who = SLICE("w"), .after = SLICE("d") };
        struct store_death death = { .endpoint_uid = 1,
                                     .revision = 1,
                                     .at_ns = i,
                                     .replica = SLICE("a-1"),
                                     .log = SLICE("[]") };
        struct store_history history = {
            .endpoint_uid = 1, .generation = (uint64_t)i, .at_ns = i, .diff = SLICE("[]")
        };
        r = s->event_add(s, &event, err);
        assert_int_equal(event.id, i + 1);
        if (r >= 0)
            r = s->audit_add(s, &audit, err);
        if (r >= 0)
            r = s->death_add(s, &death, err);
        if (r >= 0)
            r = s->history_add(s, &history, err);
    }
    return r;
}

static int fill_logs(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    int r = 0;
    for (int i = 0; i < 300 && r >= 0; i++) {
        struct store_log row = { .endpoint_uid = 1,
                                 .at_ns = i,
                                 .stream = SLICE("stderr"),
                                 .replica = i % 2 ? SLICE("a-2") : SLICE("a-1"),
                                 .line = SLICE("0123456789") };
        r = s->log_add(s, &row, err);
    }
    return r;
}

/* So many lines of a PoP. */
static int add_lines(struct store *s, const char *pop, int count, struct err *err)
{
    int r = 0;
    for (int i = 0; i < count && r >= 0; i++) {
        struct store_log row = { .endpoint_uid = 1,
                                 .at_ns = i,
                                 .pop = slice_of(pop),
                                 .stream = SLICE("stderr"),
                                 .replica = SLICE("a-1"),
                                 .line = SLICE("0123456789") };
        r = s->log_add(s, &row, err);
    }
    return r;
}

static size_t lines_of(struct fixture *f, const char *pop)
{
    const struct store_filter filter = { .endpoint_uid = 1 };
    struct store_log *logs;
    size_t count, lines = 0;
    OK(f->store->log_list(f->store, &filter, &(struct store_page){}, f->arena, &logs, &count,
                          &failure));
    for (size_t i = 0; i < count; i++)
        lines += slice_is(logs[i].pop, pop);
    return lines;
}

static int tell_much(struct fixture *f, struct store *s, struct err *err)
{
    static const struct store_placement here[] = {
        { .endpoint_uid = 1, .pop = SLICE("quiet"), .replicas = 1 },
        { .endpoint_uid = 1, .pop = SLICE("loud"), .replicas = 1 },
    };
    (void)f;
    int r = s->placement_set(s, 1, here, 2, err);
    if (r == 0)
        r = add_lines(s, "gone", 20, err);
    if (r == 0)
        r = add_lines(s, "left", 20, err);
    if (r == 0)
        r = add_lines(s, "quiet", 20, err);
    return r == 0 ? add_lines(s, "loud", 1000, err) : r;
}

static int tell_of_the_past(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    return add_lines(s, "left", 1000, err);
}

/* However much one PoP tells of an endpoint, what the others told stays; those that have it no more
 * share one share. */
static void test_a_share_of_the_lines(void **state)
{
    struct fixture *f = *state;
    OK(inside(f, add_two, &failure));
    OK(inside(f, tell_much, &failure));
    assert_int_equal(lines_of(f, "quiet"), 20);
    assert_in_range(lines_of(f, "gone") + lines_of(f, "left"), 20, 40);
    assert_in_range(lines_of(f, "loud"), 25, 60);
    OK(inside(f, tell_of_the_past, &failure));
    assert_int_equal(lines_of(f, "quiet"), 20);
    assert_in_range(lines_of(f, "loud"), 20, 60);
    assert_in_range(lines_of(f, "left"), 20, 60);
    size_t all =
        lines_of(f, "quiet") + lines_of(f, "loud") + lines_of(f, "gone") + lines_of(f, "left");
    assert_in_range(all, 70, 100);
}

static void test_bounded_rows(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    struct store_event *events;
    struct store_log *logs;
    struct store_death *deaths;
    struct store_audit *audit;
    struct store_history *history;
    size_t count;
    struct store_page all = {}, end = { .limit = 2, .from_end = true };
    struct store_filter any = {}, alpha = { .endpoint = SLICE("alpha") },
                        second = { .endpoint_uid = 1, .replica = SLICE("a-2") };
    OK(inside(f, add_two, &failure));
    OK(inside(f, fill_rows, &failure));
    OK(inside(f, fill_logs, &failure));

    OK(s->event_list(s, &any, &all, f->arena, &events, &count, &failure));
    assert_int_equal(count, 5);
    assert_int_equal(events[0].id, 5);
    OK(s->event_list(s, &any, &end, f->arena, &events, &count, &failure));
    assert_int_equal(count, 2);
    assert_int_equal(events[0].id, 8);
    OK(s->event_list(s, &alpha, &(struct store_page){ .after = 5 }, f->arena, &events, &count,
                     &failure));
    assert_int_equal(count, 2); /* 7 and 9 */

    OK(s->log_list(s, &(struct store_filter){ .endpoint_uid = 1 }, &all, f->arena, &logs, &count,
                   &failure));
    assert_in_range(count, 30, 100);
    assert_int_equal(logs[count - 1].at_ns, 299);
    OK(s->log_list(s, &second, &end, f->arena, &logs, &count, &failure));
    assert_int_equal(count, 2);
    assert_int_equal(logs[1].at_ns, 299);
    assert_int_equal(logs[0].at_ns, 297);

    OK(s->death_list(s, 1, f->arena, &deaths, &count, &failure));
    assert_int_equal(count, 3);
    assert_int_equal(deaths[2].at_ns, 8);
    OK(s->audit_list(s, &end, f->arena, &audit, &count, &failure));
    assert_int_equal(count, 2);
    OK(s->audit_list(s, &all, f->arena, &audit, &count, &failure));
    assert_int_equal(count, 4);
    OK(s->history_list(s, 1, &all, f->arena, &history, &count, &failure));
    assert_int_equal(count, 2);
    assert_int_equal(history[1].generation, 8);
}

static int pops_and_blobs(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    static const char *const names[] = { "sha256:m", "sha256:x", "sha256:y" };
    int r = 0;
    for (int i = 0; i < 3 && r >= 0; i++) {
        struct store_pop pop = { .name = slice_of(names[i]),
                                 .instance = 1,
                                 .seq = (uint64_t)i,
                                 .reported_ns = i,
                                 .report = SLICE("{}") };
        struct store_blob blob = { .digest = slice_of(names[i]), .bytes = 5, .created_ns = i };
        r = s->pop_report(s, &pop, err);
        if (r >= 0)
            r = s->blob_put(s, &blob, err);
    }
    return r;
}

static int delete_blob(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    return s->blob_delete(s, SLICE("sha256:x"), err);
}

static void test_pops_and_blobs(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    struct store_pop *pops;
    struct slice *garbage;
    size_t count;
    OK(inside(f, add_two, &failure));
    OK(inside(f, pops_and_blobs, &failure));
    OK(s->pop_list(s, f->arena, &pops, &count, &failure));
    assert_int_equal(count, 2); /* the one heard of longest ago is forgotten */
    assert_int_equal(pops[0].seq, 1);
    OK(s->blob_garbage(s, 100, f->arena, &garbage, &count, &failure));
    assert_int_equal(count, 2);
    OK(inside(f, delete_blob, &failure));
    OK(s->blob_garbage(s, 2, f->arena, &garbage, &count, &failure));
    assert_int_equal(count, 0); /* y is too young, m is needed */
}

/* ---- PoPs that an operator made, and what is placed there ------------------------------------ */

static int add_pops(struct fixture *f, struct store *s, struct err *err)
{
    const struct store_pop by_itself = {
        .name = SLICE("tokyo"), .instance = 3, .reported_ns = 5, .report = SLICE("{}")
    };
    struct store_pop pop = { .name = SLICE("paris"),
                             .spec = SLICE("{\"name\":\"paris\"}"),
                             .token = SLICE("sha256:t"),
                             .token_until_ns = 9,
                             .created_ns = 1 };
    struct store_pop got;
    int r = s->pop_report(s, &by_itself, err);
    if (r == 0)
        r = s->pop_add(s, &pop, err);
    if (r == 0) { /* its name stands for what reported already */
        pop.name = SLICE("tokyo");
        pop.token = SLICE("sha256:u");
        r = s->pop_add(s, &pop, err);
    }
    if (r == 0)
        r = s->pop_get(s, SLICE("tokyo"), f->arena, &got, err);
    assert_true(r < 0 || (got.instance == 3 && got.created_ns == 1));
    return r;
}

static int add_pop_again(struct fixture *f, struct store *s, struct err *err)
{
    const struct store_pop pop = { .name = SLICE("paris"), .spec = SLICE("{}") };
    (void)f;
    return s->pop_add(s, &pop, err);
}

static int add_pop_too_many(struct fixture *f, struct store *s, struct err *err)
{
    const struct store_pop pop = { .name = SLICE("oslo"), .spec = SLICE("{}") };
    (void)f;
    return s->pop_add(s, &pop, err);
}

static int join(struct fixture *f, struct store *s, struct err *err)
{
    struct store_pop pop;
    int r = s->pop_by_token(s, SLICE("sha256:t"), f->arena, &pop, err);
    if (r < 0)
        return r;
    assert_true(slice_is(pop.name, "paris"));
    pop.token = (struct slice){};
    pop.secret = SLICE("sha256:s");
    pop.wanted = SLICE("drained");
    return s->pop_update(s, &pop, err);
}

static int place(struct fixture *f, struct store *s, struct err *err)
{
    const struct store_placement rows[] = {
        { .endpoint_uid = 1, .pop = SLICE("paris"), .replicas = 2, .since_ns = 4 },
        { .endpoint_uid = 1, .pop = SLICE("tokyo"), .replicas = 1, .since_ns = 6 },
    };
    const struct store_pop_endpoint said = { .endpoint_uid = 1,
                                             .pop = SLICE("paris"),
                                             .serving = 1,
                                             .target = 2,
                                             .state = SLICE("failed"),
                                             .message = SLICE("why") };
    (void)f;
    int r = s->placement_set(s, 1, rows, 2, err);
    if (r == 0)
        r = s->placement_set(s, 2, rows + 1, 1, err);
    if (r == 0)
        r = s->placement_set(s, 2, NULL, 0, err);
    if (r == 0)
        r = s->pop_endpoint_put(s, &said, err);
    return r;
}

static int forget(struct fixture *f, struct store *s, struct err *err)
{
    (void)f;
    int r = s->pop_delete(s, SLICE("paris"), err);
    return r < 0 ? r : s->endpoint_delete(s, 1, err);
}

static void test_pops(void **state)
{
    struct fixture *f = *state;
    struct store *s = f->store;
    struct store_pop pop;
    struct store_placement *places;
    struct store_pop_endpoint *said;
    size_t count;
    OK(inside(f, add_two, &failure));
    OK(inside(f, add_pops, &failure));
    assert_int_equal(inside(f, add_pop_again, &failure), ERR_CONFLICT);
    assert_int_equal(inside(f, add_pop_too_many, &failure), ERR_TOO_LARGE);
    /* What an operator made is not forgotten, whoever reports. */
    OK(inside(f, pops_and_blobs, &failure));
    OK(s->pop_get(s, SLICE("paris"), f->arena, &pop, &failure));
    OK(inside(f, join, &failure));
    assert_int_equal(s->pop_by_token(s, SLICE("sha256:t"), f->arena, &pop, &failure),
                     ERR_NOT_FOUND);
    assert_int_equal(s->pop_by_token(s, SLICE(""), f->arena, &pop, &failure), ERR_NOT_FOUND);
    OK(s->pop_get(s, SLICE("paris"), f->arena, &pop, &failure));
    assert_true(slice_is(pop.secret, "sha256:s") && slice_is(pop.wanted, "drained"));
    OK(inside(f, place, &failure));
    OK(s->placement_list(s, f->arena, &places, &count, &failure));
    assert_int_equal(count, 2);
    assert_true(slice_is(places[0].pop, "paris") && places[0].replicas == 2);
    assert_int_equal(places[1].since_ns, 6);
    OK(s->pop_endpoint_list(s, 1, f->arena, &said, &count, &failure));
    assert_int_equal(count, 1);
    assert_true(slice_is(said[0].message, "why") && said[0].target == 2);
    OK(s->pop_endpoint_of(s, SLICE("tokyo"), f->arena, &said, &count, &failure));
    assert_int_equal(count, 0);
    OK(inside(f, forget, &failure));
    assert_int_equal(s->pop_get(s, SLICE("paris"), f->arena, &pop, &failure), ERR_NOT_FOUND);
    OK(s->pop_endpoint_of(s, SLICE("paris"), f->arena, &said, &count, &failure));
    assert_int_equal(count, 0);
    OK(s->placement_list(s, f->arena, &places, &count, &failure));
    assert_int_equal(count, 0); /* they went with the endpoint */
}

static void test_second_connection(void **state)
{
    struct fixture *f = *state;
    struct store *reader;
    struct store_endpoint got;
    OK(inside(f, add_two, &failure));
    OK(store_sqlite_open(f->path, STORE_READ, NULL, &reader, &failure));
    OK(reader->endpoint_get(reader, 1, f->arena, &got, &failure));
    assert_true(slice_is(got.name, "alpha"));
    assert_true(reader->project_ensure(reader, SLICE("another"), 1, NULL) < 0);
    reader->close(reader);
}

/* ---- opening -------------------------------------------------------------------------------- */

static void run_sql(const char *path, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void refused(struct fixture *f, const char *words)
{
    struct err err = {};
    struct store *store;
    assert_true(store_sqlite_open(f->path, STORE_WRITE, NULL, &store, &err) < 0);
    if (!strstr(err.message, words))
        fail_msg("'%s' does not say '%s'", err.message, words);
}

static void test_newer_and_damaged(void **state)
{
    struct fixture *f = *state;
    OK(inside(f, add_two, &failure));
    f->store->close(f->store);
    f->store = NULL;
    run_sql(f->path, "PRAGMA user_version = 999");
    char words[80], sql[40];
    snprintf(words, sizeof words, "schema version 999, this Perigee knows up to %u",
             store_schema());
    refused(f, words);
    snprintf(sql, sizeof sql, "PRAGMA user_version = %u", store_schema());
    run_sql(f->path, sql);

    FILE *file = fopen(f->path, "r+");
    fseek(file, 4096 * 3, SEEK_SET);
    for (int i = 0; i < 4096; i++)
        fputc(0x5a, file);
    fclose(file);
    refused(f, "perigee restore");
    file = fopen(f->path, "w");
    fputs("this is no database, whatever its name says, and it is long enough\n", file);
    fclose(file);
    refused(f, "perigee restore");
    unlink(f->path);
    run_sql(f->path, "CREATE TABLE mine (x)");
    refused(f, "none of Perigee's");
}

/* Those there are, and two to come: a good one and a bad one. */
enum { MIGRATIONS_MAX = 64 };
static struct migration more[MIGRATIONS_MAX];

static unsigned migrations_fill(void)
{
    unsigned count = sqlite_migration_count;
    assert_true(count + 2 <= MIGRATIONS_MAX);
    memcpy(more, sqlite_migrations, count * sizeof *more);
    more[count] = (struct migration){ count + 1, "next_add.sql",
                                      "ALTER TABLE projects ADD COLUMN more TEXT;"
                                      " CREATE TABLE extra (x)" };
    more[count + 1] = (struct migration){ count + 2, "next_bad.sql",
                                          "CREATE TABLE good (x); CREATE TABLE good (x)" };
    return count + 1;
}

static unsigned copies(struct fixture *f)
{
    unsigned count = 0;
    DIR *dir = opendir(f->folder);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += strstr(entry->d_name, ".before-") != NULL;
    closedir(dir);
    return count;
}

/* Copies have milliseconds of the wall clock in their names. */
static void await_next_millisecond(void)
{
    struct timespec begin, now;
    clock_gettime(CLOCK_REALTIME, &begin);
    do
        clock_gettime(CLOCK_REALTIME, &now);
    while (now.tv_sec == begin.tv_sec && now.tv_nsec / 1'000'000 == begin.tv_nsec / 1'000'000);
}

static void test_migrations(void **state)
{
    struct fixture *f = *state;
    sqlite3 *handle = db_of(f->store)->handle;
    struct err err = {};
    OK(inside(f, add_two, &failure));
    unsigned good = migrations_fill();
    OK(sqlite_migrate(handle, f->path, more, good, &failure));
    assert_int_equal(copies(f), 1);
    assert_int_equal(sqlite3_exec(handle, "SELECT more FROM projects, extra", 0, 0, 0), SQLITE_OK);
    OK(sqlite_migrate(handle, f->path, more, good, &failure)); /* nothing to do */
    assert_int_equal(copies(f), 1);
    /* What fails leaves everything as it was. */
    for (int i = 0; i < 5; i++) {
        assert_true(sqlite_migrate(handle, f->path, more, good + 1, &err) < 0);
        assert_non_null(strstr(err.message, "next_bad.sql"));
        await_next_millisecond();
    }
    assert_int_equal(copies(f), 3);
    assert_int_not_equal(sqlite3_exec(handle, "SELECT * FROM good", 0, 0, 0), SQLITE_OK);
}

/* A state from before there were several PoPs is taken along. */
static void test_from_the_first_schema(void **state)
{
    struct fixture *f = *state;
    struct store_pop pop;
    sqlite3 *db;
    f->store->close(f->store);
    f->store = NULL;
    unlink(f->path);
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    OK(sqlite_migrate(db, f->path, sqlite_migrations, 1, &failure));
    sqlite3_close(db);
    run_sql(f->path, "INSERT INTO pops (name, instance, seq, reported_ns, report)"
                     " VALUES ('local', 4, 5, 6, '{}')");
    OK(store_sqlite_open(f->path, STORE_WRITE, NULL, &f->store, &failure));
    OK(f->store->pop_get(f->store, SLICE("local"), f->arena, &pop, &failure));
    assert_int_equal(pop.instance, 4);
    assert_true(pop.spec.size == 0 && pop.secret.size == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_endpoints, set_up, case_end),
        cmocka_unit_test_setup_teardown(test_revisions, set_up, case_end),
        cmocka_unit_test_setup_teardown(test_bounded_rows, set_up, case_end),
        cmocka_unit_test_setup_teardown(test_a_share_of_the_lines, set_up, case_end),
        cmocka_unit_test_setup_teardown(test_pops_and_blobs, set_up, case_end),
        cmocka_unit_test_setup_teardown(test_pops, set_up, case_end),
        cmocka_unit_test_setup_teardown(test_second_connection, set_up, case_end),
        cmocka_unit_test_setup_teardown(test_newer_and_damaged, set_up, case_end),
        cmocka_unit_test_setup_teardown(test_migrations, set_up, case_end),
        cmocka_unit_test_setup_teardown(test_from_the_first_schema, set_up, case_end),
    };
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
