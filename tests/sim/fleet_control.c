/* SPDX-License-Identifier: Apache-2.0 */
/* Control's life, and what its operators ask of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/abroad.h"
#include "control/keys.h"
#include "control/secrets.h"
#include "control/watch.h"
#include "fleet.h"
#include "io/timer.h"
#include "io/work.h"
#include "store/blobs.h"
#include "store/digest.h"
#include "sys/home.h"

#define TICK_NS (5 * ENV_S)

uint64_t version_of(const struct endpoint_spec *spec)
{
    uint64_t version = 0;
    for (size_t i = 0; i < spec->labels.count; i++)
        if (slice_is(spec->labels.items[i].key, "v"))
            (void)slice_u64(spec->labels.items[i].value, &version);
    return version;
}

/* ---- its life -------------------------------------------------------------------------------- */

/* As it finds it: what operators were told is there, and nothing that they did not ask for. */
static void check_store(struct fleet *fleet)
{
    for (int i = 0; i < ENDPOINTS; i++) {
        struct wish *wish = &fleet->wishes[i];
        const struct hub_endpoint *found =
            hub_find(fleet->control, SLICE("default"), slice_of(wish->name));
        uint64_t version = found ? version_of(&found->snapshot->spec) : 0;
        if (version != wish->acked && !(version == 0 && wish->deleting))
            assert_true(version == wish->tried && version > 0);
        wish->acked = version;
        wish->deleting = false;
    }
}

static void on_tick(struct env_timer *timer, void *data)
{
    struct fleet *fleet = data;
    watch_ping(fleet->control);
    hub_tick(fleet->control);
    env_timer_start(fleet->env, timer, TICK_NS, on_tick, fleet);
}

void control_start(struct fleet *fleet)
{
    struct control *control = mem_zalloc(sizeof *control);
    struct err err = {};
    fleet->control_life++;
    fleet->works_closed = false;
    control->env = fleet->env;
    list_init(&control->watchers);
    list_init(&control->goings);
    control->metrics_memory = mem_zalloc(metrics_bytes(CONTROL_SERIES_MAX));
    metrics_attach(&control->metrics, &control_metrics, control->metrics_memory,
                   metrics_bytes(CONTROL_SERIES_MAX));
    control->start = (struct message_start)MESSAGE_INIT(MESSAGE_START);
    snprintf(control->start.home, sizeof control->start.home, "%s/home", fleet->folder);
    snprintf(control->start.zone, sizeof control->start.zone, "perigee.test");
    fleet->control = control;
    if (control_open(control, &err) < 0)
        fail_msg("%s", err.message);
    check_store(fleet);
    env_timer_start(fleet->env, &fleet->tick, 300 * ENV_MS, on_tick, fleet);
}

static void works_end(struct fleet *fleet)
{
    while (!list_empty(&fleet->works)) {
        struct work *work = LIST_FIRST(&fleet->works, struct work, link);
        list_remove(&work->link);
        work->on_done(work, true);
    }
}

unsigned watches_begun(struct fleet *fleet, enum resume how)
{
    struct slice word = slice_of(resume_word(how));
    return fleet->watches[how] +
           (fleet->control
                ? (unsigned)control_count(fleet->control, CONTROL_WATCHES_BEGUN, &word)->words[0]
                : 0);
}

void control_kill(struct fleet *fleet)
{
    struct control *control = fleet->control;
    if (!control)
        return;
    for (unsigned how = 0; how < RESUMES; how++)
        fleet->watches[how] = watches_begun(fleet, (enum resume)how);
    fleet->control_life++;
    fleet->works_closed = true;
    env_timer_stop(fleet->env, &fleet->tick);
    works_end(fleet);
    control_calls_drop(fleet);
    works_end(fleet);
    timer_free(control->place_timer);
    abroad_close(control);
    secrets_close(control);
    control->store->close(control->store);
    control->reader->close(control->reader);
    blobs_close(control->blobs);
    keys_close(control);
    hub_close(control);
    metrics_deinit(&control->metrics);
    arena_free(control->sets_arena);
    free(control->metrics_memory);
    free(take_ptr(fleet->control));
}

/* ---- endpoints ------------------------------------------------------------------------------- */

