/* SPDX-License-Identifier: Apache-2.0 */
#include "spec/reference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct {
    const char *text;
    const char *host, *project, *name, *tag, *digest; /* project NULL: refused */
} rows[] = {
    { "default/digits", "", "default", "digits", "latest", "" },
    { "default/digits:v1", "", "default", "digits", "v1", "" },
    { "default/digits@sha256:" HEX, "", "default", "digits", "", "sha256:" HEX },
    { "default/digits:v1@sha256:" HEX, "", "default", "digits", "v1", "sha256:" HEX },
    { "localhost/default/digits:v1", "localhost", "default", "digits", "v1", "" },
    { "127.0.0.1:8080/default/digits:v1", "127.0.0.1:8080", "default", "digits", "v1", "" },
    { "[::1]:8080/default/digits", "[::1]:8080", "default", "digits", "latest", "" },
    { "api.example.com/shop/web_1.x--y:A.b-c_", "api.example.com", "shop", "web_1.x--y", "A.b-c_",
      "" },
    { "docker.io/library/nginx:1", "docker.io", "library", "nginx", "1", "" },
    { "docker.io/nginx", "docker.io", "", "", "latest", "" },
    { "ghcr.io/a/b/c.d/e:v1", "ghcr.io", "", "", "v1", "" },
    { "localhost:5000/ab/c@sha256:" HEX, "localhost:5000", "", "", "", "sha256:" HEX },
    { "ghcr.io/a//b", NULL, NULL, NULL, NULL, NULL },
    { "ghcr.io/a/B", NULL, NULL, NULL, NULL, NULL },
    { "ghcr.io/", NULL, NULL, NULL, NULL, NULL },
    { "ghcr.io/a/..", NULL, NULL, NULL, NULL, NULL },
    { "", NULL, NULL, NULL, NULL, NULL },
    { "digits", NULL, NULL, NULL, NULL, NULL },
    { "digits:v1", NULL, NULL, NULL, NULL, NULL },
    { "/digits", NULL, NULL, NULL, NULL, NULL },
    { "default/", NULL, NULL, NULL, NULL, NULL },
    { "default/digits:", NULL, NULL, NULL, NULL, NULL },
    { "default/digits@", NULL, NULL, NULL, NULL, NULL },
    { "default/digits@sha256:12", NULL, NULL, NULL, NULL, NULL },
    { "default/a/b", NULL, NULL, NULL, NULL, NULL },
    { "default/Digits", NULL, NULL, NULL, NULL, NULL },
    { "default/..", NULL, NULL, NULL, NULL, NULL },
    { "default/a___b", NULL, NULL, NULL, NULL, NULL },
    { "default/a..b", NULL, NULL, NULL, NULL, NULL },
    { "default/a.-b", NULL, NULL, NULL, NULL, NULL },
    { "default/a-", NULL, NULL, NULL, NULL, NULL },
    { "default/digits:-v", NULL, NULL, NULL, NULL, NULL },
    { "default/digits:v/1", NULL, NULL, NULL, NULL, NULL },
    { "evil host.example/default/digits", NULL, NULL, NULL, NULL, NULL },
    { "user@host.example/default/digits", NULL, NULL, NULL, NULL, NULL },
};

static void is(struct slice got, const char *wanted)
{
    char text[400];
    snprintf(text, sizeof text, "%.*s", SLICE_FMT(got));
    assert_string_equal(text, wanted);
}

static void test_parse(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct reference reference;
        struct err err;
        int r = reference_parse(slice_of(rows[i].text), &reference, &err);
        print_message("  '%s'\n", rows[i].text);
        if (!rows[i].project) {
            assert_true(r < 0 && err.message[0]);
            continue;
        }
        assert_int_equal(r, 0);
        is(reference.host, rows[i].host);
        is(reference.project, rows[i].project);
        is(reference.name, rows[i].name);
        is(reference.tag, rows[i].tag);
        is(reference.digest, rows[i].digest);
    }
}

static const struct {
    const char *text;
    bool good;
} hosts[] = {
    { "ghcr.io", true },        { "localhost", true },
    { "localhost:5000", true }, { "[::1]:5000", true },
    { "GHCR.io", true },        { "", false },
    { "ghcr", false },          { "ghcr.io/a", false },
    { "user@ghcr.io", false },  { "https://ghcr.io", false },
    { "a b.c", false },
};

static void test_hosts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        print_message("  '%s'\n", hosts[i].text);
        assert_int_equal(reference_check_host(slice_of(hosts[i].text), NULL) == 0, hosts[i].good);
    }
}

static void test_lengths(void **state)
{
    char text[160];
    (void)state;
    memset(text, 'a', sizeof text);
    assert_int_equal(reference_check_name((struct slice){ text, REFERENCE_NAME_MAX }, NULL), 0);
    assert_true(reference_check_name((struct slice){ text, REFERENCE_NAME_MAX + 1 }, NULL) < 0);
    assert_int_equal(reference_check_tag((struct slice){ text, REFERENCE_TAG_MAX }, NULL), 0);
    assert_true(reference_check_tag((struct slice){ text, REFERENCE_TAG_MAX + 1 }, NULL) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_parse), cmocka_unit_test(test_hosts),
                                        cmocka_unit_test(test_lengths) };
    return cmocka_run_group_tests_name("reference", tests, NULL, NULL);
}
