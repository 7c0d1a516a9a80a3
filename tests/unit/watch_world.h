/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent's watch, from control's hub to the agent's core, without a wire: what control writes is
 * read as far as a test says.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h> /* after the above */

#include "../fuzz/bare_pop.h"
#include "base/err.h"
#include "base/log.h"
#include "contract/watch.h"
#include "control/granted.h"
#include "control/keys.h"
#include "control/request.h"
#include "control/watch.h"
#include "control_world.h"
#include "http/codec.h"
#include "policy/resume.h"
#include "pop/told.h"
#include "proto/sse.h"

/* ---- an agent -------------------------------------------------------------------------------- */

enum { SPACE = 1 << 20 };

struct site {
    struct control *control;
    struct env env;
    struct pop pop;
    struct pop_told told;
    struct sse sse;
    bool open, synced;
    unsigned resumed, all, astray;
    /* The connection: what control has written, and how far the agent has read. */
    struct request q;
    struct exchange x;
    struct http_header header;
    char bytes[SPACE];
    size_t written, read;
    char words[512]; /* what was told, for people */
};

static void respond(struct exchange *, const struct http_header *, size_t)
{
}

static void take(struct exchange *x, const struct iovec *iovecs, size_t count, size_t,
                 exchange_written_cb on_written, void *data)
{
    struct site *site = x->data;
    for (size_t i = 0; i < count; i++) {
        assert_true(site->written + iovecs[i].iov_len <= SPACE);
        memcpy(site->bytes + site->written, iovecs[i].iov_base, iovecs[i].iov_len);
        site->written += iovecs[i].iov_len;
    }
    if (on_written)
        on_written(x, NULL, data);
}

static void over(struct exchange *)
{
}

static size_t waiting(const struct exchange *)
{
    return 0;
}

static const struct exchange_codec codec = {
    .name = "test", .respond = respond, .write = take, .abort = over, .write_bytes = waiting
};

/* As much of it as there is room for. */
[[gnu::format(printf, 2, 3)]] static void put_words(struct site *site, const char *format, ...)
{
    size_t used = strlen(site->words);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(site->words + used, sizeof site->words - used, format, arguments);
    va_end(arguments);
}

static void say(struct site *site, const char *words, struct slice data, const char *key)
{
    struct arena *arena = arena_new();
    yyjson_val *root, *item;
    struct err err;
    size_t index, count;
    put_words(site, "%s%s", site->words[0] ? ", " : "", words);
    assert_int_equal(json_parse(arena, data, NULL, &root, &err), 0);
    yyjson_val *value = key ? json_member(root, key) : NULL;
    if (yyjson_is_uint(value))
        put_words(site, " %llu", (unsigned long long)yyjson_get_uint(value));
    for (uint64_t uid = 1; uid < 10; uid++) { /* in any order there */
        yyjson_arr_foreach(value, index, count, item)
        {
            if (yyjson_get_uint(item) == uid)
                put_words(site, " %llu", (unsigned long long)uid);
        }
    }
    arena_free(arena);
}

static void say_name(struct site *site, struct slice data)
{
    struct arena *arena = arena_new();
    yyjson_val *root;
    struct err err;
    assert_int_equal(json_parse(arena, data, NULL, &root, &err), 0);
    struct slice name = json_slice(json_member(root, "name"));
    put_words(site, "%s%.*s", site->words[0] ? ", " : "", SLICE_FMT(name));
    arena_free(arena);
}

static bool on_event(struct slice kind, struct slice id, struct slice data, void *arg)
{
    struct site *site = arg;
    if (slice_is(kind, "synced"))
        say(site, "synced", data, "uids");
    else if (slice_is(kind, "secret"))
        say_name(site, data);
    else if (slice_is(kind, "endpoint") || slice_is(kind, "gone"))
        say(site, slice_is(kind, "gone") ? "gone" : "endpoint", data, "uid");
    else if (slice_is(kind, "keys") || slice_is(kind, "pops"))
        say(site, slice_is(kind, "keys") ? "keys" : "pops", data, NULL);
    switch (pop_told_event(&site->told, &site->pop, kind, id, data)) {
    case POP_TOLD_ALL:
        site->all++;
        site->synced = true;
        break;
    case POP_TOLD_CHANGES:
        site->resumed++;
        site->synced = true;
        break;
    case POP_TOLD_ASTRAY:
        site->astray++;
        return false;
    case POP_TOLD_NOTHING:
    case POP_TOLD_ENDPOINT:
    case POP_TOLD_PEERS:
    case POP_TOLD_KEYS:
    case POP_TOLD_QUESTION:
        break;
    }
    return true;
}

