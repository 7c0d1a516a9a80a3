/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/challenge.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/arena.h"
#include "base/err.h"

#define TOKEN "Bearer realm=\"https://auth.example/token\",service=\"registry.example\""

static const struct {
    const char *header, *scheme;
    int result; /* 1: found, 0: none, -1: malformed */
    const char *realm, *service, *scope, *error;
} rows[] = {
    { TOKEN ",scope=\"repository:a/b:pull\"", "Bearer", 1, "https://auth.example/token",
      "registry.example", "repository:a/b:pull", "" },
    { "bearer  realm = \"x\" , scope=y", "Bearer", 1, "x", "", "y", "" },
    { "Bearer", "Bearer", 1, "", "", "", "" },
    { "Basic realm=\"say \\\"friend\\\", enter\"", "Basic", 1, "say \"friend\", enter", "", "",
      "" },
    { "Basic realm=\"a\", " TOKEN, "Bearer", 1, "https://auth.example/token", "registry.example",
      "", "" },
    { TOKEN ", Basic realm=\"a\"", "Basic", 1, "a", "", "", "" },
    { "Negotiate abc/+==, Basic realm=b", "Basic", 1, "b", "", "", "" },
    { "Negotiate, Basic realm=b", "Basic", 1, "b", "", "", "" },
    { ",, Basic realm=b ,", "Basic", 1, "b", "", "", "" },
    { "Basic realm=one, realm=two", "Basic", 1, "one", "", "", "" },
    { "Basic realm=one, Basic realm=two", "Basic", 1, "one", "", "", "" },
    { "Bearer realm=\"x\",error=\"insufficient_scope\"", "Bearer", 1, "x", "", "",
      "insufficient_scope" },
    { "Bearer REALM=x, unknown=\"y\"", "Bearer", 1, "x", "", "", "" },
    { "Digest realm=\"realm\", Basic", "Bearer", 0, NULL, NULL, NULL, NULL },
    { "", "Bearer", 0, NULL, NULL, NULL, NULL },
    { "Bearer realm=\"not ended", "Bearer", -1, NULL, NULL, NULL, NULL },
    { "Bearer realm=\"a\"b", "Bearer", -1, NULL, NULL, NULL, NULL },
    { "Bearer realm=", "Bearer", 1, "", "", "", "" }, /* in place of parameters */
    { "Bearer realm=\"line\nbreak\"", "Bearer", -1, NULL, NULL, NULL, NULL },
    { "Bearer realm=\"end\\", "Bearer", -1, NULL, NULL, NULL, NULL },
    { "\"Bearer\"", "Bearer", -1, NULL, NULL, NULL, NULL },
    { "=", "Bearer", -1, NULL, NULL, NULL, NULL },
};

static void is(struct slice got, const char *wanted)
{
    assert_int_equal(got.size, strlen(wanted));
    if (got.size)
        assert_memory_equal(got.data, wanted, got.size);
}

static void test_find(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct challenge challenge = {};
        struct err err;
        print_message("  '%s'\n", rows[i].header);
        int r = challenge_find(arena, slice_of(rows[i].header), rows[i].scheme, &challenge, &err);
        assert_int_equal(r < 0 ? -1 : r, rows[i].result);
        if (r == 1) {
            is(challenge.realm, rows[i].realm);
            is(challenge.service, rows[i].service);
            is(challenge.scope, rows[i].scope);
            is(challenge.error, rows[i].error);
        }
        arena_free(arena);
    }
}

static void test_bound(void **state)
{
    static char header[CHALLENGE_VALUE_MAX + 32] = "Bearer realm=";
    struct arena *arena = arena_new();
    struct challenge challenge;
    struct err err;
    (void)state;
    size_t head = strlen(header);
    memset(header + head, 'a', CHALLENGE_VALUE_MAX);
    assert_int_equal(challenge_find(arena, slice_of(header), "Bearer", &challenge, &err), 1);
    header[head + CHALLENGE_VALUE_MAX] = 'a';
    assert_int_equal(challenge_find(arena, slice_of(header), "Bearer", &challenge, &err),
                     ERR_TOO_LARGE);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_find), cmocka_unit_test(test_bound) };
    return cmocka_run_group_tests_name("challenge", tests, NULL, NULL);
}
