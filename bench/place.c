/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place.c -- what placement takes of control's loop: the decision of one endpoint among 300 PoPs,
 * and all 1,000 endpoints placed anew because a PoP changed.
 *
 *     bench_place [PASSES]        ninja -C build bench/bench_place && build/bench/bench_place
 *
 * Medians and longest of PASSES (5) passes.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/env.h"
#include "base/err.h"
#include "base/json.h"
#include "contract/asked.h"
#include "control/control_own.h"
#include "control/report.h"
#include "io/loop.h"
#include "policy/place.h"
#include "samples.h"
#include "sys/env_linux.h"
#include "tool.h"

enum { POPS = 300, ENDPOINTS = 1000, REPLICAS = 10, DEMANDS = 64 };

/* ---- the decision ---------------------------------------------------------------------------- */

static void decision(const char *name, size_t demand_count, uint32_t spread, bool anew,
                     unsigned passes)
{
    static struct place_pop pops[POPS];
    static struct place_demand demands[DEMANDS];
    struct place_input input = { .pops = pops,
                                 .pop_count = POPS,
                                 .demands = demands,
                                 .demand_count = demand_count,
                                 .spread_min = spread,
                                 .replicas_max = 100 };
    struct samples samples = {};
    for (size_t i = 0; i < POPS; i++)
        pops[i] = (struct place_pop){
            .spot = spot_at(asin(2 * tool_part() - 1) * 180 / M_PI, 360 * tool_part() - 180),
            .allowed = true,
            .room = 8,
        };
    for (size_t i = 0; i < demand_count; i++)
        demands[i] = (struct place_demand){
            .spot = pops[(size_t)(tool_part() * POPS)].spot,
            .rate = (float)tool_part(),
            .group = PLACE_ANYWHERE,
        };
    for (unsigned pass = 0; pass < 20 * passes; pass++) {
        struct arena *arena = arena_new();
        struct place_result result;
        int64_t began = tool_now_ns();
        place_decide(arena, &input, &result);
        samples_add(&samples, tool_now_ns() - began);
        for (size_t i = 0; i < POPS && !anew; i++)
            pops[i].has = result.rows[i].replicas;
        arena_free(arena);
    }
    samples_sort(&samples);
    printf("  %-60s%9.0f us\n", name, samples_us(&samples, 0.5));
}

/* ---- all endpoints --------------------------------------------------------------------------- */

static struct snapshot *snapshot_make(uint64_t uid, const char *more)
{
    struct arena *arena = arena_new();
    struct snapshot *s = ARENA_NEW(arena, struct snapshot);
    struct err err;
    yyjson_val *tree;
    s->arena = arena;
    s->row = (struct store_endpoint){
        .uid = uid,
        .project = SLICE("default"),
        .name = slice_of(arena_format(arena, "digits-%llu", (unsigned long long)uid)),
        .target = 1,
        .serving = 1,
        .target_state = SLICE("ready"),
    };
    s->row.spec = slice_of(arena_format(arena, "{\"name\":\"digits-%llu\",\"model\":\"m\"%s}",
                                        (unsigned long long)uid, more));
    if (json_parse(arena, s->row.spec, NULL, &tree, &err) < 0 ||
        endpoint_spec_parse(arena, tree, SPEC_KEEP_UNKNOWN, &s->spec, &err) < 0)
        tool_fail(err.message);
    return s;
}

static void pop_make(struct control *control, unsigned number, const char *country)
{
    char name[16], spec[128];
    (void)snprintf(name, sizeof name, "pop-%u", number);
    (void)snprintf(spec, sizeof spec, "{\"country\":\"%s\",\"latitude\":%.2f,\"longitude\":%.2f}",
                   country, asin(2 * tool_part() - 1) * 180 / M_PI, 360 * tool_part() - 180);
    const struct store_pop row = { .name = slice_of(name),
                                   .spec = slice_of(spec),
                                   .secret = SLICE("s") };
    hub_pop_row(control, &row);
    hub_pop_watched(control, hub_pop(control, slice_of(name)), true);
}