static struct slice spec_make(struct fleet *fleet, struct arena *arena, uint64_t version)
{
    struct json_writer w;
    uint64_t min = (uint64_t)fleet_draw(fleet, 1, 6);
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_text(&w, "model", fleet->model);
    json_key(&w, "labels");
    json_object_begin(&w);
    json_member_text(&w, "v", arena_format(arena, "%llu", (unsigned long long)version));
    json_object_end(&w);
    json_key(&w, "scale");
    json_object_begin(&w);
    json_member_u64(&w, "min", min);
    if (fleet_draw(fleet, 0, 3) == 0)
        json_member_u64(&w, "max", min + (uint64_t)fleet_draw(fleet, 0, 6));
    json_object_end(&w);
    json_key(&w, "spread");
    json_object_begin(&w);
    json_member_u64(&w, "pops", (uint64_t)fleet_draw(fleet, 1, 4));
    json_object_end(&w);
    if (fleet_draw(fleet, 0, 2) == 0) { /* what runs is another: a new revision */
        json_key(&w, "batch");
        json_object_begin(&w);
        json_member_u64(&w, "max", (uint64_t)fleet_draw(fleet, 1, 8));
        json_object_end(&w);
    }
    law_print(&fleet->laws[version], &w);
    json_object_end(&w);
    return json_end(&w);
}

static void on_put(struct fleet *fleet, int status, struct slice body, void *data)
{
    struct wish *wish = data;
    wish->busy = false;
    if (status == 200 || status == 201 || status == 202) {
        wish->acked = wish->tried;
        fleet->changes++;
    } else if (status >= 400 && status < 500) {
        fleet->refused++;
        wish->tried = wish->acked; /* such as no PoP may run */
        if (status != 409 && getenv("PERIGEE_SIM_LOG"))
            print_message("  refused: %d %.*s\n", status, SLICE_FMT(body));
    }
}

static void on_deleted(struct fleet *fleet, int status, struct slice, void *data)
{
    struct wish *wish = data;
    wish->busy = false;
    if (status) {
        wish->acked = wish->tried = 0;
        wish->deleting = false;
        fleet->changes++;
    }
}

void endpoint_changes(struct fleet *fleet, struct wish *wish)
{
    struct arena *arena = arena_new();
    const char *target = arena_format(arena, "/api/v1/endpoints/%s", wish->name);
    if (!wish->busy && wish->acked && fleet_draw(fleet, 0, 9) == 0) {
        wish->busy = wish->deleting = true;
        operator_ask(fleet, "DELETE", target, NULL, (struct slice){}, on_deleted, wish);
    } else if (!wish->busy && fleet->versions + 1 < VERSIONS_MAX) {
        wish->busy = true;
        wish->tried = ++fleet->versions;
        law_draw(fleet, &fleet->laws[wish->tried]);
        operator_ask(fleet, "PUT", target, NULL, spec_make(fleet, arena, wish->tried), on_put,
                     wish);
    }
    arena_free(arena);
}

/* ---- PoPs ------------------------------------------------------------------------------------ */

static void enrol(struct site *site);
static void make(struct fleet *fleet, void *data, uint64_t number);

static void again(struct site *site)
{
    fleet_after(site->fleet, ENV_S, NULL, make, site, 0);
}

static void on_token(struct fleet *, int status, struct slice body, void *data)
{
    struct site *site = data;
    struct arena *arena = arena_new();
    yyjson_val *root;
    struct err err;
    if (status / 100 != 2 || json_parse(arena, arena_copy(arena, body), NULL, &root, &err) < 0) {
        again(site);
    } else {
        struct slice token = json_slice(json_member(root, "token"));
        site->made = true;
        snprintf(site->token, sizeof site->token, "Bearer %.*s", SLICE_FMT(token));
        enrol(site);
    }
    arena_free(arena);
}

static void on_made(struct fleet *fleet, int status, struct slice body, void *data)
{
    struct site *site = data;
    char target[64];
    if (status == 409) { /* it is there: an answer was lost */
        snprintf(target, sizeof target, "/api/v1/pops/%s/token", site->name);
        operator_ask(fleet, "POST", target, NULL, (struct slice){}, on_token, site);
    } else {
        if (status >= 400 && getenv("PERIGEE_SIM_LOG"))
            print_message("  not made: %d %.*s\n", status, SLICE_FMT(body));
        on_token(fleet, status, body, site);
    }
}

