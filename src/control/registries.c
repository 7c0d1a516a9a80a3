/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /api/v1/registries: other registries. A password is in the body and in a secret arena, both of
 * which are wiped, until it is sealed; the rest of control knows of it that there is one.
 */
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "control/abroad.h"
#include "control/control_own.h"
#include "control/routes.h"
#include "http/fetch.h"
#include "io/loop.h"
#include "spec/reference.h"
#include "store/digest.h"
#include "store/seal.h"

enum { USERNAME_BYTES_MAX = 256, PASSWORD_BYTES_MAX = 8 << 10, CA_BYTES_MAX = 64 << 10 };
enum { TEST_MS = 15'000, NS_A_MS = 1'000'000 };

struct telling {
    struct slice host;
    struct store_audit audit;
    struct arena *rows_arena; /* the hub's in the end */
    struct store_registry *rows;
    size_t count;
};

/* ---- what is shown --------------------------------------------------------------------------- */

static void write_row(struct json_writer *w, const struct store_registry *row)
{
    json_object_begin(w);
    json_member_string(w, "host", row->host);
    json_key(w, "username");
    if (row->username.size)
        json_string(w, row->username);
    else
        json_null(w);
    json_member_bool(w, "password", row->sealed.size > 0);
    json_member_bool(w, "plain_http", row->plain);
    json_member_bool(w, "ca", row->ca.size > 0);
    view_member_time(w, "created_at", row->created_ns);
    view_member_time(w, "updated_at", row->updated_ns);
    json_object_end(w);
}

void registries_list(struct request *q)
{
    const struct store_registry *rows;
    size_t count = abroad_rows(q->control, &rows);
    struct json_writer w;
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_key(&w, "items");
    json_array_begin(&w);
    for (size_t i = 0; i < count; i++)
        write_row(&w, &rows[i]);
    json_array_end(&w);
    json_key(&w, "next");
    json_null(&w);
    json_object_end(&w);
    request_reply(q, 200, json_end(&w));
}

/* ---- telling of one -------------------------------------------------------------------------- */

static bool plain_text(struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        if ((unsigned char)text.data[i] < ' ' || text.data[i] == 0x7f)
            return false;
    return true;
}

static int check(const struct store_registry *row, struct slice password, struct err *err)
{
    if (row->username.size > USERNAME_BYTES_MAX || !plain_text(row->username) ||
        memchr(row->username.data ? row->username.data : "", ':', row->username.size))
        return err_set(err, ERR_BAD_INPUT,
                       "username: at most %d characters, without ':' and control characters",
                       (int)USERNAME_BYTES_MAX);
    if (password.size > PASSWORD_BYTES_MAX || !plain_text(password))
        return err_set(err, ERR_BAD_INPUT, "password: at most %d bytes, without control characters",
                       (int)PASSWORD_BYTES_MAX);
    if ((row->username.size > 0) != (password.size > 0))
        return err_set(err, ERR_BAD_INPUT, "username and password come together");
    if (row->ca.size > CA_BYTES_MAX ||
        (row->ca.size && !memmem(row->ca.data, row->ca.size, "-----BEGIN CERTIFICATE-----", 27)))
        return err_set(err, ERR_BAD_INPUT, "ca: certificates as PEM, at most %d KiB",
                       CA_BYTES_MAX >> 10);
    if (row->ca.size && row->plain)
        return err_set(err, ERR_BAD_INPUT, "ca: nothing is certified over plain http");
    return 0;
}

static int seal(struct request *q, struct arena *secret, struct slice password,
                struct store_registry *row, struct err *err)
{
    const char *path = arena_format(secret, "%s/" SEAL_KEY_FILE, q->control->start.home);
    const struct seal_key *key;
    int r = seal_key_load(path, true, secret, &key, err);
    return r < 0 ? r
                 : seal_close(key, abroad_purpose(q->arena, row->host), password, q->arena,
                              &row->sealed, err);
}

/* Everything in `secret`, the row in the request's arena. */
static int read_body(struct request *q, struct arena *secret, struct store_registry *row,
                     struct err *err)
{
    static const char *const known[] = { "username", "password", "plain_http", "ca", NULL };
    static const struct json_limits limits = { .bytes_max = 2 * CA_BYTES_MAX };
    struct slice body = { q->body, q->body_bytes }, username = {}, password = {}, ca = {};
    yyjson_val *root;
    int r = json_parse(secret, body, &limits, &root, err);
    if (r == 0 && !yyjson_is_obj(root))
        r = err_set(err, ERR_BAD_INPUT, "the body must be an object");
    if (r < 0 || (r = json_check_keys(root, known, err)) < 0 ||
        (r = json_get_string(root, "username", JSON_OPTIONAL, &username, err)) < 0 ||
        (r = json_get_string(root, "password", JSON_OPTIONAL, &password, err)) < 0 ||
        (r = json_get_string(root, "ca", JSON_OPTIONAL, &ca, err)) < 0)
        return r;
    row->username = arena_copy(q->arena, username);
    row->ca = arena_copy(q->arena, ca);
    row->plain = ca.size == 0 && elsewhere_is_loopback(row->host);
    if ((r = json_get_bool(root, "plain_http", JSON_OPTIONAL, &row->plain, err)) < 0 ||
        (r = check(row, password, err)) < 0)
        return r;
    return password.size ? seal(q, secret, password, row, err) : 0;
}

/* Of all that is kept of it, its sealed password too. */
static struct slice row_digest(struct arena *arena, const struct store_registry *row)
{
    struct json_writer w;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "username", row->username);
    json_member_string(&w, "sealed", digest_slice(arena, row->sealed));
    json_member_string(&w, "ca", row->ca);
    json_member_bool(&w, "plain_http", row->plain);
    json_object_end(&w);
    return digest_slice(arena, json_end(&w));
}

