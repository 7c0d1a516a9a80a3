/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An agent's watch, from control's hub to the agent's core: what is told of what has changed
 * meanwhile; and, whatever happens in between, that both know the same once all has come.
 */
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

static bool on_event(struct slice kind, struct slice id, struct slice data, void *arg)
{
    struct site *site = arg;
    if (slice_is(kind, "synced"))
        say(site, "synced", data, "uids");
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

static void site_free(struct site *site)
{
    site_cut(site);
    pop_deinit(&site->pop);
    free(site);
}

static void refresh(struct control *control)
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

/* All that control has said has been read: both know the same. */
static void check_same(struct site *site)
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
}

/* ---- control, with keys ---------------------------------------------------------------------- */

static int fleet_up(void **state)
{
    (void)set_up(state);
    struct control *control = &((struct world *)*state)->control;
    char folder[] = "/tmp/perigee-watch-XXXXXX", path[64];
    struct err err;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/control", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(control->start.home, sizeof control->start.home, "%s", folder);
    return keys_open(control, &err);
}

static int fleet_down(void **state)
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

/* Its next life, `later_ns` by the wall's clock; what it knows is to be put anew. */
static void control_restart(struct world *world, int64_t later_ns)
{
    hub_close(&world->control);
    world->control.hub = (struct hub){};
    world->now_ns += later_ns;
    hub_open(&world->control);
    world->control.hub.calm_ms = 0;
}

/* ---- what is told ---------------------------------------------------------------------------- */

static void two(struct control *control)
{
    (void)pop_put(control, "paris", PARIS);
    (void)endpoint_put(control, 1, "");
    (void)endpoint_put(control, 2, "");
    refresh(control);
}

static void nothing_happens(struct world *)
{
}

static void one_changes(struct world *world)
{
    (void)endpoint_put(&world->control, 2, ",\"scale\":{\"min\":2}");
}

static void one_changes_often(struct world *world)
{
    for (int i = 0; i < 5; i++)
        one_changes(world), (void)endpoint_put(&world->control, 2, ",\"scale\":{\"min\":3}");
}

static void one_for_another(struct world *world)
{
    (void)endpoint_put(&world->control, 3, "");
    hub_remove(&world->control, 2);
}

static void one_comes_and_goes(struct world *world)
{
    (void)endpoint_put(&world->control, 3, "");
    hub_remove(&world->control, 3);
}

static void a_pop_comes(struct world *world)
{
    (void)pop_put(&world->control, "rome", TOKYO);
}

static void a_pop_comes_unheard(struct world *world)
{
    a_pop_comes(world);
    watch_pop_keys(&world->control);
    (void)pop_put(&world->control, "oslo", TOKYO);
}

static void many_go(struct world *world, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        (void)endpoint_put(&world->control, 100 + i, "");
        hub_remove(&world->control, 100 + i);
    }
}

static void as_many_go_as_are_kept(struct world *world)
{
    many_go(world, HUB_GONE_MAX);
}

static void one_more_goes(struct world *world)
{
    many_go(world, HUB_GONE_MAX + 1);
}

static void it_starts_anew(struct world *world)
{
    control_restart(world, ENV_S);
    two(&world->control);
}

/* The numbers go back as well: the wall's clock was set back, too. */
static void it_is_restored(struct world *world)
{
    control_restart(world, -500 * ENV_S);
    two(&world->control);
    hub_remove(&world->control, 2);
    (void)endpoint_put(&world->control, 1, ",\"scale\":{\"min\":7}");
}

#define ALL "pops, keys, endpoint 1, endpoint 2, synced 1 2"
#define MARK "own"
static const struct {
    const char *name;
    void (*meanwhile)(struct world *world);
    const char *id; /* MARK: the agent's */
    int64_t more;   /* than that number */
    enum resume wanted;
    const char *told; /* NULL: not looked at */
} rows[] = {
    { "an agent that has nothing", nothing_happens, "", 0, RESUME_FIRST, ALL },
    { "an id of an agent of before", nothing_happens, "17", 0, RESUME_FIRST, ALL },
    { "nothing has changed", nothing_happens, MARK, 0, RESUME_ON, "synced 1 2" },
    { "one has changed", one_changes, MARK, 0, RESUME_ON, "endpoint 2, synced 1 2" },
    { "one has changed often", one_changes_often, MARK, 0, RESUME_ON, "endpoint 2, synced 1 2" },
    { "one for another", one_for_another, MARK, 0, RESUME_ON, "gone 2, endpoint 3, synced 1 3" },
    { "one came and went", one_comes_and_goes, MARK, 0, RESUME_ON, "gone 3, synced 1 2" },
    { "a PoP has come", a_pop_comes, MARK, 0, RESUME_ON, "pops, keys, synced 1 2" },
    { "PoPs have come", a_pop_comes_unheard, MARK, 0, RESUME_ON, "pops, keys, synced 1 2" },
    { "as many went as are kept", as_many_go_as_are_kept, MARK, 0, RESUME_ON, NULL },
    { "one more", one_more_goes, MARK, 0, RESUME_BEHIND, ALL },
    { "it is told again what it has", one_changes, MARK, -1, RESUME_ON, NULL },
    { "far behind", one_more_goes, MARK, -1000, RESUME_BEHIND, ALL },
    { "of the future", one_changes, MARK, 1000, RESUME_AHEAD, ALL },
    { "control began anew", it_starts_anew, MARK, 0, RESUME_EPOCH, ALL },
    { "and its number is lower", it_starts_anew, MARK, -1000, RESUME_EPOCH, ALL },
    { "control was restored", it_is_restored, MARK, 0, RESUME_EPOCH,
      "pops, keys, endpoint 1, synced 1" },
    { "and its number is one of it", it_is_restored, MARK, -500'000'000, RESUME_EPOCH,
      "pops, keys, endpoint 1, synced 1" },
};

