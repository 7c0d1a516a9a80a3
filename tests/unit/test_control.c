/* SPDX-License-Identifier: Apache-2.0 */
/* Control's pure parts: the state's name, who may call, selectors, merging, reports, routes. */
#include "control/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "contract/asked.h"
#include "control/change.h"
#include "control/grace.h"
#include "control/guard.h"
#include "control/report.h"
#include "control/routes.h"
#include "control/select.h"
#include "control/traffic.h"
#include "spec/units.h"

#define READY SLICE("ready")
#define FAILED SLICE("failed")
#define STARTING SLICE("starting")

/* clang-format off */
#define CANARY(one, two) \
    .shares = { { 1, 900'000, true }, { 2, 100'000, true } }, .share_ready = { one, two }, \
    .share_count = 2, .lead = 1
static const struct {
    const char *name;
    struct status_input in;
    enum status_state state;
    const char *reason, *words;
} states[] = {
    { "new, no PoP", { .target = 1 }, STATUS_DEPLOYING, "no_pop", "no PoP" },
    { "new, being started", { .target = 1, .target_state = STARTING, .pops = 1,
        .target_starting = 1 }, STATUS_DEPLOYING, "starting", "revision 1 is being started" },
    { "up", { .target = 1, .serving = 1, .target_state = READY, .target_ready = 1, .pops = 1 },
        STATUS_ACTIVE, "serving", "1 of 1 replica ready" },
    { "one at least", { .target = 1, .serving = 1, .target_state = READY, .target_ready = 2,
        .pops = 1 }, STATUS_ACTIVE, "serving", "2 of 1 replica ready" },
    { "one of two", { .target = 1, .serving = 1, .target_state = READY, .target_ready = 1,
        .replicas_min = 2, .target_starting = 1, .pops = 1 },
        STATUS_PARTIAL, "starting", "1 of 2 replicas ready" },
    { "the other waits for its back-off", { .target = 1, .serving = 1, .target_state = READY,
        .target_ready = 1, .replicas_min = 2, .target_backoff = 1, .pops = 1 },
        STATUS_PARTIAL, "backoff", "1 of 2" },
    { "its only replica died", { .target = 1, .serving = 1, .target_state = STARTING,
        .target_starting = 1, .pops = 1 }, STATUS_DEPLOYING, "restarting", "no replica" },
    { "update under way", { .target = 2, .serving = 1, .target_state = STARTING, .other_ready = 1,
        .target_starting = 1, .pops = 1 }, STATUS_DEPLOYING, "starting", "revision 1 has" },
    { "update failed", { .target = 2, .serving = 1, .target_state = FAILED,
        .target_message = { "not ONNX", 8 }, .other_ready = 1, .pops = 1 },
        STATUS_FAILED, "target_failed", "revision 2: not ONNX; revision 1 keeps" },
    { "update is copied", { .target = 2, .serving = 1, .copying = "it is being copied",
        .other_ready = 1, .pops = 1 },
        STATUS_DEPLOYING, "copying", "revision 2: it is being copied; revision 1 keeps" },
    { "first one is copied", { .target = 1, .copying = "it is being copied", .pops = 1 },
        STATUS_DEPLOYING, "copying", "revision 1: it is being copied" },
    { "a copy fails for now", { .target = 1, .copying = "503", .copy_troubled = true, .pops = 1 },
        STATUS_DEPLOYING, "copy_failed", "revision 1: 503" },
    { "a copy fails", { .target = 1, .copying = "401", .copy_failed = true,
        .copy_troubled = true, .pops = 1 }, STATUS_FAILED, "copy_failed", "revision 1: 401" },
    { "stopped while it is copied", { .target = 1, .copying = "it is being copied",
        .stopped = true, .pops = 1 }, STATUS_STOPPED, "stopped", "stopped" },
    { "first one failed", { .target = 1, .target_state = FAILED, .target_message = { "bad", 3 },
        .pops = 1 }, STATUS_FAILED, "target_failed", "revision 1: bad" },
    { "failed without a word", { .target = 1, .target_state = FAILED, .pops = 1 },
        STATUS_FAILED, "target_failed", "does not get ready" },
    { "a start failed, others serve", { .target = 1, .serving = 1, .target_state = FAILED,
        .target_ready = 1, .replicas_min = 2, .pops = 1 }, STATUS_PARTIAL, "starting", "1 of 2" },
    { "up before, nothing runs yet", { .target = 1, .serving = 1, .target_state = READY,
        .pops = 1 }, STATUS_DEPLOYING, "restarting", "no replica is ready: one is being started" },
    { "started again after a stop", { .target = 1, .target_state = READY, .pops = 1 },
        STATUS_DEPLOYING, "starting", "revision 1 is being started" },
    { "stopped", { .target = 1, .stopped = true, .pops = 1 }, STATUS_STOPPED, "stopped", "stopped" },
    { "stopping", { .target = 1, .stopped = true, .draining = 2, .pops = 1 },
        STATUS_STOPPED, "draining", "2 replicas finish what they have" },
    { "one still stopping", { .target = 1, .stopped = true, .draining = 1, .pops = 1 },
        STATUS_STOPPED, "draining", "1 replica finishes what it has" },
    { "stopped beats failed", { .target = 1, .stopped = true, .target_state = FAILED, .pops = 1 },
        STATUS_STOPPED, "stopped", "stopped" },
    { "silent", { .target = 1, .serving = 1, .target_state = READY, .target_ready = 1, .pops = 2,
        .pops_silent = 2 }, STATUS_ACTIVE, "pop_silent", "as last heard" },
    { "one of two silent", { .target = 1, .serving = 1, .target_state = READY, .target_ready = 1,
        .pops = 2, .pops_silent = 1 }, STATUS_ACTIVE, "serving", "1 of 1" },
    { "no PoP may run it", { .target = 1, .target_state = STARTING, .nowhere = "a: not up", .pops = 2 },
        STATUS_DEPLOYING, "not_placed", "a: not up" },
    { "no PoP may ever run it", { .target = 1, .nowhere = "a: its regions", .forbidden = true,
        .pops = 1 }, STATUS_FAILED, "not_placed", "a: its regions" },
    { "a canary has its share", { .target = 2, .serving = 1, .target_state = READY,
        .target_ready = 1, .other_ready = 2, .replicas_min = 2, .pops = 1, CANARY(2, 1) },
        STATUS_ACTIVE, "serving", "90% revision 1, 10% revision 2; 2 of 2 replicas of revision 1 ready" },
    { "a canary is being started", { .target = 2, .serving = 1, .target_state = STARTING,
        .other_ready = 1, .pops = 1, CANARY(1, 0) }, STATUS_DEPLOYING, "starting",
        "revision 2 is being started; its share goes to the others meanwhile: 90% revision 1" },
    { "a canary crashes", { .target = 2, .serving = 1, .target_state = FAILED, .other_ready = 1,
        .target_message = { "not ONNX", 8 }, .pops = 1, CANARY(1, 0) },
        STATUS_FAILED, "target_failed", "revision 2: not ONNX; revision 1 keeps" },
    { "a canary at zero", { .target = 2, .serving = 1, .target_state = READY, .idle = true,
        .pops = 1, CANARY(0, 0) }, STATUS_IDLE, "idle", "at zero" },
    { "a canary that has not shown yet that it can", { .target = 2, .serving = 1,
        .target_state = STARTING, .idle = true, .pops = 1, CANARY(0, 0) }, STATUS_DEPLOYING,
        "starting", "revision 1 is being started" },
    { "beside a canary some are missing", { .target = 2, .serving = 1, .target_state = READY,
        .target_ready = 1, .other_ready = 1, .replicas_min = 2, .pops = 1, CANARY(1, 1) },
        STATUS_PARTIAL, "starting", "1 of 2 replicas of revision 1 ready" },
    { "shares of others than the target", { .target = 3, .serving = 1, .target_state = FAILED,
        .other_ready = 2, .pops = 1, CANARY(1, 1) }, STATUS_ACTIVE, "serving", "90% revision 1" },
    { "the lead is to follow", { .target = 3, .serving = 3, .target_state = READY,
        .target_ready = 1, .pops = 1, CANARY(0, 1) }, STATUS_DEPLOYING, "starting",
        "revision 1 is being started; revision 3 has the traffic meanwhile" },
    { "on fewer PoPs than it wants", { .target = 1, .serving = 1, .target_state = READY,
        .target_ready = 2, .replicas_min = 2, .spread_short = true, .pops = 2 }, STATUS_PARTIAL,
        "spread", "fewer PoPs" },
};
#undef CANARY

