/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /api/v1/secrets. A value is in the body and in a secret arena, both of which are wiped, until it
 * is sealed. The key that seals is kept in memory: agents are told on the loop, which reads no
 * file.
 */
#include "control/secrets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "control/control_own.h"
#include "control/routes.h"
#include "control/secrets_own.h"
#include "control/traffic.h"
#include "control/watch.h"
#include "io/timer.h"
#include "store/digest.h"

enum { NAMES_TOLD = 8 };

struct slice secrets_purpose(struct arena *arena, struct slice project, struct slice name)
{
    return slice_of(
        arena_format(arena, SEAL_FOR_SECRET "%.*s/%.*s", SLICE_FMT(project), SLICE_FMT(name)));
}

/* ---- rows ------------------------------------------------------------------------------------ */

static int order(const struct store_secret *row, struct slice project, struct slice name)
{
    int by_project = slice_order(row->project, project);
    return by_project ? by_project : slice_order(row->name, name);
}

const struct store_secret *secrets_row(const struct secrets *secrets, struct slice project,
                                       struct slice name)
{
    size_t low = 0, high = secrets->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int is = order(&secrets->rows[middle], project, name);
        if (is == 0)
            return &secrets->rows[middle];
        if (is > 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static const char *key_path(const struct control *control, struct arena *arena)
{
    return arena_format(arena, "%s/" SEAL_KEY_FILE, control->start.home);
}

int secrets_open(struct control *control, struct err *err)
{
    struct secrets *secrets = control->secrets = mem_zalloc(sizeof *secrets);
    struct err why = {};
    secrets->arena = arena_new();
    int r = control->store->secret_list(control->store, secrets->arena, &secrets->rows,
                                        &secrets->count, err);
    if (r < 0 || secrets->count == 0)
        return r;
    secrets->key_arena = arena_new_secret();
    if (seal_key_load(key_path(control, secrets->key_arena), false, secrets->key_arena,
                      &secrets->key, &why) < 0) {
        log_error("control", "secrets cannot be opened, going on without",
                  LOG_S("error", why.message));
        snprintf(secrets->why, sizeof secrets->why, "%s", why.message);
    }
    return 0;
}

void secrets_close(struct control *control)
{
    struct secrets *secrets = take_ptr(control->secrets);
    if (!secrets)
        return;
    timer_free(secrets->soon);
    arena_free(secrets->arena);
    arena_free(secrets->key_arena);
    free(secrets);
}

/* ---- who names them -------------------------------------------------------------------------- */

static void named_by(struct snapshot *s, const struct store_revision *revision)
{
    struct endpoint_spec spec;
    yyjson_val *tree;
    if (!revision->spec.size ||
        !memmem(revision->spec.data, revision->spec.size, "\"secret\"", 8) ||
        json_parse(s->arena, revision->spec, NULL, &tree, NULL) < 0 ||
        endpoint_spec_parse(s->arena, tree, SPEC_KEEP_UNKNOWN | SPEC_NAME_OPTIONAL, &spec, NULL) <
            0)
        return;
    for (size_t i = 0; i < spec.container.env.count; i++) {
        const struct spec_variable *variable = &spec.container.env.items[i];
        if (variable->secret)
            s->secrets[s->secret_count++] =
                (struct snapshot_secret){ variable->value, revision->number };
    }
}

void secrets_named(struct snapshot *snapshot)
{
    size_t room = snapshot->revision_count * SPEC_SECRETS_MAX;
    snapshot->secrets = ARENA_ARRAY(snapshot->arena, struct snapshot_secret, room + 1);
    snapshot->secret_count = 0;
    for (size_t i = 0; i < snapshot->revision_count; i++)
        named_by(snapshot, &snapshot->revisions[i]);
}

bool secrets_in_use(const struct snapshot *snapshot, struct slice name)
{
    struct store_keep keep = traffic_keep(&snapshot->row, &snapshot->spec);
    for (size_t i = 0; i < snapshot->secret_count; i++) {
        const struct snapshot_secret *secret = &snapshot->secrets[i];
        if (!slice_equal(secret->name, name))
            continue;
        for (size_t k = 0; k < sizeof keep.numbers / sizeof *keep.numbers; k++)
            if (keep.numbers[k] == secret->revision)
                return true;
    }
    return false;
}

int secrets_check(struct store *store, struct arena *arena, struct slice project,
                  const struct endpoint_spec *spec, struct err *err)
{
    const char **known = NULL;
    for (size_t i = 0; i < spec->container.env.count; i++) {
        const struct spec_variable *variable = &spec->container.env.items[i];
        struct slice *names;
        size_t count = 0, at = 0;
        if (!variable->secret)
            continue;
        if (!known) {
            int r = store->secret_names(store, project, arena, &names, &count, err);
            if (r < 0)
                return r;
            known = ARENA_ARRAY(arena, const char *, count + 1);
            for (size_t k = 0; k < count; k++)
                known[k] = arena_string(arena, names[k]);
        }
        while (known[at] && !slice_is(variable->value, known[at]))
            at++;
        if (known[at])
            continue;
        const char *nearest = json_nearest(variable->value, known);
        return err_set(err, ERR_BAD_INPUT,
                       "env.%s: there is no secret '%s' in project '%s'%s%s%s `perigee secrets set "
                       "%s` makes it",
                       ERR_SLICE(variable->name), ERR_SLICE(variable->value), ERR_SLICE(project),
                       nearest ? "; did you mean '" : ";", nearest ? nearest : "",
                       nearest ? "'?" : "", ERR_SLICE(variable->value));
    }
    return 0;
}

/* ---- what is shown --------------------------------------------------------------------------- */

static void write_used_by(struct json_writer *w, struct control *control,
                          const struct store_secret *row)
{
    struct hub_endpoint *endpoint;
    json_key(w, "used_by");
    json_array_begin(w);
    LIST_EACH (endpoint, &control->hub.naming, struct hub_endpoint, naming)
        if (slice_equal(endpoint->snapshot->row.project, row->project) &&
            secrets_in_use(endpoint->snapshot, row->name))
            json_string(w, endpoint->snapshot->row.name);
    json_array_end(w);
}

static void write_row(struct json_writer *w, struct control *control,
                      const struct store_secret *row)
{
    json_object_begin(w);
    json_member_string(w, "name", row->name);
    json_member_string(w, "project", row->project);
    write_used_by(w, control, row);
    view_member_time(w, "created_at", row->created_ns);
    view_member_time(w, "updated_at", row->updated_ns);
    json_object_end(w);
}

void secrets_list(struct request *q)
{
    const struct secrets *secrets = q->control->secrets;
    struct json_writer w;
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_key(&w, "items");
    json_array_begin(&w);
    for (size_t i = 0; i < secrets->count; i++)
        if (slice_equal(secrets->rows[i].project, q->project))
            write_row(&w, q->control, &secrets->rows[i]);
    json_array_end(&w);
    json_key(&w, "next");
    json_null(&w);
    json_object_end(&w);
    request_reply(q, 200, json_end(&w));
}

/* ---- telling of one -------------------------------------------------------------------------- */

struct secret_change {
    struct slice project, name;
    struct store_audit audit;
    struct arena *key_arena; /* PUT: the key it was sealed with; the loop's in the end */
    const struct seal_key *key;
    struct arena *rows_arena; /* likewise */
    struct store_secret *rows;
    size_t count;
};

static int read_value(struct request *q, struct arena *secret, struct slice *ret, struct err *err)
{
    static const char *const known[] = { "value", NULL };
    static const struct json_limits limits = { .bytes_max = REQUEST_SPEC_BYTES_MAX };
    struct slice body = { q->body, q->body_bytes };
    yyjson_val *root;
    int r = json_parse(secret, body, &limits, &root, err);
    if (r < 0 || (r = json_check_keys(root, known, err)) < 0 ||
        (r = json_get_string(root, "value", JSON_REQUIRED, ret, err)) < 0)
        return r;
    if (ret->size == 0)
        return err_set(err, ERR_BAD_INPUT, "value: there is nothing in it");
    if (ret->size > SEAL_TEXT_MAX)
        return err_set(err, ERR_TOO_LARGE, "value: %zu bytes; a secret has at most %d KiB",
                       ret->size, SEAL_TEXT_MAX >> 10);
    if (memchr(ret->data, '\0', ret->size))
        return err_set(err, ERR_BAD_INPUT,
                       "value: it holds a zero byte, which no environment can have");
    return 0;
}

static int seal(struct request *q, struct secret_change *change, struct store_secret *row,
                struct err *err)
{
    struct arena *secret = arena_new_secret();
    struct slice value;
    change->key_arena = arena_new_secret();
    int r = read_value(q, secret, &value, err);
    if (r == 0)
        r = seal_key_load(key_path(q->control, secret), true, change->key_arena, &change->key, err);
    if (r == 0)
        r = seal_close(change->key, secrets_purpose(secret, row->project, row->name), value,
                       q->arena, &row->sealed, err);
    arena_free(secret);
    if (q->body_bytes)
        explicit_bzero(q->body, q->body_bytes);
    return r;
}

static int read_before(struct request *q, struct store *store, struct err *err)
{
    struct secret_change *change = q->data;
    struct slice sealed;
    int r = store->secret_sealed(store, change->project, change->name, q->arena, &sealed, err);
    if (r == 0 && sealed.size)
        change->audit.before = digest_slice(q->arena, sealed);
    return r;
}

static int rows_load(struct secret_change *change, struct store *store, struct err *err)
{
    change->rows_arena = arena_new();
    return store->secret_list(store, change->rows_arena, &change->rows, &change->count, err);
}

static int on_put_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct secret_change *change = q->data;
    struct store_secret row = {
        .project = change->project,
        .name = change->name,
        .created_ns = q->now_ns,
        .updated_ns = q->now_ns,
    };
    int r = seal(q, change, &row, err);
    if (r == 0)
        r = read_before(q, store, err);
    change->audit.after = digest_slice(q->arena, row.sealed); /* which tells nothing of it */
    if (r == 0)
        r = store->secret_put(store, &row, err);
    if (r == 0)
        r = store->audit_add(store, &change->audit, err);
    return r < 0 ? r : rows_load(change, store, err);
}

/* The rows are others from here on, and agents hear of it. */
static bool changed(struct request *q, const struct err *err)
{
    struct secret_change *change = q->data;
    struct secrets *secrets = q->control->secrets;
    if (err) {
        arena_free(change->key_arena);
        arena_free(change->rows_arena);
        request_fail(q, err);
        return false;
    }
    arena_free(secrets->arena);
    secrets->arena = change->rows_arena;
    secrets->rows = change->rows;
    secrets->count = change->count;
    if (change->key) {
        if (!seal_key_same(secrets->key, change->key))
            secrets_untold(q->control);
        arena_free(secrets->key_arena);
        secrets->key_arena = change->key_arena;
        secrets->key = change->key;
    }
    watch_pop_secrets(q->control, NULL);
    return true;
}

static void on_put_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    const struct secret_change *change = q->data;
    struct json_writer w;
    if (!changed(q, err))
        return;
    const struct store_secret *row =
        secrets_row(q->control->secrets, change->project, change->name);
    if (!row) { /* another call has deleted it meanwhile */
        request_refuse(q, ERR_NOT_FOUND, "there is no secret '%s'", ERR_SLICE(change->name));
        return;
    }
    json_begin(&w, q->arena, 0);
    write_row(&w, q->control, row);
    request_reply(q, 200, json_end(&w));
}

