/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /api/v1/pops: what an operator says of PoPs, and how one joins. A token is shown once and works
 * once; the secret that its agent makes and keeps is never sent: only its digest is. Both are here
 * as digests alone.
 */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/env.h"
#include "base/json.h"
#include "control/control_own.h"
#include "control/placement.h"
#include "control/request.h"
#include "control/routes.h"
#include "control/watch.h"
#include "geo/country.h"
#include "spec/pop.h"
#include "store/digest.h"
#include "store/store.h"

enum { TOKEN_BYTES = 32, TOKEN_TTL_S = 3600, TOKEN_TTL_S_MAX = 7 * 24 * 3600 };

enum pop_change_kind { POP_CREATE, POP_DRAIN, POP_UNDRAIN, POP_TOKEN, POP_DELETE, POP_ENROL };

struct pop_change {
    enum pop_change_kind kind;
    struct slice name;
    struct slice spec;       /* POP_CREATE */
    const char *token;       /* as it is shown; NULL: none is made */
    struct slice digest;     /* of the token: the new one's, or (POP_ENROL) that which is shown */
    struct slice secret;     /* POP_ENROL: its digest */
    enum pop_kind kind_said; /* POP_ENROL: what joins */
    int64_t ttl_ns;
    struct store_pop row; /* what came of it */
    struct store_event event;
    struct store_audit audit;
};

/* ---- on the store's thread ------------------------------------------------------------------- */

static int create(struct request *q, struct pop_change *change, struct store *store,
                  struct err *err)
{
    struct store_pop there;
    int r = store->pop_get(store, change->name, q->arena, &there, err);
    if (r < 0 && r != ERR_NOT_FOUND)
        return r;
    change->row = (struct store_pop){
        .name = change->name,
        .spec = change->spec,
        .token = change->digest,
        .token_until_ns = q->now_ns + change->ttl_ns,
        .created_ns = q->now_ns,
        .tombstone = r == 0 ? there.tombstone : (struct slice){},
    };
    return store->pop_add(store, &change->row, err);
}

static enum pop_kind kind_of(struct request *q, const struct store_pop *row)
{
    struct pop_spec spec = {};
    yyjson_val *tree;
    struct err ignored;
    if (row->spec.size && json_parse(q->arena, row->spec, NULL, &tree, &ignored) == 0)
        (void)!pop_spec_parse(q->arena, tree, &spec, &ignored);
    return spec.kind;
}

static int enrol(struct request *q, struct pop_change *change, struct store *store, struct err *err)
{
    struct store_pop *row = &change->row;
    int r = store->pop_by_token(store, change->digest, q->arena, row, err);
    if (r == ERR_NOT_FOUND)
        return err_set(err, ERR_UNAUTHENTICATED,
                       "no PoP waits with this token: it is mistyped, was used, or is for another "
                       "control; `perigee pops token NAME` makes a new one");
    if (r < 0)
        return r;
    enum pop_kind kind = kind_of(q, row);
    if (kind != change->kind_said) /* its token is not used up by that */
        return err_set(err, ERR_CONFLICT, "'%s' was created as %s: it joins with `perigee %s`",
                       ERR_SLICE(row->name), kind == POP_KIND_DNS ? "a DNS server" : "a PoP",
                       pop_kind_word(kind));
    change->name = row->name;
    /* The answer to the first call was lost: the same agent asks again. */
    if (row->secret.size && slice_equal(row->secret, change->secret))
        return 0;
    if (row->secret.size)
        return err_set(err, ERR_UNAUTHENTICATED, "the token was used already");
    if (row->token_until_ns < q->now_ns)
        return err_set(err, ERR_UNAUTHENTICATED,
                       "the token has expired: `perigee pops token %s` makes a new one",
                       ERR_SLICE(row->name));
    row->secret = change->secret;
    return store->pop_update(store, row, err);
}

/* What it said of endpoints: nobody takes it back. The next report of another makes their sums. */
static int forget(struct request *q, struct store *store, struct slice name, struct err *err)
{
    struct store_pop_endpoint *rows;
    size_t count;
    int r = store->pop_endpoint_of(store, name, q->arena, &rows, &count, err);
    for (size_t i = 0; i < count && r == 0; i++)
        r = store->pop_endpoint_delete(store, rows[i].endpoint_uid, name, err);
    return r;
}

static int change_existing(struct request *q, struct pop_change *change, struct store *store,
                           struct err *err)
{
    struct store_pop *row = &change->row;
    int r = store->pop_get(store, change->name, q->arena, row, err);
    if (r < 0)
        return r;
    if (slice_is(row->wanted, "retired"))
        return err_set(err, ERR_CONFLICT, "PoP '%s' is retired; create it anew",
                       ERR_SLICE(change->name));
    if (row->spec.size == 0)
        return err_set(err, ERR_CONFLICT,
                       "PoP '%s' is that of `perigee up` itself: it goes and comes with it",
                       ERR_SLICE(change->name));
    if (change->kind == POP_DRAIN && kind_of(q, row) == POP_KIND_DNS)
        return err_set(err, ERR_CONFLICT, "'%s' is a DNS server: it runs nothing to drain",
                       ERR_SLICE(change->name));
    switch (change->kind) {
    case POP_DRAIN:
        row->wanted = SLICE("drained");
        break;
    case POP_UNDRAIN:
        row->wanted = (struct slice){};
        break;
    case POP_TOKEN:
        row->token = change->digest;
        row->token_until_ns = q->now_ns + change->ttl_ns;
        row->secret = (struct slice){}; /* who had it is out */
        break;
    default:
        row->wanted = SLICE("retired");
        if (row->secret.size) /* one that never joined again leaves what was before it */
            row->tombstone = row->secret;
        row->token = row->secret = (struct slice){};
        row->retired_ns = q->now_ns;
        r = forget(q, store, row->name, err);
        break;
    }
    return r < 0 ? r : store->pop_update(store, row, err);
}