static const struct {
    const char *name;
    struct store_endpoint row;
    uint64_t canary_ppm;
    struct spec_share split[SPEC_SHARES_MAX];
    size_t split_count;
    const char *wanted; /* "REVISION:WEIGHT ..." */
    uint64_t canary, lead;
} plans[] = {
    { "nothing told", { .target = 2, .latest = 2 }, 0, {}, 0, "", 0, 2 },
    { "a canary", { .target = 2, .stable = 1 }, 100'000, {}, 0, "1:900000 2:100000", 2, 1 },
    { "half: the older leads", { .target = 2, .stable = 1 }, 500'000, {}, 0, "1:500000 2:500000", 2, 1 },
    { "more than half", { .target = 2, .stable = 1 }, 900'000, {}, 0, "1:100000 2:900000", 2, 2 },
    { "a canary of all", { .target = 2, .stable = 1 }, 1'000'000, {}, 0, "", 0, 2 },
    { "no revision before", { .target = 1 }, 100'000, {}, 0, "", 0, 1 },
    { "a split", { .target = 5, .latest = 5 }, 0, { { SPEC_LATEST, 10 }, { 3, 90 } }, 2, "3:90 5:10", 5, 3 },
    { "twice the same", { .target = 3, .latest = 3 }, 0, { { 3, 90 }, { SPEC_LATEST, 10 } }, 2, "3:100", 0, 3 },
    { "a weight of 0", { .target = 5, .latest = 5 }, 0, { { 3, 1 }, { 5, 0 } }, 2, "3:1", 0, 3 },
    { "without the latest", { .target = 5, .latest = 5 }, 0, { { 3, 1 }, { 4, 1 } }, 2, "3:1 4:1", 0, 3 },
};
/* clang-format on */

static void test_plans(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        struct endpoint_spec spec = {};
        struct traffic_plan plan;
        char got[128] = "";
        size_t used = 0;
        spec.traffic.canary_ppm = plans[i].canary_ppm;
        spec.traffic.split = (struct spec_split){ plans[i].split, plans[i].split_count };
        traffic_plan(&plans[i].row, &spec, &plan);
        print_message("  %s\n", plans[i].name);
        for (size_t k = 0; k < plan.count; k++)
            used += (size_t)snprintf(got + used, sizeof got - used, "%s%u:%u", k ? " " : "",
                                     plan.shares[k].revision, plan.shares[k].weight);
        assert_string_equal(got, plans[i].wanted);
        assert_int_equal(plan.canary, plans[i].canary);
        assert_int_equal(traffic_lead(&plan, plans[i].row.target), plans[i].lead);
    }
}

/* Which keeps the rest, as the spec and the target change. */
static void test_stable(void **state)
{
    /* clang-format off */
    static const struct {
        const char *name;
        struct store_endpoint row;
        uint64_t canary_ppm;
        bool moves;
        uint64_t stable;
    } rows[] = {
        { "a new revision", { .target = 1, .serving = 1, .target_state = READY }, 1000, true, 1 },
        { "none served yet", { .target = 1, .target_state = STARTING }, 1000, true, 1 },
        { "the one before failed", { .target = 2, .serving = 1, .target_state = FAILED }, 1000, true, 1 },
        { "another canary", { .target = 2, .stable = 1, .target_state = READY }, 1000, true, 1 },
        { "a larger share", { .target = 2, .stable = 1, .target_state = READY }, 900'000, false, 1 },
        { "promoted", { .target = 2, .stable = 1, .target_state = READY }, 0, false, 0 },
        { "promoted by 100%", { .target = 2, .stable = 1 }, 1'000'000, false, 0 },
        { "the key alone", { .target = 2, .serving = 2, .target_state = READY }, 1000, false, 0 },
        { "no canary", { .target = 2, .serving = 2, .target_state = READY }, 0, true, 0 },
    };
    /* clang-format on */
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct store_endpoint row = rows[i].row;
        struct endpoint_spec spec = {};
        spec.traffic.canary_ppm = rows[i].canary_ppm;
        traffic_change(&row, &spec, rows[i].moves);
        if (row.stable != rows[i].stable)
            fail_msg("%s: %d", rows[i].name, (int)row.stable);
    }
}

static void test_status(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        struct status got;
        print_message("  %s\n", states[i].name);
        status_decide(&states[i].in, &got);
        assert_string_equal(status_word(got.state), status_word(states[i].state));
        assert_string_equal(got.reason, states[i].reason);
        if (!strstr(got.message, states[i].words))
            fail_msg("'%s' does not say '%s'", got.message, states[i].words);
    }
}

static const struct {
    const char *host;
    int code;
} hosts[] = {
    { "localhost", 0 },
    { "LOCALHOST", 0 },
    { "localhost.", 0 },
    { "127.0.0.1", 0 },
    { "127.3.2.1", 0 },
    { "::1", 0 },
    { "api.zone.test", 0 },
    { "api.example", 0 },
    { "10.0.0.7", 0 },
    { "10.0.0.8", ERR_MISDIRECTED },
    { "zone.test", ERR_MISDIRECTED },
    { "x.localhost", ERR_MISDIRECTED },
    { "apixzone.test", ERR_MISDIRECTED },
    { "", ERR_MISDIRECTED },
    { "127.0.0.1.evil", ERR_MISDIRECTED },
    { "localhost.evil", ERR_MISDIRECTED },
};

static void test_hosts(void **state)
{
    (void)state;
    struct err err;
    const struct address own[] = { { .kind = ADDRESS_IP4, .ip = { 10, 0, 0, 7 } } };
    const struct guard guard = { "zone.test", "api.example", own, 1 };
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        struct http_request head = { .host = slice_of(hosts[i].host) };
        print_message("  '%s'\n", hosts[i].host);
        assert_int_equal(guard_host(&guard, &head, &err), hosts[i].code);
    }
}

static void test_selectors(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool holds;
    } rows[] = {
        { "", true },
        { "team=vision", true },
        { "team=audio", false },
        { "team!=audio", true },
        { "team", true },
        { "gpu", false },
        { "team=vision,stage=test", true },
        { "team=vision,stage!=test", false },
        { "gpu!=1", true },
        { " team = vision ", true },
    };
    struct spec_pair pairs[] = { { SLICE("stage"), SLICE("test") },
                                 { SLICE("team"), SLICE("vision") } };
    struct spec_pairs labels = { pairs, 2 };
    struct arena *arena = arena_new();
    struct selector selector;
    struct err err;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_message("  '%s'\n", rows[i].text);
        assert_int_equal(selector_parse(arena, slice_of(rows[i].text), &selector, &err), 0);
        assert_int_equal(selector_matches(&selector, &labels), rows[i].holds);
    }
    assert_int_equal(selector_parse(arena, SLICE("=x"), &selector, &err), ERR_BAD_INPUT);
    assert_int_equal(selector_parse(arena, SLICE("a,,b"), &selector, &err), ERR_BAD_INPUT);
    arena_free(arena);
}

