/* SPDX-License-Identifier: Apache-2.0 */
/* Which header lines go further than one connection. */
#include "proto/end_to_end.h"

#include "base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h> /* after the five above */

enum { LINES_MAX = 6 };

static bool is_secret(struct slice name)
{
    return slice_equal_nocase(name, SLICE("X-Secret"));
}

static bool is_needed(struct slice name)
{
    return slice_equal_nocase(name, SLICE("X-Needed"));
}

static const struct {
    const char *name;
    struct {
        const char *name, *value;
    } lines[LINES_MAX];
    const char *left; /* by their first letters */
} rows[] = {
    { "nothing", {}, "" },
    { "all go", { { "Accept", "x" }, { "B", "" }, { "Cookie", "a=b" } }, "ABC" },
    { "those of one connection do not",
      { { "connection", "close" },
        { "KEEP-ALIVE", "5" },
        { "Te", "trailers" },
        { "Trailer", "x" },
        { "Upgrade", "h2c" },
        { "Accept", "x" } },
      "A" },
    { "nor what frames a body",
      { { "Content-Length", "5" }, { "Transfer-Encoding", "chunked" }, { "D", "x" } },
      "D" },
    { "nor what a proxy wants to know",
      { { "Proxy-Authorization", "x" },
        { "Proxy-Authenticate", "x" },
        { "Proxy-Connection", "x" },
        { "Proxy-Status", "x" } },
      "P" },
    { "nor what Connection names",
      { { "Connection", "close, b ,C" }, { "A", "" }, { "B", "" }, { "c", "" }, { "BC", "" } },
      "AB" },
    { "in any of its lines",
      { { "Connection", "close" }, { "B", "" }, { "Connection", "a" }, { "A", "" } },
      "B" },
    { "but what is needed",
      { { "Connection", "X-Needed, A" }, { "X-Needed", "" }, { "A", "" } },
      "X" },
    { "nor what is left out", { { "X-Secret", "" }, { "Y", "" } }, "Y" },
    { "one of Connection's own words is no header",
      { { "Connection", "keep-alive" }, { "Keep", "" } },
      "K" },
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_header lines[LINES_MAX];
        struct http_headers headers = { lines, 0 };
        struct arena *arena = arena_new();
        print_message("  %s\n", rows[i].name);
        for (; headers.count < LINES_MAX && rows[i].lines[headers.count].name; headers.count++)
            lines[headers.count] =
                (struct http_header){ slice_of(rows[i].lines[headers.count].name),
                                      slice_of(rows[i].lines[headers.count].value) };
        struct http_headers out = http_end_to_end(arena, &headers, is_secret, is_needed, 2);
        char left[LINES_MAX + 1] = "";
        for (size_t k = 0; k < out.count; k++)
            left[k] = out.items[k].name.data[0];
        assert_string_equal(left, rows[i].left);
        arena_free(arena);
    }
}

static void test_trailers(void **state)
{
    static const struct {
        const char *name;
        bool right;
    } all[] = {
        { "X-Checksum", true },         { "grpc-status", true },    { "Server-Timing", true },
        { "Content-Length", false },    { "Host", false },          { "transfer-encoding", false },
        { "Set-Cookie", false },        { "Authorization", false }, { "X-Forwarded-For", false },
        { "perigee-residency", false }, { "Connection", false },
    };
    struct http_header lines[sizeof all / sizeof *all];
    struct http_headers headers = { lines, 0 };
    struct arena *arena = arena_new();
    (void)state;

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        print_message("  %s\n", all[i].name);
        assert_int_equal(http_trailer_right(slice_of(all[i].name)), all[i].right);
        lines[headers.count++] = (struct http_header){ slice_of(all[i].name), SLICE("x") };
    }
    assert_int_equal(http_trailers_right(arena, &headers).count, 3);
    headers.count = 0;
    assert_int_equal(http_trailers_right(arena, &headers).count, 0);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_rows),
                                        cmocka_unit_test(test_trailers) };
    return cmocka_run_group_tests_name("end_to_end", tests, NULL, NULL);
}
