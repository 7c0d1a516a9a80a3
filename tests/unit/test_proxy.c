/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/proxy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h> /* after the four above */
#include <string.h>

#include "base/err.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define ADDRESSES4 "\xcb\x00\x71\x07\xc0\x00\x02\x01\xc8\x5b\x01\xbb"
#define ADDRESSES6                                                                                 \
    "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07"                             \
    "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xc8\x5b\x01\xbb"
#define BYTES(text)                                                                                \
    {                                                                                              \
        "" text, sizeof(text) - 1                                                                  \
    }

static const struct {
    const char *name;
    struct slice bytes;
    int result; /* enum proxy_result or ERR_BAD_INPUT */
    const char *source;
    uint16_t source_port;
    int64_t rtt_us; /* -1: not told */
    size_t rest;    /* bytes that are not the header's */
} rows[] = {
    { "TCP4", BYTES("PROXY TCP4 203.0.113.7 192.0.2.1 51291 443\r\nGET"), PROXY_WHOLE,
      "203.0.113.7", 51291, -1, 3 },
    { "TCP6", BYTES("PROXY TCP6 2001:db8::7 2001:db8::1 51291 443\r\n"), PROXY_WHOLE, "2001:db8::7",
      51291, -1, 0 },
    { "UNKNOWN", BYTES("PROXY UNKNOWN\r\n"), PROXY_WHOLE, NULL, 0, -1, 0 },
    { "UNKNOWN and more", BYTES("PROXY UNKNOWN ffff::1 x y\r\nP"), PROXY_WHOLE, NULL, 0, -1, 1 },
    { "the first byte", BYTES("P"), PROXY_MORE, NULL, 0, -1, 0 },
    { "five bytes", BYTES("PROXY"), PROXY_MORE, NULL, 0, -1, 0 },
    { "a post", BYTES("POST / HTTP/1.1\r\n"), PROXY_ABSENT, NULL, 0, -1, 0 },
    { "another method", BYTES("PROXYING / HTTP/1.1\r\n"), PROXY_ABSENT, NULL, 0, -1, 0 },
    { "no CR", BYTES("PROXY TCP4 203.0.113.7 192.0.2.1 1 2\n"), ERR_BAD_INPUT, NULL, 0, -1, 0 },
    { "two spaces", BYTES("PROXY TCP4  203.0.113.7 192.0.2.1 1 2\r\n"), ERR_BAD_INPUT, NULL, 0, -1,
      0 },
    { "a leading zero", BYTES("PROXY TCP4 203.0.113.7 192.0.2.1 01 2\r\n"), ERR_BAD_INPUT, NULL, 0,
      -1, 0 },
    { "a port too high", BYTES("PROXY TCP4 203.0.113.7 192.0.2.1 65536 2\r\n"), ERR_BAD_INPUT, NULL,
      0, -1, 0 },
    { "an octet too high", BYTES("PROXY TCP4 256.0.113.7 192.0.2.1 1 2\r\n"), ERR_BAD_INPUT, NULL,
      0, -1, 0 },
    { "six in four", BYTES("PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n"), ERR_BAD_INPUT, NULL, 0,
      -1, 0 },
    { "four in six", BYTES("PROXY TCP6 203.0.113.7 192.0.2.1 1 2\r\n"), ERR_BAD_INPUT, NULL, 0, -1,
      0 },
    { "something behind", BYTES("PROXY TCP4 203.0.113.7 192.0.2.1 1 2 3\r\n"), ERR_BAD_INPUT, NULL,
      0, -1, 0 },
    { "too little", BYTES("PROXY TCP4 203.0.113.7\r\n"), ERR_BAD_INPUT, NULL, 0, -1, 0 },
    { "small letters", BYTES("PROXY tcp4 203.0.113.7 192.0.2.1 1 2\r\n"), ERR_BAD_INPUT, NULL, 0,
      -1, 0 },
    { "a NUL", BYTES("PROXY UNKNOWN\0\r\n"), ERR_BAD_INPUT, NULL, 0, -1, 0 },
    { "106 bytes without an end",
      BYTES(
          "PROXY UNKNOWN aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
          "aaaaaaaaaaaaaaaaaa"),
      PROXY_MORE, NULL, 0, -1, 0 },
    { "107 bytes without an end",
      BYTES(
          "PROXY UNKNOWN aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
          "aaaaaaaaaaaaaaaaaaa"),
      ERR_BAD_INPUT, NULL, 0, -1, 0 },
    { "binary, four", BYTES(SIGNATURE "\x21\x11\x00\x0c" ADDRESSES4 "GET"), PROXY_WHOLE,
      "203.0.113.7", 51291, -1, 3 },
    { "binary, six", BYTES(SIGNATURE "\x21\x21\x00\x24" ADDRESSES6), PROXY_WHOLE, "2001:db8::7",
      51291, -1, 0 },
    { "with a round trip",
      BYTES(SIGNATURE "\x21\x11\x00\x13" ADDRESSES4 "\xe7\x00\x04\x00\x03\xa9\x80"), PROXY_WHOLE,
      "203.0.113.7", 51291, 240000, 0 },
    { "with TLVs of others",
      BYTES(SIGNATURE "\x21\x11\x00\x1a" ADDRESSES4 "\x04\x00\x04"
                      "abcd"
                      "\xe7\x00\x04\x00\x00\x00\x01"),
      PROXY_WHOLE, "203.0.113.7", 51291, 1, 0 },
    { "a round trip of 2 bytes",
      BYTES(SIGNATURE "\x21\x11\x00\x11" ADDRESSES4 "\xe7\x00\x02\x00\x03"), ERR_BAD_INPUT, NULL, 0,
      -1, 0 },
    { "a TLV beyond the end", BYTES(SIGNATURE "\x21\x11\x00\x10" ADDRESSES4 "\x01\x00\x05z"),
      ERR_BAD_INPUT, NULL, 0, -1, 0 },
    { "half a TLV", BYTES(SIGNATURE "\x21\x11\x00\x0d" ADDRESSES4 "\x01"), ERR_BAD_INPUT, NULL, 0,
      -1, 0 },
    { "a checksum that holds",
      BYTES(SIGNATURE "\x21\x11\x00\x13" ADDRESSES4 "\x03\x00\x04\x5e\x9c\x08\xf2"), PROXY_WHOLE,
      "203.0.113.7", 51291, -1, 0 },
    { "a checksum that does not",
      BYTES(SIGNATURE "\x21\x11\x00\x13" ADDRESSES4 "\x03\x00\x04\x5e\x9c\x08\xf3"), ERR_BAD_INPUT,
      NULL, 0, -1, 0 },
    { "LOCAL", BYTES(SIGNATURE "\x20\x00\x00\x00GET"), PROXY_WHOLE, NULL, 0, -1, 3 },
    { "LOCAL with what is ignored", BYTES(SIGNATURE "\x20\x11\x00\x02zz"), PROXY_WHOLE, NULL, 0, -1,
      0 },
    { "a Unix socket's", BYTES(SIGNATURE "\x21\x31\x00\x02zz"), PROXY_WHOLE, NULL, 0, -1, 0 },
    { "too short for its addresses", BYTES(SIGNATURE "\x21\x11\x00\x0bzzzzzzzzzzz"), ERR_BAD_INPUT,
      NULL, 0, -1, 0 },
    { "version 3", BYTES(SIGNATURE "\x31\x11\x00\x0c" ADDRESSES4), ERR_BAD_INPUT, NULL, 0, -1, 0 },
    { "an unknown command", BYTES(SIGNATURE "\x22\x11\x00\x0c" ADDRESSES4), ERR_BAD_INPUT, NULL, 0,
      -1, 0 },
    { "64 KiB", BYTES(SIGNATURE "\x21\x11\xff\xff"), ERR_BAD_INPUT, NULL, 0, -1, 0 },
    { "the signature alone", BYTES(SIGNATURE), PROXY_MORE, NULL, 0, -1, 0 },
    { "most of it", BYTES(SIGNATURE "\x21\x11\x00\x0c\xcb\x00"), PROXY_MORE, NULL, 0, -1, 0 },
    { "empty lines before a request", BYTES("\r\n\r\nGET"), PROXY_ABSENT, NULL, 0, -1, 0 },
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct proxy_header header;
        struct err err = {};
        char text[IP_TEXT_BYTES];
        size_t used = 0;
        int r = proxy_parse(rows[i].bytes.data, rows[i].bytes.size, &header, &used, &err);
        print_message("  %s: %s\n", rows[i].name, r < 0 ? err.message : "");
        assert_int_equal(r, rows[i].result);
        if (r != PROXY_WHOLE)
            continue;
        assert_int_equal(used, rows[i].bytes.size - rows[i].rest);
        assert_int_equal(header.known, rows[i].source != NULL);
        assert_int_equal(header.rtt_known ? (int64_t)header.rtt_us : -1, rows[i].rtt_us);
        if (!rows[i].source)
            continue;
        assert_string_equal(ip_text(&header.source, text), rows[i].source);
        assert_int_equal(header.source_port, rows[i].source_port);
    }
}