static void test_if_match(void **state)
{
    (void)state;
    assert_true(change_if_match(SLICE("\"7\""), 7));
    assert_true(change_if_match(SLICE("\"1\", \"7\""), 7));
    assert_true(change_if_match(SLICE("*"), 7));
    assert_false(change_if_match(SLICE("\"70\""), 7));
    assert_false(change_if_match(SLICE("7"), 7));
    assert_false(change_if_match(SLICE("W/\"7\""), 7));
    assert_false(change_if_match(SLICE(""), 7));
}

static void parse(struct arena *arena, const char *text, struct endpoint_spec *ret)
{
    struct err err;
    yyjson_val *tree;
    assert_int_equal(json_parse(arena, slice_of(text), NULL, &tree, &err), 0);
    if (endpoint_spec_parse(arena, tree, 0, ret, &err) < 0)
        fail_msg("%s", err.message);
}

#define MODEL(digit)                                                                               \
    "\"sha256:" digit "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f788\""

static void test_merge(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct err err;
    struct endpoint_spec then, now, merged;
    parse(arena,
          "{\"name\":\"digits\",\"model\":" MODEL(
              "0") ",\"flavor\":{\"cpu\":2},"
                   "\"limits\":{\"body\":\"1MiB\"},\"labels\":{\"a\":\"then\"}}",
          &then);
    parse(arena,
          "{\"name\":\"digits\",\"model\":" MODEL(
              "1") ",\"limits\":{\"body\":\"2MiB\"},"
                   "\"labels\":{\"a\":\"now\"},\"scale\":{\"min\":3}}",
          &now);
    assert_int_equal(
        change_merge(arena, &now, endpoint_spec_what_runs(arena, &then), &merged, &err), 0);
    assert_true(slice_equal(merged.model, then.model));
    assert_int_equal(merged.flavor.cpu_milli, 2000);
    assert_int_equal(merged.limits.body_bytes, 2 << 20);
    assert_int_equal(merged.scale.min, 3);
    assert_true(slice_is(merged.labels.items[0].value, "now"));
    arena_free(arena);
}