static struct site *site_new(struct control *control)
{
    struct site *site = mem_zalloc(sizeof *site);
    site->control = control;
    site->env = (struct env)BARE_ENV;
    pop_init(&site->pop, &site->env, 1, &bare_effects, NULL);
    site->pop.name = "paris";
    return site;
}

static void site_cut(struct site *site)
{
    if (!site->open)
        return;
    site->open = site->synced = false;
    site->q.x = NULL;
    site->q.on_closed(&site->q);
    arena_free(site->q.arena);
    sse_deinit(&site->sse);
}

/* `id` NULL: the agent's own. */
static void site_open(struct site *site, const char *id)
{
    char text[WATCH_MARK_BYTES];
    if (!id)
        id = site->told.mark.epoch ? watch_mark_text(site->told.mark, text) : "";
    site->written = site->read = 0;
    site->words[0] = '\0';
    site->sse = (struct sse){ .on_event = on_event, .data = site };
    site->header = HTTP_HEADER("Last-Event-ID", slice_of(id));
    site->x = (struct exchange){ .codec = &codec, .data = site };
    site->x.request.headers = (struct http_headers){ &site->header, id[0] != '\0' };
    site->q = (struct request){ .control = site->control,
                                .x = &site->x,
                                .arena = arena_new(),
                                .parts = { SLICE("paris") },
                                .trusted = true };
    pop_told_open(&site->told);
    watch_pop_open(&site->q);
    site->open = true;
}

/* At most so many bytes; it goes away where it is led astray. */
static void site_read(struct site *site, size_t bytes)
{
    size_t size = site->written - site->read < bytes ? site->written - site->read : bytes;
    bool more = sse_feed(&site->sse, (struct slice){ site->bytes + site->read, size });
    site->read += size;
    if (!more)
        site_cut(site);
}

[[maybe_unused]] static void site_free(struct site *site)
{
    site_cut(site);
    pop_deinit(&site->pop);
    free(site);
}

[[maybe_unused]] static void refresh(struct control *control)
{
    while (control->hub.peers_stale || !list_empty(&control->hub.stale))
        hub_refresh_now(control);
}

static void check_keys(struct site *site)
{
    struct arena *arena = arena_new_secret();
    struct pop *wanted = mem_zalloc(sizeof *wanted);
    struct hub_pop *paris = hub_pop(site->control, SLICE("paris"));
    struct err err;
    assert_int_equal(pop_keys_apply(wanted, keys_json(site->control, paris, arena), &err), 0);
    assert_int_equal(site->pop.key_count, wanted->key_count);
    for (size_t i = 0; i < wanted->key_count; i++)
        assert_memory_equal(&site->pop.keys[i], &wanted->keys[i], sizeof *wanted->keys);
    pop_keys_clear(wanted);
    free(wanted);
    arena_free(arena);
}

/* Those that endpoints placed there name, as they are now, and no other. */
static void check_secrets(struct site *site)
{
    struct control *control = site->control;
    struct hub_pop *paris = hub_pop(control, SLICE("paris"));
    const struct hub_endpoint *endpoint;
    struct arena *arena = arena_new_secret();
    struct map wanted = {};
    LIST_EACH (endpoint, &control->hub.naming, struct hub_endpoint, naming)
        for (size_t i = 0; i < endpoint->snapshot->secret_count; i++) {
            struct slice name = endpoint->snapshot->secrets[i].name, value;
            const struct store_secret *row = secrets_row(control->secrets, SLICE("default"), name);
            if (!row || granted_replicas(endpoint, paris) == 0)
                continue;
            const struct pop_secret *own = pop_secret_find(&site->pop, row->project, name);
            assert_int_equal(seal_open(control->secrets->key,
                                       secrets_purpose(arena, row->project, name), row->sealed,
                                       arena, &value, NULL),
                             0);
            assert_true(own && slice_equal(own->value, value));
            (void)map_put(&wanted, name, site);
        }
    assert_int_equal(site->pop.secret_count, wanted.count);
    map_deinit(&wanted);
    arena_free(arena);
}