static int on_run(struct job *job, struct store *store, struct err *err)
{
    static const struct {
        const char *kind, *text;
    } events[] = {
        [POP_CREATE] = { "pop_created", "waits for it to join" },
        [POP_DRAIN] = { "pop_draining", "is to run nothing any more" },
        [POP_UNDRAIN] = { "pop_undrained", "may run replicas again" },
        [POP_TOKEN] = { "pop_token", "has a new token to join with" },
        [POP_DELETE] = { "pop_retired", "its secret is worth nothing any more" },
        [POP_ENROL] = { "pop_joined", "has joined" },
    };
    struct request *q = request_of_job(job);
    struct pop_change *change = q->data;
    int r = change->kind == POP_CREATE  ? create(q, change, store, err)
            : change->kind == POP_ENROL ? enrol(q, change, store, err)
                                        : change_existing(q, change, store, err);
    if (r < 0)
        return r;
    struct slice spec = digest_slice(q->arena, change->row.spec);
    change->audit.action = slice_of(events[change->kind].kind);
    change->audit.project = (struct slice){};
    change->audit.endpoint = change->name;
    change->audit.before = change->kind == POP_CREATE ? (struct slice){} : spec;
    change->audit.after = change->kind == POP_DELETE ? (struct slice){} : spec;
    change->event = (struct store_event){
        .at_ns = q->now_ns,
        .kind = slice_of(events[change->kind].kind),
        .pop = change->name,
        .message = slice_of(events[change->kind].text),
    };
    r = store->audit_add(store, &change->audit, err);
    return r < 0 ? r : store->event_add(store, &change->event, err);
}

/* ---- on the loop ----------------------------------------------------------------------------- */

static void reply_enrolled(struct request *q, const struct hub_pop *pop)
{
    struct json_writer w;
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "pop", pop->name);
    json_member_text(&w, "zone", q->control->start.zone);
    json_key(&w, "spec");
    json_raw(&w, pop->row.spec.size ? pop->row.spec : SLICE("{}"));
    json_object_end(&w);
    request_reply(q, 200, json_end(&w));
}

static void reply_changed(struct request *q, const struct pop_change *change,
                          const struct hub_pop *pop)
{
    struct json_writer w;
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_key(&w, "pop");
    json_raw(&w, view_pop(q->control, q->arena, pop));
    if (change->token) {
        json_member_text(&w, "token", change->token);
        view_member_time(&w, "token_expires_at", change->row.token_until_ns);
    }
    json_object_end(&w);
    request_reply(q, change->kind == POP_CREATE ? 201 : 200, json_end(&w));
}