static void test_report(void **state)
{
    (void)state;
    struct arena *arena = arena_new();
    struct err err;
    struct report report;
    int64_t ns;
    const char *text =
        "{\"instance\":5,\"sequence\":9,"
        "\"replicas\":[{\"id\":\"1\",\"endpoint_uid\":3,\"revision\":2,\"state\":\"ready\"}],"
        "\"endpoints\":[{\"uid\":3,\"serving\":null,\"target_state\":\"ready\"}],"
        "\"events\":[{\"seq\":7,\"kind\":\"k\"}],\"logs\":[{\"seq\":6,\"endpoint_uid\":3,"
        "\"line\":\"l\",\"at\":\"1970-01-01T00:00:01.5Z\"}],"
        "\"models\":[{\"revision_uid\":50331650,\"platform\":\"onnx\"}]}";
    assert_int_equal(report_parse(arena, slice_of(text), SLICE("local"), 44, &report, &err), 0);
    assert_int_equal(report.replicas[0].revision, 2);
    assert_int_equal(report.endpoints[0].serving, 0);
    assert_int_equal(report.items[0].kind, REPORT_LOG); /* by seq */
    assert_int_equal(report.items[0].log.at_ns, 1'500'000'000);
    assert_int_equal(report.items[1].event.at_ns, 44);
    assert_int_equal(report.models[0].endpoint_uid, 3);
    assert_int_equal(report.models[0].number, 2);
    /* What is kept reads back as the same replicas. */
    struct slice kept = report_keep(arena, &report);
    struct report again;
    assert_int_equal(report_parse(arena, kept, SLICE("local"), 0, &again, &err), 0);
    assert_true(slice_equal(report_keep(arena, &again), kept));
    assert_true(units_parse_instant(SLICE("2026-11-23T06:01:02Z"), &ns));
    assert_int_equal(ns, INT64_C(1795413662) * 1'000'000'000);
    assert_false(units_parse_instant(SLICE("2026-13-23T06:01:02Z"), &ns));
    assert_false(units_parse_instant(SLICE("2026-11-23T06:01:02"), &ns));
    assert_false(units_parse_instant(SLICE(""), &ns));
    arena_free(arena);
}

/* From where a PoP's clients came: what is taken, or what is wrong. */
static const struct {
    const char *demand, *error;
    size_t count;
    uint64_t window_ms, requests;
    const char *country;
    double latitude; /* of the first; 0: not known */
} demands[] = {
    { "{}", NULL, 0, 0, 0, NULL, 0 },
    { "{\"window_ms\":5000,\"endpoints\":[]}", NULL, 0, 5000, 0, NULL, 0 },
    { "{\"window_ms\":5000,\"endpoints\":[{\"uid\":3,\"clients\":[{\"country\":\"JP\","
      "\"latitude\":35.7,\"longitude\":139.7,\"requests\":9},{\"requests\":1}]}]}",
      NULL, 2, 5000, 9, "JP", 35 },
    { "{\"window_ms\":1,\"endpoints\":[{\"uid\":3,\"clients\":[{\"country\":\"Japan\","
      "\"requests\":-4}]}]}",
      NULL, 1, 1, 0, "", 0 },
    { "{\"endpoints\":[{\"clients\":[{\"latitude\":91}]}]}", "nowhere on Earth", 0, 0, 0, NULL, 0 },
    { "{\"endpoints\":[{\"clients\":{}}]}", "'clients' must be", 0, 0, 0, NULL, 0 },
    { "{\"endpoints\":5}", "'endpoints' must be", 0, 0, 0, NULL, 0 },
    { "[]", "'demand' must be", 0, 0, 0, NULL, 0 },
};

static void test_demand(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof demands / sizeof *demands; i++) {
        struct arena *arena = arena_new();
        struct report report;
        struct err err = {};
        double latitude, longitude;
        char country[3];
        const char *text = arena_format(arena, "{\"demand\":%s}", demands[i].demand);
        int r = report_parse(arena, slice_of(text), SLICE("local"), 0, &report, &err);
        print_message("  %s: %s\n", demands[i].demand, r < 0 ? err.message : "taken");
        assert_int_equal(r, demands[i].error ? ERR_BAD_INPUT : 0);
        if (demands[i].error && !strstr(err.message, demands[i].error))
            fail_msg("'%s' lacks '%s'", err.message, demands[i].error);
        if (r == 0) {
            assert_int_equal(report.asked_ms, demands[i].window_ms);
            assert_int_equal(report.asked_count, demands[i].count);
        }
        if (r == 0 && demands[i].count) {
            assert_int_equal(report.asked[0].requests, demands[i].requests);
            country_code_of(asked_country(report.asked[0].cell), country);
            assert_string_equal(country, demands[i].country);
            if (asked_spot(report.asked[0].cell, &latitude, &longitude))
                assert_true(latitude == demands[i].latitude);
            else
                assert_true(demands[i].latitude == 0);
        }
        arena_free(arena);
    }
}

/* What up to three PoPs say of an endpoint whose target is revision 2, and the sum of it. */
static const struct {
    const char *name;
    struct {
        uint64_t serving, target;
        const char *state, *message;
    } said[3];
    uint64_t serving;
    const char *state, *message;
} sums[] = {
    { "nobody", {}, 0, "", "" },
    { "one starts", { { 0, 2, "starting", "" } }, 0, "starting", "" },
    { "one is ready", { { 2, 2, "ready", "" } }, 2, "ready", "" },
    { "one is ready, one starts",
      { { 2, 2, "ready", "" }, { 0, 2, "starting", "" } },
      2,
      "ready",
      "" },
    { "one starts, one is ready",
      { { 0, 2, "starting", "" }, { 2, 2, "ready", "" } },
      2,
      "ready",
      "" },
    { "one failed, one starts",
      { { 0, 2, "failed", "why" }, { 0, 2, "starting", "" } },
      0,
      "failed",
      "why" },
    { "one starts, one failed",
      { { 0, 2, "starting", "" }, { 0, 2, "failed", "why" } },
      0,
      "failed",
      "why" },
    { "one failed, one is ready",
      { { 0, 2, "failed", "why" }, { 2, 2, "ready", "" } },
      2,
      "ready",
      "" },
    { "one still serves the revision before",
      { { 2, 2, "ready", "" }, { 1, 2, "starting", "" } },
      1,
      "ready",
      "" },
    { "and is asked first", { { 1, 2, "starting", "" }, { 2, 2, "ready", "" } }, 1, "ready", "" },
    { "one has not heard of the target",
      { { 1, 1, "ready", "" }, { 0, 2, "starting", "" } },
      1,
      "starting",
      "" },
    { "nor has anybody", { { 1, 1, "ready", "" }, { 1, 1, "failed", "x" } }, 1, "", "" },
    { "one of before there were several", { { 2, 0, "ready", "" } }, 2, "ready", "" },
};

static void test_sums(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) {
        struct report_endpoint rows[3];
        size_t count = 0;
        for (; count < 3 && sums[i].said[count].state; count++)
            rows[count] = (struct report_endpoint){
                .uid = 7,
                .serving = sums[i].said[count].serving,
                .target = sums[i].said[count].target,
                .target_state = slice_of(sums[i].said[count].state),
                .message = slice_of(sums[i].said[count].message),
            };
        print_message("  %s\n", sums[i].name);
        struct report_sum sum = report_sum(rows, count, 2);
        assert_int_equal(sum.serving, sums[i].serving);
        assert_true(slice_is(sum.target_state, sums[i].state));
        assert_true(slice_is(sum.message, sums[i].message));
    }
}

