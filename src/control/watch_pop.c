/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What agents are told over their watches. One that was away hears what has changed since, by the
 * numbers of last changes that the hub keeps: a thing once, as it is now. Level-triggered all the
 * same: how it came to be so, nobody is told.
 */
#include <stdio.h>

#include "base/arena.h"
#include "contract/watch.h"
#include "control/control_own.h"
#include "control/keys.h"
#include "control/request.h"
#include "control/watch.h"
#include "control/watch_inside.h"
#include "policy/resume.h"

static void on_secret_written(struct exchange *x, const struct err *err, void *data)
{
    (void)x;
    (void)err;
    arena_free(data);
}

/* Unless it has had them: those numbered `since` or below. Nothing is left of them once they have
 * gone out. */
static void say_keys(struct watcher *watcher, uint64_t since, bool first)
{
    struct control *control = watcher->q->control;
    struct hub_pop *pop = watcher->pop;
    struct arena *arena = arena_new_secret();
    struct slice keys = keys_json(control, pop, arena);
    if (pop->keys_changed == 0 || map_hash(keys) != pop->keys_told) {
        pop->keys_told = map_hash(keys);
        pop->keys_changed = ++control->hub.changes;
    }
    if (pop->keys_changed <= since ||
        !watcher_say_piece(watcher, watcher_event_text(arena, "keys", control->hub.changes, keys),
                           first, on_secret_written, arena))
        arena_free(arena);
}

/* Unless it has heard of them: those numbered `since` or below. All names where there is one that
 * it is to forget; then values, each by itself, as many do not fit into what an agent reads at
 * once. What a watch begins with has one number, that of its end. */
static void say_secrets(struct watcher *watcher, const struct hub_endpoint *endpoint,
                        uint64_t since, bool first)
{
    struct control *control = watcher->q->control;
    struct hub_pop *pop = watcher->pop;
    struct arena *arena = arena_new();
    struct secrets_news news = {};
    if (!watcher->ended)
        secrets_news(control, pop, endpoint, since, arena, &news);
    uint64_t all = control->hub.changes;
    if (first || news.fewer)
        watcher_say_event(watcher, "secrets", first ? all : news.fewer,
                          secrets_list_json(&pop->secrets, arena), first);
    for (size_t i = 0; i < news.count; i++) {
        struct arena *secret = arena_new_secret();
        struct slice json = secrets_value_json(control, news.items[i].row, secret);
        uint64_t number = first ? all : news.items[i].number;
        if (!watcher_say_piece(watcher, watcher_event_text(secret, "secret", number, json), first,
                               on_secret_written, secret))
            arena_free(secret);
    }
    arena_free(arena);
}

/* `pop` NULL: to all. */
static void tell_secrets(struct control *control, const struct hub_pop *pop,
                         const struct hub_endpoint *endpoint)
{
    struct watcher *watcher;
    uint64_t before = control->hub.changes;
    LIST_EACH (watcher, &control->watchers, struct watcher, link)
        if (watcher->kind == WATCH_POP && (!pop || watcher->pop == pop))
            say_secrets(watcher, endpoint, before, false);
}

static void say_gone(struct watcher *watcher, uint64_t uid, uint64_t number, bool first)
{
    char json[40];
    (void)snprintf(json, sizeof json, "{\"uid\":%llu}", (unsigned long long)uid);
    watcher_say_event(watcher, "gone", number, slice_of(json), first);
}

/* One of which nothing is there for PoPs any more is gone, as far as they know. */
static void say_endpoint(struct watcher *watcher, const struct hub_endpoint *endpoint,
                         uint64_t number, bool first)
{
    if (endpoint->pop_view.size)
        watcher_say_event(watcher, "endpoint", number, endpoint->pop_view, first);
    else
        say_gone(watcher, endpoint->snapshot->row.uid, number, first);
}

/* Whatever it has not taken yet is for an agent that is not there any more, or does not read. */
static void cut(struct watcher *watcher)
{
    bool open = watcher->q->x != NULL;
    watcher->ended = true;
    if (open)
        exchange_abort(watcher->q->x);
}

/* An agent has one watch: a newer one takes the place of one that was cut unnoticed, and none holds
 * as many as there may be of all. */
static void cut_older(struct control *control, struct slice pop)
{
    struct watcher *watcher;
    LIST_EACH (watcher, &control->watchers, struct watcher, link)
        if (watcher->pop && !watcher->q->trusted && slice_equal(watcher->pop->name, pop))
            cut(watcher);
}

