/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/endpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"
#include "spec/names.h"
#include "endpoint_rows.h"

#define DIGEST "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define FULL                                                                                       \
    "version: 1\nkind: endpoint\nname: digits\nproject: vision\nlabels: {team: a, b: \"2\"}\n"     \
    "model: ./digits.onnx\nsource: ./x.onnx\nruntime: onnx\nprotocol: oip\n"                       \
    "flavor: {cpu: 2.5, memory: 1GiB, accelerator: none}\nbatch: {max: 16, delay: 2ms}\n"          \
    "warmup: zeros\n"                                                                              \
    "regions: [EU, us]\nresidency: {process_in: [EU], unknown_client: DE}\n"                       \
    "scale: {min: 1, max: 3, per_pop: {min: 1, max: 2}, concurrency: 2}\n"                         \
    "queue: {depth: 5, timeout: 2s, cold: 1h}\n"                                                   \
    "timeout: 90s\nlimits: {body: 1KB}\naccess: {mode: open}\n"                                    \
    "cors: {origins: [\"https://a.example\", \"http://[::1]:8080\"]}\n"                            \
    "domains: [a.example.org]\naliases: [Org/Model_1.5]\n"

static int parse(struct arena *arena, const char *yaml, struct endpoint_spec *spec, struct err *err)
{
    struct endpoint_specs specs;
    int r = endpoint_spec_parse_text(arena, slice_of(yaml), SPEC_YAML, 0, &specs, err);

    if (r == 0) {
        assert_int_equal(specs.count, 1);
        *spec = specs.items[0];
    }
    return r;
}

static void assert_same(struct arena *arena, const struct endpoint_spec *a,
                        const struct endpoint_spec *b)
{
    struct spec_changes changes = endpoint_spec_diff(arena, a, b);

    if (changes.count)
        fail_msg("%s: %s became %s", changes.items[0].key, changes.items[0].before.data,
                 changes.items[0].after.data);
}

/* "a.b.c" as it stands in a spec, with a value. */
static const char *nested(struct arena *arena, const char *key)
{
    struct slice rest = slice_of(key);
    const char *text = "name: digits\nmodel: m\n", *end = "x";
    while (rest.data) {
        struct slice word = slice_cut(&rest, '.');
        text = arena_format(arena, "%s%.*s: %s", text, SLICE_FMT(word), rest.data ? "{" : "");
        end = rest.data ? arena_format(arena, "%s}", end) : end;
    }
    return arena_format(arena, "%s%s\n", text, end);
}

/* Printed in every form and read again, it is the same; and export is as short as it was. */
static void round_trip(struct arena *arena, const struct endpoint_spec *spec)
{
    for (unsigned flags = 0; flags <= SPEC_WITH_DEFAULTS; flags++) {
        struct endpoint_specs again;
        struct err err;
        struct slice yaml = endpoint_spec_yaml(arena, spec, flags);
        if (endpoint_spec_parse_text(arena, yaml, SPEC_YAML, 0, &again, &err) < 0)
            fail_msg("%s\n%s", err.message, yaml.data);
        assert_same(arena, spec, &again.items[0]);
        assert_string_equal(endpoint_spec_yaml(arena, &again.items[0], flags).data, yaml.data);
        struct slice json = endpoint_spec_json(arena, spec, flags);
        if (endpoint_spec_parse_text(arena, json, SPEC_JSON, 0, &again, &err) < 0)
            fail_msg("%s\n%s", err.message, json.data);
        assert_same(arena, spec, &again.items[0]);
    }
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < endpoint_row_count; i++) {
        struct arena *arena = arena_new();
        struct endpoint_spec spec;
        struct err err = {};
        bool other =
            strstr(endpoint_rows[i].yaml, "upstream: ") || strstr(endpoint_rows[i].yaml, "image: ");
        const char *yaml = arena_format(arena, "name: digits\n%s\n%s\n",
                                        other ? "" : "model: m.onnx", endpoint_rows[i].yaml);
        print_message("  %s\n", endpoint_rows[i].yaml);
        int r = parse(arena, yaml, &spec, &err);
        if (r != endpoint_rows[i].code)
            fail_msg("%d, not %d: %s", r, endpoint_rows[i].code, err.message);
        if (endpoint_rows[i].message && !strstr(err.message, endpoint_rows[i].message))
            fail_msg("'%s' lacks '%s'", err.message, endpoint_rows[i].message);
        if (r == 0)
            round_trip(arena, &spec);
        arena_free(arena);
    }
}