/* NULL: it was refused. */
static struct secret_change *change_new(struct request *q, const char *action)
{
    struct secret_change *change = ARENA_NEW(q->arena, struct secret_change);
    struct err err;
    if (spec_check_name(q->parts[0], "secret name", &err) < 0) {
        request_fail(q, &err);
        return NULL;
    }
    change->project = q->project;
    change->name = q->parts[0];
    change->audit = request_audit(q, action);
    change->audit.endpoint = change->name;
    q->data = change;
    return change;
}

void secret_put(struct request *q)
{
    if (change_new(q, "secret_set"))
        request_write(q, on_put_run, on_put_done);
}

/* ---- forgetting one -------------------------------------------------------------------------- */

static int check_unused(struct store *store, struct arena *arena,
                        const struct secret_change *change, struct err *err)
{
    const char *names = "";
    uint64_t *uids;
    size_t count, used = 0;
    int r =
        store->secret_endpoints(store, change->project, change->name, arena, &uids, &count, err);
    for (size_t i = 0; i < count && r == 0; i++) {
        struct snapshot *snapshot;
        r = snapshot_load(store, uids[i], &snapshot, err);
        if (r < 0)
            break;
        if (secrets_in_use(snapshot, change->name) && used++ < NAMES_TOLD)
            names = arena_format(arena, "%s%s'%.*s'", names, *names ? ", " : "",
                                 SLICE_FMT(snapshot->row.name));
        snapshot_free(snapshot);
    }
    if (r < 0 || used == 0)
        return r;
    return err_set(err, ERR_CONFLICT,
                   "the secret '%s' is in use by endpoint%s %s%s: take it out of their env first",
                   ERR_SLICE(change->name), used == 1 ? "" : "s", names,
                   used > NAMES_TOLD ? " and others" : "");
}

static int on_delete_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct secret_change *change = q->data;
    int r = check_unused(store, q->arena, change, err);
    if (r == 0)
        r = read_before(q, store, err);
    if (r == 0)
        r = store->secret_delete(store, change->project, change->name, err);
    if (r == 0)
        r = store->audit_add(store, &change->audit, err);
    return r < 0 ? r : rows_load(change, store, err);
}

static void on_delete_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    if (changed(q, err))
        request_reply_with(q, 204, NULL, 0, NULL, (struct slice){});
}

void secret_delete(struct request *q)
{
    if (change_new(q, "secret_deleted"))
        request_write(q, on_delete_run, on_delete_done);
}