static int read_before(struct request *q, struct store *store, struct err *err)
{
    struct telling *telling = q->data;
    struct store_registry *rows;
    size_t count;
    int r = store->registry_list(store, q->arena, &rows, &count, err);
    for (size_t i = 0; i < count && r == 0; i++)
        if (slice_equal(rows[i].host, telling->host))
            telling->audit.before = row_digest(q->arena, &rows[i]);
    return r;
}

static int rows_load(struct telling *telling, struct store *store, struct err *err)
{
    telling->rows_arena = arena_new();
    return store->registry_list(store, telling->rows_arena, &telling->rows, &telling->count, err);
}

static int on_put_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct telling *telling = q->data;
    struct store_registry row = {
        .host = telling->host,
        .created_ns = q->now_ns,
        .updated_ns = q->now_ns,
    };
    struct arena *secret = arena_new_secret();
    int r = read_body(q, secret, &row, err);
    arena_free(secret);
    explicit_bzero(q->body, q->body_bytes);
    if (r == 0)
        r = read_before(q, store, err);
    if (r == 0)
        r = store->registry_put(store, &row, err);
    if (r == 0)
        telling->audit.after = row_digest(q->arena, &row);
    if (r == 0)
        r = store->audit_add(store, &telling->audit, err);
    return r < 0 ? r : rows_load(telling, store, err);
}

static void reply_row(struct request *q, struct slice host)
{
    const struct store_registry *row = abroad_row(q->control, host);
    struct json_writer w;
    if (!row) { /* another call has deleted it meanwhile */
        request_refuse(q, ERR_NOT_FOUND, "there is no registry '%s'", ERR_SLICE(host));
        return;
    }
    json_begin(&w, q->arena, 0);
    write_row(&w, row);
    request_reply(q, 200, json_end(&w));
}

