/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which agent is told what. What an endpoint names is told before the endpoint is; that an agent is
 * to forget something has time, and is looked for once for many changes; but before it would have
 * to hold more than it takes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "contract/watch.h"
#include "control/control_own.h"
#include "control/granted.h"
#include "control/secrets_own.h"
#include "control/watch.h"
#include "io/timer.h"

enum { FORGET_SOON_MS = 50, KEY_BYTES = 96 };

struct told {
    char key[KEY_BYTES]; /* "project/name" */
    int64_t updated_ns;  /* of the value that it was told, */
    uint64_t number;     /* and when; 0: it was not yet */
    uint64_t looked;     /* when it was last wanted */
};

static struct slice key_of(const struct store_secret *row, char key[static KEY_BYTES])
{
    int size = snprintf(key, KEY_BYTES, "%.*s/%.*s", SLICE_FMT(row->project), SLICE_FMT(row->name));
    return (struct slice){ key, (size_t)size < KEY_BYTES ? (size_t)size : KEY_BYTES - 1 };
}

void secrets_told_deinit(struct secrets_told *told)
{
    MAP_EACH (entry, &told->by_key)
        free(entry->value);
    map_deinit(&told->by_key);
}

static struct told *told_of(struct secrets_told *told, const struct store_secret *row)
{
    char key[KEY_BYTES];
    struct slice name = key_of(row, key);
    struct told *one = map_get(&told->by_key, name);
    if (!one) {
        one = mem_zalloc(sizeof *one);
        memcpy(one->key, key, sizeof one->key);
        (void)map_put(&told->by_key, (struct slice){ one->key, name.size }, one);
    }
    return one;
}

/* Each once, told or not. */
static void add(const struct control *control, struct hub_pop *pop,
                const struct hub_endpoint *endpoint, struct secrets_news *ret)
{
    const struct snapshot *s = endpoint->snapshot;
    if (s->secret_count == 0 || granted_replicas(endpoint, pop) == 0)
        return;
    for (size_t i = 0; i < s->secret_count; i++) {
        const struct store_secret *row =
            secrets_row(control->secrets, s->row.project, s->secrets[i].name);
        struct told *one = row ? told_of(&pop->secrets, row) : NULL;
        if (!one || one->looked == pop->secrets.looked)
            continue;
        one->looked = pop->secrets.looked;
        ret->items[ret->count++] = (struct secrets_item){ .row = row };
    }
}

static void sweep(struct control *control, struct secrets_told *told)
{
    bool fewer = false;
    MAP_EACH (entry, &told->by_key) {
        struct told *one = entry->value;
        if (one->looked == told->looked)
            continue;
        (void)map_remove(&told->by_key, entry->key);
        free(one);
        fewer = true;
    }
    if (fewer)
        told->fewer = ++control->hub.changes;
}

void secrets_untold(struct control *control)
{
    MAP_EACH (pop, &control->hub.pops) {
        const struct secrets_told *told = &((struct hub_pop *)pop->value)->secrets;
        MAP_EACH (one, &told->by_key)
            ((struct told *)one->value)->number = 0;
    }
}

/* Of all that are wanted what it has not heard. */
static void number(struct control *control, struct secrets_told *told, uint64_t since,
                   struct secrets_news *ret)
{
    size_t wanted = ret->count;
    ret->count = 0;
    for (size_t i = 0; i < wanted; i++) {
        const struct store_secret *row = ret->items[i].row;
        struct told *one = told_of(told, row);
        if (one->number == 0 || one->updated_ns != row->updated_ns)
            one->number = ++control->hub.changes;
        one->updated_ns = row->updated_ns;
        if (one->number > since)
            ret->items[ret->count++] = (struct secrets_item){ row, one->number };
    }
    ret->fewer = told->fewer > since ? told->fewer : 0;
}

void secrets_news(struct control *control, struct hub_pop *pop, const struct hub_endpoint *endpoint,
                  uint64_t since, struct arena *arena, struct secrets_news *ret)
{
    struct secrets_told *told = &pop->secrets;
    size_t count = control->secrets->count;
    struct hub_endpoint *each;
    *ret = (struct secrets_news){ .items = ARENA_ARRAY(arena, struct secrets_item, count + 1) };
    told->looked++;
    if (endpoint)
        add(control, pop, endpoint, ret);
    if (!endpoint || told->by_key.count > WATCH_SECRETS_MAX) {
        LIST_EACH (each, &control->hub.naming, struct hub_endpoint, naming)
            add(control, pop, each, ret);
        sweep(control, told);
    }
    number(control, told, since, ret);
}

struct slice secrets_value_json(struct control *control, const struct store_secret *row,
                                struct arena *arena)
{
    const struct secrets *secrets = control->secrets;
    struct json_writer w;
    struct slice value;
    struct err err = {};
    int r = secrets->key ? seal_open(secrets->key, secrets_purpose(arena, row->project, row->name),
                                     row->sealed, arena, &value, &err)
                         : err_set(&err, ERR_PRECONDITION, "%s", secrets->why);
    if (r < 0)
        log_error("control", "a secret cannot be opened", LOG_SLICE("project", row->project),
                  LOG_SLICE("secret", row->name), LOG_S("error", err.message));
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_string(&w, "project", row->project);
    json_member_string(&w, "name", row->name);
    if (r < 0)
        json_member_text(&w, "error", err.message);
    else
        json_member_string(&w, "value", value);
    json_object_end(&w);
    return json_end(&w);
}

struct slice secrets_list_json(const struct secrets_told *told, struct arena *arena)
{
    struct json_writer w;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_key(&w, "secrets");
    json_array_begin(&w);
    MAP_EACH (entry, &told->by_key) {
        struct slice name = entry->key, project = slice_cut(&name, '/');
        json_object_begin(&w);
        json_member_string(&w, "project", project);
        json_member_string(&w, "name", name);
        json_object_end(&w);
    }
    json_array_end(&w);
    json_object_end(&w);
    return json_end(&w);
}

/* ---- when ------------------------------------------------------------------------------------ */

static void on_soon(void *data)
{
    watch_pop_secrets(data, NULL);
}

static void forget_soon(struct control *control)
{
    struct secrets *secrets = control->secrets;
    if (!secrets->soon)
        secrets->soon = timer_new(control->loop, on_soon, control);
    if (!timer_running(secrets->soon))
        timer_start(secrets->soon, FORGET_SOON_MS);
}

void secrets_put(struct control *control, struct hub_endpoint *endpoint)
{
    bool before = !list_empty(&endpoint->naming), now = endpoint->snapshot->secret_count > 0;
    if (before)
        forget_soon(control);
    if (before && !now)
        list_remove(&endpoint->naming);
    if (now && !before)
        list_append(&control->hub.naming, &endpoint->naming);
}

void secrets_moved(struct control *control, const struct hub_endpoint *endpoint)
{
    if (endpoint->snapshot->secret_count == 0)
        return;
    watch_pop_secrets(control, endpoint);
    forget_soon(control);
}

void secrets_gone(struct control *control, struct hub_endpoint *endpoint)
{
    if (list_empty(&endpoint->naming))
        return;
    list_remove(&endpoint->naming);
    forget_soon(control);
}