/* Behind which number it is to be told. */
static uint64_t begin(struct watcher *watcher)
{
    struct request *q = watcher->q;
    const struct hub *hub = &q->control->hub;
    const struct resume_log log = { hub->epoch, hub_gone_known(hub), hub->changes };
    struct watch_mark had = watch_mark_read(request_header(q, "Last-Event-ID"));
    enum resume resume = resume_of(&log, had.epoch, had.number);
    const struct watch_begins begins = { hub->epoch, resume == RESUME_ON };
    struct slice how = slice_of(resume_word(resume));
    metric_add(control_count(q->control, CONTROL_WATCHES_BEGUN, &how), 1);
    watcher_say_event(watcher, "begins", hub->changes, watch_begins_json(q->arena, &begins), true);
    return begins.resumed ? had.number : 0;
}

/* All of the state that has changed since; 0: all of it. */
static void say_state(struct watcher *watcher, uint64_t since)
{
    struct request *q = watcher->q;
    const struct hub *hub = &q->control->hub;
    const struct hub_gone *gone;
    uint64_t *uids = ARENA_ARRAY(q->arena, uint64_t, hub->by_uid.count + 1);
    struct watch_synced synced = { uids, 0 };
    if (hub->peers.size && hub->peers_changed > since)
        watcher_say_event(watcher, "pops", hub->changes, hub->peers, true);
    say_keys(watcher, since, true);
    say_secrets(watcher, NULL, since, true);
    for (uint64_t at = since; since && (gone = hub_gone_after(hub, at)); at = gone->number)
        say_gone(watcher, gone->uid, hub->changes, true);
    MAP_EACH (entry, &hub->by_uid) {
        const struct hub_endpoint *endpoint = entry->value;
        if (endpoint->pop_view.size)
            uids[synced.uid_count++] = endpoint->snapshot->row.uid;
        if (endpoint->pop_changed > since)
            say_endpoint(watcher, endpoint, hub->changes, true);
    }
    watcher_say_event(watcher, "synced", hub->changes, watch_synced_json(q->arena, &synced), true);
}

void watch_pop_open(struct request *q)
{
    if (!q->trusted)
        cut_older(q->control, q->parts[0]);
    struct watcher *watcher = watcher_open(q, WATCH_POP);
    if (!watcher)
        return;
    /* First, so that what it is given now is in what it hears first. */
    list_remove(&watcher->link);
    watcher->pop = hub_pop(q->control, q->parts[0]);
    hub_pop_watched(q->control, watcher->pop, true);
    hub_refresh_now(q->control);
    tell_secrets(q->control, watcher->pop, NULL); /* what others of it are still to hear */
    list_append(&q->control->watchers, &watcher->link);
    say_state(watcher, begin(watcher));
}

void watch_pop_end(struct control *control, const struct hub_pop *pop)
{
    struct watcher *watcher;
    LIST_EACH (watcher, &control->watchers, struct watcher, link)
        if (watcher->pop == pop)
            watcher_end(watcher);
}

void watch_pop_peers(struct control *control)
{
    struct watcher *watcher;
    LIST_EACH (watcher, &control->watchers, struct watcher, link)
        if (watcher->kind == WATCH_POP)
            watcher_say_event(watcher, "pops", control->hub.peers_changed, control->hub.peers,
                              false);
}

void watch_pop_keys(struct control *control)
{
    struct watcher *watcher;
    uint64_t before = control->hub.changes;
    LIST_EACH (watcher, &control->watchers, struct watcher, link)
        if (watcher->kind == WATCH_POP)
            say_keys(watcher, before, false);
}

void watch_pop_secrets(struct control *control, const struct hub_endpoint *endpoint)
{
    tell_secrets(control, NULL, endpoint);
}

static bool among(struct hub_pop *const *pops, size_t count, const struct hub_pop *pop)
{
    for (size_t i = 0; i < count; i++)
        if (pops[i] == pop)
            return true;
    return false;
}

size_t watch_pop_ask(struct control *control, struct slice question, struct arena *arena,
                     struct hub_pop ***ret_pops)
{
    struct watcher *watcher;
    uint64_t number = ++control->hub.changes;
    size_t count = 0;
    *ret_pops = ARENA_ARRAY(arena, struct hub_pop *, control->watcher_count + 1);
    LIST_EACH (watcher, &control->watchers, struct watcher, link) {
        if (watcher->kind != WATCH_POP || watcher->ended || !hub_pop_runs(watcher->pop))
            continue;
        watcher_say_event(watcher, "explain", number, question, false);
        if (!among(*ret_pops, count, watcher->pop))
            (*ret_pops)[count++] = watcher->pop;
    }
    return count;
}

void watch_pop_endpoint(struct control *control, struct hub_endpoint *endpoint)
{
    struct watcher *watcher;
    LIST_EACH (watcher, &control->watchers, struct watcher, link)
        if (watcher->kind == WATCH_POP)
            say_endpoint(watcher, endpoint, endpoint->pop_changed, false);
}

void watch_pop_gone(struct control *control, uint64_t uid, uint64_t number)
{
    struct watcher *watcher;
    LIST_EACH (watcher, &control->watchers, struct watcher, link)
        if (watcher->kind == WATCH_POP)
            say_gone(watcher, uid, number, false);
}
