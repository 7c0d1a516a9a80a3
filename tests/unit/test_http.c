/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of a message whatever its version: names, escapes, targets, queries. */
#include "proto/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/err.h"

static void test_methods(void **state)
{
    (void)state;
    for (int method = 0; method < HTTP_METHOD_OTHER; method++)
        assert_int_equal(http_method_of(slice_of(http_method_text(method))), method);
    assert_int_equal(http_method_of(SLICE("get")), HTTP_METHOD_OTHER);
    assert_string_equal(http_method_text(HTTP_METHOD_OTHER), "OTHER");
    assert_string_equal(http_reason(200), "OK");
    assert_string_equal(http_reason(404), "Not Found");
    assert_string_equal(http_reason(299), "");
}

static void test_headers(void **state)
{
    struct http_header items[] = {
        HTTP_HEADER("Host", SLICE("a")),
        HTTP_HEADER("List", SLICE("one, Two")),
        HTTP_HEADER("hosT", SLICE("b")),
        HTTP_HEADER("LIST", SLICE(",three")),
    };
    struct http_headers headers = { items, 4 };
    (void)state;
    assert_ptr_equal(http_header_find(&headers, "host"), &items[0]);
    assert_null(http_header_find(&headers, "post"));
    assert_null(http_header_find(&headers, "hosts"));
    assert_true(slice_is(http_header_get(&headers, "list"), "one, Two"));
    assert_null(http_header_get(&headers, "none").data);
    assert_int_equal(http_header_count(&headers, "host"), 2);
    assert_int_equal(http_header_count(&headers, "none"), 0);
    assert_true(http_header_has_token(&headers, "list", "two"));
    assert_true(http_header_has_token(&headers, "list", "THREE"));
    assert_false(http_header_has_token(&headers, "list", "tw"));
    assert_false(http_header_has_token(&headers, "none", "two"));
}

static void test_names_and_values(void **state)
{
    static const struct {
        struct slice text;
        bool name, value;
    } texts[] = {
        { SLICE(""), false, true },      { SLICE("X-1~"), true, true },
        { SLICE("a b"), false, true },   { SLICE("a:"), false, true },
        { SLICE("a\tb"), false, true },  { SLICE("a\0b"), false, false },
        { SLICE("\x1f"), false, false }, { SLICE("\x7f"), false, false },
        { SLICE("\xe4"), false, true },  { SLICE("{"), false, true },
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        print_message("  %zu\n", i);
        assert_int_equal(http_name_valid(texts[i].text), texts[i].name);
        assert_int_equal(http_value_valid(texts[i].text), texts[i].value);
    }
}

static void test_escapes(void **state)
{
    static const struct {
        const char *text, *path, *query; /* NULL: refused */
    } rows[] = {
        { "", "", "" },
        { "plain", "plain", "plain" },
        { "a%2Fb", "a/b", "a/b" },
        { "a%2fb%C3%a4", "a/b\xc3\xa4", "a/b\xc3\xa4" },
        { "a+b", "a+b", "a b" },
        { "a+b%20", "a+b ", "a b " },
        { "%", NULL, NULL },
        { "%4", NULL, NULL },
        { "a%zz", NULL, NULL },
        { "a%4z", NULL, NULL },
        { "a%4/", NULL, NULL },
        { "%00", NULL, NULL },
    };
    struct arena *arena = arena_new();
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int plus = 0; plus <= 1; plus++) {
            const char *wanted = plus ? rows[i].query : rows[i].path;
            struct slice decoded;
            struct err err;
            print_message("  '%s' %d\n", rows[i].text, plus);
            int r = http_percent_decode(arena, slice_of(rows[i].text), plus, &decoded, &err);
            assert_int_equal(r, wanted ? 0 : ERR_BAD_INPUT);
            if (wanted)
                assert_true(slice_is(decoded, wanted));
        }
    assert_true(slice_is(http_percent_encode(arena, SLICE("a/B~ 9\xff")), "a%2FB~%209%FF"));
    assert_int_equal(http_percent_encode(arena, SLICE("")).size, 0);
    arena_free(arena);
}

