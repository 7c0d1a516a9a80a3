/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Secrets that environments of containers here name: from control or the disk, to the engine with
 * the container that wants them. Nothing else hears of them.
 */
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "contract/watch.h"
#include "pop/state_inside.h"
#include "store/seal.h"

static struct pop_secret *find(const struct pop *pop, struct slice project, struct slice name)
{
    struct pop_secret *secret;
    LIST_EACH (secret, &pop->secrets, struct pop_secret, link)
        if (slice_equal(secret->name, name) && slice_equal(secret->project, project))
            return secret;
    return NULL;
}

const struct pop_secret *pop_secret_find(const struct pop *pop, struct slice project,
                                         struct slice name)
{
    return find(pop, project, name);
}

static void forget(struct pop *pop, struct pop_secret *secret)
{
    pop->secret_count--;
    list_remove(&secret->link);
    arena_free(secret->arena);
}

void pop_secrets_forget(struct pop *pop)
{
    struct pop_secret *secret;
    LIST_EACH (secret, &pop->secrets, struct pop_secret, link)
        forget(pop, secret);
}

static void moved(struct pop *pop)
{
    pop->secrets_moved = true;
    pop->effects->save(pop, pop->data);
}

void pop_secrets_clear(struct pop *pop)
{
    if (list_empty(&pop->secrets))
        return;
    pop_secrets_forget(pop);
    moved(pop);
}

/* ---- one ------------------------------------------------------------------------------------- */

/* In its arena, which is the caller's. */
static int read_one(yyjson_val *json, struct pop_secret *ret, struct err *err)
{
    int r;
    if ((r = json_get_string(json, "project", JSON_REQUIRED, &ret->project, err)) < 0 ||
        (r = json_get_string(json, "name", JSON_REQUIRED, &ret->name, err)) < 0 ||
        (r = json_get_string(json, "value", JSON_OPTIONAL, &ret->value, err)) < 0 ||
        (r = json_get_string(json, "error", JSON_OPTIONAL, &ret->why, err)) < 0 ||
        (r = spec_check_project_name(ret->project, err)) < 0)
        return r;
    return spec_check_name(ret->name, "secret name", err);
}

/* Takes the secret's arena, also where it fails. 1: nothing is new. A value that control cannot
 * open any more is kept here: it may be nowhere else. */
static int put(struct pop *pop, struct pop_secret *secret, struct err *err)
{
    struct pop_secret *old = find(pop, secret->project, secret->name);
    bool same = old && slice_equal(old->value, secret->value) && slice_equal(old->why, secret->why);
    same = same || (old && old->value.size && !secret->value.size);
    if (same || (!old && pop->secret_count >= WATCH_SECRETS_MAX)) {
        arena_free(secret->arena);
        return same ? 1
                    : err_set(err, ERR_TOO_LARGE, "more than %d secrets", (int)WATCH_SECRETS_MAX);
    }
    if (old)
        forget(pop, old);
    list_append(&pop->secrets, &secret->link);
    pop->secret_count++;
    return 0;
}

static struct pop_secret *secret_new(void)
{
    struct arena *arena = arena_new_secret();
    struct pop_secret *secret = ARENA_NEW(arena, struct pop_secret);
    list_init(&secret->link);
    secret->arena = arena;
    return secret;
}

static bool names(const struct pop_revision *revision, const struct pop_secret *secret)
{
    const struct spec_variables *env = &revision->image->spec.container.env;
    for (size_t i = 0; i < env->count; i++)
        if (env->items[i].secret && slice_equal(env->items[i].value, secret->name))
            return true;
    return false;
}

/* What failed for want of it is tried at once. */
static void try_again(struct pop *pop, const struct pop_secret *secret)
{
    struct pop_endpoint *endpoint;
    struct pop_revision *revision;
    LIST_EACH (endpoint, &pop->endpoints, struct pop_endpoint, link)
        LIST_EACH (revision, &endpoint->revisions, struct pop_revision, link)
            if (revision->image && slice_is(secret->project, endpoint->project) &&
                names(revision, secret)) {
                revision->failures = 0;
                revision->start_not_before_ns = 0;
            }
    pop_reconcile_soon(pop);
}

int pop_secret_apply(struct pop *pop, struct slice json, struct err *err)
{
    struct pop_secret *secret = secret_new();
    yyjson_val *root;
    int r = json_parse(secret->arena, json, NULL, &root, err);
    if (r == 0)
        r = read_one(root, secret, err);
    if (r < 0) {
        arena_free(secret->arena);
        return r;
    }
    r = put(pop, secret, err);
    if (r == 0) {
        moved(pop);
        try_again(pop, secret);
    }
    return r < 0 ? r : 0;
}

/* ---- all ------------------------------------------------------------------------------------- */