static void make(struct fleet *fleet, void *data, uint64_t)
{
    struct site *site = data;
    struct arena *arena = arena_new();
    char address[32];
    struct json_writer w;
    json_begin(&w, arena, 0);
    json_object_begin(&w);
    json_member_text(&w, "name", site->name);
    json_member_text(&w, "city", site->city->name);
    json_member_text(&w, "country", site->city->country);
    json_member_text(&w, "region", site->city->region);
    json_member_double(&w, "latitude", (double)site->city->latitude);
    json_member_double(&w, "longitude", (double)site->city->longitude);
    snprintf(address, sizeof address, "198.51.100.%u", site->index + 1);
    json_key(&w, "addresses");
    json_array_begin(&w);
    json_text(&w, address);
    json_array_end(&w);
    json_key(&w, "limits");
    json_object_begin(&w);
    json_member_u64(&w, "replicas", 4 + site->index % 5);
    json_object_end(&w);
    json_object_end(&w);
    operator_ask(fleet, "POST", "/api/v1/pops", NULL, json_end(&w), on_made, site);
    arena_free(arena);
}

static void on_enrolled(struct fleet *fleet, int status, struct slice, void *data)
{
    struct site *site = data;
    if (status != 200) {
        again(site);
        return;
    }
    site->busy = false;
    site->joined = true;
    if (!site->power)
        site_power_on(site);
    else if (!site->agent)
        site_boot(site);
    (void)fleet;
}

/* A secret of its own each time; of a machine of its own. */
static void enrol(struct site *site)
{
    char digest[DIGEST_TEXT], body[128];
    snprintf(site->home, sizeof site->home, "/%s-%u", site->name, ++site->homes);
    world_folder_make(site->fleet->world, site->home);
    snprintf(site->secret, sizeof site->secret, "secret-%s-%u", site->name, site->homes);
    snprintf(body, sizeof body, "{\"secret\":\"%s\"}", digest_of(slice_of(site->secret), digest));
    operator_ask(site->fleet, "POST", "/api/v1/enrolments", site->token, slice_of(body),
                 on_enrolled, site);
}

void operator_makes(struct fleet *fleet, struct site *site)
{
    site->busy = true;
    make(fleet, site, 0);
}

/* It is over for its machine; one like it stands elsewhere, perhaps in another country. */
static void on_remade(struct fleet *fleet, void *data, uint64_t)
{
    struct site *site = data;
    if (site->power || site->agent) {
        site_power_off(site);
        fleet_after(fleet, 20 * ENV_MS, NULL, on_remade, site, 0);
        return;
    }
    site->joined = site->drained = false;
    site->city = &cities[fleet_draw(fleet, 0, (int64_t)city_count - 1)];
    operator_makes(fleet, site);
}

static void delete_again(struct fleet *fleet, void *data, uint64_t number);

static void on_pop_deleted(struct fleet *fleet, int status, struct slice, void *data)
{
    struct site *site = data;
    if (status == 0) { /* nobody knows: once more */
        fleet_after(fleet, ENV_S, NULL, delete_again, site, 0);
        return;
    }
    site->made = false;
    fleet_after(fleet, fleet_draw(fleet, 1, 30) * ENV_S, NULL, on_remade, site, 0);
}

static void delete_again(struct fleet *fleet, void *data, uint64_t)
{
    struct site *site = data;
    char target[64];
    snprintf(target, sizeof target, "/api/v1/pops/%s", site->name);
    operator_ask(fleet, "DELETE", target, NULL, (struct slice){}, on_pop_deleted, site);
}

static void on_drained(struct fleet *, int status, struct slice, void *data)
{
    struct site *site = data;
    site->busy = false;
    if (status == 200)
        site->drained = !site->drained;
}

static void pop_changes(struct fleet *fleet, struct site *site)
{
    char target[64];
    bool goes = fleet_draw(fleet, 0, 2) == 0;
    if (site->busy || !site->joined)
        return;
    site->busy = true;
    snprintf(target, sizeof target, "/api/v1/pops/%s%s", site->name, goes ? "" : "/drain");
    operator_ask(fleet, goes || site->drained ? "DELETE" : "POST", target, NULL,
                 goes || site->drained ? (struct slice){} : SLICE("{}"),
                 goes ? on_pop_deleted : on_drained, site);
}

void operator_changes(struct fleet *fleet)
{
    if (fleet_draw(fleet, 0, 2))
        endpoint_changes(fleet, &fleet->wishes[fleet_draw(fleet, 0, ENDPOINTS - 1)]);
    else
        pop_changes(fleet, &fleet->sites[fleet_draw(fleet, 0, SITES - 1)]);
}

void operator_settles(struct fleet *fleet)
{
    for (int i = 0; i < ENDPOINTS; i++)
        if (!fleet->wishes[i].acked)
            endpoint_changes(fleet, &fleet->wishes[i]);
}