/* Whatever stands behind a prefix, it decides as the whole does. */
static void test_in_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t size = 1; size < rows[i].bytes.size; size++) {
            struct proxy_header header;
            size_t used;
            int r = proxy_parse(rows[i].bytes.data, size, &header, &used, NULL);
            assert_true(r == PROXY_MORE || r == rows[i].result);
        }
}

static const struct {
    const char *source, *destination;
    int64_t rtt_us;
    size_t bytes2;
} written[] = {
    { "203.0.113.7", "192.0.2.1", -1, 28 },
    { "203.0.113.7", "192.0.2.1", 240'000, 35 },
    { "2001:db8::7", "2001:db8::1", 0, 59 },
    { "203.0.113.7", "2001:db8::1", 1, 59 },
    { "2001:db8::7", "192.0.2.1", UINT32_MAX, 59 },
    { NULL, NULL, -1, 16 },
    { "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 7, 59 },
};

static void test_written_is_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof written / sizeof *written; i++) {
        struct proxy_header out = { .source_port = 65535, .destination_port = 65535 }, in;
        struct err err = {};
        char buffer[PROXY_WRITE_BYTES];
        size_t used, size;
        out.known = written[i].source != NULL;
        if (out.known) {
            assert_true(ip_parse(slice_of(written[i].source), &out.source));
            assert_true(ip_parse(slice_of(written[i].destination), &out.destination));
        }
        out.rtt_known = written[i].rtt_us >= 0;
        out.rtt_us = out.rtt_known ? (uint32_t)written[i].rtt_us : 0;
        for (int version = 1; version <= 2; version++) {
            size = version == 1 ? proxy_write1(buffer, &out) : proxy_write2(buffer, &out);
            int r = proxy_parse(buffer, size, &in, &used, &err);
            print_message("  %zu, version %d: %s\n", i, version, err.message);
            assert_int_equal(r, PROXY_WHOLE);
            assert_int_equal(used, size);
            assert_int_equal(in.known, out.known);
            assert_int_equal(in.rtt_known, version == 2 && out.rtt_known);
            if (version == 2)
                assert_int_equal(size, written[i].bytes2);
            if (version == 2 && out.rtt_known)
                assert_int_equal(in.rtt_us, out.rtt_us);
            if (!out.known)
                continue;
            assert_memory_equal(&in.source, &out.source, sizeof in.source);
            assert_memory_equal(&in.destination, &out.destination, sizeof in.destination);
            assert_int_equal(in.source_port, 65535);
            assert_int_equal(in.destination_port, 65535);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_in_pieces),
        cmocka_unit_test(test_written_is_read),
    };
    return cmocka_run_group_tests_name("proxy", tests, NULL, NULL);
}