static void test_authorities(void **state)
{
    static const struct {
        const char *text, *host; /* NULL: refused */
        unsigned port;
    } rows[] = {
        { "a", "a", 0 },
        { "a.B-1:80", "a.B-1", 80 },
        { "a:", "a", 0 },
        { "[::1]", "::1", 0 },
        { "[::1]:8000", "::1", 8000 },
        { "[::ffff:1.2.3.4]:1", "::ffff:1.2.3.4", 1 },
        { "", NULL, 0 },
        { ":80", NULL, 0 },
        { "a:65536", NULL, 0 },
        { "a:x", NULL, 0 },
        { "a:1x", NULL, 0 },
        { "a:-1", NULL, 0 },
        { "a b", NULL, 0 },
        { "u@a", NULL, 0 },
        { "a/b", NULL, 0 },
        { "[::1", NULL, 0 },
        { "[::1]x", NULL, 0 },
        { "[::g]", NULL, 0 },
        { "[]", NULL, 0 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct slice host;
        uint16_t port;
        struct err err;
        print_message("  '%s'\n", rows[i].text);
        int r = http_authority_parse(slice_of(rows[i].text), &host, &port, &err);
        assert_int_equal(r, rows[i].host ? 0 : ERR_BAD_INPUT);
        if (rows[i].host) {
            assert_true(slice_is(host, rows[i].host));
            assert_int_equal(port, rows[i].port);
        }
    }
}

static void test_targets(void **state)
{
    static const struct {
        enum http_method method;
        const char *text, *path, *query, *authority; /* path NULL: refused */
    } rows[] = {
        { HTTP_GET, "/", "/", "", "" },
        { HTTP_GET, "/a//b?c?d", "/a//b", "c?d", "" },
        { HTTP_GET, "/?", "/", "", "" },
        { HTTP_GET, "http://h", "/", "", "h" },
        { HTTP_GET, "http://h:1?q", "/", "q", "h:1" },
        { HTTP_GET, "HTTPS://h/p?q", "/p", "q", "h" },
        { HTTP_OPTIONS, "*", "*", "", "" },
        { HTTP_CONNECT, "h:80", "", "", "h:80" },
        { HTTP_GET, "", NULL, NULL, NULL },
        { HTTP_GET, "*", NULL, NULL, NULL },
        { HTTP_GET, "h:80", NULL, NULL, NULL },
        { HTTP_GET, "ftp://h/", NULL, NULL, NULL },
        { HTTP_GET, "http:/h", NULL, NULL, NULL },
        { HTTP_GET, "/a b", NULL, NULL, NULL },
        { HTTP_GET, "/a#b", NULL, NULL, NULL },
        { HTTP_GET, "/\x7f", NULL, NULL, NULL },
        { HTTP_GET, "/\xc3\xa4", NULL, NULL, NULL },
        { HTTP_GET, "/a/%4", NULL, NULL, NULL },
        { HTTP_GET, "/%00/a", NULL, NULL, NULL },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct http_request request = { .method = rows[i].method,
                                        .target = slice_of(rows[i].text) };
        struct err err;
        print_message("  '%s'\n", rows[i].text);
        int r = http_target_parse(arena, &request, &err);
        assert_int_equal(r, rows[i].path ? 0 : ERR_BAD_INPUT);
        if (rows[i].path) {
            assert_true(slice_is(request.path, rows[i].path));
            assert_true(slice_is(request.query, rows[i].query));
            assert_true(slice_is(request.authority, rows[i].authority));
        }
        arena_free(arena);
    }
}

static void test_queries(void **state)
{
    static const struct {
        const char *text;
        int count; /* -1: refused */
        const char *name, *value;
    } rows[] = {
        { "", 0, NULL, NULL },
        { "a=1", 1, "a", "1" },
        { "a", 1, "a", "" },
        { "=1", 1, "", "1" },
        { "&&=&a=b=c&", 1, "a", "b=c" },
        { "a+b=%41+c&x", 2, "a b", "A c" },
        { "%4=1", -1, NULL, NULL },
        { "a=%zz", -1, NULL, NULL },
    };
    struct arena *arena = arena_new();
    char many[HTTP_PARAMETERS_MAX * 2 + 2];
    struct http_parameters parameters;
    struct err err;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        print_message("  '%s'\n", rows[i].text);
        int r = http_query_parse(arena, slice_of(rows[i].text), &parameters, &err);
        assert_int_equal(r, rows[i].count < 0 ? ERR_BAD_INPUT : 0);
        if (rows[i].count < 0)
            continue;
        assert_int_equal(parameters.count, rows[i].count);
        assert_null(http_parameter_find(&parameters, "nobody"));
        if (rows[i].name)
            assert_true(
                slice_is(http_parameter_find(&parameters, rows[i].name)->value, rows[i].value));
    }
    for (size_t i = 0; i < sizeof many; i += 2)
        memcpy(many + i, "a&", 2);
    assert_int_equal(
        http_query_parse(arena, (struct slice){ many, sizeof many - 2 }, &parameters, &err),
        ERR_BAD_INPUT);
    assert_int_equal(
        http_query_parse(arena, (struct slice){ many, sizeof many - 3 }, &parameters, &err), 0);
    assert_int_equal(parameters.count, HTTP_PARAMETERS_MAX);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods),          cmocka_unit_test(test_headers),
        cmocka_unit_test(test_names_and_values), cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_authorities),      cmocka_unit_test(test_targets),
        cmocka_unit_test(test_queries),
    };
    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