static void on_done(struct job *job, const struct err *err)
{
    struct request *q = request_of_job(job);
    struct pop_change *change = q->data;
    if (err) {
        request_fail(q, err);
        return;
    }
    hub_pop_row(q->control, &change->row);
    watch_events(q->control, &change->event, 1);
    struct hub_pop *pop = hub_pop(q->control, change->row.name);
    if (change->kind == POP_ENROL)
        reply_enrolled(q, pop);
    else
        reply_changed(q, change, pop);
    if (change->kind == POP_DELETE || change->kind == POP_TOKEN)
        watch_pop_end(q->control, pop);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static const char *token_make(struct request *q, struct slice *ret_digest)
{
    static const char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    char digest[DIGEST_TEXT];
    unsigned char bytes[2 * TOKEN_BYTES];
    char *token = arena_alloc(q->arena, sizeof "pgj_" + TOKEN_BYTES);
    size_t used = 4;
    memcpy(token, "pgj_", 4);
    while (used < 4 + TOKEN_BYTES) { /* bytes of 248 and more would favour some letters */
        env_random(q->control->env, bytes, sizeof bytes);
        for (size_t i = 0; i < sizeof bytes && used < 4 + TOKEN_BYTES; i++)
            if (bytes[i] < 248)
                token[used++] = letters[bytes[i] % 62];
    }
    *ret_digest = arena_copy(q->arena, slice_of(digest_of((struct slice){ token, used }, digest)));
    return token;
}

static int token_begin(struct request *q, struct pop_change *change, struct err *err)
{
    uint64_t ttl_s = TOKEN_TTL_S;
    int r = request_number(q, "ttl", TOKEN_TTL_S_MAX, &ttl_s, err);
    if (r == 0 && ttl_s == 0)
        r = err_set(err, ERR_BAD_INPUT, "?ttl= must be 1 second or more");
    if (r < 0)
        return r;
    change->ttl_ns = (int64_t)ttl_s * ENV_S;
    change->token = token_make(q, &change->digest);
    return 0;
}

/* ---- handlers -------------------------------------------------------------------------------- */

/* The exchange, which knows the client, may be gone when the store's thread comes to it. */
static void change_write(struct request *q, struct pop_change *change)
{
    change->audit = request_audit(q, "");
    q->data = change;
    request_write(q, on_run, on_done);
}

static void start(struct request *q, enum pop_change_kind kind)
{
    struct pop_change *change = ARENA_NEW(q->arena, struct pop_change);
    struct err err;
    change->kind = kind;
    change->name = q->parts[0];
    if (kind == POP_TOKEN && token_begin(q, change, &err) < 0)
        request_fail(q, &err);
    else
        change_write(q, change);
}

void pop_create(struct request *q)
{
    struct pop_change *change = ARENA_NEW(q->arena, struct pop_change);
    struct pop_spec spec;
    yyjson_val *tree;
    struct err err;
    char code[3];
    int r = json_parse(q->arena, (struct slice){ q->body, q->body_bytes }, NULL, &tree, &err);
    if (r == 0)
        r = pop_spec_parse(q->arena, tree, &spec, &err);
    if (r == 0)
        r = spec_check_name(spec.name, "PoP", &err);
    if (r == 0 && spec.country != COUNTRY_UNKNOWN) {
        country_code_of(spec.country, code);
        r = country_check(slice_of(code), &err);
    }
    if (r == 0)
        r = token_begin(q, change, &err);
    if (r < 0) {
        request_fail(q, &err);
        return;
    }
    change->kind = POP_CREATE;
    change->name = spec.name;
    change->spec = pop_spec_json(q->arena, &spec);
    change_write(q, change);
}

void pop_drain(struct request *q)
{
    start(q, POP_DRAIN);
}

void pop_undrain(struct request *q)
{
    start(q, POP_UNDRAIN);
}

void pop_token(struct request *q)
{
    start(q, POP_TOKEN);
}

void pop_delete(struct request *q)
{
    start(q, POP_DELETE);
}

void pop_enrol(struct request *q)
{
    struct pop_change *change = ARENA_NEW(q->arena, struct pop_change);
    char digest[DIGEST_TEXT];
    struct slice token = request_bearer(q), kind = SLICE("pop");
    yyjson_val *tree;
    struct err err;
    int r = 0;
    if (!q->trusted && !address_loopback(exchange_client(q->x)))
        r = err_set(&err, ERR_NOT_SUPPORTED,
                    "joining from another machine wants certificates: not yet");
    if (r == 0 && !token.size)
        r = err_set(&err, ERR_UNAUTHENTICATED, "a PoP joins with Authorization: Bearer TOKEN");
    if (r == 0)
        r = json_parse(q->arena, (struct slice){ q->body, q->body_bytes }, NULL, &tree, &err);
    if (r == 0 && json_get_string(tree, "secret", JSON_REQUIRED, &change->secret, &err) < 0)
        r = ERR_BAD_INPUT;
    if (r == 0)
        r = digest_check(change->secret, &err);
    if (r == 0 && json_get_string(tree, "kind", JSON_OPTIONAL, &kind, &err) < 0)
        r = ERR_BAD_INPUT;
    if (r == 0)
        r = pop_kind_parse(kind, &change->kind_said, &err);
    if (r < 0) {
        request_fail(q, &err);
        return;
    }
    change->kind = POP_ENROL;
    change->digest = arena_copy(q->arena, slice_of(digest_of(token, digest)));
    change_write(q, change);
}

/* ---- looking --------------------------------------------------------------------------------- */

void pop_get(struct request *q)
{
    const struct hub_pop *pop = map_get(&q->control->hub.pops, q->parts[0]);
    if (pop)
        request_reply(q, 200, view_pop(q->control, q->arena, pop));
    else
        request_refuse(q, ERR_NOT_FOUND, "there is no PoP '%s'", ERR_SLICE(q->parts[0]));
}

static int by_name(const void *a, const void *b)
{
    return slice_order((*(const struct hub_pop *const *)a)->name,
                       (*(const struct hub_pop *const *)b)->name);
}

void pops_list(struct request *q)
{
    struct json_writer w;
    size_t count = 0;
    const struct hub_pop **pops =
        ARENA_ARRAY(q->arena, const struct hub_pop *, q->control->hub.pops.count + 1);
    MAP_EACH (entry, &q->control->hub.pops)
        pops[count++] = entry->value;
    qsort((void *)pops, count, sizeof *pops, by_name);
    json_begin(&w, q->arena, 0);
    json_object_begin(&w);
    json_key(&w, "items");
    json_array_begin(&w);
    for (size_t i = 0; i < count; i++)
        json_raw(&w, view_pop(q->control, q->arena, pops[i]));
    json_array_end(&w);
    json_key(&w, "next");
    json_null(&w);
    json_object_end(&w);
    request_reply(q, 200, json_end(&w));
}