int pop_secrets_keep(struct pop *pop, struct slice json, struct err *err)
{
    struct arena *arena = arena_new();
    struct pop_secret *secret;
    yyjson_val *root, *list = NULL, *item;
    size_t index, count;
    bool fewer = false;
    int r = json_parse(arena, json, NULL, &root, err);
    if (r == 0 && json_get_array(root, "secrets", JSON_REQUIRED, &list, err) < 0)
        r = ERR_BAD_INPUT;
    if (r < 0) {
        arena_free(arena);
        return r;
    }
    LIST_EACH (secret, &pop->secrets, struct pop_secret, link)
        secret->kept = false;
    yyjson_arr_foreach(list, index, count, item)
    {
        secret = find(pop, json_slice(json_member(item, "project")),
                      json_slice(json_member(item, "name")));
        if (secret)
            secret->kept = true;
    }
    LIST_EACH (secret, &pop->secrets, struct pop_secret, link)
        if (!secret->kept) {
            forget(pop, secret);
            fewer = true;
        }
    if (fewer)
        moved(pop);
    arena_free(arena);
    return 0;
}

int pop_secrets_check(const struct pop_revision *revision, struct err *err)
{
    const struct pop_endpoint *endpoint = revision->endpoint;
    const struct spec_variables *env = &revision->image->spec.container.env;
    for (size_t i = 0; i < env->count; i++) {
        const struct spec_variable *variable = &env->items[i];
        if (!variable->secret)
            continue;
        const struct pop_secret *secret =
            find(endpoint->pop, slice_of(endpoint->project), variable->value);
        if (secret && secret->value.size)
            continue;
        if (secret)
            return err_set(
                err, ERR_PRECONDITION, "env.%s: control cannot open the secret '%s': %.*s",
                ERR_SLICE(variable->name), ERR_SLICE(variable->value), SLICE_FMT(secret->why));
        return err_set(err, ERR_PRECONDITION,
                       "env.%s: control has given no secret '%s' (`perigee secrets list`)",
                       ERR_SLICE(variable->name), ERR_SLICE(variable->value));
    }
    return 0;
}

/* ---- on disk --------------------------------------------------------------------------------- */

static struct slice purpose(struct arena *arena, const struct pop_secret *secret)
{
    return slice_of(arena_format(arena, "pop secret %.*s/%.*s", SLICE_FMT(secret->project),
                                 SLICE_FMT(secret->name)));
}

struct slice pop_secrets_json(const struct pop *pop, const struct seal_key *key,
                              struct arena *arena)
{
    const struct pop_secret *secret;
    struct json_writer w;
    json_begin(&w, arena, JSON_NEWLINE);
    json_object_begin(&w);
    json_key(&w, "secrets");
    json_array_begin(&w);
    LIST_EACH (secret, &pop->secrets, struct pop_secret, link) {
        struct slice sealed;
        if (!secret->value.size ||
            seal_close(key, purpose(arena, secret), secret->value, arena, &sealed, NULL) < 0)
            continue;
        json_object_begin(&w);
        json_member_string(&w, "project", secret->project);
        json_member_string(&w, "name", secret->name);
        json_member_string(&w, "sealed", sealed);
        json_object_end(&w);
    }
    json_array_end(&w);
    json_object_end(&w);
    return json_end(&w);
}

static int load_one(struct pop *pop, const struct seal_key *key, yyjson_val *item, struct err *err)
{
    struct pop_secret *secret = secret_new();
    struct slice sealed;
    int r = read_one(item, secret, err);
    if (r == 0)
        r = json_get_string(item, "sealed", JSON_REQUIRED, &sealed, err) < 0 ? ERR_BAD_INPUT : 0;
    if (r == 0) {
        secret->project = arena_copy(secret->arena, secret->project);
        secret->name = arena_copy(secret->arena, secret->name);
        r = seal_open(key, purpose(secret->arena, secret), sealed, secret->arena, &secret->value,
                      err);
    }
    if (r < 0) {
        arena_free(secret->arena);
        return r;
    }
    return put(pop, secret, err);
}

int pop_secrets_load(struct pop *pop, const struct seal_key *key, struct slice json,
                     struct err *err)
{
    struct arena *arena = arena_new();
    const struct json_limits limits = { .bytes_max = json.size + 1 };
    yyjson_val *root, *list, *item;
    size_t index, count;
    int r = json_parse(arena, json, &limits, &root, err), failed = 0;
    if (r == 0 && json_get_array(root, "secrets", JSON_REQUIRED, &list, err) < 0)
        r = ERR_BAD_INPUT;
    if (r == 0) {
        yyjson_arr_foreach(list, index, count, item)
        {
            int one = load_one(pop, key, item, err);
            failed = one < 0 ? one : failed;
        }
    }
    arena_free(arena);
    return r < 0 ? r : failed;
}
