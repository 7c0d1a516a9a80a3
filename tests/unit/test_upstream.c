/* SPDX-License-Identifier: Apache-2.0 */
/* A spec of something that already runs; its keys by themselves are rows of test_endpoint.c. */
#include "spec/endpoint.h"

#include "base/arena.h"
#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h> /* after the six above */

static int parse(struct arena *arena, const char *yaml, struct endpoint_spec *spec, struct err *err)
{
    struct endpoint_specs specs;
    int r = endpoint_spec_parse_text(arena, slice_of(yaml), SPEC_YAML, 0, &specs, err);

    if (r == 0)
        *spec = specs.items[0];
    return r;
}

/* What is spoken follows from what runs, and is told where it is another. */
static void test_upstream(void **state)
{
    static const struct {
        const char *yaml, *protocol;
        bool told;
    } all[] = {
        { "upstream: http://a", "http", false },
        { "upstream: http://a\nprotocol: http", "http", false },
        { "upstream: http://a\nprotocol: oip", "oip", true },
        { "model: m", "oip", false },
        { "model: m\nprotocol: oip", "oip", false },
    };
    struct arena *arena = arena_new();
    struct endpoint_spec spec;
    struct err err;
    (void)state;

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const char *yaml = arena_format(arena, "name: shop\n%s\n", all[i].yaml);
        assert_int_equal(parse(arena, yaml, &spec, &err), 0);
        assert_true(slice_is(spec.protocol, all[i].protocol));
        assert_int_equal(strstr(endpoint_spec_yaml(arena, &spec, 0).data, "protocol") != NULL,
                         all[i].told);
    }
    assert_int_equal(parse(arena, "name: shop\nupstream: http://a\nmodel: m\n", &spec, &err),
                     ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "both 'model' and 'upstream' are there; one runs"));
    assert_int_equal(parse(arena, "name: shop\n", &spec, &err), ERR_BAD_INPUT);
    assert_non_null(strstr(err.message, "or 'upstream': http://HOST:PORT"));
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_upstream) };
    return cmocka_run_group_tests_name("upstream", tests, NULL, NULL);
}
