/* SPDX-License-Identifier: Apache-2.0 */
#include "http/fetch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/err.h"

static const struct {
    const char *base, *text;
    const char *url, *origin, *host; /* NULL: refused */
    bool plain;
} rows[] = {
    { NULL, "https://ghcr.io/v2/", "https://ghcr.io/v2/", "https://ghcr.io:443", "ghcr.io", false },
    { NULL, "http://LocalHost:5000/v2/?n=1", "http://LocalHost:5000/v2/?n=1",
      "http://localhost:5000", "localhost", true },
    { NULL, "https://[::1]:5000/", "https://[::1]:5000/", "https://[::1]:5000", "[::1]", false },
    { "https://a.example/v2/x/blobs/1", "/store/2?s=3", "https://a.example/store/2?s=3",
      "https://a.example:443", "a.example", false },
    { "https://a.example/v2/x/blobs/1", "2", "https://a.example/v2/x/blobs/2",
      "https://a.example:443", "a.example", false },
    { "https://a.example/v2/", "//b.example/c", "https://b.example/c", "https://b.example:443",
      "b.example", false },
    { "https://a.example/v2/", "http://b.example:443/", "http://b.example:443/",
      "http://b.example:443", "b.example", true },
    { "https://a.example/v2/", "file:///etc/passwd", NULL, NULL, NULL, false },
    { "https://a.example/v2/", "ftp://b.example/", NULL, NULL, NULL, false },
    { "https://a.example/v2/", "gopher://b.example/", NULL, NULL, NULL, false },
    { "https://a.example/v2/", "https://user@b.example/", NULL, NULL, NULL, false },
    { "https://a.example/v2/", "https://user:pass@b.example/", NULL, NULL, NULL, false },
    { "https://a.example/v2/", "https://b.example:port/", NULL, NULL, NULL, false },
    { NULL, "/v2/", NULL, NULL, NULL, false },
    { NULL, "", NULL, NULL, NULL, false },
};

static void test_url(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena *arena = arena_new();
        struct fetch_url url = {};
        struct err err;
        print_message("  '%s'\n", rows[i].text);
        int r = fetch_url(arena, rows[i].base, rows[i].text, &url, &err);
        assert_int_equal(r, rows[i].url ? 0 : ERR_BAD_INPUT);
        if (r == 0) {
            assert_string_equal(url.url, rows[i].url);
            assert_string_equal(url.origin, rows[i].origin);
            assert_string_equal(url.host, rows[i].host);
            assert_int_equal(url.plain, rows[i].plain);
        }
        arena_free(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_url) };
    return cmocka_run_group_tests_name("fetch", tests, NULL, NULL);
}