static uint64_t begun(struct control *control, enum resume how)
{
    struct slice word = slice_of(resume_word(how));
    return metrics_series(&control->metrics, CONTROL_WATCHES_BEGUN, &word)->words[0];
}

static void test_what_is_told(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        void *made;
        print_message("  %s\n", rows[i].name);
        assert_int_equal(fleet_up(&made), 0);
        struct world *world = made;
        struct site *site = site_new(&world->control);
        two(&world->control);
        site_open(site, NULL);
        site_read(site, SPACE);
        assert_string_equal(site->words, ALL);
        check_same(site);
        site_cut(site);

        rows[i].meanwhile(world);
        uint64_t before = begun(&world->control, rows[i].wanted);
        char text[WATCH_MARK_BYTES];
        struct watch_mark had = site->told.mark;
        had.number += (uint64_t)rows[i].more;
        const char *id = strcmp(rows[i].id, MARK) == 0 ? watch_mark_text(had, text) : rows[i].id;
        site_open(site, id);
        site_read(site, SPACE);
        assert_int_equal(begun(&world->control, rows[i].wanted), before + 1);
        if (rows[i].told)
            assert_string_equal(site->words, rows[i].told);
        check_same(site);
        site_free(site);
        assert_int_equal(fleet_down(&made), 0);
    }
}

/* Told what has changed since somebody else's mark, it notices, and keeps what it has. */
static void test_led_astray(void **state)
{
    struct world *world = *state;
    struct control *control = &world->control;
    struct site *site = site_new(control);
    char text[WATCH_MARK_BYTES];
    two(control);
    site_open(site, NULL);
    site_read(site, SPACE);
    struct watch_mark had = site->told.mark;
    site_cut(site);
    (void)endpoint_put(control, 3, "");
    had.number = control->hub.changes;
    site_open(site, watch_mark_text(had, text)); /* it has never heard of the third */
    site_read(site, SPACE);
    assert_int_equal(site->astray, 1);
    assert_false(site->open);
    assert_true(pop_endpoint_find(&site->pop, 2)->wanted);
    site_open(site, NULL);
    assert_int_equal(begun(control, RESUME_FIRST), 2);
    site_read(site, SPACE);
    check_same(site);
    /* Of another epoch than it asked for: before anything of it is taken. */
    site_cut(site);
    site->told.mark.epoch ^= 2;
    (void)endpoint_put(control, 1, ",\"scale\":{\"min\":6}");
    had = (struct watch_mark){ control->hub.epoch, control->hub.changes - 1 };
    site_open(site, watch_mark_text(had, text));
    site_read(site, SPACE);
    assert_int_equal(site->astray, 2);
    assert_string_equal(site->words, "");
    site_free(site);
}

/* Half of all that there is is no place to go on from: the mark is that of the end. */
static void test_a_beginning_that_was_cut(void **state)
{
    struct world *world = *state;
    struct control *control = &world->control;
    two(control);
    for (size_t bytes = 0;; bytes += 17) {
        struct site *site = site_new(control);
        site_open(site, NULL);
        site_read(site, bytes);
        bool whole = site->synced;
        assert_true(whole == (site->told.mark.epoch != 0));
        site_cut(site);
        site_open(site, NULL);
        site_read(site, SPACE);
        assert_int_equal(site->resumed, whole);
        check_same(site);
        site_free(site);
        if (whole)
            break;
    }
}

/* What could not be read is told again, with all. */
static void test_what_cannot_be_read(void **state)
{
    static const char *const events[][2] = {
        { "endpoint", "{\"uid\":1}" },
        { "pops", "{}" },
        { "keys", "[]" },
        { "gone", "{}" },
        { "secret", "{}" },
        { "secrets", "{}" },
        { "endpoint", "" },
    };
    struct world *world = *state;
    struct control *control = &world->control;
    two(control);
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        struct site *site = site_new(control);
        site_open(site, NULL);
        site_read(site, SPACE);
        assert_true(site->told.mark.epoch != 0);
        char id[24];
        snprintf(id, sizeof id, "%llu", (unsigned long long)control->hub.changes);
        (void)pop_told_event(&site->told, &site->pop, slice_of(events[i][0]), slice_of(id),
                             slice_of(events[i][1]));
        check_same(site); /* it changes nothing */
        assert_true(site->told.mark.epoch == 0);
        site_cut(site);
        (void)endpoint_put(control, 2, ",\"scale\":{\"min\":2}");
        site_open(site, NULL);
        site_read(site, SPACE);
        assert_int_equal(site->all, 2);
        check_same(site);
        site_free(site);
    }
}

