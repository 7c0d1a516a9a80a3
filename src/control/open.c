/* SPDX-License-Identifier: Apache-2.0 */
/* Opening what control keeps. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/auto.h"
#include "base/env.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "control/abroad.h"
#include "control/control_own.h"
#include "control/granted.h"
#include "control/keys.h"
#include "control/report.h"
#include "control/secrets.h"
#include "geo/where_file.h"
#include "store/blobs.h"
#include "store/collect.h"

int64_t control_wall_ns(struct control *control)
{
    return env_wall_ns(control->env);
}

/* ---- the hub's beginning -------------------------------------------------------------------- */

static int load_all_endpoints(struct control *control, struct err *err)
{
    struct store *store = control->store;
    struct store_page page = {};
    struct store_endpoint *list;
    size_t count;
    int r;
    do {
        struct arena *arena = arena_new();
        r = store->endpoint_list(store, &page, arena, &list, &count, err);
        for (size_t i = 0; i < count && r == 0; i++) {
            struct snapshot *snapshot;
            page.after = list[i].uid;
            r = snapshot_load(store, list[i].uid, &snapshot, err);
            if (r == 0)
                hub_put(control, snapshot);
        }
        arena_free(arena);
    } while (r == 0 && count == STORE_PAGE_MAX);
    return r;
}

static int load_endpoints(struct control *control, struct err *err)
{
    struct store *store = control->store;
    struct hub *hub = &control->hub;
    struct arena *places = arena_new();
    /* Where they are placed comes with them, so that nothing is decided anew. */
    int r = store->placement_list(store, places, &hub->recalled, &hub->recalled_count, err);
    if (r == 0)
        r = load_all_endpoints(control, err);
    hub->recalled = NULL;
    hub->recalled_count = 0;
    arena_free(places);
    return r;
}

/* Until they report, PoPs are as they were. */
static int load_pops(struct control *control, struct err *err)
{
    struct arena *arena = arena_new();
    struct store_pop *list;
    size_t count;
    int r = control->store->pop_list(control->store, arena, &list, &count, err);
    for (size_t i = 0; i < count && r == 0; i++) {
        struct hub_pop *pop = hub_pop(control, list[i].name);
        struct arena *own = arena_new();
        struct report report = {};
        if (list[i].report.size &&
            report_parse(own, list[i].report, list[i].name, list[i].reported_ns, &report, NULL) < 0)
            log_warn("control", "a PoP's last report cannot be read, ignoring",
                     LOG_SLICE("pop", list[i].name));
        bool reported = list[i].report.size > 0;
        if (!reported) {
            arena_free(own);
        } else {
            hub_pop_state(control, pop, own, &report);
            for (size_t k = 0; k < report.endpoint_count; k++) /* had, perhaps, and lost */
                granted_leave(control, pop, report.endpoints[k].uid);
            for (size_t k = 0; k < report.replica_count; k++)
                granted_leave(control, pop, report.replicas[k].endpoint_uid);
            pop->reported_ns = list[i].reported_ns;
            pop->silent = pop->recalled =
                true; /* nobody waits for an endpoint that served before */
        }
        hub_pop_row(control, &list[i]);
    }
    bool recalled = false;
    for (size_t i = 0; i < control->hub.sorted_count; i++)
        recalled = recalled || control->hub.sorted[i]->recalled;
    if (!recalled) /* there is nobody to wait for */
        control->hub.calm_ms = 0;
    arena_free(arena);
    return r;
}

/* `perigee up` has checked the sets, and put them into the environment. */
static void open_places(struct control *control)
{
    struct err err;
    control->sets_arena = arena_new();
    if (geo_sets_environment(control->sets_arena, &control->sets, &err) < 0)
        log_error("control", "sets of countries not read, going on without",
                  LOG_S("error", err.message));
    const char *addresses = getenv(WHERE_FILE_ENVIRONMENT), *mmdb = getenv(WHERE_MMDB_ENVIRONMENT);
    if ((addresses || mmdb) && where_file_open(addresses, mmdb, &control->where, &err) < 0)
        log_error("control", "addresses are not known, going on without",
                  LOG_S("error", err.message));
    struct arena *arena = arena_new();
    (void)digest_of(geo_sets_text(arena, &control->sets), control->sets_digest);
    arena_free(arena);
    control->place = (struct region_place){
        .name = slice_of(control->start.pop),
        .country = country_number_of(slice_of(control->start.country)),
    };
}

int control_open(struct control *control, struct err *err)
{
    struct arena *arena = arena_new();
    const char *path;
    int r = store_path(control->start.home, arena, &path, err);
    if (r == 0)
        r = store_sqlite_open(path, STORE_WRITE, NULL, &control->store, err);
    if (r == 0)
        r = store_sqlite_open(path, STORE_READ, NULL, &control->reader, err);
    if (r == 0)
        r = blobs_open(control->start.home, NULL, &control->blobs, err);
    if (r == 0)
        r = store_blobs_index(control->store, control->blobs, control_wall_ns(control), err);
    arena_free(arena);
    if (r < 0)
        return r;
    int64_t unused;
    (void)grace_over(&control->grace, env_now_ns(control->env), control_wall_ns(control), 0,
                     &unused);
    open_places(control);
    if ((r = keys_open(control, err)) < 0 || (r = abroad_open(control, err)) < 0 ||
        (r = secrets_open(control, err)) < 0)
        return r;
    hub_open(control);
    if ((r = load_pops(control, err)) < 0 || (r = load_endpoints(control, err)) < 0)
        return r;
    metric_set(control_count(control, CONTROL_BLOB_BYTES, NULL),
               (int64_t)blobs_total_bytes(control->blobs));
    return 0;
}