/* Each live key has a good and a bad row above; each that is not refuses whatever it gets. */
static void test_every_option(void **state)
{
    (void)state;
    for (size_t i = 0; i < endpoint_option_count; i++) {
        const struct option *option = &endpoint_options[i];
        struct arena *arena = arena_new();
        struct endpoint_spec spec;
        struct err err = {};
        struct slice rest = slice_of(option->key);
        struct slice group = slice_cut(&rest, '.');
        const char *dot = rest.data ? strrchr(rest.data, '.') : NULL;
        print_message("  %s\n", option->key);
        if (option->status != OPTION_LIVE) {
            const char *yaml = nested(arena, option->key);
            assert_int_equal(parse(arena, yaml, &spec, &err), ERR_NOT_SUPPORTED);
            assert_non_null(strstr(err.message, option->key));
            assert_non_null(strstr(err.message, "not acted upon yet"));
        } else if (strcmp(option->key, "name") != 0 && strcmp(option->key, "model") != 0) {
            bool good = false, bad = false;
            for (size_t j = 0; j < endpoint_row_count; j++) {
                bool about =
                    slice_starts(slice_of(endpoint_rows[j].yaml), group) &&
                    (!rest.data || strstr(endpoint_rows[j].yaml, dot ? dot + 1 : rest.data));
                good |= about && endpoint_rows[j].code == 0;
                bad |= about && endpoint_rows[j].code < 0 &&
                       strstr(endpoint_rows[j].message, option->key);
            }
            assert_true(good && bad);
        }
        assert_true(option->help && *option->help);
        arena_free(arena);
    }
}