/* Each PoP has REPLICAS, of endpoints that may be anywhere. */
static void reports_make(struct control *control)
{
    for (unsigned i = 0; i < POPS; i++) {
        struct arena *arena = arena_new();
        struct report report = { .replicas = ARENA_ARRAY(arena, struct hub_replica, REPLICAS),
                                 .replica_count = REPLICAS };
        char name[16];
        (void)snprintf(name, sizeof name, "pop-%u", i);
        for (unsigned k = 0; k < REPLICAS; k++)
            report.replicas[k] = (struct hub_replica){
                .endpoint_uid = 1 + (i * REPLICAS + k) % ENDPOINTS,
                .revision = 1,
                .state = SLICE("ready"),
                .view = SLICE("{}"),
            };
        hub_pop_state(control, hub_pop(control, slice_of(name)), arena, &report);
    }
}

/* Each endpoint is asked for from some 60 places. */
static void demand_make(struct control *control)
{
    enum { ROWS = 200 };
    struct report_asked rows[ROWS];
    const struct report report = { .asked_ms = 5000, .asked = rows, .asked_count = ROWS };
    for (unsigned i = 0; i < POPS; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "pop-%u", i);
        for (unsigned k = 0; k < ROWS; k++)
            rows[k] = (struct report_asked){
                .uid = 1 + (i * 97 + k) % ENDPOINTS,
                .cell = asked_cell_of((country_number)(1 + 200 * tool_part()), true,
                                      180 * tool_part() - 90, 360 * tool_part() - 180),
                .requests = (uint64_t)(1 + 20 * tool_part()),
            };
        demand_take(control, hub_pop(control, slice_of(name)), &report);
    }
}

static void all(const char *name, const char *more, bool asked, unsigned passes)
{
    static const char *const countries[] = { "FR", "DE", "JP", "US", "BR", "CH", "IT", "SG" };
    struct control control = {};
    struct samples samples = {}, each = {};
    struct err err;
    list_init(&control.watchers);
    list_init(&control.hub.stale);
    if (env_linux_new(&control.env_linux, &err) < 0 ||
        geo_sets_environment(control.sets_arena = arena_new(), &control.sets, &err) < 0)
        tool_fail(err.message);
    control.env = env_linux_env(control.env_linux);
    control.loop = loop_new();
    control.start.home[0] = '.';
    control.hub.gateway = mem_string(SLICE("127.0.0.1:8000"));
    control.metrics_memory = mem_zalloc(metrics_bytes(CONTROL_SERIES_MAX));
    metrics_attach(&control.metrics, &control_metrics, control.metrics_memory,
                   metrics_bytes(CONTROL_SERIES_MAX));
    for (unsigned i = 0; i < POPS; i++)
        pop_make(&control, i, countries[i % 8]);
    reports_make(&control);
    for (uint64_t uid = 1; uid <= ENDPOINTS; uid++)
        hub_put(&control, snapshot_make(uid, more));
    if (asked)
        demand_make(&control);
    for (unsigned pass = 0; pass < passes; pass++) {
        int64_t began = tool_now_ns(), last = began;
        MAP_EACH (entry, &control.hub.by_uid) {
            hub_refresh(&control, entry->value);
            int64_t now = tool_now_ns();
            samples_add(&each, now - last);
            last = now;
        }
        samples_add(&samples, last - began);
    }
    samples_sort(&samples);
    samples_sort(&each);
    printf("  %-60s%9.1f ms, one endpoint %.0f us, at most %.0f\n", name,
           samples_us(&samples, 0.5) / 1000, samples_us(&each, 0.5), samples_us(&each, 1));
}

int main(int argc, char **argv)
{
    unsigned passes = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 5;
    printf("  one decision among %d PoPs\n", POPS);
    decision("nobody asks, it stays", 0, 1, false, passes);
    decision("nobody asks, from nothing", 0, 1, true, passes);
    decision("asked from 64 places, it stays", DEMANDS, 1, false, passes);
    decision("asked from 64 places, from nothing", DEMANDS, 1, true, passes);
    printf("  %d endpoints on %d PoPs\n", ENDPOINTS, POPS);
    all("anywhere", "", false, passes);
    all("anywhere, asked for from 60 places each", "", true, passes);
    all("spread over 5", ",\"spread\":{\"pops\":5}", false, passes);
    all("residency: EU for EU, each country for itself",
        ",\"residency\":{\"rules\":[{\"clients\":[\"EU\"],\"process_in\":[\"EU\"]},"
        "{\"clients\":\"any\",\"process_in\":\"same-country\"}]}",
        false, passes);
}
