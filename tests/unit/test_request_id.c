/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/request_id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */

#include "proto/http.h"

#define SIXTEEN "0123456789abcdef"
#define LONGEST SIXTEEN SIXTEEN SIXTEEN SIXTEEN

static const struct {
    const char *sent; /* NULL: none */
    bool good;
} rows[] = {
    { NULL, false },
    { "", false },
    { "7f3a0c9d2e4b6a81", true },
    { "Order_7.retry-2", true },
    { LONGEST, true },
    { LONGEST "0", false },
    { "a b", false },
    { "a/b", false },
    { "caf\xc3\xa9", false },
};

static void test_a_clients_own(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_header header = HTTP_HEADER("x-request-id", slice_of(rows[i].sent));
        const struct http_request request = {
            .headers = { .items = &header, .count = rows[i].sent ? 1 : 0 },
        };
        char id[REQUEST_ID_BYTES] = "as it was";
        print_message("  %s\n", rows[i].sent ? rows[i].sent : "none");
        assert_int_equal(request_id_take(&request, id), rows[i].good);
        assert_string_equal(id, rows[i].good ? rows[i].sent : "as it was");
    }
}

static void test_one_that_is_made(void **state)
{
    char id[REQUEST_ID_BYTES];
    (void)state;
    request_id_make(0xabc, id);
    assert_string_equal(id, "0000000000000abc");
    request_id_make(UINT64_MAX, id);
    assert_string_equal(id, "ffffffffffffffff");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_clients_own),
        cmocka_unit_test(test_one_that_is_made),
    };
    return cmocka_run_group_tests_name("request_id", tests, NULL, NULL);
}