static bool told(struct request *q, const struct err *err)
{
    struct telling *telling = q->data;
    if (err) {
        arena_free(telling->rows_arena);
        request_fail(q, err);
        return false;
    }
    abroad_told(q->control, telling->rows_arena, telling->rows, telling->count, telling->host);
    return true;
}

static void on_put_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct telling *telling = q->data;
    if (told(q, err))
        reply_row(q, telling->host);
}

/* NULL: it was refused. */
static struct telling *telling_new(struct request *q, const char *action)
{
    struct telling *telling = ARENA_NEW(q->arena, struct telling);
    struct err err;
    if (reference_check_host(q->parts[0], &err) < 0) {
        request_fail(q, &err);
        return NULL;
    }
    telling->host = slice_of(arena_lower(q->arena, q->parts[0])); /* of machines: of one case */
    telling->audit = request_audit(q, action);
    telling->audit.project = (struct slice){};
    telling->audit.endpoint = telling->host;
    q->data = telling;
    return telling;
}

void registry_put(struct request *q)
{
    if (telling_new(q, "registry_set"))
        request_write(q, on_put_run, on_put_done);
}

/* ---- forgetting one -------------------------------------------------------------------------- */

static int on_delete_run(struct job *job, struct store *store, struct err *err)
{
    struct telling *telling = request_of_job(job)->data;
    int r = read_before(request_of_job(job), store, err);
    if (r == 0)
        r = store->registry_delete(store, telling->host, err);
    if (r == 0)
        r = store->audit_add(store, &telling->audit, err);
    return r < 0 ? r : rows_load(telling, store, err);
}

static void on_delete_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    if (told(q, err))
        request_reply_with(q, 204, NULL, 0, NULL, (struct slice){});
}

void registry_delete(struct request *q)
{
    if (telling_new(q, "registry_deleted"))
        request_write(q, on_delete_run, on_delete_done);
}

/* ---- trying one ------------------------------------------------------------------------------ */

struct trying {
    struct abroad_ask ask;
    const char *asks;
    int64_t took_ms;
};

static int on_test_run(struct job *job, struct store *store, struct err *err)
{
    struct request *q = request_of_job(job);
    struct trying *trying = q->data;
    struct arena *secret = arena_new_secret();
    struct elsewhere elsewhere;
    struct elsewhere_trouble trouble;
    struct fetch_answer answer;
    const struct elsewhere_call call = { .path = "", .timeout_ms = TEST_MS };
    int64_t from_ns = loop_now_ns();
    (void)store;
    int r = abroad_unseal(&trying->ask, secret, err);
    if (r == 0) {
        elsewhere_open(&elsewhere, &trying->ask.registry, NULL, trying->ask.stop);
        r = elsewhere_call(&elsewhere, &call, q->arena, &answer, &trouble, err);
        trying->asks = !elsewhere.authorization                      ? "nothing"
                       : strstr(elsewhere.authorization, ": Basic ") ? "basic"
                                                                     : "token";
        elsewhere_close(&elsewhere);
    }
    arena_free(secret);
    trying->took_ms = (loop_now_ns() - from_ns) / NS_A_MS;
    return r;
}

static void on_test_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    const struct trying *trying = q->data;
    struct json_writer w;
    if (err) {
        abroad_refuse(q, err);
        return;
    }
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_member_text(&w, "host", trying->ask.registry.host);
    json_member_text(&w, "asks", trying->asks);
    json_member_i64(&w, "took_ms", trying->took_ms);
    json_object_end(&w);
    request_reply(q, 200, json_end(&w));
}

void registry_test(struct request *q)
{
    struct trying *trying = ARENA_NEW(q->arena, struct trying);
    struct err err;
    if (reference_check_host(q->parts[0], &err) < 0) {
        request_fail(q, &err);
        return;
    }
    abroad_ask(q->control, q->arena, q->parts[0], &trying->ask);
    q->data = trying;
    request_ask(q, on_test_run, on_test_done);
}