static void test_full(void **state)
{
    struct arena *arena = arena_new();
    struct endpoint_spec spec;
    struct err err;

    (void)state;
    if (parse(arena, FULL, &spec, &err) < 0)
        fail_msg("%s", err.message);
    assert_true(slice_is(spec.project, "vision"));
    assert_true(slice_is(spec.labels.items[0].key, "b"));
    assert_int_equal(spec.flavor.cpu_milli, 2500);
    assert_int_equal(spec.flavor.memory_bytes, 1 << 30);
    assert_int_equal(spec.scale.concurrency, 2);
    assert_true(spec.queue.cold_ns == UINT64_C(3600'000'000'000));
    assert_int_equal(spec.limits.body_bytes, 1000);
    assert_int_equal(spec.cors.origins.count, 2);
    assert_string_equal(
        endpoint_spec_yaml(arena, &spec, 0).data,
        "version: 1\nname: digits\nproject: vision\nlabels:\n  b: \"2\"\n  team: a\n"
        "model: ./digits.onnx\nsource: ./x.onnx\nruntime: onnx\nflavor:\n  cpu: 2.5\n"
        "  memory: 1GiB\nbatch:\n  max: 16\n  delay: 2ms\nregions:\n  - EU\n  - us\n"
        "residency:\n  process_in:\n    - EU\n  unknown_client: DE\nscale:\n  min: 1\n  max: 3\n  "
        "per_pop:\n    min: 1\n    max: 2\n  concurrency: 2\nqueue:\n"
        "  depth: 5\n  timeout: 2s\n  cold: 1h\ntimeout: 90s\nlimits:\n  body: 1KB\n"
        "cors:\n  origins:\n    - https://a.example\n"
        "    - \"http://[::1]:8080\"\ndomains:\n  - a.example.org\n"
        "aliases:\n  - Org/Model_1.5\n");
    round_trip(arena, &spec);
    assert_int_equal(parse(arena, "name: digits\nmodel: m\n", &spec, &err), 0);
    assert_string_equal(endpoint_spec_json(arena, &spec, 0).data,
                        "{\"version\":1,\"name\":\"digits\",\"model\":\"m\"}");
    assert_string_equal(
        endpoint_spec_json(arena, &spec, SPEC_WITH_DEFAULTS).data,
        "{\"version\":1,\"kind\":\"endpoint\",\"name\":\"digits\",\"project\":\"default\","
        "\"labels\":{},\"model\":\"m\",\"protocol\":\"oip\",\"flavor\":{\"cpu\":1,"
        "\"memory\":\"512MiB\",\"accelerator\":\"none\"},\"warmup\":\"zeros\",\"scale\":{\"min\":0,"
        "\"max\":8,\"per_pop\":{\"min\":0},\"down_delay\":\"0s\",\"idle\":\"2m\"},\"queue\":{"
        "\"depth\":256,\"timeout\":\"30s\",\"cold\":"
        "\"5m\"}"
        ","
        "\"timeout\":\"1m\",\"limits\":{\"body\":\"64MiB\"},\"access\":{\"mode\":\"open\"},"
        "\"cors\":{\"origins\":[]},\"domains\":[],\"aliases\":[]}");
    arena_free(arena);
}

static void test_container(void **state)
{
    struct arena *arena = arena_new();
    struct endpoint_spec spec;
    struct err err;

    (void)state;
    if (parse(arena,
              "name: aaa\nimage: default/app:1\ncommand: [/s, -v, -v]\nport: 81\nuser: 1000:10\n"
              "read_only: false\nshm: 1MiB\npids: 9\negress: [any]\n"
              "env: {B: {secret: hub-token}, A: \"1\"}\n"
              "probes: {startup: {http: {path: /s}}, liveness: {exec: {command: [/l]}}}\n",
              &spec, &err) < 0)
        fail_msg("%s", err.message);
    const struct spec_container *container = &spec.container;
    assert_string_equal(container->command.items[2].data, "-v");
    assert_int_equal(container->port, 81);
    assert_int_equal(container->read_only, 0);
    assert_int_equal(container->shm_bytes, 1 << 20);
    assert_int_equal(container->pids, 9);
    assert_int_equal(container->egress.count, 1);
    assert_string_equal(container->env.items[0].name.data, "A");
    assert_false(container->env.items[0].secret);
    assert_true(container->env.items[1].secret);
    assert_string_equal(spec.protocol.data, "http");
    assert_string_equal(
        endpoint_spec_json(arena, &spec, 0).data,
        "{\"version\":1,\"name\":\"aaa\",\"image\":\"default/app:1\",\"command\":[\"/s\",\"-v\","
        "\"-v\"],\"port\":81,\"user\":\"1000:10\",\"read_only\":false,\"shm\":\"1MiB\",\"pids\":9,"
        "\"egress\":[\"any\"],\"env\":{\"A\":\"1\",\"B\":{\"secret\":\"hub-token\"}},\"probes\":{"
        "\"startup\":{\"http\":{\"path\":\"/s\"}},\"liveness\":{\"exec\":{\"command\":[\"/"
        "l\"]}}}}");
    struct spec_probe startup = spec_startup_fill(&spec);
    assert_string_equal(startup.http_path.data, "/s");
    assert_int_equal(startup.failures, 60);
    spec.probes.startup = (struct spec_probe){};
    spec.probes.readiness = (struct spec_probe){ .tcp_port = 5, .failures = 1 };
    startup = spec_startup_fill(&spec);
    assert_int_equal(startup.tcp_port, 5);
    assert_int_equal(startup.failures, 1);
    assert_true(startup.period_ns == UINT64_C(5'000'000'000));

    /* What an image has unless told is no part of what runs a model, and is one of it. */
    assert_int_equal(parse(arena, "name: aaa\nimage: default/app\n", &spec, &err), 0);
    struct slice text = endpoint_spec_what_runs(arena, &spec);
    assert_non_null(strstr(text.data, "\"read_only\":true,\"shm\":\"64MiB\",\"pids\":512,"
                                      "\"egress\":[]"));
    assert_int_equal(parse(arena, "name: aaa\nmodel: m\n", &spec, &err), 0);
    assert_null(strstr(endpoint_spec_what_runs(arena, &spec).data, "pids"));
    arena_free(arena);
}

/* Bounded in all, whatever the single ones are; and no message says a value. */
static void test_environment(void **state)
{
    struct arena *arena = arena_new();
    const char *value = arena_format(arena, "%.*d", 32 << 10, 0);
    struct endpoint_spec spec;
    struct err err;

    (void)state;
    assert_int_equal(
        parse(arena, arena_format(arena, "name: aaa\nimage: a23/b\nenv: {A: \"%s\"}\n", value),
              &spec, &err),
        0);
    assert_int_equal(
        parse(arena, arena_format(arena, "name: aaa\nimage: a23/b\nenv: {A: \"%s0\"}\n", value),
              &spec, &err),
        ERR_BAD_INPUT);
    assert_string_equal(err.message, "line 3: env: the value of 'A' is longer than 32 KiB");
    assert_int_equal(
        parse(arena,
              arena_format(arena, "name: aaa\nimage: a23/b\nenv: {A: \"%s\", B: \"%s\"}\n", value,
                           value),
              &spec, &err),
        ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "bytes in all are above 65536"));
    for (int count = SPEC_SECRETS_MAX; count <= SPEC_SECRETS_MAX + 1; count++) {
        const char *text = "name: aaa\nimage: a23/b\nenv:\n";
        for (int i = 0; i < count; i++)
            text = arena_format(arena, "%s  A%d: {secret: abc}\n", text, i);
        assert_int_equal(parse(arena, text, &spec, &err),
                         count == SPEC_SECRETS_MAX ? 0 : ERR_BAD_INPUT);
    }
    assert_non_null(strstr(err.message, "17 secrets are above 16"));
    arena_free(arena);
}

static void test_concurrency(void **state)
{
    static const struct {
        uint64_t told, batch_max;
        uint32_t wanted, while_short;
    } all[] = {
        { 0, 0, 4, 8 },        { 0, 1, 4, 8 },       { 0, 2, 4, 8 },  { 0, 3, 6, 8 },
        { 0, 9, 18, 18 },      { 0, 16, 32, 32 },    { 3, 16, 3, 3 }, { 0, 64, 128, 128 },
        { 0, 1024, 128, 128 }, { 128, 0, 128, 128 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        assert_int_equal(spec_concurrency(all[i].told, all[i].batch_max), all[i].wanted);
        assert_int_equal(spec_places_max(all[i].told, all[i].batch_max), all[i].while_short);
    }
}

/* As written, and the shortest form that says the same. */
static void test_residency_forms(void **state)
{
    static const struct {
        const char *yaml, *json;
    } forms[] = {
        { "{process_in: [EU], transit: [EU], logs: [EU]}", "{\"process_in\":[\"EU\"]}" },
        { "{process_in: any, unknown_client: refuse}", "{\"process_in\":\"any\"}" },
        { "{rules: [{clients: any, process_in: [CH], cache: same-country}]}",
          "{\"process_in\":[\"CH\"],\"cache\":\"same-country\"}" },
        { "{rules: [{clients: [EU], process_in: [EU]}], unknown_client: DE}",
          "{\"rules\":[{\"clients\":[\"EU\"],\"process_in\":[\"EU\"]}],"
          "\"unknown_client\":\"DE\"}" },
        { "{logs: [DE], rules: [{clients: [DE], process_in: [DE]}, {clients: any, process_in: any, "
          "transit: [EU]}]}",
          "{\"rules\":[{\"clients\":[\"DE\"],\"process_in\":[\"DE\"]},"
          "{\"clients\":\"any\",\"process_in\":\"any\",\"transit\":[\"EU\"],\"logs\":[\"DE\"]}]}" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct arena *arena = arena_new();
        struct endpoint_spec spec;
        struct err err;
        print_message("  %s\n", forms[i].yaml);
        if (parse(arena,
                  arena_format(arena, "name: digits\nmodel: m\nresidency: %s\n", forms[i].yaml),
                  &spec, &err) < 0)
            fail_msg("%s", err.message);
        assert_string_equal(
            endpoint_spec_json(arena, &spec, 0).data,
            arena_format(arena,
                         "{\"version\":1,\"name\":\"digits\",\"model\":\"m\",\"residency\":%s}",
                         forms[i].json));
        round_trip(arena, &spec);
        arena_free(arena);
    }
}

static void test_documents(void **state)
{
    static const struct {
        const char *text;
        enum spec_form form;
        unsigned flags;
        int code;
        const char *message;
        size_t count;
    } files[] = {
        { "name: aaa\nmodel: m\n---\nname: bbb\nmodel: m\n", SPEC_YAML, 0, 0, NULL, 2 },
        { "name: aaa\nmodel: m\n---\nname: aaa\nmodel: m\n", SPEC_YAML, 0, ERR_BAD_INPUT,
          "the endpoint 'aaa' is there twice", 0 },
        { "name: aaa\nmodel: m\n---\nname: aaa\nmodel: m\nproject: other\n", SPEC_YAML, 0, 0, NULL,
          2 },
        { "name: aaa\nmodel: m\n---\nname: bbb\n", SPEC_YAML, 0, ERR_BAD_INPUT,
          "line 4: 'model' is missing", 0 },
        { "", SPEC_YAML, 0, ERR_BAD_INPUT, "there is no document in it", 0 },
        { "[]", SPEC_JSON, 0, ERR_BAD_INPUT, "there is no document in it", 0 },
        { "- a", SPEC_YAML, 0, ERR_BAD_INPUT, "a spec must be an object, not a list", 0 },
        { "5", SPEC_JSON, 0, ERR_BAD_INPUT, "a spec must be an object, not an integer", 0 },
        { "model: m", SPEC_YAML, 0, ERR_BAD_INPUT, "'name' is missing", 0 },
        { "model: m", SPEC_YAML, SPEC_NAME_OPTIONAL, 0, NULL, 1 },
        { "name: aaa\nmodel: " DIGEST, SPEC_YAML, 0, 0, NULL, 1 },
        { "name: aaa\nmodel: sha256:12", SPEC_YAML, 0, ERR_BAD_INPUT, "is no digest", 0 },
        { "name: aaa\nmodel: hf://a/b", SPEC_YAML, 0, ERR_NOT_SUPPORTED,
          "line 2: model: 'hf://' is not acted upon yet", 0 },
        { "name: aaa\nmodel: 5", SPEC_YAML, 0, ERR_BAD_INPUT, "line 2: model: must be a string",
          0 },
        { "name: ''\nmodel: m", SPEC_YAML, 0, ERR_BAD_INPUT, "name: the endpoint name is empty",
          0 },
        { "[{\"name\":\"aaa\",\"model\":\"m\"},{\"name\":\"b\",\"model\":\"m\"}]", SPEC_JSON, 0,
          ERR_BAD_INPUT, "document 2: name: the endpoint name 'b' has 1 characters", 0 },
        { "{\"name\":\"aaa\",\"name\":\"aaa\"}", SPEC_JSON, 0, ERR_BAD_INPUT,
          "'name' is there twice", 0 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct arena *arena = arena_new();
        struct endpoint_specs specs = {};
        struct err err = {};
        print_message("  %s\n", files[i].text);
        int r = endpoint_spec_parse_text(arena, slice_of(files[i].text), files[i].form,
                                         files[i].flags, &specs, &err);
        if (r != files[i].code)
            fail_msg("%d, not %d: %s", r, files[i].code, err.message);
        if (files[i].message && !strstr(err.message, files[i].message))
            fail_msg("'%s' lacks '%s'", err.message, files[i].message);
        assert_int_equal(specs.count, files[i].count);
        arena_free(arena);
    }
}

static void test_diff(void **state)
{
    struct arena *arena = arena_new();
    struct endpoint_spec a, b;
    struct err err;

    (void)state;
    assert_int_equal(parse(arena, "name: aaa\nmodel: m\ntimeout: 60s\n", &a, &err), 0);
    assert_int_equal(parse(arena, "name: aaa\nmodel: m\ntimeout: 1m\n", &b, &err), 0);
    assert_int_equal(endpoint_spec_diff(arena, &a, &b).count, 0);
    assert_int_equal(parse(arena, "name: aaa\nmodel: m\ntimeout: 2m\nsource: x\n", &b, &err), 0);
    struct spec_changes changes = endpoint_spec_diff(arena, &a, &b);
    assert_int_equal(changes.count, 2);
    assert_false(changes.new_revision);
    assert_string_equal(changes.items[1].key, "timeout");
    assert_string_equal(changes.items[1].before.data, "\"1m\"");
    assert_string_equal(changes.items[1].after.data, "\"2m\"");
    assert_true(
        slice_equal(endpoint_spec_what_runs(arena, &a), endpoint_spec_what_runs(arena, &b)));
    assert_int_equal(parse(arena, "name: aaa\nmodel: n\nflavor: {cpu: 2}\n", &b, &err), 0);
    changes = endpoint_spec_diff(arena, &a, &b);
    assert_int_equal(changes.count, 2);
    assert_true(changes.new_revision);
    assert_false(
        slice_equal(endpoint_spec_what_runs(arena, &a), endpoint_spec_what_runs(arena, &b)));
    arena_free(arena);
}

static void test_patch(void **state)
{
    static const struct {
        const char *patch, *wanted;
    } patches[] = {
        { "{}", "{\"version\":1,\"name\":\"digits\",\"model\":\"m\",\"scale\":{\"min\":1,"
                "\"max\":3}}" },
        { "{\"scale\":{\"min\":2}}", "{\"version\":1,\"name\":\"digits\",\"model\":\"m\","
                                     "\"scale\":{\"min\":2,\"max\":3}}" },
        { "{\"scale\":null,\"timeout\":\"90s\"}",
          "{\"version\":1,\"name\":\"digits\",\"model\":\"m\",\"timeout\":\"90s\"}" },
        { "{\"scale\":{\"max\":null}}", "{\"version\":1,\"name\":\"digits\",\"model\":\"m\","
                                        "\"scale\":{\"min\":1}}" },
        { "{\"scale\":{\"min\":4}}", "scale.min (4) is above scale.max (3)" },
        { "{\"model\":null}", "'model' is missing" },
        { "{\"residency\":{}}", "residency: says nothing" },
        { "{\"residency\":{\"process_in\":[\"EU\"]}}",
          "{\"version\":1,\"name\":\"digits\",\"model\":\"m\",\"residency\":{\"process_in\":["
          "\"EU\"]},"
          "\"scale\":{\"min\":1,\"max\":3}}" },
        { "{\"scael\":{}}", "did you mean 'scale'?" },
        { "[]", "a patch must be an object, not a list" },
    };
    struct arena *arena = arena_new();
    struct endpoint_spec spec, changed;
    struct err err = {};

    (void)state;
    assert_int_equal(parse(arena, "name: digits\nmodel: m\nscale: {min: 1, max: 3}\n", &spec, &err),
                     0);
    for (size_t i = 0; i < sizeof patches / sizeof *patches; i++) {
        yyjson_val *patch;
        print_message("  %s\n", patches[i].patch);
        assert_int_equal(json_parse(arena, slice_of(patches[i].patch), NULL, &patch, &err), 0);
        const char *got = endpoint_spec_patch(arena, &spec, patch, &changed, &err) < 0
                              ? err.message
                              : endpoint_spec_json(arena, &changed, 0).data;
        if (patches[i].wanted[0] == '{')
            assert_string_equal(got, patches[i].wanted);
        else if (!strstr(got, patches[i].wanted))
            fail_msg("'%s' lacks '%s'", got, patches[i].wanted);
    }
    arena_free(arena);
}

/* A PoP that reads a newer spec keeps what it does not know. */
static void test_unknown(void **state)
{
    static const char text[] =
        "{\"version\":9,\"name\":\"digits\",\"model\":\"m\",\"scale\":{\"min\":2,\"per_pop\":{"
        "\"max\":3,\"new\":{\"a\":1}},\"rps\":\"5/"
        "s\",\"new\":[1]},\"residency\":{\"process_at\":[\"EU\"]},\"later\":{\"a\":null}}";
    struct arena *arena = arena_new();
    struct endpoint_specs specs, again;
    struct err err;

    (void)state;
    if (endpoint_spec_parse_text(arena, slice_of(text), SPEC_JSON, SPEC_KEEP_UNKNOWN, &specs,
                                 &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(specs.items[0].scale.min, 2);
    assert_string_equal(specs.items[0].unknown.data,
                        "{\"scale\":{\"per_pop\":{\"new\":{\"a\":1}},\"new\":[1]},"
                        "\"residency\":{\"process_at\":[\"EU\"]},\"later\":{\"a\":null}}");
    struct slice printed = endpoint_spec_json(arena, &specs.items[0], 0);
    assert_string_equal(printed.data, text);
    assert_int_equal(
        endpoint_spec_parse_text(arena, printed, SPEC_JSON, SPEC_KEEP_UNKNOWN, &again, &err), 0);
    assert_same(arena, &specs.items[0], &again.items[0]);
    arena_free(arena);
}

static void test_names(void **state)
{
    static const struct {
        const char *name;
        const char *message; /* NULL: good */
    } names[] = {
        { "abc", NULL },
        { "a1-b2-c3", NULL },
        { "a234567890123456789012345678901234567890", NULL },
        { "a2345678901234567890123456789012345678901", "has 41 characters; it needs 3 to 40" },
        { "", "the endpoint name is empty" },
        { "ab", "has 2 characters" },
        { "1ab", "must begin with a letter" },
        { "-ab", "must begin with a letter" },
        { "ab-", "must not end with a hyphen" },
        { "a--b", "may not hold '--'" },
        { "aBc", "not 'B'" },
        { "a_c", "not '_'" },
        { "a c", "not ' '" },
        { "a/c", "not '/'" },
        { "a\nc", "not '\\x0a'" },
        { "\xc3\xa9t\xc3\xa9", "small letters" },
        { "api", "is reserved" },
        { "default", "is reserved" },
        { "ns1", "is reserved" },
        { "ns9", "is reserved" },
        { "ns0", NULL },
        { "ns10", NULL },
    };
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int r = spec_check_endpoint_name(slice_of(names[i].name), &err);
        print_message("  %s\n", names[i].name);
        assert_int_equal(r, names[i].message ? ERR_BAD_INPUT : 0);
        if (names[i].message && !strstr(err.message, names[i].message))
            fail_msg("'%s' lacks '%s'", err.message, names[i].message);
    }
    assert_int_equal(spec_check_project_name(SLICE("default"), &err), 0);
    assert_int_equal(spec_check_name(SLICE("api"), "PoP name", &err), 0);
    assert_true(spec_is_digest(SLICE(DIGEST)));
    assert_false(spec_is_digest(SLICE("sha256:")));
}

/* Which PoPs an image with a GPU may be placed on. */
static void test_where_an_accelerator_stands(void **state)
{
    static const struct {
        const char *wanted, *flavor;
        bool stands;
    } rows[] = {
        { "none", "nvidia", true },
        { "none", NULL, true },
        { "nvidia", "nvidia", true },
        { "nvidia", "nvidia-l4", true },
        { "nvidia-l4", "nvidia-l4", true },
        { "nvidia-l4:2", "nvidia-l4", true },
        { "nvidia-l4", "nvidia", false },
        { "nvidia-l4", "nvidia-l40s", false },
        { "nvidia-l40s", "nvidia-l4", false },
        { "nvidia", "nvidiax", false },
        { "nvidia", NULL, false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct slice flavor = slice_of(rows[i].flavor ? rows[i].flavor : "");
        struct spec_strings flavors = { &flavor, rows[i].flavor != NULL };
        struct endpoint_spec spec;
        endpoint_spec_defaults(&spec);
        spec.flavor.accelerator = slice_of(rows[i].wanted);
        if (spec_accelerator_stands(&spec, &flavors) != rows[i].stands)
            fail_msg("'%s' at '%s'", rows[i].wanted, rows[i].flavor);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_where_an_accelerator_stands),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_every_option),
        cmocka_unit_test(test_concurrency),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_diff),
        cmocka_unit_test(test_patch),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_residency_forms),
        cmocka_unit_test(test_container),
        cmocka_unit_test(test_environment),
    };
    return cmocka_run_group_tests_name("endpoint", tests, NULL, NULL);
}