static void test_routes(void **state)
{
    (void)state;
    for (size_t i = 0; i < control_route_count; i++) {
        const struct route *route = &control_routes[i];
        assert_non_null(route->handler);
        assert_true(route->summary[strlen(route->summary) - 1] == '.');
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(route->operation, control_routes[k].operation);
        struct slice names = slice_of(route->query);
        while (names.data && names.size) {
            struct slice name = slice_cut(&names, ',');
            bool known = false;
            for (size_t k = 0; k < query_parameter_count; k++)
                known = known || slice_is(name, query_parameters[k].name);
            assert_true(known);
        }
    }
}

#define HOUR INT64_C(3'600'000'000'000)
#define MINUTE INT64_C(60'000'000'000)

/* A blob is uploaded, the clock jumps six hours, the sweep comes: the blob stays. */
static void test_nothing_goes_after_a_jump(void **state)
{
    static const struct {
        int64_t now_ns, wall_ns; /* since 2026, say */
        bool over;
        int64_t jump_ns;
    } rows[] = {
        { 0, 100 * HOUR, true, 0 },
        { 5 * MINUTE, 100 * HOUR + 5 * MINUTE, true, 0 },
        { 10 * MINUTE, 106 * HOUR + 10 * MINUTE, false, 6 * HOUR },
        { 15 * MINUTE, 106 * HOUR + 15 * MINUTE, false, 0 },
        { 60 * MINUTE, 107 * HOUR, false, 0 },
        { 70 * MINUTE, 107 * HOUR + 10 * MINUTE, true, 0 }, /* an hour later by any clock */
        { 75 * MINUTE, 107 * HOUR + 15 * MINUTE + 30'000'000'000, true, 0 }, /* set right slowly */
        { 80 * MINUTE, 1 * HOUR, false, 1 * HOUR - 107 * HOUR - 20 * MINUTE - 30'000'000'000 },
        { 141 * MINUTE, 2 * HOUR + 1 * MINUTE, true, 0 },
    };
    struct grace grace = {};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t jump_ns;
        print_message("  row %zu\n", i);
        assert_int_equal(grace_over(&grace, rows[i].now_ns, rows[i].wall_ns, HOUR, &jump_ns),
                         rows[i].over);
        assert_int_equal(jump_ns, rows[i].jump_ns);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_goes_after_a_jump),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_plans),
        cmocka_unit_test(test_stable),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_selectors),
        cmocka_unit_test(test_if_match),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_demand),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_routes),
    };
    return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