/* A control of before: no "begins", no epoch; each watch tells all. */
static void test_a_control_of_before(void **state)
{
    static const char first[] =
        "event: endpoint\nid: 5\ndata: "
        "{\"uid\":1,\"name\":\"e\",\"state\":\"running\",\"target\":1,"
        "\"revisions\":[],\"spec\":{\"model\":\"m\"}}\n\nevent: synced\nid: 5\n"
        "data: {\"uids\":[1]}\n\n";
    static const char second[] = "event: synced\nid: 6\ndata: {\"uids\":[]}\n\n";
    struct world *world = *state;
    struct site *site = site_new(&world->control);
    site->told.mark = (struct watch_mark){ 7, 4 };
    for (int i = 0; i < 2; i++) {
        site->sse = (struct sse){ .on_event = on_event, .data = site };
        pop_told_open(&site->told);
        assert_true(sse_feed(&site->sse, slice_of(i ? second : first)));
        assert_true(site->told.mark.epoch == 0);
        assert_int_equal(pop_endpoint_find(&site->pop, 1)->wanted, i == 0);
        sse_deinit(&site->sse);
    }
    assert_int_equal(site->all, 2);
    site_free(site);
}

/* ---- whatever happens ------------------------------------------------------------------------ */

enum { UIDS = 40, STEPS = 20'000 };

struct day {
    struct world *world;
    struct site *site;
    unsigned min[UIDS + 1], saved[UIDS + 1]; /* by uid; 0: there is none. What a backup has */
    bool rome;
};

static unsigned chance(struct day *day, unsigned of)
{
    return (unsigned)(env_random_u64(&day->world->env) >> 8) % of;
}

static void put(struct day *day, uint64_t uid)
{
    char more[64];
    snprintf(more, sizeof more, ",\"scale\":{\"min\":%u}", day->min[uid]);
    (void)endpoint_put(&day->world->control, uid, more);
}

static void begin_anew(struct day *day, int64_t later_ns)
{
    site_cut(day->site);
    control_restart(day->world, later_ns);
    (void)pop_put(&day->world->control, "paris", PARIS);
    if (day->rome)
        (void)pop_put(&day->world->control, "rome", TOKYO);
    for (uint64_t uid = 1; uid <= UIDS; uid++)
        if (day->min[uid])
            put(day, uid);
}

static void happens(struct day *day)
{
    struct control *control = &day->world->control;
    uint64_t uid = 1 + chance(day, UIDS);
    unsigned dice = chance(day, 1000);
    if (dice < 300) {
        day->min[uid] = 1 + chance(day, 3);
        put(day, uid);
    } else if (dice < 400) {
        day->min[uid] = 0;
        hub_remove(control, uid);
    } else if (dice < 420) {
        day->rome = true;
        (void)pop_put(control, "rome", chance(day, 2) ? TOKYO : LONDON);
    } else if (dice < 440) {
        watch_pop_keys(control);
    } else if (dice < 460) {
        refresh(control);
    } else if (dice < 463) {
        begin_anew(day, (int64_t)chance(day, 100) * ENV_S);
    } else if (dice < 465) {
        memcpy(day->saved, day->min, sizeof day->min);
    } else if (dice < 467) {
        memcpy(day->min, day->saved, sizeof day->min);
        begin_anew(day, -(int64_t)chance(day, 100) * ENV_S);
    } else if (dice < 500) {
        site_cut(day->site);
    } else if (!day->site->open) {
        site_open(day->site, NULL);
    } else {
        site_read(day->site, 1 + chance(day, dice < 950 ? 300 : SPACE));
    }
}

static void test_whatever_happens(void **state)
{
    struct day day = { .world = *state };
    struct control *control = &day.world->control;
    unsigned same = 0;
    day.site = site_new(control);
    day.world->now_ns = 100'000 * ENV_S;
    begin_anew(&day, 0);
    for (int i = 0; i < STEPS; i++) {
        happens(&day);
        if (chance(&day, 20))
            continue;
        if (!day.site->open)
            site_open(day.site, NULL);
        refresh(control);
        watch_pop_keys(control);
        site_read(day.site, SPACE);
        check_same(day.site);
        same++;
    }
    print_message("  %u times all was told, %u times what had changed; %u times compared\n",
                  day.site->all, day.site->resumed, same);
    assert_int_equal(day.site->astray, 0);
    assert_true(day.site->resumed > 100 && day.site->all > 50);
    site_free(day.site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_told),
        cmocka_unit_test_setup_teardown(test_led_astray, fleet_up, fleet_down),
        cmocka_unit_test_setup_teardown(test_a_beginning_that_was_cut, fleet_up, fleet_down),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_read, fleet_up, fleet_down),
        cmocka_unit_test_setup_teardown(test_a_control_of_before, fleet_up, fleet_down),
        cmocka_unit_test_setup_teardown(test_whatever_happens, fleet_up, fleet_down),
    };
    log_level_set(LOG_ERROR + 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