/* All that control has said has been read: both know the same. */
[[maybe_unused]] static void check_same(struct site *site)
{
    const struct hub *hub = &site->control->hub;
    const struct pop_endpoint *own;
    size_t wanted = 0, there = 0;
    assert_true(site->synced);
    LIST_EACH (own, &site->pop.endpoints, struct pop_endpoint, link)
        wanted += own->wanted;
    MAP_EACH (entry, &hub->by_uid) {
        const struct hub_endpoint *endpoint = entry->value;
        if (!endpoint->pop_view.size)
            continue;
        own = pop_endpoint_find(&site->pop, endpoint->snapshot->row.uid);
        assert_true(own && own->wanted);
        assert_true(slice_equal(own->json, endpoint->pop_view));
        there++;
    }
    assert_int_equal(wanted, there);
    assert_true(slice_equal(site->pop.peers_json, hub->peers));
    check_keys(site);
    check_secrets(site);
}

/* ---- control, with keys ---------------------------------------------------------------------- */

[[maybe_unused]] static int fleet_up(void **state)
{
    (void)set_up(state);
    struct control *control = &((struct world *)*state)->control;
    char folder[] = "/tmp/perigee-watch-XXXXXX", path[64];
    struct err err;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/control", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(control->start.home, sizeof control->start.home, "%s", folder);
    struct secrets *secrets = control->secrets;
    secrets->arena = arena_new();
    secrets->key_arena = arena_new_secret();
    secrets->key = seal_key_of((unsigned char[SEAL_KEY_BYTES]){ 1 }, "it", secrets->key_arena);
    return keys_open(control, &err);
}

[[maybe_unused]] static int fleet_down(void **state)
{
    struct control *control = &((struct world *)*state)->control;
    char path[MESSAGE_PATH_BYTES + 32];
    keys_close(control);
    snprintf(path, sizeof path, "%s/" CONTROL_KEY_FILE, control->start.home);
    assert_int_equal(unlink(path), 0);
    snprintf(path, sizeof path, "%s/control", control->start.home);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(control->start.home), 0);
    return tear_down(state);
}

/* Secret number `index` of `count`, in their order; `version` 0: there is none. */
[[maybe_unused]] static struct slice secret_name(struct arena *arena, size_t index)
{
    return slice_of(arena_format(arena, "s-%04zu", index));
}

[[maybe_unused]] static void secrets_are(struct control *control, const unsigned *versions,
                                         size_t count)
{
    struct secrets *secrets = control->secrets;
    struct arena *arena = arena_new();
    struct err err;
    struct store_secret *rows_now = ARENA_ARRAY(arena, struct store_secret, count + 1);
    arena_free(secrets->arena);
    secrets->arena = arena;
    secrets->rows = rows_now;
    secrets->count = 0;
    for (size_t i = 0; i < count; i++) {
        if (!versions[i])
            continue;
        struct store_secret *row = &rows_now[secrets->count++];
        *row = (struct store_secret){ .project = SLICE("default"),
                                      .name = secret_name(arena, i),
                                      .updated_ns = versions[i] };
        struct slice value = slice_of(arena_format(arena, "value %u of %zu", versions[i], i));
        assert_int_equal(seal_close(secrets->key, secrets_purpose(arena, row->project, row->name),
                                    value, arena, &row->sealed, &err),
                         0);
    }
    watch_pop_secrets(control, NULL);
}

/* Its next life, `later_ns` by the wall's clock; what it knows is to be put anew. */
[[maybe_unused]] static void control_restart(struct world *world, int64_t later_ns)
{
    hub_close(&world->control);
    world->control.hub = (struct hub){};
    world->now_ns += later_ns;
    hub_open(&world->control);
    world->control.hub.calm_ms = 0;
}
