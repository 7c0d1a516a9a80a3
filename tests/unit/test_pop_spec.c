/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/pop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <string.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/json.h"

/* As written, as printed (NULL: as written), or a part of what is wrong. */
static const struct {
    const char *text, *printed, *error;
} rows[] = {
    { "{}", NULL, NULL },
    { "{\"name\":\"paris\",\"city\":\"Paris\",\"country\":\"FR\",\"latitude\":48.86,"
      "\"longitude\":2.35,\"region\":\"eu-west\",\"addresses\":[\"127.0.1.1\",\"2001:db8::1\"],"
      "\"flavors\":[\"nvidia-l40s\"],\"limits\":{\"cpu\":\"8\",\"memory\":\"16GiB\","
      "\"replicas\":12},\"prices\":{\"cpu_hour\":\"0.04 EUR\",\"gib_hour\":\"0.005 EUR\"}}",
      NULL, NULL },
    { "{\"limits\":{\"cpu\":\"1500m\",\"memory\":\"1024MiB\"}}",
      "{\"limits\":{\"cpu\":\"1.5\",\"memory\":\"1GiB\"}}", NULL },
    { "{\"limits\":{},\"prices\":{},\"addresses\":[]}", "{}", NULL },
    { "{\"latitude\":-90,\"longitude\":180}", "{\"latitude\":-90.0,\"longitude\":180.0}", NULL },
    { "{\"kind\":\"pop\"}", "{}", NULL },
    { "{\"name\":\"ns-1\",\"kind\":\"dns\",\"city\":\"Paris\",\"country\":\"FR\"}", NULL, NULL },
    { "{\"kind\":\"gateway\"}", NULL, "pop or dns" },
    { "{\"kind\":\"dns\",\"addresses\":[\"192.0.2.1\"]}", NULL, "addresses: not of" },
    { "{\"kind\":\"dns\",\"flavors\":[\"h100\"]}", NULL, "flavors: not of" },
    { "{\"kind\":\"dns\",\"limits\":{\"replicas\":1}}", NULL, "limits: not of" },
    { "{\"kind\":\"dns\",\"prices\":{\"gib_hour\":\"1 EUR\"}}", NULL, "prices: not of" },
    { "[]", NULL, "must be an object" },
    { "{\"citty\":\"Paris\"}", NULL, "city" },
    { "{\"name\":\"Paris\"}", NULL, "PoP" },
    { "{\"name\":\"a--b\"}", NULL, "PoP" },
    { "{\"country\":\"FRA\"}", NULL, "two capitals" },
    { "{\"country\":\"fr\"}", NULL, "two capitals" },
    { "{\"latitude\":48}", NULL, "stand together" },
    { "{\"longitude\":48}", NULL, "stand together" },
    { "{\"latitude\":91,\"longitude\":0}", NULL, "-90 to 90" },
    { "{\"latitude\":0,\"longitude\":-180.1}", NULL, "-180 to 180" },
    { "{\"latitude\":\"48\",\"longitude\":2}", NULL, "'latitude' must be" },
    { "{\"region\":\"EU\"}", NULL, "region label" },
    { "{\"addresses\":[\"127.0.0.1:80\"]}", NULL, "without a port" },
    { "{\"addresses\":[7]}", NULL, "must be strings" },
    { "{\"addresses\":[\"::1\",\"::2\",\"::3\",\"::4\",\"::5\",\"::6\",\"::7\",\"::8\",\"::9\"]}",
      NULL, "at most 8" },
    { "{\"flavors\":[\"L40S\"]}", NULL, "flavor" },
    { "{\"limits\":{\"cpus\":\"8\"}}", NULL, "cpu" },
    { "{\"limits\":{\"memory\":\"16\"}}", NULL, "needs a unit" },
    { "{\"limits\":{\"replicas\":1001}}", NULL, "1 to 1000" },
    { "{\"limits\":{\"replicas\":0}}", NULL, "1 to 1000" },
    { "{\"prices\":{\"cpu_hour\":\"4\"}}", NULL, "prices.cpu_hour" },
    { "{\"prices\":{\"cpu_hour\":\"1 EUR\",\"gib_hour\":\"1 USD\"}}", NULL, "one currency" },
};

static int parse(struct arena *arena, const char *text, struct pop_spec *ret, struct err *err)
{
    yyjson_val *tree;
    assert_int_equal(json_parse(arena, slice_of(text), NULL, &tree, err), 0);
    return pop_spec_parse(arena, tree, ret, err);
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct err err = {};
        struct pop_spec spec;
        int r = parse(arena, rows[i].text, &spec, &err);
        print_message("  %s: %s\n", rows[i].text, r < 0 ? err.message : "taken");
        assert_int_equal(r, rows[i].error ? ERR_BAD_INPUT : 0);
        if (!rows[i].error)
            assert_string_equal(pop_spec_json(arena, &spec).data,
                                rows[i].printed ? rows[i].printed : rows[i].text);
        else if (!strstr(err.message, rows[i].error))
            fail_msg("'%s' does not say '%s'", err.message, rows[i].error);
        arena_free(arena);
    }
}

static void test_room_and_price(void **state)
{
    struct arena *arena = arena_new();
    struct err err = {};
    struct pop_spec spec, bare = {};
    const uint64_t gib = UINT64_C(1) << 30;
    (void)state;
    assert_int_equal(parse(arena, rows[1].text, &spec, &err), 0);
    assert_int_equal(pop_spec_room(&spec, 1000, gib), 8);     /* cores */
    assert_int_equal(pop_spec_room(&spec, 1000, 4 * gib), 4); /* memory */
    assert_int_equal(pop_spec_room(&spec, 100, gib), 12);     /* replicas */
    assert_int_equal(pop_spec_room(&spec, 9000, gib), 0);
    assert_int_equal(pop_spec_room(&bare, 1000, gib), POP_REPLICAS_LIMIT);
    assert_true(pop_spec_price(&spec, 2000, 2 * gib) > 0.0899);
    assert_true(pop_spec_price(&spec, 2000, 2 * gib) < 0.0901);
    assert_true(pop_spec_price(&bare, 2000, 2 * gib) == 0);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_room_and_price),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
