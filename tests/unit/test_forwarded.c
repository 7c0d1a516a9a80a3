/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/forwarded.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <string.h>

#include "base/err.h"

/* 10/8 is trusted. */
static bool trusts(const struct ip *ip, void *data)
{
    struct ip_block block;
    (void)data;
    return ip_block_parse(SLICE("10.0.0.0/8"), &block, NULL) == 0 && ip_block_has(&block, ip);
}

#define ERROR ((enum forwarded_kind)99)
#define LONG                                                                                       \
    "a-name-of-sixty-four-bytes-1234567890-1234567890-1234567890-xyz-"                             \
    "a-name-of-sixty-four-bytes-1234567890-1234567890-1234567890-xyz-"

static const struct {
    const char *forwarded, *forwarded_more, *plain; /* header lines; NULL: not there */
    enum forwarded_kind kind;
    const char *ip;
    uint16_t port;
} rows[] = {
    { NULL, NULL, NULL, FORWARDED_NONE, NULL, 0 },
    { NULL, NULL, "203.0.113.7", FORWARDED_IP, "203.0.113.7", 0 },
    { NULL, NULL, "203.0.113.7:99", FORWARDED_IP, "203.0.113.7", 99 },
    { NULL, NULL, "2001:db8::7", FORWARDED_IP, "2001:db8::7", 0 },
    { NULL, NULL, "[2001:db8::7]:99", FORWARDED_IP, "2001:db8::7", 99 },
    /* what stands before the first that is not trusted is the client's own word */
    { NULL, NULL, "192.0.2.1, 203.0.113.7", FORWARDED_IP, "203.0.113.7", 0 },
    { NULL, NULL, "192.0.2.1, 203.0.113.7, 10.1.1.1,10.2.2.2", FORWARDED_IP, "203.0.113.7", 0 },
    { NULL, NULL, "rubbish, 203.0.113.7", FORWARDED_IP, "203.0.113.7", 0 },
    { NULL, NULL, "rubbish, 10.1.1.1", ERROR, NULL, 0 },
    { NULL, NULL, "203.0.113.7, rubbish", ERROR, NULL, 0 },
    { NULL, NULL, "10.1.1.1, 10.2.2.2", FORWARDED_IP, "10.1.1.1", 0 },
    { NULL, NULL, "203.0.113.7, unknown", FORWARDED_UNKNOWN, NULL, 0 },
    { NULL, NULL, " , 203.0.113.7 ,", FORWARDED_IP, "203.0.113.7", 0 },
    { NULL, NULL, "", FORWARDED_NONE, NULL, 0 },
    { NULL, NULL, "203.0.113.7:99999", ERROR, NULL, 0 },
    { NULL, NULL, "203.0.113.7/32", ERROR, NULL, 0 },
    /* ports, names in their place, brackets */
    { NULL, NULL, "203.0.113.7:", ERROR, NULL, 0 },
    { NULL, NULL, "203.0.113.7:http", ERROR, NULL, 0 },
    { NULL, NULL, "203.0.113.7:123456", ERROR, NULL, 0 },
    { NULL, NULL, "203.0.113.7:_P.o-r_T9", FORWARDED_IP, "203.0.113.7", 0 },
    { NULL, NULL, "unknown:80", FORWARDED_UNKNOWN, NULL, 0 },
    { NULL, NULL, "_", ERROR, NULL, 0 },
    { NULL, NULL, "_a!b", ERROR, NULL, 0 },
    { NULL, NULL, "_a~", ERROR, NULL, 0 },
    { NULL, NULL, "_a[", ERROR, NULL, 0 },
    { NULL, NULL, "_a@", ERROR, NULL, 0 },
    { NULL, NULL, "[2001:db8::7]:_p", FORWARDED_IP, "2001:db8::7", 0 },
    { NULL, NULL, "[2001:db8::7", ERROR, NULL, 0 },
    { NULL, NULL, "[2001:db8::7]80", ERROR, NULL, 0 },
    { NULL, NULL, "[2001:db8::x]", ERROR, NULL, 0 },
    { NULL, NULL, "[]", ERROR, NULL, 0 },
    { "for=203.0.113.7", NULL, NULL, FORWARDED_IP, "203.0.113.7", 0 },
    { "", NULL, NULL, FORWARDED_NONE, NULL, 0 },
    { " \t, ", NULL, NULL, FORWARDED_NONE, NULL, 0 },
    { "\tfor=192.0.2.43;", NULL, NULL, FORWARDED_IP, "192.0.2.43", 0 },
    { "for=192.0.2.43;\t", NULL, NULL, FORWARDED_IP, "192.0.2.43", 0 },
    { "for=\"\"", NULL, NULL, ERROR, NULL, 0 },
    { "\"for\"=192.0.2.43", NULL, NULL, ERROR, NULL, 0 },
    { "for=\"x\", for=192.0.2.43", NULL, NULL, FORWARDED_IP, "192.0.2.43", 0 },
    { "for=192.0.2.43, by=_proxy", NULL, NULL, FORWARDED_UNKNOWN, NULL, 0 },
    { "a-name-longer-than-any=1;for=192.0.2.43", NULL, NULL, FORWARDED_IP, "192.0.2.43", 0 },
    { "host=\"a-long-host." LONG "\";for=192.0.2.43", NULL, NULL, FORWARDED_IP, "192.0.2.43", 0 },
    { "for=\"_" LONG "\"", NULL, NULL, FORWARDED_UNKNOWN, NULL, 0 },
    { "For=\"[2001:db8:cafe::17]:4711\"", NULL, NULL, FORWARDED_IP, "2001:db8:cafe::17", 4711 },
    { "for=192.0.2.60;proto=http;by=203.0.113.43", NULL, NULL, FORWARDED_IP, "192.0.2.60", 0 },
    { "proto=http ; for=\"192.0.2.60:5\"", NULL, NULL, FORWARDED_IP, "192.0.2.60", 5 },
    { "for=192.0.2.43, for=198.51.100.17", NULL, NULL, FORWARDED_IP, "198.51.100.17", 0 },
    { "for=192.0.2.43, for=10.0.0.1", NULL, NULL, FORWARDED_IP, "192.0.2.43", 0 },
    { "for=192.0.2.43", "for=10.0.0.1", NULL, FORWARDED_IP, "192.0.2.43", 0 },
    { "for=_hidden", NULL, NULL, FORWARDED_UNKNOWN, NULL, 0 },
    { "for=\"_hidden:_port\"", NULL, NULL, FORWARDED_UNKNOWN, NULL, 0 },
    { "for=unknown", NULL, NULL, FORWARDED_UNKNOWN, NULL, 0 },
    { "proto=https", NULL, NULL, FORWARDED_UNKNOWN, NULL, 0 },
    { "for=\"192.0.2.43\\, for=x\", for=198.51.100.17", NULL, NULL, FORWARDED_IP, "198.51.100.17",
      0 },
    { "for=192.0.2.43;for=192.0.2.44", NULL, NULL, ERROR, NULL, 0 },
    { "for=2001:db8::7", NULL, NULL, ERROR, NULL, 0 }, /* must be quoted */
    { "for=\"2001:db8::7\"", NULL, NULL, ERROR, NULL, 0 },
    { "for=\"192.0.2.43, for=198.51.100.17", NULL, NULL, ERROR, NULL, 0 },
    { "for=\"192.0.2.43\\", NULL, NULL, ERROR, NULL, 0 },
    { "for", NULL, NULL, ERROR, NULL, 0 },
    { "for=", NULL, NULL, ERROR, NULL, 0 },
    { "=192.0.2.43", NULL, NULL, ERROR, NULL, 0 },
    { "for=192.0.2.43 by=x", NULL, NULL, ERROR, NULL, 0 },
    { "for=\"[192.0.2.43]\"", NULL, NULL, ERROR, NULL, 0 },
    { ";;for=192.0.2.43;;,,", NULL, NULL, FORWARDED_IP, "192.0.2.43", 0 },
    { "for=203.0.113.7", NULL, "203.0.113.7", FORWARDED_IP, "203.0.113.7", 0 },
    { "for=192.0.2.1", NULL, "203.0.113.7", ERROR, NULL, 0 },
    { "for=unknown", NULL, "_hidden", FORWARDED_UNKNOWN, NULL, 0 },
    { "for=unknown", NULL, "203.0.113.7", ERROR, NULL, 0 },
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_header lines[4];
        struct http_headers headers = { lines, 0 };
        struct forwarded client = {};
        struct err err = {};
        char text[IP_TEXT_BYTES];
        lines[headers.count++] = HTTP_HEADER("Host", SLICE("localhost"));
        if (rows[i].forwarded)
            lines[headers.count++] = HTTP_HEADER("forwarded", slice_of(rows[i].forwarded));
        if (rows[i].forwarded_more)
            lines[headers.count++] = HTTP_HEADER("Forwarded", slice_of(rows[i].forwarded_more));
        if (rows[i].plain)
            lines[headers.count++] = HTTP_HEADER("X-Forwarded-For", slice_of(rows[i].plain));
        int r = forwarded_client(&headers, trusts, NULL, &client, &err);
        print_message("  %s | %s: %s\n", rows[i].forwarded, rows[i].plain, err.message);
        assert_int_equal(r, rows[i].kind == ERROR ? ERR_BAD_INPUT : 0);
        if (r < 0)
            continue;
        assert_int_equal(client.kind, rows[i].kind);
        if (client.kind != FORWARDED_IP)
            continue;
        assert_string_equal(ip_text(&client.ip, text), rows[i].ip);
        assert_int_equal(client.port, rows[i].port);
    }
}

static void test_many_hops(void **state)
{
    char text[64 * 12] = "203.0.113.7";
    (void)state;
    for (int hops = 1; hops <= 40; hops++) {
        struct http_header line = HTTP_HEADER("X-Forwarded-For", SLICE(""));
        struct http_headers headers = { &line, 1 };
        struct forwarded client;
        strcat(text, ", 10.0.0.1");
        line.value = slice_of(text);
        int r = forwarded_client(&headers, trusts, NULL, &client, NULL);
        assert_int_equal(r, hops < FORWARDED_HOPS_MAX ? 0 : ERR_BAD_INPUT);
        if (r == 0)
            assert_int_equal(client.ip.bytes[15], 7);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_many_hops),
    };
    return cmocka_run_group_tests_name("forwarded", tests, NULL, NULL);
}
