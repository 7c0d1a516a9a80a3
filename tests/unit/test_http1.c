/* SPDX-License-Identifier: Apache-2.0 */
/* Heads and chunked framing, each row whole and byte by byte. */
#include "proto/http1.h"

#include "base/arena.h"
#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h> /* after the four above */

#define HOST "Host: a\r\n"
#define SIXTEEN "0123456789abcdef"
#define SPACES "                                                                                "

static const struct http1_limits limits = {
    .target_bytes_max = 64,
    .head_bytes_max = 128,
    .headers_max = 4,
};

static const struct {
    const char *name, *head;
    int status; /* 0: fine */
    enum http1_framing framing;
    uint64_t length;
    bool close;
} rows[] = {
    { "a plain GET", "GET / HTTP/1.1\r\n" HOST "\r\n", 0, HTTP1_BODY_NONE, 0, false },
    { "empty lines before it", "\r\n\r\nGET / HTTP/1.1\r\n" HOST "\r\n", 0, 0, 0, false },
    { "asked to close", "GET / HTTP/1.1\r\n" HOST "Connection: x, Close\r\n\r\n", 0, 0, 0, true },
    { "1.0 closes", "GET / HTTP/1.0\r\n\r\n", 0, 0, 0, true },
    { "1.0 may stay", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 0, 0, 0, false },
    { "a length", "POST / HTTP/1.1\r\n" HOST "Content-Length: 12\r\n\r\n", 0, HTTP1_BODY_LENGTH, 12,
      false },
    { "a length of nothing", "POST / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 0, 0, 0,
      false },
    { "chunked", "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\n", 0,
      HTTP1_BODY_CHUNKED, 0, false },
    { "an absolute target", "GET http://b:80/x HTTP/1.1\r\n" HOST "\r\n", 0, 0, 0, false },
    { "options for all", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 0, 0, 0, false },
    { "an IPv6 host", "GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", 0, 0, 0, false },
    { "an empty value", "GET / HTTP/1.1\r\n" HOST "X:\r\nY: \r\n\r\n", 0, 0, 0, false },
    { "a target at the limit",
      "GET /" SIXTEEN SIXTEEN SIXTEEN "0123456789abcde HTTP/1.1\r\n" HOST "\r\n", 0, 0, 0, false },

    { "no host", "GET / HTTP/1.1\r\n\r\n", 400, 0, 0, false },
    { "two hosts", "GET / HTTP/1.1\r\n" HOST HOST "\r\n", 400, 0, 0, false },
    { "an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, 0, 0, false },
    { "a host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, 0, 0, false },
    { "a host with a user", "GET / HTTP/1.1\r\nHost: u@b\r\n\r\n", 400, 0, 0, false },
    { "a host with a bad port", "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", 400, 0, 0, false },
    { "a bad host behind a good target", "GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n", 400, 0, 0,
      false },
    { "both framings",
      "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, 0,
      0, false },
    { "both, the other way round",
      "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400, 0,
      0, false },
    { "two lengths", "POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
      400, 0, 0, false },
    { "a list of lengths", "POST / HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\n", 400, 0, 0,
      false },
    { "a signed length", "POST / HTTP/1.1\r\n" HOST "Content-Length: +5\r\n\r\n", 400, 0, 0,
      false },
    { "a negative length", "POST / HTTP/1.1\r\n" HOST "Content-Length: -5\r\n\r\n", 400, 0, 0,
      false },
    { "an empty length", "POST / HTTP/1.1\r\n" HOST "Content-Length: \r\n\r\n", 400, 0, 0, false },
    { "a hexadecimal length", "POST / HTTP/1.1\r\n" HOST "Content-Length: 0x5\r\n\r\n", 400, 0, 0,
      false },
    { "a length beyond 64 bits",
      "POST / HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999\r\n\r\n", 400, 0, 0, false },
    { "an unknown coding", "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n", 501, 0, 0,
      false },
    { "an unknown coding first",
      "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", 501, 0, 0, false },
    { "chunked not last", "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, gzip\r\n\r\n",
      400, 0, 0, false },
    { "chunked twice", "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, chunked\r\n\r\n",
      400, 0, 0, false },
    { "chunked twice, two lines",
      "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
      400, 0, 0, false },
    { "chunked in quotes", "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: \"chunked\"\r\n\r\n", 501,
      0, 0, false },
    { "an empty coding", "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n\r\n", 400, 0, 0,
      false },
    { "chunked in 1.0", "POST / HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", 400, 0, 0,
      false },
    { "obs-fold", "GET / HTTP/1.1\r\n" HOST "X: a\r\n b\r\n\r\n", 400, 0, 0, false },
    { "a space before the first line", "GET / HTTP/1.1\r\n X: a\r\n" HOST "\r\n", 400, 0, 0,
      false },
    { "a space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, 0, 0, false },
    { "a bare line feed", "GET / HTTP/1.1\n" HOST "\n", 400, 0, 0, false },
    { "a bare line feed later", "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400, 0, 0, false },
    { "a bare carriage return", "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400, 0, 0, false },
    { "a control character", "GET / HTTP/1.1\r\n" HOST "X: \x01\r\n\r\n", 400, 0, 0, false },
    { "no colon", "GET / HTTP/1.1\r\n" HOST "X\r\n\r\n", 400, 0, 0, false },
    { "an empty name", "GET / HTTP/1.1\r\n" HOST ": x\r\n\r\n", 400, 0, 0, false },
    { "a space in the target", "GET /a b HTTP/1.1\r\n" HOST "\r\n", 400, 0, 0, false },
    { "two spaces", "GET  / HTTP/1.1\r\n" HOST "\r\n", 400, 0, 0, false },
    { "a bad escape", "GET /%zz HTTP/1.1\r\n" HOST "\r\n", 400, 0, 0, false },
    { "a cut escape", "GET /%4 HTTP/1.1\r\n" HOST "\r\n", 400, 0, 0, false },
    { "an escaped NUL", "GET /a%00 HTTP/1.1\r\n" HOST "\r\n", 400, 0, 0, false },
    { "a fragment", "GET /a#b HTTP/1.1\r\n" HOST "\r\n", 400, 0, 0, false },
    { "another scheme", "GET ftp://a/ HTTP/1.1\r\n" HOST "\r\n", 400, 0, 0, false },
    { "GET of all", "GET * HTTP/1.1\r\n" HOST "\r\n", 400, 0, 0, false },
    { "an unknown method", "FROB / HTTP/1.1\r\n" HOST "\r\n", 501, 0, 0, false },
    { "a small method", "get / HTTP/1.1\r\n" HOST "\r\n", 501, 0, 0, false },
    { "a PROXY header", "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", 400, 0, 0, false },
    { "a PROXY header without an end", "PROXY TCP4", 400, 0, 0, false },
    { "a method that begins like one", "PROFILE / HTTP/1.1\r\n" HOST "\r\n", 501, 0, 0, false },
    { "TLS", "\x16\x03\x01", 400, 0, 0, false },
    { "version 2", "GET / HTTP/2.0\r\n" HOST "\r\n", 505, 0, 0, false },
    { "version 0.9", "GET /\r\n\r\n", 505, 0, 0, false },
    { "version 1.2", "GET / HTTP/1.2\r\n" HOST "\r\n", 505, 0, 0, false },
    { "HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, 0, 0, false },
    { "another protocol", "GET / ICE/1.0\r\n" HOST "\r\n", 400, 0, 0, false },
    { "another expectation", "GET / HTTP/1.1\r\n" HOST "Expect: tea\r\n\r\n", 417, 0, 0, false },
    { "a long target", "GET /" SIXTEEN SIXTEEN SIXTEEN SIXTEEN " HTTP/1.1\r\n" HOST "\r\n", 414, 0,
      0, false },
    { "a long header",
      "GET / HTTP/1.1\r\n" HOST
      "X: " SIXTEEN SIXTEEN SIXTEEN SIXTEEN SIXTEEN SIXTEEN SIXTEEN SIXTEEN "\r\n\r\n",
      431, 0, 0, false },
    { "a long name",
      "GET / HTTP/1.1\r\n" HOST SIXTEEN SIXTEEN SIXTEEN SIXTEEN SIXTEEN SIXTEEN SIXTEEN SIXTEEN
      ": x\r\n\r\n",
      431, 0, 0, false },
    { "nothing but spaces", "GET / HTTP/1.1\r\n" HOST "X:" SPACES SPACES SPACES SPACES "a\r\n\r\n",
      431, 0, 0, false },
    { "an empty coding before chunked",
      "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: ,chunked\r\n\r\n", 0, HTTP1_BODY_CHUNKED, 0,
      false },
    { "an expectation in 1.0", "POST / HTTP/1.0\r\nExpect: tea\r\nContent-Length: 1\r\n\r\n", 0,
      HTTP1_BODY_LENGTH, 1, true },
    { "CONNECT in 1.0", "CONNECT a:80 HTTP/1.0\r\n\r\n", 0, 0, 0, true },
    { "no host for all in 1.0", "OPTIONS * HTTP/1.0\r\n\r\n", 400, 0, 0, false },
    { "a length beyond 63 bits",
      "POST / HTTP/1.1\r\n" HOST "Content-Length: 9223372036854775808\r\n\r\n", 400, 0, 0, false },
    { "many headers", "GET / HTTP/1.1\r\n" HOST "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n", 431, 0, 0,
      false },
};

static int parse(struct arena *arena, struct slice bytes, size_t step, struct http_request *request,
                 struct http1_head *head, struct err *err)
{
    struct http1_parser *parser = http1_parser_new(arena, true, &limits);
    for (size_t at = 0; at < bytes.size;) {
        size_t size = bytes.size - at < step ? bytes.size - at : step, used;
        char *part = (char *)arena_copy(arena, (struct slice){ bytes.data + at, size }).data;
        int r = http1_parse(parser, part, size, &used, err);
        memset(part, 'x', size); /* nothing may point there any more */
        if (r < 0)
            return r;
        at += used;
        if (r > 0) {
            assert_int_equal(at, bytes.size);
            return http1_request(parser, request, head, err);
        }
        assert_int_equal(used, size);
    }
    return 1;
}

static void test_requests(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t step = 1; step <= 1024; step *= 1024) {
            struct arena *arena = arena_new();
            struct http_request request;
            struct http1_head head = {};
            struct err err = {};
            print_message("  %s, by %zu\n", rows[i].name, step);
            int r = parse(arena, slice_of(rows[i].head), step, &request, &head, &err);
            assert_int_equal(r < 0 ? err_http(&err) : r, rows[i].status);
            if (r == 0) {
                assert_int_equal(head.framing, rows[i].framing);
                assert_int_equal(head.length, rows[i].length);
                assert_int_equal(head.keep_alive, !rows[i].close);
            }
            arena_free(arena);
        }
}

/* Answers, as our client reads them. */
static const struct {
    const char *name, *method, *head;
    int status; /* of the refusal; 0: fine */
    enum http1_framing framing;
    bool close;
} answers[] = {
    { "a length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", 0, HTTP1_BODY_LENGTH,
      false },
    { "nothing", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0, HTTP1_BODY_NONE, false },
    { "chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0,
      HTTP1_BODY_CHUNKED, false },
    { "to the end", "GET", "HTTP/1.1 200 OK\r\n\r\n", 0, HTTP1_BODY_TO_END, true },
    { "asked to close", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n",
      0, HTTP1_BODY_LENGTH, true },
    { "of HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", 0, HTTP1_BODY_NONE,
      false },
    { "204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", 0, HTTP1_BODY_NONE, false },
    { "304", "GET", "HTTP/1.1 304 Not Modified\r\n\r\n", 0, HTTP1_BODY_NONE, false },
    { "100", "GET", "HTTP/1.1 100 Continue\r\n\r\n", 0, HTTP1_BODY_NONE, false },
    { "1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", 0, HTTP1_BODY_LENGTH, true },
    { "version 2", "GET", "HTTP/2.0 200 OK\r\nContent-Length: 3\r\n\r\n", 502, 0, false },
    { "gzip", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", 501, 0, false },
    { "chunked not last", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400,
      0, false },
    { "chunked behind gzip", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
      501, 0, false },
    { "chunked in 1.0", "GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 400, 0,
      false },
    { "both framings", "GET",
      "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: gzip\r\n\r\n", 400, 0, false },
    { "two lengths", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
      400, 0, false },
    { "no length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 400, 0, false },
    { "obs-fold", "GET", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", 400, 0, false },
    { "a space first", "GET", "HTTP/1.1 200 OK\r\n X: a\r\n\r\n", 400, 0, false },
    { "no HTTP", "GET", "hello\r\n\r\n", 400, 0, false },
};

static void test_responses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        struct arena *arena = arena_new();
        struct http1_parser *parser = http1_parser_new(arena, false, &limits);
        struct slice text = slice_of(answers[i].head);
        struct http_response response;
        struct http1_head head = {};
        struct err err = {};
        size_t used;
        print_message("  %s\n", answers[i].name);
        assert_int_equal(http1_parse(parser, text.data, 0, &used, &err), 0);
        int r = http1_parse(parser, text.data, text.size, &used, &err);
        if (r > 0)
            r = http1_response(parser, answers[i].method, &response, &head, &err);
        assert_int_equal(r < 0 ? err_http(&err) : r, answers[i].status);
        if (r == 0) {
            assert_int_equal(head.framing, answers[i].framing);
            assert_int_equal(head.keep_alive, !answers[i].close);
        }
        arena_free(arena);
    }
}

/* Many headers, and one far longer than the room that is taken at first. */
static void test_large_head(void **state)
{
    static const struct http1_limits large = { 8192, 65536, 100 };
    struct arena *arena = arena_new();
    struct http_request request;
    struct http1_head head;
    struct err err;
    size_t used, size = 0, room = 20'000;
    char *text = arena_alloc(arena, room);
    (void)state;
    size += (size_t)snprintf(text, room, "GET / HTTP/1.1\r\n" HOST);
    for (int i = 0; i < 60; i++)
        size += (size_t)snprintf(text + size, room - size, "X-%d: %d\r\n", i, i);
    size += (size_t)snprintf(text + size, room - size, "Long: %09000d\r\n\r\n", 1);
    struct http1_parser *parser = http1_parser_new(arena, true, &large);
    assert_int_equal(http1_parse(parser, text, size, &used, &err), 1);
    assert_int_equal(http1_request(parser, &request, &head, &err), 0);
    assert_int_equal(request.headers.count, 62);
    assert_true(slice_is(http_header_get(&request.headers, "x-59"), "59"));
    assert_int_equal(http_header_get(&request.headers, "long").size, 9000);
    arena_free(arena);
}

static void test_nul(void **state)
{
    static const struct slice heads[] = {
        SLICE("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
        SLICE("GET / HTTP/1.1\r\nHost: a\r\nX\0Y: b\r\n\r\n"),
        SLICE("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n"),
        SLICE("GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n"),
        SLICE("GET / HTTP/1.1\0\r\nHost: a\r\n\r\n"),
        SLICE("GET / HTTP/1.1\r\nHost: a\r\n\0\r\n\r\n"),
    };
    (void)state;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        for (size_t step = 1; step <= 1024; step *= 1024) {
            struct arena *arena = arena_new();
            struct http_request request;
            struct http1_head h;
            struct err err;
            print_message("  head %zu, by %zu\n", i, step);
            assert_true(parse(arena, heads[i], step, &request, &h, &err) < 0);
            assert_int_equal(err_http(&err), 400);
            arena_free(arena);
        }
}

static void test_fields(void **state)
{
    struct arena *arena = arena_new();
    struct http_request request;
    struct http1_head head;
    struct err err;
    (void)state;
    assert_int_equal(0, parse(arena,
                              SLICE("POST /a%2Fb/c%20d/?q=1%2b2&x HTTP/1.1\r\n"
                                    "Host: Digits.localhost:8000\r\nX-A:  two words \t\r\n"
                                    "Expect: 100-Continue\r\nContent-Length: 3\r\n\r\n"),
                              3, &request, &head, &err));
    assert_int_equal(request.method, HTTP_POST);
    assert_true(slice_is(request.path, "/a%2Fb/c%20d/"));
    assert_true(slice_is(request.query, "q=1%2b2&x"));
    assert_int_equal(request.segment_count, 3);
    assert_true(slice_is(request.segments[0], "a/b"));
    assert_true(slice_is(request.segments[1], "c d"));
    assert_true(slice_is(request.segments[2], ""));
    assert_true(slice_is(request.host, "Digits.localhost"));
    assert_int_equal(request.port, 8000);
    assert_true(slice_is(http_header_get(&request.headers, "x-a"), "two words"));
    assert_true(request.expect_continue);
    assert_true(request.framed);

    struct http_parameters parameters;
    assert_int_equal(0, http_query_parse(arena, request.query, &parameters, &err));
    assert_int_equal(parameters.count, 2);
    assert_true(slice_is(http_parameter_find(&parameters, "q")->value, "1+2"));
    assert_true(slice_is(http_parameter_find(&parameters, "x")->value, ""));
    arena_free(arena);
}

static const struct {
    const char *path, *pattern;
    bool matches;
    const char *first, *second;
} paths[] = {
    { "/", "/", true, NULL, NULL },
    { "/a", "/", false, NULL, NULL },
    { "/v2/models/digits/infer", "/v2/models/{m}/infer", true, "digits", NULL },
    { "/v2/models/digits/versions/3/infer", "/v2/models/{m}/versions/{v}/infer", true, "digits",
      "3" },
    { "/v2/models/a%2Fb", "/v2/models/{m}", true, "a/b", NULL },
    { "/v2/models/a+b", "/v2/models/{m}", true, "a+b", NULL },
    { "/v2/models/", "/v2/models/{m}", false, NULL, NULL },
    { "/v2/models/x/", "/v2/models/{m}", false, NULL, NULL },
    { "/v2/models", "/v2/models/{m}", false, NULL, NULL },
    { "/f/a/b%20c", "/f/{p...}", true, "a/b%20c", NULL },
    { "/f/", "/f/{p...}", false, NULL, NULL },
};

static void test_paths(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct arena *arena = arena_new();
        struct http_request request = { .target = slice_of(paths[i].path) };
        struct slice parts[HTTP_PATH_PARTS_MAX] = {};
        struct err err;
        print_message("  %s\n", paths[i].path);
        assert_int_equal(0, http_target_parse(arena, &request, &err));
        assert_int_equal(http_path_match(&request, paths[i].pattern, parts), paths[i].matches);
        if (paths[i].first)
            assert_true(slice_is(parts[0], paths[i].first));
        if (paths[i].second)
            assert_true(slice_is(parts[1], paths[i].second));
        arena_free(arena);
    }
}

static const struct {
    const char *name, *bytes;
    int status;
    const char *data;
    size_t trailers;
} chunk_rows[] = {
    { "one", "5\r\nhello\r\n0\r\n\r\n", 0, "hello", 0 },
    { "two, with an extension", "5;a=\"b\"\r\nhello\r\n01\r\n!\r\n0\r\n\r\n", 0, "hello!", 0 },
    { "trailers", "0\r\nA: b\r\nHost: no\r\nC:d\r\n\r\n", 0, "", 2 },
    { "no size", "\r\n", 400, NULL, 0 },
    { "a sign", "+5\r\nhello\r\n", 400, NULL, 0 },
    { "0x", "0x5\r\nhello\r\n", 400, NULL, 0 },
    { "a space", "5 \r\nhello\r\n", 400, NULL, 0 },
    { "too many digits", "00000000000000005\r\n", 400, NULL, 0 },
    { "overflow", "ffffffffffffffff\r\n", 400, NULL, 0 },
    { "a bare line feed", "5\nhello\r\n", 400, NULL, 0 },
    { "more than said", "4\r\nhello\r\n", 400, NULL, 0 },
    { "line feed after data", "5\r\nhello\n", 400, NULL, 0 },
    { "a folded trailer", "0\r\nA: b\r\n c\r\n\r\n", 400, NULL, 0 },
    { "a trailer without colon", "0\r\nA\r\n\r\n", 400, NULL, 0 },
    { "a bare line feed in trailers", "0\r\nA: b\n\r\n", 400, NULL, 0 },
    { "a control character in an extension", "5;\x01\r\nhello\r\n", 400, NULL, 0 },
    { "a carriage return alone", "5\rhello\r\n", 400, NULL, 0 },
    { "a bad name of a trailer", "0\r\nA B: c\r\n\r\n", 400, NULL, 0 },
    { "a bad value of a trailer", "0\r\nA: \x01\r\n\r\n", 400, NULL, 0 },
    { "many trailers", "0\r\nA: b\r\nB: b\r\nC: c\r\n\r\n", 431, NULL, 0 },
    { "large trailers", "0\r\nA: " SIXTEEN SIXTEEN SIXTEEN SIXTEEN "\r\n\r\n", 431, NULL, 0 },
};

static int chunks_run(struct http1_chunks *chunks, struct slice bytes, size_t step, char *out,
                      struct err *err)
{
    for (size_t at = 0, used; at < bytes.size; at += used) {
        size_t size = bytes.size - at < step ? bytes.size - at : step;
        if (chunks->left) {
            used = size < chunks->left ? size : chunks->left;
            strncat(out, bytes.data + at, used);
            chunks->left -= used;
            continue;
        }
        int r = http1_chunks_next(chunks, bytes.data + at, size, &used, err);
        if (r < 0)
            return r;
        if (r == HTTP1_CHUNK_END) {
            assert_int_equal(at + used, bytes.size);
            return 0;
        }
    }
    return 1;
}

static void test_chunks(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof chunk_rows / sizeof *chunk_rows; i++)
        for (size_t step = 1; step <= 1024; step *= 1024) {
            struct arena *arena = arena_new();
            struct http1_chunks chunks = {
                .arena = arena,
                .trailer_bytes_max = 64,
                .trailers_max = 3,
            };
            char out[64] = "";
            struct err err;
            chunks.trailers_max = strstr(chunk_rows[i].name, "many") ? 2 : 3;
            print_message("  %s, by %zu\n", chunk_rows[i].name, step);
            int r = chunks_run(&chunks, slice_of(chunk_rows[i].bytes), step, out, &err);
            assert_int_equal(r < 0 ? err_http(&err) : r, chunk_rows[i].status);
            if (r == 0) {
                assert_string_equal(out, chunk_rows[i].data);
                assert_int_equal(chunks.trailers.count, chunk_rows[i].trailers);
            }
            arena_free(arena);
        }
}

/* An extension as long as may be, and trailers beyond the room that is taken at first. */
static void test_long_chunks(void **state)
{
    struct arena *arena = arena_new();
    struct http1_chunks chunks = { .arena = arena, .trailer_bytes_max = 4096, .trailers_max = 99 };
    struct http1_chunks again = chunks;
    char text[4096];
    struct err err;
    size_t used;
    (void)state;
    int size = snprintf(text, sizeof text, "0;%01024d\r\nA: %0900d\r\nB: c\r\n\r\n", 1, 1);
    assert_int_equal(http1_chunks_next(&chunks, text, (size_t)size, &used, &err), HTTP1_CHUNK_END);
    assert_int_equal(chunks.trailers.count, 2);
    assert_int_equal(chunks.trailers.items[0].value.size, 900);
    size = snprintf(text, sizeof text, "0;%01025d\r\n", 1);
    assert_int_equal(http1_chunks_next(&again, text, (size_t)size, &used, &err), ERR_BAD_INPUT);
    arena_free(arena);
}

static void test_prefix(void **state)
{
    char buffer[HTTP1_CHUNK_PREFIX_BYTES];
    (void)state;
    assert_int_equal(http1_chunk_prefix(buffer, 0x1a), 4);
    assert_memory_equal(buffer, "1a\r\n", 4);
    assert_int_equal(http1_chunk_prefix(buffer, UINT64_MAX), 18);
}

static void test_head_out(void **state)
{
    struct arena *arena = arena_new();
    (void)state;
    struct slice head =
        http1_write_head(arena, http1_status_line(arena, 404), SLICE("A: b\r\n"),
                         (struct http_header[]){ HTTP_HEADER("X", SLICE("evil\r\nY:\t1\x7f")) }, 1);
    assert_true(slice_is(head, "HTTP/1.1 404 Not Found\r\nA: b\r\nX: evil??Y:\t1?\r\n\r\n"));
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),   cmocka_unit_test(test_nul),
        cmocka_unit_test(test_fields),     cmocka_unit_test(test_paths),
        cmocka_unit_test(test_chunks),     cmocka_unit_test(test_prefix),
        cmocka_unit_test(test_head_out),   cmocka_unit_test(test_responses),
        cmocka_unit_test(test_large_head), cmocka_unit_test(test_long_chunks),
    };
    return cmocka_run_group_tests_name("http1", tests, NULL, NULL);
}
