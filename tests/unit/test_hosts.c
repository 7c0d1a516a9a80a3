/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/hosts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include "base/arena.h"
#include "base/err.h"
#include "contract/table.h"

static const struct slice domains[] = { SLICE("ml.example.com") };
#define ENDPOINT_LIMITS                                                                            \
    .state = TABLE_ENDPOINT_RUNNING, .queue_depth = 8, .concurrency = 4, .queue_timeout_us = 1,    \
    .queue_cold_us = 1, .timeout_us = 1, .body_bytes_max = 1
static const struct table_source_endpoint endpoints[] = {
    { .uid = 1,
      .name = SLICE("digits"),
      .project = SLICE("default"),
      .domains = domains,
      .domain_count = 1,
      ENDPOINT_LIMITS },
    { .uid = 2, .name = SLICE("digits"), .project = SLICE("lab"), ENDPOINT_LIMITS },
    { .uid = 3, .name = SLICE("two-words"), .project = SLICE("default"), ENDPOINT_LIMITS },
};

static const struct {
    const char *host;
    enum host_kind kind;
    uint64_t uid;
} rows[] = {
    { "", HOST_ANY, 0 },
    { "localhost", HOST_ANY, 0 },
    { "LOCALHOST.", HOST_ANY, 0 },
    { "127.0.0.1", HOST_ANY, 0 },
    { "10.1.2.3", HOST_ANY, 0 },
    { "::1", HOST_ANY, 0 },
    { "fe80::1%eth0", HOST_ANY, 0 },
    { "perigee.test", HOST_ANY, 0 },
    { "digits.localhost", HOST_ENDPOINT, 1 },
    { "Digits.LocalHost", HOST_ENDPOINT, 1 },
    { "digits.perigee.test", HOST_ENDPOINT, 1 },
    { "digits.perigee.test.", HOST_ENDPOINT, 1 },
    { "digits--lab.perigee.test", HOST_ENDPOINT, 2 },
    { "digits--lab.localhost", HOST_ENDPOINT, 2 },
    { "digits--default.localhost", HOST_ENDPOINT, 1 },
    { "two-words.localhost", HOST_ENDPOINT, 3 },
    { "ml.example.com", HOST_ENDPOINT, 1 },
    { "ML.example.com", HOST_ENDPOINT, 1 },
    { "nothing.localhost", HOST_UNKNOWN, 0 },
    { "a.digits.localhost", HOST_UNKNOWN, 0 },
    { "digits--other.perigee.test", HOST_UNKNOWN, 0 },
    { "--lab.perigee.test", HOST_UNKNOWN, 0 },
    { ".localhost", HOST_FOREIGN, 0 },
    { "xlocalhost", HOST_FOREIGN, 0 },
    { "digitsperigee.test", HOST_FOREIGN, 0 },
    { "perigee.test.evil.example", HOST_FOREIGN, 0 },
    { "1.2.3.4.evil.example", HOST_FOREIGN, 0 },
    { "1.2.3", HOST_FOREIGN, 0 },
    { "sub.ml.example.com", HOST_FOREIGN, 0 },
    { ".", HOST_FOREIGN, 0 },
};

static void test_hosts(void **state)
{
    struct arena *arena = arena_new();
    struct table_source source = { .zone = SLICE("perigee.test"),
                                   .endpoints = endpoints,
                                   .endpoint_count = 3 };
    struct slice bytes;
    struct err err;
    (void)state;

    assert_int_equal(table_build(arena, &source, &bytes, &err), 0);
    const struct table_head *table = (const void *)bytes.data;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint32_t row = TABLE_NONE;
        print_message("  '%s'\n", rows[i].host);
        assert_int_equal(host_find(table, slice_of(rows[i].host), &row), rows[i].kind);
        if (rows[i].kind == HOST_ENDPOINT)
            assert_int_equal(table_endpoint(table, row)->uid, rows[i].uid);
    }
    arena_free(arena);
}

static const struct {
    const char *authority, *origin, *site;
    bool foreign;
} pages[] = {
    { "localhost:8000", "", "", false },
    { "localhost:8000", "http://localhost:8000", "same-origin", false },
    { "localhost:8000", "http://LOCALHOST:8000", "", false },
    { "localhost:8000", "http://localhost:3000", "same-site", true },
    { "localhost:8000", "https://localhost:8000", "", true },
    { "localhost:8000", "file://localhost:8000", "", true },
    { "localhost:8000", "http://evil.example", "cross-site", true },
    { "localhost:8000", "null", "", true },
    { "localhost:8000", "http", "", true },
    { "localhost:8000", "http://", "", true },
    { "localhost:8000", "", "cross-site", true },
    { "localhost:8000", "", "none", false },
    { "localhost:8000", "", "same-site", false },
};

static void test_pages(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        print_message("  '%s' '%s'\n", pages[i].origin, pages[i].site);
        assert_int_equal(host_foreign_page(SLICE("http"), slice_of(pages[i].authority),
                                           slice_of(pages[i].origin), slice_of(pages[i].site)),
                         pages[i].foreign);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_pages),
    };
    return cmocka_run_group_tests_name("hosts", tests, NULL, NULL);
}
